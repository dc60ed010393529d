//! Messages between the core and the scheduler.

// The sentence above each message explains its fields.
#![allow(missing_docs)]

use crate::message::{BadMessage, Malformed, Words, messages};
use crate::tenant::Tenant;
use crate::vm::{Seat, VmId};

messages! {
    /// Core to scheduler.
    SchedEvent {
        /// First message after every start of the scheduler: everything it knew is void. `room` can be given to VMs, and `admission` says to whom.
        0x201 Hello { quantum_ticks: u64, room: Room, admission: Admission },
        /// A VM of a `tenant` asks to be admitted; `frames` are kept for it then, and no others count. After a restart also for VMs still waiting.
        0x202 Arrived { vm: VmId, frames: u64, room: Room, tenant: Tenant },
        /// An admitted VM can run: it has just been admitted, or something it waited for has happened. `weight` is that of its
        /// [`crate::share::Share`].
        0x203 Ready { vm: VmId, seat: Seat, weight: u16 },
        /// A VM no longer can run: it idles (`idle`), or waits for a page. It ran `ran_ticks` of its quantum.
        0x204 Blocked { vm: VmId, seat: Seat, ran_ticks: u64, idle: bool },
        /// A VM is gone, and its `seat`, if it was admitted, is free; `room` can be given to VMs now.
        0x205 Ended { vm: VmId, room: Room, seat: Option<Seat> },
        /// VMs wait for admission, and `room` can be given to VMs now: guests have given memory back, perhaps.
        0x206 Room { room: Room },
        /// No room can be made for a VM that waits, as long as others do not come in that make room by it, or at all: it is behind all others now.
        0x207 Later { vm: VmId },
        /// VMs that wait are chosen in this way from now on. They wait on.
        0x208 Gatekeeper { admission: Admission },
    }
}

/// How the gatekeeper chooses among VMs that wait for admission (`gatekeeper=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// In the order of asking, tenants in turn; nobody is overtaken.
    #[default]
    Fifo,
    /// The same, but those for whom there is room pass one for whom there is none, a bounded number of times.
    WorkingSet,
    /// By deadlines: VMs that were in lately come at once, all others by a time after which nobody passes them.
    Deadline,
}

impl Admission {
    /// All of them, by their numbers.
    pub const ALL: [Admission; 3] = [Admission::Fifo, Admission::WorkingSet, Admission::Deadline];
    /// What the boot option calls them, in the same order.
    pub const NAMES: [&str; 3] = ["fifo", "working-set", "deadline"];

    /// What the boot option calls it.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().zip(Self::NAMES).find(|(one, _)| *one == self).map_or("", |(_, name)| name)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        match self {
            Admission::Fifo => 0,
            Admission::WorkingSet => 1,
            Admission::Deadline => 2,
        }
    }

    /// The one of a number.
    pub fn of(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.number() == number)
    }
}

impl Words for Admission {
    #[inline(always)]
    fn put(self, words: &mut [u64; 7], at: &mut usize) {
        self.number().put(words, at);
    }

    #[inline(always)]
    fn take(kind: u32, words: &[u64; 7], at: &mut usize) -> Result<Self, BadMessage> {
        Admission::of(Words::take(kind, words, at)?).ok_or(BadMessage { kind, what: Malformed::Admission })
    }
}

/// What VMs that are admitted could have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Free frames that are kept for no VM.
    pub frames: u64,
    /// Free seats.
    pub seats: u32,
}

messages! {
    /// Scheduler to core.
    SchedCommand {
        /// Next entry of the plan: run `vm` for at most `quantum_ticks`. Skipped when the VM cannot run by then.
        0x211 Run { vm: VmId, quantum_ticks: u64 },
        /// Admit a VM that has arrived.
        0x212 Admit { vm: VmId },
        /// Keep a VM back: until the plan names it again, by `Run` or `Admit`, or the scheduler is started anew, the core neither
        /// runs nor admits it by itself.
        0x213 Hold { vm: VmId },
        /// Standing rules, until others come or the scheduler ends: a VM that becomes able to run and may run ahead (`Allow`) does so before
        /// what is planned, in the order of waking, `most_in_row` of them until a planned turn begins, or has a slice. With `preempts` they
        /// interrupt the turn that somebody has, which goes on afterwards. A turn ahead lasts `slice_ticks` for a VM of weight 100, and for others in
        /// proportion; who can go on after that, and may run ahead still, does so behind those that have woken meanwhile. Where `most_in_row` is 0,
        /// nobody runs ahead, as at the start.
        0x214 Rules { most_in_row: u32, preempts: bool, slice_ticks: u64 },
        /// A VM may run `ticks` ahead of the plan, in place of what it was allowed before. What it runs counts against that, whoever has
        /// chosen its turns.
        0x215 Allow { vm: VmId, ticks: u64 },
        /// A VM that waits for room is the next to be admitted: it is to have room before all others that wait.
        0x216 First { vm: VmId },
    }
}

impl Words for Room {
    #[inline(always)]
    fn put(self, words: &mut [u64; 7], at: &mut usize) {
        self.frames.put(words, at);
        self.seats.put(words, at);
    }

    #[inline(always)]
    fn take(kind: u32, words: &[u64; 7], at: &mut usize) -> Result<Self, BadMessage> {
        Ok(Room { frames: Words::take(kind, words, at)?, seats: Words::take(kind, words, at)? })
    }
}
