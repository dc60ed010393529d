//! The death of components, and their starts.
//!
//! Whatever finds a component guilty condemns it ([`crate::kernel::Cpu::condemn`]); the loop alone comes here, stops it and
//! starts its successor. Whoever it is, no VM is lost: VMs that wait for it are told to its successor.

use super::{Component, Death, EndpointId, Run};
use crate::board::Board;
use crate::kernel::{Cpu, Kernel};
use crate::log::say;
use crate::vm::{NEVER, Queue};
use abi::log::Record;
use abi::service::Service;
use backend::Backend;

/// A component that dies within this many milliseconds of its start dies quickly.
const QUICK_MS: u64 = 1000;
/// Quick deaths in a row that are answered by a start at once. After that a start waits, twice as long each time, up to
/// [`DELAY_MOST_MS`].
///
/// A start at once is the best answer to a fault that does not come again, and to one that comes again it is a small cost: a
/// millisecond or so for the image. A delay helps nobody but those who go on meanwhile, against a component that does nothing but die. So it
/// begins with what a start costs, which leaves them half of the CPU, and ends where starts take some hundredth of it and their
/// lines leave room on the serial line: to wait longer gains nothing, and is an outage if the next start would have been a good one.
/// Who is killed by request, or swapped, is not to blame, and its successor starts at once.
const QUICK_DEATHS: u32 = 3;
/// See [`QUICK_DEATHS`].
const DELAY_FIRST_MS: u64 = 2;
/// See [`QUICK_DEATHS`].
const DELAY_MOST_MS: u64 = 128;

/// How long the start after so many quick deaths in a row waits, in milliseconds.
fn delay_ms(quick_deaths: u32) -> u64 {
    match quick_deaths.checked_sub(QUICK_DEATHS + 1) {
        None => 0,
        Some(doublings) => (DELAY_FIRST_MS << doublings.min(16)).min(DELAY_MOST_MS),
    }
}

/// Ticks of a TSC with this rate in microseconds.
fn microseconds(ticks: u64, tsc_hz: u64) -> u64 {
    ticks / (tsc_hz / 1_000_000).max(1)
}

impl Component {
    /// Say why it is stopped.
    fn obituary(&self, why: Death, tsc_hz: u64) {
        let (name, rip, budget_us) = (self.entry.name, self.context.rip, self.entry.budget_us);
        let us = |ticks| microseconds(ticks, tsc_hz);
        say(match why {
            Death::Fault { vector, error, cr2: address } => {
                Record::Faulted { name, vector, error, address, registers: self.context.said() }
            }
            Death::Exit(code) => Record::Exited { name, code },
            Death::Overrun(ticks) => Record::Overran { name, ran_us: us(ticks), budget_us, rip },
            Death::Spins(ticks) => Record::Spun { name, ran_us: us(ticks), budget_us, rip },
            Death::Sleeps => Record::Slept { name, bits: self.notified, rip },
            Death::RingFull => Record::LeftRingFull { name, rip },
            Death::DetachTimeout(vm) => Record::DetachTimeout { name, vm, rip },
            Death::Nonsense(bad) => Record::Nonsense { name, bad },
            Death::Stalled => Record::Stalled { name, rip },
            // Said when its successor starts.
            Death::Swapped => return,
            Death::Killed => Record::Killed { name, start: self.incarnation },
        });
    }

