//! A connection from its first byte on: who is who, keys, who logs in, and channels.

use crate::auth::{self, Attempt};
use crate::channel::{Channel, Wanted};
use crate::end::End;
use crate::kex::{self, Offer, Secret};
use crate::number::{
    DEBUG, DISCONNECT, ECDH_INIT, ECDH_REPLY, EXT_INFO, IGNORE, KEXINIT, NEWKEYS, SERVICE_ACCEPT, SERVICE_REQUEST,
    UNIMPLEMENTED, USERAUTH_FAILURE, USERAUTH_PK_OK, USERAUTH_REQUEST, USERAUTH_SUCCESS, reason,
};
use crate::packet::{Keys, Opening, Sealing};
use crate::wire::{Message, Reader};
use alloc::vec::Vec;
use chacha20::ChaCha20Rng;
use ed25519_dalek::{Signer, SigningKey};
use sha2::Sha256;
use x25519_dalek::{EphemeralSecret, PublicKey};

/// Who is here.
pub const NAME: &str = "SSH-2.0-Foraker";
/// Channels of a connection at once.
pub const CHANNELS: usize = 8;
/// Keys that may be refused before a connection ends.
pub const ATTEMPTS: u32 = 6;
/// Requests to log in, of whatever kind.
const REQUESTS: u32 = 40;
/// Bytes of a line in which a client says who it is (RFC 4253, 4.2).
const LINE: usize = 255;
/// Bytes that wait to be sent: with so many nothing more is read, and nothing more is taken to be written.
pub const WAITING: usize = 8 * 1024;
/// Bytes that wait for new keys.
const HELD: usize = 8 * 1024;
/// How long keys are good (RFC 4253, 9).
const KEYS_SECONDS: u64 = 3600;

/// Something has happened about which whoever drives a connection has to do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody has logged in.
    LoggedIn,
    /// Somebody has shown a key that may log in, and has not signed with it.
    Forged,
    /// A channel is to be served, until [`Connection::finish`].
    Serve(usize, Wanted),
    /// Something has come for a channel, or it takes more.
    Changed(usize),
    /// The same may be so of all.
    All,
}

/// Who may log in: a user, with a key. It is asked once for each key that is named, and once for each that has signed.
pub type Admit<'a> = &'a mut dyn FnMut(&str, &[u8; 32]) -> bool;

/// How far an exchange of keys is.
enum Exchange {
    /// There is none.
    None,
    /// This was offered, and nothing else is sent before it is done.
    Offered(Vec<u8>),
    /// Both have offered.
    Agreed { begun: Sha256, offer: Offer },
    /// Ours is done; these keys count when the client says so.
    Awaits(Keys),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Login {
    /// Not yet asked for.
    Stranger,
    Asked,
    In([u8; 32]),
}

/// A connection: bytes come in by [`Connection::receive`], and go out by [`Connection::output`].
pub struct Connection {
    host: SigningKey,
    random: ChaCha20Rng,
    /// Who the client says it is, as far as that has come, and whether that is all.
    client: Vec<u8>,
    named: bool,
    opening: Opening,
    sealing: Sealing,
    exchange: Exchange,
    /// Of the first exchange.
    session: Option<[u8; 32]>,
    strict: bool,
    /// When the keys were new, in seconds.
    since: u64,
    login: Login,
    refused: u32,
    requests: u32,
    pub(crate) channels: [Option<Channel>; CHANNELS],
    /// The client wants no more channels.
    pub(crate) enough: bool,
    pub(crate) output: Vec<u8>,
    /// What is to be sent when the keys are new.
    held: Vec<Vec<u8>>,
    pub(crate) end: Option<End>,
}

impl Connection {
    /// With the host's key, and numbers of chance that nobody else has. What is to be sent first is there at once.
    pub fn new(host: SigningKey, random: ChaCha20Rng, now: u64) -> Connection {
        let mut connection = Connection {
            host,
            random,
            client: Vec::new(),
            named: false,
            opening: Opening::default(),
            sealing: Sealing::default(),
            exchange: Exchange::None,
            session: None,
            strict: false,
            since: now,
            login: Login::Stranger,
            refused: 0,
            requests: 0,
            channels: [const { None }; CHANNELS],
            enough: false,
            output: Vec::from(NAME),
            held: Vec::new(),
            end: None,
        };
        connection.output.extend(b"\r\n");
        connection.offer();
        connection
    }

