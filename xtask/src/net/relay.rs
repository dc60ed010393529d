//! Bytes between a stream on the host and a socket into the machine, half-closes and resets included.

use mio::net::TcpStream;
use smoltcp::socket::tcp::{self, State};
use socket2::SockRef;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

/// Bytes that a connection may hold for each direction.
const BUFFER: usize = 64 * 1024;
/// Bytes that go to a guest before it has acknowledged any: they are kept, in case it has to be asked again.
const FIRST: usize = 16 * 1024;
/// A guest that leaves bytes, or the end of a connection, unacknowledged for so long is given up.
const GUEST_SILENCE: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(60);

/// How a connection stands after bytes were moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It goes on.
    GoesOn,
    /// Both ends have said everything.
    Finished,
    /// The guest has reset it before it took anything: it can be asked again.
    NeverTaken,
    /// The guest has reset it.
    GuestGone,
    /// The host's end is broken.
    HostGone,
}

/// The host's end of a connection, and what is on its way.
pub struct Relay {
    stream: TcpStream,
    /// The stream may have bytes, as far as is known.
    readable: bool,
    /// The stream may take bytes, as far as is known.
    writable: bool,
    /// The host's end will send no more, and that was noticed without reading up to there.
    closing: bool,
    /// The host's end will send no more, and the guest is told.
    host_done: bool,
    /// The guest will send no more, and the host's end knows.
    guest_done: bool,
    /// What was sent to the guest while it has acknowledged nothing.
    first: Vec<u8>,
    /// How much of `first` this attempt has given to the socket.
    given: usize,
    /// The guest has acknowledged or sent something.
    taken: bool,
}

/// A socket of the host's stack as connections need it.
pub fn socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    // What an end sends goes on at once; it decides what belongs together.
    socket.set_nagle_enabled(false);
    socket.set_ack_delay(None);
    socket
}

impl Relay {
    pub fn new(stream: TcpStream) -> Relay {
        // Fails only for a stream that is gone already, which reading it will tell.
        let _ = stream.set_nodelay(true);
        Relay {
            stream,
            readable: true,
            writable: true,
            closing: false,
            host_done: false,
            guest_done: false,
            first: Vec::new(),
            given: 0,
            taken: false,
        }
    }

    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Takes note of what the system says about the stream.
    pub fn note(&mut self, event: &mio::event::Event) {
        self.readable |= event.is_readable() || event.is_error();
        self.writable |= event.is_writable() || event.is_error();
        self.closing |= event.is_read_closed() || event.is_error();
    }

    /// True when the host's end has said that it will send no more, or is gone.
    pub fn is_closing(&self) -> bool {
        self.closing || self.host_done
    }

    /// The guest is asked again, with another socket.
    pub fn again(&mut self) {
        self.given = 0;
        self.host_done = false;
    }

    /// Moves bytes. How the connection stands then.
    pub fn pump(&mut self, socket: &mut tcp::Socket<'static>) -> Progress {
        if !self.taken && (socket.can_recv() || socket.send_queue() < self.given) {
            self.taken = true;
        }
        if self.feed_guest(socket).and_then(|()| self.feed_host(socket)).is_err() {
            return Progress::HostGone;
        }
        let closed = socket.state() == State::Closed;
        let settled = socket.state() == State::Established && !self.host_done;
        socket.set_timeout((!settled || socket.send_queue() > 0).then_some(GUEST_SILENCE));
        if !socket.can_recv() {
            let ended = matches!(socket.state(), State::CloseWait | State::LastAck | State::Closing | State::TimeWait);
            if ended && !self.guest_done {
                self.guest_done = true;
                // Fails only when the host's end has gone already.
                let _ = self.stream.shutdown(Shutdown::Write);
            }
            match socket.state() {
                State::TimeWait => return Progress::Finished,
                State::Closed if self.guest_done && self.host_done => return Progress::Finished,
                _ => {}
            }
        }
        match closed {
            true if !self.taken && !self.guest_done => Progress::NeverTaken,
            // What the guest sent before it reset the connection still goes to the host's end.
            true if !socket.can_recv() => Progress::GuestGone,
            _ => Progress::GoesOn,
        }
    }

    fn feed_guest(&mut self, socket: &mut tcp::Socket<'static>) -> Result<(), ()> {
        if self.taken && self.given == self.first.len() && self.given > 0 {
            (self.first, self.given) = (Vec::new(), 0);
        }
        while socket.can_send() && !self.host_done {
            if self.given < self.first.len() {
                self.given += socket.send_slice(&self.first[self.given..]).map_err(drop)?;
                continue;
            }
            if !self.readable || (!self.taken && self.first.len() >= FIRST) {
                break;
            }
            let stream = &mut self.stream;
            let read = if self.taken {
                let result = socket.send(|space| match stream.read(space) {
                    Ok(count) => (count, Ok(count)),
                    Err(error) => (0, Err(error.kind())),
                });
                result.map_err(drop)?
            } else {
                let mut bytes = [0; 4096];
                let room = bytes.len().min(FIRST - self.first.len());
                let read = stream.read(&mut bytes[..room]).map_err(|error| error.kind());
                self.first.extend_from_slice(&bytes[..*read.as_ref().unwrap_or(&0)]);
                read
            };
            match read {
                Ok(0) => {
                    self.host_done = true;
                    socket.close();
                }
                Ok(_) | Err(ErrorKind::Interrupted) => {}
                Err(ErrorKind::WouldBlock) => self.readable = false,
                Err(_) => return Err(()),
            }
        }
        Ok(())
    }

    fn feed_host(&mut self, socket: &mut tcp::Socket<'static>) -> Result<(), ()> {
        while self.writable && socket.can_recv() {
            let stream = &mut self.stream;
            let result = socket.recv(|bytes| match stream.write(bytes) {
                Ok(count) => (count, Ok(count)),
                Err(error) => (0, Err(error.kind())),
            });
            match result {
                Ok(Ok(_)) | Ok(Err(ErrorKind::Interrupted)) => {}
                Ok(Err(ErrorKind::WouldBlock)) => self.writable = false,
                Ok(Err(_)) | Err(_) => return Err(()),
            }
        }
        Ok(())
    }

    /// Ends the host's end as the guest ended its own: with a reset.
    pub fn reset(self) {
        // Where that cannot be asked for, the host's end sees an end.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}
