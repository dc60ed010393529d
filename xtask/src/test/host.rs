//! Tests that need no machine: host tests of each package, formatting, lints, loom.

use crate::error::{Context, Result, fail};
use crate::workspace::{BARE, cargo, packages, show};
use std::process::{Command, Stdio};

/// A command whose outcome counts.
pub struct Suite {
    /// Its name in the report.
    pub name: String,
    arguments: Vec<String>,
    /// Further compiler flags.
    rustflags: Option<&'static str>,
    /// Whether it prints test results; otherwise its exit status is the one test.
    counts: bool,
}

/// How a suite went.
pub struct Outcome {
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed.
    pub failed: usize,
    /// What it printed.
    pub output: String,
}

/// All suites.
pub fn suites() -> Result<Vec<Suite>> {
    let packages = packages()?;
    let mut suites = Vec::new();
    let mut add = |name: String, counts: bool, rustflags, arguments: &[&str]| {
        suites.push(Suite { name, arguments: arguments.iter().map(|a| (*a).to_owned()).collect(), rustflags, counts });
    };
    add("lint: rustfmt".into(), false, None, &["fmt", "--all", "--check"]);
    let deny = ["--", "-D", "warnings"];
    let clippy = ["clippy", "--quiet", "--workspace", "--lib", "--tests"];
    add("lint: clippy, host".into(), false, None, &[&clippy[..], &deny].concat());
    let clippy = ["clippy", "--quiet", "--package", "xtask"];
    add("lint: clippy, xtask".into(), false, None, &[&clippy[..], &deny].concat());
    let clippy = ["clippy", "--quiet", "--workspace", "--exclude", "xtask", "--lib", "--bins", "--target", BARE];
    add("lint: clippy, bare machine".into(), false, None, &[&clippy[..], &deny].concat());
    for package in packages.values().filter(|package| package.lib || package.name == "xtask") {
        let name = format!("host: {}", package.name);
        add(name, true, None, &["test", "--quiet", "--package", &package.name, "--tests"]);
    }
    let loom = ["test", "--quiet", "--package", "ring", "--release", "--test", "loom"];
    add("loom: ring".into(), true, Some("--cfg loom"), &loom);
    Ok(suites)
}

impl Suite {
    /// Runs it.
    ///
    /// # Errors
    /// It could not be run, or failed without saying which tests.
    pub fn run(&self) -> Result<Outcome> {
        let mut command = cargo();
        command.args(&self.arguments).env("CARGO_TERM_COLOR", "never").stdin(Stdio::null());
        if let Some(flags) = self.rustflags {
            command.env("RUSTFLAGS", flags);
        }
        let (success, output) = run(&mut command)?;
        if !self.counts {
            if !success {
                fail!("`{}` failed:\n{output}", show(&command));
            }
            return Ok(Outcome { passed: 1, failed: 0, output });
        }
        let (passed, failed) = totals(&output);
        if success != (failed == 0) || (!success && failed == 0) {
            fail!("`{}` failed without a failed test:\n{output}", show(&command));
        }
        Ok(Outcome { passed, failed, output })
    }
}

/// Runs `command`; both its outputs, one after the other, and whether it succeeded.
fn run(command: &mut Command) -> Result<(bool, String)> {
    let shown = show(command);
    let out = command.output().context(|| format!("cannot start `{shown}`"))?;
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    Ok((out.status.success(), text))
}

/// The sums over all lines "test result: ok. 12 passed; 0 failed; ...".
fn totals(output: &str) -> (usize, usize) {
    let number = |line: &str, what: &str| {
        let before = line.split(what).next().unwrap_or_default();
        before.rsplit([' ', '.']).find(|word| !word.is_empty()).and_then(|word| word.parse().ok()).unwrap_or(0)
    };
    let lines = output.lines().filter(|line| line.trim_start().starts_with("test result:"));
    lines.fold((0, 0), |(passed, failed), line| (passed + number(line, " passed"), failed + number(line, " failed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let output = "running 2 tests\n..\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n\n\
                      test result: FAILED. 10 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.2s\n";
        assert_eq!(totals(output), (12, 3));
        assert_eq!(totals("nothing"), (0, 0));
    }
}
