use super::frames::{Frames, Owner};
use super::frames_test::frames;
use super::paging::audit;
use super::phys::PhysAddr;
use super::tables::{Leaf, MapError, MapFlags, Size, Table, TableMemory, Tables};
use proptest::prelude::*;

/// Tables in an array: frame `i` is element `i`.
#[derive(Clone, Copy)]
struct Array(*mut Table, usize);

impl TableMemory for Array {
    fn table(self, frame: PhysAddr) -> *mut Table {
        let number = usize::try_from(frame.frame()).expect("64 bits");
        assert!(number < self.1, "no table there");
        self.0.wrapping_add(number)
    }
}

const FRAMES: usize = 64;

fn tables(available: u64) -> (Frames, Tables<Array>) {
    let memory = Box::leak(vec![[u64::MAX; 512]; FRAMES].into_boxed_slice());
    let mut frames = frames(FRAMES, &[(1, 1 + available)]);
    let tables = Tables::new(&mut frames, Array(memory.as_mut_ptr(), FRAMES), Owner::Component(1)).expect("a frame");
    (frames, tables)
}

const READ: MapFlags = MapFlags { write: false, execute: false, user: false, uncached: false, global: false };
const WRITE: MapFlags = MapFlags { write: true, ..READ };
const EXECUTE: MapFlags = MapFlags { execute: true, ..READ };
const USER: MapFlags = MapFlags { user: true, ..READ };
const BOTH: MapFlags = MapFlags { write: true, execute: true, ..READ };

fn at(frame: u64) -> PhysAddr {
    PhysAddr::from_frame(frame)
}

#[test]
fn maps_walks_unmaps() {
    let (mut frames, mut tables) = tables(60);
    let high = 0xffff_ffff_8000_3000;
    tables.map(&mut frames, 0x40_1000, at(0x1234), Size::Small, USER).expect("mapped");
    tables.map(&mut frames, high, at(0x99), Size::Small, EXECUTE).expect("mapped");
    tables.map(&mut frames, 0x8000_0000, PhysAddr::new(0x4000_0000), Size::Huge, WRITE).expect("mapped");
    let leaf = tables.walk(0x40_1abc).expect("mapped");
    let expected =
        Leaf { address: 0x40_1000, frame: at(0x1234), bytes: 4096, write: false, execute: false, user: true };
    assert_eq!(leaf, expected);
    let leaf = tables.walk(high).expect("mapped");
    assert!(leaf.execute && !leaf.write && !leaf.user);
    let leaf = tables.walk(0xbfff_ffff).expect("mapped");
    assert_eq!((leaf.address, leaf.frame.as_u64(), leaf.bytes), (0x8000_0000, 0x4000_0000, 1 << 30));
    assert_eq!([0x40_0fff, 0x40_2000, 0xc000_0000, 0x8000_0000_0000].map(|at| tables.walk(at)), [None; 4]);

    let mut seen = Vec::new();
    tables.for_each_leaf(|leaf| seen.push(leaf.address));
    assert_eq!(seen, [0x40_1000, 0x8000_0000, high]);

    assert_eq!(tables.unmap(0x40_1000), Some(at(0x1234)));
    assert_eq!(tables.unmap(0x40_1000), None);
    assert_eq!(tables.unmap(0x8000_0000), None);
    assert_eq!(tables.walk(0x40_1000), None);
}

#[test]
fn refuses() {
    let (mut frames, mut tables) = tables(60);
    let mut map = |address, frame, size, flags| tables.map(&mut frames, address, PhysAddr::new(frame), size, flags);
    assert_eq!(map(0x1000, 0x1000, Size::Small, BOTH), Err(MapError::WritableExecutable));
    assert_eq!(map(0x1001, 0x1000, Size::Small, READ), Err(MapError::BadAddress));
    assert_eq!(map(0x1000, 0x1800, Size::Small, READ), Err(MapError::BadAddress));
    assert_eq!(map(0x1000, 0, Size::Large, READ), Err(MapError::BadAddress));
    assert_eq!(map(0x8000_0000_0000, 0, Size::Small, READ), Err(MapError::BadAddress));
    assert_eq!(map(0x1000, 1 << 60, Size::Small, READ), Err(MapError::BadAddress));
    assert_eq!(map(0x1000, 0x1000, Size::Small, READ), Ok(()));
    assert_eq!(map(0x1000, 0x2000, Size::Small, READ), Err(MapError::Occupied));
    assert_eq!(map(0, 0, Size::Large, READ), Err(MapError::Occupied));
    assert_eq!(map(0x20_0000, 0, Size::Large, READ), Ok(()));
    assert_eq!(map(0x20_1000, 0, Size::Small, READ), Err(MapError::Occupied));
}

