//! How VMs end: at once they do not run again; their frames are freed by the loop, when nobody shares them any more.

use super::{Devices, End, Queue, Table, Vm};
use crate::board::Board;
use crate::component::Role;
use crate::kernel::{Cpu, Kernel};
use crate::memory::Owner;
use abi::net::NetEvent;
use abi::pager::PagerEvent;
use abi::sched::SchedEvent;
use abi::vm::{Slot, VmId};
use backend::{Backend, Vcpu};

/// How long the network demultiplexer may take to let go of a VM that has ended, in milliseconds.
const DETACH_MS: u64 = 1000;

impl<B: Backend, H: Board> Cpu<B, H> {
    /// End a VM: it does not run again. One that has ended already stays as it is.
    pub fn end(&mut self, vm: &mut Vm<B>, end: End) {
        if vm.life.is_ending() {
            return;
        }
        let now = self.board.now();
        let mut rip = 0;
        if let Some(body) = vm.life.body_mut() {
            body.console.drain(vm.id, now, self.time.tsc_hz());
            rip = vm.vcpu.position(&mut self.backend).rip;
            vm.vcpu.release(&mut self.backend);
        }
        vm.life.end();
        self.say_end(vm.id, end, rip);
        self.queues.remove(Queue::Ready, vm.slot());
        self.queues.remove(Queue::Held, vm.slot());
        self.plan.give_up(vm.id);
        if vm.life.shared().contains(Devices::NIC) {
            // When the demultiplexer must have let go of it.
            let patience = self.time.milliseconds(DETACH_MS);
            self.timers.set(vm.slot(), now.saturating_add(patience));
            self.arm(now.saturating_add(patience));
            self.tell(Role::Net, &NetEvent::Detach { vm: vm.id }.into(), true);
        } else {
            self.await_burial(vm);
        }
    }

    /// End a VM that waits for admission: it was a record, and is gone.
    pub fn end_waiting(&mut self, vms: &mut Table<B>, id: VmId, end: End) {
        self.queues.remove(Queue::Waiting, id.slot);
        self.queues.remove(Queue::Held, id.slot);
        let _ = vms.remove(id.slot);
        self.say_end(id, end, 0);
        let free = self.frames.free_frames();
        self.tell_scheduler(SchedEvent::Ended { vm: id, free }, true);
    }

    fn say_end(&mut self, id: VmId, End { reason, detail }: End, rip: u64) {
        if let Some(left_out) = self.guest_log.allow(self.board.now(), self.time.tsc_hz())
            && crate::log::has_room()
        {
            let reason = reason.text();
            log::info!(target: "core", "{id} ended: {reason} (detail {detail:#x}, rip {rip:#x}; {left_out} such lines left out)");
        }
    }

    /// A VM has ended and nobody shares its pages: the loop frees them.
    pub fn await_burial(&mut self, vm: &Vm<B>) {
        self.timers.set(vm.slot(), super::NEVER);
        self.queues.push(Queue::Ended, vm.slot());
        self.attention.set_ended();
    }
}

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Free what an ended VM had, whose pages nobody shares.
    pub fn reclaim(&mut self, slot: Slot) {
        let Self { vms, cpu, .. } = self;
        let Some(vm) = vms.get(slot) else { return };
        let (id, control) = (vm.id, vm.control_frame);
        if let Some(body) = vm.life.take_remains() {
            cpu.backend.flush(&mut vm.vcpu, body.memory.tables());
            body.memory.release(&mut cpu.frames);
        }
        let owner = Owner::VmMeta(slot.number());
        cpu.frames.free(control, owner);
        if let Some(context) = vms.remove(slot) {
            cpu.frames.free(context, owner);
        }
        cpu.tell(Role::Pager, &PagerEvent::VmEnded { vm: id }.into(), false);
        let free = cpu.frames.free_frames();
        cpu.tell_scheduler(SchedEvent::Ended { vm: id, free }, true);
        cpu.mark = cpu.board.now();
    }
}
