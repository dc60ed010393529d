//! The cells of the pool: which are free, and chains of them.
//!
//! Whoever takes many cells need not find them side by side: each names the next one. So the pool does not fall to pieces, whatever sizes come and go, and
//! as long as so many cells are free, a bundle of so many cells has room. Which cells are free is a tree of bits, of which nothing outlives the component:
//! its successor marks the chains that the core tells it of.

use ring::SharedMemory;

/// Bytes of a cell: the number of the next one, then [`PAYLOAD`].
pub const CELL: usize = 256;
/// Bytes of content in a cell.
pub const PAYLOAD: usize = CELL - 4;
/// In place of the next cell's number, in the last one.
const END: u32 = u32::MAX;
/// Levels of the tree at most: 64^5 are more cells than numbers.
const LEVELS: usize = 6;
/// Bits of a word, as the tree's fan-out.
const FAN: u32 = u64::BITS;

/// There is no cell left that may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A chain leads to where there is no cell, or to one that is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// The cells.
pub struct Cells {
    memory: SharedMemory,
    /// Where each level's words begin in the memory, from the leaves on; a bit of the leaves is a free cell, one above them a word with such.
    levels: [usize; LEVELS],
    depth: usize,
    /// Where cell 0 begins.
    base: usize,
    count: u32,
    free: u32,
    /// Where the next free one is looked for first, so that chains mostly lie in one piece.
    next: u32,
}

/// Words of each level for so many cells.
fn words(count: u32) -> impl Iterator<Item = u32> {
    let mut bits = Some(count);
    core::iter::from_fn(move || {
        let words = bits?.div_ceil(FAN);
        bits = (words > 1).then_some(words);
        Some(words)
    })
}

/// A number of cells or words as an index.
fn index(number: u32) -> usize {
    // Components run on 64-bit machines.
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Cells {
    /// All of this memory as free cells; `None` when there is not even room for one.
    pub fn new(memory: SharedMemory) -> Option<Self> {
        let most = u32::try_from(memory.len() / CELL).unwrap_or(END).min(END - 1);
        let base = words(most).map(index).sum::<usize>().checked_mul(8)?.next_multiple_of(CELL);
        let count = u32::try_from(memory.len().checked_sub(base)? / CELL).ok()?.min(most);
        if count == 0 {
            return None;
        }
        let (mut levels, mut depth, mut at) = ([0; LEVELS], 0, 0);
        for (level, words) in levels.iter_mut().zip(words(count)) {
            *level = at;
            at += 8 * index(words);
            depth += 1;
        }
        let mut cells = Cells { memory, levels, depth, base, count, free: 0, next: 0 };
        cells.clear();
        Some(cells)
    }

    /// All cells are free.
    pub fn clear(&mut self) {
        const ONES: [u8; 4096] = [0xff; 4096];
        for (level, bits) in core::iter::once(self.count).chain(words(self.count)).take(self.depth).enumerate() {
            let (mut at, whole) = (self.levels[level], bits / FAN);
            let mut left = 8 * index(whole);
            while left > 0 {
                let part = left.min(ONES.len());
                // Within the memory, as laid out by `new`.
                let _ = self.memory.write(at, &ONES[..part]);
                (at, left) = (at + part, left - part);
            }
            if bits % FAN != 0 {
                let _ = self.memory.write64(at, (1 << (bits % FAN)) - 1);
            }
        }
        (self.free, self.next) = (self.count, 0);
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How many of them are free.
    pub fn free(&self) -> u32 {
        self.free
    }

    /// The byte of the memory at which a cell begins.
    pub fn offset(&self, cell: u32) -> usize {
        self.base + index(cell) * CELL
    }

    /// The cell that begins at this byte of the memory.
    pub fn at(&self, offset: usize) -> Option<u32> {
        let bytes = offset.checked_sub(self.base).filter(|bytes| bytes.is_multiple_of(CELL))?;
        u32::try_from(bytes / CELL).ok().filter(|&cell| cell < self.count)
    }

    /// Whether the cell is free; one that there is not is.
    pub fn is_free(&self, cell: u32) -> bool {
        cell >= self.count || self.word(0, cell / FAN) >> (cell % FAN) & 1 != 0
    }

    fn word(&self, level: usize, word: u32) -> u64 {
        self.memory.read64(self.levels[level] + 8 * index(word)).unwrap_or(0)
    }

    fn set_word(&self, level: usize, word: u32, value: u64) {
        let _ = self.memory.write64(self.levels[level] + 8 * index(word), value);
    }

    /// The cell is taken, or free again, and the words above know. Nothing happens where it is so already.
    fn mark(&mut self, cell: u32, free: bool) {
        if cell >= self.count || self.is_free(cell) == free {
            return;
        }
        self.free = if free { self.free + 1 } else { self.free.saturating_sub(1) };
        let mut bit = cell;
        for level in 0..self.depth {
            let old = self.word(level, bit / FAN);
            let one = 1 << (bit % FAN);
            let new = if free { old | one } else { old & !one };
            self.set_word(level, bit / FAN, new);
            // Above, only whether there is any counts.
            if (old == 0) == (new == 0) {
                return;
            }
            bit /= FAN;
        }
    }

    /// The first free cell from this one on. Takes steps by levels of the tree, not by cells.
    fn find(&self, from: u32) -> Option<u32> {
        let (mut level, mut bit) = (0, from);
        // Upwards, until something lies behind.
        loop {
            if level == self.depth {
                return None;
            }
            let word = self.word(level, bit / FAN) & (u64::MAX << (bit % FAN));
            if word != 0 {
                bit = bit / FAN * FAN + word.trailing_zeros();
                break;
            }
            bit = bit / FAN + 1;
            level += 1;
            // Behind the last word of the level: nothing.
            if level < self.depth && bit / FAN >= self.words_of(level) {
                return None;
            }
        }
        // And down again, always to the first.
        while level > 0 {
            level -= 1;
            let word = self.word(level, bit);
            bit = bit * FAN + word.trailing_zeros().min(FAN - 1);
        }
        (bit < self.count && self.is_free(bit)).then_some(bit)
    }

    fn words_of(&self, level: usize) -> u32 {
        words(self.count).nth(level).unwrap_or(0)
    }

    /// Takes a free cell, the next one if that is free.
    fn take(&mut self) -> Option<u32> {
        let from = if self.next < self.count { self.next } else { 0 };
        let cell = self.find(from).or_else(|| self.find(0))?;
        self.mark(cell, false);
        self.next = cell + 1;
        Some(cell)
    }

    /// Marks the cells of a chain as taken.
    ///
    /// # Errors
    /// It leads to where there is no cell. Those before are taken.
    pub fn claim(&mut self, first: u32, cells: u32) -> Result<(), Broken> {
        let mut cell = first;
        for _ in 0..cells {
            if cell >= self.count {
                return Err(Broken);
            }
            self.mark(cell, false);
            cell = self.link(cell);
        }
        Ok(())
    }

    fn link(&self, cell: u32) -> u32 {
        self.memory.read32(self.offset(cell)).unwrap_or(END)
    }

    /// Clears the cells of a chain and makes them free: nothing of what was in them can be found any more. The caller has made sure that it is a chain, and whose.
    pub fn release(&mut self, first: u32, cells: u32) {
        let mut cell = first;
        for _ in 0..cells {
            if self.is_free(cell) {
                return;
            }
            let next = self.link(cell);
            let _ = self.memory.clear(self.offset(cell), CELL);
            self.mark(cell, true);
            cell = next;
        }
    }

    /// Reads a chain from its beginning.
    pub fn read(&self, first: u32, cells: u32) -> Chain<'_> {
        Chain { cells: self, next: first, left: cells }
    }

    /// Writes a new chain, of which `keep` cells must be left.
    pub fn write(&mut self, keep: u32) -> Writer<'_> {
        Writer { cells: self, keep, first: END, last: END, taken: 0, buffer: [0; CELL], used: PAYLOAD, failed: false }
    }
}

