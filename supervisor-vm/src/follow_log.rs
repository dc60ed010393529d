//! `log --follow`: the machine's log as it comes.

use crate::command::Command;
use crate::log_query::LogQuery;
use crate::log_text::{Text, last, plain};
use crate::machine_log::{by_id, fetch};
use crate::node::Node;
use crate::parse::parse;
use crate::peer::{End, FAILED, Failure, IDLE, Peer};
use alloc::format;
use alloc::rc::Rc;
use ilwaco::net::TcpStream;
use ilwaco::sync::Mutex;
use ilwaco::time::{Duration, Instant, sleep, timeout};
use zssh::Channel;

/// How often it is looked whether there are more while somebody waits for them: nobody says so.
const LOOK: Duration = Duration::from_millis(300);

/// What a line asks for, when that is to follow the log and nothing else.
pub fn asked(line: &str) -> Option<LogQuery> {
    match &parse(line).ok()?[..] {
        [(_, Command::Log { wanted })] if wanted.follows() => Some(wanted.clone()),
        _ => None,
    }
}

/// `log --follow`: shows the last lines, and then what comes, until the client has gone or the time is over.
///
/// # Errors
///
/// [`End`].
pub async fn follow<'a>(
    mut channel: Channel<'_, '_, Peer<'a>>,
    node: &Node,
    tcp: &Rc<Mutex<TcpStream>>,
    wanted: &LogQuery,
) -> Result<(), End<'a>> {
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
                timeout(IDLE, channel.write_all_stderr(format!("{why}\n").as_bytes())).await??;
                return Ok(timeout(IDLE, channel.exit(FAILED)).await??);
            }
        };
        if lost != 0 {
            timeout(IDLE, channel.write_all_stderr(format!("[{lost} bytes missed]\n").as_bytes())).await??;
        }
        let all = text.lines();
        let most = if first { wanted.lines } else { usize::MAX };
        let lines = last(&all, &LogQuery { lines: most, ..wanted.clone() });
        if !lines.is_empty() {
            timeout(IDLE, channel.write_all_stdout(plain(&lines).as_bytes())).await??;
        }
        if limit.is_some_and(|limit| began.elapsed() >= limit) {
            return Ok(timeout(IDLE, channel.exit(0)).await??);
        }
        // Nothing is read, so nothing else tells that the client has gone.
        if !tcp.lock().await.is_open() {
            return Err(End::Gone(Failure::ChannelClosed));
        }
        sleep(LOOK).await;
    }
}
