//! The system calls ([`abi::component::syscall`]) as safe functions.
//!
//! None of them gives the core an address but [`log`](log()), which passes a slice that it only reads.

use abi::component::{self as numbers, syscall};
use abi::vm::VmId;

/// Why the core refused a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no system call of that number.
    Unknown,
    /// An argument is out of range, for instance a VM that is gone.
    Argument,
    /// The manifest does not give this component what it asked for.
    Authority,
    /// There is no room for it now: try again later.
    Busy,
    /// An error that this build does not know.
    Other(u64),
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Error::Unknown => f.write_str("there is no system call of that number"),
            Error::Argument => f.write_str("an argument is out of range"),
            Error::Authority => f.write_str("the manifest does not allow it"),
            Error::Busy => f.write_str("there is no room for it now"),
            Error::Other(code) => write!(f, "error {code:#x}"),
        }
    }
}

#[inline]
fn check(result: u64) -> Result<u64, Error> {
    if result < numbers::ERROR_MIN {
        return Ok(result);
    }
    Err(match result {
        numbers::ERROR_UNKNOWN => Error::Unknown,
        numbers::ERROR_ARGUMENT => Error::Argument,
        numbers::ERROR_AUTHORITY => Error::Authority,
        numbers::ERROR_BUSY => Error::Busy,
        other => Error::Other(other),
    })
}

