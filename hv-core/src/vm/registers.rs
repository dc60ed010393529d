//! The register page of a VM as the core sees it. The guest may write all of it at any time, so everything read from here
//! is an allegation; nothing of the core's own state lives here.

use crate::board::Reading;
use crate::memory::phys::index;
use crate::memory::{PhysAddr, core_memory};
use abi::guest::pending::IDENTITY;
use abi::guest::{BOOT_ARGS, BOOT_ARGS_MAX, FaultRecord, Interrupted, RegisterPage};
use abi::limits::PAGE_SIZE;
use abi::vm::VmId;
use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use ring::SharedMemory;
use zerocopy::{FromBytes, IntoBytes};

/// One VM's register page.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    memory: SharedMemory,
    /// The same page, for the words that are looked at on every entry.
    page: NonNull<RegisterPage>,
}

/// Who a VM is, beside its boot arguments, and how it tells the time: what the guest finds in its register page under the
/// sequence word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub vm_id: VmId,
    pub generation_id: [u8; 16],
    pub tsc_hz: u64,
    pub clock: Reading,
}

/// Where the guest wants to be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Address of the first instruction.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
}

macro_rules! field {
    ($name:ident) => {
        offset_of!(RegisterPage, $name)
    };
}

// Every offset lies in the page, which is whole, so no access below is refused: the defaults and ignored results are
// unreachable.
impl Registers {
    /// The register page in `frame`, which belongs to the VM until it ends; whoever keeps the result ends with the VM.
    pub fn new(frame: PhysAddr) -> Option<Self> {
        Some(Registers { memory: core_memory(frame, PAGE_SIZE), page: NonNull::new(frame.as_ptr())? })
    }

    #[inline]
    fn word64<const OFFSET: usize>(&self) -> &AtomicU64 {
        const { assert!(OFFSET.is_multiple_of(8) && OFFSET < size_of::<RegisterPage>()) };
        // SAFETY: `new` was given a whole frame in the direct map, and the offset is aligned and inside. The guest may write
        // there at any time, which an atomic allows for.
        unsafe { self.page.byte_add(OFFSET).cast().as_ref() }
    }

    #[inline]
    fn word32<const OFFSET: usize>(&self) -> &AtomicU32 {
        const { assert!(OFFSET.is_multiple_of(4) && OFFSET < size_of::<RegisterPage>()) };
        // SAFETY: as in `word64`.
        unsafe { self.page.byte_add(OFFSET).cast().as_ref() }
    }

    /// Write the page as it is at the start.
    pub fn initialise(&self, page: &RegisterPage, boot_args: &[u8]) {
        let _ = self.memory.write(0, page.as_bytes());
        let _ = self.memory.write(index(BOOT_ARGS), boot_args);
    }

    /// Write another identity and other boot arguments, and what `others` writes elsewhere, under the sequence word: it is odd
    /// meanwhile, and another even number afterwards, whatever the guest had there.
    pub fn change(&self, identity: &Identity, boot_args: &[u8], others: impl FnOnce()) {
        self.under_sequence(|| {
            let _ = self.memory.store64(field!(vm_id), identity.vm_id.raw());
            let _ = self.memory.store64(field!(tsc_hz), identity.tsc_hz);
            self.write_clock(&identity.clock);
            let _ = self.memory.write(field!(generation_id), &identity.generation_id);
            let mut args = [0; BOOT_ARGS_MAX];
            let len = boot_args.len().min(args.len());
            args[..len].copy_from_slice(&boot_args[..len]);
            let _ = self.memory.write(index(BOOT_ARGS), &args);
            // At most BOOT_ARGS_MAX.
            let len = u32::try_from(len).unwrap_or(0);
            self.word32::<{ field!(boot_args_len) }>().store(len, Ordering::Relaxed);
            others();
        });
    }

    /// Write how it tells the time from now on, under the sequence word.
    pub fn set_clock(&self, clock: &Reading) {
        self.under_sequence(|| self.write_clock(clock));
    }

    fn write_clock(&self, &Reading { ns_per_tick, tsc, unix_ns }: &Reading) {
        for (at, word) in
            [(field!(ns_per_tick), ns_per_tick), (field!(clock_tsc), tsc), (field!(clock_unix_ns), unix_ns)]
        {
            let _ = self.memory.store64(at, word);
        }
    }

