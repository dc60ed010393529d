//! Page tables of four levels with pages of 4 KiB, for nested paging; what the bits of an entry mean is the backend's
//! ([`EntryFormat`]).

use crate::{Flush, Frames, NestedMapError, Rights, Tables, Translation};
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};

/// The bits of an entry, beside the frame's address, which is in bits 51..12 of all formats.
pub trait EntryFormat {
    /// An entry with any of these bits is present.
    const PRESENT: u64;
    /// What an entry holds that leads to another table: it allows everything.
    const TABLE: u64;
    /// Bits of a leaf that are the same for all: its memory type.
    const LEAF: u64;
    /// The guest has used it.
    const ACCESSED: u64;
    /// The guest has written to it.
    const DIRTY: u64;

    /// A present leaf's bits for these rights.
    fn bits(rights: Rights) -> u64;
    /// The rights that a present leaf gives.
    fn rights(entry: u64) -> Rights;
}

/// Bits 51..12.
const FRAME: u64 = 0x000f_ffff_ffff_f000;
/// Levels below the root: the walk of an address goes through tables of level 3, 2, 1 and 0.
const ROOT_LEVEL: u32 = 3;
/// Addresses that four levels reach.
const REACH: u64 = 1 << 48;
const PAGE: u64 = abi::limits::PAGE_SIZE;

/// The tables of one VM. They do not give their frames back by themselves: [`Tables::free`].
#[derive(Debug)]
pub struct FourLevel<E> {
    root: u64,
    pages: u32,
    /// The CPU keeps accessed and dirty bits.
    tracks: bool,
    /// The 2 MiB region that was mapped in last, and the table of level 0 for it: tables are never freed one by one.
    last: (u64, u64),
    format: PhantomData<E>,
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

impl<E: EntryFormat> FourLevel<E> {
    /// Empty tables; `tracks` says whether the CPU keeps accessed and dirty bits in them. `None`: no frame for the root.
    pub fn new<F: Frames>(frames: &mut F, tracks: bool) -> Option<Self> {
        Some(FourLevel { root: frames.allocate()?, pages: 1, tracks, last: (u64::MAX, 0), format: PhantomData })
    }

    /// Physical address of the top table.
    #[inline]
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Whether the CPU keeps accessed and dirty bits.
    #[inline]
    pub fn tracks(&self) -> bool {
        self.tracks
    }

    /// The entry that maps the frame at `frame` with these rights.
    #[inline]
    pub fn leaf(frame: u64, rights: Rights) -> u64 {
        frame | E::bits(rights) | E::LEAF
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
            if entry & E::PRESENT == 0 {
                return None;
            }
            table = entry & FRAME;
            level -= 1;
        }
        Some(&frames.table(table)[index(address, 0)])
    }

    /// The entry of the last level for `page`, with the tables on the way made where there are none. `frame` is only checked.
    #[inline]
    fn slot<'f, F: Frames>(
        &mut self,
        frames: &'f mut F,
        page: u64,
        frame: u64,
    ) -> Result<&'f AtomicU64, NestedMapError> {
        if page >= REACH || !page.is_multiple_of(PAGE) || frame & !FRAME != 0 {
            return Err(NestedMapError::BadAddress);
        }
        let region = page / (PAGE << 9);
        if self.last.0 == region {
            return Ok(&frames.table(self.last.1)[index(page, 0)]);
        }
        let mut table = self.root;
        let mut level = ROOT_LEVEL;
        while level > 0 {
            let entry = frames.table(table)[index(page, level)].load(Ordering::Relaxed);
            table = if entry & E::PRESENT != 0 {
                entry & FRAME
            } else {
                // A table that stays empty because the next one cannot be had is found again by the next attempt.
                let new = frames.allocate().ok_or(NestedMapError::NoFrame)?;
                self.pages += 1;
                frames.table(table)[index(page, level)].store(new | E::TABLE, Ordering::Release);
                new
            };
            level -= 1;
        }
        self.last = (region, table);
        Ok(&frames.table(table)[index(page, 0)])
    }

    fn translation(&self, entry: u64) -> Option<Translation> {
        (entry & E::PRESENT != 0).then(|| {
            let rights = E::rights(entry);
            Translation {
                frame: entry & FRAME,
                rights,
                accessed: !self.tracks || entry & E::ACCESSED != 0,
                dirty: if self.tracks { entry & E::DIRTY != 0 } else { rights.write },
            }
        })
    }

    /// Whether a present entry has lost rights.
    fn shrinks(old: u64, new: u64) -> Flush {
        let (old, new) = (E::rights(old), E::rights(new));
        if old.write && !new.write || old.execute && !new.execute { Flush::Needed } else { Flush::Unneeded }
    }
}

