//! Somebody who sits at a command that goes on.

use super::ensure;
use super::supervisor::{Login, plain};
use crate::error::{Context, Result, fail};
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// How long something may take with another machine beside.
pub const SOON: Duration = Duration::from_secs(120);

/// Somebody at a command.
pub struct Seat {
    child: Child,
    /// What is typed; `None` when that was all.
    pub input: Option<ChildStdin>,
    output: Receiver<(usize, Vec<u8>)>,
    /// What came on standard output, and on standard error, behind what was waited for there. Which of the two comes first is nobody's word.
    seen: [String; 2],
    /// At a terminal, whose cursor is moved: what was shown and is not looked at yet.
    terminal: Option<String>,
}

impl Seat {
    /// Gives the command.
    pub fn take(login: &Login, line: &str) -> Result<Seat> {
        Seat::of(login.start(line)?, None)
    }

    /// At a terminal, behind a command of the shell's there: `words` are the client's.
    pub fn at_terminal(login: &Login, first: &str, words: &str) -> Result<Seat> {
        let mut script = login.at_terminal(first, words);
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Seat::of(script.spawn().context(|| "cannot start script".into())?, Some(String::new()))
    }

    /// One of a client with pipes at its ends.
    pub fn of(mut child: Child, terminal: Option<String>) -> Result<Seat> {
        let input = child.stdin.take();
        let (sender, output) = mpsc::channel();
        let streams: [Option<Box<dyn Read + Send>>; 2] =
            [child.stdout.take().map(|out| Box::new(out) as _), child.stderr.take().map(|error| Box::new(error) as _)];
        for (which, stream) in streams.into_iter().enumerate() {
            let (sender, Some(mut stream)) = (sender.clone(), stream) else { continue };
            thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(len @ 1..) = stream.read(&mut bytes) {
                    if sender.send((which, bytes[..len].to_vec())).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Seat { child, input, output, seen: [String::new(), String::new()], terminal })
    }

    /// Types.
    pub fn types(&mut self, text: &str) -> Result<()> {
        let Some(input) = &mut self.input else { fail!("nothing more can be typed") };
        input.write_all(text.as_bytes()).context(|| format!("cannot type {text:?}"))
    }

    /// Waits until this was shown, on either output, behind what was waited for there before.
    pub fn sees(&mut self, text: &str) -> Result<()> {
        let end = Instant::now() + SOON;
        loop {
            for seen in &mut self.seen {
                if let Some((_, behind)) = seen.split_once(text) {
                    *seen = behind.to_owned();
                    return Ok(());
                }
            }
            match self.output.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok((which, bytes)) => self.look(which, &String::from_utf8_lossy(&bytes)),
                Err(_) => fail!("{text:?} is not shown, but {:?}", self.seen),
            }
        }
    }

    fn look(&mut self, which: usize, text: &str) {
        let Some(pending) = &mut self.terminal else {
            self.seen[which] += text;
            return;
        };
        *pending += text;
        // Half of what moves a cursor is waited for.
        let half = pending.rfind('\x1b').filter(|at| !pending[*at..].contains(|c: char| c.is_ascii_alphabetic()));
        let rest = pending.split_off(half.unwrap_or(pending.len()));
        self.seen[which] += &plain(&core::mem::replace(pending, rest));
    }

    /// The status, when the client has ended by itself.
    pub fn ends(mut self, status: i32) -> Result<()> {
        let end = Instant::now() + SOON;
        loop {
            if let Some(found) = self.child.try_wait().context(|| "ssh".into())? {
                return ensure(found.code() == Some(status), || {
                    format!("{found} instead of {status}: {:?}", self.seen)
                });
            }
            if Instant::now() >= end {
                fail!("it does not end: {:?}", self.seen);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}
