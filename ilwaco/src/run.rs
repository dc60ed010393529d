//! The program from its start to its end: its tasks run, and when none can, the VM idles until the NIC, a device or the next timer.

use crate::args::Args;
use crate::time::Instant;
use crate::{clock, console, control, disk, identity, memory, net, platform, registers, task, time};
use abi::guest::pending;
use alloc::sync::Arc;
use alloc::task::Wake;
use core::future::Future;
use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};

/// Rounds at most in which the program runs before it hears what arrived before its start.
const FIRST_ROUNDS: usize = 16;

/// How long nothing may have happened before memory is given back that others can have then, nanoseconds.
const QUIET_NS: u64 = 300_000_000;
/// The same where nobody else can have it: what lies within the reserve of a VM is kept for it, and to give it back and have it again costs nearly as much as a request. A VM at rest
/// shows then what it needs, and what remains of requests is wiped.
const REST_NS: u64 = 60_000_000_000;

/// A waker that only remembers that it was called.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs `main` to its end, and all tasks while it does. Tasks that are left then are not run any further.
pub fn block_on<F: Future>(main: F) -> F::Output {
    let mut main = pin!(main);
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(flag.clone());
    let mut cx = Context::from_waker(&waker);
    disk::await_ready();
    registers::enable(
        pending::ALARM
            | pending::NIC
            | pending::SHUTDOWN
            | pending::CONTROL
            | pending::DISK
            | pending::CONSOLE_INPUT
            | pending::WATCHED,
    );
    let mut machine = Machine {
        quiet_since: clock::now_ns(),
        trimmed: false,
        rested: false,
        idling: Idling::of(&Args::of_this_vm()),
    };
    // A VM may have been started by a packet, which would be refused now: nobody listens yet. Until all tasks have come to where they wait, or
    // one of them does not end to run.
    for _ in 0..FIRST_ROUNDS {
        if flag.0.swap(false, Ordering::Relaxed)
            && let Poll::Ready(output) = main.as_mut().poll(&mut cx)
        {
            net::flush();
            return output;
        }
        if !task::run_ready(identity::look) && !flag.0.load(Ordering::Relaxed) {
            break;
        }
    }
    loop {
        // Main is polled with the others, and first.
        let received = machine.listen();
        let mut ran = received == net::Received::Traffic;
        if flag.0.load(Ordering::Relaxed) {
            flag.0.store(false, Ordering::Relaxed);
            ran = true;
            if let Poll::Ready(output) = main.as_mut().poll(&mut cx) {
                net::flush();
                return output;
            }
        }
        ran |= task::run_ready(identity::look);
        disk::send();
        let next = net::send(Instant::now());
        let more = flag.0.load(Ordering::Relaxed) || task::is_ready();
        if !more {
            machine.idle(next, ran, received != net::Received::Nothing);
        }
    }
}

/// What becomes of the CPU when there is nothing to do, as the boot argument `idle` says: for measurements of what timeouts of idles are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Idling {
    /// The VM sleeps until something happens or the next timer.
    Timed,
    /// The same without timers; while one is set the VM computes, and looks at the time.
    Untimed,
    /// It always does.
    Spinning,
}

impl Idling {
    /// What the boot arguments say; what makes no sense is said and has no effect.
    fn of(args: &Args) -> Idling {
        match args.get("idle") {
            None | Some("timed") => Idling::Timed,
            Some("untimed") => Idling::Untimed,
            Some("spin") => Idling::Spinning,
            Some(other) => {
                crate::println!("ilwaco: idle={other} is none of timed, untimed, spin: it is timed");
                Idling::Timed
            }
        }
    }

    /// Until when to sleep, where the next timer ends at `timers` and memory is to be given back at `quiet`; `None`: not at all. Nanoseconds,
    /// [`u64::MAX`] for never.
    fn deadline(self, timers: u64, quiet: u64) -> Option<u64> {
        match self {
            Idling::Timed => Some(timers.min(quiet)),
            Idling::Untimed => (timers == u64::MAX).then_some(u64::MAX),
            Idling::Spinning => None,
        }
    }
}

