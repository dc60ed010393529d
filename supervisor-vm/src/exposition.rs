//! Figures in Prometheus' text format.

use alloc::format;
use alloc::string::String;
use core::fmt::{Display, Write};

/// The text of a page, metric by metric.
#[derive(Default)]
pub struct Page(String);

impl Page {
    /// What stands on it.
    pub fn into_text(self) -> String {
        self.0
    }

    /// The same.
    #[cfg(test)]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Puts another page behind it.
    pub fn append(&mut self, other: &Page) {
        self.0.push_str(&other.0);
    }

    /// Begins a metric.
    pub fn metric(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// A sample of the metric that was begun last. `labels` is empty, or `a="b",c="d"`.
    pub fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            labels => writeln!(self.0, "{name}{{{labels}}} {value}"),
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
    use super::from_us;

    #[test]
    fn seconds_have_six_digits_and_a_sign() {
        let shown = [0, 1, 1_500_000, -1, -2_000_001].map(from_us);
        assert_eq!(shown, ["0.000000", "0.000001", "1.500000", "-0.000001", "-2.000001"]);
    }
}
