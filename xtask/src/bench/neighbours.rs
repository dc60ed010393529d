//! What neighbours that compute do to a VM that sleeps and wakes.

use super::mechanism::{measure, parse};
use super::{Bench, Entry, Figure, Repeats};
use crate::error::Result;

pub const ALARMS: Entry = Entry {
    name: "alarm_late_p99_us_16_loops",
    measures: "how late the end of an idle comes beside 16 VMs that compute",
    repeats: Repeats::Exactly,
    run: alarms,
};

/// VMs that compute.
const LOOPS: u64 = 16;

// Microseconds are far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn alarms(bench: &Bench) -> Result<Vec<Figure>> {
    let inside = bench.inside()?;
    let lines = measure(bench.lab()?, &format!("bench*{} sched=fair", LOOPS + 1), 1, "alarms")?;
    let of = |key| parse(&lines[0], key);
    let conditions = format!(
        "{inside}; sched=fair; {LOOPS} VMs that compute, one that idles for 1 to 20 ms, drawn evenly; p99 of {} (p50 {}, most {})",
        of("samples")?,
        of("p50")?,
        of("most")?
    );
    Ok(vec![Figure { metric: ALARMS.name, value: of("p99")? as f64, unit: "us", conditions }])
}
