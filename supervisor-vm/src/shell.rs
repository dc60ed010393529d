//! One line after the other, for a person: at a terminal, where lines are edited, come again and are completed, or without one, where that is the
//! client's own affair.

use crate::complete::complete;
use crate::editor::{Editor, LINE, Typed};
use crate::input;
use crate::peer::{IDLE, INTERRUPTED, NO_COMMAND};
use crate::run::run;
use crate::session::{Session, Stop, with_returns};
use crate::shown::shown;
use crate::{apply, console, follow_log};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use ilwaco::time::timeout;
use ssh::Stream;

/// The command for which a client is asked line by line.
pub const WORD: &str = "shell";
/// What one sees first.
const GREETING: &str = "Foraker. A command a line; `help` shows all, `exit` or Ctrl-D ends this.\n";
/// The same at a terminal.
const GREETING_AT_TERMINAL: &str =
    "Foraker. A command a line; `help` shows all, Tab completes, Ctrl-C stops, `exit` or Ctrl-D ends this.\n";
/// What stands in front of each line.
const PROMPT: &str = "foraker> ";

/// Carries line by line out, whether they fail or not, until the person has enough. The status is that of the last one.
///
/// # Errors
///
/// [`Stop`].
pub async fn talk(session: &Session) -> Result<u32, Stop> {
    log::info!("ssh: {} with {}: a shell", session.name(), session.user());
    let mut status = 0;
    if session.size().is_none() {
        session.out(GREETING).await?;
        loop {
            session.out(PROMPT).await?;
            let Some(line) = input::line(session).await? else {
                session.out("\n").await?;
                return Ok(status);
            };
            let Some(line) = String::from_utf8(line).ok().filter(|line| line.len() <= LINE) else {
                status = NO_COMMAND;
                session.out("that is no line of text in UTF-8 with 4096 bytes at most\n").await?;
                continue;
            };
            if ends(&line) || carry_out(session, &line, &mut status).await? {
                return Ok(status);
            }
        }
    }
    // As it is: a Ctrl-C that was typed ahead is a key of the first line's.
    session.write(Stream::Output, &with_returns(GREETING_AT_TERMINAL.as_bytes())).await?;
    let mut editor = Editor::new(PROMPT, columns(session));
    loop {
        let Some(line) = edit(session, &mut editor).await? else { return Ok(status) };
        if ends(&line) || carry_out(session, &line, &mut status).await? {
            return Ok(status);
        }
    }
}

/// Columns of the window.
pub fn columns(session: &Session) -> u32 {
    session.size().map_or(80, |size| size.columns)
}

fn ends(line: &str) -> bool {
    matches!(line.trim(), "exit" | "quit" | "logout")
}

/// Carries out a line: whether it was the last one.
async fn carry_out(session: &Session, line: &str, status: &mut u32) -> Result<bool, Stop> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(false);
    }
    let done = if let Some(asked) = console::asked(line) {
        Box::pin(console::attach(session, asked)).await
    } else if let Some(how) = apply::asked(line).filter(apply::How::is_on_disk) {
        log::info!("ssh: {} with {}: {}", session.name(), session.user(), shown(line));
        Box::pin(apply::apply(session, how)).await
    } else if let Some(wanted) = follow_log::asked(line) {
        log::info!("ssh: {} with {}: {}", session.name(), session.user(), shown(line));
        Box::pin(follow_log::follow(session, &wanted)).await
    } else {
        run(session, line, None).await
    };
    *status = match done {
        Ok(status) => status,
        Err(Stop::Interrupted) => {
            session.write(Stream::Output, b"^C\r\n").await?;
            INTERRUPTED
        }
        Err(stop) => return Err(stop),
    };
    Ok(session.node().power.goes())
}

/// Edits a line at a terminal: `None` when the person has enough.
async fn edit(session: &Session, editor: &mut Editor) -> Result<Option<String>, Stop> {
    let mut screen = Vec::new();
    editor.set_columns(columns(session));
    editor.draw(&mut screen);
    loop {
        let mut byte = [0];
        match session.try_read(&mut byte) {
            Some(0) => {
                if editor.set_columns(columns(session)) {
                    editor.draw(&mut screen);
                }
                if screen.is_empty() {
                    timeout(IDLE, session.changed()).await?;
                } else {
                    // Something may come while that is said, so it is looked again.
                    session.write(Stream::Output, &core::mem::take(&mut screen)).await?;
                }
                continue;
            }
            None if !session.is_open() => return Err(Stop::Gone),
            None => {
                editor.leave(&mut screen);
                session.write(Stream::Output, &screen).await?;
                return Ok(None);
            }
            Some(_) => {}
        }
        match editor.take(byte[0], &mut screen) {
            None | Some(Typed::Escape) => {}
            Some(Typed::Dropped) => editor.draw(&mut screen),
            Some(Typed::Line(line)) => {
                session.write(Stream::Output, &screen).await?;
                return Ok(Some(line));
            }
            Some(Typed::End) => {
                editor.leave(&mut screen);
                session.write(Stream::Output, &screen).await?;
                return Ok(None);
            }
            Some(Typed::Tab(again)) => {
                let offered = complete(session.node(), &editor.before()).await;
                editor.insert(&offered.more, &mut screen);
                if !offered.is_ambiguous() {
                    if offered.more.is_empty() {
                        screen.push(7);
                    }
                } else if again && offered.more.is_empty() {
                    editor.leave(&mut screen);
                    screen.extend(with_returns(offered.list(editor.columns()).as_bytes()));
                    editor.draw(&mut screen);
                }
            }
        }
    }
}
