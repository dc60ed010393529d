//! A server and a client with one another, well and badly.

use crate::channel::{Size, Terminal, WINDOW, WINDOW_BESIDE, Wanted};
use crate::client::Client;
use crate::connection::{ATTEMPTS, CHANNELS, Connection, Event, Gone, Stream};
use crate::end::End;
use crate::number::*;
use crate::wire::{Message, Reader};
use alloc::vec;
use alloc::vec::Vec;
use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use std::string::{String, ToString};

/// Both ends, and what has happened.
struct Both {
    client: Client,
    server: Connection,
    events: Vec<Event>,
    now: u64,
    /// Bytes from the client that the server has not taken.
    wire: Vec<u8>,
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn other_key() -> SigningKey {
    SigningKey::from_bytes(&[2; 32])
}

impl Both {
    fn new(strict: bool) -> Both {
        let server = Connection::new(SigningKey::from_bytes(&[7; 32]), ChaCha20Rng::from_seed([3; 32]), 0);
        Both { client: Client::new(5, strict), server, events: Vec::new(), now: 0, wire: Vec::new() }
    }

    /// Carries bytes until neither has anything to say; the client's in pieces of so many.
    fn run_in(&mut self, piece: usize) {
        loop {
            self.wire.append(&mut self.client.output);
            let from_server = self.server.output().to_vec();
            self.server.sent(from_server.len());
            self.client.hear(&from_server);
            let mut taken_any = false;
            while !self.wire.is_empty() {
                let some = &self.wire[..piece.min(self.wire.len())];
                let mut admit =
                    |user: &str, shown: &[u8; 32]| user == "admin" && shown == key().verifying_key().as_bytes();
                let (taken, event) = self.server.receive(some, self.now, &mut admit);
                self.events.extend(event);
                self.wire.drain(..taken);
                taken_any |= taken != 0;
                if taken == 0 {
                    break;
                }
            }
            if !taken_any && self.server.output().is_empty() && self.client.output.is_empty() {
                return;
            }
        }
    }

    fn run(&mut self) {
        self.run_in(usize::MAX);
    }

    /// With keys, and asked to log in.
    fn keyed() -> Both {
        let mut both = Both::new(true);
        both.run();
        both.client.ask_to_log_in();
        both.run();
        both
    }

    /// Logged in.
    fn within() -> Both {
        let mut both = Both::keyed();
        both.client.log_in("admin", &key(), false);
        both.run();
        assert_eq!(both.server.user(), Some(*key().verifying_key().as_bytes()));
        both.client.heard.clear();
        both.events.clear();
        both
    }

    /// With a command that is served, of which the client takes so many bytes.
    fn serving(takes: u32) -> Both {
        let mut both = Both::within();
        both.client.open(40, takes);
        both.client.request(0, "exec", &Message(Vec::new()).string("vm list").0);
        both.run();
        assert_eq!(both.events, [Event::Serve(0, Wanted::Command("vm list".to_string()))]);
        both.client.heard.clear();
        both.events.clear();
        both
    }

    fn heard(&self) -> Vec<u8> {
        self.client.heard.iter().map(|payload| payload[0]).collect()
    }

    /// What was said on a channel of the client's, in one stream.
    fn said(&self, channel: u32, number: u8) -> Vec<u8> {
        let mut all = Vec::new();
        for payload in self.client.heard.iter().filter(|payload| payload[0] == number) {
            let mut reader = Reader::new(&payload[1..]);
            if reader.number() == Some(channel) {
                if number == CHANNEL_EXTENDED_DATA {
                    assert_eq!(reader.number(), Some(1));
                }
                all.extend(reader.string().expect("data"));
            }
        }
        all
    }

    fn why(&self) -> Option<&'static str> {
        self.server.end().map(|end| end.why)
    }

    fn read(&mut self, channel: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 16 * 1024];
        let len = self.server.read(channel, &mut bytes)?;
        bytes.truncate(len);
        Some(bytes)
    }
}

