//! TCP connections for programs.

use super::{Error, PROMISED_BYTES, Repeated, secures_bytes, secures_promised, with};
use crate::time::{Duration, timeout};
use alloc::vec::Vec;
use core::future::poll_fn;
use core::net::SocketAddr;
use core::task::{Context, Poll};
use smoltcp::socket::tcp::{RecvError, Socket, State};

/// How long a peer may take to answer a [`TcpStream::connect`].
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A TCP connection. Dropping it closes it: what was written is still delivered.
///
/// What is written leaves when the task awaits something; until then it collects.
#[derive(Debug)]
pub struct TcpStream {
    index: usize,
}

impl TcpStream {
    /// The stream of the connection in this place, whose owner the caller is.
    pub(super) fn own(index: usize) -> TcpStream {
        TcpStream { index }
    }

    /// Connects to a peer.
    ///
    /// # Errors
    /// [`Error::ConnectionRefused`] when the peer does not want to, [`Error::TimedOut`] when it does not answer,
    /// [`Error::Unreachable`] without an address of the peer's family, [`Error::TooMany`] when there are too many
    /// connections.
    pub async fn connect(peer: SocketAddr) -> Result<TcpStream, Error> {
        let index = with(|stack| stack.connect(peer.ip(), peer.port()))?;
        let stream = TcpStream { index };
        let connected = timeout(CONNECT_TIMEOUT, poll_fn(|cx| stream.poll_connected(cx))).await;
        match connected {
            Ok(result) => result.map(|()| stream),
            Err(_) => {
                stream.abort();
                Err(Error::TimedOut)
            }
        }
    }

    fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll(cx, true, |socket| match socket.state() {
            State::SynSent | State::SynReceived => Ok(None),
            State::Closed => Err(Error::ConnectionRefused),
            _ => Ok(Some(())),
        })
    }

    /// Tries `attempt`; where that is `None`, the task is woken when there is more to read (or, if `sending`, more room to
    /// write), or the connection's state changes.
    #[inline]
    fn poll<R>(
        &self,
        cx: &mut Context<'_>,
        sending: bool,
        attempt: impl FnOnce(&mut Socket<'static>) -> Result<Option<R>, Error>,
    ) -> Poll<Result<R, Error>> {
        let result = with(|stack| {
            let socket = stack.attempt(self.index).ok_or(Error::NotConnected)?.socket();
            let done = attempt(socket)?;
            if done.is_some() {
                // There may be something to send. What came to nothing has changed nothing, and a poll would find as much.
                stack.touch(self.index);
            } else if sending {
                socket.register_send_waker(cx.waker());
                stack.awaits(self.index);
            } else {
                socket.register_recv_waker(cx.waker());
                stack.waits(self.index);
            }
            Ok(done)
        });
        match result {
            Ok(Some(done)) => Poll::Ready(Ok(done)),
            Ok(None) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Two ends, of which one reads and the other one writes, at the same time.
    pub fn halves(&mut self) -> (Reading<'_>, Writing<'_>) {
        (Reading(self), Writing(self))
    }

    /// Calls `f` with some received bytes, at least one, and takes as many as `f` says. `Ok(None)`: the peer has sent everything.
    async fn take<R>(&self, mut f: impl FnMut(&[u8]) -> (usize, R)) -> Result<Option<R>, Error> {
        let taken = poll_fn(|cx| {
            self.poll(cx, false, |socket| {
                if !socket.can_recv() {
                    return match socket.recv(|_| (0, ())) {
                        Ok(()) => Ok(None),
                        Err(RecvError::Finished) => Ok(Some(None)),
                        Err(RecvError::InvalidState) => Err(Error::ConnectionReset),
                    };
                }
                socket.recv(|bytes| f(bytes)).map(|result| Some(Some(result))).map_err(|_| Error::ConnectionReset)
            })
        })
        .await;
        match taken {
            // The connection had to make room for another one: to its owner, as if the peer had ended it.
            Err(Error::NotConnected) => Ok(None),
            taken => taken,
        }
    }

    /// Whether the peer may send more: it has not said that this was all, and the connection has not broken.
    pub fn is_open(&self) -> bool {
        with(|stack| {
            let endpoint = stack.connection(self.index).ok_or(Error::NotConnected)?;
            Ok(matches!(endpoint.socket().state(), State::Established | State::FinWait1 | State::FinWait2))
        })
        .unwrap_or(false)
    }

    /// Reads some bytes, at least one; 0 when the peer has sent everything or `buffer` is empty.
    ///
    /// # Errors
    /// [`Error::ConnectionReset`] when the connection broke.
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.read_some(buffer).await
    }

    async fn read_some(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let taken = self.take(|bytes| {
            let len = bytes.len().min(buffer.len());
            buffer[..len].copy_from_slice(&bytes[..len]);
            (len, len)
        });
        Ok(taken.await?.unwrap_or(0))
    }

    /// Appends some bytes, at least one, to `buffer`, but does not let it grow beyond `limit`; 0 when the peer has sent
    /// everything or the buffer has reached the limit. There is memory for a buffer of [`super::PROMISED_BYTES`] in nearly all cases, and for a larger one
    /// if nobody else needs it.
    ///
    /// # Errors
    /// As [`TcpStream::read`], and [`Error::NoMemory`] when the buffer is full and there is no memory for a larger one. What has come can still be read.
    pub async fn read_onto(&mut self, buffer: &mut Vec<u8>, limit: usize) -> Result<usize, Error> {
        let room = limit.saturating_sub(buffer.len());
        if room == 0 {
            return Ok(0);
        }
        let taken = self.take(|bytes| {
            let len = bytes.len().min(room).min(growth(buffer, bytes.len().min(room)));
            buffer.extend_from_slice(&bytes[..len]);
            (len, len)
        });
        match taken.await? {
            Some(0) => Err(Error::NoMemory),
            taken => Ok(taken.unwrap_or(0)),
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// [`Error::ConnectionReset`] when the connection broke or [`TcpStream::finish`] was called.
    pub async fn write_all(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let len = self.write_some(rest).await?;
            rest = &rest[len..];
        }
        Ok(())
    }

    async fn write_some(&self, bytes: &[u8]) -> Result<usize, Error> {
        poll_fn(|cx| ready(with(|stack| stack.write(self.index, bytes, cx.waker())))).await
    }

    /// Sends `head`, of which it takes a copy, and behind it `body`, from where it lies. As many bytes are on their way at a time as the
    /// peer and the network take. Waits until what was written before has arrived, and not for what is sent now:
    /// [`TcpStream::sent`] does.
    ///
    /// # Errors
    /// As [`TcpStream::write_all`], and [`Error::NoMemory`] when there is none for the copy: nothing is sent then, and
    /// [`TcpStream::write_all`], which needs none, can still send the same.
    pub async fn send(&mut self, head: &[u8], body: Repeated) -> Result<(), Error> {
        poll_fn(|cx| ready(with(|stack| stack.send_content(self.index, head, body, cx.waker())))).await
    }

    /// Waits until no more than `left` bytes of what was sent by [`TcpStream::send`], and behind it, have not arrived.
    ///
    /// # Errors
    /// [`Error::ConnectionReset`] when the connection broke before.
    pub async fn sent(&mut self, left: usize) -> Result<(), Error> {
        poll_fn(|cx| {
            let done = with(|stack| stack.wait_for_content(self.index, left, cx.waker()));
            ready(done.map(|done| done.then_some(())))
        })
        .await
    }

    /// Bytes of what was sent by [`TcpStream::send`], and behind it, that have not arrived.
    pub fn unsent(&self) -> usize {
        with(|stack| Ok(stack.content_len(self.index))).unwrap_or(0)
    }

    /// Lets `fill` write into free space of the connection, at least one byte of it, and sends as many bytes as `fill` says.
    ///
    /// # Errors
    /// As [`TcpStream::write_all`].
    pub async fn write_with(&mut self, mut fill: impl FnMut(&mut [u8]) -> usize) -> Result<usize, Error> {
        // It comes behind what goes past the connection's own space.
        self.sent(0).await?;
        poll_fn(|cx| {
            self.poll(cx, true, |socket| {
                if socket.may_send() && !socket.can_send() {
                    return Ok(None);
                }
                let written = socket.send(|space| {
                    let len = fill(space).min(space.len());
                    (len, len)
                });
                written.map(Some).map_err(|_| Error::ConnectionReset)
            })
        })
        .await
    }

    /// Waits until the peer has acknowledged everything that was written.
    ///
    /// # Errors
    /// [`Error::ConnectionReset`] when the connection broke before.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.sent(0).await?;
        poll_fn(|cx| {
            self.poll(cx, true, |socket| match socket.state() {
                State::Closed if socket.send_queue() != 0 => Err(Error::ConnectionReset),
                _ if socket.send_queue() == 0 => Ok(Some(())),
                _ => Ok(None),
            })
        })
        .await
    }

    /// Writes no more: the peer sees the end when it has everything. Reading goes on.
    pub fn finish(&mut self) {
        let waits = with(|stack| Ok(stack.close_behind_content(self.index)));
        if waits != Ok(true) {
            self.change(Socket::close);
        }
    }

    /// Asks the peer whether it is still there when it has been silent for `idle`, at least a second; `None`, as at first: never. A peer
    /// that leaves eight such questions unanswered, a quarter of `idle` apart (a second at least, 75 at most), is gone: the connection
    /// breaks. Each wakes both ends, so an `idle` of minutes or hours is what is meant.
    pub fn set_keep_alive(&self, idle: Option<Duration>) {
        let idle = idle.map(|idle| u64::try_from(idle.as_micros()).unwrap_or(u64::MAX / 2));
        // Without a network there is nobody to ask.
        let _ = with(|stack| {
            stack.set_keep_alive(self.index, idle);
            Ok(())
        });
    }

    /// Closes the connection. The same as dropping it.
    pub fn close(self) {}

    /// Ends the connection at once; the peer sees a reset.
    pub fn abort(self) {
        self.change(Socket::abort);
    }

    fn change(&self, change: impl FnOnce(&mut Socket<'static>)) {
        // Without a network there is nothing left to change.
        let _ = with(|stack| {
            if let Some(endpoint) = stack.connection(self.index) {
                change(endpoint.socket());
            }
            Ok(())
        });
    }

    /// The peer's address and port, while there is a connection.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        with(|stack| Ok(stack.look(self.index).and_then(|endpoint| endpoint.socket().remote_endpoint())))
            .ok()?
            .map(SocketAddr::from)
    }
}

/// The end of a connection that reads: [`TcpStream::halves`].
#[derive(Debug)]
pub struct Reading<'s>(&'s TcpStream);

