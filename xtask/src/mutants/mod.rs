//! `mutants`: changes a crate in small ways, one at a time, and sees whether its tests notice.
//!
//! cargo-mutants makes the changes, builds each and runs the crate's tests. A mutant that no test notices either shows a
//! test that is missing, or changes nothing that could be noticed; those are listed in [`accepted`] with the reason.

mod accepted;
mod at_once;
mod outcome;

use crate::bench::{Figure, write_json};
use crate::error::{Result, fail};
use crate::setup;
use crate::workspace::{Package, cargo, out, packages, root, show};
use accepted::{Accepted, Judgement};
use outcome::Outcomes;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// The files of a crate whose mutants count, where these are not all of them: globs below the crate's folder.
const FILES: &[(&str, &[&str])] = &[
    (
        "hv-core",
        &[
            // A VM's life and memory.
            "src/vm/life.rs",
            "src/vm/memory.rs",
            "src/vm/memory/single.rs",
            "src/vm/pages.rs",
            "src/vm/away.rs",
            // A component's work and death.
            "src/component/backlog.rs",
            "src/component/death.rs",
            "src/component/liveness.rs",
            "src/component/progress.rs",
            "src/component/shares.rs",
            // Dispatch.
            "src/kernel.rs",
            "src/kernel/attention.rs",
            "src/kernel/requests.rs",
            "src/vm/requested.rs",
            "src/kernel/steady.rs",
            "src/kernel/turn.rs",
            "src/service/plan.rs",
            // Who comes in when, and single pages that go out.
            "src/service/called.rs",
            "src/service/pages.rs",
            // What controllers ask.
            "src/service/callers.rs",
            "src/service/control.rs",
            // What the loader says.
            "src/boot/check.rs",
        ],
    ),
    // Frames, their owners, and what is kept for whom: of the core's memory, what the loader uses as well.
    ("base", &["src/memory/frames.rs", "src/memory/reservation.rs"]),
];

/// Files whose mutants say nothing of tests, as globs.
const LEFT_OUT: &[&str] = &[
    // Programs for the bare machine: there is no test on the host that could run them.
    "**/src/bin/**",
    // The machine of `hv-core`'s tests: no part of what runs, and the tests of its own package do not even build it.
    "backend/src/fake/**",
    // What fuzzers feed.
    "loader/src/fuzz.rs",
    "base/src/memory/frames_fuzz.rs",
];

/// How tests are built, for many short runs: what is built once is optimized well, what is built each time a little and without
/// debug information.
const SETTINGS: [&str; 3] = ["profile.dev.package.\"*\".opt-level=2", "profile.dev.opt-level=1", "profile.dev.debug=0"];

#[derive(clap::Args)]
pub struct Args {
    /// The crates to change
    #[arg(required = true, value_name = "CRATE")]
    crates: Vec<String>,
    /// Only files that match, by a path from the root of the repository or a file name [default: the whole crate; of
    /// hv-core and base, the files that the rest depends on]
    #[arg(long, value_name = "GLOB")]
    file: Vec<String>,
    /// Build and test so many mutants at the same time
    #[arg(long, value_name = "N", default_value_t = 1)]
    jobs: usize,
    /// Try only the K-th of N parts, from 0 on
    #[arg(long, value_name = "K/N", conflicts_with = "at_once")]
    shard: Option<String>,
    /// Build the mutants into one program first, and only those one by one that this cannot be done with, or that survive
    #[arg(long)]
    at_once: bool,
}

