//! Running components and serving their system calls (`abi::component::syscall`).

use super::Machine;
use crate::components::{Component, Role, Run};
use crate::cpu::{self, Trap};
use abi::component::{ERROR_ARGUMENT, ERROR_AUTHORITY, ERROR_BUSY, ERROR_UNKNOWN, authority, syscall};
use abi::limits::{LOG_LINE_BYTES, MAX_RINGS_PER_COMPONENT};
use abi::message::BadMessage;
use abi::vm::VmId;
use backend::Backend;

/// Why a component is killed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Death {
    /// Exception: vector, error code, CR2.
    Fault(u8, u64, u64),
    /// It called exit with this code (a panic, too, ends so).
    Exit(u64),
    /// It ran longer than its budget between two waits: ticks.
    Overrun(u64),
    /// It does not empty the ring from the core.
    RingFull,
    /// It does not let go of the NIC of this VM, which has ended.
    Withholds(VmId),
    /// The controller asked for it.
    Killed,
}

impl<B: Backend> Machine<B> {
    /// Let a component go on until its next trap, and serve that.
    pub(super) fn run_component(&mut self, rank: usize) {
        if !self.prepare(rank) {
            return;
        }
        let component = &mut self.components.list[rank];
        if self.loaded != Some(rank) || component.space.is_stale() {
            component.space.load();
            self.loaded = Some(rank);
        }
        // Only when nothing is due earlier: a timer that is set once per budget is nearly free, one set per entry is not.
        let limit = self.mark.saturating_add(component.budget_ticks.saturating_sub(component.used_ticks));
        if limit < self.armed {
            self.armed = limit;
            self.hardware.set_timer(limit);
        }
        // SAFETY: the component's address space is loaded, which maps the core; its RIP was set at its start to its entry
        // point, which the loader checked, or by the processor when it trapped. Interrupts are off.
        let trap = unsafe { cpu::enter(&mut component.context) };
        let now = cpu::tsc();
        let ran = now - self.mark;
        self.mark = now;
        component.ran_ticks += ran;
        component.used_ticks += ran;
        self.counters.component_ticks += ran;
        match trap {
            Trap::Syscall => self.syscall(rank),
            Trap::Interrupt(vector) => {
                self.interrupt(vector);
                let component = &self.components.list[rank];
                let used = component.used_ticks;
                if used > component.budget_ticks {
                    self.kill(rank, Death::Overrun(used));
                }
            }
            Trap::Exception(vector, error, cr2) => self.kill(rank, Death::Fault(vector, error, cr2)),
        }
    }

    /// Make a component that is marked as able to run able to run: end its wait, or restart it. False when it cannot.
    #[inline]
    fn prepare(&mut self, rank: usize) -> bool {
        let component = &mut self.components.list[rank];
        match component.run {
            Run::Ready => true,
            Run::Waiting { mask, .. } => {
                let bits = component.notified & mask;
                component.notified &= !bits;
                component.context.rax = bits;
                component.used_ticks = 0;
                component.run = Run::Ready;
                if component.resync.is_some() {
                    self.resync(rank);
                }
                true
            }
            Run::Dead { .. } => {
                self.restart(rank);
                false
            }
        }
    }

    #[inline]
    fn syscall(&mut self, rank: usize) {
        self.counters.syscalls += 1;
        let component = &self.components.list[rank];
        let (number, a, b, c) =
            (component.context.rax, component.context.rdi, component.context.rsi, component.context.rdx);
        let result = match number {
            syscall::WAIT => return self.wait(rank, a, b, c),
            syscall::NOTIFY => {
                self.drain(rank);
                self.ring_doorbells(rank, a);
                0
            }
            syscall::RAISE if component.entry.authority & authority::RAISE == 0 => ERROR_AUTHORITY,
            syscall::RAISE => match u32::try_from(a) {
                Ok(raw) => self.raise_by_component(VmId::from_raw(raw), b),
                Err(_) => ERROR_ARGUMENT,
            },
            syscall::NOP => u64::from(abi::ABI_VERSION),
            syscall::LOG => Self::log_line(component, a, b, c),
            syscall::IRQ_ACK => match usize::try_from(a) {
                Ok(device) if self.acknowledge(rank, device) => 0,
                _ => ERROR_ARGUMENT,
            },
            syscall::PORT_IN | syscall::PORT_OUT => self.port(rank, number == syscall::PORT_OUT, a, b, c),
            syscall::EXIT => return self.kill(rank, Death::Exit(a)),
            _ => ERROR_UNKNOWN,
        };
        // Whoever was killed while serving the call has a fresh context by now, which a result would spoil.
        let component = &mut self.components.list[rank];
        if matches!(component.run, Run::Ready) {
            component.context.rax = result;
        }
    }

