//! What clients send to the operator's VM: strangers any bytes, and those who have logged in any messages, sealed as they should be.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use ssh::client::Client;
use ssh::connection::CHANNELS;
use ssh::packet::PACKET;
use ssh::{Connection, Event, SigningKey, Stream, Wanted};

/// The number of a message that answers a key exchange.
const KEX_REPLY: u8 = 31;
/// What stands in front of an input of somebody who has logged in; strangers begin with `S`, or with noise.
const WITHIN: u8 = 0xff;
/// Bytes of what waits to be sent at most: what may, one message of a channel, and what one packet, and keys, are answered with.
const MOST: usize = 24 * 1024;

fn server() -> Connection {
    Connection::new(SigningKey::from_bytes(&[7; 32]), ChaCha20Rng::from_seed([3; 32]), 0)
}

/// Any input: whether it was good enough to go deep.
pub fn run(data: &[u8]) -> bool {
    match data.split_first() {
        Some((&WITHIN, rest)) => within(rest),
        _ => stranger(data),
    }
}

/// Any bytes of somebody who has not logged in; whether they were answered with the server's half of the keys.
fn stranger(data: &[u8]) -> bool {
    let mut server = server();
    let mut rest = data;
    let mut answered = false;
    while !rest.is_empty() && server.end().is_none() {
        let mut admit = |_: &str, _: &[u8; 32]| panic!("nobody has shown that a packet is his own");
        let (taken, event) = server.receive(rest, 0, &mut admit);
        assert!(matches!(event, None | Some(Event::All)), "{event:?}");
        rest = &rest[taken..];
        // A packet of its own that is not encrypted: length, padding, number.
        answered |= server.output().windows(6).any(|bytes| bytes[..2] == [0, 0] && bytes[5] == KEX_REPLY);
        assert!(server.output().len() < MOST);
        if taken == 0 {
            let waits = server.output().len();
            assert!(waits != 0, "it takes nothing, and waits for nothing");
            server.sent(waits);
        }
    }
    assert!(server.user().is_none(), "somebody is in who has not logged in");
    answered
}

/// Carries what both have to say, until neither has anything.
fn carry(client: &mut Client, server: &mut Connection, served: &mut [bool; CHANNELS], now: u64) -> bool {
    let mut bytes = core::mem::take(&mut client.output);
    let mut deep = false;
    while server.end().is_none() {
        let own = SigningKey::from_bytes(&[1; 32]);
        let mut admit = |user: &str, key: &[u8; 32]| user == "admin" && key == own.verifying_key().as_bytes();
        let (taken, event) = server.receive(&bytes, now, &mut admit);
        bytes.drain(..taken);
        if let Some(Event::Serve(channel, wanted)) = &event {
            assert!(!core::mem::replace(&mut served[*channel], true), "a channel is served twice");
            if let Wanted::Command(line) = wanted {
                assert!(line.len() <= ssh::requests::COMMAND);
            }
            deep = true;
        }
        assert!(server.output().len() < MOST);
        let output = server.output().to_vec();
        server.sent(output.len());
        client.hear(&output);
        bytes.append(&mut client.output);
        if taken == 0 && output.is_empty() {
            break;
        }
    }
    deep
}

/// Messages of somebody who has logged in, each behind its length in two bytes; between them the server does what it does. Whether a channel was served.
fn within(data: &[u8]) -> bool {
    let (mut client, mut server, mut served) = (Client::new(5, true), server(), [false; CHANNELS]);
    let mut now = 0;
    carry(&mut client, &mut server, &mut served, now);
    client.ask_to_log_in();
    client.log_in("admin", &SigningKey::from_bytes(&[1; 32]), false);
    carry(&mut client, &mut server, &mut served, now);
    assert!(server.user().is_some(), "the owner of the key is not let in");
    let (mut rest, mut deep) = (data, false);
    while let Some((head, behind)) = rest.split_at_checked(2) {
        let what = head[0] >> 6;
        let len = usize::from(u16::from_be_bytes([head[0] & 0x3f, head[1]])).min(behind.len()).min(PACKET - 16);
        let (payload, behind) = behind.split_at(len);
        rest = behind;
        let channel = usize::from(head[1]) % CHANNELS;
        match what {
            // The server's own part, with a channel.
            3 => serve(&mut server, &mut served, channel, payload),
            2 => now += 1800,
            _ if payload.is_empty() => client.offer(),
            _ => client.send(payload),
        }
        deep |= carry(&mut client, &mut server, &mut served, now);
        if server.end().is_some() {
            break;
        }
    }
    deep
}

