//! Memory that is shared with somebody who is not believed. The only file of this crate with `unsafe` in it.
//!
//! Every access is an atomic or a volatile one, or one block of assembly: whatever the other side does at the same time,
//! a load gives some value, and never anything worse. Offsets are checked (or cannot be wrong), so safe code can neither
//! reach beyond the memory nor make the program panic.

use abi::ring::{HEADER_BYTES, SLOT_BYTES};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Eight words: one slot.
pub type SlotWords = [u64; 8];

/// Memory in which a ring can live.
pub trait Memory: Clone {
    /// A checked handle to a ring header.
    type Header: HeaderWords;
    /// A checked handle to the slots of a ring.
    type Slots: SlotArray;

    /// The ring header at the start of this memory; `None` where it does not fit or is not aligned to 8 bytes.
    fn header(&self) -> Option<Self::Header>;
    /// `count` slots from the start of this memory; `None` where they do not fit, are not aligned to 8 bytes, or `count` is
    /// not a power of two.
    fn slots(&self, count: u32) -> Option<Self::Slots>;
    /// A fence of the memory's own kind.
    fn fence(order: Ordering);
}

/// The words of a [`abi::ring::RingHeader`], by their byte offset. A wrong offset does not compile.
pub trait HeaderWords {
    /// Loads with acquire ordering.
    fn load32<const OFFSET: usize>(&self) -> u32;
    /// Loads with acquire ordering.
    fn load64<const OFFSET: usize>(&self) -> u64;
    /// Stores with release ordering.
    fn store32<const OFFSET: usize>(&self, value: u32);
    /// Stores with release ordering.
    fn store64<const OFFSET: usize>(&self, value: u64);
}

/// The slots of a ring. Indices run freely; the slot is the index modulo the number of slots.
pub trait SlotArray {
    /// Loads the slot's eight words, each relaxed.
    #[inline]
    fn load(&self, index: u32) -> SlotWords {
        self.load_start(index)
    }
    /// Stores the slot's eight words, each relaxed.
    fn store(&self, index: u32, words: &SlotWords);
    /// Loads the slot's first `N` words, at most eight, each relaxed.
    fn load_start<const N: usize>(&self, index: u32) -> [u64; N];
    /// Stores the slot's first word, relaxed.
    fn store_first(&self, index: u32, word: u64);
}

/// Memory that can be read and written in bytes. Offsets and lengths count bytes; whatever does not fit is refused with
/// `None`, and nothing is done.
pub trait ByteMemory: Memory {
    /// Bytes in this memory.
    fn len(&self) -> usize;
    /// True for no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The `len` bytes from `offset` as a memory of their own.
    fn sub(&self, offset: usize, len: usize) -> Option<Self>;
    /// Copies bytes out.
    fn read(&self, offset: usize, to: &mut [u8]) -> Option<()>;
    /// Copies bytes in.
    fn write(&self, offset: usize, from: &[u8]) -> Option<()>;
    /// Copies `len` bytes from `offset` to `to_offset` of `to`, once. Overlapping ranges give unspecified bytes.
    fn copy_to(&self, offset: usize, to: &Self, to_offset: usize, len: usize) -> Option<()>;
}

/// A range of mapped memory that others may change at any time: pages shared between protection domains, DMA memory,
/// device registers.
///
/// Values are little-endian, as everything on x86 is. Stores return `None` (and store nothing) where the range or the
/// natural alignment forbids the access.
#[derive(Clone, Copy, Debug)]
pub struct SharedMemory {
    base: *mut u8,
    len: usize,
}

