//! The images that are kept on this VM's virtual disk: what is known of each, and where its file lies. `docs/supervisor.md` has the format byte by byte.

use crate::store::extents::{Extent, NoPlace, PIECES, allocate, gaps};
use crate::store::record::{Kind, Record};
use abi::limits::{Name, PAGE_SIZE, VM_MEMORY_MAX, VM_MEMORY_MIN};
use abi::manifest::IMAGE_ARGS_BYTES;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::Cell;

/// Bytes in front of the arguments and pieces of an image.
const HEADER: usize = 56;

/// An image that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Bytes of memory that a VM of it has.
    pub memory_bytes: u64,
    /// Bytes of its file.
    pub file_bytes: u32,
    /// Bytes of the file's segments.
    pub held_bytes: u32,
    /// SHA-256 of its file.
    pub digest: [u8; 32],
    /// Its boot arguments.
    pub args: String,
    /// Where its file lies.
    pub place: Vec<Extent>,
    /// When it was wanted last, by a count that is not kept.
    pub used: Cell<u64>,
}

/// All of them.
#[derive(Default)]
pub struct Library {
    images: BTreeMap<String, Kept>,
    /// Where files lie that are there no more, until that is on the disk.
    leaving: Vec<Extent>,
    /// Images of which something has changed since that was last asked.
    changed: BTreeSet<String>,
    uses: u64,
}

impl Library {
    /// What was kept, in an area of so many blocks; `None` where two files lie in one place, or one outside.
    pub fn of(images: Vec<(String, Kept)>, blocks: u32) -> Option<Library> {
        gaps(images.iter().flat_map(|(_, kept)| kept.place.iter().copied()), blocks)?;
        Some(Library { images: images.into_iter().collect(), ..Library::default() })
    }

    /// A place for a file of so many bytes, in an area of so many blocks of [`PAGE_SIZE`].
    ///
    /// # Errors
    ///
    /// [`NoPlace`].
    pub fn place(&self, bytes: usize, blocks: u32) -> Result<Vec<Extent>, NoPlace> {
        let taken = self.images.values().flat_map(|kept| &kept.place).chain(&self.leaving);
        // What is there lay in the area when it came.
        let free = gaps(taken.copied(), blocks).unwrap_or_default();
        allocate(free, blocks_of(bytes))
    }

    /// One is kept from now on.
    pub fn add(&mut self, name: &str, kept: Kept) {
        self.changed.insert(name.to_string());
        if let Some(before) = self.images.insert(name.to_string(), kept) {
            self.leaving.extend(before.place);
        }
    }

    /// One is not any more. Whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let Some(kept) = self.images.remove(name) else { return false };
        self.leaving.extend(kept.place);
        self.changed.insert(name.to_string());
        true
    }

    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<&Kept> {
        self.images.get(name)
    }

    /// Somebody wants the one of this name.
    pub fn note_use(&mut self, name: &str) {
        self.uses += 1;
        if let Some(kept) = self.images.get(name) {
            kept.used.set(self.uses);
        }
    }

    /// All of them, by their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Kept)> {
        self.images.iter().map(|(name, kept)| (name.as_str(), kept))
    }

    /// Records of those of which something has changed since this was last asked.
    pub fn take_changed(&mut self) -> Vec<Vec<u8>> {
        let changed = core::mem::take(&mut self.changed);
        changed.iter().filter_map(|name| record(name, self.images.get(name))).collect()
    }

    /// Pieces that are free when what has changed is on the disk.
    pub fn leaving(&self) -> usize {
        self.leaving.len()
    }

    /// The first of these pieces are free: that is on the disk.
    pub fn left(&mut self, pieces: usize) {
        self.leaving.drain(..pieces.min(self.leaving.len()));
    }

    /// Blocks that files take.
    pub fn taken(&self) -> u32 {
        let all = self.images.values().flat_map(|kept| &kept.place);
        all.fold(0, |sum, extent| sum.saturating_add(extent.blocks))
    }
}

/// Blocks that a file of so many bytes takes.
fn blocks_of(bytes: usize) -> u32 {
    u32::try_from((bytes as u64).div_ceil(PAGE_SIZE)).unwrap_or(u32::MAX)
}

/// The record of an image, or of there being none.
pub fn record(name: &str, kept: Option<&Kept>) -> Option<Vec<u8>> {
    let value = match kept {
        Some(kept) => Some(bytes_of(kept)?),
        None => None,
    };
    Record { kind: Kind::Image, key: name.as_bytes(), value: value.as_deref() }.to_bytes()
}

fn bytes_of(kept: &Kept) -> Option<Vec<u8>> {
    let Kept { memory_bytes, file_bytes, held_bytes, digest, args, place, used: _ } = kept;
    let mut bytes = Vec::with_capacity(HEADER + args.len() + place.len() * 8);
    bytes.extend(memory_bytes.to_le_bytes());
    bytes.extend(file_bytes.to_le_bytes());
    bytes.extend(held_bytes.to_le_bytes());
    bytes.extend(digest);
    bytes.extend([0; 4]);
    bytes.extend(u16::try_from(args.len()).ok()?.to_le_bytes());
    bytes.extend(u16::try_from(place.len()).ok().filter(|pieces| usize::from(*pieces) <= PIECES)?.to_le_bytes());
    bytes.extend(args.as_bytes());
    for Extent { start, blocks } in place {
        bytes.extend(start.to_le_bytes());
        bytes.extend(blocks.to_le_bytes());
    }
    Some(bytes)
}

/// What a record with this key says of an image; `None` where it makes no sense.
pub fn kept_of(key: &str, bytes: &[u8]) -> Option<(String, Kept)> {
    let (head, rest) = bytes.split_first_chunk::<HEADER>()?;
    let word = |at: usize| Some(u32::from_le_bytes(*head.get(at..)?.first_chunk()?));
    let short = |at: usize| Some(usize::from(u16::from_le_bytes(*head.get(at..)?.first_chunk()?)));
    let (args, pieces) = rest.split_at_checked(short(52)?)?;
    let (pieces, behind) = pieces.as_chunks::<8>();
    let half = |piece: &[u8; 8], at: usize| Some(u32::from_le_bytes(*piece.get(at..)?.first_chunk()?));
    let place: Option<Vec<Extent>> =
        pieces.iter().map(|piece| Some(Extent { start: half(piece, 0)?, blocks: half(piece, 4)? })).collect();
    let kept = Kept {
        memory_bytes: u64::from_le_bytes(*head.first_chunk()?),
        file_bytes: word(8)?,
        held_bytes: word(12)?,
        digest: *head.get(16..)?.first_chunk()?,
        args: core::str::from_utf8(args).ok()?.to_string(),
        place: place?,
        used: Cell::new(0),
    };
    let taken = kept.place.iter().map(|extent| u64::from(extent.blocks)).sum::<u64>();
    let makes_sense = Name::new(key).is_some_and(|name| !name.is_empty())
        && word(48)? == 0
        && behind.is_empty()
        && short(54)? == kept.place.len()
        && kept.place.len() <= PIECES
        && kept.args.len() <= IMAGE_ARGS_BYTES
        && kept.place.iter().all(|extent| extent.blocks != 0)
        && (VM_MEMORY_MIN..=VM_MEMORY_MAX).contains(&kept.memory_bytes)
        && kept.memory_bytes.is_multiple_of(PAGE_SIZE)
        && taken == u64::from(kept.file_bytes).div_ceil(PAGE_SIZE);
    makes_sense.then(|| (key.to_string(), kept))
}

#[cfg(test)]
#[path = "library_tests.rs"]
mod tests;
