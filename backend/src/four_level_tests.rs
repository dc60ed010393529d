use super::*;
extern crate std;
use proptest::prelude::*;
use std::boxed::Box;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::vec::Vec;

/// A machine's memory, for tables only. Frames start at a high address, so that truncated ones are noticed.
pub(super) struct Memory {
    tables: Vec<Option<Box<[AtomicU64; 512]>>>,
    free: Vec<usize>,
    limit: usize,
    /// How often a table was asked for.
    looks: Cell<u32>,
}

const BASE: u64 = 0x000a_bcde_0000_0000;

impl Memory {
    pub(super) fn new(limit: usize) -> Memory {
        Memory { tables: Vec::new(), free: Vec::new(), limit, looks: Cell::new(0) }
    }

    fn slot(physical: u64) -> usize {
        assert_eq!(physical % PAGE, 0);
        usize::try_from((physical - BASE) / PAGE).expect("a frame of ours")
    }

    pub(super) fn in_use(&self) -> usize {
        self.tables.iter().flatten().count()
    }
}

// SAFETY: each allocated frame is a box of its own, zeroed when it is made; freed ones panic when they are used.
unsafe impl Frames for Memory {
    fn allocate(&mut self) -> Option<u64> {
        if self.in_use() == self.limit {
            return None;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.tables.push(None);
            self.tables.len() - 1
        });
        self.tables[slot] = Some(Box::new([const { AtomicU64::new(0) }; 512]));
        Some(BASE + slot as u64 * PAGE)
    }

    fn free(&mut self, physical: u64) {
        let slot = Memory::slot(physical);
        assert!(self.tables[slot].take().is_some(), "freed twice");
        self.free.push(slot);
    }

    fn table(&self, physical: u64) -> &[AtomicU64; 512] {
        self.looks.set(self.looks.get() + 1);
        self.tables[Memory::slot(physical)].as_ref().expect("not freed")
    }
}

/// A bit that allows execution.
#[derive(Debug)]
pub(super) struct Allows;
impl EntryFormat for Allows {
    const PRESENT: u64 = 7;
    const TABLE: u64 = 7;
    const LEAF: u64 = 0x30;
    const ACCESSED: u64 = 1 << 8;
    const DIRTY: u64 = 1 << 9;
    fn bits(rights: Rights) -> u64 {
        1 | u64::from(rights.write) << 1 | u64::from(rights.execute) << 2
    }
    fn rights(entry: u64) -> Rights {
        Rights { write: entry & 2 != 0, execute: entry & 4 != 0 }
    }
}

/// A bit that forbids execution.
#[derive(Debug)]
struct Forbids;
impl EntryFormat for Forbids {
    const PRESENT: u64 = 1;
    const TABLE: u64 = 7;
    const LEAF: u64 = 0;
    const ACCESSED: u64 = 1 << 5;
    const DIRTY: u64 = 1 << 6;
    fn bits(rights: Rights) -> u64 {
        5 | u64::from(rights.write) << 1 | u64::from(!rights.execute) << 63
    }
    fn rights(entry: u64) -> Rights {
        Rights { write: entry & 2 != 0, execute: entry >> 63 == 0 }
    }
}

fn map<E: EntryFormat>(
    tables: &mut FourLevel<E>,
    memory: &mut Memory,
    page: u64,
    frame: u64,
    rights: Rights,
) -> Result<Flush, NestedMapError> {
    // SAFETY: no guest runs here.
    unsafe { tables.map(memory, page, frame, rights) }
}

fn entry<'m, E: EntryFormat>(tables: &FourLevel<E>, memory: &'m Memory, page: u64) -> &'m AtomicU64 {
    tables.entry(memory, page).expect("a table")
}

fn an_entry_holds_frame_rights_and_type<E: EntryFormat>() {
    let mut memory = Memory::new(100);
    let mut tables = FourLevel::<E>::new(&mut memory, true).expect("a frame");
    assert_eq!((tables.root(), tables.tracks()), (BASE, true));
    assert_eq!(map(&mut tables, &mut memory, 0x5000, 0x7_1234_5000, Rights::READ_WRITE), Ok(Flush::Unneeded));
    let leaf = entry(&tables, &memory, 0x5000).load(Ordering::Relaxed);
    assert_eq!(leaf, FourLevel::<E>::leaf(0x7_1234_5000, Rights::READ_WRITE));
    assert_eq!(leaf, 0x7_1234_5000 | E::bits(Rights::READ_WRITE) | E::LEAF);
    assert_eq!(tables.table_pages(), 4);
    let root = memory.table(BASE)[0].load(Ordering::Relaxed);
    assert_eq!(root & !FRAME, E::TABLE, "upper levels allow everything, and have no other bit set");
    assert_eq!(tables.walk(&memory, 0x5fff).expect("mapped").frame, 0x7_1234_5000);
    assert_eq!(tables.walk(&memory, 0x6000), None);
    assert_eq!(tables.walk(&memory, 1 << 40), None);
    assert_eq!(tables.walk(&memory, u64::MAX), None);
}

