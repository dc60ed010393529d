use super::*;
use crate::disks::MAX_CONTROLLERS;
use crate::sets::DIRECTORY_BYTES;
use crate::test_machine::{Clock, Fake, SWAPS, Shared, connect, place as place_of, set, writable};
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

const DATA: usize = RUNS * RUN_BLOCKS * BLOCK_BYTES;

/// The service over a set of disks.
struct Lab {
    disks: Disks<Fake, Clock>,
    sets: Sets,
    swap: SwapRegions,
    data: SharedMemory,
}

fn lab(platters: &[Shared]) -> Lab {
    let mut disks = connect(platters);
    let mut sets = Sets::new(Box::leak(Box::new([0; DIRECTORY_BYTES])));
    sets.find(&mut disks);
    let data = SharedMemory::from_static(Box::leak(vec![0_u64; DATA / 8].into_boxed_slice()));
    Lab { disks, sets, swap: SwapRegions::new(SWAPS, Some(data)), data }
}

impl Lab {
    fn ask(&mut self, id: u32, request: SwapDiskRequest) {
        self.swap.hear(id, request, &self.sets);
    }

    /// As the loop does it, so many times. What was said.
    fn turns(&mut self, turns: usize) -> Vec<(u32, SwapDiskReply)> {
        let mut said = Vec::new();
        for _ in 0..turns {
            while let Some((tag, good)) = self.disks.done() {
                assert!(self.swap.ended(tag, good, &mut self.disks));
            }
            self.swap.step(&self.sets, &mut self.disks);
            said.extend(core::iter::from_fn(|| self.swap.say(&self.sets)));
        }
        said
    }

    fn fill(&self, run: u16, byte: u8, blocks: usize) {
        let at = usize::from(run) * RUN_BLOCKS * BLOCK_BYTES;
        for block in 0..blocks {
            let byte = byte + u8::try_from(block).expect("few");
            self.data.write(at + block * BLOCK_BYTES, &[byte; BLOCK_BYTES]).expect("inside");
        }
    }

    fn first_bytes(&self, run: u16) -> [u8; RUN_BLOCKS] {
        core::array::from_fn(|block| {
            let mut byte = [0];
            let at = (usize::from(run) * RUN_BLOCKS + block) * BLOCK_BYTES;
            self.data.read(at + 77, &mut byte).expect("inside");
            byte[0]
        })
    }
}

fn ended(id: u32, run: u16, status: u16) -> (u32, SwapDiskReply) {
    (id, SwapDiskReply::Ended { run, status })
}

#[test]
fn what_is_written_to_a_region_is_read_from_it_and_lies_nowhere_else() {
    let (platters, stripes, _) = writable(3);
    let mut lab = lab(&platters);
    platters.iter().for_each(|platter| platter.borrow_mut().written.clear());
    lab.ask(0, SwapDiskRequest::Hello { session: 9 });
    let regions = SwapDiskReply::Regions { session: 9, regions: 4, region_blocks: 4, writable: true };
    assert_eq!(lab.turns(1), [(0, regions)]);
    lab.fill(5, 10, 4);
    lab.fill(6, 30, 2);
    lab.ask(1, SwapDiskRequest::Write { region: 2, first: 0, blocks: 4, run: 5 });
    lab.ask(2, SwapDiskRequest::Write { region: 3, first: 2, blocks: 2, run: 6 });
    let mut said = lab.turns(8);
    said.sort_by_key(|(id, _)| *id);
    assert_eq!(said, [ended(1, 5, status::DONE), ended(2, 6, status::DONE)]);
    let mut expected = vec![Vec::new(); 3];
    for at in (8..12).chain(14..16) {
        let (member, block) = place_of(&stripes, at);
        expected[member].push(block);
    }
    for (platter, expected) in platters.iter().zip(expected) {
        let mut written = platter.borrow().written.clone();
        written.sort_unstable();
        assert_eq!(written, expected);
    }
    let runs = |lab: &Lab| lab.disks.list().iter().map(|disk| disk.requests).sum::<u64>();
    let before = runs(&lab);
    lab.ask(3, SwapDiskRequest::Read { region: 2, first: 1, blocks: 3, run: 0 });
    lab.ask(4, SwapDiskRequest::Read { region: 3, first: 2, blocks: 2, run: 14 });
    assert_eq!(lab.turns(8).len(), 2);
    assert_eq!(runs(&lab) - before, 2, "what lies in one piece is one request");
    assert_eq!(lab.first_bytes(0)[..4], [11, 12, 13, 0]);
    assert_eq!(lab.first_bytes(14)[..4], [30, 31, 0, 0]);
    assert!(!lab.swap.is_busy());
}

#[test]
fn a_run_in_several_pieces_ends_when_all_have() {
    let (platters, ..) = writable(2);
    let mut lab = lab(&platters);
    // Regions are as long as stripe units, and there are no more blocks in a request of one disk.
    platters[1].borrow_mut().run = 1;
    lab.fill(0, 10, 4);
    lab.fill(1, 20, 4);
    lab.ask(1, SwapDiskRequest::Write { region: 0, first: 0, blocks: 4, run: 0 });
    lab.ask(2, SwapDiskRequest::Write { region: 1, first: 0, blocks: 4, run: 1 });
    assert_eq!(lab.turns(12), [ended(1, 0, status::DONE), ended(2, 1, status::DONE)]);
    assert_eq!(platters[0].borrow().runs.last(), Some(&4));
    assert_eq!(platters[1].borrow().runs[platters[1].borrow().runs.len() - 4..], [1; 4]);
    for run in 0..4 {
        lab.ask(3, SwapDiskRequest::Read { region: u32::from(run % 2), first: 0, blocks: 4, run: 2 + run });
    }
    assert_eq!(lab.turns(20).len(), 4);
    for (run, first) in [(2, 10), (3, 20), (4, 10), (5, 20)] {
        assert_eq!(lab.first_bytes(run)[..4], [first, first + 1, first + 2, first + 3]);
    }
    assert_eq!((lab.swap.is_busy(), lab.swap.taken), (false, 0), "all buffers are free again");
}

