//! Messages between the core and the disk striper about the virtual disks of VMs ([`crate::guest_disk`]).

// The sentence above each message explains its fields.
#![allow(missing_docs)]

use crate::charges::DiskUse;
use crate::limits::Name;
use crate::message::messages;
use crate::vm::{Seat, VmId};

messages! {
    /// Core to striper.
    DiskEvent {
        /// First message after every start of the striper: everything it knew is void.
        0x701 Hello,
        /// The disk page and the block slots of `vm` are mapped in the window, in the place of its `seat`, for the virtual disk `disk`
        /// ([`crate::attachment::mode`]). `again`: it has had the disk before. Either an earlier start of the striper has served it: the rings are empty, and the
        /// guest gives again what was not answered. Or it was out ([`DiskEvent::Out`]): the rings are as they were. `weight` is its share against other VMs,
        /// `rate` how many requests it may have carried out in a second ([`crate::attachment::Attachment::rate`]).
        0x702 Attach { vm: VmId, seat: Seat, disk: Name, mode: u16 | rate: u16, again: bool, weight: u16 },
        /// All VMs that an earlier start has served have been told of, those that are out included.
        0x704 Told,
        /// `vm` is gone. Its pages stay mapped until the striper has answered `Detached`.
        0x703 Detach { vm: VmId, seat: Seat },
        /// `vm`, which idles, is to go out. Answered by `Left` or `Stays`; its pages stay mapped until then.
        0x705 Leave { vm: VmId, seat: Seat },
        /// `vm` is out, and has had this virtual disk before ([`crate::attachment::mode`]): the disk is in use, though nothing is asked of it. Said after a
        /// restart only: who has answered `Left` knows.
        0x706 Out { vm: VmId, disk: Name, mode: u16 },
        /// `vm`, which was out, does not come in any more: it has its virtual disk no longer. One that is not known to be out is no error.
        0x707 Gone { vm: VmId, disk: Name },
    }
}

messages! {
    /// Striper to core.
    DiskCommand {
        /// The striper will not touch the pages of `vm` any more.
        0x711 Detached { vm: VmId },
        /// It does not serve `vm` ([`no_disk`]), and does not touch its pages.
        0x712 Refused { vm: VmId, why: u16 },
        /// Nothing of `vm` is under way, or waits in its ring: the striper will not touch its pages any more. It keeps the virtual disk for the VM until
        /// `Attach` or `Gone`.
        0x713 Left { vm: VmId },
        /// Something of `vm` is under way, or waits: it is served as before.
        0x714 Stays { vm: VmId },
        /// What was done with the virtual disk of `vm` since this was said last. Said half a second after the first request that it is of, and before the VM
        /// is let go of: nothing is said for each.
        0x715 Used { vm: VmId, done: DiskUse },
    }
}

/// Why a VM does not get its disk: the detail of [`crate::end::EndReason::NoDisk`].
pub mod no_disk {
    /// Nobody serves disks: no disks were found at boot.
    pub const NO_STRIPER: u16 = 1;
    /// No set of disks is in use.
    pub const NO_SET: u16 = 2;
    /// The set in use has no virtual disk of this name.
    pub const NO_SUCH_DISK: u16 = 3;
    /// Another VM has it for writing, or others have it while this one is to write.
    pub const IN_USE: u16 = 4;
    /// It is never written, or the set takes no writes, and the VM is to write.
    pub const READ_ONLY: u16 = 5;
    /// The striper has no room for it.
    pub const NO_ROOM: u16 = 6;
    /// The core has no frame for the window, or the VM's pages are not there.
    pub const NO_WINDOW: u16 = 7;
}
