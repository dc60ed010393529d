//! The checked-in list of mutants that may survive, each with the reason.

use super::outcome::Survivor;
use crate::error::{Context, Result, fail};
use serde::Deserialize;
use std::path::Path;

/// Where the list is, from the root of the repository.
pub const FILE: &str = "ci/mutants.toml";

/// The list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    #[serde(default)]
    mutant: Vec<Entry>,
}

/// A mutant that may survive. Each entry stands for one: two alike need two.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The crate.
    #[serde(rename = "crate")]
    pub package: String,
    /// Path of the file from the root of the repository.
    pub file: String,
    /// The line that is changed, without the blanks around it: where one function has several mutants of the same text.
    pub line: Option<String>,
    /// What is changed, as cargo-mutants says it behind the position.
    pub mutant: String,
    /// Why no test could or need notice.
    pub reason: String,
}

/// Survivors held against the list.
#[derive(Debug, PartialEq)]
pub struct Judgement<'a> {
    /// How many are in the list.
    pub listed: usize,
    /// Those that are not.
    pub unlisted: Vec<&'a Survivor>,
    /// Entries for the crate that nothing survived for.
    pub stale: Vec<&'a Entry>,
}

impl Accepted {
    /// Reads the list at `path`.
    ///
    /// # Errors
    /// It cannot be read, makes no sense, or an entry has no reason.
    pub fn read(path: &Path) -> Result<Accepted> {
        let text = std::fs::read_to_string(path).context(|| format!("cannot read {}", path.display()))?;
        Accepted::parse(&text).context(|| FILE.into())
    }

    fn parse(text: &str) -> Result<Accepted> {
        let accepted: Accepted = toml::from_str(text).context(|| "this is no list of mutants".into())?;
        if let Some(entry) = accepted.mutant.iter().find(|entry| entry.reason.trim().is_empty()) {
            fail!("{}: {}: say why it may survive", entry.file, entry.mutant);
        }
        Ok(accepted)
    }

    /// The crates that entries name.
    pub fn crates(&self) -> impl Iterator<Item = &str> {
        self.mutant.iter().map(|entry| entry.package.as_str())
    }

    /// Holds the `survivors` of `package` against its entries, one to one.
    pub fn judge<'a>(&'a self, package: &str, survivors: &'a [Survivor]) -> Judgement<'a> {
        let mut stale: Vec<&Entry> = self.mutant.iter().filter(|entry| entry.package == package).collect();
        // Entries that name a line first, so that the others are left for those that they alone fit.
        stale.sort_by_key(|entry| entry.line.is_none());
        let mut unlisted = Vec::new();
        for survivor in survivors {
            match stale.iter().position(|entry| entry.is(survivor)) {
                Some(at) => drop(stale.remove(at)),
                None => unlisted.push(survivor),
            }
        }
        Judgement { listed: survivors.len() - unlisted.len(), unlisted, stale }
    }
}

impl Entry {
    fn is(&self, survivor: &Survivor) -> bool {
        let line = self.line.as_deref().is_none_or(|line| line == survivor.code);
        self.file == survivor.file && self.mutant == survivor.mutant && line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survivor(code: &str, mutant: &str) -> Survivor {
        Survivor { file: "x/src/f.rs".into(), line: 7, code: code.into(), mutant: mutant.into() }
    }

    fn list(entries: &[(&str, Option<&str>, &str)]) -> Accepted {
        let entry = |&(package, line, mutant): &(&str, Option<&str>, &str)| Entry {
            package: package.into(),
            file: "x/src/f.rs".into(),
            line: line.map(str::to_owned),
            mutant: mutant.into(),
            reason: "because".into(),
        };
        Accepted { mutant: entries.iter().map(entry).collect() }
    }

    #[test]
    fn one_entry_stands_for_one_survivor() {
        let list = list(&[("x", None, "m"), ("x", None, "gone"), ("y", None, "m")]);
        let survivors = [survivor("a", "m"), survivor("b", "m")];
        let judgement = list.judge("x", &survivors);
        assert_eq!((judgement.listed, judgement.unlisted), (1, vec![&survivors[1]]));
        assert_eq!(judgement.stale, [&list.mutant[1]], "nothing is said about other crates");
    }

    #[test]
    fn a_line_tells_mutants_of_the_same_text_apart() {
        let list = list(&[("x", None, "m"), ("x", Some("b"), "m")]);
        let survivors = [survivor("b", "m"), survivor("a", "m"), survivor("c", "m")];
        let judgement = list.judge("x", &survivors);
        assert_eq!((judgement.listed, judgement.unlisted), (2, vec![&survivors[2]]));
        assert!(judgement.stale.is_empty());
    }

    #[test]
    fn an_entry_without_a_reason_is_refused() {
        let entry = "[[mutant]]\ncrate = 'x'\nfile = 'f'\nmutant = 'm'\nreason = ";
        assert!(Accepted::parse(&format!("{entry}'good'")).is_ok());
        assert!(Accepted::parse(&format!("{entry}' '")).unwrap_err().to_string().contains("say why"));
        assert!(Accepted::parse("[[mutant]]\ncrate = 'x'").is_err());
    }

    #[test]
    fn the_list_of_this_repository_can_be_read() {
        Accepted::read(&crate::workspace::root().join(FILE)).unwrap();
    }
}
