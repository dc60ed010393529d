//! What was said and has still to come out: the core's records as they are, whose text is made when they leave, and lines that others wrote.

use super::write_record;
use abi::log::Record;
use core::fmt;
use heapless::Deque;

/// Entries that there is room for.
pub(super) const ENTRIES: usize = 384;
/// Bytes of text that one entry holds; a longer line takes several.
const PIECE: usize = 190;
/// Entries that the next line may take: what others write is cut to less.
const NEXT: usize = 4;
/// Longest line of a record: that of a fault with all registers has some 600 bytes.
const LINE: usize = 768;
const END: &[u8] = b"\r\n";

/// What waits.
#[derive(Clone, Copy)]
enum Entry {
    /// A record, and the TSC when it was said.
    Record {
        at: u64,
        record: Record,
    },
    Text(Piece),
}

const _: () = assert!(size_of::<Entry>() <= 208);

/// A part of what others wrote.
#[derive(Clone, Copy)]
struct Piece {
    len: u8,
    bytes: [u8; PIECE],
}

impl Piece {
    const EMPTY: Piece = Piece { len: 0, bytes: [0; PIECE] };

    fn text(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or(&self.bytes)
    }
}

/// A queue: what was said first leaves first, byte by byte.
pub(super) struct Queue {
    entries: Deque<Entry, ENTRIES>,
    /// Text that is no whole line and fills no entry yet.
    open: Piece,
    /// What is leaving, and how much of it has left.
    line: heapless::Vec<u8, LINE>,
    left: usize,
}

impl Queue {
    /// An empty one.
    pub const fn new() -> Self {
        Queue { entries: Deque::new(), open: Piece::EMPTY, line: heapless::Vec::new(), left: 0 }
    }

    /// Whether there may be no room for one more line.
    pub fn is_full(&self) -> bool {
        self.entries.len() + usize::from(self.open.len != 0) + NEXT > ENTRIES
    }

    /// Whether nothing is left that could leave.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.left == self.line.len()
    }

    /// Entries that wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds a record that was said at the TSC `at`. Not when the queue is full.
    pub fn record(&mut self, at: u64, record: Record) {
        self.close();
        let _ = self.entries.push_back(Entry::Record { at, record });
    }

    /// Adds a byte of a line that others wrote, which begins when the queue is not full; what is beyond all room is lost.
    pub fn byte(&mut self, byte: u8) {
        if let Some(place) = self.open.bytes.get_mut(usize::from(self.open.len)) {
            *place = byte;
            self.open.len += 1;
        }
        if byte == b'\n' || usize::from(self.open.len) == PIECE {
            self.close();
        }
    }

    /// What was written so far can leave, although it is no whole line.
    pub fn close(&mut self) {
        if self.open.len != 0 {
            let _ = self.entries.push_back(Entry::Text(core::mem::replace(&mut self.open, Piece::EMPTY)));
        }
    }

    /// Takes the next byte.
    pub fn pop(&mut self) -> Option<u8> {
        if self.left == self.line.len() {
            self.left = 0;
            self.line.clear();
            match self.entries.pop_front()? {
                Entry::Record { at, record } => {
                    // A line that is too long is cut.
                    let _ = write_record(&mut Line(&mut self.line), at, &record);
                    let _ = self.line.extend_from_slice(END);
                }
                Entry::Text(piece) => {
                    let _ = self.line.extend_from_slice(piece.text());
                }
            }
        }
        let byte = self.line.get(self.left).copied()?;
        self.left += 1;
        Some(byte)
    }
}

/// The line of a record, but for its end.
struct Line<'a>(&'a mut heapless::Vec<u8, LINE>);

impl fmt::Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = (LINE - END.len()).saturating_sub(self.0.len());
        let bytes = text.as_bytes();
        let _ = self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(())
    }
}

#[cfg(test)]
#[path = "queue_test.rs"]
mod tests;
