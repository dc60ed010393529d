//! What stands between an IPv6 header and the transport (RFC 8200 4): walked, understood as far as it concerns a host, and taken out.

use super::frame::{ETHERNET_HEADER, ICMPV6, IPV6_HEADER, TCP, UDP, be16};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const NOTHING: u8 = 59;
const DESTINATION: u8 = 60;
/// Headers that are walked: a packet with more is nobody's but an attacker's.
const MOST: usize = 8;
/// Where the next header is named in an IPv6 header.
const NEXT_HEADER: usize = 6;
/// Codes of RFC 4443 3.4.
const ERRONEOUS_FIELD: u8 = 0;
const UNKNOWN_HEADER: u8 = 1;
const UNKNOWN_OPTION: u8 = 2;

/// Where a packet's headers lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    /// To a transport whose header is at `start` in the packet.
    Transport { protocol: u8, start: usize },
    /// To something that the sender is told of; `pointer`: where it is in the packet.
    Problem { code: u8, pointer: u32 },
    /// To a piece of a packet, whose fragment header is at `start` in the packet.
    Fragment { start: usize },
    /// Nowhere: nothing, or nonsense.
    Nowhere,
}

fn problem(code: u8, at: usize) -> Walk {
    Walk::Problem { code, pointer: u32::try_from(at).unwrap_or(0) }
}

/// Walks over the headers of a frame's IPv6 packet, whose length is right.
pub(super) fn walk(frame: &[u8]) -> Walk {
    let walked = frame.get(ETHERNET_HEADER..).and_then(|packet| {
        let len = IPV6_HEADER + usize::from(be16(packet, 4)?);
        headers(packet.get(..len)?)
    });
    walked.unwrap_or(Walk::Nowhere)
}

fn headers(packet: &[u8]) -> Option<Walk> {
    let (mut named, mut at) = (NEXT_HEADER, IPV6_HEADER);
    for _ in 0..MOST {
        let protocol = *packet.get(named)?;
        let header = packet.get(at..)?;
        match protocol {
            TCP | UDP | ICMPV6 => return Some(Walk::Transport { protocol, start: at }),
            NOTHING => return None,
            // Only the first may be one of these (RFC 8200 4.1).
            HOP_BY_HOP if at != IPV6_HEADER => return Some(problem(UNKNOWN_HEADER, named)),
            HOP_BY_HOP | DESTINATION => {
                let len = usize::from(*header.get(1)?) * 8 + 8;
                if let Some(walk) = options(header.get(..len)?, at) {
                    return Some(walk);
                }
                (named, at) = (at, at + len);
            }
            ROUTING => {
                // We are nobody's way to somebody else (RFC 8200 4.4, RFC 5095).
                if *header.get(3)? != 0 {
                    return Some(problem(ERRONEOUS_FIELD, at + 2));
                }
                (named, at) = (at, at + usize::from(header[1]) * 8 + 8);
            }
            FRAGMENT => {
                // A packet that is whole for all that it calls itself a fragment is whole (RFC 6946).
                if be16(header, 2)? & 0xfff9 != 0 {
                    return Some(Walk::Fragment { start: at });
                }
                (named, at) = (at, at + 8);
            }
            _ => return Some(problem(UNKNOWN_HEADER, named)),
        }
    }
    None
}

