//! Builds the page tables of the core's half: its image, the direct map, and device registers at [`MMIO_WINDOW`]. The core takes them
//! over as they are, and walks them to see that nothing is writable and executable.

use crate::core_place::CorePlace;
use crate::map::Piece;
use crate::memory::phys::{DIRECT_MAP, index};
use crate::memory::tables::{DirectMap, Size, Tables};
use crate::memory::{Frames, MapError, MapFlags, Owner, PhysAddr};
use abi::boot::{MMIO_WINDOW, MMIO_WINDOW_END};
use abi::limits::PAGE_SIZE;
use core::ptr::NonNull;

/// The tables, as far as they are.
#[derive(Debug)]
pub struct KernelTables {
    tables: Tables<DirectMap>,
    mmio_next: u64,
}

impl KernelTables {
    /// Builds tables for the core and the direct map. `pieces` are what the direct map shows, in ascending order, without overlaps;
    /// `huge` says that the processor has 1 GiB pages.
    ///
    /// # Errors
    /// [`MapError`] when frames run out or the pieces overlap.
    pub fn new(frames: &mut Frames, core: &CorePlace, pieces: &[Piece], huge: bool) -> Result<KernelTables, MapError> {
        let mut tables = Tables::new(frames, DirectMap, Owner::Core).ok_or(MapError::NoFrames)?;
        let largest = if huge { Size::Huge } else { Size::Large };
        let read = MapFlags { global: true, ..MapFlags::default() };
        let write = MapFlags { write: true, ..read };
        for segment in core.elf.segments.iter().filter(|segment| !segment.hole) {
            let flags = MapFlags { write: segment.write, execute: segment.execute, ..read };
            let (from, bytes) = (core.physical_of(segment.address), segment.pages() * PAGE_SIZE);
            tables.map_range(frames, segment.address, from, bytes, Size::Small, flags)?;
        }
        let constant = core.constant();
        for piece in pieces {
            for (start, end, flags) in [
                (piece.start, piece.end.min(constant.start), write),
                (piece.start.max(constant.start), piece.end.min(constant.end), read),
                (piece.start.max(constant.end), piece.end, write),
            ] {
                if start < end {
                    tables.map_range(frames, DIRECT_MAP + start, PhysAddr::new(start), end - start, largest, flags)?;
                }
            }
        }
        // The topmost entry of the window exists before it is shared.
        tables.map(frames, MMIO_WINDOW, PhysAddr::new(0), Size::Small, MapFlags::default())?;
        tables.unmap(MMIO_WINDOW);
        Ok(KernelTables { tables, mmio_next: MMIO_WINDOW })
    }

    /// The topmost table.
    pub fn root(&self) -> PhysAddr {
        self.tables.root()
    }

    /// Maps device registers uncached and returns where the core sees them; `None` when the window or the frames are used up. They
    /// stay mapped.
    pub fn map_mmio(&mut self, frames: &mut Frames, at: PhysAddr, bytes: u64) -> Option<NonNull<u8>> {
        let offset = at.as_u64() % PAGE_SIZE;
        let first = PhysAddr::new(at.as_u64() - offset);
        let span = offset.checked_add(bytes)?.checked_next_multiple_of(PAGE_SIZE)?;
        let address = self.mmio_next;
        if span > MMIO_WINDOW_END - address {
            return None;
        }
        let flags = MapFlags { write: true, uncached: true, global: true, ..MapFlags::default() };
        self.tables.map_range(frames, address, first, span, Size::Small, flags).ok()?;
        self.mmio_next = address + span + PAGE_SIZE;
        NonNull::new(core::ptr::with_exposed_provenance_mut(index(address + offset)))
    }
}
