//! Controlling the machine: for guests whose image has `control = true` in `system.toml`. Requests and answers are those of
//! `docs/messages.md`; the core serves them one after the other, in its own time.
//!
//! ```no_run
//! # async fn example() -> Option<()> {
//! use ilwaco::control::{Control, Terms};
//!
//! let mut control = Control::open()?;
//! let image = control.image("httpd").await.ok()?;
//! let vm = control.create(image, b"", Terms::UNSAID).await.ok()?;
//! control.destroy(vm).await.ok()?;
//! # Some(())
//! # }
//! ```

mod bell;
mod question;

use self::bell::Bell;
use self::question::Open;
use crate::cell::global;
use crate::{platform, registers};
use abi::addresses::Net;
use abi::control::status;
use abi::guest::device;
use abi::guest_control::{ANSWER_SLOTS, ANSWERS, REQUEST_SLOTS, REQUESTS, ROOM, bytes};
use abi::limits::{LIVE_TENANTS, Name};
use abi::manifest::IMAGE_ARGS_BYTES;
use abi::message::Message;
use abi::request_page::{BYTES, Piece};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use boot_args::{BootArgs, TooLong, compose};
use core::cell::Cell;
use core::fmt;
use core::future::poll_fn;
use ring::{Consumer, Producer, PushError, RingError, SharedMemory};

pub use self::question::Question;
pub use abi::attachment::Attachment;
pub use abi::claim::Claim;
pub use abi::control::vm_state::IDLE;
pub use abi::control::{ControlReply, ControlRequest};
pub use abi::disk::{DiskReply, DiskRequest};
pub use abi::quota::{Beyond, Quota};
pub use abi::share::Share;
pub use abi::tenant::Tenant;
pub use abi::terms::Terms;
pub use abi::vm::{ImageId, Slot, VmId};

/// Questions that wait at once at most ([`Control::ask_each`]): the core takes all of them without having to wait for room for its answers.
pub const AT_ONCE: usize = 8;
/// How often a VM is put together anew because another one took its slot.
const MOVED_MOST: u32 = 8;
/// Where an image's boot arguments are put in the request page.
// Small numbers.
#[allow(clippy::cast_possible_truncation)]
const IMAGE_ARGS: Piece = Piece { offset: 0, len: IMAGE_ARGS_BYTES as u16 };
/// Where a VM's are.
const VM_ARGS: u16 = 1024;
/// Where its virtual disk is.
const VM_DISK: u16 = 512;

// So many have room among the requests, and as many answers beside those to questions to the disk component.
const _: () = assert!(AT_ONCE < REQUEST_SLOTS as usize && AT_ONCE + (ROOM as usize) < ANSWER_SLOTS as usize);
const _: () =
    assert!(IMAGE_ARGS_BYTES <= VM_DISK as usize && VM_DISK as usize + abi::attachment::BYTES <= VM_ARGS as usize);

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The core says no: one of `abi::control::status`.
    Refused(u32),
    /// The core says no because of the VM's tenant: one of `abi::control::status`, and whose the VM was to be.
    Quota(u32, Beyond),
    /// The boot arguments do not fit.
    TooLong(TooLong),
    /// The ring takes no request: the answers to many are still in it.
    Full,
    /// The core says what does not belong here: it was built from other sources.
    Answer,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(status::NOT_FOUND) => f.write_str("there is no such VM, component or image"),
            Error::Refused(status::NO_SPACE) => f.write_str("no slot for a VM is free; end one first"),
            Error::Refused(status::NO_DISKS) => {
                f.write_str("the machine had no disks when it was started; connect some and start it again")
            }
            Error::Refused(status::DISKS_LOST) => {
                f.write_str("the disk component was started anew, and has perhaps done it; look, and try again")
            }
            Error::Refused(status::MOVED) => f.write_str("others come and go, and take its slot each time; try again"),
            Error::Refused(status) => write!(f, "the core refuses it with status {status}"),
            Error::Quota(status::TENANTS_TAKEN, Beyond { tenant, .. }) => {
                write!(f, "{LIVE_TENANTS} tenants have VMs or quotas, and {tenant} is another one")
            }
            Error::Quota(status::OVER_MEMORY, Beyond { tenant, .. }) => {
                write!(f, "the VMs of the tenant {tenant} could hold more memory than its quota; end one, or raise it")
            }
            Error::Quota(_, Beyond { tenant, .. }) => {
                write!(f, "the tenant {tenant} has as many VMs as its quota; end one, or raise it")
            }
            Error::TooLong(why) => write!(f, "{why}"),
            Error::Full => f.write_str("the control ring is full; take the answers first"),
            Error::Answer => f.write_str("the core's answer is no answer; build both from one source"),
        }
    }
}

