//! What a VM needs around it in tests: frames of the host's memory, and a fake CPU.

use super::life::Life;
use super::{Memory, Registers};
use crate::memory::phys::fake::DIRECT_MAP;
use crate::memory::{Frames, Reservation, frames::Entry};
use backend::fake::{FakeBackend, Ram, Wires};
use std::rc::Rc;

pub type Fake = FakeBackend<true>;

/// Memory and a CPU.
pub struct Bench {
    pub frames: Frames,
    pub cpu: Fake,
    _ram: Ram,
}

impl Bench {
    /// So many frames, all but the first of which are free.
    pub fn new(count: usize) -> Self {
        let ram = Ram::new(count);
        DIRECT_MAP.set(ram.base() as u64);
        let mut frames = Frames::new(vec![Entry::RESERVED; count].leak());
        assert!(frames.add_free(1, count as u64));
        let cpu = FakeBackend::new(Rc::new(Wires::new(0, 32)), ram.clone(), Box::new(|_| None));
        Bench { frames, cpu, _ram: ram }
    }

    /// Memory of the VM in slot 7, with a register page.
    pub fn memory(&mut self) -> (Memory<Fake>, Registers) {
        let reservation = Reservation::open(&mut self.frames, 0, u32::MAX).expect("nothing is kept");
        let mut memory =
            Memory::new(&self.cpu, &mut self.frames, reservation, abi::vm::Slot::new(7), 64, 0).expect("room");
        let page = memory.map_plain(&mut self.frames, 1).expect("room").expect("new");
        let registers = Registers::new(page).expect("a frame");
        (memory, registers)
    }

    /// Admit a VM with such memory.
    pub fn admit(&mut self, life: &mut Life<Fake>) {
        let (memory, registers) = self.memory();
        life.admit(memory, registers);
    }
}
