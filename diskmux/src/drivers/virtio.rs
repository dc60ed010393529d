//! virtio-blk, as QEMU, KVM hosts and clouds have it; over PCI, in its modern form.
//!
//! Sections are those of "Virtual I/O Device (VIRTIO) Version 1.2" (OASIS). One queue; each request has three descriptors of its own: header,
//! block, status.
//!
//! The crate `virtio-drivers` does not serve here: it reaches DMA memory through a trait whose implementation is `unsafe`, and takes back what it lent
//! to the device by `unsafe` functions; components have no unsafe code.

use super::{Controller, Done, Geometry, Op, Request};
use component::virtio::{Registers, StartError, Structures};
use ring::SharedMemory;

/// What this driver drives: PCI vendor, and the device with and without virtio 0.9.
pub const VENDOR: u16 = 0x1af4;
/// See [`VENDOR`].
pub const DEVICES: [u16; 2] = [0x1042, 0x1001];

/// Features (section 5.2.3): the disk takes no writes; it has a cache and can flush it.
const F_RO: u64 = 1 << 5;
const F_FLUSH: u64 = 1 << 9;

/// The queue (section 5.2.2).
const QUEUE: u16 = 0;

/// Kinds of requests (section 5.2.6).
const KIND_READ: u32 = 0;
const KIND_WRITE: u32 = 1;
const KIND_FLUSH: u32 = 4;
/// Status of a request that was done.
const STATUS_OK: u8 = 0;
/// What the status is before the device has written it.
const STATUS_NONE: u8 = 0xff;

/// Flags of a descriptor (section 2.7.5): another one follows; the device writes.
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// Requests at the same time.
pub const DEPTH: u16 = 16;
/// Descriptors: a power of two, three for each request at least.
const COUNT: u16 = 64;
/// Where in the driver's own page things are.
const DESCRIPTORS: usize = 0;
const AVAILABLE: usize = 1024;
const USED: usize = 1280;
const HEADERS: usize = 2048;
const STATUSES: usize = 2560;
/// Bytes of it.
pub const OWN_BYTES: usize = 4096;

/// Bytes of a block, and sectors in it: virtio counts in sectors of 512 bytes, whatever the disk has.
const BLOCK: u32 = 4096;
const SECTORS: u64 = 8;

/// The disk.
pub struct VirtioBlk<R> {
    structures: Structures<R>,
    /// All DMA memory, and where the device finds it.
    memory: SharedMemory,
    physical: u64,
    /// The driver's own page in it.
    own: usize,
    geometry: [Geometry; 1],
    can_flush: bool,
    notify: usize,
    /// The tag of the request in each place.
    tags: [Option<u16>; DEPTH as usize],
    /// A flush that a disk without a cache has done already.
    flushed: Option<u16>,
    /// Free-running: requests given, used entries taken.
    given: u16,
    taken: u16,
}

impl<R: Registers> VirtioBlk<R> {
    /// Resets the disk, whatever a former driver left it doing, and starts it (section 3.1). `physical` is the address at which the device finds
    /// `memory`, in which [`OWN_BYTES`] from `own` on are the driver's; `sleep` sleeps that many microseconds at least.
    ///
    /// # Errors
    /// When the device does not do what virtio 1 says.
    pub fn start(
        mut structures: Structures<R>,
        memory: SharedMemory,
        physical: u64,
        own: usize,
        sleep: impl FnMut(u32),
    ) -> Result<Self, StartError> {
        let features = structures.begin(F_RO | F_FLUSH, sleep)?;
        let _ = memory.clear(own, OWN_BYTES);
        let capacity = u64::from(structures.device.read32(0)) | u64::from(structures.device.read32(4)) << 32;
        let geometry = [Geometry { blocks: capacity / SECTORS, read_only: features & F_RO != 0 }];
        let can_flush = features & F_FLUSH != 0;
        if structures.queue_size(QUEUE) < COUNT {
            return Err(StartError::Queue(QUEUE));
        }
        let places = [DESCRIPTORS, AVAILABLE, USED].map(|place| physical + wide(own + place));
        let notify = structures.set_up_queue(QUEUE, COUNT, places)?;
        structures.run();
        Ok(VirtioBlk {
            structures,
            memory,
            physical,
            own,
            geometry,
            can_flush,
            notify,
            tags: [None; DEPTH as usize],
            flushed: None,
            given: 0,
            taken: 0,
        })
    }