fn what_needs_a_flush<E: EntryFormat>() {
    let mut memory = Memory::new(100);
    let mut tables = FourLevel::<E>::new(&mut memory, true).expect("a frame");
    let e = &mut tables;
    let m = &mut memory;
    assert_eq!(map(e, m, 0, 0x1000, Rights::READ), Ok(Flush::Unneeded), "nothing was there");
    assert_eq!(map(e, m, 0, 0x1000, Rights::ALL), Ok(Flush::Unneeded), "more rights");
    assert_eq!(map(e, m, 0, 0x1000, Rights::READ_EXECUTE), Ok(Flush::Needed), "fewer");
    assert_eq!(map(e, m, 0, 0x2000, Rights::ALL), Ok(Flush::Needed), "another frame");
    assert_eq!(map(e, m, 0, 0x2000, Rights::ALL), Ok(Flush::Unneeded));
    assert_eq!(map(e, m, 0, 0x2000, Rights::READ_WRITE), Ok(Flush::Needed));
    assert_eq!(map(e, m, 0, 0x2000, Rights::READ_EXECUTE), Ok(Flush::Needed), "execute came, write went");
    assert_eq!(e.walk(m, 0).expect("mapped").rights, Rights::READ_EXECUTE);
    assert!(e.unmap(m, 0).is_some());
    assert_eq!(e.unmap(m, 0), None);
    assert_eq!(map(e, m, 0, 0x3000, Rights::ALL), Ok(Flush::Unneeded), "it is empty again");
}

fn accessed_and_dirty<E: EntryFormat>() {
    let mut memory = Memory::new(100);
    let mut tables = FourLevel::<E>::new(&mut memory, true).expect("a frame");
    assert_eq!(map(&mut tables, &mut memory, 0, 0x1000, Rights::ALL), Ok(Flush::Unneeded));
    let fresh = tables.walk(&memory, 0).expect("mapped");
    assert!(!fresh.accessed && !fresh.dirty);
    entry(&tables, &memory, 0).fetch_or(E::ACCESSED | E::DIRTY, Ordering::Relaxed); // as a CPU does
    assert_eq!(map(&mut tables, &mut memory, 0, 0x1000, Rights::READ), Ok(Flush::Needed));
    assert_eq!(map(&mut tables, &mut memory, 0, 0x1000, Rights::ALL), Ok(Flush::Unneeded));
    let used = tables.walk(&memory, 0).expect("mapped");
    assert!(used.accessed && used.dirty, "ktables for the same frame");
    assert_eq!(map(&mut tables, &mut memory, 0, 0x2000, Rights::ALL), Ok(Flush::Needed));
    assert!(!tables.walk(&memory, 0).expect("mapped").dirty, "another frame starts clean");

    let mut blind = FourLevel::<E>::new(&mut memory, false).expect("a frame");
    assert!(!blind.tracks());
    assert_eq!(map(&mut blind, &mut memory, 0, 0x1000, Rights::ALL), Ok(Flush::Unneeded));
    let assumed = blind.walk(&memory, 0).expect("mapped");
    assert!(assumed.accessed && assumed.dirty, "the worst is assumed");
    assert_eq!(map(&mut blind, &mut memory, 0, 0x1000, Rights::READ), Ok(Flush::Needed));
    assert!(!blind.walk(&memory, 0).expect("mapped").dirty);
}

fn bad_addresses_change_nothing<E: EntryFormat>() {
    let mut memory = Memory::new(100);
    let mut tables = FourLevel::<E>::new(&mut memory, true).expect("a frame");
    for (page, frame) in [(1, 0), (REACH, 0), (FRAME, 0), (0, 1), (0, 1 << 52)] {
        assert_eq!(map(&mut tables, &mut memory, page, frame, Rights::ALL), Err(NestedMapError::BadAddress));
    }
    assert_eq!(tables.table_pages(), 1);
    assert_eq!(map(&mut tables, &mut memory, REACH - PAGE, FRAME, Rights::ALL), Ok(Flush::Unneeded));
    assert_eq!(tables.walk(&memory, REACH - 1).expect("mapped").frame, FRAME);
}

