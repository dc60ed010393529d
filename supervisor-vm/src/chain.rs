//! Who has done what, and which VMs have ended: a list to which lines are added and in which none can be changed afterwards without a trace. Each
//! line has a hash over itself and the hash of the line before; hashes of what people do are in the machine's log, too, which this VM cannot take
//! back. `docs/supervisor.md` explains the format, and `cargo xtask audit-verify` checks it.

use crate::shown::shown_up_to;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use core::fmt::Write;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Bytes of lines that are kept; older ones are dropped.
pub const BYTES: usize = 128 * 1024;
/// Characters of a text in a line at most.
const TEXT: usize = 256;
/// What stands in front of the first line.
const BEGINNING: [u8; 32] = [0; 32];

/// What stands in a line, in this order, before its hash.
#[derive(Serialize)]
struct Line<'a> {
    n: u64,
    unix_ms: u64,
    who: &'a str,
    what: &'a str,
    outcome: &'a str,
}

/// The list.
pub struct Audit {
    lines: VecDeque<(String, [u8; 32])>,
    bytes: usize,
    /// The hash of the last line that was dropped.
    before: [u8; 32],
    /// Lines that there have been.
    count: u64,
    /// VMs that have ended and were written down.
    pub ended: u64,
}

impl Default for Audit {
    fn default() -> Audit {
        Audit { lines: VecDeque::new(), bytes: 0, before: BEGINNING, count: 0, ended: 0 }
    }
}

/// A hash as it is written.
pub fn hex(hash: &[u8; 32]) -> String {
    hash.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Audit {
    /// Adds a line. Its number and its hash.
    pub fn add(&mut self, unix_ms: u64, who: &str, what: &str, outcome: &str) -> (u64, String) {
        self.count += 1;
        let [who, what, outcome] = [who, what, outcome].map(|text| shown_up_to(text, TEXT));
        let line = Line { n: self.count, unix_ms, who: &who, what: &what, outcome: &outcome };
        let mut text = serde_json::to_string(&line).unwrap_or_default();
        text.pop();
        let before = self.lines.back().map_or(self.before, |(_, hash)| *hash);
        let mut hash = Sha256::new();
        hash.update(hex(&before));
        hash.update(&text);
        let hash: [u8; 32] = hash.finalize().into();
        let shown = hex(&hash);
        let _ = writeln!(text, ",\"hash\":\"{shown}\"}}");
        self.bytes += text.len();
        self.lines.push_back((text, hash));
        while self.bytes > BYTES
            && let Some((old, hash)) = self.lines.pop_front()
        {
            self.bytes -= old.len();
            self.before = hash;
        }
        (self.count, shown)
    }

    /// All lines that are kept, behind one that says where they begin.
    pub fn export(&self) -> String {
        let first = self.count - self.lines.len() as u64 + 1;
        let mut text = format!("{{\"audit\":\"foraker\",\"first\":{first},\"before\":\"{}\"}}\n", hex(&self.before));
        self.lines.iter().for_each(|(line, _)| text.push_str(line));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    /// Whether the hashes of an export are those of its lines.
    fn is_whole(export: &str) -> bool {
        let mut lines = export.lines();
        let mut before =
            lines.next().and_then(|line| line.split("\"before\":\"").nth(1)).expect("a beginning")[..64].to_string();
        lines.all(|line| {
            let (text, hash) = line.split_once(",\"hash\":\"").expect("a hash");
            let found = hex(&Sha256::digest(before.to_string() + text).into());
            before = hash[..64].to_string();
            before == found
        })
    }

    #[test]
    fn a_line_that_is_changed_is_found() {
        let mut audit = Audit::default();
        audit.add(1, "SHA256:abc at 10.0.2.2:99", "vm kill web-17", "done");
        let (number, hash) = audit.add(2, "core", "vm3.1 ended", "destroyed \"by\" \n its owner");
        let export = audit.export();
        assert!(number == 2 && export.contains(&hash) && is_whole(&export), "{export}");
        assert_eq!(export.lines().count(), 3);
        for (from, to) in [("web-17", "web-18"), ("\"n\":1", "\"n\":3"), ("core", "Core")] {
            assert!(!is_whole(&export.replace(from, to)), "{from}");
        }
        let without_second: String =
            export.lines().enumerate().filter(|(at, _)| *at != 1).map(|(_, line)| format!("{line}\n")).collect();
        assert!(!is_whole(&without_second));
    }

    #[test]
    fn old_lines_are_dropped_and_the_rest_is_whole() {
        let mut audit = Audit::default();
        let long = "x".repeat(1000);
        (0..1000).for_each(|_| _ = audit.add(u64::MAX, &long, &long, &long));
        let export = audit.export();
        assert!(export.len() <= BYTES + 200 && export.len() > BYTES / 2 && is_whole(&export));
        assert!(!export.starts_with("{\"audit\":\"foraker\",\"first\":1,") && export.contains("\"n\":1000,"));
    }
}