#[test]
fn somebody_logs_in_and_says_a_command() {
    for (strict, piece) in [(true, 1), (false, 7), (true, usize::MAX)] {
        let mut both = Both::new(strict);
        both.run_in(piece);
        assert_eq!((both.client.exchanges, both.heard()), (1, vec![EXT_INFO]), "{:?}", both.why());
        both.client.ask_to_log_in();
        both.client.ask_for_key("admin", &other_key());
        both.client.ask_for_key("admin", &key());
        both.client.log_in("admin", &key(), false);
        both.run_in(piece);
        let answers = [EXT_INFO, SERVICE_ACCEPT, USERAUTH_FAILURE, USERAUTH_PK_OK, USERAUTH_SUCCESS];
        assert_eq!(both.heard(), answers);
        both.client.open(40, 1 << 20);
        both.client.request(0, "env", &Message(Vec::new()).string("LANG").string("C").0);
        both.client.request(0, "exec", &Message(Vec::new()).string("help").0);
        both.client.data(0, b"input");
        both.run_in(piece);
        let serve = Event::Serve(0, Wanted::Command("help".to_string()));
        assert_eq!(both.events[both.events.len() - 2..], [serve, Event::Changed(0)]);
        assert_eq!(both.read(0), Some(b"input".to_vec()));
        assert_eq!(both.read(0), Some(Vec::new()));
        assert_eq!(both.server.write(0, Stream::Output, b"yes"), Ok(3));
        assert_eq!(both.server.write(0, Stream::Error, b"no"), Ok(2));
        both.client.send(&Message::new(CHANNEL_EOF).number(0).0);
        both.run_in(piece);
        assert_eq!(
            (both.said(40, CHANNEL_DATA), both.said(40, CHANNEL_EXTENDED_DATA)),
            (b"yes".to_vec(), b"no".to_vec())
        );
        assert_eq!(both.read(0), None);
        both.server.finish(0, 7);
        both.run_in(piece);
        let status = Message::new(CHANNEL_REQUEST).number(40).string("exit-status").flag(false).number(7).0;
        assert!(both.client.heard.contains(&status));
        assert_eq!(both.heard()[both.heard().len() - 2..], [CHANNEL_EOF, CHANNEL_CLOSE]);
        assert_eq!(both.server.channels(), 1, "the client has not said that it has heard");
        both.client.send(&Message::new(CHANNEL_CLOSE).number(0).0);
        both.run_in(piece);
        assert_eq!((both.server.channels(), both.why()), (0, None));
    }
}

#[test]
fn nobody_else_logs_in() {
    let mut both = Both::keyed();
    both.client.log_in("root", &key(), false);
    both.client.log_in("admin", &other_key(), false);
    both.client.log_in("admin", &key(), true);
    both.client.send(&Message::new(USERAUTH_REQUEST).string("admin").string("ssh-connection").string("none").0);
    both.client.send(
        &Message::new(USERAUTH_REQUEST)
            .string("admin")
            .string("ssh-connection")
            .string("password")
            .flag(false)
            .string("x")
            .0,
    );
    both.run();
    assert_eq!(both.heard()[2..], [USERAUTH_FAILURE; 5]);
    assert_eq!((both.server.user(), both.why()), (None, None));
    assert_eq!(both.events.iter().filter(|event| **event == Event::Forged).count(), 1);
    for _ in 0..ATTEMPTS {
        both.client.ask_for_key("admin", &other_key());
    }
    both.run();
    assert_eq!(both.why(), Some("too many keys were tried"));
    assert_eq!(both.heard().iter().filter(|number| **number == USERAUTH_FAILURE).count(), 8, "six keys and two others");
    assert_eq!(both.heard().last(), Some(&DISCONNECT));
}

