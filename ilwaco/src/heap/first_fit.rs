//! First fit in address order, with the holes in one list.
//!
//! Own code, because the published allocators cannot say which of their pages are free, and a guest that idles gives
//! those back to the machine. Address order keeps what lives together low and close, so that few pages are touched. A
//! hole's record lies at its start, nothing lies at its end, and nothing is written beyond the highest byte that was
//! ever given out but one record: the rest of the memory costs nothing until it is used.
//!
//! The list is short in practice (a server's connections come from a store of spares, not from here); its length is
//! bounded by the number of live allocations.

use super::LARGEST;
use core::alloc::Layout;
use core::ops::Range;
use core::ptr::NonNull;

/// Sizes and addresses are multiples of this.
const UNIT: usize = 16;
/// Bytes in a page.
pub(super) const PAGE: usize = 4096;

/// The record at the start of a hole.
struct Hole {
    /// Bytes of the hole, a multiple of [`UNIT`].
    size: usize,
    /// The next hole, at a higher address.
    next: Option<NonNull<Hole>>,
}

const _: () = assert!(size_of::<Hole>() <= UNIT && align_of::<Hole>() <= UNIT);

/// What was to be freed is not allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotAllocated;

/// A heap over one range of memory.
pub(crate) struct Heap {
    first: Option<NonNull<Hole>>,
    /// Bytes in allocations.
    used: usize,
    /// Bytes that the heap can have.
    size: usize,
    /// First address above everything that was given out since the last [`Heap::take_free_pages`].
    high: usize,
    /// Something was freed since then.
    freed: bool,
    /// The machine has given memory to every page of the heap below this address.
    backed: usize,
    /// So many bytes, in allocations of [`LARGEST`] bytes at most, touch nothing else: known without another look at the holes. What is allocated is taken
    /// off, and what is freed makes room, and never less of it ([`Heap::reach`] counts no hole as less when it is larger).
    sure: usize,
}

/// What allocations may touch that are secured together.
struct Reach {
    /// Its end.
    end: usize,
    /// Where the hole begins, behind what is taken in one piece, that has the last of them, how much room it has, and how much of that they may take.
    start: usize,
    room: usize,
    last: usize,
}

fn rounded(layout: Layout) -> Option<(usize, usize)> {
    let size = layout.size().max(1).checked_next_multiple_of(UNIT)?;
    Some((size, layout.align().max(UNIT)))
}

impl Heap {
    pub(crate) const fn empty() -> Heap {
        Heap { first: None, used: 0, size: 0, high: 0, freed: false, backed: 0, sure: 0 }
    }

    /// Takes memory over.
    ///
    /// # Safety
    /// `range` must be `size` bytes of mapped, unused memory that is the heap's for ever, and this is called once.
    pub(crate) unsafe fn init(&mut self, start: *mut u8, size: usize) {
        let skip = start.addr().next_multiple_of(UNIT) - start.addr();
        let size = size.saturating_sub(skip) / UNIT * UNIT;
        if size == 0 {
            return;
        }
        let start = start.wrapping_add(skip);
        // SAFETY: aligned, inside the range, and ours.
        self.first = unsafe { hole(start, size, None) };
        self.size = size;
        self.high = start.addr();
        self.backed = start.addr();
    }

    /// As [`core::alloc::GlobalAlloc::alloc`]; null when there is no room.
    pub(crate) fn allocate(&mut self, layout: Layout) -> *mut u8 {
        let Some((size, align)) = rounded(layout) else { return core::ptr::null_mut() };
        let mut before: Option<NonNull<Hole>> = None;
        let mut current = self.first;
        while let Some(at) = current {
            // SAFETY: `at` is in the list, so a record of ours lies there, and nobody else knows this memory.
            let Hole { size: hole_size, next } = unsafe { at.read() };
            if hole_size < size {
                // Most are too small, and shortly passed.
                (before, current) = (current, next);
                continue;
            }
            let base = at.as_ptr().cast::<u8>();
            let skip = base.addr().next_multiple_of(align) - base.addr();
            if let Some(rest) = hole_size.checked_sub(skip).and_then(|left| left.checked_sub(size)) {
                let start = base.wrapping_add(skip);
                let after = if rest == 0 {
                    next
                } else {
                    // SAFETY: these `rest` bytes are the end of the hole, and start at a multiple of `UNIT`.
                    unsafe { hole(start.wrapping_add(size), rest, next) }
                };
                let link = if skip == 0 {
                    after
                } else {
                    // SAFETY: the first `skip` bytes stay a hole; its record moves nowhere.
                    unsafe { hole(base, skip, after) }
                };
                self.link(before, link);
                self.used += size;
                // What is larger, or lies elsewhere than at a hole's start, was not reckoned with.
                self.sure = if size <= LARGEST && skip == 0 { self.sure.saturating_sub(size) } else { 0 };
                self.high = self.high.max(start.addr() + size + UNIT);
                return start;
            }
            (before, current) = (current, next);
        }
        core::ptr::null_mut()
    }

