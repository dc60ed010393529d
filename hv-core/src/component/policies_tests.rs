use super::*;
use crate::kernel::tests::placed::{self, DATA, Part, TEXT};
use crate::vm::bench_test::Bench;
use proptest::prelude::*;
use ring::SharedMemory;

/// A page and a half of text, a gap, data of which a part comes from the module; in memory that lives as long as the test.
fn program() -> Program {
    let mut machine = Bench::new(16);
    let parts: [Part<'_>; 2] = [(0x40_0000, TEXT, 2, &[7; 0x800]), (0x40_3000, DATA, 2, &[9; 0x10])];
    let placed = placed::program(&mut machine.frames, 0x40_0010, &parts, None);
    std::mem::forget(machine);
    Program::new(&placed)
}

fn policies(count: usize) -> Policies {
    let name = |index: usize| Name::new(["a", "b", "c", "d"][index]).expect("short");
    let list = (0..count).map(|index| Policy { name: name(index), program: Ok(program()) });
    Policies::new(list.collect(), 0).expect("it can run")
}

/// Four pages: two that the program writes, and a stack of two.
fn block() -> SharedMemory {
    SharedMemory::from_static(vec![u64::MAX; 4 * 512].leak())
}

fn bytes(block: &SharedMemory) -> Vec<u8> {
    let mut bytes = vec![0; block.len()];
    block.read(0, &mut bytes).expect("room");
    bytes
}

#[test]
fn a_program_is_laid_out_as_its_segments_say() {
    let program = program();
    assert_eq!(program.data_pages(), 2);
    let block = block();
    program.lay(&block, 0..usize::MAX);
    let mut expected = vec![0; 4 * 4096];
    expected[..0x10].fill(9);
    assert_eq!(bytes(&block), expected);
}

proptest! {
    /// However it is cut into parts, the result is the same, and no part touches another.
    #[test]
    fn it_can_be_laid_out_in_parts(mut cuts in prop::collection::vec(0_usize..4 * 4096, 0..8)) {
        let program = program();
        let (whole, parts) = (block(), block());
        program.lay(&whole, 0..usize::MAX);
        cuts.extend([0, 4 * 4096]);
        cuts.sort_unstable();
        for pair in cuts.windows(2) {
            let before = bytes(&parts);
            program.lay(&parts, pair[0]..pair[1]);
            let after = bytes(&parts);
            prop_assert_eq!(&before[..pair[0]], &after[..pair[0]]);
            prop_assert_eq!(&before[pair[1]..], &after[pair[1]..]);
        }
        prop_assert_eq!(bytes(&whole), bytes(&parts));
    }

    /// Whatever happens, one that can run does, and who is good does not lose its place by one death.
    #[test]
    fn somebody_always_runs(steps in prop::collection::vec((0_u8..4, 0_usize..6), 0..60)) {
        let mut policies = policies(4);
        for (what, number) in steps {
            let (trial, was) = (policies.on_trial(), policies.running());
            match what {
                0 => policies.replace(number),
                1 => policies.prove(),
                _ => {
                    let replaced = policies.fall(what == 2);
                    prop_assert!(replaced || !trial);
                    prop_assert_eq!(replaced, policies.running() != was);
                    prop_assert!(!policies.on_trial());
                }
            }
            prop_assert!(policies.program(policies.running()).is_some());
        }
    }
}

#[test]
fn what_was_chosen_at_boot_counts_as_good() {
    let mut policies = policies(2);
    assert!(!policies.on_trial());
    // There is nobody to take its place.
    for _ in 0..9 {
        assert!(!policies.fall(true));
    }
    assert_eq!(policies.running(), 0);
}

#[test]
fn one_on_trial_gives_way_at_its_first_fault() {
    let mut policies = policies(3);
    policies.replace(1);
    assert!(policies.on_trial());
    assert!(policies.fall(false));
    assert_eq!((policies.running(), policies.on_trial()), (0, false));
}

#[test]
fn the_last_good_one_is_the_one_that_proved_itself() {
    let mut policies = policies(3);
    policies.replace(1);
    policies.prove();
    policies.replace(2);
    assert!(policies.fall(true));
    assert_eq!(policies.running(), 1);
    // One that was never good is passed over.
    policies.replace(2);
    policies.replace(0);
    assert!(policies.fall(true));
    assert_eq!(policies.running(), 1);
}

#[test]
fn a_good_one_gives_way_after_three_deaths_in_a_row() {
    let mut policies = policies(2);
    policies.replace(1);
    policies.prove();
    assert!(!policies.fall(true) && !policies.fall(true) && !policies.fall(false));
    assert!(!policies.fall(true) && !policies.fall(true));
    policies.prove();
    assert!(!policies.fall(true) && !policies.fall(true));
    assert!(policies.fall(true));
    assert_eq!((policies.running(), policies.on_trial()), (0, false));
    // The other one was found wanting: it is not what this one gives way to.
    for _ in 0..5 {
        assert!(!policies.fall(true));
    }
}

#[test]
fn one_that_cannot_run_replaces_nobody() {
    let mut list = heapless::Vec::new();
    for program in [Ok(program()), Err(Unfit::NoModule)] {
        list.push(Policy { name: Name::EMPTY, program }).ok().expect("room");
    }
    let mut policies = Policies::new(list, 0).expect("the first can run");
    policies.replace(1);
    policies.replace(2);
    assert_eq!(policies.running(), 0);
    assert_eq!(policies.programs().count(), 1);
}

#[test]
fn one_that_cannot_run_is_not_chosen() {
    let list = |program| [Policy { name: Name::EMPTY, program }].into_iter().collect();
    assert!(Policies::new(list(Err(Unfit::NoModule)), 0).is_none());
    assert!(Policies::new(list(Ok(program())), 1).is_none());
}