global! {
    static ANSWERED: Bell = Bell::new();
}

global! {
    static SAID: Bell = Bell::new();
}

global! {
    static OPENED: Cell<bool> = Cell::new(false);
}

/// The core has put answers into the ring.
pub(crate) fn answered() {
    ANSWERED.with(Bell::ring);
}

/// A console that this VM watches has said something.
pub(crate) fn said() {
    SAID.with(Bell::ring);
}

/// A number that grows when a console that this VM watches ([`ControlRequest::ConsoleRead`]) has said something.
pub fn news() -> u64 {
    SAID.with(Bell::count)
}

/// Waits until [`news`] is another number. Any number of tasks may.
pub async fn news_since(seen: u64) {
    poll_fn(|cx| SAID.with(|bell| bell.poll_since(seen, cx))).await;
}

/// A number that grows when the core has answered something.
pub fn answers() -> u64 {
    ANSWERED.with(Bell::count)
}

/// Waits until [`answers`] is another number. Any number of tasks may.
pub async fn answers_since(seen: u64) {
    poll_fn(|cx| ANSWERED.with(|bell| bell.poll_since(seen, cx))).await;
}

/// As if the program started anew.
#[cfg(not(target_os = "none"))]
pub(crate) fn forget_all() {
    ANSWERED.with(Bell::forget);
    SAID.with(Bell::forget);
    OPENED.with(|opened| opened.set(false));
}

/// A VM as the core describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmState {
    /// Its name.
    pub vm: VmId,
    /// Its image.
    pub image: ImageId,
    /// One of `abi::control::vm_state`.
    pub state: u16,
    /// Frames of memory that are its own.
    pub memory: u32,
    /// Its address, 0 where DHCP gives it one.
    pub ipv4: u32,
}

/// A component as the core describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComponentState {
    /// Its place.
    pub index: u16,
    /// Its name.
    pub name: Name,
    /// How often it was started.
    pub incarnation: u32,
}

/// This guest's end of the control ring.
pub struct Control {
    requests: Producer<SharedMemory>,
    answers: Consumer<SharedMemory>,
    page: SharedMemory,
    last: u32,
    /// What was asked and is not answered to its end, in the order of the answers: whoever asked waits for it, or has given up.
    asked: VecDeque<(u32, ControlRequest)>,
    /// Questions whose answers are waited for without this.
    open: Open,
}

impl Control {
    /// The control ring; `None` where this VM has none, or the second time.
    pub fn open() -> Option<Control> {
        if registers::control_page() == 0 || OPENED.with(|opened| opened.replace(true)) {
            return None;
        }
        let memory = platform::control()?;
        let part = |at, slots| memory.sub(at, bytes(slots));
        Some(Control {
            requests: Producer::attach_contiguous(&part(REQUESTS, REQUEST_SLOTS)?, REQUEST_SLOTS).ok()?,
            answers: Consumer::attach_contiguous(&part(ANSWERS, ANSWER_SLOTS)?, ANSWER_SLOTS).ok()?,
            page: memory.sub(BYTES, BYTES)?,
            last: 0,
            asked: VecDeque::new(),
            open: Open::default(),
        })
    }

    /// Writes what a request names into the request page. `None` when it does not fit behind `offset`.
    pub fn write(&self, offset: u16, bytes: &[u8]) -> Option<Piece> {
        let piece = Piece { offset, len: u16::try_from(bytes.len()).ok()? };
        self.page.write(piece.range()?.start, bytes)?;
        Some(piece)
    }

    /// Reads what the core has written into the request page.
    pub fn read(&self, piece: Piece) -> Option<Vec<u8>> {
        let range = piece.range()?;
        let mut bytes = alloc::vec![0; range.len()];
        self.page.read(range.start, &mut bytes)?;
        Some(bytes)
    }

    /// Asks, and gives each answer but the last to `each`. The last one.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Answer`]. That the core refuses something is an answer.
    pub async fn ask(
        &mut self,
        request: ControlRequest,
        mut each: impl FnMut(ControlReply),
    ) -> Result<ControlReply, Error> {
        self.settle().await;
        let id = self.send(request.into())?;
        self.asked.push_back((id, request));
        loop {
            let (reply, more) = self.answer_to(id, request).await?;
            if !more {
                return Ok(reply);
            }
            each(reply);
        }
    }

