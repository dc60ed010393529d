//! The VMs that are alive, by slot.

use crate::policy::Oddity;
use abi::limits::{MAX_IMAGES, MAX_VMS, PAGE_SIZE, VM_MEMORY_MAX};
use abi::vm::{ImageId, VmId};

/// What the pager knows of one VM.
// Sixteen bytes: to find one is a shift.
#[repr(align(16))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vm {
    /// Pages of memory; 0 when nobody lives in the slot.
    pub pages: u32,
    generation: u32,
    /// Its image, below [`MAX_IMAGES`].
    pub image: u8,
    refused: bool,
}

const _: () = assert!(MAX_IMAGES <= 256 && core::mem::size_of::<Vm>() == 16);

impl Vm {
    const NOBODY: Vm = Vm { pages: 0, generation: 0, image: 0, refused: false };

    /// Whether it was refused a page: it gets no others.
    pub fn refused(&self) -> bool {
        self.refused
    }
}

/// Pages that a VM has at most.
const PAGES_MAX: u64 = VM_MEMORY_MAX / PAGE_SIZE;

/// The table of VMs, indexed by slot: sixteen bytes for each.
#[derive(Debug)]
pub struct Vms {
    slots: [Vm; MAX_VMS],
    /// No slot from this index on was written since the table was cleared.
    used: usize,
}

impl Vms {
    /// No VMs. All zeros, so that the table takes no room in the image.
    pub const fn new() -> Self {
        Vms { slots: [Vm::NOBODY; MAX_VMS], used: 0 }
    }

    /// Forgets all VMs.
    pub fn clear(&mut self) {
        // Not all of them: on a slow machine that takes longer than a pager may run.
        self.slots[..self.used].fill(Vm::NOBODY);
        self.used = 0;
    }

    /// `vm` lives, in the place of whoever lived in its slot.
    ///
    /// # Errors
    ///
    /// [`Oddity::BadVm`] for a slot, an image or a size beyond the limits.
    pub fn start(&mut self, vm: VmId, image: ImageId, pages: u32) -> Result<(), Oddity> {
        let bad = Oddity::BadVm(vm);
        let slot = self.slots.get_mut(vm.slot.index()).ok_or(bad)?;
        let image = u8::try_from(image.number()).ok().filter(|&image| usize::from(image) < MAX_IMAGES).ok_or(bad)?;
        if u64::from(pages) > PAGES_MAX {
            return Err(bad);
        }
        *slot = Vm { pages, generation: vm.generation, image, refused: false };
        self.used = self.used.max(vm.slot.index() + 1);
        Ok(())
    }

    /// `vm` is gone. Nothing happens when it was not there.
    pub fn end(&mut self, vm: VmId) {
        if let Some(slot) = self.slots.get_mut(vm.slot.index())
            && slot.generation == vm.generation
        {
            slot.pages = 0;
        }
    }

    /// `vm` is refused a page. False when it is not alive.
    pub fn refuse(&mut self, vm: VmId) -> bool {
        let alive = self.get(vm).is_some();
        if let Some(slot) = self.slots.get_mut(vm.slot.index()).filter(|_| alive) {
            slot.refused = true;
        }
        alive
    }

    /// `vm`, when it is alive.
    #[inline]
    pub fn get(&self, vm: VmId) -> Option<&Vm> {
        self.slots.get(vm.slot.index()).filter(|slot| slot.generation == vm.generation && slot.pages != 0)
    }
}

impl Default for Vms {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VM: VmId = VmId::new(7, 2);

    #[test]
    fn a_late_message_does_not_reach_the_successor() {
        let mut vms = Vms::new();
        vms.start(VM, ImageId::new(1), 256).expect("good");
        assert_eq!(vms.get(VM).map(|vm| (vm.pages, vm.image)), Some((256, 1)));
        let successor = VmId { generation: 3, ..VM };
        vms.start(successor, ImageId::new(2), 512).expect("good");
        vms.end(VM);
        assert!(vms.get(VM).is_none());
        assert!(vms.get(successor).is_some());
        vms.end(successor);
        assert!(vms.get(successor).is_none());
    }

    #[test]
    fn to_forget_all_takes_no_longer_than_there_were_vms() {
        let mut vms = Vms::new();
        let others = [VmId::new(0, 1), VM];
        let _ = others.map(|vm| vms.start(vm, ImageId::new(1), 9).expect("good"));
        // Beyond the last, where nothing was started, it does not look.
        vms.slots[8].pages = 3;
        vms.clear();
        assert!(others.into_iter().all(|vm| vms.get(vm).is_none()));
        assert_eq!(vms.slots[8].pages, 3);
    }

    #[test]
    fn who_was_refused_stays_so_but_not_its_successor() {
        let mut vms = Vms::new();
        assert!(!vms.refuse(VM));
        vms.start(VM, ImageId::new(0), 9).expect("good");
        assert!(!vms.get(VM).expect("alive").refused());
        assert!(vms.refuse(VM));
        assert!(vms.get(VM).expect("alive").refused());
        vms.start(VmId { generation: 3, ..VM }, ImageId::new(0), 9).expect("good");
        assert!(!vms.get(VmId { generation: 3, ..VM }).expect("alive").refused());
    }

    #[test]
    fn beyond_the_limits() {
        let mut vms = Vms::new();
        let far = VmId::new(16_384, 1);
        assert_eq!(vms.start(far, ImageId::new(0), 1), Err(Oddity::BadVm(far)));
        assert_eq!(vms.start(VM, ImageId::new(16), 1), Err(Oddity::BadVm(VM)));
        assert_eq!(vms.start(VM, ImageId::new(0x100), 1), Err(Oddity::BadVm(VM)));
        assert_eq!(vms.start(VM, ImageId::new(0), 262_145), Err(Oddity::BadVm(VM)));
        assert!(vms.get(far).is_none() && vms.get(VM).is_none());
        assert_eq!(vms.start(VM, ImageId::new(15), 262_144), Ok(()), "the last of each within the limits");
        vms.end(far);
    }
}
