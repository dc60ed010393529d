//! How a set goes from one state to the next so that it has one of the two whenever the power fails.

use crate::block::{BLOCK_BYTES, Block};
use crate::layout::Place;
use crate::recognition::Set;
use crate::superblock::{State, Superblock};

/// A step of a change, to be done on every member before the next one is begun on any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write the new directory ([`Change::directory_block`]).
    Directory,
    /// Make durable what was written.
    Flush,
    /// Write a superblock ([`Change::superblock`]).
    Superblock {
        /// What it says of the generation.
        state: State,
        /// Which of its two copies.
        end: bool,
    },
}

/// The steps of a change. When those up to the third flush are done, the set is in its new state for good; the rest renews what has not
/// been written yet of the second copies.
pub const STEPS: [Step; 9] = [
    Step::Directory,
    Step::Flush,
    Step::Superblock { state: State::Proposed, end: false },
    Step::Superblock { state: State::Proposed, end: true },
    Step::Flush,
    Step::Superblock { state: State::Committed, end: false },
    Step::Flush,
    Step::Superblock { state: State::Committed, end: true },
    Step::Flush,
];

/// The next state of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its generation.
    pub generation: u64,
    /// Entries in its directory.
    pub entries: u32,
    /// CRC-32C over them ([`crate::directory_checksum`]).
    pub directory_checksum: u32,
    /// See [`Superblock::next_id`].
    pub next_id: u32,
}

impl Change {
    /// The first state of a new set.
    #[must_use]
    pub fn first(entries: u32, directory_checksum: u32, next_id: u32) -> Change {
        Change { generation: 1, entries, directory_checksum, next_id }
    }

    /// The state after the present one of `set`; `None` when there are no more numbers.
    ///
    /// Its generation is higher than any that a disk has, so that what was proposed once and never completed is not taken for it; and it
    /// is odd where the present one is even, or the other way round, so that it has the other places.
    #[must_use]
    pub fn next(set: &Set, entries: u32, directory_checksum: u32, next_id: u32) -> Option<Change> {
        let after = set.highest.max(set.superblock.generation).checked_add(1)?;
        let same_places = after.is_multiple_of(2) == set.superblock.generation.is_multiple_of(2);
        let generation = after.checked_add(u64::from(same_places))?;
        Some(Change { generation, entries, directory_checksum, next_id })
    }

    /// Which block of the member with this superblock holds the `index`th block of the new directory; `None` for one that there is not.
    #[must_use]
    pub fn directory_block(&self, member: &Superblock, index: u32) -> Option<u64> {
        let start = member.layout().directory(self.generation);
        (index < member.directory_blocks).then(|| start + u64::from(index))
    }

    /// Where the member with this superblock gets which block for a step that writes superblocks.
    #[must_use]
    pub fn superblock(&self, member: &Superblock, state: State, end: bool) -> (u64, Block) {
        let [start_place, end_place] = Place::of(self.generation);
        let place = if end { end_place } else { start_place };
        let &Change { generation, entries, directory_checksum, next_id } = self;
        let new = Superblock { generation, state, entries, directory_checksum, next_id, ..*member };
        (place.block(member.member_blocks), new.encode(place))
    }

    /// Carries all steps out with `write`, which writes a block of a member, and `flush`, which makes durable what was written to all. `members`
    /// are the present superblocks (for a new set: what they are to say, whatever their generation), and `directory` is the new one, whole blocks.
    ///
    /// # Errors
    /// The first error of `write` or `flush`: the set has its present state or the new one, and is to be looked at again.
    pub fn carry_out<E>(
        &self,
        members: &[Superblock],
        directory: &[u8],
        mut write: impl FnMut(u16, u64, &Block) -> Result<(), E>,
        mut flush: impl FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        for step in STEPS {
            if step == Step::Flush {
                flush()?;
                continue;
            }
            for member in members {
                if let Step::Superblock { state, end } = step {
                    let (at, block) = self.superblock(member, state, end);
                    write(member.member, at, &block)?;
                } else {
                    for (index, block) in (0..).zip(directory.as_chunks::<BLOCK_BYTES>().0) {
                        let Some(at) = self.directory_block(member, index) else { break };
                        write(member.member, at, block)?;
                    }
                }
            }
        }
        Ok(())
    }
}
