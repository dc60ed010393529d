//! Intel 82540EM ("e1000"), as real machines have it and Bochs and QEMU emulate it.
//!
//! Sections and tables are those of Intel's "PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual"
//! (317453). Checksums of frames are the guests' own; records of several segments are cut by the NIC (`segments.rs`).

mod predecessor;
mod segments;

use super::{Faults, Known, Nic, Received};
use crate::frame::Mac;
use abi::nic::{MAX_FRAME, MIN_FRAME};
use ring::SharedMemory;

/// What this driver drives.
pub const ID: Known = Known { vendor: 0x8086, device: 0x100e, name: "Intel 82540EM, e1000" };

/// Registers (table 13-2).
mod reg {
    pub const CTRL: usize = 0x0000;
    pub const STATUS: usize = 0x0008;
    pub const EERD: usize = 0x0014;
    pub const ICR: usize = 0x00c0;
    pub const ITR: usize = 0x00c4;
    pub const IMS: usize = 0x00d0;
    pub const IMC: usize = 0x00d8;
    pub const RCTL: usize = 0x0100;
    pub const TCTL: usize = 0x0400;
    pub const TIPG: usize = 0x0410;
    pub const RDBAL: usize = 0x2800;
    pub const RDBAH: usize = 0x2804;
    pub const RDLEN: usize = 0x2808;
    pub const RDH: usize = 0x2810;
    pub const RDT: usize = 0x2818;
    pub const RDTR: usize = 0x2820;
    pub const RADV: usize = 0x282c;
    pub const TDBAL: usize = 0x3800;
    pub const TDBAH: usize = 0x3804;
    pub const TDLEN: usize = 0x3808;
    pub const TDH: usize = 0x3810;
    pub const TDT: usize = 0x3818;
    pub const TIDV: usize = 0x3820;
    pub const MTA: usize = 0x5200;
    pub const RAL0: usize = 0x5400;
    pub const RAH0: usize = 0x5404;
    pub const MANC: usize = 0x5820;
}

/// CTRL (table 13-3): automatic speed, set link up, reset; and what must not be forced.
const CTRL_LRST: u32 = 1 << 3;
const CTRL_ASDE: u32 = 1 << 5;
const CTRL_SLU: u32 = 1 << 6;
const CTRL_ILOS: u32 = 1 << 7;
const CTRL_FORCE: u32 = 1 << 11 | 1 << 12;
const CTRL_RST: u32 = 1 << 26;
const CTRL_VME: u32 = 1 << 30;
const CTRL_PHY_RST: u32 = 1 << 31;
/// STATUS: link up.
const STATUS_LU: u32 = 1 << 1;
/// EERD (section 13.4.4): start, done.
const EERD_START: u32 = 1;
const EERD_DONE: u32 = 1 << 4;
/// RAH: the address is valid.
const RAH_AV: u32 = 1 << 31;
/// MANC: the firmware answers ARP by itself. Off: it does not know our VMs.
const MANC_ARP: u32 = 1 << 13;
/// Interrupt causes (section 13.4.17).
const INT_TXDW: u32 = 1;
const INT_LSC: u32 = 1 << 2;
const INT_RXDMT0: u32 = 1 << 4;
const INT_RXO: u32 = 1 << 6;
const INT_RXT0: u32 = 1 << 7;
/// The causes that interrupt always.
const INTERRUPTS: u32 = INT_LSC | INT_RXDMT0 | INT_RXO | INT_RXT0;
/// RCTL (section 13.4.22): on, all unicast, all multicast, broadcast, strip the checksum. Buffers of 2,048 bytes and no
/// long packets are what the zero bits say. All unicast, because every VM has a MAC of its own and the NIC has only 16
/// exact filters; on a switched network little else arrives.
const RCTL: u32 = 1 << 1 | 1 << 3 | 1 << 4 | 1 << 15 | 1 << 26;
/// TCTL (section 13.4.33): on, pad short packets, collision threshold 15, collision distance 64, retransmit late ones.
const TCTL: u32 = 1 << 1 | 1 << 3 | 0x0f << 4 | 0x40 << 12 | 1 << 24;
/// TIPG for copper (section 13.4.34): 10, 8, 6.
const TIPG: u32 = 10 | 8 << 10 | 6 << 20;
/// ITR in units of 256 ns: at most 20,000 interrupts a second. The first after a pause comes at once; under load there are
/// batches of 50 us, 70 of the shortest frames at 1 Gbit/s, which is what the receive ring holds easily. No delay
/// timers (RDTR) beside it: they would delay single frames.
const ITR: u32 = 195;

