//! What of a connection's bytes is on its way, and what may follow: congestion control (RFC 5681, NewReno), the initial window
//! (RFC 6928), the retransmission timer (RFC 6298), recovery with and without selective acknowledgements (RFC 6675, RFC 6582),
//! probes for a lost tail (RFC 8985 7), zero-window probes and silly windows (RFC 9293 3.8.6).
//!
//! Only numbers: the bytes are in `content.rs`, frames are made in `bulk.rs`. Sequence numbers are those on the wire and are
//! compared by how far they are behind the first byte that is not acknowledged.

use alloc::vec::Vec;

/// The timer's value before a round trip was measured, its least, and its most (RFC 6298 2), in microseconds.
const FIRST_RTO: u64 = 1_000_000;
const LEAST_RTO: u64 = 1_000_000;
const MOST_RTO: u64 = 60_000_000;
/// The longest that a peer waits with the acknowledgement of a single segment (RFC 8985 7.2), in microseconds.
const MOST_ACK_DELAY: u64 = 200_000;
/// The least that a lost tail is waited for, in microseconds: hosts have other things to do, too.
const LEAST_PROBE: u64 = 10_000;
/// Duplicates that mean a loss.
const DUPLICATES: u32 = 3;
/// Ranges that are remembered of what has arrived behind gaps. Those beyond are sent twice.
const MAX_RANGES: usize = 16;
/// The congestion window's most: more than any wire here carries in a round trip.
const MOST_WINDOW: u32 = 1 << 20;

/// Bytes that may be sent at first into a network that nothing is known of (RFC 6928 2).
fn initial_window(mss: u32) -> u32 {
    (10 * mss).min((2 * mss).max(14_600))
}

/// Round trips (RFC 6298), in microseconds.
#[derive(Clone, Copy, Debug)]
struct RoundTrip {
    /// Smoothed, and how much it varies.
    measured: Option<(u64, u64)>,
    timeout: u64,
    /// What is measured now: until this number is acknowledged, from this time on.
    timed: Option<(u32, u64)>,
}

impl RoundTrip {
    fn sample(&mut self, took: u64) {
        let (smooth, vary) = match self.measured {
            None => (took, took / 2),
            Some((smooth, vary)) => ((7 * smooth + took) / 8, (3 * vary + smooth.abs_diff(took)) / 4),
        };
        self.measured = Some((smooth, vary));
        self.relax();
    }

    /// The timer is as what was measured says, and not as time-outs have made it.
    fn relax(&mut self) {
        let (smooth, vary) = self.measured.unwrap_or((FIRST_RTO, 0));
        self.timeout = (smooth + (4 * vary).max(1)).clamp(LEAST_RTO, MOST_RTO);
    }

    fn back_off(&mut self) {
        self.timeout = (2 * self.timeout).min(MOST_RTO);
    }
}

/// Whether the last segments have arrived is asked before the timer runs out, by sending the very last one once more: nothing
/// that follows them would show a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    /// The deadline is not one for this.
    Quiet,
    /// It is.
    Armed,
    /// The last segment is to be sent again now.
    Due,
    /// It was, up to this number: where that has arrived and something before has not, that is lost.
    Probed { end: u32, at: u64 },
}

#[derive(Debug)]
pub(super) struct Flight {
    /// The first byte that is not acknowledged, the first that was never sent, and the end of what there is to be sent.
    una: u32,
    next: u32,
    end: u32,
    /// Bytes of a full segment.
    mss: u32,
    /// What the peer takes from `una` on, and the most that it ever took.
    window: u32,
    widest: u32,
    cwnd: u32,
    ssthresh: u32,
    /// Bytes that were acknowledged since the congestion window grew last.
    credit: u32,
    /// What has arrived behind gaps, in order.
    sacked: Vec<(u32, u32)>,
    /// What lies before and has not arrived is lost; up to `again` it was sent again.
    lost_to: u32,
    again: u32,
    /// A loss is being repaired: until this number is acknowledged there is no other one.
    recover: u32,
    recovering: bool,
    duplicates: u32,
    /// More would have left, had the congestion window been larger.
    limited: bool,
    /// One segment may leave whatever the congestion window says.
    owed: bool,
    /// The peer's window is to be probed.
    probe: bool,
    tail: Tail,
    trip: RoundTrip,
    /// When the timer runs out.
    deadline: Option<u64>,
    last_sent: u64,
}

