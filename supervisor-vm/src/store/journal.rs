//! Records on the disk: one of two areas has those of the newest generation, to which others are appended, until it is full. Then all that still counts
//! begins a new generation in the other area.

use super::block::{HOLDS, Head, Role, Side, seal};
use super::layout::Layout;
use super::medium::Medium;
use super::record::{Kind, take};
use super::refused::{Refused, Unkept};
use super::{Found, at};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use ilwaco::disk::BLOCK_BYTES;

/// What is kept, by what it is about and its key.
pub type Records = BTreeMap<(Kind, Vec<u8>), Vec<u8>>;

/// Where the next record goes.
struct Tail {
    side: Side,
    generation: u64,
    place: u32,
    /// Blocks that the generation began with, where this is its first one.
    whole: u32,
    holds: Vec<u8>,
}

/// The records of a disk.
pub struct Journal {
    /// The newest generation of which there is a block anywhere.
    newest: u64,
    /// `None` before the first generation.
    tail: Option<Tail>,
}

impl Journal {
    /// Finds all records.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub async fn open<M: Medium>(medium: &M, layout: &Layout) -> Result<(Journal, Records), Refused> {
        let mut begun: Option<(Side, u64, u32)> = None;
        for side in [Side::A, Side::B] {
            let Some(Found { head: Head { number, whole, .. }, .. }) =
                at(medium, layout, Role::Records(side), 0).await?
            else {
                continue;
            };
            let twice = begun.is_some_and(|(_, other, _)| other == number);
            if twice || whole == 0 || whole > layout.records {
                return Err(Refused::Damaged(layout.record(side, 0)));
            }
            if begun.is_none_or(|(_, other, _)| other < number) {
                begun = Some((side, number, whole));
            }
        }
        let (mut journal, mut records) = (Journal { newest: 0, tail: None }, Records::new());
        for side in [Side::A, Side::B] {
            let here = begun.filter(|(of, ..)| *of == side).map(|(_, generation, whole)| (generation, whole));
            journal.read(medium, layout, side, here, &mut records).await?;
        }
        Ok((journal, records))
    }

    /// Reads an area. `here`: the generation that counts and with how many blocks it began, where it is in this one.
    async fn read<M: Medium>(
        &mut self,
        medium: &M,
        layout: &Layout,
        side: Side,
        here: Option<(u64, u32)>,
        records: &mut Records,
    ) -> Result<(), Refused> {
        let mut ended = false;
        for place in 0..layout.records {
            let damaged = Refused::Damaged(layout.record(side, place));
            let found = at(medium, layout, Role::Records(side), place).await?;
            let number = found.as_ref().map_or(0, |found| found.head.number);
            self.newest = self.newest.max(number);
            let Some((generation, whole)) = here else { continue };
            match found {
                Some(Found { holds, .. }) if number == generation && !ended => {
                    read_records(&holds, records).ok_or(damaged)?;
                    let whole = if place == 0 { whole } else { 0 };
                    self.tail = Some(Tail { side, generation, place, whole, holds });
                }
                // One in the middle is missing, or one is of a generation that never began here.
                _ if number >= generation || place < whole => return Err(damaged),
                _ => ended = true,
            }
        }
        Ok(())
    }

    /// Appends records, in order. What is in the last block that it writes is durable with the next flush; all before it is already. False where
    /// there is no room: nothing was written.
    ///
    /// # Errors
    ///
    /// [`Unkept::Disk`]: nobody knows what was written, and [`Journal::rewrite`] has to follow.
    pub async fn append<M: Medium>(&mut self, medium: &M, layout: &Layout, added: &[Vec<u8>]) -> Result<bool, Unkept> {
        let Some(tail) = &mut self.tail else { return Ok(false) };
        if blocks_for(tail.holds.len(), added) > layout.records - tail.place {
            return Ok(false);
        }
        for record in added {
            if tail.holds.len() + record.len() > HOLDS {
                tail.write(medium, layout).await?;
                medium.flush().await?;
                (tail.place, tail.whole) = (tail.place + 1, 0);
                tail.holds.clear();
            }
            tail.holds.extend(record);
        }
        tail.write(medium, layout).await?;
        Ok(true)
    }

    /// Begins a new generation with all that counts. It is durable then.
    ///
    /// # Errors
    ///
    /// [`Unkept::Full`]: nothing was written. [`Unkept::Disk`]: the generation before still counts, or this one, and another call has to follow.
    pub async fn rewrite<M: Medium>(&mut self, medium: &M, layout: &Layout, all: &[Vec<u8>]) -> Result<(), Unkept> {
        let whole = blocks_for(0, all);
        if whole > layout.records {
            return Err(Unkept::Full(layout.records));
        }
        let side = self.tail.as_ref().map_or(Side::A, |tail| tail.side.other());
        self.newest += 1;
        // What was there is none any more before its blocks are written over.
        medium.write(layout.record(side, 0), &[0; BLOCK_BYTES]).await?;
        medium.flush().await?;
        let mut first = Vec::new();
        let mut tail = Tail { side, generation: self.newest, place: 0, whole, holds: Vec::new() };
        for record in all {
            if tail.holds.len() + record.len() > HOLDS {
                if tail.place == 0 {
                    first.clone_from(&tail.holds);
                } else {
                    tail.write(medium, layout).await?;
                }
                (tail.place, tail.whole) = (tail.place + 1, 0);
                tail.holds.clear();
            }
            tail.holds.extend(record);
        }
        if tail.place > 0 {
            tail.write(medium, layout).await?;
            medium.flush().await?;
            let beginning = Tail { side, generation: self.newest, place: 0, whole, holds: first };
            beginning.write(medium, layout).await?;
        } else {
            tail.write(medium, layout).await?;
        }
        medium.flush().await?;
        self.tail = Some(tail);
        Ok(())
    }

    /// Blocks that are taken, and the generation that counts.
    pub fn taken(&self) -> (u32, u64) {
        self.tail.as_ref().map_or((0, 0), |tail| (tail.place + 1, tail.generation))
    }
}

impl Tail {
    async fn write<M: Medium>(&self, medium: &M, layout: &Layout) -> Result<(), Unkept> {
        let Tail { side, generation: number, place, whole, ref holds } = *self;
        let head = Head { store: layout.store, number, role: Role::Records(side), place, whole };
        Ok(medium.write(layout.record(side, place), &seal(&head, holds)).await?)
    }
}

/// Blocks that these records take, the first of which holds so many bytes already.
fn blocks_for(mut used: usize, records: &[Vec<u8>]) -> u32 {
    let mut blocks = 1_u32;
    for record in records {
        if used + record.len() > HOLDS {
            (blocks, used) = (blocks.saturating_add(1), 0);
        }
        used += record.len();
    }
    blocks
}

/// Takes in the records of a block; `None` where there is something else.
fn read_records(mut holds: &[u8], records: &mut Records) -> Option<()> {
    while !holds.is_empty() {
        let (record, rest) = take(holds)?;
        let key = (record.kind, record.key.to_vec());
        match record.value {
            Some(value) => _ = records.insert(key, value.to_vec()),
            None => _ = records.remove(&key),
        }
        holds = rest;
    }
    Some(())
}
