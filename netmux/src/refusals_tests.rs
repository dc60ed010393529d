use super::*;
use crate::test_frames as frames;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

const HOST: Mac = Mac::new([0x52, 0x54, 0, 1, 2, 3]);
const VM: Mac = Mac::new([2, 0, 0, 0, 0, 5]);
const ASKER: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
const OWN: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];

fn answer(frame: &[u8]) -> Option<Vec<u8>> {
    let (head, mut out) = (frame.head(), [0xaa; REFUSAL_BYTES]);
    let len = refuse(frame, &head, Begins::of(frame, &head), VM, &mut out)?;
    Some(out[..len].to_vec())
}

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = frames::ipv6(HOST, VM, ASKER, next, payload);
    frame[38..54].copy_from_slice(&OWN);
    frame
}

/// A SYN with 3 bytes behind it, from port 0x1234 to 81.
fn syn() -> Vec<u8> {
    let mut segment = vec![0x12, 0x34, 0, 81, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0];
    segment.extend([1, 2, 3]);
    segment
}

/// What a header with this many bytes of payload sums to for its checksum.
fn pseudo(addresses: &[u8], protocol: u8, len: usize) -> u32 {
    u32::from(checksum(addresses, u32::from(protocol) + u32::try_from(len).expect("short")))
}

#[test]
fn who_connects_to_a_closed_port_is_reset() {
    let frame = frames::ipv4(HOST, VM, 0x0a00_0202, 0x0a00_0215, 6, &syn());
    let out = answer(&frame).expect("an answer");
    assert_eq!((&out[..6], &out[6..12], &out[12..14]), (&HOST.bytes()[..], &VM.bytes()[..], &[8, 0][..]));
    assert_eq!((&out[14..18], &out[20..24]), (&[0x45, 0, 0, 40][..], &[0x40, 0, 64, 6][..]));
    assert_eq!((&out[26..30], &out[30..34]), (&frame[30..34], &frame[26..30]));
    // Ports the other way round, no sequence number, all is acknowledged: the SYN and three bytes.
    assert_eq!(out[34..50], [0, 81, 0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 2, 0x50, 0x14, 0, 0]);
    assert_eq!((checksum(&out[14..34], 0), checksum(&out[34..], pseudo(&out[26..34], 6, 20))), (0xffff, 0xffff));
    let out = answer(&v6(6, &syn())).expect("an answer");
    assert_eq!((out.len(), &out[14..22]), (74, &[0x60, 0, 0, 0, 0, 20, 6, 64][..]));
    assert_eq!((&out[22..38], &out[38..54], &out[62..66]), (&OWN[..], &ASKER[..], &[0, 0, 0, 2][..]));
    assert_eq!(checksum(&out[54..], pseudo(&out[22..54], 6, 20)), 0xffff);
}

#[test]
fn who_sends_to_a_port_where_nobody_listens_is_told() {
    let frame = frames::ipv4(HOST, VM, 0x0a00_0202, 0x0a00_0215, 17, &frames::udp((5000, 7), &[9; 21]));
    let out = answer(&frame).expect("an answer");
    assert_eq!((out.len(), out[23], &out[34..36], &out[38..42]), (70, 1, &[3, 3][..], &[0; 4][..]));
    assert_eq!(&out[42..], &frame[14..42], "the header and 8 bytes behind it, as they came");
    assert_eq!((checksum(&out[14..34], 0), checksum(&out[34..], 0)), (0xffff, 0xffff));
    let frame = v6(17, &frames::udp((5000, 7), &[9; 21]));
    let out = answer(&frame).expect("an answer");
    assert_eq!((out[20], &out[54..56], &out[58..62]), (58, &[1, 4][..], &[0; 4][..]));
    assert_eq!(&out[62..], &frame[14..14 + QUOTED]);
    assert_eq!(checksum(&out[54..], pseudo(&out[22..54], 58, out.len() - 54)), 0xffff);
}

#[test]
fn nobody_and_everybody_get_no_answer() {
    let from = |source| answer(&frames::ipv4(HOST, VM, source, 0x0a00_0215, 6, &syn()));
    assert_eq!([0, 0x0000_0001, 0x7f00_0001, 0xe000_0001, u32::MAX].map(|source| from(source).is_some()), [false; 5]);
    assert_eq!(answer(&frames::ipv4(Mac::BROADCAST, VM, 0x0a00_0202, 0x0a00_0215, 6, &syn())), None);
    // To a group, as the test's frames are, and from nobody.
    assert_eq!(answer(&frames::ipv6(HOST, VM, ASKER, 17, &[0; 30])), None);
    let mut frame = v6(17, &[0; 30]);
    frame[22..38].fill(0);
    assert_eq!(answer(&frame), None);
    // What is no beginning: an acknowledgement, an echo, a later fragment.
    let mut segment = syn();
    segment[13] = 0x10;
    assert_eq!(answer(&frames::ipv4(HOST, VM, 0x0a00_0202, 0x0a00_0215, 6, &segment)), None);
    assert_eq!(answer(&frames::ipv4(HOST, VM, 0x0a00_0202, 0x0a00_0215, 1, &[8, 0, 0, 0, 0, 0, 0, 0])), None);
    let mut fragment = frames::ipv4(HOST, VM, 0x0a00_0202, 0x0a00_0215, 17, &[0; 30]);
    fragment[21] = 1;
    assert_eq!(answer(&fragment), None);
    // A segment that is shorter than it says.
    let mut short = syn();
    short[12] = 0xf0;
    assert_eq!(answer(&frames::ipv4(HOST, VM, 0x0a00_0202, 0x0a00_0215, 6, &short)), None);
}

proptest! {
    #[test]
    fn any_frame(frame in proptest::collection::vec(any::<u8>(), 14..200), kind in 0..2_usize, first in any::<bool>()) {
        let mut frame = frame;
        frame[12..14].copy_from_slice(&[IPV4, IPV6][kind].to_be_bytes());
        if let Some(version) = frame.get_mut(14).filter(|_| first) {
            *version = [0x45, 0x60][kind];
        }
        if let Some(out) = answer(&frame) {
            prop_assert_eq!(&out[..6], &frame[6..12]);
        }
    }
}
