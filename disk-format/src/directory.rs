//! The directory of a set: its swap regions and virtual disks. Every member has a copy of it.

use crate::block::checksum;
use crate::checks::check_blocks;
use crate::layout::{ENTRIES_PER_BLOCK, MAX_ENTRIES};
use crate::name::EntryName;
use crate::stripe::Stripes;
use core::fmt;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 64;

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Swap regions, one behind the other, each of so many blocks.
    Swap {
        /// Blocks of a region.
        region: u64,
    },
    /// A virtual disk: checks, then its blocks.
    Disk {
        /// It is never written.
        read_only: bool,
    },
}

/// An entry as it lies on the disk.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct EntryRaw {
    /// 1 swap regions, 2 a virtual disk.
    pub kind: U32,
    /// Names the entry for ever: none that is removed gives its id to another.
    pub id: U32,
    /// Its name, ASCII, padded with zeros; no two have the same.
    pub name: EntryName,
    /// First block that it takes, of the set's.
    pub first: U64,
    /// Blocks that it takes.
    pub extent: U64,
    /// Blocks that can be used of them: of all swap regions, or of the virtual disk.
    pub blocks: U64,
    /// Blocks of one swap region; 0 for a virtual disk.
    pub region: U64,
    /// Bit 0: never written.
    pub flags: U32,
    /// What lies beneath a virtual disk: the id of that one and 1 more, or 0 for nothing.
    pub beneath: U32,
}

const READ_ONLY: u32 = 1;

/// An entry that makes sense by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is for.
    pub kind: Kind,
    /// Names it for ever.
    pub id: u32,
    /// Its name.
    pub name: EntryName,
    /// First block that it takes, of the set's.
    pub first: u64,
    /// Blocks that can be used.
    pub blocks: u64,
    /// The id of the virtual disk on which this one lies: what it has not written itself is what that one has, which is never written.
    pub beneath: Option<u32>,
}

impl Entry {
    /// Blocks that it takes: for a virtual disk its checks, too.
    #[must_use]
    pub fn extent(&self) -> u64 {
        match self.kind {
            Kind::Swap { .. } => self.blocks,
            Kind::Disk { .. } => self.blocks.saturating_add(check_blocks(self.blocks)),
        }
    }

    /// First block behind it.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first.saturating_add(self.extent())
    }

    /// Where the set has block `block` of a virtual disk; `None` for one that there is not, and for swap regions.
    #[must_use]
    pub fn data(&self, block: u64) -> Option<u64> {
        let is_disk = matches!(self.kind, Kind::Disk { .. });
        (is_disk && block < self.blocks).then(|| self.first + check_blocks(self.blocks) + block)
    }

    /// Where the set has swap region `number`, from 0, and how many blocks it has; `None` where there is none.
    #[must_use]
    pub fn swap_region(&self, number: u64) -> Option<(u64, u64)> {
        let Kind::Swap { region } = self.kind else { return None };
        let end = number.checked_add(1)?.checked_mul(region)?;
        (end <= self.blocks).then(|| (self.first + (end - region), region))
    }

    /// It as it lies on the disk.
    #[must_use]
    pub fn encode(&self) -> EntryRaw {
        let (kind, region, flags) = match self.kind {
            Kind::Swap { region } => (1, region, 0),
            Kind::Disk { read_only } => (2, 0, if read_only { READ_ONLY } else { 0 }),
        };
        EntryRaw {
            kind: kind.into(),
            id: self.id.into(),
            name: self.name,
            first: self.first.into(),
            extent: self.extent().into(),
            blocks: self.blocks.into(),
            region: region.into(),
            flags: flags.into(),
            // Ids are below a number, so there is one more.
            beneath: self.beneath.map_or(0, |id| id.saturating_add(1)).into(),
        }
    }

    /// As [`Entry::encode`], its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; ENTRY_BYTES] {
        zerocopy::transmute!(self.encode())
    }

    /// # Errors
    /// The first field that makes no sense.
    fn decode(raw: &EntryRaw) -> Result<Entry, &'static str> {
        let ensure = |good: bool, field| if good { Ok(()) } else { Err(field) };
        let (region, flags, blocks) = (raw.region.get(), raw.flags.get(), raw.blocks.get());
        let kind = match raw.kind.get() {
            1 => {
                ensure(region > 0 && blocks.is_multiple_of(region), "region")?;
                ensure(flags == 0, "flags")?;
                Kind::Swap { region }
            }
            2 => {
                ensure(region == 0, "region")?;
                ensure(flags & !READ_ONLY == 0, "flags")?;
                Kind::Disk { read_only: flags & READ_ONLY != 0 }
            }
            _ => return Err("kind"),
        };
        let beneath = raw.beneath.get().checked_sub(1);
        let entry = Entry { kind, id: raw.id.get(), name: raw.name, first: raw.first.get(), blocks, beneath };
        ensure(entry.name.is_good(), "name")?;
        ensure(entry.blocks > 0, "blocks")?;
        ensure(beneath.is_none() || matches!(kind, Kind::Disk { .. }), "beneath")?;
        ensure(raw.extent.get() == entry.extent() && entry.first.checked_add(entry.extent()).is_some(), "extent")?;
        Ok(entry)
    }
}

