//! The program from its start to its end: its tasks run, and when none can, the VM idles until the NIC, a device or the next timer.

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

/// How long nothing may have happened before memory is given back.
const QUIET_NS: u64 = 300_000_000;

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
    let mut machine = Machine { quiet_since: clock::now_ns(), trimmed: false };
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

/// What is known about the world outside.
struct Machine {
    /// When something that matters last happened.
    quiet_since: u64,
    /// Memory was given back since then, and none of it touched.
    trimmed: bool,
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
        if ran || (touched && self.trimmed) {
            // What the whole wire hears starts a quiet time, but does not draw it out: else a noisy wire would keep every VM fat.
            self.quiet_since = clock::now_ns();
            self.trimmed = false;
        } else if !self.trimmed && clock::now_ns().saturating_sub(self.quiet_since) >= QUIET_NS {
            // What is still needed for a while is looked at again later.
            self.trimmed = trim();
            self.quiet_since = clock::now_ns();
        }
        let mut deadline = network.min(time::next_deadline().map_or(u64::MAX, Instant::as_nanos));
        if !self.trimmed {
            deadline = deadline.min(self.quiet_since + QUIET_NS);
        }
        if disk::prepare_idle() && net::prepare_idle() {
            platform::idle(clock::deadline_ticks(deadline));
        }
        disk::awake();
        net::awake();
    }
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
