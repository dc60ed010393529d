//! Single pages of a VM that go out and come back ([`Away`]). While one is on its way out its frame is loose: the VM does not have it, and nobody else does.

use super::super::image::Image;
use super::{Memory, PageError};
use crate::memory::{Frames, Owner, PhysAddr};
use crate::vm::away::Away;
use crate::vm::pages::Pages;
use abi::guest::IMAGE_BASE;
use abi::limits::PAGE_SHIFT;
use abi::swap::Bundle;
use backend::{Backend, Flush, Rights, Tables};

/// The first page that can go out: below are those that a guest shares with others.
// It is 0x20.
#[allow(clippy::cast_possible_truncation)]
const FIRST: u32 = (IMAGE_BASE >> PAGE_SHIFT) as u32;

impl<B: Backend> Memory<B> {
    /// Whether some pages are out one by one, or on their way.
    #[inline]
    pub fn has_away(&self) -> bool {
        !self.away.is_none()
    }

    /// What is out.
    pub fn away(&self) -> &Away {
        &self.away
    }

    /// Whether a page is on its way out.
    pub fn is_leaving(&self, page: u32) -> bool {
        self.away.leaving().has(page)
    }

    /// Whether a page is out or on its way, so that nothing else may be mapped there.
    #[cold]
    #[inline(never)]
    pub fn is_elsewhere(&self, page: u32) -> bool {
        self.is_leaving(page) || self.away.get(page).is_some()
    }

    /// Which pages a VM had out when it went out as a whole, by their directory.
    pub fn adopt(&mut self, frames: &mut Frames, directory: u32) {
        self.away = Away::found(directory);
        self.reservation.adopt(frames, self.away.frames(), self.away.pages());
    }

    /// The frame of a page that could go out: its own, of data, and neither a device's nor the core's.
    fn frame_to_go(&self, frames: &mut Frames, page: u32, image: &Image) -> Option<PhysAddr> {
        let is_data = self.is_plain(page) || image.rights(page) == Some(Rights::READ_WRITE);
        if FIRST <= page && is_data { self.own_frame(frames, page) } else { None }
    }

    /// Which of these pages are there and could go out, and which of them were used since the last look; from now on they count as unused.
    pub fn look(&mut self, frames: &mut Frames, pages: Pages, image: &Image) -> (u64, u64, Flush) {
        let owner = Owner::VmTables(self.slot);
        let (mut used, mut there, mut flush) = (0, 0, Flush::Unneeded);
        for page in pages.iter() {
            let Some(frame) = self.frame_to_go(frames, page, image) else { continue };
            let (bit, address) = (1 << (page - pages.first), u64::from(page) << PAGE_SHIFT);
            there |= bit;
            let old = super::OldTables { frames, owner };
            if !self.tables.walk(&old, address).is_some_and(|found| found.accessed) {
                continue;
            }
            used |= bit;
            flush = Flush::Needed;
            // An entry that is made anew has not been used.
            let _ = self.tables.unmap(&old, address);
            // SAFETY: it was mapped there, with the same rights: a frame of its own, which stays so until `give_back` or `release`.
            let mapped = unsafe {
                let reservation = &mut self.reservation;
                let mut tables = super::TableFrames { frames, reservation, owner };
                self.tables.map(&mut tables, address, frame.as_u64(), Rights::READ_WRITE)
            };
            debug_assert!(mapped.is_ok(), "there was a table for page {page}");
        }
        (used, there, flush)
    }

