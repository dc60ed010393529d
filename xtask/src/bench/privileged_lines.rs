//! Lines of everything that runs in VMX root mode, ring 0.

use super::{Bench, Entry, Figure, Repeats};
use crate::error::Result;
use crate::size::{PRIVILEGED, privileged};

pub const ENTRY: Entry = Entry {
    name: "privileged_lines",
    measures: "lines of code in VMX root mode, ring 0",
    repeats: Repeats::Exactly,
    run,
};

fn run(_: &Bench) -> Result<Vec<Figure>> {
    let lines = u32::try_from(privileged()?.lines).map_err(|error| error.to_string())?;
    Ok(vec![Figure {
        metric: "privileged_lines",
        value: lines.into(),
        unit: "lines",
        conditions: format!("{}; no blanks, comments, tests; assembly included", PRIVILEGED.join(", ")),
    }])
}