/// What is known about the world outside.
struct Machine {
    idling: Idling,
    /// When something that matters last happened.
    quiet_since: u64,
    /// Memory was given back since then, and none of it touched.
    trimmed: bool,
    /// What the start took and nothing else needs was given back.
    rested: bool,
}

impl Machine {
    /// Takes in what has happened: interrupts, frames, timers.
    fn listen(&mut self) -> net::Received {
        identity::look();
        let pending = registers::take_pending();
        if pending & pending::CONTROL != 0 {
            control::answered();
        }
        if pending & pending::CONSOLE_INPUT != 0 {
            console::arrived();
        }
        if pending & pending::WATCHED != 0 {
            control::said();
        }
        if pending & pending::SHUTDOWN != 0 {
            task::request_shutdown();
        }
        disk::receive();
        let now = Instant::now();
        time::fire(now);
        net::receive(now)
    }

    /// Sleeps until something happens. `network`: when the network has something to do, in nanoseconds; `ran`: something that
    /// matters happened since the last time; `touched`: something at all.
    fn idle(&mut self, network: u64, ran: bool, touched: bool) {
        let kept = self.rested && !registers::may_go_out();
        let patience = patience(kept, registers::reserved_and_held());
        if ran || (touched && self.trimmed) {
            // What the whole wire hears starts a quiet time, but does not draw it out: else a noisy wire would keep every VM fat.
            self.quiet_since = clock::now_ns();
            self.trimmed = false;
        } else if !self.trimmed && clock::now_ns().saturating_sub(self.quiet_since) >= patience {
            // What is still needed for a while is looked at again later.
            self.trimmed = trim();
            self.rested = true;
            self.quiet_since = clock::now_ns();
        }
        let timers = network.min(time::next_deadline().map_or(u64::MAX, Instant::as_nanos));
        let quiet = if self.trimmed { u64::MAX } else { self.quiet_since + patience };
        let Some(deadline) = self.idling.deadline(timers, quiet) else { return };
        if disk::prepare_idle() && net::prepare_idle() {
            platform::idle(clock::deadline_ticks(deadline));
        }
        disk::awake();
        net::awake();
    }
}

/// How long nothing may have happened before memory is given back, nanoseconds, in a VM for which so many frames are reserved and which holds so many. `kept`: whoever
/// gives back a frame within the reserve gives it to nobody.
#[inline]
fn patience(kept: bool, (reserved, held): (u32, u32)) -> u64 {
    if kept && held <= reserved { REST_NS } else { QUIET_NS }
}

/// Gives back all memory that is not in use. Called when nothing has happened for a while. False when some of it will not be
/// in use much longer.
#[inline(never)]
fn trim() -> bool {
    let done = net::shrink();
    disk::shrink();
    time::shrink();
    task::shrink();
    memory::return_memory();
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_else_can_have_is_kept_for_longer() {
        let of = |kept, reserved, held| patience(kept, (reserved, held));
        assert_eq!([of(true, 24, 24), of(true, 24, 12)], [REST_NS; 2]);
        assert_eq!([of(true, 24, 25), of(false, 24, 24), of(false, 24, 12), of(true, 0, 5)], [QUIET_NS; 4]);
    }

    #[test]
    fn who_has_no_timeouts_does_not_sleep_beside_a_timer() {
        let _sim = crate::sim::Sim::new("");
        let of = |text| Idling::of(&Args::new(text));
        assert_eq!(of("ip=dhcp").deadline(7, 9), Some(7));
        assert_eq!((of("idle=timed").deadline(u64::MAX, 9), of("idle=so").deadline(8, 3)), (Some(9), Some(3)));
        assert_eq!(
            (of("idle=untimed").deadline(7, 9), of("idle=untimed").deadline(u64::MAX, 9)),
            (None, Some(u64::MAX))
        );
        assert_eq!(of("idle=spin").deadline(u64::MAX, u64::MAX), None);
    }
}
