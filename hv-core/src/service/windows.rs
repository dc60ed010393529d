//! The windows through which swap sees VMs that go out and come in: whose each is, and for what. Pure; what is mapped in them is the business
//! of whoever opens and closes them.

use crate::vm::Pages;
use abi::swap::WINDOWS;
use abi::vm::VmId;

/// Starts of swap that may die by their own fault with a VM that they were to give back before it is given up: what lies in the pool may be
/// what kills them. All but the first had nothing else to do, and they are many, as a bad policy kills itself, too.
const TRIES: u8 = 16;

/// What a window is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Its VM is to go out, and whoever serves its disk or its NIC has still to let go of it. Nothing is mapped.
    Promised,
    /// Its VM goes out: so many of its pages are mapped, and swap is to answer this number.
    Store { counter: u64, pages: u32 },
    /// Its VM comes in, or one page of it does: so many of its frames are mapped, and swap is to answer this number. Whether its start that lives was told, and how
    /// many starts that were told have died by their own fault.
    Load { counter: u64, pages: u32, page: Option<u32>, told: bool, failed: u8 },
    /// These pages of its VM go out one by one, and are mapped in their order: swap is to answer a number for each, this one for the first, and has still to
    /// for those that are `left`. Some are `gone`. One bit for each, as in `pages`.
    Pages { counter: u64, pages: Pages, left: u64, gone: u64 },
}

/// A window that is somebody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    pub vm: VmId,
    pub order: Order,
    /// Frames that are free at least when it has gone out; 0 for one that comes in.
    pub frees: u32,
    /// Steady time at which somebody was first seen to be waited for.
    pub since: Option<u64>,
}

/// All of them.
#[derive(Debug)]
pub struct Windows {
    list: [Option<Open>; WINDOWS],
    /// The number of the last order to store something.
    last: u64,
    /// TSC until which nobody is asked to go out: the pool was full.
    pub full_until: u64,
    /// TSC until which nobody is asked to go out but for somebody who makes room in the pool by coming in: but for that it was full.
    pub crowded_until: u64,
    /// VMs that wait for a window through which a page comes back: those that find no place here look again by themselves.
    pub waiting: heapless::Deque<VmId, WAITING>,
    /// The page of the slot that swap is being told of from which on it has not been told of pages that are out.
    pub told_pages: u32,
}

/// VMs that wait for a window that are remembered.
const WAITING: usize = 64;

impl Windows {
    /// None is anybody's.
    pub const NONE: Windows = Windows {
        list: [None; WINDOWS],
        last: 0,
        full_until: 0,
        crowded_until: 0,
        waiting: heapless::Deque::new(),
        told_pages: 0,
    };

    /// One that is nobody's.
    pub fn free(&self) -> Option<usize> {
        self.list.iter().position(Option::is_none)
    }

    /// Those that are somebody's.
    pub fn open(&self) -> impl Iterator<Item = (usize, Open)> + use<> {
        self.list.into_iter().enumerate().filter_map(|(window, open)| Some((window, open?)))
    }

    /// Whose a window is, and for what.
    pub fn set(&mut self, window: usize, open: Open) {
        if let Some(place) = self.list.get_mut(window) {
            *place = Some(open);
        }
    }

    /// A window is nobody's from now on.
    pub fn close(&mut self, window: usize) {
        if let Some(place) = self.list.get_mut(window) {
            *place = None;
        }
    }

    fn find(&self, wanted: impl Fn(&Open) -> bool) -> Option<(usize, Open)> {
        self.open().find(|(_, open)| wanted(open))
    }

    /// The window that is promised to a VM.
    pub fn promised(&self, vm: VmId) -> Option<(usize, Open)> {
        self.find(|open| open.vm == vm && open.order == Order::Promised)
    }

    /// Somebody else is waited for from now on, of a VM that a window is promised to.
    pub fn wait_anew(&mut self, vm: VmId) {
        if let Some((window, open)) = self.promised(vm) {
            self.set(window, Open { since: None, ..open });
        }
    }

    /// The window through which a VM goes out by the order of this number, and the pages in it.
    pub fn storing(&self, vm: VmId, number: u64) -> Option<(usize, u32)> {
        self.open().find_map(|(window, open)| match open.order {
            Order::Store { counter, pages } if counter == number && open.vm == vm => Some((window, pages)),
            _ => None,
        })
    }

    /// The window through which a VM comes in, or this page of it, by the order of this number, and the pages in it.
    pub fn loading(&self, vm: VmId, number: u64) -> Option<(usize, u32, Option<u32>)> {
        self.open().find_map(|(window, open)| match open.order {
            Order::Load { counter, pages, page, .. } if counter == number && open.vm == vm => {
                Some((window, pages, page))
            }
            _ => None,
        })
    }

