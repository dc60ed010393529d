//! A connection of SSH over TCP: it is read and written at the same time, and each of its channels is served by a task of its own.

use crate::peer::{IDLE, Server};
use crate::shown::shown;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec;
use core::cell::{Cell, RefCell};
use core::future::Future;
use core::pin::Pin;
use ilwaco::net::{Reading, TcpStream, Writing};
use ilwaco::sync::Notify;
use ilwaco::task::{race, spawn};
use ilwaco::time::{Duration, Instant, timeout};
use ssh::connection::CHANNELS;
use ssh::{Connection, End, Event, Wanted, reason};

/// The only user.
const USER: &str = "admin";
/// How long a client may take to log in.
const GRACE: Duration = Duration::from_secs(30);
/// How long a client that powers the machine off may take to hang up.
const GOES: Duration = Duration::from_secs(2);
/// How long a client may take to hear why it is let go.
pub const FAREWELL: Duration = Duration::from_secs(5);
/// Bytes that are read, and written, at once.
const READ: usize = 2048;
const WRITE: usize = 4096;

/// What serves a channel.
pub type Serve = fn(Rc<Link>, usize, Wanted) -> Pin<Box<dyn Future<Output = ()>>>;

/// A connection, which its channels share.
pub struct Link {
    /// Who is served.
    pub server: Rc<Server>,
    /// Where the client is, for people.
    pub name: String,
    /// Nobody holds it across an await.
    pub connection: RefCell<Connection>,
    /// There is something to be sent.
    output: Notify,
    /// There is room for more.
    room: Notify,
    /// Something may have changed, by channel.
    pub changed: [Notify; CHANNELS],
    /// Channels that are served.
    served: Cell<usize>,
    /// When that has changed last.
    since: Cell<Instant>,
    quiet: Notify,
}

impl Link {
    fn new(server: Rc<Server>, name: String) -> Link {
        let random = server.node().random.borrow_mut().fork();
        let connection = Connection::new(server.host(), random, seconds());
        Link {
            server,
            name,
            connection: RefCell::new(connection),
            output: Notify::new(),
            room: Notify::new(),
            changed: [const { Notify::new() }; CHANNELS],
            served: Cell::new(0),
            since: Cell::new(Instant::now()),
            quiet: Notify::new(),
        }
    }

    /// There may be something to be sent.
    pub fn push(&self) {
        self.output.notify_all();
    }

    /// A channel is served no more.
    pub fn left(&self) {
        self.served.set(self.served.get().saturating_sub(1));
        self.since.set(Instant::now());
        self.quiet.notify_all();
        self.push();
    }

    fn wake_all(&self) {
        self.changed.iter().for_each(Notify::notify_all);
    }

    /// Lets the client go.
    fn stop(&self, why: &'static str) {
        self.connection.borrow_mut().stop(End { reason: reason::BY_APPLICATION, why });
        self.wake_all();
        self.push();
    }

    /// Whether this key may log in.
    fn admits(&self, user: &str, key: &[u8; 32]) -> bool {
        let admitted = user == USER && self.server.admits(key);
        if !admitted {
            let key = crate::keys::fingerprint(key);
            log::warn!("ssh: {} may not log in as {} with the key {key}", self.name, shown(user));
        }
        admitted
    }

    /// What has come is taken, until the connection ends.
    async fn reads(self: &Rc<Link>, mut from: Reading<'_>, serve: Serve) {
        let mut bytes = vec![0; READ];
        loop {
            let len = match from.read(&mut bytes).await {
                Ok(len @ 1..) => len,
                Ok(_) | Err(_) => {
                    self.connection.borrow_mut().stop(End { reason: 0, why: "it has hung up" });
                    return;
                }
            };
            let mut rest = &bytes[..len];
            while !rest.is_empty() {
                let mut admit = |user: &str, key: &[u8; 32]| self.admits(user, key);
                let (taken, event) = self.connection.borrow_mut().receive(rest, seconds(), &mut admit);
                rest = rest.get(taken..).unwrap_or_default();
                if let Some(event) = event {
                    self.heard(event, serve);
                }
                if self.connection.borrow().end().is_some() {
                    return;
                }
                self.push();
                if taken == 0 {
                    self.room.notified().await;
                }
            }
        }
    }

