//! The golden frames of an image that was sent, by the order in which its pages came. Their numbers lie in frames of their own, which are golden, too:
//! so an image of 16 MiB takes five frames more than it has pages, and one of a page takes one.

use crate::memory::{Frames, Owner, PhysAddr, core_memory};
use abi::limits::{IMAGE_PAGES_MAX, PAGE_SIZE};
use abi::vm::ImageId;

/// Numbers in a frame.
const EACH: u32 = 1024;
/// Frames with numbers.
const LISTS: usize = IMAGE_PAGES_MAX / EACH as usize;

const _: () = assert!(EACH as u64 * 4 == PAGE_SIZE && LISTS * EACH as usize == IMAGE_PAGES_MAX);

/// The pages of an image.
#[derive(Debug)]
pub struct ImagePages {
    /// The frames with their numbers, by their own numbers; 0 for none.
    lists: [u32; LISTS],
    count: u32,
}

impl ImagePages {
    /// None yet.
    pub const EMPTY: ImagePages = ImagePages { lists: [0; LISTS], count: 0 };

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// A cleared frame for the next page of `image`; `None`, and nothing has changed, when none is free that is not kept for a VM, or the image
    /// has as many as one can have.
    pub fn push(&mut self, frames: &mut Frames, image: ImageId) -> Option<PhysAddr> {
        let owner = Owner::Golden(image.number());
        let list = self.lists.get_mut((self.count / EACH) as usize)?;
        if *list == 0 {
            let frame = frames.alloc_zeroed(owner, 0)?;
            *list = number(frame);
        }
        let page = frames.alloc_zeroed(owner, self.count)?;
        let _ = numbers(*list).store32(4 * (self.count % EACH) as usize, number(page));
        self.count += 1;
        Some(page)
    }

    /// The frame of a page.
    #[inline]
    pub fn get(&self, page: u32) -> Option<PhysAddr> {
        let list = *self.lists.get((page / EACH) as usize).filter(|_| page < self.count)?;
        let number = numbers(list).load32(4 * (page % EACH) as usize)?;
        Some(PhysAddr::from_frame(number.into()))
    }

    /// All frames are free again: nobody has them mapped.
    pub fn release(self, frames: &mut Frames, image: ImageId) {
        let owner = Owner::Golden(image.number());
        for page in 0..self.count {
            if let Some(frame) = self.get(page) {
                frames.free(frame, owner);
            }
        }
        for list in self.lists.into_iter().filter(|&list| list != 0) {
            frames.free(PhysAddr::from_frame(list.into()), owner);
        }
    }
}

/// The number of a frame: the machine has fewer than could be said in 32 bits.
fn number(frame: PhysAddr) -> u32 {
    u32::try_from(frame.frame()).unwrap_or(0)
}

fn numbers(list: u32) -> ring::SharedMemory {
    core_memory(PhysAddr::from_frame(list.into()), PAGE_SIZE)
}
