//! What a line does.

use crate::act::act;
use crate::command::Command;
use crate::parse::{parse, says_json};
use crate::peer::{FAILED, NO_COMMAND};
use crate::said::Said;
use crate::session::{Session, Stop};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use core::cell::Cell;
use core::future::Future;
use core::pin::Pin;
use ilwaco::task::spawn;

/// A command that is being carried out.
type Doing = Pin<Box<dyn Future<Output = Result<Said, String>>>>;

/// What is said of a change that had begun.
const GOES_ON: &str = "[what has begun is carried out; `audit` says how it ends]\n";

/// Carries a line out, up to the first command that fails. Its status. For programs `place` stands in front of what is wrong with it, which is said on
/// standard error. People, who have none, read both in one place, where standard error would come out of turn.
///
/// # Errors
///
/// [`Stop`]: a change that has begun is carried out all the same, after this has ended, and what stands behind it is not.
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
        let changes = command.changes();
        let json = changes && !matches!(command, Command::TokenNew { .. }) && says_json(&text);
        let (node, who) = (session.shared_node(), who.clone());
        let mut doing: Doing = Box::pin(async move { act(&node, &who, &text, command).await });
        let done = match session.wait_for(doing.as_mut()).await {
            Ok(done) => done,
            Err(stop) => {
                if !only_asks {
                    goes_on(doing).await;
                }
                if stop == Stop::Interrupted && changes {
                    session.aside(GOES_ON).await?;
                }
                return Err(stop);
            }
        };
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

/// Lets a command go on without whoever has asked for it: nothing is left half done.
async fn goes_on(doing: Doing) {
    let doing = Rc::new(Cell::new(Some(doing)));
    let left = doing.clone();
    let go_on = async move {
        if let Some(doing) = left.take() {
            drop(doing.await);
        }
    };
    // Where there is no task for it, it is waited for here.
    if spawn(go_on).is_err()
        && let Some(doing) = doing.take()
    {
        drop(doing.await);
    }
}

/// Says what is no part of what was asked for.
async fn beside(session: &Session, place: Option<&str>, text: &str) -> Result<(), Stop> {
    match place {
        Some(_) if text.is_empty() => Ok(()),
        Some(place) => session.aside(&format!("{place}{text}")).await,
        None => session.out(text).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ilwaco::block_on;
    use ilwaco::sim::Sim;
    use ilwaco::time::{Duration, Instant, sleep};

    #[test]
    fn what_has_begun_goes_on_without_whoever_has_asked_for_it() {
        let _sim = Sim::new("");
        let done = Rc::new(Cell::new(false));
        let noted = done.clone();
        let long = Duration::from_secs(60);
        block_on(async move {
            let began = Instant::now();
            let mut doing: Doing = Box::pin(async move {
                sleep(long).await;
                noted.set(true);
                Ok(Said::default())
            });
            // It has begun.
            assert!(ilwaco::time::timeout(Duration::from_secs(1), doing.as_mut()).await.is_err());
            goes_on(doing).await;
            assert!(!done.get() && began.elapsed() < long, "nobody waits for it");
            sleep(long).await;
            assert!(done.get());
        });
    }
}
