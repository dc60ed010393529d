//! What a component is told after its start: everything that it must know of the VMs that live, a few at a time, as its
//! ring has room.

use super::Machine;
use crate::components::Role;
use crate::vms::State;
use abi::limits::MAX_SEGMENTS;
use abi::message::Message;
use abi::net::NetEvent;
use abi::pager::PagerEvent;
use abi::sched::SchedEvent;
use backend::Backend;

impl<B: Backend> Machine<B> {
    /// First words to a component that has just been started.
    pub(super) fn hello(&mut self, rank: usize) {
        let free = self.frames.free_frames();
        let role = self.components.list[rank].role;
        match role {
            Role::Net => self.tell(role, &Message::from(NetEvent::Hello), true),
            Role::Sched => {
                let event = SchedEvent::Hello { quantum_ticks: self.quantum_ticks, free };
                self.tell(role, &Message::from(event), true);
            }
            Role::Pager => {
                let event = PagerEvent::Hello { frames: self.vm_frames, free };
                self.tell(role, &Message::from(event), true);
                for index in 0..self.images.len() {
                    for segment in 0..MAX_SEGMENTS {
                        self.tell_segment(index, segment);
                    }
                }
            }
            Role::Control | Role::Other => {}
        }
    }

    fn tell_segment(&mut self, index: usize, segment: usize) {
        let Ok(image) = u16::try_from(index) else { return };
        let Some(segment) = self.images.get(image).and_then(|image| image.segments.get(segment)) else { return };
        let event = PagerEvent::Segment {
            image,
            first_page: segment.first,
            pages: segment.pages,
            file_pages: segment.file_pages,
            writable: segment.writable,
        };
        self.tell(Role::Pager, &Message::from(event), true);
    }

    /// Go on telling a component of the VMs, from the slot where the last round stopped.
    pub(super) fn resync(&mut self, rank: usize) {
        let Some(component) = self.components.list.get_mut(rank) else { return };
        let (role, Some(mut slot)) = (component.role, component.resync) else { return };
        let slots = self.vms.len();
        while usize::from(slot) < slots {
            let component = &mut self.components.list[rank];
            if !component.ends.has_space() {
                component.resync = Some(slot);
                return;
            }
            self.tell_all_of(role, slot);
            slot += 1;
        }
        self.components.list[rank].resync = None;
    }

    /// Everything that the component with this role must know of one VM.
    fn tell_all_of(&mut self, role: Role, slot: u16) {
        let Some(vm) = self.vms.get(slot) else { return };
        let (id, image, state) = (vm.id, vm.image, vm.state);
        let pages = vm.memory.as_ref().map_or(0, crate::vms::Memory::pages);
        if state == State::Ending {
            return;
        }
        match (role, state) {
            (Role::Control | Role::Other, _) | (Role::Net, State::Waiting) => {}
            (Role::Net, _) => self.attach(slot),
            (Role::Pager, State::Waiting) => {}
            (Role::Pager, _) => {
                self.tell(role, &Message::from(PagerEvent::VmStarted { vm: id, image, pages }), true);
                if let State::Fault { page, .. } = state {
                    self.tell_pager_of(id, page);
                }
            }
            (Role::Sched, State::Waiting) => {
                let (frames, free) = (self.frames_needed(image), self.frames.free_frames());
                self.tell_scheduler(SchedEvent::Arrived { vm: id, frames, free }, true);
            }
            (Role::Sched, State::Fault { page, known: false }) => {
                // It hears of this one when the page is there.
                if let Some(vm) = self.vms.get(slot) {
                    vm.state = State::Fault { page, known: true };
                }
                self.ready.remove(slot);
            }
            (Role::Sched, State::Ready) => self.tell_scheduler(SchedEvent::Ready { vm: id }, true),
            // It hears of the others when they can run.
            (Role::Sched, _) => {}
        }
    }
}
