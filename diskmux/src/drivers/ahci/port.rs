//! A port of the HBA, and the disk at it.
//!
//! Queued commands are many at a time, each in a slot. What cannot be queued, a flush, is done alone. After an error nobody knows which of the queued
//! commands it was: the port is reset, and those that had not ended are given again, one after the other and not queued, so that the one that
//! cannot be done fails and the others do not.

use super::super::{Done, Geometry, MAX_RUN, Op, Registers, Request, Sleep, halves};
use super::identity::Identity;
use super::{ANSWER_LOOKS, DEPTH, Hba, READY_LOOKS, reg as hba_reg};
use core::sync::atomic::{Ordering, fence};

/// Registers of a port (section 3.3).
mod reg {
    /// The command list; its upper half follows.
    pub const LIST: usize = 0x00;
    /// Where frames from the disk go; likewise.
    pub const FRAMES: usize = 0x08;
    /// What has happened, cleared by ones, and of what of it there are interrupts.
    pub const STATUS: usize = 0x10;
    pub const ENABLE: usize = 0x14;
    /// Command and status.
    pub const COMMAND: usize = 0x18;
    /// The disk's status, and its error.
    pub const TASK: usize = 0x20;
    /// What the disk says that it is.
    pub const SIGNATURE: usize = 0x24;
    /// The link: its status, control and errors, which are cleared by ones.
    pub const LINK: usize = 0x28;
    pub const LINK_CONTROL: usize = 0x2c;
    pub const LINK_ERRORS: usize = 0x30;
    /// Slots with a queued command that has not ended.
    pub const QUEUED: usize = 0x34;
    /// Slots with a command that was not given to the disk, or, when not queued, has not ended.
    pub const ISSUED: usize = 0x38;
}

/// Events (section 3.3.5): the four frames by which commands end.
const ENDS: u32 = 0b1111;
/// The disk says that a command went wrong.
const TASK_ERROR: u32 = 1 << 30;
/// Something else went wrong: the link was lost or changed, an overflow, the link, the memory.
const OTHER_ERRORS: u32 = 1 << 6 | 1 << 22 | 1 << 24 | 1 << 27 | 1 << 28 | 1 << 29;
const ERRORS: u32 = TASK_ERROR | OTHER_ERRORS;

/// Command and status (section 3.3.7): commands are taken; the disk spins; it has power; frames are taken; frames are being taken; commands are
/// being taken; the link is active.
const GO: u32 = 1;
const SPIN: u32 = 1 << 1;
const POWER: u32 = 1 << 2;
const TAKE_FRAMES: u32 = 1 << 4;
const TAKES_FRAMES: u32 = 1 << 14;
const GOES: u32 = 1 << 15;
const LINK_ACTIVE: u32 = 1 << 28;

/// The disk's status: it is busy, or wants data; it is broken; an error.
const BUSY: u32 = 0x80 | 0x08;
const WRONG: u32 = 0x20 | 0x01;
/// The signature of an ATA disk.
const DISK: u32 = 0x0000_0101;
/// Link (section 3.3.10): bits 3..0 say that there is a disk, and that one can talk to it.
const LINK_MASK: u32 = 15;
const LINKED: u32 = 3;
/// Link control (section 3.3.11): reset it.
const RESET_LINK: u32 = 1;

/// The driver's own memory for a port: the command list, of which the first half is used; the frames; a command table for each slot, which begins with
/// the command and has its regions of memory behind.
const FRAMES: usize = 512;
const TABLES: usize = 1024;
const TABLE_BYTES: usize = REGIONS + REGION_BYTES * MAX_RUN;
const REGIONS: usize = 0x80;
const REGION_BYTES: usize = 16;
const HEADER_BYTES: usize = 32;
/// Bytes of it.
pub const OWN_BYTES: usize = TABLES + DEPTH * TABLE_BYTES;
/// It begins at a multiple of this.
pub(super) const ALIGN: usize = 1024;
/// Where a disk says what it is, before there are other commands: in tables that are not used then.
const IDENTITY: usize = TABLES + 2 * TABLE_BYTES;