    /// Take commands, ring doorbells, then sleep unless there is something already.
    #[inline]
    fn wait(&mut self, rank: usize, mask: u64, deadline: u64, doorbells: u64) {
        if self.components.list[rank].ends.from.is_some() {
            self.drain(rank);
        }
        if doorbells != 0 {
            self.ring_doorbells(rank, doorbells);
        }
        let component = &mut self.components.list[rank];
        if matches!(component.run, Run::Dead { .. }) {
            return;
        }
        let bits = component.notified & mask;
        if bits != 0 {
            component.notified &= !bits;
            component.context.rax = bits;
            component.used_ticks = 0;
            if component.resync.is_some() {
                self.resync(rank);
            }
            return;
        }
        component.run = Run::Waiting { mask, deadline };
        self.components.runnable &= !(1 << rank);
        if component.resync.is_some() {
            // It has emptied its ring: tell it more.
            self.resync(rank);
        }
        if deadline != u64::MAX {
            if deadline <= cpu::tsc() {
                self.components.runnable |= 1 << rank;
            } else {
                self.components.next_deadline = self.components.next_deadline.min(deadline);
                self.arm(deadline);
            }
        }
    }

    /// Ring the doorbells of the rings whose bits are set.
    #[inline]
    fn ring_doorbells(&mut self, rank: usize, doorbells: u64) {
        let mut left = doorbells & ((1 << MAX_RINGS_PER_COMPONENT) - 1);
        while left != 0 {
            let index = left.trailing_zeros() as usize;
            left &= left - 1;
            let peer = self.components.list[rank].peers[index];
            if peer.bit != 0 {
                self.components.notify(peer.rank, peer.bit);
            }
        }
    }

    /// Carry out what the component has put into its ring to the core: at most one ring full.
    #[inline]
    fn drain(&mut self, rank: usize) {
        let role = self.components.list[rank].role;
        if role == Role::Sched {
            return self.advance_plan(rank);
        }
        for _ in 0..abi::ring::MAX_SLOTS {
            let Some(message) = self.components.list[rank].ends.take() else { break };
            let done = match role {
                Role::Pager => self.pager_command(&message),
                Role::Net => self.net_command(&message),
                Role::Control => self.control_request(&message),
                Role::Sched | Role::Other => Ok(()),
            };
            if let Err(error) = done {
                self.bad_message(rank, &error);
            }
        }
        self.components.list[rank].ends.release();
    }

    /// A component wrote what is no message of its ring.
    #[cold]
    pub(super) fn bad_message(&mut self, rank: usize, error: &BadMessage) {
        let name = self.components.list[rank].entry.name;
        if self.component_log.allow(cpu::tsc(), self.hardware.tsc_hz()).is_some() {
            log::warn!(target: "core", "{name} sent a {error}; ignored");
        }
    }

    /// Print a line for a component.
    fn log_line(component: &Component, level: u64, address: u64, len: u64) -> u64 {
        let level = match level {
            1 => log::Level::Error,
            2 => log::Level::Warn,
            3 => log::Level::Info,
            4 => log::Level::Debug,
            5 => log::Level::Trace,
            _ => return ERROR_ARGUMENT,
        };
        if !crate::log::has_room() {
            return ERROR_BUSY;
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(LOG_LINE_BYTES);
        let mut line = [0; LOG_LINE_BYTES];
        match component.read(address, len).and_then(|memory| memory.read(0, &mut line[..len])) {
            Some(()) => {
                let text = printable(&mut line[..len]);
                log::log!(target: "component", level, "{}: {text}", component.entry.name);
                0
            }
            None => ERROR_ARGUMENT,
        }
    }

    /// Access a port that the manifest gives to the component.
    fn port(&mut self, rank: usize, write: bool, port: u64, width: u64, value: u64) -> u64 {
        let entry = &self.components.list[rank].entry;
        let first = u64::from(entry.port_first);
        let width_ok = matches!(width, 1 | 2 | 4);
        let Some(port) = u16::try_from(port).ok().filter(|_| width_ok) else { return ERROR_ARGUMENT };
        if u64::from(port) < first || u64::from(port) + width > first + u64::from(entry.port_count) {
            return ERROR_AUTHORITY;
        }
        self.hardware.port(port, width, write.then_some(value))
    }

    /// Make a VM's interrupts pending for a component.
    #[inline]
    fn raise_by_component(&mut self, vm: VmId, bits: u64) -> u64 {
        match self.vms.by_id(vm) {
            Some(_) if bits & !(abi::guest::pending::NIC | abi::guest::pending::SHUTDOWN) != 0 => ERROR_ARGUMENT,
            Some(_) => {
                self.raise(vm.index, bits);
                0
            }
            None => ERROR_ARGUMENT,
        }
    }
}

/// Bytes as text: what is not printable ASCII becomes `?`.
fn printable(bytes: &mut [u8]) -> &str {
    for byte in bytes.iter_mut().filter(|byte| !matches!(byte, b' '..=b'~')) {
        *byte = b'?';
    }
    core::str::from_utf8(bytes).unwrap_or("?")
}
