//! A load whose blocks tell what it does, for whoever looks at a disk whose power was cut.
//!
//! It goes in *epochs*: some writes and discards, several at a time, then a flush, and when that is done the next epoch. Each block that is written
//! names its epoch and has the list of all that is done in it. So a disk with any block of an epoch must have all that the epochs before have left.

use crate::load::next;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use ilwaco::disk::{BLOCK_BYTES, Disk, DiskError};
use ilwaco::println;
use ilwaco::sync::Notify;
use ilwaco::task::spawn;

/// What a block of an epoch begins with.
pub const MAGIC: u64 = u64::from_le_bytes(*b"FKEPOCHS");
/// Words of 8 bytes in front of the list: magic, epoch, place in the list, length of the list.
pub const HEADER: usize = 4;
/// Changes of an epoch at most.
const CHANGES: u64 = 16;
/// Tasks. All changes of a block are one task's, so that their order is known.
const TASKS: u64 = 8;
/// Blocks that are used: half of them from the first on, half of them around the end of the first block of checks, where the disk is that large.
const BLOCKS: u64 = 32;
const SECOND: u64 = 504;
/// Epochs from one line of the log to the next.
const SAY_EVERY: u64 = 25;

/// What is done to a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its number.
    pub block: u64,
    /// It is discarded, else it is written.
    pub discard: bool,
}

/// The block that change `place` of `epoch` writes. `changes` are all of the epoch, 16 at most.
#[must_use]
pub fn content(epoch: u64, place: usize, changes: &[Change]) -> Box<[u8; BLOCK_BYTES]> {
    let mut block = Box::new([0; BLOCK_BYTES]);
    let (count, list) = (changes.len() as u64, changes.iter());
    let list = list.map(|change| change.block << 1 | u64::from(change.discard));
    let head = [MAGIC, epoch, place as u64, count].into_iter().chain(list);
    // The rest is of no other change: a block that is made of two is none of both.
    let rest = core::iter::repeat(epoch << 8 | place as u64);
    block.as_chunks_mut::<8>().0.iter_mut().zip(head.chain(rest)).for_each(|(to, word)| *to = word.to_le_bytes());
    block
}

fn draw(random: &mut u64, blocks: u64) -> Vec<Change> {
    let count = 1 + next(random) % CHANGES;
    let change = |number: u64| {
        let dice = next(random);
        let at = dice % BLOCKS;
        let far = at >= BLOCKS / 2 && blocks > SECOND + BLOCKS;
        // The first one writes: an epoch shows on the disk.
        Change { block: if far { SECOND - BLOCKS / 2 + at } else { at }, discard: number > 0 && dice >> 40 & 7 == 0 }
    };
    (0..count).map(change).collect()
}

/// An epoch that is under way.
struct Epoch {
    number: u64,
    changes: Vec<Change>,
    left: Cell<u64>,
    failed: RefCell<Option<DiskError>>,
    done: Notify,
}

impl Epoch {
    async fn work(&self, disk: Disk, task: u64) {
        let own = |(_, change): &(usize, &Change)| change.block % TASKS == task;
        for (place, change) in self.changes.iter().enumerate().filter(own) {
            let done = if change.discard {
                disk.discard(change.block).await
            } else {
                disk.write(change.block, &content(self.number, place, &self.changes)).await
            };
            if let Err(error) = done {
                *self.failed.borrow_mut() = Some(error);
            }
        }
        self.left.set(self.left.get() - 1);
        self.done.notify_one();
    }
}

/// Does so many epochs on a disk of 32 blocks or more. The code that the VM ends with.
pub async fn epochs(disk: &Disk, count: u64, seed: u64) -> u64 {
    // Zero would stay zero.
    let (disk, mut random) = (*disk, seed ^ 0x9e37_79b9_7f4a_7c15 | 1);
    if disk.blocks() < BLOCKS {
        println!("disk-log: the disk is too small for this");
        return 2;
    }
    println!("disk-log: epochs begin");
    for number in 1..=count {
        let changes = draw(&mut random, disk.blocks());
        let (left, failed, done) = (Cell::new(0), RefCell::new(None), Notify::new());
        let epoch = Rc::new(Epoch { number, changes, left, failed, done });
        for task in 0..TASKS {
            let own = epoch.clone();
            epoch.left.set(epoch.left.get() + 1);
            if spawn(async move { own.work(disk, task).await }).is_err() {
                println!("disk-log: too many tasks");
                return 2;
            }
        }
        while epoch.left.get() > 0 {
            epoch.done.notified().await;
        }
        let failed = epoch.failed.borrow_mut().take();
        if let Some(error) = failed.or(disk.flush().await.err()) {
            println!("disk-log: LOST epoch {number}: {error}");
            return 2;
        }
        if number.is_multiple_of(SAY_EVERY) {
            println!("disk-log: epoch {number} is durable");
        }
    }
    println!("disk-log: epochs ok count={count}");
    0
}
