//! An IPv4 address from DHCP (RFC 2131).

use super::{set_ipv4, with};
use core::future::poll_fn;
use core::task::Poll;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::dhcpv4::{Event, Socket};
use smoltcp::wire::Ipv4Cidr;

/// Starts to ask, and a task that does what the answers say.
pub(super) fn start() {
    let added = with(|stack| {
        stack.touch_datagrams();
        Ok(stack.datagrams.add(Socket::new()))
    });
    if let Ok(handle) = added
        && crate::task::spawn(follow(handle)).is_err()
    {
        log::error!("no task for DHCP; going on without an address");
    }
}

/// What is new: an address, or the loss of one.
enum News {
    Lease { address: Ipv4Cidr, gateway: Option<core::net::Ipv4Addr> },
    Lost,
}

async fn follow(handle: SocketHandle) {
    loop {
        let news = poll_fn(|cx| {
            let news = with(|stack| {
                let socket = stack.datagrams.get_mut::<Socket>(handle);
                let news = socket.poll().map(|event| match event {
                    Event::Configured(config) => News::Lease { address: config.address, gateway: config.router },
                    Event::Deconfigured => News::Lost,
                });
                if news.is_none() {
                    socket.register_waker(cx.waker());
                }
                Ok(news)
            });
            news.transpose().map_or(Poll::Pending, Poll::Ready)
        });
        match news.await {
            Ok(News::Lease { address, gateway }) => {
                // A server's mistake must not end this VM.
                let host = address.address();
                if host.is_unspecified() || host.is_multicast() || host.is_broadcast() {
                    log::warn!("DHCP offers {address}, which is no host's address");
                    continue;
                }
                log::info!("DHCP: {address}");
                set_ipv4(Some(address), gateway);
            }
            Ok(News::Lost) => {
                log::warn!("DHCP: the address is lost");
                set_ipv4(None, None);
            }
            Err(_) => return,
        }
    }
}
