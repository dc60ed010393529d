//! The network demultiplexer's share of VMs: the NIC page, which is in its window while a VM is attached, and the pages of the
//! rings, which come into being when it or the guest first stores there. Only the demultiplexer has pages taken out of its window:
//! what a guest does never takes one away under it.

use crate::board::Board;
use crate::component::{Role, Run};
use crate::kernel::{Cpu, Kernel};
use crate::vm::{Devices, Vm};
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

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Show the demultiplexer page `index` of the NIC of a VM. The guest has the same frame there, from now on if it had none.
    ///
    /// # Errors
    /// [`NoRingPage`].
    pub fn give_ring_page(&mut self, vm: VmId, index: u64) -> Result<(), NoRingPage> {
        let Self { vms, cpu, .. } = self;
        let vm = vms.by_id(vm).ok_or(NoRingPage::NoSuchPage)?;
        let end = cpu.nic_pages(vm);
        let slot = vm.id.slot;
        let attached = vm.life.shared().contains(Devices::NIC);
        let body =
            vm.life.body_mut().filter(|_| attached && (1..end).contains(&index)).ok_or(NoRingPage::NoSuchPage)?;
        let page = guest_page(index);
        let frame = match body.memory.frame(&mut cpu.frames, page) {
            Some(frame) => frame,
            None => body.memory.map_zero(&mut cpu.frames, page).ok().flatten().ok_or(NoRingPage::NoFrame)?,
        };
        let (_, component) = cpu.components.of(Role::Net).ok_or(NoRingPage::NoSuchPage)?;
        if component.space.map_nic(&mut cpu.frames, slot, index, frame) { Ok(()) } else { Err(NoRingPage::NoFrame) }
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
        let slot = vm.id.slot;
        let body = vm.life.body_mut().ok_or(NoRingPage::NoSuchPage)?;
        let (_, component) = cpu.components.of(Role::Net).ok_or(NoRingPage::NoSuchPage)?;
        let mut flush = Flush::Unneeded;
        for index in (1..end).filter(|index| pages >> index & 1 != 0) {
            component.space.unmap_nic(slot, index);
            if body.memory.give_back(&mut cpu.frames, guest_page(index)).1 == Flush::Needed {
                flush = Flush::Needed;
            }
        }
        // Before anything else runs; and the demultiplexer's space is loaded anew before it does.
        if flush == Flush::Needed {
            cpu.backend.flush(&mut vm.vcpu, body.memory.tables());
        }
        Ok(())
    }

    /// Carry out a command of the network demultiplexer.
    ///
    /// # Errors
    /// What is no command.
    pub fn net_command(&mut self, message: &Message) -> Result<(), BadMessage> {
        let NetCommand::Detached { vm } = NetCommand::try_from(message)?;
        let Self { vms, cpu, .. } = self;
        if let Some(vm) = vms.by_id(vm).filter(|vm| vm.life.is_ending()) {
            cpu.detach(vm);
        }
        Ok(())
    }

    /// The demultiplexer is gone, and with it whatever it shared: ended VMs need not wait for it.
    pub fn forget_net(&mut self) {
        let Self { vms, cpu, .. } = self;
        for slot in vms.slots() {
            if let Some(vm) = vms.get(slot) {
                cpu.detach(vm);
            }
        }
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// Share the NIC page of an admitted VM with the network demultiplexer, and tell it. Where there is none that lives,
    /// the next one is told.
    pub fn attach(&mut self, vm: &mut Vm<B>) {
        let Some(image) = self.images.get(vm.image) else { return };
        let (rx_slots, tx_slots) = (image.entry.rx_slots, image.entry.tx_slots);
        let Some((_, component)) = self.components.of(Role::Net) else { return };
        let lives = matches!(component.run, Run::Ready | Run::Waiting { .. });
        if rx_slots == 0 || tx_slots == 0 || !lives || vm.life.shared().contains(Devices::NIC) {
            return;
        }
        let Some(body) = vm.life.body() else { return };
        let mapped = body
            .memory
            .frame(&mut self.frames, guest_page(0))
            .is_some_and(|frame| component.space.map_nic(&mut self.frames, vm.id.slot, 0, frame));
        if !mapped {
            log::error!(target: "core", "{}: no frame for the demultiplexer's window; the VM runs without a NIC", vm.id);
            return;
        }
        vm.life.share(Devices::NIC);
        let event = NetEvent::Attach { vm: vm.id, ipv4: vm.ipv4, rx_slots, tx_slots, share: vm.share };
        self.tell(Role::Net, &event.into(), true);
    }

    /// Pages of the NIC of a VM, at most 16: that many lie in the window's range for it.
    fn nic_pages(&self, vm: &Vm<B>) -> u64 {
        self.images.get(vm.image).map_or(0, |image| nic::nic_pages(image.entry.rx_slots, image.entry.tx_slots))
    }

    /// Unmap a VM's NIC pages from the demultiplexer, if it shares them. One that has ended can be buried then.
    fn detach(&mut self, vm: &mut Vm<B>) {
        if !vm.life.shared().contains(Devices::NIC) {
            return;
        }
        let end = self.nic_pages(vm);
        if let Some((_, component)) = self.components.of(Role::Net) {
            for index in 0..end {
                component.space.unmap_nic(vm.id.slot, index);
            }
        }
        vm.life.unshare(Devices::NIC);
        if vm.life.is_ending() {
            self.await_burial(vm);
        }
    }
}

/// The guest's page that holds page `index` of its NIC.
fn guest_page(index: u64) -> u32 {
    u32::try_from((NIC_BASE >> PAGE_SHIFT) + index).unwrap_or(u32::MAX)
}
