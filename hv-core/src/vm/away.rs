//! Where the single pages of one VM lie that are out: a directory of leaves, in frames of the VM's own, in which each page has a [`Bundle`]. Whoever has none
//! out has no such frame, and a leaf is free again when its last page is back.

use super::pages::Pages;
use crate::memory::{Frames, Owner, PhysAddr, Reservation, core_memory};
use abi::limits::PAGE_SIZE;
use abi::swap::Bundle;
use abi::vm::VmId;
use ring::SharedMemory;
use zerocopy::{FromZeros, IntoBytes};

/// Pages of a leaf.
const EACH: u32 = 128;
/// Leaves of a directory; behind their frame numbers it says what it holds. So a VM's first 508 MiB can go out in this way.
const LEAVES: u32 = 1016;
/// Words of a directory: pages that are out, frames with the directory's own, and the pages that are on their way, of which the mask takes two words; and of one that
/// nobody has any more, the next such, and the first page that is left.
const COUNT: u32 = LEAVES;
const FRAMES: u32 = LEAVES + 1;
const LEAVING: u32 = LEAVES + 2;
const MASK: u32 = LEAVES + 4;
const NEXT: u32 = LEAVES + 6;
const LEFT: u32 = LEAVES + 7;

const _: () = assert!(EACH as u64 * size_of::<Bundle>() as u64 == PAGE_SIZE && (LEFT as u64) * 4 < PAGE_SIZE);
const _: () = assert!(MASK.is_multiple_of(2), "aligned for its 64 bits");

/// The page behind the last one that a directory has room for.
const END: u32 = LEAVES * EACH;

/// A directory. Whoever has no page out has one word for it: there are many VMs, each in a frame of its own, which is nearly full.
#[derive(Debug, Default)]
pub struct Away {
    /// Its frame number, 0 for none.
    directory: u32,
}

fn memory(frame: u32) -> SharedMemory {
    core_memory(PhysAddr::from_frame(frame.into()), PAGE_SIZE)
}

fn number(frame: PhysAddr) -> u32 {
    u32::try_from(frame.frame()).unwrap_or(0)
}

fn get(frame: u32, word: u32) -> u32 {
    memory(frame).load32(4 * word as usize).unwrap_or(0)
}

fn set(frame: u32, word: u32, value: u32) {
    // Within the frame.
    let _ = memory(frame).store32(4 * word as usize, value);
}

/// Where the bundle of a page lies in its leaf.
fn place(page: u32) -> usize {
    (page % EACH) as usize * size_of::<Bundle>()
}

fn read(leaf: u32, page: u32) -> Option<Bundle> {
    let mut bundle = Bundle::new_zeroed();
    memory(leaf).read(place(page), bundle.as_mut_bytes())?;
    (!bundle.is_none()).then_some(bundle)
}

impl Away {
    /// The directory of this frame number, which was kept while its VM was out; 0 for none.
    pub fn found(directory: u32) -> Self {
        Away { directory }
    }

    /// The frame number of the directory, which is kept while the VM is out; 0 for none.
    pub fn keep(self) -> u32 {
        self.directory
    }

    /// Whether there is no directory, so that no page is out or on its way.
    #[inline]
    pub fn is_none(&self) -> bool {
        self.directory == 0
    }

    fn word(&self, word: u32) -> u32 {
        if self.directory == 0 { 0 } else { get(self.directory, word) }
    }

    /// Pages that are out.
    pub fn pages(&self) -> u32 {
        self.word(COUNT)
    }

    /// Frames that say so.
    pub fn frames(&self) -> u32 {
        self.word(FRAMES)
    }

    fn count(&self, word: u32, more: i32) {
        set(self.directory, word, get(self.directory, word).saturating_add_signed(more));
    }

    /// Pages that are on their way.
    pub fn leaving(&self) -> Pages {
        if self.directory == 0 {
            return Pages::default();
        }
        let bits = memory(self.directory).load64(4 * MASK as usize).unwrap_or(0);
        Pages { first: get(self.directory, LEAVING), bits }
    }

    /// These are from now on. There is a directory.
    pub fn set_leaving(&mut self, pages: Pages) {
        if self.directory != 0 {
            set(self.directory, LEAVING, pages.first);
            // Within the frame.
            let _ = memory(self.directory).store64(4 * MASK as usize, pages.bits);
        }
    }

    /// The leaf of a page.
    fn leaf(&self, page: u32) -> Option<u32> {
        let leaf = if page < END { self.word(page / EACH) } else { 0 };
        (leaf != 0).then_some(leaf)
    }

    /// Where a page lies, if it is out.
    pub fn get(&self, page: u32) -> Option<Bundle> {
        read(self.leaf(page)?, page)
    }

    /// Make room to say where a page is. False when there is none: no frame, or a page beyond what a directory has room for.
    #[must_use]
    pub fn prepare(&mut self, frames: &mut Frames, held: &mut Reservation, owner: Owner, page: u32) -> bool {
        if page >= END {
            return false;
        }
        if self.directory == 0 {
            let Some(frame) = held.alloc_index(frames, owner) else { return false };
            self.directory = number(frame);
            set(self.directory, FRAMES, 1);
        }
        if self.leaf(page).is_none() {
            let Some(frame) = held.alloc_index(frames, owner) else {
                self.trim(frames, held, owner, page);
                return false;
            };
            set(self.directory, page / EACH, number(frame));
            self.count(FRAMES, 1);
        }
        true
    }

