use super::frames::{CLASSES, Entry, Frames, Owner, OwnerClass, WrongOwner};
use super::phys::PhysAddr;
use super::phys::fake::DIRECT_MAP;
use abi::limits::PAGE_SIZE;
use core::sync::atomic::{AtomicU64, Ordering};
use proptest::prelude::*;
use std::collections::HashMap;

/// A table for frames `0..count`, of which `pieces` are free. Nothing here touches the frames themselves.
pub(super) fn frames(count: usize, pieces: &[(u64, u64)]) -> Frames {
    let table = Box::leak(vec![Entry::RESERVED; count].into_boxed_slice());
    let mut frames = Frames::new(table);
    for &(first, end) in pieces {
        assert!(frames.add_free(first, end));
    }
    frames
}

fn addresses(frames: &mut Frames, owner: Owner) -> Vec<u64> {
    core::iter::from_fn(|| frames.alloc(owner, 0)).map(PhysAddr::frame).collect()
}

#[test]
fn hands_out_ascending_then_reuses() {
    let mut frames = frames(64, &[(8, 12), (20, 22)]);
    assert_eq!(frames.free_frames(), 6);
    let one = frames.alloc(Owner::VmMemory(7), 99).expect("free");
    assert_eq!(one.frame(), 8);
    assert_eq!(frames.owner_of(one), (Owner::VmMemory(7), 99));
    assert_eq!(frames.owner_of(one.offset(123)), (Owner::VmMemory(7), 99));
    assert_eq!(frames.try_free(one, Owner::VmMemory(7)), Ok(()));
    assert_eq!(addresses(&mut frames, Owner::Core), [8, 9, 10, 11, 20, 21]);
    assert_eq!(frames.free_frames(), 0);
    assert_eq!(frames.count_of(OwnerClass::Core), 6);
}

#[test]
fn a_wrong_owner_changes_nothing() {
    let mut frames = frames(16, &[(4, 8)]);
    let frame = frames.alloc(Owner::VmMemory(1), 5).expect("free");
    let wrong = |expected, actual| Err(WrongOwner { frame, expected, actual });
    assert_eq!(frames.try_free(frame, Owner::VmMemory(2)), wrong(Owner::VmMemory(2), Owner::VmMemory(1)));
    assert_eq!(frames.try_free(frame, Owner::VmTables(1)), wrong(Owner::VmTables(1), Owner::VmMemory(1)));
    assert_eq!(frames.owner_of(frame), (Owner::VmMemory(1), 5));
    assert_eq!(frames.try_free(frame, Owner::VmMemory(1)), Ok(()));
    // Twice.
    assert_eq!(frames.try_free(frame, Owner::VmMemory(1)), wrong(Owner::VmMemory(1), Owner::Free));
    assert_eq!(frames.try_free(frame, Owner::Free), wrong(Owner::Free, Owner::Free));
    assert_eq!(frames.free_frames(), 4);
    // Beyond the table, and inside of a frame.
    assert!(frames.try_free(PhysAddr::from_frame(1 << 30), Owner::Core).is_err());
    let other = frames.alloc(Owner::Core, 0).expect("free");
    assert!(frames.try_free(other.offset(8), Owner::Core).is_err());
    assert_eq!(frames.owner_of(PhysAddr::from_frame(16)), (Owner::Reserved, 0));
}

#[test]
fn whose_a_frame_is_and_which_page_can_be_asked_and_only_what_somebody_owns_is_noted_anew() {
    let mut frames = frames(16, &[(4, 8)]);
    let frame = frames.alloc(Owner::VmMemory(1), 5).expect("free");
    assert!(frames.belongs_to(frame, Owner::VmMemory(1)) && !frames.belongs_to(frame, Owner::VmMemory(2)));
    assert!(!frames.belongs_to(PhysAddr::from_frame(99), Owner::VmMemory(1)));
    frames.note(frame, 7);
    assert_eq!(frames.owner_of(frame), (Owner::VmMemory(1), 7));
    assert_eq!(frames.try_free(frame, Owner::VmMemory(1)), Ok(()));
    let free = frames.owner_of(frame);
    frames.note(frame, 9);
    assert_eq!(frames.owner_of(frame), free);
}

#[test]
fn claiming_leaves_free_frames_alone() {
    let mut frames = frames(16, &[(4, 8)]);
    frames.claim(2, 6, Owner::Core);
    assert_eq!((frames.count_of(OwnerClass::Core), frames.free_frames()), (2, 4));
}

