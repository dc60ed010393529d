//! What nobody can do better who does not know the future: Belady's rule (1966), by which goes out what is wanted again latest.

use crate::Outcome;
use crate::trace::{PAGES, Trace};
use std::collections::BinaryHeap;

/// It is not wanted again.
const NEVER: u32 = u32::MAX;

/// Room for some things of the same size, of which the one goes that is wanted again latest.
struct Room {
    free: usize,
    /// Of each thing that is there, when it is wanted next.
    next: Vec<Option<u32>>,
    /// When what is there is wanted next, and was at some time: what does not agree with `next` is an old one.
    latest: BinaryHeap<(u32, u32)>,
}

impl Room {
    fn new(things: usize, room: usize) -> Self {
        Room { free: room, next: vec![None; things], latest: BinaryHeap::new() }
    }

    /// It is wanted now, and then again at `next`. Whether it had to be fetched.
    fn want(&mut self, thing: u32, next: u32) -> bool {
        let place = thing as usize;
        let was_there = self.next[place].is_some();
        if !was_there {
            while self.free == 0 {
                let Some((then, other)) = self.latest.pop() else { break };
                let found = &mut self.next[other as usize];
                if *found == Some(then) {
                    *found = None;
                    self.free += 1;
                }
            }
            self.free = self.free.saturating_sub(1);
        }
        if self.next[place] != Some(next) {
            self.next[place] = Some(next);
            self.latest.push((next, thing));
        }
        !was_there
    }
}

/// Of each place in `wanted` the next one with the same thing.
fn nexts(wanted: &[u32], things: usize) -> Vec<u32> {
    let mut last = vec![NEVER; things];
    let mut nexts = vec![NEVER; wanted.len()];
    for (at, (&thing, next)) in (0..).zip(wanted.iter().zip(&mut nexts)).collect::<Vec<_>>().into_iter().rev() {
        *next = std::mem::replace(&mut last[thing as usize], at);
    }
    nexts
}

/// By whole VMs: the fewest wakes that need the disk, with room for so many VMs, where who is woken has to be in.
pub fn by_vm(trace: &Trace, room: usize) -> Outcome {
    let wanted: Vec<u32> = trace.wakes.iter().map(|wake| wake.vm).collect();
    let vms = trace.vms as usize;
    let mut place = Room::new(vms, room);
    let mut outcome = Outcome::default();
    for (&vm, next) in wanted.iter().zip(nexts(&wanted, vms)) {
        outcome.wakes += 1;
        if place.want(vm, next) {
            outcome.from_disk += 1;
            outcome.pages += u64::from(PAGES);
        }
    }
    outcome
}

/// By single pages: the fewest pages that are read, and the wakes for which any was, with room for so many pages.
pub fn by_page(trace: &Trace, room: usize) -> Outcome {
    let mut wanted = Vec::new();
    for wake in &trace.wakes {
        let touched = (0..PAGES).filter(|page| wake.touched >> page & 1 != 0);
        wanted.extend(touched.map(|page| wake.vm * PAGES + page));
    }
    let pages = trace.vms as usize * PAGES as usize;
    let mut next = nexts(&wanted, pages).into_iter().zip(&wanted);
    let mut place = Room::new(pages, room);
    let mut outcome = Outcome::default();
    for wake in &trace.wakes {
        let touched = next.by_ref().take(wake.touched.count_ones() as usize);
        let read = touched.filter(|(next, page)| place.want(**page, *next)).count();
        outcome.wakes += 1;
        outcome.from_disk += u32::from(read > 0);
        outcome.pages += read as u64;
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{HOT_PAGES, Wake};
    use proptest::prelude::*;

    fn trace(vms: &[u32]) -> Trace {
        Trace { vms: 6, wakes: vms.iter().map(|&vm| Wake { vm, touched: HOT_PAGES }).collect() }
    }

    /// The fewest that any choice leads to, by trying all.
    fn fewest(wanted: &[u32], inside: &[u32], room: usize) -> u32 {
        let Some((&vm, rest)) = wanted.split_first() else { return 0 };
        if inside.contains(&vm) {
            return fewest(rest, inside, room);
        }
        let with = |kept: &[u32]| [kept, &[vm]].concat();
        if inside.len() < room {
            return 1 + fewest(rest, &with(inside), room);
        }
        let without = |gone| inside.iter().copied().filter(|&other| other != gone).collect::<Vec<_>>();
        1 + inside.iter().map(|&gone| fewest(rest, &with(&without(gone)), room)).min().unwrap_or(0)
    }

    #[test]
    fn the_one_that_is_wanted_latest_goes() {
        let outcome = by_vm(&trace(&[0, 1, 2, 0, 1, 2]), 2);
        assert_eq!((outcome.from_disk, outcome.pages), (4, 4 * 128));
        let outcome = by_page(&trace(&[0, 0, 1, 1]), 24);
        assert_eq!((outcome.wakes, outcome.from_disk, outcome.pages), (4, 2, 48));
        let outcome = by_page(&trace(&[0, 1, 0, 1]), 36);
        // Of the second VM, whose pages are wanted latest, a half stays.
        assert_eq!((outcome.from_disk, outcome.pages), (3, 24 + 24 + 12));
    }

    proptest! {
        #[test]
        fn nobody_does_better(vms in prop::collection::vec(0..6_u32, 0..12), room in 1..4_usize) {
            let outcome = by_vm(&trace(&vms), room);
            prop_assert_eq!(outcome.from_disk, fewest(&vms, &[], room));
            // All pages of a VM are wanted at the same times, and so stand for it.
            let pages = by_page(&trace(&vms), room * 24);
            prop_assert!(pages.pages <= u64::from(outcome.from_disk) * 24);
        }
    }
}
