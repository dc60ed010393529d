//! The machine's log and the consoles of VMs over HTTP, for programs that show a token.

use crate::act::console_of;
use crate::api::is_there;
use crate::audit;
use crate::console_io::{Heard, hear, offer};
use crate::editor::LINE;
use crate::log_query::LogQuery;
use crate::machine_log;
use crate::node::Node;
use crate::peer::IDLE;
use crate::reply::{NOTHING, Reply};
use crate::show::as_json;
use crate::shown::shown;
use abi::guest::INPUT_BYTES;
use abi::vm::VmId;
use alloc::format;
use alloc::string::String;
use ilwaco::control::{news, news_since};
use ilwaco::time::{Duration, Instant, sleep, timeout};
use serde::{Deserialize, Serialize};

/// How often it is looked while somebody waits.
const PAUSE: Duration = Duration::from_millis(50);
/// How long somebody may wait for something to be said.
const WAITS: u64 = 10;
/// How long a VM may take nothing of a line.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that one answer has at most, or a piece more.
const MOST: usize = 16 * 1024;
/// Those who are remembered to have come to a console.
const VISITS: usize = 256;

/// What a console has said, as it is shown.
#[derive(Serialize)]
struct ShownConsole<'a> {
    vm: &'a str,
    id: String,
    next: u64,
    missed: u64,
    text: String,
}

/// A line for a VM, as a body says it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewLine {
    line: String,
}

/// `GET /log.json`.
pub async fn log(node: &Node, query: &str) -> Reply {
    let mut wanted = LogQuery { json: true, ..LogQuery::default() };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let taken = if key == "for" { Err("lines, level or from") } else { wanted.take(key, value) };
        if let Err(takes) = taken {
            return Reply::refused("400 Bad Request", &format!("{} {}: give {takes}", shown(key), shown(value)));
        }
    }
    match machine_log::show(node, &wanted).await {
        Ok(body) => Reply::json("200 OK", body),
        Err(why) => Reply::refused("503 Service Unavailable", &why),
    }
}

/// From which position on, and for how long somebody waits.
fn parse(query: &str) -> Result<(u64, Duration), String> {
    let (mut from, mut wait) = (u64::MAX, Duration::ZERO);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let number = || value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse::<u64>().ok()).flatten();
        let takes = match (key, number()) {
            ("from", Some(number)) => {
                from = number;
                continue;
            }
            ("wait", Some(seconds @ 0..=WAITS)) => {
                wait = Duration::from_secs(seconds);
                continue;
            }
            ("from", _) => "the `next` of an answer",
            ("wait", _) => "a number of seconds from 0 to 10",
            _ => "from or wait",
        };
        return Err(format!("{} {}: give {takes}", shown(key), shown(value)));
    }
    Ok((from, wait))
}

/// Writes down that somebody is at a console, unless that was done some minutes ago.
async fn visit(node: &Node, who: &str, vm: &str, id: VmId) {
    let key = (String::from(who.split(" at ").next().unwrap_or(who)), id.raw());
    let now = Instant::now();
    {
        let mut visits = node.visits.borrow_mut();
        visits.retain(|_, at| at.elapsed() < IDLE);
        if visits.contains_key(&key) {
            return;
        }
        if visits.len() < VISITS {
            visits.insert(key, now);
        }
    }
    audit::done(node, who, &format!("vm console {vm}"), audit::DONE).await;
}

/// The VM whose console somebody wants.
async fn find(node: &Node, who: &str, vm: &str) -> Result<VmId, Reply> {
    match console_of(node, vm) {
        Ok(id) => {
            visit(node, who, vm, id).await;
            Ok(id)
        }
        Err(why) if is_there(node, vm).await => Err(Reply::refused("409 Conflict", &why)),
        Err(why) => Err(Reply::refused("404 Not Found", &why)),
    }
}

fn ended(vm: &str) -> Reply {
    Reply::refused("404 Not Found", &format!("{vm} does not run (any more): `vm list` shows all"))
}

/// `GET /vms/VM/console`: what it has said from a position on.
pub async fn read(node: &Node, who: &str, vm: &str, query: &str) -> Reply {
    let (from, wait) = match parse(query) {
        Ok(asked) => asked,
        Err(why) => return Reply::refused("400 Bad Request", &why),
    };
    let id = match find(node, who, vm).await {
        Ok(id) => id,
        Err(reply) => return reply,
    };
    let (began, mut all) = (Instant::now(), Heard { next: from, ..Heard::default() });
    loop {
        let seen = news();
        match hear(node, id, all.next).await {
            Ok(Some(heard)) => {
                let has_more = heard.has_more();
                all.next = heard.next;
                // What was lost in the middle is missing there: what came before that is told first, as all that is there is a piece or two.
                all.missed += heard.missed;
                all.text.extend(heard.text);
                if has_more && all.text.len() < MOST {
                    continue;
                }
            }
            Ok(None) if all.text.is_empty() => return ended(vm),
            Ok(None) => break,
            Err(why) => return Reply::refused("503 Service Unavailable", &why),
        }
        let left = wait.saturating_sub(began.elapsed());
        if !all.text.is_empty() || all.missed != 0 || left.is_zero() {
            break;
        }
        sleep(PAUSE).await;
        let _ = timeout(left.min(Duration::from_secs(1)), news_since(seen)).await;
    }
    let text = String::from_utf8_lossy(&all.text).into_owned();
    match as_json(&ShownConsole { vm, id: format!("{id}"), next: all.next, missed: all.missed, text }) {
        Ok(body) => Reply::json("200 OK", body),
        Err(why) => Reply::refused("503 Service Unavailable", &why),
    }
}

/// `POST /vms/VM/console`: a line for it.
pub async fn write(node: &Node, who: &str, vm: &str, body: &[u8]) -> Reply {
    let line = match line_of(body) {
        Ok(line) => line,
        Err(why) => return Reply::refused("400 Bad Request", &why),
    };
    let id = match find(node, who, vm).await {
        Ok(id) => id,
        Err(reply) => return reply,
    };
    let (mut rest, mut since) = (line.as_bytes(), Instant::now());
    while !rest.is_empty() {
        match offer(node, id, rest.get(..INPUT_BYTES).unwrap_or(rest)).await {
            Ok(None) => return ended(vm),
            Ok(Some(0)) if since.elapsed() >= PATIENCE => {
                let why = format!("{vm} does not read its console: {} bytes were not taken", rest.len());
                return Reply::refused("409 Conflict", &why);
            }
            Ok(Some(0)) => sleep(PAUSE).await,
            Ok(Some(taken)) => (rest, since) = (rest.get(taken..).unwrap_or_default(), Instant::now()),
            Err(why) => return Reply::refused("503 Service Unavailable", &why),
        }
    }
    Reply::text(NOTHING, "")
}

/// The line of a body, with its end.
fn line_of(body: &[u8]) -> Result<String, String> {
    let NewLine { line } = serde_json::from_slice(body)
        .map_err(|error| format!("that is no line: {}; give {{\"line\":\"6 * 7\"}}", shown(&format!("{error}"))))?;
    if line.chars().any(char::is_control) {
        return Err(String::from(
            "a line has no end of its own, and nothing that moves a cursor: give one line of text",
        ));
    }
    if line.len() > LINE {
        return Err(format!("a line has {LINE} bytes at most: give it in pieces"));
    }
    Ok(line + "\n")
}

#[cfg(test)]
#[path = "heard_tests.rs"]
mod tests;
