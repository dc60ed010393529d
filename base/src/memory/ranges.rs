//! Ranges of pages with leaves as large as fit: what the loader maps for the core.

use super::{MapError, MapFlags, Size, TableMemory, Tables};
use crate::memory::frames::Frames;
use crate::memory::phys::PhysAddr;

impl<M: TableMemory> Tables<M> {
    /// Maps `bytes` from `frame` on at `address` (all whole pages) with the largest leaves that fit, up to `largest`.
    pub fn map_range(
        &mut self,
        frames: &mut Frames,
        address: u64,
        frame: PhysAddr,
        bytes: u64,
        largest: Size,
        flags: MapFlags,
    ) -> Result<(), MapError> {
        let mut done = 0;
        while done < bytes {
            let (to, from) = (address + done, frame.offset(done));
            let fits = |size: Size| {
                size <= largest && (to | from.as_u64()) & (size.bytes() - 1) == 0 && bytes - done >= size.bytes()
            };
            let size = [Size::Huge, Size::Large].into_iter().find(|&size| fits(size)).unwrap_or(Size::Small);
            self.map(frames, to, from, size, flags)?;
            done += size.bytes();
        }
        Ok(())
    }
}
