//! x86-64 page tables (SDM vol. 3, section 4.5): map, unmap, walk, over any memory that holds them.
//!
//! Tables come from the frame table, so what is written here is never freed by accident; leaves belong to the caller.

use super::frames::{Frames, Owner};
use super::phys::{PhysAddr, index};
use abi::limits::PAGE_SIZE;

/// Entries in a table.
pub const ENTRIES: usize = 512;
/// A table.
pub type Table = [u64; ENTRIES];

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
/// PWT and PCD: with the PAT as it is after reset this selects "uncacheable".
const UNCACHED: u64 = 1 << 3 | 1 << 4;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// What a mapping permits. Nothing but reading by the core unless it says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapFlags {
    /// May be written.
    pub write: bool,
    /// May be executed. Never together with `write`.
    pub execute: bool,
    /// Reached from ring 3.
    pub user: bool,
    /// Device registers: not cached.
    pub uncached: bool,
    /// The same in every address space.
    pub global: bool,
}

impl MapFlags {
    fn bits(self) -> u64 {
        let bit = |on: bool, bits: u64| if on { bits } else { 0 };
        PRESENT
            | bit(self.write, WRITE)
            | bit(self.user, USER)
            | bit(self.uncached, UNCACHED)
            | bit(self.global, GLOBAL)
            | bit(!self.execute, NO_EXECUTE)
    }
}

/// Why something was not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// No frame for a table.
    NoFrames,
    /// Writable and executable at once.
    WritableExecutable,
    /// The address is not aligned, or not in this address space's half.
    BadAddress,
    /// Something is mapped there.
    Occupied,
}

impl core::fmt::Display for MapError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            MapError::NoFrames => "no free frame for a page table",
            MapError::WritableExecutable => "a page must not be writable and executable",
            MapError::BadAddress => "the address is not aligned or not in this half of the address space",
            MapError::Occupied => "something is mapped there",
        })
    }
}

/// How large a leaf is; as a number the level of the table that holds it, 0 for the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
#[repr(u32)]
pub enum Size {
    /// 4 KiB.
    Small,
    /// 2 MiB.
    Large,
    /// 1 GiB.
    Huge,
}

impl Size {
    /// Bytes.
    pub const fn bytes(self) -> u64 {
        PAGE_SIZE << (9 * self.level())
    }

    const fn level(self) -> u32 {
        self as u32
    }
}

/// A leaf as [`Tables::walk`] and [`Tables::for_each_leaf`] find it; permissions are those of the whole way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Linear address of its first byte.
    pub address: u64,
    /// Physical address of its first byte.
    pub frame: PhysAddr,
    /// Bytes.
    pub bytes: u64,
    /// Effective permission.
    pub write: bool,
    /// Effective permission.
    pub execute: bool,
    /// Effective permission.
    pub user: bool,
}

/// How tables are reached: the direct map on the machine, an array in host tests.
pub trait TableMemory: Copy {
    /// Where the table in this frame lies.
    fn table(self, frame: PhysAddr) -> *mut Table;
}

/// Tables in RAM, seen through the direct map.
#[derive(Clone, Copy, Debug)]
pub struct DirectMap;

impl TableMemory for DirectMap {
    #[inline]
    fn table(self, frame: PhysAddr) -> *mut Table {
        frame.as_ptr()
    }
}

/// A tree of page tables. Not to be copied: whoever holds it is the only one who changes it.
#[derive(Debug)]
pub struct Tables<M: TableMemory> {
    root: PhysAddr,
    memory: M,
    owner: Owner,
}

/// Index of `address` in the table of `level`.
const fn slot(address: u64, level: u32) -> usize {
    index(address >> (12 + 9 * level) & 511)
}

/// Canonical form: bit 47 repeated upwards.
const fn canonical(address: u64) -> u64 {
    if address & 1 << 47 != 0 { address | 0xffff_0000_0000_0000 } else { address }
}

impl<M: TableMemory> Tables<M> {
    /// An empty tree whose tables will belong to `owner`. `None` when there is no frame.
    pub fn new(frames: &mut Frames, memory: M, owner: Owner) -> Option<Self> {
        let root = new_table(frames, memory, owner)?;
        Some(Tables { root, memory, owner })
    }

    /// The tree below the topmost table `root`.
    ///
    /// # Safety
    /// It is one, `memory` reaches all its tables, they belong to `owner`, and nobody else changes them from now on.
    pub unsafe fn adopt(root: PhysAddr, memory: M, owner: Owner) -> Self {
        Tables { root, memory, owner }
    }

    /// The topmost table, for CR3.
    #[inline]
    pub fn root(&self) -> PhysAddr {
        self.root
    }

    /// How the tables are reached.
    #[cfg(test)]
    pub(super) fn memory(&self) -> M {
        self.memory
    }

    fn entry(&self, table: PhysAddr, slot: usize) -> u64 {
        // SAFETY: `table` is the root or was taken from a present non-leaf entry, so it is a table of this tree, which
        // lives as long as `self`; `slot` is below 512.
        unsafe { (*self.memory.table(table))[slot] }
    }

    fn set(&mut self, table: PhysAddr, slot: usize, value: u64) {
        // SAFETY: as in `entry`; `&mut self` is the only handle to the tree.
        unsafe { (*self.memory.table(table))[slot] = value };
    }

