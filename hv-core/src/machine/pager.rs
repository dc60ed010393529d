//! Pages: faults go to the pager, its commands are carried out. The pager chooses; the rules are enforced here and in
//! `vms::memory`.

use super::Machine;
use super::lifecycle::End;
use crate::components::Role;
use crate::vms::{MapError, Pending, State};
use abi::end::EndReason;
use abi::message::{BadMessage, Message};
use abi::pager::{PagerCommand, PagerEvent, THEN_RESUME};
use abi::vm::VmId;
use backend::{Backend, Flush};

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
    #[inline]
    pub(super) fn pager_command(&mut self, message: &Message) -> Result<(), BadMessage> {
        let bad = |what| BadMessage { kind: message.kind, what };
        let (id, page, count, source) = match PagerCommand::try_from(message)? {
            PagerCommand::MapZero { vm, page, count } => (vm, page, count, Source::Zero),
            PagerCommand::MapImage { vm, page, count } => (vm, page, count, Source::Golden),
            PagerCommand::CopyImage { vm, page } => (vm, page, 1, Source::Copy),
            PagerCommand::Resume { vm } => {
                self.resume(vm);
                return Ok(());
            }
            PagerCommand::Refuse { vm, page } => {
                if self.vms.by_id(vm).is_some_and(|vm| !matches!(vm.state, State::Ending | State::Waiting)) {
                    self.end_vm(vm.index, End::new(EndReason::OutOfMemory, page.into()));
                }
                return Ok(());
            }
        };
        if count > PAGES_MAX {
            return Err(bad("more pages than a command may name"));
        }
        // A VM that is gone or ending gets nothing, which is no error of the pager: it may not know yet.
        let Some(vm) = self.vms.by_id(id).filter(|vm| !matches!(vm.state, State::Ending | State::Waiting)) else {
            return Ok(());
        };
        let (Some(memory), Some(image)) = (&mut vm.memory, self.images.get(vm.image)) else { return Ok(()) };
        for page in page..page.saturating_add(count) {
            let done = match source {
                Source::Zero => memory.map_zero(&mut self.frames, page).map(|_| Flush::Unneeded),
                Source::Golden => memory.map_golden(&mut self.frames, page, image).map(|()| Flush::Unneeded),
                Source::Copy => memory.copy_golden(&mut self.frames, page, image),
            };
            match done {
                Ok(Flush::Unneeded) => {}
                Ok(Flush::Needed) => self.backend.flush(memory.tables()),
                Err(MapError::NoSuchPage) => return Err(bad("a page that the VM or its image does not have")),
                Err(MapError::NoFrame) => {
                    let free = self.frames.free_frames();
                    self.tell(Role::Pager, &Message::from(PagerEvent::OutOfFrames { vm: id, page, free }), true);
                    return Ok(());
                }
            }
        }
        if message.id == THEN_RESUME {
            self.resume(id);
        }
        Ok(())
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
