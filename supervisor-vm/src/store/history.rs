//! Lines of the audit log on the disk: blocks in a circle, of which the oldest makes room.

use super::block::{HOLDS, Head, Role, seal};
use super::layout::Layout;
use super::medium::Medium;
use super::refused::{Refused, Unkept};
use super::{Found, at};
use crate::lines::{Line, Lines, hash_of};
use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::vec::Vec;

/// Bytes in front of the lines of a block: the number of the first one, and the hash before it.
const HEADER: usize = 40;
/// Bytes of a line at most, with its end.
pub const LINE_MOST: usize = HOLDS - HEADER;

/// What is known of a block while all are read.
struct Seen {
    number: u64,
    first: u64,
    next: u64,
    before: [u8; 32],
    end: [u8; 32],
}

/// The lines of a disk.
pub struct History {
    /// The number of the newest block among all that there have been; 0 for none.
    newest: u64,
    /// The number of the first line of each block that is there and counts, the oldest first.
    firsts: VecDeque<u64>,
    /// The number behind the last line.
    next: u64,
    /// What the newest block holds.
    holds: Vec<u8>,
    /// Whether it may not be durable as it is.
    dirty: bool,
}

impl History {
    /// Finds all lines that follow one another to the last one.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub async fn open<M: Medium>(medium: &M, layout: &Layout) -> Result<History, Refused> {
        let mut all: Vec<Option<Seen>> = Vec::new();
        let mut history = History { newest: 0, firsts: VecDeque::new(), next: 1, holds: Vec::new(), dirty: false };
        for place in 0..layout.history {
            let damaged = Refused::Damaged(layout.line(place));
            let Some(Found { head, holds }) = at(medium, layout, Role::History, place).await? else {
                all.push(None);
                continue;
            };
            let lines = lines_of(&holds).filter(|_| place_of(head.number, layout) == Some(place)).ok_or(damaged)?;
            let (first, next, before, end) = (lines.first, lines.next(), lines.before, lines.end());
            all.push(Some(Seen { number: head.number, first, next, before, end }));
            if head.number > history.newest {
                (history.newest, history.next, history.holds) = (head.number, next, holds);
            }
        }
        let mut behind: Option<&Seen> = None;
        for number in (1..=history.newest).rev().take(all.len()) {
            let Some(place) = place_of(number, layout).and_then(|place| usize::try_from(place).ok()) else { break };
            let Some(Some(seen)) = all.get(place) else { break };
            let follows = behind.is_none_or(|behind| seen.next == behind.first && seen.end == behind.before);
            if seen.number != number || !follows {
                break;
            }
            history.firsts.push_front(seen.first);
            behind = Some(seen);
        }
        Ok(history)
    }

    /// Appends lines behind those that are there, in order. All but those in the last block that it writes are durable then; [`History::settle`] when
    /// the rest is.
    ///
    /// # Errors
    ///
    /// The disk could not: the next call tries again.
    pub async fn append<'l, M: Medium>(
        &mut self,
        medium: &M,
        layout: &Layout,
        lines: impl Iterator<Item = Line<'l>>,
    ) -> Result<(), Unkept> {
        for line in lines {
            if line.number < self.next {
                continue;
            }
            let text = line.text.as_bytes();
            if text.len() > LINE_MOST {
                return Err(Unkept::Long);
            }
            // Where some are missing, the ones behind begin a block, and those before do not count any more.
            let gap = line.number != self.next;
            if self.newest == 0 || gap || self.holds.len() + text.len() > HOLDS {
                if self.dirty {
                    self.write(medium, layout).await?;
                    medium.flush().await?;
                    self.dirty = false;
                }
                if gap {
                    self.firsts.clear();
                }
                self.newest += 1;
                self.firsts.push_back(line.number);
                if self.firsts.len() as u64 > u64::from(layout.history) {
                    self.firsts.pop_front();
                }
                self.holds.clear();
                self.holds.extend(line.number.to_le_bytes());
                self.holds.extend(line.before);
            }
            self.holds.extend(text);
            self.next = line.number + 1;
            self.dirty = true;
        }
        if self.dirty { self.write(medium, layout).await } else { Ok(()) }
    }

    /// What was appended is durable.
    pub fn settle(&mut self) {
        self.dirty = false;
    }

    /// Whether something was appended that may not be durable.
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    async fn write<M: Medium>(&self, medium: &M, layout: &Layout) -> Result<(), Unkept> {
        let Some(place) = place_of(self.newest, layout) else { return Ok(()) };
        let head = Head { store: layout.store, number: self.newest, role: Role::History, place, whole: 0 };
        Ok(medium.write(layout.line(place), &seal(&head, &self.holds)).await?)
    }

    /// The number behind the last line.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// How many blocks count.
    pub fn blocks(&self) -> usize {
        self.firsts.len()
    }

    /// The number of the oldest line that is there.
    pub fn oldest(&self) -> u64 {
        self.firsts.front().copied().unwrap_or(self.next)
    }

    /// The lines of the block that comes as this one of those that count.
    ///
    /// # Errors
    ///
    /// [`Refused`]: it cannot be read, or is another one by now.
    pub async fn read<M: Medium>(&self, medium: &M, layout: &Layout, index: usize) -> Result<Lines, Refused> {
        let back = self.firsts.len().saturating_sub(index) as u64;
        let number = (self.newest + 1).saturating_sub(back);
        let Some(place) = place_of(number, layout) else { return Ok(Lines::default()) };
        let damaged = Refused::Damaged(layout.line(place));
        let found = at(medium, layout, Role::History, place).await?.filter(|found| found.head.number == number);
        found.and_then(|found| lines_of(&found.holds)).ok_or(damaged)
    }
}

/// Those that a block holds; `None` where one is not as it was written.
fn lines_of(holds: &[u8]) -> Option<Lines> {
    let (first, rest) = holds.split_first_chunk::<8>()?;
    let (before, rest) = rest.split_first_chunk::<32>()?;
    let mut lines = Lines { first: u64::from_le_bytes(*first), before: *before, lines: Vec::new() };
    for line in core::str::from_utf8(rest).ok()?.split_inclusive('\n') {
        let hash = hash_of(&lines.end(), line)?;
        lines.lines.push((line.to_string(), hash));
    }
    // Whoever counts lines does not come to the end of numbers.
    (lines.first > 0 && lines.first < u64::MAX / 2 && !lines.lines.is_empty()).then_some(lines)
}

/// Which block of the history has this number; `None` for 0, which none has.
fn place_of(number: u64, layout: &Layout) -> Option<u32> {
    u32::try_from(number.checked_sub(1)? % u64::from(layout.history)).ok()
}
