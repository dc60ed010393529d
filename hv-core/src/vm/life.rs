//! The life of a VM: every state that it can be in, and every way from one to another. Nobody else changes it.
//!
//! It begins with the admission: a VM that waits for the gatekeeper is a record ([`super::Table`]) and nothing else.
//!
//! ```text
//! New -> Ready <-> Idle <-> Leaving -> (out: a record, and a bundle in the pool)
//!  |      | ^------ Fault <- Ready
//!  |      ^------ Coming <- New
//!  +------+-> Ending -> (its frames are freed, and it is gone)
//! ```
//!
//! One that can run or idles may be paused, and can run when it goes on.
//!
//! One that was out is built anew, as one that has never run, and comes back from its bundle instead of its image.

use super::{Console, Memory, Registers};
use abi::end::EndReason;
use abi::pager::Access;
use backend::Backend;

/// Why a VM ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub reason: EndReason,
    /// What it means depends on the reason: [`EndReason`].
    pub detail: u64,
}

impl End {
    pub const fn new(reason: EndReason, detail: u64) -> Self {
        End { reason, detail }
    }
}

/// A page that a VM waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// Guest page number.
    pub page: u32,
    /// How it was touched.
    pub access: Access,
    /// Whether a page is there that may not be touched in this way.
    pub present: bool,
}

/// No frame was free for the page that a VM waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// TSC at which its pager is asked again.
    pub retry: u64,
    /// Steady time ([`crate::kernel::Steady`]) at which it has waited long enough, and ends.
    pub until: u64,
}

/// What a VM does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is being built; it has no memory yet.
    New,
    /// It can run.
    Ready,
    /// It idles until an enabled interrupt is pending or `until`.
    Idle {
        /// TSC at which the idle ends, `u64::MAX` for never.
        until: u64,
    },
    /// It waits for a page.
    Fault(PageFault),
    /// It stands still until somebody lets it go on.
    Paused,
    /// It idles, and is on its way out: it does not run before it is known whether it stays.
    Leaving {
        /// As of [`State::Idle`].
        until: u64,
    },
    /// It is on its way in: its memory comes back from the pool.
    Coming,
    /// It has ended. Its memory is freed when nobody shares it any more.
    Ending,
}

/// Devices whose component shares pages with the VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Devices(u8);

impl Devices {
    /// The virtual NIC, which the network demultiplexer serves.
    pub const NIC: Devices = Devices(1);
    /// The virtual disk, which the disk striper serves.
    pub const DISK: Devices = Devices(2);
    /// The window through which it goes out or comes in, which swap sees.
    pub const SWAP: Devices = Devices(4);

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[inline]
    pub const fn contains(self, other: Devices) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    const fn with(self, other: Devices) -> Devices {
        Devices(self.0 | other.0)
    }

    #[must_use]
    const fn without(self, other: Devices) -> Devices {
        Devices(self.0 & !other.0)
    }
}

/// Whether the guest is in its fault handler, where the next fault ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    Nothing,
    /// From the entry into the fault handler until `FAULT_RETURN`.
    Fault,
}

/// What a VM has from its admission on.
pub struct Body<B: Backend> {
    pub memory: Memory<B>,
    pub registers: Registers,
    pub console: Console,
    pub handling: Handling,
    shared: Devices,
    /// When no frame was free for the page that it waits for, or last waited for.
    shortage: Option<Shortage>,
}

/// What an admitted VM does.
#[derive(Clone, Copy)]
enum Doing {
    Running,
    Idling { until: u64 },
    Faulting(PageFault),
    Paused,
    Leaving { until: u64 },
}

/// What a VM has that has no processor: its memory, and whose components share that.
struct Estate<B: Backend> {
    memory: Memory<B>,
    shared: Devices,
}

enum Stage<B: Backend> {
    New,
    Admitted(Doing, Body<B>),
    Coming(Estate<B>),
    /// With memory where it had some.
    Ending(Option<Estate<B>>),
}

