//! How large the buffers of a connection are.

/// Bytes that a connection can have received and not yet read: a request with all its headers.
pub const RECEIVE_BYTES: usize = 2048;
/// Bytes that a connection can have sent and not yet got acknowledged: six full segments.
pub const SEND_BYTES: usize = 6 * 1460;
/// Memory of a connection, up to what the heap rounds.
pub const CONNECTION_BYTES: usize = RECEIVE_BYTES + SEND_BYTES + 1024;