    /// Where its policy is no good, the last good one takes its place.
    fn give_way(&mut self, why: Death, quick: bool) {
        let policy = self.policies.name();
        // Whatever is to blame, its place is taken already.
        if !why.is_fault() || self.successor.is_some() || !self.policies.fall(quick) {
            return;
        }
        self.quick_deaths = 0;
        say(Record::GivenUp { name: self.entry.name, policy, good: self.policies.name() });
    }
}

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Stop the components that were condemned, and start those whose time has come.
    #[cold]
    pub fn carry_out(&mut self) {
        for rank in 0..self.cpu.components.list.len() {
            if self.cpu.components.list[rank].trial_ends != NEVER {
                let now = self.cpu.board.now();
                self.cpu.judge(rank, self.cpu.steady.at(now));
            }
            if let Run::Condemned(why) = self.cpu.components.list[rank].run {
                self.stop(rank, why);
            }
            let component = &self.cpu.components.list[rank];
            let Run::Stopped { start_at } = component.run else { continue };
            let served = [Service::Net, Service::Disk].map(|service| self.cpu.endpoints.of(rank, service));
            if !served.into_iter().all(|endpoint| self.forget_server(endpoint)) {
                // Others have their turn first.
                self.cpu.attention.set_components();
            } else if start_at <= self.cpu.board.now() {
                self.start(rank);
            }
        }
    }

    /// Stop a component. What it shares with VMs is taken away from it, and its devices are kept quiet.
    fn stop(&mut self, rank: usize, why: Death) {
        let cpu = &mut self.cpu;
        let now = cpu.board.now();
        let hz = cpu.time.tsc_hz();
        let component = &mut cpu.components.list[rank];
        component.obituary(why, hz);
        let quick = now.saturating_sub(component.started_at) < cpu.time.milliseconds(QUICK_MS);
        component.trial_ends = NEVER;
        component.quick_deaths = if quick && why.is_fault() { component.quick_deaths.saturating_add(1) } else { 0 };
        component.give_way(why, quick);
        // A successor is not to blame for how often this one has died.
        let delay_ms = if component.successor.is_none() { delay_ms(component.quick_deaths) } else { 0 };
        let delay = cpu.time.milliseconds(delay_ms);
        let start_at = now.saturating_add(delay);
        component.run = Run::Stopped { start_at };
        component.notified = 0;
        if delay != 0 {
            say(Record::StartDelayed { name: component.entry.name, delay_ms });
            cpu.components.next_deadline = cpu.components.next_deadline.min(start_at);
            cpu.arm(start_at);
        }
        // What waited for space in its rings goes on without it.
        if !cpu.queues.is_empty(Queue::Ended) {
            cpu.attention.set_ended();
        }
        let component = &cpu.components.list[rank];
        // Whatever its devices do, they must not do it to memory that its successor uses for something else.
        for device in &component.devices {
            if let Some(gsi) = device.gsi {
                cpu.board.mask(gsi);
            }
            if let Some(pci) = device.pci {
                cpu.board.set_bus_master(pci, false);
            }
        }
        cpu.attention.set_swap();
        if cpu.scheduler() == Some(rank) {
            cpu.plan.forget(now.saturating_sub(cpu.counters.idle_ticks));
            cpu.attention.set_unheld();
        }
        if cpu.endpoints.of(rank, Service::Swap) != EndpointId::NONE {
            self.forget_swap(why.is_fault());
        }
    }

    /// Start a component: the first time, or from its module after its death.
    pub fn start(&mut self, rank: usize) {
        self.cpu.load(rank);
        self.cpu.swapped(rank);
        let own = self.cpu.components.list[rank].endpoints;
        for endpoint in own {
            self.hello(endpoint);
        }
        for endpoint in own {
            self.resync(endpoint);
        }
        // What the core did is nobody's time.
        let now = self.cpu.board.now();
        self.cpu.lap(now);
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// Make a component able to run from its beginning, with empty rings.
    fn load(&mut self, rank: usize) {
        let quantum_ticks = self.plan.quantum_ticks();
        let component = &mut self.components.list[rank];
        component.incarnation += 1;
        let by_wish = component.successor.is_some();
        // Both ends of every ring drop to empty before the new one looks at them; peers find out by the epoch. Nothing in the
        // headers can be believed: the component may have died of writing where it should not have, or meant to.
        let [a, b, c, d, ..] = self.board.random();
        let epoch = u32::from_le_bytes([a, b, c, d]);
        for ring in &component.rings {
            if ring::reset_to(ring, epoch).is_err() {
                say(Record::NoReset { name: component.entry.name });
            }
        }
        component.load(&mut self.frames, self.vm_frames, quantum_ticks);
        component.started_at = self.board.now();
        component.notified = 0;
        component.live.restart();
        component.run = Run::Ready;
        self.attention.set_runnable(rank);
        if component.incarnation > 1 {
            let (name, policy, start) = (component.entry.name, component.policies.name(), component.incarnation);
            say(if by_wish {
                Record::GoesOn { name, policy, start }
            } else {
                Record::Restarted { name, policy, start }
            });
        }
        for device in &component.devices {
            if let Some(pci) = device.pci {
                self.board.set_bus_master(pci, true);
            }
        }
        let peers = component.peers;
        for peer in peers.into_iter().filter(|peer| peer.bit != 0) {
            self.notify(peer.rank, peer.bit);
        }
        if self.loaded == Some(rank) {
            self.loaded = None;
        }
        self.unmask_interrupts(rank);
        self.open_trial(rank);
    }

    /// Let the interrupts of a component come: at its start, when nothing is being served.
    fn unmask_interrupts(&mut self, rank: usize) {
        for device in &self.components.list[rank].devices {
            if let Some(gsi) = device.gsi {
                self.board.unmask(gsi);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_said_as_microseconds_also_of_a_clock_that_is_slower() {
        assert_eq!(microseconds(30_000_000, 3_000_000_000), 10_000);
        assert_eq!(microseconds(2_999, 3_000_000_000), 0);
        assert_eq!(microseconds(7, 32_768), 7);
    }
}
