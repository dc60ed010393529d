//! Fuzz targets: what reads bytes that others wrote, fed with any bytes.
//!
//! A target panics when the reader does, and when the reader has let something pass that those behind it take for excluded.
//! `tests/smoke.rs` runs each over its seeds and some thousand changed ones; `cargo xtask fuzz TARGET` lets libFuzzer look for
//! more. An input that once did harm is kept in `corpus/TARGET/` and runs ever after.
#![forbid(unsafe_code)]

mod boot;
mod bundle;
mod disks;
mod http;
pub mod mutate;
mod network;
mod operator;
mod peer;
mod ssh;
mod store;

/// A reader and what it is fed.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Feeds it. Returns whether the reader was content, so that a test can tell whether its deeper paths were reached.
    pub run: fn(&[u8]) -> bool,
    /// Good inputs, from which others are made. They are built rather than kept, so that they stay good when a layout changes.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Changed inputs of a smoke run: about two seconds of them.
    pub smoke_runs: u32,
}

/// All targets.
pub const TARGETS: [Target; 15] = [
    Target { name: "manifest", run: loader::fuzzing::manifest, seeds: boot::manifests, smoke_runs: 20_000 },
    Target { name: "elf", run: loader::fuzzing::elf, seeds: boot::programs, smoke_runs: 20_000 },
    Target { name: "options", run: loader::fuzzing::options, seeds: boot::options, smoke_runs: 40_000 },
    Target { name: "multiboot", run: loader::fuzzing::multiboot, seeds: boot::information, smoke_runs: 20_000 },
    Target {
        name: "frame-table",
        run: base::memory::frames_fuzz::frames,
        seeds: boot::frame_calls,
        smoke_runs: 10_000,
    },
    Target { name: "peer", run: peer::run, seeds: peer::seeds, smoke_runs: 20_000 },
    Target { name: "frames", run: network::frames, seeds: network::frame_seeds, smoke_runs: 40_000 },
    Target { name: "segments", run: network::segments, seeds: network::segment_seeds, smoke_runs: 20_000 },
    Target { name: "dhcp", run: network::dhcp, seeds: network::dhcp_seeds, smoke_runs: 40_000 },
    Target { name: "http", run: http::run, seeds: http::seeds, smoke_runs: 20_000 },
    Target { name: "operator", run: operator::run, seeds: operator::seeds, smoke_runs: 40_000 },
    Target { name: "disks", run: disks::run, seeds: disks::seeds, smoke_runs: 8_000 },
    Target { name: "bundle", run: bundle::run, seeds: bundle::seeds, smoke_runs: 8_000 },
    Target { name: "store", run: store::run, seeds: store::seeds, smoke_runs: 3_000 },
    Target { name: "ssh", run: ssh::run, seeds: ssh::seeds, smoke_runs: 500 },
];

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    const ALL: &[Target] = &TARGETS;
    ALL.iter().find(|target| target.name == name)
}

/// The entry of a program that libFuzzer drives. Built without libFuzzer's instrumentation it only says so.
#[cfg(feature = "libfuzzer")]
#[macro_export]
macro_rules! program {
    ($name:literal) => {
        #[cfg(fuzzing)]
        $crate::libfuzzer_sys::fuzz_target!(|data: &[u8]| {
            $crate::target($name).map(|target| (target.run)(data));
        });

        #[cfg(not(fuzzing))]
        fn main() {
            eprintln!("`cargo xtask fuzz {}` builds and runs this", $name);
        }
    };
}

#[cfg(feature = "libfuzzer")]
pub use libfuzzer_sys;
