//! Consoles that somebody watches: the last of what each has said, in a frame that is there only as long as somebody asks for it. Nobody has to say
//! that he watches no more: who has not asked for a while does not, so one that dies in the middle leaves nothing behind for long.

use crate::component::{EndpointId, EndpointSet};
use crate::log::Stretch;
use crate::memory::phys::index;
use crate::memory::{Frames, Owner, PhysAddr, core_memory};
use abi::limits::{PAGE_SIZE, WATCH_BYTES, WATCHES};
use abi::vm::VmId;
use ring::SharedMemory;

/// A console that is watched.
pub struct Watch {
    vm: VmId,
    frame: PhysAddr,
    memory: SharedMemory,
    /// Position of the first byte that was ever kept.
    began: u64,
    /// Position behind the last byte.
    end: u64,
    /// Who has asked since something came; they are told once when something comes.
    readers: EndpointSet,
    news: bool,
    /// TSC from which on nobody watches.
    until: u64,
}

/// All consoles that are watched.
pub struct Watches(heapless::Vec<Watch, WATCHES>);

/// Why another console cannot be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoWatch {
    /// As many are as can be.
    Taken,
    /// No frame is free for it.
    Frames,
}

impl Watch {
    /// Keep some bytes; the oldest make room.
    pub fn put(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let at = index(self.end % WATCH_BYTES);
            let (now, later) = rest.split_at(rest.len().min(index(WATCH_BYTES) - at));
            // It lies in the page.
            let _ = self.memory.write(at, now);
            self.end += now.len() as u64;
            rest = later;
        }
        self.news |= !bytes.is_empty();
    }

    /// What there is from a position on, and at most so many bytes.
    pub fn find(&self, from: u64, most: usize) -> Stretch {
        Stretch::of(&(self.began.max(self.end.saturating_sub(WATCH_BYTES))..self.end), from, most)
    }

    /// Write a stretch to a place in other memory, which must have room for it.
    pub fn copy(&self, stretch: Stretch, to: &SharedMemory, at: usize) {
        let first = index(stretch.from % WATCH_BYTES);
        let len = stretch.len.min(index(WATCH_BYTES) - first);
        let _ = self.memory.copy_to(first, to, at, len);
        let _ = self.memory.copy_to(0, to, at + len, stretch.len - len);
    }

    /// Nobody is to be told of what was kept so far.
    pub fn hush(&mut self) {
        self.news = false;
    }

    /// This party has asked, and goes on watching until `until`.
    pub fn note(&mut self, reader: EndpointId, until: u64) {
        self.readers.add(reader);
        self.until = until;
    }
}

impl Watches {
    /// Nobody watches any.
    pub const NONE: Watches = Watches(heapless::Vec::new());

    /// That of a VM.
    #[inline]
    pub fn of(&mut self, vm: VmId) -> Option<&mut Watch> {
        self.0.iter_mut().find(|watch| watch.vm == vm)
    }

    /// Watch the console of another VM from position `began` on.
    ///
    /// # Errors
    /// [`NoWatch`].
    pub fn begin(&mut self, frames: &mut Frames, vm: VmId, began: u64) -> Result<&mut Watch, NoWatch> {
        if self.0.is_full() {
            return Err(NoWatch::Taken);
        }
        let frame = if frames.spare() > 0 { frames.alloc(Owner::Core, 0) } else { None };
        let frame = frame.ok_or(NoWatch::Frames)?;
        let memory = core_memory(frame, PAGE_SIZE);
        let (readers, news, until) = (EndpointSet::EMPTY, false, 0);
        self.0
            .push(Watch { vm, frame, memory, began, end: began, readers, news, until })
            .map_err(|_| NoWatch::Taken)?;
        self.0.last_mut().ok_or(NoWatch::Taken)
    }

    /// Forget those that nobody watches any more. Whether there were any.
    pub fn expire(&mut self, frames: &mut Frames, now: u64) -> bool {
        let before = self.0.len();
        while let Some(at) = self.0.iter().position(|watch| watch.until <= now) {
            frames.free(self.0.swap_remove(at).frame, Owner::Core);
        }
        self.0.len() != before
    }

    /// Whether any is watched.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A VM has ended: whoever watches its console is to hear of it.
    pub fn note_end(&mut self, vm: VmId) {
        if let Some(watch) = self.of(vm) {
            watch.news = true;
        }
    }

    /// Whether there are some to be told that something came.
    #[inline]
    pub fn has_news(&self) -> bool {
        self.0.iter().any(|watch| watch.news)
    }

    /// Who is to be told that something came. They are told now, and not again before they have asked.
    pub fn take_news(&mut self) -> EndpointSet {
        let mut all = EndpointSet::EMPTY;
        for watch in &mut self.0 {
            if core::mem::take(&mut watch.news) {
                for reader in core::mem::take(&mut watch.readers) {
                    all.add(reader);
                }
            }
        }
        all
    }

    /// How many frames they take.
    #[cfg(test)]
    pub fn frames(&self) -> usize {
        self.0.len()
    }
}
