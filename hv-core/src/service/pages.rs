//! Single pages that go out and come back: the pager chooses which, swap keeps them, and who touches one that is out waits for it as for any other page. What goes
//! wrong on the way out leaves the page where it was.

use super::windows::{Open, Order};
use crate::board::Board;
use crate::component::EndpointId;
use crate::kernel::{Cpu, Kernel};
use crate::memory::Owner;
use crate::vm::{Devices, End, GONE, Pages, Shortage, Table, Vm};
use abi::end::EndReason;
use abi::message::Malformed;
use abi::pager::PagerEvent;
use abi::service::Service;
use abi::swap::{Bundle, PAGES_AT_ONCE, SwapEvent};
use abi::vm::VmId;
use backend::{Backend, Flush};
use core::ops::Range;

/// Windows through which pages go out one by one at most: swap's answers, one for each page, find room in its ring, and whole VMs have the others.
const SENDS: usize = 2;
/// How soon a VM is looked at again that waits for a page which is out, if nobody has thought of it before, in milliseconds.
const RETRY_MS: u64 = 10;
/// Bundles that swap is told in a row at most to forget.
const FORGETS: usize = 64;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// The pager at the endpoint `from` asks which of these pages of a VM of its own are there and were used.
    pub fn look_at_pages(&mut self, from: EndpointId, id: VmId, pages: Pages) {
        let Self { vms, cpu, .. } = self;
        let Some(vm) = vms.by_id(id).filter(|vm| vm.pager == from) else { return };
        let (Some(body), Some(image)) = (vm.life.body_mut(), cpu.images.get(vm.image)) else { return };
        let (used, there, flush) = body.memory.look(&mut cpu.frames, pages, image);
        if flush == Flush::Needed {
            cpu.backend.flush(&mut vm.vcpu, body.memory.tables());
        }
        let (page, ran_ticks) = (pages.first, vm.ran_ticks);
        // One that finds no room is a question that is asked again.
        if cpu.has_room(from) {
            cpu.tell(from, &PagerEvent::Looked { vm: id, seat: vm.seat, page, used, there, ran_ticks }.into(), true);
        }
    }

    /// The pager at the endpoint `from` has chosen these pages of a VM of its own to go out.
    pub fn let_pages_out(&mut self, from: EndpointId, id: VmId, pages: Pages) {
        let Self { vms, cpu, .. } = self;
        let tenant = vms.by_id(id).map(|vm| vm.tenant);
        let full = !tenant.is_some_and(|tenant| cpu.may_pool(vms, tenant, 1));
        let Some(vm) = vms.by_id(id).filter(|vm| vm.pager == from && vm.life.body().is_some()) else { return };
        if full || !cpu.send_pages(vm, pages) {
            cpu.tell_gone_pages(vm, Pages { bits: 0, ..pages });
        }
    }

    /// Swap has stored a page, or (`None`) has no room for it.
    ///
    /// # Errors
    /// What it says cannot be. The page stays.
    pub fn page_stored(&mut self, id: VmId, number: u64, bundle: Option<&Bundle>) -> Result<(), Malformed> {
        let Self { vms, cpu, .. } = self;
        let Some((window, index)) = cpu.windows.sending(id, number) else { return Ok(()) };
        let Some(tenant) = vms.by_id(id).map(|vm| vm.tenant) else { return Ok(()) };
        let good = bundle.filter(|bundle| bundle.fits_page(cpu.pool_bytes()));
        let within = good.is_some_and(|bundle| cpu.may_pool(vms, tenant, bundle.bytes));
        let Some(vm) = vms.by_id(id) else { return Ok(()) };
        let gone = cpu.page_answered(vm, window, index, good.filter(|_| within));
        match good {
            Some(bundle) if gone => {
                cpu.swapped.pages_out += 1;
                vms.pools_page(id.slot, bundle.bytes);
            }
            Some(bundle) => cpu.tell_forget(id, bundle),
            None => {}
        }
        cpu.finish_sending(vms, id, window);
        if bundle.is_some() && good.is_none() { Err(Malformed::Bundle) } else { Ok(()) }
    }

    /// What lay elsewhere of a page is in the frame of this window.
    pub(super) fn page_loaded(&mut self, id: VmId, window: usize, page: u32) {
        let Self { vms, cpu, .. } = self;
        let Some(vm) = vms.by_id(id) else { return };
        if vm.life.is_ending() {
            return cpu.close_load(vm, window, 1);
        }
        let swap = cpu.endpoints.first(Service::Swap);
        cpu.bill(swap, vm);
        let rank = cpu.endpoints.rank(swap);
        let frame = rank.and_then(|rank| cpu.components.list[rank].space.unmap_out_window(window, 0));
        let (mut bundle, mut is_lost) = (None, false);
        if let (Some(frame), Some(body)) = (frame, vm.life.body_mut()) {
            let back = body.memory.bring_back(&mut cpu.frames, page, frame);
            is_lost = back.is_err();
            bundle = back.unwrap_or_else(Some);
            body.registers.set_held(body.memory.reservation().held());
        }
        cpu.close_load(vm, window, 0);
        let (seat, pager) = (vm.seat, vm.pager);
        if is_lost {
            cpu.end(vm, End::new(EndReason::OutOfMemory, page.into()));
        } else if vm.life.page_fault().is_some_and(|fault| fault.page == page) {
            cpu.go_on_with_page(vm, page);
        }
        if let Some(bundle) = bundle {
            cpu.swapped.pages_in += 1;
            vms.unpools_pages(id.slot, bundle.bytes.into());
            cpu.tell_forget(id, &bundle);
            if cpu.has_room(pager) {
                cpu.tell(pager, &PagerEvent::Came { vm: id, seat, page }.into(), false);
            }
        }
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// Whether a VM has a page out, or on its way, which it cannot be given otherwise.
    pub(super) fn is_away(vm: &Vm<B>, page: u32) -> bool {
        let memory = vm.life.memory().filter(|memory| memory.has_away());
        memory.is_some_and(|memory| memory.is_leaving(page) || memory.away().get(page).is_some())
    }

    /// A VM waits for a page that is out, if it is. False when it is not.
    #[cold]
    #[inline(never)]
    pub(super) fn want_page(&mut self, vm: &mut Vm<B>) -> bool {
        let Some(fault) = vm.life.page_fault().filter(|fault| Self::is_away(vm, fault.page)) else { return false };
        let is_leaving = vm.life.memory().is_some_and(|memory| memory.is_leaving(fault.page));
        let comes = |open: &Open| matches!(open.order, Order::Load { page: Some(page), .. } if page == fault.page);
        let is_coming = self.windows.open().any(|(_, open)| open.vm == vm.id && comes(&open));
        // Whoever is through with the page lets it go on.
        if !is_leaving && !is_coming {
            self.open_page_load(vm, fault.page);
        }
        let deadline = vm.deadline();
        self.timers.set(vm.seat, deadline);
        self.arm(deadline);
        true
    }

    /// A VM goes on that has waited for a page, or waits again for one that is out still: there was no frame for a table.
    fn go_on_with_page(&mut self, vm: &mut Vm<B>, page: u32) {
        if !Self::is_away(vm, page) {
            return self.resume(vm);
        }
        vm.life.wait_for_away(self.board.now().saturating_add(self.time.milliseconds(RETRY_MS)));
        let deadline = vm.deadline();
        self.timers.set(vm.seat, deadline);
        self.arm(deadline);
    }

    /// Give swap a window with a frame for a page that is out, as soon as there are both.
    fn open_page_load(&mut self, vm: &mut Vm<B>, page: u32) {
        let retry = self.board.now().saturating_add(self.time.milliseconds(RETRY_MS));
        let window = self.window_for_load();
        let Some(memory) = vm.life.memory_mut() else { return };
        let Some((window, rank)) = window else {
            vm.life.wait_for_away(retry);
            let _ = self.windows.waiting.push_back(vm.id);
            return;
        };
        let Some(bundle) = memory.away().get(page) else { return };
        let Ok(frame) = memory.take_for_away(&mut self.frames) else {
            let (seat, free) = (vm.seat, self.frames.spare());
            let event = PagerEvent::OutOfFrames { vm: vm.id, seat, page, free };
            self.tell_of(vm.pager, seat, false, &event.into(), true);
            let until = self.steady.look(self.board.now()).saturating_add(self.memory_wait_ticks);
            return vm.life.run_short(Shortage { retry, until });
        };
        if !self.components.list[rank].space.map_out_window(&mut self.frames, window, 0, frame, true) {
            memory.drop_loose(&mut self.frames, frame);
            return vm.life.wait_for_away(retry);
        }
        let order = Order::Load { counter: bundle.counter, pages: 1, page: Some(page), told: false, failed: 0 };
        self.windows.set(window, Open { vm: vm.id, order, frees: 0, since: None });
        vm.life.share(Devices::SWAP);
        vm.life.wait_for_away(u64::MAX);
        self.attention.set_swap();
    }

    /// A window through which a page can come back, and swap's rank; `None` while there is none, or swap cannot be told of it.
    fn window_for_load(&mut self) -> Option<(usize, usize)> {
        let swap = self.endpoints.first(Service::Swap);
        let window = self.windows.free()?;
        if !self.swap_is_there() {
            return None;
        }
        self.endpoints.rank(swap).filter(|_| self.has_room(swap)).map(|rank| (window, rank))
    }

    /// Those who wait for a window through which a page comes back, as far as there are some. (Nobody waits anew meanwhile.)
    pub(super) fn open_page_loads(&mut self, vms: &mut Table<B>) {
        while !self.windows.waiting.is_empty() && self.window_for_load().is_some() {
            let Some(id) = self.windows.waiting.pop_front() else { return };
            if let Some(vm) = vms.by_id(id) {
                self.want_page(vm);
            }
        }
    }

    /// Take pages of a VM away from it and show them to swap. False when none goes.
    fn send_pages(&mut self, vm: &mut Vm<B>, pages: Pages) -> bool {
        let swap = self.endpoints.first(Service::Swap);
        let (now, id) = (self.board.now(), vm.id);
        let can = vm.control == EndpointId::NONE && !vm.life.is_leaving() && pages.first.is_multiple_of(PAGES_AT_ONCE);
        let is_served = self.pool_bytes() != 0 && self.swap_is_there() && !self.windows.has_suspect();
        // Who waits for a page that is out makes room in the pool when that comes.
        let spare = vm.life.page_fault().is_some_and(|fault| Self::is_away(vm, fault.page));
        let full_until =
            if spare { self.windows.full_until } else { self.windows.full_until.max(self.windows.crowded_until) };
        if !can || !is_served || now < full_until || self.windows.sends() >= SENDS || !self.has_room(swap) {
            return false;
        }
        let (Some(window), Some(rank)) = (self.windows.free(), self.endpoints.rank(swap)) else { return false };
        let (Some(body), Some(image)) = (vm.life.body_mut(), self.images.get(vm.image)) else { return false };
        let (held, reserve) = (body.memory.reservation().held(), body.memory.reservation().claim().reserve);
        let component = &mut self.components.list[rank];
        let mut count = 0;
        let beyond = held.saturating_sub(reserve);
        let sent = body.memory.send_away(&mut self.frames, pages, beyond, image, |frames, frame| {
            let shown = component.space.map_out_window(frames, window, count, frame, false);
            count += u32::from(shown);
            shown
        });
        if sent.bits == 0 {
            return false;
        }
        self.backend.flush(&mut vm.vcpu, body.memory.tables());
        let counter = self.windows.next_numbers(count);
        let order = Order::Pages { counter, pages: sent, left: sent.bits, gone: 0 };
        self.windows.set(window, Open { vm: id, order, frees: 0, since: None });
        vm.life.share(Devices::SWAP);
        // There are few.
        let window = u32::try_from(window).unwrap_or(u32::MAX);
        self.tell(swap, &SwapEvent::StorePages { vm: id, counter, pages: count, window, spare }.into(), true);
        true
    }

    /// Swap is through with page `index` of a window: it lies there, or stays where the VM wants it or nobody has room for it. Whether it is gone.
    fn page_answered(&mut self, vm: &mut Vm<B>, window: usize, index: u32, bundle: Option<&Bundle>) -> bool {
        let fault = vm.life.page_fault();
        let Some(rank) = self.endpoints.rank(self.endpoints.first(Service::Swap)) else { return false };
        let frame = self.components.list[rank].space.unmap_out_window(window, index);
        let bundle = bundle.filter(|_| !vm.life.is_ending());
        let Some(page) = self.windows.page_at(window, index) else { return false };
        let (Some(frame), Some(memory)) = (frame, vm.life.memory_mut()) else { return false };
        let is_wanted = fault.is_some_and(|fault| fault.page == page);
        let (mut is_gone, mut is_lost) = (false, false);
        match bundle {
            // It was given back, or its VM has ended.
            _ if !memory.is_leaving(page) => memory.drop_loose(&mut self.frames, frame),
            Some(bundle) if !is_wanted => {
                memory.put_away(&mut self.frames, page, frame, bundle);
                is_gone = true;
            }
            _ => is_lost = memory.keep(&mut self.frames, page, frame).is_err(),
        }
        self.windows.answer(window, index, is_gone);
        if vm.life.is_ending() {
            return false;
        }
        if is_lost {
            self.end(vm, End::new(EndReason::Damaged, page.into()));
        } else if is_wanted {
            self.resume(vm);
        }
        is_gone
    }

    /// Close a window through which pages went out when all of them are answered. The frames that has freed are kept for those who wait.
    fn finish_sending(&mut self, vms: &mut Table<B>, id: VmId, window: usize) {
        let Some(Open { order: Order::Pages { pages, left: 0, gone, .. }, .. }) = self.windows.at(window) else {
            return;
        };
        let Some(vm) = vms.by_id(id) else { return };
        self.windows.close(window);
        self.unshare_window(vm);
        if let Some(memory) = vm.life.memory_mut() {
            memory.all_sent(&mut self.frames, pages.first);
        }
        if vm.life.is_ending() {
            if vm.life.shared().is_empty() {
                self.await_burial(vm);
            }
        } else {
            if let Some(body) = vm.life.body_mut() {
                body.registers.set_held(body.memory.reservation().held());
            }
            self.tell_gone_pages(vm, Pages { bits: gone, ..pages });
        }
        self.attention.set_swap();
        self.keep_for_waiting(vms, gone.count_ones().into());
    }

    /// Swap is gone: the pages in a window stay where they were.
    pub(super) fn unsend(&mut self, vms: &mut Table<B>, id: VmId, window: usize) {
        for index in 0..PAGES_AT_ONCE {
            let Some(vm) = vms.by_id(id).filter(|_| self.windows.page_at(window, index).is_some()) else { break };
            // One that was answered is not in the window any more.
            self.page_answered(vm, window, index, None);
        }
        self.finish_sending(vms, id, window);
    }

    /// Tell the pager which of the pages that it has chosen are out.
    fn tell_gone_pages(&mut self, vm: &Vm<B>, pages: Pages) {
        if self.has_room(vm.pager) {
            let (page, free) = (pages.first, self.frames.spare());
            let event = PagerEvent::Gone { vm: vm.id, seat: vm.seat, page, gone: pages.bits, free };
            self.tell(vm.pager, &event.into(), true);
        }
    }

    /// A window of a VM is closed: swap sees nothing of it any more, unless through another one.
    pub(super) fn unshare_window(&mut self, vm: &mut Vm<B>) {
        if !self.windows.is_open_for(vm.id) {
            vm.life.unshare(Devices::SWAP);
        }
    }

    /// A guest gives these pages of its own back: those of them that are out are forgotten. False when there is no room to say so: it has to try again.
    #[cold]
    #[inline(never)]
    pub fn give_back_away(&mut self, vm: &mut Vm<B>, pages: Range<u32>) -> bool {
        let tenant = vm.tenant;
        let Some(memory) = vm.life.memory_mut() else { return true };
        self.attention.set_swap();
        for page in pages {
            if self.given_back.is_full() {
                return false;
            }
            if let Some(bundle) = memory.take_away(&mut self.frames, page) {
                let _ = self.given_back.push_back((tenant, bundle));
            }
        }
        true
    }

    /// What guests have given back of pages that were out is forgotten, as swap has room to hear of it.
    pub(super) fn forget_given_back(&mut self, vms: &mut Table<B>) {
        let swap = self.endpoints.first(Service::Swap);
        while !self.given_back.is_empty() && self.has_room(swap) {
            if let Some((tenant, bundle)) = self.given_back.pop_front() {
                vms.unpools_of(tenant, bundle.bytes.into());
                self.tell_forget(GONE, &bundle);
            }
        }
    }

    /// A VM is gone that had pages out, which this directory names: swap is told to forget them, as it has room.
    pub fn discard(&mut self, vms: &mut Table<B>, id: VmId, directory: u32) {
        if directory == 0 {
            return;
        }
        let bytes = self.discarded.push(&mut self.frames, directory, Owner::VmTables(id.slot.number()));
        vms.unpools_pages(id.slot, bytes);
        self.attention.set_swap();
    }

    /// Tell swap what it may forget of VMs that are gone.
    pub(super) fn forget_discarded(&mut self) {
        let swap = self.endpoints.first(Service::Swap);
        for _ in 0..FORGETS {
            if self.discarded.is_empty() || !self.has_room(swap) {
                return;
            }
            if let Some(bundle) = self.discarded.pop(&mut self.frames) {
                self.tell_forget(GONE, &bundle);
            }
        }
        // The rest when others have had their turn.
        self.attention.set_swap();
    }

    /// What swap must know of the pages of the VM in a slot that are out. False while there are more, for which its ring has no room.
    pub(super) fn tell_swap_of_pages(&mut self, to: EndpointId, vms: &mut Table<B>, vm: VmId) -> bool {
        let kept = crate::vm::Away::found(vms.away(vm.slot));
        let memory = vms.by_id(vm).and_then(|vm| vm.life.memory());
        let away = memory.map_or(&kept, |memory| memory.away());
        while let Some((page, bundle)) = away.next(self.windows.told_pages) {
            if !self.endpoints.get_mut(to).is_some_and(crate::component::Endpoint::has_space) {
                return false;
            }
            self.tell(to, &SwapEvent::Holds { vm, bundle }.into(), true);
            self.windows.told_pages = page + 1;
        }
        self.windows.told_pages = 0;
        true
    }
}
