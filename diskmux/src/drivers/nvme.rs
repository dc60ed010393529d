//! NVMe: flash behind PCI Express, in nearly every new PC and in clouds.
//!
//! Sections are those of "NVM Express Base Specification 1.4". There is one pair of queues for requests beside the admin queues, which only the start uses.

mod queue;

use self::queue::{Completion, Device, ENTRIES, Pair};
use super::{Controller, Done, Geometry, MAX_RUN, Op, Registers, Request, Room, Sleep, halves};
use crate::disks::MAX_DISKS;
use abi::pci::{Config, MsixPlace};
use core::ops::Range;

/// Where it has its registers (section 2.1.10): the number of the base address register.
pub const BAR: usize = 0;

/// Registers (section 3.1).
mod reg {
    /// What it can do; the upper half follows.
    pub const CAP: usize = 0x00;
    pub const CAP_HIGH: usize = 0x04;
    /// Control.
    pub const CC: usize = 0x14;
    /// Status.
    pub const CSTS: usize = 0x1c;
    /// Entries of the admin queues, and where they lie.
    pub const AQA: usize = 0x24;
    pub const ASQ: usize = 0x28;
    pub const ACQ: usize = 0x30;
    /// Doorbells: of each queue that of what is submitted, then that of what has been completed.
    pub const DOORBELLS: usize = 0x1000;
}

/// Control: it works; entries of what is submitted and completed are of 2^6 and 2^4 bytes. Pages are of 4 KiB.
const ENABLE: u32 = 1;
const ENTRY_SIZES: u32 = 6 << 16 | 4 << 20;
/// Status: it is ready; it has failed, as one that is gone seems to have.
const READY: u32 = 1;
const FATAL: u32 = 1 << 1;

/// Admin commands (section 5).
const CREATE_SUBMISSIONS: u32 = 0x01;
const CREATE_COMPLETIONS: u32 = 0x05;
const IDENTIFY: u32 = 0x06;
const SET_FEATURES: u32 = 0x09;
/// What to identify (section 5.15.1): a namespace, the controller, the list of namespaces.
const NAMESPACE: u32 = 0;
const CONTROLLER: u32 = 1;
const NAMESPACES: u32 = 2;
/// The feature "number of queues" (section 5.21.1.7).
const QUEUE_COUNT: u32 = 7;

/// Commands (section 6).
const FLUSH: u32 = 0;
const WRITE: u32 = 1;
const READ: u32 = 2;

/// Requests at the same time.
pub const DEPTH: usize = 16;
/// All of them.
const ALL: u32 = (1 << DEPTH) - 1;
/// Of the number of a command the lower bits are its place, and the upper ones are another one each time.
const PLACE_BITS: u32 = DEPTH.trailing_zeros();
const GENERATIONS: u16 = 0xfff;

const PAGE: usize = 4096;
/// Bytes of DMA memory that are the driver's own: a page for each end of each pair of queues, and one with a list of pages for each request.
pub const OWN_BYTES: usize = 5 * PAGE;
/// Bytes of such a list: all blocks of a request but the first, which the command itself names.
const LIST_BYTES: usize = 8 * MAX_RUN;
/// Looks, 100 microseconds apart, until an admin command is done: ten seconds.
const LOOKS: u32 = 100_000;

/// What the controller is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It works.
    Works,
    /// It has failed, and was told to stop.
    Stopping,
    /// It has stopped.
    Dead,
}

/// A request that was given.
#[derive(Clone, Copy, Debug)]
struct Slot {
    tag: u16,
    generation: u16,
}

/// What a disk is to the controller.
#[derive(Clone, Copy, Debug)]
struct Namespace {
    id: u32,
    /// A block has 2^shift sectors.
    shift: u32,
}

/// The controller and its disks.
pub struct Nvme<R> {
    device: Device<R>,
    pair: Pair,
    /// Where the lists of pages lie.
    lists: usize,
    /// Blocks of a request at most.
    run: usize,
    namespaces: heapless::Vec<Namespace, MAX_DISKS>,
    geometry: heapless::Vec<Geometry, MAX_DISKS>,
    state: State,
    slots: [Slot; DEPTH],
    generation: u16,
    /// One bit for each slot, here and below: given to the controller.
    issued: u32,
    /// Ended, well and not so.
    good: u32,
    bad: u32,
}

