//! Page tables that go. The core's stay, and so do its components': only a check by the core of itself, and tests, have some that go.

use super::{ADDRESS, ENTRIES, LARGE, PRESENT, TableMemory, Tables};
use crate::memory::frames::Frames;
use crate::memory::phys::PhysAddr;

impl<M: TableMemory> Tables<M> {
    /// Returns the tables below the topmost entries `..end`, and the topmost table, to the frame table. Leaves stay with
    /// whoever owns them.
    pub(in crate::memory) fn free_tables(self, frames: &mut Frames, end: usize) {
        for at in 0..end {
            let entry = self.entry(self.root, at);
            if entry & PRESENT != 0 {
                self.free_below(frames, PhysAddr::new(entry & ADDRESS), 2);
            }
        }
        // A wrong owner was logged by `free`; there is nothing to undo.
        frames.free(self.root, self.owner);
    }

    fn free_below(&self, frames: &mut Frames, table: PhysAddr, level: u32) {
        if level > 0 {
            for at in 0..ENTRIES {
                let entry = self.entry(table, at);
                if entry & PRESENT != 0 && entry & LARGE == 0 {
                    self.free_below(frames, PhysAddr::new(entry & ADDRESS), level - 1);
                }
            }
        }
        frames.free(table, self.owner);
    }
}
