//! The console: lines of text for the machine's log and whoever watches it, and lines that the operator types.

mod input;

pub(crate) use input::arrived;
#[cfg(not(target_os = "none"))]
pub(crate) use input::forget_all;
pub use input::{LINE_MAX, read, read_line};

use crate::platform::{kick, registers};
use abi::guest::{CONSOLE_RING, CONSOLE_TEXT_BYTES, ConsoleSlot, device};
use abi::ring::{HEADER_BYTES, SLOT_BYTES};
use core::fmt::{self, Write};
use ring::{Producer, PushError, SharedMemory, SlotWords};

/// Prints a line on the console; formatted as [`format_args`] does.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => { $crate::console::line(format_args!($($arg)*)) };
}

/// Prints a text on the console whose line goes on; formatted as [`format_args`] does. The log makes it a line of its own.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => { $crate::console::part(format_args!($($arg)*)) };
}

/// Prints a part of a line on the console, as a question that is answered behind it.
pub fn part(text: fmt::Arguments) {
    write(text, true);
}

/// Prints a line on the console. What does not fit into the console's ring although the core was asked to empty it is lost.
pub fn line(text: fmt::Arguments) {
    write(text, false);
}

fn write(text: fmt::Arguments, more: bool) {
    let Some(producer) = attach() else { return };
    let mut line = Line { producer, text: [0; CONSOLE_TEXT_BYTES], len: 0 };
    // Writing to a `Line` does not fail.
    let _ = line.write_fmt(text);
    line.push(more);
    kick(device::CONSOLE);
}

/// The producer's end keeps nothing that is not in the ring itself, so it is attached for each line and costs no memory.
fn attach() -> Option<Producer<SharedMemory>> {
    let slots = crate::registers::console_slots();
    let bytes = HEADER_BYTES + usize::try_from(slots).ok()?.checked_mul(SLOT_BYTES)?;
    let ring = registers().sub(usize::try_from(CONSOLE_RING).ok()?, bytes)?;
    Producer::attach_contiguous(&ring, slots).ok()
}

struct Line {
    producer: Producer<SharedMemory>,
    text: [u8; CONSOLE_TEXT_BYTES],
    len: usize,
}

impl Line {
    /// Puts what was collected into the ring; `more`: the line goes on.
    fn push(&mut self, more: bool) {
        let slot = ConsoleSlot { len: u8::try_from(self.len).unwrap_or(0), more: more.into(), text: self.text };
        let words: SlotWords = zerocopy::transmute!(slot);
        // The core empties the ring before a kick returns, so the second attempt fails only when the core does not want to.
        for _ in 0..2 {
            match self.producer.stage_words(&words) {
                Ok(()) => break,
                Err(PushError::EpochChanged) => {}
                Err(PushError::Full | PushError::Corrupt) => kick(device::CONSOLE),
            }
        }
        self.producer.publish();
        self.len = 0;
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if byte == b'\n' {
                self.push(false);
                continue;
            }
            if self.len == self.text.len() {
                self.push(true);
            }
            self.text[self.len] = byte;
            self.len += 1;
        }
        Ok(())
    }
}

/// What `log` messages go through: `LEVEL target: text` on the console.
struct ConsoleLog;

impl log::Log for ConsoleLog {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record) {
        if self.enabled(record.metadata()) {
            line(format_args!("{:5} {}: {}", record.level(), record.target(), record.args()));
        }
    }

    fn flush(&self) {}
}

/// Connects `log` with the console; `level` as the boot argument `log` gives it, or information.
pub(crate) fn start_log(level: Option<&str>) {
    // A second start (tests) keeps the first logger, which is the same.
    let _ = log::set_logger(&ConsoleLog);
    log::set_max_level(level.and_then(|level| level.parse().ok()).unwrap_or(log::LevelFilter::Info));
}

#[cfg(test)]
mod tests {
    use crate::sim::Sim;
    use std::string::String;

    #[test]
    fn lines_are_split_and_joined() {
        let _sim = Sim::new("");
        println!("{}", "short");
        let long: String = "0123456789".repeat(30);
        println!("<{long}>");
        println!("two\nlines");
        println!("");
        print!("{}? ", 7);
        println!("seven");
        assert_eq!(Sim::console(), std::format!("short\n<{long}>\ntwo\nlines\n\n7? seven\n"));
        assert_eq!(Sim::kicks()[1], 6);
    }

    #[test]
    fn a_line_longer_than_the_ring_arrives_whole() {
        let _sim = Sim::new("");
        let long: String = "abcdefghij".repeat(400);
        println!("{long}");
        assert_eq!(Sim::console(), std::format!("{long}\n"));
    }
}
