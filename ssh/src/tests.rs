//! A server and a client with one another, well and badly.

mod channels;
mod exchange;
mod login;

use crate::channel::{Size, Terminal, WINDOW, WINDOW_BESIDE, Wanted};
use crate::client::Client;
use crate::connection::{ATTEMPTS, CHANNELS, Connection, Event};
use crate::end::End;
use crate::number::*;
use crate::serving::{Gone, Stream};
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