#[test]
fn what_is_claimed_is_what_nobody_had() {
    let mut frames = frames(16, &[(4, 8)]);
    frames.claim(2, 6, Owner::Core);
    frames.claim(3, 4, Owner::Module);
    // Beyond the end of the table there is nothing to claim.
    frames.claim(14, 99, Owner::Golden(1));
    let owners: Vec<_> = (1..10).map(|number| frames.owner_of(PhysAddr::from_frame(number)).0).collect();
    let (core, free, reserved) = (Owner::Core, Owner::Free, Owner::Reserved);
    assert_eq!(owners, [reserved, core, core, free, free, free, free, reserved, reserved]);
    assert_eq!((frames.count_of(OwnerClass::Golden), frames.count_of(OwnerClass::Reserved)), (2, 8));
}

#[test]
fn a_piece_ends_with_the_table_and_an_empty_one_is_none() {
    let mut frames = frames(16, &[]);
    assert!(frames.add_free(5, 5) && frames.add_free(9, 3) && frames.add_free(16, 20));
    assert_eq!(frames.free_frames(), 0);
    assert!(frames.add_free(12, 99));
    assert_eq!((frames.free_frames(), frames.count_of(OwnerClass::Reserved)), (4, 12));
    assert_eq!(addresses(&mut frames, Owner::Core), [12, 13, 14, 15]);
    // Numbers of frames have 32 bits.
    assert!(!frames.add_free(1 << 32, 1 << 33));
}

#[test]
fn counts_come_in_the_order_of_the_classes() {
    let mut frames = frames(16, &[(4, 12)]);
    for owner in [Owner::Core, Owner::VmMeta(3), Owner::VmMeta(4), Owner::Dma(1)] {
        assert!(frames.alloc(owner, 0).is_some());
    }
    let expected = CLASSES.map(|class| match class {
        OwnerClass::Free => 4,
        OwnerClass::Reserved => 8,
        OwnerClass::Core | OwnerClass::Dma => 1,
        OwnerClass::VmMeta => 2,
        _ => 0,
    });
    assert_eq!(frames.counts(), &expected);
    assert_eq!(frames.len(), 16);
}

#[test]
#[should_panic(expected = "expected: VmMemory(2), actual: VmMemory(1)")]
fn a_wrong_owner_is_found_in_tests() {
    let mut frames = frames(16, &[(4, 8)]);
    let frame = frames.alloc(Owner::VmMemory(1), 0).expect("free");
    frames.free(frame, Owner::VmMemory(2));
}

#[test]
fn contiguous() {
    let mut frames = frames(256, &[(3, 10), (16, 50), (100, 200)]);
    let at = |frames: &mut Frames, count, align, limit| {
        frames.alloc_contiguous(count, align, limit, Owner::Dma(1)).map(PhysAddr::frame)
    };
    // From the top of the highest piece; below the limit; aligned.
    assert_eq!(at(&mut frames, 4, 1, u64::MAX), Some(196));
    assert_eq!(at(&mut frames, 8, 8, u64::MAX), Some(184));
    assert_eq!(at(&mut frames, 16, 16, 60 * PAGE_SIZE), Some(32));
    assert_eq!(at(&mut frames, 90, 1, u64::MAX), None);
    assert_eq!(at(&mut frames, 0, 1, u64::MAX), None);
    assert_eq!(at(&mut frames, 1, 3, u64::MAX), None);
    assert_eq!(frames.count_of(OwnerClass::Dma), 28);
    // What alignment cut off (192..196 and 48..50) is still given away, once.
    let mut rest = addresses(&mut frames, Owner::Core);
    rest.sort_unstable();
    let expected: Vec<u64> = (3..10).chain(16..32).chain(48..50).chain(100..184).chain(192..196).collect();
    assert_eq!(rest, expected);
}

#[test]
fn too_many_pieces() {
    let mut frames = frames(256, &(0..64).map(|i| (3 * i, 3 * i + 1)).collect::<Vec<_>>());
    assert!(!frames.add_free(200, 201));
    assert_eq!(frames.free_frames(), 64);
    assert_eq!(frames.owner_of(PhysAddr::from_frame(200)).0, Owner::Reserved);
}

