//! The console of a VM: short lines that the guest puts into a ring of its register page and the core copies to the log.

use crate::log::{RateLimit, has_room, say};
use crate::memory::phys::index;
use abi::guest::{CONSOLE_RING, CONSOLE_SLOTS, CONSOLE_TEXT_BYTES, ConsoleSlot};
use abi::log::Record;
use abi::ring::HEADER_BYTES;
use abi::vm::VmId;
use ring::{Consumer, SharedMemory};

/// Offset of the ring in the register page.
const RING: usize = index(CONSOLE_RING);
/// Longest line; a longer one is cut into several.
const LINE: usize = 240;
/// Lines a second that one VM may log, and how many at once.
const LINES_PER_SECOND: u32 = 50;
const LINES_BURST: u32 = 100;

/// The core's end of a console ring.
pub struct Console {
    ring: Option<Consumer<SharedMemory>>,
    limit: RateLimit,
}

impl Console {
    /// The console in a register page.
    pub fn new(page: &SharedMemory) -> Self {
        let header = page.sub(RING, HEADER_BYTES);
        let slots = page.sub(RING + HEADER_BYTES, CONSOLE_SLOTS as usize * abi::ring::SLOT_BYTES);
        let ring = match (header, slots) {
            (Some(header), Some(slots)) => Consumer::attach(&header, &slots, CONSOLE_SLOTS).ok(),
            _ => None,
        };
        Console { ring, limit: RateLimit::new(LINES_PER_SECOND, LINES_BURST) }
    }

    /// Copy what is in the ring to the log: at most one ring full, whatever the guest wrote.
    pub fn drain(&mut self, vm: VmId, now: u64, tsc_hz: u64) {
        let Some(ring) = &mut self.ring else { return };
        let mut say = |line: &mut heapless::Vec<u8, LINE>| {
            // Without room the limit is asked for a line that is never said, so it counts as left out.
            match self.limit.allow(now, tsc_hz) {
                Some(left_out) if has_room() => print(vm, line, left_out),
                _ => {}
            }
            line.clear();
        };
        let mut line: heapless::Vec<u8, LINE> = heapless::Vec::new();
        for _ in 0..CONSOLE_SLOTS {
            // A guest that lies about its ring has an empty one.
            let Ok(Some(words)) = ring.take_words() else { break };
            let slot: ConsoleSlot = zerocopy::transmute!(words);
            let text = &slot.text[..usize::from(slot.len).min(CONSOLE_TEXT_BYTES)];
            if line.len() + text.len() > LINE {
                say(&mut line);
            }
            line.extend(text.iter().map(|&byte| if matches!(byte, b' '..=b'~') { byte } else { b'?' }));
            if slot.more == 0 {
                say(&mut line);
            }
        }
        if !line.is_empty() {
            say(&mut line);
        }
        ring.release();
    }
}

fn print(vm: VmId, line: &[u8], left_out: u32) {
    if left_out != 0 {
        say(Record::LinesLeftOut { vm, lines: left_out });
    }
    log::info!(target: "guest", "{vm}: {}", core::str::from_utf8(line).unwrap_or("?"));
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
