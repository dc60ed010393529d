//! The core's end of the console of the simulated machine.

use super::pages::{at, registers};
use abi::guest::{CONSOLE_RING, CONSOLE_SLOTS};
use abi::ring::{HEADER_BYTES, SLOT_BYTES};
use ring::Consumer;
use std::cell::RefCell;
use std::string::String;
use std::thread_local;

thread_local! {
    static CONSOLE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// As if nothing were printed.
pub(super) fn forget() {
    CONSOLE.set(String::new());
}

/// What the guest has printed so far.
pub(crate) fn text() -> String {
    drain();
    CONSOLE.with_borrow(Clone::clone)
}

/// Takes out what is in the ring.
pub(super) fn drain() {
    let ring =
        registers().sub(at(CONSOLE_RING), HEADER_BYTES + at(CONSOLE_SLOTS.into()) * SLOT_BYTES).expect("in the page");
    let mut consumer = Consumer::attach_contiguous(&ring, CONSOLE_SLOTS).expect("well-formed");
    while let Some(words) = consumer.take_words().expect("an honest guest") {
        let slot: abi::guest::ConsoleSlot = zerocopy::transmute!(words);
        CONSOLE.with_borrow_mut(|text| {
            text.push_str(&String::from_utf8_lossy(&slot.text[..slot.len.into()]));
            if slot.more == 0 {
                text.push('\n');
            }
        });
        consumer.release();
    }
}
