//! The register page: what the core tells the guest.

use crate::platform::registers;
use abi::guest::pending::IDENTITY;
use abi::guest::{BOOT_ARGS, BOOT_ARGS_MAX, RegisterPage};
use abi::vm::VmId;
use alloc::string::String;
use alloc::vec;
use core::mem::offset_of;
use core::sync::atomic::{Ordering, fence};

macro_rules! field {
    ($load:ident, $name:ident) => {
        registers().$load(offset_of!(RegisterPage, $name)).unwrap_or(0)
    };
}

/// True when the page is one, of the version that this program was built for.
#[cfg(target_os = "none")]
pub(crate) fn valid() -> bool {
    field!(read64, magic) == abi::guest::MAGIC && field!(read32, abi_version) == abi::ABI_VERSION
}

/// Reads what the core changes together: once more when it has done so meanwhile.
pub(crate) fn consistent<R>(read: impl Fn() -> R) -> R {
    loop {
        let before = field!(load32, sequence);
        let value = read();
        fence(Ordering::Acquire);
        if before & 1 == 0 && field!(load32, sequence) == before {
            return value;
        }
        core::hint::spin_loop();
    }
}

/// This VM.
pub fn vm_id() -> VmId {
    VmId::from_raw(field!(read64, vm_id))
}

/// Bytes of memory that this VM can use.
pub fn memory_bytes() -> u64 {
    field!(read64, memory_bytes)
}

/// Frames that the machine keeps for this VM whatever others do, and frames that it has now.
pub(crate) fn reserved_and_held() -> (u32, u32) {
    (field!(read32, reserve_frames), field!(load32, held_frames))
}

/// How often pages that were there were taken while this VM did not run.
pub(crate) fn takings() -> u32 {
    field!(load32, takings)
}

/// True where VMs that idle may go out.
pub(crate) fn may_go_out() -> bool {
    field!(read32, may_go_out) != 0
}

/// Random, new at every start, clone, restore and change of identity. What a program derives from it has to be derived anew
/// when it has changed.
pub fn generation_id() -> [u8; 16] {
    consistent(|| {
        let mut id = [0; 16];
        // Where the page is too short there is no page at all.
        let _ = registers().read(offset_of!(RegisterPage, generation_id), &mut id);
        id
    })
}

/// Ticks of the TSC in a second.
pub fn tsc_hz() -> u64 {
    field!(read64, tsc_hz)
}

/// The sequence word: another one when what the core changes together has changed.
#[inline]
pub(crate) fn sequence() -> u32 {
    field!(load32, sequence)
}

/// Nanoseconds per tick (32.32), a TSC, and the Unix time in nanoseconds at it.
pub(crate) fn clock() -> (u64, u64, u64) {
    consistent(|| (field!(read64, ns_per_tick), field!(read64, clock_tsc), field!(read64, clock_unix_ns)))
}

/// True when this VM has a NIC.
pub(crate) fn has_nic() -> bool {
    nic_page() != 0
}

/// Address of the NIC page, 0 without a NIC.
pub(crate) fn nic_page() -> u64 {
    field!(read64, nic_page)
}

/// Address of the control page, 0 where this VM does not control the machine.
pub(crate) fn control_page() -> u64 {
    field!(read64, control_page)
}

/// Slots of the console ring.
pub(crate) fn console_slots() -> u32 {
    field!(read32, console_slots)
}

/// Slots of the console's input ring.
pub(crate) fn console_input_slots() -> u32 {
    field!(read32, console_input_slots)
}

/// The boot arguments; what is not text is left out.
pub fn boot_args() -> String {
    let bytes = consistent(|| {
        let len = usize::try_from(field!(read32, boot_args_len)).unwrap_or(0).min(BOOT_ARGS_MAX);
        let mut bytes = vec![0; len];
        let _ = registers().read(usize::try_from(BOOT_ARGS).unwrap_or(0), &mut bytes);
        bytes
    });
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Takes the pending bits, but for that of another identity.
#[inline]
pub(crate) fn take_pending() -> u64 {
    // Most of the time there is nothing, and looking is cheaper than an exchange.
    match field!(load64, pending) {
        0 => 0,
        _ => registers().fetch_and64(offset_of!(RegisterPage, pending), IDENTITY).unwrap_or(0),
    }
}

/// Takes these pending bits.
pub(crate) fn take(bits: u64) {
    let _ = registers().fetch_and64(offset_of!(RegisterPage, pending), !bits);
}

/// True once when the identity has changed.
#[inline]
pub(crate) fn take_identity() -> bool {
    field!(load64, pending) & IDENTITY != 0
        // Before anything of it is read: it may change once more meanwhile.
        && registers().fetch_and64(offset_of!(RegisterPage, pending), !IDENTITY).is_some()
}

/// Selects which pending bits end an idle. Upcalls stay off.
pub(crate) fn enable(bits: u64) {
    let _ = registers().write32(offset_of!(RegisterPage, upcalls_on), 0);
    let _ = registers().store64(offset_of!(RegisterPage, enabled), bits);
}

/// Names the fault handler.
#[cfg(target_os = "none")]
pub(crate) fn set_fault_handler(entry: u64, stack: u64) {
    let _ = registers().store64(offset_of!(RegisterPage, fault_stack), stack);
    let _ = registers().store64(offset_of!(RegisterPage, fault_entry), entry);
}

/// The fault that the handler was called for.
#[cfg(target_os = "none")]
pub(crate) fn fault() -> abi::guest::FaultRecord {
    use abi::guest::FaultRecord;
    use zerocopy::FromBytes;
    let mut bytes = [0; size_of::<FaultRecord>()];
    let _ = registers().read(offset_of!(RegisterPage, fault), &mut bytes);
    FaultRecord::read_from_bytes(&bytes).unwrap_or_default()
}
