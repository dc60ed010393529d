//! `log`: the machine's log. The core keeps the last of it, from its first line on, and is asked by position; so what was said before this VM began is there, too.

use crate::log_query::LogQuery;
use crate::log_text::{Text, last, plain};
use crate::node::Node;
use crate::refusal::{running, said};
use crate::show::as_json;
use abi::control::{ControlReply, ControlRequest};
use abi::request_page::Piece;
use alloc::string::{String, ToString};
use ilwaco::control::Error;

/// Where what was logged is put in the request page, and how much of it at a time.
const PIECE: Piece = Piece { offset: 2048, len: 2048 };

/// Memory that the answer of `log` takes: the log, its lines, and what is shown of them.
const ANSWER: usize = 256 << 10;

/// Fetches what was logged from a position on, `u64::MAX` for the earliest, onto what is there. The position behind it, and how many bytes are lost.
///
/// # Errors
///
/// What the core refuses.
pub async fn fetch(node: &Node, mut from: u64, text: &mut Text) -> Result<(u64, u64), String> {
    let mut lost = 0;
    loop {
        let (next, missed, more) = piece(node, from, text).await?;
        (from, lost) = (next, lost + missed);
        if !more {
            return Ok((from, lost));
        }
    }
}

/// The same of as much as comes at a time; and whether there is more.
///
/// # Errors
///
/// What the core refuses.
pub async fn piece(node: &Node, from: u64, text: &mut Text) -> Result<(u64, u64, bool), String> {
    // Others may ask in between.
    let mut control = node.control().await;
    let reply = control.ask(ControlRequest::LogRead { from, to: PIECE }, drop).await.map_err(said)?;
    let ControlReply::Log { next, missed, bytes } = reply else { return Err(said(Error::Answer)) };
    let len = u16::try_from(bytes).unwrap_or(0).min(PIECE.len);
    let began = next.saturating_sub(len.into());
    if missed != 0 || (from == u64::MAX && began != 0) {
        text.bytes.clear();
        text.torn = true;
    }
    text.bytes.extend(control.read(Piece { len, ..PIECE }).unwrap_or_default());
    Ok((next, missed, len == PIECE.len))
}

/// As the log names whoever an operator means: a VM with a name is there under its id.
pub fn by_id(node: &Node, wanted: &LogQuery) -> LogQuery {
    let from = wanted.from.as_ref().map(|from| match node.names.borrow().get(from) {
        Some(_) => running(node, from).map_or_else(|_| from.clone(), |id| id.to_string()),
        None => from.clone(),
    });
    LogQuery { from, ..wanted.clone() }
}

/// `log`, without `--follow`.
///
/// # Errors
///
/// What the core refuses.
pub async fn show(node: &Node, wanted: &LogQuery) -> Result<String, String> {
    let wanted = by_id(node, wanted);
    let _room = node.room(ANSWER)?;
    let mut text = Text::default();
    fetch(node, u64::MAX, &mut text).await?;
    let text = text.lines();
    let lines = last(&text, &wanted);
    if wanted.json { as_json(&lines) } else { Ok(plain(&lines)) }
}
