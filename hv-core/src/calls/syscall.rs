//! Running components and serving their system calls (`abi::component::syscall`).

use crate::board::{Board, vectors};
use crate::component::{Component, Death, EndpointId, Run};
use crate::kernel::{Cpu, Kernel};
use crate::log::say;
use crate::service::NoRingPage;
use crate::trap::Trap;
use abi::component::{ERROR_ARGUMENT, ERROR_AUTHORITY, ERROR_BUSY, ERROR_UNKNOWN, authority, bits, syscall};
use abi::guest::pending;
use abi::limits::{LOG_LINE_BYTES, MAX_RINGS_PER_COMPONENT};
use abi::log::Record;
use abi::message::{BadMessage, Message};
use abi::service::Service;
use abi::vm::VmId;
use backend::Backend;

/// Why a system call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Unknown,
    Argument,
    /// The manifest does not give the component what it asks for.
    Authority,
    /// There is no room for it now, or it is not the time for it.
    Busy,
}

impl Refusal {
    const fn raw(self) -> u64 {
        match self {
            Refusal::Unknown => ERROR_UNKNOWN,
            Refusal::Argument => ERROR_ARGUMENT,
            Refusal::Authority => ERROR_AUTHORITY,
            Refusal::Busy => ERROR_BUSY,
        }
    }
}

