//! Every history of a small frame table, up to a length: not some that were drawn.

use super::frames::{CLASSES, Entry, Frames, Owner, OwnerClass};
use super::phys::PhysAddr;

/// Frames of the table; the first and the last are no RAM, and there are two pieces.
const COUNT: usize = 6;
const RAM: core::ops::Range<usize> = 1..5;
/// Calls in a history.
const LENGTH: u32 = 5;

const A: Owner = Owner::VmMemory(1);
const B: Owner = Owner::VmTables(1);

/// Each call that there is.
#[derive(Clone, Copy, Debug)]
enum Call {
    Alloc(Owner),
    Two,
    Free(usize, Owner),
    Retire(usize),
}

fn calls() -> Vec<Call> {
    let mut all = vec![Call::Alloc(A), Call::Alloc(B), Call::Two];
    for frame in RAM {
        all.extend([Call::Free(frame, A), Call::Free(frame, B), Call::Retire(frame)]);
    }
    // What is beyond the table, and nobody's.
    all.extend([Call::Free(COUNT, A), Call::Free(1, Owner::Free)]);
    all
}

/// What the table should say.
struct Model {
    owners: [Owner; COUNT],
    failed: [bool; COUNT],
}

impl Model {
    fn give(&mut self, frame: PhysAddr, owner: Owner) {
        let number = usize::try_from(frame.frame()).expect("small");
        assert_eq!(self.owners[number], Owner::Free, "it was nobody's");
        self.owners[number] = owner;
    }

    fn call(&mut self, frames: &mut Frames, call: Call) {
        match call {
            Call::Alloc(owner) => match frames.alloc(owner, 7) {
                Some(frame) => self.give(frame, owner),
                None => assert!(!self.owners.contains(&Owner::Free), "there is one"),
            },
            Call::Two => {
                if let Some(first) = frames.alloc_contiguous(2, 1, u64::MAX, A) {
                    self.give(first, A);
                    self.give(PhysAddr::from_frame(first.frame() + 1), A);
                }
            }
            Call::Free(number, owner) => {
                let right = self.owners.get(number) == Some(&owner) && owner != Owner::Free;
                assert_eq!(frames.try_free(PhysAddr::from_frame(number as u64), owner).is_ok(), right);
                if right {
                    self.owners[number] = if self.failed[number] { Owner::Damaged } else { Owner::Free };
                    self.failed[number] = false;
                }
            }
            Call::Retire(number) => {
                assert!(frames.retire(PhysAddr::from_frame(number as u64)));
                match self.owners[number] {
                    Owner::Free => self.owners[number] = Owner::Damaged,
                    Owner::Damaged => {}
                    _ => self.failed[number] = true,
                }
            }
        }
    }

    fn check(&self, frames: &Frames) {
        for (number, owner) in self.owners.iter().enumerate() {
            assert_eq!(frames.owner_of(PhysAddr::from_frame(number as u64)).0, *owner, "frame {number}");
        }
        for class in CLASSES {
            let expected = self.owners.iter().filter(|owner| owner.class() == class).count();
            assert_eq!(frames.count_of(class), expected as u64, "{class:?}");
        }
    }
}

#[test]
fn no_history_gives_a_frame_to_two_or_loses_one() {
    let calls = calls();
    let table = vec![Entry::RESERVED; COUNT].leak();
    let all = calls.len().pow(LENGTH);
    for mut history in 0..all {
        table.fill(Entry::RESERVED);
        // SAFETY: the table of the history before is gone.
        let mut frames = Frames::new(unsafe { core::slice::from_raw_parts_mut(table.as_mut_ptr(), COUNT) });
        assert!(frames.add_free(1, 3) && frames.add_free(3, 5));
        let mut model = Model { owners: [Owner::Free; COUNT], failed: [false; COUNT] };
        (model.owners[0], model.owners[COUNT - 1]) = (Owner::Reserved, Owner::Reserved);
        for _ in 0..LENGTH {
            model.call(&mut frames, calls[history % calls.len()]);
            history /= calls.len();
        }
        model.check(&frames);
        // What is free can be had, each frame once, and no other.
        let free = frames.count_of(OwnerClass::Free);
        for _ in 0..free {
            model.give(frames.alloc(A, 0).expect("it is free"), A);
        }
        assert_eq!(frames.alloc(A, 0), None);
    }
}
