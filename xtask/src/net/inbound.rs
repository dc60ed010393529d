//! The ports on the host's loopback interface that lead to guests. A client whose guest has no room for it waits in its port's
//! queue.

use super::capacity::Capacity;
use super::wire::arp_request;
use crate::machine::Forward;
use mio::net::{TcpListener, TcpStream};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a guest may leave a new connection unanswered until it is asked for its MAC, and between two such requests.
const ASK_AFTER: Duration = Duration::from_millis(20);
/// See [`ASK_AFTER`].
pub const ASK_AGAIN: Duration = Duration::from_millis(200);

/// A forwarded port.
pub struct Port {
    listener: TcpListener,
    pub forward: Forward,
    pub capacity: Capacity,
    /// Somebody may be waiting in the listener's queue, as far as is known.
    ready: bool,
    /// Connections by their numbers whose guest has to be asked once more.
    again: VecDeque<usize>,
    /// When the guest was last asked for its MAC.
    asked: Option<Instant>,
    /// The guest has taken a connection: for whoever waits for it.
    taken: Arc<AtomicBool>,
}

/// Who is next.
pub enum Next {
    /// A client that has just come.
    New(TcpStream),
    /// A connection that was tried before.
    Again(usize),
}

impl Port {
    pub fn new(listener: TcpListener, forward: Forward, taken: Arc<AtomicBool>) -> Port {
        Port { listener, forward, capacity: Capacity::new(), ready: true, again: VecDeque::new(), asked: None, taken }
    }

    /// The guest has taken a connection.
    pub fn complete(&mut self) {
        self.capacity.complete();
        self.taken.store(true, Ordering::Relaxed);
    }

    pub fn listener(&mut self) -> &mut TcpListener {
        &mut self.listener
    }

    /// Somebody has come.
    pub fn wake(&mut self) {
        self.ready = true;
    }

    /// True when somebody waits, as far as is known.
    pub fn has_clients(&self) -> bool {
        self.ready || !self.again.is_empty()
    }

    /// The client whose turn it is, when the guest has room for one more.
    pub fn next(&mut self, now: Instant) -> Option<Next> {
        if !self.capacity.has_room(now) {
            return None;
        }
        if let Some(number) = self.again.pop_front() {
            return Some(Next::Again(number));
        }
        if !self.ready {
            return None;
        }
        match self.listener.accept() {
            Ok((stream, _)) => Some(Next::New(stream)),
            Err(error) => {
                // Other errors, as too many open files, pass: it is tried again.
                self.ready = error.kind() != std::io::ErrorKind::WouldBlock;
                None
            }
        }
    }

    /// The connection `number` waits for another attempt, before all that have come later.
    pub fn wait(&mut self, number: usize) {
        let at = self.again.partition_point(|&other| other < number);
        self.again.insert(at, number);
    }

    /// The connection `number` waits no longer.
    pub fn forget(&mut self, number: usize) {
        self.again.retain(|&other| other != number);
    }

    /// A frame that asks the guest for its MAC, when a handshake has waited since `since`. The stack does so by itself, but asks only
    /// one guest in a second.
    pub fn ask_for_mac(&mut self, since: Instant, now: Instant) -> Option<Vec<u8>> {
        if now - since < ASK_AFTER || self.asked.is_some_and(|asked| now - asked < ASK_AGAIN) {
            return None;
        }
        self.asked = Some(now);
        Some(arp_request(self.forward.guest))
    }
}