/// The result of a call about ring pages.
fn ring_result(result: Result<(), NoRingPage>) -> Result<u64, Refusal> {
    match result {
        Ok(()) => Ok(0),
        Err(NoRingPage::NoSuchPage) => Err(Refusal::Argument),
        Err(NoRingPage::NoFrame | NoRingPage::InUse) => Err(Refusal::Busy),
    }
}

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Let a component go on until its next trap, and serve that.
    pub fn run_component(&mut self, rank: usize) {
        let component = &mut self.cpu.components.list[rank];
        if let Run::Waiting { mask, .. } = component.run {
            component.end_wait(mask);
        }
        let trap = self.cpu.enter_component(rank);
        match trap {
            Trap::Syscall => self.syscall(rank),
            Trap::Interrupt(vector) => {
                self.cpu.interrupt(vector);
                if vector == vectors::TIMER {
                    self.charge(rank);
                }
            }
            Trap::Exception(vector, error, cr2) => self.cpu.condemn(rank, Death::Fault { vector, error, cr2 }),
        }
    }

    #[inline]
    fn syscall(&mut self, rank: usize) {
        self.cpu.counters.syscalls += 1;
        let component = &self.cpu.components.list[rank];
        let (number, a, b, c) =
            (component.context.rax, component.context.rdi, component.context.rsi, component.context.rdx);
        let result = match number {
            syscall::WAIT => return self.wait(rank, a, b, c),
            syscall::NOTIFY => {
                self.drain_all(rank, None);
                self.cpu.ring_doorbells(rank, a);
                Ok(0)
            }
            syscall::RAISE if component.authority & authority::RAISE == 0 => Err(Refusal::Authority),
            syscall::RAISE if b == pending::DISK => {
                let disk = self.cpu.endpoints.of(rank, Service::Disk);
                if self.raise_disk(disk, VmId::from_raw(a)) { Ok(0) } else { Err(Refusal::Argument) }
            }
            syscall::RAISE => self.raise_by_component(a, b),
            syscall::RING_PAGE | syscall::RING_RETURN if component.authority & authority::VM_WINDOW == 0 => {
                Err(Refusal::Authority)
            }
            syscall::RING_PAGE => {
                ring_result(self.give_ring_page(self.cpu.endpoints.of(rank, Service::Net), VmId::from_raw(a), b))
            }
            syscall::RING_RETURN => {
                ring_result(self.take_ring_pages(self.cpu.endpoints.of(rank, Service::Net), VmId::from_raw(a), b))
            }
            syscall::NOP => Ok(u64::from(abi::ABI_VERSION)),
            syscall::LOG => self.cpu.log_line(rank, a, b, c),
            syscall::IRQ_ACK => match usize::try_from(a) {
                Ok(device) if self.cpu.acknowledge(rank, device) => Ok(0),
                _ => Err(Refusal::Argument),
            },
            syscall::PORT_IN => self.cpu.port(rank, a, b, None),
            syscall::PORT_OUT => self.cpu.port(rank, a, b, Some(c)),
            syscall::EXIT => return self.cpu.condemn(rank, Death::Exit(a)),
            _ => Err(Refusal::Unknown),
        };
        self.cpu.components.list[rank].context.rax = result.unwrap_or_else(Refusal::raw);
    }

    /// Take commands, ring doorbells, then sleep unless there is something already.
    #[inline]
    fn wait(&mut self, rank: usize, mask: u64, deadline: u64, doorbells: u64) {
        if !self.cpu.components.list[rank].endpoints.is_empty() {
            self.drain_all(rank, Some(mask));
            if !matches!(self.cpu.components.list[rank].run, Run::Ready) {
                // It was condemned for what it had sent.
                return;
            }
        }
        if doorbells != 0 {
            self.cpu.ring_doorbells(rank, doorbells);
        }
        let component = &mut self.cpu.components.list[rank];
        if deadline != u64::MAX || component.live.used_ticks != 0 {
            return self.cpu.wait_until(rank, mask, deadline);
        }
        if component.notified & mask != 0 {
            component.end_wait(mask);
        } else {
            component.run = Run::Waiting { mask, deadline };
            self.cpu.attention.clear_runnable(rank);
        }
    }

    /// Look at all rings from a component, and go on telling it what it has still to know: it has emptied its own. The mask is that
    /// of its wait, if it waits.
    #[inline(never)]
    fn drain_all(&mut self, rank: usize, mask: Option<u64>) {
        for id in self.cpu.components.list[rank].endpoints {
            let Some(endpoint) = self.cpu.endpoints.get(id) else { continue };
            let (service, resync, owes) = (endpoint.service, endpoint.resync.is_some(), endpoint.owes);
            self.drain(id, service);
            if owes {
                self.tell_owed(id, mask);
            }
            if resync {
                self.resync(id);
            }
        }
    }

    /// Carry out what a party to a service has put into its ring to the core.
    #[inline]
    fn drain(&mut self, from: EndpointId, service: Service) {
        match service {
            Service::Pager => self.take_all(from, Self::pager_command),
            Service::Net => self.take_all(from, Self::net_command),
            Service::Disk => self.take_all(from, Self::disk_command),
            Service::Control => self.take_requests(from),
            Service::Plan => self.advance_plan(),
            // The loop does, which can wait for space in others' rings.
            Service::Swap => self.cpu.attention.set_swap(),
        }
    }

    /// Serve a controller as long as there is space for its answers; what it has asked beyond waits until it has taken those.
    fn take_requests(&mut self, from: EndpointId) {
        for _ in 0..abi::ring::MAX_SLOTS {
            let Some(endpoint) = self.cpu.endpoints.get_mut(from) else { return };
            let message = if endpoint.has_space() { endpoint.take() } else { None };
            endpoint.release();
            let Some(message) = message else { return };
            if let Err(error) = self.control_request(from, &message) {
                self.cpu.bad_message(from, &error);
            }
        }
    }

    /// Carry out at most one ring full.
    #[inline(always)]
    fn take_all(
        &mut self,
        from: EndpointId,
        carry_out: impl Fn(&mut Self, EndpointId, &Message) -> Result<(), BadMessage>,
    ) {
        for _ in 0..abi::ring::MAX_SLOTS {
            let Some(endpoint) = self.cpu.endpoints.get_mut(from) else { return };
            let Some(message) = endpoint.take() else { return endpoint.release() };
            if let Err(error) = carry_out(self, from, &message) {
                self.cpu.bad_message(from, &error);
            }
        }
        if let Some(endpoint) = self.cpu.endpoints.get_mut(from) {
            endpoint.release();
        }
    }

    /// Make interrupts pending for a VM, whether it was admitted or not; one that is out comes in for it
    /// ([`Kernel::can_come_in`] has said that it can). False when there is none of this name.
    #[inline]
    pub fn raise(&mut self, id: VmId, bits: u64) -> bool {
        let Self { vms, cpu, .. } = self;
        match vms.by_id(id) {
            Some(vm) => {
                cpu.raise(vm, bits);
                true
            }
            None => vms.raise_early(id, bits) || self.bring_in(id, bits),
        }
    }

    /// Make a VM's interrupts pending for a component.
    #[inline]
    fn raise_by_component(&mut self, vm: u64, bits: u64) -> Result<u64, Refusal> {
        let vm = VmId::from_raw(vm);
        if bits & !(pending::NIC | pending::SHUTDOWN) != 0 {
            return Err(Refusal::Argument);
        }
        let Self { vms, cpu, .. } = self;
        if let Some(vm) = vms.by_id(vm) {
            cpu.raise(vm, bits);
            return Ok(0);
        }
        self.raise_for_absent(vm, bits)
    }

    /// The same for a VM that is not in.
    #[cold]
    #[inline(never)]
    fn raise_for_absent(&mut self, vm: VmId, bits: u64) -> Result<u64, Refusal> {
        if !self.can_come_in(vm) {
            return Err(Refusal::Busy);
        }
        if self.raise(vm, bits) { Ok(0) } else { Err(Refusal::Argument) }
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// Load a component's address space if need be, and let it run.
    #[inline]
    fn enter_component(&mut self, rank: usize) -> Trap {
        let component = &mut self.components.list[rank];
        if self.loaded != Some(rank) || component.space.is_stale() {
            // SAFETY: a component's tables share the core's half with every other space and are never freed.
            unsafe { self.board.load_space(component.space.take_cr3()) };
            self.loaded = Some(rank);
            if self.crossings.is_on() {
                let barriers = self.crossings.before_component();
                if !barriers.is_none() {
                    self.backend.now(barriers);
                }
            }
        }
        // Only when nothing is due earlier: a timer that is set once per period is nearly free, one set per entry is not.
        let limit = self.mark.saturating_add(component.live.tick_ticks.saturating_sub(component.live.fresh_ticks));
        if limit < self.armed {
            self.armed = limit;
            self.board.set_timer(limit);
        }
        // SAFETY: the component's address space is loaded, which maps the core; its RIP was set at its start to its entry
        // point, which the loader checked, or by the processor when it trapped. Interrupts are off.
        let trap = unsafe { self.board.enter(&mut component.context) };
        let now = self.board.now();
        let ran = now - self.mark;
        self.mark = now;
        component.ran_ticks += ran;
        component.live.fresh_ticks += ran;
        self.counters.component_ticks += ran;
        trap
    }

    /// A wait with a deadline, or after a turn that was charged for.
    #[inline(never)]
    fn wait_until(&mut self, rank: usize, mask: u64, deadline: u64) {
        if deadline != u64::MAX && deadline <= self.board.now() {
            return self.wait_for_the_past(rank, mask);
        }
        if self.components.list[rank].live.used_ticks != 0 {
            self.rested(rank);
        }
        let component = &mut self.components.list[rank];
        if component.notified & mask != 0 {
            return component.end_wait(mask);
        }
        component.run = Run::Waiting { mask, deadline };
        self.attention.clear_runnable(rank);
        if deadline != u64::MAX {
            self.components.next_deadline = self.components.next_deadline.min(deadline);
            self.arm(deadline);
        }
    }

    /// Ring the doorbells of the rings whose bits are set, and let the interrupts of the devices come again whose bits are.
    #[inline]
    fn ring_doorbells(&mut self, rank: usize, doorbells: u64) {
        let devices = doorbells >> bits::IRQ_SHIFT;
        if devices != 0 {
            self.acknowledge_all(rank, devices);
        }
        let mut left = doorbells & ((1 << MAX_RINGS_PER_COMPONENT) - 1);
        while left != 0 {
            let index = left.trailing_zeros() as usize;
            left &= left - 1;
            let peer = self.components.list[rank].peers[index];
            if peer.bit != 0 {
                self.notify(peer.rank, peer.bit);
            }
        }
    }

    /// Access a port that the manifest gives to the component, or at which a device of its answers.
    fn port(&mut self, rank: usize, port: u64, width: u64, value: Option<u64>) -> Result<u64, Refusal> {
        let component = &self.components.list[rank];
        let own = (component.entry.port_first, component.entry.port_count);
        let port = u16::try_from(port).map_err(|_| Refusal::Argument)?;
        if !matches!(width, 1 | 2 | 4) {
            return Err(Refusal::Argument);
        }
        let lies_in = |&(first, count): &(u16, u16)| {
            port >= first && u64::from(port) + width <= u64::from(first) + u64::from(count)
        };
        // Sixteen ranges at most.
        if !lies_in(&own) && !component.ports.iter().any(lies_in) {
            return Err(Refusal::Authority);
        }
        Ok(self.board.port(port, width, value))
    }
}