const IDENTIFY: u8 = 0xec;
const READ_DMA_EXT: u8 = 0x25;
const WRITE_DMA_EXT: u8 = 0x35;
const FLUSH_EXT: u8 = 0xea;
const READ_QUEUED: u8 = 0x60;
const WRITE_QUEUED: u8 = 0x61;
/// Addresses are block numbers.
const LBA: u32 = 0x40;

/// Looks, 100 microseconds apart, at a port that is to stop (section 3.3.7: half a second).
const STOP_LOOKS: u32 = 5_000;
/// Looks at a disk that is reset while others work: five seconds, when it is looked at ten thousand times a second, so that its requests fail before
/// whoever waits for them gives it up.
const RESET_LOOKS: u32 = 50_000;

const BLOCK: u32 = 4096;

/// What a port is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It takes commands.
    Ready,
    /// It was reset after an error. So many more looks, then it is given up.
    Resetting(u32),
    /// It does not come back: nothing is given to it.
    Dead,
}

/// A request that was given.
#[derive(Clone, Copy, Debug)]
struct Slot {
    block: u64,
    /// How many; where they lie in the memory stands in the slot's command table as long as it has the request.
    blocks: u8,
    tag: u16,
    op: Op,
}

/// A port with a disk.
#[derive(Debug)]
pub(super) struct Port {
    number: usize,
    own: usize,
    /// The disk takes queued commands.
    queued: bool,
    /// Sectors in a block.
    sectors: u8,
    state: State,
    slots: [Slot; DEPTH],
    /// One bit for each slot, here and below: slots that can be used.
    usable: u32,
    /// Given to the disk.
    issued: u32,
    /// What is given to the disk is one command that is not queued.
    alone: bool,
    /// Waiting until they can be given alone.
    waiting: u32,
    /// Ended, well and not so.
    good: u32,
    bad: u32,
}

/// Where a register of port `number` lies.
fn at(number: usize, register: usize) -> usize {
    hba_reg::PORTS + hba_reg::PORT_BYTES * number + register
}

/// Gives the disk at a port power, and wakes the link.
pub(super) fn wake<R: Registers, S: Sleep>(hba: &mut Hba<R, S>, number: usize) {
    hba.registers.write(at(number, reg::ENABLE), 0);
    hba.registers.write(at(number, reg::COMMAND), SPIN | POWER | LINK_ACTIVE);
}

/// Whether one can talk to a disk there.
pub(super) fn is_linked<R: Registers, S: Sleep>(hba: &Hba<R, S>, number: usize) -> bool {
    hba.registers.read(at(number, reg::LINK)) & LINK_MASK == LINKED
}

/// Lets a port take no more commands, and, with `frames`, write no memory at all any more. False when it goes on.
pub(super) fn stop<R: Registers, S: Sleep>(hba: &mut Hba<R, S>, number: usize, frames: bool) -> bool {
    let command = at(number, reg::COMMAND);
    let now = hba.registers.read(command);
    hba.registers.write(command, now & !GO);
    if !hba.wait_for(command, GOES, 0, STOP_LOOKS) {
        return false;
    }
    if frames {
        hba.registers.write(command, now & !(GO | TAKE_FRAMES));
    }
    !frames || hba.wait_for(command, TAKES_FRAMES, 0, STOP_LOOKS)
}