#[test]
fn whoever_tries_for_ever_is_let_go() {
    let mut both = Both::keyed();
    for _ in 0..100 {
        both.client.send(&Message::new(USERAUTH_REQUEST).string("admin").string("ssh-connection").string("none").0);
        both.run();
    }
    assert_eq!(both.why(), Some("too many keys were tried"));
    // One that may log in asks for ever, too.
    let mut both = Both::keyed();
    for _ in 0..100 {
        both.client.ask_for_key("admin", &key());
        both.run();
    }
    assert_eq!(both.why(), Some("too many keys were tried"));
}

#[test]
fn nothing_is_had_without_a_login() {
    for payload in [
        Message::new(CHANNEL_OPEN).string("session").number(0).number(9).number(9).0,
        Message::new(GLOBAL_REQUEST).string("x").flag(true).0,
        Message::new(CHANNEL_CLOSE).number(0).0,
    ] {
        let mut both = Both::keyed();
        both.client.send(&payload);
        both.run();
        assert_eq!(both.why(), Some("something was asked for before the login"));
    }
    let mut both = Both::new(true);
    both.run();
    both.client.log_in("admin", &key(), false);
    both.run();
    assert_eq!(both.why(), Some("a login that was not asked for"));
}

#[test]
fn a_packet_that_was_changed_ends_it() {
    for at in [0, 4, 5, 20, 30] {
        let mut both = Both::within();
        both.client.send(&Message::new(IGNORE).string([0; 24]).0);
        both.client.output[at] ^= 1;
        both.client.send(&[0; 2048]);
        both.run();
        let why = both.why().expect("it ends");
        let changed = why == "a packet is not as it was sent";
        // Where its length was changed it may be one that none has.
        assert!(changed || (at < 4 && why.starts_with("a packet has ")), "{at}: {why}");
    }
}

#[test]
fn lengths_that_none_has() {
    for (head, why) in [
        (&[0, 0, 0x88, 0xbc, 4][..], "a packet has more than 35,000 bytes"),
        (&[255; 5], "a packet has more than 35,000 bytes"),
        (&[0, 0, 0, 4, 4], "a packet has a length that none has"),
        (&[0, 0, 0, 13, 4], "a packet has a length that none has"),
        (&[0, 0, 0, 0, 4], "a packet has a length that none has"),
        (&[0, 0, 0, 12, 12, 20], "a packet has nothing in it"),
        (&[0, 0, 0, 12, 11, 20], "a packet has nothing in it"),
        (&[0, 0, 0, 12, 3, 20], "a packet has nothing in it"),
    ] {
        let mut both = Both::new(true);
        both.client.output.extend(head);
        both.client.output.extend([0; 16]);
        let bytes = core::mem::take(&mut both.client.output);
        both.wire = bytes;
        let mut rest = &both.wire[..];
        while !rest.is_empty() && both.server.end().is_none() {
            rest = &rest[both.server.receive(rest, 0, &mut |_, _| true).0..];
        }
        assert_eq!(both.why(), Some(why), "{head:?}");
    }
    // One of the greatest length is taken.
    let mut both = Both::within();
    both.client.send(&Message::new(IGNORE).string(vec![0; 34_980]).0);
    both.run();
    assert_eq!(both.why(), None);
    both.client.send(&Message::new(IGNORE).string(vec![0; 34_996]).0);
    both.run();
    assert_eq!(both.why(), Some("a packet has more than 35,000 bytes"));
}

#[test]
fn half_a_packet_is_waited_for() {
    let mut both = Both::within();
    both.client.open(1, 100);
    let last = both.client.output.pop().expect("a packet");
    both.run();
    assert_eq!((both.server.channels(), both.why()), (0, None));
    both.client.output.push(last);
    both.run();
    assert_eq!(both.server.channels(), 1);
}

#[test]
fn other_names_than_those_of_clients() {
    for (name, good) in [
        (&b"SSH-2.0-x y\r\n"[..], true),
        (b"SSH-2.0-x\n", true),
        (b"SSH-1.99-x\r\n", false),
        (b"GET / HTTP/1.1\r\n", false),
        (b"SSH-2.0-\x07\r\n", false),
        (&[b'S'; 300], false),
        (b"\0", false),
    ] {
        let mut both = Both::new(true);
        let mut rest = name;
        while !rest.is_empty() && both.server.end().is_none() {
            rest = &rest[both.server.receive(rest, 0, &mut |_, _| true).0..];
        }
        assert_eq!(both.server.end().is_none(), good, "{name:?}");
    }
}