/// Second word of a receive descriptor (section 3.2.3): length in bits 15..0, then checksum, status, errors, special.
const RX_DONE: u64 = 1 << 32;
const RX_END: u64 = 1 << 33;
/// Errors: CRC or alignment, symbol, sequence, carrier extension, data.
const RX_ERRORS: u64 = 0x97 << 40;
/// Second word of a transmit descriptor (section 3.3.3): length in bits 15..0, command, status.
const TX_END: u64 = 1 << 24;
const TX_CHECKSUM: u64 = 1 << 25;
const TX_REPORT: u64 = 1 << 27;
const TX_DONE: u64 = 1 << 32;
/// The NIC reports every so many descriptors, not each: a power of two below the ring's size by a factor of 2 at least.
const REPORT_EVERY: usize = 8;

/// The NIC is reset at every so many starts, however it was left: one that hangs has perhaps brought its drivers down.
const RESET_EVERY: u32 = 4;

/// Bytes of a descriptor, and of a buffer.
const DESCRIPTOR: usize = 16;
const BUFFER: usize = 2048;
/// Receive and transmit descriptors, the largest first: multiples of 8 (section 13.4.27), powers of two.
const SIZES: [(usize, usize); 4] = [(256, 128), (128, 64), (64, 32), (32, 16)];

const _: () = assert!(SIZES[0].1 <= 128, "a bit for each transmit descriptor");

/// DMA memory that a ring pair of this size takes.
const fn dma_bytes((rx, tx): (usize, usize)) -> usize {
    (rx + tx) * (DESCRIPTOR + BUFFER)
}

/// DMA memory that the driver can make use of: 774 KiB. It gets along with [`DMA_BYTES_MIN`].
pub const DMA_BYTES: usize = dma_bytes(SIZES[0]);
/// DMA memory without which there is no driver: 97 KiB.
pub const DMA_BYTES_MIN: usize = dma_bytes(SIZES[3]);

/// Access to the NIC's registers, 32 bits each.
pub trait Registers {
    /// Reads the register at the byte `offset`.
    fn read(&self, offset: usize) -> u32;
    /// Writes the register at the byte `offset`.
    fn write(&mut self, offset: usize, value: u32);
}

impl Registers for component::Mmio {
    #[inline]
    fn read(&self, offset: usize) -> u32 {
        self.read32(offset)
    }

    #[inline]
    fn write(&mut self, offset: usize, value: u32) {
        self.write32(offset, value);
    }
}

/// Bytes of registers that the driver touches.
pub const REGISTER_BYTES: usize = 0x2_0000;

/// Why the driver cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The DMA memory has fewer bytes than [`DMA_BYTES_MIN`], or is not aligned to 16 bytes.
    Memory,
    /// All registers read as ones: the device does not answer.
    Absent,
}

impl core::fmt::Display for StartError {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            StartError::Memory => write!(out, "it needs {DMA_BYTES_MIN} bytes of DMA memory, aligned to 16"),
            StartError::Absent => out.write_str("its registers do not answer"),
        }
    }
}

/// Where a ring's descriptors and buffers lie in the DMA memory.
#[derive(Clone, Copy)]
struct Ring {
    descriptors: usize,
    buffers: usize,
    count: usize,
}

impl Ring {
    /// Offset of the second word of descriptor `index`.
    fn word(&self, index: usize) -> usize {
        self.descriptors + index * DESCRIPTOR + 8
    }

    fn buffer(&self, index: usize) -> usize {
        self.buffers + index * BUFFER
    }

    fn after(&self, index: usize) -> usize {
        (index + 1) & (self.count - 1)
    }
}

/// The NIC.
pub struct E1000<R> {
    registers: R,
    memory: SharedMemory,
    mac: Mac,
    link_up: bool,
    faults: Faults,
    /// The frame at `rx_next` belongs to one whose earlier part was dropped.
    rx_skipping: bool,
    waits_for_space: bool,
    rx: Ring,
    /// The descriptor that is filled next.
    rx_next: usize,
    /// Released descriptors that the NIC does not know of.
    rx_released: usize,
    tx: Ring,
    /// The descriptor that is used next, and the oldest that may still be in use.
    tx_next: usize,
    tx_oldest: usize,
    /// Filled descriptors that the NIC does not know of.
    tx_filled: usize,
    /// Where the NIC finds the memory.
    physical: u64,
    /// Transmit descriptors that do not name their own buffers just now: bit `i` for descriptor `i`.
    tx_moved: u128,
    /// There are some.
    tx_any_moved: bool,
    goes_on: bool,
}

