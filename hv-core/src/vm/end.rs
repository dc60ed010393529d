//! How VMs end: at once they do not run again; their frames are freed by the loop, when nobody shares them any more.

use super::{Devices, DiskTold, End, Queue, Table, Vm};
use crate::board::Board;
use crate::kernel::{Cpu, Kernel};
use crate::log::say;
use crate::memory::Owner;
use abi::log::Record;
use abi::sched::SchedEvent;
use abi::vm::{Slot, VmId};
use backend::{Backend, Vcpu};

impl<B: Backend, H: Board> Cpu<B, H> {
    /// End a VM: it does not run again. One that has ended already stays as it is.
    pub fn end(&mut self, vm: &mut Vm<B>, end: End) {
        if vm.life.is_ending() {
            return;
        }
        let mut rip = 0;
        self.show_console(vm);
        if vm.life.body().is_some() {
            rip = vm.vcpu.position(&mut self.backend).rip;
            vm.vcpu.release(&mut self.backend);
        }
        vm.life.end();
        self.end_console(vm.id);
        self.components.note_idle(vm.seat, 0);
        if let Some((window, _)) = self.windows.promised(vm.id) {
            self.windows.close(window);
        }
        self.queues.remove(Queue::Coming, vm.slot());
        self.forget_caller(vm);
        self.say_end(vm.id, end, rip);
        self.queues.remove(Queue::Ready, vm.slot());
        self.queues.remove(Queue::Held, vm.slot());
        self.plan.give_up(vm.id);
        self.let_go_of(vm);
    }

    /// End a VM of which one of those who shared its pages has just let go; where it has ended already, the others let go.
    pub fn end_or_let_go(&mut self, vm: &mut Vm<B>, end: End) {
        if vm.life.is_ending() { self.let_go_of(vm) } else { self.end(vm, end) }
    }

    /// A VM has ended: those who share its pages let go of them, one after the other; then the loop frees them.
    pub fn let_go_of(&mut self, vm: &mut Vm<B>) {
        if vm.life.shared().contains(Devices::NIC) && self.begin_detach(vm) {
            return;
        }
        if vm.life.shared().contains(Devices::DISK) && self.begin_detach_disk(vm) {
            return;
        }
        if vm.life.shared().is_empty() {
            self.await_burial(vm);
        } else {
            // When swap has said that it sees it no more.
            self.timers.set(vm.seat, super::NEVER);
        }
    }

    /// End a VM that waits for admission: it was a record, and is gone.
    pub fn end_waiting(&mut self, vms: &mut Table<B>, id: VmId, end: End) {
        self.queues.remove(Queue::Waiting, id.slot);
        self.queues.remove(Queue::Held, id.slot);
        let seed = vms.waiting(id);
        let (ran_ticks, charges) = vms.spent(id.slot);
        self.note_gone(ran_ticks, &charges);
        self.forget_bundle(vms, id);
        let _ = vms.remove(id.slot);
        self.say_end(id, end, 0);
        if let Some(seed) = seed {
            self.tell_gone(seed.id, seed.image);
            self.tell_disk_gone(seed.id, seed.disk.disk);
        }
        let room = self.room(vms);
        self.tell_scheduler(SchedEvent::Ended { vm: id, seat: None, room }, true);
    }

    pub fn say_end(&mut self, id: VmId, end: End, rip: u64) {
        self.deaths.add(id, end);
        let End { reason, detail } = end;
        if let Some(left_out) = self.guest_log.allow(self.board.now(), self.time.tsc_hz())
            && crate::log::has_room()
        {
            say(Record::Ended { vm: id, reason, detail, rip, left_out });
        }
    }

    /// A VM has ended and nobody shares its pages: the loop frees them.
    pub fn await_burial(&mut self, vm: &Vm<B>) {
        self.timers.set(vm.seat, super::NEVER);
        self.queues.push(Queue::Ended, vm.slot());
        self.attention.set_ended();
    }
}

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Free what an ended VM had, whose pages nobody shares.
    pub fn reclaim(&mut self, slot: Slot) {
        let Self { vms, cpu, .. } = self;
        let Some(vm) = vms.get(slot) else { return };
        let (id, seat, control, pager) = (vm.id, vm.seat, vm.control_frame, vm.pager);
        // One that could not be built, or has had no NIC.
        let still_out = (vm.attached_to == 0).then_some(vm.image);
        let disk = (vm.disk_told == DiskTold::Out).then_some(vm.attachment.disk);
        cpu.note_gone(vm.ran_ticks, &vm.charges);
        if let Some(memory) = vm.life.take_remains() {
            cpu.backend.flush(&mut vm.vcpu, memory.tables());
            let away = memory.release(&mut cpu.frames);
            cpu.discard(vms, id, away);
        }
        cpu.forget_bundle(vms, id);
        let owner = Owner::VmMeta(slot.number());
        cpu.frames.free(control, owner);
        if let Some(context) = vms.remove(slot) {
            cpu.frames.free(context, owner);
        }
        cpu.detach_pager(pager, id, seat);
        if let Some(image) = still_out {
            cpu.tell_gone(id, image);
        }
        if let Some(disk) = disk {
            cpu.tell_disk_gone(id, disk);
        }
        let room = cpu.room(vms);
        cpu.tell_scheduler(SchedEvent::Ended { vm: id, seat: Some(seat), room }, true);
        let now = cpu.board.now();
        cpu.lap(now);
    }
}
