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
const LINE: usize = 4096;
/// What one sees first.
const GREETING: &str = "Foraker. A command a line; `help` shows all, `exit` or Ctrl-D ends this.\n";
/// What stands in front of each line.
const PROMPT: &[u8] = b"foraker> ";

/// What a person has said.
enum Line {
    /// This.
    Text(String),
    /// Something that is no text, or too long.
    Bad,
    /// That this was all.
    End,
}

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
        let line = match timeout(IDLE, read_line(&mut channel)).await?? {
            Line::Text(line) => line,
            Line::Bad => {
                status = NO_COMMAND;
                let why = b"that is no line of text in UTF-8 with 4096 bytes at most\n";
                timeout(IDLE, channel.write_all_stdout(why)).await??;
                continue;
            }
            Line::End => {
                timeout(IDLE, channel.write_all_stdout(b"\n")).await??;
                break;
            }
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

/// The next line; what stands before the end without an end of the line is one, too.
async fn read_line<'a>(channel: &mut Channel<'_, '_, Peer<'a>>) -> Result<Line, Failure<'a>> {
    let (mut bytes, mut long) = (Vec::new(), false);
    loop {
        let mut byte = [0];
        match (channel.read_exact_stdin(&mut byte).await?, byte) {
            (0, _) if bytes.is_empty() => return Ok(Line::End),
            (0, _) | (_, [b'\n' | b'\r']) => break,
            (_, [byte]) if bytes.len() < LINE => bytes.push(byte),
            _ => long = true,
        }
    }
    Ok(String::from_utf8(bytes).ok().filter(|_| !long).map_or(Line::Bad, Line::Text))
}
