//! What the machine says on its serial line, a line at a time.

use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The machine's log: filled by a thread that reads the serial line, read by everybody else.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    closed: bool,
}

/// Why a wait ended without what it waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// The time was up.
    Timeout,
    /// The machine has gone: there will be no more lines.
    Closed,
}

impl Log {
    /// A log that a new thread fills from `source` until it ends. Every byte also goes to `copy`, and every line, behind
    /// `prefix`, to standard error when there is a prefix.
    pub fn follow(
        source: impl Read + Send + 'static,
        copy: impl Write + Send + 'static,
        prefix: Option<String>,
    ) -> Log {
        let log = Log(Arc::new(Shared { state: Mutex::new(State::default()), changed: Condvar::new() }));
        let thread = log.clone();
        std::thread::spawn(move || thread.fill(source, copy, prefix.as_deref()));
        log
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nobody panics with the lock held; if so, the lines are still good.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, mut source: impl Read, mut copy: impl Write, prefix: Option<&str>) {
        let mut buffer = [0; 4096];
        let mut line = Vec::new();
        loop {
            let count = match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            // The copy is for reading afterwards; losing it must not stop the machine.
            let _ = copy.write_all(&buffer[..count]).and_then(|()| copy.flush());
            for &byte in &buffer[..count] {
                match byte {
                    b'\n' => self.push(&mut line, prefix),
                    b'\r' => {}
                    _ => line.push(byte),
                }
            }
        }
        if !line.is_empty() {
            self.push(&mut line, prefix);
        }
        self.lock().closed = true;
        self.0.changed.notify_all();
    }

    fn push(&self, line: &mut Vec<u8>, prefix: Option<&str>) {
        let text = String::from_utf8_lossy(line).into_owned();
        line.clear();
        if let Some(prefix) = prefix {
            eprintln!("{prefix}{text}");
        }
        self.lock().lines.push(text);
        self.0.changed.notify_all();
    }

    /// How many lines there are: a mark for [`Log::wait`].
    pub fn len(&self) -> usize {
        self.lock().lines.len()
    }

    /// Whether there will be no more lines: the machine has gone.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// A copy of the lines from the mark `from`.
    pub fn since(&self, from: usize) -> Vec<String> {
        self.lock().lines.get(from..).unwrap_or_default().to_vec()
    }

    /// Waits until `done`, called with all lines from the mark `from` on whenever there are new ones, gives a value.
    pub fn wait<T>(
        &self,
        from: usize,
        timeout: Duration,
        mut done: impl FnMut(&[String]) -> Option<T>,
    ) -> Result<T, Missed> {
        let end = Instant::now() + timeout;
        let mut state = self.lock();
        loop {
            if let Some(value) = done(state.lines.get(from..).unwrap_or_default()) {
                return Ok(value);
            }
            if state.closed {
                return Err(Missed::Closed);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Missed::Timeout);
            }
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The last `count` lines, indented.
    pub fn tail(&self, count: usize) -> String {
        let state = self.lock();
        let from = state.lines.len().saturating_sub(count);
        state.lines[from..].iter().map(|line| format!("    {line}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_and_the_end_is_seen() {
        let log = Log::follow(&b"one\r\ntwo\nthr"[..], std::io::sink(), None);
        let found = log.wait(0, Duration::from_secs(5), |lines| lines.iter().position(|line| line == "two"));
        assert_eq!(found, Ok(1));
        assert_eq!(log.wait(2, Duration::from_secs(5), |lines| lines.first().cloned()), Ok("thr".to_owned()));
        assert_eq!(log.wait(0, Duration::from_secs(5), |_| None::<()>), Err(Missed::Closed));
        assert!(log.is_closed());
        assert_eq!(log.tail(1), "    thr\n");
    }
}
