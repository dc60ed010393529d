//! SYN cookies (RFC 4987 3.6): what a handshake needs to be remembered of is in the sequence number that the answer to a SYN
//! starts with, so that nothing is kept until the peer has shown that it can hear us.
//!
//! A cookie is 24 bits of a keyed hash over the connection's addresses, ports, the peer's first sequence number, the time in
//! slots of [`SLOT_US`], and the lower 8 bits: three for the largest segment, three for the window's scale, one for
//! selective acknowledgements, one for the slot (the layout of FreeBSD). It holds for one to two slots.
//!
//! Sequence numbers of RFC 6528 come of themselves: nobody without the key can tell the next one.

use super::frame::Flow;
use super::options::options;
use siphasher::sip::SipHasher13;

/// How long a slot lasts. A client whose acknowledgement and request get lost in a crowd sends them again after 25 s, and after 51 s;
/// Linux' cookies hold for as long.
pub(super) const SLOT_US: u64 = 64_000_000;
/// Largest segments that can be remembered; a peer's is rounded down.
const SEGMENTS: [u16; 8] = [216, 536, 1200, 1360, 1400, 1440, 1452, 1460];
/// Scales of the window that can be remembered, the first for a peer that has none; a peer's is rounded down, which makes its
/// window look smaller than it is.
const SCALES: [Option<u8>; 8] = [None, Some(0), Some(2), Some(4), Some(5), Some(6), Some(7), Some(8)];

/// What a peer has offered in its SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// Its largest segment.
    pub(super) segment: u16,
    /// The scale of its window.
    pub(super) scale: Option<u8>,
    /// It understands selective acknowledgements.
    pub(super) sack: bool,
}

impl Offer {
    /// Reads the options of a SYN. What makes no sense counts as not there.
    pub(super) fn read(bytes: &[u8]) -> Offer {
        let mut offer = Offer { segment: 536, scale: None, sack: false };
        for (kind, value) in options(bytes) {
            match (kind, value) {
                (2, &[high, low]) => offer.segment = u16::from_be_bytes([high, low]),
                // RFC 7323 2.3: more than 14 counts as 14.
                (3, &[scale]) => offer.scale = Some(scale.min(14)),
                (4, []) => offer.sack = true,
                _ => {}
            }
        }
        offer
    }

    fn bits(self) -> u32 {
        let segment = SEGMENTS.iter().rposition(|&segment| segment <= self.segment).unwrap_or(0);
        let scale = match self.scale {
            None => 0,
            Some(scale) => SCALES.iter().rposition(|each| each.is_some_and(|each| each <= scale)).unwrap_or(1),
        };
        u32::try_from(segment << 5 | scale << 2).unwrap_or(0) | u32::from(self.sack) << 1
    }

    fn from_bits(bits: u32) -> Offer {
        let index = |shift: u32| usize::try_from(bits >> shift & 7).unwrap_or(0);
        Offer { segment: SEGMENTS[index(5)], scale: SCALES[index(2)], sack: bits & 2 != 0 }
    }
}

/// The key of this VM's cookies.
pub(super) struct Key([u8; 16]);

impl Key {
    pub(super) fn new(key: [u8; 16]) -> Key {
        Key(key)
    }

    fn hash(&self, flow: Flow, peer_seq: u32, slot: u64, bits: u32) -> u32 {
        let mut input = [0; 32];
        input[..16].copy_from_slice(&flow.remote.to_ne_bytes());
        input[16..20].copy_from_slice(&flow.ports.to_ne_bytes());
        input[20..24].copy_from_slice(&peer_seq.to_ne_bytes());
        input[24..].copy_from_slice(&(slot << 8 | u64::from(bits)).to_ne_bytes());
        u32::try_from(SipHasher13::new_with_key(&self.0).hash(&input) & 0xffff_ff00).unwrap_or(0)
    }

    /// The `number`th secret that is no cookie: their hashes are over more bytes.
    pub(super) fn secret(&self, number: u64) -> u64 {
        SipHasher13::new_with_key(&self.0).hash(&number.to_ne_bytes())
    }

