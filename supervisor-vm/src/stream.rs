//! A connection, as the SSH library wants it.

use alloc::rc::Rc;
use core::fmt;
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use ilwaco::net::TcpStream;
use ilwaco::sync::Mutex;

/// A TCP connection that can be given up.
pub struct Stream {
    /// Others may see whether it is open; only the library reads and writes it.
    tcp: Rc<Mutex<TcpStream>>,
    given_up: bool,
    last_written: usize,
}

/// The connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection broke")
    }
}

impl core::error::Error for Broken {}

impl embedded_io_async::Error for Broken {
    fn kind(&self) -> ErrorKind {
        ErrorKind::ConnectionReset
    }
}

impl Stream {
    /// Over this connection.
    pub fn new(tcp: Rc<Mutex<TcpStream>>) -> Stream {
        Stream { tcp, given_up: false, last_written: 0 }
    }

    /// Bytes of what was written last: the library writes packet by packet.
    pub fn last_written(&self) -> usize {
        self.last_written
    }

    /// From now on it reads as if the peer had ended it.
    pub fn give_up(&mut self) {
        self.given_up = true;
    }
}

impl ErrorType for Stream {
    type Error = Broken;
}

impl Read for Stream {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        if self.given_up {
            return Ok(0);
        }
        self.tcp.lock().await.read(buffer).await.map_err(|_| Broken)
    }
}

impl Write for Stream {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        self.tcp.lock().await.write_all(bytes).await.map_err(|_| Broken)?;
        self.last_written = bytes.len();
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        self.tcp.lock().await.flush().await.map_err(|_| Broken)
    }
}