impl<R: Registers> E1000<R> {
    /// Starts the NIC, as the `incarnation`th driver since boot. Where the one before has left it as this one would set it up, it goes on with its rings;
    /// else the NIC is stopped, whatever it was doing, and reset. `physical` is the address at which the NIC finds `memory`; `sleep` sleeps that many
    /// microseconds at least.
    ///
    /// # Errors
    ///
    /// When the memory does not suffice or the NIC does not answer.
    pub fn start(
        registers: R,
        memory: SharedMemory,
        physical: u64,
        incarnation: u32,
        mut sleep: impl FnMut(u32),
    ) -> Result<Self, StartError> {
        let (rx, tx) = layout(&memory, physical)?;
        if registers.read(reg::STATUS) == u32::MAX {
            return Err(StartError::Absent);
        }
        let mut nic = E1000 {
            registers,
            memory,
            mac: Mac::new([0; 6]),
            link_up: false,
            faults: Faults::default(),
            rx_skipping: false,
            waits_for_space: false,
            rx,
            rx_next: 0,
            rx_released: 0,
            tx,
            tx_next: 0,
            tx_oldest: 0,
            tx_filled: 0,
            physical,
            tx_moved: 0,
            tx_any_moved: false,
            goes_on: false,
        };
        let is_trusted = incarnation > 1 && !incarnation.is_multiple_of(RESET_EVERY);
        if is_trusted && nic.take_over(physical, &mut sleep) {
            nic.goes_on = true;
            return Ok(nic);
        }
        reset(&mut nic.registers, &mut sleep);
        nic.mac = read_mac(&mut nic.registers, &mut sleep);
        nic.set_up(physical);
        Ok(nic)
    }

    /// Whether it uses the rings that its predecessor has left.
    pub fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// Receive and transmit descriptors.
    pub fn descriptors(&self) -> (usize, usize) {
        (self.rx.count, self.tx.count)
    }

    /// Section 14: general, receive and transmit initialisation.
    fn set_up(&mut self, physical: u64) {
        let control = self.registers.read(reg::CTRL);
        let forced = CTRL_LRST | CTRL_ILOS | CTRL_FORCE | CTRL_VME | CTRL_PHY_RST | CTRL_RST;
        self.registers.write(reg::CTRL, control & !forced | CTRL_ASDE | CTRL_SLU);
        let managed = self.registers.read(reg::MANC);
        self.registers.write(reg::MANC, managed & !MANC_ARP);

        let [a, b, c, d, e, f] = self.mac.bytes();
        self.registers.write(reg::RAL0, u32::from_le_bytes([a, b, c, d]));
        self.registers.write(reg::RAH0, u32::from_le_bytes([e, f, 0, 0]) | RAH_AV);
        for index in 0..128 {
            self.registers.write(reg::MTA + 4 * index, 0);
        }

        for ring in [self.rx, self.tx] {
            for index in 0..ring.count {
                self.store(ring.word(index) - 8, physical + wide(ring.buffer(index)));
                self.store(ring.word(index), 0);
            }
        }
        let (low, high) = halves(physical + wide(self.rx.descriptors));
        self.registers.write(reg::RDBAL, low);
        self.registers.write(reg::RDBAH, high);
        self.registers.write(reg::RDLEN, narrow(self.rx.count * DESCRIPTOR));
        self.registers.write(reg::RDH, 0);
        self.registers.write(reg::RDT, 0);
        self.registers.write(reg::RDTR, 0);
        self.registers.write(reg::RADV, 0);
        self.registers.write(reg::ITR, ITR);
        let (low, high) = halves(physical + wide(self.tx.descriptors));
        self.registers.write(reg::TDBAL, low);
        self.registers.write(reg::TDBAH, high);
        self.registers.write(reg::TDLEN, narrow(self.tx.count * DESCRIPTOR));
        self.registers.write(reg::TDH, 0);
        self.registers.write(reg::TDT, 0);
        self.registers.write(reg::TIDV, 0);
        self.registers.write(reg::TIPG, TIPG);
        self.registers.write(reg::TCTL, TCTL);

        self.registers.write(reg::RCTL, RCTL);
        // Head and tail equal means empty, so one descriptor always stays with us.
        self.registers.write(reg::RDT, narrow(self.rx.count - 1));
        self.look_at_link();
        self.registers.write(reg::IMS, INTERRUPTS);
    }

    fn look_at_link(&mut self) {
        self.link_up = self.registers.read(reg::STATUS) & STATUS_LU != 0;
    }