    /// Asks several things that the core answers at once, and rings once for [`AT_ONCE`] of them: of each the last answer, in the order of the questions.
    ///
    /// # Errors
    ///
    /// As [`Control::ask`].
    pub async fn ask_each(&mut self, requests: &[ControlRequest]) -> Result<Vec<ControlReply>, Error> {
        self.settle().await;
        let mut replies = Vec::with_capacity(requests.len());
        for some in requests.chunks(AT_ONCE) {
            for request in some {
                match self.put((*request).into()) {
                    Ok(id) => self.asked.push_back((id, *request)),
                    Err(error) => {
                        // What is in the ring is answered all the same.
                        platform::kick(device::CONTROL);
                        return Err(error);
                    }
                }
            }
            platform::kick(device::CONTROL);
            while let Some(&(id, request)) = self.asked.front() {
                let (reply, more) = self.answer_to(id, request).await?;
                if !more {
                    replies.push(reply);
                }
            }
        }
        Ok(replies)
    }

    /// Waits for the end of the answer to what was asked last, where whoever asked has given up ([`Control::ask`] was dropped). Until then the core may write into
    /// the request page, so nothing should be put there before.
    pub async fn settle(&mut self) {
        while let Some(&(id, request)) = self.asked.front() {
            // What is no answer is the end of it, too.
            let _ = self.answer_to(id, request).await;
        }
    }

    /// The next answer to a request, and whether another one follows.
    async fn answer_to(&mut self, id: u32, request: ControlRequest) -> Result<(ControlReply, bool), Error> {
        let answer = loop {
            let answer = self.next().await;
            if answer.id == id {
                break answer;
            }
            self.open.keep(answer);
        };
        let reply = ControlReply::try_from(&answer).map_err(|_| Error::Answer);
        let more = match (request, &reply) {
            (_, Err(_)) => false,
            (ControlRequest::Frames, Ok(reply)) => !matches!(reply, ControlReply::Done { .. }),
            (ControlRequest::Machine, Ok(reply)) => matches!(reply, ControlReply::Machine { .. }),
            (ControlRequest::Tenant { .. } | ControlRequest::NextTenant { .. }, Ok(reply)) => {
                matches!(reply, ControlReply::Flow { .. })
            }
            _ => false,
        };
        if !more {
            self.asked.pop_front();
        }
        Ok((reply?, more))
    }

    /// Asks the disk component, by way of the core. It may be long before it answers, so the ring is free for others until then: [`Control::answer_of_disks`].
    ///
    /// # Errors
    ///
    /// [`Error::Full`].
    pub fn ask_disks(&mut self, request: DiskRequest) -> Result<Question, Error> {
        let id = self.send(request.into())?;
        Ok(self.open.note(id))
    }

    /// The answer to what the disk component was asked; `None` while there is none: look again after [`answers_since`].
    ///
    /// # Errors
    ///
    /// [`Error::Answer`]; [`Error::Refused`] where nobody serves disks, or the component is busy or was started anew meanwhile.
    pub fn answer_of_disks(&mut self, question: &Question) -> Result<Option<DiskReply>, Error> {
        while let Some(answer) = self.take() {
            self.open.keep(answer);
        }
        let Some(answer) = question.answer() else { return Ok(None) };
        if let Ok(reply) = DiskReply::try_from(&answer) {
            return Ok(Some(reply));
        }
        match ControlReply::try_from(&answer) {
            Ok(ControlReply::Done { status, .. }) => Err(Error::Refused(status)),
            _ => Err(Error::Answer),
        }
    }

    /// Puts a request into the ring, and rings. Its id.
    fn send(&mut self, message: Message) -> Result<u32, Error> {
        let id = self.put(message)?;
        platform::kick(device::CONTROL);
        Ok(id)
    }

    /// Puts a request into the ring. Its id.
    fn put(&mut self, message: Message) -> Result<u32, Error> {
        self.last = self.last.wrapping_add(1).max(1);
        let message = Message { id: self.last, ..message };
        let pushed = match self.requests.push(&message) {
            Err(PushError::EpochChanged) => self.requests.push(&message),
            other => other,
        };
        pushed.map_err(|_| Error::Full)?;
        Ok(self.last)
    }

    /// An answer, if there is one.
    fn take(&mut self) -> Option<Message> {
        loop {
            match self.answers.pop() {
                Ok(message) => return message,
                Err(RingError::EpochChanged) => {}
                Err(RingError::Corrupt) => return None,
            }
        }
    }

    /// The next answer.
    async fn next(&mut self) -> Message {
        loop {
            let seen = answers();
            if let Some(message) = self.take() {
                return message;
            }
            answers_since(seen).await;
        }
    }

    /// Asks what is answered by `Done`, with its value.
    async fn done(&mut self, request: ControlRequest) -> Result<u64, Error> {
        match self.ask(request, drop).await? {
            ControlReply::Done { status: status::OK, value } => Ok(value),
            ControlReply::Done { status, .. } => Err(Error::Refused(status)),
            _ => Err(Error::Answer),
        }
    }

