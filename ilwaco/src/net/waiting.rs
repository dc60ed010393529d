//! Datagrams that wait for their sockets' programs beside the sockets, whose buffers are small: in bursts only, and while there is memory.

use super::capacity::secures_bytes;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::SocketAddr;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp::Socket;

/// Datagrams of one socket.
const DATAGRAMS: usize = 64;

type Queue = VecDeque<(Box<[u8]>, SocketAddr)>;

/// Those of all sockets. Without any, there is no memory.
#[derive(Default)]
pub(super) struct Waiting {
    queues: Vec<(SocketHandle, Queue)>,
}

impl Waiting {
    /// Makes room in a socket for the next datagram, as far as there is some here.
    pub(super) fn relieve(&mut self, handle: SocketHandle, socket: &mut Socket<'static>) {
        if !socket.can_recv() {
            return;
        }
        let index = match self.queues.iter().position(|(of, _)| *of == handle) {
            Some(index) => index,
            None if secures_bytes(DATAGRAMS * size_of::<(Box<[u8]>, SocketAddr)>()) => {
                self.queues.push((handle, VecDeque::with_capacity(DATAGRAMS)));
                self.queues.len() - 1
            }
            None => return,
        };
        let (_, queue) = &mut self.queues[index];
        while queue.len() < DATAGRAMS
            && let Ok((bytes, _)) = socket.peek()
            && secures_bytes(bytes.len())
            && let Ok((bytes, metadata)) = socket.recv()
        {
            queue.push_back((bytes.into(), metadata.endpoint.into()));
        }
    }

    /// Takes the datagram that has waited longest for the socket.
    pub(super) fn take(&mut self, handle: SocketHandle) -> Option<(Box<[u8]>, SocketAddr)> {
        let index = self.queues.iter().position(|(of, _)| *of == handle)?;
        let (_, queue) = &mut self.queues[index];
        let first = queue.pop_front();
        if queue.is_empty() {
            self.queues.swap_remove(index);
        }
        if self.queues.is_empty() {
            self.queues = Vec::new();
        }
        first
    }

    /// There is no such socket any more.
    pub(super) fn forget(&mut self, handle: SocketHandle) {
        self.queues.retain(|(of, _)| *of != handle);
    }
}
