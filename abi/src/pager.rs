//! Messages between the core and the pager.

// The sentence above each message explains its fields.
#![allow(missing_docs)]

use crate::message::{BadMessage, Malformed, messages, word};
use crate::vm::{ImageId, Seat, VmId};

/// Why a VM does not go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stays {
    /// It does not idle, or something has come for it meanwhile, or something lies in the rings of its NIC still.
    Busy,
    /// It came in a short while ago.
    Recent,
    /// Its alarm or the end of its idle comes soon.
    Alarm,
    /// It is none that could go out: it controls the machine, has no address by which it could be called, or is too large.
    Never,
    /// Nobody is there who could take it, or all windows are taken: another one would not go out either now.
    NoSwap,
    /// The pool has no room for it, or none that its tenant may take.
    Full,
}

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

messages! {
    /// Core to pager.
    PagerEvent {
        /// First message after every start of the pager: everything it knew is void. `frames` can be given to VMs, `free` are.
        0x101 Hello { frames: u64, free: u64 },
        /// One segment of a golden image. `first_page` is a guest page number; of the `pages`, the first `file_pages` come from
        /// the image (the last of these may be part file, part zeros), the rest are zero.
        0x102 Segment { image: ImageId, first_page: u32, pages: u32, file_pages: u32, writable: bool },
        /// A VM is in: it was admitted, or has come in again; its memory is `pages` long. So many frames as `reserve` says are free at least when it goes
        /// out. After a restart of the pager all VMs that are in are told again.
        0x103 VmStarted { vm: VmId, seat: Seat, image: ImageId, pages: u32, reserve: u32 },
        /// A VM is gone or out, and its frames are free.
        0x104 VmEnded { vm: VmId, seat: Seat },
        /// A VM waits for a page. `present` is set when a page is there that may not be accessed in this way (copy on write).
        0x105 Fault { vm: VmId, seat: Seat, page: u32, access: Access, present: bool },
        /// A command could not be carried out: `frames` are free.
        0x106 OutOfFrames { vm: VmId, seat: Seat, page: u32, free: u64 },
        /// VMs wait for memory or for a seat: so many frames and so many seats are wanted beyond what those make free that are going out
        /// already. The pager chooses who goes out ([`PagerCommand::Out`]). This takes the place of what was said before.
        0x107 Room { frames: u64, seats: u32 },
        /// A VM that was to go out stays.
        0x108 Stays { vm: VmId, seat: Seat, why: Stays },
        /// There is no such image any more, and no VM of it. What is said of its number from here on is another one's.
        0x109 ImageGone { image: ImageId },
        /// Answer to `Look`: of the pages from `page` on, a bit for each, those that are `there` and could go out one by one, and those of them that the VM has `used`
        /// since it was last looked at them. A processor that does not know says that all are used. `ran_ticks`: TSC ticks that the VM has run.
        0x10a Looked { vm: VmId, seat: Seat, page: u32, used: u64, there: u64, ran_ticks: u64 },
        /// Answer to `Away`: of the pages from `page` on, a bit for each, those that are out; the others stay. So many frames are `free` now.
        0x10b Gone { vm: VmId, seat: Seat, page: u32, gone: u64, free: u64 },
        /// A page that was out is there again, since the VM has touched it.
        0x10c Came { vm: VmId, seat: Seat, page: u32 },
    }
}

messages! {
    /// Pager to core.
    PagerCommand {
        /// Give `count` pages from `page` on fresh zeroed frames; pages that are there already stay.
        0x111 MapZero { vm: VmId, page: u32, count: u32 },
        /// Map `count` pages from `page` on to the golden image's frames, read-only; pages that are there already stay.
        0x112 MapImage { vm: VmId, page: u32, count: u32 },
        /// Give `page` a frame of its own with what the golden image has there (also where the golden frame is mapped now).
        0x113 CopyImage { vm: VmId, page: u32 },
        /// Let the VM go on after its fault.
        0x114 Resume { vm: VmId },
        /// The fault cannot be served: end the VM.
        0x115 Refuse { vm: VmId, page: u32 },
        /// Let the VM go out, if it idles. Answered by `VmEnded` when it is out, or by `Stays`.
        0x116 Out { vm: VmId },
        /// Say which of 64 pages from `page` on, a bit for each, are there and were used. From then on they count as unused. Answered by `Looked`.
        0x117 Look { vm: VmId, page: u32, pages: u64 },
        /// Let those of 64 pages from `page` on, a bit for each, go out one by one, as far as the VM has frames beyond its reserve. `page` is a multiple of 64.
        /// Answered by `Gone`.
        0x118 Away { vm: VmId, page: u32, pages: u64 },
    }
}

/// Value of [`crate::message::Message::id`] in a command that gives pages: the VM goes on when that is done, as by a `Resume` behind it. In
/// every other command `id` is 0.
pub const THEN_RESUME: u32 = 1;

word!(Stays, |why| why as u64, |kind, word| match word {
    0 => Ok(Stays::Busy),
    1 => Ok(Stays::Recent),
    2 => Ok(Stays::Alarm),
    3 => Ok(Stays::Never),
    4 => Ok(Stays::NoSwap),
    5 => Ok(Stays::Full),
    _ => Err(BadMessage { kind, what: Malformed::Stays }),
});

word!(Access, |access| access as u64, |kind, word| match word {
    0 => Ok(Access::Read),
    1 => Ok(Access::Write),
    2 => Ok(Access::Execute),
    _ => Err(BadMessage { kind, what: Malformed::Access }),
});
