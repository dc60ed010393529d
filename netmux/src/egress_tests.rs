//! What a VM may send: the village's VM in slot 1 sends.

use super::*;
use crate::test_frames::{self as frames, Village, seat};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

const ME: Mac = Mac::of_slot(1);
const HOST: Mac = Mac::new([0x52, 0x54, 0, 1, 2, 3]);
const SENDER: Sender = Sender { seat: seat(1), mac: ME, ipv4: Village::IPV4 };
const LINK_LOCAL: [u8; 8] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0];
const GLOBAL: [u8; 8] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 1];

fn judge(frame: &[u8]) -> Result<Route, Cause> {
    check(frame, SENDER, &Village::new())
}

fn tcp(to: Mac, source: u32) -> Vec<u8> {
    frames::ipv4(ME, to, source, 1, 6, &[0; 20])
}

#[test]
fn own_frames_go_where_they_belong() {
    assert_eq!(judge(&tcp(HOST, Village::IPV4)), Ok(Route::Outside));
    assert_eq!(judge(&tcp(Mac::of_slot(5), Village::IPV4)), Ok(Route::Inside(seat(5))));
    // Nobody is in slot 6; another machine may have such a VM.
    assert_eq!(judge(&tcp(Mac::of_slot(6), Village::IPV4)), Ok(Route::Outside));
    assert_eq!(judge(&tcp(Mac::BROADCAST, Village::IPV4)), Ok(Route::Everybody));
}

#[test]
fn the_source_mac_must_be_the_vms() {
    for mac in [HOST, Mac::of_slot(5), Mac::BROADCAST] {
        assert_eq!(judge(&frames::ipv4(mac, HOST, Village::IPV4, 1, 6, &[0; 20])), Err(Cause::Mac));
    }
}

#[test]
fn the_ipv4_source_must_be_the_vms() {
    for source in [Village::IPV4 + 1, 0, u32::MAX, 0x7f00_0001] {
        assert_eq!(judge(&tcp(HOST, source)), Err(Cause::Address));
    }
    // A VM without an address yet has none to send from.
    let nameless = Sender { seat: seat(1), mac: ME, ipv4: 0 };
    assert_eq!(check(tcp(HOST, 0).as_slice(), nameless, &Village::new()), Err(Cause::Address));
    assert_eq!(check(tcp(HOST, Village::IPV4).as_slice(), nameless, &Village::new()), Err(Cause::Address));
}

#[test]
fn fragments_are_checked_like_whole_packets() {
    for (flags, sport) in [([0x20, 0], 7), ([0x20, 9], 7), ([0, 9], 67)] {
        let mut frame = frames::ipv4(ME, HOST, Village::IPV4, 1, UDP, &frames::udp((sport, 9), &[0; 30]));
        frame[20..22].copy_from_slice(&flags);
        assert_eq!(judge(&frame), Ok(Route::Outside), "{flags:?}");
        frame[29] ^= 1;
        assert_eq!(judge(&frame), Err(Cause::Address), "{flags:?}");
    }
    // The first fragment has the ports.
    let mut first = frames::ipv4(ME, HOST, Village::IPV4, 1, UDP, &frames::udp((67, 68), &[0; 32]));
    first[20] = 0x20;
    assert_eq!(judge(&first), Err(Cause::Role));
}

#[test]
fn dhcp_clients_may_ask_and_nobody_may_answer() {
    assert_eq!(judge(&frames::dhcp_discover(ME)), Ok(Route::Outside));
    let nameless = Sender { seat: seat(1), mac: ME, ipv4: 0 };
    assert_eq!(check(frames::dhcp_discover(ME).as_slice(), nameless, &Village::new()), Ok(Route::Outside));
    // Fragments and other ports are not from nobody.
    let mut fragment = frames::dhcp_discover(ME);
    fragment[20] = 0x20;
    assert_eq!(judge(&fragment), Err(Cause::Address));
    let other = frames::ipv4(ME, Mac::BROADCAST, 0, u32::MAX, UDP, &frames::udp((68, 69), &[]));
    assert_eq!(judge(&other), Err(Cause::Address));

    let answer = frames::ipv4(ME, Mac::of_slot(5), Village::IPV4, 9, UDP, &frames::udp((67, 68), &[0; 300]));
    assert_eq!(judge(&answer), Err(Cause::Role));
    // The same behind IPv4 options.
    let mut options = answer.clone();
    options[14] = 0x46;
    options.splice(34..34, [1, 1, 1, 1]);
    assert_eq!(judge(&options), Err(Cause::Role));
    options[34 + 4 + 1] = 99;
    assert_eq!(judge(&options), Ok(Route::Inside(seat(5))));
}