/// Where a VM is in its life.
///
/// A way that does not exist from the present state changes nothing. The core asks for none; in tests, where debug
/// assertions are on, one that does is found.
pub struct Life<B: Backend>(Stage<B>);

impl<B: Backend> Life<B> {
    /// The life of a VM that is being built.
    pub const fn begin() -> Self {
        Life(Stage::New)
    }

    #[inline]
    pub fn state(&self) -> State {
        match &self.0 {
            Stage::New => State::New,
            Stage::Admitted(Doing::Running, _) => State::Ready,
            Stage::Admitted(Doing::Idling { until }, _) => State::Idle { until: *until },
            Stage::Admitted(Doing::Faulting(page), _) => State::Fault(*page),
            Stage::Admitted(Doing::Paused, _) => State::Paused,
            Stage::Admitted(Doing::Leaving { until }, _) => State::Leaving { until: *until },
            Stage::Coming(_) => State::Coming,
            Stage::Ending(_) => State::Ending,
        }
    }

    #[inline]
    pub fn is_new(&self) -> bool {
        matches!(self.0, Stage::New)
    }

    #[inline]
    pub fn is_ready(&self) -> bool {
        matches!(self.0, Stage::Admitted(Doing::Running, _))
    }

    #[inline]
    pub fn is_idle(&self) -> bool {
        matches!(self.0, Stage::Admitted(Doing::Idling { .. }, _))
    }

    /// The page that it waits for, if it does.
    #[inline]
    pub fn page_fault(&self) -> Option<PageFault> {
        match &self.0 {
            Stage::Admitted(Doing::Faulting(page), _) => Some(*page),
            _ => None,
        }
    }

    pub fn is_ending(&self) -> bool {
        matches!(self.0, Stage::Ending(_))
    }

    pub fn is_leaving(&self) -> bool {
        matches!(self.0, Stage::Admitted(Doing::Leaving { .. }, _))
    }

    /// Whether it is on its way out, and whoever serves its disk is the one that has to let go of it now.
    pub fn leaves_disk(&self) -> bool {
        self.is_leaving() && self.shared().contains(Devices::DISK)
    }

    /// Whether it is on its way out, and its network demultiplexer is the one that has to let go of it now: whoever serves its disk comes first.
    pub fn leaves_nic(&self) -> bool {
        self.is_leaving() && self.shared().contains(Devices::NIC) && !self.shared().contains(Devices::DISK)
    }

    pub fn is_coming(&self) -> bool {
        matches!(self.0, Stage::Coming(_))
    }

    /// What it has while it is admitted.
    #[inline]
    pub fn body(&self) -> Option<&Body<B>> {
        match &self.0 {
            Stage::Admitted(_, body) => Some(body),
            Stage::New | Stage::Coming(_) | Stage::Ending(_) => None,
        }
    }

    /// What it has while it is admitted.
    #[inline]
    pub fn body_mut(&mut self) -> Option<&mut Body<B>> {
        match &mut self.0 {
            Stage::Admitted(_, body) => Some(body),
            Stage::New | Stage::Coming(_) | Stage::Ending(_) => None,
        }
    }

    /// The memory that it has, or had when it ended.
    pub fn memory(&self) -> Option<&Memory<B>> {
        match &self.0 {
            Stage::Admitted(_, body) => Some(&body.memory),
            Stage::Coming(estate) | Stage::Ending(Some(estate)) => Some(&estate.memory),
            Stage::New | Stage::Ending(None) => None,
        }
    }

    /// The memory that it has, or had when it ended.
    pub fn memory_mut(&mut self) -> Option<&mut Memory<B>> {
        match &mut self.0 {
            Stage::Admitted(_, body) => Some(&mut body.memory),
            Stage::Coming(estate) | Stage::Ending(Some(estate)) => Some(&mut estate.memory),
            Stage::New | Stage::Ending(None) => None,
        }
    }

