//! Addresses learnt from DHCP, kept where the demultiplexer's successor finds them: otherwise a VM whose lease runs for
//! hours would be cut off from IPv4 by a restart.

use abi::vm::{Slot, VmId};
use component::Keep;
use ring::SharedMemory;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Version of the layout of [`Lease`] in kept memory.
const LAYOUT: u32 = 1;

/// One VM's address. All zeros is no lease.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Lease {
    slot: u32,
    generation: u32,
    ipv4: u32,
}

impl Lease {
    /// None.
    pub const NONE: Lease = Lease { slot: 0, generation: 0, ipv4: 0 };
}

/// The leases, by slot.
pub struct Leases<'t> {
    table: &'t mut [Lease],
    /// No slot from here on has one.
    end: usize,
    keep: Keep<Lease>,
}

impl<'t> Leases<'t> {
    /// Those that a predecessor has left in `memory`. Slots beyond the end of `table` are not remembered. What is found counts
    /// for a VM of the same name only; that it is true nobody can say, so it opens no more than an address that the VM could
    /// have got from DHCP.
    pub fn new(memory: SharedMemory, table: &'t mut [Lease]) -> Self {
        let keep = Keep::new(memory, LAYOUT);
        let found = keep.load(table).unwrap_or(0);
        table[found..].fill(Lease::NONE);
        for (index, lease) in table[..found].iter_mut().enumerate() {
            // Each in its own place: else it is none that this program has written.
            if Slot::new(lease.slot).index() != index {
                *lease = Lease::NONE;
            }
        }
        Leases { table, end: found, keep }
    }

    /// The address of the VM; 0 when none is known.
    pub fn get(&self, vm: VmId) -> u32 {
        match self.table.get(vm.slot.index()) {
            Some(lease) if lease.generation == vm.generation => lease.ipv4,
            _ => 0,
        }
    }

    /// The VM has this address; 0 for none.
    pub fn set(&mut self, vm: VmId, ipv4: u32) {
        let index = vm.slot.index();
        let Some(place) = self.table.get_mut(index) else { return };
        let lease = match ipv4 {
            0 => Lease::NONE,
            ipv4 => Lease { slot: vm.slot.number(), generation: vm.generation, ipv4 },
        };
        // Most VMs have fixed addresses, and none is learnt twice.
        if *place == lease {
            return;
        }
        *place = lease;
        self.end = self.end.max(index + 1);
        while self.end > 0 && self.table[self.end - 1] == Lease::NONE {
            self.end -= 1;
        }
        if !self.keep.store(&self.table[..self.end]) {
            log::warn!(
                "no room to keep leases: VMs lose their addresses when netmux is started anew; give it more `keep`"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_machine::memory;

    fn table() -> [Lease; 4] {
        [Lease { slot: 9, generation: 9, ipv4: 9 }; 4]
    }

    #[test]
    fn a_successor_finds_the_leases_of_the_same_vms() {
        let memory = memory(1024);
        let vm = VmId::new;
        let (mut table, mut next_table) = (table(), table());
        let mut leases = Leases::new(memory, &mut table);
        assert_eq!(leases.get(vm(2, 9)), 0, "what was in the table is gone");
        leases.set(vm(2, 1), 0x0a00_020f);
        leases.set(vm(3, 1), 0x0a00_0210);
        leases.set(vm(3, 1), 0);
        leases.set(vm(4, 1), 7);
        let mut next = Leases::new(memory, &mut next_table);
        assert_eq!(next.get(vm(2, 1)), 0x0a00_020f);
        assert_eq!([next.get(vm(2, 2)), next.get(vm(1, 1)), next.get(vm(3, 1)), next.get(vm(4, 1))], [0; 4]);
        next.set(vm(2, 1), 0);
        assert_eq!(next.get(vm(2, 1)), 0);
        assert_eq!(Leases::new(memory, &mut table).get(vm(2, 1)), 0);
    }

    #[test]
    fn leases_in_wrong_places_are_none() {
        let memory = memory(1024);
        let lease = |slot| Lease { slot, generation: 1, ipv4: 0x0a00_0210 + slot };
        assert!(Keep::new(memory, LAYOUT).store(&[lease(0), lease(7), lease(2)]));
        let mut table = table();
        let leases = Leases::new(memory, &mut table);
        let get = |slot| leases.get(VmId::new(slot, 1));
        assert_eq!([get(0), get(1), get(2), get(7)], [0x0a00_0210, 0, 0x0a00_0212, 0]);
    }

    #[test]
    fn more_than_there_is_room_for_is_forgotten() {
        let memory = memory(1024);
        assert!(Keep::new(memory, LAYOUT).store(&[Lease { slot: 0, generation: 1, ipv4: 1 }; 5]));
        let mut table = table();
        assert_eq!(Leases::new(memory, &mut table).get(VmId::new(0, 1)), 0);
    }

    #[test]
    fn without_room_to_keep_them_leases_hold_until_the_end() {
        let mut table = table();
        let mut leases = Leases::new(memory(0), &mut table);
        leases.set(VmId::new(1, 1), 5);
        assert_eq!(leases.get(VmId::new(1, 1)), 5);
    }
}
