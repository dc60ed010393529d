//! Addresses learnt from DHCP, kept where the demultiplexer's successor finds them: otherwise a VM whose lease runs for
//! hours would be cut off from IPv4 by a restart.

use abi::vm::{Seat, VmId};
use component::{Keep, Table, Tables};
use ring::SharedMemory;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Version of the layout of [`Lease`] in kept memory.
const LAYOUT: u32 = 1;

/// The address of the VM in a seat. All zeros is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
struct Lease {
    slot: u32,
    generation: u32,
    ipv4: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<Lease>() == 16);

/// The leases, by seat.
pub struct Leases {
    table: Table<Lease>,
    keep: Keep<Lease>,
    /// The table is not what was kept last.
    changed: bool,
    /// It was said that not all can be kept.
    warned: bool,
}

impl Leases {
    /// Bytes for each seat in the table, and in each copy of what is kept.
    pub const SEAT_BYTES: u32 = 16;

    /// Those that a predecessor has left in `memory`. What is found counts for a VM of the same name in the same seat only;
    /// that it is true nobody can say, so it opens no more than an address that the VM could have got from DHCP.
    pub fn new(memory: SharedMemory, tables: &mut Tables) -> Self {
        let keep = Keep::new(memory, LAYOUT);
        let mut table = tables.per_seat::<Lease>();
        if let Some(last) = keep.count().and_then(|count| count.checked_sub(1))
            && table.reach(last).is_some()
        {
            // As many as there is room for, since they were counted.
            let _ = keep.load(&mut table);
        }
        Leases { table, keep, changed: false, warned: false }
    }

    /// The address of the VM; 0 when none is known.
    pub fn get(&self, vm: VmId, seat: Seat) -> u32 {
        match self.table.get(seat.index()) {
            Some(lease) if (lease.slot, lease.generation) == (vm.slot.number(), vm.generation) => lease.ipv4,
            _ => 0,
        }
    }

    /// The VM has this address; 0 for none. A successor finds it from the next [`Leases::save`] on.
    pub fn set(&mut self, vm: VmId, seat: Seat, ipv4: u32) {
        let lease = match ipv4 {
            0 => Lease::default(),
            ipv4 => Lease { slot: vm.slot.number(), generation: vm.generation, ipv4, reserved: 0 },
        };
        // Most VMs have fixed addresses, and none is learnt twice.
        if self.table.get(seat.index()).copied().unwrap_or_default() == lease {
            return;
        }
        if let Some(place) = self.table.reach(seat.index()) {
            *place = lease;
            self.changed = true;
        }
    }

    /// Keeps what has changed since the last time. It takes as long as there are seats up to the last one with a lease; so
    /// whoever sets many does this once, behind them.
    #[inline]
    pub fn save(&mut self) {
        if self.changed {
            self.changed = false;
            self.store();
        }
    }

    #[cold]
    #[inline(never)]
    fn store(&mut self) {
        let kept = self.table.len().min(self.keep.capacity());
        let stored = self.keep.store(&self.table[..kept]);
        if (kept < self.table.len() || !stored) && !core::mem::replace(&mut self.warned, true) {
            log::warn!(
                "the leases of VMs in seats from {kept} on are lost when netmux is started anew: its note asks for too little kept memory"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_machine::memory;
    use abi::note::TableBytes;

    /// Leases on a machine with five seats.
    fn leases(memory: SharedMemory) -> Leases {
        let bytes = TableBytes { per_seat: Leases::SEAT_BYTES, per_slot: 0, ..TableBytes::NONE };
        Leases::new(memory, &mut Tables::on_heap(bytes, 0, 5))
    }

    #[test]
    fn a_successor_finds_the_leases_of_the_same_vms() {
        let memory = memory(1024);
        let [two, one, four, five] = [2, 1, 4, 5].map(Seat::new);
        let vm = VmId::new;
        let mut first = leases(memory);
        first.set(vm(20, 1), two, 0x0a00_020f);
        first.set(vm(40, 1), four, 7);
        first.set(vm(40, 1), four, 0);
        first.set(vm(50, 1), five, 7);
        assert_eq!(leases(memory).get(vm(20, 1), two), 0, "not saved yet");
        first.save();
        let mut next = leases(memory);
        assert_eq!(next.get(vm(20, 1), two), 0x0a00_020f);
        let others = [(vm(20, 2), two), (vm(21, 1), two), (vm(20, 1), one), (vm(40, 1), four), (vm(50, 1), five)];
        assert_eq!(others.map(|(vm, seat)| next.get(vm, seat)), [0; 5]);
        next.set(vm(20, 1), two, 0);
        next.save();
        assert_eq!(next.get(vm(20, 1), two), 0);
        assert_eq!(leases(memory).get(vm(20, 1), two), 0);
    }

    #[test]
    fn more_than_there_are_seats_is_forgotten() {
        let memory = memory(1024);
        let lease = Lease { slot: 0, generation: 1, ipv4: 1, reserved: 0 };
        assert!(Keep::new(memory, LAYOUT).store(&[lease; 6]));
        assert_eq!(leases(memory).get(VmId::new(0, 1), Seat::new(0)), 0);
    }

    #[test]
    fn no_lease_is_lost_on_a_machine_with_all_seats() {
        let seats = abi::limits::MAX_SEATS;
        let asked = crate::tables::<crate::policy::RoundRobin>();
        // As the core gives it: whole pages, and the one that the manifest gives for the headers.
        let pages = usize::try_from(asked.keep(seats)).expect("small").div_ceil(4096) + 1;
        let memory = memory(pages * 4096);
        let on_all_seats = || {
            let bytes = TableBytes { per_seat: Leases::SEAT_BYTES, ..TableBytes::NONE };
            Leases::new(memory, &mut Tables::on_heap(bytes, 0, seats))
        };
        let last = Seat::new(u16::try_from(seats - 1).expect("16 bits"));
        let mut first = on_all_seats();
        first.set(VmId::new(7, 1), Seat::new(0), 5);
        first.set(VmId::new(9, 1), last, 6);
        first.save();
        let next = on_all_seats();
        assert_eq!((next.get(VmId::new(7, 1), Seat::new(0)), next.get(VmId::new(9, 1), last)), (5, 6));
    }

    #[test]
    fn what_there_is_no_room_for_holds_until_the_end() {
        // Two headers and two leases in each copy.
        let memory = memory(2 * (component::KEEP_HEADER_BYTES + 2 * size_of::<Lease>()));
        let vm = |seat: u16| (VmId::new(u32::from(seat) + 10, 1), Seat::new(seat));
        let mut first = leases(memory);
        for seat in 0..4 {
            let (vm, seat) = vm(seat);
            first.set(vm, seat, 5);
            assert_eq!(first.get(vm, seat), 5);
        }
        first.save();
        let next = leases(memory);
        assert_eq!([0, 1, 2, 3].map(|seat| next.get(vm(seat).0, vm(seat).1)), [5, 5, 0, 0]);
    }
}