impl Flight {
    /// Nothing is on its way; `start` comes first.
    pub(super) fn new(start: u32, mss: u32, now: u64) -> Flight {
        let mss = mss.max(1);
        Flight {
            una: start,
            next: start,
            end: start,
            mss,
            window: 0,
            widest: 0,
            cwnd: initial_window(mss),
            ssthresh: u32::MAX,
            credit: 0,
            sacked: Vec::new(),
            lost_to: start,
            again: start,
            recover: start,
            recovering: false,
            duplicates: 0,
            limited: false,
            owed: false,
            probe: false,
            tail: Tail::Quiet,
            trip: RoundTrip { measured: None, timeout: FIRST_RTO, timed: None },
            deadline: None,
            last_sent: now,
        }
    }

    /// Something is to be sent after a pause, from `start` on, to a peer with this window. What is known of the network holds on; after a
    /// long pause, its window does not (RFC 5681 4.1).
    pub(super) fn resume(&mut self, start: u32, window: u32, now: u64) {
        if now.saturating_sub(self.last_sent) > self.trip.timeout {
            self.cwnd = self.cwnd.min(initial_window(self.mss));
        }
        let Flight { mss, cwnd, ssthresh, trip, widest, .. } = *self;
        let sacked = core::mem::take(&mut self.sacked);
        *self = Flight { cwnd, ssthresh, trip, sacked, ..Flight::new(start, mss, now) };
        self.sacked.clear();
        self.window = window;
        self.widest = widest.max(window);
    }

    /// Bytes of a full segment from now on.
    pub(super) fn set_mss(&mut self, mss: u32) {
        self.mss = mss.max(1);
    }

    /// Nothing of what is on its way arrives, since its segments are too large, and not since the network is busy (RFC 1191 6.5, RFC 8201
    /// 5.4): all of it is to be sent again, and the congestion window is what it was.
    pub(super) fn send_again(&mut self) {
        (self.lost_to, self.again) = (self.next, self.una);
        self.trip.timed = None;
        self.tail = Tail::Quiet;
        self.deadline = (self.next != self.una).then(|| self.last_sent + self.trip.timeout);
        self.owed = true;
    }

    /// So many bytes are there to be sent, from the first that is not acknowledged on.
    pub(super) fn set_len(&mut self, len: usize) {
        let len = u32::try_from(len).unwrap_or(u32::MAX).min(1 << 30);
        self.end = self.una.wrapping_add(len);
    }

    /// The first byte that is not acknowledged, and the end of what was sent.
    pub(super) fn sent(&self) -> (u32, u32) {
        (self.una, self.next)
    }

    /// When there is something to do without a word of the peer's; `u64::MAX` for never.
    pub(super) fn deadline(&self) -> u64 {
        self.deadline.unwrap_or(u64::MAX)
    }

    #[inline]
    fn at(&self, seq: u32) -> u32 {
        seq.wrapping_sub(self.una)
    }

    fn sacked_bytes(&self) -> u32 {
        self.sacked.iter().map(|(start, end)| end.wrapping_sub(*start)).sum()
    }

    /// Bytes that are in the network, as far as can be told (RFC 6675 4).
    #[inline]
    fn pipe(&self) -> u32 {
        let outstanding = self.at(self.next);
        if self.lost_to == self.una && self.duplicates == 0 && self.sacked.is_empty() {
            return outstanding;
        }
        // Each duplicate is the word of a segment that has arrived, whichever it was: not everybody names all of them.
        let arrived = self.sacked_bytes().max(self.duplicates.saturating_mul(self.mss));
        let (from, to) = (self.at(self.again), self.at(self.lost_to));
        let lost = to.saturating_sub(from);
        let known = self.sacked.iter().map(|&(start, end)| {
            let (start, end) = (self.at(start).max(from), self.at(end).min(to));
            end.saturating_sub(start)
        });
        let lost = lost.saturating_sub(known.sum());
        outstanding.saturating_sub(arrived).saturating_sub(lost)
    }