// SAFETY: every access through it is atomic, volatile or assembly, and the memory belongs to no thread (see `new`).
unsafe impl Send for SharedMemory {}
// SAFETY: as above; there is no state but the address and the length.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// The `len` bytes from `base`.
    ///
    /// # Safety
    /// As long as this value or a copy of it is used, the range must stay mapped, readable, and (where something is stored
    /// through it) writable, and no Rust reference may point into it, but one made by [`SharedMemory::view`] or
    /// [`SharedMemory::view_mut`] under their terms.
    pub const unsafe fn new(base: *mut u8, len: usize) -> SharedMemory {
        SharedMemory { base, len }
    }

    /// Memory that the program gives away for good. For tests, and for rings inside one program.
    pub fn from_static(words: &'static mut [u64]) -> SharedMemory {
        let len = core::mem::size_of_val(words);
        // SAFETY: the exclusive borrow lasts for ever and ends in this value, so no other reference exists.
        unsafe { SharedMemory::new(words.as_mut_ptr().cast(), len) }
    }

    /// Address of the first byte.
    pub const fn base(&self) -> *mut u8 {
        self.base
    }

    /// Bytes in this memory.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True for no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The `len` bytes from `offset` as a memory of their own; `None` where they reach beyond this one.
    #[inline]
    pub fn sub(&self, offset: usize, len: usize) -> Option<SharedMemory> {
        let base = self.range(offset, len)?;
        Some(SharedMemory { base, len })
    }

    /// Atomic load, acquire.
    #[inline]
    pub fn load32(&self, offset: usize) -> Option<u32> {
        Some(self.atomic32(offset)?.load(Ordering::Acquire))
    }

    /// Atomic load, acquire.
    #[inline]
    pub fn load64(&self, offset: usize) -> Option<u64> {
        Some(self.atomic64(offset)?.load(Ordering::Acquire))
    }

    /// Atomic store, release.
    #[inline]
    pub fn store32(&self, offset: usize, value: u32) -> Option<()> {
        self.atomic32(offset)?.store(value, Ordering::Release);
        Some(())
    }

    /// Atomic store, release.
    #[inline]
    pub fn store64(&self, offset: usize, value: u64) -> Option<()> {
        self.atomic64(offset)?.store(value, Ordering::Release);
        Some(())
    }

    /// Atomic or; returns what was there.
    #[inline]
    pub fn fetch_or64(&self, offset: usize, bits: u64) -> Option<u64> {
        Some(self.atomic64(offset)?.fetch_or(bits, Ordering::AcqRel))
    }

    /// Copies bytes out.
    #[inline]
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Option<()> {
        let from = self.range(offset, to.len())?;
        // SAFETY: both ranges are mapped, the first by `range` and `new`, the second by the borrow.
        unsafe { copy(to.as_mut_ptr(), from, to.len()) };
        Some(())
    }

    /// Copies bytes in.
    #[inline]
    pub fn write(&self, offset: usize, from: &[u8]) -> Option<()> {
        let to = self.range(offset, from.len())?;
        // SAFETY: both ranges are mapped, the first by `range` and `new`, the second by the borrow.
        unsafe { copy(to, from.as_ptr(), from.len()) };
        Some(())
    }

    /// Copies `len` bytes from `offset` to `to_offset` of `to`, once. Overlapping ranges give unspecified bytes.
    #[inline]
    pub fn copy_to(&self, offset: usize, to: &SharedMemory, to_offset: usize, len: usize) -> Option<()> {
        let (from, to) = (self.range(offset, len)?, to.range(to_offset, len)?);
        // SAFETY: both ranges are mapped, by `range` and `new`.
        unsafe { copy(to, from, len) };
        Some(())
    }

    /// Stores zeros.
    #[inline]
    pub fn clear(&self, offset: usize, len: usize) -> Option<()> {
        let to = self.range(offset, len)?;
        // SAFETY: the range is mapped, by `range` and `new`.
        unsafe { clear(to, len) };
        Some(())
    }

    /// Address of `offset`, from where `len` bytes lie within the memory.
    #[inline]
    fn range(&self, offset: usize, len: usize) -> Option<*mut u8> {
        (len <= self.len && offset <= self.len - len).then(|| self.base.wrapping_add(offset))
    }

    /// Address of a naturally aligned `T` within the memory.
    #[inline]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let at = self.range(offset, size_of::<T>())?;
        at.addr().is_multiple_of(size_of::<T>()).then(|| at.cast())
    }

    #[inline]
    fn atomic32(&self, offset: usize) -> Option<&AtomicU32> {
        let at = self.at::<u32>(offset)?;
        // SAFETY: aligned and within the memory by `at`; mapped, and accessed by nothing but atomics and volatiles, by `new`.
        Some(unsafe { AtomicU32::from_ptr(at) })
    }

    #[inline]
    fn atomic64(&self, offset: usize) -> Option<&AtomicU64> {
        let at = self.at::<u64>(offset)?;
        // SAFETY: as in `atomic32`.
        Some(unsafe { AtomicU64::from_ptr(at) })
    }
}

#[cfg(feature = "beyond-core")]
#[path = "in_place.rs"]
mod in_place;

impl Memory for SharedMemory {
    type Header = SharedHeader;
    type Slots = SharedSlots;

    fn header(&self) -> Option<SharedHeader> {
        self.range(0, HEADER_BYTES)?;
        Some(SharedHeader(self.at::<u64>(0)?.cast()))
    }

    fn slots(&self, count: u32) -> Option<SharedSlots> {
        if !count.is_power_of_two() {
            return None;
        }
        self.range(0, SLOT_BYTES.checked_mul(usize::try_from(count).ok()?)?)?;
        Some(SharedSlots { base: self.at::<u64>(0)?.cast(), mask: count - 1 })
    }

    #[inline]
    fn fence(order: Ordering) {
        fence(order);
    }
}

impl ByteMemory for SharedMemory {
    #[inline]
    fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn sub(&self, offset: usize, len: usize) -> Option<Self> {
        self.sub(offset, len)
    }

    #[inline]
    fn read(&self, offset: usize, to: &mut [u8]) -> Option<()> {
        self.read(offset, to)
    }

    #[inline]
    fn write(&self, offset: usize, from: &[u8]) -> Option<()> {
        self.write(offset, from)
    }

    #[inline]
    fn copy_to(&self, offset: usize, to: &Self, to_offset: usize, len: usize) -> Option<()> {
        self.copy_to(offset, to, to_offset, len)
    }
}

