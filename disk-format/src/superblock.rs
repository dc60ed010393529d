//! The superblock: what set a disk is a member of, which one, and in what state.

use crate::block::{BLOCK_BYTES, Block, checksum};
use crate::layout::{ENTRIES_PER_BLOCK, Layout, MAX_ENTRIES, MEMBER_BLOCKS_MIN, Place};
use crate::name::EntryName;
use core::fmt;
use core::mem::offset_of;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// [`SuperblockRaw::magic`].
pub const MAGIC: [u8; 8] = *b"FORAKERD";
/// [`SuperblockRaw::version`].
pub const VERSION: u32 = 1;
/// Members of a set at most.
pub const MAX_MEMBERS: usize = 16;

/// The name of a set among all that there are: a UUID (RFC 9562), random.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(transparent)]
pub struct SetId(pub [u8; 16]);

impl SetId {
    /// The UUID with these random bits: version 4, variant 1.
    #[must_use]
    pub fn random(mut bits: [u8; 16]) -> SetId {
        bits[6] = bits[6] & 0x0f | 0x40;
        bits[8] = bits[8] & 0x3f | 0x80;
        SetId(bits)
    }
}

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a generation counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Its directory is written, and perhaps not all members know.
    Proposed,
    /// All members have it, as proposed at least.
    Committed,
}

/// A superblock as it lies on the disk: the first bytes of its block. The rest of the block is zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct SuperblockRaw {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U32,
    /// CRC-32C over the whole block, with zeros in this field.
    pub checksum: U32,
    /// The set.
    pub set: SetId,
    /// The set's name for people, ASCII, padded with zeros.
    pub name: EntryName,
    /// Counts the states of the set, from 1.
    pub generation: U64,
    /// 1 proposed, 2 committed.
    pub state: U32,
    /// Where this copy belongs: 0 to 3.
    pub place: U32,
    /// Which member this is, from 0.
    pub member: U16,
    /// Members of the set.
    pub members: U16,
    /// Blocks in a stripe unit.
    pub stripe_unit: U32,
    /// Blocks of this member.
    pub member_blocks: U64,
    /// First block of the first directory.
    pub directory_start: U64,
    /// First block of the data.
    pub data_start: U64,
    /// Blocks of data on each member.
    pub data_blocks: U64,
    /// Blocks of one directory.
    pub directory_blocks: U32,
    /// Entries in this generation's directory.
    pub entries: U32,
    /// CRC-32C over these entries.
    pub directory_checksum: U32,
    /// The id of the next entry that is made.
    pub next_id: U32,
    /// When the set was made, in seconds since 1970.
    pub created: U64,
}

/// Where the checksum lies.
const CHECKSUM_AT: usize = offset_of!(SuperblockRaw, checksum);
const RAW_BYTES: usize = size_of::<SuperblockRaw>();

/// A superblock that makes sense by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Superblock {
    pub set: SetId,
    pub name: EntryName,
    pub generation: u64,
    pub state: State,
    pub member: u16,
    pub members: u16,
    pub stripe_unit: u32,
    pub member_blocks: u64,
    pub directory_start: u64,
    pub data_start: u64,
    pub data_blocks: u64,
    pub directory_blocks: u32,
    pub entries: u32,
    pub directory_checksum: u32,
    pub next_id: u32,
    pub created: u64,
}

/// Why a block is no superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It has another magic: this is nothing of ours.
    Magic,
    /// It is one of another version.
    Version(u32),
    /// Its checksum is wrong: it was torn or has rotted.
    Checksum,
    /// Its checksum is right, and it belongs somewhere else: it was copied there.
    Place(u32),
    /// Its checksum is right, and this field makes no sense.
    Field(&'static str),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::Magic => f.write_str("it is no superblock"),
            Flaw::Version(version) => write!(f, "it has version {version}, and this program knows version {VERSION}"),
            Flaw::Checksum => f.write_str("its checksum is wrong: it was torn or has rotted"),
            Flaw::Place(place) => write!(f, "it belongs to place {place}: somebody has copied it"),
            Flaw::Field(field) => write!(f, "its checksum is right, but its field {field} makes no sense"),
        }
    }
}

