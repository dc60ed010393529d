//! Who is at the other end of an SSH connection, what the machine has for them, and what their lines do.

use crate::act::{Said, act};
use crate::keys::{Keys, fingerprint};
use crate::node::Node;
use crate::parse::parse;
use crate::shown::shown;
use crate::stream::Stream;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use chacha20::ChaCha20Rng;
use core::cell::Cell;
use core::net::SocketAddr;
use ilwaco::net::TcpStream;
use ilwaco::sync::Mutex;
use ilwaco::time::{Duration, Elapsed};
use zssh::ed25519_dalek::SigningKey;
use zssh::{AuthMethod, Behavior, Channel, PublicKey, SecretKey, TransportError};

/// The only user.
const USER: &str = "admin";
/// Keys that a client may try before its connection ends.
const ATTEMPTS: u32 = 6;
/// How long a client may do nothing, and how long a command may take.
pub const IDLE: Duration = Duration::from_secs(600);
/// Bytes of the packet that refuses a request about a channel: length, padding's length, kind, channel, ten of padding, tag. Where that is the last
/// one before a shell, the client wanted a terminal: the library refuses that by itself, and of what else comes before a shell no client that
/// reads a script wants an answer. One that forwards X11 does, and is taken for a terminal.
const REFUSAL: usize = 4 + 1 + 5 + 10 + 16;

/// The status of a command that the core or the supervisor refuses.
pub const FAILED: u32 = 1;
/// The status of a line that is no command.
pub const NO_COMMAND: u32 = 2;

/// The server.
pub struct Server {
    node: Rc<Node>,
    keys: Keys,
    host: SigningKey,
    /// Logins at the moment.
    pub sessions: Cell<usize>,
}

impl Server {
    /// A server with this host key.
    pub fn new(node: Rc<Node>, keys: Keys, secret: &[u8; 32]) -> Server {
        let host = SigningKey::from_bytes(secret);
        Server { node, keys, host, sessions: Cell::new(0) }
    }

    /// What is asked and told about.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The fingerprint of its host key.
    pub fn fingerprint(&self) -> String {
        fingerprint(self.host.verifying_key().as_bytes())
    }
}

/// Who is at the other end.
pub struct Peer<'a> {
    server: &'a Server,
    stream: Stream,
    address: Option<SocketAddr>,
    random: ChaCha20Rng,
    host: SecretKey,
    refused: u32,
    terminal: Rc<Cell<bool>>,
}

impl Peer<'_> {
    /// Whoever this connection comes from. `terminal` is told whether a shell is for somebody at a terminal.
    pub fn new(
        server: &Server,
        tcp: Rc<Mutex<TcpStream>>,
        address: Option<SocketAddr>,
        terminal: Rc<Cell<bool>>,
    ) -> Peer<'_> {
        let random = server.node.random.borrow_mut().fork();
        let host = SecretKey::Ed25519 { secret_key: server.host.clone() };
        Peer { server, stream: Stream::new(tcp), address, random, host, refused: 0, terminal }
    }

    /// Where it is, for people.
    pub fn name(&self) -> String {
        self.address.map_or_else(|| "?".to_string(), |address| address.to_string())
    }
}

impl Behavior for Peer<'_> {
    type Stream = Stream;
    type Random = ChaCha20Rng;
    /// The fingerprint of the key.
    type User = String;
    type Command = String;

    fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    fn random(&mut self) -> &mut ChaCha20Rng {
        &mut self.random
    }

    fn host_secret_key(&self) -> &SecretKey {
        &self.host
    }

    fn server_id(&self) -> &'static str {
        "SSH-2.0-Foraker"
    }

    fn allow_user(&mut self, user: &str, method: &AuthMethod) -> Option<String> {
        // Clients ask without a key first, to hear what is wanted.
        let AuthMethod::PublicKey(PublicKey::Ed25519 { public_key }) = method else { return None };
        let key = fingerprint(public_key.as_bytes());
        if user == USER && self.server.keys.has(public_key.as_bytes()) {
            return Some(key);
        }
        self.refused += 1;
        log::warn!("ssh: {} may not log in as {} with the key {key}", self.name(), shown(user));
        if self.refused >= ATTEMPTS {
            log::warn!("ssh: {} has tried {ATTEMPTS} keys: no more", self.name());
            self.stream.give_up();
        }
        None
    }

    fn allow_shell(&self) -> bool {
        self.terminal.set(self.stream.last_written() == REFUSAL);
        true
    }

    fn parse_command(&mut self, command: &str) -> String {
        command.to_string()
    }
}

/// Why a connection ends.
pub type Failure<'a> = TransportError<Peer<'a>>;

/// Why a channel is served no further.
pub enum End<'a> {
    /// The connection broke, or the client does not follow the protocol.
    Gone(Failure<'a>),
    /// It does not go on.
    Slow,
}

impl<'a> From<Failure<'a>> for End<'a> {
    fn from(why: Failure<'a>) -> End<'a> {
        End::Gone(why)
    }
}

impl From<Elapsed> for End<'_> {
    fn from(_: Elapsed) -> Self {
        End::Slow
    }
}

/// Carries a line out, up to the first command that fails. Its status. For programs `place` stands in front of what is wrong with it, which is said on
/// standard error. People, who have none, read both in one place, where standard error would come out of turn.
///
/// # Errors
///
/// The connection breaks.
pub async fn run<'a>(
    channel: &mut Channel<'_, '_, Peer<'a>>,
    server: &Server,
    name: &str,
    line: &str,
    place: Option<&str>,
) -> Result<u32, Failure<'a>> {
    let commands = match parse(line) {
        Ok(commands) => commands,
        Err(why) => {
            aside(channel, place, &format!("{why}\n")).await?;
            return Ok(NO_COMMAND);
        }
    };
    let who = format!("{} at {name}", channel.user());
    for (text, command) in commands {
        match act(&server.node, &who, &text, command).await {
            Ok(Said { text, aside: more }) => {
                channel.write_all_stdout(text.as_bytes()).await?;
                aside(channel, place.map(|_| ""), &more).await?;
            }
            Err(why) => {
                aside(channel, place, &format!("{why}\n")).await?;
                return Ok(FAILED);
            }
        }
    }
    Ok(0)
}

/// Says what is no part of what was asked for.
async fn aside<'a>(
    channel: &mut Channel<'_, '_, Peer<'a>>,
    place: Option<&str>,
    text: &str,
) -> Result<(), Failure<'a>> {
    match place {
        Some(place) => channel.write_all_stderr(format!("{place}{text}").as_bytes()).await,
        None => channel.write_all_stdout(text.as_bytes()).await,
    }
}