    /// Whose components share its pages.
    #[inline]
    pub fn shared(&self) -> Devices {
        match &self.0 {
            Stage::Admitted(_, body) => body.shared,
            Stage::Coming(estate) | Stage::Ending(Some(estate)) => estate.shared,
            Stage::New | Stage::Ending(None) => Devices::default(),
        }
    }

    /// It is admitted with this memory, in which `registers` is its register page, and can run. Nobody shares its pages yet.
    pub fn admit(&mut self, memory: Memory<B>, registers: Registers) {
        debug_assert!(self.is_new(), "admitted while {:?}", self.state());
        if self.is_new() {
            let console = Console::new(registers.memory());
            let (handling, shared) = (Handling::Nothing, Devices::default());
            self.0 =
                Stage::Admitted(Doing::Running, Body { memory, registers, console, handling, shared, shortage: None });
        }
    }

    /// It has nothing to do until `until`, or until it is woken.
    pub fn idle(&mut self, until: u64) {
        debug_assert!(self.is_ready(), "idles while {:?}", self.state());
        if let Stage::Admitted(doing @ Doing::Running, _) = &mut self.0 {
            *doing = Doing::Idling { until };
        }
    }

    /// It stands still, whatever it is called for.
    pub fn pause(&mut self) {
        debug_assert!(self.is_ready() || self.is_idle(), "paused while {:?}", self.state());
        if let Stage::Admitted(doing @ (Doing::Running | Doing::Idling { .. }), _) = &mut self.0 {
            *doing = Doing::Paused;
        }
    }

    /// It stands still no more: it can run.
    pub fn resume(&mut self) {
        debug_assert!(self.state() == State::Paused, "resumed while {:?}", self.state());
        if let Stage::Admitted(doing @ Doing::Paused, _) = &mut self.0 {
            *doing = Doing::Running;
        }
    }

    /// It idles, and is to go out.
    pub fn leave(&mut self) {
        debug_assert!(self.is_idle(), "leaves while {:?}", self.state());
        if let Stage::Admitted(doing, _) = &mut self.0
            && let Doing::Idling { until } = *doing
        {
            *doing = Doing::Leaving { until };
        }
    }

    /// It does not go out: it idles as before.
    pub fn stay(&mut self) {
        debug_assert!(self.is_leaving(), "stays while {:?}", self.state());
        if let Stage::Admitted(doing, _) = &mut self.0
            && let Doing::Leaving { until } = *doing
        {
            *doing = Doing::Idling { until };
        }
    }

    /// It is out: take what it had. `None`, and nothing has changed, while somebody shares its pages.
    pub fn take_leave(&mut self) -> Option<Body<B>> {
        debug_assert!(self.is_leaving() && self.shared().is_empty(), "goes out while {:?}", self.state());
        if !self.is_leaving() || !self.shared().is_empty() {
            return None;
        }
        match core::mem::replace(&mut self.0, Stage::New) {
            Stage::Admitted(_, body) => Some(body),
            _ => None,
        }
    }

    /// It comes in, into this memory, in which nothing is yet.
    pub fn come(&mut self, memory: Memory<B>) {
        debug_assert!(self.is_new(), "comes in while {:?}", self.state());
        if self.is_new() {
            self.0 = Stage::Coming(Estate { memory, shared: Devices::default() });
        }
    }

    /// It has come in: its memory is as it was, `registers` is its register page, and it can run. Nobody shares its pages yet.
    pub fn arrive(&mut self, registers: Registers, handling: Handling) {
        debug_assert!(self.is_coming() && self.shared().is_empty(), "arrives while {:?}", self.state());
        if !self.is_coming() {
            return;
        }
        if let Stage::Coming(Estate { memory, shared }) = core::mem::replace(&mut self.0, Stage::New) {
            let console = Console::new(registers.memory());
            self.0 =
                Stage::Admitted(Doing::Running, Body { memory, registers, console, handling, shared, shortage: None });
        }
    }

