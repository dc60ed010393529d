//! The network demultiplexer's share of VMs: their NIC pages, which are mapped into its window while they are attached.

use crate::board::Board;
use crate::component::{Role, Run};
use crate::kernel::{Cpu, Kernel};
use crate::vm::{Devices, Vm};
use abi::guest::NIC_BASE;
use abi::limits::PAGE_SHIFT;
use abi::message::{BadMessage, Message};
use abi::net::{NetCommand, NetEvent};
use abi::nic;
use backend::Backend;

impl<B: Backend, H: Board> Kernel<B, H> {
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
    /// Share the NIC pages of an admitted VM with the network demultiplexer, and tell it. Where there is none that lives,
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
        for index in 0..nic::nic_pages(rx_slots, tx_slots) {
            let page = u32::try_from((NIC_BASE >> PAGE_SHIFT) + index).unwrap_or(u32::MAX);
            let mapped = body
                .memory
                .frame(&mut self.frames, page)
                .is_some_and(|frame| component.space.map_nic(&mut self.frames, vm.id.slot, index, frame));
            if !mapped {
                for index in 0..index {
                    component.space.unmap_nic(vm.id.slot, index);
                }
                log::error!(target: "core", "{}: no frame for the demultiplexer's window; the VM runs without a NIC", vm.id);
                return;
            }
        }
        vm.life.share(Devices::NIC);
        let event = NetEvent::Attach { vm: vm.id, ipv4: vm.ipv4, rx_slots, tx_slots, share: vm.share };
        self.tell(Role::Net, &event.into(), true);
    }

    /// Unmap a VM's NIC pages from the demultiplexer, if it shares them. One that has ended can be buried then.
    fn detach(&mut self, vm: &mut Vm<B>) {
        if !vm.life.shared().contains(Devices::NIC) {
            return;
        }
        if let (Some(image), Some((_, component))) = (self.images.get(vm.image), self.components.of(Role::Net)) {
            for index in 0..nic::nic_pages(image.entry.rx_slots, image.entry.tx_slots) {
                component.space.unmap_nic(vm.id.slot, index);
            }
        }
        vm.life.unshare(Devices::NIC);
        if vm.life.is_ending() {
            self.await_burial(vm);
        }
    }
}
