//! The user-mode network between clients on the loopback interface and a guest that is played here, plugged in as QEMU is.

use super::{FIRST_VM, HOST};
use crate::machine::Forward;
use crate::manifest::model::Port;
pub use guest::FAR;
use guest::Guest;
use smoltcp::iface::{PollIngressSingleResult, SocketHandle};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

mod datagrams;
mod guest;
mod names;
mod outside;

type Stage = guest::Stage<Option<Vec<u8>>>;

const DOCUMENT: usize = 102_400;
const PATIENCE: Duration = Duration::from_secs(60);

/// What the guest does with its connections.
#[derive(Clone, Copy, Default)]
struct Habits {
    /// How many it holds at once.
    places: usize,
    /// It says nothing to openings that find no place, instead of resetting them.
    silent: bool,
    /// So many connections are reset as soon as they are made.
    evicts: usize,
    conduct: Conduct,
    /// It opens a connection to this address and says "hello" there.
    calls: Option<(Ipv4Addr, u16)>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Conduct {
    /// Answers a line with [`DOCUMENT`] bytes and the end.
    #[default]
    Serve,
    /// Sends back everything, and the end after the peer's.
    Echo,
    /// Answers a line with 1,000 bytes and a reset.
    Break,
}

fn new_socket() -> Socket<'static> {
    Socket::new(SocketBuffer::new(vec![0; 2048]), SocketBuffer::new(vec![0; 8760]))
}

/// One of the guest's places.
struct Place {
    handle: SocketHandle,
    asked: bool,
    left: usize,
}

impl Place {
    fn serve(&mut self, socket: &mut Socket<'static>, conduct: Conduct, evicts: &mut usize) {
        if !socket.is_open() {
            (self.asked, self.left) = (false, 0);
            socket.listen(80).unwrap();
        }
        if socket.state() == State::Established && *evicts > 0 {
            *evicts -= 1;
            socket.abort();
            return;
        }
        if conduct == Conduct::Echo {
            while socket.can_recv() && socket.can_send() {
                let mut bytes = [0; 512];
                let room = bytes.len().min(socket.send_capacity() - socket.send_queue());
                let len = socket.recv_slice(&mut bytes[..room]).unwrap();
                socket.send_slice(&bytes[..len]).unwrap();
            }
        } else {
            while socket.can_recv() {
                let line = socket.recv(|bytes| (bytes.len(), bytes.contains(&b'\n'))).unwrap();
                if line && !self.asked {
                    self.asked = true;
                    self.left = if conduct == Conduct::Serve { DOCUMENT } else { 1000 };
                }
            }
            while self.left > 0 && socket.can_send() {
                self.left -= socket.send_slice(&vec![b'x'; self.left]).unwrap();
            }
            if self.asked && self.left == 0 {
                match conduct {
                    Conduct::Break if socket.send_queue() == 0 => socket.abort(),
                    Conduct::Break => {}
                    _ => socket.close(),
                }
            }
        }
        if socket.state() == State::CloseWait && !socket.can_recv() && self.left == 0 {
            socket.close();
        }
    }
}

/// Plays the guest until `stop` is set. What the call brought: all bytes until the end, or none for a reset.
fn play(mut guest: Guest, habits: Habits, stop: &AtomicBool) -> Option<Vec<u8>> {
    let Guest { sockets, iface, .. } = &mut guest;
    let mut places: Vec<Place> =
        (0..habits.places).map(|_| Place { handle: sockets.add(new_socket()), asked: false, left: 0 }).collect();
    let mut evicts = habits.evicts;
    let call = habits.calls.map(|to| {
        let mut socket = new_socket();
        socket.connect(iface.context(), to, 50_000).unwrap();
        sockets.add(socket)
    });
    let (mut said, mut heard) = (false, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let now = guest.now();
        let Guest { cable, iface, sockets, .. } = &mut guest;
        for place in &mut places {
            place.serve(sockets.get_mut(place.handle), habits.conduct, &mut evicts);
        }
        let listening = |place: &Place| sockets.get::<Socket>(place.handle).state() == State::Listen;
        cable.deaf = habits.silent && !places.iter().any(listening);
        if let Some(call) = call {
            let socket = sockets.get_mut::<Socket>(call);
            if socket.can_send() && !said {
                said = true;
                socket.send_slice(b"hello").unwrap();
                socket.close();
            }
            while socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), heard.extend_from_slice(bytes))).unwrap();
            }
            match socket.state() {
                State::TimeWait => return Some(heard),
                State::Closed => return None,
                _ => {}
            }
        }
        // One frame at a time: whether there is a place is seen anew for each.
        let taken = iface.poll_ingress_single(now, cable, sockets);
        iface.poll_egress(now, cable, sockets);
        if taken == PollIngressSingleResult::None {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    None
}

