//! Requests of controllers (`abi::control`): the monitor component now, the supervisor VM later. Each hears the answers to what it
//! has asked, and nobody else's.

use crate::board::Board;
use crate::component::{Death, EndpointId, NoSwap, Unfit};
use crate::kernel::{Cpu, Kernel};
use crate::memory::{CLASSES, OwnerClass};
use crate::vm::{CreateError, End, IdentityError, METADATA_FRAMES, Memory, Seed, State};
use abi::control::{ControlReply, ControlRequest, policy_state, status, vm_state};
use abi::end::EndReason;
use abi::limits::Name;
use abi::message::{BadMessage, Message};
use abi::vm::{ImageId, Slot, VmId};
use backend::Backend;

/// Slots that one request looks at, at most.
const LOOK: u32 = 1024;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Serve one request of the controller at this endpoint, and answer it.
    ///
    /// # Errors
    /// What is no request.
    pub(super) fn control_request(&mut self, from: EndpointId, message: &Message) -> Result<(), BadMessage> {
        let id = message.id;
        let found = |found: bool| done(if found { status::OK } else { status::NOT_FOUND }, 0);
        let last = match ControlRequest::try_from(message)? {
            ControlRequest::Frames => {
                self.reply_frames(from, id);
                done(status::OK, 0)
            }
            ControlRequest::Machine => {
                self.cpu.reply_machine(from, id);
                return Ok(());
            }
            ControlRequest::Vm { slot } => self.describe_vm(slot).unwrap_or(done(status::NOT_FOUND, 0)),
            ControlRequest::NextVm { slot } => self.describe_next_vm(slot),
            ControlRequest::Component { index } => {
                self.cpu.describe_component(index).unwrap_or(done(status::NOT_FOUND, 0))
            }
            ControlRequest::Image { image } => self.cpu.describe_image(image).unwrap_or(done(status::NOT_FOUND, 0)),
            ControlRequest::Share { slot } => self.describe_share(slot).unwrap_or(done(status::NOT_FOUND, 0)),
            ControlRequest::Policy { component, policy } => {
                self.cpu.describe_policy(component, policy).unwrap_or(done(status::NOT_FOUND, 0))
            }
            ControlRequest::Swap { component, policy } => {
                match self.cpu.begin_swap(component.into(), policy.into(), id, from) {
                    // Answered when it is done.
                    Ok(()) => return Ok(()),
                    Err(why) => done(status_of_swap(why), 0),
                }
            }
            ControlRequest::Kill { component } => {
                let exists = usize::from(component) < self.cpu.components.list.len();
                // The answer comes first: the controller may be asking for its own end.
                self.cpu.reply(from, id, found(exists));
                if exists {
                    self.cpu.condemn(component.into(), Death::Killed);
                }
                return Ok(());
            }
            // Others are told of these, and one of them is behind with its ring: later.
            ControlRequest::Create { .. } | ControlRequest::Destroy { .. } | ControlRequest::Identity { .. }
                if !self.cpu.all_have_room() =>
            {
                done(status::BUSY, 0)
            }
            ControlRequest::Create { image, args, share } => match self.create_with(image, &args, share) {
                Ok(vm) => done(status::OK, vm.raw()),
                Err(why) => done(status_of(why), 0),
            },
            ControlRequest::Destroy { vm } => found(self.destroy(vm)),
            ControlRequest::Shutdown { vm } => found(self.raise(vm, abi::guest::pending::SHUTDOWN)),
            ControlRequest::Identity { vm, ipv4, args } => match self.change_identity(vm, ipv4, &args) {
                Ok(()) => done(status::OK, 0),
                Err(IdentityError::NoVm) => done(status::NOT_FOUND, 0),
                Err(_) => done(status::BAD_REQUEST, 0),
            },
            ControlRequest::PowerOff => {
                self.cpu.board.power_off();
                done(status::OK, 0)
            }
        };
        self.cpu.reply(from, id, last);
        Ok(())
    }

    /// End a VM, whether it was admitted or not. False when there is none of this name.
    pub fn destroy(&mut self, id: VmId) -> bool {
        let Self { vms, cpu, .. } = self;
        let end = End::new(EndReason::Destroyed, 0);
        if vms.waiting(id).is_some() {
            cpu.end_waiting(vms, id, end);
            return true;
        }
        let vm = vms.by_id(id);
        vm.map(|vm| cpu.end(vm, end)).is_some()
    }

    fn reply_frames(&mut self, to: EndpointId, id: u32) {
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
            cpu.reply(to, id, ControlReply::Frames { owner, frames, owners });
        }
    }

    fn describe_share(&mut self, slot: Slot) -> Option<ControlReply> {
        if let Some(Seed { id: vm, share, .. }) = self.vms.waiting_in(slot) {
            return Some(ControlReply::Share { vm, share });
        }
        let vm = self.vms.get(slot)?;
        Some(ControlReply::Share { vm: vm.id, share: vm.share })
    }

    /// The VM in this slot or the next one that lives.
    pub fn describe_next_vm(&mut self, from: Slot) -> ControlReply {
        let used = u32::try_from(self.vms.used()).unwrap_or(u32::MAX);
        let end = from.number().saturating_add(LOOK).min(used);
        match (from.number()..end).find_map(|number| self.describe_vm(Slot::new(number))) {
            Some(vm) => vm,
            None if end < used => done(status::GO_ON, end.into()),
            None => done(status::NOT_FOUND, 0),
        }
    }

    fn describe_vm(&mut self, slot: Slot) -> Option<ControlReply> {
        if let Some(Seed { id: vm, image, .. }) = self.vms.waiting_in(slot) {
            let state = vm_state::WAITING;
            return Some(ControlReply::Vm {
                vm,
                image,
                state,
                ran_ticks: 0,
                memory: 0,
                metadata: 0,
                tables: 0,
                shared: 0,
            });
        }
        let vm = self.vms.get(slot)?;
        let state = match vm.life.state() {
            State::New => vm_state::WAITING,
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
    fn reply(&mut self, to: EndpointId, id: u32, reply: ControlReply) {
        let message = Message { id, ..Message::from(reply) };
        self.tell(to, &message, true);
    }

    /// The request `id` of this controller is done.
    pub fn reply_done(&mut self, to: EndpointId, id: u32) {
        self.reply(to, id, done(status::OK, 0));
    }

    fn describe_policy(&self, component: u16, policy: u16) -> Option<ControlReply> {
        let component = self.components.list.get(usize::from(component))?;
        let index = usize::from(policy);
        let policies = &component.policies;
        let policy = policies.get(index)?;
        let state = match policy.program {
            Ok(_) if index == policies.running() => policy_state::RUNS,
            Ok(_) => policy_state::READY,
            Err(Unfit::NoModule) => policy_state::MISSING,
            Err(Unfit::BadModule(_)) => policy_state::REFUSED,
        };
        // No more than the manifest has room for.
        let count = u16::try_from(policies.len()).unwrap_or(u16::MAX);
        Some(ControlReply::Policy { component: component.entry.name, name: policy.name, policies: count, state })
    }

    fn reply_machine(&mut self, to: EndpointId, id: u32) {
        let c = self.counters;
        let machine = ControlReply::Machine {
            tsc: self.board.now(),
            idle_ticks: c.idle_ticks,
            tsc_hz: self.time.tsc_hz(),
            component_ticks: c.component_ticks,
            guest_ticks: c.guest_ticks,
        };
        self.reply(to, id, machine);
        let exits = ControlReply::Exits {
            exits: c.exits,
            hypercalls: c.hypercalls,
            interrupts: c.interrupts,
            syscalls: c.syscalls,
            faults: c.faults,
            fallbacks: c.fallbacks,
            gap_ticks: c.gap_ticks,
        };
        self.reply(to, id, exits);
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
    fn describe_image(&self, id: ImageId) -> Option<ControlReply> {
        match self.images.get(id) {
            Some(image) => {
                Some(ControlReply::Image { image: id, name: image.name(), memory_bytes: image.entry.memory_bytes })
            }
            None if id.index() < self.images.len() => {
                Some(ControlReply::Image { image: id, name: Name::EMPTY, memory_bytes: 0 })
            }
            None => None,
        }
    }
}

const fn done(status: u32, value: u64) -> ControlReply {
    ControlReply::Done { status, value }
}

const fn status_of_swap(why: NoSwap) -> u32 {
    match why {
        NoSwap::NoPolicy => status::NOT_FOUND,
        NoSwap::Unfit(Unfit::NoModule) => status::NO_MODULE,
        NoSwap::Unfit(Unfit::BadModule(_)) => status::BAD_MODULE,
        NoSwap::Busy => status::BUSY,
    }
}

const fn status_of(why: CreateError) -> u32 {
    match why {
        CreateError::UnknownImage => status::NOT_FOUND,
        CreateError::SlotsTaken | CreateError::ArgumentsTaken => status::NO_SPACE,
        CreateError::BadShare => status::BAD_REQUEST,
    }
}
