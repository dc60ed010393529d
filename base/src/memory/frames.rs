//! The frame table: who owns each frame of the machine, and the allocator that lives in it.
//!
//! Invariants:
//! 1. Every frame of RAM has exactly one owner, written in its entry; what is no RAM, or is the firmware's, is `Reserved`.
//! 2. A frame is given away only from `Free`, and returns there only through [`Frames::free`] by its owner's name: a wrong
//!    name is a bug of the core, is logged, and leaves the frame where it is.
//! 3. What the previous owner wrote is still in a frame that [`Frames::alloc`] returns. Whoever allocates fills the frame
//!    completely ([`super::phys::zero_frame`], [`super::phys::copy_frame`]) before anybody but the core can see it.
//! 4. A free frame is on the free list, on the list of those that are wiped, or in the part of an extent that was never handed out. Wiped ones hold
//!    zeros: the processor fills them where nobody else wants it ([`Frames::wipe`]), so that what somebody has left is not kept, and who needs
//!    zeros need not wait for them.
//!
//! One entry is eight bytes: class in bits 0..8, id (of 24 bits at most) in bits 8..32, guest page (or link of the free list) in bits 32..64.
//! Allocation and release are O(1) and touch one entry each.

use super::phys::{PhysAddr, index, zero_frame};
use abi::limits::PAGE_SIZE;

macro_rules! owners {
    ($($(#[$doc:meta])* $name:ident $(($id:ident: $ty:ty))?: $text:literal;)*) => {
        /// Who owns a frame.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Owner { $($(#[$doc])* $name $(($ty))?),* }

        /// An [`Owner`] without its index.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum OwnerClass { $($(#[$doc])* $name),* }

        /// All classes, in the order of [`Frames::counts`].
        pub const CLASSES: [OwnerClass; [$(OwnerClass::$name),*].len()] = [$(OwnerClass::$name),*];

        impl OwnerClass {
            /// What reports call it; fits an [`abi::limits::Name`].
            pub const fn name(self) -> &'static str {
                match self { $(OwnerClass::$name => $text),* }
            }
        }

        impl Owner {
            /// The owner without its index.
            #[inline]
            pub const fn class(self) -> OwnerClass {
                match self { $(Owner::$name { .. } => OwnerClass::$name),* }
            }

            /// Which one of its class: a slot, a place in the list of components or of images. 0 where there is one only.
            #[inline]
            pub const fn id(self) -> u32 {
                self.tag() >> 8
            }

            /// The lower half of an entry.
            // Widening only; `From` is not const.
            #[allow(clippy::cast_lossless)]
            #[inline]
            const fn tag(self) -> u32 {
                let id = match self { $(Owner::$name $(($id))? => 0 $(+ $id as u32)?),* };
                id << 8 | self.class() as u32
            }

            fn from_tag(tag: u32) -> Owner {
                // The id was written by `tag`, so it fits again.
                match CLASSES.get((tag & 0xff) as usize) {
                    $(Some(OwnerClass::$name) => Owner::$name $((<$ty>::try_from(tag >> 8).unwrap_or(0)))?,)*
                    None => Owner::Reserved,
                }
            }
        }
    };
}

owners! {
    /// Nobody.
    Free: "free";
    /// The core: image, tables, page tables of its own half.
    Core: "core";
    /// A boot module that is kept (component images for restarts).
    Module: "modules";
    /// The loader, until the core has read what it left.
    Loader: "loader";
    /// The component of this index: image, stack, rings, page tables.
    Component(id: u8): "components";
    /// DMA memory of the component of this index.
    Dma(id: u8): "dma";
    /// Memory of the VM in this slot.
    VmMemory(id: u32): "vm-memory";
    /// Metadata of the VM in this slot (VMCS, context).
    VmMeta(id: u32): "vm-metadata";
    /// EPT tables of the VM in this slot.
    VmTables(id: u32): "vm-tables";
    /// Golden frame of the image of this index, mapped read-only only.
    Golden(id: u32): "golden";
    /// Hardware that failed: nobody gets it again.
    Damaged: "damaged";
    /// Not ours: firmware, devices, holes.
    Reserved: "reserved";
}

/// One entry of the table. Opaque; all-zero bytes are a free frame that was never handed out.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Entry {
    tag: u32,
    /// Guest page, or on the free list the next frame's number.
    page: u32,
}

