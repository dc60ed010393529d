//! A split virtqueue (section 2.7) whose descriptors own one buffer each, for good.
//!
//! What comes back in the used ring is what can be used next, in either direction: a frame that has arrived, or a free
//! transmit buffer. So there is no list of free descriptors beside the used ring: [`Queue::done`] looks at its oldest entry,
//! and [`Queue::give`] passes that descriptor to the device again. A queue for transmission starts with all its descriptors
//! in the used ring, as if the device had sent them.

use super::Registers;
use ring::SharedMemory;

/// Bytes of a descriptor, and of a buffer.
const DESCRIPTOR: usize = 16;
pub const BUFFER: usize = 2048;
/// Before a frame in its buffer: as much as makes the frame aligned to 8 behind its header.
const SKIP: usize = 4;
/// Bytes of the header before each frame (section 5.1.6): with `VIRTIO_F_VERSION_1` always 12. Zero when we send: there is
/// nothing to be done to the frame.
pub const HEADER: usize = 12;
/// Where the frame lies in its buffer, and how long it can be.
pub const FRAME: usize = SKIP + HEADER;
pub const FRAME_BYTES: usize = BUFFER - FRAME;

/// Flags of a descriptor: the device writes.
const WRITE: u64 = 2 << 32;
/// Flag of the available ring: no interrupts. Of the used ring: no notifications.
const QUIET: u32 = 1;

/// Bytes of DMA memory for a queue of `count` descriptors, without buffers and with them; multiples of 16 for powers of
/// two from 8.
const fn rings(count: usize) -> usize {
    count * DESCRIPTOR + (6 + 2 * count).next_multiple_of(16) + (6 + 8 * count).next_multiple_of(16)
}

/// See [`rings`].
pub const fn dma_bytes(count: usize) -> usize {
    rings(count) + count * BUFFER
}

/// What is in a queue's oldest used entry.
#[derive(Clone, Copy)]
pub struct Done {
    /// The descriptor, below the number of descriptors.
    id: u16,
    /// Where its frame lies in the memory.
    pub frame: usize,
    /// Bytes that the device has written, as it says; header included.
    pub written: u32,
}

/// One virtqueue.
pub struct Queue {
    memory: SharedMemory,
    /// Where the parts lie in the memory.
    descriptors: usize,
    available: usize,
    used: usize,
    buffers: usize,
    /// Descriptors, a power of two.
    count: u16,
    /// Free-running, like the device's own: entries given, entries told of, entries taken back, and the device's entries
    /// as last looked at.
    given: u16,
    told: u16,
    taken: u16,
    seen: u16,
    /// Flags of the available ring.
    flags: u32,
    /// Number of the queue, and where to say that there is something in it.
    index: u16,
    notify: usize,
}

impl Queue {
    /// Lays a queue out from `offset` on, where [`dma_bytes`] lie in the memory, aligned to 16 bytes. `physical` is where
    /// the device finds the memory. All buffers belong to the device when it writes them, else to us.
    pub fn new(memory: SharedMemory, physical: u64, offset: usize, index: u16, count: u16, receives: bool) -> Queue {
        let n = usize::from(count);
        let available = offset + n * DESCRIPTOR;
        let used = available + (6 + 2 * n).next_multiple_of(16);
        let mut queue = Queue {
            memory,
            descriptors: offset,
            available,
            used,
            buffers: offset + rings(n),
            count,
            given: 0,
            told: 0,
            taken: if receives { 0 } else { 0_u16.wrapping_sub(count) },
            seen: 0,
            flags: if receives { 0 } else { QUIET },
            index,
            notify: 0,
        };
        let _ = memory.clear(offset, rings(n));
        for id in 0..count {
            let at = queue.buffers + usize::from(id) * BUFFER + SKIP;
            queue.store(queue.descriptor(id), physical + super::wide(at));
            if receives {
                queue.store(queue.descriptor(id) + 8, super::wide(BUFFER - SKIP) | WRITE);
                queue.give_id(id);
            } else {
                let _ = memory.clear(at, HEADER);
                queue.store(queue.used_entry(id), id.into());
            }
        }
        queue.publish();
        queue
    }

    /// Offsets of descriptors, available ring and used ring in the memory, for the device.
    pub fn places(&self) -> [usize; 3] {
        [self.descriptors, self.available, self.used]
    }

