//! Pages: faults go to the pager, its commands are carried out. The pager chooses; the rules are enforced here and in
//! `vms::memory`.

use super::Machine;
use super::lifecycle::End;
use crate::components::Role;
use crate::vms::{MapError, Pending, State};
use abi::end::EndReason;
use abi::message::{BadMessage, Message};
use abi::pager::{PagerCommand, PagerEvent};
use abi::vm::VmId;
use vmx::backend::{Backend, Flush};

/// Pages that one command may name, so that its work is bounded.
const PAGES_MAX: u32 = 64;

impl<B: Backend> Machine<B> {
    /// A guest touched a page that is not there, or not in this way.
    pub(super) fn page_fault(&mut self, slot: u16, page: Pending) {
        self.counters.faults += 1;
        let Some(vm) = self.vms.get(slot) else { return };
        let id = vm.id;
        vm.state = State::Fault { page, known: false };
        self.tell_pager_of(id, page);
    }

    /// Tell the pager what a VM waits for.
    pub(super) fn tell_pager_of(&mut self, vm: VmId, page: Pending) {
        let Pending { page, access, present } = page;
        self.tell(Role::Pager, &Message::from(PagerEvent::Fault { vm, page, access, present }), true);
    }

    /// Carry out a command of the pager.
    pub(super) fn pager_command(&mut self, message: &Message) -> Result<(), BadMessage> {
        let bad = |what| BadMessage { kind: message.kind, what };
        match PagerCommand::try_from(message)? {
            PagerCommand::MapZero { count, .. } | PagerCommand::MapImage { count, .. } if count > PAGES_MAX => {
                return Err(bad("more pages than a command may name"));
            }
            PagerCommand::MapZero { vm, page, count } => {
                for page in page..page.saturating_add(count) {
                    if self.map(vm, page, Source::Zero).is_err() {
                        break;
                    }
                }
            }
            PagerCommand::MapImage { vm, page, count } => {
                for page in page..page.saturating_add(count) {
                    if self.map(vm, page, Source::Golden).is_err() {
                        break;
                    }
                }
            }
            PagerCommand::CopyImage { vm, page } => {
                // A failure has been reported to the pager by `map`.
                let _ = self.map(vm, page, Source::Copy);
            }
            PagerCommand::Resume { vm } => self.resume(vm),
            PagerCommand::Refuse { vm, page } => {
                if self.vms.by_id(vm).is_some_and(|vm| matches!(vm.state, State::Fault { .. })) {
                    self.end_vm(vm.index, End::new(EndReason::OutOfMemory, page.into()));
                }
            }
        }
        Ok(())
    }

    /// Give a VM a page. A VM that is gone or ending gets nothing, which is no error of the pager: it may not know yet.
    #[inline]
    fn map(&mut self, id: VmId, page: u32, source: Source) -> Result<(), ()> {
        let Some(vm) = self.vms.by_id(id) else { return Err(()) };
        if matches!(vm.state, State::Ending | State::Waiting) {
            return Err(());
        }
        let (Some(memory), Some(image)) = (&mut vm.memory, self.images.get(vm.image)) else { return Err(()) };
        let done = match source {
            Source::Zero => memory.map_zero(&mut self.frames, page).map(|_| Flush::Unneeded),
            Source::Golden => memory.map_golden(&mut self.frames, page, image).map(|()| Flush::Unneeded),
            Source::Copy => memory.copy_golden(&mut self.frames, page, image),
        };
        match done {
            Ok(Flush::Unneeded) => Ok(()),
            Ok(Flush::Needed) => {
                self.backend.flush(memory.tables());
                Ok(())
            }
            Err(MapError::NoSuchPage) => Err(()),
            Err(MapError::NoFrame) => {
                let free = self.frames.free_frames();
                self.tell(Role::Pager, &Message::from(PagerEvent::OutOfFrames { vm: id, page, free }), true);
                Err(())
            }
        }
    }

    /// A VM's fault is served. It goes on with its turn when it still has it.
    #[inline]
    fn resume(&mut self, id: VmId) {
        let Some(vm) = self.vms.by_id(id) else { return };
        match vm.state {
            State::Fault { known: false, .. } => vm.state = State::Ready,
            State::Fault { known: true, .. } => self.wake(id.index),
            _ => {}
        }
    }
}

/// Where a page's content comes from.
#[derive(Clone, Copy)]
enum Source {
    Zero,
    Golden,
    Copy,
}