/// A chain that is read, cell by cell.
pub struct Chain<'a> {
    cells: &'a Cells,
    next: u32,
    left: u32,
}

impl Chain<'_> {
    /// The next cell, and how many are left: [`Cells::read`] goes on there.
    pub fn rest(&self) -> (u32, u32) {
        (self.next, self.left)
    }

    /// The content of the next cell; `None` behind the last one.
    ///
    /// # Errors
    /// It leads to where there is no cell, or to a free one.
    pub fn cell(&mut self) -> Result<Option<[u8; PAYLOAD]>, Broken> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.cells.is_free(self.next) {
            return Err(Broken);
        }
        let mut cell = [0; CELL];
        self.cells.memory.read(self.cells.offset(self.next), &mut cell).ok_or(Broken)?;
        let (link, payload) = cell.split_first_chunk::<4>().ok_or(Broken)?;
        self.next = u32::from_le_bytes(*link);
        self.left -= 1;
        payload.try_into().map(Some).map_err(|_| Broken)
    }
}

/// A chain that is written. Dropped before [`Writer::finish`], it gives back what it has taken.
pub struct Writer<'a> {
    cells: &'a mut Cells,
    keep: u32,
    first: u32,
    last: u32,
    taken: u32,
    /// The last cell, which is not in the pool yet.
    buffer: [u8; CELL],
    /// Bytes of content in it.
    used: usize,
    failed: bool,
}

impl Writer<'_> {
    /// Adds bytes.
    ///
    /// # Errors
    /// [`Full`], and so from then on.
    pub fn put(&mut self, mut bytes: &[u8]) -> Result<(), Full> {
        while !bytes.is_empty() {
            if self.used == PAYLOAD {
                self.extend()?;
            }
            let part = bytes.len().min(PAYLOAD - self.used);
            let (now, rest) = bytes.split_at(part);
            self.buffer[4 + self.used..4 + self.used + part].copy_from_slice(now);
            self.used += part;
            bytes = rest;
        }
        Ok(())
    }

    /// Takes another cell.
    fn extend(&mut self) -> Result<(), Full> {
        self.failed |= self.cells.free <= self.keep;
        let cell = if self.failed { None } else { self.cells.take() };
        let Some(cell) = cell else {
            self.failed = true;
            return Err(Full);
        };
        match self.taken {
            0 => self.first = cell,
            _ => self.flush(cell),
        }
        (self.last, self.used, self.buffer) = (cell, 0, [0; CELL]);
        self.taken += 1;
        Ok(())
    }

    /// Puts the last cell into the pool, with the number of the one behind it.
    fn flush(&mut self, next: u32) {
        self.buffer[..4].copy_from_slice(&next.to_le_bytes());
        let _ = self.cells.memory.write(self.cells.offset(self.last), &self.buffer);
    }

    /// The chain is whole: its first cell, and how many there are.
    ///
    /// # Errors
    /// [`Full`] when something did not fit, or it is empty.
    pub fn finish(mut self) -> Result<(u32, u32), Full> {
        if self.failed || self.taken == 0 {
            return Err(Full);
        }
        self.flush(END);
        let taken = core::mem::take(&mut self.taken);
        Ok((self.first, taken))
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if self.taken > 0 {
            self.flush(END);
            self.cells.release(self.first, self.taken);
        }
    }
}

#[cfg(test)]
#[path = "cells_tests.rs"]
mod tests;