/// The instruction itself.
///
/// # Safety
///
/// Memory that the call lets the core read (only `LOG` does) must be readable for the length given.
#[cfg(target_os = "none")]
#[inline(always)]
unsafe fn call(number: u64, a: u64, b: u64, c: u64) -> u64 {
    let result;
    // SAFETY: by `abi::component::syscall` the core returns behind the instruction with RAX, RCX and R11 changed and
    // everything else, the stack included, as it was. Rings and kicks change meanwhile; they are only accessed atomically.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// On a host there is no core to call.
#[cfg(not(target_os = "none"))]
unsafe fn call(number: u64, _: u64, _: u64, _: u64) -> u64 {
    panic!("system call {number} of a component outside the machine")
}

/// Does nothing. Returns the core's ABI version.
#[inline]
pub fn nop() -> u64 {
    // SAFETY: the core reads no memory for it.
    unsafe { call(syscall::NOP, 0, 0, 0) }
}

/// Rings the `doorbells` (bit `i`: the other end of ring `i`; bit `IRQ_SHIFT` + `i`: as [`irq_ack`] for device `i`), then sleeps until a bit of `mask` is set
/// or the TSC reaches `deadline` (`u64::MAX`: no deadline; 0: only look). Returns those bits of `mask` that were set, and clears them.
#[inline]
pub fn wait(mask: u64, deadline: u64, doorbells: u64) -> u64 {
    // SAFETY: the core reads no memory for it.
    unsafe { call(syscall::WAIT, mask, deadline, doorbells) }
}

/// Rings the `doorbells` (bit `i`: the other end of ring `i`).
#[inline]
pub fn notify(doorbells: u64) {
    // SAFETY: the core reads no memory for it.
    unsafe { call(syscall::NOTIFY, doorbells, 0, 0) };
}

/// Writes one line to the log. What is longer than [`abi::limits::LOG_LINE_BYTES`] is cut by the core.
///
/// # Errors
///
/// [`Error::Busy`] while the serial line is too far behind to take it, [`Error::Argument`] when the line is neither in the
/// component's image nor on its stack.
pub fn log(level: log::Level, line: &[u8]) -> Result<(), Error> {
    // Widening only: both are at most 64 bits wide.
    #[allow(clippy::cast_lossless)]
    let (level, len) = (level as u64, line.len() as u64);
    // SAFETY: the core reads `len` bytes at the slice's address, which the borrow keeps readable until the call returns.
    check(unsafe { call(syscall::LOG, level, line.as_ptr().addr() as u64, len) }).map(drop)
}

/// The interrupt of `device` is served and may come again. The ports' interrupt counts as the device behind the last one.
///
/// # Errors
///
/// [`Error::Argument`] or [`Error::Authority`] when the component has no such device.
#[inline]
pub fn irq_ack(device: u32) -> Result<(), Error> {
    // SAFETY: the core reads no memory for it.
    check(unsafe { call(syscall::IRQ_ACK, device.into(), 0, 0) }).map(drop)
}

/// Makes `bits` ([`abi::guest::pending`]) pending for `vm`.
///
/// # Errors
///
/// [`Error::Argument`] when the VM is gone, [`Error::Authority`] without [`abi::component::authority::RAISE`].
#[inline]
pub fn raise(vm: VmId, bits: u64) -> Result<(), Error> {
    // SAFETY: the core reads no memory for it.
    check(unsafe { call(syscall::RAISE, vm.raw(), bits, 0) }).map(drop)
}

/// Asks for page `page` of the NIC of `vm` (from 1), which is attached: its window shows it from then on, and the guest has it,
/// too.
///
/// # Errors
///
/// [`Error::Busy`] when no frame is free for it, [`Error::Argument`] when the VM is not attached or has no such page,
/// [`Error::Authority`] without [`abi::component::authority::VM_WINDOW`].
pub fn ring_page(vm: VmId, page: u32) -> Result<(), Error> {
    // SAFETY: the core reads no memory for it.
    check(unsafe { call(syscall::RING_PAGE, vm.raw(), page.into(), 0) }).map(drop)
}

/// Gives the pages of the NIC of `vm` whose bits are set back (bit `i`: page `i`, from 1). The guest has them no longer, and to
/// touch them in the window is a fault.
///
/// # Errors
///
/// [`Error::Busy`], and nothing is done, while the VM does not idle; else as [`ring_page`].
pub fn ring_return(vm: VmId, pages: u32) -> Result<(), Error> {
    // SAFETY: the core reads no memory for it, and takes none of the component's own.
    check(unsafe { call(syscall::RING_RETURN, vm.raw(), pages.into(), 0) }).map(drop)
}

/// Reads `bytes` (1, 2 or 4) from an I/O port.
///
/// # Errors
///
/// [`Error::Authority`] when the manifest does not list the port, [`Error::Argument`] for another size.
pub fn port_in(port: u16, bytes: u8) -> Result<u32, Error> {
    // SAFETY: the core reads no memory for it.
    let value = check(unsafe { call(syscall::PORT_IN, port.into(), bytes.into(), 0) })?;
    u32::try_from(value).map_err(|_| Error::Other(value))
}

/// Writes the lowest `bytes` (1, 2 or 4) of `value` to an I/O port.
///
/// # Errors
///
/// [`Error::Authority`] when the manifest does not list the port, [`Error::Argument`] for another size.
pub fn port_out(port: u16, bytes: u8, value: u32) -> Result<(), Error> {
    // SAFETY: the core reads no memory for it.
    check(unsafe { call(syscall::PORT_OUT, port.into(), bytes.into(), value.into()) }).map(drop)
}

/// Gives up. The core logs the code and starts the component again.
pub fn exit(code: u64) -> ! {
    // SAFETY: the core reads no memory for it.
    unsafe { call(syscall::EXIT, code, 0, 0) };
    // The call does not return. Should it, then the core is broken and waiting for ever does the least harm.
    loop {
        wait(0, u64::MAX, 0);
    }
}

/// The time-stamp counter now.
#[inline]
pub fn now() -> u64 {
    // SAFETY: RDTSC exists on every x86-64 processor and the core leaves CR4.TSD clear for components.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_from_error_min_on_are_errors() {
        assert_eq!(check(0), Ok(0));
        assert_eq!(check(numbers::ERROR_MIN - 1), Ok(numbers::ERROR_MIN - 1));
        assert_eq!(check(numbers::ERROR_MIN), Err(Error::Other(numbers::ERROR_MIN)));
        assert_eq!(check(u64::MAX), Err(Error::Unknown));
        assert_eq!(check(u64::MAX - 1), Err(Error::Argument));
        assert_eq!(check(u64::MAX - 2), Err(Error::Authority));
        assert_eq!(check(u64::MAX - 3), Err(Error::Busy));
    }
}
