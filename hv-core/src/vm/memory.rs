//! The memory of one VM: which frame is mapped where, and whose it is.
//!
//! Rules (design section 7): a frame that is mapped writable belongs to this VM alone; a golden frame is mapped without
//! the right to write; what a frame held before is gone before the VM sees it; and a page has no right that its image does not
//! give it.

mod single;

use super::away::Away;
use super::image::Image;
use crate::memory::{Denied, Frames, Owner, PhysAddr, Reservation, copy_frame};
use abi::claim::Claim;
use abi::limits::PAGE_SHIFT;
use abi::vm::Slot;
use backend::{Backend, Flush, GuestMemory, Rights, Tables};
use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;

/// Gives page-table frames of one VM to the backend.
struct TableFrames<'f> {
    frames: &'f mut Frames,
    reservation: &'f mut Reservation,
    owner: Owner,
}

/// Lets the backend read one VM's page tables, and give their frames back when the VM is gone.
struct OldTables<'f> {
    frames: &'f mut Frames,
    owner: Owner,
}

// SAFETY: `allocate` hands out zeroed frames of RAM, which the direct map covers, to this VM's tables alone.
unsafe impl backend::Frames for TableFrames<'_> {
    // Rare: a table is for 512 pages.
    #[inline(never)]
    fn allocate(&mut self) -> Option<u64> {
        self.reservation.alloc_zeroed(self.frames, self.owner, 0).ok().map(PhysAddr::as_u64)
    }

    fn free(&mut self, physical: u64) {
        // A wrong owner would be a bug of the core, which the frame table reports.
        self.reservation.free(self.frames, PhysAddr::new(physical), self.owner);
    }

    fn table(&self, physical: u64) -> &[AtomicU64; 512] {
        table_at(physical)
    }
}

// SAFETY: it hands out nothing.
unsafe impl backend::Frames for OldTables<'_> {
    fn allocate(&mut self) -> Option<u64> {
        None
    }

    fn free(&mut self, physical: u64) {
        self.frames.free(PhysAddr::new(physical), self.owner);
    }

    fn table(&self, physical: u64) -> &[AtomicU64; 512] {
        table_at(physical)
    }
}

/// The page table in a frame that `TableFrames` has allocated.
#[inline]
fn table_at<'t>(physical: u64) -> &'t [AtomicU64; 512] {
    // SAFETY: the address came from `allocate`; a page of 512 words is aligned for them, and nobody but the processor's
    // walker (which AtomicU64 allows for) uses it.
    unsafe { &*PhysAddr::new(physical).as_ptr() }
}

/// One VM's memory as the VM sees it.
pub struct View<'m, B: Backend> {
    memory: &'m Memory<B>,
    frames: OldTables<'m>,
}

// SAFETY: a page that is mapped for a guest is RAM, which the direct map covers. Its frame is not given to anybody else
// before the tables are flushed (`Memory::give_back`) or the VM is released.
unsafe impl<B: Backend> GuestMemory for View<'_, B> {
    fn page(&self, address: u64) -> Option<NonNull<[AtomicU64; 512]>> {
        let found = self.memory.tables.walk(&self.frames, address)?;
        NonNull::new(PhysAddr::new(found.frame).as_ptr())
    }
}

/// Why a page could not be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageError {
    /// The VM has its reserve, and no frame is free that is not kept for another one.
    NoFrame,
    /// The VM holds as many frames as it may.
    Limit,
    /// The page lies beyond the VM's memory or in a hole, or the image has nothing there.
    NoSuchPage,
}

impl From<Denied> for PageError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Limit => PageError::Limit,
            Denied::Frames => PageError::NoFrame,
        }
    }
}

/// One VM's memory.
pub struct Memory<B: Backend> {
    tables: B::Tables,
    /// The number of its slot.
    slot: u32,
    /// Pages of the guest's address space.
    pages: u32,
    /// Frames of its own, those included that are no page: what lies in them is still on its way from the pool, or there.
    own: u32,
    /// Those.
    #[cfg(test)]
    loose: u32,
    /// Golden frames that are mapped.
    shared: u32,
    /// From this page on, all is memory that can be written and not executed; before, the image says.
    plain: u32,
    /// No page from here on is mapped.
    top: u32,
    /// What it holds of the machine's frames, and may hold.
    reservation: Reservation,
    /// Pages that are out one by one, or on their way.
    away: Away,
}