    /// It waits for a page.
    pub fn fault(&mut self, page: PageFault) {
        debug_assert!(self.is_ready(), "faults while {:?}", self.state());
        if let Stage::Admitted(doing @ Doing::Running, body) = &mut self.0 {
            body.shortage = None;
            *doing = Doing::Faulting(page);
        }
    }

    /// No frame is free for the page that it waits for. A wait that goes on ends when it would have ended.
    pub fn run_short(&mut self, shortage: Shortage) {
        debug_assert!(self.page_fault().is_some(), "short of memory while {:?}", self.state());
        if let Stage::Admitted(Doing::Faulting(_), body) = &mut self.0 {
            let until = body.shortage.map_or(shortage.until, |waits| waits.until.min(shortage.until));
            body.shortage = Some(Shortage { until, ..shortage });
        }
    }

    /// It waits for a page that is out, for which there is a frame, or need not be one yet: it is looked at again at this TSC, and however often.
    pub fn wait_for_away(&mut self, retry: u64) {
        debug_assert!(self.page_fault().is_some(), "waits for a page while {:?}", self.state());
        if let Stage::Admitted(Doing::Faulting(_), body) = &mut self.0 {
            body.shortage = (retry != u64::MAX).then_some(Shortage { retry, until: u64::MAX });
        }
    }

    /// What it waits for, where no frame was free for its page.
    pub fn shortage(&self) -> Option<Shortage> {
        match self.0 {
            Stage::Admitted(Doing::Faulting(_), Body { shortage, .. }) => shortage,
            _ => None,
        }
    }

    /// What it waited for has happened: it can run.
    #[inline]
    pub fn wake(&mut self) {
        debug_assert!(self.is_idle() || self.page_fault().is_some(), "woken while {:?}", self.state());
        if let Stage::Admitted(doing @ (Doing::Idling { .. } | Doing::Faulting(_) | Doing::Running), _) = &mut self.0 {
            *doing = Doing::Running;
        }
    }

    /// It does not run again.
    pub fn end(&mut self) {
        debug_assert!(!self.is_ending(), "ends twice");
        self.0 = match core::mem::replace(&mut self.0, Stage::New) {
            Stage::New => Stage::Ending(None),
            Stage::Admitted(_, Body { memory, shared, .. }) => Stage::Ending(Some(Estate { memory, shared })),
            Stage::Coming(estate) => Stage::Ending(Some(estate)),
            Stage::Ending(estate) => Stage::Ending(estate),
        };
    }

    /// The component of this device shares its pages from now on.
    pub fn share(&mut self, device: Devices) {
        debug_assert!(self.body().is_some() || self.is_coming(), "shares while {:?}", self.state());
        match &mut self.0 {
            Stage::Admitted(_, Body { shared, .. }) | Stage::Coming(Estate { shared, .. }) => {
                *shared = shared.with(device);
            }
            Stage::New | Stage::Ending(_) => {}
        }
    }

    /// The component of this device does not share its pages any more.
    pub fn unshare(&mut self, device: Devices) {
        match &mut self.0 {
            Stage::Admitted(_, Body { shared, .. })
            | Stage::Coming(Estate { shared, .. })
            | Stage::Ending(Some(Estate { shared, .. })) => *shared = shared.without(device),
            Stage::New | Stage::Ending(None) => {}
        }
    }

    /// Take the memory that an ended VM had, once nobody shares it. `None` when it had none, or it is too early.
    pub fn take_remains(&mut self) -> Option<Memory<B>> {
        debug_assert!(self.is_ending() && self.shared().is_empty(), "buried while {:?}", self.state());
        match &mut self.0 {
            Stage::Ending(estate) if estate.as_ref().is_none_or(|estate| estate.shared.is_empty()) => {
                estate.take().map(|estate| estate.memory)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;
