//! Web servers of which a few are popular, and memory for a part of them: how long who asks waits, and how many can be served.

use super::load;
use super::mechanism::parse;
use super::plot::{self, Line};
use super::swapped::members;
use super::{Bench, Entry, Figure, Repeats, write};
use crate::error::{Result, fail};
use crate::machine::{DiskKind, Kind};
use crate::test::cases::pooled::swap;
use crate::test::lab::{Lab, Running};
use crate::workspace::scratch;
use std::fmt::Write;

pub const FIRST_BYTE: Entry = Entry {
    name: "wake_to_first_byte",
    measures: "from when a request is due to the first byte of its answer, of 20,000 web servers most of which lie on slow disks, ms",
    // The time of the host is in it.
    repeats: Repeats::Within(0.75),
    run: first_byte,
};
pub const THROUGHPUT: Entry = Entry {
    name: "zipf_throughput",
    measures: "requests in a second of the machine to ten times as many web servers as can be in, by policy and popularity",
    // When the machine's drive has read what it boots from is the host's time, and seats are few: who waits for one depends on it.
    repeats: Repeats::Within(0.1),
    run: throughput,
};

/// VMs, memory in MiB, and requests that a disk does in a second.
const VMS: u32 = 20_000;
const MEGS: u32 = 256;
const SLOW: u32 = 200;
/// Requests in a second, and how many thousands are measured.
const RATE: u32 = 300;
const THOUSANDS: u32 = 12;
/// VMs of the curve, and seats.
const CURVE_VMS: u32 = 5_000;
const SEATS: u32 = 500;
const CURVE_THOUSANDS: u32 = 3;
const CURVE_MEGS: u32 = 128;
/// Exponents, in hundredths, and policies.
pub const EXPONENTS: [u32; 5] = [60, 80, 100, 120, 140];
const POLICIES: [&str; 3] = ["vm-sieve", "vm-lru", "vm-fifo"];

fn first_byte(bench: &Bench) -> Result<Vec<Figure>> {
    // Slowness is of the world's time.
    let kind = if bench.kind == Kind::Kvm { Kind::Kvm } else { Kind::Qemu };
    let lab = Lab::with(kind)?;
    let dir = scratch(FIRST_BYTE.name)?;
    let disks = members(&dir, VMS)?;
    let boot = load::servers(&lab, VMS, MEGS, "pool=8M", &format!("zipf-100-{RATE}-{THOUSANDS}"))?;
    let mut running = boot.disks(DiskKind::Virtio, &disks).each_apart().start()?;
    running.wait_for_monitor()?;
    for disk in 0..disks.len() {
        running.machine().emulator(&format!("block_set_io_throttle disk{disk} 0 0 0 {SLOW} 0 0"))?;
    }
    let line = load::outcomes(&running, 1)?.remove(0);
    let mut notes = format!("    {}\n", said(&line));
    for tenth in running.said_since(0).iter().filter(|line| line.contains("load: tenth=")) {
        // Writing to a string cannot fail.
        let _ = writeln!(notes, "    {}", said(tenth));
    }
    let (on_disk, pool) = (swap(&running, "on_disk")?, swap(&running, "vms")?);
    let _ = writeln!(notes, "    at the end {on_disk} lay on the disks, and {pool} in the pool");
    bench.note(notes);
    healthy(&running, &line, VMS)?;
    if on_disk < u64::from(VMS) / 4 {
        fail!("only {on_disk} of {VMS} VMs lie on the disks");
    }
    running.power_off()?;
    let conditions = format!(
        "{}, time with the host's; {VMS} httpd, all of which have served once, {MEGS} MiB, pool=8M, three virtio disks that do {SLOW} requests in a second \
         each; {THOUSANDS},000 requests for /100b, {RATE} in a second, Poisson arrivals, to VMs by Zipf's law with exponent 1.0, a connection per \
         request, from clients that the demultiplexer holds; all of them, those to VMs that are in included",
        kind.name()
    );
    let figure = |metric, key| -> Result<Figure> {
        let value = ms(parse(&line, key)?);
        Ok(Figure { metric, value, unit: "ms", conditions: conditions.clone() })
    };
    Ok(vec![
        figure("wake_to_first_byte_p50", "p50_us")?,
        figure("wake_to_first_byte_p99", "p99_us")?,
        figure("wake_to_first_byte_p999", "p999_us")?,
    ])
}

// Microseconds are far below 2^53.
#[allow(clippy::cast_precision_loss)]
pub fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

