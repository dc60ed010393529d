//! What a client sends on its standard input.

use crate::peer::{Failure, Peer};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use zssh::Channel;

/// Bytes of a text at most.
pub const TEXT: usize = 256 * 1024;

/// Reads a text to its end: who hangs up in the middle has done nothing. What is wrong with it, in the place of one that is none or too long, for
/// which `factor` times its bytes of memory are not there among others.
///
/// # Errors
///
/// The connection breaks.
pub async fn text<'a>(
    channel: &mut Channel<'_, '_, Peer<'a>>,
    what: &str,
    factor: usize,
) -> Result<Result<String, String>, Failure<'a>> {
    let mut bytes = Vec::new();
    let mut too_long = false;
    let mut reader = channel.reader(None).await?;
    while let Some(read) = reader.read().await? {
        let len = bytes.len() + read.len();
        // The library wants all to be read before it writes.
        too_long |= len > TEXT || !ilwaco::has_memory_for(factor * len);
        if too_long {
            bytes = Vec::new();
        } else {
            bytes.extend_from_slice(read);
        }
    }
    if too_long {
        return Ok(Err(format!("a {what} has {TEXT} bytes at most: divide it\n")));
    }
    Ok(String::from_utf8(bytes).map_err(|_| format!("the {what} is no text in UTF-8\n")))
}
