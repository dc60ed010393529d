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

#[derive(clap::Args)]
pub struct Args {
    /// Run only tests whose name contains this
    filter: Option<String>,
    /// List the tests and what each asserts
    #[arg(long)]
    list: bool,
    /// Also run what takes minutes: a thousand swaps, host tests under Miri (nightly Rust; installed when it is missing)
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
                println!("FAILED {name} ({seconds:.1} s)\n       {}", error.to_string().replace('\n', "\n       "));
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
        // What runs on one machine only runs on the first that is asked for.
        let runs = |case: &Case| cases::runs_on(case, kind) && (kind == kinds[0] || !cases::runs_once(case));
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

/// Runs the cases, [`MACHINES`] at a time.
fn run_cases(lab: &Lab, kind: Kind, cases: &[Case], count: &Count) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..MACHINES.min(cases.len()) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let started = Instant::now();
                    // Cases return errors and do not panic: a panic aborts (the workspace's profile), and the summary is lost.
                    let result = (case.run)(lab);
                    let result = result.map_err(|error| format!("{}\n{error}", case.asserts).into());
                    count.add(&machine_name(case, kind), started, result.map(|()| 1));
                }
            });
        }
    });
}