    /// All VMs that live, admitted or not.
    ///
    /// # Errors
    ///
    /// As [`Control::ask`].
    pub async fn vms(&mut self) -> Result<Vec<VmState>, Error> {
        let mut found = Vec::new();
        let mut from = 0;
        loop {
            let next = match self.ask(ControlRequest::NextVm { slot: Slot::new(from) }, drop).await? {
                ControlReply::Vm { vm, image, state, memory, ipv4, .. } => {
                    found.push(VmState { vm, image, state, memory, ipv4 });
                    vm.slot.number().saturating_add(1)
                }
                ControlReply::Done { status: status::GO_ON, value } => u32::try_from(value).unwrap_or(0),
                ControlReply::Done { status: status::NOT_FOUND, .. } => return Ok(found),
                _ => return Err(Error::Answer),
            };
            // Each answer leads on, or the list would never end.
            if next <= from {
                return Err(Error::Answer);
            }
            from = next;
        }
    }

    /// All components.
    ///
    /// # Errors
    ///
    /// As [`Control::ask`].
    pub async fn components(&mut self) -> Result<Vec<ComponentState>, Error> {
        let mut found = Vec::new();
        for index in 0.. {
            match self.ask(ControlRequest::Component { index }, drop).await? {
                ControlReply::Component { index, name, incarnation, .. } => {
                    found.push(ComponentState { index, name, incarnation });
                }
                ControlReply::Done { .. } => break,
                _ => return Err(Error::Answer),
            }
        }
        Ok(found)
    }

    /// The image of this name.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when there is none; as [`Control::ask`].
    pub async fn image(&mut self, name: &str) -> Result<ImageId, Error> {
        for number in 0.. {
            match self.ask(ControlRequest::Image { image: ImageId::new(number) }, drop).await? {
                ControlReply::Image { image, name: found, .. } if found.as_str() == name => return Ok(image),
                ControlReply::Image { .. } => {}
                ControlReply::Done { status, .. } => return Err(Error::Refused(status)),
                _ => return Err(Error::Answer),
            }
        }
        Err(Error::Refused(status::NOT_FOUND))
    }

    /// Creates a VM of an image, with its own boot arguments, the address that it has by its slot, and `extra` behind them. What `terms` do
    /// not say is the image's.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn create(
        &mut self,
        image: ImageId,
        extra: &[u8],
        Terms { share, claim, tenant, disk }: Terms,
    ) -> Result<VmId, Error> {
        let ControlReply::Network { net, next } = self.ask(ControlRequest::Network, drop).await? else {
            return Err(Error::Answer);
        };
        self.done(ControlRequest::ImageArguments { image, to: IMAGE_ARGS }).await?;
        let mut of_image = self.read(IMAGE_ARGS).unwrap_or_default();
        of_image.truncate(boot_args::text(&of_image).len());
        let mut slot = next.unwrap_or(Slot::new(0));
        for _ in 0..MOVED_MOST {
            let ipv4 = net.address_of(slot);
            let mut text = BootArgs::new();
            compose(&mut text, &of_image, &net, ipv4, extra).map_err(Error::TooLong)?;
            let args = self.write(VM_ARGS, &text).ok_or(Error::Answer)?;
            let disk = match disk {
                Attachment::NONE => Piece::EMPTY,
                disk => self.write(VM_DISK, &disk.to_bytes()).ok_or(Error::Answer)?,
            };
            // With DHCP any slot will do.
            let wanted = matches!(net, Net::Static { .. }).then_some(slot);
            match self
                .ask(ControlRequest::Create { image, slot: wanted, ipv4, args, share, claim, tenant, disk }, drop)
                .await?
            {
                ControlReply::Done { status: status::OK, value } => return Ok(VmId::from_raw(value)),
                // Another one has come to live, or has ended, meanwhile.
                ControlReply::Done { status: status::MOVED, value } => {
                    slot = Slot::new(u32::try_from(value).map_err(|_| Error::Answer)?);
                }
                ControlReply::Done {
                    status: status @ (status::OVER_VMS | status::OVER_MEMORY | status::TENANTS_TAKEN),
                    value,
                } => return Err(Error::Quota(status, Beyond::from_raw(value).ok_or(Error::Answer)?)),
                ControlReply::Done { status, .. } => return Err(Error::Refused(status)),
                _ => return Err(Error::Answer),
            }
        }
        Err(Error::Refused(status::MOVED))
    }

    /// Ends a VM.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when there is none of this name; as [`Control::ask`].
    pub async fn destroy(&mut self, vm: VmId) -> Result<(), Error> {
        self.done(ControlRequest::Destroy { vm }).await.map(|_| ())
    }
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
