//! `log --follow`: the machine's log as it comes.

use crate::command::Command;
use crate::log_query::LogQuery;
use crate::log_text::{Text, last, plain};
use crate::machine_log::{by_id, fetch};
use crate::parse::parse;
use crate::peer::FAILED;
use crate::session::{Session, Stop};
use alloc::format;
use ilwaco::time::{Duration, Instant, sleep};

/// How often it is looked whether there are more while somebody waits for them: nobody says so.
const LOOK: Duration = Duration::from_millis(300);

/// What a line asks for, when that is to follow the log and nothing else.
pub fn asked(line: &str) -> Option<LogQuery> {
    match &parse(line).ok()?[..] {
        [(_, Command::Log { wanted })] if wanted.follows() => Some(wanted.clone()),
        _ => None,
    }
}

/// `log --follow`: shows the last lines, and then what comes, until the client has gone or has had enough, or the time is over. The status.
///
/// # Errors
///
/// [`Stop`].
pub async fn follow(session: &Session, wanted: &LogQuery) -> Result<u32, Stop> {
    let node = session.node();
    let wanted = by_id(node, wanted);
    let (began, mut text, mut from) = (Instant::now(), Text::default(), u64::MAX);
    let limit = wanted.seconds.map(|seconds| Duration::from_secs(seconds.into()));
    loop {
        let first = from == u64::MAX;
        let lost = match fetch(node, from, &mut text).await {
            Ok((next, lost)) => {
                from = next;
                lost
            }
            Err(why) => {
                session.aside(&format!("{why}\n")).await?;
                return Ok(FAILED);
            }
        };
        if lost != 0 {
            session.aside(&format!("[{lost} bytes missed]\n")).await?;
        }
        let all = text.lines();
        let most = if first { wanted.lines } else { usize::MAX };
        let lines = last(&all, &LogQuery { lines: most, ..wanted.clone() });
        if !lines.is_empty() {
            session.out(&plain(&lines)).await?;
        }
        if limit.is_some_and(|limit| began.elapsed() >= limit) {
            return Ok(0);
        }
        session.wait_for(sleep(LOOK)).await?;
    }
}
