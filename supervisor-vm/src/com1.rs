//! What is done on the operator's line on COM1: the monitor says it in the machine's log, where only it can, and here it is written down.

use crate::keep::Keep;
use crate::log_text::{Line, Text};
use crate::machine_log::piece;
use crate::node::Node;
use abi::control::NOTE;
use alloc::format;
use alloc::string::{String, ToString};
use ilwaco::time::unix_millis;

/// Who acts there.
const WHO: &str = "COM1";
/// The component that carries it out.
const MONITOR: &str = "monitor";
/// The outcome of what was done.
pub const DONE: &str = "done";

/// How far the log was read, and what was begun there.
pub struct Ear {
    /// The position behind what was read; `u64::MAX` where nothing was.
    from: u64,
    text: Text,
    begun: Option<String>,
    /// The last line that it has written down since somebody asked for it.
    last: Option<(u64, String)>,
}

/// What a line of the log says of the operator's line.
#[derive(Debug, PartialEq, Eq)]
enum Heard<'t> {
    /// This was typed.
    Begun(&'t str),
    /// What was begun has ended.
    Ended(&'t str),
}

fn heard<'t>(line: &Line<'t>) -> Option<Heard<'t>> {
    let text = if line.from == Some(MONITOR) { line.text } else { return None };
    match text.strip_prefix(NOTE) {
        Some(words) => Some(Heard::Begun(words)),
        None if text.starts_with("done ") => Some(Heard::Ended(DONE)),
        None => Some(Heard::Ended(text.strip_prefix("error ")?)),
    }
}

impl Ear {
    /// One that has heard as much as is kept.
    pub fn new(keep: &Keep) -> Ear {
        let heard = keep.boot.get().heard;
        Ear { from: if heard == 0 { u64::MAX } else { heard }, text: Text::default(), begun: None, last: None }
    }

    /// Writes down what was done since it has last listened.
    ///
    /// # Errors
    ///
    /// What the core refuses.
    pub async fn listen(&mut self, node: &Node) -> Result<(), String> {
        loop {
            let is_first = self.from == u64::MAX;
            let (next, lost, more) = piece(node, self.from, &mut self.text).await?;
            self.from = next;
            if lost > 0 && !is_first {
                self.begun = None;
                let what = format!("{lost} bytes of the machine's log were not read");
                node.audit.borrow_mut().add(unix_millis(), WHO, &what, "what was done on COM1 meanwhile nobody knows");
            }
            let lines = self.text.lines();
            for line in lines.lines() {
                self.take(node, line);
            }
            if !more {
                return Ok(());
            }
        }
    }

    fn take(&mut self, node: &Node, line: &str) {
        match heard(&Line::parse(line)) {
            Some(Heard::Begun(words)) => self.begun = Some(words.to_string()),
            Some(Heard::Ended(outcome)) => {
                let Some(what) = self.begun.take() else { return };
                self.last = Some(node.audit.borrow_mut().add(unix_millis(), WHO, &what, outcome));
                node.keep.note_heard(self.heard());
            }
            None => {}
        }
    }

    /// The position up to which it has listened.
    pub fn heard(&self) -> u64 {
        // Of a line only whole ones are looked at.
        let rest = u64::try_from(self.text.bytes.len()).unwrap_or(0);
        if self.from == u64::MAX { 0 } else { self.from.saturating_sub(rest) }
    }

    /// The number and the hash of the last line that it has written down since it was asked last.
    pub fn take_last(&mut self) -> Option<(u64, String)> {
        self.last.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_monitor_says_what_was_done() {
        let of = |line: &'static str| heard(&Line::parse(line));
        let begun = of("[    1.000000] INFO  component: monitor: operator: kill netmux");
        assert_eq!(begun, Some(Heard::Begun("kill netmux")));
        assert_eq!(of("[    1.000000] INFO  component: monitor: done kill"), Some(Heard::Ended("done")));
        let why = of("[    1.000000] INFO  component: monitor: error kill: no component x; see");
        assert_eq!(why, Some(Heard::Ended("kill: no component x; see")));
        for other in [
            "[    1.000000] INFO  component: monitor: component name=netmux",
            "[    1.000000] INFO  component: netmux: operator: kill sched",
            "[    1.000000] INFO  guest: vm1.1: component: monitor: operator: kill sched",
            "operator: kill netmux",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
