//! What the core says, for tests: each thread listens to what it causes itself.

use log::{Level, LevelFilter, Log, Metadata, Record};
use std::cell::RefCell;
use std::string::String;
use std::vec::Vec;
use std::{format, thread_local};

thread_local! {
    static HEARD: RefCell<Option<Vec<(Level, String)>>> = const { RefCell::new(None) };
}

struct Listener;

impl Log for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        HEARD.with_borrow_mut(|heard| {
            if let Some(heard) = heard {
                heard.push((record.level(), format!("{}: {}", record.target(), record.args())));
            }
        });
    }

    fn flush(&self) {}
}

/// From now on keep what this thread says, as `target: line`.
pub fn listen() {
    // Fails where another test was first, which set the same.
    let _ = log::set_logger(&Listener);
    log::set_max_level(LevelFilter::Trace);
    HEARD.set(Some(Vec::new()));
}

/// What this thread has said since it was asked last.
///
/// # Panics
/// Nobody listens.
pub fn heard_with_level() -> Vec<(Level, String)> {
    HEARD.with_borrow_mut(|heard| core::mem::take(heard.as_mut().expect("somebody listens")))
}

/// The same without the levels.
pub fn heard() -> Vec<String> {
    heard_with_level().into_iter().map(|(_, line)| line).collect()
}

/// Of that, the lines about this.
pub fn heard_of(what: &str) -> Vec<String> {
    heard().into_iter().filter(|line| line.contains(what)).collect()
}