    /// Reads a descriptor word. The offset lies within the memory by [`layout`].
    #[inline]
    fn load(&self, offset: usize) -> u64 {
        self.memory.load64(offset).unwrap_or(0)
    }

    /// Writes a descriptor word, as [`E1000::load`] reads it.
    #[inline]
    fn store(&self, offset: usize, word: u64) {
        let _ = self.memory.store64(offset, word);
    }

    /// Transmit descriptors in use.
    #[inline]
    fn tx_used(&self) -> usize {
        self.tx_next.wrapping_sub(self.tx_oldest) & (self.tx.count - 1)
    }

    /// Takes the descriptors back that the NIC has reported done.
    fn reclaim(&mut self) {
        // Bounded: every step takes back at least one.
        while self.tx_used() > 0 {
            let last = self.tx_oldest | (REPORT_EVERY - 1);
            if last - self.tx_oldest >= self.tx_used() || self.load(self.tx.word(last)) & TX_DONE == 0 {
                return;
            }
            self.tx_oldest = self.tx.after(last);
        }
    }

    /// Bytes of the frame that a descriptor's second word speaks of, if it is a good frame in one buffer.
    #[inline]
    fn whole(&self, word: u64) -> Option<usize> {
        let [low, high, ..] = word.to_le_bytes();
        let len = usize::from(u16::from_le_bytes([low, high]));
        let good = word & (RX_END | RX_ERRORS) == RX_END && (MIN_FRAME..=MAX_FRAME).contains(&len);
        (good && !self.rx_skipping).then_some(len)
    }

    /// Drops bad frames, not more than the ring holds, up to the next good one.
    #[cold]
    #[inline(never)]
    fn skip_bad(&mut self) -> Option<Received> {
        for _ in 0..self.rx.count {
            let word = self.load(self.rx.word(self.rx_next));
            if word & RX_DONE == 0 {
                return None;
            }
            if let Some(len) = self.whole(word) {
                return Some(Received { offset: self.rx.buffer(self.rx_next), len });
            }
            // Counted once, at its last part.
            self.rx_skipping = word & RX_END == 0;
            self.faults.bad += u64::from(!self.rx_skipping);
            self.release();
        }
        None
    }

    fn tell_rx(&mut self) {
        self.rx_released = 0;
        // The last of ours, one before the next to be filled.
        let tail = self.rx_next.wrapping_sub(1) & (self.rx.count - 1);
        self.registers.write(reg::RDT, narrow(tail));
    }

    fn tell_tx(&mut self) {
        self.tx_filled = 0;
        self.registers.write(reg::TDT, narrow(self.tx_next));
    }
}

impl<R: Registers> Nic for E1000<R> {
    #[inline]
    fn memory(&self) -> SharedMemory {
        self.memory
    }

    #[inline]
    fn mac(&self) -> Mac {
        self.mac
    }

    fn link_up(&self) -> bool {
        self.link_up
    }

    fn interrupt(&mut self) {
        // Reading clears the causes and takes the interrupt line down (section 13.4.17).
        let causes = self.registers.read(reg::ICR);
        if causes & INT_RXO != 0 {
            self.faults.overruns += 1;
        }
        if causes & INT_LSC != 0 {
            self.look_at_link();
        }
        if self.waits_for_space && causes & INT_TXDW != 0 {
            self.waits_for_space = false;
            self.registers.write(reg::IMC, INT_TXDW);
        }
    }

    #[inline]
    fn received(&mut self) -> Option<Received> {
        let word = self.load(self.rx.word(self.rx_next));
        if word & RX_DONE == 0 {
            return None;
        }
        let len = self.whole(word);
        if len.is_none() {
            return self.skip_bad();
        }
        len.map(|len| Received { offset: self.rx.buffer(self.rx_next), len })
    }

    #[inline]
    fn release(&mut self) {
        self.store(self.rx.word(self.rx_next), 0);
        self.rx_next = self.rx.after(self.rx_next);
        self.rx_released += 1;
        // In long batches the NIC must not run dry meanwhile.
        if self.rx_released >= self.rx.count / 4 {
            self.tell_rx();
        }
    }

    #[inline]
    fn buffer(&mut self) -> Option<usize> {
        if self.tx_used() == self.tx.count - 1 {
            if self.tx_filled > 0 {
                self.tell_tx();
            }
            self.reclaim();
            if self.tx_used() == self.tx.count - 1 {
                return None;
            }
        }
        Some(self.tx.buffer(self.tx_next))
    }

