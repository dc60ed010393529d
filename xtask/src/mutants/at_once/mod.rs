//! All mutants of a crate in one program, which is built once and told by its environment which one to be.
//!
//! So a mutant costs no more than the tests up to the first that fails: of `hv-core` a second or two instead of ten and more.
//! What cannot be built in, and whoever survives, is left to cargo-mutants, so that nothing counts as a survivor that is none.

mod errors;
mod tree;
mod trial;

use super::outcome::Outcomes;
use super::{SETTINGS, which};
use crate::error::{Context, Result, fail};
use crate::workspace::{Package, cargo, out, output, root};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use tree::Tree;
use trial::{Trial, Verdict};

/// What came out.
pub struct Tried {
    /// Those that are known.
    pub outcomes: Outcomes,
    /// The names of those that cargo-mutants has to try.
    pub left: Vec<String>,
}

/// A mutant as cargo-mutants lists it.
#[derive(Deserialize)]
struct Listed {
    name: String,
    file: PathBuf,
}

impl Listed {
    /// What its file is about, after which tests of it are named: the file's name, or that of the folder whose module it is.
    fn noun(&self) -> &str {
        let stem = self.file.file_stem().and_then(OsStr::to_str).unwrap_or_default();
        let folder = self.file.parent().and_then(Path::file_name).and_then(OsStr::to_str).unwrap_or_default();
        if stem == "mod" { folder } else { stem }
    }
}

/// The mutants that are built in, by number from 1, and the test programs.
struct Program {
    built_in: BTreeSet<usize>,
    /// Those that kept it from being built.
    unviable: BTreeSet<usize>,
    tests: Vec<PathBuf>,
}

/// Where the programs are built.
pub fn target() -> Result<PathBuf> {
    out("mutants/at-once/target")
}

/// Tries the mutants of `package` in the files of `globs`, `jobs` at the same time.
pub fn run(package: &Package, globs: &[String], jobs: usize) -> Result<Tried> {
    let tree = Tree::copy(out("mutants/at-once/tree")?)?;
    let dir = package.dir.strip_prefix(root()).unwrap_or(&package.dir);
    let (list, listed) = list(&tree, package, globs)?;
    let program = build(&tree, package, dir, &list, &listed)?;
    let folder = tree.folder().join(dir);
    let Some(trial) = Trial::new(&program.tests, &folder)? else {
        fail!("{}: the tests fail without any mutant: run `cargo test --package {0}`", package.name);
    };
    println!("{}: {} of {} mutants in one program", package.name, program.built_in.len(), listed.len());
    let log = out(&format!("mutants/{}", package.name))?.join("at-once.log");
    println!("{}: how each went is written into {}", package.name, log.display());
    let verdicts = try_all(&program, &listed, &trial, jobs, &mut Log::new(&log, &listed)?)?;
    let count = |verdict| verdicts.iter().filter(|(_, found)| *found == verdict).count();
    let outcomes = Outcomes {
        caught: count(Verdict::Caught),
        timeouts: count(Verdict::Timeout),
        unviable: program.unviable.len(),
        survivors: Vec::new(),
    };
    let survived = |number| verdicts.contains(&(number, Verdict::Survived));
    let known =
        |number| (program.built_in.contains(&number) && !survived(number)) || program.unviable.contains(&number);
    let left = (1..).zip(listed).filter(|(number, _)| !known(*number)).map(|(_, mutant)| mutant.name).collect();
    Ok(Tried { outcomes, left })
}

/// The list of mutants, and the file that it is in.
fn list(tree: &Tree, package: &Package, globs: &[String]) -> Result<(PathBuf, Vec<Listed>)> {
    let mut command = cargo();
    command.args(["mutants", "--list", "--json"]).current_dir(tree.folder());
    which(&mut command, &package.name, globs);
    let json = output(&mut command)?;
    let listed = serde_json::from_str(&json).context(|| "this is no list of mutants".into())?;
    let path = out("mutants/at-once")?.join("list.json");
    std::fs::write(&path, json).context(|| format!("cannot write {}", path.display()))?;
    Ok((path, listed))
}

