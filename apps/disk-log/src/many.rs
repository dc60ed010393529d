//! Many requests of one kind, for whoever counts what they cost.

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::Cell;
use ilwaco::disk::{BLOCK_BYTES, Disk, DiskError};
use ilwaco::println;
use ilwaco::sync::Notify;
use ilwaco::task::spawn;

#[derive(Default)]
struct Many {
    given: Cell<u64>,
    left: Cell<u64>,
    failed: Cell<Option<DiskError>>,
    done: Notify,
}

impl Many {
    async fn run(&self, disk: Disk, count: u64, write: bool) {
        let mut block = Box::new([1; BLOCK_BYTES]);
        while self.given.get() < count {
            let number = self.given.get();
            self.given.set(number + 1);
            let at = number % disk.blocks();
            let done = if write { disk.write(at, &block).await } else { disk.read(at, &mut block).await };
            if let Err(error) = done {
                self.failed.set(Some(error));
            }
        }
        self.left.set(self.left.get() - 1);
        self.done.notify_one();
    }
}

/// Reads or writes so many blocks, one after the other, `width` at a time. The code that the VM ends with.
pub async fn many(disk: &Disk, count: u64, width: u64, write: bool) -> u64 {
    let (many, disk) = (Rc::new(Many::default()), *disk);
    for _ in 0..width {
        let task = many.clone();
        many.left.set(many.left.get() + 1);
        if spawn(async move { task.run(disk, count, write).await }).is_err() {
            println!("disk-log: too many tasks");
            return 2;
        }
    }
    while many.left.get() > 0 {
        many.done.notified().await;
    }
    match many.failed.get() {
        Some(error) => println!("disk-log: LOST request: {error}"),
        None => println!("disk-log: many ok count={count}"),
    }
    u64::from(many.failed.get().is_some())
}