    #[inline]
    fn send(&mut self, len: usize) {
        let report = if self.tx_next % REPORT_EVERY == REPORT_EVERY - 1 { TX_REPORT } else { 0 };
        if self.tx_any_moved {
            self.move_back(self.tx_next);
        }
        let word = wide(len) & 0xffff | TX_END | TX_CHECKSUM | report;
        self.store(self.tx.word(self.tx_next), word);
        self.tx_next = self.tx.after(self.tx_next);
        self.tx_filled += 1;
    }

    #[inline]
    fn cuts(&self) -> bool {
        true
    }

    fn buffer_of(&mut self, len: usize) -> Option<usize> {
        self.space(segments::descriptors(len))
    }

    fn send_segments(&mut self, len: usize, headers: usize, segment: u16) {
        self.fill_segments(len, headers, segment);
    }

    #[inline]
    fn flush(&mut self) {
        if self.rx_released > 0 {
            self.tell_rx();
        }
        if self.tx_filled > 0 {
            self.tell_tx();
        }
    }

    fn interrupt_on_space(&mut self) -> bool {
        if !self.waits_for_space {
            self.waits_for_space = true;
            // The cause stands since the NIC's last report, so none is missed.
            self.registers.write(reg::IMS, INT_TXDW);
        }
        false
    }

    fn faults(&self) -> Faults {
        self.faults
    }
}

/// The largest rings that fit into the memory.
fn layout(memory: &SharedMemory, physical: u64) -> Result<(Ring, Ring), StartError> {
    let fits = |&size: &(usize, usize)| dma_bytes(size) <= memory.len();
    let aligned = physical.is_multiple_of(16) && memory.base().addr().is_multiple_of(16);
    let (rx, tx) = SIZES.into_iter().find(fits).filter(|_| aligned).ok_or(StartError::Memory)?;
    let buffers = (rx + tx) * DESCRIPTOR;
    let rx_ring = Ring { descriptors: 0, buffers, count: rx };
    let tx_ring = Ring { descriptors: rx * DESCRIPTOR, buffers: buffers + rx * BUFFER, count: tx };
    Ok((rx_ring, tx_ring))
}

/// Stops all DMA first, then resets (section 14.9). Bochs ignores the reset, so nothing relies on it.
fn reset(registers: &mut impl Registers, sleep: &mut impl FnMut(u32)) {
    registers.write(reg::IMC, u32::MAX);
    registers.write(reg::RCTL, 0);
    registers.write(reg::TCTL, 0);
    // The read drives the writes out; packets that are on their way get the time to end.
    registers.read(reg::STATUS);
    sleep(10_000);
    let control = registers.read(reg::CTRL);
    registers.write(reg::CTRL, control | CTRL_RST);
    // The reset itself takes a microsecond, reading the EEPROM after it some milliseconds.
    sleep(5_000);
    registers.write(reg::IMC, u32::MAX);
    registers.read(reg::ICR);
}

/// The address in the EEPROM (section 5.6), or, where that does not answer, the one that the NIC has loaded already.
fn read_mac(registers: &mut impl Registers, sleep: &mut impl FnMut(u32)) -> Mac {
    let mut bytes = [0; 6];
    for (address, pair) in (0_u32..).zip(bytes.chunks_mut(2)) {
        let Some([low, high]) = read_eeprom(registers, address, sleep) else {
            let [a, b, c, d] = registers.read(reg::RAL0).to_le_bytes();
            let [e, f, ..] = registers.read(reg::RAH0).to_le_bytes();
            return Mac::new([a, b, c, d, e, f]);
        };
        pair.copy_from_slice(&[low, high]);
    }
    Mac::new(bytes)
}

fn read_eeprom(registers: &mut impl Registers, address: u32, sleep: &mut impl FnMut(u32)) -> Option<[u8; 2]> {
    registers.write(reg::EERD, address << 8 | EERD_START);
    for _ in 0..100 {
        let value = registers.read(reg::EERD);
        if value & EERD_DONE != 0 {
            let [_, _, low, high] = value.to_le_bytes();
            return Some([low, high]);
        }
        sleep(50);
    }
    None
}

/// An offset as a 64-bit number.
fn wide(offset: usize) -> u64 {
    // Widening only: nothing has more than 64 bits.
    #[allow(clippy::cast_lossless)]
    {
        offset as u64
    }
}

/// A ring index or size, which is below 65,536, as a register value.
fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// Low and high half of an address.
fn halves(address: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = address.to_le_bytes();
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}

#[cfg(test)]
#[path = "e1000_tests.rs"]
mod tests;
