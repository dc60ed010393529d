//! A component's address space, and the memory behind it: a block of frames for what it writes, which is its own for good, so that a
//! restart can fail for no lack of memory. Text and constants are mapped where boot has placed them. One that has policies to choose from has a second block, in which the successor's image is
//! made ready while the other one still runs.

use super::policies::Policies;
use super::program::{Place, Program};
use crate::memory::phys::index;
use crate::memory::{AddressSpace, Frames, KernelSpace, MapError, MapFlags, Owner, PhysAddr, core_memory};
use abi::component::layout;
use abi::limits::PAGE_SIZE;
use abi::nic::WINDOW_STRIDE;
use abi::swap::WINDOW_BYTES;
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
    /// Segments that are written, then stack.
    block: Block,
    /// Another such block, for the successor.
    spare: Option<Block>,
    /// Pages of a block that segments take.
    data_pages: u64,
    stack_pages: u64,
}

/// Frames without a gap, and what is in them.
#[derive(Clone, Copy)]
struct Block {
    first: PhysAddr,
    memory: SharedMemory,
}

impl Block {
    fn new(frames: &mut Frames, pages: u64, owner: Owner) -> Result<Self, MapError> {
        let first = frames.alloc_contiguous(pages, 1, u64::MAX, owner).ok_or(MapError::NoFrames)?;
        Ok(Block { first, memory: core_memory(first, pages * PAGE_SIZE) })
    }
}

impl Space {
    /// The address space of a component whose role these policies can fill, with `stack_pages` of stack. Nothing is mapped
    /// of them yet, and nothing is written; but there are tables for whichever is.
    ///
    /// # Errors
    /// [`MapError::NoFrames`]; others would be a bug of the loader's checks.
    pub fn new(
        frames: &mut Frames,
        kernel: &KernelSpace,
        owner: Owner,
        pcid: Option<u16>,
        policies: &Policies,
        stack_pages: u64,
    ) -> Result<Space, MapError> {
        let data_pages = policies.programs().map(Program::data_pages).max().unwrap_or(0);
        let block = Block::new(frames, data_pages + stack_pages, owner)?;
        let to_choose = policies.programs().count() > 1;
        let spare = if to_choose { Some(Block::new(frames, data_pages + stack_pages, owner)?) } else { None };
        let tables = AddressSpace::new(frames, kernel, owner).ok_or(MapError::NoFrames)?;
        let cr3 = tables.root().as_u64() | pcid.map_or(0, u64::from);
        let cr3_keep = if pcid.is_some() { cr3 | KEEP_TRANSLATIONS } else { cr3 };
        let mut space = Space { tables, cr3, cr3_keep, stale: true, block, spare, data_pages, stack_pages };
        for program in policies.programs() {
            space.show(frames, program)?;
            space.hide(program);
        }
        Ok(space)
    }

    /// Map the segments of a program and the stack.
    ///
    /// # Errors
    /// [`MapError`]; after [`Space::new`] none for a program that it was given.
    pub fn show(&mut self, frames: &mut Frames, program: &Program) -> Result<(), MapError> {
        let first = self.block.first;
        for part in &program.parts {
            for page in 0..part.pages {
                let frame = match part.place(page * PAGE_SIZE) {
                    Place::Block(offset) => first.offset(offset),
                    Place::Module(frame) => frame,
                };
                self.map(frames, part.address + page * PAGE_SIZE, frame, part.flags)?;
            }
        }
        for page in 0..self.stack_pages {
            let at = layout::STACK_TOP - (self.stack_pages - page) * PAGE_SIZE;
            self.map(frames, at, first.offset((self.data_pages + page) * PAGE_SIZE), Self::DATA)?;
        }
        Ok(())
    }

    /// Take the segments of a program and the stack out. The tables stay.
    pub fn hide(&mut self, program: &Program) {
        for part in &program.parts {
            for page in 0..part.pages {
                self.tables.unmap(part.address + page * PAGE_SIZE);
            }
        }
        for page in 1..=self.stack_pages {
            self.tables.unmap(layout::STACK_TOP - page * PAGE_SIZE);
        }
        self.stale = true;
    }

    /// The other block is the component's from now on. Nothing of it is mapped yet.
    pub fn change_blocks(&mut self) {
        if let Some(spare) = &mut self.spare {
            core::mem::swap(spare, &mut self.block);
        }
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

    /// What the component writes of its image, and its stack.
    pub fn block(&self) -> &SharedMemory {
        &self.block.memory
    }

    /// Where the successor's image and stack are made ready; `None` where there are no policies to choose from.
    pub fn spare(&self) -> Option<&SharedMemory> {
        self.spare.as_ref().map(|block| &block.memory)
    }

    /// Bytes of a block that segments take; the stack follows.
    pub fn data_bytes(&self) -> u64 {
        self.data_pages * PAGE_SIZE
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

    /// Take one page out. Its frame.
    pub fn unmap(&mut self, at: u64) -> Option<PhysAddr> {
        let frame = self.tables.unmap(at)?;
        self.stale = true;
        Some(frame)
    }

    /// Map a frame as page `index` of window `window` of VMs that go out and come in, to be read or to be written. False when there is no
    /// frame for a table, which is not before the window has been used by boot, or something is there.
    #[must_use]
    pub fn map_out_window(
        &mut self,
        frames: &mut Frames,
        window: usize,
        index: u32,
        frame: PhysAddr,
        write: bool,
    ) -> bool {
        let flags = if write { Self::DATA } else { Self::READ_ONLY };
        self.map(frames, in_window(window, index), frame, flags).is_ok()
    }

    /// Take page `index` of a window out. Its frame.
    pub fn unmap_out_window(&mut self, window: usize, index: u32) -> Option<PhysAddr> {
        self.unmap(in_window(window, index))
    }

    /// Map page `page` of the device of the VM in `seat` that the component serves into the window. False when there is no frame for a table.
    #[must_use]
    pub fn map_window(&mut self, frames: &mut Frames, seat: Seat, page: u64, frame: PhysAddr) -> bool {
        let at = window(seat, page);
        match self.map(frames, at, frame, Self::DATA) {
            Ok(()) => true,
            Err(MapError::Occupied) => {
                self.unmap_window(seat, page);
                self.map(frames, at, frame, Self::DATA).is_ok()
            }
            Err(_) => false,
        }
    }

    /// Take page `page` of the device of the VM in `seat` out of the window.
    pub fn unmap_window(&mut self, seat: Seat, page: u64) {
        if self.tables.unmap(window(seat, page)).is_some() {
            self.stale = true;
        }
    }
}

fn in_window(window: usize, index: u32) -> u64 {
    layout::SWAP_WINDOW + window as u64 * WINDOW_BYTES + u64::from(index) * PAGE_SIZE
}

fn window(seat: Seat, page: u64) -> u64 {
    layout::VM_WINDOW + u64::from(seat.number()) * WINDOW_STRIDE + page * PAGE_SIZE
}
