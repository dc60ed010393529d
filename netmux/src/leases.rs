//! Addresses learnt from DHCP, kept where the demultiplexer's successor finds them: otherwise a VM whose lease runs for
//! hours would be cut off from IPv4 by a restart.

use abi::vm::VmId;
use ring::SharedMemory;

/// One word per slot: the VM's generation in bits 63..32, its IPv4 address below; 0 for none. Lives in DMA memory, which
/// nobody but this component (and the NIC) can write, which is zero at boot, and which outlives a restart.
pub struct Leases {
    memory: SharedMemory,
}

impl Leases {
    /// Those in `memory`, which has 8 bytes for each slot. Slots beyond its end are not remembered.
    pub fn new(memory: SharedMemory) -> Self {
        Leases { memory }
    }

    /// The address of the VM; 0 when none is known.
    pub fn get(&self, vm: VmId) -> u32 {
        let [a, b, c, d, generation @ ..] = self.memory.read64(vm.slot.index() * 8).unwrap_or(0).to_le_bytes();
        if u32::from_le_bytes(generation) == vm.generation { u32::from_le_bytes([a, b, c, d]) } else { 0 }
    }

    /// The VM has this address; 0 for none.
    pub fn set(&self, vm: VmId, ipv4: u32) {
        let word = if ipv4 == 0 { 0 } else { u64::from(vm.generation) << 32 | u64::from(ipv4) };
        // A slot beyond the end is one that is not remembered.
        let _ = self.memory.write64(vm.slot.index() * 8, word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_machine::memory;

    #[test]
    fn a_successor_finds_the_leases_of_the_same_vms() {
        let memory = memory(4 * 8);
        let vm = VmId::new;
        let leases = Leases::new(memory);
        leases.set(vm(2, 1), 0x0a00_020f);
        leases.set(vm(4, 1), 7);
        let next = Leases::new(memory);
        assert_eq!(next.get(vm(2, 1)), 0x0a00_020f);
        assert_eq!([next.get(vm(2, 2)), next.get(vm(1, 1)), next.get(vm(4, 1))], [0; 3]);
        next.set(vm(2, 1), 0);
        assert_eq!(next.get(vm(2, 1)), 0);
    }
}
