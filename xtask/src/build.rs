//! Building the programs of the bare machine.

use crate::error::{Context, Result, fail};
use crate::manifest::model::System;
use crate::workspace::{BARE, cargo, out, output, packages, show};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Name of the program that GRUB starts.
pub const LOADER: &str = "loader";
/// Names of the core's programs: for VT-x, and for SVM.
pub const CORES: [&str; 2] = ["core-vmx", "core-svm"];

/// The programs with their symbols, by name.
pub type Programs = BTreeMap<String, PathBuf>;

/// Builds the loader, the cores and every module that `system` names.
pub fn build(system: &System) -> Result<Programs> {
    let mut names = vec![LOADER.to_owned()];
    names.extend(system.modules());
    let mut programs = build_bins(&names)?;
    // One after the other: together each would have the backend of both.
    for core in CORES {
        programs.extend(build_bins(&[core.to_owned()])?);
    }
    Ok(programs)
}

/// Builds the cores of the test image, once in a process: with hooks to make mistakes on purpose, which no other image's cores have. They
/// have a folder of their own, so that nobody takes them for the others.
pub fn build_test_cores() -> Result<Programs> {
    static BUILT: Mutex<Option<Programs>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(programs) = &*built {
        return Ok(programs.clone());
    }
    let folder = out("test-image")?.display().to_string();
    let mut programs = Programs::new();
    for core in CORES {
        programs.extend(build_with(&[core.to_owned()], &["--features", "selftest", "--target-dir", &folder])?);
    }
    *built = Some(programs.clone());
    Ok(programs)
}

/// The variable with the path of the files' image that `apps/httpd/build.rs` takes into the program.
const CARRIED: &str = "FORAKER_FILES";

/// Builds the program of the web server with the file system `files` in it, in a folder of its own: nobody takes it for the other one.
pub fn build_carrying(name: &str, files: &Path) -> Result<PathBuf> {
    let folder = out("with-files")?.display().to_string();
    let files = files.canonicalize().context(|| format!("cannot find {}", files.display()))?;
    let mut programs = build_in(&[name.to_owned()], &["--target-dir", &folder], &[(CARRIED, &files)])?;
    programs.remove(name).ok_or_else(|| format!("cargo built no program `{name}`").into())
}

/// Builds the programs `names` for the bare machine, wherever in the workspace they are.
pub fn build_bins(names: &[String]) -> Result<Programs> {
    build_with(names, &[])
}

fn build_with(names: &[String], more: &[&str]) -> Result<Programs> {
    build_in(names, more, &[])
}

fn build_in(names: &[String], more: &[&str], environment: &[(&str, &Path)]) -> Result<Programs> {
    let packages = packages()?;
    let mut command = cargo();
    // What is set outside is not about these programs.
    command.env_remove(CARRIED).envs(environment.iter().copied());
    command.args(["build", "--release", "--target", BARE, "--message-format", "json-render-diagnostics"]);
    command.args(more);
    for name in names {
        let Some(package) = packages.values().find(|package| package.bins.contains(name)) else {
            let known: Vec<&str> = packages.values().flat_map(|package| &package.bins).map(String::as_str).collect();
            fail!(
                "no package has a program `{name}` (system.toml and the core need it): there are {}",
                known.join(", ")
            );
        };
        command.args(["--package", &package.name, "--bin", name]);
    }
    let shown = show(&command);
    let started = Instant::now();
    let bar = spinner("building");
    // Cargo's own progress would fight with ours; its errors come through.
    command.args(["--quiet"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context(|| format!("cannot start `{shown}`"))?;
    let mut programs = Programs::new();
    let mut done = 0_u32;
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        let line = line.context(|| "cannot read what cargo says".into())?;
        let Ok(message) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
        if message["reason"] != "compiler-artifact" {
            continue;
        }
        done += 1;
        let name = message["target"]["name"].as_str().unwrap_or_default();
        bar.set_message(format!("building: {done} crates and programs done, last {name}"));
        if let Some(path) = message["executable"].as_str() {
            programs.insert(name.to_owned(), path.into());
        }
    }
    let status = child.wait().context(|| "cannot wait for cargo".into())?;
    bar.finish_and_clear();
    if !status.success() {
        fail!("building failed ({status}). The command was:\n    {shown}");
    }
    if started.elapsed() > Duration::from_secs(2) {
        eprintln!("built {} programs in {:.0} s", names.len(), started.elapsed().as_secs_f32());
    }
    match names.iter().find(|name| !programs.contains_key(*name)) {
        Some(name) => fail!("cargo built no program `{name}`"),
        None => Ok(programs),
    }
}

/// Builds the library `package` for the host, once in a process. Where it is.
pub fn preload_library(package: &str) -> Result<PathBuf> {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = built.get(package) {
        return Ok(path.clone());
    }
    let mut command = cargo();
    command.args(["build", "--quiet", "--package", package, "--message-format", "json-render-diagnostics"]);
    let said = output(&mut command)?;
    let is_library = |message: &serde_json::Value| {
        let kinds = message["target"]["kind"].as_array();
        message["reason"] == "compiler-artifact" && kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "cdylib"))
    };
    let mut messages = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let path = messages.find(is_library).and_then(|message| message["filenames"][0].as_str().map(PathBuf::from));
    let Some(path) = path else { fail!("`{}` built no library", show(&command)) };
    built.insert(package.to_owned(), path.clone());
    Ok(path)
}

/// A line on the terminal that shows that something goes on. Nothing where there is no terminal.
pub fn spinner(message: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {msg} ({elapsed})").expect("the template is well-formed"));
    bar.set_message(message.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
