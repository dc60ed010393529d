//! A scratch address space with a mistake in it, by which the core shows that it finds such a mistake: in the test image only.

use super::{AddressSpace, UPPER_HALF};
use crate::memory::frames::Frames;
use crate::memory::phys::PhysAddr;
use crate::memory::tables::{MapError, MapFlags, Size};

impl AddressSpace {
    /// Returns the tables to the frame table; what they mapped stays with its owner. The space must not be loaded.
    pub fn destroy(self, frames: &mut Frames) {
        self.tables.free_tables(frames, UPPER_HALF);
    }

    /// Maps one page writable and executable, past the check: `selftest=wx` shows with it that the audit finds such a page.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn map_bad_for_selftest(&mut self, frames: &mut Frames, at: u64, frame: PhysAddr) -> Result<(), MapError> {
        let flags = MapFlags { write: true, execute: true, user: true, ..MapFlags::default() };
        self.tables.map_unchecked(frames, at, frame, Size::Small, flags)
    }
}
