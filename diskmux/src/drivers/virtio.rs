//! virtio-blk, as QEMU, KVM hosts and clouds have it; over PCI, in its modern form.
//!
//! Sections are those of "Virtual I/O Device (VIRTIO) Version 1.2" (OASIS). One queue; each request has three descriptors of its own: header,
//! block, status. Those of further blocks of a run are whoever's needs them.
//!
//! The crate `virtio-drivers` does not serve here: it reaches DMA memory through a trait whose implementation is `unsafe`, and takes back what it lent
//! to the device by `unsafe` functions; components have no unsafe code.

use super::{Controller, Done, Geometry, MAX_RUN, Op, Request};
use component::virtio::{Registers, StartError, Structures};
use ring::SharedMemory;

/// What this driver drives: PCI vendor, and the device with and without virtio 0.9.
pub const VENDOR: u16 = 0x1af4;
/// See [`VENDOR`].
pub const DEVICES: [u16; 2] = [0x1042, 0x1001];

/// Features (section 5.2.3): it says how many pieces of memory a request may have; the disk takes no writes; it has a cache and can flush it.
const F_SEG_MAX: u64 = 1 << 2;
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

/// Where the device says how many (section 5.2.4).
const SEG_MAX: usize = 12;

/// Requests at the same time.
pub const DEPTH: u16 = 16;
/// Descriptors of requests of one block.
const OWN_DESCRIPTORS: u16 = 3 * DEPTH;
/// Descriptors of a queue: a power of two, as many as the device takes, between these.
const COUNT_MIN: u16 = 64;
const COUNT_MAX: u16 = 128;
/// Where in the driver's own pages things are.
const DESCRIPTORS: usize = 0;
const AVAILABLE: usize = 2048;
const USED: usize = 2560;
const HEADERS: usize = 4096;
const STATUSES: usize = 4608;
/// Bytes of them.
pub const OWN_BYTES: usize = 8192;

/// Bytes of a block, and sectors in it: virtio counts in sectors of 512 bytes, whatever the disk has.
const BLOCK: u32 = 4096;
const SECTORS: u64 = 8;

/// The disk.
pub struct VirtioBlk<R> {
    structures: Structures<R>,
    /// All DMA memory, and where the device finds it.
    memory: SharedMemory,
    physical: u64,
    /// The driver's own pages in it.
    own: usize,
    geometry: [Geometry; 1],
    can_flush: bool,
    notify: usize,
    /// Descriptors of the queue, a power of two.
    count: u16,
    /// Blocks of a request at most.
    run: usize,
    /// The tag of the request in each place; bit `i`: place `i` has none.
    tags: [Option<u16>; DEPTH as usize],
    idle: u16,
    /// Bit `i`: descriptor `i` is no place's own, and free.
    free: u128,
    /// Those that the request in each place has.
    further: [u128; DEPTH as usize],
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
        let features = structures.begin(F_SEG_MAX | F_RO | F_FLUSH, sleep)?;
        let _ = memory.clear(own, OWN_BYTES);
        let capacity = u64::from(structures.device.read32(0)) | u64::from(structures.device.read32(4)) << 32;
        let geometry = [Geometry { blocks: capacity / SECTORS, read_only: features & F_RO != 0 }];
        let can_flush = features & F_FLUSH != 0;
        // A device that does not say takes one.
        let pieces = if features & F_SEG_MAX != 0 { structures.device.read32(SEG_MAX) } else { 1 };
        let run = usize::try_from(pieces).unwrap_or(MAX_RUN).clamp(1, MAX_RUN);
        let count = match structures.queue_size(QUEUE) {
            COUNT_MAX.. => COUNT_MAX,
            COUNT_MIN.. => COUNT_MIN,
            _ => return Err(StartError::Queue(QUEUE)),
        };
        let places = [DESCRIPTORS, AVAILABLE, USED].map(|place| physical + wide(own + place));
        let notify = structures.set_up_queue(QUEUE, count, places)?;
        structures.run();
        let disk = VirtioBlk {
            structures,
            memory,
            physical,
            own,
            geometry,
            can_flush,
            notify,
            count,
            run,
            tags: [None; DEPTH as usize],
            idle: u16::MAX,
            free: u128::MAX << OWN_DESCRIPTORS & u128::MAX >> (128 - count),
            further: [0; DEPTH as usize],
            flushed: None,
            given: 0,
            taken: 0,
        };
        for (place, slot) in (0..DEPTH).enumerate() {
            disk.describe(3 * slot, disk.own + HEADERS + 16 * place, 16, NEXT, 3 * slot + 1);
            disk.describe(3 * slot + 2, disk.own + STATUSES + 16 * place, 1, WRITE, 0);
        }
        Ok(disk)
    }

    /// Writes a descriptor, which another one follows if its flags say so. All offsets lie within the driver's pages.
    #[inline]
    fn describe(&self, index: u16, at: usize, bytes: u32, flags: u16, next: u16) {
        let place = self.own + DESCRIPTORS + 16 * usize::from(index);
        let _ = self.memory.store64(place, self.physical + wide(at));
        self.link(index, bytes, flags, next);
    }

    /// Writes the second half of a descriptor.
    #[inline]
    fn link(&self, index: u16, bytes: u32, flags: u16, next: u16) {
        let place = self.own + DESCRIPTORS + 16 * usize::from(index);
        let _ = self.memory.store64(place + 8, u64::from(bytes) | u64::from(flags) << 32 | u64::from(next) << 48);
    }

    /// Writes the descriptors of the blocks of a request, of which the first is number `first`, and which the status follows. Those that were free and are not any more.
    #[inline]
    fn describe_blocks(&self, first: u16, buffers: &[usize], flags: u16) -> u128 {
        match *buffers {
            [] => 0,
            // That is what most requests are.
            [buffer] => {
                self.describe(first, buffer, BLOCK, flags | NEXT, first + 1);
                0
            }
            _ => self.describe_several(first, buffers, flags),
        }
    }

    /// As [`VirtioBlk::describe_blocks`], for more than one block.
    #[inline(never)]
    fn describe_several(&self, first: u16, buffers: &[usize], flags: u16) -> u128 {
        let (mut index, mut further) = (first, 0_u128);
        for (i, &buffer) in buffers.iter().enumerate() {
            let left = self.free & !further;
            // There are as many as are needed; a number of 128 bits has no more than 128 zeros.
            let next = if i + 1 == buffers.len() {
                first + 1
            } else {
                further |= left & left.wrapping_neg();
                u16::try_from(left.trailing_zeros()).unwrap_or(0)
            };
            self.describe(index, buffer, BLOCK, flags | NEXT, next);
            index = next;
        }
        further
    }
}

