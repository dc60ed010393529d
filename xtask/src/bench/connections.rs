//! Many downloads from one web server: whether the first to come are served at the expense of the others.

use super::load;
use super::mechanism::parse;
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::machine::Kind;
use crate::test::lab::Lab;
use std::fmt::Write;

pub const ENTRY: Entry = Entry {
    name: "connections_fairness_p99_ms",
    measures: "p99 of 16 downloads of 100 KB from one web server that begin at once, ms",
    repeats: Repeats::Exactly,
    run,
};

/// Downloads at once, and how many times that.
const AT_ONCE: u32 = 16;
const TIMES: u32 = 40;

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let (lab, mut notes) = (Lab::with(Kind::Qemu)?, String::new());
    let together = downloads(&lab, "all", &mut notes)?;
    let moving = downloads(&lab, "get", &mut notes)?;
    bench.note(notes);
    let conditions = format!(
        "QEMU, SVM, one CPU, TSC counts instructions (icount shift=0), 10^9 a second; sched=fair; 1 httpd, {AT_ONCE} clients that ask for /100k at once, and again \
         when all are done, {TIMES} times, a connection per request, from clients that the demultiplexer holds, whose wire takes no time"
    );
    let also = format!("{conditions}; each of whom asks again when it is done");
    Ok(vec![
        Figure { metric: ENTRY.name, value: together, unit: "ms", conditions },
        Figure { metric: "connections_moving_p99_ms", value: moving, unit: "ms", conditions: also },
    ])
}

/// p99 of such downloads, in milliseconds.
// Microseconds are far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn downloads(lab: &Lab, how: &str, notes: &mut String) -> Result<f64> {
    let boot = load::boot(lab, "vms=httpd sched=fair slots=4096", &format!("{how}-100k-{AT_ONCE}-{TIMES}-1"))?;
    let running = boot.deterministic().start()?;
    let line = load::outcomes(&running, 1)?.remove(0);
    running.power_off()?;
    if parse(&line, "served")? != u64::from(AT_ONCE * TIMES) {
        fail!("not all were served: {line}");
    }
    let of = |key| parse(&line, key);
    let (p50, p99, most) = (of("p50_us")?, of("p99_us")?, of("most_us")?);
    // Writing to a string cannot fail.
    let _ = writeln!(notes, "    {how}: p50 {p50} us, p99 {p99} us, most {most} us, all in {} ms", of("ms")?);
    Ok(p99 as f64 / 1000.0)
}