    /// Take those of these pages away from the guest that can go out, `most` of them at most, and let `show` have their frames, one after the other, until it
    /// wants no more. They are on their way out from then on; so there must be none before. Which they are. The tables are to be flushed if there are any.
    pub fn send_away(
        &mut self,
        frames: &mut Frames,
        pages: Pages,
        most: u32,
        image: &Image,
        mut show: impl FnMut(&mut Frames, PhysAddr) -> bool,
    ) -> Pages {
        let (owner, mut sent) = (Owner::VmTables(self.slot), Pages { first: pages.first, bits: 0 });
        if self.away.leaving().bits != 0
            || most == 0
            || !self.away.prepare(frames, &mut self.reservation, owner, pages.first)
        {
            return sent;
        }
        for page in pages.iter() {
            if sent.bits.count_ones() == most {
                break;
            }
            let Some(frame) = self.frame_to_go(frames, page, image) else { continue };
            if !show(frames, frame) {
                break;
            }
            let was = self.tables.unmap(&super::OldTables { frames, owner }, u64::from(page) << PAGE_SHIFT);
            debug_assert!(was.is_some(), "page {page} was there");
            sent.bits |= 1 << (page - pages.first);
            #[cfg(test)]
            self.note_loose(1);
        }
        self.away.set_leaving(sent);
        if sent.bits == 0 {
            self.away.trim(frames, &mut self.reservation, owner, pages.first);
        }
        sent
    }

    fn no_longer_leaves(&mut self, page: u32) {
        let mut leaving = self.away.leaving();
        leaving.remove(page);
        self.away.set_leaving(leaving);
    }

    /// A page that was on its way out lies there, and its frame is free.
    pub fn put_away(&mut self, frames: &mut Frames, page: u32, frame: PhysAddr, bundle: &Bundle) {
        self.no_longer_leaves(page);
        self.away.put(page, bundle);
        self.drop_loose(frames, frame);
        self.reservation.put_away();
    }

    /// A page that was on its way out stays after all.
    ///
    /// # Errors
    /// As [`Memory::settle`], which is a bug of the core; the frame is free.
    pub fn keep(&mut self, frames: &mut Frames, page: u32, frame: PhysAddr) -> Result<(), PageError> {
        self.no_longer_leaves(page);
        self.settle_plain(frames, page, frame)
    }

    /// All pages have arrived that were on their way out, from this one on: what was kept to say where they lie is free where nothing is said.
    pub fn all_sent(&mut self, frames: &mut Frames, first: u32) {
        self.away.set_leaving(Pages::default());
        let owner = Owner::VmTables(self.slot);
        self.away.trim(frames, &mut self.reservation, owner, first);
    }

    /// What lay elsewhere of a page is in this loose frame, which becomes the page. Where it lay; `None`, and the frame is free, where the page is not out any more, or
    /// is out still, as there is no frame for a table.
    ///
    /// # Errors
    /// Where it lay: there is no frame either to say that it lies there still.
    pub fn bring_back(&mut self, frames: &mut Frames, page: u32, frame: PhysAddr) -> Result<Option<Bundle>, Bundle> {
        let Some(bundle) = self.take_away(frames, page) else {
            self.drop_loose(frames, frame);
            return Ok(None);
        };
        if self.settle_plain(frames, page, frame).is_ok() {
            return Ok(Some(bundle));
        }
        if !self.away.prepare(frames, &mut self.reservation, Owner::VmTables(self.slot), page) {
            return Err(bundle);
        }
        self.away.put(page, &bundle);
        self.reservation.put_away();
        Ok(None)
    }

    /// Whether a loose frame can be had for a page that is out, which no longer counts as one that is.
    ///
    /// # Errors
    /// [`PageError::NoFrame`].
    pub fn take_for_away(&mut self, frames: &mut Frames) -> Result<PhysAddr, PageError> {
        self.reservation.bring_back();
        let taken = self.take_loose(frames);
        self.reservation.put_away();
        taken.map_err(|_| PageError::NoFrame)
    }

    /// A page is not out any more, or not on its way. Where it lies.
    pub fn take_away(&mut self, frames: &mut Frames, page: u32) -> Option<Bundle> {
        self.no_longer_leaves(page);
        let bundle = self.away.take(page)?;
        self.reservation.bring_back();
        self.away.trim(frames, &mut self.reservation, Owner::VmTables(self.slot), page);
        Some(bundle)
    }

    fn settle_plain(&mut self, frames: &mut Frames, page: u32, frame: PhysAddr) -> Result<(), PageError> {
        match self.map_new(frames, page, frame, Rights::READ_WRITE) {
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
}
