//! A load with a model: several tasks, each with blocks of its own of which it knows what must be there.

use crate::sweep::{Found, sweep};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use ilwaco::disk::{BLOCK_BYTES, Disk, DiskError};
use ilwaco::println;
use ilwaco::sync::Notify;
use ilwaco::task::{shutdown_requested, spawn};

/// Tasks, and blocks of each.
const TASKS: u64 = 6;
const BLOCKS: u64 = 8;
/// Requests that were done from one line of the log to the next.
const SAY_EVERY: u64 = 2000;

/// What all tasks share.
#[derive(Default)]
struct Load {
    stop: Cell<bool>,
    left: Cell<u64>,
    requests: Cell<u64>,
    flushes: Cell<u64>,
    wrong: RefCell<Vec<Wrong>>,
    done: Notify,
}

/// What must not be.
#[derive(Clone, Copy)]
enum Wrong {
    Failed(u64, DiskError),
    Holds(u64),
}

/// A number that nobody would guess, from the last one.
pub(crate) fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

/// A block that tells what was written.
fn fill(block: &mut [u8; BLOCK_BYTES], tag: u64) {
    block.as_chunks_mut::<8>().0.iter_mut().for_each(|word| *word = tag.to_le_bytes());
}

fn holds(block: &[u8; BLOCK_BYTES], tag: u64) -> bool {
    block.as_chunks::<8>().0.iter().all(|word| *word == tag.to_le_bytes())
}

impl Load {
    async fn run(&self, disk: Disk, task: u64) {
        let first = task * BLOCKS;
        if let Err(wrong) = self.work(disk, first).await {
            self.wrong.borrow_mut().push(wrong);
            self.stop.set(true);
        }
        self.left.set(self.left.get() - 1);
        self.done.notify_one();
    }

    async fn work(&self, disk: Disk, first: u64) -> Result<(), Wrong> {
        let (mut random, mut block) = (first + 0x9e37_79b9_7f4a_7c15, Box::new([0; BLOCK_BYTES]));
        let own = usize::try_from(BLOCKS).unwrap_or(0);
        let mut model: Vec<u64> = vec![0; own];
        for number in (first..).take(own) {
            disk.discard(number).await.map_err(|error| Wrong::Failed(number, error))?;
        }
        while !self.stop.get() {
            let dice = next(&mut random);
            let at = usize::try_from(dice % BLOCKS).unwrap_or(0);
            let number = first + dice % BLOCKS;
            let failed = |error| Wrong::Failed(number, error);
            match dice >> 32 & 15 {
                0..7 => {
                    model[at] = dice | 1;
                    fill(&mut block, model[at]);
                    disk.write(number, &block).await.map_err(failed)?;
                }
                7..12 => {
                    disk.read(number, &mut block).await.map_err(failed)?;
                    if !holds(&block, model[at]) {
                        return Err(Wrong::Holds(number));
                    }
                }
                12..14 => {
                    disk.flush().await.map_err(failed)?;
                    self.flushes.set(self.flushes.get() + 1);
                }
                _ => {
                    disk.discard(number).await.map_err(failed)?;
                    model[at] = 0;
                }
            }
            self.requests.set(self.requests.get() + 1);
            if self.requests.get().is_multiple_of(SAY_EVERY) {
                println!("disk-log: load requests={}", self.requests.get());
            }
        }
        for (number, tag) in (first..).zip(model) {
            disk.read(number, &mut block).await.map_err(|error| Wrong::Failed(number, error))?;
            if !holds(&block, tag) {
                return Err(Wrong::Holds(number));
            }
        }
        Ok(())
    }
}

/// Loads the first blocks of a disk until the VM is asked to end itself. The code that it ends with.
pub async fn load(disk: &Disk) -> u64 {
    let (load, disk) = (Rc::new(Load::default()), *disk);
    if disk.blocks() < TASKS * BLOCKS {
        println!("disk-log: the disk is too small for this");
        return 2;
    }
    for number in 0..TASKS {
        let task = load.clone();
        load.left.set(load.left.get() + 1);
        if spawn(async move { task.run(disk, number).await }).is_err() {
            println!("disk-log: too many tasks");
            return 2;
        }
    }
    println!("disk-log: load begins");
    let stopper = load.clone();
    let watch = spawn(async move {
        shutdown_requested().await;
        stopper.stop.set(true);
    });
    while load.left.get() > 0 && watch.is_ok() {
        load.done.notified().await;
    }
    for wrong in load.wrong.borrow().iter() {
        match wrong {
            Wrong::Failed(block, error) => println!("disk-log: LOST block {block}: {error}"),
            Wrong::Holds(block) => println!("disk-log: LOST block {block}: it holds what was not written last"),
        }
    }
    if !load.wrong.borrow().is_empty() {
        return 2;
    }
    if let Err(error) = disk.flush().await {
        println!("disk-log: LOST flush: {error}");
        return 2;
    }
    let Found { zeros, corrupt, failed, sum } = sweep(&disk).await;
    println!("disk-log: load ok requests={} flushes={}", load.requests.get(), load.flushes.get());
    println!("disk-log: read zeros={zeros} corrupt={corrupt} failed={failed} sum={sum:016x}");
    0
}
