//! The memory of the fake machine: a block of the host's. Physical address 0 is its first byte.

use alloc::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use alloc::rc::Rc;

const FRAME: usize = 4096;

struct Block {
    base: *mut u8,
    layout: Layout,
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated by `Ram::new` with this layout.
        unsafe { dealloc(self.base, self.layout) };
    }
}

/// The memory; copies share it.
#[derive(Clone)]
pub struct Ram(Rc<Block>);

impl Ram {
    /// So many frames of zeros.
    pub fn new(frames: usize) -> Self {
        let layout = Layout::from_size_align(frames * FRAME, FRAME).expect("some frames");
        // SAFETY: the layout has at least one frame.
        let base = unsafe { alloc_zeroed(layout) };
        if base.is_null() {
            handle_alloc_error(layout);
        }
        Ram(Rc::new(Block { base, layout }))
    }

    /// Where physical address 0 lies.
    pub fn base(&self) -> usize {
        self.0.base.expose_provenance()
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.0.layout.size()
    }

    /// True for no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn at(&self, physical: u64) -> *mut u64 {
        let offset = usize::try_from(physical).expect("an address of this memory");
        assert!(offset.is_multiple_of(8) && offset < self.len(), "no memory at {physical:#x}");
        self.0.base.wrapping_add(offset).cast()
    }

    /// The word at a physical address, a multiple of 8.
    pub fn read(&self, physical: u64) -> u64 {
        // SAFETY: `at` gives an aligned address in the block; one thread runs the whole fake machine.
        unsafe { self.at(physical).read_volatile() }
    }

    /// Set the word at a physical address, a multiple of 8.
    pub fn write(&self, physical: u64, word: u64) {
        // SAFETY: as in `read`; the machine's memory holds no value of the host's that a guest may not overwrite, or the test
        // that lets it has found a fault of the core.
        unsafe { self.at(physical).write_volatile(word) };
    }
}
