use crate::sample::{Header, NOTE, file_with};
use crate::{Accept, Elf, ElfError, Segment};
use abi::note::{KIND_COMPONENT, KIND_GUEST, Note};
use proptest::prelude::*;

const ACCEPT: Accept = Accept { low: 0x40_0000, high: 0x1000_0000, kind: KIND_COMPONENT };
const R: u32 = 4;
const RW: u32 = 6;
const RX: u32 = 5;

const TEXT: Header = (1, RX, 0x1000, 0x40_0000, 0x800, 0x800);
const DATA: Header = (1, RW, 0x2000, 0x40_1000, 0x10, 0x3000);
fn file(headers: &[Header]) -> Vec<u8> {
    file_with(0x40_0010, headers, Note::new(KIND_COMPONENT))
}

fn error(headers: &[Header]) -> ElfError {
    Elf::parse(&file(headers), ACCEPT).expect_err("must be refused")
}

#[test]
fn a_good_file() {
    let elf = Elf::parse(&file(&[NOTE, TEXT, DATA]), ACCEPT).expect("good");
    assert_eq!(elf.entry, 0x40_0010);
    let data = Segment {
        address: 0x40_1000,
        memory_bytes: 0x3000,
        file_offset: 0x2000,
        file_bytes: 0x10,
        write: true,
        execute: false,
        hole: false,
    };
    assert_eq!(elf.segments[1], data);
    assert_eq!((data.pages(), data.file_pages(), data.end()), (3, 1, 0x40_4000));
    // Empty segments, and header kinds that mean nothing here.
    assert!(Elf::parse(&file(&[NOTE, TEXT, (1, 7, 5, 5, 0, 0), (0x6474_e551, 6, 0, 0, 0, 0)]), ACCEPT).is_ok());
}

#[test]
fn bad_segments() {
    assert_eq!(error(&[NOTE, TEXT, (1, 7, 0x2000, 0x40_1000, 1, 1)]), ElfError::WritableExecutable(0x40_1000));
    assert_eq!(error(&[NOTE, TEXT, (1, RW, 0x2000, 0x40_1010, 1, 1)]), ElfError::Unaligned(0x40_1010));
    assert_eq!(error(&[NOTE, TEXT, (1, RW, 0x2010, 0x40_1000, 1, 1)]), ElfError::Unaligned(0x40_1000));
    assert_eq!(error(&[NOTE, TEXT, (1, RW, 0x2000, 0x40_1000, 2, 1)]), ElfError::BadSize(0x40_1000));
    assert_eq!(error(&[NOTE, TEXT, (1, RW, 0x2000, 0x40_1000, 0x1001, 0x2000)]), ElfError::Truncated(0x40_1000));
    assert_eq!(error(&[NOTE, TEXT, (1, RW, u64::MAX - 4095, 0x40_1000, 8, 8)]), ElfError::Truncated(0x40_1000));
    assert_eq!(error(&[NOTE, TEXT, (1, RW, 0x2000, 0x40_0000, 1, 1)]), ElfError::Overlap(0x40_0000));
    assert_eq!(error(&[NOTE, DATA, (1, RX, 0x1000, 0x40_3000, 1, 1)]), ElfError::Overlap(0x40_3000));
    // Below, above, across the end, and around the address space.
    for (address, bytes) in [
        (0x3f_f000, 1),
        (0x1000_0000, 1),
        (0xfff_f000, 0x1001),
        (0x1000_0000_0000, 1),
        (0x40_0000, u64::MAX),
        (u64::MAX - 4095, 4096),
    ] {
        assert_eq!(error(&[NOTE, (1, RW, 0x2000, address, 0, bytes)]), ElfError::OutOfRange(address));
    }
    assert!(Elf::parse(&file(&[NOTE, TEXT, (1, RW, 0x2000, 0xfff_f000, 0, 0x1000)]), ACCEPT).is_ok());
}

#[test]
fn a_segment_without_flags_is_a_hole_of_a_guest() {
    let parse =
        |kind, hole| Elf::parse(&file_with(0x40_0010, &[NOTE, TEXT, hole], Note::new(kind)), Accept { kind, ..ACCEPT });
    let hole = (1, 0, 0x2000, 0x41_0000, 0, 0x4000);
    let elf = parse(KIND_GUEST, hole).expect("good");
    let found = elf.segments[1];
    assert_eq!((found.hole, found.write, found.execute, found.pages(), found.file_pages()), (true, false, false, 4, 0));
    assert!(!elf.segments[0].hole);
    // It must not overlap others, nor have anything in it, and components have none.
    assert_eq!(parse(KIND_GUEST, (1, 0, 0x2000, 0x40_0000, 0, 1)), Err(ElfError::Overlap(0x40_0000)));
    assert_eq!(parse(KIND_GUEST, (1, 0, 0x2000, 0x41_0000, 1, 0x4000)), Err(ElfError::BadHole(0x41_0000)));
    assert_eq!(parse(KIND_COMPONENT, hole), Err(ElfError::BadHole(0x41_0000)));
}

