//! The address spaces of the machine: the core's half, and the components'.
//!
//! Upper half (shared by all): the direct map of RAM at [`phys::DIRECT_MAP`], device registers at [`MMIO_WINDOW`], the
//! core's image at its link address. Lower half: a component's own, empty in the core's own space.
//!
//! W^X holds for every leaf: [`MapFlags`] with write and execute is refused, the direct map is never executable, and
//! where it shows the core's text and constants it is read-only. [`KernelSpace::audit`] walks the tables and proves it.

use super::frames::{Frames, Owner};
use super::phys::{self, PhysAddr};
use super::tables::{DirectMap, Leaf, MapError, MapFlags, Size, TableMemory, Tables};
use crate::boot::CoreImage;
use abi::limits::PAGE_SIZE;
use core::ptr::NonNull;

/// Device registers of the core, mapped uncached from here upwards, each with an unmapped page behind it.
pub const MMIO_WINDOW: u64 = 0xffff_fe00_0000_0000;
const MMIO_WINDOW_END: u64 = 0xffff_fe80_0000_0000;
/// First topmost entry of the shared half.
const UPPER_HALF: usize = 256;
/// First address that no component can have.
pub const LOWER_HALF_END: u64 = 0x0000_8000_0000_0000;

/// The core's own address space: the upper half that all others share.
#[derive(Debug)]
pub struct KernelSpace {
    tables: Tables<DirectMap>,
    mmio_next: u64,
    image: CoreImage,
}

/// A piece of physical memory that the direct map shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First byte, page-aligned.
    pub start: u64,
    /// First byte behind it, page-aligned.
    pub end: u64,
}

impl KernelSpace {
    /// Builds the final tables. `pieces` are what the direct map shows, in ascending order, without overlaps; `huge` says
    /// that the processor has 1 GiB pages. Nothing is switched yet.
    ///
    /// # Errors
    /// [`MapError`] when frames run out or the pieces overlap.
    pub fn new(frames: &mut Frames, image: CoreImage, pieces: &[Piece], huge: bool) -> Result<KernelSpace, MapError> {
        let mut tables = Tables::new(frames, DirectMap, Owner::Core).ok_or(MapError::NoFrames)?;
        let largest = if huge { Size::Huge } else { Size::Large };
        map_core(&mut tables, frames, &image, pieces, largest)?;
        let mut space = KernelSpace { tables, mmio_next: MMIO_WINDOW, image };
        // The topmost entry of the window exists before it is shared, so that later mappings are seen everywhere.
        space.tables.map(frames, MMIO_WINDOW, PhysAddr::new(0), Size::Small, MapFlags::default())?;
        space.tables.unmap(MMIO_WINDOW);
        Ok(space)
    }

    /// Loads the tables. The early tables, and with them the identity map and the boot code, are gone.
    ///
    /// # Safety
    /// The code, the stack and all references in use lie in the image, at [`phys::DIRECT_MAP`] in one of the pieces, or
    /// nowhere.
    pub unsafe fn activate(&self) {
        // SAFETY: by this function's contract everything in use is mapped alike in the new tables.
        unsafe { x86::controlregs::cr3_write(self.root().as_u64()) };
    }

    /// The topmost table.
    pub fn root(&self) -> PhysAddr {
        self.tables.root()
    }

    /// Maps device registers uncached and returns where they are; `None` when the window or the frames are used up. They
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
        NonNull::new(core::ptr::with_exposed_provenance_mut(phys::index(address + offset)))
    }

    /// The leaf at an address of the core.
    pub fn walk(&self, address: u64) -> Option<Leaf> {
        self.tables.walk(address)
    }

    /// Checks the core's half.
    pub fn audit(&self) -> WxReport {
        let mut report = audit(&self.tables);
        // Nothing executable may be written through another address, either.
        let mut address = self.image.text_start;
        while address < self.image.rodata_end {
            let alias = phys::DIRECT_MAP + (address - phys::IMAGE_OFFSET);
            if self.walk(alias).is_some_and(|leaf| leaf.write) {
                report.writable_aliases += 1;
                report.first_bad.get_or_insert(alias);
            }
            address += PAGE_SIZE;
        }
        report
    }
}