impl Entry {
    /// An entry that nobody gets frames from.
    pub const RESERVED: Entry = Entry { tag: Owner::Reserved.tag(), page: 0 };
}

/// End of the free list.
const END: u32 = u32::MAX;
/// Separate pieces of free RAM that are known at most.
pub const MAX_EXTENTS: usize = 64;

/// Frames that can have failed while somebody owned them; a machine with more of them is beyond help.
const MAX_FAILED: usize = 64;

/// Frames `next..end` have never been handed out.
#[derive(Clone, Copy, Debug)]
struct Extent {
    next: u32,
    end: u32,
}

/// The frame table and its allocator.
pub struct Frames {
    table: &'static mut [Entry],
    free: u32,
    /// First frame of the list of those that hold zeros.
    wiped: u32,
    /// How many have come onto that list since boot.
    #[cfg(any(test, feature = "fake"))]
    wipes: u64,
    extents: heapless::Vec<Extent, MAX_EXTENTS>,
    current: usize,
    /// Frames that failed and that somebody still owns.
    failed: heapless::Vec<u32, MAX_FAILED>,
    counts: [u64; CLASSES.len()],
    /// Free frames that are kept for VMs whose reserves lack them ([`super::Reservation`]).
    promised: u64,
    /// Free frames beyond those that are for VMs that wait for room ([`Frames::set_aside`]).
    aside: u64,
    /// Free frames beyond both with which nobody grows ([`Frames::keep_for_coming`]).
    floor: u64,
}

/// [`Frames::free`] named an owner that is not the frame's: a bug of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongOwner {
    /// The frame.
    pub frame: PhysAddr,
    /// Whom the caller named.
    pub expected: Owner,
    /// Whose it is.
    pub actual: Owner,
}

impl Frames {
    /// Takes the table over: one entry for each frame from address 0. Every frame is `Reserved` until
    /// [`Frames::add_free`] says otherwise.
    pub fn new(table: &'static mut [Entry]) -> Frames {
        table.fill(Entry::RESERVED);
        let mut counts = [0; CLASSES.len()];
        counts[OwnerClass::Reserved as usize] = table.len() as u64;
        Frames {
            table,
            free: END,
            wiped: END,
            #[cfg(any(test, feature = "fake"))]
            wipes: 0,
            extents: heapless::Vec::new(),
            current: 0,
            failed: heapless::Vec::new(),
            counts,
            promised: 0,
            aside: 0,
            floor: 0,
        }
    }

    /// Makes the reserved frames `first..end` free. At boot only, in ascending order. Returns false when there are more
    /// pieces than [`MAX_EXTENTS`]: the frames stay reserved.
    #[must_use]
    pub fn add_free(&mut self, first: u64, end: u64) -> bool {
        let end = end.min(self.table.len() as u64);
        let (Ok(next), Ok(last)) = (u32::try_from(first), u32::try_from(end)) else { return false };
        if next >= last {
            return true;
        }
        if self.extents.push(Extent { next, end: last }).is_err() {
            return false;
        }
        for entry in &mut self.table[index(first)..index(end)] {
            *entry = Entry { tag: Owner::Free.tag(), page: END };
        }
        self.count(OwnerClass::Reserved, OwnerClass::Free, end - first);
        true
    }

    /// Names the owner of the frames `first..end` that are not free (image, modules). At boot only.
    pub fn claim(&mut self, first: u64, end: u64, owner: Owner) {
        let end = end.min(self.table.len() as u64);
        for number in first..end {
            let entry = &mut self.table[index(number)];
            if entry.tag == Owner::Reserved.tag() {
                *entry = Entry { tag: owner.tag(), page: 0 };
                self.count(OwnerClass::Reserved, owner.class(), 1);
            }
        }
    }

    /// A free frame for `owner`, or `None` when there is none that is not kept for a VM or for VMs that wait. `page` is noted with it (the guest page).
    /// The frame still holds what its last owner wrote: see invariant 3.
    #[inline]
    pub fn alloc(&mut self, owner: Owner, page: u32) -> Option<PhysAddr> {
        self.take_unpromised::<false>(owner, page)
    }

