//! Messages between the core and the component that keeps the memory of VMs that are out, and the windows through which it sees it.
//!
//! A VM that goes out is shown to the component in a window: a [`Sheet`], which says which pages there are and what its processor holds, and behind
//! it the frames of these pages. The component puts a copy of all that, its *bundle*, into its pool, and the core keeps where it is. When the VM
//! comes in again, the component writes the same sheet and the same pages into the frames of a window. A window is one VM's from the event that
//! names it to the answer; the core maps frames there before the event and takes them out after the answer, or when the component dies.
//!
//! The component may move a bundle on to the disks ([`crate::swap_disk`]): it says so (`Moved`) when it can be read there, and the core
//! decides whether its record says so from then on.
//!
//! The core's records are the only index of the pool and of the disks. The component never writes over a bundle of which it was told by [`SwapEvent::Holds`] or
//! has told by [`SwapCommand::Stored`] since its start, until [`SwapEvent::Forget`] names it.

// The sentence above each message explains its fields.
#![allow(missing_docs)]

use crate::limits::PAGE_SIZE;
use crate::message::{BadMessage, Words, messages};
use crate::vcpu::VcpuState;
use crate::vm::VmId;
use core::mem::offset_of;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Windows. They and their page tables exist from boot.
pub const WINDOWS: usize = 8;
/// Pages of a VM that a window has room for. A VM that has more of its own stays in.
pub const WINDOW_PAGES: usize = 512;
/// Bytes of the frames of a window: window `i` is at [`crate::component::layout::SWAP_WINDOW`] ` + i * WINDOW_BYTES`. While a VM goes out its
/// frames can only be read there; while one comes in they are cleared, and are the component's to write.
pub const WINDOW_BYTES: u64 = WINDOW_PAGES as u64 * PAGE_SIZE;
/// Bytes from one window's [`Sheet`] to the next, from [`crate::component::layout::SWAP_SHEETS`] on. Sheets are always mapped and can be written.
pub const SHEET_STRIDE: u64 = 2 * PAGE_SIZE;
/// Pages of its image, from [`crate::guest::IMAGE_BASE`] on, of which is kept whether a VM shares them.
pub const SHARED_PAGES: usize = 512;
/// Bytes of a unit in which places in the pool are counted.
pub const UNIT_BYTES: usize = 64;

/// Bytes of the pool where VMs that are out are to lie on the disks only (`pool=0`): what is on its way there.
pub const PASSAGE_BYTES: u64 = 1 << 20;

/// What stands before the frames of a window: written by the core when a VM goes out, by the component when it comes in.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Sheet {
    /// Page `i` of the window is the VM's page of this number; the numbers ascend. Those behind the last page mean nothing.
    pub pages: [u32; WINDOW_PAGES],
    /// The rest of what it needs to go on. The component keeps it and gives it back as it is; it means nothing to it.
    pub kept: Kept,
}

/// What a VM needs to go on, beside its pages.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Kept {
    /// TSC at which its alarm is due, `u64::MAX` for never.
    pub alarm: u64,
    /// TSC at which its idle ends, `u64::MAX` for never.
    pub until: u64,
    /// [`kept`].
    pub flags: u32,
    /// Must be zero.
    pub reserved: u32,
    /// A bit for each of the first pages of the image: it shared that page with its image, or had the same there.
    pub shared: [u64; SHARED_PAGES / 64],
    /// Its processor.
    pub state: VcpuState,
}

/// Bits of [`Kept::flags`]. All others are zero.
pub mod kept {
    /// The guest is in its fault handler.
    pub const IN_FAULT: u32 = 1 << 0;
    /// Its idle returns what is pending.
    pub const IDLE_RESULT: u32 = 1 << 1;
}

/// Bytes of a sheet that say which pages there are; [`Kept`] follows.
pub const KEPT_OFFSET: usize = offset_of!(Sheet, kept);

const _: () = {
    assert!(size_of::<Sheet>() as u64 <= SHEET_STRIDE);
    assert!(KEPT_OFFSET == 4 * WINDOW_PAGES);
    assert!(offset_of!(Kept, until) == 8 && offset_of!(Kept, flags) == 16);
    assert!(offset_of!(Kept, shared) == 24 && offset_of!(Kept, state) == 24 + SHARED_PAGES / 8);
    assert!(size_of::<Kept>() == 24 + SHARED_PAGES / 8 + size_of::<VcpuState>());
    assert!(size_of::<Bundle>() == 32 && align_of::<Bundle>() == 8);
    assert!(offset_of!(Bundle, checksum) == 8 && offset_of!(Bundle, place) == 16 && offset_of!(Bundle, bytes) == 20);
    assert!(offset_of!(Bundle, pages) == 24);
};

/// A VM's memory in the pool or on the disks, as the component has described it and the core's record keeps it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Bundle {
    /// The number of the order to store it; no two are the same. 0: there is no bundle.
    pub counter: u64,
    /// What the component has computed over what lies in the pool, and looks at before it gives that back.
    pub checksum: u64,
    /// Where it begins, in units of [`UNIT_BYTES`] from the beginning of the pool; on the disks, the number of its swap region.
    pub place: u32,
    /// What it takes of the pool, not necessarily in one piece, or has taken there before it was moved to the disks.
    pub bytes: u32,
    /// Pages in it, of which its sheet is a list: those that were not left out, because they are zero.
    pub pages: u32,
    /// [`tier`].
    pub tier: u32,
}

