//! virtio-net, as QEMU, KVM hosts and clouds have it; over PCI, in its modern form.
//!
//! Sections are those of "Virtual I/O Device (VIRTIO) Version 1.2" (OASIS). One queue in each direction, one buffer for each
//! frame, nothing offloaded: guests compute their own checksums.
//!
//! The crate `virtio-drivers` does not serve here: it reaches DMA memory through a trait whose implementation is `unsafe`,
//! and lends buffers to the device by `unsafe` functions; netmux has no unsafe code. Its buffers are also the caller's, one
//! call a frame, while the demultiplexer handles frames where the NIC has put them.

mod queue;

pub use component::virtio::{Registers, Structures};

use super::{Faults, Known, Nic, Received};
use crate::frame::Mac;
use abi::nic::{MAX_FRAME, MIN_FRAME};
use queue::{Done, FRAME_BYTES, HEADER, Queue};
use ring::SharedMemory;

/// What this driver drives.
pub const ID: Known = Known { vendor: 0x1af4, device: 0x1041, name: "virtio-net" };
/// The same when it speaks virtio 0.9 as well, which the driver does not need.
pub const TRANSITIONAL: Known = Known { vendor: 0x1af4, device: 0x1000, name: "virtio-net, transitional" };

/// Registers of the common configuration (section 4.1.4.3).
mod reg {
    pub const DEVICE_FEATURE_SELECT: usize = 0x00;
    pub const DEVICE_FEATURE: usize = 0x04;
    pub const DRIVER_FEATURE_SELECT: usize = 0x08;
    pub const DRIVER_FEATURE: usize = 0x0c;
    pub const CONFIG_MSIX_VECTOR: usize = 0x10;
    pub const DEVICE_STATUS: usize = 0x14;
    pub const QUEUE_SELECT: usize = 0x16;
    pub const QUEUE_SIZE: usize = 0x18;
    pub const QUEUE_MSIX_VECTOR: usize = 0x1a;
    pub const QUEUE_ENABLE: usize = 0x1c;
    pub const QUEUE_NOTIFY_OFF: usize = 0x1e;
    /// Descriptors; the rings follow, 64 bits each.
    pub const QUEUE_DESC: usize = 0x20;
}

/// Device status (section 2.1).
const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const FAILED: u8 = 128;

/// Features (sections 5.1.3 and 6): the address is in the configuration, so is the link's state; virtio 1.
const F_MAC: u64 = 1 << 5;
const F_STATUS: u64 = 1 << 16;
const F_VERSION_1: u64 = 1 << 32;

/// Configuration of a network device (section 5.1.4): the address first, then the status, whose bit 0 is "link up".
const CONFIG_STATUS: usize = 6;
const LINK_UP: u16 = 1;
/// Interrupt status: the configuration has changed.
const ISR_CONFIG: u8 = 2;
/// The message that the core has set up.
const MESSAGE: u16 = 0;

/// Queues (section 5.1.2).
const RX: u16 = 0;
const TX: u16 = 1;
/// Receive and transmit descriptors, the largest first: powers of two.
const SIZES: [(u16, u16); 4] = [(256, 128), (128, 64), (64, 32), (32, 16)];

/// DMA memory that queues of these sizes take.
const fn dma_bytes((rx, tx): (u16, u16)) -> usize {
    queue::dma_bytes(rx as usize) + queue::dma_bytes(tx as usize)
}

/// DMA memory that the driver can make use of: 778 KiB. It gets along with [`DMA_BYTES_MIN`].
pub const DMA_BYTES: usize = dma_bytes(SIZES[0]);
/// DMA memory without which there is no driver: 98 KiB.
pub const DMA_BYTES_MIN: usize = dma_bytes(SIZES[3]);

const _: () = assert!(FRAME_BYTES > MAX_FRAME);

/// Why the driver cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The DMA memory has fewer bytes than [`DMA_BYTES_MIN`], or is not aligned to 16 bytes.
    Memory,
    /// The device shows no structures of virtio 1, or they are not mapped.
    NotModern,
    /// The device does not end its reset.
    Reset,
    /// The device does not agree on virtio 1 without further features; these it offers.
    Features(u64),
    /// A queue is too small, or the device takes no message for it.
    Queue(u16),
}

impl core::fmt::Display for StartError {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            StartError::Memory => write!(out, "it needs {DMA_BYTES_MIN} bytes of DMA memory, aligned to 16"),
            StartError::NotModern => out.write_str("it does not speak virtio 1: let QEMU not disable its modern form"),
            StartError::Reset => out.write_str("it does not end its reset"),
            StartError::Features(offered) => write!(out, "it does not agree on virtio 1; it offers {offered:#x}"),
            StartError::Queue(index) => write!(out, "its queue {index} is too small or takes no message"),
        }
    }
}