    #[inline]
    fn take_unpromised<const ZEROS: bool>(&mut self, owner: Owner, page: u32) -> Option<PhysAddr> {
        if self.free_frames() <= self.promised + self.aside {
            return None;
        }
        self.take::<ZEROS>(owner, page)
    }

    /// A free frame for a VM that is in: of those that are kept for it, where it was `promised`; else of [`Frames::spare`]. With `ZEROS` it holds zeros.
    #[inline]
    pub(super) fn alloc_of<const ZEROS: bool>(&mut self, promised: bool, owner: Owner, page: u32) -> Option<PhysAddr> {
        if !promised && self.free_frames() <= self.promised + self.aside + self.floor {
            return None;
        }
        let frame = self.take::<ZEROS>(owner, page)?;
        self.promised = self.promised.saturating_sub(promised.into());
        Some(frame)
    }

    /// Keep `count` frames for a VM. False, and nothing has changed, when there are not as many that are kept for nobody.
    #[must_use]
    pub(super) fn promise(&mut self, count: u64) -> bool {
        let fits = self.unreserved() >= count;
        if fits {
            self.promised += count;
            self.aside = self.aside.saturating_sub(count);
        }
        fits
    }

    /// `count` frames have become free for VMs that wait for room, of which these want `most` in all: until they have them, nobody
    /// else has what is kept for no VM but them. They are part of [`Frames::unreserved`].
    pub fn set_aside(&mut self, count: u64, most: u64) {
        self.aside = (self.aside + count).min(most);
    }

    /// Keep so many frames for VMs that come in, from now on: nobody has one of them beyond its reserve. They are part of [`Frames::unreserved`], so reserves
    /// may take them, and where some are missing, what becomes free is kept first.
    pub fn keep_for_coming(&mut self, count: u64) {
        self.floor = count;
    }

    /// How many frames are kept for VMs that come in while that many are free.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// One frame more is kept for a VM, which has just given it back.
    #[inline]
    pub(super) fn promise_again(&mut self) {
        self.promised += 1;
    }

    /// `count` frames are no longer kept for a VM.
    pub(super) fn forgive(&mut self, count: u64) {
        self.promised = self.promised.saturating_sub(count);
    }

    /// A free frame: one that is wiped where it is to hold `ZEROS`, and else one that is not, as far as there are any.
    #[inline]
    fn take<const ZEROS: bool>(&mut self, owner: Owner, page: u32) -> Option<PhysAddr> {
        let (number, wiped) = loop {
            let wiped = self.wiped != END && (ZEROS || self.free == END);
            let number = match (wiped, self.free) {
                (true, _) => self.wiped,
                (false, END) => self.fresh()?,
                (false, free) => free,
            };
            // Numbers on the lists and in extents are within the table; a list that was overwritten ends here, not in a panic.
            let entry = self.table.get_mut(number as usize)?;
            if wiped {
                self.wiped = entry.page;
            } else if number == self.free {
                self.free = entry.page;
            }
            // One that was free when it failed stays where it was until it would be given away.
            if entry.tag == Owner::Free.tag() {
                *entry = Entry { tag: owner.tag(), page };
                break (number, wiped);
            }
        };
        self.count(OwnerClass::Free, owner.class(), 1);
        let frame = PhysAddr::from_frame(number.into());
        #[cfg(any(test, feature = "fake"))]
        super::phys::fake::check_poison(frame);
        if ZEROS && !wiped {
            // SAFETY: the frame was free until now, so only this function knows it; the table covers RAM in the direct map only.
            unsafe { zero_frame(frame) };
        }
        Some(frame)
    }

    /// As [`Frames::alloc`], filled with zeros. Zeroing is the larger part of the cost, where no frame is wiped.
    #[inline]
    pub fn alloc_zeroed(&mut self, owner: Owner, page: u32) -> Option<PhysAddr> {
        self.take_unpromised::<true>(owner, page)
    }

    /// Frames that [`Frames::wipe`] has filled since boot.
    #[cfg(any(test, feature = "fake"))]
    pub fn wipes(&self) -> u64 {
        self.wipes
    }