/// What a machine in the middle could put in or leave out unseen: [CVE-2023-48795](https://nvd.nist.gov/vuln/detail/CVE-2023-48795).
#[test]
fn nothing_else_is_said_during_the_first_exchange() {
    let ignored = Message::new(IGNORE).string("").0;
    // In front of the offer.
    let mut both = Both::new(true);
    both.client.send(&ignored);
    both.run();
    assert_eq!(both.why(), Some("something was sent before the first key exchange"));
    // Behind it.
    let mut both = Both::new(true);
    both.client.offer();
    both.client.send(&ignored);
    both.run();
    assert_eq!(both.why(), Some("something else was sent during the first key exchange"));
    // Before the client's new keys.
    let mut both = Both::new(true);
    both.client.offer();
    let bytes = core::mem::take(&mut both.client.output);
    both.wire = bytes;
    both.run();
    let mut late = Both::new(true);
    late.wire.append(&mut late.client.output);
    let hello = late.server.output().to_vec();
    late.server.sent(hello.len());
    late.client.hear(&hello);
    late.wire.append(&mut late.client.output);
    while !late.wire.is_empty() {
        let taken = late.server.receive(&late.wire, 0, &mut |_, _| true).0;
        late.wire.drain(..taken);
    }
    late.client.send(&ignored);
    late.run();
    assert_eq!(late.why(), Some("something else was sent during the first key exchange"));
    // Who does not know of that may.
    let mut both = Both::new(false);
    both.client.send(&ignored);
    both.client.offer();
    both.client.send(&ignored);
    both.run();
    assert_eq!((both.why(), both.client.exchanges), (None, 1));
    assert_eq!(both.server.end(), None);
}

#[test]
fn the_order_of_an_exchange_is_kept() {
    let exchange = "half of a key exchange that was not agreed on";
    for (payload, why) in [
        (Message::new(NEWKEYS).0, "new keys without an exchange"),
        (Message::new(ECDH_INIT).string([9; 32]).0, exchange),
        (Message::new(SERVICE_REQUEST).string("ssh-userauth").0, "something was sent before there are keys"),
        (Message::new(CHANNEL_DATA).number(0).string("").0, "something was sent before there are keys"),
        (Message::new(KEXINIT).0, "an offer of algorithms makes no sense"),
    ] {
        let mut both = Both::new(false);
        both.client.send(&payload);
        let bytes = core::mem::take(&mut both.client.output);
        both.wire = bytes;
        while !both.wire.is_empty() && both.server.end().is_none() {
            let taken = both.server.receive(&both.wire, 0, &mut |_, _| true).0;
            both.wire.drain(..taken);
        }
        assert_eq!(both.why(), Some(why));
    }
    let mut both = Both::within();
    both.client.offer();
    both.client.data(0, b"x");
    both.run();
    assert_eq!(both.why(), Some("something else was sent during a key exchange"));
}

#[test]
fn a_half_that_comes_to_nothing_is_refused() {
    for half in [&[0; 32][..], &[1; 31], &[]] {
        let mut both = Both::new(true);
        both.client.offer();
        both.client.send(&Message::new(ECDH_INIT).string(half).0);
        let bytes = core::mem::take(&mut both.client.output);
        both.wire = bytes;
        while !both.wire.is_empty() && both.server.end().is_none() {
            let taken = both.server.receive(&both.wire, 0, &mut |_, _| true).0;
            both.wire.drain(..taken);
        }
        assert_eq!(both.why(), Some("half of a key exchange is none"));
    }
}

