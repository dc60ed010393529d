//! Requests of the controller (`abi::control`): the monitor component now, the supervisor VM later.

use crate::board::Board;
use crate::component::{Death, Role};
use crate::kernel::{Cpu, Kernel};
use crate::memory::{CLASSES, OwnerClass};
use crate::vm::{CreateError, End, METADATA_FRAMES, Memory, State};
use abi::control::{ControlReply, ControlRequest, status, vm_state};
use abi::end::EndReason;
use abi::limits::Name;
use abi::message::{BadMessage, Message};
use backend::Backend;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Serve one request, and answer it.
    ///
    /// # Errors
    /// What is no request.
    pub(super) fn control_request(&mut self, message: &Message) -> Result<(), BadMessage> {
        let id = message.id;
        let found = |found: bool| done(if found { status::OK } else { status::NOT_FOUND }, 0);
        let last = match ControlRequest::try_from(message)? {
            ControlRequest::Frames => {
                self.reply_frames(id);
                done(status::OK, 0)
            }
            ControlRequest::Machine => {
                self.cpu.reply_machine(id);
                return Ok(());
            }
            ControlRequest::Vm { index } => self.describe_vm(index).unwrap_or(done(status::NOT_FOUND, 0)),
            ControlRequest::Component { index } => {
                self.cpu.describe_component(index).unwrap_or(done(status::NOT_FOUND, 0))
            }
            ControlRequest::Image { index } => self.cpu.describe_image(index).unwrap_or(done(status::NOT_FOUND, 0)),
            ControlRequest::Kill { component } => {
                let exists = usize::from(component) < self.cpu.components.list.len();
                // The answer comes first: the controller may be asking for its own end.
                self.cpu.reply(id, found(exists));
                if exists {
                    self.cpu.condemn(component.into(), Death::Killed);
                }
                return Ok(());
            }
            ControlRequest::Create { image, args, share } => match self.create_with(image, args, share) {
                Ok(vm) => done(status::OK, vm.raw().into()),
                Err(why) => done(status_of(why), 0),
            },
            ControlRequest::Destroy { vm } => {
                let vm = self.vms.by_id(vm);
                let exists = vm.is_some();
                if let Some(vm) = vm {
                    self.cpu.end(vm, End::new(EndReason::Destroyed, 0));
                }
                found(exists)
            }
            ControlRequest::Shutdown { vm } => {
                let vm = self.vms.by_id(vm);
                let exists = vm.is_some();
                if let Some(vm) = vm {
                    self.cpu.raise(vm, abi::guest::pending::SHUTDOWN);
                }
                found(exists)
            }
            ControlRequest::PowerOff => {
                self.cpu.board.power_off();
                done(status::OK, 0)
            }
        };
        self.cpu.reply(id, last);
        Ok(())
    }

    fn reply_frames(&mut self, id: u32) {
        let vms = self.vms.living() as u64;
        let cpu = &mut self.cpu;
        let counts = *cpu.frames.counts();
        for (class, frames) in CLASSES.into_iter().zip(counts) {
            let owners = match class {
                OwnerClass::VmMemory | OwnerClass::VmMeta | OwnerClass::VmTables => vms,
                OwnerClass::Component => cpu.components.list.len() as u64,
                _ => 1,
            };
            let owner = Name::new(class.name()).unwrap_or(Name::EMPTY);
            cpu.reply(id, ControlReply::Frames { owner, frames, owners });
        }
    }

    fn describe_vm(&mut self, index: u16) -> Option<ControlReply> {
        let vm = self.vms.get(index)?;
        let state = match vm.life.state() {
            State::Waiting => vm_state::WAITING,
            State::Ready => vm_state::READY,
            State::Idle { .. } => vm_state::IDLE,
            State::Fault(_) => vm_state::FAULT,
            State::Ending => vm_state::ENDING,
        };
        let (memory, tables, shared) = vm.life.memory().map_or((0, 0, 0), Memory::counts);
        Some(ControlReply::Vm {
            vm: vm.id,
            image: vm.image,
            state,
            ran_ticks: vm.ran_ticks,
            memory,
            metadata: METADATA_FRAMES,
            tables,
            shared,
        })
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    fn reply(&mut self, id: u32, reply: ControlReply) {
        let message = Message { id, ..Message::from(reply) };
        self.tell(Role::Control, &message, true);
    }

    fn reply_machine(&mut self, id: u32) {
        let c = self.counters;
        let machine = ControlReply::Machine {
            tsc: self.board.now(),
            idle_ticks: c.idle_ticks,
            tsc_hz: self.time.tsc_hz(),
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

    fn describe_component(&self, index: u16) -> Option<ControlReply> {
        let component = self.components.list.get(usize::from(index))?;
        Some(ControlReply::Component {
            index,
            name: component.entry.name,
            incarnation: component.incarnation,
            ran_ticks: component.ran_ticks,
        })
    }

    /// An image; one that was refused at boot has no name.
    fn describe_image(&self, index: u16) -> Option<ControlReply> {
        match self.images.get(index) {
            Some(image) => {
                Some(ControlReply::Image { index, name: image.name(), memory_bytes: image.entry.memory_bytes })
            }
            None if usize::from(index) < self.images.len() => {
                Some(ControlReply::Image { index, name: Name::EMPTY, memory_bytes: 0 })
            }
            None => None,
        }
    }
}

const fn done(status: u32, value: u64) -> ControlReply {
    ControlReply::Done { status, value }
}

const fn status_of(why: CreateError) -> u32 {
    match why {
        CreateError::UnknownImage => status::NOT_FOUND,
        CreateError::SlotsTaken | CreateError::OutOfFrames => status::NO_SPACE,
        CreateError::BadShare => status::BAD_REQUEST,
    }
}
