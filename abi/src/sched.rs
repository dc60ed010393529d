//! Messages between the core and the scheduler.

// The sentence above each message explains its fields.
#![allow(missing_docs)]

use crate::message::{BadMessage, Message, low16, low32};
use crate::vm::{Seat, VmId};

/// Core to scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedEvent {
    /// First message after every start of the scheduler: everything it knew is void. `room` can be given to VMs.
    Hello { quantum_ticks: u64, room: Room },
    /// A VM asks to be admitted; `frames` are kept for it then, and no others count. After a restart also for VMs still waiting.
    Arrived { vm: VmId, frames: u64, room: Room },
    /// An admitted VM can run: it has just been admitted, or something it waited for has happened. `weight` is that of its
    /// [`crate::share::Share`].
    Ready { vm: VmId, seat: Seat, weight: u16 },
    /// A VM no longer can run: it idles (`idle`), or waits for a page. It ran `ran_ticks` of its quantum.
    Blocked { vm: VmId, seat: Seat, ran_ticks: u64, idle: bool },
    /// A VM is gone, and its `seat`, if it was admitted, is free; `room` can be given to VMs now.
    Ended { vm: VmId, seat: Option<Seat>, room: Room },
    /// VMs wait for admission, and `room` can be given to VMs now: guests have given memory back, perhaps.
    Room { room: Room },
}

/// What VMs that are admitted could have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Free frames that are kept for no VM.
    pub frames: u64,
    /// Free seats.
    pub seats: u32,
}

/// Scheduler to core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedCommand {
    /// Next entry of the plan: run `vm` for at most `quantum_ticks`. Skipped when the VM cannot run by then.
    Run { vm: VmId, quantum_ticks: u64 },
    /// Admit a VM that has arrived.
    Admit { vm: VmId },
    /// Keep a VM back: until the plan names it again, by `Run` or `Admit`, or the scheduler is started anew, the core neither
    /// runs nor admits it by itself.
    Hold { vm: VmId },
}

const HELLO: u32 = 0x201;
const ARRIVED: u32 = 0x202;
const READY: u32 = 0x203;
const BLOCKED: u32 = 0x204;
const ENDED: u32 = 0x205;
const ROOM: u32 = 0x206;
const RUN: u32 = 0x211;
const ADMIT: u32 = 0x212;
const HOLD: u32 = 0x213;
/// The seat of a VM that has none.
const NO_SEAT: u64 = u64::MAX;

impl From<SchedEvent> for Message {
    #[inline]
    fn from(event: SchedEvent) -> Message {
        match event {
            SchedEvent::Hello { quantum_ticks, room } => {
                Message::new(HELLO, [quantum_ticks, room.frames, room.seats.into()])
            }
            SchedEvent::Arrived { vm, frames, room } => {
                Message::new(ARRIVED, [vm.raw(), frames, room.frames, room.seats.into()])
            }
            SchedEvent::Ready { vm, seat, weight } => {
                Message::new(READY, [vm.raw(), u64::from(seat.number()), weight.into()])
            }
            SchedEvent::Blocked { vm, seat, ran_ticks, idle } => {
                Message::new(BLOCKED, [vm.raw(), u64::from(seat.number()), ran_ticks, u64::from(idle)])
            }
            SchedEvent::Ended { vm, seat, room } => {
                let seat = seat.map_or(NO_SEAT, |seat| seat.number().into());
                Message::new(ENDED, [vm.raw(), room.frames, room.seats.into(), seat])
            }
            SchedEvent::Room { room } => Message::new(ROOM, [room.frames, room.seats.into()]),
        }
    }
}

impl TryFrom<&Message> for SchedEvent {
    type Error = BadMessage;

    #[inline]
    fn try_from(message: &Message) -> Result<Self, BadMessage> {
        let kind = message.kind;
        let [a, b, c, d, ..] = message.words;
        Ok(match kind {
            HELLO => SchedEvent::Hello { quantum_ticks: a, room: Room { frames: b, seats: low32(kind, c)? } },
            ARRIVED => {
                let room = Room { frames: c, seats: low32(kind, d)? };
                SchedEvent::Arrived { vm: VmId::from_raw(a), frames: b, room }
            }
            READY => {
                let seat = Seat::new(low16(kind, b)?);
                SchedEvent::Ready { vm: VmId::from_raw(a), seat, weight: low16(kind, c)? }
            }
            BLOCKED => {
                let seat = Seat::new(low16(kind, b)?);
                SchedEvent::Blocked { vm: VmId::from_raw(a), seat, ran_ticks: c, idle: d != 0 }
            }
            ENDED => {
                let seat = if d == NO_SEAT { None } else { Some(Seat::new(low16(kind, d)?)) };
                SchedEvent::Ended { vm: VmId::from_raw(a), seat, room: Room { frames: b, seats: low32(kind, c)? } }
            }
            ROOM => SchedEvent::Room { room: Room { frames: a, seats: low32(kind, b)? } },
            _ => return Err(BadMessage::unknown(kind)),
        })
    }
}

impl From<SchedCommand> for Message {
    #[inline]
    fn from(command: SchedCommand) -> Message {
        match command {
            SchedCommand::Run { vm, quantum_ticks } => Message::new(RUN, [vm.raw(), quantum_ticks]),
            SchedCommand::Admit { vm } => Message::new(ADMIT, [vm.raw()]),
            SchedCommand::Hold { vm } => Message::new(HOLD, [vm.raw()]),
        }
    }
}

impl TryFrom<&Message> for SchedCommand {
    type Error = BadMessage;

    #[inline]
    fn try_from(message: &Message) -> Result<Self, BadMessage> {
        let kind = message.kind;
        let [a, b, ..] = message.words;
        Ok(match kind {
            RUN => SchedCommand::Run { vm: VmId::from_raw(a), quantum_ticks: b },
            ADMIT => SchedCommand::Admit { vm: VmId::from_raw(a) },
            HOLD => SchedCommand::Hold { vm: VmId::from_raw(a) },
            _ => return Err(BadMessage::unknown(kind)),
        })
    }
}
