//! The IPv4 address of this VM that it has from DHCP (RFC 2131).

use super::dhcp::Dhcp;
use super::servers::SERVERS;
use super::stack::Stack;
use super::{Error, set_ipv4, with};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::net::IpAddr;
use core::task::Poll;
use smoltcp::socket::dhcpv4::Event;
use smoltcp::wire::Ipv4Cidr;

impl Stack {
    /// The frame that is next may be for the client.
    pub(super) fn dhcp_frame(&mut self) {
        if let Some(dhcp) = &mut self.dhcp {
            dhcp.hear(&mut self.device, self.now);
        }
    }

    /// Sends what the client has to send. When it has something to do next, in microseconds.
    pub(super) fn send_dhcp(&mut self) -> u64 {
        self.dhcp.as_mut().map_or(u64::MAX, |dhcp| dhcp.send(&mut self.device, self.now))
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
    let started = with(|stack| {
        let seed = stack.random.rotate_left(17);
        stack.dhcp_starts += 1;
        stack.dhcp = Some(Box::new(Dhcp::new(stack.link.own.mac, seed, &mut stack.device, stack.now)));
        Ok(stack.dhcp_starts)
    });
    if let Ok(start) = started
        && crate::task::spawn(follow(start)).is_err()
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
async fn follow(start: u32) {
    loop {
        let news = poll_fn(|cx| {
            let news = with(|stack| {
                if stack.dhcp_starts != start {
                    return Err(Error::NoNetwork);
                }
                let Some(dhcp) = &mut stack.dhcp else { return Err(Error::NoNetwork) };
                let news = dhcp.socket().poll().map(|event| match event {
                    Event::Configured(config) => News::Lease {
                        address: config.address,
                        gateway: config.router,
                        servers: config.dns_servers.iter().take(SERVERS).map(|&server| server.into()).collect(),
                    },
                    Event::Deconfigured => News::Lost,
                });
                if news.is_none() {
                    dhcp.socket().register_waker(cx.waker());
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
