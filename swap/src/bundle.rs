//! What a VM that is out is made of, as bytes: what its processor holds, and its pages.
//!
//! Most of what an idle VM holds is zeros. So a page is 64 lines of 64 bytes, a word says which of them are not zero, and those of several pages are gathered
//! into a block of at most 4,096 bytes, which is made smaller: by leaving away its zeros (`sparse.rs`), or by LZ4 where that takes
//! far less room; it stays as it is where neither is a gain. Coming back, only lines that are not zero are written: the frames have been cleared.
//!
//! | bytes | |
//! |---|---|
//! | 24 | [`Head`] |
//! | then, until all pages were named, blocks: | |
//! | 4 | how many pages this block names (16 bits), how many bytes of lines follow them (14 bits), and how these are made: as they are (0), by LZ4 (1), without their zeros (2); 2 bits |
//! | 12 each | number of the page (32 bits), which of its lines are in the block (64 bits); the first of the bundle is no page, but [`KEPT`] |
//! | | the lines, one behind the other |

pub use crate::sparse::LINE;

use crate::sparse;
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a page, and of the lines in a block at most.
pub const PAGE: usize = 4096;
/// Pages that a block names at most: those of zeros take no room in it.
const ITEMS: usize = 64;
/// In place of a page's number: what is kept of the VM beside its pages.
pub const KEPT: u32 = u32::MAX;
/// Bytes of a part of a bundle at most ([`Work::decode_part`]).
pub const PART: usize = 4 + ITEMS * size_of::<Item>() + PAGE;
/// First word of a bundle.
const MAGIC: u32 = u32::from_le_bytes(*b"FKB2");
/// Of the word that says how many bytes of lines follow, those bits; the others say their form.
const LENGTH: u16 = (1 << FORM) - 1;
/// The first bit of the form.
const FORM: u32 = 14;
/// Lines that take half of their room without their zeros are not tried otherwise: that is dear for whoever goes out, too.
const SPARSE: usize = 2;
/// What LZ4 wants to have room for.
const PACKED: usize = get_maximum_output_size(PAGE);

/// The beginning of a bundle.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Head {
    magic: u32,
    /// How many pages there are.
    pub pages: u32,
    /// Whose they are: [`abi::vm::VmId::raw`].
    pub vm: u64,
    /// The order by which they were stored.
    pub counter: u64,
}

const _: () = assert!(size_of::<Head>() == 24 && size_of::<Item>() == 12 && ITEMS <= 64);

impl Head {
    /// That of a bundle.
    pub fn new(vm: u64, counter: u64, pages: u32) -> Self {
        Head { magic: MAGIC, pages, vm, counter }
    }

    /// The one that these bytes begin with; `None` when it is none.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        Head::read_from_prefix(bytes).ok().map(|(head, _)| head).filter(|head| head.magic == MAGIC)
    }
}

/// A page in a block.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct Item {
    number: u32,
    lines: u64,
}

const NO_ITEM: Item = Item { number: 0, lines: 0 };

/// How the lines of a block are made into bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As they are.
    Plain,
    /// By LZ4, as one block.
    Lz4,
    /// Without their zeros.
    Sparse,
}

impl Form {
    fn bits(self) -> u16 {
        match self {
            Form::Plain => 0,
            Form::Lz4 => 1 << FORM,
            Form::Sparse => 2 << FORM,
        }
    }

    fn of(word: u16) -> Option<Form> {
        [Form::Plain, Form::Lz4, Form::Sparse].into_iter().find(|form| form.bits() == word & !LENGTH)
    }
}

/// Why bytes are no bundle, or not the one that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The chain of cells leads astray.
    Chain,
    /// The checksum is another.
    Checksum,
    /// It is another VM's, or of another order.
    Other,
    /// It ends too early.
    Short,
    /// A block on the disks is not the one that was sealed.
    Seal,
    /// Something in it makes no sense.
    Senseless(&'static str),
}

impl core::fmt::Display for Damage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Damage::Chain => "its chain of cells leads astray",
            Damage::Checksum => "its checksum is another than when it was stored",
            Damage::Other => "another bundle lies there",
            Damage::Short => "it ends too early",
            Damage::Seal => "a block on the disks is not the one that was written there",
            Damage::Senseless(what) => what,
        })
    }
}