    /// Why it has ended. What is to be sent still is to be sent then, and nothing more comes.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// The key of whoever has logged in.
    pub fn user(&self) -> Option<[u8; 32]> {
        match self.login {
            Login::In(key) => Some(key),
            _ => None,
        }
    }

    /// What is to be sent.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// So much of it is on its way.
    pub fn sent(&mut self, bytes: usize) {
        self.output.drain(..bytes.min(self.output.len()));
        if self.output.is_empty() && self.output.capacity() > WAITING {
            self.output = Vec::new();
        }
    }

    /// Takes some of what has come, up to the end of a packet: how many bytes, and what has happened. `now` is in seconds, from wherever. None are taken
    /// while too many wait to be sent, or when it has ended.
    pub fn receive(&mut self, bytes: &[u8], now: u64, admit: Admit<'_>) -> (usize, Option<Event>) {
        if self.end.is_some() || self.output.len() >= WAITING {
            return (0, None);
        }
        if !self.named {
            return (self.name(bytes), None);
        }
        self.renew(now);
        match self.opening.take(bytes) {
            Err(end) => {
                self.stop(end);
                (bytes.len(), Some(Event::All))
            }
            Ok((taken, None)) => (taken, None),
            Ok((taken, Some(packet))) => {
                let done = Opening::payload(&packet).and_then(|payload| self.handle(payload, now, admit));
                self.opening.give_back(packet);
                let event = done.unwrap_or_else(|end| {
                    self.stop(end);
                    Some(Event::All)
                });
                (taken, event)
            }
        }
    }

    /// Ends it, and tells the client why.
    pub fn stop(&mut self, end: End) {
        if self.end.is_some() {
            return;
        }
        if end.reason != 0 {
            let message = Message::new(DISCONNECT).number(end.reason).string(end.why).string("");
            self.sealing.seal(&message.0, &mut self.random, &mut self.output);
        }
        self.end = Some(end);
    }

    /// Reads who the client is: how many bytes that took.
    fn name(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        let room = LINE - self.client.len();
        self.client.extend_from_slice(&bytes[..taken.min(room)]);
        let ended = self.client.last() == Some(&b'\n');
        if !ended && self.client.len() < LINE && self.client.first().is_none_or(|byte| *byte == b'S') {
            return taken;
        }
        while self.client.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
            self.client.pop();
        }
        let printable = self.client.iter().all(|byte| (0x20..0x7f).contains(byte));
        if !ended || !printable || !self.client.starts_with(b"SSH-2.0-") {
            // Nobody who could read a packet.
            self.end = Some(End::new(reason::VERSION_NOT_SUPPORTED, "this is no client of SSH 2.0"));
        }
        self.named = true;
        taken
    }

    /// Offers an exchange of keys.
    fn offer(&mut self) {
        let offer = Offer::ours(&mut self.random);
        self.sealing.seal(&offer, &mut self.random, &mut self.output);
        self.exchange = Exchange::Offered(offer);
    }

    /// Wants new keys where the old ones were used for long.
    fn renew(&mut self, now: u64) {
        let worn = self.sealing.is_worn() || self.opening.is_worn() || now.saturating_sub(self.since) >= KEYS_SECONDS;
        if worn && self.session.is_some() && matches!(self.exchange, Exchange::None) {
            self.offer();
        }
    }

    /// Whether nothing but what belongs to an exchange of keys may be sent.
    pub(crate) fn holds(&self) -> bool {
        matches!(self.exchange, Exchange::Offered(_) | Exchange::Agreed { .. })
    }

