//! Runs test programs as one mutant.

use crate::error::{Context, Result, fail};
use crate::workspace::show;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The variable that says which mutant a program is.
pub const VARIABLE: &str = "FORAKER_MUTANT";

/// The clock ticks of `/proc` in a second, the same on every x86-64.
const TICKS: u64 = 100;

/// Longer than any test: what can still be added to now.
const FOREVER: Duration = Duration::from_secs(1 << 30);

/// How tests went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One failed, or the program did.
    Caught,
    /// They were not done in time.
    Timeout,
    /// All passed.
    Survived,
}

/// How much longer than their limit of processor time tests may last: the host is busy with others, or the tests wait for nothing.
const WALL: u32 = 10;

/// Address space that tests have: a mutant that takes memory without end must not take the host's. Tests without a mutant use a tenth.
pub const MEMORY: u64 = 4 << 30;

/// `program`, with so many bytes of address space.
pub fn limited(program: &Path, bytes: u64) -> Command {
    let mut command = Command::new("prlimit");
    command.arg(format!("--as={bytes}")).arg("--").arg(program);
    command
}

/// Cases that each property is tried with first: most mutants fail one, and who comes behind long properties does not wait for them.
const FEW_CASES: &str = "2";

/// The least processor time that tests have.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many times as long as without a mutant they may take.
const SLOWER: u32 = 5;

/// Which tests of its programs a mutant runs, one behind the other, until one fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// With few cases of each property, those that are named after what was changed.
    Near,
    /// With few cases, all.
    Few,
    /// All as they are.
    All,
}

/// Test programs, and how long they may take.
pub struct Trial<'a> {
    programs: &'a [PathBuf],
    /// Where they run.
    folder: &'a Path,
    /// Processor time for few cases and for all.
    few: Duration,
    all: Duration,
}

impl<'a> Trial<'a> {
    /// Runs the test `programs` without a mutant, to see how long they take. `None` when one fails.
    pub fn new(programs: &'a [PathBuf], folder: &'a Path) -> Result<Option<Self>> {
        let mut trial = Trial { programs, folder, few: FOREVER, all: FOREVER };
        let (few, all) = (trial.round(0, Round::Few, "")?, trial.round(0, Round::All, "")?);
        let limit = |took: Duration| PATIENCE.max(took.saturating_mul(SLOWER));
        (trial.few, trial.all) = (limit(few.1), limit(all.1));
        Ok((few.0 == Verdict::Survived && all.0 == Verdict::Survived).then_some(trial))
    }

    /// How mutant `number` goes, of which tests are named `near`.
    pub fn run(&self, number: usize, near: &str) -> Result<Verdict> {
        for round in [Round::Near, Round::Few, Round::All] {
            let (verdict, _) = self.round(number, round, near)?;
            if verdict != Verdict::Survived {
                return Ok(verdict);
            }
        }
        Ok(Verdict::Survived)
    }

    /// How a round goes, and the processor time that the longest program took.
    fn round(&self, number: usize, round: Round, near: &str) -> Result<(Verdict, Duration)> {
        let mut longest = Duration::ZERO;
        for program in self.programs {
            if !program.is_file() {
                fail!("there is no test program {}", program.display());
            }
            let mut command = limited(program, MEMORY);
            command.current_dir(self.folder).env(VARIABLE, number.to_string()).env("RUST_BACKTRACE", "0");
            command.env("PROPTEST_MAX_SHRINK_ITERS", "0").env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
            command.args((round == Round::Near).then_some(near));
            let limit = if round == Round::All { self.all } else { self.few };
            if round != Round::All {
                command.env("PROPTEST_CASES", FEW_CASES);
            }
            let (verdict, took) = watch(&mut command, limit)?;
            longest = longest.max(took);
            if verdict != Verdict::Survived {
                return Ok((verdict, longest));
            }
        }
        Ok((Verdict::Survived, longest))
    }
}

/// Runs one program; and the processor time that it took, of which the last few milliseconds may be missing. A test that fails ends it at once.
fn watch(command: &mut Command, limit: Duration) -> Result<(Verdict, Duration)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let why = format!("cannot run `{}`", show(command));
    let end = Instant::now() + limit.saturating_mul(WALL).min(FOREVER);
    let mut child = command.spawn().context(|| why.clone())?;
    let output = child.stdout.take().ok_or_else(|| why.clone())?;
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // A program that is killed ends its lines.
            if BufReader::new(output).lines().map_while(std::io::Result::ok).any(|line| is_failure(&line)) {
                failed.store(true, Ordering::Relaxed);
            }
        });
        let mut took = Duration::ZERO;
        let verdict = loop {
            if failed.load(Ordering::Relaxed) {
                break Verdict::Caught;
            }
            if let Some(status) = child.try_wait().context(|| why.clone())? {
                break if status.success() { Verdict::Survived } else { Verdict::Caught };
            }
            took = took.max(processor_time(child.id()));
            if Instant::now() > end || took > limit {
                break Verdict::Timeout;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        stop(&mut child);
        Ok((verdict, took))
    })
}