impl<B: Backend> Memory<B> {
    /// Memory of `pages` pages, none of which is there yet, of a VM of an image that ends at the page `plain`; `None` when there
    /// is no frame for the tables. The reservation, in which the VM's metadata is counted already, ends with the memory.
    pub fn new(
        cpu: &B,
        frames: &mut Frames,
        mut reservation: Reservation,
        slot: Slot,
        pages: u32,
        plain: u32,
    ) -> Option<Self> {
        let slot = slot.number();
        let owner = Owner::VmTables(slot);
        let tables = cpu.new_tables(&mut TableFrames { frames, reservation: &mut reservation, owner });
        let Some(tables) = tables else {
            reservation.close(frames);
            return None;
        };
        let away = Away::default();
        Some(Memory {
            tables,
            slot,
            pages,
            own: 0,
            #[cfg(test)]
            loose: 0,
            shared: 0,
            plain,
            top: 0,
            reservation,
            away,
        })
    }

    /// Frames that the VM holds, is sure of, and may hold: its own, those of its page tables and of its metadata.
    #[inline]
    pub fn reservation(&self) -> &Reservation {
        &self.reservation
    }

    /// Frames that are kept for it, and that it may hold, those included that its pages had which are out.
    pub fn claim(&self) -> Claim {
        let Claim { reserve, limit } = self.reservation.claim();
        Claim { reserve, limit: (limit + self.away.pages()).saturating_sub(self.away.frames()) }
    }

    /// So many more of its frames are no page. (There is no room to count them on a machine: a VM fills its frame.)
    #[cfg(test)]
    fn note_loose(&mut self, more: i32) {
        self.loose = self.loose.saturating_add_signed(more);
    }

    /// The nested page tables.
    pub fn tables(&self) -> &B::Tables {
        &self.tables
    }

    /// Pages of the guest's address space.
    #[inline]
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// Whether the image has no say in what may be done with a page: it can be read and written, and not executed.
    #[inline]
    pub fn is_plain(&self, page: u32) -> bool {
        page >= self.plain
    }

    /// Frames: its own, those of its tables and of what says where its pages are that are out, and golden ones that it shares.
    pub fn counts(&self) -> (u32, u32, u32) {
        (self.own, self.tables.table_pages() + self.away.frames(), self.shared)
    }

    /// Frames of its own that are no page yet.
    #[cfg(test)]
    pub fn loose(&self) -> u32 {
        self.loose
    }

    /// No page from here on is mapped.
    pub fn top(&self) -> u32 {
        self.top
    }

    /// The frame at `page`, if it is its own.
    pub fn own_frame(&self, frames: &mut Frames, page: u32) -> Option<PhysAddr> {
        let frame = self.frame(frames, page)?;
        self.owns(frames, frame).then_some(frame)
    }

    /// Whether a frame is its own.
    pub fn owns(&self, frames: &Frames, frame: PhysAddr) -> bool {
        frames.belongs_to(frame, Owner::VmMemory(self.slot))
    }

    /// A cleared frame of its own, which is no page yet.
    ///
    /// # Errors
    /// [`PageError`].
    pub fn take_loose(&mut self, frames: &mut Frames) -> Result<PhysAddr, PageError> {
        let frame = self.reservation.alloc_zeroed(frames, Owner::VmMemory(self.slot), u32::MAX)?;
        self.own += 1;
        #[cfg(test)]
        self.note_loose(1);
        Ok(frame)
    }

    /// A frame that is no page yet is not needed.
    pub fn drop_loose(&mut self, frames: &mut Frames, frame: PhysAddr) {
        self.own = self.own.saturating_sub(1);
        #[cfg(test)]
        self.note_loose(-1);
        self.reservation.free(frames, frame, Owner::VmMemory(self.slot));
    }

    /// A frame that is no page yet becomes `page`, with the rights that the image gives it.
    ///
    /// # Errors
    /// [`PageError`]: there can be no such page, or there is one already. The frame is free again.
    pub fn settle(&mut self, frames: &mut Frames, page: u32, frame: PhysAddr, image: &Image) -> Result<(), PageError> {
        let rights = image.rights(page).filter(|_| page < self.pages);
        let mapped = match rights {
            Some(rights) => self.map_new(frames, page, frame, rights),
            None => Err(PageError::NoSuchPage),
        };
        match mapped {
            Ok(true) => {
                #[cfg(test)]
                self.note_loose(-1);
                frames.note(frame, page);
                Ok(())
            }
            other => {
                self.drop_loose(frames, frame);
                other.and(Err(PageError::NoSuchPage))
            }
        }
    }

    /// No more frames than these are kept for it from now on.
    pub fn lower_reserve(&mut self, frames: &mut Frames, reserve: u32) {
        self.reservation.lower(frames, reserve);
    }

