use super::*;
use proptest::prelude::*;

pub fn sample() -> Superblock {
    let layout = crate::Layout::plan(1000, 16, 1).expect("large enough");
    Superblock {
        set: SetId::random([7; 16]),
        name: EntryName::new("lab").expect("good"),
        generation: 4,
        state: State::Committed,
        member: 1,
        members: 3,
        stripe_unit: 16,
        member_blocks: 1000,
        directory_start: layout.directory_start,
        data_start: layout.data_start,
        data_blocks: layout.data_blocks,
        directory_blocks: 1,
        entries: 2,
        directory_checksum: 0xdead_beef,
        next_id: 3,
        created: 1_700_000_000,
    }
}

const START: Place = Place { slot: 0, end: false };
const END: Place = Place { slot: 0, end: true };

#[test]
fn what_was_written_is_read() {
    for place in [START, END] {
        assert_eq!(Superblock::decode(&sample().encode(place), place), Ok(sample()));
    }
    assert_eq!(Superblock::decode(&sample().encode(START), END), Err(Flaw::Place(0)));
    assert_eq!(Superblock::decode(&crate::zeroed(), START), Err(Flaw::Magic));
    assert_eq!(sample().set.to_string(), "07070707-0707-4707-8707-070707070707");
}

#[test]
fn other_versions_are_named() {
    let mut block = sample().encode(START);
    block[8] = 2;
    assert_eq!(Superblock::decode(&block, START), Err(Flaw::Version(2)));
}

/// A good checksum does not make nonsense good.
#[test]
fn fields_are_judged() {
    type Spoil = fn(&mut Superblock);
    let cases: [(&str, Spoil); 16] = [
        ("name", |it| it.name.0[15] = b'x'),
        ("generation", |it| it.generation = 0),
        ("generation", |it| it.generation = 5),
        ("members", |it| it.members = 17),
        ("members", |it| it.members = 0),
        ("member", |it| it.member = 3),
        ("stripe_unit", |it| it.stripe_unit = 0),
        ("member_blocks", |it| it.member_blocks = 63),
        ("directory_blocks", |it| it.directory_blocks = 0),
        ("directory_blocks", |it| it.directory_blocks = 17),
        ("data_blocks", |it| it.data_blocks = 1000),
        ("data_blocks", |it| it.data_blocks = u64::MAX - 8),
        ("data_blocks", |it| it.directory_start = 0),
        ("entries", |it| it.entries = 65),
        ("data_start", |it| it.data_blocks -= 1),
        ("data_start", |it| (it.data_start, it.data_blocks) = (it.data_start + 1, it.data_blocks - 16)),
    ];
    for (field, change) in cases {
        let mut superblock = sample();
        change(&mut superblock);
        assert_eq!(Superblock::decode(&superblock.encode(START), START), Err(Flaw::Field(field)));
    }
}

#[test]
fn the_rest_of_the_block_is_zero() {
    let mut block = sample().encode(START);
    block[4095] = 1;
    let checksum = block_checksum(&block);
    block[12..16].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(Superblock::decode(&block, START), Err(Flaw::Field("reserved")));
    let mut block = sample().encode(START);
    block[offset_of!(SuperblockRaw, state)] = 3;
    let checksum = block_checksum(&block);
    block[12..16].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(Superblock::decode(&block, START), Err(Flaw::Field("state")));
}

proptest! {
    #[test]
    fn a_flipped_bit_is_noticed(bit in 0_usize..8 * BLOCK_BYTES) {
        let mut block = sample().encode(START);
        block[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Superblock::decode(&block, START).is_err());
    }

    /// Any bytes behind a good magic, version and checksum: refused, or as good as the encoder's.
    #[test]
    fn nothing_is_accepted_that_would_not_be_written(words in proptest::collection::vec(any::<u8>(), RAW_BYTES), keep in 0_usize..RAW_BYTES) {
        let mut block = sample().encode(START);
        block[keep.max(16)..RAW_BYTES].copy_from_slice(&words[keep.max(16)..]);
        let checksum = block_checksum(&block);
        block[12..16].copy_from_slice(&checksum.to_le_bytes());
        if let Ok(superblock) = Superblock::decode(&block, START) {
            prop_assert_eq!(superblock.encode(START), block);
            prop_assert!(superblock.stripes().is_some());
        }
    }
}
