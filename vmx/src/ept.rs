//! Extended page tables (SDM vol. 3, 29.3): guest-physical to physical, four levels, pages of 4 KiB.

use crate::backend::{Flush, Frames, MapError, Rights, Tables, Translation};
use core::sync::atomic::{AtomicU64, Ordering};

/// Bits of an entry (SDM vol. 3, tables 29-1 to 29-7).
const READ: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const EXECUTE: u64 = 1 << 2;
const PRESENT: u64 = READ | WRITE | EXECUTE;
const WRITE_BACK: u64 = 6 << 3;
/// The guest's PAT does not matter: nobody sees a frame with two memory types.
const IGNORE_PAT: u64 = 1 << 6;
const ACCESSED: u64 = 1 << 8;
const DIRTY: u64 = 1 << 9;
/// Bits 51..12.
const FRAME: u64 = 0x000f_ffff_ffff_f000;
/// Bits of the EPT pointer (SDM vol. 3, table 25-9): the tables are cached write-back, and have four levels.
const POINTER: u64 = 6 | 3 << 3;
const POINTER_ACCESSED_DIRTY: u64 = 1 << 6;

/// Levels below the root: the walk of an address goes through tables of level 3, 2, 1 and 0.
const ROOT_LEVEL: u32 = 3;
/// Addresses that four levels reach.
const REACH: u64 = 1 << 48;
const PAGE: u64 = abi::limits::PAGE_SIZE;

/// The EPT of one VM. It does not give its frames back by itself: [`Tables::free`].
#[derive(Debug)]
pub struct Ept {
    root: u64,
    pages: u32,
    /// The CPU keeps accessed and dirty bits.
    tracks: bool,
}

/// Index into the table of `level` on the way to `address`.
#[inline]
fn index(address: u64, level: u32) -> usize {
    // 9 bits.
    #[allow(clippy::cast_possible_truncation)]
    {
        (address >> (12 + 9 * level)) as usize & 511
    }
}

fn leaf(frame: u64, rights: Rights) -> u64 {
    frame | bits(rights) | WRITE_BACK | IGNORE_PAT
}

/// A page can always be read; write-only and execute-only entries, which CPUs may refuse, cannot be expressed.
fn bits(rights: Rights) -> u64 {
    READ | if rights.write { WRITE } else { 0 } | if rights.execute { EXECUTE } else { 0 }
}

impl Ept {
    /// Empty tables; `tracks` turns accessed and dirty bits on.
    pub fn new<F: Frames>(frames: &mut F, tracks: bool) -> Option<Ept> {
        Some(Ept { root: frames.allocate()?, pages: 1, tracks })
    }

    /// For the VMCS, and the context of INVEPT.
    #[inline]
    pub fn pointer(&self) -> u64 {
        self.root | POINTER | if self.tracks { POINTER_ACCESSED_DIRTY } else { 0 }
    }

    /// The entry of the last level for `address`, if there is a table for it.
    fn entry<'f, F: Frames>(&self, frames: &'f F, address: u64) -> Option<&'f AtomicU64> {
        if address >= REACH {
            return None;
        }
        let mut table = self.root;
        let mut level = ROOT_LEVEL;
        while level > 0 {
            let entry = frames.table(table)[index(address, level)].load(Ordering::Relaxed);
            if entry & PRESENT == 0 {
                return None;
            }
            table = entry & FRAME;
            level -= 1;
        }
        Some(&frames.table(table)[index(address, 0)])
    }

    /// The entry of the last level for `page`, with the tables on the way made where there are none. `frame` is only checked.
    #[inline]
    fn slot<'f, F: Frames>(&mut self, frames: &'f mut F, page: u64, frame: u64) -> Result<&'f AtomicU64, MapError> {
        if page >= REACH || !page.is_multiple_of(PAGE) || frame & !FRAME != 0 {
            return Err(MapError::BadAddress);
        }
        let mut table = self.root;
        let mut level = ROOT_LEVEL;
        while level > 0 {
            let entry = frames.table(table)[index(page, level)].load(Ordering::Relaxed);
            table = if entry & PRESENT != 0 {
                entry & FRAME
            } else {
                // A table that stays empty because the next one cannot be had is found again by the next attempt.
                let new = frames.allocate().ok_or(MapError::NoFrame)?;
                self.pages += 1;
                frames.table(table)[index(page, level)].store(new | PRESENT, Ordering::Release);
                new
            };
            level -= 1;
        }
        Ok(&frames.table(table)[index(page, 0)])
    }

    fn translation(&self, entry: u64) -> Option<Translation> {
        (entry & PRESENT != 0).then(|| {
            let write = entry & WRITE != 0;
            Translation {
                frame: entry & FRAME,
                rights: Rights { write, execute: entry & EXECUTE != 0 },
                accessed: !self.tracks || entry & ACCESSED != 0,
                dirty: if self.tracks { entry & DIRTY != 0 } else { write },
            }
        })
    }
}