    /// Sends a message, or keeps it until the keys are new.
    pub(crate) fn say(&mut self, message: Message) {
        if self.end.is_some() {
            return;
        }
        if !self.holds() {
            self.sealing.seal(&message.0, &mut self.random, &mut self.output);
        } else if self.held.iter().map(Vec::len).sum::<usize>() + message.0.len() <= HELD {
            self.held.push(message.0);
        } else {
            self.stop(End::protocol("too many requests during a key exchange"));
        }
    }

    fn handle(&mut self, payload: &[u8], now: u64, admit: Admit<'_>) -> Result<Option<Event>, End> {
        let number = payload.first().copied().unwrap_or(0);
        // What could be left out or put in unseen, while nothing is sealed.
        let first = self.session.is_none() || self.opening.is_clear();
        if first && self.strict && !matches!(number, DISCONNECT | KEXINIT | ECDH_INIT | NEWKEYS) {
            return Err(End::protocol("something else was sent during the first key exchange"));
        }
        if !matches!(self.exchange, Exchange::None | Exchange::Offered(_)) && matches!(number, 5..=19 | 50..) {
            return Err(End::protocol("something else was sent during a key exchange"));
        }
        match number {
            DISCONNECT => Err(End::new(0, "the client has ended it")),
            IGNORE | UNIMPLEMENTED | DEBUG => Ok(None),
            KEXINIT => self.agree(payload).map(|()| None),
            ECDH_INIT..=49 if self.drops_guess() => Ok(None),
            ECDH_INIT => self.exchange(payload, now).map(|()| Some(Event::All)),
            NEWKEYS => match core::mem::replace(&mut self.exchange, Exchange::None) {
                Exchange::Awaits(keys) => {
                    self.opening.begin(keys, self.strict);
                    Ok(None)
                }
                _ => Err(End::protocol("new keys without an exchange")),
            },
            5..=19 | 50.. if self.session.is_none() => Err(End::protocol("something was sent before there are keys")),
            EXT_INFO => Ok(None),
            SERVICE_REQUEST => self.begin_login(payload).map(|()| None),
            USERAUTH_REQUEST => self.log_in(payload, admit),
            80.. if self.user().is_none() => Err(End::protocol("something was asked for before the login")),
            80..=127 => self.handle_channels(number, payload),
            _ => {
                self.say(Message::new(UNIMPLEMENTED).number(self.opening.last()));
                Ok(None)
            }
        }
    }

    /// The client offers an exchange, or answers to an offer.
    fn agree(&mut self, payload: &[u8]) -> Result<(), End> {
        let first = self.session.is_none();
        let offer = Offer::read(payload)?;
        if first && offer.strict {
            self.strict = true;
            if self.opening.last() != 0 {
                return Err(End::protocol("something was sent before the first key exchange"));
            }
        }
        if matches!(self.exchange, Exchange::None) {
            self.offer();
        }
        let Exchange::Offered(ours) = core::mem::replace(&mut self.exchange, Exchange::None) else {
            return Err(End::protocol("a key exchange within another one"));
        };
        let begun = kex::transcript(&self.client, NAME.as_bytes(), payload, &ours);
        self.exchange = Exchange::Agreed { begun, offer };
        Ok(())
    }

    /// Whether this is the packet with which the client has guessed wrongly.
    fn drops_guess(&mut self) -> bool {
        match &mut self.exchange {
            Exchange::Agreed { offer, .. } => core::mem::take(&mut offer.guessed_wrongly),
            _ => false,
        }
    }

