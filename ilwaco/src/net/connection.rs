//! One TCP connection: its socket, its buffers, and who has it.

use alloc::vec;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Duration;

/// Bytes that a connection can have received and not yet read: a request with all its headers.
pub const RECEIVE_BYTES: usize = 2048;
/// Bytes that a connection can have sent and not yet got acknowledged: six full segments.
pub const SEND_BYTES: usize = 6 * 1460;
/// Memory of a connection, up to what the heap rounds.
pub const CONNECTION_BYTES: usize = RECEIVE_BYTES + SEND_BYTES + 1024;

/// How long a connection that nobody has any more may take to end.
const LINGER: Duration = Duration::from_secs(10);

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its handshake began at `since` (microseconds).
    HalfOpen { listener: u16, since: u64 },
    /// It waits to be accepted.
    Queued,
    /// Somebody has its stream.
    Owned,
    /// It is being closed, and nobody waits for that.
    Orphan,
}

/// A socket that is the only one of its set.
pub(super) struct Endpoint {
    pub(super) set: SocketSet<'static>,
    handle: SocketHandle,
    pub(super) stage: Stage,
}

impl Endpoint {
    /// A closed socket with its buffers.
    pub(super) fn new() -> Endpoint {
        let buffer = |bytes| SocketBuffer::new(vec![0; bytes]);
        let mut socket = Socket::new(buffer(RECEIVE_BYTES), buffer(SEND_BYTES));
        // What is written in pieces leaves together anyway, when the task that writes awaits something.
        socket.set_nagle_enabled(false);
        let mut set = SocketSet::new(vec::Vec::with_capacity(1));
        let handle = set.add(socket);
        Endpoint { set, handle, stage: Stage::Orphan }
    }

    #[inline]
    pub(super) fn socket(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(self.handle)
    }

    /// Closes the socket without another word to the peer.
    pub(super) fn reset(&mut self) {
        let socket = self.socket();
        socket.abort();
        socket.set_timeout(None);
        self.stage = Stage::Orphan;
    }

    /// Nobody has the connection any more: what was written is still delivered, then it is closed.
    pub(super) fn abandon(&mut self) {
        let socket = self.socket();
        socket.close();
        socket.set_timeout(Some(LINGER));
        self.stage = Stage::Orphan;
    }
}