    /// What the guest sees at its addresses, to look at its instructions.
    pub fn view<'m>(&'m self, frames: &'m mut Frames) -> View<'m, B> {
        View { memory: self, frames: OldTables { frames, owner: Owner::VmTables(self.slot) } }
    }

    /// The frame at `page`.
    pub fn frame(&self, frames: &mut Frames, page: u32) -> Option<PhysAddr> {
        let owner = Owner::VmTables(self.slot);
        let found = self.tables.walk(&OldTables { frames, owner }, u64::from(page) << PAGE_SHIFT)?;
        Some(PhysAddr::new(found.frame))
    }

    /// The frame at `page`, and what the guest can do with it.
    #[cfg(test)]
    pub fn mapping(&self, frames: &mut Frames, page: u32) -> Option<(PhysAddr, Rights)> {
        let owner = Owner::VmTables(self.slot);
        let found = self.tables.walk(&OldTables { frames, owner }, u64::from(page) << PAGE_SHIFT)?;
        Some((PhysAddr::new(found.frame), found.rights))
    }

    /// Give `page` a zeroed frame of its own. Returns the frame, or `None` when a frame is there already.
    #[inline]
    pub fn map_zero(&mut self, frames: &mut Frames, page: u32, image: &Image) -> Result<Option<PhysAddr>, PageError> {
        // Two ways, so that on the frequent one the rights are a constant.
        if self.is_plain(page) { self.map_plain(frames, page) } else { self.map_zero_in_image(frames, page, image) }
    }

    /// As [`Memory::map_zero`], where the image has no say.
    #[inline]
    pub fn map_plain(&mut self, frames: &mut Frames, page: u32) -> Result<Option<PhysAddr>, PageError> {
        self.map_zero_with(frames, page, Rights::READ_WRITE)
    }

    /// As [`Memory::map_zero`], where the image has a say.
    #[cold]
    #[inline(never)]
    fn map_zero_in_image(
        &mut self,
        frames: &mut Frames,
        page: u32,
        image: &Image,
    ) -> Result<Option<PhysAddr>, PageError> {
        let rights = image.rights(page).ok_or(PageError::NoSuchPage)?;
        self.map_zero_with(frames, page, rights)
    }

    #[inline(always)]
    fn map_zero_with(&mut self, frames: &mut Frames, page: u32, rights: Rights) -> Result<Option<PhysAddr>, PageError> {
        if page >= self.pages {
            return Err(PageError::NoSuchPage);
        }
        let own = Owner::VmMemory(self.slot);
        let frame = self.reservation.alloc_zeroed(frames, own, page)?;
        match self.map_new(frames, page, frame, rights) {
            Ok(true) => {
                self.own += 1;
                Ok(Some(frame))
            }
            other => {
                self.reservation.free(frames, frame, own);
                other.map(|_| None)
            }
        }
    }

    /// Map the golden frame of `image` at `page`, if the image has one there and nothing is mapped yet.
    pub fn map_golden(&mut self, frames: &mut Frames, page: u32, image: &Image) -> Result<(), PageError> {
        if page >= self.pages {
            return Err(PageError::NoSuchPage);
        }
        let (golden, rights) = image.shared(page).ok_or(PageError::NoSuchPage)?;
        self.shared += u32::from(self.map_new(frames, page, golden, rights)?);
        Ok(())
    }

    /// As [`Memory::map_golden`], for up to `count` pages in a row, none beyond the 2 MiB that `page` lies in. How many of them, from the first on, are mapped now.
    pub fn map_golden_run(
        &mut self,
        frames: &mut Frames,
        page: u32,
        count: u32,
        image: &Image,
    ) -> Result<u32, PageError> {
        if self.has_away() {
            // One by one, as some may be elsewhere.
            return self.map_golden(frames, page, image).map(|()| 1);
        }
        let (golden, count, rights) = image.shared_run(page, count).ok_or(PageError::NoSuchPage)?;
        let last = page + count.max(1) - 1;
        if last >= self.pages {
            return Err(PageError::NoSuchPage);
        }
        let (owner, address) = (Owner::VmTables(self.slot), u64::from(page) << PAGE_SHIFT);
        // SAFETY: golden frames are never written and never freed.
        let mapped = unsafe {
            let tables = &mut TableFrames { frames, reservation: &mut self.reservation, owner };
            self.tables.map_run(tables, address, golden.as_u64(), count, rights)
        };
        self.shared += self.mapped(last, mapped)?;
        Ok(count)
    }