/// A ring header in [`SharedMemory`]: [`HEADER_BYTES`] mapped bytes, aligned to 8.
#[derive(Clone, Copy, Debug)]
pub struct SharedHeader(*mut u8);

// SAFETY: as for `SharedMemory`.
unsafe impl Send for SharedHeader {}

impl SharedHeader {
    #[inline]
    fn word32<const OFFSET: usize>(&self) -> &AtomicU32 {
        const { assert!(OFFSET.is_multiple_of(4) && OFFSET + 4 <= HEADER_BYTES) };
        // SAFETY: within the header and aligned by the assertion above; mapped by `SharedMemory::new`.
        unsafe { AtomicU32::from_ptr(self.0.add(OFFSET).cast()) }
    }

    #[inline]
    fn word64<const OFFSET: usize>(&self) -> &AtomicU64 {
        const { assert!(OFFSET.is_multiple_of(8) && OFFSET + 8 <= HEADER_BYTES) };
        // SAFETY: within the header and aligned by the assertion above; mapped by `SharedMemory::new`.
        unsafe { AtomicU64::from_ptr(self.0.add(OFFSET).cast()) }
    }
}

impl HeaderWords for SharedHeader {
    #[inline]
    fn load32<const OFFSET: usize>(&self) -> u32 {
        self.word32::<OFFSET>().load(Ordering::Acquire)
    }

    #[inline]
    fn load64<const OFFSET: usize>(&self) -> u64 {
        self.word64::<OFFSET>().load(Ordering::Acquire)
    }

    #[inline]
    fn store32<const OFFSET: usize>(&self, value: u32) {
        self.word32::<OFFSET>().store(value, Ordering::Release);
    }

    #[inline]
    fn store64<const OFFSET: usize>(&self, value: u64) {
        self.word64::<OFFSET>().store(value, Ordering::Release);
    }
}

/// Slots in [`SharedMemory`]: `mask + 1` mapped slots, aligned to 8. The mask keeps every index inside, without a branch.
#[derive(Clone, Copy, Debug)]
pub struct SharedSlots {
    base: *mut SlotWords,
    mask: u32,
}

// SAFETY: as for `SharedMemory`.
unsafe impl Send for SharedSlots {}

impl SharedSlots {
    #[inline]
    fn slot(&self, index: u32) -> &[AtomicU64; 8] {
        // SAFETY: `index & mask` is below the number of slots, which `Memory::slots` checked to lie within the memory and to
        // be aligned; mapped by `SharedMemory::new`. An array of atomics may be shared with whoever writes to it.
        unsafe { &*self.base.add((index & self.mask) as usize).cast() }
    }
}

impl SlotArray for SharedSlots {
    #[inline]
    fn store(&self, index: u32, words: &SlotWords) {
        for (word, value) in self.slot(index).iter().zip(words) {
            word.store(*value, Ordering::Relaxed);
        }
    }

    #[inline]
    fn load_start<const N: usize>(&self, index: u32) -> [u64; N] {
        const { assert!(N <= 8) };
        let slot = self.slot(index);
        core::array::from_fn(|word| slot[word].load(Ordering::Relaxed))
    }

    #[inline]
    fn store_first(&self, index: u32, word: u64) {
        self.slot(index)[0].store(word, Ordering::Relaxed);
    }
}

/// Copies bytes that may change meanwhile.
///
/// In words, because `rep movsq` runs at the speed of `rep movsb` on processors with fast strings, and is not slow on those
/// where byte strings are.
///
/// # Safety
/// `len` bytes must be readable at `from` and writable at `to`.
#[inline]
unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if len >= 8 {
        // SAFETY: touches the given ranges and nothing else. What does not fill a word is taken by one that overlaps the last
        // whole one. The direction flag is clear by the calling convention. To the compiler this is opaque, so a
        // concurrent change makes the bytes arbitrary and nothing else.
        unsafe {
            core::arch::asm!(
                "rep movsq",
                "mov rcx, [{from_end} - 8]",
                "mov [{to_end} - 8], rcx",
                from_end = in(reg) from.add(len),
                to_end = in(reg) to.add(len),
                inout("rcx") len / 8 => _,
                inout("rsi") from => _,
                inout("rdi") to => _,
                options(nostack, preserves_flags),
            );
        }
        return;
    }
    for i in 0..len {
        // SAFETY: within the given ranges; bytes have no alignment.
        unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
    }
}

/// Stores zeros.
///
/// # Safety
/// `len` bytes must be writable at `to`.
#[inline]
unsafe fn clear(to: *mut u8, len: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        // SAFETY: touches the given range and nothing else; the direction flag is clear by the calling convention.
        unsafe {
            core::arch::asm!(
                "rep stosq",
                "mov ecx, {rest:e}",
                "rep stosb",
                rest = in(reg) len % 8,
                inout("rcx") len / 8 => _,
                inout("rdi") to => _,
                in("rax") 0_u64,
                options(nostack, preserves_flags),
            );
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    for i in 0..len {
        // SAFETY: within the given range; bytes have no alignment.
        unsafe { to.add(i).write_volatile(0) };
    }
}