#[test]
fn arp_speaks_for_its_vm_only() {
    let ask = |sender, ipv4, target| frames::arp(ME, Mac::BROADCAST, 1, (sender, ipv4), target);
    assert_eq!(judge(&ask(ME, Village::IPV4, 0x0a00_0202)), Ok(Route::Outside));
    assert_eq!(judge(&ask(ME, Village::IPV4, 0x0a00_0215)), Ok(Route::Inside(seat(5))));
    // A probe and an announcement of the own address.
    assert_eq!(judge(&ask(ME, 0, Village::IPV4)), Ok(Route::Outside));
    assert_eq!(judge(&ask(ME, Village::IPV4, Village::IPV4)), Ok(Route::Everybody));
    assert_eq!(judge(&ask(HOST, Village::IPV4, 1)), Err(Cause::Address));
    assert_eq!(judge(&ask(ME, Village::IPV4 + 1, 1)), Err(Cause::Address));

    let reply = |ipv4| frames::arp(ME, HOST, 2, (ME, ipv4), 1);
    assert_eq!(judge(&reply(Village::IPV4)), Ok(Route::Outside));
    assert_eq!(judge(&reply(0x0a00_0202)), Err(Cause::Address));
    assert_eq!(judge(&reply(0)), Err(Cause::Address));
    assert_eq!(judge(&frames::arp(ME, HOST, 3, (ME, 0), 1)), Err(Cause::Malformed));
    assert_eq!(judge(&reply(Village::IPV4)[..41]), Err(Cause::Malformed));
    let mut token_ring = reply(Village::IPV4);
    token_ring[15] = 6;
    assert_eq!(judge(&token_ring), Err(Cause::Malformed));
}

#[test]
fn ipv6_sources_carry_the_vms_interface_id() {
    let from = |source| frames::ipv6(ME, HOST, source, 6, &[0; 20]);
    assert_eq!(judge(&from(frames::own_ipv6(LINK_LOCAL, ME))), Ok(Route::Outside));
    assert_eq!(judge(&from(frames::own_ipv6(GLOBAL, ME))), Ok(Route::Outside));
    assert_eq!(judge(&from([0; 16])), Ok(Route::Outside));
    assert_eq!(judge(&from(frames::own_ipv6(LINK_LOCAL, HOST))), Err(Cause::Address));
    assert_eq!(judge(&from(frames::own_ipv6(LINK_LOCAL, Mac::of_slot(5)))), Err(Cause::Address));
    assert_eq!(judge(&from(frames::own_ipv6([0xff, 2, 0, 0, 0, 0, 0, 0], ME))), Err(Cause::Address));
    assert_eq!(judge(&from(frames::own_ipv6(GLOBAL, ME))[..53]), Err(Cause::Malformed));
}

/// An ICMPv6 message of VM 1 behind these extension headers, of which the first has the type `first`.
fn icmp(first: u8, extensions: &[u8], message: &[u8]) -> Result<Route, Cause> {
    let payload = [extensions, message].concat();
    judge(&frames::ipv6(ME, HOST, frames::own_ipv6(LINK_LOCAL, ME), first, &payload))
}

#[test]
fn vms_are_no_routers() {
    for role in [134, 137] {
        let message = [role, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(icmp(58, &[], &message), Err(Cause::Role));
        // Hidden behind hop-by-hop options, and behind a fragment header (RFC 7113).
        assert_eq!(icmp(0, &[58, 0, 1, 4, 0, 0, 0, 0], &message), Err(Cause::Role));
        assert_eq!(icmp(44, &[58, 0, 0, 1, 0, 0, 0, 9], &message), Err(Cause::Role));
        assert_eq!(
            icmp(60, &[44, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 58, 0, 0, 1, 0, 0, 0, 9], &message),
            Err(Cause::Role)
        );
        // The rest of a fragmented packet has no type to look at.
        assert_eq!(icmp(44, &[58, 0, 0, 9, 0, 0, 0, 9], &message), Ok(Route::Outside));
    }
    assert_eq!(icmp(58, &[], &[128, 0, 0, 0]), Ok(Route::Outside));
    // A chain that the first fragment does not hold, one without end, and one that says it is longer than the frame.
    assert_eq!(icmp(44, &[58, 0, 0, 1, 0, 0, 0, 9], &[]), Err(Cause::Malformed));
    assert_eq!(icmp(0, &[0; 200], &[]), Err(Cause::Malformed));
    assert_eq!(icmp(0, &[58, 9, 1, 4, 0, 0, 0, 0], &[134]), Err(Cause::Malformed));
    let dhcp = frames::ipv6(ME, HOST, frames::own_ipv6(LINK_LOCAL, ME), UDP, &frames::udp((547, 546), &[]));
    assert_eq!(judge(&dhcp), Err(Cause::Role));
}

#[test]
fn neighbour_advertisements_are_for_own_addresses() {
    let advertise = |target: [u8; 16]| icmp(58, &[], &[&[136, 0, 0, 0, 0x60, 0, 0, 0], &target[..]].concat());
    assert_eq!(advertise(frames::own_ipv6(GLOBAL, ME)), Ok(Route::Outside));
    assert_eq!(advertise(frames::own_ipv6(GLOBAL, Mac::of_slot(5))), Err(Cause::Address));
    assert_eq!(icmp(58, &[], &[136, 0, 0, 0, 0, 0, 0, 0, 0xfe]), Err(Cause::Malformed));
}

#[test]
fn groups_that_no_vm_hears_go_outside_only() {
    let to = |mac| judge(&frames::ipv6(ME, Mac::new(mac), [0; 16], 6, &[0; 20]));
    assert_eq!(to([0x33, 0x33, 0, 0, 0, 2]), Ok(Route::Outside));
    assert_eq!(to([0x33, 0x33, 0, 0, 0, 0x16]), Ok(Route::Outside));
    assert_eq!(to([0x33, 0x33, 0, 0, 0, 1]), Ok(Route::Everybody));
    assert_eq!(to([0x33, 0x33, 0xff, 0x50, 0, 5]), Ok(Route::Both(seat(5))));
    assert_eq!(to([0x33, 0x33, 0xff, 0x50, 0, 6]), Ok(Route::Outside));
}

#[test]
fn other_types_and_sizes_are_dropped() {
    let vlan = frames::ethernet(ME, HOST, 0x8100, &[0; 46]);
    assert_eq!(judge(&vlan), Err(Cause::Type));
    let length = frames::ethernet(ME, HOST, 0x002e, &[0; 46]);
    assert_eq!(judge(&length), Err(Cause::Type));
    assert_eq!(judge(&tcp(HOST, Village::IPV4)[..13]), Err(Cause::Malformed));
    assert_eq!(judge(&tcp(HOST, Village::IPV4)[..33]), Err(Cause::Malformed));
    let mut long = tcp(HOST, Village::IPV4);
    long.resize(abi::nic::MAX_FRAME, 0);
    assert_eq!(judge(&long), Ok(Route::Outside));
    long.push(0);
    assert_eq!(judge(&long), Err(Cause::Malformed));
    let mut version = tcp(HOST, Village::IPV4);
    version[14] = 0x65;
    assert_eq!(judge(&version), Err(Cause::Malformed));
    let mut header = tcp(HOST, Village::IPV4);
    header[14] = 0x44;
    assert_eq!(judge(&header), Err(Cause::Malformed));
    // A datagram without ports.
    assert_eq!(judge(&frames::ipv4(ME, HOST, Village::IPV4, 1, UDP, &[0, 9])), Err(Cause::Malformed));
}

fn any_payload() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..200)
}

