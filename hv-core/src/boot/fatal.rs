//! The message that the core ends with. What is wrong and what to do about it the loader has left as data.

use super::check::Field;
use abi::boot::{FailureWords, MAX_FAILURES, failure};
use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

/// Words for each failure; none until the record has been checked.
static WORDS: Words =
    Words { set: AtomicBool::new(false), list: core::cell::UnsafeCell::new([FailureWords::NONE; MAX_FAILURES]) };

struct Words {
    set: AtomicBool,
    list: core::cell::UnsafeCell<[FailureWords; MAX_FAILURES]>,
}

// SAFETY: the list is written once, before `set`, and only read after it.
unsafe impl Sync for Words {}

/// Keeps the words. Called once, at boot, on the one CPU that runs.
pub fn set_words(words: &[FailureWords; MAX_FAILURES]) {
    if !WORDS.set.load(Ordering::Acquire) {
        // SAFETY: nobody reads it before `set`, and nobody else writes it.
        unsafe { *WORDS.list.get() = *words };
        WORDS.set.store(true, Ordering::Release);
    }
}

/// Ends the machine's work with a failure of [`failure`], and why.
pub fn fatal(code: u32, detail: fmt::Arguments<'_>) -> ! {
    let set = WORDS.set.load(Ordering::Acquire);
    // SAFETY: once `set`, nobody writes it.
    let words = if set { unsafe { &*WORDS.list.get() } } else { const { &[FailureWords::NONE; MAX_FAILURES] } };
    let words = words.iter().find(|words| words.code == code).unwrap_or(const { &FailureWords::NONE });
    base::fatal::fatal(code, text(&words.cause), detail, text(&words.remedy))
}

/// Refuses the boot record: a field, and what it holds.
pub fn refuse(field: Field, value: u64) -> ! {
    fatal(failure::BOOT_RECORD, format_args!("boot record, field {field:?}, value {value:#x}"))
}

/// The panic handler.
pub fn panicked(info: &PanicInfo<'_>) -> ! {
    let at = info.location();
    let (file, line) = at.map_or(("?", 0), |at| (at.file(), at.line()));
    fatal(failure::PANIC, format_args!("{} ({file}:{line})", info.message()))
}

/// Zero-padded bytes as text; bytes that are no text count as none.
fn text(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    core::str::from_utf8(&bytes[..end]).unwrap_or("")
}