impl<R: Registers> Nvme<R> {
    /// Resets the controller with this configuration space, which ends all its DMA whatever a former driver left it doing, and starts it (section 7.6.1).
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn start(registers: R, config: &Config, room: &mut Room, sleep: &mut impl Sleep) -> Result<Self, &'static str> {
        if registers.bytes() < reg::DOORBELLS {
            return Err("it has too few registers");
        }
        let (low, high) = (registers.read(reg::CAP), registers.read(reg::CAP_HIGH));
        // Bits 35..32: doorbells are 4 * 2^n bytes apart. Bits 51..48: pages of 4 KiB * 2^n at least. Bit 37: it has blocks.
        let stride = 4_usize << (high & 15);
        let registers_end = reg::DOORBELLS + 4 * stride;
        if registers.bytes() < registers_end || is_hole(config, 0..registers_end) {
            return Err("its doorbells lie where its table of MSI-X does, or beyond its registers");
        }
        if high >> 16 & 15 != 0 || high & 1 << 5 == 0 || low & 0xffff < u32::from(ENTRIES) - 1 {
            return Err("it has no pages of 4 KiB, no commands for blocks, or no queues of 32 entries");
        }
        let own = room.take(OWN_BYTES, PAGE).ok_or("there is no memory left for its driver")?;
        let mut device = Device { registers, memory: room.memory, physical: room.physical, stride };
        // Bits 31..24: how long it may take, in halves of a second.
        let patience = (low >> 24).max(1) * 5_000;
        reset(&mut device, patience, sleep)?;
        let mut admin = Pair::new(0, own);
        let last = u32::from(ENTRIES) - 1;
        device.registers.write(reg::AQA, last << 16 | last);
        device.write_address(reg::ASQ, own);
        device.write_address(reg::ACQ, own + PAGE);
        device.registers.write(reg::CC, ENTRY_SIZES | ENABLE);
        if !wait_for(&mut device, READY | FATAL, READY, patience, sleep) {
            return Err("it does not get ready");
        }
        let pair = Pair::new(1, own + 2 * PAGE);
        let mut starting = Starting { device, admin: &mut admin, sleep, given: 0, page: own + 2 * PAGE };
        let run = starting.run()?;
        let (namespaces, geometry) = starting.find()?;
        starting.create(&pair)?;
        let none = Slot { tag: 0, generation: 0 };
        Ok(Nvme {
            device: starting.device,
            pair,
            lists: own + 4 * PAGE,
            run,
            namespaces,
            geometry,
            state: State::Works,
            slots: [none; DEPTH],
            generation: 0,
            issued: 0,
            good: 0,
            bad: 0,
        })
    }

    /// Takes what the controller says that it has completed.
    fn take_completions(&mut self) {
        let mut took = false;
        // As many rounds as there are entries: whatever the device says, this ends.
        for _ in 0..ENTRIES {
            let Some(Completion { id, good }) = self.pair.next(&self.device) else { break };
            took = true;
            // An allegation: it may name what was never given, or has ended.
            let place = usize::from(id) % DEPTH;
            let bit = 1 << place;
            if self.issued & bit != 0 && self.slots[place].generation == id >> PLACE_BITS {
                self.issued &= !bit;
                *if good { &mut self.good } else { &mut self.bad } |= bit;
            }
        }
        if took {
            self.pair.acknowledge(&mut self.device);
        }
    }

    /// What a command says of its memory (section 4.3): the first page; and the second one, or, where there are more, where the list of them lies.
    fn pages(&self, place: usize, buffers: &[usize]) -> [u64; 2] {
        let physical = |at: usize| self.device.physical + at as u64;
        match *buffers {
            [] => [0, 0],
            [one] => [physical(one), 0],
            [first, second] => [physical(first), physical(second)],
            [first, ref others @ ..] => {
                let list = self.lists + LIST_BYTES * place;
                for (i, &page) in others.iter().enumerate() {
                    // It lies in the page of lists.
                    let _ = self.device.memory.store64(list + 8 * i, physical(page));
                }
                [physical(first), physical(list)]
            }
        }
    }

    /// Whether the controller works at all: it may have failed (section 9.5). What it was given then fails when it has stopped, and never ends before.
    fn look_at_health(&mut self) {
        let status = self.device.registers.read(reg::CSTS);
        if self.state == State::Works && status & FATAL != 0 {
            log::error!("NVMe: the controller has failed (status {status:#x}) and is given up");
            let control = self.device.registers.read(reg::CC);
            self.device.registers.write(reg::CC, control & !ENABLE);
            self.state = State::Stopping;
        }
        if self.state == State::Stopping && self.device.registers.read(reg::CSTS) & READY == 0 {
            self.state = State::Dead;
            self.bad |= core::mem::take(&mut self.issued);
        }
    }
}

