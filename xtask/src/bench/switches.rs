//! Switches by the number of VMs that take part in them.

use super::mechanism::{measure, parse};
use super::plot::{self, Line};
use super::{Bench, Entry, Figure, Repeats, write};
use crate::error::Result;
use std::fmt::Write;

pub const ENTRY: Entry = Entry {
    name: "vm_switch_512",
    measures: "a switch among 512 VMs in turn, over one between two; and among 1, 20 and 100",
    repeats: Repeats::Exactly,
    run,
};

/// VMs, and how often each gives its turn up before its rounds count: as long as the others are still being created.
const CROWDS: [(u32, u32); 5] = [(1, 5_000), (2, 5_000), (20, 2_000), (100, 1_000), (512, 600)];
/// Rounds that count.
const ROUNDS: u32 = 200;
const SCHEDULERS: [&str; 2] = ["round-robin", "fair"];

// Ticks of a round are far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let (inside, mut notes, mut curves) = (bench.inside()?, String::new(), [Vec::new(), Vec::new()]);
    for (sched, curve) in SCHEDULERS.into_iter().zip(&mut curves) {
        for (vms, warm_up) in CROWDS {
            let what = format!("vm_switch warm-up={warm_up} rounds={ROUNDS}");
            // All see the same rounds; the first that says so will do.
            let line = measure(bench.lab()?, &format!("bench*{vms} sched={sched}"), 1, &what)?.remove(0);
            let switch = parse(&line, "mean")? as f64 / f64::from(vms);
            // Writing to a string cannot fail.
            let _ = writeln!(notes, "    {vms} VMs, sched={sched}: {switch:.0} instructions, mean of {ROUNDS} rounds");
            curve.push(switch);
        }
    }
    write(&format!("{}-curve.svg", ENTRY.name), &drawn(&curves))?;
    bench.note(notes);
    let (two, most) = (curves[0][1], curves[0][CROWDS.len() - 1]);
    let value = (1000.0 * most / two).round() / 1000.0;
    let conditions = format!(
        "{inside}; sched=round-robin; VMs that idle until the past; a part of a round of {}, {most:.0}, over half a round of two, {two:.0}; means of {ROUNDS} rounds",
        CROWDS[CROWDS.len() - 1].0
    );
    Ok(vec![Figure { metric: ENTRY.name, value, unit: "ratio", conditions }])
}

/// Instructions for a switch by VMs, as shares of the most.
fn drawn(curves: &[Vec<f64>; 2]) -> String {
    let most = curves.iter().flatten().copied().fold(1.0, f64::max);
    let line = |(name, curve): (&str, &Vec<f64>)| Line {
        name: name.to_owned(),
        heights: curve.iter().map(|value| Some(value / most)).collect(),
    };
    let lines: Vec<Line> = SCHEDULERS.into_iter().zip(curves).map(line).collect();
    let places = CROWDS.map(|(vms, _)| vms.to_string());
    plot::lines(&format!("instructions for a switch by VMs; 1.0 is {most:.0}"), &places, CROWDS.len(), &lines)
}
