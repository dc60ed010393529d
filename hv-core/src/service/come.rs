//! How VMs that have run come in again: the gatekeeper admits them as others, swap writes their memory into fresh frames, and when all is there
//! they go on where they idled. The copy stays in the pool until then.

use super::shared::{NotOfImage, Shared};
use super::windows::{Open, Order};
use crate::board::Board;
use crate::kernel::{Cpu, Kernel};
use crate::memory::Reservation;
use crate::vm::{Devices, DiskTold, End, Handling, Hazard, Memory, NEVER, Queue, Registers, Seed, Table, Vm};
use abi::claim::Claim;
use abi::end::EndReason;
use abi::guest::{PAGE_TABLES, REGISTER_PAGE, pending};
use abi::limits::PAGE_SHIFT;
use abi::log::{BuildError, Part};
use abi::service::Service;
use abi::swap::{Bundle, KEPT_OFFSET, Kept, SwapEvent, kept};
use abi::vm::VmId;
use backend::{Backend, Vcpu, VcpuConfig};
use core::ptr::NonNull;
use zerocopy::{FromZeros, IntoBytes};

/// What came back of a VM cannot be: the number of the page that is wrong, 0 for what is no page.
struct Wrong(u32);

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Have swap write those into their frames who have been admitted and wait for a window.
    pub fn start_loads(&mut self) {
        self.open_loads();
        self.tell_loads();
    }

    fn open_loads(&mut self) {
        let Self { vms, cpu, .. } = self;
        cpu.open_page_loads(vms);
        let swap = cpu.endpoints.first(Service::Swap);
        while let Some(slot) = cpu.queues.first(Queue::Coming) {
            if !cpu.swap_is_there() || !cpu.has_room(swap) {
                return;
            }
            let Some(window) = cpu.windows.free() else { return };
            cpu.queues.remove(Queue::Coming, slot);
            let bundle = vms.bundle(slot);
            if let (Some(vm), Some(bundle)) = (vms.get(slot), bundle) {
                cpu.open_load(vm, window, &bundle);
            }
        }
    }

    /// Tell swap of those whose windows are open, as far as it may be told.
    fn tell_loads(&mut self) {
        let Self { vms, cpu, .. } = self;
        let swap = cpu.endpoints.first(Service::Swap);
        while let Some((window, open)) = cpu.windows.next_load() {
            if !cpu.swap_is_there() || !cpu.has_room(swap) {
                return;
            }
            let mut bundle = vms.bundle(open.vm.slot);
            let vm = vms.by_id(open.vm);
            if let (Order::Load { page: Some(page), .. }, Some(vm)) = (open.order, &vm) {
                bundle = vm.life.memory().and_then(|memory| memory.away().get(page));
            }
            match (vm, bundle, open.order) {
                (Some(vm), Some(bundle), _) if !vm.life.is_ending() => cpu.tell_load(open.vm, &bundle, window),
                // It has ended while nobody was told of it.
                (Some(vm), _, Order::Load { pages, .. }) => cpu.close_load(vm, window, pages),
                _ => cpu.windows.close(window),
            }
        }
    }

    /// What lies in the pool of a VM is in its frames.
    pub fn loaded(&mut self, id: VmId, number: u64) {
        let Self { vms, cpu, .. } = self;
        let Some((window, pages, page)) = cpu.windows.loading(id, number) else { return };
        if let Some(page) = page {
            return self.page_loaded(id, window, page);
        }
        let claim = vms.claim(id.slot);
        let Some(vm) = vms.by_id(id) else { return };
        if vm.life.is_ending() {
            return cpu.close_load(vm, window, pages);
        }
        let swap = cpu.endpoints.first(Service::Swap);
        cpu.bill(swap, vm);
        match cpu.settle(vm, window, pages, claim) {
            Ok(()) => {
                cpu.arrived_again(vm);
                if let Some(bundle) = vms.take_bundle(id.slot) {
                    cpu.tell_forget(id, &bundle);
                }
                cpu.swapped.loaded += 1;
            }
            Err(Wrong(page)) => {
                cpu.swapped.damaged += 1;
                cpu.end(vm, End::new(EndReason::Damaged, page.into()));
            }
        }
    }

    /// What lies in the pool of a VM is not what was stored.
    pub fn damaged(&mut self, id: VmId, number: u64) {
        let Self { vms, cpu, .. } = self;
        let Some((window, pages, _)) = cpu.windows.loading(id, number) else { return };
        let Some(vm) = vms.by_id(id) else { return };
        cpu.give_up(vm, window, pages, EndReason::Damaged);
    }

    /// The disks do not give a VM back.
    pub fn unread(&mut self, id: VmId, number: u64) {
        let Self { vms, cpu, .. } = self;
        let Some((window, pages, _)) = cpu.windows.loading(id, number) else { return };
        let Some(vm) = vms.by_id(id) else { return };
        cpu.give_up(vm, window, pages, EndReason::Unread);
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// The gatekeeper admits a VM that has run: give it a seat and all frames that it needs, and have its memory come back.
    pub fn come(&mut self, vms: &mut Table<B>, seed: Seed) {
        let (id, wants) = (seed.id, vms.wants(&seed));
        let has_seat = vms.seats().free() > 0;
        // All of it is kept for the VM until it is there.
        let reservation =
            if has_seat { Reservation::open(&mut self.frames, wants, seed.claim.limit.max(wants)) } else { None };
        let Some(reservation) = reservation else { return self.tell_arrived(vms, &seed, wants, false) };
        let (early, (ran_ticks, charges)) = (vms.take_early(id.slot), vms.spent(id.slot));
        let away = vms.take_away(id.slot);
        let Some((vm, reservation)) = self.seat(vms, seed, reservation) else {
            self.cannot_start(id, BuildError::NoFrame(Part::Metadata));
            return self.end_waiting(vms, id, End::new(BuildError::NoFrame(Part::Metadata).reason(), 0));
        };
        self.queues.remove(Queue::Waiting, id.slot);
        (vm.early, vm.ran_ticks, vm.charges) = (early, ran_ticks, charges);
        if !vm.attachment.is_none() {
            vm.disk_told = DiskTold::Out;
        }
        let memory = match self.images.get(vm.image) {
            Some(image) => {
                let pages = u32::try_from(image.entry.memory_bytes >> PAGE_SHIFT).unwrap_or(u32::MAX);
                Memory::new(&self.backend, &mut self.frames, reservation, vm.slot(), pages, image.end)
            }
            None => {
                reservation.close(&mut self.frames);
                None
            }
        };
        match memory {
            Some(mut memory) => {
                memory.adopt(&mut self.frames, away);
                vm.life.come(memory);
                self.queues.push(Queue::Coming, id.slot);
                self.attention.set_swap();
            }
            None => {
                self.end(vm, End::new(EndReason::OutOfMemory, 0));
                self.discard(vms, id, away);
            }
        }
    }

    /// Give swap a window with frames for what lies in the pool of a VM.
    fn open_load(&mut self, vm: &mut Vm<B>, window: usize, bundle: &Bundle) {
        let swap = self.endpoints.first(Service::Swap);
        let Some(rank) = self.endpoints.rank(swap) else { return };
        let mut pages = 0;
        while pages < bundle.pages {
            let Some(memory) = vm.life.memory_mut() else { return };
            let Ok(frame) = memory.take_loose(&mut self.frames) else { break };
            if !self.components.list[rank].space.map_out_window(&mut self.frames, window, pages, frame, true) {
                memory.drop_loose(&mut self.frames, frame);
                break;
            }
            pages += 1;
        }
        let order = Order::Load { counter: bundle.counter, pages, page: None, told: false, failed: 0 };
        self.windows.set(window, Open { vm: vm.id, order, frees: 0, since: None });
        vm.life.share(Devices::SWAP);
        if pages < bundle.pages {
            // Memory that was kept for it has failed.
            self.close_load(vm, window, pages);
            self.end(vm, End::new(EndReason::OutOfMemory, 0));
        }
    }

    /// Tell swap of a VM that comes in through a window.
    fn tell_load(&mut self, vm: VmId, bundle: &Bundle, window: usize) {
        self.windows.tell(window);
        // There are few.
        let window = u32::try_from(window).unwrap_or(u32::MAX);
        let event = SwapEvent::Load { vm, bundle: *bundle, window };
        self.tell(self.endpoints.first(Service::Swap), &event.into(), true);
    }

    /// A VM cannot come in any more: what was to become its memory is free, and it ends.
    pub(super) fn give_up(&mut self, vm: &mut Vm<B>, window: usize, pages: u32, why: EndReason) {
        self.swapped.damaged += u64::from(!vm.life.is_ending());
        let ends = !vm.life.is_ending();
        self.close_load(vm, window, pages);
        if ends {
            self.end(vm, End::new(why, 0));
        }
    }

    /// Take a window back through which a VM came in, with the frames that have become no pages. One that has ended can be buried then.
    pub(super) fn close_load(&mut self, vm: &mut Vm<B>, window: usize, pages: u32) {
        if let Some(rank) = self.endpoints.rank(self.endpoints.first(Service::Swap)) {
            for index in 0..pages {
                let frame = self.components.list[rank].space.unmap_out_window(window, index);
                if let (Some(frame), Some(memory)) = (frame, vm.life.memory_mut()) {
                    memory.drop_loose(&mut self.frames, frame);
                }
            }
        }
        self.windows.close(window);
        self.unshare_window(vm);
        if vm.life.is_ending() && vm.life.shared().is_empty() {
            self.await_burial(vm);
        }
        self.attention.set_swap();
    }

    /// What swap has written into the frames of a window becomes the VM's memory, as its sheet says, and its processor.
    fn settle(&mut self, vm: &mut Vm<B>, window: usize, pages: u32, claim: Claim) -> Result<(), Wrong> {
        let mut result = Ok(());
        let mut kept = Kept::new_zeroed();
        let Self { components, endpoints, frames, images, .. } = self;
        if let (Some(rank), Some(image)) = (endpoints.rank(endpoints.first(Service::Swap)), images.get(vm.image)) {
            let component = &mut components.list[rank];
            let sheet = super::swap::sheet(component, window);
            let mut least = 0;
            for index in 0..pages {
                let (frame, memory) = (component.space.unmap_out_window(window, index), vm.life.memory_mut());
                let (Some(frame), Some(memory)) = (frame, memory) else { continue };
                // What stands in the sheet is an allegation: read once, and each page only once, in their order.
                let page = sheet.as_ref().and_then(|sheet| sheet.load32(4 * index as usize)).unwrap_or(u32::MAX);
                if result.is_err() || page < least {
                    memory.drop_loose(frames, frame);
                    result = result.and(Err(Wrong(page)));
                } else if memory.settle(frames, page, frame, image).is_err() {
                    result = Err(Wrong(page));
                }
                least = page.saturating_add(1);
            }
            match sheet.and_then(|sheet| sheet.read(KEPT_OFFSET, kept.as_mut_bytes())) {
                Some(()) => {}
                None => result = Err(Wrong(0)),
            }
        }
        self.windows.close(window);
        self.attention.set_swap();
        vm.life.unshare(Devices::SWAP);
        result?;
        if let (Some(memory), Some(image)) = (vm.life.memory_mut(), self.images.get(vm.image)) {
            Shared(kept.shared).map(memory, &mut self.frames, image).map_err(|NotOfImage { page }| Wrong(page))?;
        }
        // While all that it held is kept for it.
        self.fill_disk_pages(vm).map_err(|missing| Wrong(missing.page))?;
        self.revive(vm, &kept, claim)
    }

    /// The memory of a VM is there: set its processor up as it was, and let it run.
    #[inline(never)]
    fn revive(&mut self, vm: &mut Vm<B>, kept: &Kept, claim: Claim) -> Result<(), Wrong> {
        let page = u32::try_from(REGISTER_PAGE >> PAGE_SHIFT).unwrap_or(u32::MAX);
        let memory = vm.life.memory().ok_or(Wrong(0))?;
        let frame = memory.own_frame(&mut self.frames, page).ok_or(Wrong(page))?;
        let registers = Registers::new(frame).ok_or(Wrong(page))?;
        let frame_pointer = NonNull::new(vm.control_frame.as_ptr()).ok_or(Wrong(0))?;
        let config = VcpuConfig {
            frame: vm.control_frame.as_u64(),
            frame_pointer,
            slot: vm.id.slot.number(),
            tables: memory.tables(),
            entry: self.images.get(vm.image).map_or(0, |image| image.start),
            page_tables: PAGE_TABLES,
            argument: REGISTER_PAGE,
            tsc_offset: 0,
        };
        // SAFETY: as in `build`: the processor lies in the VM's context frame and the structure in its control frame; both stay the
        // VM's own until `reclaim` or `go_out`, which is after `release`. The tables live as long.
        unsafe { vm.vcpu.init(&mut self.backend, &config) }.map_err(|_| Wrong(0))?;
        if kept.flags & !(kept::IN_FAULT | kept::IDLE_RESULT) != 0
            || vm.vcpu.import(&mut self.backend, &kept.state).is_err()
        {
            vm.vcpu.release(&mut self.backend);
            return Err(Wrong(0));
        }
        let handling = if kept.flags & kept::IN_FAULT != 0 { Handling::Fault } else { Handling::Nothing };
        vm.life.arrive(registers, handling);
        vm.hazard.set(Hazard::PENDING);
        if kept.flags & kept::IDLE_RESULT != 0 {
            vm.hazard.set(Hazard::IDLE_RESULT);
        }
        let now = self.board.now();
        let mut bits = core::mem::take(&mut vm.early);
        vm.alarm = kept.alarm;
        if kept.alarm.min(kept.until) <= now {
            bits |= pending::ALARM;
        }
        if vm.alarm <= now {
            vm.alarm = NEVER;
            registers.set_alarm(NEVER);
        }
        // It may have been adjusted while the VM was out.
        registers.set_clock(&self.clock.reading(now));
        registers.raise(bits);
        if let Some(body) = vm.life.body_mut() {
            body.memory.lower_reserve(&mut self.frames, claim.reserve);
            registers.set_held(body.memory.reservation().held());
            registers.count_taking();
        }
        Ok(())
    }

    /// A VM that was out is in again. Components are told.
    fn arrived_again(&mut self, vm: &mut Vm<B>) {
        let now = self.board.now();
        vm.since_tsc = now;
        self.timers.set(vm.seat, vm.deadline());
        self.arm(vm.deadline());
        self.attach_pager(vm, false);
        self.attach(vm);
        self.now_ready(vm);
        self.attach_disk(vm);
        // Nobody else knows when it was called.
        self.wakes.count(now.saturating_sub(vm.created_tsc));
        self.lap_for(&mut vm.charges, now);
        self.counters.admitted_ticks = self.time.since_start(now);
    }
}
