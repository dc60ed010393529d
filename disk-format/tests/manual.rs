//! docs/disk-format.md, beside the code.

use disk_format::{
    BLOCK_BYTES, Check, EntryRaw, MAGIC, MAX_DEPTH, MAX_ENTRIES, MAX_MEMBERS, MEMBER_BLOCKS_MIN, Stripes,
    SuperblockRaw, VERSION,
};
use std::mem::offset_of;

const MANUAL: &str = include_str!("../../docs/disk-format.md");

/// Offset, bytes and name of each row of the table below a heading.
fn table(heading: &str) -> Vec<(usize, usize, &'static str)> {
    let (_, section) = MANUAL.split_once(&format!("\n## {heading}\n")).expect("the heading");
    let section = section.split("\n## ").next().expect("a section");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| "));
    let row = |line: &'static str| {
        let mut cells = line.split(" | ");
        let mut number = || cells.next()?.parse().ok();
        let (offset, bytes) = (number()?, number()?);
        Some((offset, bytes, cells.next()?.strip_prefix('`')?.strip_suffix('`')?))
    };
    rows.filter_map(row).collect()
}

/// Offset, bytes and name of each field.
macro_rules! fields {
    ($type:ty, $value:expr, $($field:ident)*) => {{
        let value: $type = $value;
        [$((offset_of!($type, $field), size_of_val(&value.$field), stringify!($field))),*]
    }};
}

#[test]
fn the_superblock_is_as_the_manual_says() {
    let code = fields!(SuperblockRaw, zerocopy::FromZeros::new_zeroed(),
        magic version checksum set name generation state place member members stripe_unit member_blocks directory_start
        data_start data_blocks directory_blocks entries directory_checksum next_id created);
    assert_eq!(table("The superblock"), code);
    assert_eq!(
        code.iter().map(|(_, bytes, _)| bytes).sum::<usize>(),
        size_of::<SuperblockRaw>(),
        "no field is left out"
    );
    assert!(MANUAL.contains(&format!("The first {} bytes of its block", size_of::<SuperblockRaw>())));
    assert!(MANUAL.contains(&format!("| `magic` | `{}` |", str::from_utf8(&MAGIC).expect("ASCII"))));
    assert!(MANUAL.contains(&format!("| `version` | {VERSION} |")));
    assert!(MANUAL.contains(&format!("members of the set, 1 to {MAX_MEMBERS} ")));
    assert!(MANUAL.contains(&format!("blocks of this member's disk, {MEMBER_BLOCKS_MIN} at least")));
    assert!(MANUAL.contains(&format!("of {BLOCK_BYTES} bytes. Numbers are little-endian")));
}

#[test]
fn the_directory_is_as_the_manual_says() {
    let code = fields!(EntryRaw, zerocopy::FromZeros::new_zeroed(),
        kind id name first extent blocks region flags beneath);
    assert_eq!(table("The directory"), code);
    assert_eq!(code.iter().map(|(_, bytes, _)| bytes).sum::<usize>(), size_of::<EntryRaw>(), "no field is left out");
    assert!(
        MANUAL
            .contains(&format!("blocks of one directory, 1 to {} ", MAX_ENTRIES * size_of::<EntryRaw>() / BLOCK_BYTES))
    );
}

/// The manual's formula.
#[test]
fn striping_is_as_the_manual_says() {
    let (m, u, data_start) = (3_u16, 5_u32, 40);
    let stripes = Stripes::new(m, u, data_start, 50).expect("good");
    let (m, u) = (u64::from(m), u64::from(u));
    for b in 0..150 {
        let piece = stripes.pieces(b, 1).next().expect("there");
        assert_eq!((u64::from(piece.member), piece.block), ((b / u) % m, data_start + (b / u / m) * u + b % u));
    }
}

#[test]
fn checks_are_as_the_manual_says() {
    assert!(MANUAL.contains("| `nothing` and a line feed (ASCII) |"));
    assert_eq!(Check::UNWRITTEN.to_bytes(), *b"nothing\n");
    assert!(MANUAL.contains("| `beneath` and a line feed |"));
    assert_eq!(Check::INHERITED.to_bytes(), *b"beneath\n");
    assert!(MANUAL.contains(&format!("at most {MAX_DEPTH} lie beneath one")));
    let mut bytes = vec![7, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend([1; BLOCK_BYTES]);
    let sum = disk_format::checksum(&[&bytes]).to_le_bytes();
    assert_eq!(Check::of(7, 9, &[1; BLOCK_BYTES]).to_bytes(), *[sum, sum].concat());
}
