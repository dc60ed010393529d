//! How VMs go out: the pager chooses one that idles, whoever serves its disk and its network demultiplexer let go of it, swap is shown its pages and keeps a copy, and only
//! when the copy is in its record are its frames free. Whatever goes wrong before that, it stays, and nothing is lost.

use super::shared::Shared;
use super::windows::{Open, Order};
use crate::board::Board;
use crate::component::{EndpointId, Run};
use crate::kernel::{Cpu, Kernel};
use crate::memory::Owner;
use crate::vm::{Devices, DiskTold, Handling, Hazard, Leavings, NEVER, Queue, Seed, State, Table, Vm};
use abi::limits::PAGE_SIZE;
use abi::message::Malformed;
use abi::net::NetEvent;
use abi::pager::{PagerEvent, Stays};
use abi::sched::SchedEvent;
use abi::service::Service;
use abi::swap::{Bundle, KEPT_OFFSET, Kept, SwapEvent, WINDOW_PAGES, kept};
use abi::tenant::Tenant;
use abi::vcpu::VcpuState;
use abi::vm::VmId;
use backend::{Backend, Vcpu};
use zerocopy::IntoBytes;

/// A VM whose alarm, or the end of whose idle, comes within this many milliseconds stays, until somebody has waited for [`PRESSES_MS`].
const ALARM_MS: u64 = 1000;
/// How long nobody is asked to go out when the pool was full, in milliseconds.
const FULL_MS: u64 = 100;
/// When somebody has waited for so many milliseconds, no alarm keeps anybody in: where all have one soon, again and again, nobody would ever come in.
const PRESSES_MS: u64 = 250;

/// What those who wait for room make of the rules for who stays.
#[derive(Clone, Copy)]
struct Pressure {
    /// Who is next makes room in the pool by coming in.
    exchange: bool,
    /// Alarms keep nobody in.
    alarms: bool,
    /// The VM's tenant has taken of the pool what it may.
    full: bool,
}

impl<B: Backend, H: Board> Kernel<B, H> {
    /// The pager at the endpoint `from` has chosen a VM of its own to go out.
    pub fn let_out(&mut self, from: EndpointId, id: VmId) {
        let Self { vms, cpu, .. } = self;
        let full = vms.by_id(id).map(|vm| vm.tenant).is_some_and(|tenant| !cpu.may_pool(vms, tenant, 1));
        let pressure = Pressure { exchange: cpu.is_exchange(vms, None), alarms: cpu.is_pressed(vms), full };
        let spare = pressure.exchange;
        let Some(vm) = vms.by_id(id).filter(|vm| vm.pager == from && vm.life.body().is_some()) else { return };
        if vm.life.is_leaving() {
            return;
        }
        match cpu.window_for(vm, pressure) {
            Ok(window) => cpu.leave(vm, window, spare),
            Err(why) => cpu.tell_stays(vm, why),
        }
    }

    /// The disk striper has let go of a VM that is to go out: its network demultiplexer is next.
    pub fn disk_let_go(&mut self, id: VmId) {
        let Self { vms, cpu, .. } = self;
        let spare = cpu.is_exchange(vms, Some(id));
        if let Some(vm) = vms.by_id(id).filter(|vm| vm.life.is_leaving()) {
            cpu.windows.wait_anew(id);
            cpu.leave_net(vm, spare);
        }
    }

    /// The network demultiplexer has let go of a VM that is to go out.
    pub fn net_let_go(&mut self, id: VmId) {
        let Self { vms, cpu, .. } = self;
        let spare = cpu.is_exchange(vms, Some(id));
        if let Some(vm) = vms.by_id(id).filter(|vm| vm.life.is_leaving()) {
            cpu.show(vm, spare);
        }
    }

    /// Swap has stored a VM.
    ///
    /// # Errors
    /// What it says cannot be. The VM stays.
    pub fn stored(&mut self, id: VmId, bundle: &Bundle) -> Result<(), Malformed> {
        let Self { vms, cpu, .. } = self;
        let Some((window, pages)) = cpu.windows.storing(id, bundle.counter) else { return Ok(()) };
        let Some(tenant) = vms.by_id(id).map(|vm| vm.tenant) else { return Ok(()) };
        cpu.close_window(window, pages);
        let within = cpu.may_pool(vms, tenant, bundle.bytes);
        let Some(vm) = vms.by_id(id) else { return Ok(()) };
        vm.life.unshare(Devices::SWAP);
        let swap = cpu.endpoints.first(Service::Swap);
        cpu.bill(swap, vm);
        let good = bundle.fits(cpu.pool_bytes()) && bundle.pages <= pages;
        // Its share of the pool is part of what it may hold.
        let limit = vm.life.memory().map_or(0, |memory| memory.claim().limit);
        let stays = vm.life.is_ending() || cpu.is_called(vm) || u64::from(bundle.bytes) > u64::from(limit) * PAGE_SIZE;
        if !good || stays || !within {
            if good {
                cpu.tell_forget(id, bundle);
            }
            cpu.not_stored(vm, if good && !stays { Stays::Full } else { Stays::Busy });
            return if good { Ok(()) } else { Err(Malformed::Bundle) };
        }
        self.go_out(id, bundle);
        Ok(())
    }

