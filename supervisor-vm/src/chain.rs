//! Who has done what, and which VMs have ended: a list to which lines are added and in which none can be changed afterwards without a trace. Each
//! line has a hash over itself and the hash of the line before; hashes of what people do are in the machine's log, too, which this VM cannot take
//! back. `docs/supervisor.md` explains the format, and `cargo xtask audit-verify` checks it.

use crate::lines::{BEFORE_HASH, BEHIND_HASH, Line, Lines, hash, hex};
use crate::shown::shown_up_to;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use core::fmt::Write;
use serde::Serialize;

/// Bytes of lines that are kept; older ones are dropped.
pub const BYTES: usize = 128 * 1024;
/// Characters of a text in a line at most.
const TEXT: usize = 256;
/// What stands in front of the first line.
const BEGINNING: [u8; 32] = [0; 32];

/// What stands in a line, in this order, before its hash.
#[derive(Serialize)]
struct Said<'a> {
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

impl Audit {
    /// Adds a line. Its number and its hash.
    pub fn add(&mut self, unix_ms: u64, who: &str, what: &str, outcome: &str) -> (u64, String) {
        self.count += 1;
        let [who, what, outcome] = [who, what, outcome].map(|text| shown_up_to(text, TEXT));
        let line = Said { n: self.count, unix_ms, who: &who, what: &what, outcome: &outcome };
        let mut text = serde_json::to_string(&line).unwrap_or_default();
        text.pop();
        let before = self.lines.back().map_or(self.before, |(_, hash)| *hash);
        let hash = hash(&before, &text);
        let shown = hex(&hash);
        let _ = write!(text, "{BEFORE_HASH}{shown}{BEHIND_HASH}");
        self.push(text, hash);
        (self.count, shown)
    }

    fn push(&mut self, text: String, hash: [u8; 32]) {
        self.bytes += text.len();
        self.lines.push_back((text, hash));
        while self.bytes > BYTES
            && let Some((old, hash)) = self.lines.pop_front()
        {
            self.bytes -= old.len();
            self.before = hash;
        }
    }

    /// Goes on behind these lines, which were kept, in the place of its own. Nothing may have been added so far.
    pub fn go_on_behind(&mut self, lines: Lines) {
        debug_assert_eq!(self.count, 0, "lines were added");
        (self.before, self.count) = (lines.before, lines.next() - 1);
        lines.lines.into_iter().for_each(|(text, hash)| self.push(text, hash));
    }

    /// Lines that there have been.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The number of the first line that is in memory.
    pub fn first(&self) -> u64 {
        self.count - self.lines.len() as u64 + 1
    }

    /// The lines from this number on that are in memory.
    pub fn since(&self, number: u64) -> impl Iterator<Item = Line<'_>> {
        let skipped = usize::try_from(number.saturating_sub(self.first())).unwrap_or(usize::MAX);
        let before = core::iter::once(self.before).chain(self.lines.iter().map(|(_, hash)| *hash));
        let numbered = (self.first()..).zip(self.lines.iter()).zip(before);
        numbered.skip(skipped).map(|((number, (text, _)), before)| Line { number, before, text })
    }

    /// What stands in front of an export whose first line has this number, behind one of this hash.
    pub fn beginning(first: u64, before: &[u8; 32]) -> String {
        format!("{{\"audit\":\"foraker\",\"first\":{first},\"before\":\"{}\"}}\n", hex(before))
    }

    /// All lines that are in memory, behind one that says where they begin.
    pub fn export(&self) -> String {
        let mut text = Audit::beginning(self.first(), &self.before);
        self.lines.iter().for_each(|(line, _)| text.push_str(line));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::hash_of;
    use crate::store::history::LINE_MOST;
    use alloc::string::ToString;
    use alloc::vec::Vec;
    use sha2::{Digest, Sha256};

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
    fn a_list_goes_on_behind_lines_that_were_kept() {
        let mut audit = Audit::default();
        (0..5).for_each(|unix_ms| _ = audit.add(unix_ms, "a", "b", "c"));
        let before = audit.since(3).next().expect("a line").before;
        let texts = |audit: &Audit, from| audit.since(from).map(|line| line.text.to_string()).collect::<Vec<_>>();
        assert_eq!((texts(&audit, 3).len(), texts(&audit, 6).len(), texts(&audit, 0).len()), (3, 0, 5));
        let mut lines = Lines { first: 3, before, lines: Vec::new() };
        for line in audit.since(3) {
            let hash = hash_of(&lines.end(), line.text).expect("it is as it was written");
            lines.lines.push((line.text.to_string(), hash));
        }
        let mut other = Audit::default();
        other.go_on_behind(lines);
        assert_eq!((other.first(), texts(&other, 0)), (3, texts(&audit, 3)));
        assert_eq!(other.add(9, "a", "b", "c"), audit.add(9, "a", "b", "c"));
        assert!(is_whole(&other.export()));
        let line = other.since(8).next().map(|line| (line.number, line.text.to_string()));
        assert_eq!(line, None);
        let text = texts(&other, 6)[0].clone();
        assert!(hash_of(&[0; 32], &text).is_none() && hash_of(&[0; 32], "").is_none());
    }

    #[test]
    fn the_longest_line_can_be_kept() {
        let mut audit = Audit::default();
        for long in ["\u{10ffff}", "\"", "\\", "\u{2028}", "\u{7f}"].map(|one| one.repeat(1000)) {
            audit.add(u64::MAX, &long, &long, &long);
        }
        assert!(audit.since(1).all(|line| line.text.len() <= LINE_MOST));
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
