//! The address spaces of the machine: the core's half, and the components'.
//!
//! Upper half (shared by all): the direct map of RAM at [`phys::DIRECT_MAP`], device registers at `MMIO_WINDOW` of the loader, which builds it, the
//! core's image at its link address. Lower half: a component's own, empty in the core's own space.
//!
//! W^X holds for every leaf: [`MapFlags`] with write and execute is refused, the direct map is never executable, and
//! where it shows the core's text and constants it is read-only. [`KernelSpace::audit`] walks the tables and proves it.

use super::core_image::CoreImage;
use super::frames::{Frames, Owner};
use super::phys::{self, PhysAddr};
use super::tables::{DirectMap, Leaf, MapError, MapFlags, Size, TableMemory, Tables};
use abi::limits::PAGE_SIZE;
use abi::log::WxReport;

/// First topmost entry of the shared half.
const UPPER_HALF: usize = 256;
/// First address that no component can have.
pub const LOWER_HALF_END: u64 = 0x0000_8000_0000_0000;

/// The core's own address space: the upper half that all others share.
#[derive(Debug)]
pub struct KernelSpace {
    tables: Tables<DirectMap>,
    image: CoreImage,
}

impl KernelSpace {
    /// The space whose topmost table is `root`.
    ///
    /// # Safety
    /// As [`Tables::adopt`]; and `image` is what is mapped of the core there.
    pub unsafe fn adopt(root: PhysAddr, image: CoreImage) -> KernelSpace {
        // SAFETY: upheld by the caller.
        KernelSpace { tables: unsafe { Tables::adopt(root, DirectMap, Owner::Core) }, image }
    }

    /// The topmost table.
    pub fn root(&self) -> PhysAddr {
        self.tables.root()
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
            let alias = phys::DIRECT_MAP + self.image.physical_of(address);
            if self.walk(alias).is_some_and(|leaf| leaf.write) {
                report.writable_aliases += 1;
                report.first_bad.get_or_insert(alias);
            }
            address += PAGE_SIZE;
        }
        report
    }
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
    #[cfg(any(test, feature = "fake"))]
    pub fn walk(&self, at: u64) -> Option<Leaf> {
        if at >= LOWER_HALF_END { None } else { self.tables.walk(at) }
    }

    /// Checks this space, the shared half included.
    pub fn audit(&self) -> WxReport {
        audit(&self.tables)
    }
}

#[cfg(any(test, feature = "selftest"))]
#[path = "scratch.rs"]
mod scratch;

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
