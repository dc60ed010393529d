//! Remote login: an SSH server for one user, `admin`, who shows a key that the machine was given. One command, a script on its standard input, or
//! one line after the other for a person.

use crate::link::{FAREWELL, Link, drive};
use crate::peer::{FAILED, IDLE, INTERRUPTED, NO_COMMAND, Server};
use crate::run::run;
use crate::session::{Session, Stop};
use crate::shell;
use crate::shown::shown;
use crate::{apply, console, follow_log, input, put, sftp};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use core::future::Future;
use core::pin::Pin;
use ilwaco::net::{Error, TcpListener};
use ilwaco::task::spawn;
use ilwaco::time::{Duration, timeout};
use ssh::Wanted;

/// Where logins are taken.
pub const PORT: u16 = 22;
/// Logins at the same time.
const SESSIONS: usize = 64;
/// Memory that a login takes at most: a packet, what has come on its channels and was not read, what waits to be sent, and what is shown.
const SESSION_BYTES: usize = 80 * 1024;
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
            stream.set_keep_alive(Some(ALIVE));
            Box::pin(drive(stream, session.clone(), serve_channel)).await;
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

/// Serves a channel, from what was asked for to its end.
fn serve_channel(link: Rc<Link>, channel: usize, wanted: Wanted) -> Pin<Box<dyn Future<Output = ()>>> {
    // It ends the channel when it is dropped, also where there is no task for it.
    let session = Session::new(link, channel);
    Box::pin(async move {
        // Each channel shows as much as a login without others does.
        if !ilwaco::has_memory_for(SESSION_BYTES) {
            log::warn!("ssh: no memory for what {} asks for", session.name());
            session.status.set(FAILED);
            let _ =
                session.aside("the supervisor has no memory for this now: try again when fewer are logged in\n").await;
            return;
        }
        let served = match &wanted {
            Wanted::Command(line) => command(&session, line).await,
            Wanted::Sftp => Box::pin(sftp::serve(&session)).await,
            Wanted::Shell if session.size().is_some() => shell::talk(&session).await,
            Wanted::Shell => script(&session).await,
        };
        match served {
            Ok(status) => session.status.set(status),
            Err(Stop::Interrupted) => session.status.set(INTERRUPTED),
            Err(Stop::Gone) => {}
            Err(Stop::Slow) => {
                log::info!("ssh: {} has done nothing for {} s", session.name(), IDLE.as_secs());
                session.status.set(FAILED);
                // Others may go on over the same connection.
                let _ = timeout(FAREWELL, session.aside("[nothing was done for ten minutes]\n")).await;
            }
        }
    })
}

/// Carries out a line that comes as a command: its status.
async fn command(session: &Session, line: &str) -> Result<u32, Stop> {
    if line.trim() == shell::WORD {
        return shell::talk(session).await;
    }
    if let Some(asked) = console::asked(line) {
        return Box::pin(console::attach(session, asked)).await;
    }
    log::info!("ssh: {} with {}: {}", session.name(), session.user(), shown(line));
    if let Some(wanted) = follow_log::asked(line) {
        Box::pin(follow_log::follow(session, &wanted)).await
    } else if let Some(how) = apply::asked(line) {
        Box::pin(apply::apply(session, how)).await
    } else if let Some(asked) = put::asked(line) {
        Box::pin(put::put(session, asked)).await
    } else {
        run(session, line, Some("")).await
    }
}

/// Reads a script to its end, and then carries it out, up to the first line that fails: who hangs up in the middle has done nothing.
async fn script(session: &Session) -> Result<u32, Stop> {
    let text = match input::text(session, "script", 2).await? {
        Ok(text) => text,
        Err(why) => {
            session.aside(&why).await?;
            return Ok(NO_COMMAND);
        }
    };
    log::info!("ssh: {} with {}: a script of {} lines", session.name(), session.user(), text.lines().count());
    for (line, number) in text.lines().zip(1_u32..) {
        let status = run(session, line, Some(&format!("line {number}: "))).await?;
        if status != 0 {
            return Ok(status);
        }
    }
    Ok(0)
}