impl Component {
    /// Its wait is over: it goes on with those bits of `mask` that are set.
    #[inline]
    fn end_wait(&mut self, mask: u64) {
        let bits = self.notified & mask;
        self.notified &= !bits;
        self.context.rax = bits;
        self.live.taken |= bits;
        self.live.fresh_ticks = 0;
        self.run = Run::Ready;
    }

    /// A line for the log that lies in its memory.
    fn line<'l>(&self, line: &'l mut [u8; LOG_LINE_BYTES], address: u64, len: u64) -> Result<&'l str, Refusal> {
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(LOG_LINE_BYTES);
        let memory = self.read(address, len).ok_or(Refusal::Argument)?;
        memory.read(0, &mut line[..len]).ok_or(Refusal::Argument)?;
        Ok(printable(&mut line[..len]))
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// Print a line for a component. Whoever has the serial line's ports speaks for the operator, and may say all that the line takes;
    /// the others' lines are limited, and leave room for his.
    #[inline(never)]
    fn log_line(&mut self, rank: usize, level: u64, address: u64, len: u64) -> Result<u64, Refusal> {
        let level = match level {
            1 => log::Level::Error,
            2 => log::Level::Warn,
            3 => log::Level::Info,
            4 => log::Level::Debug,
            5 => log::Level::Trace,
            _ => return Err(Refusal::Argument),
        };
        let component = &mut self.components.list[rank];
        let mut line = [0; LOG_LINE_BYTES];
        let text = component.line(&mut line, address, len)?;
        let name = component.entry.name;
        if component.entry.port_count != 0 {
            if !crate::log::has_room() {
                return Err(Refusal::Busy);
            }
        } else if level <= log::max_level() {
            if !crate::log::has_room_for_components() {
                return Err(Refusal::Busy);
            }
            let (now, hz) = (self.board.now(), self.time.tsc_hz());
            if component.live.log.allow(now, hz).is_none() {
                if component.live.floods.allow(now, hz).is_some() {
                    say(Record::Floods { name });
                }
                return Err(Refusal::Busy);
            }
        }
        log::log!(target: "component", level, "{name}: {text}");
        Ok(0)
    }
}

/// Bytes as text: what is not printable ASCII becomes `?`.
fn printable(bytes: &mut [u8]) -> &str {
    for byte in bytes.iter_mut().filter(|byte| !matches!(byte, b' '..=b'~')) {
        *byte = b'?';
    }
    core::str::from_utf8(bytes).unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn lines_are_printable() {
        assert_eq!(printable(&mut [b' ', b'~', 0x1b, b'\n', 0x7f, 0xff, b'x']), " ~????x");
        assert_eq!(printable(&mut []), "");
    }
}
