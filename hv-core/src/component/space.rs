//! A component's address space, and the memory behind it: one block of frames that is its own for good, so that a restart
//! can fail for no lack of memory.

use crate::boot::elf::Elf;
use crate::memory::phys::index;
use crate::memory::{AddressSpace, Frames, KernelSpace, MapError, MapFlags, Owner, PhysAddr, core_memory};
use abi::component::layout;
use abi::limits::PAGE_SIZE;
use abi::nic::WINDOW_STRIDE;
use abi::vm::Seat;
use ring::SharedMemory;

/// CR3 bit 63: keep the translations of this PCID (SDM vol. 3, section 4.10.4.1).
const KEEP_TRANSLATIONS: u64 = 1 << 63;

/// An address space of a component.
pub struct Space {
    tables: AddressSpace,
    /// What CR3 is loaded with: the root, and the PCID where the CPU has them.
    cr3: u64,
    /// The same, with translations kept where the CPU has PCIDs.
    cr3_keep: u64,
    /// Translations that the CPU remembers may be out of date.
    stale: bool,
    /// Image, then stack.
    block: SharedMemory,
}

impl Space {
    /// The address space of a component with this rank: the segments of `elf`, `stack_pages` of stack, over a block of
    /// `memory_pages + stack_pages` frames. Nothing is written yet.
    ///
    /// # Errors
    /// [`MapError::NoFrames`]; others would be a bug of the loader's checks.
    pub fn new(
        frames: &mut Frames,
        kernel: &KernelSpace,
        owner: Owner,
        pcid: Option<u16>,
        elf: &Elf,
        memory_pages: u64,
        stack_pages: u64,
    ) -> Result<Space, MapError> {
        let block_pages = memory_pages + stack_pages;
        let first = frames.alloc_contiguous(block_pages, 1, u64::MAX, owner).ok_or(MapError::NoFrames)?;
        let tables = AddressSpace::new(frames, kernel, owner).ok_or(MapError::NoFrames)?;
        let cr3 = tables.root().as_u64() | pcid.map_or(0, u64::from);
        let block = core_memory(first, block_pages * PAGE_SIZE);
        let cr3_keep = if pcid.is_some() { cr3 | KEEP_TRANSLATIONS } else { cr3 };
        let mut space = Space { tables, cr3, cr3_keep, stale: true, block };
        for segment in &elf.segments {
            let flags = MapFlags { write: segment.write, execute: segment.execute, user: true, ..MapFlags::default() };
            for page in 0..segment.pages() {
                let at = segment.address + page * PAGE_SIZE;
                space.map(frames, at, first.offset(at - layout::IMAGE_BASE), flags)?;
            }
        }
        for page in 0..stack_pages {
            let at = layout::STACK_TOP - (stack_pages - page) * PAGE_SIZE;
            space.map(frames, at, first.offset((memory_pages + page) * PAGE_SIZE), Self::DATA)?;
        }
        Ok(space)
    }

    /// Flags of data.
    pub const DATA: MapFlags = MapFlags { write: true, execute: false, user: true, uncached: false, global: false };
    /// Flags of what the component may only read.
    pub const READ_ONLY: MapFlags =
        MapFlags { write: false, execute: false, user: true, uncached: false, global: false };
    /// Flags of device registers.
    pub const DEVICE: MapFlags = MapFlags { write: true, execute: false, user: true, uncached: true, global: false };

    /// Map one page.
    ///
    /// # Errors
    /// [`MapError`].
    #[inline(always)]
    pub fn map(&mut self, frames: &mut Frames, at: u64, frame: PhysAddr, flags: MapFlags) -> Result<(), MapError> {
        self.tables.map(frames, at, frame, flags)
    }

    /// Map consecutive frames.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn map_range(
        &mut self,
        frames: &mut Frames,
        at: u64,
        first: PhysAddr,
        bytes: u64,
        flags: MapFlags,
    ) -> Result<(), MapError> {
        for offset in (0..bytes).step_by(index(PAGE_SIZE)) {
            self.map(frames, at + offset, first.offset(offset), flags)?;
        }
        Ok(())
    }

    /// The component's image and stack.
    pub fn block(&self) -> &SharedMemory {
        &self.block
    }

    /// The page tables, for the audit.
    pub fn tables(&self) -> &AddressSpace {
        &self.tables
    }

    /// True when the space must be loaded before the component runs, though it is the one that ran last.
    #[inline]
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// What CR3 is to be loaded with now. Once that is done, the CPU remembers nothing that is out of date.
    #[inline]
    #[must_use]
    pub fn take_cr3(&mut self) -> u64 {
        let cr3 = if self.stale { self.cr3 } else { self.cr3_keep };
        self.stale = false;
        cr3
    }

    /// Map page `page` of the NIC of the VM in `seat` into the window. False when there is no frame for a table.
    pub fn map_nic(&mut self, frames: &mut Frames, seat: Seat, page: u64, frame: PhysAddr) -> bool {
        let at = window(seat, page);
        match self.map(frames, at, frame, Self::DATA) {
            Ok(()) => true,
            Err(MapError::Occupied) => {
                self.unmap_nic(seat, page);
                self.map(frames, at, frame, Self::DATA).is_ok()
            }
            Err(_) => false,
        }
    }

    /// Take page `page` of the NIC of the VM in `seat` out of the window.
    pub fn unmap_nic(&mut self, seat: Seat, page: u64) {
        if self.tables.unmap(window(seat, page)).is_some() {
            self.stale = true;
        }
    }
}

fn window(seat: Seat, page: u64) -> u64 {
    layout::VM_WINDOW + u64::from(seat.number()) * WINDOW_STRIDE + page * PAGE_SIZE
}
