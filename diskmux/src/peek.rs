//! Reading a virtual disk for who controls the machine, in parts that messages carry.

use crate::guests::Guests;
use crate::policy::Discipline;
use crate::question::Question;
use crate::sets::Sets;
use crate::store::Outcome;
use abi::disk::{DiskReply, PART, read};
use abi::limits::Name;
use disk_format::{BLOCK_BYTES, Block, Entry, Kind};
use ring::SharedMemory;

/// Parts of a block; the last one is shorter.
const PARTS: u16 = 86;

/// A block that is wanted, and which part of it.
#[derive(Clone, Copy)]
struct Wanted {
    question: Question,
    entry: Entry,
    block: u64,
    part: u16,
    /// The store has been asked.
    asked: bool,
}

/// What is read, one block at a time.
pub struct Peek {
    wanted: Option<Wanted>,
    /// The block that was read last: of which virtual disk, by its id, and which one.
    held: Option<(u32, u64)>,
    bytes: &'static mut Block,
}

/// An answer without bytes.
const fn refused(how: u16) -> DiskReply {
    DiskReply::Read { how, bytes: [0; PART] }
}

impl Peek {
    /// Nothing was read. `bytes` is where a block is kept.
    pub fn new(bytes: &'static mut Block) -> Peek {
        Peek { wanted: None, held: None, bytes }
    }

    /// Whether something is to be read.
    pub fn is_busy(&self) -> bool {
        self.wanted.is_some()
    }

    /// Begins to read a part of a block. The answer, when there is one at once.
    pub fn begin<D: Discipline>(
        &mut self,
        question: Question,
        (name, block, part): (Name, u64, u16),
        sets: &Sets,
        guests: &Guests<D>,
    ) -> Option<DiskReply> {
        if self.wanted.is_some() {
            return Some(refused(read::BUSY));
        }
        let place = sets.disk_called(name);
        let found = place.zip(place.and_then(|place| sets.entry(place)));
        let Some((place, entry)) = found.filter(|(_, entry)| matches!(entry.kind, Kind::Disk { .. })) else {
            return Some(refused(read::NO_SUCH_DISK));
        };
        if block >= entry.blocks || part >= PARTS {
            return Some(refused(read::OUTSIDE));
        }
        // Who writes in the middle of it may leave anything.
        if guests.is_written(place) {
            self.held = None;
            return Some(refused(read::IN_USE));
        }
        if part != 0 && self.held == Some((entry.id, block)) {
            return Some(self.part(part));
        }
        self.held = None;
        self.wanted = Some(Wanted { question, entry, block, part, asked: false });
        None
    }

    /// The virtual disk and the block that the store is to be asked for.
    pub fn wants(&self) -> Option<(Entry, u64)> {
        self.wanted.filter(|wanted| !wanted.asked).map(|wanted| (wanted.entry, wanted.block))
    }

    /// The store was asked.
    pub fn was_asked(&mut self) {
        if let Some(wanted) = &mut self.wanted {
            wanted.asked = true;
        }
    }

    /// How it ended, and who has asked.
    pub fn ended(&mut self, outcome: Outcome, memory: &SharedMemory) -> Option<(Question, DiskReply)> {
        let Wanted { question, entry, block, part, .. } = self.wanted.take()?;
        let read = match outcome {
            Outcome::Data(at) => memory.read(at, &mut self.bytes[..]).ok_or(read::FAILED),
            Outcome::Zeros => {
                self.bytes.fill(0);
                Ok(())
            }
            Outcome::Corrupt => Err(read::CORRUPT),
            Outcome::Done | Outcome::Failed => Err(read::FAILED),
        };
        let reply = match read {
            Ok(()) => {
                self.held = Some((entry.id, block));
                self.part(part)
            }
            Err(how) => refused(how),
        };
        Some((question, reply))
    }

    /// A part of the block that is at hand.
    fn part(&self, part: u16) -> DiskReply {
        let mut bytes = [0; PART];
        let from = usize::from(part) * PART;
        for (to, from) in bytes.iter_mut().zip(self.bytes.get(from..).unwrap_or(&[])) {
            *to = *from;
        }
        DiskReply::Read { how: read::DONE, bytes }
    }
}

const _: () = assert!(BLOCK_BYTES.div_ceil(PART) == PARTS as usize);