#[test]
fn what_lies_beyond_a_region_is_refused() {
    let (platters, ..) = writable(2);
    let mut lab = lab(&platters);
    let nonsense = [
        SwapDiskRequest::Read { region: 4, first: 0, blocks: 1, run: 0 },
        SwapDiskRequest::Read { region: u32::MAX, first: u32::MAX, blocks: 1, run: 1 },
        SwapDiskRequest::Write { region: 0, first: 1, blocks: 4, run: 2 },
        SwapDiskRequest::Write { region: 0, first: 0, blocks: 5, run: 3 },
        SwapDiskRequest::Read { region: 0, first: 0, blocks: 0, run: 4 },
    ];
    for (request, run) in nonsense.into_iter().zip(0..) {
        lab.ask(run.into(), request);
        assert_eq!(lab.turns(1), [ended(run.into(), run, status::NONSENSE)]);
    }
    // There is no such run, so nobody could be told.
    lab.ask(9, SwapDiskRequest::Read { region: 0, first: 0, blocks: 1, run: 15 });
    assert!(lab.turns(2).is_empty() && !lab.swap.is_busy());
    // Without data behind the ring nothing can be done.
    lab.swap = SwapRegions::new(SWAPS, lab.data.sub(0, DATA - 8));
    lab.ask(10, SwapDiskRequest::Read { region: 0, first: 0, blocks: 1, run: 0 });
    assert_eq!(lab.turns(1), [ended(10, 0, status::NONSENSE)]);
}

#[test]
fn a_set_without_a_disk_has_no_regions() {
    let (mut platters, ..) = set(1, 3);
    platters.pop();
    let mut lab = lab(&platters);
    let none = SwapDiskReply::Regions { session: 1, regions: 0, region_blocks: 0, writable: false };
    lab.ask(0, SwapDiskRequest::Hello { session: 1 });
    assert_eq!(lab.turns(1), [(0, none)]);
    assert_eq!(
        SwapRegions::regions(0, &lab.sets),
        SwapDiskReply::Regions { session: 0, regions: 0, region_blocks: 0, writable: false }
    );
}

#[test]
fn a_bad_block_fails_its_run_and_no_other() {
    let (platters, stripes, _) = writable(2);
    let mut lab = lab(&platters);
    let (member, block) = place_of(&stripes, 1);
    platters[member].borrow_mut().bad.push(block);
    lab.ask(1, SwapDiskRequest::Write { region: 0, first: 0, blocks: 4, run: 0 });
    lab.ask(2, SwapDiskRequest::Write { region: 1, first: 0, blocks: 4, run: 1 });
    let mut said = lab.turns(12);
    said.sort_by_key(|(id, _)| *id);
    assert_eq!(said, [ended(1, 0, status::FAILED), ended(2, 1, status::DONE)]);
    let errors: u64 = lab.disks.list().iter().map(|disk| disk.errors).sum();
    assert_eq!(errors, u64::from(TRIES));
}

#[test]
fn a_new_session_waits_for_what_the_old_one_has_under_way() {
    let (platters, stripes, _) = writable(1);
    let mut lab = lab(&platters);
    lab.fill(0, 1, 4);
    platters[0].borrow_mut().silent = true;
    lab.ask(1, SwapDiskRequest::Write { region: 0, first: 0, blocks: 4, run: 0 });
    assert!(lab.turns(1).is_empty());
    // Whoever asked has died. Its successor writes the same region by way of the same run.
    lab.ask(0, SwapDiskRequest::Hello { session: 2 });
    lab.fill(0, 100, 4);
    lab.ask(1, SwapDiskRequest::Write { region: 0, first: 0, blocks: 4, run: 0 });
    assert!(lab.turns(3).is_empty() && lab.swap.is_busy());
    platters[0].borrow_mut().silent = false;
    let said = lab.turns(8);
    assert!(matches!(said[0], (0, SwapDiskReply::Regions { session: 2, .. })), "{said:?}");
    assert_eq!(said[1..], [ended(1, 0, status::DONE)]);
    for at in 0..4 {
        let (_, block) = place_of(&stripes, at);
        assert_eq!(u64::from(platters[0].borrow().read(block)[0]), 100 + at);
    }
}

#[test]
fn a_disk_that_falls_silent_fails_what_it_was_asked() {
    let (platters, ..) = writable(1);
    let mut lab = lab(&platters);
    platters[0].borrow_mut().silent = true;
    lab.ask(1, SwapDiskRequest::Read { region: 0, first: 0, blocks: 2, run: 3 });
    assert!(lab.turns(2).is_empty());
    lab.disks.host().0 += 11_000_000;
    assert_eq!(lab.turns(1), [ended(1, 3, status::FAILED)]);
    lab.ask(2, SwapDiskRequest::Read { region: 1, first: 0, blocks: 1, run: 3 });
    assert_eq!(lab.turns(1), [ended(2, 3, status::FAILED)]);
}

const _: () = assert!(MAX_CONTROLLERS >= 3);