    /// Swap has no room for a VM.
    pub fn not_taken(&mut self, id: VmId, number: u64) {
        let Self { vms, cpu, .. } = self;
        let Some((window, pages)) = cpu.windows.storing(id, number) else { return };
        let Some(vm) = vms.by_id(id) else { return };
        cpu.close_window(window, pages);
        vm.life.unshare(Devices::SWAP);
        cpu.swapped.refused += 1;
        cpu.not_stored(vm, Stays::Full);
        let until = cpu.board.now().saturating_add(cpu.time.milliseconds(FULL_MS));
        if cpu.is_exchange(vms, None) {
            cpu.windows.full_until = until;
        } else {
            cpu.windows.crowded_until = until;
            cpu.ask_for_room_soon();
        }
    }

    /// A VM is out: its copy lies in the pool, and its record says where. What it had is free.
    fn go_out(&mut self, id: VmId, bundle: &Bundle) {
        let Self { vms, cpu, .. } = self;
        let Some(vm) = vms.by_id(id) else { return };
        let (seat, slot, control, pager) = (vm.seat, vm.slot(), vm.control_frame, vm.pager);
        let State::Leaving { until } = vm.life.state() else { return };
        let deadline = until.min(vm.alarm);
        let Some(mut body) = vm.life.take_leave() else { return };
        cpu.show_console_of(id, &mut body.console);
        let (pending, frames) = (body.registers.pending(), body.memory.reservation().held());
        let unreserved = cpu.frames.unreserved();
        vm.vcpu.release(&mut cpu.backend);
        cpu.backend.flush(&mut vm.vcpu, body.memory.tables());
        let away = body.memory.release(&mut cpu.frames);
        cpu.timers.set(seat, NEVER);
        cpu.plan.give_up(id);
        let owner = Owner::VmMeta(slot.number());
        cpu.frames.free(control, owner);
        if let Some(context) = vms.go_out(id, &Leavings { bundle: *bundle, frames, pending, away }) {
            cpu.frames.free(context, owner);
        }
        cpu.absent_timers.set(slot, deadline);
        cpu.arm(deadline);
        cpu.swapped.stored += 1;
        cpu.detach_pager(pager, id, seat);
        cpu.keep_for_waiting(vms, cpu.frames.unreserved() - unreserved);
        let room = cpu.room(vms);
        cpu.tell_scheduler(SchedEvent::Ended { vm: id, seat: Some(seat), room }, true);
        cpu.ask_for_room_soon();
        let now = cpu.board.now();
        if let Some(charges) = vms.charges_mut(slot) {
            cpu.lap_for(charges, now);
        }
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// Bytes of the pool; 0 where there is none.
    pub fn pool_bytes(&self) -> u64 {
        let rank = self.endpoints.rank(self.endpoints.first(Service::Swap));
        rank.map_or(0, |rank| self.components.list[rank].info.pool_bytes)
    }

    /// Whether swap lives and knows of all that is in its pool.
    pub(super) fn swap_is_there(&self) -> bool {
        let to = self.endpoints.first(Service::Swap);
        let (Some(endpoint), Some(rank)) = (self.endpoints.get(to), self.endpoints.rank(to)) else { return false };
        let runs = matches!(self.components.list[rank].run, Run::Ready | Run::Waiting { .. });
        runs && endpoint.resync.is_none()
    }

    /// Whoever waits and is next, if it makes room in the pool by coming in.
    pub(super) fn next_is_pooled(&self, vms: &Table<B>) -> Option<Seed> {
        let first = self.queues.first(Queue::Waiting)?;
        vms.waiting_in(first).filter(|_| vms.bundle(first).is_some_and(|bundle| !bundle.is_on_disk()))
    }

    /// Whether the next who comes in makes room in the pool by that, and lacks something still besides what those make free that are going out, but for
    /// this one. (Else what is kept in the pool for an exchange would go to those who come after it.)
    fn is_exchange(&self, vms: &Table<B>, but: Option<VmId>) -> bool {
        let Some(seed) = self.next_is_pooled(vms) else { return false };
        let (frames, seats) = self.windows.under_way();
        let own = but.and_then(|vm| self.windows.promised(vm)).map_or((0, 0), |(_, open)| (u64::from(open.frees), 1));
        let (frames, seats) = (frames.saturating_sub(own.0), seats.saturating_sub(own.1));
        self.frames.unreserved() + frames < u64::from(vms.wants(&seed)) || vms.seats().free() + seats == 0
    }

    /// Whether a VM of a tenant may take so many bytes of the pool: within its quota, or in exchange for another one of it, which comes in for that.
    pub(super) fn may_pool(&self, vms: &Table<B>, tenant: Tenant, bytes: u32) -> bool {
        let own = || self.next_is_pooled(vms).is_some_and(|seed| seed.tenant == tenant);
        vms.tenants().may_pool(tenant, bytes) || own() && self.is_exchange(vms, None)
    }

    /// Whether somebody waits for room for so long that alarms keep nobody in. (The second is who was called first, where the gatekeeper has named the first.)
    fn is_pressed(&self, vms: &Table<B>) -> bool {
        let (now, patience) = (self.board.now(), self.time.milliseconds(PRESSES_MS));
        let mut oldest = self.queues.all(Queue::Waiting).take(2).filter_map(|slot| vms.waiting_in(slot));
        oldest.any(|seed| self.has_waited(&seed, now) >= patience)
    }

    /// Whether something has happened for which a VM that idled would run.
    fn is_called(&self, vm: &Vm<B>) -> bool {
        let now = self.board.now();
        let ends = matches!(vm.life.state(), State::Leaving { until } if until <= now) || vm.alarm <= now;
        ends || vm.life.body().is_some_and(|body| body.registers.wanted() != 0)
    }

    /// A window for a VM to go out through, or why it stays.
    fn window_for(&self, vm: &Vm<B>, pressure: Pressure) -> Result<usize, Stays> {
        let now = self.board.now();
        if self.pool_bytes() == 0 || !self.swap_is_there() || self.windows.has_suspect() {
            return Err(Stays::NoSwap);
        }
        let image = self.images.get(vm.image).map(|image| &image.entry);
        let has_nic = image.is_none_or(|image| image.rx_slots != 0 && image.tx_slots != 0);
        let own = vm.life.memory().map_or(0, |memory| memory.counts().0);
        if vm.control != EndpointId::NONE || has_nic && vm.ipv4 == 0 || own as usize > WINDOW_PAGES {
            return Err(Stays::Never);
        }
        // One that waits for its disk has no place yet where it could go on.
        if !vm.life.is_idle()
            || vm.life.shared().contains(Devices::SWAP)
            || !vm.attachment.is_none() && vm.disk_told == DiskTold::Nothing
        {
            return Err(Stays::Busy);
        }
        if now.saturating_sub(vm.since_tsc) < self.residence_ticks {
            return Err(Stays::Recent);
        }
        if !pressure.alarms && vm.deadline() < now.saturating_add(self.time.milliseconds(ALARM_MS)) {
            return Err(Stays::Alarm);
        }
        if pressure.full || now < self.windows.full_until || !pressure.exchange && now < self.windows.crowded_until {
            return Err(Stays::Full);
        }
        self.windows.free().ok_or(Stays::NoSwap)
    }

    /// A VM is to go out, through this window.
    fn leave(&mut self, vm: &mut Vm<B>, window: usize, spare: bool) {
        vm.life.leave();
        self.components.note_idle(vm.seat, 0);
        let reservation = vm.life.memory().map(crate::vm::Memory::reservation);
        let frees = reservation.map_or(0, |reservation| reservation.held().max(reservation.claim().reserve));
        self.windows.set(window, Open { vm: vm.id, order: Order::Promised, frees, since: None });
        // First who is more likely to have something under way.
        if vm.life.shared().contains(Devices::DISK) { self.leave_disk(vm) } else { self.leave_net(vm, spare) }
    }

    /// A VM is to go out, and whoever serves its disk has let go of it: its network demultiplexer lets go.
    fn leave_net(&mut self, vm: &mut Vm<B>, spare: bool) {
        if !vm.life.shared().contains(Devices::NIC) {
            // No frame was free for its window when it came in: whoever lives now may never have heard of it, and is to call it when it is out.
            if !self.has_room(vm.net) {
                return self.stay(vm, Stays::Busy);
            }
            vm.attached_to = 0;
            self.tell_ran(vm);
            self.show(vm, spare);
        } else if self.knows(vm) {
            self.tell_of(
                vm.net,
                vm.seat,
                false,
                &NetEvent::Leave { vm: vm.id, seat: vm.seat, tenant: vm.tenant }.into(),
                true,
            );
        } else {
            self.stay(vm, Stays::Busy);
        }
    }

    /// Nobody but the guest itself would touch the memory of a VM that is to go out: swap is shown it.
    fn show(&mut self, vm: &mut Vm<B>, spare: bool) {
        let swap = self.endpoints.first(Service::Swap);
        let Some((window, open)) = self.windows.promised(vm.id) else { return };
        if self.is_called(vm) {
            return self.stay(vm, Stays::Busy);
        }
        if !self.swap_is_there() || !self.has_room(swap) || self.windows.has_suspect() {
            return self.stay(vm, Stays::NoSwap);
        }
        let mut shared = Shared::NONE;
        let Some(pages) = self.show_pages(vm, window, &mut shared) else { return self.stay(vm, Stays::NoSwap) };
        self.write_kept(vm, window, &shared);
        let counter = self.windows.next_number();
        self.windows.set(window, Open { order: Order::Store { counter, pages }, since: None, ..open });
        vm.life.share(Devices::SWAP);
        // There are few.
        let window = u32::try_from(window).unwrap_or(u32::MAX);
        self.tell(swap, &SwapEvent::Store { vm: vm.id, counter, pages, window, spare }.into(), true);
    }

    /// Map the pages of a VM into a window, and list them in its sheet, but for those that it shares with its image. How many there are; `None`, and nothing is
    /// mapped, when they find no room.
    fn show_pages(&mut self, vm: &Vm<B>, window: usize, shared: &mut Shared) -> Option<u32> {
        let Self { components, endpoints, frames, images, .. } = self;
        let component = &mut components.list[endpoints.rank(endpoints.first(Service::Swap))?];
        let sheet = super::swap::sheet(component, window)?;
        let (memory, image) = (vm.life.memory()?, images.get(vm.image));
        let mut count = 0;
        for page in 0..memory.top() {
            let Some(frame) = memory.frame(frames, page) else { continue };
            let is_shared = image.is_some_and(|image| shared.note(page, frame, image));
            if is_shared || !memory.owns(frames, frame) {
                continue;
            }
            let listed = sheet.store32(4 * count as usize, page).filter(|()| (count as usize) < WINDOW_PAGES);
            if listed.is_none() || !component.space.map_out_window(frames, window, count, frame, false) {
                for index in 0..count {
                    component.space.unmap_out_window(window, index);
                }
                return None;
            }
            count += 1;
        }
        Some(count)
    }

    /// Write what a VM needs to go on, beside its pages, into the sheet of a window.
    #[inline(never)]
    fn write_kept(&mut self, vm: &mut Vm<B>, window: usize, shared: &Shared) {
        let State::Leaving { until } = vm.life.state() else { return };
        let in_fault = vm.life.body().is_some_and(|body| body.handling == Handling::Fault);
        let flags = if in_fault { kept::IN_FAULT } else { 0 }
            | if vm.hazard.contains(Hazard::IDLE_RESULT) { kept::IDLE_RESULT } else { 0 };
        let mut kept = Kept { alarm: vm.alarm, until, flags, reserved: 0, shared: shared.0, state: VcpuState::INITIAL };
        let now = self.board.now();
        vm.vcpu.export(&mut self.backend, now, &mut kept.state);
        if let Some(sheet) = self.sheet(window) {
            // It fits, which the abi asserts.
            let _ = sheet.write(KEPT_OFFSET, kept.as_bytes());
        }
    }

    /// A VM was not stored, and swap sees it no more: it stays, or is buried.
    pub(super) fn not_stored(&mut self, vm: &mut Vm<B>, why: Stays) {
        if !vm.life.is_ending() {
            self.stay(vm, why);
        } else if vm.life.shared().is_empty() {
            self.await_burial(vm);
        }
    }

    /// A VM that was to go out stays: it idles as before, or runs if something has come for it.
    pub fn stay(&mut self, vm: &mut Vm<B>, why: Stays) {
        if let Some((window, _)) = self.windows.promised(vm.id) {
            self.windows.close(window);
        }
        vm.life.stay();
        let now = self.board.now();
        self.components.note_idle(vm.seat, now);
        self.timers.set(vm.seat, vm.deadline());
        self.arm(vm.deadline());
        self.attach_soon(vm);
        self.attach_disk_soon(vm);
        if vm.life.body().is_some_and(|body| body.registers.wanted() != 0) {
            self.timers.set(vm.seat, vm.alarm);
            self.wake(vm);
        }
        self.tell_stays(vm, why);
    }

    /// Tell the pager that a VM stays which it had chosen. Where its ring is full it is told again what is wanted, when there is space.
    fn tell_stays(&mut self, vm: &Vm<B>, why: Stays) {
        if self.has_room(vm.pager) {
            self.tell(vm.pager, &PagerEvent::Stays { vm: vm.id, seat: vm.seat, why }.into(), true);
        }
    }
}