#[test]
fn ranges_take_the_largest_leaves() {
    let (mut frames, mut tables) = tables(60);
    let mib = 1 << 20;
    let mut leaves = |address, frame, bytes, largest| {
        let before = {
            let mut count = [0; 3];
            tables.for_each_leaf(|leaf| count[(leaf.bytes.trailing_zeros() as usize - 12) / 9] += 1);
            count
        };
        tables.map_range(&mut frames, address, PhysAddr::new(frame), bytes, largest, WRITE).expect("mapped");
        let mut count = [0; 3];
        tables.for_each_leaf(|leaf| count[(leaf.bytes.trailing_zeros() as usize - 12) / 9] += 1);
        [count[0] - before[0], count[1] - before[1], count[2] - before[2]]
    };
    // 1 MiB to 1 GiB + 4 MiB + 4 KiB.
    assert_eq!(leaves(mib, mib, 1027 * mib + 4096, Size::Huge), [256 + 1, 511 + 2, 0]);
    assert_eq!(leaves(1 << 39, 0, 1026 * mib, Size::Huge), [0, 1, 1]);
    assert_eq!(leaves(2 << 39, 0, 1026 * mib, Size::Large), [0, 513, 0]);
    // Not aligned alike: small ones only.
    assert_eq!(leaves(3 << 39, 4096, 2 * mib, Size::Huge), [512, 0, 0]);
}

#[test]
fn no_frames() {
    let (mut frames, mut tables) = tables(3);
    assert_eq!(tables.map(&mut frames, 0x1000, at(1), Size::Small, READ), Err(MapError::NoFrames));
    assert_eq!(frames.free_frames(), 0);
    tables.free_tables(&mut frames, 512);
    assert_eq!(frames.free_frames(), 3);
}

#[test]
fn shared_half_stays_when_a_space_goes() {
    let (mut frames, mut kernel) = tables(60);
    kernel.map(&mut frames, 0xffff_8000_0000_0000, at(5), Size::Small, WRITE).expect("mapped");
    let before = frames.free_frames();
    let mut space = kernel_like(&kernel, &mut frames);
    space.share_from(&kernel, 256);
    space.map(&mut frames, 0x40_0000, at(6), Size::Small, USER).expect("mapped");
    assert!(space.walk(0xffff_8000_0000_0000).is_some());
    space.free_tables(&mut frames, 256);
    assert_eq!(frames.free_frames(), before);
    assert_eq!(kernel.walk(0xffff_8000_0000_0000).map(|leaf| leaf.frame), Some(at(5)));
}

/// Another tree in the same memory.
fn kernel_like(other: &Tables<Array>, frames: &mut Frames) -> Tables<Array> {
    Tables::new(frames, other.memory(), Owner::Component(1)).expect("a frame")
}

#[test]
fn audit_finds_what_is_writable_and_executable() {
    let (mut frames, mut tables) = tables(60);
    tables.map(&mut frames, 0x40_0000, at(1), Size::Small, EXECUTE).expect("mapped");
    tables.map(&mut frames, 0x40_1000, at(1), Size::Small, WRITE).expect("mapped");
    let report = audit(&tables);
    assert_eq!((report.leaves, report.executable, report.writable_executable), (2, 1, 0));
    assert!(report.is_clean());
    tables.map_unchecked(&mut frames, 0x60_0000, PhysAddr::new(0), Size::Large, BOTH).expect("mapped");
    tables.map_unchecked(&mut frames, 0x80_0000, PhysAddr::new(0), Size::Large, BOTH).expect("mapped");
    let report = audit(&tables);
    assert_eq!((report.leaves, report.writable_executable, report.first_bad), (4, 2, Some(0x60_0000)));
    assert!(!report.is_clean());
    let text = report.to_string();
    assert_eq!(text, "W^X: 2 of 4 leaf mappings are writable and executable, the first at 0x600000");
}

proptest! {
    /// What is mapped, and nothing else, is found again; all frames come back.
    #[test]
    fn agrees_with_a_model(pages in prop::collection::btree_map((0_u64..4, 0_u64..3, 0_u64..512), (0_u64..1 << 20, any::<bool>(), any::<bool>()), 0..40), gone in prop::collection::vec(any::<prop::sample::Index>(), 0..10)) {
        let (mut frames, mut tables) = tables(60);
        let address = |&(a, b, c): &(u64, u64, u64)| a << 39 | b << 21 | c << 12;
        let mut pages = pages;
        for (place, (frame, write, user)) in &pages {
            let flags = MapFlags { write: *write, user: *user, ..READ };
            prop_assert_eq!(tables.map(&mut frames, address(place), at(*frame), Size::Small, flags), Ok(()));
        }
        for index in gone {
            if pages.is_empty() { break }
            let place = *pages.keys().nth(index.index(pages.len())).expect("in range");
            let (frame, ..) = pages.remove(&place).expect("there");
            prop_assert_eq!(tables.unmap(address(&place)), Some(at(frame)));
        }
        let mut found = Vec::new();
        tables.for_each_leaf(|leaf| found.push((leaf.address, leaf.frame, leaf.write)));
        let expected: Vec<_> = pages.iter().map(|(place, (frame, write, _))| (address(place), at(*frame), *write)).collect();
        prop_assert_eq!(found, expected);
        tables.free_tables(&mut frames, 512);
        prop_assert_eq!(frames.free_frames(), 60);
    }
}
