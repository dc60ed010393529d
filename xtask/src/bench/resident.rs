//! How much of the workspace stays in root mode, ring 0, with each backend; and how much leaves before the first guest runs.

use super::{Bench, Entry, Figure, Repeats};
use crate::build::{CORES, LOADER};
use crate::error::{Result, fail};
use crate::size::{linked, text_bytes};

pub const ENTRY: Entry = Entry {
    name: "resident_lines",
    measures: "lines of code that are linked into the core, and into the loader",
    repeats: Repeats::Exactly,
    run,
};

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let lab = bench.lab()?;
    let lines = |program: &str| -> Result<f64> {
        let lines = u32::try_from(linked(lab.program(program)?)?.lines).map_err(|error| error.to_string())?;
        if lines == 0 {
            fail!("no file of the workspace is linked into {program}");
        }
        Ok(lines.into())
    };
    let [vmx, svm] = CORES;
    let conditions = |program: &str| {
        format!(
            "all files of the workspace that cargo names as what {program} is built from; no blanks, comments, tests; assembly included"
        )
    };
    let figure = |metric, program: &str| -> Result<Figure> {
        Ok(Figure { metric, value: lines(program)?, unit: "lines", conditions: conditions(program) })
    };
    let text = u32::try_from(text_bytes(lab.program(vmx)?)?).map_err(|error| error.to_string())?;
    Ok(vec![
        figure("resident_lines_vmx", vmx)?,
        figure("resident_lines_svm", svm)?,
        Figure {
            metric: "resident_text_bytes",
            value: text.into(),
            unit: "bytes",
            conditions: format!("machine code of {vmx}: the section .text"),
        },
        figure("loader_lines", LOADER)?,
    ])
}
