//! A client that does as it is told, also what it must not: for tests and fuzz targets. It believes the server everything but its tags.

use crate::auth;
use crate::connection::NAME;
use crate::kex::{self, Offer, Secret};
use crate::number::{
    CHANNEL_DATA, CHANNEL_OPEN, CHANNEL_REQUEST, CHANNEL_WINDOW_ADJUST, ECDH_INIT, ECDH_REPLY, KEXINIT, NEWKEYS,
    SERVICE_REQUEST, USERAUTH_REQUEST,
};
use crate::packet::{Opening, Sealing};
use crate::wire::{Message, Reader};
use alloc::vec::Vec;
use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use x25519_dalek::{EphemeralSecret, PublicKey};

/// Who it says it is.
const OWN_NAME: &str = "SSH-2.0-test";

/// A client.
pub struct Client {
    random: ChaCha20Rng,
    strict: bool,
    named: bool,
    sealing: Sealing,
    opening: Opening,
    /// Our offer, while there is an exchange, and our half of it.
    offer: Vec<u8>,
    secret: Option<EphemeralSecret>,
    half: [u8; 32],
    begun: Option<sha2::Sha256>,
    pending: Option<Secret>,
    /// Of the first exchange.
    pub session: Option<[u8; 32]>,
    /// How many exchanges there were.
    pub exchanges: u32,
    /// What is to be sent.
    pub output: Vec<u8>,
    /// What the server has said, but for what belongs to exchanges: payloads.
    pub heard: Vec<Vec<u8>>,
}

impl Client {
    /// One that begins to connect.
    pub fn new(seed: u8, strict: bool) -> Client {
        let mut client = Client {
            random: ChaCha20Rng::from_seed([seed; 32]),
            strict,
            named: false,
            sealing: Sealing::default(),
            opening: Opening::default(),
            offer: Vec::new(),
            secret: None,
            half: [0; 32],
            begun: None,
            pending: None,
            session: None,
            exchanges: 0,
            output: Vec::from(OWN_NAME),
            heard: Vec::new(),
        };
        client.output.extend(b"\r\n");
        client
    }

    /// Offers an exchange of keys.
    pub fn offer(&mut self) {
        self.offer = Offer::of_client(&mut self.random, self.strict);
        let offer = self.offer.clone();
        self.send(&offer);
    }

    /// Sends a payload, whatever it is.
    pub fn send(&mut self, payload: &[u8]) {
        self.sealing.seal(payload, &mut self.random, &mut self.output);
    }

    /// Hears what the server says, and does what belongs to exchanges of keys.
    pub fn hear(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        if !self.named {
            let line = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
            self.named = true;
            rest = &rest[line..];
        }
        while !rest.is_empty() {
            let (taken, packet) = self.opening.take(rest).expect("a packet of the server's");
            rest = &rest[taken..];
            let Some(packet) = packet else { continue };
            let payload = Opening::payload(&packet).expect("something in it").to_vec();
            match payload.first() {
                Some(&KEXINIT) => self.answer(&payload),
                Some(&ECDH_REPLY) => self.conclude(&payload),
                Some(&NEWKEYS) => self.begin(),
                _ => self.heard.push(payload),
            }
        }
    }

    fn answer(&mut self, theirs: &[u8]) {
        if self.offer.is_empty() {
            self.offer();
        }
        self.begun = Some(kex::transcript(OWN_NAME.as_bytes(), NAME.as_bytes(), &self.offer, theirs));
        self.offer = Vec::new();
        let secret = EphemeralSecret::random_from_rng(&mut self.random);
        self.half = *PublicKey::from(&secret).as_bytes();
        self.secret = Some(secret);
        self.send(&Message::new(ECDH_INIT).string(self.half).0);
    }

    fn conclude(&mut self, payload: &[u8]) {
        let mut reader = Reader::new(payload.get(1..).unwrap_or_default());
        let (host, half, signature) = (reader.string(), reader.string(), reader.string());
        let (Some(host), Some(half), Some(signature)) = (host, half, signature) else { panic!("half an answer") };
        let half: [u8; 32] = half.try_into().expect("half of an exchange");
        let (secret, begun) = (self.secret.take().expect("our half"), self.begun.take().expect("offers"));
        let shared = secret.diffie_hellman(&PublicKey::from(half));
        let secret = Secret::new(begun, host, [&self.half, &half], shared.as_bytes());
        let key = VerifyingKey::from_bytes(&kex::read_blob(host).expect("a key")).expect("a key");
        let signature = Signature::from_bytes(&kex::read_blob(signature).expect("a signature"));
        key.verify_strict(&secret.hash, &signature).expect("the host's signature");
        self.session.get_or_insert(secret.hash);
        self.pending = Some(secret);
    }

    fn begin(&mut self) {
        let (secret, session) = (self.pending.take().expect("a secret"), self.session.expect("a session"));
        self.send(&[NEWKEYS]);
        self.opening.begin(secret.keys(b'D', &session), self.strict);
        self.sealing.begin(secret.keys(b'C', &session), self.strict);
        self.exchanges += 1;
    }

    /// Wants to log in.
    pub fn ask_to_log_in(&mut self) {
        self.send(&Message::new(SERVICE_REQUEST).string("ssh-userauth").0);
    }

    /// Shows a key; `forged`: signs something else.
    pub fn log_in(&mut self, user: &str, key: &SigningKey, forged: bool) {
        let blob = kex::key_blob(key.verifying_key().as_bytes());
        let mut text = auth::text(&self.session.expect("a session"), user, &blob);
        if forged {
            text.push(0);
        }
        let signature = kex::signature_blob(&key.sign(&text).to_bytes());
        let message = Message::new(USERAUTH_REQUEST).string(user).string(auth::SERVICE).string(auth::METHOD);
        self.send(&message.flag(true).string(kex::HOST_KEY).string(blob).string(signature).0);
    }

    /// Asks whether it may show a key.
    pub fn ask_for_key(&mut self, user: &str, key: &SigningKey) {
        let blob = kex::key_blob(key.verifying_key().as_bytes());
        let message = Message::new(USERAUTH_REQUEST).string(user).string(auth::SERVICE).string(auth::METHOD);
        self.send(&message.flag(false).string(kex::HOST_KEY).string(blob).0);
    }

    /// Opens a session, of which it takes so many bytes.
    pub fn open(&mut self, number: u32, takes: u32) {
        self.send(&Message::new(CHANNEL_OPEN).string("session").number(number).number(takes).number(32 * 1024).0);
    }

    /// Asks for something about the server's channel.
    pub fn request(&mut self, channel: u32, kind: &str, rest: &[u8]) {
        let mut message = Message::new(CHANNEL_REQUEST).number(channel).string(kind).flag(true);
        message.0.extend(rest);
        self.send(&message.0);
    }

    /// Sends something on the server's channel.
    pub fn data(&mut self, channel: u32, bytes: &[u8]) {
        self.send(&Message::new(CHANNEL_DATA).number(channel).string(bytes).0);
    }

    /// Takes so many bytes more.
    pub fn adjust(&mut self, channel: u32, bytes: u32) {
        self.send(&Message::new(CHANNEL_WINDOW_ADJUST).number(channel).number(bytes).0);
    }
}
