//! A simulated machine on the host, one for each thread: memory, a clock that only idling moves, and devices whose other ends
//! [`crate::sim`] gives to tests. Time runs in nanoseconds, and one tick is one nanosecond.

pub(crate) mod console;
pub(crate) mod control;
pub(crate) mod disk;
pub(crate) mod pages;

use abi::guest::{RegisterPage, pending};
use core::mem::offset_of;
use pages::registers;
use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::thread_local;

/// What the outside world does when the guest idles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimEvent {
    /// Something happened (a frame was delivered): the guest goes on at this time.
    Wake(u64),
    /// Nothing will happen before this time; `u64::MAX` for never.
    Nothing(u64),
}

/// The TSC at the start.
const START_NS: u64 = 1_000_000;

type IdleHook = Box<dyn FnMut(u64, u64) -> SimEvent>;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(START_NS) };
    static HOOK: RefCell<Option<IdleHook>> = const { RefCell::new(None) };
    static SHORT: Cell<bool> = const { Cell::new(false) };
    static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
    static DRY: Cell<bool> = const { Cell::new(false) };
    static KICKS: Cell<[u64; 2]> = const { Cell::new([0; 2]) };
}

/// Another machine, at its start, with these boot arguments.
pub(crate) fn build(boot_args: &str) {
    control::forget();
    disk::forget();
    console::forget();
    HOOK.set(None);
    NOW.set(START_NS);
    KICKS.set([0; 2]);
    SHORT.set(false);
    LEFT.set(usize::MAX);
    DRY.set(false);
    pages::build(boot_args, NOW.get());
}

/// From now on `hook` is called with the present and the guest's deadline (`u64::MAX`: none) whenever the guest idles.
pub(crate) fn on_idle(hook: impl FnMut(u64, u64) -> SimEvent + 'static) {
    HOOK.set(Some(Box::new(hook)));
}

/// Kicks of the NIC and of the console so far.
pub(crate) fn kicks() -> [u64; 2] {
    KICKS.get()
}

/// From now on the machine has no memory for the guest beyond what it holds, or has some again.
pub(crate) fn run_short(short: bool) {
    SHORT.set(short);
}

/// From now on the machine has so many bytes for the guest whenever that asks. Nothing is used up.
pub(crate) fn leave(bytes: usize) {
    LEFT.set(bytes);
}

/// From now on the machine has neither memory beyond what the guest holds, nor the pages of its stack and its rings, or has both again.
pub(crate) fn run_dry(dry: bool) {
    SHORT.set(dry);
    DRY.set(dry);
}

/// Whether the machine has the pages of stack and rings.
pub(crate) fn has_pages() -> bool {
    !DRY.get()
}

pub(crate) fn tsc() -> u64 {
    NOW.get()
}

pub(crate) fn idle(deadline: u64) -> u64 {
    let bits = || registers().load64(offset_of!(RegisterPage, pending)).expect("in the page");
    let enabled = registers().load64(offset_of!(RegisterPage, enabled)).expect("in the page") | pending::IDENTITY;
    while bits() & enabled == 0 && NOW.get() < deadline {
        // Taken out while it runs, since the hook may look at the machine, too.
        let mut hook = HOOK.take();
        let event = hook.as_mut().map_or(SimEvent::Nothing(u64::MAX), |hook| hook(NOW.get(), deadline));
        HOOK.set(hook);
        let next = match event {
            SimEvent::Wake(time) => time,
            SimEvent::Nothing(time) => time.min(deadline),
        };
        assert!(next != u64::MAX, "the guest sleeps for ever, and nothing will wake it");
        NOW.set(NOW.get().max(next));
    }
    bits()
}

pub(crate) fn kick(device: u64) {
    let mut kicks = KICKS.get();
    if let Some(count) = usize::try_from(device).ok().and_then(|device| kicks.get_mut(device)) {
        *count += 1;
    }
    KICKS.set(kicks);
    control::kicked(device);
    disk::kicked(device);
    if device == abi::guest::device::CONSOLE {
        console::drain();
    }
}

pub(crate) fn exit(code: u64) -> ! {
    panic!("the guest ended itself with code {code}")
}

/// Whether the machine has so many bytes beyond what the guest holds.
pub(crate) fn has_memory(bytes: usize) -> bool {
    !SHORT.get() && bytes <= LEFT.get()
}