/// The NIC.
pub struct VirtioNet<R> {
    structures: Structures<R>,
    memory: SharedMemory,
    mac: Mac,
    features: u64,
    link_up: bool,
    faults: Faults,
    waits_for_space: bool,
    rx: Queue,
    tx: Queue,
    /// What [`Nic::received`] and [`Nic::buffer`] gave last.
    rx_held: Option<Done>,
    tx_held: Option<Done>,
}

impl<R: Registers> VirtioNet<R> {
    /// Resets the NIC, whatever a former driver left it doing, and starts it (section 3.1). `physical` is the address at
    /// which the NIC finds `memory`; `sleep` sleeps that many microseconds at least.
    ///
    /// # Errors
    ///
    /// When the memory does not suffice or the NIC does not do what virtio 1 says.
    pub fn start(
        mut structures: Structures<R>,
        memory: SharedMemory,
        physical: u64,
        mut sleep: impl FnMut(u32),
    ) -> Result<Self, StartError> {
        let common = &mut structures.common;
        reset(common, &mut sleep)?;
        common.write8(reg::DEVICE_STATUS, ACKNOWLEDGE);
        common.write8(reg::DEVICE_STATUS, ACKNOWLEDGE | DRIVER);
        let features = agree(common).inspect_err(|_| common.write8(reg::DEVICE_STATUS, FAILED))?;
        let most = [RX, TX].map(|index| queue_size(common, index));
        let (rx, tx) = layout(&memory, physical, most)?;
        let mut nic = VirtioNet {
            rx: Queue::new(memory, physical, 0, RX, rx, true),
            tx: Queue::new(memory, physical, queue::dma_bytes(rx.into()), TX, tx, false),
            structures,
            memory,
            mac: Mac::new([0; 6]),
            features,
            link_up: true,
            faults: Faults::default(),
            waits_for_space: false,
            rx_held: None,
            tx_held: None,
        };
        nic.set_up(physical)?;
        Ok(nic)
    }

    /// Receive and transmit descriptors.
    pub fn descriptors(&self) -> (u16, u16) {
        (self.rx.count(), self.tx.count())
    }

    /// Queues, then the rest.
    fn set_up(&mut self, physical: u64) -> Result<(), StartError> {
        let Structures { common, notify, multiplier, notify_bytes, device, msix, .. } = &mut self.structures;
        if *msix {
            common.write16(reg::CONFIG_MSIX_VECTOR, MESSAGE);
        }
        for (index, queue) in [(RX, &mut self.rx), (TX, &mut self.tx)] {
            common.write16(reg::QUEUE_SELECT, index);
            common.write16(reg::QUEUE_SIZE, queue.count());
            for (place, register) in queue.places().into_iter().zip((reg::QUEUE_DESC..).step_by(8)) {
                let [a, b, c, d, e, f, g, h] = (physical + wide(place)).to_le_bytes();
                common.write32(register, u32::from_le_bytes([a, b, c, d]));
                common.write32(register + 4, u32::from_le_bytes([e, f, g, h]));
            }
            if *msix {
                common.write16(reg::QUEUE_MSIX_VECTOR, MESSAGE);
                if common.read16(reg::QUEUE_MSIX_VECTOR) != MESSAGE {
                    return Err(StartError::Queue(index));
                }
            }
            let at = usize::from(common.read16(reg::QUEUE_NOTIFY_OFF)).checked_mul(*multiplier);
            let fits = |at: &usize| at.is_multiple_of(2) && *at <= *notify_bytes - 2;
            queue.notify_at(at.filter(fits).ok_or(StartError::Queue(index))?);
            common.write16(reg::QUEUE_ENABLE, 1);
        }
        if self.features & F_MAC != 0 {
            self.mac = Mac::new([0, 1, 2, 3, 4, 5].map(|at| device.read8(at)));
        }
        common.write8(reg::DEVICE_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        self.rx.tell(notify);
        self.look_at_link();
        Ok(())
    }

    fn look_at_link(&mut self) {
        if self.features & F_STATUS != 0 {
            self.link_up = self.structures.device.read16(CONFIG_STATUS) & LINK_UP != 0;
        }
    }
}

/// Bytes of the frame in a buffer that was written, if a frame can have them.
#[inline]
fn frame_bytes(done: Done) -> Option<usize> {
    let len = usize::try_from(done.written).ok()?.checked_sub(HEADER)?;
    (MIN_FRAME..=MAX_FRAME).contains(&len).then_some(len)
}

impl<R: Registers> Nic for VirtioNet<R> {
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
        // Reading takes the interrupt line down (section 4.1.4.5). Messages have no status: the link may have changed.
        if self.structures.msix || self.structures.isr.read8(0) & ISR_CONFIG != 0 {
            self.look_at_link();
        }
        if self.waits_for_space && self.tx.has_done() {
            self.waits_for_space = false;
            self.tx.interrupt(false);
        }
    }

