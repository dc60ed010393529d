//! `cargo xtask`: setup, build, image, run, test, measure. `cargo xtask help` lists the commands.
#![forbid(unsafe_code)]

mod audit;
mod bench;
mod build;
mod build_iso;
mod carried;
#[cfg(test)]
mod decisions;
#[cfg(test)]
mod dependencies;
mod disk;
mod error;
mod fleet;
mod fuzz;
mod http;
mod image;
#[cfg(test)]
mod imports;
mod linux;
mod machine;
mod manifest;
mod medium;
#[cfg(test)]
mod messages;
mod mutants;
mod net;
mod operator;
mod operator_ports;
mod power;
mod pxe;
#[cfg(test)]
mod rfcs;
mod run;
mod service;
mod setup;
mod size;
mod stack;
mod test;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Builds, runs, tests and measures Foraker.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", version, about)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what is missing, or name it
    Setup,
    /// Build, boot and serve; print the URLs; Ctrl-C ends it
    Run(run::Args),
    /// Run host tests, lints and machine tests; the last line is 'N passed, N failed'
    Test(test::Args),
    /// Change crates in small ways and see whether their tests notice; the last line is 'N passed, N failed'
    Mutants(mutants::Args),
    /// Let libFuzzer look for inputs that a reader does not stand
    Fuzz(fuzz::Args),
    /// Measure; write a table to the screen, JSON and SVG to target/bench
    Bench(bench::Args),
    /// Make the bootable image
    BuildIso(build_iso::Args),
    /// Make the tree for booting over the network
    Pxe(pxe::Args),
    /// Make a set of disks, as image files or on block devices
    Mkdisk(disk::mkdisk::Args),
    /// Say what disks are and whether what is on them is what was written; writes nothing
    Fsck(disk::fsck::Args),
    /// Check an audit log that the operator's VM has written
    AuditVerify(audit::Args),
    /// Print lines and bytes of each part, unsafe blocks, frames in use
    Size(size::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Setup => setup::setup(setup::For::Everything).map(|()| {
            println!("setup: everything is there");
            ExitCode::SUCCESS
        }),
        Verb::Run(args) => run::run(args),
        Verb::Test(args) => test::test(&args),
        Verb::Mutants(args) => mutants::mutants(&args),
        Verb::Fuzz(args) => fuzz::fuzz(&args),
        Verb::Bench(args) => bench::bench(&args),
        Verb::BuildIso(args) => build_iso::build_iso(&args),
        Verb::Pxe(args) => pxe::pxe(&args),
        Verb::Mkdisk(args) => disk::mkdisk::mkdisk(args),
        Verb::Fsck(args) => disk::fsck::fsck(&args),
        Verb::AuditVerify(args) => audit::verify(&args),
        Verb::Size(args) => size::size(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error}");
        ExitCode::FAILURE
    })
}