/// Whether some of these registers lie in pages that the core has left out for the table of MSI-X.
fn is_hole(config: &Config, registers: Range<usize>) -> bool {
    let pages = MsixPlace::of(config).filter(|table| usize::from(table.bar) == BAR).map(|table| table.pages());
    pages.is_some_and(|pages| pages.start < registers.end as u64 && pages.end > registers.start as u64)
}

fn wait_for<R: Registers>(device: &mut Device<R>, mask: u32, value: u32, looks: u32, sleep: &mut impl Sleep) -> bool {
    for _ in 0..looks {
        if device.registers.read(reg::CSTS) & mask == value {
            return true;
        }
        sleep.sleep(100);
    }
    false
}

/// Switches it off.
fn reset<R: Registers>(device: &mut Device<R>, patience: u32, sleep: &mut impl Sleep) -> Result<(), &'static str> {
    let control = device.registers.read(reg::CC);
    // One that is being switched on is not to be switched off (section 3.1.5). If it never gets ready, off it is.
    if control & ENABLE != 0 && device.registers.read(reg::CSTS) & FATAL == 0 {
        wait_for(device, READY, READY, patience, sleep);
    }
    device.registers.write(reg::CC, control & !ENABLE);
    let off = wait_for(device, READY, 0, patience, sleep);
    if off { Ok(()) } else { Err("it does not end its reset") }
}

/// A controller of which only the admin queues work.
struct Starting<'a, R, S> {
    device: Device<R>,
    admin: &'a mut Pair,
    sleep: &'a mut S,
    /// Commands that were given.
    given: u16,
    /// A page for answers: the one of the submissions, as long as there are none.
    page: usize,
}

type Found = (heapless::Vec<Namespace, MAX_DISKS>, heapless::Vec<Geometry, MAX_DISKS>);

impl<R: Registers, S: Sleep> Starting<'_, R, S> {
    /// Has a command done: what it is, namespace, address in the memory, and the words 10 and 11.
    fn command(&mut self, code: u32, namespace: u32, at: usize, words: [u32; 2]) -> Result<(), &'static str> {
        self.given += 1;
        let page = self.device.physical + at as u64;
        self.admin.submit(&mut self.device, self.given, code, namespace, [page, 0], [words[0], words[1], 0]);
        for _ in 0..LOOKS {
            if let Some(Completion { id, good }) = self.admin.next(&self.device) {
                self.admin.acknowledge(&mut self.device);
                if id == self.given {
                    return if good { Ok(()) } else { Err("it refuses a command of its start") };
                }
            }
            self.sleep.sleep(100);
        }
        Err("it does not answer")
    }

    fn identify(&mut self, what: u32, namespace: u32) -> Result<(), &'static str> {
        self.command(IDENTIFY, namespace, self.page, [what, 0])
    }

    fn word(&self, at: usize) -> u32 {
        // It lies in the page.
        self.device.memory.read32(self.page + at).unwrap_or(0)
    }

    /// Blocks that a request may have, as the controller says.
    fn run(&mut self) -> Result<usize, &'static str> {
        self.identify(CONTROLLER, 0)?;
        // Byte 77: 2^n pages at most; 0 where it does not mind.
        Ok(match self.word(76) >> 8 & 0xff {
            0 => MAX_RUN,
            power => 1_usize.checked_shl(power).unwrap_or(MAX_RUN).min(MAX_RUN),
        })
    }

    /// Finds the namespaces that can be used as disks.
    fn find(&mut self) -> Result<Found, &'static str> {
        let mut ids = heapless::Vec::<u32, MAX_DISKS>::new();
        // Controllers before version 1.1 have no list: they number their namespaces from 1.
        if self.identify(NAMESPACES, 0).is_ok() {
            ids.extend((0..MAX_DISKS).map(|index| self.word(4 * index)).take_while(|&id| id != 0));
        } else {
            self.identify(CONTROLLER, 0)?;
            // Bytes 519..516.
            ids.extend((1..=self.word(516)).take(MAX_DISKS));
        }
        let (mut namespaces, mut geometry) = (heapless::Vec::new(), heapless::Vec::new());
        for id in ids {
            let found = self.identify(NAMESPACE, id).and_then(|()| self.namespace());
            match found {
                // As many as ids.
                Ok((shift, disk)) => {
                    let _ = namespaces.push(Namespace { id, shift });
                    let _ = geometry.push(disk);
                }
                Err(why) => log::warn!("NVMe namespace {id} is not used: {why}"),
            }
        }
        Ok((namespaces, geometry))
    }

    /// What the page says of a namespace (section 5.15.2.1).
    fn namespace(&self) -> Result<(u32, Geometry), &'static str> {
        let sectors = u64::from(self.word(0)) | u64::from(self.word(4)) << 32;
        // Byte 26: which of the formats from byte 128 on. Byte 99: it takes no writes.
        let chosen = self.word(24) >> 16 & 15;
        let read_only = self.word(96) >> 24 & 1 != 0;
        let format = self.word(128 + 4 * usize::try_from(chosen).unwrap_or(0));
        // Bits 15..0: bytes of metadata. Bits 23..16: a sector has 2^n bytes.
        if format & 0xffff != 0 {
            return Err("its sectors have metadata");
        }
        match 12_u32.checked_sub(format >> 16 & 0xff) {
            Some(shift) if shift <= 3 => Ok((shift, Geometry { blocks: sectors >> shift, read_only })),
            _ => Err("its sectors are not of 512 to 4,096 bytes"),
        }
    }

    /// Creates the queues for requests (sections 5.3 and 5.4).
    fn create(&mut self, pair: &Pair) -> Result<(), &'static str> {
        // Some want to be told that there will be one pair, and some do not know the command.
        let _ = self.command(SET_FEATURES, 0, self.page, [QUEUE_COUNT, 0]);
        let _ = self.device.memory.clear(self.page, 2 * PAGE);
        let size = (u32::from(ENTRIES) - 1) << 16 | pair.id();
        // In one piece; with interrupts, of which it has one.
        self.command(CREATE_COMPLETIONS, 0, pair.completions(), [size, 0b11])?;
        // In one piece; completed there.
        self.command(CREATE_SUBMISSIONS, 0, pair.submissions(), [size, pair.id() << 16 | 1])
    }
}

