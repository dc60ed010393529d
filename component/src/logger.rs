//! The `log` crate's backend: one record, one line, one system call.

use crate::line::Line;
use core::fmt::Write;
use log::{LevelFilter, Log, Metadata, Record};

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let mut line = Line::new();
            // `Line` cuts and never fails; a `Display` that does fail leaves what it has written.
            let _ = line.write_fmt(*record.args());
            crate::syscall::log(record.level(), line.as_bytes());
        }
    }

    fn flush(&self) {}
}

/// Sends what is logged from `level` on to the core, which filters again by its own level.
pub(crate) fn install(level: LevelFilter) {
    static LOGGER: Logger = Logger;
    // Fails only when a logger is there already, and then that one stays.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(level);
}
