//! Pages: faults go to the VM's pager, its commands are carried out. The pager chooses; the rules are enforced here and in
//! `vm::memory`. Where there are several pagers, each VM has one of them, and another one's commands do not reach it.

use crate::board::Board;
use crate::component::EndpointId;
use crate::kernel::{Cpu, Kernel};
use crate::memory::Frames;
use crate::vm::{End, Image, Memory, PageError, PageFault, Pages, Queue, Shortage, State, Table, Vm};
use abi::end::EndReason;
use abi::limits::MAX_SEGMENTS;
use abi::message::{BadMessage, Malformed, Message};
use abi::pager::{PagerCommand, PagerEvent, THEN_RESUME};
use abi::vm::{ImageId, Seat, VmId};
use backend::{Backend, Flush};

/// Pages that one command may name, so that its work is bounded.
const PAGES_MAX: u32 = 64;
/// How often a VM that is short of memory is looked at, in milliseconds.
const RETRY_MS: u64 = 10;

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
    /// Carry out a command of the pager at this endpoint.
    ///
    /// # Errors
    /// What is no command, or names what the VM or its image does not have. A VM that is gone, ending, not admitted or
    /// another pager's gets nothing, which is no error: the pager may not know yet.
    #[inline]
    pub fn pager_command(&mut self, from: EndpointId, message: &Message) -> Result<(), BadMessage> {
        let Self { vms, cpu, .. } = self;
        let (id, page, count, source) = match PagerCommand::try_from(message)? {
            PagerCommand::MapZero { vm, page, count } => (vm, page, count, Source::Zero),
            PagerCommand::MapImage { vm, page, count } => (vm, page, count, Source::Golden),
            PagerCommand::CopyImage { vm, page } => (vm, page, 1, Source::Copy),
            PagerCommand::Resume { vm } => {
                if let Some(vm) = admitted(vms, vm, from) {
                    cpu.bill(from, vm);
                    cpu.resume(vm);
                }
                return Ok(());
            }
            PagerCommand::Refuse { vm, page } => {
                if let Some(vm) = admitted(vms, vm, from) {
                    cpu.bill(from, vm);
                    cpu.end(vm, End::new(EndReason::OutOfMemory, page.into()));
                }
                return Ok(());
            }
            PagerCommand::Out { vm } => {
                if let Some(vm) = admitted(vms, vm, from) {
                    cpu.bill(from, vm);
                }
                self.let_out(from, vm);
                return Ok(());
            }
            PagerCommand::Look { vm, page, pages } => {
                if let Some(vm) = admitted(vms, vm, from) {
                    cpu.bill(from, vm);
                }
                self.look_at_pages(from, vm, Pages { first: page, bits: pages });
                return Ok(());
            }
            PagerCommand::Away { vm, page, pages } => {
                if let Some(vm) = admitted(vms, vm, from) {
                    cpu.bill(from, vm);
                }
                self.let_pages_out(from, vm, Pages { first: page, bits: pages });
                return Ok(());
            }
        };
        let bad = |what| BadMessage { kind: message.kind, what };
        if count > PAGES_MAX {
            return Err(bad(Malformed::PageCount));
        }
        let Some(vm) = admitted(vms, id, from) else { return Ok(()) };
        cpu.bill(from, vm);
        match cpu.give_pages(vm, page, count, source) {
            Ok(()) if message.id == THEN_RESUME => cpu.resume(vm),
            Ok(()) => {}
            Err((_, PageError::NoSuchPage)) => return Err(bad(Malformed::Page)),
            Err((page, PageError::Limit)) => cpu.end(vm, End::new(EndReason::OverLimit, page.into())),
            Err((page, PageError::NoFrame)) => {
                let (seat, free) = (vm.seat, cpu.frames.spare());
                // Where that does not fit, the fault itself is told again.
                cpu.tell_of(from, seat, false, &PagerEvent::OutOfFrames { vm: id, seat, page, free }.into(), true);
                cpu.run_short(vm);
            }
        }
        Ok(())
    }
}

