//! The log: lines on the serial line, on the screen, and on port 0xe9 where the machine has it.
//!
//! `log::info!(target: "pager", ...)` gives `[    0.123456] INFO  pager: ...`; without a target the line is the core's.
//! Lines that a guest can cause go through a [`RateLimit`].

#[cfg(any(test, feature = "fake"))]
pub mod capture;
mod console;
mod framebuffer;
mod history;
mod queue;
mod serial;
mod stretch;

#[cfg(any(test, feature = "boot"))]
pub use console::screen::{Screen, framebuffer, framebuffer_at, open_screen, save_screen};
pub use console::{flush, has_room, has_room_for_components, is_waiting, pump, resume_screen, set_buffered};
pub use framebuffer::{Glyphs, Mode};
#[cfg(any(test, feature = "fake"))]
pub use history::keep_in_history;
#[cfg(any(test, feature = "boot"))]
pub use history::saved::save_history;
pub use history::{history, resume_history};
pub use rate_limit::RateLimit;
pub use stretch::Stretch;

use abi::log::{Level, Record};
use console::with_console;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use log::{LevelFilter, Log, Metadata};

/// TSC at the start of boot, and ticks per second; 0 until the TSC is calibrated.
static START_TSC: AtomicU64 = AtomicU64::new(0);
static TSC_HZ: AtomicU64 = AtomicU64::new(0);

struct Logger;
static LOGGER: Logger = Logger;

/// Opens serial line and debug port, and becomes the destination of the `log` crate's macros. Times count from now on.
pub fn init() {
    console::open_lines();
    START_TSC.store(crate::tsc(), Ordering::Relaxed);
    // Fails only when there is a logger already, and then it is this one.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(LevelFilter::Info);
}

/// When the log was opened.
pub fn start_tsc() -> u64 {
    START_TSC.load(Ordering::Relaxed)
}

/// Times count from this TSC on: another program has begun the log.
pub fn set_start_tsc(tsc: u64) {
    START_TSC.store(tsc, Ordering::Relaxed);
}

/// From now on lines carry the time since boot.
pub fn set_tsc_hz(hz: u64) {
    TSC_HZ.store(hz, Ordering::Relaxed);
}

/// Ticks of the TSC in a second; 0 while nobody knows.
fn tsc_hz() -> u64 {
    TSC_HZ.load(Ordering::Relaxed)
}

/// A line without time and level, on all outputs, at once; also when the log itself is broken.
pub fn raw_line(text: fmt::Arguments<'_>) {
    flush();
    set_buffered(false);
    with_console(|console| {
        let _ = console.write_fmt(text);
        let _ = console.write_str("\n");
    });
    flush();
}

/// Says what the core has to say: now it is only kept, and its text is made when it leaves.
#[cold]
#[inline(never)]
pub fn say(record: Record) {
    let level = level_of(&record);
    // On the host there are no outputs, and whoever tests listens.
    if cfg!(any(test, feature = "fake")) {
        log::log!(target: record.target(), level, "{record}");
    } else if level <= log::max_level() {
        console::record(crate::tsc(), record);
    }
}

const fn level_of(record: &Record) -> log::Level {
    match record.level() {
        Level::Error => log::Level::Error,
        Level::Warn => log::Level::Warn,
        Level::Info => log::Level::Info,
        Level::Debug => log::Level::Debug,
    }
}

/// Writes the line of a record that was said at the TSC `at`, but for its end.
fn write_record(to: &mut dyn fmt::Write, at: u64, record: &Record) -> fmt::Result {
    write_line(to, at, level_of(record), record.target(), format_args!("{record}"))
}

fn write_line(
    to: &mut dyn fmt::Write,
    at: u64,
    level: log::Level,
    target: &str,
    text: fmt::Arguments<'_>,
) -> fmt::Result {
    let ticks = at.saturating_sub(START_TSC.load(Ordering::Relaxed));
    let (seconds, micros) = split_time(ticks, tsc_hz());
    write!(to, "[{seconds:>5}.{micros:06}] {level:<5} {target}: {text}")
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let target = record.target();
        // Whoever boots speaks for the core.
        let ours = ["hv_core", "loader", "base"].iter().any(|name| target.starts_with(name));
        let target = if ours { "core" } else { target };
        with_console(|console| {
            // Writing to the console does not fail.
            let _ = write_line(console, crate::tsc(), record.level(), target, *record.args());
            let _ = console.write_str("\n");
        });
    }

    fn flush(&self) {
        flush();
    }
}

/// Seconds and microseconds that `ticks` are; zero while the rate is unknown.
fn split_time(ticks: u64, hz: u64) -> (u64, u64) {
    let Some(seconds) = ticks.checked_div(hz) else { return (0, 0) };
    // The remainder is below `hz`; processors stay below 2^44 Hz, so the product fits.
    (seconds, (ticks % hz).saturating_mul(1_000_000) / hz)
}

#[cfg(test)]
mod tests {
    use super::split_time;

    #[test]
    fn time_of_ticks() {
        assert_eq!(split_time(5, 0), (0, 0));
        assert_eq!(split_time(3_123_456_789, 1_000_000_000), (3, 123_456));
        assert_eq!(split_time(u64::MAX, 4_000_000_000), (4_611_686_018, 427_387));
    }
}
