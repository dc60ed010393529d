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
use component::virtio;
use queue::{Done, FRAME_BYTES, HEADER, Queue};
use ring::SharedMemory;

/// What this driver drives.
pub const ID: Known = Known { vendor: 0x1af4, device: 0x1041, name: "virtio-net" };
/// The same when it speaks virtio 0.9 as well, which the driver does not need.
pub const TRANSITIONAL: Known = Known { vendor: 0x1af4, device: 0x1000, name: "virtio-net, transitional" };

/// Features (section 5.1.3): the address is in the configuration, so is the link's state.
const F_MAC: u64 = 1 << 5;
const F_STATUS: u64 = 1 << 16;

/// Configuration of a network device (section 5.1.4): the address first, then the status, whose bit 0 is "link up".
const CONFIG_STATUS: usize = 6;
const LINK_UP: u16 = 1;
/// Interrupt status: the configuration has changed.
const ISR_CONFIG: u8 = 2;

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
    /// The device does not do what virtio 1 says.
    Device(virtio::StartError),
}

impl From<virtio::StartError> for StartError {
    fn from(error: virtio::StartError) -> Self {
        StartError::Device(error)
    }
}

impl core::fmt::Display for StartError {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            StartError::Memory => write!(out, "it needs {DMA_BYTES_MIN} bytes of DMA memory, aligned to 16"),
            StartError::NotModern => out.write_str("it does not speak virtio 1: let QEMU not disable its modern form"),
            StartError::Device(error) => error.fmt(out),
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
        sleep: impl FnMut(u32),
    ) -> Result<Self, StartError> {
        let features = structures.begin(F_MAC | F_STATUS, sleep)?;
        let most = [RX, TX].map(|index| structures.queue_size(index));
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
        let structures = &mut self.structures;
        for (index, queue) in [(RX, &mut self.rx), (TX, &mut self.tx)] {
            let places = queue.places().map(|place| physical + wide(place));
            queue.notify_at(structures.set_up_queue(index, queue.count(), places)?);
        }
        if self.features & F_MAC != 0 {
            self.mac = Mac::new([0, 1, 2, 3, 4, 5].map(|at| structures.device.read8(at)));
        }
        structures.run();
        self.rx.tell(&mut structures.notify);
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

/// The largest queues that fit into the memory and that the device can have.
fn layout(memory: &SharedMemory, physical: u64, most: [u16; 2]) -> Result<(u16, u16), StartError> {
    let aligned = physical.is_multiple_of(16) && memory.base().addr().is_multiple_of(16);
    let fits = |size: &(u16, u16)| dma_bytes(*size) <= memory.len();
    let mut sizes = SIZES.into_iter().filter(fits).filter(|_| aligned).peekable();
    sizes.peek().ok_or(StartError::Memory)?;
    let small = virtio::StartError::Queue(if most[0] < SIZES[3].0 { RX } else { TX });
    sizes.find(|&(rx, tx)| rx <= most[0] && tx <= most[1]).ok_or(small.into())
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