impl Reading<'_> {
    /// As [`TcpStream::read`].
    ///
    /// # Errors
    /// As there.
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.0.read_some(buffer).await
    }
}

/// The end of a connection that writes: [`TcpStream::halves`].
#[derive(Debug)]
pub struct Writing<'s>(&'s TcpStream);

impl Writing<'_> {
    /// Writes some of `bytes`, which are not empty: how many. Whoever gives up waiting has written none.
    ///
    /// # Errors
    /// As [`TcpStream::write_all`].
    pub async fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        self.0.write_some(bytes).await
    }
}

/// How many of `len` bytes more a buffer can hold, which grows for them if there is memory.
#[inline]
fn growth(buffer: &mut Vec<u8>, len: usize) -> usize {
    let free = buffer.capacity() - buffer.len();
    if free >= len {
        return len;
    }
    grow(buffer, len);
    len.min(buffer.capacity() - buffer.len())
}

#[cold]
fn grow(buffer: &mut Vec<u8>, len: usize) {
    // As a vector grows by itself, else what arrives in small pieces would be copied for each.
    let wanted = (buffer.len() + len).max(2 * buffer.capacity()).max(8);
    for capacity in [wanted, buffer.len() + len] {
        let secured = if capacity <= PROMISED_BYTES / 2 { secures_promised(capacity) } else { secures_bytes(capacity) };
        if secured {
            return buffer.reserve_exact(capacity - buffer.len());
        }
    }
}

/// What a task is told of an attempt.
#[inline]
fn ready<R>(attempt: Result<Option<R>, Error>) -> Poll<Result<R, Error>> {
    attempt.transpose().map_or(Poll::Pending, Poll::Ready)
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        let _ = with(|stack| {
            stack.disown(self.index);
            Ok(())
        });
    }
}