    /// Maps one leaf. `address` and `frame` are aligned to its size. (Inlined, since with a size that is known the walk
    /// shrinks by half: nine times in each creation of a VM with a NIC.)
    #[inline(always)]
    pub fn map(
        &mut self,
        frames: &mut Frames,
        address: u64,
        frame: PhysAddr,
        size: Size,
        flags: MapFlags,
    ) -> Result<(), MapError> {
        if flags.write && flags.execute {
            return Err(MapError::WritableExecutable);
        }
        self.map_unchecked(frames, address, frame, size, flags)
    }

    /// As [`Tables::map`] without the check for writable and executable: only `selftest=wx` may call it.
    #[inline(always)]
    pub(super) fn map_unchecked(
        &mut self,
        frames: &mut Frames,
        address: u64,
        frame: PhysAddr,
        size: Size,
        flags: MapFlags,
    ) -> Result<(), MapError> {
        if (address | frame.as_u64()) & (size.bytes() - 1) != 0
            || canonical(address) != address
            || frame.as_u64() & !ADDRESS != 0
        {
            return Err(MapError::BadAddress);
        }
        let mut table = self.root;
        for level in (size.level() + 1..4).rev() {
            let entry = self.entry(table, slot(address, level));
            table = if entry & PRESENT == 0 {
                let below = new_table(frames, self.memory, self.owner).ok_or(MapError::NoFrames)?;
                // The leaf decides; the way down only must not forbid.
                let user = if flags.user { USER } else { 0 };
                self.set(table, slot(address, level), below.as_u64() | PRESENT | WRITE | user);
                below
            } else if entry & LARGE != 0 {
                return Err(MapError::Occupied);
            } else {
                PhysAddr::new(entry & ADDRESS)
            };
        }
        let at = slot(address, size.level());
        if self.entry(table, at) & PRESENT != 0 {
            return Err(MapError::Occupied);
        }
        let large = if size == Size::Small { 0 } else { LARGE };
        self.set(table, at, frame.as_u64() | flags.bits() | large);
        Ok(())
    }

    /// Removes the 4 KiB leaf at `address` and returns its frame; the tables stay. The caller invalidates the TLB.
    pub fn unmap(&mut self, address: u64) -> Option<PhysAddr> {
        let mut table = self.root;
        for level in (1..4).rev() {
            let entry = self.entry(table, slot(address, level));
            if entry & PRESENT == 0 || entry & LARGE != 0 {
                return None;
            }
            table = PhysAddr::new(entry & ADDRESS);
        }
        let entry = self.entry(table, slot(address, 0));
        self.set(table, slot(address, 0), 0);
        (entry & PRESENT != 0).then_some(PhysAddr::new(entry & ADDRESS))
    }

    /// The leaf that `address` lies in.
    pub fn walk(&self, address: u64) -> Option<Leaf> {
        if canonical(address) != address {
            return None;
        }
        let (mut table, mut allow, mut forbid) = (self.root, WRITE | USER, 0);
        for level in (0..4).rev() {
            let entry = self.entry(table, slot(address, level));
            if entry & PRESENT == 0 {
                return None;
            }
            allow &= entry;
            forbid |= entry & NO_EXECUTE;
            if level == 0 || entry & LARGE != 0 {
                return Some(leaf(address, level, entry, allow, forbid));
            }
            table = PhysAddr::new(entry & ADDRESS);
        }
        None
    }

    /// Calls `visit` for each leaf, in ascending order of addresses.
    pub fn for_each_leaf(&self, mut visit: impl FnMut(Leaf)) {
        self.visit(self.root, 3, 0, WRITE | USER, 0, &mut visit);
    }

    fn visit(&self, table: PhysAddr, level: u32, base: u64, allow: u64, forbid: u64, visit: &mut dyn FnMut(Leaf)) {
        let mut address = base;
        for at in 0..ENTRIES {
            let entry = self.entry(table, at);
            if entry & PRESENT != 0 {
                let (allow, forbid) = (allow & entry, forbid | entry & NO_EXECUTE);
                if level == 0 || entry & LARGE != 0 {
                    visit(leaf(canonical(address), level, entry, allow, forbid));
                } else {
                    self.visit(PhysAddr::new(entry & ADDRESS), level - 1, address, allow, forbid, visit);
                }
            }
            address += PAGE_SIZE << (9 * level);
        }
    }

    /// Copies the topmost entries `first..` of `other`: the two trees share what lies below them.
    pub fn share_from(&mut self, other: &Tables<M>, first: usize) {
        for at in first..ENTRIES {
            let entry = other.entry(other.root, at);
            self.set(self.root, at, entry);
        }
    }
}

#[cfg(any(test, feature = "selftest"))]
#[path = "gone.rs"]
mod gone;
#[cfg(any(test, feature = "boot"))]
#[path = "ranges.rs"]
mod ranges;

fn leaf(address: u64, level: u32, entry: u64, allow: u64, forbid: u64) -> Leaf {
    let bytes = PAGE_SIZE << (9 * level);
    Leaf {
        address: address & !(bytes - 1),
        frame: PhysAddr::new(entry & ADDRESS & !(bytes - 1)),
        bytes,
        write: allow & WRITE != 0,
        execute: forbid == 0,
        user: allow & USER != 0,
    }
}

fn new_table<M: TableMemory>(frames: &mut Frames, memory: M, owner: Owner) -> Option<PhysAddr> {
    let frame = frames.alloc(owner, 0)?;
    // SAFETY: the frame was free until now, so nobody else refers to it, and `memory` reaches every frame of `frames`.
    unsafe { (*memory.table(frame)).fill(0) };
    Some(frame)
}
