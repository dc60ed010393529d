//! What the link layer asks routers of IPv6 (RFC 4861 6.3.7), what they have it know, and what it tells them.

use super::device::NicDevice;
use super::frame::group_mac;
use super::link::Link;
use super::routers::{Routers, answer_time};
use alloc::boxed::Box;
use smoltcp::wire::{Ipv6Address, NdiscRepr};

const ALL_ROUTERS: Ipv6Address = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

impl Link {
    /// Asks for routers (RFC 4861 6.3.7).
    pub(super) fn solicit_routers(&self, nic: &mut NicDevice) {
        let solicit = NdiscRepr::RouterSolicit { lladdr: Some(self.own_link_address()) };
        self.send_neighbour(nic, self.own.v6(), group_mac(ALL_ROUTERS), ALL_ROUTERS, solicit);
    }

    fn routers(&mut self) -> &mut Routers {
        self.routers.get_or_insert_with(|| Box::new(Routers::new()))
    }

    /// The IPv6 address that is good beyond the link, whether others of its prefix are neighbours, and the router; 0 for none.
    pub(super) fn set_ipv6(&mut self, address: u128, on_link: bool, router: u128) {
        self.own.net = u64::try_from(address >> 64).unwrap_or(0);
        if router != 0 || address != 0 || self.routers.is_some() {
            let routers = self.routers();
            (routers.router, routers.on_link) = (router, on_link);
        }
    }

    /// The way out; 0 for none.
    #[cfg(test)]
    pub(super) fn router(&self) -> u128 {
        self.routers.as_ref().map_or(0, |routers| routers.router)
    }

    /// Says to which groups we listen, now and once more (RFC 3810 6.1).
    pub(super) fn report_groups(&mut self, now: u64) {
        self.routers().begin_reports(now);
        self.due = now;
    }

    /// A router asks who listens.
    pub(super) fn listener_query(&mut self, message: &[u8], source: Ipv6Address, now: u64) {
        if let Some(at) = answer_time(&self.own, message, source, now)
            && self.routers().report_at(at)
        {
            self.due = self.due.min(at);
        }
    }
}
