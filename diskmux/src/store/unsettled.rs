//! Blocks that the last batch has changed, and of which nobody knows yet whether that is durable.
//!
//! Until it is, the check of a written block has to allow what the block held before, too, wherever its row goes. The flush in the middle of the next batch makes it durable, as that at the
//! beginning of a batch does: so a batch needs no flush of its own at its beginning unless it changes one of these blocks again.

use super::JOBS;
use super::moves::bit;
use super::rows::{Rows, State};
use disk_format::Check;
use ring::SharedMemory;

/// A block, by where its check is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Changed {
    pub row: usize,
    pub byte: usize,
    /// Its check once it is durable.
    pub after: Check,
    /// The disk that was written.
    pub disk: usize,
}

/// Those of one batch.
pub(super) struct Unsettled(heapless::Vec<Changed, JOBS>);

impl Unsettled {
    pub const fn new() -> Self {
        Unsettled(heapless::Vec::new())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One more. (There are no more than requests in a batch.)
    pub fn push(&mut self, changed: Changed) {
        let _ = self.0.push(changed);
    }

    /// What the check at this place will be, if it is of one of these blocks.
    pub fn check(&self, (row, byte): (usize, usize)) -> Option<Check> {
        self.0.iter().find(|changed| (changed.row, changed.byte) == (row, byte)).map(|changed| changed.after)
    }

    /// Whether a row has the check of any. It stays at hand.
    pub fn uses(&self, row: usize) -> bool {
        self.0.iter().any(|changed| changed.row == row)
    }

    /// All disks were flushed, but for these: what is durable has its check for certain; of the others it stays as it is. Whether there are no others.
    pub fn settle<const N: usize>(&mut self, unflushed: u32, rows: &mut Rows<N>, memory: SharedMemory) -> bool {
        let mut all = true;
        while let Some(Changed { row, byte, after, disk }) = self.0.pop() {
            if unflushed & bit(disk) != 0 {
                all = false;
            } else if rows.state(row) == State::Read {
                rows.set(row, byte, after, memory);
            }
        }
        all
    }
}
