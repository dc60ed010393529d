//! What outlives a restart: memory that the core gives a component and never clears, for what a policy knows and its
//! successor needs.
//!
//! It holds two copies of a list, each behind a header with magic, layout version, sequence number, length and checksum. A
//! store goes into the older copy, which counts for nothing until its last word is written; so whenever the component dies,
//! one whole copy is left. What a successor finds is an allegation of whoever ran before: [`Keep::load`] judges whether it
//! is whole, and of the layout that it knows; whether it is true is for its caller to judge.

use core::marker::PhantomData;
use ring::SharedMemory;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// First word of a copy that is whole.
const MAGIC: u64 = u64::from_le_bytes(*b"FKRKEEP1");

/// In front of each copy.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct Header {
    magic: u64,
    /// Of the layout of the items.
    version: u32,
    item_bytes: u32,
    /// The copy with the higher one is the newer.
    sequence: u64,
    /// Items that follow.
    items: u64,
    /// Of the three fields above and the items.
    checksum: u64,
}

/// Bytes in front of the items of a copy.
pub const KEEP_HEADER_BYTES: usize = size_of::<Header>();
const _: () = assert!(KEEP_HEADER_BYTES == 40);

/// A list of items that outlives a restart.
///
/// ```
/// use component::{Keep, ring::SharedMemory};
///
/// let memory = SharedMemory::from_static(Box::leak(vec![0; 512].into_boxed_slice()));
/// let mut keep = Keep::<u32>::new(memory, 1);
/// let mut items = [0; 4];
/// assert_eq!(keep.load(&mut items), None);
/// assert!(keep.store(&[7, 8]));
/// // Its successor, over the same memory:
/// assert_eq!(Keep::<u32>::new(memory, 1).load(&mut items), Some(2));
/// assert_eq!(items, [7, 8, 0, 0]);
/// ```
#[derive(Debug)]
pub struct Keep<T> {
    copies: [SharedMemory; 2],
    version: u32,
    /// The newest copy that is whole, by number, and its sequence number.
    newest: Option<(usize, u64)>,
    items: PhantomData<T>,
}

impl<T: FromBytes + IntoBytes + Immutable> Keep<T> {
    /// The list in `memory`, whose items have the layout `version`; nobody else writes there from here on. Memory with no room
    /// for two headers holds nothing.
    pub fn new(memory: SharedMemory, version: u32) -> Self {
        let half = memory.len() / 16 * 8;
        let nothing = || memory.sub(0, 0).unwrap_or(memory);
        let copy = |number| memory.sub(number * half, half).unwrap_or_else(nothing);
        let mut keep = Keep { copies: [copy(0), copy(1)], version, newest: None, items: PhantomData };
        let whole = (0..2).filter_map(|number| Some((number, keep.judge(number)?.sequence)));
        keep.newest = whole.max_by_key(|&(_, sequence)| sequence);
        keep
    }

    /// Items that there is room for.
    pub fn capacity(&self) -> usize {
        self.copies[0].len().saturating_sub(KEEP_HEADER_BYTES) / size_of::<T>().max(1)
    }

    /// Items in the newest list that is whole; `None` when there is none.
    pub fn count(&self) -> Option<usize> {
        let (number, _) = self.newest?;
        usize::try_from(self.judge(number)?.items).ok()
    }

    /// Copies the newest list that is whole into the beginning of `items`. How many there are; `None` when there is none, or it
    /// has more than fit.
    pub fn load(&self, items: &mut [T]) -> Option<usize> {
        let (number, _) = self.newest?;
        let count = self.count()?;
        let place = items.get_mut(..count)?;
        self.copies[number].read(KEEP_HEADER_BYTES, place.as_mut_bytes())?;
        Some(count)
    }

    /// Stores a list in place of the one before. False, and nothing is changed, when there is no room for it.
    #[must_use]
    pub fn store(&mut self, items: &[T]) -> bool {
        if items.len() > self.capacity() || self.copies[0].len() < KEEP_HEADER_BYTES {
            return false;
        }
        let next = self.newest.and_then(|(number, sequence)| Some((1 - number, sequence.checked_add(1)?)));
        let (number, sequence) = next.unwrap_or_else(|| {
            // The first, or behind a number that only a liar can have written: neither copy counts.
            for copy in &self.copies {
                let _ = copy.store64(0, 0);
            }
            (0, 1)
        });
        let older = self.copies[number];
        let mut header = Header {
            magic: 0,
            version: self.version,
            // Items are far smaller than that, and there are far fewer.
            item_bytes: u32::try_from(size_of::<T>()).unwrap_or(0),
            sequence,
            items: items.len() as u64,
            checksum: 0,
        };
        header.checksum = checksum(&header, items.as_bytes().chunks(8).map(word));
        // From the first store on the copy is no copy, until the last one, which comes after all others.
        let _ = older.store64(0, 0);
        let _ = older.write(KEEP_HEADER_BYTES, items.as_bytes());
        let _ = older.write(0, header.as_bytes());
        let _ = older.store64(0, MAGIC);
        self.newest = Some((number, sequence));
        true
    }

    /// The header of a copy that is whole, and of the layout that is wanted.
    fn judge(&self, number: usize) -> Option<Header> {
        let copy = &self.copies[number];
        let mut header = Header::new_zeroed();
        copy.read(0, header.as_mut_bytes())?;
        let items = usize::try_from(header.items).ok()?;
        let known = header.magic == MAGIC
            && header.version == self.version
            && usize::try_from(header.item_bytes) == Ok(size_of::<T>())
            && items <= self.capacity();
        if !known {
            return None;
        }
        let bytes = items * size_of::<T>();
        let words = (0..bytes).step_by(8).map(|at| {
            let mut buffer = [0; 8];
            let len = (bytes - at).min(8);
            // Within the copy, as looked at above.
            let _ = copy.read(KEEP_HEADER_BYTES + at, &mut buffer[..len]);
            u64::from_le_bytes(buffer)
        });
        (checksum(&header, words) == header.checksum).then_some(header)
    }
}

/// Up to eight bytes as a word, zero-padded.
fn word(bytes: &[u8]) -> u64 {
    let mut buffer = [0; 8];
    buffer[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(buffer)
}

/// A checksum against torn and spoilt copies, not against an attacker: FNV-1a (Fowler, Noll, Vo) by words, each turned so that
/// high bits count as well as low ones.
fn checksum(header: &Header, words: impl Iterator<Item = u64>) -> u64 {
    let head = [u64::from(header.version) << 32 | u64::from(header.item_bytes), header.sequence, header.items];
    head.into_iter()
        .chain(words)
        .fold(0xcbf2_9ce4_8422_2325, |sum: u64, word| (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29))
}

#[cfg(test)]
#[path = "keep_tests.rs"]
mod tests;
