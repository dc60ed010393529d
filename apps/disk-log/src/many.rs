//! Many requests of one kind, for whoever counts what they cost.

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::Cell;
use ilwaco::disk::{BLOCK_BYTES, Disk, DiskError};
use ilwaco::println;
use ilwaco::sync::Notify;
use ilwaco::task::spawn;

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Load {
    /// Requests.
    pub count: u64,
    /// How many at a time.
    pub width: u64,
    /// They write; else they read.
    pub write: bool,
    /// Blocks from one to the next.
    pub step: u64,
}

/// Blocks from one request to the next where they are to lie scattered: nothing that a disk's number of blocks is a multiple of.
pub const SCATTERED: u64 = 97;

#[derive(Default)]
struct Many {
    given: Cell<u64>,
    left: Cell<u64>,
    failed: Cell<Option<DiskError>>,
    done: Notify,
}

impl Many {
    async fn run(&self, disk: Disk, Load { count, write, step, .. }: Load) {
        let mut block = Box::new([1; BLOCK_BYTES]);
        while self.given.get() < count {
            let number = self.given.get();
            self.given.set(number + 1);
            let at = number.wrapping_mul(step) % disk.blocks();
            let done = if write { disk.write(at, &block).await } else { disk.read(at, &mut block).await };
            if let Err(error) = done {
                self.failed.set(Some(error));
            }
        }
        self.left.set(self.left.get() - 1);
        self.done.notify_one();
    }
}

/// Reads or writes so many blocks. The code that the VM ends with.
pub async fn many(disk: &Disk, load: Load) -> u64 {
    let (many, disk) = (Rc::new(Many::default()), *disk);
    for _ in 0..load.width {
        let task = many.clone();
        many.left.set(many.left.get() + 1);
        if spawn(async move { task.run(disk, load).await }).is_err() {
            println!("disk-log: too many tasks");
            return 2;
        }
    }
    while many.left.get() > 0 {
        many.done.notified().await;
    }
    match many.failed.get() {
        Some(error) => println!("disk-log: LOST request: {error}"),
        None => println!("disk-log: many ok count={}", load.count),
    }
    u64::from(many.failed.get().is_some())
}
