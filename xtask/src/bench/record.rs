//! The figures that the manual shows: `docs/figures.json`, written by `cargo xtask bench --record`, beside the table of
//! docs/performance.md. A figure says how many privileged lines there were when it was measured, so that one that was measured on
//! another core than today's is noticed.

use super::Figure;
use crate::error::{Context, Result};
use crate::manifest;
use crate::size::privileged;
use crate::workspace::root;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A figure as it was measured last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Recorded {
    value: f64,
    unit: String,
    /// Privileged lines then.
    privileged_lines: usize,
    /// The scheduler that it is of; those that do not say so are of `round-robin`, which was the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sched: Option<String>,
}

type Records = BTreeMap<String, Recorded>;

fn file() -> PathBuf {
    root().join("docs/figures.json")
}

fn read() -> Result<Records> {
    let path = file();
    let text = std::fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).context(|| format!("{} makes no sense", path.display()))
}

/// The scheduler that a figure is of: the one that its conditions name, or the default.
fn scheduler(conditions: &str, defaults: &str) -> Option<String> {
    let named = |text: &str| {
        let words = text.split(|c: char| c == ';' || c.is_whitespace());
        words.filter_map(|word| word.strip_prefix("sched=")).next().map(str::to_owned)
    };
    named(conditions).or_else(|| named(defaults))
}

/// Puts `figures` into the file, in place of what was measured before.
pub fn record(figures: &[Figure]) -> Result<()> {
    let mut records = read()?;
    let lines = privileged()?.lines;
    let defaults = manifest::load(&root().join("system.toml"))?.defaults;
    for figure in figures {
        // As many digits as the manual shows at most.
        let value = (figure.value * 100.0).round() / 100.0;
        let sched = scheduler(&figure.conditions, &defaults);
        let recorded = Recorded { value, unit: figure.unit.to_owned(), privileged_lines: lines, sched };
        records.insert(figure.metric.to_owned(), recorded);
    }
    let text = serde_json::to_string_pretty(&records).context(|| "cannot write figures as JSON".into())?;
    std::fs::write(file(), text + "\n").context(|| format!("cannot write {}", file().display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::targets;

    /// Part of the privileged lines that may have changed before a figure has to be measured again, in per cent.
    const STALE: usize = 10;
    /// The same for their number itself, which costs nothing to count.
    const STALE_LINES: usize = 5;

    /// Rows of the first table of docs/performance.md: metric, figure and target as they are written.
    fn rows() -> Vec<(String, String, String)> {
        let text = std::fs::read_to_string(root().join("docs/performance.md")).expect("the manual");
        let (_, from) = text.split_once("\n## Figures\n").expect("the heading");
        let table = from.split("\n## ").next().unwrap_or_default().split("\n### ").next().unwrap_or_default();
        let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        let rows = table.lines().filter(|line| line.starts_with("| `")).map(cells);
        rows.map(|row| (row[1].trim_matches('`').to_owned(), row[3].clone(), row[4].clone())).collect()
    }

    /// The number at the start of a cell, and half a unit of its last digit.
    fn number(cell: &str) -> (f64, f64) {
        let text: String = cell.chars().filter(|c| *c != ',').take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        (text.parse().unwrap_or(f64::NAN), 0.5 / 10_f64.powi(i32::try_from(decimals).unwrap_or(0)) + 1e-9)
    }

    fn differ_by_more_than(percent: usize, a: usize, b: usize) -> bool {
        a.abs_diff(b) * 100 > percent * b
    }

    #[test]
    fn the_manual_shows_what_was_measured() {
        let (records, rows) = (read().expect("figures"), rows());
        for (metric, shown, target) in &rows {
            match records.get(metric) {
                Some(recorded) => {
                    let (value, half) = number(shown);
                    assert!(
                        (value - recorded.value).abs() <= half,
                        "{metric}: shown is {shown}, measured was {}",
                        recorded.value
                    );
                }
                None => assert_eq!(shown, "not measured yet", "docs/figures.json has no {metric}"),
            }
            let aim = targets::of(metric).unwrap_or_else(|| panic!("{metric} has no target"));
            // One that is only reported has none.
            let is_shown = match aim.target {
                f64::INFINITY => target.is_empty(),
                aim => (number(target).0 - aim).abs() < 1e-9,
            };
            assert!(is_shown, "{metric}: the target is {}", aim.target);
        }
        let shown: Vec<&String> = rows.iter().map(|(metric, ..)| metric).collect();
        let left_out: Vec<&String> = records.keys().filter(|metric| !shown.contains(metric)).collect();
        assert!(left_out.is_empty(), "docs/performance.md does not show {left_out:?}");
        assert_eq!(shown.len(), targets::count(), "metrics with a target, and rows");
    }

    #[test]
    fn no_figure_is_from_another_core() {
        let lines = privileged().expect("sources").lines;
        for (metric, recorded) in read().expect("figures") {
            assert!(
                !differ_by_more_than(STALE, recorded.privileged_lines, lines),
                "{metric} was measured when the core had {} lines, and it has {lines}: `cargo xtask bench --record {metric}`",
                recorded.privileged_lines
            );
            if metric == "privileged_lines" {
                let value = recorded.value.to_string().parse().expect("whole lines");
                assert!(
                    !differ_by_more_than(STALE_LINES, value, lines),
                    "{value} lines are recorded, and there are {lines}: `cargo xtask bench --record privileged_lines`"
                );
            }
        }
    }

    #[test]
    fn a_figure_is_of_the_scheduler_that_it_names_or_of_the_default() {
        let defaults = "vms=httpd*8 quantum=10ms sched=stride log=info";
        let of = |conditions| scheduler(conditions, defaults).unwrap_or_default();
        assert_eq!(of("Bochs; sched=round-robin; two VMs"), "round-robin");
        assert_eq!((of("Bochs; two VMs"), scheduler("Bochs", "log=info")), ("stride".to_owned(), None));
    }

    #[test]
    fn numbers_are_read_as_they_are_written() {
        assert_eq!(number("14,346").0.to_bits(), 14_346_f64.to_bits());
        assert_eq!(number("0.5 or more").0.to_bits(), 0.5_f64.to_bits());
        assert!(number("0.48").1 < 0.0051 && number("281").1 > 0.49 && number("none").0.is_nan());
        assert!(
            differ_by_more_than(10, 111, 100) && !differ_by_more_than(10, 110, 100) && differ_by_more_than(10, 89, 100)
        );
    }
}
