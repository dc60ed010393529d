//! An IPv4 address from DHCP (RFC 2131).

use super::device::Frames;
use super::frame::{ARP, be16};
use super::names::SERVERS;
use super::stack::{Stack, due, stack_time};
use super::{Error, set_ipv4, with};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::net::IpAddr;
use core::task::{Poll, Waker};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::dhcpv4::{Event, Socket};
use smoltcp::wire::{EthernetAddress, Ipv4Cidr};

/// The client: an interface of its own, which sees frames with their Ethernet headers, as smoltcp's client demands.
pub(super) struct Dhcp {
    pub(super) iface: Interface,
    set: SocketSet<'static>,
    /// When it has something to do next, in microseconds.
    due: u64,
    /// Wakes who does what the answers say.
    waker: Option<Waker>,
}

impl Stack {
    /// The frame that is next may be for the client.
    pub(super) fn dhcp_frame(&mut self) {
        let Some(dhcp) = &mut self.dhcp else { return };
        let Some(frame) = self.device.peek() else { return };
        // Questions for our address are answered elsewhere.
        if be16(frame, 12) == Some(ARP) && be16(frame, 20) != Some(2) {
            return;
        }
        dhcp.due = 0;
        dhcp.iface.poll_ingress_single(stack_time(self.now), &mut Frames(&mut self.device), &mut dhcp.set);
    }

    /// Sends what the client has to send. When it has something to do next, in microseconds.
    pub(super) fn send_dhcp(&mut self) -> u64 {
        let Some(dhcp) = &mut self.dhcp else { return u64::MAX };
        if dhcp.due <= self.now {
            let now = stack_time(self.now);
            dhcp.iface.poll_egress(now, &mut Frames(&mut self.device), &mut dhcp.set);
            // At most once in a millisecond, whatever it wants.
            dhcp.due = due(dhcp.iface.poll_at(now, &dhcp.set)).max(self.now + 1000);
        }
        dhcp.due
    }
}

/// Does not ask any more.
pub(super) fn stop() {
    let client = with(|stack| Ok(stack.dhcp.take()));
    if let Ok(Some(client)) = client
        && let Some(waker) = client.waker
    {
        // It finds that there is nothing left to do.
        waker.wake();
    }
}

/// Starts to ask, and a task that does what the answers say; for who asks already, from the beginning.
pub(super) fn start() {
    stop();
    let added = with(|stack| {
        let mut config = Config::new(EthernetAddress(stack.link.own.mac).into());
        config.random_seed = stack.random.rotate_left(17);
        let iface = Interface::new(config, &mut Frames(&mut stack.device), stack_time(stack.now));
        let mut set = SocketSet::new(Vec::new());
        let handle = set.add(Socket::new());
        stack.dhcp_starts += 1;
        stack.dhcp = Some(Box::new(Dhcp { iface, set, due: 0, waker: None }));
        Ok((handle, stack.dhcp_starts))
    });
    if let Ok((handle, start)) = added
        && crate::task::spawn(follow(handle, start)).is_err()
    {
        log::error!("no task for DHCP; going on without an address");
    }
}

/// What is new: an address, or the loss of one.
enum News {
    Lease { address: Ipv4Cidr, gateway: Option<core::net::Ipv4Addr>, servers: Vec<IpAddr> },
    Lost,
}

/// Does what the client of this start is told, as long as it is the client.
async fn follow(handle: SocketHandle, start: u32) {
    loop {
        let news = poll_fn(|cx| {
            let news = with(|stack| {
                if stack.dhcp_starts != start {
                    return Err(Error::NoNetwork);
                }
                let Some(dhcp) = &mut stack.dhcp else { return Err(Error::NoNetwork) };
                let socket = dhcp.set.get_mut::<Socket>(handle);
                let news = socket.poll().map(|event| match event {
                    Event::Configured(config) => News::Lease {
                        address: config.address,
                        gateway: config.router,
                        servers: config.dns_servers.iter().take(SERVERS).map(|&server| server.into()).collect(),
                    },
                    Event::Deconfigured => News::Lost,
                });
                if news.is_none() {
                    socket.register_waker(cx.waker());
                    dhcp.waker = Some(cx.waker().clone());
                }
                Ok(news)
            });
            news.transpose().map_or(Poll::Pending, Poll::Ready)
        });
        match news.await {
            Ok(News::Lease { address, gateway, servers }) => {
                // A server's mistake must not end this VM.
                let host = address.address();
                if host.is_unspecified() || host.is_multicast() || host.is_broadcast() {
                    log::warn!("DHCP offers {address}, which is no host's address");
                    continue;
                }
                log::info!("DHCP: {address}");
                set_ipv4(Some(address), gateway);
                let _ = with(|stack| {
                    stack.learn_name_servers(servers);
                    Ok(())
                });
            }
            Ok(News::Lost) => {
                // It is also what a client says that begins.
                if super::ipv4_addr().is_some() {
                    log::warn!("DHCP: the address is lost");
                }
                set_ipv4(None, None);
            }
            Err(_) => return,
        }
    }
}
