//! The core's ends of the console of the simulated machine.

use super::pages::{at, registers};
use abi::guest::{
    CONSOLE_INPUT_RING, CONSOLE_INPUT_SLOTS, CONSOLE_RING, CONSOLE_SLOTS, CONSOLE_TEXT_BYTES, ConsoleSlot,
};
use abi::ring::{HEADER_BYTES, SLOT_BYTES};
use ring::{Consumer, Producer};
use std::cell::RefCell;
use std::string::String;
use std::thread_local;
use std::vec::Vec;

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

/// Puts what the operator types into the input ring, as far as there is room.
pub(crate) fn type_in(text: &str) {
    let bytes = HEADER_BYTES + at(CONSOLE_INPUT_SLOTS.into()) * SLOT_BYTES;
    let ring = registers().sub(at(CONSOLE_INPUT_RING), bytes).expect("in the page");
    let mut producer = Producer::attach_contiguous(&ring, CONSOLE_INPUT_SLOTS).expect("well-formed");
    for line in text.split_inclusive('\n') {
        let (line, ends) = line.strip_suffix('\n').map_or((line, false), |line| (line, true));
        let mut pieces: Vec<&[u8]> = line.as_bytes().chunks(CONSOLE_TEXT_BYTES).collect();
        if pieces.is_empty() {
            pieces.push(b"");
        }
        let last = pieces.len() - 1;
        for (number, piece) in pieces.into_iter().enumerate() {
            let more = u8::from(number != last || !ends);
            let len = u8::try_from(piece.len()).expect("short");
            let mut slot = ConsoleSlot { len, more, text: [0; CONSOLE_TEXT_BYTES] };
            slot.text[..piece.len()].copy_from_slice(piece);
            if producer.stage_words(&zerocopy::transmute!(slot)).is_err() {
                break;
            }
        }
    }
    producer.publish();
}
