//! Whether the path of a connection carries its packets, by which of them get lost (RFC 4821 7.7, RFC 8899 4.2): where large ones do again and
//! again, and nobody says why, they become smaller.

/// How often in a row a large segment must have got lost for the path to be believed not to carry it (RFC 8899, where it is up to the sender: more than
/// once, so that what was lost for another reason costs nothing).
const LOST: u8 = 2;
/// Bytes of IP packets that such a path is believed to carry: first what IPv6 demands, then what RFC 791 does.
const SMALLER: [u16; 2] = [1280, SMALLEST];
const SMALLEST: u16 = 576;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing is in doubt.
    Sure,
    /// What is on its way up to this number goes in packets that every path carries, so that it arrives before the next size is tried.
    Trial { until: u32 },
    /// It has arrived: it is for their size that the larger ones did not. Those of the next size are lost for theirs at the first loss, until
    /// something behind this number has arrived.
    Doubt { from: u32 },
}

/// What has got lost on a connection's path, and what that says of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Losses {
    /// Retransmissions of large segments since the last progress.
    count: u8,
    stage: Stage,
}

impl Losses {
    pub(super) const NONE: Losses = Losses { count: 0, stage: Stage::Sure };

    /// True when one loss more of a packet of so many bytes says that the path does not carry it.
    pub(super) fn are_enough_with(self, bytes: usize) -> bool {
        bytes > usize::from(SMALLEST) && self.count + 1 >= self.enough()
    }

    fn enough(self) -> u8 {
        if matches!(self.stage, Stage::Doubt { .. }) { 1 } else { LOST }
    }

    /// A packet of this many bytes has to be sent again, for want of any acknowledgement; `next`: the end of what was sent. What packets are
    /// to be, where they were `mtu`.
    #[cold]
    pub(super) fn add(&mut self, bytes: usize, is_v4: bool, next: u32, mtu: u16) -> u16 {
        let sizes = if is_v4 { &SMALLER[..] } else { &SMALLER[..1] };
        let Some(&smaller) = sizes.iter().find(|&&smaller| usize::from(smaller) < bytes) else { return mtu };
        self.count = self.count.saturating_add(1);
        if self.count < self.enough() {
            return mtu;
        }
        let is_last = !is_v4 || smaller == SMALLEST;
        *self = Losses { count: 0, stage: if is_last { Stage::Sure } else { Stage::Trial { until: next } } };
        mtu.min(if is_last { smaller } else { SMALLEST })
    }

    /// Everything before `ack` was acknowledged, of what was sent up to `next`. What packets are to be, where they were `mtu`.
    #[cold]
    pub(super) fn settle(&mut self, ack: u32, next: u32, mtu: u16) -> u16 {
        self.count = 0;
        match self.stage {
            Stage::Trial { until } if ack.wrapping_sub(until) < 1 << 31 => {
                self.stage = Stage::Doubt { from: next };
                SMALLER[0]
            }
            Stage::Doubt { from } if from.wrapping_sub(ack) >= 1 << 31 => {
                self.stage = Stage::Sure;
                mtu
            }
            _ => mtu,
        }
    }

    /// The size that the path is believed to carry, where packets are of `mtu`.
    pub(super) fn believed(self, mtu: u16) -> u16 {
        if matches!(self.stage, Stage::Trial { .. }) { SMALLER[0] } else { mtu }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Losses of packets as large as they may be, one after another: the sizes after each.
    fn sizes(losses: &mut Losses, is_v4: bool, mut mtu: u16, count: usize) -> std::vec::Vec<u16> {
        let next = |_| {
            mtu = losses.add(mtu.into(), is_v4, 5_000, mtu);
            mtu
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn what_got_lost_arrives_in_small_packets_before_larger_ones_are_tried() {
        let mut losses = Losses::NONE;
        assert_eq!(sizes(&mut losses, true, 1500, 4), [1500, 576, 576, 576]);
        assert_eq!(losses.believed(576), 1280, "as long as nothing else is known");
        assert_eq!(losses.settle(4_999, 6_000, 576), 576, "not all of it");
        assert_eq!(losses.settle(5_000, 6_000, 576), 1280);
        assert_eq!(losses.settle(6_000, 7_000, 1280), 1280, "small ones that had been sent before");
        assert!(losses.are_enough_with(1280));
        assert_eq!((losses.add(1280, true, 7_000, 1280), losses), (576, Losses::NONE));
        assert_eq!(losses.believed(576), 576);
    }

    #[test]
    fn a_size_that_arrives_is_in_doubt_no_more() {
        let mut losses = Losses::NONE;
        sizes(&mut losses, true, 1500, 2);
        losses.settle(5_000, u32::MAX, 576);
        assert_eq!(losses.settle(3, 10_000, 1280), 1280, "numbers begin anew");
        assert_eq!(losses, Losses::NONE);
        assert!(!losses.are_enough_with(1280));
        assert_eq!(sizes(&mut losses, true, 1280, 2), [1280, 576]);
    }

    #[test]
    fn small_packets_and_ipv6_have_no_trial() {
        let mut losses = Losses::NONE;
        assert_eq!(sizes(&mut losses, true, 576, 3), [576; 3]);
        assert!(!losses.are_enough_with(576));
        let mut losses = Losses::NONE;
        assert_eq!(sizes(&mut losses, false, 1500, 5), [1500, 1280, 1280, 1280, 1280]);
        assert_eq!(losses.believed(1280), 1280);
    }
}
