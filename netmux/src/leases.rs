//! Addresses learnt from DHCP, kept where the demultiplexer's successor finds them: otherwise a VM whose lease runs for
//! hours would be cut off from IPv4 by a restart.

use abi::vm::{Seat, VmId};
use ring::SharedMemory;

/// Two words per seat: the VM's name, and its IPv4 address; 0 for none. Lives in DMA memory, which
/// nobody but this component (and the NIC) can write, which is zero at boot, and which outlives a restart.
pub struct Leases {
    memory: SharedMemory,
}

impl Leases {
    /// Bytes for each seat.
    pub const SEAT_BYTES: usize = 16;

    /// Those in `memory`, which has [`Leases::SEAT_BYTES`] for each seat. Seats beyond its end are not remembered.
    pub fn new(memory: SharedMemory) -> Self {
        Leases { memory }
    }

    /// The address of the VM; 0 when none is known.
    pub fn get(&self, vm: VmId, seat: Seat) -> u32 {
        let word = |index: usize| self.memory.read64(seat.index() * Self::SEAT_BYTES + 8 * index).unwrap_or(0);
        if word(0) == vm.raw() { u32::try_from(word(1)).unwrap_or(0) } else { 0 }
    }

    /// The VM has this address; 0 for none.
    pub fn set(&self, vm: VmId, seat: Seat, ipv4: u32) {
        // A seat beyond the end is one that is not remembered.
        let at = seat.index() * Self::SEAT_BYTES;
        // Nobody's while the two words are not of one VM.
        let _ = self.memory.write64(at, 0);
        let _ = self.memory.write64(at + 8, ipv4.into());
        let _ = self.memory.write64(at, if ipv4 == 0 { 0 } else { vm.raw() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_machine::memory;

    #[test]
    fn a_successor_finds_the_leases_of_the_same_vms() {
        let memory = memory(4 * Leases::SEAT_BYTES);
        let [two, one, four] = [2, 1, 4].map(Seat::new);
        let vm = VmId::new;
        let leases = Leases::new(memory);
        leases.set(vm(20, 1), two, 0x0a00_020f);
        leases.set(vm(40, 1), four, 7);
        let next = Leases::new(memory);
        assert_eq!(next.get(vm(20, 1), two), 0x0a00_020f);
        let others = [(vm(20, 2), two), (vm(21, 1), two), (vm(20, 1), one), (vm(40, 1), four)];
        assert_eq!(others.map(|(vm, seat)| next.get(vm, seat)), [0; 4]);
        next.set(vm(20, 1), two, 0);
        assert_eq!(next.get(vm(20, 1), two), 0);
    }
}
