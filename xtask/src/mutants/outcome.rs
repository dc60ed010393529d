//! What cargo-mutants found out, from its `outcomes.json`.

use crate::error::{Context, Result, fail};
use crate::workspace::root;
use serde::Deserialize;
use std::path::Path;

/// How the mutants of a crate went.
#[derive(Debug, Default, PartialEq)]
pub struct Outcomes {
    /// Mutants that a test noticed.
    pub caught: usize,
    /// Mutants whose tests did not end; that is noticed, too.
    pub timeouts: usize,
    /// Mutants that do not compile.
    pub unviable: usize,
    /// Mutants that nobody noticed.
    pub survivors: Vec<Survivor>,
}

/// A mutant that no test noticed.
#[derive(Clone, Debug, PartialEq)]
pub struct Survivor {
    /// Path of the file from the root of the repository.
    pub file: String,
    /// Number of the line that was changed, from 1.
    pub line: usize,
    /// That line, without the blanks around it; empty when the file cannot be read.
    pub code: String,
    /// What was changed, with the function's name: `replace && with || in Gatekeeper::arrived`.
    pub mutant: String,
}

#[derive(Deserialize)]
struct File {
    outcomes: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    scenario: Scenario,
    summary: String,
}

#[derive(Deserialize)]
enum Scenario {
    Baseline,
    Mutant(Mutant),
}

#[derive(Deserialize)]
struct Mutant {
    /// `FILE:LINE:COLUMN: TEXT`
    name: String,
    file: String,
    span: Span,
}

#[derive(Deserialize)]
struct Span {
    start: Position,
}

#[derive(Deserialize)]
struct Position {
    line: usize,
}

impl Outcomes {
    /// Reads the file at `path`: of the mutants of these `names`, or of all when there are none.
    ///
    /// # Errors
    /// It is not there, or not what this version of cargo-mutants writes.
    pub fn read(path: &Path, names: &[String]) -> Result<Outcomes> {
        let text = std::fs::read_to_string(path).context(|| format!("cannot read {}", path.display()))?;
        Outcomes::parse(&text, names, |file| std::fs::read_to_string(root().join(file)).unwrap_or_default())
            .context(|| path.display().to_string())
    }

    /// The outcomes in `json` for `names`; `source` gives the text of a file of the repository.
    fn parse(json: &str, names: &[String], source: impl Fn(&str) -> String) -> Result<Outcomes> {
        let file: File = serde_json::from_str(json).context(|| "this is no list of outcomes".into())?;
        let mut outcomes = Outcomes::default();
        for Outcome { scenario, summary } in file.outcomes {
            let Scenario::Mutant(mutant) = scenario else { continue };
            if !names.is_empty() && !names.contains(&mutant.name) {
                continue;
            }
            match summary.as_str() {
                "CaughtMutant" => outcomes.caught += 1,
                "Timeout" => outcomes.timeouts += 1,
                "Unviable" => outcomes.unviable += 1,
                "MissedMutant" => {
                    let code = source(&mutant.file);
                    outcomes.survivors.push(mutant.survivor(&code));
                }
                other => fail!("{}: unknown outcome `{other}`", mutant.name),
            }
        }
        Ok(outcomes)
    }

    /// Adds those of other mutants.
    pub fn add(&mut self, other: Outcomes) {
        self.caught += other.caught;
        self.timeouts += other.timeouts;
        self.unviable += other.unviable;
        self.survivors.extend(other.survivors);
    }

    /// How many mutants were tried.
    pub fn total(&self) -> usize {
        self.caught + self.timeouts + self.unviable + self.survivors.len()
    }
}

impl Mutant {
    /// This mutant as a survivor; `code` is the text of its file.
    fn survivor(&self, code: &str) -> Survivor {
        let line = self.span.start.line;
        let code = code.lines().nth(line.saturating_sub(1)).unwrap_or_default().trim().to_owned();
        let mutant = self.name.splitn(4, ':').nth(3).unwrap_or(&self.name).trim().to_owned();
        Survivor { file: self.file.clone(), line, code, mutant }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "fn f() {\n    a && b\n}\n";

    fn outcome(summary: &str) -> String {
        let mutant = r#"{"name": "x/src/f.rs:2:7: replace && with || in <impl A for B>::f", "package": "x", "file": "x/src/f.rs",
            "span": {"start": {"line": 2, "column": 7}, "end": {"line": 2, "column": 9}}, "replacement": "||"}"#;
        format!(r#"{{"scenario": {{"Mutant": {mutant}}}, "summary": "{summary}", "phase_results": []}}"#)
    }

    fn parse(summaries: &[&str]) -> Result<Outcomes> {
        parse_only(summaries, &[])
    }

    fn parse_only(summaries: &[&str], names: &[String]) -> Result<Outcomes> {
        let outcomes: Vec<String> = summaries.iter().map(|summary| outcome(summary)).collect();
        let baseline = r#"{"scenario": "Baseline", "summary": "Success"}"#;
        let json = format!(r#"{{"outcomes": [{baseline}, {}], "total_mutants": 4}}"#, outcomes.join(", "));
        Outcomes::parse(&json, names, |file| {
            assert_eq!(file, "x/src/f.rs");
            SOURCE.to_owned()
        })
    }

    #[test]
    fn outcomes_are_counted_and_survivors_described() {
        let outcomes = parse(&["CaughtMutant", "MissedMutant", "Timeout", "Unviable", "CaughtMutant"]).unwrap();
        assert_eq!((outcomes.caught, outcomes.timeouts, outcomes.unviable, outcomes.total()), (2, 1, 1, 5));
        let survivor = Survivor {
            file: "x/src/f.rs".into(),
            line: 2,
            code: "a && b".into(),
            mutant: "replace && with || in <impl A for B>::f".into(),
        };
        assert_eq!(outcomes.survivors, [survivor]);
    }

    #[test]
    fn what_was_not_asked_for_does_not_count() {
        let name = "x/src/f.rs:2:7: replace && with || in <impl A for B>::f".to_owned();
        assert_eq!(parse_only(&["CaughtMutant"], &["another".into(), name]).unwrap().total(), 1);
        assert_eq!(parse_only(&["CaughtMutant"], &["another".into()]).unwrap().total(), 0);
    }

    #[test]
    fn an_outcome_that_is_not_known_is_an_error() {
        assert!(parse(&["Success"]).unwrap_err().to_string().contains("unknown outcome `Success`"));
    }
}
