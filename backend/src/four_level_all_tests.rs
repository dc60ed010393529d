//! Every history of a few pages, up to a length, and every index of every level: not some that were drawn.

use super::tests::{Allows, Memory};
use super::{FourLevel, PAGE, REACH};
use crate::{Flush, Rights, Tables};
extern crate std;
use std::collections::BTreeMap;
use std::vec::Vec;

/// Pages that share tables down to each of the levels, and the last one that there is.
const PAGES: [u64; 5] = [0, PAGE, 1 << 21, 1 << 30, REACH - PAGE];
const RIGHTS: [Rights; 3] = [
    Rights { write: false, execute: false },
    Rights { write: true, execute: false },
    Rights { write: false, execute: true },
];
/// Calls in a history. Miri takes a thousand times as long, and looks for what one call does wrong.
const LENGTH: u32 = if cfg!(miri) { 1 } else { 3 };
/// Indices of a level that are looked at, spread over it: all, but under Miri.
const INDICES: u32 = if cfg!(miri) { 8 } else { 512 };

#[derive(Clone, Copy, Debug)]
enum Call {
    Map(u64, Rights),
    MapNew(u64, Rights),
    Unmap(u64),
}

fn calls() -> Vec<Call> {
    let mut all = Vec::new();
    for page in PAGES {
        for rights in RIGHTS {
            all.extend([Call::Map(page, rights), Call::MapNew(page, rights)]);
        }
        all.push(Call::Unmap(page));
    }
    all
}

/// A frame for a page: another one for each.
fn frame(page: u64) -> u64 {
    0x0007_0000_0000_0000 | (page >> 9 ^ page) & 0x0000_ffff_ffff_f000
}

fn indices() -> impl Iterator<Item = u64> {
    (0..INDICES).map(|index| u64::from(index * (512 / INDICES)))
}

fn shrinks(old: Rights, new: Rights) -> Flush {
    if old.write && !new.write || old.execute && !new.execute { Flush::Needed } else { Flush::Unneeded }
}

#[test]
fn no_history_maps_what_nobody_mapped() {
    let calls = calls();
    for mut history in 0..calls.len().pow(LENGTH) {
        let mut memory = Memory::new(64);
        let mut tables = FourLevel::<Allows>::new(&mut memory, true).expect("room");
        let mut model: BTreeMap<u64, Rights> = BTreeMap::new();
        for _ in 0..LENGTH {
            match calls[history % calls.len()] {
                // SAFETY: no CPU uses these tables.
                Call::Map(page, rights) => unsafe {
                    let flush = tables.map(&mut memory, page, frame(page), rights).expect("room");
                    let old = model.insert(page, rights);
                    assert_eq!(flush, old.map_or(Flush::Unneeded, |old| shrinks(old, rights)));
                },
                // SAFETY: as above.
                Call::MapNew(page, rights) => unsafe {
                    let is_new = tables.map_new(&mut memory, page, frame(page), rights).expect("room");
                    assert_eq!(is_new, !model.contains_key(&page));
                    model.entry(page).or_insert(rights);
                },
                Call::Unmap(page) => {
                    let was = tables.unmap(&memory, page).map(|was| (was.frame, was.rights));
                    assert_eq!(was, model.remove(&page).map(|rights| (frame(page), rights)));
                }
            }
            history /= calls.len();
        }
        for page in PAGES {
            for address in [page, page | 0xfff] {
                let found = tables.walk(&memory, address).map(|found| (found.frame, found.rights));
                assert_eq!(found, model.get(&page).map(|&rights| (frame(page), rights)), "{address:#x}");
            }
        }
        for address in [2 * PAGE, (1 << 21) + PAGE, 1 << 39, REACH - 2 * PAGE, REACH, u64::MAX] {
            assert_eq!(tables.walk(&memory, address), None, "{address:#x}");
        }
        assert_eq!(memory.in_use(), usize::try_from(tables.table_pages()).expect("few"));
        tables.free(&mut memory);
        assert_eq!(memory.in_use(), 0);
    }
}

/// An address is four indices of nine bits and an offset, and nothing else: each index of each level leads to a place of its own.
#[test]
fn each_index_of_each_level_is_one_page() {
    for level in 0..4 {
        let mut memory = Memory::new(2048);
        let mut tables = FourLevel::<Allows>::new(&mut memory, false).expect("room");
        let page = |index: u64| index << (12 + 9 * level);
        for index in indices() {
            // SAFETY: no CPU uses these tables.
            let flush = unsafe { tables.map(&mut memory, page(index), frame(page(index)), RIGHTS[1]) };
            assert_eq!(flush, Ok(Flush::Unneeded), "nothing is there yet");
        }
        for index in indices() {
            let found = tables.walk(&memory, page(index) | 0xabc).map(|found| found.frame);
            assert_eq!(found, Some(frame(page(index))), "level {level}, index {index}");
        }
        // Tables of this level's children, one for each index, down to the last level; the root, and those on the way to the first.
        assert_eq!(tables.table_pages(), 1 + (3 - level) + INDICES * level);
        tables.free(&mut memory);
        assert_eq!(memory.in_use(), 0);
    }
}
