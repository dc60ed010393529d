//! A client of DHCP (RFC 2131): asks for an IPv4 address.

use super::device::{Frames, NicDevice};
use super::frame::{ARP, Mac, be16};
use super::stack_time::{due, stack_time};
use alloc::vec::Vec;
use core::task::Waker;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::dhcpv4::Socket;
use smoltcp::wire::EthernetAddress;

/// The client: an interface of its own, which sees frames with their Ethernet headers, as smoltcp's client demands.
pub(super) struct Dhcp {
    pub(super) iface: Interface,
    set: SocketSet<'static>,
    handle: SocketHandle,
    /// When it has something to do next, in microseconds.
    due: u64,
    /// Wakes who does what the answers say.
    pub(super) waker: Option<Waker>,
}

impl Dhcp {
    /// One that is about to ask.
    pub(super) fn new(mac: Mac, seed: u64, device: &mut NicDevice, now: u64) -> Dhcp {
        let mut config = Config::new(EthernetAddress(mac).into());
        config.random_seed = seed;
        let iface = Interface::new(config, &mut Frames(device), stack_time(now));
        let mut set = SocketSet::new(Vec::new());
        let handle = set.add(Socket::new());
        Dhcp { iface, set, handle, due: 0, waker: None }
    }

    pub(super) fn socket(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(self.handle)
    }

    /// The frame that is next may be for the client.
    pub(super) fn hear(&mut self, device: &mut NicDevice, now: u64) {
        let Some(frame) = device.peek() else { return };
        // Questions for our address are answered elsewhere.
        if be16(frame, 12) == Some(ARP) && be16(frame, 20) != Some(2) {
            return;
        }
        self.due = 0;
        self.iface.poll_ingress_single(stack_time(now), &mut Frames(device), &mut self.set);
    }

    /// Sends what there is to send. When there is something to do next, in microseconds.
    pub(super) fn send(&mut self, device: &mut NicDevice, now: u64) -> u64 {
        if self.due <= now {
            let time = stack_time(now);
            self.iface.poll_egress(time, &mut Frames(device), &mut self.set);
            // At most once in a millisecond, whatever it wants.
            self.due = due(self.iface.poll_at(time, &self.set)).max(now + 1000);
        }
        self.due
    }
}