    /// A page is out, for which there is room.
    pub fn put(&mut self, page: u32, bundle: &Bundle) {
        if let Some(leaf) = self.leaf(page) {
            self.count(COUNT, i32::from(read(leaf, page).is_none()));
            // Within the frame.
            let _ = memory(leaf).write(place(page), bundle.as_bytes());
        }
    }

    /// A page is not out any more. Where it lies; `None` when it was not. The room for it stays ([`Away::trim`]).
    pub fn take(&mut self, page: u32) -> Option<Bundle> {
        let leaf = self.leaf(page)?;
        let bundle = read(leaf, page)?;
        let _ = memory(leaf).write(place(page), Bundle::NONE.as_bytes());
        self.count(COUNT, -1);
        Some(bundle)
    }

    /// Free the leaf of a page if it says nothing any more, and no page of it is on its way, and with the last one the directory.
    pub fn trim(&mut self, frames: &mut Frames, held: &mut Reservation, owner: Owner, page: u32) {
        let leaving = self.leaving();
        if leaving.bits != 0 && leaving.first / EACH == page / EACH {
            return;
        }
        if let Some(leaf) = self.leaf(page).filter(|&leaf| (0..EACH).all(|page| read(leaf, page).is_none())) {
            set(self.directory, page / EACH, 0);
            held.free_index(frames, PhysAddr::from_frame(leaf.into()), owner);
            self.count(FRAMES, -1);
        }
        if self.frames() == 1 {
            held.free_index(frames, PhysAddr::from_frame(self.directory.into()), owner);
            *self = Away::default();
        }
    }

    /// The first page from this one on that is out, and where it lies.
    pub fn next(&self, from: u32) -> Option<(u32, Bundle)> {
        if self.is_none() {
            return None;
        }
        (from / EACH..LEAVES).find_map(|at| {
            let first = from.max(at * EACH);
            let leaf = self.leaf(first)?;
            (first..(at + 1) * EACH).find_map(|page| Some((page, read(leaf, page)?)))
        })
    }
}

/// Directories of VMs that are gone: swap is told to forget what they name, as its ring has room, and their frames are free.
#[derive(Debug)]
pub struct Discarded {
    /// The frame number of the first one, 0 for none.
    first: u32,
}

impl Discarded {
    /// None.
    pub const NONE: Discarded = Discarded { first: 0 };

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.first == 0
    }

    /// Take a directory over from `owner`. The bytes that its pages take of the pool.
    pub fn push(&mut self, frames: &mut Frames, directory: u32, owner: Owner) -> u64 {
        let mut bytes = 0;
        let pass_on = |frames: &mut Frames, frame: u32| {
            frames.pass_on(PhysAddr::from_frame(frame.into()), owner, Owner::Core);
        };
        for leaf in (0..LEAVES).map(|at| get(directory, at)).filter(|&leaf| leaf != 0) {
            bytes += (0..EACH).filter_map(|page| read(leaf, page)).map(|bundle| u64::from(bundle.bytes)).sum::<u64>();
            pass_on(frames, leaf);
        }
        pass_on(frames, directory);
        set(directory, NEXT, self.first);
        set(directory, LEFT, 0);
        self.first = directory;
        bytes
    }

    /// The next bundle that is to be forgotten.
    pub fn pop(&mut self, frames: &mut Frames) -> Option<Bundle> {
        while self.first != 0 {
            let directory = self.first;
            // The page where the search goes on.
            let from = get(directory, LEFT);
            let (leaf, end) = (get(directory, from / EACH), (from / EACH + 1) * EACH);
            if leaf != 0 {
                if let Some((page, bundle)) = (from..end).find_map(|page| Some((page, read(leaf, page)?))) {
                    let _ = memory(leaf).write(place(page), Bundle::NONE.as_bytes());
                    set(directory, LEFT, page);
                    return Some(bundle);
                }
                frames.free(PhysAddr::from_frame(leaf.into()), Owner::Core);
            }
            set(directory, LEFT, end);
            if end == END {
                self.first = get(directory, NEXT);
                frames.free(PhysAddr::from_frame(directory.into()), Owner::Core);
            }
        }
        None
    }

    /// Nobody has to be told of any of them.
    pub fn clear(&mut self, frames: &mut Frames) {
        while self.pop(frames).is_some() {}
    }

    /// What they name.
    #[cfg(test)]
    pub fn all(&self) -> Vec<Bundle> {
        let mut found = Vec::new();
        let mut directory = self.first;
        while directory != 0 {
            // Leaves before are free.
            let left = get(directory, LEFT) / EACH..LEAVES;
            for leaf in left.map(|at| get(directory, at)).filter(|&leaf| leaf != 0) {
                found.extend((0..EACH).filter_map(|page| read(leaf, page)));
            }
            directory = get(directory, NEXT);
        }
        found
    }
}

/// The name that swap is told with what it is to forget of somebody who is gone.
pub const GONE: VmId = VmId::new(0, 0);

#[cfg(test)]
#[path = "away_tests.rs"]
mod tests;