/// Data goes both ways while the client, and the server, want new keys in the middle.
#[test]
fn keys_are_exchanged_in_the_middle_of_data() {
    for by_server in [false, true] {
        let mut both = Both::serving(1 << 24);
        let (mut written, mut read) = (Vec::new(), Vec::new());
        let mut typed = Vec::new();
        for round in 0..40_u8 {
            if round % 10 == 5 {
                if by_server {
                    both.now += 3601;
                } else {
                    both.client.offer();
                    // What the client has said before it wanted that is on its way.
                    both.run();
                }
            }
            both.client.data(0, &[round; 600]);
            typed.extend([round; 600]);
            both.wire.append(&mut both.client.output);
            // Written while the exchange goes on, where it waits.
            let bytes = [round; 900];
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let taken = both.server.write(0, Stream::Output, rest).expect("it is open");
                rest = &rest[taken..];
                both.run_in(100);
                read.extend(both.read(0).expect("it is open"));
            }
            written.extend(bytes);
        }
        both.run();
        read.extend(both.read(0).expect("it is open"));
        assert_eq!(both.why(), None);
        assert_eq!(both.client.exchanges, 5);
        assert_eq!(both.said(40, CHANNEL_DATA), written);
        assert_eq!(read, typed);
    }
}

/// While the server waits for the client's offer, it answers nothing but keeps what it has to say.
#[test]
fn answers_wait_for_new_keys() {
    let mut both = Both::within();
    both.now = 4000;
    for _ in 0..3 {
        both.client.send(&Message::new(GLOBAL_REQUEST).string("keepalive@openssh.com").flag(true).0);
    }
    both.run();
    assert_eq!((both.client.exchanges, both.heard()), (2, vec![REQUEST_FAILURE; 3]));
    // Not without an end.
    let mut both = Both::within();
    both.now = 4000;
    let mut admit = |_: &str, _: &[u8; 32]| true;
    for _ in 0..10_000 {
        both.client.send(&Message::new(CHANNEL_OPEN).string("x11").number(0).number(9).number(9).0);
        let bytes = core::mem::take(&mut both.client.output);
        both.server.receive(&bytes, both.now, &mut admit);
    }
    assert_eq!(both.why(), Some("too many requests during a key exchange"));
}

#[test]
fn no_more_is_written_than_the_client_takes() {
    let mut both = Both::serving(10);
    assert_eq!(both.server.write(0, Stream::Output, &[1; 100]), Ok(10));
    assert_eq!(both.server.write(0, Stream::Output, &[1; 100]), Ok(0));
    assert_eq!(both.server.write(0, Stream::Error, &[1; 100]), Ok(0));
    both.client.adjust(0, 5);
    both.run();
    assert_eq!(both.events, [Event::Changed(0)]);
    assert_eq!(both.server.write(0, Stream::Error, &[1; 100]), Ok(5));
    both.client.adjust(0, u32::MAX);
    both.client.adjust(0, 1);
    both.run();
    assert_eq!(both.why(), Some("a window is too large"));
}

#[test]
fn no_more_comes_than_there_is_room_for() {
    let window = usize::try_from(WINDOW).expect("small");
    let mut both = Both::serving(10);
    both.client.data(0, &vec![1; window]);
    both.run();
    assert_eq!((both.why(), both.heard()), (None, vec![]), "none is granted while nobody reads");
    assert_eq!(both.read(0).map(|read| read.len()), Some(window));
    both.run();
    assert_eq!(both.heard(), [CHANNEL_WINDOW_ADJUST]);
    // What is read byte by byte is not granted byte by byte.
    both.client.data(0, &vec![1; window]);
    both.run();
    for _ in 0..window {
        assert_eq!(both.server.read(0, &mut [0]), Some(1));
    }
    both.run();
    assert_eq!(both.heard(), [CHANNEL_WINDOW_ADJUST; 3]);
    both.client.data(0, &vec![1; window]);
    both.client.data(0, &[1]);
    both.run();
    assert_eq!(both.why(), Some("more comes than there is room for"));
}

