//! Chains against a model that knows who has which cell.

use super::*;
use proptest::prelude::*;
use std::boxed::Box;
use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

fn cells(bytes: usize) -> Cells {
    Cells::new(SharedMemory::from_static(Box::leak(vec![0_u64; bytes / 8].into_boxed_slice()))).expect("large enough")
}

/// The numbers of a chain's cells.
fn numbers(cells: &Cells, first: u32, count: u32) -> Vec<u32> {
    let mut next = first;
    (0..count)
        .map(|_| {
            let cell = next;
            next = cells.link(cell);
            cell
        })
        .collect()
}

fn content(cells: &Cells, first: u32, count: u32) -> Vec<u8> {
    let mut chain = cells.read(first, count);
    let mut all = Vec::new();
    while let Some(cell) = chain.cell().expect("whole") {
        all.extend(cell);
    }
    all
}

#[test]
fn what_is_too_small_is_refused() {
    for bytes in [0, 8, 256, 504] {
        assert!(Cells::new(SharedMemory::from_static(Box::leak(vec![0; bytes / 8].into_boxed_slice()))).is_none());
    }
    let cells = cells(512);
    assert_eq!((cells.count(), cells.free(), cells.offset(0)), (1, 1, 256));
}

#[test]
fn a_cell_is_found_by_where_it_begins() {
    let cells = cells(1 << 20);
    for cell in [0, 1, cells.count() - 1] {
        assert_eq!(cells.at(cells.offset(cell)), Some(cell));
        assert_eq!(cells.at(cells.offset(cell) + 64), None);
    }
    assert_eq!((cells.at(0), cells.at(cells.offset(cells.count()))), (None, None));
}

#[test]
fn every_cell_can_be_had_once_in_a_pool_with_all_levels() {
    // Four levels of bits.
    let mut cells = cells(68 << 20);
    let count = cells.count();
    assert!(count > 64 * 64 * 64 && cells.depth == 4);
    let mut had = vec![false; index(count)];
    while let Some(cell) = cells.take() {
        assert!(!core::mem::replace(&mut had[index(cell)], true));
    }
    assert!(had.into_iter().all(|had| had) && cells.free() == 0);
    for cell in [7, count - 1, 300_000 % count] {
        cells.mark(cell, true);
        assert_eq!(cells.find(0), Some(cell));
        assert_eq!(cells.find(cell), Some(cell));
        assert_eq!((cell + 1 < count).then(|| cells.find(cell + 1)).flatten(), None);
        cells.mark(cell, false);
    }
}

#[test]
fn a_chain_that_leads_astray_is_found_out() {
    let mut cells = cells(64 * CELL);
    let mut writer = cells.write(0);
    writer.put(&[7; 3 * PAYLOAD]).expect("room");
    let (first, count) = writer.finish().expect("whole");
    assert_eq!(count, 3);
    // To a free cell, to none, and back to itself.
    for (link, claimed) in [(40, Ok(())), (1000, Err(Broken)), (first, Ok(()))] {
        cells.memory.write32(cells.offset(first), link).expect("inside");
        let mut chain = cells.read(first, count);
        let read = (0..count).map(|_| chain.cell()).find(Result::is_err);
        assert_eq!(read.is_some(), link != first, "and who goes round is stopped by the number of cells");
        cells.clear();
        assert_eq!(cells.claim(first, count), claimed);
    }
}

proptest! {
    #[test]
    fn chains_hold_what_was_put_and_lie_apart(
        steps in prop::collection::vec((0..4_u8, any::<prop::sample::Index>(), 0..4000_usize, 0..20_u32), 1..60),
    ) {
        let mut cells = cells(64 * CELL);
        let mut chains: Vec<(u32, u32, Vec<u8>)> = Vec::new();
        let mut serial = 0_u8;
        for (step, which, bytes, keep) in steps {
            match step {
                0 | 1 => {
                    serial = serial.wrapping_add(1);
                    let what = vec![serial; bytes];
                    let free = cells.free();
                    let mut writer = cells.write(keep);
                    let put = what.chunks(100).try_for_each(|part| writer.put(part));
                    let needed = u32::try_from(bytes.div_ceil(PAYLOAD)).expect("small");
                    prop_assert_eq!(put.is_ok(), needed + keep <= free || needed == 0, "refused only where there is no room");
                    match writer.finish() {
                        Ok((first, count)) => {
                            prop_assert_eq!(count, needed);
                            chains.push((first, count, what));
                        }
                        Err(Full) => prop_assert_eq!(cells.free(), free, "what was refused takes nothing"),
                    }
                }
                2 if !chains.is_empty() => {
                    let (first, count, _) = chains.swap_remove(which.index(chains.len()));
                    let numbers = numbers(&cells, first, count);
                    cells.release(first, count);
                    for cell in numbers {
                        let mut bytes = [1; CELL];
                        cells.memory.read(cells.offset(cell), &mut bytes).expect("inside");
                        prop_assert_eq!(bytes, [0; CELL], "nothing of it can be found");
                    }
                }
                3 => {
                    // A successor that is told of all chains.
                    cells.clear();
                    for &(first, count, _) in &chains {
                        prop_assert_eq!(cells.claim(first, count), Ok(()));
                    }
                }
                _ => {}
            }
            let mut taken = BTreeSet::new();
            for (first, count, what) in &chains {
                for cell in numbers(&cells, *first, *count) {
                    prop_assert!(!cells.is_free(cell) && taken.insert(cell));
                }
                prop_assert_eq!(&content(&cells, *first, *count)[..what.len()], &what[..]);
            }
            prop_assert_eq!(index(cells.free()) + taken.len(), index(cells.count()));
        }
    }
}
