//! Files of images on blocks in memory, with power cuts at every place.

use super::block::Head;
use super::tests::{Bytes, Tape, cuts, now};
use super::*;
use crate::library::{Kept, Library, kept_of, record};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use core::cell::Cell;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Blocks of records and lines, and the ones of images behind them.
const STATE: u32 = 16;
const IMAGES: u32 = 12;

/// A blank disk that is divided so.
fn small() -> Tape {
    let tape = Tape::new((STATE + IMAGES) as usize);
    let layout = Layout { store: [3; 16], records: 5, history: 5, images: IMAGES };
    tape.blocks.borrow_mut()[0] = layout.first_block();
    tape
}

struct Shelf {
    store: Store<Tape>,
    library: Library,
}

/// The images of a disk, each of which is as it was put.
fn open(tape: Tape) -> (Shelf, BTreeMap<String, [u8; 32]>) {
    let (store, records) = now(Store::open(tape, [9; 16])).map_err(|(_, why)| why).expect("a store");
    let images = records
        .iter()
        .map(|((_, key), value)| kept_of(core::str::from_utf8(key).expect("a name"), value).expect("an image"));
    let library = Library::of(images.collect(), store.image_blocks()).expect("each has its place");
    let mut found = BTreeMap::new();
    for (name, kept) in library.iter() {
        let mut file = Vec::new();
        now(store.read_image(extents::places(&kept.place), &mut file)).expect("it is there");
        file.truncate(kept.file_bytes as usize);
        let digest: [u8; 32] = Sha256::digest(&file).into();
        assert_eq!(digest, kept.digest, "the file of {name} is not as it was put");
        found.insert(name.to_string(), digest);
    }
    (Shelf { store, library }, found)
}

impl Shelf {
    /// Puts or removes one, as it is done for an operator.
    fn change(&mut self, name: &str, bytes: usize, seed: u8) -> bool {
        if bytes == 0 {
            if !self.library.remove(name) {
                return false;
            }
        } else {
            let file: Vec<u8> =
                (0..bytes).map(|at| seed.wrapping_add(u8::try_from(at % 251).expect("below 251"))).collect();
            let Ok(place) = self.library.place(bytes, self.store.image_blocks()) else { return false };
            let all: Vec<u32> = extents::places(&place).collect();
            now(self.store.write_image(all.iter().copied(), &file)).expect("a healthy disk");
            now(self.store.settle_image()).expect("a healthy disk");
            let digest = Sha256::digest(&file).into();
            let (file_bytes, args) = (u32::try_from(bytes).expect("small"), String::new());
            self.library.add(
                name,
                Kept { memory_bytes: 1 << 20, file_bytes, held_bytes: 1, digest, args, place, used: Cell::new(0) },
            );
        }
        let leaving = self.library.leaving();
        let changed = self.library.take_changed();
        let library = &self.library;
        let all = || library.iter().filter_map(|(name, kept)| record(name, Some(kept))).collect();
        now(self.store.commit(&changed, all, core::iter::empty())).expect("there is room for records");
        self.library.left(leaving);
        true
    }
}

/// Carries changes out one after the other, and looks at whatever a power cut may leave at any time.
fn survive(changes: &[(u8, usize)]) -> (usize, usize) {
    let tape = small();
    let (mut shelf, _) = open(tape.clone());
    let base: Vec<Box<Bytes>> = tape.copy().blocks.borrow().clone();
    let mut states = vec![BTreeMap::new()];
    let (mut ends, mut refused) = (vec![0], 0);
    for (step, (name, bytes)) in changes.iter().enumerate() {
        let name = format!("i{name}");
        let bytes = if shelf.library.get(&name).is_some() { 0 } else { *bytes };
        if !shelf.change(&name, bytes, u8::try_from(step).expect("few")) {
            refused += 1;
            continue;
        }
        states.push(open(tape.copy()).1);
        ends.push(tape.orders.borrow().len());
    }
    let orders = tape.orders.borrow().clone();
    let mut looked = 0;
    for end in 0..=orders.len() {
        // Which changes were carried out as a whole by then; the next one has begun.
        let whole = ends.iter().rposition(|at| *at <= end).unwrap_or(0);
        cuts(&base, &orders[..end], |blocks| {
            let (_, found) = open(Tape::of(blocks));
            let is_whole = states[whole] == found || states.get(whole + 1) == Some(&found);
            assert!(is_whole, "cut behind {end} of {} orders, in change {whole}", orders.len());
            looked += 1;
        });
    }
    (looked, refused)
}

#[test]
fn a_power_cut_leaves_an_image_whole_or_none_at_every_write() {
    // Each is three blocks or so: the fifth one has no room, and its place is that of one that is gone.
    let changes = [
        (1, 9000),
        (2, 12000),
        (3, 8000),
        (4, 9000),
        (5, 9000),
        (2, 0),
        (6, 12000),
        (1, 0),
        (3, 0),
        (7, 20000),
        (4, 0),
        (8, 3000),
    ];
    let (looked, refused) = survive(&changes);
    assert!(looked > 150 && refused == 1, "{looked} disks, {refused} without room");
}

#[test]
fn what_follows_the_history_is_for_images_also_on_a_disk_that_has_grown() {
    let tape = small();
    let (mut shelf, _) = open(tape.clone());
    assert!(shelf.change("a", 5000, 1) && !shelf.change("b", 50000, 2));
    let mut blocks = tape.blocks.borrow().clone();
    blocks.resize_with(blocks.len() + 10, || Box::new([0; BLOCK_BYTES]));
    let larger = Tape::of(blocks);
    let (mut shelf, found) = open(larger.clone());
    assert_eq!((shelf.store.image_blocks(), found.len()), (IMAGES + 10, 1));
    assert!(shelf.change("b", 50000, 2));
    assert_eq!(open(larger).1.len(), 2);
    // One as it was before there were images: version 1.
    let old = small();
    let holds = [1_u32, 5, 5].map(u32::to_le_bytes).concat();
    let head = Head { store: [3; 16], number: 0, role: Role::Beginning, place: 0, whole: 0 };
    old.blocks.borrow_mut()[0] = block::seal(&head, &holds);
    let (mut shelf, _) = open(old.clone());
    assert!(shelf.store.image_blocks() == IMAGES && shelf.change("a", 5000, 1));
    assert_eq!(open(old).1.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_images_survive_power_cuts(changes in prop::collection::vec((0..5_u8, 1..20_000_usize), 1..14)) {
        survive(&changes);
    }
}
