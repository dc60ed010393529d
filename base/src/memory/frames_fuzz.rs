//! What fuzzers do with the frame table: any order of calls, held against a list of who owns what.

use super::frames::{CLASSES, Entry, Frames, Owner};
use super::phys::PhysAddr;
use abi::limits::PAGE_SIZE;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::vec;

/// Frames of the table.
const COUNT: u64 = 64;

/// Takes two bytes for each call: what is done, and with what. Returns whether a frame was given away and taken back.
pub fn frames(data: &[u8]) -> bool {
    let memory = Box::into_raw(vec![Entry::RESERVED; 64].into_boxed_slice());
    // SAFETY: it was made above and is freed at the end, after the table is gone.
    let mut frames = Frames::new(unsafe { &mut *memory });
    let pieces = [(2, 20), (20, 21), (30, 64)];
    let mut free = 0;
    for (first, end) in pieces {
        assert!(frames.add_free(first, end));
        free += end - first;
    }
    let mut owned: BTreeMap<u64, (Owner, u32)> = BTreeMap::new();
    let mut returned = false;
    for call in data.chunks_exact(2) {
        let [what, with] = *call else { continue };
        let owner = owner(with >> 5);
        match what % 5 {
            0 | 1 => {
                let given = frames.alloc(owner, with.into());
                assert_eq!(given.is_some(), free > 0, "{free} frames are free");
                if let Some(frame) = given {
                    note(&mut owned, frame, (owner, with.into()), &pieces);
                    free -= 1;
                }
            }
            2 => {
                // Mostly the true owner's name, else any; an address inside a frame is nobody's.
                let place = usize::from(with) % owned.len().max(1);
                let known = owned.iter().nth(place).map(|(&number, &(owner, _))| (number, owner));
                let (number, expected) =
                    if what < 128 { known.unwrap_or((0, owner)) } else { (u64::from(with), owner) };
                let inside = u64::from(what == 2 + 5 * 24);
                let given_back = frames.try_free(PhysAddr::new(number * PAGE_SIZE + inside), expected);
                let is_true = inside == 0 && owned.get(&number).is_some_and(|&(owner, _)| owner == expected);
                assert_eq!(given_back.is_ok(), is_true, "frame {number} of {expected:?}");
                if is_true {
                    owned.remove(&number);
                    free += 1;
                    returned = true;
                }
            }
            3 => {
                let (count, align, limit) =
                    (u64::from(what / 5 % 8), 1 << (with & 3), u64::from(with & 0x7f) * PAGE_SIZE);
                if let Some(first) = frames.alloc_contiguous(count, align, limit, owner) {
                    assert!(first.frame().is_multiple_of(align) && first.as_u64() + count * PAGE_SIZE <= limit);
                    for number in first.frame()..first.frame() + count {
                        note(&mut owned, PhysAddr::from_frame(number), (owner, 0), &pieces);
                    }
                    free -= count;
                }
            }
            _ => {
                // What is free or owned is not claimed by the way.
                let end = u64::from(with).min(COUNT);
                frames.claim(end.saturating_sub(3), end, Owner::Module);
            }
        }
        assert_eq!(frames.free_frames(), free);
        assert_eq!(frames.counts().iter().sum::<u64>(), COUNT);
    }
    agree(&frames, &owned);
    // All that is free can be had, each frame once.
    while let Some(frame) = frames.alloc(Owner::Core, 0) {
        note(&mut owned, frame, (Owner::Core, 0), &pieces);
        free -= 1;
    }
    assert_eq!(free, 0);
    drop(frames);
    // SAFETY: nobody refers to it any more.
    drop(unsafe { Box::from_raw(memory) });
    returned
}

/// The table says of each frame what is known of it, and counts right.
fn agree(frames: &Frames, owned: &BTreeMap<u64, (Owner, u32)>) {
    let mut counts = BTreeMap::new();
    for number in 0..COUNT {
        let (owner, page) = frames.owner_of(PhysAddr::from_frame(number));
        *counts.entry(owner.class()).or_insert(0) += 1;
        match owned.get(&number) {
            Some(&expected) => assert_eq!((owner, page), expected, "frame {number}"),
            None => {
                assert!(matches!(owner, Owner::Free | Owner::Reserved | Owner::Module), "frame {number}: {owner:?}")
            }
        }
    }
    for class in CLASSES {
        assert_eq!(frames.count_of(class), counts.get(&class).copied().unwrap_or(0), "{class:?}");
    }
}

fn owner(number: u8) -> Owner {
    match number {
        0 => Owner::Core,
        1 => Owner::Component(3),
        2 => Owner::Dma(3),
        3 => Owner::VmMemory(0xff_ffff),
        4 => Owner::VmMemory(7),
        5 => Owner::VmTables(7),
        6 => Owner::Golden(7),
        _ => Owner::VmMeta(7),
    }
}

/// `frame` was given away: it was free, and nobody has it.
fn note(owned: &mut BTreeMap<u64, (Owner, u32)>, frame: PhysAddr, to: (Owner, u32), pieces: &[(u64, u64)]) {
    let number = frame.frame();
    assert!(pieces.iter().any(|&(first, end)| (first..end).contains(&number)), "frame {number} was never free");
    assert_eq!(owned.insert(number, to), None, "frame {number} was given away twice");
}