/// A network with a guest that has these habits on it.
fn stage(habits: Habits) -> Stage {
    let forward = Forward { guest: FIRST_VM, port: Port::tcp(80), host_port: 0 };
    Stage::start(&[forward], move |guest, stop| play(guest, habits, stop))
}

fn connect(stage: &Stage) -> TcpStream {
    let stream = TcpStream::connect(stage.net.addresses()[0]).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What `count` clients at once get, by length.
fn burst(stage: &Stage, count: usize) -> Vec<usize> {
    let address = stage.net.addresses()[0];
    let clients: Vec<_> = (0..count).map(|_| std::thread::spawn(move || fetch(address))).collect();
    clients.into_iter().map(|client| client.join().unwrap()).collect()
}

fn fetch(address: SocketAddr) -> usize {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"please\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes.len()
}

#[test]
fn a_burst_on_a_guest_that_resets_what_it_has_no_place_for() {
    let stage = stage(Habits { places: 4, ..Habits::default() });
    assert_eq!(burst(&stage, 100), [DOCUMENT; 100]);
}

#[test]
fn a_burst_on_a_guest_that_says_nothing_when_it_is_full() {
    let stage = stage(Habits { places: 20, silent: true, ..Habits::default() });
    assert_eq!(burst(&stage, 100), [DOCUMENT; 100]);
}

#[test]
fn connections_that_are_reset_before_the_guest_took_anything_are_made_again() {
    let stage = stage(Habits { places: 8, evicts: 30, ..Habits::default() });
    assert_eq!(burst(&stage, 20), [DOCUMENT; 20]);
}

#[test]
fn both_halves_end_for_themselves_and_nothing_is_lost() {
    let stage = stage(Habits { places: 1, conduct: Conduct::Echo, ..Habits::default() });
    let mut stream = connect(&stage);
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let mut reader = stream.try_clone().unwrap();
    let echoed = std::thread::spawn(move || {
        // Slower than the sender, so that both directions fill up.
        std::thread::sleep(Duration::from_millis(300));
        let mut all = Vec::new();
        reader.read_to_end(&mut all).map(|_| all)
    });
    stream.write_all(&bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(echoed.join().unwrap().unwrap() == bytes);
}

#[test]
fn a_reset_of_the_guest_reaches_the_client_behind_what_was_sent() {
    let stage = stage(Habits { places: 1, conduct: Conduct::Break, ..Habits::default() });
    let mut stream = connect(&stage);
    stream.write_all(b"please\n").unwrap();
    let mut bytes = vec![0; 1000];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(stream.read(&mut bytes).unwrap_err().kind(), ErrorKind::ConnectionReset, "and not an end");
}

#[test]
fn a_client_that_leaves_frees_its_place() {
    let stage = stage(Habits { places: 1, silent: true, ..Habits::default() });
    for _ in 0..3 {
        drop(connect(&stage));
    }
    assert_eq!(burst(&stage, 1), [DOCUMENT]);
    assert!(stage.net.has_taken(stage.net.addresses()[0]));
}

#[test]
fn a_guest_reaches_the_loopback_interface_by_the_gateway() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        stream.write_all(&bytes.repeat(2)).unwrap();
    });
    let stage = stage(Habits { calls: Some((HOST, port)), ..Habits::default() });
    assert_eq!(stage.outcome().as_deref(), Some(&b"hellohello"[..]));
    server.join().unwrap();
}

#[test]
fn a_guest_reaches_who_is_outside() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        stream.write_all(&bytes.repeat(3)).unwrap();
    });
    let stage = stage(Habits { calls: Some((FAR, port)), ..Habits::default() });
    assert_eq!(stage.outcome().as_deref(), Some(&b"hellohellohello"[..]));
    server.join().unwrap();
}

#[test]
fn a_guest_is_refused_where_nobody_listens_and_everywhere_else() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for to in [(HOST, free), (FAR, free), (Ipv4Addr::new(192, 0, 2, 1), 80), (Ipv4Addr::LOCALHOST, free)] {
        let stage = stage(Habits { calls: Some(to), ..Habits::default() });
        assert_eq!(stage.outcome(), None, "{to:?}");
    }
}
