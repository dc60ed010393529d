//! Hot swap: how long the machine is without a plan.

use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::test::lab::{Running, number};
use std::time::Duration;

pub const ENTRY: Entry = Entry {
    name: "policy_swap_gap",
    measures: "time without a planned turn while the scheduler is replaced under load",
    // When a swap is asked for depends on the host's timing, and so does what components have to do meanwhile.
    repeats: Repeats::Within(0.25),
    run,
};

/// Guests that compute without pause.
const VMS: usize = 8;
/// Swaps that are measured, and the policies that follow each other.
const SWAPS: usize = 24;
const POLICIES: [&str; 3] = ["stride", "lottery", "round-robin"];
/// How long the guests may take to start.
const PATIENCE: Duration = Duration::from_secs(120);

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let inside = bench.inside()?;
    let running = bench.lab()?.boot(&format!("vms=bench*{VMS} sched=round-robin")).deterministic().system(|system| {
        for image in system.image.iter_mut().filter(|image| image.name == "bench") {
            image.args = "bench=compute".to_owned();
        }
    });
    let running = running.start()?;
    running.wait_for("monitor: ready incarnation=", PATIENCE)?;
    let mut gaps = Vec::new();
    for swap in 0..SWAPS {
        let policy = POLICIES[swap % POLICIES.len()];
        let mark = running.mark();
        running.monitor(&format!("policy sched {policy}"))?;
        running.wait_for_since(mark, &format!("sched: policy={policy} incarnation="), PATIENCE)?;
        gaps.push(gap(&running)?);
    }
    gaps.sort_by(f64::total_cmp);
    let (median, most) = (gaps[SWAPS / 2], gaps[SWAPS - 1]);
    let conditions = format!(
        "{inside}; sched=round-robin at first, then stride, lottery and it by turns; {VMS} VMs that compute, quantum 10 ms; from the stop of the old scheduler until a VM goes on by its plan or \
         the new one's; the longest of {SWAPS} swaps (median {median:.3})"
    );
    Ok(vec![Figure { metric: "policy_swap_gap", value: (most * 1000.0).round() / 1000.0, unit: "ms", conditions }])
}

/// Milliseconds of the machine's time without a planned turn at the last swap.
// Ticks of milliseconds are far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn gap(running: &Running) -> Result<f64> {
    let lines = running.monitor("machine")?;
    let of = |key| lines.iter().find_map(|line| number(line, key));
    match (of("gap_ticks"), of("tsc_hz")) {
        (Some(gap @ 1..), Some(hz @ 1..)) => Ok(gap as f64 * 1000.0 / hz as f64),
        _ => fail!("no gap in {lines:?}"),
    }
}
