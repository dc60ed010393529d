//! The message that a boot, or the core, ends with.

#[cfg(not(any(test, feature = "fake")))]
use crate::{log::raw_line, power};
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

/// Whether a fatal message powers the machine off.
static POWER_OFF: AtomicBool = AtomicBool::new(false);

/// Sets what follows a fatal message: power-off, or standstill.
pub fn set_power_off(on: bool) {
    POWER_OFF.store(on, Ordering::Relaxed);
}

/// Says on every output what is wrong, why (`detail`, may be empty) and what to do, and ends the machine's work.
pub fn fatal(code: u32, cause: &str, detail: fmt::Arguments<'_>, remedy: &str) -> ! {
    let separator = if cause.is_empty() || detail.as_str() == Some("") { "" } else { ": " };
    let dash = if remedy.is_empty() { "" } else { " — " };
    // On the host the end of a machine is the end of its test.
    #[cfg(any(test, feature = "fake"))]
    panic!("FATAL F{code:03}: {cause}{separator}{detail}{dash}{remedy}");
    #[cfg(not(any(test, feature = "fake")))]
    end(format_args!("FATAL F{code:03}: {cause}{separator}{detail}{dash}{remedy}"))
}

#[cfg(not(any(test, feature = "fake")))]
fn end(message: fmt::Arguments<'_>) -> ! {
    raw_line(message);
    if POWER_OFF.load(Ordering::Relaxed) {
        power::off(None);
    }
    power::halt()
}
