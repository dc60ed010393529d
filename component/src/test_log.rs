//! What a thread logs: for tests of components, on a host.

extern crate std;

use core::cell::RefCell;
use log::{LevelFilter, Log, Metadata, Record};
use std::string::String;
use std::vec::Vec;
use std::{format, thread_local};

thread_local! {
    /// The lines of this thread while somebody wants them.
    static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

struct Lines;

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        LINES.with_borrow_mut(|lines| {
            if let Some(lines) = lines {
                lines.push(format!("{} {}", record.level(), record.args()));
            }
        });
    }

    fn flush(&self) {}
}

/// The lines that this thread logs in `work`, each with its level in front: `WARN text`.
pub fn lines(work: impl FnOnce()) -> Vec<String> {
    // Fails when it is there already.
    let _ = log::set_logger(&Lines);
    log::set_max_level(LevelFilter::Trace);
    LINES.set(Some(Vec::new()));
    work();
    LINES.take().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_with_their_levels_and_to_whom_they_belong() {
        let heard = lines(|| {
            log::warn!("one {}", 1);
            std::thread::scope(|scope| {
                scope.spawn(|| log::error!("of another thread"));
            });
            log::trace!("two");
        });
        assert_eq!(heard, ["WARN one 1", "TRACE two"]);
        log::info!("nobody listens");
        assert_eq!(lines(|| ()), [""; 0]);
    }
}
