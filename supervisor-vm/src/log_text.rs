//! The text of the machine's log: its lines, and what they consist of.

use crate::log_query::{Level, LogQuery};
use alloc::string::String;
use alloc::vec::Vec;
use serde::Serialize;

/// A line of the log. One that was only printed, as the answers on the operator's line are, has but its text.
#[derive(Debug, PartialEq, Serialize)]
pub struct Line<'t> {
    /// Microseconds since boot.
    up_us: Option<u64>,
    level: Option<Level>,
    /// Who has said it.
    pub from: Option<&'t str>,
    /// What.
    pub text: &'t str,
    #[serde(skip)]
    whole: &'t str,
}

/// Microseconds: seconds, a point, and six digits.
fn micros(text: &str) -> Option<u64> {
    let (seconds, micros) = text.trim_start().split_once('.')?;
    let micros = if micros.len() == 6 { micros.parse::<u64>().ok()? } else { return None };
    seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros)
}

impl<'t> Line<'t> {
    /// `[   12.345678] INFO  component: netmux: ...`; of components and guests it is who behind that that counts.
    pub fn parse(whole: &'t str) -> Line<'t> {
        let parts = || {
            let (seconds, rest) = whole.strip_prefix('[')?.split_once("] ")?;
            let (level, rest) = rest.split_once(' ')?;
            let (kind, text) = rest.trim_start().split_once(": ")?;
            let (from, text) = match kind {
                "component" | "guest" => text.split_once(": ")?,
                _ => (kind, text),
            };
            Some(Line {
                up_us: Some(micros(seconds)?),
                level: Some(Level::parse(level)?),
                from: Some(from),
                text,
                whole,
            })
        };
        parts().unwrap_or(Line { up_us: None, level: None, from: None, text: whole, whole })
    }
}

/// Text that comes in pieces, of which only whole lines are looked at.
#[derive(Default)]
pub struct Text {
    /// What has come, and was not taken out.
    pub bytes: Vec<u8>,
    /// The first line is the end of one.
    pub torn: bool,
}

impl Text {
    /// Takes the whole lines out, without what moves a terminal's cursor.
    pub fn lines(&mut self) -> String {
        let Some(last) = self.bytes.iter().rposition(|&byte| byte == b'\n') else { return String::new() };
        let rest = self.bytes.split_off(last + 1);
        let lines = core::mem::replace(&mut self.bytes, rest);
        let torn = core::mem::take(&mut self.torn);
        let from = if torn { lines.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1) } else { 0 };
        let shown = |c: char| if c.is_control() && c != '\n' { '?' } else { c };
        String::from_utf8_lossy(&lines[from..]).chars().map(shown).collect()
    }
}

/// The last lines that are wanted.
pub fn last<'t>(text: &'t str, wanted: &LogQuery) -> Vec<Line<'t>> {
    let mut lines: Vec<Line<'_>> = text
        .lines()
        .rev()
        .map(Line::parse)
        .filter(|line| wanted.takes(line.level, line.from))
        .take(wanted.lines)
        .collect();
    lines.reverse();
    lines
}

/// They as they were logged.
pub fn plain(lines: &[Line<'_>]) -> String {
    lines.iter().flat_map(|line| [line.whole, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::as_json;
    use alloc::format;

    const TEXT: &str = "\
[    0.000000] INFO  core: Foraker 0.1.0, ABI 2
[    0.472246] INFO  component: netmux: policy=round-robin: it is
[    1.488002] WARN  guest: vm0.1: httpd: serving
done poweroff
[    2.000001] ERROR core: component netmux ends: [x] y
";

    fn wanted(words: &[(&str, &str)]) -> LogQuery {
        let mut wanted = LogQuery::default();
        words.iter().for_each(|(key, value)| wanted.take(key, value).expect("good"));
        wanted
    }

    fn numbers(words: &[(&str, &str)]) -> Vec<usize> {
        let of = |line: &Line<'_>| TEXT.lines().position(|other| other == line.whole).expect("one of them");
        last(TEXT, &wanted(words)).iter().map(of).collect()
    }

    #[test]
    fn lines_are_chosen_by_how_serious_they_are_and_who_has_said_them() {
        assert_eq!(numbers(&[]), [0, 1, 2, 3, 4]);
        assert_eq!(numbers(&[("lines", "2")]), [3, 4]);
        assert_eq!(numbers(&[("level", "warn")]), [2, 4]);
        assert_eq!(numbers(&[("level", "info")]), [0, 1, 2, 4]);
        assert_eq!(numbers(&[("from", "core")]), [0, 4]);
        assert_eq!(numbers(&[("from", "netmux")]), [1]);
        assert_eq!(numbers(&[("from", "vm0.1"), ("level", "error")]), [0; 0]);
    }

    #[test]
    fn what_is_no_line_of_the_log_has_its_text() {
        for odd in [
            "",
            "done poweroff",
            "[ x",
            "[    0.100000] LOUD  core: a",
            "[    0.100000] INFO  core",
            "[    0.100000] INFO  guest: a",
            "[ now] INFO  core: a",
        ] {
            let line = Line::parse(odd);
            assert_eq!((line.level, line.from, line.text), (None, None, odd));
        }
        let line = Line::parse("[12345.000006] DEBUG core: a: b");
        assert_eq!((line.up_us, line.from, line.text), (Some(12_345_000_006), Some("core"), "a: b"));
    }

    #[test]
    fn as_json_each_has_its_parts() {
        let lines: Vec<Line<'_>> = TEXT.lines().skip(2).take(2).map(Line::parse).collect();
        let first = r#"{"up_us":1488002,"level":"warn","from":"vm0.1","text":"httpd: serving"}"#;
        let second = r#"{"up_us":null,"level":null,"from":null,"text":"done poweroff"}"#;
        assert_eq!(as_json(&lines), Ok(format!("[{first},{second}]\n")));
    }

    #[test]
    fn only_whole_lines_are_shown_and_a_torn_one_is_left_out() {
        let mut text = Text { bytes: b"ne 0\nline 1\nli".to_vec(), torn: true };
        assert_eq!(text.lines(), "line 1\n");
        assert_eq!(text.lines(), "");
        text.bytes.extend(b"ne \x1b[2J\n");
        assert_eq!(text.lines(), "line ?[2J\n");
        let mut text = Text { bytes: b"ne".to_vec(), torn: true };
        assert_eq!((text.lines(), text.torn), (String::new(), true));
    }
}
