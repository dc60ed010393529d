//! IDE controllers with bus-master DMA, as the PIIX of Bochs and QEMU.
//!
//! "ATA8-ACS" (T13/1699-D) says what the commands are, "Programming Interface for Bus Master IDE Controller" 1.0 (SFF-8038i) what the bus master is.
//! A channel does one request at a time. Interrupts stay off: whether a request has ended is seen by asking. What is no disk, as a
//! CD-ROM drive, is left alone.

use super::{Controller, Done, Geometry, MAX_RUN, Op, Request};
use abi::pci::Config;
use ring::SharedMemory;

/// Access to I/O ports. Ports that cannot be had read as all ones.
pub trait Ports {
    /// Reads 8 bits.
    fn read8(&mut self, port: u16) -> u8;
    /// Reads 16 bits.
    fn read16(&mut self, port: u16) -> u16;
    /// Writes 8 bits.
    fn write8(&mut self, port: u16, value: u8);
    /// Writes 32 bits.
    fn write32(&mut self, port: u16, value: u32);
}

/// Registers from a channel's command block on.
mod reg {
    pub const DATA: u16 = 0;
    pub const COUNT: u16 = 2;
    pub const LBA_LOW: u16 = 3;
    pub const LBA_MID: u16 = 4;
    pub const LBA_HIGH: u16 = 5;
    pub const DEVICE: u16 = 6;
    /// Read: the status. Written: a command.
    pub const STATUS: u16 = 7;
}

/// Bits of the status.
const BUSY: u8 = 0x80;
const FAULT: u8 = 0x20;
const REQUEST: u8 = 0x08;
const ERROR: u8 = 0x01;
/// Device control: no interrupts.
const NO_INTERRUPT: u8 = 2;
/// Device register: addresses are block numbers; bit 4 chooses the second drive.
const LBA: u8 = 0x40;
/// Device register: bits that older drives want to be set.
const OBSOLETE: u8 = 0xa0;

const IDENTIFY: u8 = 0xec;
const READ_DMA_EXT: u8 = 0x25;
const WRITE_DMA_EXT: u8 = 0x35;
const FLUSH_EXT: u8 = 0xea;
const READ_DMA: u8 = 0xc8;
const WRITE_DMA: u8 = 0xca;
const FLUSH: u8 = 0xe7;

/// Bus-master registers of a channel: command, status, address of the table of regions.
const MASTER_COMMAND: u16 = 0;
const MASTER_STATUS: u16 = 2;
const MASTER_TABLE: u16 = 4;
/// Command: go; the controller writes memory.
const GO: u8 = 1;
const TO_MEMORY: u8 = 8;
/// Status: it is at work; something went wrong; an interrupt came. Bits 1 and 2 are cleared by ones.
const ACTIVE: u8 = 1;
const WRONG: u8 = 2;
const CLEAR: u8 = 6;

/// Bytes of DMA memory that are the driver's own: a table for each channel.
pub const OWN_BYTES: usize = 4096;
/// Between the two tables, of which each entry names a region of memory: a page, so that none crosses a boundary of 64 KiB.
const TABLE_STRIDE: usize = ENTRY_BYTES * MAX_RUN;
const ENTRY_BYTES: usize = 8;
/// The last entry of a table.
const LAST: u32 = 1 << 31;
const BLOCK: u32 = 4096;
/// Sectors of 512 bytes in a block.
const SECTORS: u8 = 8;
/// What a drive takes at most without 48-bit addresses.
const SECTORS_28: u64 = 1 << 28;

/// Looks at the status, 100 microseconds apart, before a drive is given up: half a second.
const LOOKS: u32 = 5_000;

#[derive(Clone, Copy, Debug)]
struct Drive {
    channel: usize,
    second: bool,
    /// It takes 48-bit addresses.
    wide: bool,
}

#[derive(Clone, Copy, Debug)]
struct Channel {
    command: u16,
    control: u16,
    master: u16,
    /// What is being done.
    active: Option<(u16, Op)>,
}

/// A controller and its drives.
pub struct Ide<P> {
    ports: P,
    memory: SharedMemory,
    physical: u64,
    own: usize,
    channels: [Channel; 2],
    drives: heapless::Vec<Drive, 4>,
    geometry: heapless::Vec<Geometry, 4>,
    /// The last request found no room.
    refused: bool,
}