proptest! {
    /// Whatever a VM sends, what leaves it bears its MAC, and its IPv4 address where it bears one.
    #[test]
    fn what_passes_is_the_vms_own(payload in any_payload(), kind in 0..4_usize, cut in 0..220_usize, patch in any::<(u8, u8)>()) {
        let types = [IPV4, ARP, IPV6, 0x8100];
        let mut frame = frames::ethernet(ME, HOST, types[kind], &payload);
        // Near misses: a good frame with one byte changed.
        if patch.1 % 2 == 0 {
            frame = match kind {
                0 => tcp(Mac::BROADCAST, Village::IPV4),
                1 => frames::arp(ME, Mac::BROADCAST, 1, (ME, Village::IPV4), 7),
                2 => frames::ipv6(ME, HOST, frames::own_ipv6(GLOBAL, ME), 58, &payload),
                _ => frame,
            };
        }
        let at = usize::from(patch.0);
        if at < frame.len() {
            frame[at] = patch.1;
        }
        frame.truncate(cut);
        if judge(&frame).is_ok() {
            prop_assert_eq!(&frame[6..12], &ME.bytes());
            let own = Village::IPV4.to_be_bytes();
            match u16::from_be_bytes([frame[12], frame[13]]) {
                IPV4 => prop_assert!(frame[26..30] == own || frame[26..30] == [0; 4]),
                ARP => {
                    prop_assert_eq!(&frame[22..28], &ME.bytes());
                    prop_assert!(frame[28..32] == own || frame[28..32] == [0; 4]);
                }
                IPV6 => prop_assert!(frame[30..38] == ME.interface_id() || frame[22..38] == [0; 16]),
                other => prop_assert!(false, "type {other:#x} passed"),
            }
        }
    }

    /// The head is read in words: what lies behind the end of a short frame decides nothing.
    #[test]
    fn bytes_behind_the_end_decide_nothing(cut in 0..60_usize, rubbish: u8) {
        struct Stale(Vec<u8>, usize);
        impl Frame for Stale {
            fn len(&self) -> usize {
                self.1
            }
            fn head(&self) -> Head {
                self.0.as_slice().head()
            }
            fn copy<'b>(&self, buffer: &'b mut [u8]) -> &'b [u8] {
                self.0[..self.1].copy(buffer)
            }
        }
        for whole in [tcp(HOST, Village::IPV4), frames::arp(ME, HOST, 2, (ME, Village::IPV4), 7), frames::dhcp_discover(ME)] {
            let len = cut.min(whole.len());
            let mut stale = vec![rubbish; 80];
            stale[..len].copy_from_slice(&whole[..len]);
            let judged = check(&Stale(stale, len), SENDER, &Village::new());
            prop_assert_eq!(judged, judge(&whole[..len]));
        }
    }
}
