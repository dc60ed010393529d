//! Writes the seeds of a target into a folder, for libFuzzer: `fuzz-seeds TARGET FOLDER`.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, folder] = arguments.as_slice() else {
        eprintln!("fuzz-seeds: a target and a folder are needed");
        return ExitCode::FAILURE;
    };
    let Some(target) = fuzz::target(name) else {
        let names: Vec<&str> = fuzz::TARGETS.iter().map(|target| target.name).collect();
        eprintln!("fuzz-seeds: there is no target `{name}`: known are {}", names.join(", "));
        return ExitCode::FAILURE;
    };
    for (i, seed) in (target.seeds)().iter().enumerate() {
        if let Err(error) = std::fs::write(Path::new(folder).join(format!("seed-{i}")), seed) {
            eprintln!("fuzz-seeds: cannot write to {folder}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