/// What is wrong with a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not as long as the superblock says.
    Length,
    /// Its checksum is not the one in the superblock.
    Checksum,
    /// A field of this entry makes no sense.
    Entry(usize, &'static str),
    /// This entry does not begin at a stripe unit, reaches beyond the set's end, or begins before the end of the one before.
    Place(usize),
    /// Two have the same name, or the same id, or one has an id that is yet to be given: this one is the second.
    Twice(usize),
    /// What is beneath this one is no virtual disk that is never written, has as many blocks, and is older; or too many lie beneath each other.
    Beneath(usize),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Length => f.write_str("the directory is not as long as the superblock says"),
            Fault::Checksum => f.write_str("the directory's checksum is wrong: it was torn or has rotted"),
            Fault::Entry(entry, field) => write!(f, "field {field} of the directory's entry {entry} makes no sense"),
            Fault::Place(entry) => write!(f, "the directory's entry {entry} lies where it cannot"),
            Fault::Twice(entry) => write!(f, "the directory's entry {entry} has the name or id of another"),
            Fault::Beneath(entry) => write!(f, "the directory's entry {entry} lies on what cannot be beneath it"),
        }
    }
}

/// The checksum of a directory of these bytes.
#[must_use]
pub fn directory_checksum(entries: &[u8]) -> u32 {
    checksum(&[entries])
}

/// Writes `entries` to `to`, one behind the other, and zeros behind them. Returns the bytes of the entries; `None` when there is no room.
pub fn pack<'a>(entries: impl IntoIterator<Item = &'a Entry>, to: &mut [u8]) -> Option<usize> {
    let mut end = 0;
    for entry in entries {
        let room = to.get_mut(end..end + ENTRY_BYTES)?;
        room.copy_from_slice(&entry.to_bytes());
        end += ENTRY_BYTES;
    }
    to[end..].fill(0);
    Some(end)
}

/// The entries in `bytes`, which begin with a directory, checked against the superblock's number of entries, checksum and next id, each
/// by itself, and against each other: they lie in order, in whole stripe units, apart and within the set, and names and ids are unique.
///
/// # Errors
/// What is wrong first.
pub fn checked(
    bytes: &[u8],
    superblock: &crate::Superblock,
    stripes: &Stripes,
) -> Result<impl Iterator<Item = Entry> + Clone, Fault> {
    let count = usize::try_from(superblock.entries).ok().filter(|&count| count <= MAX_ENTRIES).ok_or(Fault::Length)?;
    let bytes = bytes.get(..count * ENTRY_BYTES).ok_or(Fault::Length)?;
    if directory_checksum(bytes) != superblock.directory_checksum {
        return Err(Fault::Checksum);
    }
    let raw = <[EntryRaw]>::ref_from_bytes(bytes).map_err(|_| Fault::Length)?;
    let mut end = 0;
    for (at, one) in raw.iter().enumerate() {
        let entry = Entry::decode(one).map_err(|field| Fault::Entry(at, field))?;
        if entry.first < end || !entry.first.is_multiple_of(stripes.unit()) || entry.end() > stripes.blocks() {
            return Err(Fault::Place(at));
        }
        end = entry.end();
        // At most a thousand entries: half a million comparisons, once.
        if entry.id >= superblock.next_id || raw[..at].iter().any(|other| other.name == one.name || other.id == one.id)
        {
            return Err(Fault::Twice(at));
        }
    }
    let depths = |at: usize| entry_at(bytes, at).is_none_or(|entry| depth(bytes, count, &entry).is_some());
    match (0..count).find(|&at| !depths(at)) {
        Some(at) => Err(Fault::Beneath(at)),
        None => Ok(raw.iter().filter_map(|one| Entry::decode(one).ok())),
    }
}

/// Virtual disks that may lie beneath one, each beneath the next.
pub const MAX_DEPTH: usize = 16;

/// How many virtual disks lie beneath one of a directory with so many entries, each as it has to be; `None` where one of them is not, or there are more than
/// [`MAX_DEPTH`].
#[must_use]
pub fn depth(directory: &[u8], entries: usize, entry: &Entry) -> Option<usize> {
    let mut above = *entry;
    for depth in 0..=MAX_DEPTH {
        let Some(id) = above.beneath else { return Some(depth) };
        let one = entry_of(directory, entries, id)?;
        // An older one has a lower id: so there is an end.
        if one.kind != (Kind::Disk { read_only: true }) || one.blocks != above.blocks || one.id >= above.id {
            return None;
        }
        above = one;
    }
    None
}

/// The entry with this id of a directory that was [`checked`] before and has so many.
#[must_use]
pub fn entry_of(directory: &[u8], entries: usize, id: u32) -> Option<Entry> {
    let is_it = |entry: &Entry| entry.id == id;
    // Ids are given in the order of places, as long as nothing is removed.
    let guess = usize::try_from(id).ok().filter(|&index| index < entries);
    let guessed = guess.and_then(|index| entry_at(directory, index)).filter(is_it);
    guessed.or_else(|| (0..entries).filter_map(|index| entry_at(directory, index)).find(is_it))
}

/// The entry of this number in a directory that was [`checked`] before. `None` beyond the bytes, and for one that makes no sense.
#[must_use]
pub fn entry_at(bytes: &[u8], index: usize) -> Option<Entry> {
    let start = index.checked_mul(ENTRY_BYTES)?;
    let raw = EntryRaw::read_from_bytes(bytes.get(start..start.checked_add(ENTRY_BYTES)?)?).ok()?;
    Entry::decode(&raw).ok()
}

const _: () = {
    assert!(size_of::<EntryRaw>() == ENTRY_BYTES);
    assert!(ENTRY_BYTES * 64 == crate::BLOCK_BYTES && ENTRIES_PER_BLOCK == 64);
};

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
