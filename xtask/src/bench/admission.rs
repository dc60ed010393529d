//! Ten thousand web servers on one machine: until all of them are admitted.

use super::{Bench, Entry, Figure, Repeats};
use crate::error::Result;
use crate::machine::Kind;
use crate::test::cases::crowd::{Admitted, admitted, crowd};
use crate::test::lab::Lab;
use std::time::Duration;

pub const ENTRY: Entry = Entry {
    name: "admit_10000",
    measures: "machine time until 10,000 web servers are admitted, and how many of them the core had to admit by itself",
    repeats: Repeats::Within(0.05),
    run,
};

/// Web servers, and memory of the machine in MiB.
const VMS: u64 = 10_000;
const MEGS: u32 = 1024;
/// How long it may take on a slow host.
const PATIENCE: Duration = Duration::from_secs(1200);

fn run(_: &Bench) -> Result<Vec<Figure>> {
    let lab = Lab::with(Kind::Qemu)?;
    let running = crowd(&lab, VMS, MEGS).start()?;
    let Admitted { ms, late } = admitted(&running, VMS, PATIENCE)?;
    running.power_off()?;
    // Small numbers.
    #[allow(clippy::cast_precision_loss)]
    let figure = |metric, value: u64, unit| Figure {
        metric,
        value: value as f64,
        unit,
        conditions: format!(
            "QEMU, time by instructions (a nanosecond each), {VMS} httpd that nobody asks, {MEGS} MiB; from the core's start"
        ),
    };
    Ok(vec![figure("admit_10000_fallbacks", late, "VMs"), figure("admit_10000_ms", ms, "ms")])
}