/// What is to be done about a header's options (RFC 8200 4.2); `None` for nothing. `at`: where it is in the packet.
fn options(header: &[u8], at: usize) -> Option<Walk> {
    let mut offset = 2;
    while let Some(&kind) = header.get(offset) {
        if kind == 0 {
            offset += 1;
            continue;
        }
        let Some(&len) = header.get(offset + 1) else { return Some(Walk::Nowhere) };
        // PadN, and those that may be passed over.
        if kind != 1 && kind >> 6 != 0 {
            // Only what was sent to us alone comes here, so that the two that ask for a word are one.
            return Some(if kind >> 6 == 1 { Walk::Nowhere } else { problem(UNKNOWN_OPTION, at + offset) });
        }
        offset += 2 + usize::from(len);
    }
    (offset != header.len()).then_some(Walk::Nowhere)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn packet(first: u8, behind: &[&[u8]]) -> Vec<u8> {
        let mut frame: Vec<u8> = [0; ETHERNET_HEADER].into();
        let behind = behind.concat();
        frame.extend([0x60, 0, 0, 0, 0, u8::try_from(behind.len()).expect("short"), first, 64]);
        frame.extend([0; 32]);
        frame.extend(behind);
        frame
    }

    const UDP_HEADER: &[u8] = &[0, 7, 0, 7, 0, 8, 0, 0];

    #[test]
    fn to_the_transport() {
        let pads: &[u8] = &[UDP, 0, 1, 4, 0, 0, 0, 0];
        for (frame, start) in [
            (packet(UDP, &[UDP_HEADER]), 40),
            (packet(HOP_BY_HOP, &[pads, UDP_HEADER]), 48),
            (packet(DESTINATION, &[&[UDP, 0, 0, 0, 0x1e, 2, 9, 9], UDP_HEADER]), 48),
            (packet(FRAGMENT, &[&[UDP, 0, 0, 0, 1, 2, 3, 4], UDP_HEADER]), 48),
            (packet(ROUTING, &[&[UDP, 1, 9, 0, 0, 0, 0, 0], &[0; 8], UDP_HEADER]), 56),
            (
                packet(
                    HOP_BY_HOP,
                    &[&[FRAGMENT, 0, 1, 4, 0, 0, 0, 0], &[DESTINATION, 0, 0, 0, 0, 0, 0, 0], pads, UDP_HEADER],
                ),
                64,
            ),
        ] {
            assert_eq!(walk(&frame), Walk::Transport { protocol: UDP, start });
        }
    }

    #[test]
    fn what_the_sender_is_told_of() {
        let option = |kind: u8| packet(DESTINATION, &[&[UDP, 0, 1, 0, kind, 2, 0, 0], UDP_HEADER]);
        assert_eq!(walk(&option(0x5e)), Walk::Nowhere);
        for kind in [0x9e, 0xde] {
            assert_eq!(walk(&option(kind)), problem(UNKNOWN_OPTION, 44));
        }
        assert_eq!(walk(&packet(99, &[UDP_HEADER])), problem(UNKNOWN_HEADER, 6));
        let late = packet(DESTINATION, &[&[HOP_BY_HOP, 0, 1, 4, 0, 0, 0, 0], &[UDP, 0, 1, 4, 0, 0, 0, 0], UDP_HEADER]);
        assert_eq!(walk(&late), problem(UNKNOWN_HEADER, 40));
        assert_eq!(walk(&packet(ROUTING, &[&[UDP, 0, 0, 1, 0, 0, 0, 0], UDP_HEADER])), problem(ERRONEOUS_FIELD, 42));
    }

    #[test]
    fn what_leads_nowhere() {
        for frame in [
            packet(NOTHING, &[]),
            packet(HOP_BY_HOP, &[&[UDP, 9, 1, 4, 0, 0, 0, 0]]),
            packet(DESTINATION, &[&[UDP, 0, 1, 9, 0, 0, 0, 0], UDP_HEADER]),
            packet(DESTINATION, &[[DESTINATION, 0, 1, 4, 0, 0, 0, 0].repeat(9).as_slice()]),
            Vec::new(),
        ] {
            assert_eq!(walk(&frame), Walk::Nowhere);
        }
    }

    #[test]
    fn pieces_are_told_from_what_only_calls_itself_one() {
        for (field, walked) in [
            ([0, 1], Walk::Fragment { start: 40 }),
            ([0, 8], Walk::Fragment { start: 40 }),
            ([0, 6], Walk::Transport { protocol: UDP, start: 48 }),
        ] {
            assert_eq!(walk(&packet(FRAGMENT, &[&[UDP, 0], &field, &[1, 2, 3, 4], UDP_HEADER])), walked);
        }
        let behind = packet(DESTINATION, &[&[FRAGMENT, 0, 1, 4, 0, 0, 0, 0], &[UDP, 0, 0, 1, 1, 2, 3, 4], UDP_HEADER]);
        assert_eq!(walk(&behind), Walk::Fragment { start: 48 });
    }

    proptest! {
        #[test]
        fn any_bytes(first in prop::sample::select([0u8, 43, 44, 60, 6].as_slice()), behind in prop::collection::vec(prop::sample::select([0u8, 1, 6, 43, 44, 60, 8, 200].as_slice()), 0..200)) {
            let frame = packet(first, &[&behind]);
            if let Walk::Transport { start, .. } = walk(&frame) {
                prop_assert!(start >= IPV6_HEADER && start <= IPV6_HEADER + behind.len());
            }
        }
    }
}