    /// Has `take` give memory to what the next allocation takes, if it is one of `block` bytes, and others behind it, of [`LARGEST`] bytes each at most and
    /// `rest` bytes together, records included; not to what has some already. `take` is given page numbers, and says how many of them, the first
    /// ones, have memory. False when it has not as much, or the heap has no room.
    #[inline]
    pub(crate) fn back(&mut self, block: usize, rest: usize, take: &mut impl FnMut(Range<usize>) -> usize) -> bool {
        block <= LARGEST && block.next_multiple_of(UNIT).saturating_add(rest) <= self.sure
            || self.look(block, rest, take)
    }

    /// [`Heap::back`] where that is not known yet.
    fn look(&mut self, block: usize, rest: usize, take: &mut impl FnMut(Range<usize>) -> usize) -> bool {
        let Some(reach) = self.reach(block, rest) else { return false };
        if reach.end > self.backed {
            let pages = self.backed / PAGE..reach.end.div_ceil(PAGE);
            let (first, wanted) = (pages.start, pages.len());
            let taken = take(pages).min(wanted);
            self.backed = self.backed.max((first + taken) * PAGE);
            // What has memory is given back as what was touched is, whoever wanted it.
            self.high = self.high.max(self.backed);
            self.freed |= taken != 0;
            if taken != wanted {
                return false;
            }
        }
        if block == 0 {
            // As much as the hole that has the last of them can have beyond that, with the record behind it.
            let most = self.backed.saturating_sub(reach.start + UNIT).min(reach.room);
            self.sure = most.checked_sub(reach.last).map_or(0, |more| rest + more);
        }
        true
    }

    /// What these allocations may touch; `None` where the heap has no room for them.
    fn reach(&self, block: usize, rest: usize) -> Option<Reach> {
        let mut block = block.checked_next_multiple_of(UNIT)?;
        let mut rest = rest;
        let mut current = self.first;
        while let Some(at) = current {
            // SAFETY: `at` is in the list, so a record of ours lies there, and nobody else knows this memory.
            let Hole { size, next } = unsafe { at.read() };
            let (mut start, mut room) = (at.addr().get(), size);
            if block <= room {
                (start, room) = (start + block, room - block);
                block = 0;
                if room >= rest {
                    // The record behind what is taken, if there is more.
                    let end = (start + rest + UNIT).min(start + room);
                    return Some(Reach { end, start, room, last: rest });
                }
            }
            // What does not fit into a hole leaves less of it than it would have taken.
            rest -= room.saturating_sub(LARGEST).min(rest);
            current = next;
        }
        None
    }

    /// As [`core::alloc::GlobalAlloc::dealloc`].
    ///
    /// # Errors
    /// [`NotAllocated`]: some of it lies in a hole. Nothing has changed. Found where the memory has not been given out again
    /// meanwhile.
    ///
    /// # Safety
    /// `start` came from [`Heap::allocate`] with this layout and is not used any more.
    pub(crate) unsafe fn deallocate(&mut self, start: *mut u8, layout: Layout) -> Result<(), NotAllocated> {
        let Some((mut size, _)) = rounded(layout) else { return Ok(()) };
        let mut before: Option<NonNull<Hole>> = None;
        let mut after = self.first;
        while let Some(at) = after {
            if at.addr().get() > start.addr() {
                break;
            }
            before = after;
            // SAFETY: `at` is in the list.
            after = unsafe { at.as_ref() }.next;
        }
        if after.is_some_and(|at| at.addr().get() < start.addr() + size) {
            return Err(NotAllocated);
        }
        // SAFETY: `at` is in the list.
        if before.is_some_and(|at| at.addr().get() + unsafe { at.as_ref() }.size > start.addr()) {
            return Err(NotAllocated);
        }
        self.used -= size;
        self.freed = true;
        if let Some(at) = after
            && start.addr() + size == at.addr().get()
        {
            // SAFETY: `at` is in the list, and from here on part of the hole that begins at `start`.
            let Hole { size: more, next } = unsafe { at.read() };
            size += more;
            after = next;
        }
        if let Some(mut at) = before {
            // SAFETY: `at` is in the list, and there is no other reference to its record.
            let hole = unsafe { at.as_mut() };
            if at.addr().get() + hole.size == start.addr() {
                hole.size += size;
                hole.next = after;
                return Ok(());
            }
        }
        // SAFETY: the allocation ends here, so its bytes are ours again.
        let link = unsafe { hole(start, size, after) };
        self.link(before, link);
        Ok(())
    }