    fn heard(self: &Rc<Link>, event: Event, serve: Serve) {
        match event {
            Event::LoggedIn => {
                self.since.set(Instant::now());
                self.quiet.notify_all();
            }
            Event::Forged => log::warn!("ssh: {} has a key of ours, and has not signed with it", self.name),
            Event::Changed(channel) => self.changed.get(channel).into_iter().for_each(Notify::notify_all),
            Event::All => self.wake_all(),
            Event::Serve(channel, wanted) => {
                self.served.set(self.served.get() + 1);
                if spawn(serve(self.clone(), channel, wanted)).is_err() {
                    log::warn!("ssh: no task for {}", self.name);
                }
            }
        }
    }

    /// What is to be sent is sent, until all is when the connection has ended.
    async fn writes(&self, mut to: Writing<'_>) {
        loop {
            let some = {
                let connection = self.connection.borrow();
                let output = connection.output();
                let some = output.get(..output.len().min(WRITE)).unwrap_or_default().to_vec();
                if some.is_empty() && connection.end().is_some() {
                    return;
                }
                some
            };
            if some.is_empty() {
                self.output.notified().await;
                continue;
            }
            match timeout(IDLE, to.write(&some)).await {
                Ok(Ok(len)) => self.connection.borrow_mut().sent(len),
                Ok(Err(_)) => {
                    self.connection.borrow_mut().stop(End { reason: 0, why: "the connection broke" });
                    return;
                }
                Err(_) => {
                    log::warn!("ssh: {} takes what it asked for too slowly", self.name);
                    self.connection.borrow_mut().stop(End { reason: 0, why: "it takes nothing" });
                    return;
                }
            }
            self.room.notify_all();
            self.wake_all();
        }
    }

    /// Completes when a client has done nothing for too long.
    async fn waits(&self) {
        loop {
            let limit = match (self.connection.borrow().user(), self.served.get()) {
                (None, _) => Some(GRACE),
                (Some(_), 0) if self.server.node().power.goes() => Some(GOES),
                (Some(_), 0) => Some(IDLE),
                _ => None,
            };
            let Some(limit) = limit else {
                self.quiet.notified().await;
                continue;
            };
            let left = limit.saturating_sub(self.since.get().elapsed());
            if left.is_zero() {
                log::info!("ssh: {} has said nothing for {} s", self.name, limit.as_secs());
                self.stop("nothing was said for too long");
                return;
            }
            let _ = timeout(left, self.quiet.notified()).await;
        }
    }
}

/// Serves a connection, from its beginning to its end.
pub async fn drive(mut stream: TcpStream, server: Rc<Server>, serve: Serve) {
    let name = stream.peer_addr().map_or_else(|| "?".to_string(), |address| format!("{address}"));
    let link = Rc::new(Link::new(server, name));
    {
        let (from, to) = stream.halves();
        // Written first, so that what waits last is what waits for the client: a connection that does takes little memory.
        let waits_or_reads = race(link.waits(), link.reads(from, serve));
        race(link.writes(to), waits_or_reads).await;
    }
    link.wake_all();
    match link.connection.borrow().end() {
        Some(End { reason: reason::NO_MORE_AUTH_METHODS, why }) => log::warn!("ssh: {} is let go: {why}", link.name),
        Some(End { why, .. }) => log::debug!("ssh: {} is gone: {why}", link.name),
        None => {}
    }
    let (_, to) = stream.halves();
    let _ = timeout(FAREWELL, link.writes(to)).await;
}

/// Seconds since this VM has started.
fn seconds() -> u64 {
    Instant::now().as_nanos() / 1_000_000_000
}
