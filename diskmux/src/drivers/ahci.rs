//! SATA disks behind an AHCI controller (a "host bus adapter", HBA), as nearly every PC has one.
//!
//! Sections are those of "Serial ATA AHCI 1.3.1 Specification" (Intel). Commands are those of "ATA8-ACS" (T13/1699-D). What is no ATA disk, as a CD-ROM
//! drive or a port multiplier, is left alone.

mod identity;
mod port;

pub use self::port::OWN_BYTES;
use self::port::{Port, State};
use super::{Controller, Done, Geometry, MAX_RUN, Registers, Request, Room, Sleep};
use crate::disks::MAX_DISKS;
use ring::SharedMemory;

/// Where an HBA with registers in memory has them (section 2.1.11): the number of the base address register.
pub const BAR: usize = 5;

/// Registers of the whole HBA (section 3.1).
mod reg {
    /// What it can do.
    pub const CAP: usize = 0x00;
    /// Control.
    pub const GHC: usize = 0x04;
    /// Ports that have news.
    pub const IS: usize = 0x08;
    /// Ports that there are.
    pub const PI: usize = 0x0c;
    /// What else it can do.
    pub const CAP2: usize = 0x24;
    /// Who owns it, the firmware or the operating system.
    pub const BOHC: usize = 0x28;
    /// The first port's.
    pub const PORTS: usize = 0x100;
    /// Of each port.
    pub const PORT_BYTES: usize = 0x80;
}

/// CAP: 64-bit addresses; queued commands (NCQ). Bits 12..8: slots but one.
const CAP_WIDE: u32 = 1 << 31;
const CAP_QUEUED: u32 = 1 << 30;
/// GHC: reset; interrupts; AHCI is on.
const GHC_RESET: u32 = 1;
const GHC_INTERRUPTS: u32 = 1 << 1;
const GHC_ON: u32 = 1 << 31;
/// CAP2: there is a handoff.
const CAP2_HANDOFF: u32 = 1;
/// BOHC: owned by the firmware; by the operating system; the firmware is busy.
const BIOS_OWNS: u32 = 1;
const SYSTEM_OWNS: u32 = 1 << 1;
const BIOS_BUSY: u32 = 1 << 4;

/// Looks at the whole HBA, 100 microseconds apart, until it must have done what it was asked: a second for a reset (section 10.4.3), two for a
/// firmware that is busy (section 10.6.3).
const RESET_LOOKS: u32 = 10_000;
const HANDOFF_LOOKS: u32 = 20_000;
/// Looks, a millisecond apart, until a disk that is there has been noticed after a reset.
const NOTICE_LOOKS: u32 = 100;
/// Looks, 100 microseconds apart, until a disk is ready: it may have to start spinning.
const READY_LOOKS: u32 = 100_000;
/// Likewise, until it has answered a command.
const ANSWER_LOOKS: u32 = 20_000;

/// Requests at the same time for a disk with queued commands.
pub const DEPTH: usize = 16;

/// The HBA without its ports: what these need of it.
struct Hba<R, S> {
    registers: R,
    sleep: S,
    memory: SharedMemory,
    physical: u64,
}

impl<R: Registers, S: Sleep> Hba<R, S> {
    /// Looks at a register until its bits under `mask` are `value`, 100 microseconds apart.
    fn wait_for(&mut self, register: usize, mask: u32, value: u32, looks: u32) -> bool {
        for _ in 0..looks {
            if self.registers.read(register) & mask == value {
                return true;
            }
            self.sleep.sleep(100);
        }
        false
    }

    /// Takes the HBA from the firmware (section 10.6.3).
    fn take_over(&mut self) {
        if self.registers.read(reg::CAP2) & CAP2_HANDOFF == 0 {
            return;
        }
        let owner = self.registers.read(reg::BOHC);
        self.registers.write(reg::BOHC, owner | SYSTEM_OWNS);
        // A firmware that does not answer within 25 milliseconds, and is not busy, has lost it.
        if !self.wait_for(reg::BOHC, BIOS_OWNS, 0, 250) {
            self.wait_for(reg::BOHC, BIOS_BUSY, 0, HANDOFF_LOOKS);
        }
    }
}

/// The HBA and its disks.
pub struct Ahci<R, S> {
    hba: Hba<R, S>,
    ports: heapless::Vec<Port, MAX_DISKS>,
    geometry: heapless::Vec<Geometry, MAX_DISKS>,
}

