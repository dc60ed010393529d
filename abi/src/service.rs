//! The services between the core and its parties.

/// What a pair of rings between the core and a party is about. A party has an endpoint of its own for each service; two may be
/// parties to one service, but for the plan and swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Service {
    /// The party demultiplexes the network ([`crate::net`]): it shares the NIC pages of its VMs, hears their kicks and makes
    /// their interrupts pending.
    Net = 1,
    /// The party serves page faults ([`crate::pager`]).
    Pager = 2,
    /// The party admits VMs and plans their turns ([`crate::sched`]). A CPU has one plan.
    Plan = 3,
    /// The core does what the party asks for ([`crate::control`]).
    Control = 4,
    /// The party keeps the memory of VMs that are out ([`crate::swap`]): it sees the frames of those that go out and come in. There is one.
    Swap = 5,
    /// The party serves virtual disks ([`crate::disk_service`]): it shares the disk pages of its VMs, hears their kicks and makes their interrupts
    /// pending.
    Disk = 6,
}

impl Service {
    /// All of them.
    pub const ALL: [Service; 6] =
        [Service::Net, Service::Pager, Service::Plan, Service::Control, Service::Swap, Service::Disk];

    /// The number that stands for no service: a ring that the core is no end of.
    pub const NONE: u32 = 0;

    /// Its number in the manifest and in information pages.
    pub const fn raw(self) -> u32 {
        self as u32
    }

    /// The service of this number.
    pub const fn from_raw(raw: u32) -> Option<Service> {
        Some(match raw {
            1 => Service::Net,
            2 => Service::Pager,
            3 => Service::Plan,
            4 => Service::Control,
            5 => Service::Swap,
            6 => Service::Disk,
            _ => return None,
        })
    }

    /// What it allows its party ([`crate::component::authority`]).
    pub const fn authority(self) -> u32 {
        use crate::component::authority;
        match self {
            Service::Net | Service::Disk => authority::RAISE | authority::VM_WINDOW,
            Service::Pager => authority::IDLES,
            Service::Swap => authority::SWAP_WINDOW,
            Service::Plan | Service::Control => 0,
        }
    }

    /// Whether there may be more than one party to it.
    pub const fn is_shared(self) -> bool {
        !matches!(self, Service::Plan | Service::Swap | Service::Disk)
    }
}