    /// The sequence number of the answer to a SYN with the number `peer_seq`.
    pub(super) fn cookie(&self, flow: Flow, peer_seq: u32, offer: Offer, now_us: u64) -> u32 {
        let slot = now_us / SLOT_US;
        let bits = offer.bits() | u32::from(slot % 2 == 1);
        self.hash(flow, peer_seq, slot, bits) | bits
    }

    /// What the peer has offered when it got this cookie for its SYN with the number `peer_seq`; `None` where it did not, or too
    /// long ago.
    pub(super) fn check(&self, flow: Flow, peer_seq: u32, cookie: u32, now_us: u64) -> Option<Offer> {
        let now = now_us / SLOT_US;
        let slot = if u64::from(cookie & 1) == now % 2 { now } else { now.checked_sub(1)? };
        let bits = cookie & 0xff;
        (self.hash(flow, peer_seq, slot, bits) | bits == cookie).then(|| Offer::from_bits(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FLOW: Flow = Flow { remote: 0xffff_0a00_0202, ports: 0x1234_0050 };

    #[test]
    fn what_is_offered_is_rounded_down() {
        let offer = |segment, scale, sack| {
            let key = Key::new([7; 16]);
            let cookie = key.cookie(FLOW, 99, Offer { segment, scale, sack }, 5);
            key.check(FLOW, 99, cookie, 5).expect("valid")
        };
        assert_eq!(offer(1460, Some(7), true), Offer { segment: 1460, scale: Some(7), sack: true });
        assert_eq!(offer(9000, Some(14), false), Offer { segment: 1460, scale: Some(8), sack: false });
        assert_eq!(offer(1399, Some(3), false), Offer { segment: 1360, scale: Some(2), sack: false });
        assert_eq!(offer(0, None, true), Offer { segment: 216, scale: None, sack: true });
        assert_eq!(offer(536, Some(0), true), Offer { segment: 536, scale: Some(0), sack: true });
    }

    #[test]
    fn it_holds_for_one_to_two_slots() {
        let key = Key::new([7; 16]);
        let offer = Offer { segment: 1460, scale: None, sack: false };
        for start in [0, SLOT_US - 1, SLOT_US, 10 * SLOT_US + 5] {
            let cookie = key.cookie(FLOW, 1, offer, start);
            assert!(key.check(FLOW, 1, cookie, start).is_some());
            assert!(key.check(FLOW, 1, cookie, start + SLOT_US).is_some());
            for late in 2..10 {
                assert_eq!(key.check(FLOW, 1, cookie, start + late * SLOT_US), None, "{late} slots later");
            }
        }
    }

    #[test]
    fn options_of_a_syn() {
        let linux = [2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
        assert_eq!(Offer::read(&linux), Offer { segment: 1460, scale: Some(7), sack: true });
        assert_eq!(Offer::read(&[]), Offer { segment: 536, scale: None, sack: false });
        assert_eq!(Offer::read(&[3, 3, 200, 0, 2, 4]), Offer { segment: 536, scale: Some(14), sack: false });
        assert_eq!(Offer::read(&[2, 0, 2, 4]), Offer { segment: 536, scale: None, sack: false });
    }

    proptest! {
        #[test]
        fn nobody_guesses(key: [u8; 16], remote: u128, ports: u32, seq: u32, guess: u32, other in 1u32.., now in 0u64..1 << 50) {
            let (key, flow) = (Key::new(key), Flow { remote, ports });
            let offer = Offer { segment: 1460, scale: Some(7), sack: true };
            let cookie = key.cookie(flow, seq, offer, now);
            prop_assert_eq!(key.check(flow, seq, cookie, now), Some(offer));
            // Each of these succeeds once in 16 million times.
            prop_assert!(guess == cookie || key.check(flow, seq, guess, now).is_none());
            prop_assert!(key.check(flow, seq.wrapping_add(other), cookie, now).is_none());
            let elsewhere = Flow { remote, ports: ports ^ other };
            prop_assert!(key.check(elsewhere, seq, cookie, now).is_none());
        }

        #[test]
        fn any_options(options in prop::collection::vec(any::<u8>(), 0..44)) {
            let _ = Offer::read(&options);
        }
    }
}