impl Port {
    /// Starts the disk at a port (section 10.1.2), and asks it what it is. The [`OWN_BYTES`] from `own` on in the memory are the port's.
    pub(super) fn start<R: Registers, S: Sleep>(
        hba: &mut Hba<R, S>,
        number: usize,
        own: usize,
        queued: bool,
        depth: usize,
    ) -> Result<(Port, Geometry), &'static str> {
        let none = Slot { block: 0, blocks: 0, tag: 0, op: Op::Flush };
        let mut port = Port {
            number,
            own,
            queued: false,
            sectors: 8,
            state: State::Ready,
            slots: [none; DEPTH],
            usable: 1,
            issued: 0,
            alone: false,
            waiting: 0,
            good: 0,
            bad: 0,
        };
        for (register, offset) in [(reg::LIST, 0), (reg::FRAMES, FRAMES)] {
            let [low, high] = halves(hba.physical + (own + offset) as u64);
            hba.registers.write(at(number, register), low);
            hba.registers.write(at(number, register + 4), high);
        }
        hba.registers.write(at(number, reg::LINK_ERRORS), u32::MAX);
        let command = hba.registers.read(at(number, reg::COMMAND));
        hba.registers.write(at(number, reg::COMMAND), command | TAKE_FRAMES);
        if !hba.wait_for(at(number, reg::TASK), BUSY, 0, READY_LOOKS) {
            return Err("what is at it does not get ready");
        }
        if hba.registers.read(at(number, reg::SIGNATURE)) != DISK {
            return Err("what is at it is no ATA disk");
        }
        port.go(hba);
        port.put_region(hba, 0, 0, own + IDENTITY, 512);
        port.place(hba, 0, [IDENTIFY.into(), 0, 0, 0], false, 1);
        hba.registers.write(at(number, reg::ISSUED), 1);
        let answered = hba.wait_for(at(number, reg::ISSUED), 1, 0, ANSWER_LOOKS);
        let wrong = hba.registers.read(at(number, reg::STATUS)) & ERRORS != 0;
        if !answered || wrong || hba.registers.read(at(number, reg::TASK)) & (BUSY | WRONG) != 0 {
            return Err("the disk at it does not say what it is");
        }
        let mut identity = [0; 512];
        hba.memory.read(own + IDENTITY, &mut identity).ok_or("the memory for it is too small")?;
        let identity = Identity(identity);
        let (blocks, sectors) = identity.size()?;
        port.sectors = sectors;
        port.queued = queued && identity.queued() > 0;
        let depth = if port.queued { depth.min(identity.queued()) } else { 1 };
        port.usable = u32::MAX >> (32 - depth.clamp(1, DEPTH));
        port.clear_events(hba);
        Ok((port, Geometry { blocks, read_only: false }))
    }

    pub(super) fn number(&self) -> usize {
        self.number
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Whether [`Port::take`] has something.
    pub(super) fn has_ended(&self) -> bool {
        self.good | self.bad != 0
    }

    /// Whether something is to be expected of it.
    pub(super) fn is_at_work(&self) -> bool {
        self.issued | self.waiting != 0 || matches!(self.state, State::Resetting(_))
    }

    fn clear_events<R: Registers, S: Sleep>(&self, hba: &mut Hba<R, S>) {
        // In this order: the link's errors are among the events.
        hba.registers.write(at(self.number, reg::LINK_ERRORS), u32::MAX);
        hba.registers.write(at(self.number, reg::STATUS), u32::MAX);
    }

    /// Lets it take commands.
    fn go<R: Registers, S: Sleep>(&mut self, hba: &mut Hba<R, S>) {
        self.clear_events(hba);
        hba.registers.write(at(self.number, reg::ENABLE), ENDS | ERRORS);
        let command = hba.registers.read(at(self.number, reg::COMMAND));
        hba.registers.write(at(self.number, reg::COMMAND), command | GO);
        self.state = State::Ready;
    }

    /// Puts a command into a slot (sections 4.2.2 and 4.2.3; the frame is the "Register - Host to Device" of Serial ATA): the command with its lower features
    /// in bits 31..24 in the place of bits 15..8, lower and upper half of the address, and the count. The memory is that of so many [regions](Port::put_region), which the
    /// disk reads with `out`.
    fn place<R, S>(&self, hba: &Hba<R, S>, slot: usize, words: [u32; 4], out: bool, regions: u8) {
        let [command, low, high, count] = words;
        let (header, table) = (self.own + HEADER_BYTES * slot, self.own + TABLES + TABLE_BYTES * slot);
        let put = |at: usize, word: u32| {
            // All of it lies in the port's own memory.
            let _ = hba.memory.store32(at, word);
        };
        // A frame to the disk, which is a command.
        put(table, 0x27 | 0x80 << 8 | (command & 0xff) << 16 | (command & 0xff00) << 16);
        [low | LBA << 24, high, count, 0].into_iter().zip(1..).for_each(|(word, i)| put(table + 4 * i, word));
        let [low, high] = halves(hba.physical + table as u64);
        // Five words of command, the direction, and the number of regions.
        put(header, 5 | u32::from(out) << 6 | u32::from(regions) << 16);
        [0, low, high].into_iter().zip(1..).for_each(|(word, i)| put(header + 4 * i, word));
    }

    /// Puts a region of memory into the command table of a slot (section 4.2.3.3).
    fn put_region<R, S>(&self, hba: &Hba<R, S>, slot: usize, index: usize, buffer: usize, bytes: u32) {
        let [low, high] = halves(hba.physical + buffer as u64);
        let at = self.own + TABLES + TABLE_BYTES * slot + REGIONS + REGION_BYTES * index;
        for (i, word) in [low, high, 0, bytes - 1].into_iter().enumerate() {
            // All of it lies in the port's own memory.
            let _ = hba.memory.store32(at + 4 * i, word);
        }
    }

    /// Gives the disk what is in a slot.
    fn issue<R: Registers, S: Sleep>(&mut self, hba: &mut Hba<R, S>, index: usize, queued: bool) {
        let Slot { block, blocks, op, .. } = self.slots[index];
        let [a, b, c, d, e, f, ..] = (block * u64::from(self.sectors)).to_le_bytes();
        let (low, high) = (u32::from_le_bytes([a, b, c, 0]), u32::from_le_bytes([d, e, f, 0]));
        let count = u32::from(self.sectors) * u32::from(blocks);
        let command = |command: u8| u32::from(command);
        // A queued command has its slot in the place of the count, which is among the features.
        let tag = u32::from(index.to_le_bytes()[0]) << 3;
        let words = match (op, queued) {
            (Op::Flush, _) => [command(FLUSH_EXT), 0, 0, 0],
            (Op::Read, false) => [command(READ_DMA_EXT), low, high, count],
            (Op::Write, false) => [command(WRITE_DMA_EXT), low, high, count],
            (Op::Read, true) => [command(READ_QUEUED) | count << 8, low, high, tag],
            (Op::Write, true) => [command(WRITE_QUEUED) | count << 8, low, high, tag],
        };
        self.place(hba, index, words, op == Op::Write, blocks);
        self.issued |= 1 << index;
        self.alone = !queued;
        fence(Ordering::SeqCst);
        if queued {
            hba.registers.write(at(self.number, reg::QUEUED), 1 << index);
        }
        hba.registers.write(at(self.number, reg::ISSUED), 1 << index);
    }

    /// Takes a request. False when there is no room for it now.
    pub(super) fn give<R: Registers, S: Sleep>(&mut self, hba: &mut Hba<R, S>, tag: u16, request: Request<'_>) -> bool {
        let free = self.usable & !(self.issued | self.waiting | self.good | self.bad);
        let Some(index) = usize::try_from(free.trailing_zeros()).ok().filter(|_| free != 0) else { return false };
        let Request { op, block, buffers, .. } = request;
        let bit = 1 << index;
        let queued = self.queued && op != Op::Flush;
        if self.state == State::Dead {
            self.bad |= bit;
        } else if self.waiting != 0 || self.issued != 0 && (self.alone || !queued && op != Op::Flush) {
            return false;
        }
        for (i, &buffer) in buffers.iter().enumerate() {
            self.put_region(hba, index, i, buffer, BLOCK);
        }
        // It was seen that there are so few.
        let blocks = u8::try_from(buffers.len()).unwrap_or(0);
        self.slots[index] = Slot { block, blocks, tag, op };
        match self.state {
            State::Ready if queued || self.issued == 0 => self.issue(hba, index, queued),
            State::Dead => {}
            // A flush behind queued commands, and whatever comes while the disk is reset.
            _ => self.waiting |= bit,
        }
        true
    }

    /// Gives the disk what waits, one after the other.
    fn go_on<R: Registers, S: Sleep>(&mut self, hba: &mut Hba<R, S>) {
        if self.issued == 0
            && self.waiting != 0
            && let Ok(index) = usize::try_from(self.waiting.trailing_zeros())
        {
            self.waiting &= !(1 << index);
            self.issue(hba, index, false);
        }
    }

    /// Looks at what has happened.
    pub(super) fn look<R: Registers, S: Sleep>(&mut self, hba: &mut Hba<R, S>) {
        match self.state {
            State::Dead => return,
            State::Resetting(looks) => return self.look_at_reset(hba, looks),
            State::Ready => {}
        }
        let events = hba.registers.read(at(self.number, reg::STATUS));
        if events != 0 {
            hba.registers.write(at(self.number, reg::STATUS), events);
        }
        // Those that were given, and that the HBA does not have any more. What it says of others counts for nothing.
        let left = hba.registers.read(at(self.number, reg::ISSUED)) | hba.registers.read(at(self.number, reg::QUEUED));
        let ended = self.issued & !left;
        if self.alone && self.issued != 0 {
            let wrong = hba.registers.read(at(self.number, reg::TASK)) & WRONG != 0;
            if events & ERRORS != 0 || ended != 0 && wrong {
                return self.recover(hba, events);
            }
        }
        // What the disk has written is read behind this.
        fence(Ordering::Acquire);
        self.good |= ended;
        self.issued &= !ended;
        if events & ERRORS != 0 {
            return self.recover(hba, events);
        }
        self.go_on(hba);
    }

    /// After an error (section 6.2.2): stops the port, and starts it again.
    fn recover<R: Registers, S: Sleep>(&mut self, hba: &mut Hba<R, S>, events: u32) {
        hba.registers.write(at(self.number, reg::ENABLE), 0);
        let busy = hba.registers.read(at(self.number, reg::TASK)) & BUSY != 0;
        if !stop(hba, self.number, false) {
            // What it was given it may still do: that never ends, and its memory is not used again.
            log::error!("AHCI port {} does not stop after an error (events {events:#x}) and is given up", self.number);
            self.state = State::Dead;
            self.bad |= core::mem::take(&mut self.waiting);
            return;
        }
        log::warn!("AHCI port {}: an error (events {events:#x}); it is started again", self.number);
        let issued = core::mem::take(&mut self.issued);
        if self.alone {
            self.bad |= issued;
        } else {
            self.waiting |= issued;
        }
        // A disk with queued commands takes nothing else before it is reset, or has told which of them it was.
        if !self.alone || busy || events & OTHER_ERRORS != 0 {
            let control = at(self.number, reg::LINK_CONTROL);
            hba.registers.write(control, RESET_LINK);
            // A millisecond at least (section 10.4.2).
            hba.sleep.sleep(1000);
            hba.registers.write(control, 0);
        }
        self.look_at_reset(hba, RESET_LOOKS);
    }

    fn look_at_reset<R: Registers, S: Sleep>(&mut self, hba: &mut Hba<R, S>, looks: u32) {
        let ready = is_linked(hba, self.number) && hba.registers.read(at(self.number, reg::TASK)) & BUSY == 0;
        if ready {
            self.go(hba);
            self.go_on(hba);
        } else if looks > 0 {
            self.state = State::Resetting(looks - 1);
        } else {
            log::error!("AHCI port {}: its disk does not come back after an error and is given up", self.number);
            self.state = State::Dead;
            // The port is stopped: nobody does these any more.
            self.bad |= core::mem::take(&mut self.waiting);
        }
    }

    /// A request that has ended.
    pub(super) fn take(&mut self) -> Option<Done> {
        let ended = self.good | self.bad;
        let index = usize::try_from(ended.trailing_zeros()).ok()?;
        let tag = self.slots.get(index)?.tag;
        let good = self.good >> index & 1 != 0;
        self.good &= !(1 << index);
        self.bad &= !(1 << index);
        Some(Done { tag, good })
    }
}

const _: () = {
    assert!(DEPTH <= 16 && FRAMES >= HEADER_BYTES * DEPTH && TABLES >= FRAMES + 256);
    assert!(
        TABLE_BYTES.is_multiple_of(128)
            && MAX_RUN * 8 < 256
            && IDENTITY + 512 <= OWN_BYTES
            && OWN_BYTES.is_multiple_of(ALIGN)
    );
};