impl<E: EntryFormat> Tables for FourLevel<E> {
    unsafe fn map<F: Frames>(
        &mut self,
        frames: &mut F,
        page: u64,
        frame: u64,
        rights: Rights,
    ) -> Result<Flush, NestedMapError> {
        let entry = self.slot(frames, page, frame)?;
        let new = Self::leaf(frame, rights);
        let old = entry.swap(new, Ordering::AcqRel);
        if old & E::PRESENT == 0 {
            return Ok(Flush::Unneeded);
        }
        if old & FRAME != frame {
            return Ok(Flush::Needed);
        }
        // The same page: what is known of its use still holds. A CPU that remembers fewer rights than it has now runs
        // into a violation, which makes it forget (SDM vol. 3, 29.4.3.1; APM vol. 2, 5.5.2).
        entry.fetch_or(old & (E::ACCESSED | E::DIRTY), Ordering::AcqRel);
        Ok(Self::shrinks(old, new))
    }

    #[inline]
    unsafe fn map_new<F: Frames>(
        &mut self,
        frames: &mut F,
        page: u64,
        frame: u64,
        rights: Rights,
    ) -> Result<bool, NestedMapError> {
        let entry = self.slot(frames, page, frame)?;
        Ok(entry.compare_exchange(0, Self::leaf(frame, rights), Ordering::AcqRel, Ordering::Relaxed).is_ok())
    }

    unsafe fn map_run<F: Frames>(
        &mut self,
        frames: &mut F,
        page: u64,
        frame: u64,
        count: u32,
        rights: Rights,
    ) -> Result<u32, NestedMapError> {
        self.slot(frames, page, frame)?;
        let (at, end) = (index(page, 0), frame.saturating_add(PAGE * u64::from(count)));
        // That was the table for `page`.
        let entries = frames.table(self.last.1).get(at..at.saturating_add(count as usize));
        let Some(entries) = entries.filter(|_| end <= FRAME + PAGE) else { return Err(NestedMapError::BadAddress) };
        let (mut new, mut leaf) = (0, Self::leaf(frame, rights));
        for entry in entries {
            new += u32::from(entry.compare_exchange(0, leaf, Ordering::AcqRel, Ordering::Relaxed).is_ok());
            leaf += PAGE;
        }
        Ok(new)
    }

    fn unmap<F: Frames>(&mut self, frames: &F, page: u64) -> Option<Translation> {
        let old = self.entry(frames, page)?.swap(0, Ordering::AcqRel);
        self.translation(old)
    }

    fn walk<F: Frames>(&self, frames: &F, address: u64) -> Option<Translation> {
        self.translation(self.entry(frames, address)?.load(Ordering::Relaxed))
    }

    fn table_pages(&self) -> u32 {
        self.pages
    }

    fn free<F: Frames>(self, frames: &mut F) {
        let mut left = self.pages;
        free_below::<E, F>(frames, self.root, ROOT_LEVEL, &mut left);
    }
}

/// Free the table and those below it, of which there are `left` in all; stop looking when none is left.
fn free_below<E: EntryFormat, F: Frames>(frames: &mut F, table: u64, level: u32, left: &mut u32) {
    *left = left.saturating_sub(1);
    if level > 0 {
        for index in 0..512 {
            if *left == 0 {
                break;
            }
            let entry = frames.table(table)[index].load(Ordering::Relaxed);
            if entry & E::PRESENT != 0 {
                free_below::<E, F>(frames, entry & FRAME, level - 1, left);
            }
        }
    }
    frames.free(table);
}

#[cfg(test)]
#[path = "four_level_all_tests.rs"]
mod all_tests;
#[cfg(test)]
#[path = "four_level_tests.rs"]
mod tests;
