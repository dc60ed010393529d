//! The component that keeps the memory of VMs that are out: what it says, what it is told when it has started, and what becomes of those who are on
//! their way when it dies. The core's records are the only index of its pool.

use super::windows::Order;
use crate::board::Board;
use crate::component::{Component, EndpointId};
use crate::kernel::{Cpu, Kernel};
use crate::memory::phys::index;
use crate::vm::{Devices, Table};
use abi::end::EndReason;
use abi::message::{BadMessage, Message};
use abi::pager::Stays;
use abi::service::Service;
use abi::swap::{Bundle, SHEET_STRIDE, SwapCommand, SwapEvent, tier};
use abi::vm::{Slot, VmId};
use backend::Backend;
use ring::SharedMemory;

/// How much longer swap may wait for the disks: it gives up before.
const DISK_PATIENCE: u64 = 60;

/// The sheet of a window.
pub(super) fn sheet(component: &Component, window: usize) -> Option<SharedMemory> {
    component.sheets.as_ref()?.sub(window * index(SHEET_STRIDE), index(SHEET_STRIDE))
}

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Take what swap has said, as long as there is space for what others are told of it; and let those come in who wait for a window.
    #[cold]
    pub fn serve_swap(&mut self) {
        let from = self.cpu.endpoints.first(Service::Swap);
        for _ in 0..abi::ring::MAX_SLOTS {
            if from == EndpointId::NONE || !self.cpu.all_have_room() {
                break;
            }
            let message = self.cpu.endpoints.get_mut(from).and_then(crate::component::Endpoint::take);
            let Some(message) = message else { break };
            if let Err(error) = self.swap_command(&message) {
                self.cpu.bad_message(from, &error);
            }
        }
        if let Some(endpoint) = self.cpu.endpoints.get_mut(from) {
            endpoint.release();
        }
        self.cpu.forget_given_back(&mut self.vms);
        self.cpu.forget_discarded();
        self.start_loads();
    }

    /// Carry out a command of swap.
    ///
    /// # Errors
    /// What is no command, or cannot be.
    pub fn swap_command(&mut self, message: &Message) -> Result<(), BadMessage> {
        let bad = |what| BadMessage { kind: message.kind, what };
        match SwapCommand::try_from(message)? {
            SwapCommand::Stored { vm, bundle } if self.cpu.windows.sending(vm, bundle.counter).is_some() => {
                return self.page_stored(vm, bundle.counter, Some(&bundle)).map_err(bad);
            }
            SwapCommand::Stored { vm, bundle } => return self.stored(vm, &bundle).map_err(bad),
            SwapCommand::Refused { vm, counter } if self.cpu.windows.sending(vm, counter).is_some() => {
                return self.page_stored(vm, counter, None).map_err(bad);
            }
            SwapCommand::Refused { vm, counter } => self.not_taken(vm, counter),
            SwapCommand::Loaded { vm, counter } => self.loaded(vm, counter),
            SwapCommand::Damaged { vm, counter } => self.damaged(vm, counter),
            SwapCommand::Moved { vm, counter } => self.moved(vm, counter),
            SwapCommand::Unread { vm, counter } => self.unread(vm, counter),
        }
        Ok(())
    }

    /// What lay in the pool of a VM lies on the disks, too. Its record says so from now on, unless it is on its way in or gone. One of both is forgotten.
    fn moved(&mut self, id: VmId, counter: u64) {
        let Self { vms, cpu, .. } = self;
        let lies_there = |bundle: &Bundle| bundle.counter == counter;
        let is_out = vms.named(id.slot) == Some(id) && vms.get(id.slot).is_none();
        let old = if is_out && vms.bundle(id.slot).as_ref().is_some_and(lies_there) {
            vms.move_to_disk(id.slot)
        } else {
            None
        };
        cpu.swapped.moved = cpu.swapped.moved.saturating_add(u32::from(old.is_some()));
        let on_disk = Bundle { counter, tier: tier::DISK, place: id.slot.number(), ..Bundle::NONE };
        cpu.tell_forget(id, &old.unwrap_or(on_disk));
    }

    /// Swap is gone, by its own fault or not. Who was going out stays; for who was coming in its successor is asked, unless that has killed
    /// it often enough.
    pub fn forget_swap(&mut self, at_fault: bool) {
        let Self { vms, cpu, .. } = self;
        // Its successor is not told of them.
        cpu.discarded.clear(&mut cpu.frames);
        for (window, open) in cpu.windows.open() {
            if let Order::Pages { .. } = open.order {
                cpu.unsend(vms, open.vm, window);
            }
            let Some(vm) = vms.by_id(open.vm) else { continue };
            match open.order {
                Order::Promised | Order::Pages { .. } => {}
                Order::Store { pages, .. } => {
                    cpu.close_window(window, pages);
                    vm.life.unshare(Devices::SWAP);
                    cpu.not_stored(vm, Stays::NoSwap);
                }
                Order::Load { pages, .. } => {
                    if vm.life.is_ending() || !cpu.windows.try_again(window, at_fault) {
                        cpu.give_up(vm, window, pages, EndReason::Damaged);
                    }
                }
            }
        }
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// First words to swap.
    pub(super) fn swap_hello(&mut self, to: EndpointId) {
        self.windows.told_pages = 0;
        self.tell(to, &SwapEvent::Hello.into(), true);
    }

    /// What swap must know of a slot: what lies in its pool of the VM there. False while there is more, for which its ring has no room.
    pub(super) fn tell_swap_of(&mut self, to: EndpointId, vms: &mut Table<B>, slot: Slot) -> bool {
        let Some(vm) = vms.named(slot) else { return true };
        if let Some(bundle) = vms.bundle(slot).filter(|_| self.windows.told_pages == 0) {
            self.tell(to, &SwapEvent::Holds { vm, bundle }.into(), true);
        }
        self.tell_swap_of_pages(to, vms, vm)
    }

    /// Whether somebody is waited for who has to let a VM go out or come in. One that does not within `patience` ticks of the steady time
    /// is condemned.
    pub fn look_at_windows(&mut self, vms: &mut Table<B>, steady: u64, patience: u64) -> bool {
        let swap = self.endpoints.first(Service::Swap);
        let mut any = false;
        for (window, open) in self.windows.open() {
            any = true;
            let on_disk = vms.bundle(open.vm.slot).is_some_and(|bundle| bundle.is_on_disk());
            let patience = if on_disk { patience.saturating_mul(DISK_PATIENCE) } else { patience };
            if matches!(open.order, Order::Load { told: false, .. })
                || self.windows.has_waited(window, steady) < patience
            {
                continue;
            }
            match (open.order, vms.by_id(open.vm)) {
                (Order::Promised, Some(vm)) => {
                    let server = if vm.life.leaves_disk() { vm.disk } else { vm.net };
                    self.withholds(server, open.vm);
                }
                _ => self.withholds(swap, open.vm),
            }
        }
        any
    }

    /// A bundle is not needed any more.
    pub fn tell_forget(&mut self, vm: VmId, bundle: &Bundle) {
        self.tell(self.endpoints.first(Service::Swap), &SwapEvent::Forget { vm, bundle: *bundle }.into(), false);
    }

    /// A VM that was not in is gone for good: so is what lies in the pool of it.
    pub fn forget_bundle(&mut self, vms: &mut Table<B>, vm: VmId) {
        if let Some(bundle) = vms.take_bundle(vm.slot) {
            self.tell_forget(vm, &bundle);
        }
        let away = vms.take_away(vm.slot);
        self.discard(vms, vm, away);
    }

    /// The sheet of a window.
    pub(super) fn sheet(&self, window: usize) -> Option<SharedMemory> {
        let rank = self.endpoints.rank(self.endpoints.first(Service::Swap))?;
        sheet(&self.components.list[rank], window)
    }

    /// Take a window back through which a VM went out.
    pub(super) fn close_window(&mut self, window: usize, pages: u32) {
        if let Some(rank) = self.endpoints.rank(self.endpoints.first(Service::Swap)) {
            for index in 0..pages {
                self.components.list[rank].space.unmap_out_window(window, index);
            }
        }
        self.windows.close(window);
        self.attention.set_swap();
    }
}