/// Builds the program. Mutants that keep it from being built are taken out until it is.
fn build(tree: &Tree, package: &Package, dir: &Path, list: &Path, listed: &[Listed]) -> Result<Program> {
    let library = dir.join("src/lib.rs");
    let mut unviable = BTreeSet::new();
    let mut careful = false;
    loop {
        for file in listed.iter().map(|mutant| mutant.file.as_path()).chain([library.as_path()]) {
            tree.restore(file)?;
        }
        let mut command = cargo();
        command.args(["run", "--quiet", "--package", "at-once", "--"]).arg(list).arg(tree.folder());
        command.args(careful.then_some("--careful")).args(unviable.iter().map(usize::to_string));
        let numbers = output(&mut command)?;
        let built_in = numbers.lines().map(str::parse).collect::<Result<BTreeSet<usize>, _>>();
        let built_in = built_in.context(|| format!("at-once said {numbers}"))?;
        tree.append(&library, &chooser())?;
        let built = compile(tree, package)?;
        if built.errors.is_empty() {
            return Ok(Program { built_in, unviable, tests: built.programs });
        }
        if built.guilty.is_empty() && careful {
            fail!(
                "{} with its mutants does not build, and no mutant is to blame:\n{}",
                package.name,
                built.errors.join("\n")
            );
        }
        careful |= built.guilty.is_empty();
        unviable.extend(built.guilty);
    }
}

/// What says which mutant the program is.
fn chooser() -> String {
    format!(
        "
extern crate std as __std;
/// The mutant that this program is; 0 for none.
pub fn __mutant() -> u32 {{
    static NUMBER: __std::sync::OnceLock<u32> = __std::sync::OnceLock::new();
    let number = || __std::env::var({:?}).ok().and_then(|number| number.parse().ok()).unwrap_or(0);
    *NUMBER.get_or_init(number)
}}
",
        trial::VARIABLE
    )
}

/// Builds the tests.
fn compile(tree: &Tree, package: &Package) -> Result<errors::Built> {
    let mut command = cargo();
    command.args(["test", "--no-run", "--tests", "--message-format", "json", "--package", &package.name]);
    for setting in SETTINGS {
        command.args(["--config", setting]);
    }
    command.current_dir(tree.folder()).env("CARGO_TARGET_DIR", target()?);
    let built = command.stdin(Stdio::null()).output().context(|| "cannot start cargo".into())?;
    let read = errors::read(&String::from_utf8_lossy(&built.stdout), tree.folder())?;
    if built.status.success() != read.errors.is_empty() || (read.errors.is_empty() && read.programs.is_empty()) {
        fail!("{}: the tests do not build:\n{}", package.name, String::from_utf8_lossy(&built.stderr));
    }
    Ok(read)
}

/// How each mutant went.
fn try_all(
    program: &Program,
    listed: &[Listed],
    trial: &Trial,
    jobs: usize,
    log: &mut Log,
) -> Result<Vec<(usize, Verdict)>> {
    let numbers: Vec<usize> = program.built_in.iter().copied().collect();
    let next = AtomicUsize::new(0);
    let found = Mutex::new((Vec::new(), log));
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(&number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let near = number.checked_sub(1).and_then(|at| listed.get(at)).map_or("", Listed::noun);
                    let verdict = trial.run(number, near);
                    let (verdicts, log) = &mut *found.lock().unwrap_or_else(PoisonError::into_inner);
                    let verdict = verdict.and_then(|verdict| log.write(number, verdict).map(|()| (number, verdict)));
                    verdicts.push(verdict);
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner).0.into_iter().collect()
}

/// How each mutant went, a line each as soon as it is known: what a run that is stopped has found is not lost.
struct Log<'a> {
    path: &'a Path,
    file: std::fs::File,
    listed: &'a [Listed],
}

impl<'a> Log<'a> {
    fn new(path: &'a Path, listed: &'a [Listed]) -> Result<Log<'a>> {
        let file = std::fs::File::create(path).context(|| format!("cannot write {}", path.display()))?;
        Ok(Log { path, file, listed })
    }

    /// Says how mutant `number`, counted from 1, went.
    fn write(&mut self, number: usize, verdict: Verdict) -> Result<()> {
        let name = number.checked_sub(1).and_then(|at| self.listed.get(at)).map_or("?", |mutant| &mutant.name);
        writeln!(self.file, "{verdict:?} {name}").context(|| format!("cannot write {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_about_what_it_is_called() {
        let noun = |file: &str| Listed { name: String::new(), file: file.into() }.noun().to_owned();
        assert_eq!(
            (noun("a/src/vm/life.rs"), noun("a/src/vm/mod.rs"), noun("")),
            ("life".into(), "vm".into(), String::new())
        );
    }

    #[test]
    fn the_log_has_a_line_for_each_as_soon_as_it_is_known() {
        let path = out("mutants").unwrap().join("log-of-the-test");
        let listed: Vec<Listed> =
            serde_json::from_str(r#"[{"name": "a", "file": "f"}, {"name": "b", "file": "f"}]"#).unwrap();
        let mut log = Log::new(&path, &listed).unwrap();
        log.write(2, Verdict::Survived).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "Survived b\n");
        log.write(1, Verdict::Caught).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "Survived b\nCaught a\n");
        std::fs::remove_file(&path).unwrap();
    }
}
