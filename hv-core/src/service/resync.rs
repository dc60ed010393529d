//! What a component is told after its start: everything that it must know of the VMs that live, a few at a time, as its
//! ring has room.

use crate::board::Board;
use crate::component::Role;
use crate::kernel::{Cpu, Kernel};
use crate::vm::{Queue, State, Table, Vm};
use abi::limits::MAX_SEGMENTS;
use abi::net::NetEvent;
use abi::pager::PagerEvent;
use abi::sched::SchedEvent;
use abi::vm::{ImageId, Seat, Slot};
use backend::Backend;

/// Seats or slots that are looked at in one round at most, whether anybody is there or not.
const LOOK: usize = 256;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// First words to a component that has just been started.
    pub fn hello(&mut self, rank: usize) {
        let Self { vms, cpu, .. } = self;
        let room = cpu.room(vms);
        let role = cpu.components.list[rank].role;
        match role {
            Role::Net => cpu.tell(role, &NetEvent::Hello.into(), true),
            Role::Sched => {
                let event = SchedEvent::Hello { quantum_ticks: cpu.plan.quantum_ticks(), room };
                cpu.tell(role, &event.into(), true);
            }
            Role::Pager => {
                let event = PagerEvent::Hello { frames: cpu.vm_frames, free: room.frames };
                cpu.tell(role, &event.into(), true);
                for index in (0..).take(cpu.images.len()) {
                    for segment in 0..MAX_SEGMENTS {
                        cpu.tell_segment(index, segment);
                    }
                }
            }
            Role::Control | Role::Other => {}
        }
    }

    /// Go on telling a component of the VMs, from the seat or slot where the last round stopped.
    pub fn resync(&mut self, rank: usize) {
        let Self { vms, cpu, .. } = self;
        let component = &mut cpu.components.list[rank];
        let (role, Some(from)) = (component.role, component.resync.take()) else { return };
        // The scheduler knows of VMs that wait, too.
        let end = if role == Role::Sched { vms.used() } else { vms.seats().used() };
        for (looked, number) in (from..).take_while(|&number| (number as usize) < end).enumerate() {
            let component = &mut cpu.components.list[rank];
            if !component.ends.has_space() {
                component.resync = Some(number);
                return;
            }
            if looked == LOOK {
                component.resync = Some(number);
                // Perhaps it was told nothing, and must come back all the same.
                let bit = component.ends.bit;
                return cpu.notify(rank, bit);
            }
            if role == Role::Sched {
                cpu.tell_scheduler_of(vms, Slot::new(number));
            } else if let Some(vm) = u16::try_from(number).ok().and_then(|seat| vms.in_seat(Seat::new(seat))) {
                cpu.tell_all_of(role, vm);
            }
        }
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    fn tell_segment(&mut self, index: u32, segment: usize) {
        let image = ImageId::new(index);
        let segments = self.images.get(image).map_or(&[][..], |image| &image.segments);
        // There is nothing to give in a hole.
        let Some(segment) = segments.get(segment).filter(|segment| segment.rights.is_some()) else { return };
        let event = PagerEvent::Segment {
            image,
            first_page: segment.first,
            pages: segment.pages,
            file_pages: segment.file_pages,
            writable: segment.writable(),
        };
        self.tell(Role::Pager, &event.into(), true);
    }

    /// Everything that the scheduler must know of the VM in a slot.
    fn tell_scheduler_of(&mut self, vms: &mut Table<B>, slot: Slot) {
        if let Some(vm) = vms.get(slot) {
            self.tell_all_of(Role::Sched, vm);
        } else if let Some(seed) = vms.waiting_in(slot) {
            let (frames, room) = (self.frames_needed(seed.image), self.room(vms));
            self.tell_scheduler(SchedEvent::Arrived { vm: seed.id, frames, room }, true);
        }
    }

    /// Everything that the component with this role must know of one VM.
    fn tell_all_of(&mut self, role: Role, vm: &mut Vm<B>) {
        let (id, seat, state) = (vm.id, vm.seat, vm.life.state());
        match (role, state) {
            (Role::Control | Role::Other, _) | (_, State::New | State::Ending) => {}
            (Role::Net, _) => self.attach(vm),
            (Role::Pager, _) => {
                let pages = vm.life.memory().map_or(0, crate::vm::Memory::pages);
                self.tell(role, &PagerEvent::VmStarted { vm: id, seat, image: vm.image, pages }.into(), true);
                if let State::Fault(page) = state {
                    self.tell_pager_of(id, seat, page);
                }
            }
            // It hears of this one when the page is there.
            (Role::Sched, State::Fault(_)) => self.queues.remove(Queue::Ready, vm.slot()),
            (Role::Sched, State::Ready) => {
                self.tell_scheduler(SchedEvent::Ready { vm: id, seat, weight: vm.share.weight }, true);
            }
            // It hears of this one when it can run.
            (Role::Sched, State::Idle { .. }) => {}
        }
    }
}
