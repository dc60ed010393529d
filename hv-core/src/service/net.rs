//! The network demultiplexer's share of VMs: their NIC pages, which are mapped into its window while they are attached.

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
use backend::Backend;

/// How long the demultiplexer may take to let go of a VM that has ended, in milliseconds.
const DETACH_MS: u64 = 1000;
/// VMs that have ended that are taken from it, when it is gone, before others come to their turn.
const BATCH: usize = 64;

impl<B: Backend, H: Board> Kernel<B, H> {
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
    /// Share the NIC pages of an admitted VM with the network demultiplexer, and tell it. Where there is none that lives,
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
        for index in 0..nic::nic_pages(rx_slots, tx_slots) {
            let page = u32::try_from((NIC_BASE >> PAGE_SHIFT) + index).unwrap_or(u32::MAX);
            let mapped = body
                .memory
                .frame(&mut self.frames, page)
                .is_some_and(|frame| component.space.map_nic(&mut self.frames, vm.seat, index, frame));
            if !mapped {
                // Those behind it as well: they may be there from an earlier start.
                for index in 0..nic::nic_pages(rx_slots, tx_slots) {
                    component.space.unmap_nic(vm.seat, index);
                }
                vm.life.unshare(Devices::NIC);
                log::error!(target: "core", "{}: no frame for the demultiplexer's window; the VM runs without a NIC", vm.id);
                return;
            }
        }
        vm.life.share(Devices::NIC);
        vm.attached_to = start;
        let node = self.node();
        let event =
            NetEvent::Attach { vm: vm.id, seat: vm.seat, node, ipv4: vm.ipv4, rx_slots, tx_slots, share: vm.share };
        self.tell(Role::Net, &event.into(), true);
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
        if let (Some(image), Some((_, component))) = (self.images.get(vm.image), self.components.of(Role::Net)) {
            for index in 0..nic::nic_pages(image.entry.rx_slots, image.entry.tx_slots) {
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
