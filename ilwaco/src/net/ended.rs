//! Connections that need no socket any more: those whose end the peer has acknowledged, and those that are over.
//!
//! A record of some bytes does what is left to do: acknowledge the peer's end, again if need be, and keep what is late from
//! being taken for something new.

use super::answer::Control;
use super::buffers::RECEIVE_BYTES;
use super::capacity::secures_bytes;
use super::connection::LINGER_US;
use super::cookie::SLOT_US;
use super::frame::{ACK, FIN, Flow, RST, SYN, Segment};
use alloc::vec::Vec;
use core::hash::BuildHasher;
use foldhash::fast::FixedState;

/// Twice the time that a segment is believed to live in the net, as Linux has it.
const TIME_WAIT_US: u64 = 60_000_000;

/// Places for connections that have ended, at most.
const PLACES: usize = 256;
/// Places for the first ones: 1 KiB, where all take 16.
const FEW: usize = 16;
/// Where two want the same place there are so many times as many from then on.
const GROWTH: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The peer has our end, and we have not got the peer's. What it still sends is acknowledged and thrown away, so that it
    /// reads what we have sent last instead of a reset.
    FinWait,
    /// Both ends are through; our last acknowledgement may be lost.
    TimeWait,
    /// Over. Kept for as long as a late segment could pass for the end of a handshake.
    Over,
}

/// A connection that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    kind: Kind,
    sent: u32,
    received: u32,
    until: u64,
}

/// What a segment for such a connection leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Say(Control),
    Nothing,
    /// The peer begins anew: as if there had been nothing.
    Anew,
}

impl Ended {
    /// We have ended the connection, and the peer has acknowledged that. `sent`, `received`: the sequence numbers that come next.
    pub(super) fn fin_wait(sent: u32, received: u32, now: u64) -> Ended {
        Ended { kind: Kind::FinWait, sent, received, until: now + LINGER_US }
    }

    /// Both have ended it, we first.
    pub(super) fn time_wait(sent: u32, received: u32, now: u64) -> Ended {
        Ended { kind: Kind::TimeWait, sent, received, until: now + TIME_WAIT_US }
    }

    /// It ended in some other way.
    pub(super) fn over(now: u64) -> Ended {
        Ended { kind: Kind::Over, sent: 0, received: 0, until: now + 2 * SLOT_US }
    }

    /// True when it is worth memory of a VM that is idle otherwise: somebody may still wait for an answer.
    fn matters_when_idle(&self, now: u64) -> bool {
        self.kind == Kind::FinWait && !self.is_past(now)
    }

    /// True when there is no need to remember it any more.
    fn is_past(&self, now: u64) -> bool {
        now >= self.until
    }

    /// A segment has arrived.
    pub(super) fn hear(&mut self, segment: &Segment, now: u64) -> Outcome {
        if self.is_past(now) && self.kind != Kind::Over {
            *self = Ended::over(now);
        }
        let acknowledge = Control {
            seq: self.sent,
            ack: self.received,
            flags: ACK,
            window: u16::try_from(RECEIVE_BYTES).unwrap_or(u16::MAX),
        };
        match self.kind {
            // RFC 9293 3.10.7.4, RFC 6191: a SYN with a later number begins anew.
            Kind::TimeWait | Kind::FinWait if segment.has(SYN) => {
                let later = segment.seq.wrapping_sub(self.received).wrapping_sub(1) < 1 << 31;
                if self.kind == Kind::TimeWait && later && !segment.has(ACK) {
                    Outcome::Anew
                } else {
                    Outcome::Say(acknowledge)
                }
            }
            Kind::Over if segment.has(SYN) && !segment.has(ACK) => Outcome::Anew,
            // RFC 1337: TIME-WAIT does not end by a reset.
            Kind::TimeWait | Kind::Over if segment.has(RST) => Outcome::Nothing,
            Kind::FinWait if segment.has(RST) => {
                if segment.seq == self.received {
                    *self = Ended::over(now);
                }
                Outcome::Nothing
            }
            Kind::Over => Control::reset(segment).map_or(Outcome::Nothing, Outcome::Say),
            Kind::FinWait | Kind::TimeWait if segment.span() == 0 => Outcome::Nothing,
            Kind::TimeWait => {
                self.until = now + TIME_WAIT_US;
                Outcome::Say(acknowledge)
            }
            Kind::FinWait => {
                if segment.seq == self.received && segment.len < 65_536 {
                    self.received = self.received.wrapping_add(segment.span());
                    if segment.has(FIN) {
                        *self = Ended::time_wait(self.sent, self.received, now);
                    }
                }
                Outcome::Say(Control { ack: self.received, ..acknowledge })
            }
        }
    }
}

