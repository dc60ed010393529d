//! The network demultiplexer's share of VMs: the NIC page, which is in its window while a VM is attached, and the pages of the
//! rings, which come into being when it or the guest first stores there. Only the demultiplexer has pages taken out of its window:
//! what a guest does never takes one away under it.

use crate::board::Board;
use crate::component::{Role, Run};
use crate::kernel::{Cpu, Kernel};
use crate::vm::{Devices, End, Queue, Vm};
use abi::end::EndReason;
use abi::guest::NIC_BASE;
use abi::limits::PAGE_SHIFT;
use abi::message::{BadMessage, Message};
use abi::net::{NetCommand, NetEvent};
use abi::nic;
use abi::vm::VmId;
use backend::{Backend, Flush};

/// Why a page of a ring is not given or taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRingPage {
    /// The VM is not attached, or its rings have no such page.
    NoSuchPage,
    /// No frame is free.
    NoFrame,
    /// The VM does not idle: it may be writing there.
    InUse,
}

/// How long the demultiplexer may take to let go of a VM that has ended, in milliseconds.
const DETACH_MS: u64 = 1000;
/// VMs that have ended that are taken from it, when it is gone, before others come to their turn.
const BATCH: usize = 64;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Show the demultiplexer page `index` of the NIC of a VM. The guest has the same frame there, from now on if it had none.
    ///
    /// # Errors
    /// [`NoRingPage`].
    pub fn give_ring_page(&mut self, vm: VmId, index: u64) -> Result<(), NoRingPage> {
        let Self { vms, cpu, .. } = self;
        let vm = vms.by_id(vm).ok_or(NoRingPage::NoSuchPage)?;
        let end = cpu.nic_pages(vm);
        let seat = vm.seat;
        let attached = vm.life.shared().contains(Devices::NIC);
        let body =
            vm.life.body_mut().filter(|_| attached && (1..end).contains(&index)).ok_or(NoRingPage::NoSuchPage)?;
        let page = guest_page(index);
        let frame = match body.memory.frame(&mut cpu.frames, page) {
            Some(frame) => frame,
            // It lies below all images.
            None => body.memory.map_plain(&mut cpu.frames, page).ok().flatten().ok_or(NoRingPage::NoFrame)?,
        };
        body.registers.set_held(body.memory.own());
        let (_, component) = cpu.components.of(Role::Net).ok_or(NoRingPage::NoSuchPage)?;
        if component.space.map_nic(&mut cpu.frames, seat, index, frame) { Ok(()) } else { Err(NoRingPage::NoFrame) }
    }

    /// Free the pages of a VM's rings whose bits are set in `pages` (bit `i`: page `i` of the NIC), for the demultiplexer, which
    /// has seen that nothing is in them.
    ///
    /// # Errors
    /// [`NoRingPage`]; nothing is freed then.
    pub fn take_ring_pages(&mut self, vm: VmId, pages: u64) -> Result<(), NoRingPage> {
        let Self { vms, cpu, .. } = self;
        let vm = vms.by_id(vm).ok_or(NoRingPage::NoSuchPage)?;
        let end = cpu.nic_pages(vm);
        if !vm.life.shared().contains(Devices::NIC) || pages & !(((1 << end) - 1) & !1) != 0 {
            return Err(NoRingPage::NoSuchPage);
        }
        if !vm.life.is_idle() {
            return Err(NoRingPage::InUse);
        }
        let seat = vm.seat;
        let body = vm.life.body_mut().ok_or(NoRingPage::NoSuchPage)?;
        let (_, component) = cpu.components.of(Role::Net).ok_or(NoRingPage::NoSuchPage)?;
        let mut flush = Flush::Unneeded;
        for index in (1..end).filter(|index| pages >> index & 1 != 0) {
            component.space.unmap_nic(seat, index);
            if body.memory.give_back(&mut cpu.frames, guest_page(index)).1 == Flush::Needed {
                flush = Flush::Needed;
            }
        }
        // Before anything else runs; and the demultiplexer's space is loaded anew before it does.
        if flush == Flush::Needed {
            cpu.backend.flush(&mut vm.vcpu, body.memory.tables());
        }
        body.registers.set_held(body.memory.own());
        Ok(())
    }

    /// Carry out a command of the network demultiplexer.
    ///
    /// # Errors
    /// What is no command.
    pub fn net_command(&mut self, message: &Message) -> Result<(), BadMessage> {
        let Self { vms, cpu, .. } = self;
        match NetCommand::try_from(message)? {
            NetCommand::Detached { vm } => {
                if let Some(vm) = vms.by_id(vm).filter(|vm| vm.life.is_ending()) {
                    cpu.detach(vm);
                }
            }
            NetCommand::Refused { vm } => {
                if let Some(vm) = vms.by_id(vm).filter(|vm| vm.life.shared().contains(Devices::NIC)) {
                    cpu.detach(vm);
                    cpu.end(vm, End::new(EndReason::NoNetwork, 0));
                }
            }
            NetCommand::Node { node } => {
                cpu.node.get_or_insert(node);
            }
        }
        Ok(())
    }

    /// The demultiplexer is gone: VMs that have ended need not wait for it. A few at a time; true when none is left. (What it shares with
    /// VMs that live stays where it is: its successor has the same window, and is told of each.)
    #[must_use]
    pub fn forget_net(&mut self) -> bool {
        let Self { vms, cpu, .. } = self;
        for _ in 0..BATCH {
            let Some(slot) = cpu.queues.first(Queue::Leaving) else { return true };
            match vms.get(slot) {
                Some(vm) => cpu.detach(vm),
                None => cpu.queues.remove(Queue::Leaving, slot),
            }
        }
        cpu.queues.is_empty(Queue::Leaving)
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// Share the NIC page of an admitted VM with the network demultiplexer, and tell it. Where there is none that lives,
    /// the next one is told.
    pub fn attach(&mut self, vm: &mut Vm<B>) {
        let Some(image) = self.images.get(vm.image) else { return };
        let (rx_slots, tx_slots) = (image.entry.rx_slots, image.entry.tx_slots);
        let Some(start) = self.net_start() else { return };
        let Some((_, component)) = self.components.of(Role::Net) else { return };
        if rx_slots == 0 || tx_slots == 0 || vm.attached_to == start {
            return;
        }
        let Some(body) = vm.life.body() else { return };
        let mapped = body
            .memory
            .frame(&mut self.frames, guest_page(0))
            .is_some_and(|frame| component.space.map_nic(&mut self.frames, vm.seat, 0, frame));
        // From an earlier start there may be pages that this one has not asked for, and the first one.
        for index in u64::from(mapped)..nic::nic_pages(rx_slots, tx_slots) {
            component.space.unmap_nic(vm.seat, index);
        }
        if !mapped {
            vm.life.unshare(Devices::NIC);
            log::error!(target: "core", "{}: no frame for the demultiplexer's window; the VM runs without a NIC", vm.id);
            return;
        }
        vm.life.share(Devices::NIC);
        vm.attached_to = start;
        let node = self.node();
        let event =
            NetEvent::Attach { vm: vm.id, seat: vm.seat, node, ipv4: vm.ipv4, rx_slots, tx_slots, share: vm.share };
        self.tell(Role::Net, &event.into(), true);
    }

    /// Pages of the NIC of a VM, at most 16: that many lie in the window's range for it.
    fn nic_pages(&self, vm: &Vm<B>) -> u64 {
        self.images.get(vm.image).map_or(0, |image| nic::nic_pages(image.entry.rx_slots, image.entry.tx_slots))
    }

    /// Which start of the network demultiplexer is the one that lives.
    fn net_start(&self) -> Option<u32> {
        let component = &self.components.list[self.components.rank_of(Role::Net)?];
        matches!(component.run, Run::Ready | Run::Waiting { .. }).then_some(component.incarnation)
    }

    /// A VM that shares its NIC pages has ended: the demultiplexer has to let go of them. Where there is none that lives, nobody has.
    pub fn begin_detach(&mut self, vm: &mut Vm<B>, now: u64) {
        if self.net_start().is_none() {
            return self.detach(vm);
        }
        self.queues.push(Queue::Leaving, vm.slot());
        let due = now.saturating_add(self.time.milliseconds(DETACH_MS));
        self.timers.set(vm.seat, due);
        self.arm(due);
        self.tell(Role::Net, &NetEvent::Detach { vm: vm.id, seat: vm.seat }.into(), true);
    }

    /// Unmap a VM's NIC pages from the demultiplexer, if it shares them. One that has ended can be buried then.
    fn detach(&mut self, vm: &mut Vm<B>) {
        if !vm.life.shared().contains(Devices::NIC) {
            return;
        }
        let end = self.nic_pages(vm);
        if let Some((_, component)) = self.components.of(Role::Net) {
            for index in 0..end {
                component.space.unmap_nic(vm.seat, index);
            }
        }
        vm.life.unshare(Devices::NIC);
        if vm.life.is_ending() {
            self.queues.remove(Queue::Leaving, vm.slot());
            self.await_burial(vm);
        }
    }
}

/// The guest's page that holds page `index` of its NIC.
fn guest_page(index: u64) -> u32 {
    u32::try_from((NIC_BASE >> PAGE_SHIFT) + index).unwrap_or(u32::MAX)
}