    /// The window through which a page goes out by the order of this number, and which one it is of those there, which has not been answered yet.
    pub fn sending(&self, vm: VmId, number: u64) -> Option<(usize, u32)> {
        self.open().find_map(|(window, open)| match open.order {
            Order::Pages { counter, pages, left, .. } if open.vm == vm => {
                let index = u32::try_from(number.checked_sub(counter)?).ok()?;
                let bit = nth_bit(pages.bits, index)?;
                (left >> bit & 1 != 0).then_some((window, index))
            }
            _ => None,
        })
    }

    /// The page of this index in a window through which pages go out one by one.
    pub fn page_at(&self, window: usize, index: u32) -> Option<u32> {
        let Some(Open { order: Order::Pages { pages, .. }, .. }) = self.at(window) else { return None };
        pages.first.checked_add(nth_bit(pages.bits, index)?)
    }

    /// Page `index` of those in a window has been answered, and is gone or not.
    pub fn answer(&mut self, window: usize, index: u32, is_gone: bool) {
        if let Some(Some(Open { order: Order::Pages { pages, left, gone, .. }, .. })) = self.list.get_mut(window)
            && let Some(bit) = nth_bit(pages.bits, index)
        {
            *left &= !(1 << bit);
            *gone |= u64::from(is_gone) << bit;
        }
    }

    /// Whose a window is, and for what; `None` for nobody's.
    pub fn at(&self, window: usize) -> Option<Open> {
        self.list.get(window).copied().flatten()
    }

    /// Whether a window is open for a VM.
    pub fn is_open_for(&self, vm: VmId) -> bool {
        self.open().any(|(_, open)| open.vm == vm)
    }

    /// Windows through which pages go out one by one.
    pub fn sends(&self) -> usize {
        self.open().filter(|(_, open)| matches!(open.order, Order::Pages { .. })).count()
    }

    /// The number of the next order to store something: never the same twice.
    pub fn next_number(&mut self) -> u64 {
        self.next_numbers(1)
    }

    /// The first of so many numbers.
    pub fn next_numbers(&mut self, count: u32) -> u64 {
        let first = self.last + 1;
        self.last += u64::from(count);
        first
    }

    /// For how many ticks of the steady time `now` the order of a window has been seen to wait.
    pub fn has_waited(&mut self, window: usize, now: u64) -> u64 {
        match self.list.get_mut(window) {
            Some(Some(open)) => now.saturating_sub(*open.since.get_or_insert(now)),
            _ => 0,
        }
    }

    /// The load that swap is to be told of next. While it is not clear of which load it has died, it has one at a time: the most suspected
    /// first, so that the others wait for no more than a few deaths.
    pub fn next_load(&self) -> Option<(usize, Open)> {
        let loads = || {
            self.open().filter_map(|(window, open)| match open.order {
                Order::Load { told, failed, .. } => Some((window, open, told, failed)),
                _ => None,
            })
        };
        if self.has_suspect() && loads().any(|(_, _, told, _)| told) {
            return None;
        }
        let (window, open, ..) =
            loads().filter(|(_, _, told, _)| !told).max_by_key(|&(window, _, _, failed)| (failed, WINDOWS - window))?;
        Some((window, open))
    }

    /// Swap is told of the load through this window.
    pub fn tell(&mut self, window: usize) {
        if let Some(Some(Open { order: Order::Load { told, .. }, .. })) = self.list.get_mut(window) {
            *told = true;
        }
    }

    /// Whether swap has died with a load of which it may die again: it stores nothing meanwhile.
    pub fn has_suspect(&self) -> bool {
        self.open().any(|(_, open)| matches!(open.order, Order::Load { failed: 1.., .. }))
    }

    /// A start of swap has ended, by its own fault or not, without giving the VM in this window back. False when that has killed it often
    /// enough.
    #[must_use]
    pub fn try_again(&mut self, window: usize, at_fault: bool) -> bool {
        match self.list.get_mut(window) {
            Some(Some(Open { order: Order::Load { told, failed, .. }, since, .. })) => {
                *since = None;
                *failed += u8::from(core::mem::take(told) && at_fault);
                *failed < TRIES
            }
            _ => true,
        }
    }

    /// Frames and seats that those make free that are going out.
    pub fn under_way(&self) -> (u64, u32) {
        self.open()
            .filter(|(_, open)| matches!(open.order, Order::Promised | Order::Store { .. }))
            .fold((0, 0), |(frames, seats), (_, open)| (frames + u64::from(open.frees), seats + 1))
    }
}

