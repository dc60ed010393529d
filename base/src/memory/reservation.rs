//! How many frames a VM holds, how many are kept for it, and how many it may hold at most.
//!
//! A VM that was admitted finds a frame for whatever it needs within its reserve, because a frame beyond somebody's reserve is given
//! only while more are free than all reserves lack ([`Frames::unreserved`]). That takes two sums and no search: nothing need
//! be taken from anybody to keep the promise.

use super::frames::{Frames, Owner};
use super::phys::PhysAddr;
use abi::claim::Claim;

/// What a VM may hold at most, whatever was said: no machine has as many frames, and those that say where pages are which are out, at most 1,017, can be
/// put on without an overflow.
const LIMIT_MOST: u32 = u32::MAX - 4096;

/// One VM's claim on the machine's frames: those of its memory, its nested page tables and its metadata.
#[derive(Debug)]
pub struct Reservation {
    held: u32,
    reserve: u32,
    /// What it may hold now: of what it may hold at all, pages that are out are taken off, and the frames that say where they are put on.
    limit: u32,
}

/// Why a VM does not get a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It holds as many as it may.
    Limit,
    /// It has its reserve, and no frame is free that is not kept for somebody else.
    Frames,
}

impl Reservation {
    /// Keep `reserve` frames for a VM that may hold `limit` of them. `None`, and nothing has changed, when there are not as many
    /// that are not kept for others.
    #[must_use]
    pub fn open(frames: &mut Frames, reserve: u32, limit: u32) -> Option<Self> {
        let limit = limit.min(LIMIT_MOST);
        let reserve = reserve.min(limit);
        frames.promise(reserve.into()).then_some(Reservation { held: 0, reserve, limit })
    }

    /// Frames that it holds.
    #[inline]
    pub fn held(&self) -> u32 {
        self.held
    }

    /// Frames that are kept for it, and that it may hold now.
    pub fn claim(&self) -> Claim {
        Claim { reserve: self.reserve, limit: self.limit }
    }

    /// Frames that are kept for it.
    #[cfg(any(test, feature = "fake"))]
    pub fn reserve(&self) -> u32 {
        self.reserve
    }

