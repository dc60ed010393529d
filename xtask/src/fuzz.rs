//! `fuzz`: lets libFuzzer look for inputs that a reader does not stand.
//!
//! Stable Rust does: the coverage that libFuzzer needs is a pass of LLVM's, which the compiler can be told to run. (`cargo fuzz`
//! adds sanitizers, for which it needs nightly Rust; the readers are safe code.) The short run in `cargo xtask test` needs neither.

use crate::error::{Context, Result, fail};
use crate::workspace::{cargo, out, output, root};
use std::path::Path;
use std::process::{Command, ExitCode};

#[derive(clap::Args)]
pub struct Args {
    /// Which reader [default: list them]
    target: Option<String>,
    /// Runs these inputs only, as those that it once failed on
    inputs: Vec<std::path::PathBuf>,
    /// How long to look
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// What makes the compiler add the counters that libFuzzer reads.
const INSTRUMENTED: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                            -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                            -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
                            -Cdebug-assertions -Coverflow-checks";
/// The host, named, so that what is built for it is instrumented and what helps to build it is not.
const HOST: &str = "x86_64-unknown-linux-gnu";

pub fn fuzz(args: &Args) -> Result<ExitCode> {
    let targets = crate::workspace::packages()?.get("fuzz").map(|package| package.bins.clone()).unwrap_or_default();
    let mut targets = targets.iter().filter_map(|bin| bin.strip_prefix("fuzz-")).filter(|name| *name != "seeds");
    let Some(target) = &args.target else {
        targets.for_each(|name| println!("{name}"));
        return Ok(ExitCode::SUCCESS);
    };
    if !targets.any(|name| name == target) {
        fail!("there is no target `{target}`: `cargo xtask fuzz` lists them");
    }
    let program = build(target)?;
    let found = out(&format!("fuzz/{target}"))?;
    output(cargo().args(["run", "--quiet", "--package", "fuzz", "--bin", "fuzz-seeds", target]).arg(&found))?;
    let mut command = Command::new(program);
    command.current_dir(&found).arg(format!("-max_total_time={}", args.seconds));
    command.arg(format!("-artifact_prefix={}/failed-", found.display()));
    if args.inputs.is_empty() {
        // What it finds goes to the first folder.
        command.arg(&found);
        command.args(Some(root().join("fuzz/corpus").join(target)).filter(|kept| kept.is_dir()));
    } else {
        for input in &args.inputs {
            command.arg(std::path::absolute(input).context(|| format!("cannot find {}", input.display()))?);
        }
    }
    let status = command.status().context(|| format!("cannot start the target `{target}`"))?;
    if !status.success() {
        println!(
            "{target} failed. An input that was made good is kept in fuzz/corpus/{target}/, and `cargo xtask test` runs it."
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the program around `target`, in a folder of its own: all that it links is built differently.
fn build(target: &str) -> Result<std::path::PathBuf> {
    let folder = out("fuzz/build")?;
    let program = format!("fuzz-{target}");
    let mut command = cargo();
    command.args(["build", "--release", "--package", "fuzz", "--features", "libfuzzer", "--bin", &program]);
    command.args(["--target", HOST, "--config", "profile.release.lto=\"off\"", "--target-dir"]).arg(&folder);
    let status = command.env("RUSTFLAGS", INSTRUMENTED).status().context(|| "cannot start cargo".into())?;
    if !status.success() {
        fail!("the target `{target}` cannot be built; besides Rust it needs a C++ compiler (Debian: g++)");
    }
    Ok(Path::new(&folder).join(HOST).join("release").join(program))
}
