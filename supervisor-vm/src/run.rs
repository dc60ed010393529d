//! What a line does.

use crate::act::act;
use crate::command::Command;
use crate::parse::{parse, says_json};
use crate::peer::{FAILED, NO_COMMAND};
use crate::said::Said;
use crate::session::{Session, Stop};
use alloc::format;
use core::pin::pin;

/// Carries a line out, up to the first command that fails. Its status. For programs `place` stands in front of what is wrong with it, which is said on
/// standard error. People, who have none, read both in one place, where standard error would come out of turn.
///
/// # Errors
///
/// [`Stop`]: a change that has begun is carried out all the same, and what stands behind it is not.
pub async fn run(session: &Session, line: &str, place: Option<&str>) -> Result<u32, Stop> {
    let commands = match parse(line) {
        Ok(commands) => commands,
        Err(why) => {
            beside(session, place, &format!("{why}\n")).await?;
            return Ok(NO_COMMAND);
        }
    };
    let who = session.who();
    for (text, command) in commands {
        let only_asks = command.only_asks();
        // What a token is was asked for as JSON already.
        let json = command.changes() && !matches!(command, Command::TokenNew { .. }) && says_json(&text);
        let mut done = pin!(act(session.node(), &who, &text, command));
        let done = if only_asks { session.wait_for(done.as_mut()).await? } else { done.await };
        if session.is_interrupted() {
            return Err(Stop::Interrupted);
        }
        match done.and_then(|said| if json { said.as_json() } else { Ok(said) }) {
            Ok(Said { text, aside }) => {
                session.out(&text).await?;
                beside(session, place.map(|_| ""), &aside).await?;
            }
            Err(why) => {
                beside(session, place, &format!("{why}\n")).await?;
                return Ok(FAILED);
            }
        }
    }
    Ok(0)
}

/// Says what is no part of what was asked for.
async fn beside(session: &Session, place: Option<&str>, text: &str) -> Result<(), Stop> {
    match place {
        Some(_) if text.is_empty() => Ok(()),
        Some(place) => session.aside(&format!("{place}{text}")).await,
        None => session.out(text).await,
    }
}