/// The place of the bit of this index among those that are set.
fn nth_bit(bits: u64, index: u32) -> Option<u32> {
    (0..u64::BITS).filter(|bit| bits >> bit & 1 != 0).nth(index as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: VmId = VmId::new(1, 1);
    const B: VmId = VmId::new(2, 7);

    #[test]
    fn a_window_is_found_by_whose_it_is_and_by_its_order() {
        let mut windows = Windows::NONE;
        let number = windows.next_number();
        let window = windows.free().expect("all are");
        windows.set(window, Open { vm: A, order: Order::Promised, frees: 5, since: None });
        assert_eq!(windows.promised(A).map(|(window, _)| window), Some(window));
        assert_eq!((windows.promised(B), windows.storing(A, number)), (None, None));
        windows.set(window, Open { vm: A, order: Order::Store { counter: number, pages: 3 }, frees: 5, since: None });
        assert_eq!((windows.promised(A), windows.storing(A, number)), (None, Some((window, 3))));
        assert_eq!(
            (windows.storing(A, number + 1), windows.storing(B, number), windows.loading(A, number)),
            (None, None, None)
        );
        let other = windows.free().expect("one is taken");
        windows.set(
            other,
            Open {
                vm: B,
                order: Order::Load { counter: 9, pages: 2, page: None, told: true, failed: 0 },
                frees: 0,
                since: None,
            },
        );
        assert_eq!((windows.loading(B, 9), windows.storing(B, 9)), (Some((other, 2, None)), None));
        assert_eq!(windows.under_way(), (5, 1), "one that comes in frees nothing");
        windows.close(window);
        assert_eq!((windows.free(), windows.open().count()), (Some(window), 1));
    }

    #[test]
    fn no_number_comes_twice_and_no_more_windows_are_taken_than_there_are() {
        let mut windows = Windows::NONE;
        let mut last = 0;
        while let Some(window) = windows.free() {
            let number = windows.next_number();
            assert!(number > last);
            last = number;
            windows
                .set(window, Open { vm: A, order: Order::Store { counter: number, pages: 1 }, frees: 1, since: None });
        }
        assert_eq!((windows.open().count(), windows.under_way()), (WINDOWS, (8, 8)));
    }

    #[test]
    fn what_an_order_has_waited_counts_from_the_first_look_and_anew_after_a_restart() {
        let mut windows = Windows::NONE;
        windows.set(
            3,
            Open {
                vm: B,
                order: Order::Load { counter: 9, pages: 2, page: None, told: true, failed: 0 },
                frees: 0,
                since: None,
            },
        );
        assert_eq!([50, 60, 150].map(|now| windows.has_waited(3, now)), [0, 10, 100]);
        assert!(windows.try_again(3, false));
        assert_eq!([200, 201].map(|now| windows.has_waited(3, now)), [0, 1]);
        assert_eq!(windows.has_waited(4, 1000), 0, "it is nobody's");
    }

    fn load(vm: VmId, failed: u8) -> Open {
        Open { vm, order: Order::Load { counter: 9, pages: 2, page: None, told: false, failed }, frees: 0, since: None }
    }

    /// Swap is told of whatever it may be told of: in these windows.
    fn told(windows: &mut Windows) -> Vec<usize> {
        let next = |windows: &mut Windows| {
            let (window, _) = windows.next_load()?;
            windows.tell(window);
            Some(window)
        };
        core::iter::from_fn(|| next(windows)).collect()
    }

    #[test]
    fn a_vm_that_swap_dies_of_is_given_up_some_time() {
        let mut windows = Windows::NONE;
        windows.set(3, load(B, 0));
        let mut dies = |at_fault| {
            told(&mut windows);
            windows.try_again(3, at_fault)
        };
        // It is killed, or swapped for another: nobody is to blame.
        assert!((0..10).all(|_| dies(false)));
        assert!((1..TRIES).all(|_| dies(true)) && !dies(true));
        assert!(windows.try_again(4, true), "it is nobody's");
    }

    #[test]
    fn a_start_that_was_not_told_has_not_died_of_it() {
        let mut windows = Windows::NONE;
        windows.set(3, load(B, 0));
        assert!((0..10).all(|_| windows.try_again(3, true)) && !windows.has_suspect());
    }

    #[test]
    fn who_has_killed_swap_comes_in_alone() {
        let mut windows = Windows::NONE;
        windows.set(1, load(A, 0));
        windows.set(3, load(B, 0));
        assert_eq!(told(&mut windows), [1, 3]);
        assert!(windows.try_again(1, true) && windows.try_again(3, true) && windows.has_suspect());
        assert_eq!(told(&mut windows), [1]);
        // It dies again, and the other has not been told of.
        assert!(windows.try_again(1, true) && windows.try_again(3, true));
        windows.set(2, load(A, 0));
        assert_eq!(told(&mut windows), [1]);
        windows.close(1);
        assert_eq!(told(&mut windows), [3]);
        windows.close(3);
        assert!(!windows.has_suspect());
        assert_eq!(told(&mut windows), [2]);
    }
}