    fn link(&mut self, before: Option<NonNull<Hole>>, to: Option<NonNull<Hole>>) {
        match before {
            None => self.first = to,
            // SAFETY: `at` is in the list, and there is no other reference to its record.
            Some(mut at) => unsafe { at.as_mut() }.next = to,
        }
    }

    /// Calls `give` with ranges of page numbers that lie inside holes and hold none of our records, and that may have been
    /// touched since the last call. Their contents are free to change. Not those that allocations of `kept` bytes together may touch, as in [`Heap::back`].
    pub(crate) fn take_free_pages(&mut self, kept: usize, give: &mut impl FnMut(Range<usize>)) {
        if !self.freed {
            return;
        }
        self.freed = kept != 0;
        let kept_to = match kept {
            0 => 0,
            kept => self.reach(0, kept).map_or(usize::MAX / 2, |reach| reach.end).div_ceil(PAGE),
        };
        self.sure = 0;
        let mut current = self.first;
        let mut last_used = 0;
        while let Some(at) = current {
            // SAFETY: `at` is in the list.
            let hole = unsafe { at.as_ref() };
            let start = at.addr().get();
            let end = start + hole.size;
            let first = (start + size_of::<Hole>()).div_ceil(PAGE).max(kept_to);
            let last = end.min(self.high.next_multiple_of(PAGE)) / PAGE;
            if first < last {
                give(first..last);
                self.backed = self.backed.min(first * PAGE);
            }
            last_used = start;
            current = hole.next;
        }
        // Above the last hole's record nothing has been touched any more, if that hole reaches the end, but what is kept.
        self.high = (last_used + UNIT).max(kept_to * PAGE).min(self.high);
    }

    /// Bytes in allocations, and bytes in all.
    pub(crate) fn usage(&self) -> (usize, usize) {
        (self.used, self.size)
    }
}

