//! `test`: everything that can fail, counted.
//!
//! Host tests of each package, lints, the ring under loom, on request host tests under Miri, and machine tests ([`cases`]),
//! which boot images of their own through the [`lab`].

pub mod cases;
mod host;
pub mod lab;

use crate::error::{Result, fail};
use crate::machine::Kind;
use crate::setup::{self, For};
use lab::Lab;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Machines that run at once at most; each takes a processor of the host.
const MACHINES: usize = 2;
/// Machine tests that fail are run once more unless there are more of them.
const AGAIN: usize = 3;

#[derive(clap::Args)]
pub struct Args {
    /// Run only tests whose name contains this
    filter: Option<String>,
    /// List the tests and what each asserts
    #[arg(long)]
    list: bool,
    /// Also run what takes minutes: a thousand swaps, what is above the machine on each of them, host tests under Miri
    /// (nightly Rust; installed when it is missing)
    #[arg(long)]
    long: bool,
    /// The seed of tests that draw what they do, as they print it [default: another one each time]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Have guests that fuzz say their steps from this one on
    #[arg(long, value_name = "STEP")]
    trace: Option<u64>,
    /// What runs the machine tests [default: Bochs with VT-x, then QEMU with SVM]
    #[arg(long, value_name = "KIND")]
    machine: Option<Kind>,
}

/// A machine test.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What it asserts, as half a sentence.
    pub asserts: &'static str,
    /// Runs it; the error says what was expected and what came.
    pub run: fn(&Lab) -> Result<()>,
}

/// How many passed and failed.
#[derive(Default)]
struct Count {
    passed: AtomicUsize,
    failed: AtomicUsize,
    failures: Mutex<Vec<String>>,
    /// Machine tests that failed, and passed when they were run again.
    unsteady: Mutex<Vec<String>>,
}

impl Count {
    /// Counts a test that may stand for several, and says how it went.
    fn add(&self, name: &str, started: Instant, result: Result<usize>) {
        let seconds = started.elapsed().as_secs_f32();
        match result {
            Ok(tests) => {
                self.passed.fetch_add(tests, Ordering::Relaxed);
                let many = if tests == 1 { String::new() } else { format!(", {tests} tests") };
                println!("ok     {name} ({seconds:.1} s{many})");
            }
            Err(error) => {
                self.fail(name, 1);
                println!("FAILED {name} ({seconds:.1} s)\n       {}", indented(&error.to_string()));
            }
        }
    }

    fn fail(&self, name: &str, tests: usize) {
        self.failed.fetch_add(tests, Ordering::Relaxed);
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
    }
}

pub fn test(args: &Args) -> Result<ExitCode> {
    let wanted = |name: &str| args.filter.as_deref().is_none_or(|filter| name.contains(filter));
    let kinds = match args.machine {
        Some(kind) => vec![kind],
        None => vec![Kind::Bochs, Kind::Qemu],
    };
    let suites: Vec<host::Suite> = host::suites(args.long)?.into_iter().filter(|suite| wanted(&suite.name)).collect();
    let cases_on = |kind: Kind| -> Vec<Case> {
        let runs = |case: &Case| cases::runs_on(case, kind) && cases::runs_among(case, kind, &kinds, args.long);
        cases::all(args.long).into_iter().filter(|case| runs(case) && wanted(&machine_name(case, kind))).collect()
    };
    if args.list {
        suites.iter().for_each(|suite| println!("{}", suite.name));
        for &kind in &kinds {
            cases_on(kind).iter().for_each(|case| println!("{}: {}", machine_name(case, kind), case.asserts));
        }
        return Ok(ExitCode::SUCCESS);
    }
    setup::setup(For::Everything)?;
    if suites.iter().any(host::Suite::needs_miri) {
        setup::miri()?;
    }
    if let Some(refusal) = kinds.iter().find_map(|kind| kind.refusal()) {
        fail!("--machine: {refusal}");
    }
    let count = Count::default();
    for suite in &suites {
        let started = Instant::now();
        let outcome = suite.run();
        if let Ok(outcome) = &outcome
            && outcome.failed > 0
        {
            // The suite's own count, so that the summary tells the truth.
            count.passed.fetch_add(outcome.passed, Ordering::Relaxed);
            count.fail(&suite.name, outcome.failed);
            println!("FAILED {}\n{}", suite.name, outcome.output);
            continue;
        }
        count.add(&suite.name, started, outcome.map(|outcome| outcome.passed));
    }
    for &kind in &kinds {
        let cases = cases_on(kind);
        if cases.is_empty() {
            continue;
        }
        let started = Instant::now();
        match Lab::with(kind) {
            Ok(mut lab) => {
                (lab.seed, lab.trace) = (args.seed, args.trace);
                run_cases(&lab, kind, &cases, &count);
            }
            Err(error) => {
                count.add("machine: building the image", started, Err(error));
                count.failed.fetch_add(cases.len() - 1, Ordering::Relaxed);
            }
        }
    }
    cases::left_out().iter().for_each(|line| println!("{line}"));
    let unsteady = count.unsteady.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !unsteady.is_empty() {
        println!("passed only when run again: {}", unsteady.join(", "));
    }
    let failures = count.failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !failures.is_empty() {
        println!("failed: {}", failures.join(", "));
    }
    let (passed, failed) = (count.passed.into_inner(), count.failed.into_inner());
    if passed + failed == 0 {
        println!("no test has a name with \"{}\" in it", args.filter.as_deref().unwrap_or_default());
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Name of a case on a machine.
fn machine_name(case: &Case, kind: Kind) -> String {
    match kind {
        Kind::Bochs => format!("machine: {}", case.name),
        other => format!("machine: {} ({})", case.name, other.name()),
    }
}

/// Text whose lines stand below a test's name.
fn indented(text: &str) -> String {
    text.replace('\n', "\n       ")
}

/// Runs the cases, [`MACHINES`] at a time, and a few that failed again, one at a time: what they wait for has a limit by the
/// host's clock, and the host may have been busy. Who fails twice has failed; who does not is named at the end.
fn run_cases(lab: &Lab, kind: Kind, cases: &[Case], count: &Count) {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..MACHINES.min(cases.len()) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let started = Instant::now();
                    match run_case(lab, case) {
                        Ok(()) => count.add(&machine_name(case, kind), started, Ok(1)),
                        Err(error) => {
                            let seconds = started.elapsed().as_secs_f32();
                            let (name, error) = (machine_name(case, kind), error.to_string());
                            println!("failed {name} ({seconds:.1} s)\n       {}", indented(&error));
                            failed.lock().unwrap_or_else(PoisonError::into_inner).push((case, error));
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    let again = failed.len() <= AGAIN;
    for (case, error) in failed {
        let (name, started) = (machine_name(case, kind), Instant::now());
        let result = if again { run_case(lab, case) } else { Err(error.into()) };
        if result.is_ok() {
            count.unsteady.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
        }
        count.add(&name, started, result.map(|()| 1));
    }
}

/// Runs a case. Cases return errors and do not panic: a panic aborts (the workspace's profile), and the summary is lost.
fn run_case(lab: &Lab, case: &Case) -> Result<()> {
    (case.run)(lab).map_err(|error| format!("{}\n{error}", case.asserts).into())
}
