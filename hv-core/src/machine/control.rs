//! Requests of the controller (`abi::control`): the monitor component now, the supervisor VM later.

use super::Machine;
use super::lifecycle::End;
use super::syscalls::Death;
use crate::components::Role;
use crate::cpu;
use crate::memory::{CLASSES, OwnerClass};
use crate::vms::State;
use abi::control::{ControlReply, ControlRequest, status, vm_state};
use abi::end::EndReason;
use abi::limits::Name;
use abi::message::{BadMessage, Message};
use abi::vm::VmId;
use backend::Backend;

impl<B: Backend> Machine<B> {
    /// Serve one request, and answer it.
    pub(super) fn control_request(&mut self, message: &Message) -> Result<(), BadMessage> {
        let id = message.id;
        let done = |status, value| ControlReply::Done { status, value };
        let found = |found| if found { done(status::OK, 0) } else { done(status::NOT_FOUND, 0) };
        let last = match ControlRequest::try_from(message)? {
            ControlRequest::Frames => {
                self.reply_frames(id);
                done(status::OK, 0)
            }
            ControlRequest::Machine => {
                self.reply_machine(id);
                return Ok(());
            }
            ControlRequest::Vm { index } => self.describe_vm(index).unwrap_or(done(status::NOT_FOUND, 0)),
            ControlRequest::Component { index } => self.describe_component(index).unwrap_or(done(status::NOT_FOUND, 0)),
            ControlRequest::Image { index } => match self.images.get(index) {
                Some(image) => {
                    ControlReply::Image { index, name: image.name(), memory_bytes: image.entry.memory_bytes }
                }
                None if usize::from(index) < self.images.len() => {
                    ControlReply::Image { index, name: Name::EMPTY, memory_bytes: 0 }
                }
                None => done(status::NOT_FOUND, 0),
            },
            ControlRequest::Kill { component } => {
                let exists = usize::from(component) < self.components.list.len();
                // The answer comes first: the controller may be asking for its own end.
                self.reply(id, found(exists));
                if exists {
                    self.kill(component.into(), Death::Killed);
                }
                return Ok(());
            }
            ControlRequest::Create { image, args } => match self.create(image, args) {
                Ok(vm) => done(status::OK, vm.raw().into()),
                Err(status) => done(status, 0),
            },
            ControlRequest::Destroy { vm } => {
                let exists = self.vms.by_id(vm).is_some();
                if exists {
                    let _ = self.end_vm(vm.index, End::new(EndReason::Destroyed, 0));
                }
                found(exists)
            }
            ControlRequest::Shutdown { vm } => {
                let exists = self.vms.by_id(vm).is_some();
                if exists {
                    self.raise(vm.index, abi::guest::pending::SHUTDOWN);
                }
                found(exists)
            }
            ControlRequest::PowerOff => self.hardware.power_off(),
        };
        self.reply(id, last);
        Ok(())
    }

    fn reply(&mut self, id: u32, reply: ControlReply) {
        let message = Message { id, ..Message::from(reply) };
        self.tell(Role::Control, &message, true);
    }

    fn reply_frames(&mut self, id: u32) {
        let counts = *self.frames.counts();
        let vms = self.vms.living() as u64;
        for (class, frames) in CLASSES.into_iter().zip(counts) {
            let owners = match class {
                OwnerClass::VmMemory | OwnerClass::VmMeta | OwnerClass::VmTables => vms,
                OwnerClass::Component => self.components.list.len() as u64,
                _ => 1,
            };
            let owner = Name::new(class.name()).unwrap_or(Name::EMPTY);
            self.reply(id, ControlReply::Frames { owner, frames, owners });
        }
    }

    fn reply_machine(&mut self, id: u32) {
        let c = self.counters;
        let machine = ControlReply::Machine {
            tsc: cpu::tsc(),
            idle_ticks: c.idle_ticks,
            tsc_hz: self.hardware.tsc_hz(),
            component_ticks: c.component_ticks,
            guest_ticks: c.guest_ticks,
        };
        self.reply(id, machine);
        let exits = ControlReply::Exits {
            exits: c.exits,
            hypercalls: c.hypercalls,
            interrupts: c.interrupts,
            syscalls: c.syscalls,
            faults: c.faults,
            fallbacks: c.fallbacks,
        };
        self.reply(id, exits);
    }

    fn describe_vm(&mut self, index: u16) -> Option<ControlReply> {
        let vm = self.vms.get(index)?;
        let state = match vm.state {
            State::Waiting => vm_state::WAITING,
            State::Ready => vm_state::READY,
            State::Idle { .. } => vm_state::IDLE,
            State::Fault { .. } => vm_state::FAULT,
            State::Ending => vm_state::ENDING,
        };
        let (memory, tables, shared) = vm.memory.as_ref().map_or((0, 0, 0), crate::vms::Memory::counts);
        let id: VmId = vm.id;
        Some(ControlReply::Vm {
            vm: id,
            image: vm.image,
            state,
            ran_ticks: vm.ran_ticks,
            memory,
            metadata: super::lifecycle::METADATA_FRAMES,
            tables,
            shared,
        })
    }

    fn describe_component(&self, index: u16) -> Option<ControlReply> {
        let component = self.components.list.get(usize::from(index))?;
        Some(ControlReply::Component {
            index,
            name: component.entry.name,
            incarnation: component.incarnation,
            ran_ticks: component.ran_ticks,
        })
    }
}
