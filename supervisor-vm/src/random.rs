//! Random numbers for keys: ChaCha20 with a seed of what the machine gives a VM at its start, and again when the VM becomes somebody else.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use ilwaco::time::Instant;
use sha2::{Digest, Sha256};

/// Where generators for connections and the host key come from.
pub struct Source {
    generation: [u8; 16],
    random: ChaCha20Rng,
}

impl Source {
    /// Seeded with the generation id, which nobody can guess where the processor has RDRAND.
    pub fn new() -> Source {
        let generation = ilwaco::generation_id();
        Source { generation, random: seeded(&generation, &[]) }
    }

    /// A generator of its own.
    pub fn fork(&mut self) -> ChaCha20Rng {
        let mut seed = [0; 32];
        self.random.fill_bytes(&mut seed);
        let generation = ilwaco::generation_id();
        if generation != self.generation {
            self.generation = generation;
            self.random = seeded(&generation, &seed);
            self.random.fill_bytes(&mut seed);
        }
        ChaCha20Rng::from_seed(seed)
    }
}

impl Default for Source {
    fn default() -> Source {
        Source::new()
    }
}

fn seeded(generation: &[u8; 16], before: &[u8]) -> ChaCha20Rng {
    let mut hash = Sha256::new();
    hash.update(b"foraker supervisor");
    hash.update(generation);
    hash.update(ilwaco::vm_id().raw().to_le_bytes());
    hash.update(Instant::now().as_nanos().to_le_bytes());
    hash.update(before);
    ChaCha20Rng::from_seed(hash.finalize().into())
}
