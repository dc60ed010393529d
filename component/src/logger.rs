//! The log: one record, one line, one system call.

use crate::line::Line;
use crate::syscall::{self, Error};
use core::fmt::{Arguments, Write};
use core::sync::atomic::{AtomicU32, Ordering};
use log::{Level, LevelFilter, Log, Metadata, Record};

/// The `log` crate's backend. A component does not wait for the serial line: lines that it has no room for are left out,
/// and the next one that it takes says how many.
struct Logger {
    left_out: AtomicU32,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let left_out = self.left_out.load(Ordering::Relaxed);
        if left_out > 0 && print(Level::Warn, format_args!("{left_out} lines left out here")).is_ok() {
            self.left_out.store(0, Ordering::Relaxed);
        }
        if print(record.level(), *record.args()) == Err(Error::Busy) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// Writes one line to the log, past the level filter of the `log` crate's macros. For output that must not be left out:
/// the caller tries again when there is no room.
///
/// # Errors
///
/// [`Error::Busy`] while the serial line is too far behind.
pub fn print(level: Level, text: Arguments<'_>) -> Result<(), Error> {
    let mut line = Line::new();
    // `Line` cuts and never fails; a `Display` that does fail leaves what it has written.
    let _ = line.write_fmt(text);
    syscall::log(level, line.as_bytes())
}

/// Sends what is logged from `level` on to the core, which filters again by its own level.
pub(crate) fn install(level: LevelFilter) {
    static LOGGER: Logger = Logger { left_out: AtomicU32::new(0) };
    // Fails only when a logger is there already, and then that one stays.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(level);
}
