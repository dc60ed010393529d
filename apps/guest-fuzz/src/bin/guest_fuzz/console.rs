//! The console, whatever the steps have done to its ring; and the boot arguments.

use crate::machine::{hypercall, load, store};
use abi::guest::{
    BOOT_ARGS, CONSOLE_RING, CONSOLE_SLOTS, CONSOLE_TEXT_BYTES, REGISTER_PAGE, device, hypercall as number,
};
use abi::ring::HEADER_BYTES;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, Ordering};

const RING: u64 = REGISTER_PAGE + CONSOLE_RING;
/// Offsets in a ring's header (docs/virtual-architecture.md, "Rings").
const TAIL: u64 = 0;
const HEAD: u64 = 64;
const EPOCH: u64 = 128;

/// The epoch that the next line is said in: each has one of its own, so that nothing that a step has left there counts.
static NEXT_EPOCH: AtomicU32 = AtomicU32::new(1);

/// Puts a line of at most 240 bytes on the console.
pub fn say(text: fmt::Arguments) {
    let mut line = Line { text: [0; 240], len: 0 };
    // What is too long is cut.
    let _ = line.write_fmt(text);
    let mut epoch = NEXT_EPOCH.fetch_add(1, Ordering::Relaxed);
    // The core must see another one than it has seen last.
    if u64::from(epoch) == load(RING + EPOCH) & 0xffff_ffff {
        epoch = NEXT_EPOCH.fetch_add(1, Ordering::Relaxed);
    }
    let mut slots = 0;
    let pieces = line.text[..line.len].chunks(CONSOLE_TEXT_BYTES);
    let count = u64::try_from(pieces.len()).unwrap_or(1);
    for piece in pieces {
        let at = RING + u64::try_from(HEADER_BYTES).unwrap_or(256) + slots % u64::from(CONSOLE_SLOTS) * 64;
        slots += 1;
        let head = [u8::try_from(piece.len()).unwrap_or(0), u8::from(slots < count)];
        for (offset, &byte) in (0..).zip(head.iter().chain(piece)) {
            // SAFETY: in the register page.
            unsafe { store(at + offset, byte.into(), 1) };
        }
    }
    let epoch = u64::from(epoch);
    // SAFETY: in the register page.
    unsafe {
        store(RING + HEAD, epoch << 32, 8);
        store(RING + TAIL, epoch << 32 | slots, 8);
        store(RING + EPOCH, epoch, 4);
    }
    hypercall(number::KICK, device::CONSOLE);
}

/// The number behind `key=` in the boot arguments, as they were at the start; the last one counts.
pub fn argument(key: &str) -> Option<u64> {
    let mut text = [0; 256];
    for (offset, byte) in (0..).zip(text.iter_mut()) {
        *byte = load(REGISTER_PAGE + BOOT_ARGS + offset).to_le_bytes()[0];
    }
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    let text = core::str::from_utf8(&text[..end]).ok()?;
    let words = text.split(' ').filter_map(|word| word.split_once('='));
    words.filter(|(name, _)| *name == key).filter_map(|(_, value)| value.parse().ok()).next_back()
}

struct Line {
    text: [u8; 240],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.text.len() - self.len;
        let piece = &text.as_bytes()[..text.len().min(room)];
        self.text[self.len..self.len + piece.len()].copy_from_slice(piece);
        self.len += piece.len();
        Ok(())
    }
}
