//! Figures in Prometheus' text format.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{Display, Write};

/// The text of a page, metric by metric, in pieces: a long one is not moved when it grows.
#[derive(Default)]
pub struct Page(Vec<String>);

/// Bytes of a piece.
const PIECE: usize = 16 << 10;
/// A piece with less room than this is followed by another one: a line is seldom longer.
const LINE: usize = 384;

impl Page {
    /// What stands on it.
    pub fn into_text(self) -> String {
        let mut text = String::with_capacity(self.0.iter().map(String::len).sum());
        self.0.into_iter().for_each(|piece| text.push_str(&piece));
        text
    }

    /// Puts another page behind it.
    pub fn append(&mut self, other: Page) {
        self.0.extend(other.0);
    }

    /// Where more is written: a short page takes no more than it has to.
    fn end(&mut self) -> &mut String {
        let is_full = |piece: &String| piece.len() + LINE > PIECE;
        if self.0.last().is_none_or(is_full) {
            let first = if self.0.is_empty() { 0 } else { PIECE };
            self.0.push(String::with_capacity(first));
        }
        let at = self.0.len() - 1;
        &mut self.0[at]
    }

    /// Begins a metric.
    pub fn metric(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.end(), "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// A sample of the metric that was begun last. `labels` is empty, or `a="b",c="d"`.
    pub fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = match labels {
            "" => writeln!(self.end(), "{name} {value}"),
            labels => writeln!(self.end(), "{name}{{{labels}}} {value}"),
        };
    }

    /// A metric with one sample.
    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.metric(name, kind, help);
        self.sample(name, "", value);
    }
}

/// A value between the quotes of a label.
pub fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Ticks as seconds, with microseconds.
pub fn seconds(ticks: u64) -> String {
    let us = u128::from(ticks) * 1_000_000 / u128::from(ilwaco::tsc_hz().max(1));
    from_us(i64::try_from(us).unwrap_or(i64::MAX))
}

/// Microseconds as seconds.
pub fn from_us(us: i64) -> String {
    let (sign, us) = (if us < 0 { "-" } else { "" }, us.unsigned_abs());
    format!("{sign}{}.{:06}", us / 1_000_000, us % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_what_was_written_however_long_it_is() {
        let (mut page, mut other, mut all) = (Page::default(), Page::default(), String::new());
        other.single("b", "gauge", "B.", 1);
        for number in 0..2000 {
            page.sample("a", "vm=\"vm7.1\"", number);
            all += &format!("a{{vm=\"vm7.1\"}} {number}\n");
        }
        page.append(other);
        page.sample("c", "", 2);
        all += "# HELP b B.\n# TYPE b gauge\nb 1\nc 2\n";
        let (pieces, capacity) = (page.0.len(), page.0.iter().map(String::capacity).sum::<usize>());
        assert!(pieces > 2 && capacity < all.len() + 2 * PIECE, "{pieces} pieces of {capacity} bytes");
        assert_eq!(page.into_text(), all);
    }

    #[test]
    fn seconds_have_six_digits_and_a_sign() {
        let shown = [0, 1, 1_500_000, -1, -2_000_001].map(from_us);
        assert_eq!(shown, ["0.000000", "0.000001", "1.500000", "-0.000001", "-2.000001"]);
    }
}
