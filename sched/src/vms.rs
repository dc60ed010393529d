//! What a policy knows of the VMs that are admitted, by seat.

use crate::Oddity;
use abi::vm::{Seat, VmId};
use component::{Table, Tables};

/// A VM that was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seated {
    /// Its name.
    pub id: VmId,
    /// Its place in tables.
    pub seat: Seat,
}

/// Who is known in a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nobody.
    Nobody,
    /// The VM that was asked for.
    Same,
    /// Another one; if that is gone, nobody has said so.
    Other,
}

/// What is kept of each VM.
#[derive(Debug)]
pub struct Vms<T: 'static>(Table<Entry<T>>);

#[derive(Clone, Copy, Debug, Default)]
struct Entry<T> {
    /// Of generation 0 for nobody.
    id: VmId,
    what: T,
}

impl<T: Copy + Default> Vms<T> {
    /// What the table takes of [`abi::note::TableBytes::per_seat`].
    // A few dozen.
    #[allow(clippy::cast_possible_truncation)]
    pub const SEAT_BYTES: u32 = size_of::<Entry<T>>() as u32;

    /// Knows nobody.
    pub fn new(tables: &mut Tables) -> Self {
        Vms(tables.per_seat())
    }

    /// Forgets everybody.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Who is known in the seat of `vm`, and what is kept of it: the default for nobody.
    ///
    /// # Errors
    ///
    /// [`Oddity::BadVm`] for a seat that the machine does not have.
    #[inline]
    pub fn look(&mut self, vm: Seated) -> Result<(Known, T), Oddity> {
        let entry = self.0.reach(vm.seat.index()).ok_or(Oddity::BadVm(vm.id))?;
        let known = if entry.id == vm.id {
            Known::Same
        } else if entry.id.generation == 0 {
            Known::Nobody
        } else {
            Known::Other
        };
        Ok((known, entry.what))
    }

    /// Keeps `what` of `vm`, whoever was known in its seat. Nothing happens when the machine has no such seat.
    #[inline]
    pub fn set(&mut self, vm: Seated, what: T) {
        if let Some(entry) = self.0.reach(vm.seat.index()) {
            *entry = Entry { id: vm.id, what };
        }
    }

    /// Who is known in a seat, and what is kept of it.
    ///
    /// # Panics
    ///
    /// When nobody ever was.
    #[inline]
    pub fn at(&mut self, seat: Seat) -> (VmId, &mut T) {
        let entry = &mut self.0[seat.index()];
        (entry.id, &mut entry.what)
    }

    /// Forgets `vm`. What was kept of it; `None` when it is not known.
    pub fn forget(&mut self, vm: Seated) -> Option<T> {
        let entry = self.0.get_mut(vm.seat.index()).filter(|entry| entry.id == vm.id && vm.id.generation != 0)?;
        Some(core::mem::take(entry).what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::note::TableBytes;

    fn vm(slot: u32, generation: u32, seat: u16) -> Seated {
        Seated { id: VmId::new(slot, generation), seat: Seat::new(seat) }
    }

    #[test]
    fn a_seat_has_one_vm_at_a_time() {
        let bytes = TableBytes { per_slot: 0, per_seat: Vms::<u8>::SEAT_BYTES, ..TableBytes::NONE };
        let mut vms = Vms::<u8>::new(&mut Tables::on_heap(bytes, 0, 4));
        let first = vm(7, 1, 2);
        assert_eq!(vms.look(first), Ok((Known::Nobody, 0)));
        assert_eq!(vms.forget(vm(0, 0, 2)), None, "nobody is no VM");
        vms.set(first, 5);
        assert_eq!(vms.look(first), Ok((Known::Same, 5)));
        // Another slot, or the slot's next VM.
        for other in [vm(8, 1, 2), vm(7, 2, 2)] {
            assert_eq!((vms.look(other), vms.forget(other)), (Ok((Known::Other, 5)), None));
        }
        *vms.at(first.seat).1 = 6;
        assert_eq!((vms.at(first.seat).0, vms.forget(first), vms.forget(first)), (first.id, Some(6), None));
        assert_eq!(vms.look(vm(1, 1, 4)), Err(Oddity::BadVm(VmId::new(1, 1))));
        vms.set(vm(1, 1, 4), 1);
        vms.set(first, 7);
        vms.clear();
        assert_eq!(vms.look(first), Ok((Known::Nobody, 0)));
    }
}