    /// The client's half of an exchange, to which ours is the answer.
    fn exchange(&mut self, payload: &[u8], now: u64) -> Result<(), End> {
        let Exchange::Agreed { begun, offer } = core::mem::replace(&mut self.exchange, Exchange::None) else {
            return Err(End::protocol("half of a key exchange that was not agreed on"));
        };
        let failed = || End::new(reason::KEY_EXCHANGE_FAILED, "half of a key exchange is none");
        let theirs: [u8; 32] = Reader::new(payload.get(1..).unwrap_or_default())
            .string()
            .and_then(|half| half.try_into().ok())
            .ok_or_else(failed)?;
        let secret = EphemeralSecret::random_from_rng(&mut self.random);
        let ours = PublicKey::from(&secret);
        let shared = secret.diffie_hellman(&PublicKey::from(theirs));
        if !shared.was_contributory() {
            return Err(failed());
        }
        let host = kex::key_blob(self.host.verifying_key().as_bytes());
        let secret = Secret::new(begun, &host, [&theirs, ours.as_bytes()], shared.as_bytes());
        let signature = kex::signature_blob(&self.host.sign(&secret.hash).to_bytes());
        let first = self.session.is_none();
        let session = *self.session.get_or_insert(secret.hash);
        let reply = Message::new(ECDH_REPLY).string(host).string(ours.as_bytes()).string(signature);
        for message in [reply, Message::new(NEWKEYS)] {
            self.sealing.seal(&message.0, &mut self.random, &mut self.output);
        }
        self.sealing.begin(secret.keys(b'D', &session), self.strict);
        self.exchange = Exchange::Awaits(secret.keys(b'C', &session));
        self.since = now;
        if first && offer.extensions {
            self.say(Message::new(EXT_INFO).number(1).string("server-sig-algs").string(kex::HOST_KEY));
        }
        for message in core::mem::take(&mut self.held) {
            self.sealing.seal(&message, &mut self.random, &mut self.output);
        }
        (0..CHANNELS).for_each(|channel| self.grant(channel));
        Ok(())
    }

    fn begin_login(&mut self, payload: &[u8]) -> Result<(), End> {
        let name = Reader::new(payload.get(1..).unwrap_or_default()).text();
        if name != Some("ssh-userauth") || self.user().is_some() {
            return Err(End::new(reason::SERVICE_NOT_AVAILABLE, "there is no such service"));
        }
        self.login = Login::Asked;
        self.say(Message::new(SERVICE_ACCEPT).string("ssh-userauth"));
        Ok(())
    }

    fn log_in(&mut self, payload: &[u8], admit: Admit<'_>) -> Result<Option<Event>, End> {
        let session = match (self.login, self.session) {
            // RFC 4252, 5.1: such are ignored.
            (Login::In(_), _) => return Ok(None),
            (Login::Asked, Some(session)) => session,
            _ => return Err(End::protocol("a login that was not asked for")),
        };
        self.requests += 1;
        let mut forged = false;
        let may = match auth::read(payload, &session).ok_or(End::protocol("a login makes no sense"))? {
            Attempt::Other => None,
            Attempt::Query { user, key } if admit(user, &key) => Some((key, false)),
            Attempt::Signed { user, key, signature, text } if admit(user, &key) => {
                forged = !auth::is_signed_by(&key, &text, &signature);
                self.refused += u32::from(forged);
                (!forged).then_some((key, true))
            }
            Attempt::Query { .. } | Attempt::Signed { .. } => {
                self.refused += 1;
                None
            }
        };
        match may {
            Some((key, true)) => {
                self.login = Login::In(key);
                self.say(Message::new(USERAUTH_SUCCESS));
                return Ok(Some(Event::LoggedIn));
            }
            Some((key, false)) => {
                self.say(Message::new(USERAUTH_PK_OK).string(kex::HOST_KEY).string(kex::key_blob(&key)));
            }
            None => self.say(Message::new(USERAUTH_FAILURE).string(auth::METHOD).flag(false)),
        }
        if self.refused >= ATTEMPTS || self.requests >= REQUESTS {
            return Err(End::new(reason::NO_MORE_AUTH_METHODS, "too many keys were tried"));
        }
        Ok(forged.then_some(Event::Forged))
    }

    /// The number of the packet that was read last.
    pub(crate) fn last_packet(&self) -> u32 {
        self.opening.last()
    }
}
