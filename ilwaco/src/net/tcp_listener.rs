//! Ports at which a program accepts connections.

use super::listener::Listener;
use super::tcp::TcpStream;
use super::{Error, with};
use core::future::poll_fn;
use core::task::{Context, Poll};

/// Accepts TCP connections. Connections are answered, and their handshakes completed, also while nobody accepts them. Until
/// a handshake is complete, nothing of it is kept.
#[derive(Debug)]
pub struct TcpListener {
    port: u16,
}

impl TcpListener {
    /// Listens at `port` on all addresses of this VM.
    ///
    /// # Errors
    /// [`Error::AddrInUse`] when somebody does already, [`Error::InvalidInput`] for port 0, [`Error::NoNetwork`] without a NIC.
    pub fn bind(port: u16) -> Result<TcpListener, Error> {
        if port == 0 {
            return Err(Error::InvalidInput);
        }
        with(|stack| {
            if stack.listeners.iter().any(|listener| listener.port == port) {
                return Err(Error::AddrInUse);
            }
            stack.listeners.push(Listener::new(port));
            stack.say_listens();
            Ok(TcpListener { port })
        })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The next connection.
    ///
    /// # Errors
    /// [`Error::NoNetwork`] when there is none any more.
    pub async fn accept(&self) -> Result<TcpStream, Error> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<TcpStream, Error>> {
        let accepted = with(|stack| {
            let listener = stack.listeners.iter_mut().find(|listener| listener.port == self.port);
            let listener = listener.ok_or(Error::NoNetwork)?;
            let Some(index) = listener.queue.pop_front() else {
                if !listener.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    listener.waker = Some(cx.waker().clone());
                }
                return Ok(None);
            };
            stack.accept(index);
            stack.queued -= 1;
            stack.keep_promises();
            Ok(Some(TcpStream::own(index)))
        });
        match accepted {
            Ok(Some(stream)) => Poll::Ready(Ok(stream)),
            Ok(None) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        let _ = with(|stack| {
            stack.forget_listener(self.port);
            Ok(())
        });
    }
}