impl<R: Registers> Controller for VirtioBlk<R> {
    fn driver(&self) -> u16 {
        abi::disk::driver::VIRTIO
    }

    fn disks(&self) -> &[Geometry] {
        &self.geometry
    }

    fn run(&self) -> usize {
        self.run
    }

    fn start(&mut self, tag: u16, request: Request<'_>) -> bool {
        let Request { disk, op, block, buffers } = request;
        if op == Op::Flush && !self.can_flush {
            let free = self.flushed.is_none();
            self.flushed = self.flushed.or(Some(tag));
            return free;
        }
        let place = self.idle.trailing_zeros() as usize;
        let Some(slot) = u16::try_from(place).ok().filter(|&slot| slot < DEPTH) else { return false };
        if disk != 0 || !request.fits(self.geometry[0].blocks, self.run) {
            return false;
        }
        // Others that have them will end.
        if buffers.len() > 1 && usize::try_from(self.free.count_ones()).is_ok_and(|free| free + 1 < buffers.len()) {
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
        // Behind the header comes the first block, if there is one, else the status.
        self.link(first, 16, NEXT, if op == Op::Flush { first + 2 } else { first + 1 });
        let further = self.describe_blocks(first + 1, buffers, if op == Op::Read { WRITE } else { 0 });
        if further != 0 {
            self.free &= !further;
            self.further[place] = further;
        }
        self.tags[place] = Some(tag);
        self.idle &= !(1 << place);
        let _ = self.memory.write16(self.own + AVAILABLE + 4 + 2 * usize::from(self.given & (self.count - 1)), first);
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
        for _ in 0..self.count {
            // Upper half: the index. The load acquires what the device wrote before.
            let [_, _, low, high] = self.memory.load32(self.own + USED)?.to_le_bytes();
            if u16::from_le_bytes([low, high]) == self.taken {
                return None;
            }
            let entry = self.own + USED + 4 + 8 * usize::from(self.taken & (self.count - 1));
            self.taken = self.taken.wrapping_add(1);
            let id = self.memory.load32(entry)?;
            // An allegation: it may name what was never given.
            let place = usize::try_from(id).ok().filter(|id| id.is_multiple_of(3)).map(|id| id / 3);
            let Some((place, tag)) = place.and_then(|place| Some((place, self.tags.get_mut(place)?.take()?))) else {
                continue;
            };
            self.idle |= 1 << place;
            self.free |= core::mem::take(&mut self.further[place]);
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
    assert!(DEPTH as u32 == u16::BITS && COUNT_MAX.is_power_of_two() && COUNT_MIN.is_power_of_two());
    assert!(COUNT_MAX <= 128 && OWN_DESCRIPTORS as usize + MAX_RUN <= COUNT_MIN as usize + 1);
    assert!(AVAILABLE >= 16 * COUNT_MAX as usize && USED >= AVAILABLE + 6 + 2 * COUNT_MAX as usize);
    assert!(
        USED.is_multiple_of(4)
            && HEADERS >= USED + 6 + 8 * COUNT_MAX as usize
            && STATUSES >= HEADERS + 16 * DEPTH as usize
    );
    assert!(OWN_BYTES >= STATUSES + 16 * DEPTH as usize);
};

#[cfg(test)]
#[path = "virtio_tests.rs"]
mod tests;