pub fn mutants(args: &Args) -> Result<ExitCode> {
    let packages = packages()?;
    let mut chosen = Vec::new();
    for name in &args.crates {
        let Some(package) = packages.get(name) else {
            let names: Vec<&str> = packages.keys().map(String::as_str).collect();
            fail!("there is no crate `{name}`: known are {}", names.join(", "));
        };
        chosen.push((package, globs(package, &args.file)?));
    }
    let accepted = Accepted::read(&root().join(accepted::FILE))?;
    if let Some(name) = accepted.crates().find(|&name| !packages.contains_key(name)) {
        fail!("{}: there is no crate `{name}`", accepted::FILE);
    }
    setup::mutants()?;
    let whole = args.file.is_empty() && args.shard.is_none();
    let (mut passed, mut failed) = (0, 0);
    let mut figures = Vec::new();
    for (package, globs) in chosen {
        let outcomes =
            if args.at_once { run_at_once(package, &globs, args)? } else { run(package, &globs, &[], args)? };
        let judgement = accepted.judge(&package.name, &outcomes.survivors);
        report(&package.name, &outcomes, &judgement, whole);
        passed += outcomes.caught + outcomes.timeouts;
        failed += judgement.unlisted.len();
        figures.push(figure(&package.name, &outcomes, &judgement, args)?);
    }
    write_json("mutants_survived", &figures)?;
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What to mutate in `package`: the globs that were `asked` for, else those of [`FILES`]; none for all of it.
fn globs(package: &Package, asked: &[String]) -> Result<Vec<String>> {
    if !asked.is_empty() {
        return Ok(asked.to_vec());
    }
    let Some((_, files)) = FILES.iter().find(|(name, _)| *name == package.name) else { return Ok(Vec::new()) };
    // A file that was renamed must not be left out in silence.
    let missing: Vec<&str> = files.iter().copied().filter(|file| !package.dir.join(file).is_file()).collect();
    if !missing.is_empty() {
        fail!("{}: {} not there: correct the table in {}", package.name, missing.join(", "), file!());
    }
    let dir = package.dir.strip_prefix(root()).unwrap_or(&package.dir);
    Ok(files.iter().map(|file| dir.join(file).display().to_string()).collect())
}

/// Tries the mutants in one program, and leaves the rest to cargo-mutants.
fn run_at_once(package: &Package, globs: &[String], args: &Args) -> Result<Outcomes> {
    let at_once::Tried { mut outcomes, left } = at_once::run(package, globs, args.jobs)?;
    println!("{}: {} mutants are left for cargo-mutants", package.name, left.len());
    if !left.is_empty() {
        let rest = run(package, globs, &left, args)?;
        if rest.total() != left.len() {
            fail!("cargo-mutants tried {} mutants instead of {}: {}", rest.total(), left.len(), left.join("; "));
        }
        outcomes.add(rest);
    }
    Ok(outcomes)
}

/// Runs cargo-mutants, which says on the screen how far it is, on those of these `names`, or on all when there are none.
fn run(package: &Package, globs: &[String], names: &[String], args: &Args) -> Result<Outcomes> {
    let folder = out(&format!("mutants/{}", package.name))?;
    let mut command = cargo();
    arguments(&mut command, &package.name, globs, args, &folder);
    if args.at_once {
        // What all mutants need is there already.
        command.env("CARGO_TARGET_DIR", at_once::target()?);
    }
    // It may try some others as well.
    for name in names {
        command.args(["--re", &format!("^{}$", literal(name))]);
    }
    let shown = show(&command);
    println!("{}: {shown}", package.name);
    let status = command.status().map_err(|error| format!("cannot start `{shown}`: {error}"))?;
    // 0: all were caught; 2: some survived; 3: some took too long. All others mean that not all were tried.
    if !matches!(status.code(), Some(0 | 2 | 3)) {
        fail!("`{shown}` failed ({status}): its logs are in {}", folder.join("mutants.out").display());
    }
    let outcomes = Outcomes::read(&folder.join("mutants.out/outcomes.json"), names)?;
    if outcomes.total() == 0 {
        fail!("there is nothing to change in {}: do the globs match a file?", package.name);
    }
    Ok(outcomes)
}

fn arguments(command: &mut Command, package: &str, globs: &[String], args: &Args, folder: &Path) {
    command.args(["mutants", "--colors", "never", "--no-times"]);
    which(command, package, globs);
    // Cargo gives programs from different copies of the tree the same names: in a folder that they share, one at a time.
    let jobs = if args.at_once { 1 } else { args.jobs };
    command.args(["--jobs", &jobs.to_string(), "--output"]).arg(folder);
    if let Some(shard) = &args.shard {
        command.args(["--shard", shard]);
    }
    for argument in ["--tests"].into_iter().chain(SETTINGS.into_iter().flat_map(|setting| ["--config", setting])) {
        command.args(["--cargo-arg", argument]);
    }
    // Nobody looks at the example that makes a mutant fail, and it is no regression to be kept.
    command.env("PROPTEST_MAX_SHRINK_ITERS", "0").env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
    command.stdin(Stdio::null());
}

/// Tells cargo-mutants which mutants there are: those of `package` in the files of `globs`.
fn which(command: &mut Command, package: &str, globs: &[String]) {
    command.args(["--package", package]);
    for glob in LEFT_OUT {
        command.args(["--exclude", glob]);
    }
    for glob in globs {
        command.args(["--file", glob]);
    }
}

/// The regular expression that `text` alone fits.
fn literal(text: &str) -> String {
    text.chars().flat_map(|c| r"\.+*?()|[]{}^$".contains(c).then_some('\\').into_iter().chain([c])).collect()
}

/// Says what survived, and what the list says that is not so.
fn report(package: &str, outcomes: &Outcomes, judgement: &Judgement, whole: bool) {
    println!("{package}: {}", counts(outcomes, judgement));
    for survivor in &judgement.unlisted {
        println!("SURVIVED {}:{}: {}\n         {}", survivor.file, survivor.line, survivor.mutant, survivor.code);
    }
    if !whole {
        return;
    }
    for entry in &judgement.stale {
        println!("STALE    {}: {} ({}): take it out of {}", entry.file, entry.mutant, entry.reason, accepted::FILE);
    }
}

fn counts(outcomes: &Outcomes, judgement: &Judgement) -> String {
    let Outcomes { caught, timeouts, unviable, .. } = outcomes;
    format!(
        "{} mutants: {caught} caught, {timeouts} ran too long, {unviable} do not build, {} survived with a listed reason, {} \
         without",
        outcomes.total(),
        judgement.listed,
        judgement.unlisted.len()
    )
}

fn figure(package: &str, outcomes: &Outcomes, judgement: &Judgement, args: &Args) -> Result<Figure> {
    let survivors = u32::try_from(judgement.unlisted.len()).map_err(|error| error.to_string())?;
    let mut conditions = format!("{package}, cargo-mutants {}, {}", setup::MUTANTS, counts(outcomes, judgement));
    if !args.file.is_empty() {
        conditions.push_str(&format!(", only {}", args.file.join(" ")));
    }
    if let Some(shard) = &args.shard {
        conditions.push_str(&format!(", part {shard}"));
    }
    Ok(Figure { metric: "mutants_survived", value: survivors.into(), unit: "mutants", conditions })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_whose_mutants_count_are_there() {
        let packages = packages().unwrap();
        for (name, files) in FILES {
            assert_eq!(globs(&packages[*name], &[]).unwrap().len(), files.len(), "{name}");
        }
    }

    #[test]
    fn options_are_passed_on() {
        let args =
            Args { crates: vec!["ring".into()], file: vec![], jobs: 3, shard: Some("1/4".into()), at_once: false };
        let mut command = Command::new("cargo");
        arguments(&mut command, "ring", &["end.rs".to_owned()], &args, Path::new("there"));
        let shown = show(&command);
        for part in [
            "--package ring",
            "--jobs 3",
            "--file end.rs",
            "--shard 1/4",
            "--output there",
            "--cargo-arg --tests",
            "--exclude 'backend/src/fake/**'",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        let mut command = Command::new("cargo");
        arguments(&mut command, "ring", &[], &Args { at_once: true, shard: None, ..args }, Path::new("there"));
        assert!(show(&command).contains("--jobs 1"), "copies of the tree share a folder");
    }

    #[test]
    fn names_fit_themselves_only() {
        let name = r"a/b.rs:1:2: replace || with && in <impl A for B>::f -> [u8; 2] with (Some(1), a\b)";
        assert_eq!(
            literal(name),
            r"a/b\.rs:1:2: replace \|\| with && in <impl A for B>::f -> \[u8; 2\] with \(Some\(1\), a\\b\)"
        );
    }

    #[test]
    fn globs_that_were_asked_for_win() {
        let package = Package { name: "hv-core".into(), dir: "nowhere".into(), bins: Vec::new(), lib: true };
        assert_eq!(globs(&package, &["a.rs".to_owned()]).unwrap(), ["a.rs"]);
        let error = globs(&package, &[]).unwrap_err().to_string();
        assert!(error.contains("src/vm/life.rs"), "{error}");
        let other = Package { name: "ring".into(), ..package };
        assert_eq!(globs(&other, &[]).unwrap(), Vec::<String>::new());
    }
}
