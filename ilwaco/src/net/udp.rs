//! UDP sockets.

use super::{Error, with};
use alloc::vec;
use core::future::poll_fn;
use core::net::SocketAddr;
use core::task::Poll;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, SendError, Socket};

/// Datagrams that wait in a socket in each direction at most.
const DATAGRAMS: usize = 8;
/// Bytes of datagrams that wait in a socket in each direction at most.
const BYTES: usize = 4096;

/// A UDP socket. Of what arrives faster than it is received, eight datagrams or 4 KiB wait in its buffer, and 64 beside it while there is memory. What
/// arrives then is lost.
#[derive(Debug)]
pub struct UdpSocket {
    handle: SocketHandle,
}

impl UdpSocket {
    /// Receives at `port` on all addresses of this VM.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for port 0, [`Error::AddrInUse`], [`Error::NoNetwork`] without a NIC.
    pub fn bind(port: u16) -> Result<UdpSocket, Error> {
        with(|stack| {
            let taken = stack.datagrams.iter().any(|(_, socket)| match socket {
                smoltcp::socket::Socket::Udp(socket) => socket.endpoint().port == port,
                _ => false,
            });
            if taken {
                return Err(Error::AddrInUse);
            }
            let buffer = || PacketBuffer::new(vec![PacketMetadata::EMPTY; DATAGRAMS], vec![0; BYTES]);
            let mut socket = Socket::new(buffer(), buffer());
            socket.bind(port).map_err(|_| Error::InvalidInput)?;
            let handle = stack.datagrams.add(socket);
            stack.say_listens();
            Ok(UdpSocket { handle })
        })
    }

    /// Receives a datagram; what does not fit into `buffer` is lost. Its length and its sender.
    ///
    /// # Errors
    /// [`Error::NoNetwork`] when there is none any more.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr), Error> {
        poll_fn(|cx| {
            let received = with(|stack| {
                if let Some((bytes, from)) = stack.waiting.take(self.handle) {
                    let len = bytes.len().min(buffer.len());
                    buffer[..len].copy_from_slice(&bytes[..len]);
                    return Ok(Some((len, from)));
                }
                let socket = stack.datagrams.get_mut::<Socket>(self.handle);
                Ok(match socket.recv() {
                    Ok((bytes, metadata)) => {
                        let len = bytes.len().min(buffer.len());
                        buffer[..len].copy_from_slice(&bytes[..len]);
                        Some((len, SocketAddr::from(metadata.endpoint)))
                    }
                    Err(_) => {
                        socket.register_recv_waker(cx.waker());
                        None
                    }
                })
            });
            received.transpose().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Sends a datagram; waits while the buffer is full.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when it does not fit into a packet of the wire (1,472 bytes, 1,452 with IPv6): nothing is sent in pieces; [`Error::Unreachable`] when the address cannot be sent to.
    pub async fn send_to(&self, bytes: &[u8], to: SocketAddr) -> Result<(), Error> {
        let headers = if to.is_ipv4() { 20 + 8 } else { 40 + 8 };
        if bytes.len() > usize::from(super::paths::WIDE) - headers {
            return Err(Error::InvalidInput);
        }
        poll_fn(|cx| {
            let sent = with(|stack| {
                stack.touch_datagrams();
                let socket = stack.datagrams.get_mut::<Socket>(self.handle);
                match socket.send_slice(bytes, to) {
                    Ok(()) => Ok(Some(())),
                    Err(SendError::BufferFull) => {
                        socket.register_send_waker(cx.waker());
                        Ok(None)
                    }
                    Err(SendError::Unaddressable) => Err(Error::Unreachable),
                }
            });
            sent.transpose().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        let _ = with(|stack| {
            stack.datagrams.remove(self.handle);
            stack.waiting.forget(self.handle);
            stack.say_listens();
            Ok(())
        });
    }
}