/// Writes the record of a hole.
///
/// # Safety
/// The `size` bytes from `start` must belong to the heap and be in no allocation; both are multiples of [`UNIT`].
unsafe fn hole(start: *mut u8, size: usize, next: Option<NonNull<Hole>>) -> Option<NonNull<Hole>> {
    let at = NonNull::new(start.cast::<Hole>())?;
    // SAFETY: at least `UNIT` bytes, aligned to `UNIT`, that are ours.
    unsafe { at.write(Hole { size, next }) };
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    fn heap(words: usize) -> (Heap, usize) {
        let memory: &'static mut [u128] = vec![0u128; words].leak();
        let start = memory.as_mut_ptr().cast::<u8>();
        let mut heap = Heap::empty();
        // SAFETY: leaked memory, used for nothing else.
        unsafe { heap.init(start, words * 16) };
        (heap, start.addr())
    }

    fn holes(heap: &Heap) -> Vec<(usize, usize)> {
        let mut all = Vec::new();
        let mut at = heap.first;
        while let Some(hole) = at {
            // SAFETY: in the list.
            let record = unsafe { hole.as_ref() };
            all.push((hole.addr().get(), record.size));
            at = record.next;
        }
        all
    }

    #[test]
    fn all_of_it_and_nothing_more() {
        let (mut heap, _) = heap(64);
        let layout = Layout::from_size_align(1024, 16).expect("valid");
        let a = heap.allocate(layout);
        assert!(!a.is_null());
        assert!(heap.allocate(Layout::new::<u8>()).is_null());
        // SAFETY: allocated above.
        assert_eq!(unsafe { heap.deallocate(a, layout) }, Ok(()));
        assert_eq!(heap.usage(), (0, 1024));
        assert!(heap.allocate(Layout::from_size_align(usize::MAX / 4, 16).expect("valid")).is_null());
    }

    #[test]
    fn what_was_only_backed_is_given_back() {
        let (mut heap, _) = heap(16 * PAGE / 8);
        assert!(heap.back(3 * PAGE, 0, &mut |pages| pages.len()));
        let mut given = 0;
        heap.take_free_pages(0, &mut |pages| given += pages.len());
        assert!(given >= 2, "{given}");
        assert!(heap.back(3 * PAGE, 0, &mut |pages| pages.len()), "it can be had again");
    }

    #[test]
    fn free_pages_hold_no_record_and_no_allocation() {
        let (mut heap, base) = heap(64 * 1024);
        let page = Layout::from_size_align(4096, 4096).expect("valid");
        let kept: Vec<_> = (0..8).map(|_| heap.allocate(page)).collect();
        let mut given = Vec::new();
        heap.take_free_pages(0, &mut |pages| given.push(pages));
        assert!(given.is_empty(), "nothing was freed: {given:?}");
        for at in [kept[2], kept[3], kept[4], kept[6]] {
            // SAFETY: allocated above.
            assert_eq!(unsafe { heap.deallocate(at, page) }, Ok(()));
        }
        heap.take_free_pages(0, &mut |pages| given.push(pages));
        // The hole of three pages keeps the page with its record; the hole of one page keeps it, too.
        let first = kept[2].addr() / PAGE;
        assert_eq!((given.len(), given[0].clone()), (1, first + 1..first + 3));
        given.clear();
        heap.take_free_pages(0, &mut |pages| given.push(pages));
        assert!(given.is_empty());
        assert!(base < kept[0].addr());
    }

    #[test]
    fn what_is_freed_twice_is_found_wherever_it_lies_in_a_hole() {
        let (mut heap, _) = heap(64);
        let layout = Layout::from_size_align(64, 16).expect("valid");
        let all: Vec<_> = (0..4).map(|_| heap.allocate(layout)).collect();
        // SAFETY: allocated above, or refused.
        let mut free = |index: usize| unsafe { heap.deallocate(all[index], layout) };
        assert_eq!((free(1), free(1)), (Ok(()), Err(NotAllocated)));
        // The hole that it was is part of a larger one now: at its end, within it, and at its start.
        assert_eq!((free(0), free(1)), (Ok(()), Err(NotAllocated)));
        assert_eq!((free(2), free(1), free(0)), (Ok(()), Err(NotAllocated), Err(NotAllocated)));
        // A wrong size reaches into the hole behind.
        let (long, kept) = (Layout::from_size_align(128, 16).expect("valid"), heap.allocate(layout));
        // SAFETY: refused.
        assert_eq!(unsafe { heap.deallocate(kept, long) }, Err(NotAllocated));
        assert_eq!(heap.usage().0, 128);
    }

    /// Pages that a machine has given, of which it has so many.
    struct Machine {
        given: std::collections::BTreeSet<usize>,
        left: usize,
        calls: usize,
    }

    impl Machine {
        fn take(&mut self, pages: Range<usize>) -> usize {
            self.calls += 1;
            let has = |page: &usize| {
                if self.given.contains(page) {
                    return true;
                }
                let there = self.left > 0 && self.given.insert(*page);
                self.left -= usize::from(there);
                there
            };
            pages.take_while(has).count()
        }

        fn has(&self, at: usize, size: usize) -> bool {
            (at / PAGE..(at + size).div_ceil(PAGE)).all(|page| self.given.contains(&page))
        }
    }

    #[test]
    fn what_is_backed_already_is_not_asked_for_again() {
        let (mut heap, base) = heap(64 * 1024);
        let mut machine = Machine { given: [base / PAGE].into(), left: 5, calls: 0 };
        assert!(heap.back(0, 3 * PAGE, &mut |pages| machine.take(pages)));
        assert!(heap.back(PAGE, PAGE, &mut |pages| machine.take(pages)));
        assert!(heap.back(100, 2 * PAGE, &mut |pages| machine.take(pages)));
        assert_eq!(machine.calls, 1);
        // There is not as much, and as much as there is, is taken.
        assert!(!heap.back(0, 20 * PAGE, &mut |pages| machine.take(pages)));
        assert_eq!((machine.calls, machine.left), (2, 0));
        assert!(heap.back(0, 4 * PAGE, &mut |pages| machine.take(pages)));
        assert_eq!(machine.calls, 2);
        assert!(!heap.back(2 << 20, 0, &mut |pages| machine.take(pages)), "more than the heap can have");
    }

    proptest! {
        /// Whatever was allocated, freed and given back before: what was backed can be allocated without touching a page that has no memory.
        #[test]
        fn what_is_backed_is_there(
            steps in prop::collection::vec((0u8..8, 1usize..LARGEST, any::<prop::sample::Index>()), 1..120),
            rest in 0usize..100_000,
            block in 0usize..30_000,
            left in 0usize..200,
            blocks in prop::collection::vec(1usize..LARGEST, 1..100),
        ) {
            let (mut heap, base) = heap(64 * 1024);
            let mut machine = Machine { given: [base / PAGE].into(), left: usize::MAX, calls: 0 };
            let mut live: Vec<(*mut u8, Layout)> = Vec::new();
            let layout = |size| Layout::from_size_align(size, 16).expect("valid");
            for (kind, size, which) in steps {
                match kind {
                    0 => heap.take_free_pages(0, &mut |pages| machine.given.retain(|page| !pages.contains(page))),
                    1 => drop(heap.back(size, 2 * size, &mut |pages| machine.take(pages))),
                    // What is kept, is kept.
                    2 => {
                        let kept = heap.back(0, rest, &mut |pages| machine.take(pages));
                        heap.take_free_pages(rest, &mut |pages| machine.given.retain(|page| !pages.contains(page)));
                        let calls = machine.calls;
                        let again = heap.back(0, rest, &mut |pages| machine.take(pages));
                        prop_assert!(again == kept && (!kept || rest == 0 || machine.calls == calls));
                    }
                    3 if !live.is_empty() => {
                        let (at, layout) = live.swap_remove(which.index(live.len()));
                        // SAFETY: allocated below.
                        prop_assert_eq!(unsafe { heap.deallocate(at, layout) }, Ok(()));
                    }
                    _ => {
                        let at = heap.allocate(layout(size));
                        if !at.is_null() {
                            live.push((at, layout(size)));
                            // It is touched, and so is the record behind it.
                            machine.given.extend(at.addr() / PAGE..=(at.addr() + size.next_multiple_of(UNIT)) / PAGE);
                        }
                    }
                }
            }
            machine.left = left;
            if !heap.back(block, rest, &mut |pages| machine.take(pages)) {
                return Ok(());
            }
            let mut allocate = |size: usize| {
                let at = heap.allocate(layout(size));
                !at.is_null() && machine.has(at.addr(), size)
            };
            prop_assert!(block == 0 || allocate(block));
            let mut sum = 0;
            for size in blocks {
                sum += size.next_multiple_of(UNIT);
                if sum > rest {
                    break;
                }
                prop_assert!(allocate(size), "{} of {}", sum, rest);
            }
        }
    }

    proptest! {
        #[test]
        fn allocations_are_disjoint_and_come_back(steps in prop::collection::vec((any::<bool>(), 1usize..3000, 0u32..13, any::<prop::sample::Index>()), 1..200)) {
            let (mut heap, base) = heap(16 * 1024);
            let end = base + 16 * 16 * 1024;
            let mut live: Vec<(*mut u8, Layout, u8)> = Vec::new();
            for (n, (free, size, align, which)) in steps.into_iter().enumerate() {
                if free && !live.is_empty() {
                    let (at, layout, mark) = live.swap_remove(which.index(live.len()));
                    for i in 0..layout.size() {
                        // SAFETY: live until the next statement.
                        prop_assert_eq!(unsafe { at.add(i).read() }, mark);
                    }
                    // SAFETY: allocated below.
                    prop_assert_eq!(unsafe { heap.deallocate(at, layout) }, Ok(()));
                    // SAFETY: to be found out, it must not be; the heap looks before it writes.
                    prop_assert_eq!(unsafe { heap.deallocate(at, layout) }, Err(NotAllocated));
                } else {
                    let layout = Layout::from_size_align(size, 1 << align).expect("valid");
                    let at = heap.allocate(layout);
                    if at.is_null() {
                        continue;
                    }
                    prop_assert!(at.addr() >= base && at.addr() + size <= end);
                    prop_assert!(at.addr().is_multiple_of(1 << align));
                    for (other, layout, _) in &live {
                        prop_assert!(at.addr() + size <= other.addr() || other.addr() + layout.size() <= at.addr());
                    }
                    let mark = u8::try_from(n % 256).expect("below 256");
                    // SAFETY: just allocated.
                    unsafe { at.write_bytes(mark, size) };
                    live.push((at, layout, mark));
                }
                let holes = holes(&heap);
                prop_assert!(holes.windows(2).all(|pair| pair[0].0 + pair[0].1 < pair[1].0), "sorted and merged: {:?}", holes);
            }
            for (at, layout, _) in live {
                // SAFETY: allocated above.
                prop_assert_eq!(unsafe { heap.deallocate(at, layout) }, Ok(()));
            }
            prop_assert_eq!(heap.usage().0, 0);
            prop_assert_eq!(holes(&heap).len(), 1);
        }
    }
}
