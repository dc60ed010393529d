use super::*;
use crate::superblock::tests::sample;
use crate::{Layout, Superblock};
use proptest::prelude::*;

fn name(text: &str) -> EntryName {
    EntryName::new(text).expect("good")
}

/// Swap regions and two virtual disks in a set of three members with 976 blocks of data each.
fn entries() -> [Entry; 3] {
    let disk = |id, text, first, blocks, read_only| Entry {
        kind: Kind::Disk { read_only },
        id,
        name: name(text),
        first,
        blocks,
        beneath: None,
    };
    [
        Entry { kind: Kind::Swap { region: 40 }, id: 0, name: name("swap"), first: 16, blocks: 120, beneath: None },
        disk(1, "web", 144, 600, true),
        disk(2, "log", 752, 513, false),
    ]
}

fn packed(entries: &[Entry]) -> (Vec<u8>, Superblock) {
    let mut bytes = vec![0xff; 4096];
    let used = pack(entries, &mut bytes).expect("room");
    assert!(bytes[used..].iter().all(|&byte| byte == 0));
    let directory_checksum = directory_checksum(&bytes[..used]);
    let count = u32::try_from(entries.len()).expect("few");
    (bytes, Superblock { entries: count, directory_checksum, ..sample() })
}

fn read(bytes: &[u8], superblock: &Superblock) -> Result<Vec<Entry>, Fault> {
    checked(bytes, superblock, &superblock.stripes().expect("good")).map(Iterator::collect)
}

#[test]
fn what_was_written_is_read() {
    let (bytes, superblock) = packed(&entries());
    assert_eq!(read(&bytes, &superblock), Ok(entries().to_vec()));
    let each: Vec<Option<Entry>> = (0..4).map(|index| entry_at(&bytes, index)).collect();
    assert_eq!(each, [Some(entries()[0]), Some(entries()[1]), Some(entries()[2]), None]);
    assert_eq!((entry_at(&bytes, 64), entry_at(&bytes, usize::MAX)), (None, None));
    let (bytes, superblock) = packed(&[]);
    assert_eq!(read(&bytes, &superblock), Ok(vec![]));
    assert_eq!(read(&[0; 63], &Superblock { entries: 1, ..superblock }), Err(Fault::Length));
    assert_eq!(read(&bytes, &Superblock { entries: u32::MAX, ..superblock }), Err(Fault::Length));
    assert_eq!(pack(&entries(), &mut [0; 191]), None);
}

#[test]
fn places_of_blocks() {
    let [swap, web, log] = entries();
    assert_eq!([swap.extent(), web.extent(), log.extent()], [120, 602, 515]);
    assert_eq!([0, 2, 3, u64::MAX].map(|i| swap.swap_region(i)), [Some((16, 40)), Some((96, 40)), None, None]);
    assert_eq!([0, 599, 600].map(|i| web.data(i)), [Some(146), Some(745), None]);
    assert_eq!((swap.data(0), web.swap_region(0)), (None, None));
}

#[test]
fn what_makes_no_sense_is_named() {
    type Spoil = fn(&mut [Entry; 3]);
    let cases: [(Fault, Spoil); 12] = [
        (Fault::Place(0), |it| it[0].first = 17),
        (Fault::Place(1), |it| it[1].first = 128),
        (Fault::Place(2), |it| it[2].first = 736),
        (Fault::Place(2), |it| it[2].blocks = 5000),
        (Fault::Place(2), |it| it.swap(1, 2)),
        (Fault::Twice(2), |it| it[2].name = it[1].name),
        (Fault::Twice(2), |it| it[2].id = 0),
        (Fault::Twice(2), |it| it[2].id = 3),
        (Fault::Entry(1, "name"), |it| it[1].name.0[0] = 0),
        (Fault::Entry(0, "region"), |it| it[0].kind = Kind::Swap { region: 50 }),
        (Fault::Entry(0, "region"), |it| it[0].kind = Kind::Swap { region: 0 }),
        (Fault::Entry(2, "blocks"), |it| it[2].blocks = 0),
    ];
    for (fault, change) in cases {
        let mut all = entries();
        change(&mut all);
        let (bytes, superblock) = packed(&all);
        assert_eq!(read(&bytes, &superblock), Err(fault), "{all:?}");
    }
    let raw: [(Fault, usize, u8); 7] = [
        (Fault::Entry(0, "kind"), 0, 3),
        (Fault::Entry(0, "extent"), 32, 1),
        (Fault::Entry(0, "flags"), 56, 1),
        (Fault::Entry(1, "flags"), 64 + 56, 2),
        (Fault::Entry(1, "region"), 64 + 48, 1),
        (Fault::Entry(0, "beneath"), 60, 1),
        (Fault::Entry(2, "name"), 128 + 8, b'/'),
    ];
    for (fault, at, byte) in raw {
        let (mut bytes, mut superblock) = packed(&entries());
        bytes[at] = byte;
        assert_eq!(read(&bytes, &superblock), Err(Fault::Checksum));
        superblock.directory_checksum = directory_checksum(&bytes[..192]);
        assert_eq!(read(&bytes, &superblock), Err(fault));
    }
}

