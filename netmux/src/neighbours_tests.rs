use super::*;
use crate::test_frames as frames;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

const HOST: Mac = Mac::new([0x52, 0x54, 0, 1, 2, 3]);
const ASKER: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];

/// A neighbour solicitation for `target`.
pub fn solicitation(from: Mac, to: Mac, source: [u8; 16], target: [u8; 16]) -> Vec<u8> {
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target);
    frames::ipv6(from, to, source, ICMPV6, &message)
}

fn tcp(flags: u8) -> Vec<u8> {
    let mut segment = vec![0; 20];
    segment[13] = flags;
    segment
}

#[test]
fn questions_are_found_and_nothing_else_is_one() {
    let question = |frame: &[u8]| Question::of(frame, &frame.head());
    let mac = Mac::of_slot(1);
    assert_eq!(question(&frames::arp(HOST, Mac::BROADCAST, 1, (HOST, 77), 5)), Some(Question::Ipv4(5)));
    assert_eq!(question(&frames::arp(HOST, Mac::BROADCAST, 1, (HOST, 0), 5)), Some(Question::Ipv4(5)), "a probe");
    assert_eq!(question(&frames::arp(HOST, Mac::BROADCAST, 1, (HOST, 5), 5)), None, "an announcement");
    assert_eq!(question(&frames::arp(HOST, mac, 2, (HOST, 77), 5)), None, "an answer");
    let target = frames::own_ipv6([0xfe, 0x80, 0, 0, 0, 0, 0, 0], mac);
    let good = solicitation(HOST, mac, ASKER, target);
    assert_eq!(question(&good), Some(Question::Ipv6(target)));
    for (at, byte) in [(20, 17), (21, 254), (54, 136), (55, 1)] {
        let mut bad = good.clone();
        bad[at] = byte;
        assert_eq!(question(&bad), None, "byte {at}");
    }
    for len in 0..good.len() {
        assert_eq!(question(&good[..len]), None);
    }
}

#[test]
fn arp_is_answered_as_the_vm_would() {
    let mut out = [0; ANSWER_BYTES];
    let mac = Mac::of_slot(1);
    let asked = frames::arp(HOST, Mac::BROADCAST, 1, (HOST, 77), 5);
    let len = arp_answer(&asked.as_slice().head(), mac, &mut out);
    let mut expected = frames::arp(mac, HOST, 2, (mac, 5), 77);
    expected[32..38].copy_from_slice(&HOST.bytes());
    assert_eq!(out[..len], expected);
}

#[test]
fn a_solicitation_is_answered_and_its_checksum_is_right() {
    let mut out = [0; ANSWER_BYTES];
    let mac = Mac::of_slot(1);
    let target = frames::own_ipv6([0xfe, 0x80, 0, 0, 0, 0, 0, 0], mac);
    for (asker, flags, to) in [(ASKER, 0x60, HOST), ([0; 16], 0x20, Mac::new([0x33, 0x33, 0, 0, 0, 1]))] {
        let asked = solicitation(HOST, mac, asker, target);
        let len = advertisement(&asked.as_slice().head(), target, mac, &mut out);
        let head = out[..len].head();
        assert_eq!((len, head.source(), head.destination(), head.ethertype()), (86, mac, to, IPV6));
        assert_eq!((&out[14..22], &out[22..38]), (&[0x60, 0, 0, 0, 0, 32, 58, 255][..], &target[..]));
        assert_eq!(out[38] == 0xff, asker == [0; 16]);
        assert_eq!((out[54], out[58], &out[62..78]), (136, flags, &target[..]));
        assert_eq!(out[78..86], [[2, 1].as_slice(), &mac.bytes()].concat());
        // All of it, the checksum included, sums to nothing (RFC 1071).
        assert_eq!(checksum(&out[22..86], 58 + 32), 0xffff);
    }
}

#[test]
fn what_packets_begin() {
    let to = Mac::of_slot(1);
    let v4 = |protocol, payload: &[u8]| {
        let frame = frames::ipv4(HOST, to, 9, 5, protocol, payload);
        Begins::of(frame.as_slice(), &frame.as_slice().head())
    };
    let v6 = |next, payload: &[u8]| {
        let frame = frames::ipv6(HOST, to, ASKER, next, payload);
        Begins::of(frame.as_slice(), &frame.as_slice().head())
    };
    let other = Begins::Other;
    for flags in [0x02, 0xc2] {
        assert_eq!([v4(TCP, &tcp(flags)), v6(TCP, &tcp(flags))], [Begins::Connection(0); 2], "{flags:#x}");
    }
    for flags in [0x12, 0x10, 0x04, 0x11, 0x03] {
        assert_eq!([v4(TCP, &tcp(flags)), v6(TCP, &tcp(flags))], [other; 2], "{flags:#x}");
    }
    let mut syn = tcp(2);
    (syn[2], syn[3]) = (0x1f, 0x90);
    assert_eq!((v4(TCP, &syn), v4(TCP, &syn[..13])), (Begins::Connection(8080), other));
    let datagram = [0, 1, 0x1f, 0x90, 0, 8, 0, 0];
    assert_eq!([v4(UDP, &datagram), v6(UDP, &datagram)], [Begins::Datagram(8080); 2]);
    assert_eq!([v4(UDP, &datagram[..7]), v6(UDP, &[])], [Begins::Nothing; 2]);
    assert_eq!([v4(ICMP, &[8, 0]), v4(ICMP, &[0, 0]), v4(ICMP, &[3, 1])], [Begins::Echo, other, other]);
    assert_eq!([v6(ICMPV6, &[128, 0]), v6(ICMPV6, &[129, 0]), v6(ICMPV6, &[136, 0])], [Begins::Echo, other, other]);
    assert_eq!([v4(47, &[0; 20]), v4(ICMPV6, &[128, 0]), v6(ICMP, &[8, 0])], [other; 3]);
    let mut fragment = frames::ipv4(HOST, to, 9, 5, UDP, &[0; 8]);
    fragment[21] = 1;
    assert_eq!(Begins::of(fragment.as_slice(), &fragment.as_slice().head()), Begins::LaterFragment);
    let neither = frames::ethernet(HOST, to, 0x88cc, &[0; 60]);
    assert_eq!(Begins::of(neither.as_slice(), &neither.as_slice().head()), other);
}

proptest! {
    #[test]
    fn any_frame(frame in proptest::collection::vec(any::<u8>(), 14..200), kind in 0..3_usize) {
        let mut frame = frame;
        frame[12..14].copy_from_slice(&[ARP, IPV4, IPV6][kind].to_be_bytes());
        let head = frame.as_slice().head();
        let _ = (Question::of(frame.as_slice(), &head), Begins::of(frame.as_slice(), &head));
    }
}
