//! What the core says in its log while a test listens. Why a VM ended is said there and nowhere else.

use log::{LevelFilter, Log, Metadata, Record};
use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    /// What was said on this thread, while somebody listens.
    static HEARD: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

struct Listener;

impl Log for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        HEARD.with_borrow_mut(|heard| {
            if let Some(heard) = heard {
                heard.push(format!("{} {}: {}", record.level(), record.target(), record.args()));
            }
        });
    }

    fn flush(&self) {}
}

/// Listen from now on.
pub fn listen() {
    static ONCE: Once = Once::new();
    // Each test runs on a thread of its own, and hears nothing of the others.
    ONCE.call_once(|| {
        log::set_logger(&Listener).expect("no test has another logger");
        log::set_max_level(LevelFilter::Trace);
    });
    HEARD.set(Some(Vec::new()));
}

/// What was said since [`listen`] or the last call that has this text in it.
pub fn heard(text: &str) -> Vec<String> {
    let lines = HEARD.take().expect("somebody listens");
    HEARD.set(Some(Vec::new()));
    lines.into_iter().filter(|line| line.contains(text)).collect()
}
