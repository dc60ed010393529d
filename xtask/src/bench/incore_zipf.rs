//! Web servers that are all in, more and more of them, by how popular the popular ones are: Denali's in-core regime.

use super::plot::{self, Line};
use super::popularity::{EXPONENTS, plan, rates, said};
use super::{Bench, Entry, Figure, Repeats, fleet, load, write};
use crate::error::{Context, Result, fail};
use crate::machine::Kind;
use crate::test::lab::Lab;
use serde::Serialize;
use std::fmt::Write;

pub const ENTRY: Entry = Entry {
    name: "incore_zipf_flatness",
    measures: "the least throughput of web servers that are all in, over the most, by how many they are and how popular the popular ones",
    // When the machine's drive has read what it boots from is the host's time.
    repeats: Repeats::Within(0.05),
    run,
};

/// VMs: there are no fewer slots than clients.
const VMS: [u32; 4] = [1_024, 2_048, 4_096, 8_192];
const MEGS: u32 = 1024;
const THOUSANDS: u32 = 4;

#[derive(Serialize)]
struct Row {
    vms: u32,
    /// Requests in a second, by exponent.
    rates: [f64; EXPONENTS.len()],
}

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let (lab, mut notes, mut rows) = (Lab::with(Kind::Qemu)?, String::new(), Vec::new());
    for vms in VMS {
        // Nobody can go out.
        let running = load::servers(&lab, vms, MEGS, "pool=0", &plan(THOUSANDS))?.deterministic().start()?;
        let rates = rates(&running, vms)?;
        for line in running.said_since(0).iter().filter(|line| line.contains("load: requests=")) {
            // Writing to a string cannot fail.
            let _ = writeln!(notes, "        {}", said(line));
        }
        running.wait_for_monitor()?;
        let inside = fleet::admitted(&running)?;
        running.power_off()?;
        if inside != u64::from(vms) {
            fail!("{inside} of {vms} VMs are in");
        }
        let _ = writeln!(notes, "    {vms} VMs: {}", rates.map(|rate| format!("{rate:.0}")).join(", "));
        rows.push(Row { vms, rates });
    }
    bench.note(notes);
    let json = serde_json::to_string_pretty(&rows).context(|| "cannot write the curves as JSON".into())?;
    write(&format!("{}-curve.json", ENTRY.name), &json)?;
    write(&format!("{}-curve.svg", ENTRY.name), &drawn(&rows))?;
    let all = || rows.iter().flat_map(|row| row.rates);
    let (least, most) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
    let conditions = format!(
        "QEMU, SVM, one CPU, TSC counts instructions (icount shift=0), 10^9 a second; {} to {} httpd, {MEGS} MiB, pool=0, no disk: all are in and have served once; \
         {THOUSANDS},000 requests for /100b by 16 clients, each of whom asks when one is answered, to VMs by Zipf's law, exponents 0.6 to 1.4, a connection per \
         request, from clients that the demultiplexer holds",
        VMS[0],
        VMS[VMS.len() - 1]
    );
    let value = (least / most.max(1.0) * 100.0).round() / 100.0;
    Ok(vec![Figure { metric: ENTRY.name, value, unit: "ratio", conditions }])
}

/// A curve for each number of VMs, as shares of the highest.
fn drawn(rows: &[Row]) -> String {
    let most = rows.iter().flat_map(|row| row.rates).fold(1.0, f64::max);
    let line = |exponent: usize| Line {
        name: format!("exponent {:.1}", f64::from(EXPONENTS[exponent]) / 100.0),
        heights: rows.iter().map(|row| Some(row.rates[exponent] / most)).collect(),
    };
    let lines: Vec<Line> = (0..EXPONENTS.len()).map(line).collect();
    let places: Vec<String> = rows.iter().map(|row| row.vms.to_string()).collect();
    let title = format!("requests in a second by VMs, all of which are in; 1.0 is {most:.0}");
    plot::lines(&title, &places, rows.len(), &lines)
}