type Place = Option<(Flow, Ended)>;

/// Connections that have ended, each in the one place that its flow may be in: a later one with the same place takes it, when there are no more to be had.
/// Bounded, found at once, and without memory while there is none, or the machine has none.
pub(super) struct EndedTable {
    /// None, or a power of two.
    entries: Vec<Place>,
    hash: FixedState,
}

impl EndedTable {
    /// An empty table. `seed` keeps others from choosing flows that collide.
    pub(super) fn new(seed: u64) -> EndedTable {
        EndedTable { entries: Vec::new(), hash: FixedState::with_seed(seed) }
    }

    #[inline]
    fn place(&mut self, flow: &Flow) -> Option<&mut Place> {
        if self.entries.is_empty() {
            return None;
        }
        let hash = self.hash.hash_one(flow) % PLACES as u64;
        let index = usize::try_from(hash).unwrap_or(0) & (self.entries.len() - 1);
        self.entries.get_mut(index)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, flow: &Flow) -> Option<&mut Ended> {
        match self.place(flow)? {
            Some((entry, ended)) if entry == flow => Some(ended),
            _ => None,
        }
    }

    /// Takes note of one that has ended, if there is memory for the table: a VM that has all of its reserve would end for it, where without a record a late
    /// segment of the peer, which has all that was sent, is answered by a reset.
    pub(super) fn insert(&mut self, flow: Flow, ended: Ended) {
        if self.entries.is_empty() {
            self.grow(FEW);
        }
        // A connection that begins or ends twice in a flow has one place.
        while self.place(&flow).is_some_and(|place| place.is_some_and(|(other, _)| other != flow))
            && self.grow(self.entries.len() * GROWTH)
        {}
        if let Some(place) = self.place(&flow) {
            *place = Some((flow, ended));
        }
    }

    /// Makes it so many places. False when that is too many, or there is no memory: it is what it was.
    fn grow(&mut self, places: usize) -> bool {
        if places > PLACES || !secures_bytes(places * size_of::<Place>()) {
            return false;
        }
        let mut grown = Vec::with_capacity(places);
        grown.resize(places, None);
        for (flow, ended) in core::mem::replace(&mut self.entries, grown).into_iter().flatten() {
            // No two that had different places have the same one now.
            if let Some(place) = self.place(&flow) {
                *place = Some((flow, ended));
            }
        }
        true
    }

    pub(super) fn remove(&mut self, flow: &Flow) {
        if self.get_mut(flow).is_some()
            && let Some(place) = self.place(flow)
        {
            *place = None;
        }
    }

