//! How many connections there can be, and whether there is memory for another one: the heap's, and the machine's.

use super::buffers::CONNECTION_BYTES;
use super::device::secure_ring;
use crate::memory::secure_stack;

/// Connections at once that somebody uses, however much memory there is.
pub const MAX_CONNECTIONS: usize = 1024;
/// Connections that are being closed, beside those that there may be otherwise. Beyond, the oldest is broken off.
pub const MAX_CLOSING: usize = 64;
/// What a connection takes beside its socket: the task that serves it, and what that has on the heap.
const TASK_BYTES: usize = 2048;
/// Memory that connections leave to the rest of the program.
const RESERVE: usize = 1 << 20;
/// The least that is still free when a connection is taken.
const HEADROOM: usize = 128 << 10;

/// The most connections that somebody may use at once, in so much memory.
pub(super) fn most(memory_bytes: u64) -> usize {
    let memory = usize::try_from(memory_bytes).unwrap_or(usize::MAX);
    (memory.saturating_sub(RESERVE) / (CONNECTION_BYTES + TASK_BYTES)).clamp(8, MAX_CONNECTIONS)
}

/// True when the heap can carry another connection.
fn carries() -> bool {
    carries_bytes(CONNECTION_BYTES)
}

/// True when the heap can carry so many bytes more.
fn carries_bytes(bytes: usize) -> bool {
    let (used, total) = crate::heap_usage();
    total == 0 || total.saturating_sub(used) >= HEADROOM + bytes
}

/// True when so many bytes more are there: the heap can carry them, and the machine has the memory.
pub(crate) fn secures_bytes(bytes: usize) -> bool {
    carries_bytes(bytes) && crate::heap::secure(bytes)
}

/// True when there is memory for another connection, and for what answers it.
pub(super) fn secures_connection() -> bool {
    carries() && secure_stack() && secure_ring() && crate::heap::secure(CONNECTION_BYTES + TASK_BYTES)
}
