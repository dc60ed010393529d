//! How many connections there can be, and whether there is memory for another one: the heap's, and the machine's.
//!
//! A page that has no memory when it is touched, and can have none, is the VM's end. So nothing that grows by what comes from outside touches any before
//! it is known to be there: who wants a connection is let in only if all that are there and the new one can be served ([`Promises`]), and what takes more
//! than was promised for it ([`secures_bytes`]) leaves alone what was promised to others.

use super::buffers::{CONNECTION_BYTES, RECEIVE_BYTES, SEND_BYTES};
use super::device::secure_ring;
use crate::heap;
use crate::memory::{STACK_PAGES, secure_stack};
use crate::registers::{reserved_and_held, takings};

/// Connections at once that somebody uses, however much memory there is.
pub const MAX_CONNECTIONS: usize = 1024;
/// Connections that are being closed, beside those that there may be otherwise. Beyond, the oldest is broken off.
pub const MAX_CLOSING: usize = 64;
/// What a connection takes beside its socket: the task that serves it, and what that has on the heap.
const TASK_BYTES: usize = 2048;
/// What a connection may take beyond when it likes, of memory that is kept for it: what a usual request and its answer take.
pub const PROMISED_BYTES: usize = 1024;
/// Connections that were promised as much as one more and the task that is to serve it: what those tasks leave lies about in pieces that need not serve
/// for it.
pub(super) const REPLACED: usize = 1 + TASK_BYTES.div_ceil(PROMISED_BYTES);
/// Kept beside all that for what the stack itself takes now and then.
const CUSHION: usize = 1024;
/// Memory that connections leave to the rest of the program.
const RESERVE: usize = 1 << 20;
/// For so long, in microseconds, the pages of stack and ring that were there are there, unless some were taken.
const BELIEVED_US: u64 = 20_000;
/// The least that is still free when a connection is taken.
const HEADROOM: usize = 128 << 10;

const _: () = assert!(RECEIVE_BYTES <= heap::LARGEST && SEND_BYTES <= heap::LARGEST && PROMISED_BYTES <= heap::LARGEST);

/// The most connections that somebody may use at once, in so much memory.
pub(super) fn most(memory_bytes: u64) -> usize {
    let memory = usize::try_from(memory_bytes).unwrap_or(usize::MAX);
    (memory.saturating_sub(RESERVE) / (CONNECTION_BYTES + TASK_BYTES)).clamp(8, MAX_CONNECTIONS)
}

/// True when the heap can carry so many bytes more.
fn carries_bytes(bytes: usize) -> bool {
    let (used, total) = heap::heap_usage();
    total == 0 || total.saturating_sub(used) >= HEADROOM.saturating_add(bytes)
}

/// True when so many bytes more are there, in one piece: the heap can carry them, and the machine has the memory, beside what was promised.
pub(crate) fn secures_bytes(bytes: usize) -> bool {
    carries_bytes(bytes) && heap::secure(bytes, heap::promised())
}

/// The same for what was promised to a connection: at most [`PROMISED_BYTES`] of each. False where the promise is broken, since others took more than
/// could be foreseen.
pub(crate) fn secures_promised(bytes: usize) -> bool {
    heap::secure(bytes, 0)
}

/// True when the machine keeps some frames for this VM beyond what that holds. (To hold a stack and a ring for sure it would take them, and keep them where
/// nobody goes out.)
pub(super) fn are_pages_reserved() -> bool {
    let (reserved, held) = reserved_and_held();
    usize::try_from(reserved.saturating_sub(held)).is_ok_and(|left| left >= STACK_PAGES)
}

/// What was promised, and whether pages that are not the heap's are there.
#[derive(Debug, Default)]
pub(super) struct Promises {
    /// They were when pages had been taken so often, and are believed to be for so long. Nobody takes any from a VM that runs.
    secured_at: u32,
    believed_until: u64,
}

impl Promises {
    /// True when there is memory for another connection, and for what answers it, beside `live` of which `queued` have no task yet. `is_spare`: there is a
    /// socket for it.
    pub(super) fn secure(&mut self, (live, queued): (usize, usize), is_spare: bool, now: u64) -> bool {
        let socket = if is_spare { 0 } else { CONNECTION_BYTES };
        if !carries_bytes(socket) || !self.secures_pages(now) {
            return false;
        }
        heap::secure(0, socket.saturating_add(promise(live + 1, queued + 1)))
    }

    /// There are so many connections now; `closing`: so many more that nobody has.
    #[inline]
    pub(super) fn keep(&self, (live, queued): (usize, usize), closing: usize) {
        let promise = if live + closing == 0 { 0 } else { promise(live, queued) };
        heap::promise(promise);
    }

    /// True when there is memory for what a frame takes beside the heap, to be read and to be sent.
    #[inline]
    pub(super) fn secures_pages(&mut self, now: u64) -> bool {
        let takings = takings();
        if self.secured_at != takings || now >= self.believed_until {
            if !secure_stack() || !secure_ring() {
                return false;
            }
            self.secured_at = takings;
            self.believed_until = now + BELIEVED_US;
        }
        true
    }

    /// The pages may have been given back.
    pub(super) fn forget(&mut self) {
        self.believed_until = 0;
    }
}

#[inline]
fn promise(live: usize, queued: usize) -> usize {
    // There are so few that this is nowhere near an overflow.
    CUSHION + live * PROMISED_BYTES + queued * TASK_BYTES
}