    /// The next bytes that are lost and were not sent again.
    fn hole(&mut self) -> Option<(u32, u32)> {
        let mut end = self.at(self.lost_to);
        let mut start = self.at(self.again);
        for &(from, to) in &self.sacked {
            let (from, to) = (from.wrapping_sub(self.una), to.wrapping_sub(self.una));
            if start < from {
                end = end.min(from);
                break;
            }
            start = start.max(to);
        }
        let len = end.saturating_sub(start).min(self.mss);
        (len > 0).then(|| (self.una.wrapping_add(start), len))
    }

    /// The segment that is to be sent now: where it starts, and its length. It counts as sent.
    #[inline]
    pub(super) fn segment(&mut self, now: u64) -> Option<(u32, u32)> {
        if core::mem::take(&mut self.probe) && self.una != self.end {
            // One byte, again and again the same one.
            if self.next == self.una {
                self.next = self.una.wrapping_add(1);
            }
            self.deadline = Some(now + self.trip.timeout);
            return Some((self.una, 1));
        }
        if self.tail == Tail::Due {
            let len = self.at(self.next).min(self.mss);
            self.tail = Tail::Probed { end: self.next, at: now };
            self.deadline = Some(now + self.trip.timeout);
            // RFC 8985 7.3: whatever the congestion window says, and once.
            return (len > 0).then(|| (self.next.wrapping_sub(len), len));
        }
        let pipe = self.pipe();
        let mut room = self.cwnd.saturating_sub(pipe);
        if core::mem::take(&mut self.owed) || pipe == 0 {
            room = room.max(self.mss);
        }
        if self.lost_to != self.una
            && self.window > 0
            && let Some((start, len)) = self.hole()
        {
            if len > room {
                self.limited = true;
                return None;
            }
            self.again = start.wrapping_add(len);
            self.trip.timed = None;
            self.left(now);
            return Some((start, len));
        }
        let start = self.next;
        let left = self.end.wrapping_sub(start);
        let fits = self.window.saturating_sub(self.at(start));
        let len = self.mss.min(left).min(fits);
        // No small segments into a window that is about to open further (RFC 9293 3.8.6.2.1).
        let silly = len < self.mss && len < left && len < self.widest / 2 && start != self.una;
        self.limited = len > room;
        if len == 0 || silly || self.limited {
            if len == 0 && left > 0 && start == self.una && self.deadline.is_none() {
                // Nothing will be heard of the peer when its word that it takes more is lost.
                self.deadline = Some(now + self.trip.timeout);
            }
            return None;
        }
        self.next = start.wrapping_add(len);
        if self.trip.timed.is_none() {
            self.trip.timed = Some((self.next, now));
        }
        self.left(now);
        Some((start, len))
    }

    /// More segments that may leave now and follow the one that [`Flight::segment`] gave last, of `len` bytes from `seq` on, up to `most` bytes in
    /// all. Bytes of all of them.
    pub(super) fn join(&mut self, seq: u32, len: u32, most: u32, now: u64) -> u32 {
        let mut all = len;
        // Only of what was never sent: what is sent again leaves as it was.
        while all.is_multiple_of(self.mss)
            && all + self.mss <= most
            && self.next == seq.wrapping_add(all)
            && self.lost_to == self.una
            && !self.probe
            && self.tail != Tail::Due
        {
            match self.segment(now) {
                Some((_, len)) => all += len,
                None => break,
            }
        }
        all
    }

    fn left(&mut self, now: u64) {
        self.last_sent = now;
        if self.tail == Tail::Armed {
            // It counts from the last segment on.
            (self.deadline, self.tail) = (None, Tail::Quiet);
        }
        self.deadline.get_or_insert(now + self.trip.timeout);
        self.arm(now);
    }

    /// Where all has been sent and nothing of it is known to be lost, the last segment is asked for after two round trips (RFC 8985 7.2).
    #[inline]
    fn arm(&mut self, now: u64) {
        if self.next != self.end || self.tail != Tail::Quiet || self.next == self.una || self.window == 0 {
            return;
        }
        let Some((smooth, vary)) = self.trip.measured else { return };
        if self.recovering || self.lost_to != self.una || self.duplicates > 0 || !self.sacked.is_empty() {
            return;
        }
        let delayed = if self.at(self.next) <= self.mss { MOST_ACK_DELAY } else { 0 };
        let wait = (2 * smooth).max(smooth + 4 * vary).max(LEAST_PROBE) + delayed;
        if wait < self.trip.timeout && self.deadline.is_none_or(|deadline| now + wait < deadline) {
            (self.deadline, self.tail) = (Some(now + wait), Tail::Armed);
        }
    }