/// How long the process `id` has computed, with all its threads: a busy host must not make mutants look caught. Zero when it has
/// ended.
fn processor_time(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    in_stat(&stat).unwrap_or_default()
}

/// The time in user and system mode that `/proc/ID/stat` gives, fields 14 and 15 of proc(5). The second field may hold blanks.
fn in_stat(stat: &str) -> Option<Duration> {
    let behind_name = stat.rsplit_once(')')?.1;
    let mut times = behind_name.split_whitespace().skip(11).map(str::parse::<u64>);
    let ticks = times.next()?.ok()? + times.next()?.ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS))
}

fn is_failure(line: &str) -> bool {
    line.starts_with("test ") && line.ends_with(" ... FAILED")
}

fn stop(child: &mut Child) {
    // Either fails when it has ended.
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::scratch;
    use std::os::unix::fs::PermissionsExt;

    fn verdict(script: &str, limit: u64) -> Verdict {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        watch(&mut command, Duration::from_millis(limit)).unwrap().0
    }

    #[test]
    fn programs_are_judged_by_their_tests_their_status_and_the_time() {
        assert_eq!(verdict("echo 'test a ... ok'", 60_000), Verdict::Survived);
        assert_eq!(verdict("exit 101", 60_000), Verdict::Caught);
        assert_eq!(verdict("kill -9 $$", 60_000), Verdict::Caught);
        let began = Instant::now();
        assert_eq!(verdict("echo 'test a - should panic ... FAILED'; exec sleep 50", 60_000), Verdict::Caught);
        assert_eq!(verdict("exec sleep 50", 50), Verdict::Timeout);
        assert_eq!(verdict("while :; do :; done", 200), Verdict::Timeout);
        assert!(began.elapsed() < Duration::from_secs(40), "they are not waited for");
    }

    #[test]
    fn what_a_process_computed_is_in_its_stat() {
        let stat = "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1";
        assert_eq!(in_stat(stat), Some(Duration::from_secs(2)));
        assert_eq!(in_stat("7 (a) S 1"), None);
        let own = std::fs::read_to_string("/proc/self/stat").unwrap();
        assert!(in_stat(&own).is_some());
    }

    #[test]
    fn who_takes_memory_without_end_is_caught() {
        let mut command = limited(Path::new("/usr/bin/tail"), 64 << 20);
        assert_eq!(watch(command.arg("/dev/zero"), Duration::from_secs(600)).unwrap().0, Verdict::Caught);
    }

    #[test]
    fn programs_run_until_one_fails() {
        let run = |programs: [&str; 2]| {
            let programs = programs.map(PathBuf::from);
            Trial { programs: &programs, folder: Path::new("/"), few: PATIENCE, all: PATIENCE }.run(3, "near")
        };
        assert_eq!(run(["/bin/true", "/bin/true"]).unwrap(), Verdict::Survived);
        assert_eq!(run(["/bin/true", "/bin/false"]).unwrap(), Verdict::Caught);
        assert_eq!(run(["/bin/false", "/nowhere"]).unwrap(), Verdict::Caught);
        assert!(run(["/bin/true", "/nowhere"]).is_err());
    }

    #[test]
    fn tests_near_what_was_changed_come_first_and_all_cases_last() {
        let temporary = scratch("trial").unwrap();
        let folder = temporary.path();
        let (program, rounds) = (folder.join("program"), folder.join("rounds"));
        // It fails as mutant 7 where a property has all its cases.
        let script = "#!/bin/sh\necho \"$FORAKER_MUTANT:$1:$PROPTEST_CASES\" >> rounds\n\
                      test \"$FORAKER_MUTANT\" != 7 -o -n \"$PROPTEST_CASES\"\n";
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let programs = [program];
        let trial = Trial::new(&programs, folder).unwrap().expect("nothing is changed");
        assert_eq!((trial.few, trial.all), (PATIENCE, PATIENCE));
        assert_eq!(trial.run(7, "near").unwrap(), Verdict::Caught);
        assert_eq!(trial.run(8, "near").unwrap(), Verdict::Survived);
        let ran = std::fs::read_to_string(rounds).unwrap();
        assert_eq!(ran, "0::2\n0::\n7:near:2\n7::2\n7::\n8:near:2\n8::2\n8::\n");
    }
}
