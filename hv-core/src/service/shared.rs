//! Which pages of its image a VM shares, golden frames, when it goes out: it finds them mapped when it comes in, instead of faulting for each
//! stretch of them. A page of its own that holds what its image has there goes with them, so nothing of it is stored.

use crate::memory::{Frames, PhysAddr, core_memory};
use crate::vm::{Image, Memory, PageError};
use abi::guest::IMAGE_BASE;
use abi::limits::{PAGE_SHIFT, PAGE_SIZE};
use abi::swap::SHARED_PAGES;
use backend::Backend;

/// The first page of which is known whether it is shared.
// It is 0x20.
#[allow(clippy::cast_possible_truncation)]
const FIRST: u32 = (IMAGE_BASE >> PAGE_SHIFT) as u32;

/// Pages of which one table tells where they are.
const TABLE_PAGES: u32 = 512;

/// One bit for each page, as [`abi::swap::Kept::shared`] has them.
pub struct Shared(pub [u64; SHARED_PAGES / 64]);

impl Shared {
    /// None is.
    pub const NONE: Shared = Shared([0; SHARED_PAGES / 64]);

    /// Takes note of a page whose frame is its image's, or has the same content. False, and nothing is noted, for all others.
    pub fn note(&mut self, page: u32, frame: PhysAddr, image: &Image) -> bool {
        // Not for every page of the heap.
        let golden = if page < image.end { image.golden(page) } else { None };
        let Some((golden, (word, bit))) = golden.zip(place(page)) else { return false };
        let is_shared = frame == golden || is_same(frame, golden);
        self.0[word] |= u64::from(is_shared) << bit;
        is_shared
    }

    /// Maps all of them, of a VM that comes in. Those for which there is no table now come when they are touched.
    ///
    /// # Errors
    /// The first page that its image does not have.
    pub fn map<B: Backend>(
        &self,
        memory: &mut Memory<B>,
        frames: &mut Frames,
        image: &Image,
    ) -> Result<(), NotOfImage> {
        for (word, mut bits) in (0..).zip(self.0) {
            while bits != 0 {
                let at = bits.trailing_zeros();
                let page = FIRST + 64 * word + at;
                // Most lie in a row, which has one table.
                let row = (bits >> at).trailing_ones().min(TABLE_PAGES - page % TABLE_PAGES);
                let done = match memory.map_golden_run(frames, page, row, image) {
                    Ok(count) => count.max(1),
                    Err(PageError::NoSuchPage) => return Err(NotOfImage { page }),
                    // Those for which there is no table.
                    Err(_) => row,
                };
                bits &= (u64::MAX << at).checked_shl(done).unwrap_or(0);
            }
        }
        Ok(())
    }
}

/// A page that is noted as an image's, which does not have it.
pub struct NotOfImage {
    /// Guest page number.
    pub page: u32,
}

/// The word and the bit of a page.
fn place(page: u32) -> Option<(usize, u32)> {
    let at = page.checked_sub(FIRST)?;
    let word = usize::try_from(at / 64).ok()?;
    (word < SHARED_PAGES / 64).then_some((word, at % 64))
}

/// Whether two frames hold the same.
fn is_same(one: PhysAddr, other: PhysAddr) -> bool {
    let (one, other) = (core_memory(one, PAGE_SIZE), core_memory(other, PAGE_SIZE));
    (0..one.len() / 8).all(|word| one.load64(8 * word) == other.load64(8 * word))
}