/// A VM that goes out.
pub trait Leaving {
    /// The number of page `index`.
    fn number(&self, index: u32) -> u32;
    /// What page `index` holds.
    fn page(&self, index: u32, to: &mut [u8; PAGE]);
    /// What is kept beside its pages; the rest stays as it is.
    fn kept(&self, to: &mut [u8; PAGE]);
}

/// A VM that comes in, with cleared frames.
pub trait Entering {
    /// Page `index` is that of this number.
    fn number(&mut self, index: u32, number: u32);
    /// Line `line` of page `index`.
    fn line(&mut self, index: u32, line: usize, bytes: &[u8; LINE]);
    /// Line `line` of what is kept beside its pages. It comes before all pages, and what does not come is zeros.
    fn kept(&mut self, line: usize, bytes: &[u8; LINE]);
}

/// Memory to work in.
pub struct Work {
    page: [u8; PAGE],
    lines: [u8; PAGE],
    packed: [u8; PACKED],
    items: [Item; ITEMS],
    table: CompressTable,
}

impl Work {
    /// For any number of bundles, one after the other.
    pub const fn new() -> Self {
        Work {
            page: [0; PAGE],
            lines: [0; PAGE],
            packed: [0; PACKED],
            items: [NO_ITEM; ITEMS],
            table: CompressTable::small(),
        }
    }

    /// Makes the bytes of a bundle of a VM, in order.
    ///
    /// # Errors
    /// That of `put`.
    pub fn encode<E>(
        &mut self,
        head: Head,
        from: &impl Leaving,
        mut put: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        put(head.as_bytes())?;
        let (mut items, mut bytes) = (0, 0);
        for item in 0..=head.pages {
            let number = match item.checked_sub(1) {
                None => {
                    self.page.fill(0);
                    from.kept(&mut self.page);
                    KEPT
                }
                Some(index) => {
                    from.page(index, &mut self.page);
                    from.number(index)
                }
            };
            let lines = lines_of(&self.page);
            // At most 64.
            let more = lines.count_ones() as usize * LINE;
            if items == ITEMS || bytes + more > PAGE {
                self.pack(items, bytes, &mut put)?;
                (items, bytes) = (0, 0);
            }
            self.items[items] = Item { number, lines };
            items += 1;
            let page = self.page.as_chunks::<LINE>().0;
            for (line, to) in sparse::ones(lines).zip(self.lines[bytes..].as_chunks_mut::<LINE>().0) {
                *to = page[line];
                bytes += LINE;
            }
        }
        self.pack(items, bytes, &mut put)
    }

    /// Makes a block of what was gathered.
    fn pack<E>(&mut self, items: usize, bytes: usize, put: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let (form, len) = self.shrink(bytes);
        let stored = if form == Form::Plain { &self.lines } else { self.packed.as_slice() };
        let stored = stored.get(..len).unwrap_or_default();
        // Both are small.
        let half = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        put(&half(items).to_le_bytes())?;
        put(&(half(len) | form.bits()).to_le_bytes())?;
        put(self.items.get(..items).unwrap_or_default().as_bytes())?;
        put(stored)
    }

    /// Makes so many bytes of lines smaller; how, and how many bytes that takes, which are in `packed` unless they stay as they are.
    fn shrink(&mut self, bytes: usize) -> (Form, usize) {
        let Work { lines, packed, table, .. } = self;
        let lines = lines.get(..bytes).unwrap_or_default();
        let without_zeros = sparse::pack(lines, packed).filter(|&len| len < bytes);
        if let Some(len) = without_zeros.filter(|len| len * SPARSE <= bytes) {
            return (Form::Sparse, len);
        }
        let by_lz4 = compress_into_with_table(lines, packed, table).ok().filter(|&len| len < bytes);
        match (without_zeros, by_lz4) {
            (Some(len), by_lz4) if by_lz4.is_none_or(|other| len * 5 <= other * 8) => {
                // LZ4 has written over it.
                sparse::pack(lines, packed).map_or((Form::Plain, bytes), |len| (Form::Sparse, len))
            }
            (_, Some(len)) => (Form::Lz4, len),
            _ => (Form::Plain, bytes),
        }
    }