impl Tables for Ept {
    unsafe fn map<F: Frames>(
        &mut self,
        frames: &mut F,
        page: u64,
        frame: u64,
        rights: Rights,
    ) -> Result<Flush, MapError> {
        let entry = self.slot(frames, page, frame)?;
        let new = leaf(frame, rights);
        let old = entry.swap(new, Ordering::AcqRel);
        if old & PRESENT == 0 {
            return Ok(Flush::Unneeded);
        }
        if old & FRAME != frame {
            return Ok(Flush::Needed);
        }
        // The same page: what is known of its use still holds. A CPU that remembers fewer rights than it has now runs
        // into a violation, which makes it forget (SDM vol. 3, 29.4.3.1).
        entry.fetch_or(old & (ACCESSED | DIRTY), Ordering::AcqRel);
        Ok(shrinks(old, new))
    }

    #[inline]
    unsafe fn map_new<F: Frames>(
        &mut self,
        frames: &mut F,
        page: u64,
        frame: u64,
        rights: Rights,
    ) -> Result<bool, MapError> {
        let entry = self.slot(frames, page, frame)?;
        Ok(entry.compare_exchange(0, leaf(frame, rights), Ordering::AcqRel, Ordering::Relaxed).is_ok())
    }

    fn unmap<F: Frames>(&mut self, frames: &F, page: u64) -> Option<Translation> {
        let old = self.entry(frames, page)?.swap(0, Ordering::AcqRel);
        self.translation(old)
    }

    fn protect<F: Frames>(&mut self, frames: &F, page: u64, rights: Rights) -> Option<Flush> {
        let entry = self.entry(frames, page)?;
        let old = entry.load(Ordering::Relaxed);
        if old & PRESENT == 0 {
            return None;
        }
        let new = bits(rights);
        // In two steps, so that an accessed or dirty bit that a CPU sets at the same time is not lost. READ stays.
        entry.fetch_and(!(WRITE | EXECUTE) | new, Ordering::AcqRel);
        entry.fetch_or(new, Ordering::AcqRel);
        Some(shrinks(old, new))
    }

    fn walk<F: Frames>(&self, frames: &F, address: u64) -> Option<Translation> {
        self.translation(self.entry(frames, address)?.load(Ordering::Relaxed))
    }

    fn table_pages(&self) -> u32 {
        self.pages
    }

    fn free<F: Frames>(self, frames: &mut F) {
        let mut left = self.pages;
        free_below(frames, self.root, ROOT_LEVEL, &mut left);
    }
}

/// Free the table and those below it, of which there are `left` in all; stop looking when none is left.
fn free_below<F: Frames>(frames: &mut F, table: u64, level: u32, left: &mut u32) {
    *left = left.saturating_sub(1);
    if level > 0 {
        for index in 0..512 {
            if *left == 0 {
                break;
            }
            let entry = frames.table(table)[index].load(Ordering::Relaxed);
            if entry & PRESENT != 0 {
                free_below(frames, entry & FRAME, level - 1, left);
            }
        }
    }
    frames.free(table);
}

/// Whether a present entry has lost rights.
fn shrinks(old: u64, new: u64) -> Flush {
    if old & PRESENT & !new != 0 { Flush::Needed } else { Flush::Unneeded }
}

#[cfg(test)]
#[path = "ept_tests.rs"]
mod tests;
