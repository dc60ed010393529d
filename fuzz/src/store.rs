//! What the operator's VM keeps on its disk: blocks of any contents, as they would be behind checksums that happen to be right.

use ilwaco::disk::{BLOCK_BYTES, DiskError};
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use supervisor_vm::lines::Line;
use supervisor_vm::state::State;
use supervisor_vm::store::Store;
use supervisor_vm::store::block::Block;
use supervisor_vm::store::journal::Records;
use supervisor_vm::store::medium::Medium;
use supervisor_vm::store::record::{Kind, Record};

/// Blocks of the disk: as few as can be used.
const BLOCKS: usize = 16;
/// Bytes of each that are in the input, behind a byte whose lowest bit asks for checksums to be made good; zeros follow.
const PART: usize = 512;
/// Bytes of a block's checksum, in front of what it is of.
const SUM: usize = 32;

/// A disk, and how often it was written.
#[derive(Clone)]
struct Disk(Rc<RefCell<(Vec<Block>, usize)>>);

impl Disk {
    /// The disk in these bytes.
    fn of(data: &[u8]) -> Option<Disk> {
        let (&first, rest) = data.split_first()?;
        let mut blocks = vec![[0; BLOCK_BYTES]; BLOCKS];
        for (block, part) in blocks.iter_mut().zip(rest.chunks(PART)) {
            block[..part.len()].copy_from_slice(part);
            if first & 1 != 0 && block.iter().any(|&byte| byte != 0) {
                // Else hardly anything would get beyond it.
                let sum = Sha256::digest(&block[SUM..]);
                block[..SUM].copy_from_slice(&sum);
            }
        }
        Some(Disk(Rc::new(RefCell::new((blocks, 0)))))
    }

    /// The bytes of this disk, with good checksums.
    fn input(&self) -> Vec<u8> {
        let parts = self.0.borrow().0.iter().flat_map(|block| block[..PART].to_vec()).collect::<Vec<u8>>();
        [&[1], &parts[..]].concat()
    }

    fn writes(&self) -> usize {
        self.0.borrow().1
    }
}

fn at(block: u64) -> usize {
    usize::try_from(block).ok().filter(|&at| at < BLOCKS).unwrap_or_else(|| panic!("block {block} lies beyond the end"))
}

impl Medium for Disk {
    fn blocks(&self) -> u64 {
        BLOCKS as u64
    }

    async fn read(&self, block: u64, into: &mut Block) -> Result<(), DiskError> {
        *into = self.0.borrow().0[at(block)];
        Ok(())
    }

    async fn write(&self, block: u64, from: &Block) -> Result<(), DiskError> {
        let (blocks, writes) = &mut *self.0.borrow_mut();
        blocks[at(block)] = *from;
        *writes += 1;
        Ok(())
    }

    async fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }
}

/// What a future that never waits gives.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing to wait for"),
    }
}

fn bytes_of(records: &Records) -> Vec<Vec<u8>> {
    let one =
        |((kind, key), value): (&(Kind, Vec<u8>), &Vec<u8>)| Record { kind: *kind, key, value: Some(value) }.to_bytes();
    records.iter().map(|record| one(record).expect("it was read from its bytes")).collect()
}

/// A disk that is refused was not written. One that is used holds records that are read without harm, takes another one, and has that and all others when it is
/// opened again.
pub fn run(data: &[u8]) -> bool {
    let Some(disk) = Disk::of(data) else { return false };
    let (mut store, mut records) = match now(Store::open(disk.clone(), [7; 16])) {
        Ok(opened) => opened,
        Err((_, why)) => {
            assert!(!why.to_string().is_empty() && disk.writes() == 0);
            return false;
        }
    };
    let _ = State::of(&records);
    for index in 0..store.history().blocks() {
        let _ = now(store.lines(index));
    }
    let added = (Kind::Token, b"added".to_vec());
    records.insert(added, vec![1; 40]);
    let changed = Record { kind: Kind::Token, key: b"added", value: Some(&[1; 40]) }.to_bytes().expect("short");
    if now(store.commit(&[changed], || bytes_of(&records), std::iter::empty::<Line<'_>>())).is_err() {
        // There may be no room for it.
        return true;
    }
    let again = now(Store::open(disk, [8; 16])).map_err(|(_, why)| why).expect("it was just written");
    assert_eq!(again.1, records);
    true
}

/// A disk of zeros, and some on which more and more was kept.
pub fn seeds() -> Vec<Vec<u8>> {
    let disk = Disk::of(&[0]).expect("a byte");
    let mut seeds = vec![disk.input()];
    let (mut store, mut records) = now(Store::open(disk.clone(), [7; 16])).map_err(|(_, why)| why).expect("zeros");
    for number in 0..12_u8 {
        let (kind, key) = if number % 2 == 0 { (Kind::Vm, vec![b'a' + number]) } else { (Kind::HostKey, Vec::new()) };
        let value = vec![number; 32];
        let changed = Record { kind, key: &key, value: Some(&value) }.to_bytes().expect("short");
        records.insert((kind, key), value);
        let text = format!("{{\"n\":{number},\"hash\":\"\"}}\n");
        let line = Line { number: u64::from(number) + 1, before: [number; 32], text: &text };
        now(store.commit(&[changed], || bytes_of(&records), std::iter::once(line))).expect("room");
        seeds.push(disk.input());
    }
    seeds
}