/// The VM of this name, if it lives, is admitted, and has its pages from this pager.
#[inline]
fn admitted<B: Backend>(vms: &mut Table<B>, id: VmId, pager: EndpointId) -> Option<&mut Vm<B>> {
    vms.by_id(id).filter(|vm| vm.pager == pager && vm.life.body().is_some())
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// A guest touched a page that is not there, or not in this way.
    pub fn page_fault(&mut self, vm: &mut Vm<B>, page: PageFault) {
        self.counters.faults += 1;
        vm.charges.faults = vm.charges.faults.wrapping_add(1);
        vm.life.fault(page);
        if vm.life.body().is_some_and(|body| body.memory.has_away()) && self.want_page(vm) {
            return;
        }
        self.tell_pager_of(vm, page);
    }

    /// Tell a VM's pager what the VM waits for. (Not inlined, as [`crate::component::Endpoint::tell`].)
    #[inline(never)]
    fn tell_pager_of(&mut self, vm: &Vm<B>, page: PageFault) {
        let PageFault { page, access, present } = page;
        let event = PagerEvent::Fault { vm: vm.id, seat: vm.seat, page, access, present };
        self.tell_of(vm.pager, vm.seat, false, &event.into(), true);
    }

    /// What a pager has still to be told of a VM.
    pub(super) fn tell_owed_pager(&mut self, vm: &Vm<B>) {
        if let State::Fault(page) = vm.life.state()
            && !Self::is_away(vm, page.page)
        {
            self.tell_pager_of(vm, page);
        }
    }

    /// First words to a pager: the machine's memory, and the segments of all images.
    pub(super) fn pager_hello(&mut self, to: EndpointId) {
        let event = PagerEvent::Hello { frames: self.vm_frames, free: self.frames.unreserved() };
        self.tell(to, &event.into(), true);
        for index in (0..).take(self.images.len()) {
            self.tell_image(to, ImageId::new(index));
        }
    }

    /// The segments of an image.
    pub(super) fn tell_image(&mut self, to: EndpointId, image: ImageId) {
        for segment in 0..MAX_SEGMENTS {
            self.tell_segment(to, image, segment);
        }
    }

    fn tell_segment(&mut self, to: EndpointId, image: ImageId, segment: usize) {
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
        self.tell(to, &event.into(), true);
    }

    /// A VM is admitted: its pager is told, and acts when the VM waits for a page, or at once where it has to know `now`.
    pub fn attach_pager(&mut self, vm: &Vm<B>, now: bool) {
        let (pages, reserve) =
            vm.life.memory().map_or((0, 0), |memory| (memory.pages(), memory.reservation().claim().reserve));
        let event = PagerEvent::VmStarted { vm: vm.id, seat: vm.seat, image: vm.image, pages, reserve };
        self.tell(vm.pager, &event.into(), now);
    }

    /// Everything that a pager must know of a VM of its own.
    pub(super) fn tell_pager_all_of(&mut self, vm: &Vm<B>) {
        self.attach_pager(vm, true);
        if let State::Fault(page) = vm.life.state()
            && !Self::is_away(vm, page.page)
        {
            self.tell_pager_of(vm, page);
        }
    }

    /// A VM is gone, and so is its seat.
    pub fn detach_pager(&mut self, pager: EndpointId, vm: VmId, seat: Seat) {
        self.tell(pager, &PagerEvent::VmEnded { vm, seat }.into(), false);
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
        body.registers.set_held(body.memory.reservation().held());
        Ok(())
    }

    /// No frame is free for the page that a VM waits for: it waits on, until its time is over.
    #[cold]
    fn run_short(&mut self, vm: &mut Vm<B>) {
        if vm.life.page_fault().is_none() {
            // The pager gave what nobody had asked for.
            return;
        }
        let now = self.board.now();
        let retry = now.saturating_add(self.time.milliseconds(RETRY_MS));
        // Stolen time is not waited: there was nobody who could have given memory back.
        let until = self.steady.look(now).saturating_add(self.memory_wait_ticks);
        vm.life.run_short(Shortage { retry, until });
        let deadline = vm.deadline();
        self.timers.set(vm.seat, deadline);
        self.arm(deadline);
    }

    /// The time has come to look again at a VM that is short of memory.
    #[cold]
    pub fn look_for_memory(&mut self, vm: &mut Vm<B>, now: u64) {
        let (Some(shortage), Some(fault)) = (vm.life.shortage(), vm.life.page_fault()) else { return };
        if shortage.until <= self.steady.look(now) {
            return self.end(vm, End::new(EndReason::OutOfMemory, fault.page.into()));
        }
        let retry = now.saturating_add(self.time.milliseconds(RETRY_MS));
        vm.life.run_short(Shortage { retry, ..shortage });
        if self.want_page(vm) {
            return;
        }
        if self.frames.spare() > 0 {
            self.tell_pager_of(vm, fault);
        }
    }

    /// A VM's fault is served. It goes on with its turn when it still has it.
    #[inline]
    pub(super) fn resume(&mut self, vm: &mut Vm<B>) {
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