impl<P: Ports> Ide<P> {
    /// Looks for the drives of the controller with this configuration space. `physical` is the address at which it finds `memory`, in which
    /// [`OWN_BYTES`] from `own` on are the driver's; `sleep` sleeps that many microseconds at least. `None` when it is no bus master that
    /// can reach the memory.
    pub fn start(
        config: &Config,
        ports: P,
        memory: SharedMemory,
        physical: u64,
        own: usize,
        mut sleep: impl FnMut(u32),
    ) -> Option<Self> {
        u32::try_from(physical + memory.len() as u64).ok()?;
        let region = |bar: u8| Some(config.word(0x10 + 4 * bar)).filter(|word| word & 1 != 0).and_then(port_of);
        let master = region(4)?;
        let mode = config.byte(0x09);
        // Bits 0 and 2: the channel is in native mode, where base address registers say where it is.
        let channel = |native: u8, legacy: (u16, u16), bar: u8, master: u16| {
            let place =
                if mode & native == 0 { Some(legacy) } else { region(bar).zip(region(bar + 1).map(|at| at + 2)) };
            place.map(|(command, control)| Channel { command, control, master, active: None })
        };
        let channels = [channel(1, (0x1f0, 0x3f6), 0, master)?, channel(4, (0x170, 0x376), 2, master + 8)?];
        let (drives, geometry) = (heapless::Vec::new(), heapless::Vec::new());
        let mut ide = Ide { ports, memory, physical, own, channels, drives, geometry, refused: false };
        for channel in 0..2 {
            ide.write(channel, MASTER_COMMAND, 0);
            let control = ide.channels[channel].control;
            ide.ports.write8(control, NO_INTERRUPT);
            for second in [false, true] {
                if let Some((drive, geometry)) = ide.identify(channel, second, &mut sleep) {
                    // Four at most.
                    let _ = ide.drives.push(drive);
                    let _ = ide.geometry.push(geometry);
                }
            }
        }
        Some(ide)
    }

    fn status(&mut self, channel: usize) -> u8 {
        let control = self.channels[channel].control;
        self.ports.read8(control)
    }

    /// Lets a drive have the 400 nanoseconds that it may take to answer.
    fn pause(&mut self, channel: usize) {
        for _ in 0..4 {
            let _ = self.status(channel);
        }
    }

    /// Writes a bus-master register.
    fn write(&mut self, channel: usize, register: u16, value: u8) {
        let at = self.channels[channel].master + register;
        self.ports.write8(at, value);
    }

    fn command(&mut self, channel: usize, register: u16, value: u8) {
        let at = self.channels[channel].command + register;
        self.ports.write8(at, value);
    }

    /// Waits until the drive is not busy. Its status; `None` where there is none.
    fn settle(&mut self, channel: usize, sleep: &mut impl FnMut(u32)) -> Option<u8> {
        for _ in 0..LOOKS {
            match self.status(channel) {
                0xff => return None,
                status if status & BUSY == 0 => return Some(status),
                _ => sleep(100),
            }
        }
        None
    }

    /// Chooses a drive.
    fn select(&mut self, channel: usize, second: bool) {
        self.command(channel, reg::DEVICE, OBSOLETE | LBA | u8::from(second) << 4);
        self.pause(channel);
    }

    /// Asks a drive what it is. `None` for none, and for one that is no disk or has no DMA.
    fn identify(&mut self, channel: usize, second: bool, sleep: &mut impl FnMut(u32)) -> Option<(Drive, Geometry)> {
        self.select(channel, second);
        self.settle(channel, sleep)?;
        for register in [reg::COUNT, reg::LBA_LOW, reg::LBA_MID, reg::LBA_HIGH] {
            self.command(channel, register, 0);
        }
        self.command(channel, reg::STATUS, IDENTIFY);
        self.pause(channel);
        if self.status(channel) == 0 {
            return None;
        }
        let status = self.settle(channel, sleep)?;
        let at = self.channels[channel].command;
        let [mid, high] = [reg::LBA_MID, reg::LBA_HIGH].map(|register| self.ports.read8(at + register));
        // What is no disk refuses the command, and shows its own sign there.
        if status & (ERROR | FAULT) != 0 || status & REQUEST == 0 || (mid, high) != (0, 0) {
            return None;
        }
        let mut words = [0_u16; 256];
        words.iter_mut().for_each(|word| *word = self.ports.read16(at + reg::DATA));
        let long = |first: usize, count: usize| {
            words[first..first + count].iter().rev().fold(0_u64, |all, &word| all << 16 | u64::from(word))
        };
        // Word 49, bit 8: DMA. Word 83, bit 10: 48-bit addresses.
        if words[49] & 1 << 8 == 0 {
            return None;
        }
        let wide = words[83] & 1 << 10 != 0;
        let sectors = if wide { long(100, 4) } else { long(60, 2).min(SECTORS_28) };
        Some((
            Drive { channel, second, wide },
            Geometry { blocks: sectors.min(1 << 48) / u64::from(SECTORS), read_only: false },
        ))
    }
}