    /// Where [`Queue::tell`] notifies.
    pub fn notify_at(&mut self, offset: usize) {
        self.notify = offset;
    }

    /// Descriptors.
    pub fn count(&self) -> u16 {
        self.count
    }

    fn descriptor(&self, id: u16) -> usize {
        self.descriptors + usize::from(id) * DESCRIPTOR
    }

    /// Place of a free-running index in a ring.
    #[inline]
    fn slot(&self, index: u16) -> usize {
        usize::from(index & (self.count - 1))
    }

    #[inline]
    fn used_entry(&self, index: u16) -> usize {
        // Flags and index come first, 16 bits each; entries are of 8 bytes.
        self.used + 4 + 8 * self.slot(index)
    }

    /// Reads 32 bits. All offsets lie within the memory by [`Queue::new`].
    #[inline]
    fn load32(&self, offset: usize) -> u32 {
        self.memory.load32(offset).unwrap_or(0)
    }

    /// Writes 64 bits, as [`Queue::load32`] reads.
    #[inline]
    fn store(&self, offset: usize, word: u64) {
        // Two halves: entries of the used ring are aligned to 4 only.
        let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
        let _ = self.memory.store32(offset, u32::from_le_bytes([a, b, c, d]));
        let _ = self.memory.store32(offset + 4, u32::from_le_bytes([e, f, g, h]));
    }

    /// True when there is a used entry that was not taken.
    #[inline]
    pub fn has_done(&mut self) -> bool {
        if self.seen == self.taken {
            // The load acquires what the device wrote before. Upper half: the index.
            let [_, _, low, high] = self.load32(self.used).to_le_bytes();
            self.seen = u16::from_le_bytes([low, high]);
        }
        self.seen != self.taken
    }

    /// The oldest used entry, the same one until [`Queue::give`].
    #[inline]
    pub fn done(&mut self) -> Option<Done> {
        if !self.has_done() {
            return None;
        }
        let at = self.used_entry(self.taken);
        let [low, high, ..] = self.load32(at).to_le_bytes();
        // What the device says is an allegation: an id that there is not becomes one that there is.
        let id = u16::from_le_bytes([low, high]) & (self.count - 1);
        let frame = self.buffers + usize::from(id) * BUFFER + FRAME;
        Some(Done { id, frame, written: self.load32(at + 4) })
    }

    /// Gives the oldest used entry's buffer to the device, which is not told yet. With `len`, it holds a frame of that many
    /// bytes to be sent.
    #[inline]
    pub fn give(&mut self, done: Done, len: Option<usize>) {
        if let Some(len) = len {
            self.store(self.descriptor(done.id) + 8, super::wide(HEADER + len.min(FRAME_BYTES)));
        }
        self.taken = self.taken.wrapping_add(1);
        self.give_id(done.id);
    }

    #[inline]
    fn give_id(&mut self, id: u16) {
        let _ = self.memory.write16(self.available + 4 + 2 * self.slot(self.given), id);
        self.given = self.given.wrapping_add(1);
    }

    /// Buffers given that the device does not know of.
    #[inline]
    pub fn untold(&self) -> u16 {
        self.given.wrapping_sub(self.told)
    }

    /// Writes flags and index of the available ring, after everything before.
    #[inline]
    fn publish(&mut self) {
        self.told = self.given;
        let _ = self.memory.store32(self.available, self.flags | u32::from(self.given) << 16);
        // The device looks at the index after it has changed its flags, and we the other way round (section 2.7.13.4.1).
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
    }

    /// Lets the device know of everything given.
    #[inline]
    pub fn tell(&mut self, notify: &mut impl Registers) {
        self.publish();
        if self.load32(self.used) & QUIET == 0 {
            notify.write16(self.notify, self.index);
        }
    }

    /// Asks for an interrupt at the next used entry, or for none. True when there is an entry already: nobody may have been
    /// told of it.
    pub fn interrupt(&mut self, on: bool) -> bool {
        self.flags = if on { 0 } else { QUIET };
        // What is given becomes visible, too; the device takes it at the next notification or when it looks.
        let untold = self.untold();
        self.publish();
        self.told = self.given.wrapping_sub(untold);
        self.has_done()
    }
}