fn running_out_of_frames_loses_none<E: EntryFormat>() {
    for limit in 1..4 {
        let mut memory = Memory::new(limit);
        let mut tables = FourLevel::<E>::new(&mut memory, true).expect("a frame");
        assert_eq!(map(&mut tables, &mut memory, 0, 0x1000, Rights::ALL), Err(NestedMapError::NoFrame));
        assert_eq!(tables.walk(&memory, 0), None);
        assert_eq!(tables.table_pages() as usize, memory.in_use());
        memory.limit = 4;
        assert_eq!(map(&mut tables, &mut memory, 0, 0x1000, Rights::ALL), Ok(Flush::Unneeded));
        assert_eq!(tables.table_pages(), 4);
        tables.free(&mut memory);
        assert_eq!(memory.in_use(), 0);
    }
    assert!(FourLevel::<E>::new(&mut Memory::new(0), true).is_none());
}

/// The first address beyond what the tables reach must not be taken for 0, which it is in the bits that a walk looks at.
fn the_first_address_out_of_reach_is_not_page_0<E: EntryFormat>() {
    const OUT: u64 = 1 << 48;
    let mut memory = Memory::new(100);
    let mut tables = FourLevel::<E>::new(&mut memory, true).expect("a frame");
    assert_eq!(map(&mut tables, &mut memory, 0, 0x1000, Rights::ALL), Ok(Flush::Unneeded));
    assert_eq!(tables.walk(&memory, OUT), None);
    assert_eq!(tables.unmap(&memory, OUT), None);
    assert_eq!(map(&mut tables, &mut memory, OUT, 0x2000, Rights::ALL), Err(NestedMapError::BadAddress));
    let kept = tables.walk(&memory, 0).expect("still mapped");
    assert_eq!((kept.frame, kept.rights), (0x1000, Rights::ALL));
    let last = OUT - PAGE;
    assert_eq!(map(&mut tables, &mut memory, last, 0x2000, Rights::ALL), Ok(Flush::Unneeded));
    assert_eq!(tables.walk(&memory, OUT - 1).expect("mapped").frame, 0x2000);
}

/// Pages come mostly next to one another: only the first of 2 MiB takes a walk.
fn the_next_page_of_a_region_takes_one_look<E: EntryFormat>() {
    const REGION: u64 = 512 * PAGE;
    let mut memory = Memory::new(100);
    let mut tables = FourLevel::<E>::new(&mut memory, true).expect("a frame");
    let mut looks = |page| {
        memory.looks.set(0);
        assert_eq!(map(&mut tables, &mut memory, page, 0x1000, Rights::ALL), Ok(Flush::Unneeded));
        memory.looks.get()
    };
    assert!(looks(3 * REGION) > 1);
    assert_eq!(looks(3 * REGION + PAGE), 1);
    assert_eq!(looks(4 * REGION - PAGE), 1);
    assert!(looks(4 * REGION) > 1, "another table");
}