    /// Fills up to `most` frames with zeros that somebody has given back. Whether there were as many: there may be more.
    pub fn wipe(&mut self, most: u32) -> bool {
        for _ in 0..most {
            let number = self.free;
            let Some(entry) = self.table.get_mut(number as usize) else { return false };
            self.free = entry.page;
            // One that has failed is on neither list from now on.
            if entry.tag == Owner::Free.tag() {
                entry.page = self.wiped;
                self.wiped = number;
                #[cfg(any(test, feature = "fake"))]
                {
                    self.wipes += 1;
                }
                let frame = PhysAddr::from_frame(number.into());
                #[cfg(any(test, feature = "fake"))]
                super::phys::fake::check_poison(frame);
                // SAFETY: the frame is free, so only this table knows it; the table covers RAM in the direct map only.
                unsafe { zero_frame(frame) };
            }
        }
        true
    }

    /// Next frame that was never handed out.
    fn fresh(&mut self) -> Option<u32> {
        loop {
            let extent = self.extents.get_mut(self.current)?;
            if extent.next < extent.end {
                extent.next += 1;
                return Some(extent.next - 1);
            }
            self.current += 1;
        }
    }

    /// `count` frames without a gap for `owner`, the first at a multiple of `align` frames (a power of two), all below
    /// the address `limit`; from RAM that was never handed out, so at boot. Not zeroed. `None` when there is no such
    /// piece.
    pub fn alloc_contiguous(&mut self, count: u64, align: u64, limit: u64, owner: Owner) -> Option<PhysAddr> {
        let count = u32::try_from(count).ok().filter(|&count| count > 0)?;
        let align = u32::try_from(align).ok().filter(|align| align.is_power_of_two())?;
        let limit = u32::try_from(limit / PAGE_SIZE).unwrap_or(u32::MAX);
        // From the upper end of the highest piece that has room, so that single frames come from below.
        let (found, first) = self.extents.iter().enumerate().rev().find_map(|(i, extent)| {
            let first = extent.end.min(limit).checked_sub(count)? & !(align - 1);
            (first >= extent.next).then_some((i, first))
        })?;
        // Memory that has failed since boot.
        if self.table[first as usize..(first + count) as usize].iter().any(|entry| entry.tag != Owner::Free.tag()) {
            return None;
        }
        let extent = &mut self.extents[found];
        let (after, end) = (first + count, extent.end);
        extent.end = first;
        for number in first..after {
            self.table[number as usize] = Entry { tag: owner.tag(), page: 0 };
        }
        self.count(OwnerClass::Free, owner.class(), count.into());
        // What was cut off above goes to the free list.
        for number in (after..end).rev() {
            self.table[number as usize].page = self.free;
            self.free = number;
        }
        Some(PhysAddr::from_frame(first.into()))
    }

    /// Returns a frame of `expected`. Anything else is a bug of the core: it is logged and nothing changes.
    #[inline]
    pub fn free(&mut self, frame: PhysAddr, expected: Owner) {
        if let Err(error) = self.try_free(frame, expected) {
            report(&error);
        }
    }

    /// As [`Frames::free`], but the caller hears of a wrong name.
    ///
    /// # Errors
    /// [`WrongOwner`]; nothing has changed.
    #[inline]
    pub fn try_free(&mut self, frame: PhysAddr, expected: Owner) -> Result<(), WrongOwner> {
        // The table has fewer entries than a number can have.
        let number = u32::try_from(frame.frame()).unwrap_or(END);
        match self.table.get_mut(number as usize) {
            Some(entry) if entry.tag == expected.tag() && expected != Owner::Free && frame.is_page_aligned() => {
                if !self.failed.is_empty() && self.failed.contains(&number) {
                    *entry = Entry { tag: Owner::Damaged.tag(), page: 0 };
                    self.count(expected.class(), OwnerClass::Damaged, 1);
                    self.failed.retain(|&failed| failed != number);
                    return Ok(());
                }
                *entry = Entry { tag: Owner::Free.tag(), page: self.free };
                self.free = number;
                self.count(expected.class(), OwnerClass::Free, 1);
                #[cfg(any(test, feature = "fake"))]
                super::phys::fake::poison(frame);
                Ok(())
            }
            other => {
                let actual = other.map_or(Owner::Reserved, |entry| Owner::from_tag(entry.tag));
                Err(WrongOwner { frame, expected, actual })
            }
        }
    }

