//! What several tests need.
// Each test binary uses a part of it.
#![allow(dead_code)]

use abi::ring::{EPOCH, HEAD, HEADER_BYTES, IndexWord, SLOT_BYTES, TAIL};
use ring::SharedMemory;

/// Memory for a ring of `slots` slots, zeroed as the core hands it out.
pub fn ring_memory(slots: u32) -> SharedMemory {
    let bytes = HEADER_BYTES + usize::try_from(slots).unwrap() * SLOT_BYTES;
    memory(bytes)
}

/// Zeroed memory of `bytes` bytes.
pub fn memory(bytes: usize) -> SharedMemory {
    SharedMemory::from_static(Box::leak(vec![0_u64; bytes / 8].into_boxed_slice()))
}

/// Makes the ring look as after `index` slots in `epoch`, all taken.
pub fn start_at(ring: &SharedMemory, epoch: u32, index: u32) {
    let word = IndexWord { epoch, index }.pack();
    ring.store64(TAIL, word).unwrap();
    ring.store64(HEAD, word).unwrap();
    ring.store32(EPOCH, epoch).unwrap();
}

/// Marsaglia's xorshift64: small, and the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// An index into something of `len` elements.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }
}
