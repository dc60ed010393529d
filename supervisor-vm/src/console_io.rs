//! What a VM's console says, and what it is given: the core's answers, for people at a console and for programs.

use crate::node::Node;
use crate::refusal::said;
use abi::control::{ControlReply, ControlRequest, status};
use abi::limits::WATCHES;
use abi::request_page::Piece;
use abi::vm::VmId;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use ilwaco::control::Error;

/// Where what a console has said is put in the request page, and how much of it at a time.
pub const PIECE: Piece = Piece { offset: 2048, len: 2048 };

/// Some of what a console has said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The position behind it.
    pub next: u64,
    /// How many bytes before it are lost.
    pub missed: u64,
    /// The text.
    pub text: Vec<u8>,
}

impl Heard {
    /// Whether there may be more.
    pub fn has_more(&self) -> bool {
        self.text.len() == usize::from(PIECE.len)
    }
}

/// What a VM has said from a position on, `u64::MAX` for the earliest that is there, or the first part of that. `None` when it has ended.
///
/// # Errors
///
/// Too many are watched, or what the core refuses.
pub async fn hear(node: &Node, id: VmId, from: u64) -> Result<Option<Heard>, String> {
    let mut control = node.control().await;
    match control.ask(ControlRequest::ConsoleRead { vm: id, from, to: PIECE }, drop).await.map_err(said)? {
        ControlReply::Console { next, missed, bytes, .. } => {
            let len = u16::try_from(bytes).unwrap_or(0).min(PIECE.len);
            let text = control.read(Piece { len, ..PIECE }).unwrap_or_default();
            Ok(Some(Heard { next, missed, text }))
        }
        ControlReply::Done { status: status::NOT_FOUND, .. } => Ok(None),
        ControlReply::Done { status: status::CONSOLES_TAKEN, .. } => {
            Err(format!("{WATCHES} consoles are watched already: leave one, and try again after 10 s"))
        }
        ControlReply::Done { status: status::NO_FRAMES, .. } => {
            Err("there is no memory to watch a console: end a VM".to_string())
        }
        ControlReply::Done { status, .. } => Err(said(Error::Refused(status))),
        _ => Err(said(Error::Answer)),
    }
}

/// Offers a VM some bytes: how many it has taken. `None` when it has ended.
///
/// # Errors
///
/// What the core refuses.
pub async fn offer(node: &Node, id: VmId, bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut control = node.control().await;
    let from = control.write(PIECE.offset, bytes).ok_or_else(|| said(Error::Answer))?;
    match control.ask(ControlRequest::ConsoleWrite { vm: id, from }, drop).await.map_err(said)? {
        ControlReply::Done { status: status::OK, value } => Ok(Some(usize::try_from(value).unwrap_or(0))),
        ControlReply::Done { status: status::BUSY, .. } => Ok(Some(0)),
        ControlReply::Done { status: status::NOT_FOUND, .. } => Ok(None),
        ControlReply::Done { status, .. } => Err(said(Error::Refused(status))),
        _ => Err(said(Error::Answer)),
    }
}
