//! The slots for VMs. A free slot costs eight bytes; what a VM needs beyond that lies in its two metadata frames.

use super::vm::{Seed, Vm};
use crate::memory::PhysAddr;
use crate::memory::phys::index;
use abi::vm::VmId;
use backend::Backend;
use core::marker::PhantomData;

/// One slot.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Frame number of the context frame; 0 while the slot is free.
    context: u32,
    /// Counts the VMs that have lived here.
    incarnation: u16,
}

/// What unused memory holds.
pub const EMPTY_SLOT: Slot = Slot { context: 0, incarnation: 0 };

/// All slots. Owns the context frames of its VMs: nobody else makes a pointer to one.
pub struct Table<B: Backend> {
    slots: &'static mut [Slot],
    /// Slots below this index may be used; a hint where to look for a free one.
    hint: usize,
    living: usize,
    vms: PhantomData<Vm<B>>,
}

impl<B: Backend> Table<B> {
    /// A table without a VM.
    pub fn new(slots: &'static mut [Slot]) -> Self {
        const { assert!(size_of::<Vm<B>>() <= index(abi::limits::PAGE_SIZE), "the context must fit into one frame") };
        const { assert!(align_of::<Vm<B>>() <= index(abi::limits::PAGE_SIZE)) };
        slots.fill(EMPTY_SLOT);
        Table { slots, hint: 0, living: 0, vms: PhantomData }
    }

    /// All slots.
    pub fn slots(&self) -> impl Iterator<Item = u16> + use<B> {
        self.slots_from(0)
    }

    /// The slots from this one on.
    pub fn slots_from(&self, first: u16) -> impl Iterator<Item = u16> + use<B> {
        // No table has more slots than a slot's number can name.
        first..u16::try_from(self.slots.len()).unwrap_or(u16::MAX)
    }

    /// VMs that live.
    pub fn living(&self) -> usize {
        self.living
    }

    /// A free slot and the id that its next VM has.
    pub fn free_slot(&mut self) -> Option<VmId> {
        let count = self.slots.len();
        let index = (0..count).map(|i| (self.hint + i) % count).find(|&i| self.slots[i].context == 0)?;
        self.hint = index;
        let incarnation = match self.slots[index].incarnation.wrapping_add(1) {
            0 => 1,
            next => next,
        };
        Some(VmId { index: u16::try_from(index).ok()?, incarnation })
    }

    /// Put a VM into its slot. `None` when the slot is taken or the frame number does not fit.
    ///
    /// # Safety
    /// `frame` is a frame of zeros in the direct map that belongs to this VM's metadata and to which nothing else points.
    pub unsafe fn insert(&mut self, frame: PhysAddr, seed: Seed) -> Option<&mut Vm<B>> {
        let id = seed.id;
        let slot = self.slots.get_mut(usize::from(id.index))?;
        let number = u32::try_from(frame.frame()).ok().filter(|&number| number != 0)?;
        if slot.context != 0 {
            return None;
        }
        *slot = Slot { context: number, incarnation: id.incarnation };
        self.living += 1;
        let place: *mut Vm<B> = frame.as_ptr();
        // SAFETY: by this function's contract the frame is this table's alone, and it is large and aligned enough (checked
        // in `new`).
        unsafe { Vm::emplace(place, seed) };
        self.get(id.index)
    }

    /// The VM in a slot.
    #[inline]
    pub fn get(&mut self, slot: u16) -> Option<&mut Vm<B>> {
        let slot = self.slots.get(usize::from(slot))?;
        if slot.context == 0 {
            return None;
        }
        let place: *mut Vm<B> = PhysAddr::from_frame(u64::from(slot.context)).as_ptr();
        // SAFETY: `insert` wrote a VM there, `remove` has not been called since, and the borrow of the table makes this the
        // only reference to any of its VMs.
        Some(unsafe { &mut *place })
    }

    /// The VM with this id, if it still lives.
    #[inline]
    pub fn by_id(&mut self, id: VmId) -> Option<&mut Vm<B>> {
        self.get(id.index).filter(|vm| vm.id.raw() == id.raw())
    }

    /// Take the VM out of its slot; its context frame, to which nothing points any more.
    pub fn remove(&mut self, index: u16) -> Option<PhysAddr> {
        let slot = self.slots.get_mut(usize::from(index))?;
        if slot.context == 0 {
            return None;
        }
        let frame = PhysAddr::from_frame(u64::from(slot.context));
        slot.context = 0;
        self.living -= 1;
        self.hint = usize::from(index);
        // SAFETY: as in `get`; the slot is free now, so nobody finds the VM again.
        unsafe { core::ptr::drop_in_place::<Vm<B>>(frame.as_ptr()) };
        Some(frame)
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
