//! A pair of queues (section 4.1): commands, and what became of them.

use super::super::{Registers, halves};
use super::reg;
use core::sync::atomic::{Ordering, fence};
use ring::SharedMemory;

/// Entries of a queue. One of them is always empty.
pub(super) const ENTRIES: u16 = 32;
/// Bytes of a command, and of a completion.
const COMMAND_BYTES: usize = 64;
const COMPLETION_BYTES: usize = 16;
const PAGE: usize = 4096;

/// The device, as its queues need it.
pub(super) struct Device<R> {
    pub registers: R,
    pub memory: SharedMemory,
    pub physical: u64,
    /// Bytes between doorbells.
    pub stride: usize,
}

impl<R: Registers> Device<R> {
    /// Writes to a register where something lies in the memory.
    pub fn write_address(&mut self, register: usize, at: usize) {
        let [low, high] = halves(self.physical + at as u64);
        self.registers.write(register, low);
        self.registers.write(register + 4, high);
    }

    fn ring(&mut self, doorbell: u32, value: u16) {
        let at = reg::DOORBELLS + self.stride * usize::try_from(doorbell).unwrap_or(0);
        self.registers.write(at, value.into());
    }
}

/// A command that the device says it has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Completion {
    /// Its number.
    pub id: u16,
    /// Whether it was done.
    pub good: bool,
}

/// The pair.
#[derive(Debug)]
pub(super) struct Pair {
    id: u32,
    /// Where it begins in the memory: two pages.
    at: usize,
    /// Where the next command goes.
    tail: u16,
    /// Where the next completion comes.
    head: u16,
    /// What its phase is then: it changes with each round (section 4.6).
    phase: bool,
}

impl Pair {
    /// The pair of this number in two zeroed pages from `at` on.
    pub fn new(id: u32, at: usize) -> Pair {
        Pair { id, at, tail: 0, head: 0, phase: true }
    }

    pub fn id(&self) -> u32 {
        self.id
    }

    pub fn submissions(&self) -> usize {
        self.at
    }

    pub fn completions(&self) -> usize {
        self.at + PAGE
    }

    /// Submits a command (section 4.2): its number, what it is, the namespace, both words about its memory, and the words from the tenth on.
    pub fn submit<R: Registers>(
        &mut self,
        device: &mut Device<R>,
        number: u16,
        code: u32,
        namespace: u32,
        pages: [u64; 2],
        words: [u32; 3],
    ) {
        let entry = self.submissions() + COMMAND_BYTES * usize::from(self.tail);
        let [[low, high], [more_low, more_high]] = pages.map(halves);
        let [ten, eleven, twelve] = words;
        let first = [code | u32::from(number) << 16, namespace, 0, 0, 0, 0, low, high];
        let second = [more_low, more_high, ten, eleven, twelve, 0, 0, 0];
        for (i, word) in first.into_iter().chain(second).enumerate() {
            // It lies in the page.
            let _ = device.memory.store32(entry + 4 * i, word);
        }
        self.tail = (self.tail + 1) % ENTRIES;
        fence(Ordering::SeqCst);
        device.ring(2 * self.id, self.tail);
    }

    /// The next completion.
    pub fn next<R>(&mut self, device: &Device<R>) -> Option<Completion> {
        let entry = self.completions() + COMPLETION_BYTES * usize::from(self.head);
        // The load acquires what the device wrote before.
        let last = device.memory.load32(entry + 12)?;
        // Bit 16: the phase. Above: the status, of which its lower eleven bits are what went wrong.
        if (last >> 16 & 1 != 0) != self.phase {
            return None;
        }
        self.head = (self.head + 1) % ENTRIES;
        self.phase ^= self.head == 0;
        let [low, high, ..] = last.to_le_bytes();
        Some(Completion { id: u16::from_le_bytes([low, high]), good: last >> 17 & 0x7ff == 0 })
    }

    /// Tells the device how far completions were taken.
    pub fn acknowledge<R: Registers>(&mut self, device: &mut Device<R>) {
        device.ring(2 * self.id + 1, self.head);
    }
}

const _: () = assert!(ENTRIES as usize * COMMAND_BYTES <= PAGE && ENTRIES as usize * COMPLETION_BYTES <= PAGE);