    /// Give `page` a frame of its own with what the image has there, also where the golden frame is mapped now. Tells
    /// whether translations have to be flushed.
    pub fn copy_golden(&mut self, frames: &mut Frames, page: u32, image: &Image) -> Result<Flush, PageError> {
        if page >= self.pages {
            return Err(PageError::NoSuchPage);
        }
        let golden = image.golden(page).ok_or(PageError::NoSuchPage)?;
        let rights = image.rights(page).ok_or(PageError::NoSuchPage)?;
        if self.has_away() && self.is_elsewhere(page) {
            return Ok(Flush::Unneeded);
        }
        let mapped = self.frame(frames, page);
        if mapped.is_some_and(|frame| frame != golden) {
            return Ok(Flush::Unneeded);
        }
        let frame = self.reservation.alloc(frames, Owner::VmMemory(self.slot), page)?;
        // SAFETY: the frame was just allocated, so it is only ours; golden frames are never written.
        unsafe { copy_frame(golden, frame) };
        let flush = self.map_own(frames, page, frame, rights)?;
        if mapped.is_some() {
            self.shared -= 1;
        }
        Ok(flush)
    }

    /// Take `page` away from the guest. Returns whether a frame of its own was freed, and whether to flush. The frame
    /// must not be used by anybody before the flush.
    pub fn give_back(&mut self, frames: &mut Frames, page: u32) -> (bool, Flush) {
        let owner = Owner::VmTables(self.slot);
        let address = u64::from(page) << PAGE_SHIFT;
        let Some(was) = self.tables.unmap(&OldTables { frames, owner }, address) else {
            return (false, Flush::Unneeded);
        };
        let frame = PhysAddr::new(was.frame);
        if frames.belongs_to(frame, Owner::VmMemory(self.slot)) {
            self.own -= 1;
            self.reservation.free(frames, frame, Owner::VmMemory(self.slot));
            (true, Flush::Needed)
        } else {
            self.shared -= 1;
            (false, Flush::Needed)
        }
    }

    /// Free everything: frames of its own, and tables. The processor state has been released and flushed before. Left is the directory of its pages that are out,
    /// by its frame number ([`Away::keep`]), 0 for none.
    #[must_use]
    pub fn release(self, frames: &mut Frames) -> u32 {
        let own = Owner::VmMemory(self.slot);
        for page in 0..self.top {
            if let Some(frame) = self.own_frame(frames, page) {
                frames.free(frame, own);
            }
        }
        self.tables.free(&mut OldTables { frames, owner: Owner::VmTables(self.slot) });
        self.reservation.close(frames);
        self.away.keep()
    }

    fn map_own(&mut self, frames: &mut Frames, page: u32, frame: PhysAddr, rights: Rights) -> Result<Flush, PageError> {
        let (own, owner) = (Owner::VmMemory(self.slot), Owner::VmTables(self.slot));
        let address = u64::from(page) << PAGE_SHIFT;
        // SAFETY: the frame belongs to this VM alone and stays so until `give_back` or `release`.
        let mapped = unsafe {
            let reservation = &mut self.reservation;
            self.tables.map(&mut TableFrames { frames, reservation, owner }, address, frame.as_u64(), rights)
        };
        match self.mapped(page, mapped) {
            Ok(flush) => {
                self.own += 1;
                Ok(flush)
            }
            Err(error) => {
                self.reservation.free(frames, frame, own);
                Err(error)
            }
        }
    }

    /// Map a frame that is this VM's own, or golden and then without the right to write, unless something is mapped there.
    #[inline]
    fn map_new(&mut self, frames: &mut Frames, page: u32, frame: PhysAddr, rights: Rights) -> Result<bool, PageError> {
        if self.has_away() && self.is_elsewhere(page) {
            return Ok(false);
        }
        let owner = Owner::VmTables(self.slot);
        let address = u64::from(page) << PAGE_SHIFT;
        // SAFETY: a frame of its own belongs to this VM alone until `give_back` or `release`; golden frames are never written
        // and never freed.
        let mapped = unsafe {
            let reservation = &mut self.reservation;
            self.tables.map_new(&mut TableFrames { frames, reservation, owner }, address, frame.as_u64(), rights)
        };
        self.mapped(page, mapped)
    }

    /// Take note of a page that was mapped, and translate the backend's error.
    #[inline]
    fn mapped<T>(&mut self, page: u32, result: Result<T, backend::NestedMapError>) -> Result<T, PageError> {
        match result {
            Ok(result) => {
                self.top = self.top.max(page + 1);
                Ok(result)
            }
            Err(backend::NestedMapError::NoFrame) if self.reservation.is_full() => Err(PageError::Limit),
            Err(backend::NestedMapError::NoFrame) => Err(PageError::NoFrame),
            Err(backend::NestedMapError::BadAddress) => Err(PageError::NoSuchPage),
        }
    }
}