    /// Writes a descriptor. All offsets lie within the driver's page.
    fn describe(&self, index: u16, at: usize, bytes: u32, flags: u16) {
        let place = self.own + DESCRIPTORS + 16 * usize::from(index);
        let _ = self.memory.store64(place, self.physical + wide(at));
        let next = if flags & NEXT != 0 { index + 1 } else { 0 };
        let _ = self.memory.store64(place + 8, u64::from(bytes) | u64::from(flags) << 32 | u64::from(next) << 48);
    }
}

impl<R: Registers> Controller for VirtioBlk<R> {
    fn driver(&self) -> u16 {
        abi::disk::driver::VIRTIO
    }

    fn disks(&self) -> &[Geometry] {
        &self.geometry
    }

    fn start(&mut self, tag: u16, request: Request) -> bool {
        let Request { disk, op, block, buffer } = request;
        if op == Op::Flush && !self.can_flush {
            let free = self.flushed.is_none();
            self.flushed = self.flushed.or(Some(tag));
            return free;
        }
        let Some(place) = self.tags.iter().position(Option::is_none) else { return false };
        let Ok(slot) = u16::try_from(place) else { return false };
        if disk != 0 || op != Op::Flush && block >= self.geometry[0].blocks {
            return false;
        }
        let (header, status) = (self.own + HEADERS + 16 * place, self.own + STATUSES + 16 * place);
        let (kind, sector) = match op {
            Op::Read => (KIND_READ, block * SECTORS),
            Op::Write => (KIND_WRITE, block * SECTORS),
            Op::Flush => (KIND_FLUSH, 0),
        };
        let _ = self.memory.store64(header, kind.into());
        let _ = self.memory.store64(header + 8, sector);
        let _ = self.memory.write8(status, STATUS_NONE);
        let first = 3 * slot;
        self.describe(first, header, 16, NEXT);
        match op {
            Op::Read => self.describe(first + 1, buffer, BLOCK, NEXT | WRITE),
            Op::Write => self.describe(first + 1, buffer, BLOCK, NEXT),
            Op::Flush => {}
        }
        let last = if op == Op::Flush { first + 1 } else { first + 2 };
        self.describe(last, status, 1, WRITE);
        self.tags[place] = Some(tag);
        let _ = self.memory.write16(self.own + AVAILABLE + 4 + 2 * usize::from(self.given % COUNT), first);
        self.given = self.given.wrapping_add(1);
        // Flags are zero: interrupts are wanted. The device sees the index after everything before.
        let _ = self.memory.store32(self.own + AVAILABLE, u32::from(self.given) << 16);
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
        self.structures.notify.write16(self.notify, QUEUE);
        true
    }

    fn done(&mut self) -> Option<Done> {
        if let Some(tag) = self.flushed.take() {
            return Some(Done { tag, good: true });
        }
        // As many rounds as there are entries: whatever the device says, this ends.
        for _ in 0..COUNT {
            // Upper half: the index. The load acquires what the device wrote before.
            let [_, _, low, high] = self.memory.load32(self.own + USED)?.to_le_bytes();
            if u16::from_le_bytes([low, high]) == self.taken {
                return None;
            }
            let entry = self.own + USED + 4 + 8 * usize::from(self.taken % COUNT);
            self.taken = self.taken.wrapping_add(1);
            let id = self.memory.load32(entry)?;
            // An allegation: it may name what was never given.
            let place = usize::try_from(id).ok().filter(|id| id.is_multiple_of(3)).map(|id| id / 3);
            let Some((place, tag)) = place.and_then(|place| Some((place, self.tags.get_mut(place)?.take()?))) else {
                continue;
            };
            let status = self.memory.read8(self.own + STATUSES + 16 * place);
            return Some(Done { tag, good: status == Some(STATUS_OK) });
        }
        None
    }

    fn interrupt(&mut self) {
        // Reading takes the interrupt line down (section 4.1.4.5). Messages have no status.
        if !self.structures.msix {
            let _ = self.structures.isr.read8(0);
        }
    }

    fn is_polled(&self) -> bool {
        false
    }
}

/// An offset as a 64-bit number.
fn wide(offset: usize) -> u64 {
    offset as u64
}

const _: () = {
    assert!(3 * DEPTH <= COUNT);
    assert!(AVAILABLE >= 16 * COUNT as usize && USED >= AVAILABLE + 6 + 2 * COUNT as usize && USED.is_multiple_of(4));
    assert!(HEADERS >= USED + 6 + 8 * COUNT as usize && STATUSES >= HEADERS + 16 * DEPTH as usize);
    assert!(OWN_BYTES >= STATUSES + 16 * DEPTH as usize);
};

#[cfg(test)]
#[path = "virtio_tests.rs"]
mod tests;