/// Whoever asks and does not take the answers is not read any more.
#[test]
fn answers_that_nobody_takes_are_bounded() {
    let mut both = Both::within();
    for _ in 0..4000 {
        both.client.send(&Message::new(GLOBAL_REQUEST).string("x").flag(true).0);
    }
    let mut rest = &both.client.output[..];
    loop {
        let (taken, _) = both.server.receive(rest, 0, &mut |_, _| true);
        if taken == 0 {
            break;
        }
        rest = &rest[taken..];
    }
    assert!(both.server.output().len() < crate::connection::WAITING + 100 && !rest.is_empty());
}

#[test]
fn two_channels_at_once() {
    let mut both = Both::serving(1000);
    both.client.open(41, 1000);
    both.client.request(1, "shell", &[]);
    both.client.data(1, b"second");
    both.client.data(0, b"first");
    both.run();
    assert_eq!(both.events, [Event::Serve(1, Wanted::Shell), Event::Changed(1), Event::Changed(0)]);
    assert_eq!((both.read(1), both.read(0)), (Some(b"second".to_vec()), Some(b"first".to_vec())));
    assert_eq!(both.server.write(1, Stream::Output, b"b"), Ok(1));
    assert_eq!(both.server.write(0, Stream::Output, b"a"), Ok(1));
    both.server.finish(0, 0);
    assert_eq!(both.server.write(0, Stream::Output, b"a"), Err(Gone));
    both.run();
    assert_eq!((both.said(40, CHANNEL_DATA), both.said(41, CHANNEL_DATA)), (b"a".to_vec(), b"b".to_vec()));
    // The second one has less room.
    both.client.data(1, &vec![0; usize::try_from(WINDOW_BESIDE).expect("small") + 1]);
    both.run();
    assert_eq!(both.why(), Some("more comes than there is room for"));
}

#[test]
fn channels_are_bounded_and_used_again() {
    let mut both = Both::within();
    for number in 0..u32::try_from(CHANNELS).expect("few") + 1 {
        both.client.open(number, 10);
    }
    both.run();
    let opened = both.heard();
    assert_eq!(opened.iter().filter(|number| **number == CHANNEL_OPEN_CONFIRMATION).count(), CHANNELS);
    assert_eq!(opened.last(), Some(&CHANNEL_OPEN_FAILURE));
    // One that nobody serves is closed at once; one that is served when that is done.
    both.client.request(1, "shell", &[]);
    both.client.send(&Message::new(CHANNEL_CLOSE).number(0).0);
    both.client.send(&Message::new(CHANNEL_CLOSE).number(1).0);
    both.run();
    assert_eq!(both.server.channels(), CHANNELS - 1);
    assert!(!both.server.is_open(1));
    assert_eq!(both.read(1), None);
    both.server.finish(1, 0);
    both.run();
    assert_eq!((both.server.channels(), both.why()), (CHANNELS - 2, None));
    assert_eq!(both.heard().iter().filter(|number| **number == CHANNEL_CLOSE).count(), 2);
    both.client.send(&Message::new(CHANNEL_CLOSE).number(1).0);
    both.run();
    assert_eq!(both.why(), Some("there is no such channel"));
}