impl<R: Registers, S: Sleep> Ahci<R, S> {
    /// Takes the HBA from the firmware, resets it, which ends all its DMA whatever a former driver left it doing, and starts its disks.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn start(registers: R, room: &mut Room, sleep: S) -> Result<Self, &'static str> {
        if registers.bytes() < reg::PORTS + reg::PORT_BYTES {
            return Err("it has no registers for a port");
        }
        let mut hba = Hba { registers, sleep, memory: room.memory, physical: room.physical };
        hba.take_over();
        let on = hba.registers.read(reg::GHC) | GHC_ON;
        hba.registers.write(reg::GHC, on);
        hba.registers.write(reg::GHC, on | GHC_RESET);
        if !hba.wait_for(reg::GHC, GHC_RESET, 0, RESET_LOOKS) {
            return Err("it does not end its reset");
        }
        // Nothing else is on, interrupts of the whole not either.
        hba.registers.write(reg::GHC, GHC_ON);
        let cap = hba.registers.read(reg::CAP);
        if cap & CAP_WIDE == 0 && room.end() > 1 << 32 {
            return Err("it reaches 4 GiB only, and the memory of diskmux lies beyond them");
        }
        let there = hba.registers.read(reg::PI);
        let fit = (hba.registers.bytes() - reg::PORTS) / reg::PORT_BYTES;
        let numbers = (0..fit.min(32)).filter(move |number| there >> number & 1 != 0);
        let mut ahci = Ahci { hba, ports: heapless::Vec::new(), geometry: heapless::Vec::new() };
        numbers.clone().for_each(|number| port::wake(&mut ahci.hba, number));
        for _ in 0..NOTICE_LOOKS {
            if numbers.clone().all(|number| port::is_linked(&ahci.hba, number)) {
                break;
            }
            ahci.hba.sleep.sleep(1000);
        }
        let depth = usize::try_from(cap >> 8 & 31).map_or(1, |last| last + 1).min(DEPTH);
        let mut spare = None;
        for number in numbers {
            if port::is_linked(&ahci.hba, number) {
                ahci.add(number, cap & CAP_QUEUED != 0, depth, room, &mut spare);
            }
        }
        ahci.hba.registers.write(reg::IS, u32::MAX);
        ahci.hba.registers.write(reg::GHC, GHC_ON | GHC_INTERRUPTS);
        Ok(ahci)
    }

    /// Starts the disk at a port, if it is one. `spare` is memory that was taken for a port and is not used.
    fn add(&mut self, number: usize, queued: bool, depth: usize, room: &mut Room, spare: &mut Option<usize>) {
        let own = spare.take().or_else(|| room.take(port::OWN_BYTES, port::ALIGN));
        let Some(own) = own.filter(|_| !self.ports.is_full()) else {
            log::warn!("AHCI port {number}: there is no room for one more disk; {MAX_DISKS} at most are used");
            return;
        };
        match Port::start(&mut self.hba, number, own, queued, depth) {
            Ok((port, geometry)) => {
                // There is room, as was seen.
                let _ = self.ports.push(port);
                let _ = self.geometry.push(geometry);
            }
            Err(why) => {
                log::warn!("AHCI port {number} is not used: {why}");
                // What the port may still write is nobody else's.
                *spare = port::stop(&mut self.hba, number, true).then_some(own);
            }
        }
    }
}

impl<R: Registers, S: Sleep> Controller for Ahci<R, S> {
    fn driver(&self) -> u16 {
        abi::disk::driver::AHCI
    }

    fn disks(&self) -> &[Geometry] {
        &self.geometry
    }

    fn run(&self) -> usize {
        MAX_RUN
    }

    fn start(&mut self, tag: u16, request: Request<'_>) -> bool {
        let Some(geometry) = self.geometry.get(request.disk) else { return false };
        let inside = request.fits(geometry.blocks, MAX_RUN);
        let port = self.ports.get_mut(request.disk).filter(|_| inside);
        port.is_some_and(|port| port.give(&mut self.hba, tag, request))
    }

    fn done(&mut self) -> Option<Done> {
        for port in &mut self.ports {
            if !port.has_ended() && port.is_at_work() {
                port.look(&mut self.hba);
            }
            if let Some(done) = port.take() {
                return Some(done);
            }
        }
        None
    }

    fn interrupt(&mut self) {
        let came = self.hba.registers.read(reg::IS);
        for port in self.ports.iter_mut().filter(|port| came >> port.number() & 1 != 0) {
            port.look(&mut self.hba);
        }
        // Behind the ports: whatever they have said since says so again (section 10.7.2.1).
        self.hba.registers.write(reg::IS, came);
    }

    fn is_polled(&self) -> bool {
        // A disk that is being reset says nothing when it is ready.
        self.ports.iter().any(|port| matches!(port.state(), State::Resetting(_)))
    }
}

#[cfg(test)]
#[path = "ahci_tests.rs"]
mod tests;
