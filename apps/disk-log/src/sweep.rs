//! Reading a whole disk, many blocks at a time.

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::Cell;
use ilwaco::disk::{BLOCK_BYTES, Disk, DiskError};
use ilwaco::sync::Notify;
use ilwaco::task::spawn;

/// Blocks that are read at the same time.
const WIDTH: usize = 8;

/// What was found on a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Blocks of zeros.
    pub zeros: u64,
    /// Blocks that are not what was written.
    pub corrupt: u64,
    /// Blocks that could not be read.
    pub failed: u64,
    /// A sum over all the others that depends on where each is.
    pub sum: u64,
}

/// FNV-1a over the block's number and its bytes.
fn hash(number: u64, block: &[u8; BLOCK_BYTES]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    number.to_le_bytes().iter().chain(block).fold(0xcbf2_9ce4_8422_2325, step)
}

#[derive(Default)]
struct Sweep {
    next: Cell<u64>,
    found: Cell<Found>,
    left: Cell<usize>,
    done: Notify,
}

impl Sweep {
    async fn run(&self, disk: Disk) {
        let mut block = Box::new([0; BLOCK_BYTES]);
        loop {
            let number = self.next.get();
            if number >= disk.blocks() {
                break;
            }
            self.next.set(number + 1);
            let read = disk.read(number, &mut block).await;
            let mut found = self.found.get();
            match read {
                Ok(()) if block.iter().all(|&byte| byte == 0) => found.zeros += 1,
                Ok(()) => found.sum = found.sum.wrapping_add(hash(number, &block)),
                Err(DiskError::Corrupt) => found.corrupt += 1,
                Err(_) => found.failed += 1,
            }
            self.found.set(found);
        }
        self.left.set(self.left.get() - 1);
        self.done.notify_one();
    }
}

/// Reads all blocks of a disk.
pub async fn sweep(disk: &Disk) -> Found {
    let (sweep, disk) = (Rc::new(Sweep::default()), *disk);
    for _ in 0..WIDTH {
        let task = sweep.clone();
        sweep.left.set(sweep.left.get() + 1);
        if spawn(async move { task.run(disk).await }).is_err() {
            sweep.left.set(sweep.left.get() - 1);
        }
    }
    while sweep.left.get() > 0 {
        sweep.done.notified().await;
    }
    sweep.found.get()
}
