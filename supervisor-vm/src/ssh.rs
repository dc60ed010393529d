//! Remote login: an SSH server for one user, `admin`, who shows a key that the machine was given. One command, or a script on its standard input.

use crate::act::act;
use crate::command::{parse, shown};
use crate::keys::{Keys, fingerprint};
use crate::node::Node;
use crate::random::Source;
use crate::stream::Stream;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use chacha20::ChaCha20Rng;
use chacha20::rand_core::Rng;
use core::cell::{Cell, RefCell};
use core::net::SocketAddr;
use ilwaco::net::{Error, TcpListener, TcpStream};
use ilwaco::task::spawn;
use ilwaco::time::{Duration, timeout};
use zssh::ed25519_dalek::SigningKey;
use zssh::{AuthMethod, Behavior, Channel, PublicKey, Request, SecretKey, Transport, TransportError};

/// Where logins are taken.
pub const PORT: u16 = 22;
/// The only user.
const USER: &str = "admin";
/// Keys that a client may try before its connection ends.
const ATTEMPTS: u32 = 6;
/// Logins at the same time.
const SESSIONS: usize = 64;
/// Bytes of a packet at most.
const PACKET: usize = 8 * 1024;
/// Memory that a login takes: a packet, the keys, what is shown.
const SESSION_BYTES: usize = 64 * 1024;
/// Bytes of a script at most.
const SCRIPT: usize = 256 * 1024;
/// How long a client may take to log in.
const GRACE: Duration = Duration::from_secs(30);
/// How long a client may do nothing, and how long a command may take.
const IDLE: Duration = Duration::from_secs(600);
/// When a client that says nothing is asked whether it is there.
const ALIVE: Duration = Duration::from_secs(60);

/// The status of a command that the core or the supervisor refuses.
const FAILED: u32 = 1;
/// The status of a line that is no command.
const NO_COMMAND: u32 = 2;

/// The server.
pub struct Server {
    node: Rc<Node>,
    keys: Keys,
    host: SigningKey,
    random: RefCell<Source>,
    sessions: Cell<usize>,
}

impl Server {
    /// A server with a new host key.
    pub fn new(node: Rc<Node>, keys: Keys) -> Server {
        let mut random = Source::new();
        let mut secret = [0; 32];
        random.fork().fill_bytes(&mut secret);
        let host = SigningKey::from_bytes(&secret);
        Server { node, keys, host, random: RefCell::new(random), sessions: Cell::new(0) }
    }

    /// The fingerprint of its host key.
    pub fn fingerprint(&self) -> String {
        fingerprint(self.host.verifying_key().as_bytes())
    }
}

/// Serves until that fails.
pub async fn serve(listener: TcpListener, server: Rc<Server>) -> Error {
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        let taken = server.sessions.get();
        if taken >= SESSIONS || !ilwaco::has_memory_for(SESSION_BYTES) {
            log::warn!("ssh: {taken} logins at once, no room for one more");
            continue;
        }
        server.sessions.set(taken + 1);
        let session = server.clone();
        let served = async move {
            let _place = Place(session.clone());
            Box::pin(session_with(stream, &session)).await;
        };
        if spawn(served).is_err() {
            server.sessions.set(taken);
            log::warn!("ssh: no task for a login");
        }
    }
}

/// A place among the logins, which is free again when it is dropped.
struct Place(Rc<Server>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.sessions.set(self.0.sessions.get().saturating_sub(1));
    }
}

/// Who is at the other end.
struct Peer<'a> {
    server: &'a Server,
    stream: Stream,
    address: Option<SocketAddr>,
    random: ChaCha20Rng,
    host: SecretKey,
    refused: u32,
}

impl Peer<'_> {
    fn name(&self) -> String {
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
        true
    }

    fn parse_command(&mut self, command: &str) -> String {
        command.to_string()
    }
}

type Failure<'a> = TransportError<Peer<'a>>;

/// A connection, from its beginning to its end.
async fn session_with(stream: TcpStream, server: &Server) {
    let address = stream.peer_addr();
    stream.set_keep_alive(Some(ALIVE));
    let peer = Peer {
        server,
        stream: Stream::new(stream),
        address,
        random: server.random.borrow_mut().fork(),
        host: SecretKey::Ed25519 { secret_key: server.host.clone() },
        refused: 0,
    };
    let name = peer.name();
    let mut packet = vec![0; PACKET];
    let mut transport = Transport::new(&mut packet, peer);
    let mut limit = GRACE;
    loop {
        let channel = match timeout(limit, transport.accept()).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(why)) => {
                log::debug!("ssh: {name} is gone: {why:?}");
                return;
            }
            Err(_) => {
                log::info!("ssh: {name} has said nothing for {} s", limit.as_secs());
                return;
            }
        };
        limit = IDLE;
        match timeout(IDLE, serve_channel(channel, server, &name)).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => {
                log::debug!("ssh: {name} is gone: {why:?}");
                return;
            }
            Err(_) => {
                log::warn!("ssh: {name} takes what it asked for too slowly");
                return;
            }
        }
    }
}

async fn serve_channel<'a>(
    mut channel: Channel<'_, '_, Peer<'a>>,
    server: &Server,
    name: &str,
) -> Result<(), Failure<'a>> {
    let status = match channel.request() {
        Request::Exec(line) => {
            log::info!("ssh: {name} with {}: {}", channel.user(), shown(&line));
            run(&mut channel, server, &line, "").await?
        }
        Request::Shell => script(&mut channel, server, name).await?,
    };
    channel.exit(status).await
}

/// Reads a script to its end, and then carries it out, up to the first line that fails: who hangs up in the middle has done nothing.
async fn script<'a>(channel: &mut Channel<'_, '_, Peer<'a>>, server: &Server, name: &str) -> Result<u32, Failure<'a>> {
    let mut bytes = Vec::new();
    let mut reader = channel.reader(None).await?;
    while let Some(read) = reader.read().await? {
        if bytes.len() + read.len() > SCRIPT || !ilwaco::has_memory_for(2 * (bytes.len() + read.len())) {
            bytes.clear();
            channel.write_all_stderr(format!("a script has {SCRIPT} bytes at most: divide it\n").as_bytes()).await?;
            return Ok(NO_COMMAND);
        }
        bytes.extend_from_slice(read);
    }
    let Ok(text) = core::str::from_utf8(&bytes) else {
        channel.write_all_stderr(b"the script is no text in UTF-8\n").await?;
        return Ok(NO_COMMAND);
    };
    log::info!("ssh: {name} with {}: a script of {} lines", channel.user(), text.lines().count());
    for (line, number) in text.lines().zip(1_u32..) {
        let status = run(channel, server, line, &format!("line {number}: ")).await?;
        if status != 0 {
            return Ok(status);
        }
    }
    Ok(0)
}

/// Carries a line out, up to the first command that fails. Its status.
async fn run<'a>(
    channel: &mut Channel<'_, '_, Peer<'a>>,
    server: &Server,
    line: &str,
    place: &str,
) -> Result<u32, Failure<'a>> {
    let commands = match parse(line) {
        Ok(commands) => commands,
        Err(why) => {
            channel.write_all_stderr(format!("{place}{why}\n").as_bytes()).await?;
            return Ok(NO_COMMAND);
        }
    };
    for command in commands {
        match act(&server.node, command).await {
            Ok(text) => channel.write_all_stdout(text.as_bytes()).await?,
            Err(why) => {
                channel.write_all_stderr(format!("{place}{why}\n").as_bytes()).await?;
                return Ok(FAILED);
            }
        }
    }
    Ok(0)
}