#[test]
fn bad_programs() {
    assert_eq!(error(&[NOTE]), ElfError::NoSegments);
    assert_eq!(error(&[TEXT, DATA]), ElfError::NoNote);
    assert_eq!(error(&[NOTE, DATA]), ElfError::BadEntry(0x40_0010));
    assert_eq!(error(&[NOTE, TEXT, (2, R, 0, 0, 0, 0)]), ElfError::NotStatic);
    assert_eq!(error(&[NOTE, TEXT, (3, R, 0, 0, 0, 0)]), ElfError::NotStatic);
    assert_eq!(error(&[(4, R, 0x2ff0, 0, 0x100, 0x100), TEXT]), ElfError::BadHeaders);
    let many: Vec<Header> = (0..9).map(|i| (1, R, 0x1000, 0x50_0000 + i * 0x1000, 1, 1)).collect();
    assert_eq!(error(&many), ElfError::TooManySegments);
    assert_eq!(error(&[NOTE; 33]), ElfError::TooManySegments);
    let entry = file_with(0x40_0800, &[NOTE, TEXT], Note::new(KIND_COMPONENT));
    assert_eq!(Elf::parse(&entry, ACCEPT), Err(ElfError::BadEntry(0x40_0800)));
}

#[test]
fn bad_notes() {
    let parse = |note| Elf::parse(&file_with(0x40_0000, &[NOTE, TEXT], note), ACCEPT);
    let good = Note::new(KIND_COMPONENT);
    assert!(parse(good).is_ok());
    assert_eq!(parse(Note::new(KIND_GUEST)), Err(ElfError::WrongKind));
    assert_eq!(parse(Note { abi_version: 77, ..good }), Err(ElfError::WrongVersion(77)));
    assert_eq!(parse(Note { name: *b"Somebody", ..good }), Err(ElfError::NoNote));
    assert_eq!(parse(Note { desc_size: 0xffff_fff0, ..good }), Err(ElfError::NoNote));
    assert_eq!(parse(Note { name_size: u32::MAX, desc_size: u32::MAX, ..good }), Err(ElfError::NoNote));
    // Ours behind another's, in the same segment.
    let mut file = file_with(0x40_0000, &[(4, R, 0x1ee8, 0, 52, 52), TEXT], good);
    file[0x1ee8..0x1ef4].copy_from_slice(&[4, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0]);
    assert!(Elf::parse(&file, ACCEPT).is_ok());
}

#[test]
fn bad_headers() {
    let with = |at: usize, value: u8| {
        let mut file = file(&[NOTE, TEXT]);
        file[at] = value;
        Elf::parse(&file, ACCEPT).expect_err("must be refused")
    };
    assert_eq!(with(0, 0), ElfError::NotElf);
    assert_eq!(with(4, 1), ElfError::WrongClass);
    assert_eq!(with(5, 2), ElfError::WrongClass);
    assert_eq!(with(16, 3), ElfError::NotStatic);
    assert_eq!(with(18, 3), ElfError::WrongMachine(3));
    assert_eq!(with(39, 1), ElfError::BadHeaders);
    assert_eq!(with(33, 0x30), ElfError::BadHeaders);
    assert_eq!(with(54, 55), ElfError::BadHeaders);
    assert_eq!(Elf::parse(b"\x7fELF", ACCEPT), Err(ElfError::NotElf));
    assert_eq!(Elf::parse(&[], ACCEPT), Err(ElfError::NotElf));
    let short = &file(&[NOTE, TEXT, DATA])[..0x2008];
    assert_eq!(Elf::parse(short, ACCEPT), Err(ElfError::Truncated(0x40_1000)));
    assert!(ElfError::WrongMachine(3).to_string().contains("not for x86-64"));
}

fn check(file: &[u8]) -> Result<(), TestCaseError> {
    let Ok(elf) = Elf::parse(file, ACCEPT) else { return Ok(()) };
    for (i, segment) in elf.segments.iter().enumerate() {
        prop_assert!(!(segment.write && segment.execute));
        prop_assert!(segment.address >= ACCEPT.low && segment.end() <= ACCEPT.high);
        prop_assert!(segment.address % 4096 == 0 && segment.file_offset % 4096 == 0);
        prop_assert!(segment.file_bytes <= segment.memory_bytes);
        prop_assert!(segment.file_offset + segment.file_bytes <= file.len() as u64);
        prop_assert!(elf.segments[..i].iter().all(|s| s.end() <= segment.address || segment.end() <= s.address));
    }
    prop_assert!(elf.segments.iter().any(|s| s.execute && elf.entry >= s.address && elf.entry < s.end()));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn hostile_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        check(&bytes)?;
        let mut file = file(&[NOTE, TEXT, DATA]);
        let keep = 16;
        let end = (keep + bytes.len()).min(file.len());
        file[keep..end].copy_from_slice(&bytes[..end - keep]);
        check(&file)?;
    }

    #[test]
    fn damaged_files(places in prop::collection::vec((0_usize..0x120, any::<u8>()), 1..6), cut in 0_usize..0x3001) {
        let mut file = file(&[NOTE, TEXT, DATA]);
        for (at, value) in places {
            file[at] = value;
        }
        check(&file)?;
        check(&file[..cut])?;
    }

    #[test]
    fn hostile_headers(headers in prop::collection::vec((prop_oneof![Just(1_u32), Just(4)], 0_u32..8, 0_u64..6, 0_u64..12, 0_u64..0x4000, 0_u64..0x4000), 0..9)) {
        let headers: Vec<Header> = headers.into_iter().map(|(kind, flags, offset, page, file_bytes, memory_bytes)| (kind, flags, offset << 12, 0x3f_e000 + (page << 12), file_bytes, memory_bytes)).collect();
        let mut all = vec![NOTE];
        all.extend(headers);
        check(&file(&all))?;
    }
}