    /// Reads the bytes of a bundle, in order, and gives what is in it to `to`. `take` fills what it is given.
    ///
    /// # Errors
    /// That of `take`; [`Damage`] for what is no bundle, or has another head. Something may have been given to `to` already.
    pub fn decode(
        &mut self,
        head: Head,
        to: &mut impl Entering,
        mut take: impl FnMut(&mut [u8]) -> Result<(), Damage>,
    ) -> Result<(), Damage> {
        let mut decoder = Decoder::new(head);
        while !decoder.is_done() {
            self.decode_part(&mut decoder, to, &mut take)?;
        }
        Ok(())
    }

    /// Reads the next part of a bundle, at most [`PART`] bytes: its head, or a block. With an error of `take` nothing has happened: the same part can be read
    /// again when there is more of it.
    ///
    /// # Errors
    /// As [`Work::decode`].
    pub fn decode_part(
        &mut self,
        decoder: &mut Decoder,
        to: &mut impl Entering,
        mut take: impl FnMut(&mut [u8]) -> Result<(), Damage>,
    ) -> Result<(), Damage> {
        let head = decoder.head;
        if !decoder.begun {
            let mut found = Head::new(0, 0, 0);
            take(found.as_mut_bytes())?;
            if found != head {
                return Err(Damage::Other);
            }
            decoder.begun = true;
            return Ok(());
        }
        let (mut items, mut stored) = ([0; 2], [0; 2]);
        take(&mut items)?;
        take(&mut stored)?;
        let (items, stored) = (usize::from(u16::from_le_bytes(items)), u16::from_le_bytes(stored));
        let form = Form::of(stored).ok_or(Damage::Senseless("a block has a form that there is not"))?;
        let stored = usize::from(stored & LENGTH);
        if items == 0 {
            return Err(Damage::Senseless("a block names no page"));
        }
        let items = self.items.get_mut(..items).ok_or(Damage::Senseless("a block names too many pages"))?;
        take(items.as_mut_bytes())?;
        let bytes = items.iter().map(|item| { item.lines }.count_ones() as usize * LINE).sum::<usize>();
        let lines = self.lines.get_mut(..bytes).ok_or(Damage::Senseless("a block has too many lines"))?;
        if form == Form::Plain {
            if stored != bytes {
                return Err(Damage::Senseless("a block is not as long as what it holds"));
            }
            take(lines)?;
        } else {
            let packed = self.packed.get_mut(..stored).filter(|_| stored < bytes);
            let packed = packed.ok_or(Damage::Senseless("a block is longer than what it holds"))?;
            take(packed)?;
            if form == Form::Sparse {
                sparse::unpack(&self.packed, stored, lines)
                    .ok_or(Damage::Senseless("a block is not what its lines are without zeros"))?;
            } else if !decompress_into(packed, lines).is_ok_and(|made| made == bytes) {
                return Err(Damage::Senseless("a block is not what LZ4 makes"));
            }
        }
        let mut lines = lines.as_chunks::<LINE>().0.iter();
        for &Item { number, lines: mask } in items.iter() {
            let set = sparse::ones(mask).zip(&mut lines);
            match decoder.done.checked_sub(1) {
                None if number == KEPT => set.for_each(|(at, line)| to.kept(at, line)),
                Some(index)
                    if index < head.pages && number != KEPT && decoder.last.is_none_or(|last| last < number) =>
                {
                    decoder.last = Some(number);
                    to.number(index, number);
                    set.for_each(|(at, line)| to.line(index, at, line));
                }
                _ => return Err(Damage::Senseless("a page is not where it should be")),
            }
            decoder.done += 1;
        }
        Ok(())
    }
}

/// How far a bundle was read.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    head: Head,
    begun: bool,
    /// Items that were read: what is kept, and pages.
    done: u32,
    last: Option<u32>,
}

impl Decoder {
    /// Nothing was read of the bundle with this head.
    pub fn new(head: Head) -> Self {
        Decoder { head, begun: false, done: 0, last: None }
    }

    /// Whether all was read.
    pub fn is_done(&self) -> bool {
        self.begun && self.done > self.head.pages
    }
}

impl Default for Work {
    fn default() -> Self {
        Self::new()
    }
}

/// Which lines of a page are not zero.
fn lines_of(page: &[u8; PAGE]) -> u64 {
    let is_used = |line: &[u8; LINE]| line.as_chunks::<8>().0.iter().any(|word| u64::from_ne_bytes(*word) != 0);
    page.as_chunks::<LINE>().0.iter().rev().fold(0, |lines, line| lines << 1 | u64::from(is_used(line)))
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