    /// Gives its memory back to the heap. False when somebody may still wait for an answer: it does so later.
    pub(super) fn shrink(&mut self, now: u64) -> bool {
        let done = !self.entries.iter().flatten().any(|(_, ended)| ended.matters_when_idle(now));
        if done {
            self.entries = Vec::new();
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(flags: u8, seq: u32, len: u32) -> Segment {
        Segment { flow: Flow { remote: 1, ports: 1 }, hop: [2; 6], start: 34, flags, seq, ack: 1000, window: 9, len }
    }

    fn ack(ack: u32) -> Outcome {
        Outcome::Say(Control { seq: 1000, ack, flags: ACK, window: 2048 })
    }

    #[test]
    fn a_machine_that_has_no_memory_left_costs_a_record_and_nothing_else() {
        let flow = Flow { remote: 1, ports: 1 };
        let mut table = EndedTable::new(7);
        crate::platform::host::run_short(true);
        table.insert(flow, Ended::over(0));
        crate::platform::host::run_short(false);
        assert!(table.get_mut(&flow).is_none() && table.entries.is_empty());
        // What is there already, takes no more.
        table.insert(flow, Ended::over(0));
        crate::platform::host::run_short(true);
        for ports in 2..100 {
            let other = Flow { remote: 2, ports };
            table.insert(other, Ended::over(0));
            assert!(table.get_mut(&other).is_some());
        }
        crate::platform::host::run_short(false);
        assert_eq!(table.entries.len(), FEW);
    }

    #[test]
    fn few_have_a_small_table_and_none_is_lost_when_it_grows() {
        let flow = |ports| Flow { remote: 5, ports };
        for seed in 0..50 {
            let mut table = EndedTable::new(seed);
            table.insert(flow(0), Ended::over(0));
            assert_eq!(table.entries.len(), FEW);
            table.insert(flow(0), Ended::over(0));
            assert_eq!(table.entries.len(), FEW, "it has its place");
            let mut ports = 1;
            while table.entries.len() < PLACES {
                table.insert(flow(ports), Ended::over(0));
                let lost = (0..=ports).filter(|&ports| table.get_mut(&flow(ports)).is_none()).count();
                // In the largest table the last two may want the same place.
                let most = usize::from(table.entries.len() == PLACES);
                assert!(lost <= most, "seed {seed}: {lost} of {ports}");
                ports += 1;
            }
        }
    }

    #[test]
    fn the_peers_end_is_acknowledged_as_often_as_it_comes() {
        let mut ended = Ended::fin_wait(1000, 500, 0);
        assert_eq!(ended.hear(&segment(ACK, 500, 0), 1), Outcome::Nothing);
        assert_eq!(ended.hear(&segment(ACK, 500, 100), 1), ack(600), "late data is taken and thrown away");
        assert_eq!(ended.hear(&segment(ACK, 700, 100), 1), ack(600), "data behind a gap is not");
        assert_eq!(ended.hear(&segment(ACK | FIN, 600, 10), 2), ack(611));
        assert_eq!(ended.hear(&segment(ACK | FIN, 600, 10), 30_000_000), ack(611));
        assert_eq!(ended.hear(&segment(RST, 611, 0), 30_000_001), Outcome::Nothing);
        assert_eq!(ended.hear(&segment(ACK | FIN, 600, 10), 80_000_000), ack(611), "each one starts the time anew");
        assert!(matches!(
            ended.hear(&segment(ACK | FIN, 600, 10), 140_000_001),
            Outcome::Say(Control { flags: RST, .. })
        ));
    }

    #[test]
    fn who_begins_anew_is_let() {
        let mut ended = Ended::time_wait(1000, 500, 0);
        assert_eq!(ended.hear(&segment(SYN, 400, 0), 1), ack(500), "an old one is not");
        assert_eq!(ended.hear(&segment(SYN, 501, 0), 1), Outcome::Anew);
        assert_eq!(Ended::over(0).hear(&segment(SYN, 1, 0), 1), Outcome::Anew);
        assert_eq!(Ended::fin_wait(1000, 500, 0).hear(&segment(SYN, 501, 0), 1), ack(500));
    }

    #[test]
    fn a_peer_that_never_ends_is_reset() {
        let mut ended = Ended::fin_wait(1000, 500, 0);
        let late = ended.hear(&segment(ACK, 500, 100), LINGER_US);
        assert_eq!(late, Outcome::Say(Control { seq: 1000, ack: 0, flags: RST, window: 0 }));
    }

    #[test]
    fn the_table_is_bounded_and_the_last_one_is_always_there() {
        let mut table = EndedTable::new(7);
        let flow = |ports| Flow { remote: 5, ports };
        assert!(table.get_mut(&flow(1)).is_none());
        for ports in 0..10_000 {
            table.insert(flow(ports), Ended::over(0));
            assert!(table.get_mut(&flow(ports)).is_some());
        }
        let left = (0..10_000).filter(|&ports| table.get_mut(&flow(ports)).is_some()).count();
        assert!(left <= PLACES && left > PLACES / 2, "{left}");
        table.remove(&flow(9_999));
        assert!(table.get_mut(&flow(9_999)).is_none());
        assert!(table.shrink(1));
        assert_eq!(table.entries.capacity(), 0);
        table.insert(flow(1), Ended::fin_wait(1, 1, 0));
        assert!(!table.shrink(1));
        assert!(table.get_mut(&flow(1)).is_some(), "somebody waits");
        assert!(table.shrink(LINGER_US));
        assert!(table.get_mut(&flow(1)).is_none());
    }
}
