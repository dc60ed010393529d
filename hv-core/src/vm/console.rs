//! The console of a VM, both ways: short lines that the guest puts into a ring of its register page and the core copies to the log, and lines
//! that the core puts into another one. All of that page is the guest's to write, so each word from there is an allegation; the core goes by
//! its own indices.

use super::watches::Watch;
use crate::log::{RateLimit, has_room, say};
use crate::memory::phys::index;
use abi::guest::{
    CONSOLE_INPUT_RING, CONSOLE_INPUT_SLOTS, CONSOLE_RING, CONSOLE_SLOTS, CONSOLE_TEXT_BYTES, ConsoleSlot,
};
use abi::log::Record;
use abi::ring::{EPOCH, HEADER_BYTES, IndexWord, SLOT_BYTES, TAIL};
use abi::vm::VmId;
use ring::{Consumer, Producer, PushError, SharedMemory, SlotWords};
use zerocopy::FromBytes;

/// Offset of the ring in the register page.
const RING: usize = index(CONSOLE_RING);
/// That of the input ring.
const INPUT: usize = index(CONSOLE_INPUT_RING);
/// Longest line; a longer one is cut into several.
const LINE: usize = 240;
/// Lines a second that one VM may log, and how many at once.
const LINES_PER_SECOND: u32 = 50;
const LINES_BURST: u32 = 100;

/// The core's ends of the rings of a console.
pub struct Console {
    ring: Option<Consumer<SharedMemory>>,
    /// Where the core is in the input ring, and in which epoch. Its end is made when somebody types: a context has no room for one that seldom works.
    typed: IndexWord,
    limit: RateLimit,
}

impl Console {
    /// The console in a register page.
    pub fn new(page: &SharedMemory) -> Self {
        let ring =
            part(page, RING, CONSOLE_SLOTS).and_then(|ring| Consumer::attach_contiguous(&ring, CONSOLE_SLOTS).ok());
        let epoch = page.load32(INPUT + EPOCH).unwrap_or(0);
        let tail = IndexWord::unpack(page.load64(INPUT + TAIL).unwrap_or(0));
        let typed = IndexWord { epoch, index: if tail.epoch == epoch { tail.index } else { 0 } };
        Console { ring, typed, limit: RateLimit::new(LINES_PER_SECOND, LINES_BURST) }
    }

    /// Copy what is in the ring to the log, and for those who watch: at most one ring full, whatever the guest wrote.
    pub fn drain(&mut self, vm: VmId, now: u64, tsc_hz: u64, mut watch: Option<&mut Watch>) {
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
            let (text, more) = printable(&slot);
            if line.len() + text.len() > LINE {
                say(&mut line);
            }
            line.extend(text.iter().copied());
            if let Some(watch) = &mut watch {
                keep(watch, &text, more);
            }
            if !more {
                say(&mut line);
            }
        }
        if !line.is_empty() {
            say(&mut line);
        }
        ring.release();
    }

    /// What the guest has said last still lies in its ring, if the guest has not written over it: show it to somebody who begins to watch.
    pub fn replay(&self, page: &SharedMemory, watch: &mut Watch) {
        let Some(next) = self.ring.as_ref().map(Consumer::index) else { return };
        for number in next.saturating_sub(CONSOLE_SLOTS)..next {
            let mut bytes = [0; SLOT_BYTES];
            let at = RING + HEADER_BYTES + (number % CONSOLE_SLOTS) as usize * SLOT_BYTES;
            let slot = page.read(at, &mut bytes).and_then(|()| ConsoleSlot::read_from_bytes(&bytes).ok());
            if let Some(slot) = slot {
                let (text, more) = printable(&slot);
                keep(watch, &text, more);
            }
        }
    }

    /// Put what somebody types into the input ring; a newline ends a line. How many bytes were taken, the first ones: as many as there is room for.
    pub fn type_in(&mut self, page: &SharedMemory, bytes: &[u8]) -> usize {
        let Some(mut ring) = self.input(page) else { return 0 };
        let mut taken = 0;
        for _ in 0..=CONSOLE_INPUT_SLOTS {
            let rest = &bytes[taken..];
            if rest.is_empty() {
                break;
            }
            let piece = &rest[..rest.len().min(CONSOLE_TEXT_BYTES)];
            // A newline right behind a full slot ends that one.
            let newline = rest.iter().take(CONSOLE_TEXT_BYTES + 1).position(|&byte| byte == b'\n');
            let text = &piece[..newline.unwrap_or(piece.len()).min(piece.len())];
            let mut slot = ConsoleSlot { len: 0, more: newline.is_none().into(), text: [0; CONSOLE_TEXT_BYTES] };
            slot.len = u8::try_from(text.len()).unwrap_or(0);
            slot.text[..text.len()].copy_from_slice(text);
            let words: SlotWords = zerocopy::transmute!(slot);
            match ring.stage_words(&words) {
                Ok(()) => taken += text.len() + usize::from(newline.is_some()),
                // The guest has moved the epoch: the ring is empty again.
                Err(PushError::EpochChanged) => {}
                Err(PushError::Full | PushError::Corrupt) => break,
            }
        }
        ring.publish();
        self.typed.index = ring.index();
        taken
    }

    /// The core's end of the input ring, where the core left it, whatever the guest has written there since. In another epoch it is a new ring.
    fn input(&mut self, page: &SharedMemory) -> Option<Producer<SharedMemory>> {
        let epoch = page.load32(INPUT + EPOCH)?;
        if epoch != self.typed.epoch {
            self.typed = IndexWord { epoch, index: 0 };
        }
        page.store64(INPUT + TAIL, self.typed.pack())?;
        Producer::attach_contiguous(&part(page, INPUT, CONSOLE_INPUT_SLOTS)?, CONSOLE_INPUT_SLOTS).ok()
    }
}

/// A ring in the register page.
fn part(page: &SharedMemory, at: usize, slots: u32) -> Option<SharedMemory> {
    page.sub(at, HEADER_BYTES + slots as usize * SLOT_BYTES)
}

/// The text of a slot as it may be shown, and whether its line goes on.
fn printable(slot: &ConsoleSlot) -> (heapless::Vec<u8, CONSOLE_TEXT_BYTES>, bool) {
    let text = &slot.text[..usize::from(slot.len).min(CONSOLE_TEXT_BYTES)];
    let shown = text.iter().map(|&byte| if matches!(byte, b' '..=b'~') { byte } else { b'?' });
    (shown.collect(), slot.more != 0)
}

/// Keep a piece of a line for those who watch.
fn keep(watch: &mut Watch, text: &[u8], more: bool) {
    watch.put(text);
    if !more {
        watch.put(b"\n");
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