impl Superblock {
    /// Reads the superblock at `place`.
    ///
    /// # Errors
    /// What is wrong with the block, the magic first, then version, checksum, place and fields.
    pub fn decode(block: &Block, place: Place) -> Result<Superblock, Flaw> {
        let (raw, rest) = SuperblockRaw::read_from_prefix(block).map_err(|_| Flaw::Magic)?;
        if raw.magic != MAGIC {
            return Err(Flaw::Magic);
        }
        if raw.version.get() != VERSION {
            return Err(Flaw::Version(raw.version.get()));
        }
        if raw.checksum.get() != block_checksum(block) {
            return Err(Flaw::Checksum);
        }
        if raw.place.get() != place.number() {
            return Err(Flaw::Place(raw.place.get()));
        }
        let state = match raw.state.get() {
            1 => State::Proposed,
            2 => State::Committed,
            _ => return Err(Flaw::Field("state")),
        };
        let superblock = Superblock {
            set: raw.set,
            name: raw.name,
            generation: raw.generation.get(),
            state,
            member: raw.member.get(),
            members: raw.members.get(),
            stripe_unit: raw.stripe_unit.get(),
            member_blocks: raw.member_blocks.get(),
            directory_start: raw.directory_start.get(),
            data_start: raw.data_start.get(),
            data_blocks: raw.data_blocks.get(),
            directory_blocks: raw.directory_blocks.get(),
            entries: raw.entries.get(),
            directory_checksum: raw.directory_checksum.get(),
            next_id: raw.next_id.get(),
            created: raw.created.get(),
        };
        if rest.iter().any(|&byte| byte != 0) {
            return Err(Flaw::Field("reserved"));
        }
        superblock.check(place).map_err(Flaw::Field)?;
        Ok(superblock)
    }

    /// The first field that makes no sense.
    fn check(&self, place: Place) -> Result<(), &'static str> {
        let ensure = |good: bool, field| if good { Ok(()) } else { Err(field) };
        ensure(self.name.is_good(), "name")?;
        ensure(self.generation > 0 && Place::of(self.generation).contains(&place), "generation")?;
        ensure((1..=MAX_MEMBERS).contains(&usize::from(self.members)), "members")?;
        ensure(self.member < self.members, "member")?;
        ensure(self.stripe_unit > 0, "stripe_unit")?;
        ensure(self.member_blocks >= MEMBER_BLOCKS_MIN, "member_blocks")?;
        let room = u64::from(self.directory_blocks) * ENTRIES_PER_BLOCK;
        ensure(self.directory_blocks > 0 && room <= MAX_ENTRIES as u64, "directory_blocks")?;
        ensure(self.layout().fits(self.member_blocks), "data_blocks")?;
        ensure(u64::from(self.entries) <= room, "entries")?;
        let stripes = crate::Stripes::new(self.members, self.stripe_unit, self.data_start, self.data_blocks);
        ensure(stripes.is_some() && self.data_start.is_multiple_of(self.stripe_unit.into()), "data_start")
    }

    /// The block of this superblock at a place of its generation.
    pub fn encode(&self, place: Place) -> Block {
        let mut raw = SuperblockRaw {
            magic: MAGIC,
            version: VERSION.into(),
            checksum: 0.into(),
            set: self.set,
            name: self.name,
            generation: self.generation.into(),
            state: match self.state {
                State::Proposed => 1,
                State::Committed => 2,
            }
            .into(),
            place: place.number().into(),
            member: self.member.into(),
            members: self.members.into(),
            stripe_unit: self.stripe_unit.into(),
            member_blocks: self.member_blocks.into(),
            directory_start: self.directory_start.into(),
            data_start: self.data_start.into(),
            data_blocks: self.data_blocks.into(),
            directory_blocks: self.directory_blocks.into(),
            entries: self.entries.into(),
            directory_checksum: self.directory_checksum.into(),
            next_id: self.next_id.into(),
            created: self.created.into(),
        };
        let mut block = crate::zeroed();
        block[..RAW_BYTES].copy_from_slice(raw.as_bytes());
        raw.checksum = block_checksum(&block).into();
        block[..RAW_BYTES].copy_from_slice(raw.as_bytes());
        block
    }

    /// Where things lie on its member.
    pub fn layout(&self) -> Layout {
        let &Superblock { directory_blocks, directory_start, data_start, data_blocks, .. } = self;
        Layout { directory_blocks, directory_start, data_start, data_blocks }
    }

    /// How the set's blocks are dealt out.
    pub fn stripes(&self) -> Option<crate::Stripes> {
        crate::Stripes::new(self.members, self.stripe_unit, self.data_start, self.data_blocks)
    }
}

/// What the checksum of a block with a superblock has to be.
fn block_checksum(block: &Block) -> u32 {
    checksum(&[&block[..CHECKSUM_AT], &[0; 4], &block[CHECKSUM_AT + 4..]])
}

const _: () = assert!(RAW_BYTES == 128 && RAW_BYTES <= BLOCK_BYTES);

#[cfg(test)]
#[path = "superblock_tests.rs"]
pub(crate) mod tests;
