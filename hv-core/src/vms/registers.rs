//! The register page of a VM as the core sees it. The guest may write all of it at any time, so everything read from here
//! is an allegation; nothing of the core's own state lives here.

use crate::memory::phys::index;
use abi::guest::{FaultRecord, Interrupted, RegisterPage};
use core::mem::offset_of;
use ring::SharedMemory;
use zerocopy::{FromBytes, IntoBytes};

/// One VM's register page.
#[derive(Clone, Copy, Debug)]
pub struct Registers(SharedMemory);

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

// Every offset lies in the page, which the constructor's caller guarantees to be whole, so no access below is refused:
// the defaults and ignored results are unreachable.
impl Registers {
    /// The register page in `page`, which is one page long.
    pub fn new(page: SharedMemory) -> Self {
        debug_assert!(page.len() as u64 == abi::limits::PAGE_SIZE);
        Registers(page)
    }

    /// Write the page as it is at the start.
    pub fn initialise(&self, page: &RegisterPage, boot_args: &[u8]) {
        let _ = self.0.write(0, page.as_bytes());
        let _ = self.0.write(index(abi::guest::BOOT_ARGS), boot_args);
    }

    /// The whole page, for the rings in it.
    pub fn memory(&self) -> &SharedMemory {
        &self.0
    }

    /// Set pending bits.
    #[inline]
    pub fn raise(&self, bits: u64) {
        let _ = self.0.fetch_or64(field!(pending), bits);
    }

    /// The pending bits that are enabled.
    #[inline]
    pub fn wanted(&self) -> u64 {
        self.0.load64(field!(pending)).unwrap_or(0) & self.0.load64(field!(enabled)).unwrap_or(0)
    }

    /// All pending bits.
    #[inline]
    pub fn pending(&self) -> u64 {
        self.0.load64(field!(pending)).unwrap_or(0)
    }

    /// True while the guest takes upcalls.
    #[inline]
    pub fn upcalls_on(&self) -> bool {
        self.0.load32(field!(upcalls_on)) == Some(1)
    }

    /// Allow or forbid upcalls.
    pub fn set_upcalls(&self, on: bool) {
        let _ = self.0.store32(field!(upcalls_on), on.into());
    }

    /// Show whether the fault handler runs.
    pub fn set_in_fault(&self, on: bool) {
        let _ = self.0.store32(field!(in_fault), on.into());
    }

    /// Show when the alarm is due.
    pub fn set_alarm(&self, deadline: u64) {
        let _ = self.0.store64(field!(alarm), deadline);
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
        let entry = Entry { rip: self.0.load64(rip)?, rsp: self.0.load64(rsp)? };
        (entry.rip != 0).then_some(entry)
    }

    /// Note what an upcall interrupted.
    pub fn set_upcall(&self, at: &Interrupted) {
        let _ = self.0.write(field!(upcall), at.as_bytes());
    }

    /// What the guest wants to return to from an upcall.
    pub fn upcall(&self) -> Interrupted {
        self.interrupted(field!(upcall))
    }

    /// Note a fault.
    pub fn set_fault(&self, fault: &FaultRecord) {
        let _ = self.0.write(field!(fault), fault.as_bytes());
    }

    /// What the guest wants to return to from its fault handler.
    pub fn fault(&self) -> Interrupted {
        self.interrupted(field!(fault) + offset_of!(FaultRecord, at))
    }

    fn interrupted(&self, offset: usize) -> Interrupted {
        let mut bytes = [0; size_of::<Interrupted>()];
        let _ = self.0.read(offset, &mut bytes);
        Interrupted::read_from_bytes(&bytes).unwrap_or_default()
    }
}