/// Reads, writes, or ends a channel.
fn serve(server: &mut Connection, served: &mut [bool; CHANNELS], channel: usize, payload: &[u8]) {
    if !served[channel] {
        return;
    }
    let mut bytes = [0; 512];
    match payload.len() % 4 {
        0 => assert!(server.read(channel, &mut bytes).is_none_or(|len| len <= bytes.len())),
        1 => {
            let written = server.write(channel, Stream::Output, payload);
            assert!(written.is_err() || written.is_ok_and(|len| len <= payload.len()));
        }
        2 => _ = server.take_interrupt(channel),
        _ => {
            server.finish(channel, 0);
            served[channel] = false;
        }
    }
}

/// A packet in clear, with its length and its padding.
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 4 + (8 - (4 + 1 + payload.len() + 4) % 8) % 8;
    let len = u32::try_from(1 + payload.len() + padding).expect("short");
    let mut bytes = len.to_be_bytes().to_vec();
    bytes.push(u8::try_from(padding).expect("short"));
    bytes.extend_from_slice(payload);
    bytes.extend(core::iter::repeat_n(0, padding));
    bytes
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).expect("short");
    [&len.to_be_bytes()[..], bytes].concat()
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// A message of somebody who has logged in.
fn said(payload: &[&[u8]]) -> Vec<u8> {
    let payload = payload.concat();
    let len = u16::try_from(payload.len()).expect("short");
    [&len.to_be_bytes()[..], &payload].concat()
}

/// What the server does with its first channel: 0 it reads, 1 it writes, 2 it looks whether it is to stop, 3 it ends.
fn does(what: u8) -> Vec<u8> {
    [&[0xc0, what * 8][..], &vec![0; usize::from(what) * 9][..usize::from(what * 8)]].concat()
}

/// What OpenSSH's client says first: its name, what it knows, its half of the keys. And sessions, with and without a terminal.
pub fn seeds() -> Vec<Vec<u8>> {
    let lists = |kex: &str| {
        let names = [
            kex,
            "ssh-ed25519,rsa-sha2-512",
            "chacha20-poly1305@openssh.com,aes128-ctr",
            "chacha20-poly1305@openssh.com",
            "umac-64-etm@openssh.com",
            "umac-64-etm@openssh.com",
            "none,zlib@openssh.com",
            "none",
            "",
            "",
        ];
        let names = names.map(|names| string(names.as_bytes())).concat();
        packet(&[&[20][..], &[9; 16], &names, &[0; 5]].concat())
    };
    let keys = packet(&[&[30][..], &string(&[9; 32])].concat());
    let strict = "curve25519-sha256,curve25519-sha256@libssh.org,ext-info-c,kex-strict-c-v00@openssh.com";
    let name: &[u8] = b"SSH-2.0-OpenSSH_9.6\r\n";
    let new_keys = packet(&[21]);
    let opens = said(&[&[90], &string(b"session"), &numbers(&[0, 1 << 20, 1 << 15])]);
    let asks = |kind: &[u8], rest: &[u8]| said(&[&[98], &numbers(&[0]), &string(kind), &[1], rest]);
    let shell = asks(b"shell", &[]);
    let exec = asks(b"exec", &string(b"vm list"));
    let pty = asks(b"pty-req", &[string(b"xterm"), numbers(&[80, 24, 0, 0]), string(&[0])].concat());
    let types = said(&[&[94], &numbers(&[0]), &string(b"vm list\r\x03")]);
    let resizes = asks(b"window-change", &numbers(&[100, 30, 0, 0]));
    let closes = [said(&[&[96], &numbers(&[0])]), said(&[&[97], &numbers(&[0])])].concat();
    let asks_all = said(&[&[80], &string(b"keepalive@openssh.com"), &[1]]);
    let (offers, later) = (vec![0, 0], vec![0x80, 0, 0x80, 0]);
    let within = |parts: &[&[u8]]| [&[WITHIN][..], &parts.concat()].concat();
    vec![
        [name, &lists(strict), &keys].concat(),
        [name, &lists(strict), &keys, &new_keys, &[0x55; 64]].concat(),
        [name, &lists("curve25519-sha256"), &packet(&[2, 0, 0, 0, 0]), &keys].concat(),
        [name, &lists("diffie-hellman-group1-sha1"), &keys].concat(),
        b"SSH-1.5-old\r\n".to_vec(),
        within(&[&opens, &pty, &shell, &types, &does(2), &does(0), &resizes, &does(1), &asks_all, &closes, &does(3)]),
        within(&[&opens, &exec, &types, &does(0), &does(1), &does(3), &closes]),
        within(&[&opens, &opens, &exec, &offers, &types, &later, &types, &does(0), &asks_all, &does(1)]),
    ]
}
