//! Tests that need no machine: host tests of each package, formatting, lints, loom, and the long ones under Miri.

use crate::error::{Context, Result, fail};
use crate::workspace::{BARE, cargo, cargo_of, packages, show};
use std::process::{Command, Stdio};

/// A command whose outcome counts.
pub struct Suite {
    /// Its name in the report.
    pub name: String,
    arguments: Vec<String>,
    runs: Under,
    /// Whether it prints test results; otherwise its exit status is the one test.
    counts: bool,
}

/// What a suite runs under.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Under {
    /// Stable Rust, as it is.
    Stable,
    /// Stable Rust; what rustdoc would warn of, as a link to nothing, is an error.
    StrictDocs,
    /// Stable Rust with every atomic access replaced by loom's.
    Loom,
    /// Stable Rust, with many more cases of each random test: [`MANY_CASES`].
    ManyCases,
    /// Nightly Rust's interpreter, which sees undefined behaviour.
    Miri,
}

/// Packages whose tests run under Miri: those with `unsafe` that the host can run, and `abi`, whose types are cast to and from
/// bytes. `sched` and `pager` forbid it, so that Miri would find nothing there, and takes minutes to fill their tables of all slots.
const UNDER_MIRI: [&str; 3] = ["abi", "backend", "ring"];

/// Packages with examples in their documentation, which are compiled and run. Those of `sched` are the manual's.
const WITH_EXAMPLES: [&str; 2] = ["component", "sched"];

/// Cases of a random test in a long run: some minutes of histories of the core.
const MANY_CASES: &str = "1000";

/// What Miri is told.
///
/// Test memory is leaked on purpose, since shared memory has no owner: leaks say nothing. The hostile peer writes single bytes
/// into words that are atomic to the other end, which the buffers of the weak-memory emulation cannot hold: Miri itself
/// would stop. Loom explores the orders of memory accesses instead. Random tests take two cases, the same each time, and keep
/// no file of failures, since Miri lets no program at the host's files.
const MIRI_FLAGS: &str = "-Zmiri-ignore-leaks -Zmiri-disable-weak-memory-emulation \
                          -Zmiri-env-set=PROPTEST_CASES=2 -Zmiri-env-set=PROPTEST_DISABLE_FAILURE_PERSISTENCE=1";

/// How a suite went.
pub struct Outcome {
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed.
    pub failed: usize,
    /// What it printed.
    pub output: String,
}

/// All suites; the `long` ones come last.
pub fn suites(long: bool) -> Result<Vec<Suite>> {
    let packages = packages()?;
    let mut suites = Vec::new();
    let mut add = |name: String, counts: bool, runs: Under, arguments: &[&str]| {
        suites.push(Suite { name, arguments: arguments.iter().map(|a| (*a).to_owned()).collect(), runs, counts });
    };
    add("lint: rustfmt".into(), false, Under::Stable, &["fmt", "--all", "--check"]);
    let deny = ["--", "-D", "warnings"];
    let clippy = ["clippy", "--quiet", "--workspace", "--lib", "--tests"];
    // The hooks of the test image are in none of the others.
    let hooks = [
        "clippy",
        "--quiet",
        "--package",
        "core-vmx",
        "--package",
        "core-svm",
        "--features",
        "core-vmx/selftest,core-svm/selftest",
    ];
    add("lint: clippy, test image".into(), false, Under::Stable, &[&hooks[..], &deny].concat());
    add("lint: clippy, host".into(), false, Under::Stable, &[&clippy[..], &deny].concat());
    let clippy = ["clippy", "--quiet", "--package", "xtask", "--package", "at-once"];
    add("lint: clippy, xtask".into(), false, Under::Stable, &[&clippy[..], &deny].concat());
    let clippy = [
        "clippy",
        "--quiet",
        "--workspace",
        "--exclude",
        "xtask",
        "--exclude",
        "at-once",
        "--exclude",
        "bochs-recvfrom",
        "--exclude",
        "linux-server",
        "--exclude",
        "paging-simulator",
        "--exclude",
        "fuzz",
        "--lib",
        "--bins",
        "--target",
        BARE,
    ];
    add("lint: clippy, bare machine".into(), false, Under::Stable, &[&clippy[..], &deny].concat());
    // Private items, too: most of what there is to read about the core is private.
    let docs = ["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"];
    add("lint: rustdoc".into(), false, Under::StrictDocs, &docs);
    for package in
        packages.values().filter(|package| package.lib || ["xtask", "at-once"].contains(&package.name.as_str()))
    {
        let name = format!("host: {}", package.name);
        add(name, true, Under::Stable, &["test", "--quiet", "--package", &package.name, "--tests"]);
    }
    for package in WITH_EXAMPLES {
        add(format!("examples: {package}"), true, Under::Stable, &["test", "--quiet", "--package", package, "--doc"]);
    }
    let loom = ["test", "--quiet", "--package", "ring", "--release", "--test", "loom"];
    add("loom: ring".into(), true, Under::Loom, &loom);
    if long {
        let histories = ["test", "--quiet", "--package", "hv-core", "--lib", "history"];
        add("histories: hv-core".into(), true, Under::ManyCases, &histories);
    }
    for package in UNDER_MIRI.iter().filter(|_| long) {
        add(
            format!("miri: {package}"),
            true,
            Under::Miri,
            &["miri", "test", "--quiet", "--package", package, "--tests"],
        );
    }
    Ok(suites)
}

impl Suite {
    /// Whether it needs nightly Rust with Miri.
    pub fn needs_miri(&self) -> bool {
        self.runs == Under::Miri
    }

    /// The command that runs it, without its arguments.
    fn tool(&self) -> Command {
        match self.runs {
            Under::Stable => cargo(),
            Under::StrictDocs => {
                let mut command = cargo();
                command.env("RUSTDOCFLAGS", "-D warnings");
                command
            }
            Under::Loom => {
                let mut command = cargo();
                command.env("RUSTFLAGS", "--cfg loom");
                command
            }
            Under::ManyCases => {
                let mut command = cargo();
                command.env("PROPTEST_CASES", MANY_CASES);
                command
            }
            Under::Miri => {
                let mut command = cargo_of("nightly");
                command.env("MIRIFLAGS", MIRI_FLAGS);
                command
            }
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// It could not be run, or failed without saying which tests.
    pub fn run(&self) -> Result<Outcome> {
        let mut command = self.tool();
        command.args(&self.arguments).env("CARGO_TERM_COLOR", "never").stdin(Stdio::null());
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
