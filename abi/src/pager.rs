//! Messages between the core and the pager.

// The sentence above each message explains its fields.
#![allow(missing_docs)]

use crate::message::{BadMessage, Message, low16, low32};
use crate::vm::{ImageId, Seat, VmId};

/// How a guest touched a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Instruction fetch.
    Execute,
}

/// Core to pager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PagerEvent {
    /// First message after every start of the pager: everything it knew is void. `frames` can be given to VMs, `free` are.
    Hello { frames: u64, free: u64 },
    /// One segment of a golden image. `first_page` is a guest page number; of the `pages`, the first `file_pages` come from
    /// the image (the last of these may be part file, part zeros), the rest are zero.
    Segment { image: ImageId, first_page: u32, pages: u32, file_pages: u32, writable: bool },
    /// A VM lives; its memory is `pages` long. After a restart of the pager all living VMs are told again.
    VmStarted { vm: VmId, seat: Seat, image: ImageId, pages: u32 },
    /// A VM is gone, and so are its frames.
    VmEnded { vm: VmId, seat: Seat },
    /// A VM waits for a page. `present` is set when a page is there that may not be accessed in this way (copy on write).
    Fault { vm: VmId, seat: Seat, page: u32, access: Access, present: bool },
    /// A command could not be carried out: `frames` are free.
    OutOfFrames { vm: VmId, seat: Seat, page: u32, free: u64 },
}

/// Pager to core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PagerCommand {
    /// Give `count` pages from `page` on fresh zeroed frames; pages that are there already stay.
    MapZero { vm: VmId, page: u32, count: u32 },
    /// Map `count` pages from `page` on to the golden image's frames, read-only; pages that are there already stay.
    MapImage { vm: VmId, page: u32, count: u32 },
    /// Give `page` a frame of its own with what the golden image has there (also where the golden frame is mapped now).
    CopyImage { vm: VmId, page: u32 },
    /// Let the VM go on after its fault.
    Resume { vm: VmId },
    /// The fault cannot be served: end the VM.
    Refuse { vm: VmId, page: u32 },
}

/// Value of [`Message::id`] in a command that gives pages: the VM goes on when that is done, as by a `Resume` behind it. In
/// every other command `id` is 0.
pub const THEN_RESUME: u32 = 1;

const HELLO: u32 = 0x101;
const SEGMENT: u32 = 0x102;
const VM_STARTED: u32 = 0x103;
const VM_ENDED: u32 = 0x104;
const FAULT: u32 = 0x105;
const OUT_OF_FRAMES: u32 = 0x106;
const MAP_ZERO: u32 = 0x111;
const MAP_IMAGE: u32 = 0x112;
const COPY_IMAGE: u32 = 0x113;
const RESUME: u32 = 0x114;
const REFUSE: u32 = 0x115;

impl From<PagerEvent> for Message {
    #[inline]
    fn from(event: PagerEvent) -> Message {
        match event {
            PagerEvent::Hello { frames, free } => Message::new(HELLO, [frames, free]),
            PagerEvent::Segment { image, first_page, pages, file_pages, writable } => Message::new(
                SEGMENT,
                [image.number().into(), first_page.into(), pages.into(), file_pages.into(), u64::from(writable)],
            ),
            PagerEvent::VmStarted { vm, seat, image, pages } => {
                Message::new(VM_STARTED, [vm.raw(), seat.number().into(), image.number().into(), pages.into()])
            }
            PagerEvent::VmEnded { vm, seat } => Message::new(VM_ENDED, [vm.raw(), seat.number().into()]),
            PagerEvent::Fault { vm, seat, page, access, present } => {
                let access = match access {
                    Access::Read => 0,
                    Access::Write => 1,
                    Access::Execute => 2,
                };
                Message::new(FAULT, [vm.raw(), seat.number().into(), page.into(), access, u64::from(present)])
            }
            PagerEvent::OutOfFrames { vm, seat, page, free } => {
                Message::new(OUT_OF_FRAMES, [vm.raw(), seat.number().into(), page.into(), free])
            }
        }
    }
}

impl TryFrom<&Message> for PagerEvent {
    type Error = BadMessage;

    #[inline]
    fn try_from(message: &Message) -> Result<Self, BadMessage> {
        let kind = message.kind;
        let [a, b, c, d, e, ..] = message.words;
        Ok(match kind {
            HELLO => PagerEvent::Hello { frames: a, free: b },
            SEGMENT => PagerEvent::Segment {
                image: ImageId::new(low32(kind, a)?),
                first_page: low32(kind, b)?,
                pages: low32(kind, c)?,
                file_pages: low32(kind, d)?,
                writable: e != 0,
            },
            VM_STARTED => PagerEvent::VmStarted {
                vm: VmId::from_raw(a),
                seat: Seat::new(low16(kind, b)?),
                image: ImageId::new(low32(kind, c)?),
                pages: low32(kind, d)?,
            },
            VM_ENDED => PagerEvent::VmEnded { vm: VmId::from_raw(a), seat: Seat::new(low16(kind, b)?) },
            FAULT => PagerEvent::Fault {
                vm: VmId::from_raw(a),
                seat: Seat::new(low16(kind, b)?),
                page: low32(kind, c)?,
                access: match d {
                    0 => Access::Read,
                    1 => Access::Write,
                    2 => Access::Execute,
                    _ => return Err(BadMessage { kind, what: "unknown access" }),
                },
                present: e != 0,
            },
            OUT_OF_FRAMES => {
                let seat = Seat::new(low16(kind, b)?);
                PagerEvent::OutOfFrames { vm: VmId::from_raw(a), seat, page: low32(kind, c)?, free: d }
            }
            _ => return Err(BadMessage::unknown(kind)),
        })
    }
}

impl From<PagerCommand> for Message {
    #[inline]
    fn from(command: PagerCommand) -> Message {
        match command {
            PagerCommand::MapZero { vm, page, count } => Message::new(MAP_ZERO, [vm.raw(), page.into(), count.into()]),
            PagerCommand::MapImage { vm, page, count } => {
                Message::new(MAP_IMAGE, [vm.raw(), page.into(), count.into()])
            }
            PagerCommand::CopyImage { vm, page } => Message::new(COPY_IMAGE, [vm.raw(), page.into()]),
            PagerCommand::Resume { vm } => Message::new(RESUME, [vm.raw()]),
            PagerCommand::Refuse { vm, page } => Message::new(REFUSE, [vm.raw(), page.into()]),
        }
    }
}

impl TryFrom<&Message> for PagerCommand {
    type Error = BadMessage;

    #[inline]
    fn try_from(message: &Message) -> Result<Self, BadMessage> {
        let kind = message.kind;
        let [a, b, c, ..] = message.words;
        Ok(match kind {
            MAP_ZERO => PagerCommand::MapZero { vm: VmId::from_raw(a), page: low32(kind, b)?, count: low32(kind, c)? },
            MAP_IMAGE => {
                PagerCommand::MapImage { vm: VmId::from_raw(a), page: low32(kind, b)?, count: low32(kind, c)? }
            }
            COPY_IMAGE => PagerCommand::CopyImage { vm: VmId::from_raw(a), page: low32(kind, b)? },
            RESUME => PagerCommand::Resume { vm: VmId::from_raw(a) },
            REFUSE => PagerCommand::Refuse { vm: VmId::from_raw(a), page: low32(kind, b)? },
            _ => return Err(BadMessage::unknown(kind)),
        })
    }
}
