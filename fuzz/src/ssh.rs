//! What strangers send to the operator's VM before anything is encrypted: who they are, and their half of the key exchange.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use core::cell::Cell;
use core::convert::Infallible;
use core::task::{Context, Poll, Waker};
use embedded_io_async::{ErrorType, Read, Write};
use std::pin::pin;
use zssh::ed25519_dalek::SigningKey;
use zssh::{AuthMethod, Behavior, SecretKey, Transport};

/// Bytes of a packet at most, as the supervisor's.
const PACKET: usize = 8 * 1024;
/// The number of a message that answers a key exchange.
const KEX_REPLY: u8 = 31;

/// A client that has said everything at once and hangs up.
struct Bytes<'a> {
    left: &'a [u8],
    answered: &'a Cell<bool>,
}

impl ErrorType for Bytes<'_> {
    type Error = Infallible;
}

impl Read for Bytes<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let len = self.left.len().min(buffer.len());
        let (now, rest) = self.left.split_at(len);
        buffer[..len].copy_from_slice(now);
        self.left = rest;
        Ok(len)
    }
}

impl Write for Bytes<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.answered.set(self.answered.get() || bytes.get(5) == Some(&KEX_REPLY));
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// A server that nobody may log in to.
struct Server<'a> {
    stream: Bytes<'a>,
    random: ChaCha20Rng,
    host: SecretKey,
}

impl<'a> Behavior for Server<'a> {
    type Stream = Bytes<'a>;
    type Random = ChaCha20Rng;
    type User = ();
    type Command = ();

    fn stream(&mut self) -> &mut Bytes<'a> {
        &mut self.stream
    }

    fn random(&mut self) -> &mut ChaCha20Rng {
        &mut self.random
    }

    fn host_secret_key(&self) -> &SecretKey {
        &self.host
    }

    fn allow_user(&mut self, _: &str, _: &AuthMethod) -> Option<()> {
        panic!("nobody has shown that a packet is his own");
    }

    fn parse_command(&mut self, _: &str) {
        panic!("nobody has logged in");
    }
}

/// Any bytes of a client; whether it was answered with the server's half of the keys.
pub fn run(data: &[u8]) -> bool {
    let answered = Cell::new(false);
    let stream = Bytes { left: data, answered: &answered };
    let host = SecretKey::Ed25519 { secret_key: SigningKey::from_bytes(&[7; 32]) };
    let server = Server { stream, random: ChaCha20Rng::from_seed([3; 32]), host };
    let mut packet = vec![0; PACKET];
    let mut transport = Transport::new(&mut packet, server);
    let mut context = Context::from_waker(Waker::noop());
    // Everything is there at once, so nothing is waited for.
    match pin!(transport.accept()).poll(&mut context) {
        Poll::Ready(Ok(_)) => panic!("somebody is in who has not logged in"),
        Poll::Ready(Err(_)) => {}
        Poll::Pending => panic!("the server waits for what cannot come"),
    }
    answered.get()
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

/// What OpenSSH's client says first: its name, what it knows, its half of the keys.
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
    vec![
        [name, &lists(strict), &keys].concat(),
        [name, &lists(strict), &keys, &new_keys, &[0x55; 64]].concat(),
        [name, &lists("curve25519-sha256"), &packet(&[2, 0, 0, 0, 0]), &keys].concat(),
        [name, &lists("diffie-hellman-group1-sha1"), &keys].concat(),
        b"SSH-1.5-old\r\n".to_vec(),
    ]
}
