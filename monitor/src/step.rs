//! How far a command has come.

use crate::command::Command;
use abi::disk::DiskRequest;
use abi::limits::Name;
use abi::quota::Beyond;
use abi::vm::Slot;

/// How far the command has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The names of the images are being asked for: this one is next.
    Names(u32),
    /// The command's own list is being asked for: this entry is next.
    Walk(u32),
    /// The VM that is to be ended, or to become somebody else, is being looked up.
    Find,
    /// How VMs come by their addresses is being asked for.
    Network,
    /// The boot arguments of the VM's image are.
    ImageArguments,
    /// The disk component is being asked.
    Disks(Walk),
    /// The core is being asked how the VM in this slot has the virtual disk that a new one is to have. Its seat.
    Holder(Slot, u16),
    /// The core has refused a VM with this status because of its tenant, which is being asked about.
    Refused(u32, Beyond),
    /// The core is being asked how much of the log is written down: up to this position is waited for, once that is known, and it was asked so often.
    Noted(Option<u64>, u16),
    /// It is asked so again when a while has passed.
    Pause(Option<u64>, u16),
    /// The last request has been sent.
    Last,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) command: Command,
    pub(crate) step: Step,
}

/// What is asked next. Each list ends with an answer that there is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Walk {
    /// A disk.
    Disk(u16),
    /// A set.
    Set(u16),
    /// What is wrong with it.
    Problem(u16, u16),
    /// An entry of the set in use.
    Entry(u16),
    /// This entry is being read.
    Scrub(u16),
    /// A snapshot of this virtual disk is being taken, with this name.
    Snapshot(Name, Name),
    /// How a disk does.
    DiskLoad(u16),
    /// How the VM in this seat does, or in the next one that has a virtual disk.
    VmLoad(u16),
}

impl Walk {
    pub(crate) const FIRST: Walk = Walk::Disk(0);

    pub(crate) fn request(self) -> DiskRequest {
        match self {
            Walk::Disk(index) => DiskRequest::Disk { index },
            Walk::Set(index) => DiskRequest::Set { index },
            Walk::Problem(set, index) => DiskRequest::Problem { set, index },
            Walk::Entry(index) => DiskRequest::Entry { index },
            Walk::Scrub(index) => DiskRequest::Scrub { index },
            Walk::Snapshot(name, new) => DiskRequest::Snapshot { name, new },
            Walk::DiskLoad(index) => DiskRequest::DiskLoad { index },
            Walk::VmLoad(index) => DiskRequest::VmLoad { index },
        }
    }

    /// What follows; `None` at the end, or when all numbers were asked for.
    pub(crate) fn next(self, found: bool) -> Option<Walk> {
        let after = |index: u16| index.checked_add(1);
        match (self, found) {
            (Walk::Disk(index), true) => Some(Walk::DiskLoad(index)),
            (Walk::DiskLoad(index), _) => after(index).map(Walk::Disk),
            (Walk::Disk(_), false) => Some(Walk::Set(0)),
            (Walk::Set(index), true) => Some(Walk::Problem(index, 0)),
            (Walk::Set(_), false) => Some(Walk::Entry(0)),
            (Walk::Problem(set, index), true) => Some(Walk::Problem(set, after(index)?)),
            (Walk::Problem(set, _), false) => after(set).map(Walk::Set),
            (Walk::Entry(index), true) => after(index).map(Walk::Entry),
            (Walk::Entry(_), false) => Some(Walk::VmLoad(0)),
            (Walk::VmLoad(index), true) => after(index).map(Walk::VmLoad),
            (Walk::VmLoad(_), false) | (Walk::Scrub(_) | Walk::Snapshot(..), _) => None,
        }
    }
}