impl<R: Registers> Controller for Nvme<R> {
    fn driver(&self) -> u16 {
        abi::disk::driver::NVME
    }

    fn disks(&self) -> &[Geometry] {
        &self.geometry
    }

    fn run(&self) -> usize {
        self.run
    }

    fn start(&mut self, tag: u16, request: Request<'_>) -> bool {
        let Request { disk, op, block, buffers } = request;
        let free = ALL & !(self.issued | self.good | self.bad);
        let found = self.namespaces.get(disk).copied().zip(self.geometry.get(disk));
        let Some((Namespace { id, shift }, geometry)) = found else { return false };
        let place = usize::try_from(free.trailing_zeros()).ok().filter(|&place| place < DEPTH);
        let Some(place) = place else { return false };
        if !request.fits(geometry.blocks, self.run) {
            return false;
        }
        self.generation = (self.generation + 1) % GENERATIONS;
        self.slots[place] = Slot { tag, generation: self.generation };
        if self.state != State::Works {
            self.bad |= 1 << place;
            return true;
        }
        let [low, high] = halves(block << shift);
        let blocks = u32::try_from(buffers.len()).unwrap_or(1);
        let count = (blocks << shift).wrapping_sub(1);
        let (code, words) = match op {
            Op::Read => (READ, [low, high, count]),
            Op::Write => (WRITE, [low, high, count]),
            Op::Flush => (FLUSH, [0; 3]),
        };
        let number = self.generation << PLACE_BITS | u16::from(place.to_le_bytes()[0]);
        self.issued |= 1 << place;
        let pages = self.pages(place, buffers);
        self.pair.submit(&mut self.device, number, code, id, pages, words);
        true
    }

    fn done(&mut self) -> Option<Done> {
        if self.good | self.bad == 0 && self.issued != 0 {
            self.take_completions();
            if self.good | self.bad == 0 {
                self.look_at_health();
            }
        }
        let ended = self.good | self.bad;
        let place = usize::try_from(ended.trailing_zeros()).ok()?;
        let tag = self.slots.get(place)?.tag;
        let good = self.good >> place & 1 != 0;
        self.good &= !(1 << place);
        self.bad &= !(1 << place);
        Some(Done { tag, good })
    }

    fn interrupt(&mut self) {
        // What has been taken takes an interrupt line down.
        self.take_completions();
    }

    fn is_polled(&self) -> bool {
        self.state == State::Stopping
    }
}

const _: () = {
    // What is submitted and not completed has room, and no command's number is all ones.
    assert!(DEPTH * LIST_BYTES <= PAGE);
    assert!(DEPTH.is_power_of_two() && DEPTH < ENTRIES as usize && (GENERATIONS as usize) < 1 << (16 - PLACE_BITS));
};

#[cfg(test)]
#[path = "nvme_tests.rs"]
mod tests;
