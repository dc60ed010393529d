//! Remote login: an SSH server for one user, `admin`, who shows a key that the machine was given. One command, a script on its standard input, or
//! one line after the other for a person.

use crate::peer::{End, Failure, IDLE, NO_COMMAND, Peer, Server, run};
use crate::shell;
use crate::shown::shown;
use crate::{apply, console, follow_log, input, put};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::vec;
use core::cell::Cell;
use ilwaco::net::{Error, TcpListener, TcpStream};
use ilwaco::sync::Mutex;
use ilwaco::task::spawn;
use ilwaco::time::{Duration, timeout};
use zssh::{Channel, Request, Transport};

/// Where logins are taken.
pub const PORT: u16 = 22;
/// Logins at the same time.
const SESSIONS: usize = 64;
/// Bytes of a packet at most.
const PACKET: usize = 8 * 1024;
/// Memory that a login takes: a packet, the keys, what is shown.
const SESSION_BYTES: usize = 64 * 1024;
/// How long a client may take to log in.
const GRACE: Duration = Duration::from_secs(30);
/// How long a client that powers the machine off may take to hang up.
const GOES: Duration = Duration::from_secs(2);
/// When a client that says nothing is asked whether it is there.
const ALIVE: Duration = Duration::from_secs(60);

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
            // Whoever has asked for that has heard the answer, and hung up.
            session.node().power.told();
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

/// A connection, from its beginning to its end.
async fn session_with(stream: TcpStream, server: &Server) {
    stream.set_keep_alive(Some(ALIVE));
    let terminal = Rc::new(Cell::new(false));
    let (address, tcp) = (stream.peer_addr(), Rc::new(Mutex::new(stream)));
    let peer = Peer::new(server, tcp.clone(), address, terminal.clone());
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
        let goes = server.node().power.goes();
        let served = match channel.request() {
            Request::Shell if terminal.get() => shell::talk(channel, server, &name).await,
            Request::Exec(line) if line.trim() == shell::WORD => shell::talk(channel, server, &name).await,
            Request::Exec(line) if let Some(asked) = console::asked(&line) => {
                Box::pin(console::attach(channel, server, &name, &tcp, asked)).await
            }
            Request::Exec(line) if let Some(wanted) = follow_log::asked(&line) => {
                log::info!("ssh: {name} with {}: {}", channel.user(), shown(&line));
                Box::pin(follow_log::follow(channel, server.node(), &tcp, &wanted)).await
            }
            _ => {
                timeout(IDLE, serve_channel(channel, server, &name)).await.map_err(End::from).and_then(|done| Ok(done?))
            }
        };
        match served {
            // The client hangs up, or does not, when it has its answer.
            Ok(()) if !goes && server.node().power.goes() => limit = GOES,
            Ok(()) => {}
            Err(End::Gone(why)) => {
                log::debug!("ssh: {name} is gone: {why:?}");
                return;
            }
            Err(End::Slow) => {
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
            if let Some(how) = apply::asked(&line) {
                apply::apply(&mut channel, server, name, how).await?
            } else if let Some(asked) = put::asked(&line) {
                put::put(&mut channel, server, name, asked).await?
            } else {
                run(&mut channel, server, name, &line, Some("")).await?
            }
        }
        Request::Shell => script(&mut channel, server, name).await?,
    };
    channel.exit(status).await
}

/// Reads a script to its end, and then carries it out, up to the first line that fails: who hangs up in the middle has done nothing.
async fn script<'a>(channel: &mut Channel<'_, '_, Peer<'a>>, server: &Server, name: &str) -> Result<u32, Failure<'a>> {
    let text = match input::text(channel, "script", 2).await? {
        Ok(text) => text,
        Err(why) => {
            channel.write_all_stderr(why.as_bytes()).await?;
            return Ok(NO_COMMAND);
        }
    };
    log::info!("ssh: {name} with {}: a script of {} lines", channel.user(), text.lines().count());
    for (line, number) in text.lines().zip(1_u32..) {
        let status = run(channel, server, name, line, Some(&format!("line {number}: "))).await?;
        if status != 0 {
            return Ok(status);
        }
    }
    Ok(0)
}
