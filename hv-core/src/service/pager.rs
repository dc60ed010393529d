//! Pages: faults go to the pager, its commands are carried out. The pager chooses; the rules are enforced here and in
//! `vm::memory`.

use crate::board::Board;
use crate::component::Role;
use crate::kernel::{Cpu, Kernel};
use crate::memory::Frames;
use crate::vm::{End, Image, Memory, PageError, PageFault, Queue, Table, Vm};
use abi::end::EndReason;
use abi::message::{BadMessage, Message};
use abi::pager::{PagerCommand, PagerEvent, THEN_RESUME};
use abi::vm::{Seat, VmId};
use backend::{Backend, Flush};

/// Pages that one command may name, so that its work is bounded.
const PAGES_MAX: u32 = 64;

/// Where a page's content comes from.
#[derive(Clone, Copy)]
enum Source {
    Zero,
    Golden,
    Copy,
}

impl Source {
    fn give<B: Backend>(
        self,
        memory: &mut Memory<B>,
        frames: &mut Frames,
        page: u32,
        image: &Image,
    ) -> Result<Flush, PageError> {
        match self {
            Source::Zero => memory.map_zero(frames, page, image).map(|_| Flush::Unneeded),
            Source::Golden => memory.map_golden(frames, page, image).map(|()| Flush::Unneeded),
            Source::Copy => memory.copy_golden(frames, page, image),
        }
    }
}

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Carry out a command of the pager.
    ///
    /// # Errors
    /// What is no command, or names what the VM or its image does not have. A VM that is gone, ending or not admitted gets
    /// nothing, which is no error: the pager may not know yet.
    #[inline]
    pub fn pager_command(&mut self, message: &Message) -> Result<(), BadMessage> {
        let Self { vms, cpu, .. } = self;
        let (id, page, count, source) = match PagerCommand::try_from(message)? {
            PagerCommand::MapZero { vm, page, count } => (vm, page, count, Source::Zero),
            PagerCommand::MapImage { vm, page, count } => (vm, page, count, Source::Golden),
            PagerCommand::CopyImage { vm, page } => (vm, page, 1, Source::Copy),
            PagerCommand::Resume { vm } => {
                if let Some(vm) = admitted(vms, vm) {
                    cpu.resume(vm);
                }
                return Ok(());
            }
            PagerCommand::Refuse { vm, page } => {
                if let Some(vm) = admitted(vms, vm) {
                    cpu.end(vm, End::new(EndReason::OutOfMemory, page.into()));
                }
                return Ok(());
            }
        };
        let bad = |what| BadMessage { kind: message.kind, what };
        if count > PAGES_MAX {
            return Err(bad("more pages than a command may name"));
        }
        let Some(vm) = admitted(vms, id) else { return Ok(()) };
        match cpu.give_pages(vm, page, count, source) {
            Ok(()) if message.id == THEN_RESUME => cpu.resume(vm),
            Ok(()) => {}
            Err((_, PageError::NoSuchPage)) => return Err(bad("a page that the VM or its image does not have")),
            Err((page, PageError::NoFrame)) => {
                let (seat, free) = (vm.seat, cpu.frames.free_frames());
                cpu.tell(Role::Pager, &PagerEvent::OutOfFrames { vm: id, seat, page, free }.into(), true);
            }
        }
        Ok(())
    }
}

/// The VM of this name, if it lives and is admitted.
#[inline]
fn admitted<B: Backend>(vms: &mut Table<B>, id: VmId) -> Option<&mut Vm<B>> {
    vms.by_id(id).filter(|vm| vm.life.body().is_some())
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// A guest touched a page that is not there, or not in this way.
    pub fn page_fault(&mut self, vm: &mut Vm<B>, page: PageFault) {
        self.counters.faults += 1;
        vm.life.fault(page);
        self.tell_pager_of(vm.id, vm.seat, page);
    }

    /// Tell the pager what a VM waits for.
    pub fn tell_pager_of(&mut self, vm: VmId, seat: Seat, page: PageFault) {
        let PageFault { page, access, present } = page;
        self.tell(Role::Pager, &PagerEvent::Fault { vm, seat, page, access, present }.into(), true);
    }

    /// Give an admitted VM pages. The error names the page that it failed at; those before it stay.
    #[inline]
    fn give_pages(&mut self, vm: &mut Vm<B>, first: u32, count: u32, source: Source) -> Result<(), (u32, PageError)> {
        let (Some(body), Some(image)) = (vm.life.body_mut(), self.images.get(vm.image)) else {
            return Err((first, PageError::NoSuchPage));
        };
        for page in first..first.saturating_add(count) {
            let flush = source.give(&mut body.memory, &mut self.frames, page, image).map_err(|error| (page, error))?;
            if flush == Flush::Needed {
                self.backend.flush(&mut vm.vcpu, body.memory.tables());
            }
        }
        body.registers.set_held(body.memory.own());
        Ok(())
    }

    /// A VM's fault is served. It goes on with its turn when it still has it.
    #[inline]
    fn resume(&mut self, vm: &mut Vm<B>) {
        if vm.life.page_fault().is_none() {
            return;
        }
        if self.queues.contains(Queue::Ready, vm.slot()) {
            // The scheduler has not heard that it had to wait.
            vm.life.wake();
        } else {
            self.wake(vm);
        }
    }
}