    fn under_sequence(&self, write: impl FnOnce()) {
        let sequence = self.word32::<{ field!(sequence) }>();
        let odd = sequence.load(Ordering::Relaxed) | 1;
        sequence.store(odd, Ordering::Relaxed);
        fence(Ordering::Release);
        write();
        sequence.store(odd.wrapping_add(1), Ordering::Release);
    }

    /// The whole page, for the rings in it.
    pub fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    /// Set pending bits.
    #[inline]
    pub fn raise(&self, bits: u64) {
        self.word64::<{ field!(pending) }>().fetch_or(bits, Ordering::AcqRel);
    }

    /// The pending bits that are enabled, and those that no guest can mask.
    #[inline]
    pub fn wanted(&self) -> u64 {
        self.wanted_of(self.pending())
    }

    /// Those of the pending bits `pending` that are enabled, and those that no guest can mask.
    #[inline]
    pub fn wanted_of(&self, pending: u64) -> u64 {
        pending & (self.word64::<{ field!(enabled) }>().load(Ordering::Relaxed) | IDENTITY)
    }

    /// All pending bits.
    #[inline]
    pub fn pending(&self) -> u64 {
        self.word64::<{ field!(pending) }>().load(Ordering::Acquire)
    }

    /// True while the guest takes upcalls.
    #[inline]
    pub fn upcalls_on(&self) -> bool {
        self.word32::<{ field!(upcalls_on) }>().load(Ordering::Acquire) == 1
    }

    /// Allow or forbid upcalls.
    pub fn set_upcalls(&self, on: bool) {
        self.word32::<{ field!(upcalls_on) }>().store(on.into(), Ordering::Release);
    }

    /// Show whether the fault handler runs.
    pub fn set_in_fault(&self, on: bool) {
        self.word32::<{ field!(in_fault) }>().store(on.into(), Ordering::Release);
    }

    /// Show how many frames of memory are the VM's own.
    #[inline]
    pub fn set_held(&self, frames: u32) {
        self.word32::<{ field!(held_frames) }>().store(frames, Ordering::Relaxed);
    }

    /// Show that pages were taken from it once more.
    pub fn count_taking(&self) {
        // Only the core writes it, and it wraps around.
        self.word32::<{ field!(takings) }>().fetch_add(1, Ordering::Relaxed);
    }

    /// Show when the alarm is due.
    pub fn set_alarm(&self, deadline: u64) {
        self.word64::<{ field!(alarm) }>().store(deadline, Ordering::Release);
    }

    /// The registered upcall entry, `None` without one.
    pub fn upcall_entry(&self) -> Option<Entry> {
        self.entry(field!(upcall_entry), field!(upcall_stack))
    }

    /// The registered fault entry, `None` without one.
    pub fn fault_entry(&self) -> Option<Entry> {
        self.entry(field!(fault_entry), field!(fault_stack))
    }

    fn entry(&self, rip: usize, rsp: usize) -> Option<Entry> {
        let entry = Entry { rip: self.memory.load64(rip)?, rsp: self.memory.load64(rsp)? };
        (entry.rip != 0).then_some(entry)
    }

    /// Note what an upcall interrupted.
    pub fn set_upcall(&self, at: &Interrupted) {
        let _ = self.memory.write(field!(upcall), at.as_bytes());
    }

    /// What the guest wants to return to from an upcall.
    pub fn upcall(&self) -> Interrupted {
        self.interrupted(field!(upcall))
    }

    /// Note a fault.
    pub fn set_fault(&self, fault: &FaultRecord) {
        let _ = self.memory.write(field!(fault), fault.as_bytes());
    }

    /// What the guest wants to return to from its fault handler.
    pub fn fault(&self) -> Interrupted {
        self.interrupted(field!(fault) + offset_of!(FaultRecord, at))
    }

    fn interrupted(&self, offset: usize) -> Interrupted {
        let mut bytes = [0; size_of::<Interrupted>()];
        let _ = self.memory.read(offset, &mut bytes);
        Interrupted::read_from_bytes(&bytes).unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "registers_tests.rs"]
mod tests;