#[test]
fn terminals_have_a_size_that_changes() {
    let pty = |columns: u32, rows: u32| {
        let sizes = [columns, rows, 0, 0].into_iter().fold(Message(Vec::new()).string("xterm\n"), Message::number);
        sizes.string([0]).0
    };
    let change =
        |columns: u32, rows: u32| [columns, rows, 0, 0].into_iter().fold(Message(Vec::new()), Message::number).0;
    let mut both = Both::within();
    both.client.open(40, 1000);
    both.client.request(0, "pty-req", &pty(132, 50));
    both.client.request(0, "shell", &[]);
    both.run();
    let size = Size { columns: 132, rows: 50 };
    assert_eq!(both.server.terminal(0), Some(&Terminal { kind: "xterm".to_string(), size }));
    both.client.request(0, "window-change", &change(0, 1 << 31));
    both.run();
    assert_eq!(both.server.size(0), Some(Size { columns: 80, rows: 1000 }));
    // None once it is served, and no second command.
    both.client.request(0, "pty-req", &pty(1, 1));
    both.client.request(0, "shell", &[]);
    both.client.request(0, "subsystem", &Message(Vec::new()).string("sftp").0);
    both.client.request(0, "x11-req", &[]);
    both.run();
    assert_eq!(both.heard()[both.heard().len() - 4..], [CHANNEL_FAILURE; 4]);
    both.client.data(0, b"vm li\x03st");
    both.run();
    assert!(both.server.take_interrupt(0) && !both.server.take_interrupt(0));
    assert_eq!(both.read(0), Some(b"st".to_vec()));
    both.client.request(0, "signal", &Message(Vec::new()).string("INT").0);
    both.client.request(0, "signal", &Message(Vec::new()).string("USR1").0);
    both.run();
    assert!(both.server.take_interrupt(0) && !both.server.take_interrupt(0));
    // Without a terminal Ctrl-C is a byte as others.
    both.client.open(41, 1000);
    both.client.request(1, "shell", &[]);
    both.client.request(1, "window-change", &change(1, 1));
    both.client.data(1, b"\x03");
    both.run();
    assert!(!both.server.take_interrupt(1) && both.server.size(1).is_none());
}

#[test]
fn what_is_not_there_is_refused() {
    let mut both = Both::within();
    both.client.send(
        &Message::new(CHANNEL_OPEN)
            .string("direct-tcpip")
            .number(4)
            .number(9)
            .number(9)
            .string("a")
            .number(1)
            .string("b")
            .number(2)
            .0,
    );
    both.client.send(&Message::new(CHANNEL_OPEN).string("x11").number(5).number(9).number(9).0);
    both.client.send(&Message::new(GLOBAL_REQUEST).string("tcpip-forward").flag(true).string("").number(0).0);
    both.client.send(&Message::new(GLOBAL_REQUEST).string("no-more-sessions@openssh.com").flag(false).0);
    both.client.open(6, 9);
    both.client.send(&[192]);
    both.client.send(&[DEBUG, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    both.run();
    let refused = [CHANNEL_OPEN_FAILURE, CHANNEL_OPEN_FAILURE, REQUEST_FAILURE, CHANNEL_OPEN_FAILURE, UNIMPLEMENTED];
    assert_eq!((both.heard(), both.why()), (refused.to_vec(), None));
    let mut both = Both::within();
    both.client.open(40, 1000);
    let long: String = "a".repeat(crate::requests::COMMAND + 1);
    both.client.request(0, "exec", &Message(Vec::new()).string(long).0);
    both.client.request(0, "exec", &Message(Vec::new()).string([255]).0);
    both.run();
    assert_eq!(both.heard(), [CHANNEL_OPEN_CONFIRMATION, CHANNEL_FAILURE, CHANNEL_FAILURE]);
    both.client.send(&[DISCONNECT, 0, 0, 0, 11]);
    both.run();
    assert_eq!(both.server.end(), Some(End::new(0, "the client has ended it")));
}

proptest! {
    /// Whatever is said, sealed as it should be, ends the connection or not: it does no harm.
    #[test]
    fn whatever_is_said_does_no_harm(payloads in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..80)), 0..20)) {
        let mut both = Both::serving(1000);
        for (number, rest) in payloads {
            let mut payload = vec![number];
            payload.extend(rest);
            both.client.send(&payload);
            let bytes = core::mem::take(&mut both.client.output);
            both.wire = bytes;
            while !both.wire.is_empty() {
                let taken = both.server.receive(&both.wire, 0, &mut |_, _| false).0;
                if taken == 0 {
                    break;
                }
                both.wire.drain(..taken);
            }
            let waits = both.server.output().len();
            both.server.sent(waits);
        }
    }
}