    /// The timer has run out, if it has. The bytes that are lost, for all that can be told.
    pub(super) fn expire(&mut self, now: u64) -> u32 {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return 0;
        }
        self.deadline = None;
        self.trip.timed = None;
        if core::mem::replace(&mut self.tail, Tail::Quiet) == Tail::Armed && self.next != self.una {
            self.tail = Tail::Due;
            return 0;
        }
        self.trip.back_off();
        let outstanding = self.at(self.next);
        if self.window == 0 || outstanding == 0 {
            self.probe = true;
            return 0;
        }
        // RFC 5681 3.1; a second time-out for the same bytes says nothing new.
        if self.at(self.recover) == 0 || self.at(self.recover) > outstanding || self.recovering {
            self.ssthresh = (outstanding / 2).max(2 * self.mss);
        }
        self.cwnd = self.mss;
        self.credit = 0;
        self.recovering = false;
        self.duplicates = 0;
        self.recover = self.next;
        // RFC 2018 8: the peer may have thrown away what it said that it had.
        self.sacked.clear();
        (self.lost_to, self.again) = (self.next, self.una);
        self.owed = true;
        outstanding
    }

    /// The peer has acknowledged everything before `ack`, takes `window` bytes more, and has `ranges` behind gaps. How many bytes
    /// were acknowledged for the first time. `empty`: there was nothing else in its segment.
    #[inline]
    pub(super) fn heard(&mut self, ack: u32, window: u32, ranges: &[(u32, u32)], empty: bool, now: u64) -> u32 {
        let outstanding = self.at(self.next);
        let fresh = self.at(ack);
        if fresh > outstanding {
            return 0;
        }
        let opened = self.window == 0 && window > 0;
        let same_window = window == self.window;
        self.window = window;
        self.widest = self.widest.max(window);
        let mut news = false;
        for &range in ranges {
            news |= self.learn(range);
        }
        if fresh > 0 {
            self.progress(ack, fresh, outstanding, now);
        } else if outstanding > 0 && empty && (same_window || news) && window > 0 {
            self.duplicates += 1;
        }
        if opened && self.next != self.una {
            match self.at(self.next) {
                // The probe was one byte of what is sent now.
                1 => self.next = self.una,
                // What was on its way when the window closed may have been thrown away.
                _ => (self.lost_to, self.again) = (self.next, self.una),
            }
            self.trip.relax();
            self.deadline = None;
        }
        if outstanding > 0 && (self.duplicates > 0 || !self.sacked.is_empty()) {
            self.judge();
        }
        fresh
    }

    fn progress(&mut self, ack: u32, fresh: u32, outstanding: u32, now: u64) {
        let behind = |seq: u32| seq.wrapping_sub(self.una) < fresh || seq.wrapping_sub(self.una) > outstanding;
        let clamp = |seq: u32| if behind(seq) { ack } else { seq };
        let over = behind(self.recover) || self.recover == ack;
        (self.lost_to, self.again) = (clamp(self.lost_to), clamp(self.again));
        if over {
            self.recover = ack;
        }
        if !self.sacked.is_empty() {
            let una = self.una;
            self.sacked.retain(|(start, _)| start.wrapping_sub(una) > fresh);
        }
        match self.tail {
            Tail::Probed { end, .. } if !behind(end) && end != ack => {}
            Tail::Probed { at, .. } => {
                self.tail = Tail::Quiet;
                // What had been lost came with the probe (RFC 8985 7.4), unless the word is older than that.
                let (smooth, _) = self.trip.measured.unwrap_or((0, 0));
                if !self.recovering && now >= at + smooth / 2 {
                    self.ssthresh = (outstanding / 2).max(2 * self.mss);
                    self.cwnd = self.cwnd.min(self.ssthresh);
                }
            }
            _ => self.tail = Tail::Quiet,
        }
        self.una = ack;
        if let Some((end, at)) = self.trip.timed
            && ack.wrapping_sub(end) < 1 << 31
        {
            self.trip.timed = None;
            self.trip.sample(now.saturating_sub(at));
        }
        match self.recovering {
            true if over => {
                self.recovering = false;
                self.cwnd = self.ssthresh;
                self.duplicates = 0;
            }
            true => {
                // Whatever is next was lost, too (RFC 6582 3.2), but for what was said to have arrived.
                self.duplicates = self.duplicates.saturating_sub((fresh / self.mss).saturating_sub(1));
                if self.sacked.is_empty() {
                    let first = self.mss.min(self.at(self.next));
                    self.lost_to = ack.wrapping_add(first.max(self.at(self.lost_to)));
                    self.again = ack;
                    self.owed = true;
                }
            }
            false => {
                self.duplicates = 0;
                // What the program does not use is not known to be there (RFC 7661).
                if self.limited {
                    self.grow(fresh);
                }
            }
        }
        self.deadline = (self.next != self.una).then(|| now + self.trip.timeout);
        self.arm(now);
    }

    fn grow(&mut self, fresh: u32) {
        if self.cwnd < self.ssthresh {
            // RFC 3465 2.2: acknowledgements come for every other segment.
            self.cwnd += fresh.min(2 * self.mss);
        } else {
            self.credit += fresh;
            if self.credit >= self.cwnd {
                self.credit -= self.cwnd;
                self.cwnd += self.mss;
            }
        }
        self.cwnd = self.cwnd.min(MOST_WINDOW);
    }

    /// Remembers a range that has arrived. False when that was known, or cannot be.
    fn learn(&mut self, (start, end): (u32, u32)) -> bool {
        let (from, to) = (self.at(start), self.at(end));
        if from == 0 || from >= to || to > self.at(self.next) {
            return false;
        }
        let una = self.una;
        if self.sacked.iter().any(|&(s, e)| s.wrapping_sub(una) <= from && to <= e.wrapping_sub(una)) {
            return false;
        }
        // All that touch it become one with it.
        let (mut from, mut to) = (from, to);
        self.sacked.retain(|&(s, e)| {
            let (s, e) = (s.wrapping_sub(una), e.wrapping_sub(una));
            let touches = s <= to && from <= e;
            if touches {
                (from, to) = (from.min(s), to.max(e));
            }
            !touches
        });
        let place = self.sacked.partition_point(|&(s, _)| s.wrapping_sub(una) < from);
        self.sacked.insert(place, (una.wrapping_add(from), una.wrapping_add(to)));
        self.sacked.truncate(MAX_RANGES);
        true
    }

    /// What is lost (RFC 6675 4 and 5, RFC 5681 3.2).
    fn judge(&mut self) {
        // A gap with so much behind it that it cannot be a matter of order.
        let mut above = 0;
        let mut lost_to = 0;
        for &(start, end) in self.sacked.iter().rev() {
            above += end.wrapping_sub(start);
            if above > (DUPLICATES - 1) * self.mss {
                lost_to = self.at(start);
                break;
            }
        }
        if let (Tail::Probed { end, .. }, Some(&(start, last))) = (self.tail, self.sacked.last())
            && last == end
        {
            // It was sent two round trips after all others.
            lost_to = lost_to.max(self.at(start));
        }
        if !self.recovering && (self.duplicates >= DUPLICATES || lost_to > 0) && self.at(self.recover) == 0 {
            let outstanding = self.at(self.next);
            self.recovering = true;
            self.recover = self.next;
            self.ssthresh = (outstanding / 2).max(2 * self.mss);
            self.cwnd = self.ssthresh;
            self.credit = 0;
            self.again = self.una;
            self.owed = true;
            let first = self.sacked.first().map_or(self.mss, |&(start, _)| self.at(start).min(self.mss));
            lost_to = lost_to.max(first.min(outstanding));
        }
        if self.recovering && lost_to > self.at(self.lost_to) {
            self.lost_to = self.una.wrapping_add(lost_to);
        }
    }
}

#[cfg(test)]
mod tests;
