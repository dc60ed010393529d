//! One line after the other, for a person at a terminal. The terminal is the client's own: it edits lines, and sends them when they are whole.
//!
//! The library reads a channel to its end once somebody reads on, and nothing can be written meanwhile: so a line is asked for byte by byte, which
//! takes a round trip each.

use crate::peer::{End, Failure, IDLE, NO_COMMAND, Peer, Server, run};
use alloc::string::String;
use alloc::vec::Vec;
use ilwaco::time::timeout;
use zssh::Channel;

/// The command for which a client is asked line by line.
pub const WORD: &str = "shell";
/// Bytes of a line at most.
pub const LINE: usize = 4096;
/// What one sees first.
const GREETING: &str = "Foraker. A command a line; `help` shows all, `exit` or Ctrl-D ends this.\n";
/// What stands in front of each line.
const PROMPT: &[u8] = b"foraker> ";

/// Carries line by line out, whether they fail or not, until the person has enough. The status is that of the last one.
///
/// # Errors
///
/// [`End`].
pub async fn talk<'a>(mut channel: Channel<'_, '_, Peer<'a>>, server: &Server, name: &str) -> Result<(), End<'a>> {
    log::info!("ssh: {name} with {}: a shell", channel.user());
    timeout(IDLE, channel.write_all_stdout(GREETING.as_bytes())).await??;
    let mut status = 0;
    loop {
        timeout(IDLE, channel.write_all_stdout(PROMPT)).await??;
        let Some(line) = timeout(IDLE, read_line(&mut channel)).await?? else {
            timeout(IDLE, channel.write_all_stdout(b"\n")).await??;
            break;
        };
        let Some(line) = String::from_utf8(line).ok().filter(|line| line.len() <= LINE) else {
            status = NO_COMMAND;
            let why = b"that is no line of text in UTF-8 with 4096 bytes at most\n";
            timeout(IDLE, channel.write_all_stdout(why)).await??;
            continue;
        };
        match line.trim() {
            "exit" | "quit" | "logout" => break,
            "" => {}
            line => status = timeout(IDLE, run(&mut channel, server, name, line, None)).await??,
        }
        if server.node().power.goes() {
            break;
        }
    }
    Ok(timeout(IDLE, channel.exit(status)).await??)
}

/// The next line, without its end; of one that is longer than [`LINE`] one byte more than that. What stands before the end of the input without an
/// end of the line is one, too. `None` where nothing does.
///
/// # Errors
///
/// The connection breaks.
pub async fn read_line<'a>(channel: &mut Channel<'_, '_, Peer<'a>>) -> Result<Option<Vec<u8>>, Failure<'a>> {
    let mut bytes = Vec::new();
    loop {
        let mut byte = [0];
        match (channel.read_exact_stdin(&mut byte).await?, byte) {
            (0, _) if bytes.is_empty() => return Ok(None),
            (0, _) | (_, [b'\n' | b'\r']) => return Ok(Some(bytes)),
            (_, [byte]) if bytes.len() <= LINE => bytes.push(byte),
            _ => {}
        }
    }
}
