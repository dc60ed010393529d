//! Records of several segments, which this NIC cuts by itself (section 3.5, "TCP segmentation"), computing all checksums.
//!
//! A record takes as many buffers as it is long, one behind another, and as many descriptors: the first is a context, which says how to
//! cut, the others name the data. They so differ from those of frames in what they point at, until a frame comes to their place.

use super::{BUFFER, E1000, REPORT_EVERY, Registers, TX_END, TX_REPORT, wide};
use crate::frame::{ETHERNET, IPV4_END};

/// Fewest descriptors of a record: a context, and data.
const LEAST: usize = 2;

/// First word of a context descriptor (section 3.3.6): where checksums of IP begin, lie and end, and the same of TCP, to the frame's end.
const PLACES: u64 = {
    let ip = (ETHERNET | (ETHERNET + 10) << 8 | (IPV4_END - 1) << 16) as u64;
    let tcp = (IPV4_END | (IPV4_END + 16) << 8) as u64;
    ip | tcp << 32
};
/// Second word: bytes of data in bits 19..0, then TCP, IPv4, cut, a descriptor of the newer kind; bytes of headers from bit 40 on, bytes of
/// data in each frame from bit 48 on. Bits 23..20 are 0, for a context.
const TCP: u64 = 1 << 24;
const IPV4: u64 = 1 << 25;
const CUT: u64 = 1 << 26;
const EXTENDED: u64 = 1 << 29;
const HEADERS_SHIFT: u32 = 40;
const SEGMENT_SHIFT: u32 = 48;
/// Second word of a data descriptor (section 3.3.7): bytes in bits 19..0, kind, then as above; insert the checksums of IP and TCP.
const DATA: u64 = 1 << 20;
const SUMS: u64 = 1 << 40 | 1 << 41;

/// Descriptors, and so buffers, that a record of `len` bytes takes.
pub(super) fn descriptors(len: usize) -> usize {
    len.div_ceil(BUFFER).max(LEAST)
}

impl<R: Registers> E1000<R> {
    /// Offset of so many free transmit buffers, one behind another.
    pub(super) fn space(&mut self, count: usize) -> Option<usize> {
        let skipped = self.skipped(count);
        let needed = skipped + count;
        // One always stays with us.
        if self.tx_used() + needed >= self.tx.count {
            if self.tx_filled > 0 {
                self.tell_tx();
            }
            self.reclaim();
            if self.tx_used() + needed >= self.tx.count {
                return None;
            }
        }
        Some(self.tx.buffer(if skipped == 0 { self.tx_next } else { 0 }))
    }

    /// Descriptors up to the ring's end, where that is in the way of so many buffers behind one another.
    fn skipped(&self, count: usize) -> usize {
        if self.tx_next + count > self.tx.count { self.tx.count - self.tx_next } else { 0 }
    }

    /// Fills the descriptors of a record that lies where [`E1000::space`] said.
    pub(super) fn fill_segments(&mut self, len: usize, headers: usize, segment: u16) {
        let count = descriptors(len);
        let data = wide(len.saturating_sub(headers));
        let context =
            data | TCP | IPV4 | CUT | EXTENDED | wide(headers) << HEADERS_SHIFT | u64::from(segment) << SEGMENT_SHIFT;
        // A context of which nothing is made does nothing.
        for _ in 0..self.skipped(count) {
            self.fill(PLACES, context);
        }
        let from = self.physical + wide(self.tx.buffer(self.tx_next));
        self.fill(PLACES, context);
        // The first has what the context's own buffer holds, too.
        let mut done = 0;
        for index in 1..count {
            let end = if index + 1 == count { len } else { (index + 1) * BUFFER };
            let last = if index + 1 == count { TX_END } else { 0 };
            self.fill(from + wide(done), wide(end - done) | DATA | CUT | EXTENDED | SUMS | last);
            done = end;
        }
    }

    /// Fills the next descriptor with these words, the second of which reports where each of its place does.
    fn fill(&mut self, address: u64, word: u64) {
        let index = self.tx_next;
        let report = if index % REPORT_EVERY == REPORT_EVERY - 1 { TX_REPORT } else { 0 };
        self.store(self.tx.word(index) - 8, address);
        self.store(self.tx.word(index), word | report);
        self.tx_moved |= 1 << index;
        self.tx_any_moved = true;
        self.tx_next = self.tx.after(index);
        self.tx_filled += 1;
    }

    /// The descriptor names its own buffer again.
    #[cold]
    pub(super) fn move_back(&mut self, index: usize) {
        if self.tx_moved >> index & 1 != 0 {
            self.tx_moved &= !(1 << index);
            self.tx_any_moved = self.tx_moved != 0;
            self.store(self.tx.word(index) - 8, self.physical + wide(self.tx.buffer(index)));
        }
    }
}
