//! What clients notice of who is let in: web servers of which a tenth can be in, by each way of the gatekeeper to choose, on a machine.

use super::mechanism::parse;
use super::popularity::{healthy, ms, said};
use super::{Bench, Entry, Figure, Repeats, load, write};
use crate::error::{Context, Result, fail};
use crate::machine::Kind;
use crate::test::lab::{Lab, number};
use abi::sched::Admission;
use serde::Serialize;
use std::fmt::Write;

pub const ENTRY: Entry = Entry {
    name: "gatekeeper_first_byte_most_ms",
    measures: "the longest time until the first byte of an answer, by each way of the gatekeeper to choose, popular ones and cold ones, ms",
    // When the machine's drive has read what it boots from is the host's time.
    repeats: Repeats::Within(0.5),
    run,
};

/// VMs, seats, memory in MiB; requests in a second, and how many thousands are measured.
const VMS: u32 = 5_000;
const SEATS: u32 = 500;
const MEGS: u32 = 128;
const RATE: u32 = 800;
const THOUSANDS: u32 = 6;

/// What came of requests to one kind of VMs; times in milliseconds.
#[derive(Clone, Default, Serialize)]
struct Waits {
    requests: u64,
    p50_ms: f64,
    p99_ms: f64,
    most_ms: f64,
}

#[derive(Serialize)]
struct Row {
    gatekeeper: &'static str,
    /// VMs that were called and came in, from the machine's start on.
    woken: u64,
    served: u64,
    most_ms: f64,
    /// Those that were told, from the most popular ones on.
    tenths: Vec<Waits>,
}

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let (lab, mut notes, mut rows) = (Lab::with(Kind::Qemu)?, String::new(), Vec::new());
    for gatekeeper in Admission::NAMES {
        rows.push(row(&lab, gatekeeper, &mut notes)?);
    }
    bench.note(notes);
    let json = serde_json::to_string_pretty(&rows).context(|| "cannot write the table as JSON".into())?;
    write(&format!("{}-tenths.json", ENTRY.name), &json)?;
    let conditions = format!(
        "QEMU, SVM, one CPU, TSC counts instructions (icount shift=0), 10^9 a second; {VMS} httpd, all of which have served once, for {SEATS} seats, {MEGS} MiB, \
         pool=16MiB, residence=10ms, no disk; {THOUSANDS},000 requests for /100b, {RATE} in a second, Poisson arrivals, to VMs by Zipf's law with exponent 1.0, a \
         connection per request, from clients that the demultiplexer holds; from when a request was due; the worst of {}",
        Admission::NAMES.map(|name| format!("gatekeeper={name}")).join(", ")
    );
    let value = rows.iter().map(|row| row.most_ms).fold(0.0, f64::max);
    Ok(vec![Figure { metric: ENTRY.name, value, unit: "ms", conditions }])
}

/// What comes of it with this way to choose.
fn row(lab: &Lab, gatekeeper: &'static str, notes: &mut String) -> Result<Row> {
    let options = format!("seats={SEATS} pool=16MiB residence=10ms gatekeeper={gatekeeper}");
    let plan = format!("zipf-100-{RATE}-{THOUSANDS}");
    let running = load::servers(lab, VMS, MEGS, &options, &plan)?.deterministic().start()?;
    let line = load::outcomes(&running, 1)?.remove(0);
    let lines: Vec<String> = running.said_since(0).into_iter().filter(|line| line.contains("load: tenth=")).collect();
    running.wait_for_monitor()?;
    let wakes = running.monitor("wakes")?;
    let Some(woken) = wakes.iter().find_map(|line| number(line, "woken")) else { fail!("`wakes` says {wakes:?}") };
    healthy(&running, &line, VMS)?;
    running.power_off()?;
    // The log leaves lines out of many at once; those of the first ones are there.
    if !lines.first().is_some_and(|line| line.contains("tenth=1 ")) {
        fail!("what came of requests to the popular ones was not told: {lines:?}");
    }
    // Writing to a string cannot fail.
    let _ = writeln!(notes, "    {gatekeeper}, {woken} came in: {}", said(&line));
    let mut tenths = Vec::new();
    for tenth in &lines {
        let _ = writeln!(notes, "        {}", said(tenth));
        tenths.push(waits(tenth)?);
    }
    Ok(Row { gatekeeper, woken, served: parse(&line, "served")?, most_ms: ms(parse(&line, "most_us")?), tenths })
}

fn waits(line: &str) -> Result<Waits> {
    let of = |key| parse(line, key).map(ms);
    Ok(Waits {
        requests: parse(line, "served")?,
        p50_ms: of("p50_us")?,
        p99_ms: of("p99_us")?,
        most_ms: of("most_us")?,
    })
}