    /// A frame of `from` is `to`'s from now on, with what it holds. Anything else is a bug of the core: it is logged and nothing changes.
    pub fn pass_on(&mut self, frame: PhysAddr, from: Owner, to: Owner) {
        match self.table.get_mut(index(frame.frame())) {
            Some(entry) if entry.tag == from.tag() => {
                *entry = Entry { tag: to.tag(), page: 0 };
                self.count(from.class(), to.class(), 1);
            }
            other => {
                let actual = other.map_or(Owner::Reserved, |entry| Owner::from_tag(entry.tag));
                report(&WrongOwner { frame, expected: from, actual });
            }
        }
    }

    /// Another page is noted with a frame that somebody owns.
    pub fn note(&mut self, frame: PhysAddr, page: u32) {
        if let Some(entry) = self.table.get_mut(index(frame.frame())).filter(|entry| entry.tag != Owner::Free.tag()) {
            entry.page = page;
        }
    }

    /// A frame has failed: it is given to nobody again. One that somebody owns stays theirs until they give it back. False
    /// when there are too many of those to be known.
    #[must_use]
    pub fn retire(&mut self, frame: PhysAddr) -> bool {
        let number = u32::try_from(frame.frame()).unwrap_or(END);
        match self.table.get_mut(number as usize) {
            Some(entry) if entry.tag == Owner::Free.tag() => {
                entry.tag = Owner::Damaged.tag();
                self.count(OwnerClass::Free, OwnerClass::Damaged, 1);
                true
            }
            Some(entry) if entry.tag != Owner::Damaged.tag() && !self.failed.contains(&number) => {
                self.failed.push(number).is_ok()
            }
            _ => true,
        }
    }

    #[inline]
    fn count(&mut self, from: OwnerClass, to: OwnerClass, frames: u64) {
        self.counts[from as usize] -= frames;
        self.counts[to as usize] += frames;
    }

    /// Who owns the frame, and the page noted with it. What lies beyond the table is reserved.
    pub fn owner_of(&self, frame: PhysAddr) -> (Owner, u32) {
        self.table
            .get(index(frame.frame()))
            .map_or((Owner::Reserved, 0), |entry| (Owner::from_tag(entry.tag), entry.page))
    }

    /// Whether the frame belongs to `owner`.
    #[inline]
    pub fn belongs_to(&self, frame: PhysAddr, owner: Owner) -> bool {
        self.table.get(index(frame.frame())).is_some_and(|entry| entry.tag == owner.tag())
    }

    /// Frames of each class, in the order of [`CLASSES`].
    pub fn counts(&self) -> &[u64; CLASSES.len()] {
        &self.counts
    }

    /// Frames of one class.
    #[inline]
    pub fn count_of(&self, class: OwnerClass) -> u64 {
        self.counts[class as usize]
    }

    /// Free frames.
    #[inline]
    pub fn free_frames(&self) -> u64 {
        self.count_of(OwnerClass::Free)
    }

    /// Free frames that are not kept for any VM.
    #[inline]
    pub fn unreserved(&self) -> u64 {
        // Fewer than are kept can be free only where memory has failed.
        self.free_frames().saturating_sub(self.promised)
    }

    /// Free frames that VMs can have beyond their reserves.
    #[inline]
    pub fn spare(&self) -> u64 {
        self.free_frames().saturating_sub(self.promised + self.aside + self.floor)
    }

    /// Frames that the table describes, reserved ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether it describes none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Frees those of the frames `first..end` that are `owner`'s, and returns how many there were. At boot only.
    pub fn free_range(&mut self, first: u64, end: u64, owner: Owner) -> u64 {
        let before = self.free_frames();
        // Downwards, so that the lowest is given away first.
        for number in (first..end.min(self.table.len() as u64)).rev() {
            let frame = PhysAddr::from_frame(number);
            if self.owner_of(frame).0 == owner {
                self.free(frame, owner);
            }
        }
        self.free_frames() - before
    }
}

#[cfg(any(test, feature = "boot"))]
#[path = "frames_boot.rs"]
mod boot;

#[cold]
fn report(error: &WrongOwner) {
    debug_assert!(false, "{error:?}");
    log::error!(target: "frames", "bug: frame {} belongs to {:?}, not to {:?}; left as it is", error.frame, error.actual, error.expected);
}