#[test]
fn what_lies_beneath_is_older_never_written_and_as_large() {
    let good = || {
        let [swap, web, log] = entries();
        [swap, web, Entry { blocks: web.blocks, beneath: Some(web.id), ..log }]
    };
    let check = |all: [Entry; 3]| {
        let (bytes, superblock) = packed(&all);
        read(&bytes, &superblock)
    };
    assert_eq!(check(good()), Ok(good().to_vec()));
    let (bytes, _) = packed(&good());
    assert_eq!([1, 2].map(|index| depth(&bytes, 3, &good()[index])), [Some(0), Some(1)]);
    assert_eq!([0, 2, 3].map(|id| entry_of(&bytes, 3, id)), [Some(good()[0]), Some(good()[2]), None]);
    type Spoil = fn(&mut [Entry; 3]);
    let cases: [(usize, Spoil); 6] = [
        (2, |it| it[2].blocks = 512),
        (2, |it| it[1].kind = Kind::Disk { read_only: false }),
        (2, |it| it[2].beneath = Some(2)),
        (2, |it| it[2].beneath = Some(0)),
        (2, |it| it[2].beneath = Some(7)),
        // A virtual disk that lies on a younger one.
        (1, |it| (it[1].beneath, it[2].kind) = (Some(2), Kind::Disk { read_only: true })),
    ];
    for (at, change) in cases {
        let mut all = good();
        change(&mut all);
        assert_eq!(check(all), Err(Fault::Beneath(at)), "{all:?}");
    }
}

#[test]
fn no_more_than_so_many_lie_beneath_each_other() {
    let of = |count: u32| -> Vec<Entry> {
        let one = |id: u32| Entry {
            kind: Kind::Disk { read_only: id + 1 < count },
            id,
            name: name(&format!("d{id}")),
            first: u64::from(id) * 16,
            blocks: 3,
            beneath: id.checked_sub(1),
        };
        (0..count).map(one).collect()
    };
    let most = u32::try_from(MAX_DEPTH).expect("few") + 1;
    for (count, good) in [(most, true), (most + 1, false)] {
        let (bytes, superblock) = packed(&of(count));
        let superblock = Superblock { next_id: count, ..superblock };
        assert_eq!(read(&bytes, &superblock).is_ok(), good, "{count}");
    }
}

/// Places where ids are not the order.
#[test]
fn an_entry_is_found_by_its_id() {
    let [swap, web, log] = entries();
    let (bytes, _) = packed(&[Entry { id: 9, ..swap }, Entry { id: 5, ..web }, Entry { id: 0, ..log }]);
    assert_eq!(
        [9, 5, 0, 1].map(|id| entry_of(&bytes, 3, id).map(|entry| entry.first)),
        [Some(16), Some(144), Some(752), None]
    );
}

#[test]
fn names() {
    assert_eq!(name("a.B-9_").as_str(), "a.B-9_");
    assert_eq!(name("sixteen-letters.").as_str(), "sixteen-letters.");
    for bad in ["", "seventeen-letters", "a b", "a/b", "\u{e4}", "a\0b"] {
        assert_eq!(EntryName::new(bad), None, "{bad:?}");
    }
    assert_eq!(EntryName(*b"a\0b\0\0\0\0\0\0\0\0\0\0\0\0\0").as_str(), "?");
}

proptest! {
    /// Whatever is accepted lies apart and within the set, and what is used of it lies within it.
    #[test]
    fn accepted_entries_lie_apart(
        from in proptest::collection::vec((1_u64..4, 0_u64..40, 1_u64..1200, any::<bool>()), 0..8),
        unit in 1_u32..20,
    ) {
        let layout = Layout::plan(2000, unit, 1).expect("large enough");
        let Layout { data_start, data_blocks, .. } = layout;
        let mut first = 0;
        let all: Vec<Entry> = from.iter().zip(0_u32..).map(|(&(kind, gap, blocks, read_only), id)| {
            first += gap * u64::from(unit);
            let kind = if kind == 1 { Kind::Swap { region: 1 + gap % blocks } } else { Kind::Disk { read_only } };
            let entry = Entry { kind, id, name: name(&format!("d{id}")), first, blocks, beneath: None };
            first = entry.end();
            entry
        }).collect();
        let (bytes, superblock) = packed(&all);
        let superblock = Superblock { stripe_unit: unit, data_start, data_blocks, next_id: 8, ..superblock };
        if let Ok(read) = read(&bytes, &superblock) {
            prop_assert_eq!(&read, &all);
            prop_assert!(read.windows(2).all(|two| two[0].end() <= two[1].first));
            prop_assert!(read.iter().all(|entry| entry.end() <= 3 * data_blocks));
            for entry in &read {
                let last = entry.data(entry.blocks - 1);
                prop_assert!(last.is_none_or(|last| last + 1 == entry.end()));
                prop_assert_eq!(entry.data(entry.blocks), None);
            }
        }
    }
}