impl<P: Ports> Controller for Ide<P> {
    fn driver(&self) -> u16 {
        abi::disk::driver::IDE
    }

    fn disks(&self) -> &[Geometry] {
        &self.geometry
    }

    fn run(&self) -> usize {
        MAX_RUN
    }

    fn start(&mut self, tag: u16, request: Request<'_>) -> bool {
        let found = self.drives.get(request.disk).copied().zip(self.geometry.get(request.disk).copied());
        let Some((drive, geometry)) = found else { return false };
        let Drive { channel, second, wide } = drive;
        let busy = self.channels[channel].active.is_some() || self.status(channel) & BUSY != 0;
        let inside = request.fits(geometry.blocks, MAX_RUN);
        // It was seen at the start that all addresses have 32 bits.
        let base = self.physical;
        let physical = |at: usize| u32::try_from(base + at as u64).unwrap_or(0);
        let table_at = self.own + TABLE_STRIDE * channel;
        let table = physical(table_at);
        self.refused = busy;
        if busy || !inside {
            return false;
        }
        self.select(channel, second);
        if request.op == Op::Flush {
            self.command(channel, reg::STATUS, if wide { FLUSH_EXT } else { FLUSH });
            self.channels[channel].active = Some((tag, request.op));
            return true;
        }
        for (i, &buffer) in request.buffers.iter().enumerate() {
            let last = if i + 1 == request.buffers.len() { LAST } else { 0 };
            let _ = self.memory.store32(table_at + ENTRY_BYTES * i, physical(buffer));
            let _ = self.memory.store32(table_at + ENTRY_BYTES * i + 4, last | BLOCK);
        }
        // No more than fit into a byte.
        let sectors = SECTORS.saturating_mul(u8::try_from(request.buffers.len()).unwrap_or(1));
        let master = self.channels[channel].master;
        let direction = if request.op == Op::Read { TO_MEMORY } else { 0 };
        self.write(channel, MASTER_COMMAND, direction);
        self.write(channel, MASTER_STATUS, CLEAR);
        self.ports.write32(master + MASTER_TABLE, table);
        let [a, b, c, d, e, f, ..] = (request.block * u64::from(SECTORS)).to_le_bytes();
        if wide {
            // The upper halves first: each register takes two values.
            for (register, value) in [(reg::COUNT, 0), (reg::LBA_LOW, d), (reg::LBA_MID, e), (reg::LBA_HIGH, f)] {
                self.command(channel, register, value);
            }
        } else {
            self.command(channel, reg::DEVICE, OBSOLETE | LBA | u8::from(second) << 4 | d & 0x0f);
        }
        for (register, value) in [(reg::COUNT, sectors), (reg::LBA_LOW, a), (reg::LBA_MID, b), (reg::LBA_HIGH, c)] {
            self.command(channel, register, value);
        }
        let command = match (request.op, wide) {
            (Op::Read, true) => READ_DMA_EXT,
            (Op::Read, false) => READ_DMA,
            (_, true) => WRITE_DMA_EXT,
            (_, false) => WRITE_DMA,
        };
        self.command(channel, reg::STATUS, command);
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
        self.write(channel, MASTER_COMMAND, direction | GO);
        self.channels[channel].active = Some((tag, request.op));
        true
    }

    fn done(&mut self) -> Option<Done> {
        for channel in 0..2 {
            let Channel { command, master, active, .. } = self.channels[channel];
            let Some((tag, op)) = active else { continue };
            if self.status(channel) & (BUSY | REQUEST) != 0 {
                continue;
            }
            let transfer = if op == Op::Flush { 0 } else { self.ports.read8(master + MASTER_STATUS) };
            if transfer & ACTIVE != 0 && transfer & WRONG == 0 && self.status(channel) & (ERROR | FAULT) == 0 {
                // The drive is done and memory is not.
                continue;
            }
            if op != Op::Flush {
                self.write(channel, MASTER_COMMAND, 0);
            }
            // Reading it takes the interrupt back that there may have been.
            let status = self.ports.read8(command + reg::STATUS);
            self.channels[channel].active = None;
            return Some(Done { tag, good: status & (BUSY | ERROR | FAULT) == 0 && transfer & WRONG == 0 });
        }
        None
    }

    fn interrupt(&mut self) {}

    fn is_polled(&self) -> bool {
        self.refused || self.channels.iter().any(|channel| channel.active.is_some())
    }
}

const _: () = assert!(MAX_RUN * (SECTORS as usize) < 256 && 2 * TABLE_STRIDE <= OWN_BYTES);

/// The first port of a region.
fn port_of(word: u32) -> Option<u16> {
    u16::try_from(word & !3).ok().filter(|&port| port != 0)
}

#[cfg(test)]
#[path = "ide_tests.rs"]
mod tests;