/// Image and direct map.
fn map_core<M: TableMemory>(
    tables: &mut Tables<M>,
    frames: &mut Frames,
    image: &CoreImage,
    pieces: &[Piece],
    largest: Size,
) -> Result<(), MapError> {
    let read = MapFlags { global: true, ..MapFlags::default() };
    let write = MapFlags { write: true, ..read };
    let execute = MapFlags { execute: true, ..read };
    for (start, end, flags) in [
        (image.text_start, image.text_end, execute),
        (image.text_end, image.rodata_end, read),
        (image.rodata_end, image.stack_guard, write),
        (image.stack_guard + PAGE_SIZE, image.end, write),
    ] {
        let frame = PhysAddr::new(start - phys::IMAGE_OFFSET);
        tables.map_range(frames, start, frame, end - start, Size::Small, flags)?;
    }
    let (constant, constant_end) = (image.text_start - phys::IMAGE_OFFSET, image.rodata_end - phys::IMAGE_OFFSET);
    for piece in pieces {
        for (start, end, flags) in [
            (piece.start, piece.end.min(constant), write),
            (piece.start.max(constant), piece.end.min(constant_end), read),
            (piece.start.max(constant_end), piece.end, write),
        ] {
            if start < end {
                let at = PhysAddr::new(start);
                tables.map_range(frames, phys::DIRECT_MAP + start, at, end - start, largest, flags)?;
            }
        }
    }
    Ok(())
}

/// An address space of a component: its own lower half, the core's upper half.
#[derive(Debug)]
pub struct AddressSpace {
    tables: Tables<DirectMap>,
}

impl AddressSpace {
    /// An empty lower half; its tables belong to `owner`. `None` when there is no frame.
    pub fn new(frames: &mut Frames, kernel: &KernelSpace, owner: Owner) -> Option<AddressSpace> {
        let mut tables = Tables::new(frames, DirectMap, owner)?;
        tables.share_from(&kernel.tables, UPPER_HALF);
        Some(AddressSpace { tables })
    }

    /// The topmost table, for CR3.
    #[inline]
    pub fn root(&self) -> PhysAddr {
        self.tables.root()
    }

    /// Maps one page. The frame's owner is the caller's affair.
    ///
    /// # Errors
    /// [`MapError`].
    #[inline(always)]
    pub fn map(&mut self, frames: &mut Frames, at: u64, frame: PhysAddr, flags: MapFlags) -> Result<(), MapError> {
        if at >= LOWER_HALF_END || flags.global {
            return Err(MapError::BadAddress);
        }
        self.tables.map(frames, at, frame, Size::Small, flags)
    }

    /// Removes the page at `at` and returns its frame. When the space is, or was, loaded with a PCID the caller
    /// invalidates the TLB.
    pub fn unmap(&mut self, at: u64) -> Option<PhysAddr> {
        if at >= LOWER_HALF_END { None } else { self.tables.unmap(at) }
    }

    /// The page of the lower half that `at` lies in.
    #[cfg(test)]
    pub fn walk(&self, at: u64) -> Option<Leaf> {
        if at >= LOWER_HALF_END { None } else { self.tables.walk(at) }
    }

    /// Returns the tables to the frame table; what they mapped stays with its owner. The space must not be loaded.
    pub fn destroy(self, frames: &mut Frames) {
        self.tables.free_tables(frames, UPPER_HALF);
    }

    /// Checks this space, the shared half included.
    pub fn audit(&self) -> WxReport {
        audit(&self.tables)
    }

    /// Maps one page writable and executable, past the check: `selftest=wx` shows with it that the audit finds such a page.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn map_bad_for_selftest(&mut self, frames: &mut Frames, at: u64, frame: PhysAddr) -> Result<(), MapError> {
        let flags = MapFlags { write: true, execute: true, user: true, ..MapFlags::default() };
        self.tables.map_unchecked(frames, at, frame, Size::Small, flags)
    }
}

/// What an audit found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WxReport {
    /// Leaves that were looked at.
    pub leaves: u64,
    /// Leaves that are writable and executable.
    pub writable_executable: u64,
    /// Pages of the core's text and constants that another address makes writable.
    pub writable_aliases: u64,
    /// Leaves that are executable.
    pub executable: u64,
    /// Address of the first bad one.
    pub first_bad: Option<u64>,
}

impl WxReport {
    /// True when nothing bad was found.
    pub fn is_clean(&self) -> bool {
        self.first_bad.is_none() && self.writable_executable == 0 && self.writable_aliases == 0
    }
}

impl core::fmt::Display for WxReport {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (bad, leaves) = (self.writable_executable, self.leaves);
        write!(f, "W^X: {bad} of {leaves} leaf mappings are writable and executable")?;
        if self.writable_aliases > 0 {
            write!(f, ", {} pages of text or constants have a writable alias", self.writable_aliases)?;
        }
        self.first_bad.map_or(Ok(()), |at| write!(f, ", the first at {at:#x}"))
    }
}

pub(super) fn audit<M: TableMemory>(tables: &Tables<M>) -> WxReport {
    let mut report = WxReport::default();
    tables.for_each_leaf(|leaf| {
        report.leaves += 1;
        report.executable += u64::from(leaf.execute);
        if leaf.write && leaf.execute {
            report.writable_executable += 1;
            report.first_bad.get_or_insert(leaf.address);
        }
    });
    report
}
