use super::*;
use crate::store::record::take;
use alloc::vec;
use proptest::prelude::*;

fn kept(bytes: u32, place: &[(u32, u32)]) -> Kept {
    Kept {
        memory_bytes: 8 << 20,
        file_bytes: bytes,
        held_bytes: bytes / 2,
        digest: [7; 32],
        args: "a=b c".to_string(),
        place: place.iter().map(|&(start, blocks)| Extent { start, blocks }).collect(),
        used: Cell::new(0),
    }
}

#[test]
fn what_is_kept_of_an_image_is_found_again() {
    let many: Vec<(u32, u32)> = (0..200).map(|number| (2 * number, 1)).collect();
    for kept in [kept(4096, &[(3, 1)]), kept(4097, &[(9, 1), (1, 1)]), kept(200 * 4096, &many)] {
        let bytes = record("shop", Some(&kept)).expect("short");
        let (found, rest) = take(&bytes).expect("a record");
        assert!(rest.is_empty() && found.kind == Kind::Image && found.key == b"shop");
        assert_eq!(kept_of("shop", found.value.expect("it is there")), Some(("shop".to_string(), kept)));
    }
    let too_many: Vec<(u32, u32)> = (0..201).map(|number| (2 * number, 1)).collect();
    assert_eq!(record("shop", Some(&kept(201 * 4096, &too_many))), None);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let good = bytes_of(&kept(4097, &[(9, 1), (1, 1)])).expect("short");
    assert!(
        kept_of("a", &good).is_some() && kept_of("", &good).is_none() && kept_of("seventeen-letters", &good).is_none()
    );
    // Memory, bytes of the file, what is zero, lengths, and the blocks of a piece.
    for (at, value) in [
        (0, 1),
        (4, 1),
        (9, 0),
        (48, 1),
        (52, 4),
        (53, 9),
        (54, 1),
        (HEADER, 0xff),
        (HEADER + 5 + 4, 0),
        (HEADER + 5 + 4, 2),
    ] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(kept_of("a", &bad), None, "{at} {value}");
    }
    assert_eq!((kept_of("a", &good[..good.len() - 1]), kept_of("a", &[good, vec![0]].concat())), (None, None));
    let at = |place: &[(u32, u32)]| ("a".to_string(), kept(8192, place));
    let other = ("b".to_string(), kept(4096, &[(4, 1)]));
    assert!(Library::of(vec![at(&[(2, 2)]), other.clone()], 5).is_some());
    assert!(Library::of(vec![at(&[(3, 2)]), other.clone()], 5).is_none(), "both have block 4");
    assert!(Library::of(vec![at(&[(2, 2)]), other], 4).is_none(), "block 4 is not of the area");
}

#[test]
fn a_place_is_free_when_it_is_on_the_disk_that_its_file_is_gone() {
    let mut library = Library::default();
    let place = library.place(5000, 4).expect("two blocks");
    library.add("a", Kept { place, ..kept(5000, &[]) });
    assert_eq!((library.take_changed().len(), library.taken()), (1, 2));
    assert_eq!(library.place(9000, 4), Err(NoPlace::Full(2)));
    assert!(library.remove("a") && !library.remove("a"));
    assert_eq!((library.take_changed().len(), library.leaving()), (1, 1));
    assert_eq!(library.place(9000, 4), Err(NoPlace::Full(2)), "a power cut may bring it back");
    library.left(1);
    assert!(library.place(9000, 4).is_ok());
}

proptest! {
    #[test]
    fn no_value_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        if let Some((_, kept)) = kept_of("a", &bytes) {
            prop_assert_eq!(bytes_of(&kept), Some(bytes));
        }
    }
}
