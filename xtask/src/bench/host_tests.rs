//! How many tests the core has on the host.

use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Context, Result, fail};
use crate::workspace::{cargo, show};

pub const ENTRY: Entry = Entry {
    name: "host_tests_hv_core",
    measures: "tests of the core that run on the host",
    repeats: Repeats::Exactly,
    run,
};

fn run(_: &Bench) -> Result<Vec<Figure>> {
    let mut command = cargo();
    command.args(["test", "--quiet", "--package", "hv-core", "--lib", "--", "--list", "--format", "terse"]);
    let output = command.output().context(|| format!("`{}` cannot be run", show(&command)))?;
    if !output.status.success() {
        fail!("`{}` failed:\n{}", show(&command), String::from_utf8_lossy(&output.stderr));
    }
    let tests = String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.ends_with(": test")).count();
    let tests = u32::try_from(tests).map_err(|error| error.to_string())?;
    let conditions = "cargo test -p hv-core; a property counts as one".to_owned();
    Ok(vec![Figure { metric: "host_tests_hv_core", value: tests.into(), unit: "tests", conditions }])
}
