//! Nested page tables as the core sees them.

/// What a page may be used for. It can always be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// It can be written.
    pub write: bool,
    /// Instructions can be fetched from it.
    pub execute: bool,
}

impl Rights {
    /// Read only.
    pub const READ: Rights = Rights { write: false, execute: false };
    /// Read and execute.
    pub const READ_EXECUTE: Rights = Rights { write: false, execute: true };
    /// Read and write.
    pub const READ_WRITE: Rights = Rights { write: true, execute: false };
    /// Everything.
    pub const ALL: Rights = Rights { write: true, execute: true };
}

/// Whether CPUs can still hold a translation that is no longer in the tables.
#[must_use = "a stale translation lets the guest use a frame that is no longer its own"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// They cannot.
    Unneeded,
    /// [`crate::Backend::flush`] before the guest runs again, and before the frame gets a new owner.
    Needed,
}

/// Why a page could not be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NestedMapError {
    /// There is no frame for a page table. Nothing has changed.
    NoFrame,
    /// An address is not a multiple of 4096, or beyond what the tables reach.
    BadAddress,
}

/// What the tables say about a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Physical address of the frame.
    pub frame: u64,
    /// What the guest may do.
    pub rights: Rights,
    /// The guest has used it. Always set on a CPU that does not track it.
    pub accessed: bool,
    /// The guest has written to it. Always set for a writable page on a CPU that does not track it.
    pub dirty: bool,
}

/// Where page tables live.
///
/// # Safety
/// `table` gives access to the frame of that physical address, for every address that `allocate` has returned and that
/// was not freed since; nobody else uses that frame. A frame from `allocate` holds zeros.
pub unsafe trait Frames {
    /// A zeroed frame for a page table: its physical address, a multiple of 4096 below 2^52.
    fn allocate(&mut self) -> Option<u64>;
    /// Take a frame back.
    fn free(&mut self, physical: u64);
    /// The frame at `physical`, which came from `allocate`.
    fn table(&self, physical: u64) -> &[core::sync::atomic::AtomicU64; 512];
}

/// The nested page tables of one VM: guest-physical to physical, in pages of 4 KiB, cached write-back.
pub trait Tables: Sized {
    /// Map the page at `page` (guest-physical) to the frame at `frame` (physical). What was mapped there is replaced.
    ///
    /// # Safety
    /// The guest may use the frame in this way until the page is unmapped, mapped elsewhere or protected, and flushed.
    unsafe fn map<F: Frames>(
        &mut self,
        frames: &mut F,
        page: u64,
        frame: u64,
        rights: Rights,
    ) -> Result<Flush, NestedMapError>;
    /// As [`Tables::map`], unless something is mapped at `page`: then nothing changes, and the answer is false.
    ///
    /// # Safety
    /// As [`Tables::map`].
    unsafe fn map_new<F: Frames>(
        &mut self,
        frames: &mut F,
        page: u64,
        frame: u64,
        rights: Rights,
    ) -> Result<bool, NestedMapError>;
    /// As [`Tables::map_new`] for `count` pages in a row and as many frames in a row, none beyond the 2 MiB that the first page lies in. How many were not mapped
    /// before; those that were stay as they are.
    ///
    /// # Safety
    /// As [`Tables::map`], for all of the frames.
    unsafe fn map_run<F: Frames>(
        &mut self,
        frames: &mut F,
        page: u64,
        frame: u64,
        count: u32,
        rights: Rights,
    ) -> Result<u32, NestedMapError>;
    /// Unmap the page at `page`. Returns what was mapped, with its accessed and dirty bits; if anything was, the tables
    /// have to be flushed ([`Flush::Needed`]).
    #[must_use]
    fn unmap<F: Frames>(&mut self, frames: &F, page: u64) -> Option<Translation>;
    /// What is mapped at the guest-physical `address`.
    fn walk<F: Frames>(&self, frames: &F, address: u64) -> Option<Translation>;
    /// Frames that the tables take, their root included.
    fn table_pages(&self) -> u32;
    /// Give all frames of the tables back (not those that were mapped). The VM's `Vcpu` has been released, and the tables
    /// are flushed before the frames are used again.
    fn free<F: Frames>(self, frames: &mut F);
}
