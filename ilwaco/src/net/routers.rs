//! Routers of IPv6: the way out, what they are asked (RFC 4861 6.3.7), and to which groups they are told that we listen (MLDv2, RFC
//! 3810).

use super::checksum;
use super::device::NicDevice;
use super::frame::{ETHERNET_HEADER, ICMPV6, IPV6, Own, be16};
use super::link::{Link, group_mac, is_link_local, solicited};
use alloc::boxed::Box;
use smoltcp::wire::{Ipv6Address, NdiscRepr};

const ALL_ROUTERS: Ipv6Address = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Who hears of listeners (RFC 3810 5.2.14).
const LISTENER_REPORTS: Ipv6Address = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// How often a group is reported when we begin to listen, and the time between (RFC 3810 9.1, 9.11), in microseconds.
const REPORTS: u8 = 2;
const REPORT_US: u64 = 1_000_000;
/// Bytes of a query of version 2; one of version 1 is shorter, and not answered.
pub(super) const LISTENER_QUERY: usize = 28;
/// What a report says of a group (RFC 3810 5.2.12): all are listened to, as ever, or from now on.
const IS_EXCLUDE: u8 = 2;
const CHANGE_TO_EXCLUDE: u8 = 4;

/// What routers of IPv6 have said, and are told.
pub(super) struct Routers {
    /// The way out; 0 for none.
    router: u128,
    /// Who has the same upper half of his address is a neighbour.
    on_link: bool,
    /// When the groups that we listen to are reported, in microseconds, and how often after that.
    report: (u64, u8),
}

impl Link {
    /// Whom a packet for an address that is not of the link goes to: its neighbour, or the router.
    pub(super) fn way_beyond(&self, address: u128) -> Option<u128> {
        let routers = self.routers.as_ref().filter(|_| self.own.net != 0)?;
        if routers.on_link && address >> 64 == self.own.net.into() {
            return Some(address);
        }
        (routers.router != 0).then_some(routers.router)
    }

    /// Gives memory back to the heap, where there is nothing that is worth it.
    pub(super) fn shrink_routers(&mut self) {
        let says_nothing = self
            .routers
            .as_ref()
            .is_some_and(|routers| routers.router == 0 && !routers.on_link && routers.report.0 == u64::MAX);
        if says_nothing {
            self.routers = None;
        }
    }

    /// Asks for routers (RFC 4861 6.3.7).
    pub(super) fn solicit_routers(&self, nic: &mut NicDevice) {
        let solicit = NdiscRepr::RouterSolicit { lladdr: Some(self.own_link_address()) };
        self.send_neighbour(nic, self.own.v6(), group_mac(ALL_ROUTERS), ALL_ROUTERS, solicit);
    }

    fn routers(&mut self) -> &mut Routers {
        let none = || Box::new(Routers { router: 0, on_link: false, report: (u64::MAX, 0) });
        self.routers.get_or_insert_with(none)
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
        self.routers().report = (now, REPORTS);
        self.due = now;
    }

    /// Reports groups, if that is due. When it is next, in microseconds.
    pub(super) fn report(&mut self, now: u64, nic: &mut NicDevice) -> u64 {
        let Some(routers) = &mut self.routers else { return u64::MAX };
        let (at, left) = routers.report;
        if now >= at {
            routers.report = if left > 1 { (now + REPORT_US, left - 1) } else { (u64::MAX, 0) };
            // The group of both of our addresses: they end alike. All others are none of ours, or need no word (RFC 3810 6).
            let kind = if left > 0 { CHANGE_TO_EXCLUDE } else { IS_EXCLUDE };
            // Before anybody could say that our address is his, from none (RFC 3590).
            let source = if left == REPORTS { 0 } else { self.own.v6() };
            nic.send(&listener_report(&self.own, source, kind));
        }
        routers.report.0
    }

    /// A router asks who listens (RFC 3810 5.1): a word to that within the time that it gives, not all hosts' at once.
    pub(super) fn listener_query(&mut self, message: &[u8], source: Ipv6Address, now: u64) {
        let (Some(code), Some(group)) = (be16(message, 4), message.get(8..24)) else { return };
        let own = solicited(self.own.v6()).to_be_bytes();
        if message.len() < LISTENER_QUERY || !is_link_local(source.to_bits()) || (group != own && group != [0; 16]) {
            return;
        }
        let most = match u64::from(code) {
            code @ ..0x8000 => code,
            code => (code & 0xfff | 0x1000) << ((code >> 12 & 7) + 3),
        };
        // Hosts differ in the last bytes of their addresses. By the golden ratio, as much in the time.
        let [.., c, d, e, f] = self.own.mac;
        let place = u64::from(u32::from_be_bytes([c, d, e, f]).wrapping_mul(0x9e37_79b9));
        let at = now + ((most * 1000 * place) >> 32);
        let routers = self.routers();
        if at < routers.report.0 {
            routers.report = (at, 0);
            self.due = self.due.min(at);
        }
    }
}

/// A frame that says what we have to do with the group of our addresses (RFC 3810 5.2).
fn listener_report(own: &Own, source: u128, kind: u8) -> [u8; ETHERNET_HEADER + 40 + 8 + 28] {
    let mut frame = [0; ETHERNET_HEADER + 40 + 8 + 28];
    frame[..6].copy_from_slice(&group_mac(LISTENER_REPORTS));
    frame[6..12].copy_from_slice(&own.mac);
    frame[12..14].copy_from_slice(&IPV6.to_be_bytes());
    // One hop, and an alert for routers in front (RFC 2711).
    frame[14..22].copy_from_slice(&[0x60, 0, 0, 0, 0, 36, 0, 1]);
    frame[22..38].copy_from_slice(&source.to_be_bytes());
    frame[38..54].copy_from_slice(&LISTENER_REPORTS.octets());
    frame[54..62].copy_from_slice(&[ICMPV6, 0, 5, 2, 0, 0, 1, 0]);
    frame[62] = 143;
    // One record.
    frame[69] = 1;
    frame[70] = kind;
    frame[74..90].copy_from_slice(&solicited(own.v6()).to_be_bytes());
    let sum = checksum::segment(&frame[22..54], ICMPV6, &frame[62..]);
    frame[64..66].copy_from_slice(&sum.to_ne_bytes());
    frame
}
