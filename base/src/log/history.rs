//! The last of what was logged, for those who come later.

use super::Stretch;
use abi::boot::Said;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// Bytes that are kept.
const BYTES: usize = 64 * 1024;

static HISTORY: History<BYTES> = History::new();

/// A text's last `N` bytes. One CPU runs and nobody interrupts the log, so plain loads and stores do.
struct History<const N: usize> {
    bytes: [AtomicU8; N],
    /// Position behind the last byte.
    end: AtomicU64,
}

impl<const N: usize> History<N> {
    const fn new() -> Self {
        History { bytes: [const { AtomicU8::new(0) }; N], end: AtomicU64::new(0) }
    }

    fn place(&self, position: u64) -> &AtomicU8 {
        // Below `N`.
        &self.bytes[crate::memory::phys::index(position % N as u64)]
    }

    fn keep(&self, byte: u8) {
        let end = self.end.load(Relaxed);
        self.place(end).store(byte, Relaxed);
        self.end.store(end + 1, Relaxed);
    }

    fn read(&self, from: u64, to: &mut [u8]) -> Stretch {
        let end = self.end.load(Relaxed);
        let stretch = Stretch::of(&(end.saturating_sub(N as u64)..end), from, to.len());
        for (byte, position) in to[..stretch.len].iter_mut().zip(stretch.from..) {
            *byte = self.place(position).load(Relaxed);
        }
        stretch
    }
}

/// Keeps a byte of the log. Lines end with a newline.
pub(super) fn keep(byte: u8) {
    if byte != b'\r' {
        HISTORY.keep(byte);
    }
}

/// What was logged from a position on, `u64::MAX` for the earliest that is kept: as much as there is room for.
pub fn history(from: u64, to: &mut [u8]) -> Stretch {
    HISTORY.read(from, to)
}

/// Goes on with the history as another program has left it.
pub fn resume_history(from: &Said) {
    from.text().iter().copied().for_each(keep);
}

/// For tests on the host, where nothing else is kept: as if these bytes were logged.
#[cfg(any(test, feature = "fake"))]
pub fn keep_in_history(bytes: &[u8]) {
    bytes.iter().copied().for_each(keep);
}

#[cfg(any(test, feature = "boot"))]
#[path = "saved.rs"]
pub(super) mod saved;

#[cfg(test)]
mod tests {
    use super::saved::save_history;
    use super::*;

    #[test]
    fn the_last_bytes_are_kept_and_who_comes_late_hears_how_many_it_missed() {
        let history = History::<8>::new();
        let read = |from, most| {
            let mut bytes = vec![0; most];
            let Stretch { from, len, missed } = history.read(from, &mut bytes);
            (from, String::from_utf8(bytes[..len].to_vec()).expect("ASCII"), missed)
        };
        let keep = |text: &str| text.bytes().for_each(|byte| history.keep(byte));
        assert_eq!(read(u64::MAX, 9), (0, String::new(), 0));
        keep("abcde");
        assert_eq!(read(u64::MAX, 3), (0, "abc".into(), 0));
        assert_eq!(read(3, 9), (3, "de".into(), 0));
        keep("fghijk");
        assert_eq!(read(u64::MAX, 9), (3, "defghijk".into(), 0));
        assert_eq!(read(1, 3), (3, "def".into(), 2));
        assert_eq!(read(10, 3), (10, "k".into(), 0));
        assert_eq!(read(1 << 63, 3), (11, String::new(), 0), "nothing was ever there");
    }

    #[test]
    fn lines_end_with_a_newline_alone_and_the_last_ones_are_handed_on() {
        keep_in_history(b"one\r\ntwo\r\n");
        let mut said = Said { bytes: 9, reserved: 0, text: [b'x'; 8184] };
        save_history(&mut said);
        assert_eq!(said.text(), b"one\ntwo\n");
        resume_history(&said);
        let mut bytes = [0; 20];
        let all = history(u64::MAX, &mut bytes);
        assert_eq!((&bytes[..all.len], all.missed), (&b"one\ntwo\none\ntwo\n"[..], 0));
        keep_in_history(&[b'z'; 10_000]);
        save_history(&mut said);
        assert!(said.text() == [b'z'; 8184]);
    }
}
