//! The message that a boot, or the core, ends with.

use super::failure::Failure;
use super::options::OnFatal;
use crate::board::power;
use crate::log::raw_line;
use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

/// Whether a fatal message powers the machine off.
static POWER_OFF: AtomicBool = AtomicBool::new(false);

/// Sets what follows a fatal message.
pub fn set_on_fatal(what: OnFatal) {
    POWER_OFF.store(what == OnFatal::PowerOff, Ordering::Relaxed);
}

/// Says on every output what is wrong, why (`detail`, may be empty) and what to do, and ends the machine's work.
pub fn fatal(failure: Failure, detail: fmt::Arguments<'_>) -> ! {
    let separator = if detail.as_str() == Some("") { "" } else { ": " };
    let (code, cause, remedy) = (failure.code(), failure.cause(), failure.remedy());
    raw_line(format_args!("FATAL F{code:03}: {cause}{separator}{detail} — {remedy}"));
    end()
}

/// The panic handler.
pub fn panicked(info: &PanicInfo<'_>) -> ! {
    let at = info.location();
    let (file, line) = at.map_or(("?", 0), |at| (at.file(), at.line()));
    fatal(Failure::Panic, format_args!("{} ({file}:{line})", info.message()))
}

fn end() -> ! {
    if POWER_OFF.load(Ordering::Relaxed) {
        power::off(None);
    }
    power::halt()
}
