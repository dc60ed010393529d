//! Somebody who sits at a command that goes on.

use super::ensure;
use super::supervisor::Login;
use crate::error::{Context, Result, fail};
use std::io::{Read, Write};
use std::process::{Child, ChildStdin};
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
    output: Receiver<Vec<u8>>,
    seen: String,
}

impl Seat {
    /// Gives the command.
    pub fn take(login: &Login, line: &str) -> Result<Seat> {
        let mut child = login.start(line)?;
        let input = child.stdin.take();
        let (sender, output) = mpsc::channel();
        let streams: [Option<Box<dyn Read + Send>>; 2] =
            [child.stdout.take().map(|out| Box::new(out) as _), child.stderr.take().map(|error| Box::new(error) as _)];
        for mut stream in streams.into_iter().flatten() {
            let sender = sender.clone();
            thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(len @ 1..) = stream.read(&mut bytes) {
                    if sender.send(bytes[..len].to_vec()).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Seat { child, input, output, seen: String::new() })
    }

    /// Types.
    pub fn types(&mut self, text: &str) -> Result<()> {
        let Some(input) = &mut self.input else { fail!("nothing more can be typed") };
        input.write_all(text.as_bytes()).context(|| format!("cannot type {text:?}"))
    }

    /// Waits until this was shown behind what was waited for before.
    pub fn sees(&mut self, text: &str) -> Result<()> {
        let end = Instant::now() + SOON;
        loop {
            if let Some((_, behind)) = self.seen.split_once(text) {
                self.seen = behind.to_owned();
                return Ok(());
            }
            match self.output.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.seen += &String::from_utf8_lossy(&bytes),
                Err(_) => fail!("{text:?} is not shown, but {:?}", self.seen),
            }
        }
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
