//! What the operator types: lines from the console's input ring.

use crate::cell::global;
use crate::platform::registers;
use abi::guest::{CONSOLE_INPUT_RING, CONSOLE_TEXT_BYTES, ConsoleSlot};
use abi::ring::{HEADER_BYTES, SLOT_BYTES};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::{Poll, Waker};
use ring::{Consumer, RingError, SharedMemory};

/// Bytes of a line at most; a longer one is cut into several.
pub const LINE_MAX: usize = 4096;

/// What was taken out of the ring and not read yet, and who waits for more.
struct Typed {
    bytes: RefCell<VecDeque<u8>>,
    waker: Cell<Option<Waker>>,
}

global! {
    static TYPED: Typed = Typed { bytes: RefCell::new(VecDeque::new()), waker: Cell::new(None) };
}

/// The core has put something into the ring.
pub(crate) fn arrived() {
    TYPED.with(|typed| {
        if let Some(waker) = typed.waker.take() {
            waker.wake();
        }
    });
}

/// As if the program started anew.
#[cfg(not(target_os = "none"))]
pub(crate) fn forget_all() {
    TYPED.with(|typed| {
        typed.bytes.borrow_mut().clear();
        typed.waker.take();
    });
}

/// The consumer's end keeps nothing that is not in the ring itself, so it is attached when it is needed.
fn attach() -> Option<Consumer<SharedMemory>> {
    let slots = crate::registers::console_input_slots();
    let bytes = HEADER_BYTES + usize::try_from(slots).ok()?.checked_mul(SLOT_BYTES)?;
    let ring = registers().sub(usize::try_from(CONSOLE_INPUT_RING).ok()?, bytes)?;
    Consumer::attach_contiguous(&ring, slots).ok()
}

/// Takes what is in the ring, as long as there is room for a slot beside what was taken before.
fn take(bytes: &mut VecDeque<u8>) {
    let Some(mut ring) = attach() else { return };
    while bytes.len() + CONSOLE_TEXT_BYTES < LINE_MAX {
        let words = match ring.take_words() {
            Ok(Some(words)) => words,
            Err(RingError::EpochChanged) => continue,
            Ok(None) | Err(RingError::Corrupt) => break,
        };
        let slot: ConsoleSlot = zerocopy::transmute!(words);
        bytes.extend(&slot.text[..usize::from(slot.len).min(CONSOLE_TEXT_BYTES)]);
        if slot.more == 0 {
            bytes.push_back(b'\n');
        }
    }
    ring.release();
}

/// Waits until `read` makes something of what was typed. Nothing is lost where this is dropped before.
async fn next<R>(mut read: impl FnMut(&mut VecDeque<u8>) -> Option<R>) -> R {
    poll_fn(|cx| {
        TYPED.with(|typed| {
            let mut bytes = typed.bytes.borrow_mut();
            take(&mut bytes);
            let found = read(&mut bytes);
            if bytes.is_empty() {
                // Who types seldom needs no memory meanwhile.
                *bytes = VecDeque::new();
            }
            if let Some(found) = found {
                return Poll::Ready(found);
            }
            typed.waker.set(Some(cx.waker().clone()));
            Poll::Pending
        })
    })
    .await
}

/// Reads the next line that the operator types, without its end; what is not UTF-8 is replaced. One of more than [`LINE_MAX`] bytes comes in
/// pieces. Waits for ever where nobody types. One task at a time may read.
pub async fn read_line() -> String {
    let line = next(|bytes| {
        let len = match bytes.iter().position(|&byte| byte == b'\n') {
            Some(len) => len,
            None if bytes.len() + CONSOLE_TEXT_BYTES >= LINE_MAX => {
                return Some(bytes.drain(..).collect::<Vec<u8>>());
            }
            None => return None,
        };
        let line = bytes.drain(..len).collect();
        bytes.pop_front();
        Some(line)
    })
    .await;
    String::from_utf8_lossy(&line).into_owned()
}

/// Reads some bytes that the operator types, at least one, newlines included; 0 only where `buffer` is empty. One task at a time may read.
pub async fn read(buffer: &mut [u8]) -> usize {
    if buffer.is_empty() {
        return 0;
    }
    next(|bytes| {
        let len = bytes.len().min(buffer.len());
        for (to, byte) in buffer.iter_mut().zip(bytes.drain(..len)) {
            *to = byte;
        }
        (len != 0).then_some(len)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on;
    use crate::sim::{Sim, SimEvent};
    use crate::time::{Duration, timeout};
    use std::vec;

    #[test]
    fn lines_are_read_as_they_were_typed() {
        let _sim = Sim::new("");
        let long = "0123456789".repeat(20);
        Sim::type_in("one\n\n");
        Sim::type_in(&long);
        Sim::type_in(" end\nrest");
        block_on(async {
            assert_eq!([read_line().await, read_line().await], ["one", ""]);
            assert_eq!(read_line().await, long.clone() + " end");
            assert!(timeout(Duration::from_millis(5), read_line()).await.is_err());
            let mut bytes = vec![0; 100];
            assert_eq!(read(&mut bytes).await, 4);
            assert_eq!(&bytes[..4], b"rest");
        });
    }

    #[test]
    fn a_line_wakes_a_guest_that_idles() {
        let _sim = Sim::new("");
        let mut typed = false;
        Sim::on_idle(move |now, deadline| {
            if !core::mem::replace(&mut typed, true) {
                Sim::type_in("hello\n");
                return SimEvent::Wake(now + 1000);
            }
            SimEvent::Nothing(deadline)
        });
        assert_eq!(block_on(read_line()), "hello");
    }

    #[test]
    fn a_line_without_an_end_comes_in_pieces() {
        let _sim = Sim::new("");
        block_on(async {
            let mut all = String::new();
            for _ in 0..20 {
                Sim::type_in(&"x".repeat(400));
                if let Ok(piece) = timeout(Duration::from_millis(1), read_line()).await {
                    assert!(
                        piece.len() > LINE_MAX - 2 * CONSOLE_TEXT_BYTES && piece.len() <= LINE_MAX,
                        "{}",
                        piece.len()
                    );
                    all += &piece;
                }
            }
            assert!(all.len() >= LINE_MAX - 2 * CONSOLE_TEXT_BYTES && all == "x".repeat(all.len()));
        });
    }
}
