//! Routers of IPv6: the way out, and to which groups they are told that we listen (MLDv2, RFC 3810).

use super::checksum;
use super::device::NicDevice;
use super::frame::{ETHERNET_HEADER, ICMPV6, IPV6, Own, be16, group_mac, is_link_local, solicited};
use smoltcp::wire::Ipv6Address;

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
    pub(super) router: u128,
    /// Who has the same upper half of his address is a neighbour.
    pub(super) on_link: bool,
    /// When the groups that we listen to are reported, in microseconds, and how often after that.
    report: (u64, u8),
}

impl Routers {
    /// Of whom nothing was heard, and who are told nothing.
    pub(super) fn new() -> Routers {
        Routers { router: 0, on_link: false, report: (u64::MAX, 0) }
    }

    /// Whom a packet for an address that is not of the link goes to: its neighbour, or the router. `net`: how our own address begins.
    pub(super) fn way(&self, net: u64, address: u128) -> Option<u128> {
        if self.on_link && address >> 64 == net.into() {
            return Some(address);
        }
        (self.router != 0).then_some(self.router)
    }

    /// True when nothing is lost without it.
    pub(super) fn says_nothing(&self) -> bool {
        self.router == 0 && !self.on_link && self.report.0 == u64::MAX
    }

    /// Groups are reported now and once more (RFC 3810 6.1).
    pub(super) fn begin_reports(&mut self, now: u64) {
        self.report = (now, REPORTS);
    }

    /// Groups are reported at `at`. False when they are before that.
    pub(super) fn report_at(&mut self, at: u64) -> bool {
        let is_first = at < self.report.0;
        if is_first {
            self.report = (at, 0);
        }
        is_first
    }

    /// Reports groups, if that is due. When it is next, in microseconds.
    pub(super) fn work(&mut self, own: &Own, now: u64, nic: &mut NicDevice) -> u64 {
        let (at, left) = self.report;
        if now >= at {
            self.report = if left > 1 { (now + REPORT_US, left - 1) } else { (u64::MAX, 0) };
            // The group of both of our addresses: they end alike. All others are none of ours, or need no word (RFC 3810 6).
            let kind = if left > 0 { CHANGE_TO_EXCLUDE } else { IS_EXCLUDE };
            // Before anybody could say that our address is his, from none (RFC 3590).
            let source = if left == REPORTS { 0 } else { own.v6() };
            nic.send(&listener_report(own, source, kind));
        }
        self.report.0
    }
}

/// When a router is told who listens that asks for it (RFC 3810 5.1), in microseconds: within the time that it gives, not all hosts at
/// once. `None` where it does not ask us.
pub(super) fn answer_time(own: &Own, message: &[u8], source: Ipv6Address, now: u64) -> Option<u64> {
    let (code, group) = (be16(message, 4)?, message.get(8..24)?);
    let ours = solicited(own.v6()).to_be_bytes();
    if message.len() < LISTENER_QUERY || !is_link_local(source.to_bits()) || (group != ours && group != [0; 16]) {
        return None;
    }
    let most = match u64::from(code) {
        code @ ..0x8000 => code,
        code => (code & 0xfff | 0x1000) << ((code >> 12 & 7) + 3),
    };
    // Hosts differ in the last bytes of their addresses. By the golden ratio, as much in the time.
    let [.., c, d, e, f] = own.mac;
    let place = u64::from(u32::from_be_bytes([c, d, e, f]).wrapping_mul(0x9e37_79b9));
    Some(now + ((most * 1000 * place) >> 32))
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
