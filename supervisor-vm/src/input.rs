//! What a client sends on its standard input.

use crate::editor::LINE;
use crate::session::{Session, Stop};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// Bytes of a text at most.
pub const TEXT: usize = 256 * 1024;
/// Bytes that are taken at once.
pub const PIECE: usize = 1024;
/// Why none is taken from a terminal, which has no end and changes what comes.
pub const NO_TERMINAL: &str = "a file comes on standard input, without a terminal: leave out -t\n";

/// Reads a text to its end: who hangs up in the middle has done nothing. What is wrong with it, in the place of one that is none or too long, for
/// which `factor` times its bytes of memory are not there among others.
///
/// # Errors
///
/// [`Stop`].
pub async fn text(session: &Session, what: &str, factor: usize) -> Result<Result<String, String>, Stop> {
    if session.size().is_some() {
        return Ok(Err(NO_TERMINAL.to_string()));
    }
    let mut bytes = Vec::new();
    let mut piece = vec![0; PIECE];
    let mut too_long = false;
    while let Some(read) = session.read(&mut piece).await? {
        let len = bytes.len() + read;
        // It is read to its end all the same: whoever sends it hears then what is wrong with it.
        too_long |= len > TEXT || !ilwaco::has_memory_for(factor * len);
        if too_long {
            bytes = Vec::new();
        } else {
            bytes.extend_from_slice(piece.get(..read).unwrap_or_default());
        }
    }
    if too_long {
        return Ok(Err(format!("a {what} has {TEXT} bytes at most: divide it\n")));
    }
    Ok(String::from_utf8(bytes).map_err(|_| format!("the {what} is no text in UTF-8\n")))
}

/// The next line, without its end; of one that is longer than [`LINE`] one byte more than that. What stands before the end of the input without an
/// end of the line is one, too. `None` where nothing does.
///
/// # Errors
///
/// [`Stop`].
pub async fn line(session: &Session) -> Result<Option<Vec<u8>>, Stop> {
    let mut bytes = Vec::new();
    loop {
        let mut byte = [0];
        match (session.read(&mut byte).await?, byte) {
            (None, _) if bytes.is_empty() => return Ok(None),
            (None, _) | (_, [b'\n' | b'\r']) => return Ok(Some(bytes)),
            (_, [byte]) if bytes.len() <= LINE => bytes.push(byte),
            _ => {}
        }
    }
}