/// A line without what is in front of it.
pub fn said(line: &str) -> &str {
    line.split_once("load: ").map_or(line, |(_, said)| said)
}

/// All must have been visited, nearly all have been answered, and nobody may have ended.
pub fn healthy(running: &Running, line: &str, vms: u32) -> Result<()> {
    let (visited, requests, served) = (parse(line, "visited")?, parse(line, "requests")?, parse(line, "served")?);
    if visited < u64::from(vms) * 99 / 100 {
        fail!("only {visited} of {vms} VMs have answered when they were visited");
    }
    if served < requests * 95 / 100 {
        fail!("only {served} of {requests} requests were answered: {line}");
    }
    for word in [" ended: ", " killed: ", "ERROR"] {
        running.must_not_say(0, word)?;
    }
    Ok(())
}

fn throughput(bench: &Bench) -> Result<Vec<Figure>> {
    let (lab, mut notes, mut rates) = (Lab::with(Kind::Qemu)?, String::new(), Vec::new());
    for policy in POLICIES {
        let of = curve(&lab, policy)?;
        // Writing to a string cannot fail.
        let _ = writeln!(notes, "    {policy}: {}", of.map(|rate| format!("{rate:.0}")).join(", "));
        rates.push(of);
    }
    bench.note(notes);
    write("zipf_throughput-curve.svg", &drawn(&rates))?;
    // Of the default, with exponent 1.0.
    let value = rates.first().map_or(0.0, |rates| rates[2]);
    let conditions = format!(
        "QEMU, SVM, one CPU, TSC counts instructions (icount shift=0), 10^9 a second; {CURVE_VMS} httpd, all of which have served once, for {SEATS} seats, \
         {CURVE_MEGS} MiB, pool=16MiB, residence=10ms, no disk; {CURVE_THOUSANDS},000 requests for /100b by 16 clients, each of whom asks when one is answered, \
         after half as many, to VMs by Zipf's law, a connection per request, from clients that the demultiplexer holds; vm-sieve, exponent 1.0"
    );
    Ok(vec![Figure { metric: THROUGHPUT.name, value, unit: "requests", conditions }])
}

/// Requests in a second for each exponent under a policy.
fn curve(lab: &Lab, policy: &str) -> Result<[f64; EXPONENTS.len()]> {
    let options = format!("pager={policy} seats={SEATS} pool=16MiB residence=10ms");
    let running =
        load::servers(lab, CURVE_VMS, CURVE_MEGS, &options, &plan(CURVE_THOUSANDS))?.deterministic().start()?;
    let rates = rates(&running, CURVE_VMS)?;
    running.power_off()?;
    Ok(rates)
}

/// All exponents one after the other, so many thousand requests each.
pub fn plan(thousands: u32) -> String {
    format!("curve-{}-0-{thousands}", EXPONENTS[0])
}

/// Requests in a second for each exponent.
// Milliseconds and requests.
#[allow(clippy::cast_precision_loss)]
pub fn rates(running: &Running, vms: u32) -> Result<[f64; EXPONENTS.len()]> {
    let lines = load::outcomes(running, EXPONENTS.len())?;
    let mut rates = [0.0; EXPONENTS.len()];
    for (line, (rate, exponent)) in lines.iter().zip(rates.iter_mut().zip(EXPONENTS)) {
        healthy(running, line, vms)?;
        if parse(line, "zipf")? != u64::from(exponent) {
            fail!("not of the exponent {exponent}: {line}");
        }
        *rate = (parse(line, "served")? as f64 * 1000.0 / parse(line, "ms")?.max(1) as f64).round();
    }
    Ok(rates)
}

/// The curves, beside each other, as shares of the highest.
fn drawn(rates: &[[f64; EXPONENTS.len()]]) -> String {
    let most = rates.iter().flatten().copied().fold(1.0, f64::max);
    let places = EXPONENTS.map(|exponent| format!("{:.1}", f64::from(exponent) / 100.0));
    let line = |(name, rates): (&&str, &[f64; EXPONENTS.len()])| Line {
        name: (*name).to_owned(),
        heights: rates.iter().map(|rate| Some(rate / most)).collect(),
    };
    let lines: Vec<Line> = POLICIES.iter().zip(rates).map(line).collect();
    let title = format!("requests in a second by Zipf's exponent; 1.0 is {most:.0}");
    plot::lines(&title, &places, EXPONENTS.len(), &lines)
}