    #[inline]
    fn received(&mut self) -> Option<Received> {
        // As many rounds as there are buffers: whatever the device says, this ends.
        for _ in 0..self.rx.count() {
            let done = self.rx.done()?;
            self.rx_held = Some(done);
            if let Some(len) = frame_bytes(done) {
                return Some(Received { offset: done.frame, len });
            }
            self.faults.bad += 1;
            self.release();
        }
        None
    }

    #[inline]
    fn release(&mut self) {
        let Some(done) = self.rx_held.take() else { return };
        self.rx.give(done, None);
        // In long batches the NIC must not run dry meanwhile.
        if self.rx.untold() >= self.rx.count() / 4 {
            self.rx.tell(&mut self.structures.notify);
        }
    }

    #[inline]
    fn buffer(&mut self) -> Option<usize> {
        if self.tx_held.is_none() {
            if !self.tx.has_done() && self.tx.untold() > 0 {
                self.tx.tell(&mut self.structures.notify);
            }
            self.tx_held = self.tx.done();
        }
        self.tx_held.map(|done| done.frame)
    }

    #[inline]
    fn send(&mut self, len: usize) {
        if let Some(done) = self.tx_held.take() {
            self.tx.give(done, Some(len));
        }
    }

    #[inline]
    fn flush(&mut self) {
        if self.rx.untold() > 0 {
            self.rx.tell(&mut self.structures.notify);
        }
        if self.tx.untold() > 0 {
            self.tx.tell(&mut self.structures.notify);
        }
    }

    fn interrupt_on_space(&mut self) -> bool {
        if !self.waits_for_space {
            self.waits_for_space = !self.tx.interrupt(true);
            if !self.waits_for_space {
                self.tx.interrupt(false);
                return true;
            }
        }
        false
    }

    fn faults(&self) -> Faults {
        self.faults
    }
}

/// Stops and resets the device (section 2.4), which ends all its DMA.
fn reset(common: &mut impl Registers, sleep: &mut impl FnMut(u32)) -> Result<(), StartError> {
    common.write8(reg::DEVICE_STATUS, 0);
    for _ in 0..1000 {
        if common.read8(reg::DEVICE_STATUS) == 0 {
            return Ok(());
        }
        sleep(100);
    }
    Err(StartError::Reset)
}

/// Agrees with the device on features. Returns those.
fn agree(common: &mut impl Registers) -> Result<u64, StartError> {
    let mut offered = 0;
    for half in [1, 0] {
        common.write32(reg::DEVICE_FEATURE_SELECT, half);
        offered = offered << 32 | u64::from(common.read32(reg::DEVICE_FEATURE));
    }
    let features = offered & (F_MAC | F_STATUS | F_VERSION_1);
    for (half, bits) in [(0, features & u64::from(u32::MAX)), (1, features >> 32)] {
        common.write32(reg::DRIVER_FEATURE_SELECT, half);
        common.write32(reg::DRIVER_FEATURE, u32::try_from(bits).unwrap_or(0));
    }
    common.write8(reg::DEVICE_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    let agreed = common.read8(reg::DEVICE_STATUS) & FEATURES_OK != 0 && features & F_VERSION_1 != 0;
    if agreed { Ok(features) } else { Err(StartError::Features(offered)) }
}

/// Descriptors that a queue can have; 0 when there is no such queue.
fn queue_size(common: &mut impl Registers, index: u16) -> u16 {
    common.write16(reg::QUEUE_SELECT, index);
    common.read16(reg::QUEUE_SIZE)
}

/// The largest queues that fit into the memory and that the device can have.
fn layout(memory: &SharedMemory, physical: u64, most: [u16; 2]) -> Result<(u16, u16), StartError> {
    let aligned = physical.is_multiple_of(16) && memory.base().addr().is_multiple_of(16);
    let fits = |size: &(u16, u16)| dma_bytes(*size) <= memory.len();
    let mut sizes = SIZES.into_iter().filter(fits).filter(|_| aligned).peekable();
    sizes.peek().ok_or(StartError::Memory)?;
    let small = StartError::Queue(if most[0] < SIZES[3].0 { RX } else { TX });
    sizes.find(|&(rx, tx)| rx <= most[0] && tx <= most[1]).ok_or(small)
}

/// An offset as a 64-bit number.
#[inline]
fn wide(offset: usize) -> u64 {
    // Widening only: nothing has more than 64 bits.
    #[allow(clippy::cast_lossless)]
    {
        offset as u64
    }
}

#[cfg(test)]
#[path = "virtio/tests.rs"]
mod tests;
