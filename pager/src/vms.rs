//! The VMs that are alive, by seat.

use crate::policy::Oddity;
use abi::limits::{LIVE_IMAGES, PAGE_SIZE, VM_MEMORY_MAX};
use abi::vm::{ImageId, Seat, VmId};
use component::{Table, Tables};

/// What the pager knows of one VM.
// Sixteen bytes: to find one is a shift.
#[repr(align(16))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vm {
    id: VmId,
    /// Pages of memory; 0 when nobody has the seat.
    pub pages: u32,
    /// Its image, below [`LIVE_IMAGES`].
    pub image: u8,
}

const _: () = assert!(LIVE_IMAGES <= 256 && core::mem::size_of::<Vm>() == 16);

/// Pages that a VM has at most.
const PAGES_MAX: u64 = VM_MEMORY_MAX / PAGE_SIZE;

/// The table of VMs, indexed by seat.
#[derive(Debug)]
pub struct Vms(Table<Vm>);

impl Vms {
    /// What the table takes of [`abi::note::TableBytes::per_seat`].
    // Sixteen.
    #[allow(clippy::cast_possible_truncation)]
    pub const SEAT_BYTES: u32 = core::mem::size_of::<Vm>() as u32;

    /// No VMs.
    pub fn new(tables: &mut Tables) -> Self {
        Vms(tables.per_seat())
    }

    /// Forgets all VMs.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// `vm` lives, in the place of whoever had its seat.
    ///
    /// # Errors
    ///
    /// [`Oddity::BadVm`] for a seat that the machine does not have, and for an image or a size beyond the limits.
    pub fn start(&mut self, vm: VmId, seat: Seat, image: ImageId, pages: u32) -> Result<(), Oddity> {
        let bad = Oddity::BadVm(vm);
        let image = u8::try_from(image.number()).ok().filter(|&image| usize::from(image) < LIVE_IMAGES).ok_or(bad)?;
        if u64::from(pages) > PAGES_MAX {
            return Err(bad);
        }
        *self.0.reach(seat.index()).ok_or(bad)? = Vm { id: vm, pages, image };
        Ok(())
    }

    /// `vm` is gone. Nothing happens when it was not there.
    pub fn end(&mut self, vm: VmId, seat: Seat) {
        if let Some(entry) = self.get_mut(vm, seat) {
            entry.pages = 0;
        }
    }

    /// `vm`, when it is alive.
    #[inline]
    pub fn get(&self, vm: VmId, seat: Seat) -> Option<&Vm> {
        self.0.get(seat.index()).filter(|entry| entry.id == vm && entry.pages != 0)
    }

    fn get_mut(&mut self, vm: VmId, seat: Seat) -> Option<&mut Vm> {
        self.0.get_mut(seat.index()).filter(|entry| entry.id == vm && entry.pages != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::note::TableBytes;

    const VM: VmId = VmId::new(7, 2);
    const SEAT: Seat = Seat::new(5);

    fn vms() -> Vms {
        Vms::new(&mut Tables::on_heap(
            TableBytes { per_slot: 0, per_seat: Vms::SEAT_BYTES, ..TableBytes::NONE },
            0,
            100,
        ))
    }

    #[test]
    fn a_late_message_does_not_reach_the_successor() {
        for successor in [VmId { generation: 3, ..VM }, VmId::new(8, 2)] {
            let mut vms = vms();
            vms.start(VM, SEAT, ImageId::new(1), 256).expect("good");
            assert_eq!(vms.get(VM, SEAT).map(|vm| (vm.pages, vm.image)), Some((256, 1)));
            vms.start(successor, SEAT, ImageId::new(2), 512).expect("good");
            vms.end(VM, SEAT);
            assert!(vms.get(VM, SEAT).is_none());
            assert!(vms.get(successor, SEAT).is_some());
            vms.end(successor, SEAT);
            assert!(vms.get(successor, SEAT).is_none());
        }
    }

    #[test]
    fn all_are_forgotten() {
        let mut vms = vms();
        let others = [(VmId::new(0, 1), Seat::new(0)), (VM, SEAT)];
        let _ = others.map(|(vm, seat)| vms.start(vm, seat, ImageId::new(1), 9).expect("good"));
        vms.clear();
        assert!(others.into_iter().all(|(vm, seat)| vms.get(vm, seat).is_none()));
        vms.start(VM, SEAT, ImageId::new(1), 9).expect("good");
        assert!(vms.get(others[0].0, others[0].1).is_none(), "not found again by what comes after it");
    }

    #[test]
    fn beyond_the_limits() {
        let mut vms = vms();
        let far = Seat::new(100);
        assert_eq!(vms.start(VM, far, ImageId::new(0), 1), Err(Oddity::BadVm(VM)));
        assert_eq!(vms.start(VM, SEAT, ImageId::new(48), 1), Err(Oddity::BadVm(VM)));
        assert_eq!(vms.start(VM, SEAT, ImageId::new(0x100), 1), Err(Oddity::BadVm(VM)));
        assert_eq!(vms.start(VM, SEAT, ImageId::new(0), 262_145), Err(Oddity::BadVm(VM)));
        assert!(vms.get(VM, far).is_none() && vms.get(VM, SEAT).is_none());
        assert_eq!(vms.start(VM, SEAT, ImageId::new(47), 262_144), Ok(()), "the last of each within the limits");
        assert_eq!(vms.start(VM, Seat::new(99), ImageId::new(47), 1), Ok(()), "and the last seat");
        vms.end(VM, far);
    }
}