    /// Frames that it may hold now.
    #[cfg(test)]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Whether it holds as many as it may now.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.held >= self.limit
    }

    /// A page is out, whose frame is given back: it counts for what the VM may hold.
    pub fn put_away(&mut self) {
        self.limit = self.limit.saturating_sub(1);
    }

    /// A page that was out takes a frame again.
    pub fn bring_back(&mut self) {
        self.limit += 1;
    }

    /// A frame of zeros that says where pages are which are out. It does not count for what the VM may hold; and where the VM has its reserve, it may be one of
    /// those that are kept for VMs that come in: more become free by it.
    pub fn alloc_index(&mut self, frames: &mut Frames, owner: Owner) -> Option<PhysAddr> {
        let within = self.held < self.reserve;
        let frame = if within { frames.alloc_of::<true>(true, owner, 0) } else { frames.alloc_zeroed(owner, 0) }?;
        self.held += 1;
        self.limit += 1;
        Some(frame)
    }

    /// Give a frame of [`Reservation::alloc_index`] back.
    pub fn free_index(&mut self, frames: &mut Frames, frame: PhysAddr, owner: Owner) {
        self.free(frames, frame, owner);
        self.limit = self.limit.saturating_sub(1);
    }

    /// So many frames of [`Reservation::alloc_index`], and as many pages that are out, are the VM's since it was in last.
    pub fn adopt(&mut self, frames: &mut Frames, index: u32, away: u32) {
        frames.forgive(self.reserve.saturating_sub(self.held).min(index).into());
        self.held += index;
        self.limit = (self.limit + index).saturating_sub(away);
    }

    /// A frame for `owner`, which holds what its last owner wrote ([`Frames::alloc`]).
    ///
    /// # Errors
    /// [`Denied`].
    // On the path of a fault; a call costs as much again.
    #[inline(always)]
    pub fn alloc(&mut self, frames: &mut Frames, owner: Owner, page: u32) -> Result<PhysAddr, Denied> {
        self.take::<false>(frames, owner, page)
    }

    #[inline(always)]
    fn take<const ZEROS: bool>(&mut self, frames: &mut Frames, owner: Owner, page: u32) -> Result<PhysAddr, Denied> {
        if self.is_full() {
            return Err(Denied::Limit);
        }
        let within = self.held < self.reserve;
        let frame = frames.alloc_of::<ZEROS>(within, owner, page).ok_or(Denied::Frames)?;
        self.held += 1;
        Ok(frame)
    }

    /// As [`Reservation::alloc`], filled with zeros.
    ///
    /// # Errors
    /// [`Denied`].
    #[inline(always)]
    pub fn alloc_zeroed(&mut self, frames: &mut Frames, owner: Owner, page: u32) -> Result<PhysAddr, Denied> {
        self.take::<true>(frames, owner, page)
    }

    /// Give a frame of `owner` back. It is kept for the VM where its reserve lacks it.
    #[inline]
    pub fn free(&mut self, frames: &mut Frames, frame: PhysAddr, owner: Owner) {
        frames.free(frame, owner);
        self.held = self.held.saturating_sub(1);
        if self.held < self.reserve {
            frames.promise_again();
        }
    }

    /// No more than `reserve` frames are kept for the VM from now on.
    pub fn lower(&mut self, frames: &mut Frames, reserve: u32) {
        let reserve = reserve.min(self.reserve);
        let lacked = self.reserve.saturating_sub(self.held);
        frames.forgive((lacked - reserve.saturating_sub(self.held)).into());
        self.reserve = reserve;
    }

    /// Nothing is kept for the VM any more; what it holds it gives back by [`Frames::free`].
    pub fn close(self, frames: &mut Frames) {
        frames.forgive(self.reserve.saturating_sub(self.held).into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::frames_test::frames as table_of;
    use proptest::prelude::*;

    fn table(count: usize) -> Frames {
        table_of(count, &[(0, count as u64)])
    }

    const MINE: Owner = Owner::VmMemory(1);
    const OTHERS: Owner = Owner::VmMemory(2);

    #[test]
    fn who_has_more_than_its_reserve_gets_what_is_kept_for_nobody() {
        let mut frames = table(10);
        let mut hoarder = Reservation::open(&mut frames, 2, 100).expect("room");
        let mut modest = Reservation::open(&mut frames, 4, 100).expect("room");
        assert_eq!((frames.free_frames(), frames.unreserved()), (10, 4));
        let taken: Vec<_> = core::iter::from_fn(|| hoarder.alloc(&mut frames, OTHERS, 0).ok()).collect();
        assert_eq!((taken.len(), hoarder.alloc(&mut frames, OTHERS, 0)), (6, Err(Denied::Frames)));
        assert!(Reservation::open(&mut frames, 1, 1).is_none(), "all that is left is kept for somebody");
        assert!(frames.alloc(Owner::Core, 0).is_none(), "from the core, too");
        for _ in 0..4 {
            modest.alloc(&mut frames, MINE, 0).expect("it was promised");
        }
        assert_eq!((modest.alloc(&mut frames, MINE, 0), frames.free_frames()), (Err(Denied::Frames), 0));
        hoarder.free(&mut frames, taken[0], OTHERS);
        modest.alloc(&mut frames, MINE, 0).expect("free for whoever asks first");
    }

    #[test]
    fn what_is_given_back_within_a_reserve_stays_kept() {
        let mut frames = table(4);
        let mut vm = Reservation::open(&mut frames, 3, 4).expect("room");
        let taken = [0, 1, 2, 3].map(|page| vm.alloc(&mut frames, MINE, page).expect("free"));
        assert_eq!(vm.alloc(&mut frames, MINE, 4), Err(Denied::Limit));
        vm.free(&mut frames, taken[3], MINE);
        assert_eq!((vm.held(), frames.unreserved()), (3, 1));
        vm.free(&mut frames, taken[2], MINE);
        assert_eq!((vm.held(), frames.unreserved()), (2, 1));
        vm.close(&mut frames);
        assert_eq!(frames.unreserved(), 2);
    }

    #[test]
    fn what_is_kept_for_those_who_wait_and_come_in_nobody_has_beyond_its_reserve() {
        let mut frames = table(30);
        let mut vm = Reservation::open(&mut frames, 2, 30).expect("room");
        let other = Reservation::open(&mut frames, 4, 4).expect("room");
        assert_eq!((vm.claim(), frames.floor()), (Claim { reserve: 2, limit: 30 }, 0));
        frames.keep_for_coming(5);
        // They wanted ten in all, then six.
        frames.set_aside(3, 10);
        assert_eq!((frames.floor(), frames.spare()), (5, 30 - 6 - 3 - 5));
        frames.set_aside(4, 6);
        assert_eq!((frames.spare(), frames.unreserved()), (30 - 6 - 6 - 5, 24));
        let taken = core::iter::from_fn(|| vm.alloc(&mut frames, MINE, 0).ok()).count();
        assert_eq!((taken, vm.alloc(&mut frames, MINE, 0)), (2 + 13, Err(Denied::Frames)));
        // The core may take what is kept for those who come in, and no more.
        let taken = core::iter::from_fn(|| frames.alloc(Owner::Core, 0)).count();
        assert_eq!((taken, frames.free_frames(), frames.spare()), (5, 4 + 6, 0));
        // One who has waited gets what was set aside.
        let third = Reservation::open(&mut frames, 5, 5).expect("room");
        assert!(frames.alloc(Owner::Core, 0).is_none());
        third.close(&mut frames);
        other.close(&mut frames);
        assert_eq!(core::iter::from_fn(|| frames.alloc(Owner::Core, 0)).count(), 9);
    }

    #[test]
    fn who_may_hold_anything_may_do_so_with_pages_out_and_with_what_says_where_they_are() {
        let mut frames = table(10);
        let mut vm = Reservation::open(&mut frames, 2, u32::MAX).expect("room");
        assert_eq!(vm.limit(), u32::MAX - 4096);
        vm.bring_back();
        vm.adopt(&mut frames, 1017, 0);
        assert_eq!((vm.limit(), vm.is_full()), (u32::MAX - 4096 + 1018, false));
        vm.put_away();
        assert_eq!(vm.limit(), u32::MAX - 4096 + 1017);
    }

    #[test]
    fn no_more_is_kept_for_a_vm_than_it_may_hold() {
        let mut frames = table(10);
        let vm = Reservation::open(&mut frames, 8, 3).expect("room");
        assert_eq!((vm.reserve(), vm.limit(), frames.unreserved()), (3, 3, 7));
        vm.close(&mut frames);
        assert_eq!(frames.unreserved(), 10);
    }

    #[test]
    fn a_reserve_that_is_lowered_keeps_what_is_left_of_it() {
        let mut frames = table(10);
        let mut vm = Reservation::open(&mut frames, 8, 9).expect("room");
        for page in 0..3 {
            vm.alloc(&mut frames, MINE, page).expect("kept");
        }
        vm.lower(&mut frames, 9);
        assert_eq!((vm.reserve(), frames.unreserved()), (8, 2), "never raised");
        vm.lower(&mut frames, 5);
        assert_eq!((vm.reserve(), frames.unreserved()), (5, 5));
        vm.lower(&mut frames, 2);
        assert_eq!((vm.reserve(), frames.unreserved()), (2, 7), "it holds more than that");
        vm.close(&mut frames);
        assert_eq!(frames.unreserved(), 7);
    }

    proptest! {
        /// Whatever is taken, given back, admitted and ended in whatever order: a frame within a reserve is there, and no sum is wrong.
        #[test]
        fn a_promise_is_kept(steps in prop::collection::vec((0_u8..4, 0_usize..8, 0_u32..12, 0_u32..12), 0..300)) {
            let mut frames = table(40);
            let mut vms: Vec<(Reservation, Vec<PhysAddr>)> = Vec::new();
            for (what, which, reserve, more) in steps {
                let at = which % vms.len().max(1);
                match what {
                    0 if vms.len() < 8 => {
                        let fits = frames.unreserved() >= u64::from(reserve);
                        let opened = Reservation::open(&mut frames, reserve, reserve + more);
                        prop_assert_eq!(opened.is_some(), fits);
                        vms.extend(opened.map(|vm| (vm, Vec::new())));
                    }
                    1 if !vms.is_empty() => {
                        let (vm, taken) = &mut vms[at];
                        let spare = frames.unreserved();
                        let answer = vm.alloc(&mut frames, MINE, 0);
                        let held = u32::try_from(taken.len()).expect("small");
                        let expected = if held >= vm.limit() {
                            Err(Denied::Limit)
                        } else if held < vm.reserve() || spare > 0 {
                            Ok(())
                        } else {
                            Err(Denied::Frames)
                        };
                        prop_assert_eq!(answer.map(|_| ()), expected);
                        taken.extend(answer);
                    }
                    2 if !vms.is_empty() => {
                        let (vm, taken) = &mut vms[at];
                        if let Some(frame) = taken.pop() {
                            vm.free(&mut frames, frame, MINE);
                        }
                    }
                    3 if !vms.is_empty() => {
                        let (vm, taken) = vms.swap_remove(at);
                        vm.close(&mut frames);
                        for frame in taken {
                            frames.free(frame, MINE);
                        }
                    }
                    _ => {}
                }
                let lacking: u32 = vms.iter().map(|(vm, _)| vm.reserve().saturating_sub(vm.held())).sum();
                let held: usize = vms.iter().map(|(_, taken)| taken.len()).sum();
                prop_assert_eq!(frames.free_frames(), 40 - held as u64);
                prop_assert_eq!(frames.unreserved(), frames.free_frames() - u64::from(lacking));
            }
        }
    }
}