/// Each page is mapped to the frame as far behind the first one, but for those that are mapped already; a run that leaves its table, or frames that there are not,
/// change nothing.
fn a_run_is_as_many_pages<E: EntryFormat>() {
    const FRAME: u64 = 1 << 40;
    let read = Rights { write: false, execute: false };
    let mut memory = Memory::new(8);
    let mut tables = FourLevel::<E>::new(&mut memory, true).expect("a frame");
    let before = map(&mut tables, &mut memory, 502 * PAGE, 7 * FRAME, Rights { write: true, execute: false });
    assert_eq!(before, Ok(Flush::Unneeded));
    // SAFETY: no CPU uses these tables.
    let mut run = |page, frame, count| unsafe { tables.map_run(&mut memory, page, frame, count, read) };
    assert_eq!(run(500 * PAGE, FRAME, 12), Ok(11));
    assert_eq!(run(500 * PAGE, 2 * FRAME, 3), Ok(0));
    assert_eq!(run(9 * PAGE, FRAME, 0), Ok(0));
    for (page, frame, count) in [
        (500 * PAGE, FRAME, 13),
        (9 * PAGE, FRAME, u32::MAX),
        (9 * PAGE, super::FRAME, 2),
        (9 * PAGE, FRAME + 1, 1),
        (9 * PAGE + 1, FRAME, 1),
        (REACH, FRAME, 1),
    ] {
        assert_eq!(run(page, frame, count), Err(NestedMapError::BadAddress), "{page:#x} {frame:#x} {count}");
    }
    assert_eq!(run(9 * PAGE, super::FRAME, 1), Ok(1), "the last frame that there is");
    let found = |page: u64| tables.walk(&memory, page * PAGE).map(|found| (found.frame, found.rights.write));
    for page in 500..512 {
        let expected = if page == 502 { (7 * FRAME, true) } else { (FRAME + (page - 500) * PAGE, false) };
        assert_eq!(found(page), Some(expected), "{page}");
    }
    assert_eq!((found(499), found(512), found(10)), (None, None, None));
    tables.free(&mut memory);
    assert_eq!(memory.in_use(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Map(u64, u64, Rights),
    Unmap(u64),
}

/// One of 81 pages that lie far apart in the tables of every level.
fn page(a: u64, b: u64, c: u64, d: u64) -> u64 {
    200 * (a << 39 | b << 30 | c << 21 | d << 12)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few pages in few tables, on every level, so that steps meet.
    let page = (0..3u64, 0..3u64, 0..3u64, 0..3u64).prop_map(|(a, b, c, d)| page(a, b, c, d));
    let rights = (any::<bool>(), any::<bool>()).prop_map(|(write, execute)| Rights { write, execute });
    let step = prop_oneof![
        3 => (page.clone(), 0..8u64, rights).prop_map(|(page, frame, rights)| Step::Map(page, frame << 40, rights)),
        1 => page.prop_map(Step::Unmap),
    ];
    proptest::collection::vec(step, 1..STEPS)
}

/// Steps of one history, and frames for its tables, at most. Miri takes its time over each of a table's 512 entries.
const STEPS: usize = if cfg!(miri) { 10 } else { 60 };
const FRAMES: usize = if cfg!(miri) { 20 } else { 200 };

fn less(old: Rights, new: Rights) -> bool {
    old.write && !new.write || old.execute && !new.execute
}

/// The tables behave as a map from pages to frames and rights, say when a flush is due, and give every frame back.
fn tables_are_a_map<E: EntryFormat>(steps: Vec<Step>, limit: usize) -> Result<(), TestCaseError> {
    let mut memory = Memory::new(limit);
    let mut tables = FourLevel::<E>::new(&mut memory, true).expect("a frame");
    let mut model: BTreeMap<u64, (u64, Rights)> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Map(page, frame, rights) => match map(&mut tables, &mut memory, page, frame, rights) {
                Ok(flush) => {
                    let old = model.insert(page, (frame, rights));
                    let stale = old.is_some_and(|(was, had)| was != frame || less(had, rights));
                    prop_assert_eq!(flush == Flush::Needed, stale);
                }
                Err(error) => {
                    prop_assert_eq!(error, NestedMapError::NoFrame);
                    prop_assert_eq!(memory.in_use(), limit);
                    prop_assert!(!model.contains_key(&page));
                }
            },
            Step::Unmap(page) => {
                let found = tables.unmap(&memory, page).map(|t| (t.frame, t.rights));
                prop_assert_eq!(found, model.remove(&page));
            }
        }
        prop_assert_eq!(usize::try_from(tables.table_pages()).expect("small"), memory.in_use());
    }
    for a in 0..81u64 {
        let digit = |n: u32| a / 3u64.pow(n) % 3;
        let page = page(digit(3), digit(2), digit(1), digit(0));
        let found = tables.walk(&memory, page | 0xabc).map(|t| (t.frame, t.rights));
        prop_assert_eq!(found, model.get(&page).copied(), "page {:#x}", page);
    }
    tables.free(&mut memory);
    prop_assert_eq!(memory.in_use(), 0);
    Ok(())
}

macro_rules! for_both_formats {
    ($($name:ident)*) => {
        mod with_a_bit_that_allows {
            $(#[test] fn $name() { super::$name::<super::Allows>() })*
        }
        mod with_a_bit_that_forbids {
            $(#[test] fn $name() { super::$name::<super::Forbids>() })*
        }
    };
}

for_both_formats! {
    an_entry_holds_frame_rights_and_type
    what_needs_a_flush
    accessed_and_dirty
    bad_addresses_change_nothing
    running_out_of_frames_loses_none
    the_first_address_out_of_reach_is_not_page_0
    the_next_page_of_a_region_takes_one_look
    a_run_is_as_many_pages
}

proptest! {
    #[test]
    fn tables_with_a_bit_that_allows_are_a_map(steps in steps(), limit in 10..FRAMES) {
        tables_are_a_map::<Allows>(steps, limit)?;
    }

    #[test]
    fn tables_with_a_bit_that_forbids_are_a_map(steps in steps(), limit in 10..FRAMES) {
        tables_are_a_map::<Forbids>(steps, limit)?;
    }
}
