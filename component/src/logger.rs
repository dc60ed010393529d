//! The `log` crate's backend: one record, one line, one system call.

use crate::line::Line;
use core::fmt::Write;
use core::sync::atomic::{AtomicU32, Ordering};
use log::{LevelFilter, Log, Metadata, Record};

/// How often a line that the serial line is not ready for is tried again.
static PATIENCE: AtomicU32 = AtomicU32::new(0);
/// Ticks between two tries: a few milliseconds on any machine.
const PAUSE_TICKS: u64 = 5_000_000;

/// Lines that the serial line is not ready for are tried again up to `tries` times, some milliseconds apart, and then left
/// out. A component that others wait for keeps the default, 0.
pub fn set_log_patience(tries: u32) {
    PATIENCE.store(tries, Ordering::Relaxed);
}

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
            for _ in 0..=PATIENCE.load(Ordering::Relaxed) {
                if crate::syscall::log(record.level(), line.as_bytes()) {
                    return;
                }
                crate::syscall::wait(0, crate::syscall::now().saturating_add(PAUSE_TICKS), 0);
            }
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