#[test]
fn every_owner_survives_its_entry() {
    let all = [
        Owner::Core,
        Owner::Module,
        Owner::Component(255),
        Owner::Dma(1),
        Owner::VmMemory(65_535),
        Owner::VmMeta(1),
        Owner::VmTables(2),
        Owner::Golden(3),
        Owner::Reserved,
    ];
    let mut frames = frames(64, &[(0, 64)]);
    for owner in all {
        let frame = frames.alloc(owner, u32::MAX).expect("free");
        assert_eq!(frames.owner_of(frame), (owner, u32::MAX));
        assert_eq!(CLASSES[owner.class() as usize], owner.class());
        assert!(abi::limits::Name::new(owner.class().name()).is_some());
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Alloc(Owner, u32),
    Free(usize),
    FreeWrong(usize),
    Contiguous(u64, u32),
    /// The frame of this number fails.
    Retire(u64),
}

fn owner() -> impl Strategy<Value = Owner> {
    prop_oneof![
        Just(Owner::Core),
        (0_u8..3).prop_map(Owner::Component),
        (0_u32..3).prop_map(Owner::VmMemory),
        (0_u32..3).prop_map(Owner::VmTables),
        (0_u32..3).prop_map(Owner::Golden),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (owner(), any::<u32>()).prop_map(|(owner, page)| Step::Alloc(owner, page)),
        3 => any::<usize>().prop_map(Step::Free),
        1 => any::<usize>().prop_map(Step::FreeWrong),
        1 => (0_u64..48).prop_map(Step::Retire),
        1 => (1_u64..6, 0_u32..4).prop_map(|(count, align)| Step::Contiguous(count, align)),
    ]
}

proptest! {
    /// The allocator against a model: no frame is given twice, all come from the free pieces, counts are those of the model.
    #[test]
    fn allocator_keeps_its_invariants(steps in prop::collection::vec(step(), 0..200)) {
        let pieces = [(2, 9), (16, 40), (41, 44)];
        let mut frames = frames(48, &pieces);
        let total: u64 = pieces.iter().map(|(first, end)| end - first).sum();
        let mut model: HashMap<PhysAddr, (Owner, u32)> = HashMap::new();
        let mut failed: std::collections::HashSet<PhysAddr> = std::collections::HashSet::new();
        for step in steps {
            let held: Vec<_> = model.keys().copied().collect();
            let pick = |i: usize| held.get(i % held.len().max(1)).copied();
            match step {
                Step::Alloc(owner, page) => match frames.alloc(owner, page) {
                    Some(frame) => {
                        prop_assert!(model.insert(frame, (owner, page)).is_none());
                        prop_assert!(!failed.contains(&frame), "{frame} has failed");
                    }
                    None => {
                        let gone = failed.iter().filter(|frame| !model.contains_key(frame)).count();
                        prop_assert_eq!((model.len() + gone) as u64, total);
                    }
                },
                Step::Free(i) => if let Some(frame) = pick(i) {
                    let (owner, _) = model.remove(&frame).expect("held");
                    prop_assert_eq!(frames.try_free(frame, owner), Ok(()));
                },
                Step::Retire(number) => {
                    let frame = PhysAddr::from_frame(number);
                    prop_assert!(frames.retire(frame));
                    if pieces.iter().any(|(first, end)| (*first..*end).contains(&number)) {
                        failed.insert(frame);
                    }
                }
                Step::FreeWrong(i) => if let Some(frame) = pick(i) {
                    prop_assert!(frames.try_free(frame, Owner::Dma(9)).is_err());
                },
                Step::Contiguous(count, align) => {
                    if let Some(first) = frames.alloc_contiguous(count, 1 << align, u64::MAX, Owner::Dma(0)) {
                        prop_assert_eq!(first.frame() % (1 << align), 0);
                        for i in 0..count {
                            let frame = PhysAddr::from_frame(first.frame() + i);
                            prop_assert!(model.insert(frame, (Owner::Dma(0), 0)).is_none());
                            prop_assert!(!failed.contains(&frame), "{frame} has failed");
                        }
                    }
                }
            }
            for (frame, owner) in &model {
                prop_assert_eq!(frames.owner_of(*frame), *owner);
                prop_assert!(pieces.iter().any(|(first, end)| (*first..*end).contains(&frame.frame())));
            }
            for class in CLASSES {
                let held = model.values().filter(|(owner, _)| owner.class() == class).count() as u64;
                let gone = failed.iter().filter(|frame| !model.contains_key(frame)).count() as u64;
                let expected = match class {
                    OwnerClass::Free => total - gone - model.len() as u64,
                    OwnerClass::Damaged => gone,
                    OwnerClass::Reserved => 48 - total,
                    _ => held,
                };
                prop_assert_eq!(frames.count_of(class), expected);
            }
        }
    }
}

#[test]
fn runs_are_found_and_change_hands() {
    let mut frames = frames(32, &[(8, 12)]);
    frames.claim(2, 6, Owner::Module);
    frames.hand_over(3, 5, Owner::Module, Owner::Loader);
    // What is free, or somebody else's, stays.
    frames.hand_over(0, 32, Owner::Free, Owner::Core);
    frames.hand_over(0, 32, Owner::Golden(1), Owner::Core);
    let mut runs = Vec::new();
    let mut at = 0;
    while let Some((owner, end)) = frames.run(at) {
        runs.push((owner, end));
        at = end;
    }
    let expected = [
        (Owner::Reserved, 2),
        (Owner::Module, 3),
        (Owner::Loader, 5),
        (Owner::Module, 6),
        (Owner::Reserved, 8),
        (Owner::Free, 12),
        (Owner::Reserved, 32),
    ];
    assert_eq!(runs, expected);
    assert_eq!(frames.free_range(0, 99, Owner::Loader), 2);
    assert_eq!((frames.count_of(OwnerClass::Loader), frames.free_frames()), (0, 6));
    assert_eq!(addresses(&mut frames, Owner::Core)[..3], [3, 4, 8], "the lowest first");
}

#[test]
fn an_extent_that_ends_with_the_table_is_followed_by_the_next() {
    let mut frames = frames(20, &[(16, 20), (2, 5)]);
    assert_eq!(addresses(&mut frames, Owner::Core), [16, 17, 18, 19, 2, 3, 4]);
}

#[test]
fn a_frame_that_fails_again_and_again_is_known_once() {
    let mut frames = frames(16, &[(4, 8)]);
    let owned = frames.alloc(Owner::VmMemory(1), 0).expect("free");
    // More often than there is room for frames that somebody owns.
    for _ in 0..1000 {
        assert!(frames.retire(owned) && frames.retire(PhysAddr::from_frame(7)));
    }
    assert_eq!((frames.count_of(OwnerClass::Damaged), frames.free_frames()), (1, 2));
    assert_eq!(frames.try_free(owned, Owner::VmMemory(1)), Ok(()));
    assert_eq!((frames.count_of(OwnerClass::Damaged), frames.free_frames()), (2, 2));
}

#[test]
fn a_table_of_nothing_is_empty() {
    assert!(frames(0, &[]).is_empty());
    assert!(!frames(1, &[]).is_empty());
}

#[test]
fn a_zeroed_frame_holds_zeros_whatever_it_held() {
    let words: &'static [AtomicU64] = Box::leak((0..4 * 512).map(|_| AtomicU64::new(0)).collect());
    let lead = words.as_ptr().align_offset(4096);
    DIRECT_MAP.set(u64::try_from(words[lead..].as_ptr().expose_provenance()).expect("64 bits"));
    let mut frames = frames(3, &[(1, 2)]);
    let used = frames.alloc(Owner::Core, 0).expect("free");
    frames.free(used, Owner::Core);
    let word = |at: usize| words[lead + 512 + at].load(Ordering::Relaxed);
    assert_ne!(word(0), 0, "what is free is spoilt");
    assert_eq!(frames.alloc_zeroed(Owner::Core, 0), Some(used));
    assert!((0..512).all(|at| word(at) == 0));
}

#[test]
fn what_is_wiped_holds_zeros_and_goes_first_to_who_needs_them() {
    let words: &'static [AtomicU64] = Box::leak((0..6 * 512).map(|_| AtomicU64::new(0)).collect());
    let lead = words.as_ptr().align_offset(4096);
    DIRECT_MAP.set(u64::try_from(words[lead..].as_ptr().expose_provenance()).expect("64 bits"));
    let mut frames = frames(5, &[(1, 5)]);
    let given: Vec<_> = (0..4).map(|_| frames.alloc(Owner::Core, 0).expect("free")).collect();
    assert!(!frames.wipe(3), "nobody has given anything back");
    given.iter().for_each(|&frame| frames.free(frame, Owner::Core));
    let zeros = |frame: PhysAddr| {
        let first = lead + 512 * usize::try_from(frame.frame()).expect("small");
        words[first..first + 512].iter().all(|word| word.load(Ordering::Relaxed) == 0)
    };
    // The last ones that came back; one of them has failed and is given to nobody.
    assert!(frames.retire(given[2]) && frames.wipe(3));
    assert_eq!(frames.wipes(), 2);
    assert_eq!(given.iter().map(|&frame| zeros(frame)).collect::<Vec<_>>(), [false, true, false, true]);
    assert_eq!(frames.free_frames(), 3);
    // Who fills it anyway takes another one, as long as there is one.
    assert_eq!(frames.alloc(Owner::Core, 0), Some(given[0]));
    assert_eq!(frames.alloc_zeroed(Owner::Core, 0), Some(given[1]));
    assert!(!frames.wipe(1));
    assert_eq!(frames.alloc(Owner::Core, 0), Some(given[3]));
    assert_eq!((frames.alloc(Owner::Core, 0), frames.alloc_zeroed(Owner::Core, 0)), (None, None));
    // Without one that is wiped it is zeroed when it is needed.
    frames.free(given[0], Owner::Core);
    assert!(!zeros(given[0]));
    assert_eq!(frames.alloc_zeroed(Owner::Core, 0), Some(given[0]));
    assert!(zeros(given[0]));
}