/// [`Bundle::tier`]: where it lies.
pub mod tier {
    /// In the pool.
    pub const POOL: u32 = 0;
    /// On the disks, sealed: its place is the number of a swap region, which is that of the VM's slot.
    pub const DISK: u32 = 1;
    /// In the pool, where it stays: a single page of a VM that is in, or was when it went out.
    pub const PAGE: u32 = 2;
}

/// Pages that one order names at most which go out one by one: as many as a mask has bits.
pub const PAGES_AT_ONCE: u32 = u64::BITS;

impl Bundle {
    /// There is none.
    pub const NONE: Bundle = Bundle { counter: 0, checksum: 0, place: 0, bytes: 0, pages: 0, tier: tier::POOL };

    /// Whether there is none.
    pub const fn is_none(&self) -> bool {
        self.counter == 0
    }

    /// Whether it lies on the disks.
    pub const fn is_on_disk(&self) -> bool {
        self.tier == tier::DISK
    }

    /// Whether it can be in a pool of so many bytes, has something in it, and fits into a window.
    pub const fn fits(&self, pool_bytes: u64) -> bool {
        // Widening only.
        #[allow(clippy::cast_lossless)]
        let (begins, bytes) = (self.place as u64 * UNIT_BYTES as u64, self.bytes as u64);
        let lies_there = begins < pool_bytes && 1 <= bytes && bytes <= pool_bytes;
        self.counter != 0 && self.tier == tier::POOL && lies_there && self.pages as usize <= WINDOW_PAGES
    }

    /// The same of a single page.
    pub const fn fits_page(&self, pool_bytes: u64) -> bool {
        self.tier == tier::PAGE && self.pages <= 1 && Bundle { tier: tier::POOL, ..*self }.fits(pool_bytes)
    }
}

impl Words for Bundle {
    #[inline(always)]
    fn put(self, words: &mut [u64; 7], at: &mut usize) {
        self.counter.put(words, at);
        self.checksum.put(words, at);
        (u64::from(self.bytes) << 32 | u64::from(self.place)).put(words, at);
        (u64::from(self.tier) << 32 | u64::from(self.pages)).put(words, at);
    }

    #[inline(always)]
    fn take(kind: u32, words: &[u64; 7], at: &mut usize) -> Result<Self, BadMessage> {
        let (counter, checksum) = (Words::take(kind, words, at)?, Words::take(kind, words, at)?);
        let halves: u64 = Words::take(kind, words, at)?;
        let last: u64 = Words::take(kind, words, at)?;
        // The halves are meant to be cut out.
        #[allow(clippy::cast_possible_truncation)]
        let [(place, bytes), (pages, tier)] = [halves, last].map(|word| (word as u32, (word >> 32) as u32));
        Ok(Bundle { counter, checksum, place, bytes, pages, tier })
    }
}

messages! {
    /// Core to swap.
    SwapEvent {
        /// First message after every start: everything it knew is void, but for what lies in its pool. `Holds` follows for each bundle that there is,
        /// a few at a time, and no `Store` comes before it has been told of all.
        0x801 Hello,
        /// The pool, or the disks, hold this bundle of a VM.
        0x802 Holds { vm: VmId, bundle: Bundle },
        /// Put `pages` pages in this window and its sheet into the pool, under this number. Answered by `Stored` or `Refused`. `spare`: a VM comes
        /// in for this one, and its bundle is forgotten then, so this one may lie in what is kept free for such an exchange.
        0x803 Store { vm: VmId, counter: u64, pages: u32 | window: u32, spare: bool },
        /// Write the pages of a bundle and its sheet into this window. Answered by `Loaded` or `Damaged`. The bundle stays in the pool until it is
        /// forgotten. After a restart it is told again for each VM that is coming in.
        0x804 Load { vm: VmId, bundle: Bundle, window: u32 },
        /// A bundle is not needed any more: the VM has come in, or is gone. One that swap does not know is no error.
        0x805 Forget { vm: VmId, bundle: Bundle },
        /// Put each of the `pages` pages in this window into the pool by itself, the first under this number, the next under the next one, and so on; what
        /// the sheet holds means nothing. Each is answered by `Stored` or `Refused`. `spare`: the VM waits for a page that lies in the pool
        /// and is forgotten when it has come. A single page comes in by `Load`; what the
        /// sheet holds then means nothing either.
        0x806 StorePages { vm: VmId, counter: u64, pages: u32 | window: u32, spare: bool },
    }
}

messages! {
    /// Swap to core.
    SwapCommand {
        /// The bundle lies in the pool, under the number of the order. The window is the core's again.
        0x811 Stored { vm: VmId, bundle: Bundle },
        /// There is no room for it in the pool: nothing was stored. The window is the core's again.
        0x812 Refused { vm: VmId, counter: u64 },
        /// The pages and the sheet are in the window, as the order of this number had them. The window is the core's again.
        0x813 Loaded { vm: VmId, counter: u64 },
        /// What lies in the pool is not what was stored there: the VM ends with [`crate::end::EndReason::Damaged`]. The window is the core's again.
        0x814 Damaged { vm: VmId, counter: u64 },
        /// The bundle of this number lies in the swap region of the VM's slot now, too, and can be read there. The core forgets the one in the pool
        /// (`Forget`) or, where the VM is on its way in, the one on the disks; swap keeps both until then.
        0x815 Moved { vm: VmId, counter: u64 },
        /// The disks do not give back what lies there: the VM ends with [`crate::end::EndReason::Unread`]. The window is the core's again.
        0x816 Unread { vm: VmId, counter: u64 },
    }
}
