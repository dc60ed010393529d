//! How long VMs wait for room by each way of the gatekeeper to choose.

use super::{Bench, Entry, Figure, Repeats, write};
use crate::error::{Context, Result, fail};
use abi::sched::Admission;
use paging_simulator::admission::{Admissions, LARGE, LOAD, Load, POPULAR_PART, SMALL, Waits, play};
use serde::Serialize;
use std::fmt::Write;

pub const ENTRY: Entry = Entry {
    name: "gatekeepers",
    measures: "how long requests wait until their VM is in, by how the gatekeeper chooses, popular and cold, simulated",
    repeats: Repeats::Exactly,
    run,
};

/// What all loads are made from.
const SEED: u64 = 20_021_209;
const VMS: u32 = 2_000;
const SEATS: u32 = 200;
const REQUESTS: u32 = 60_000;
/// Requests a second: what the machine does with ease, what it just does, and more than it can for as long as it lasts.
const RATES: [u32; 3] = [500, 1_500, 3_000];

#[derive(Serialize)]
struct Row {
    rate: u32,
    gatekeeper: &'static str,
    comings: u32,
    popular: Kind,
    cold: Kind,
    large: Kind,
}

/// Times in milliseconds.
#[derive(Serialize)]
struct Kind {
    requests: u32,
    waited: u32,
    p50_ms: f64,
    p99_ms: f64,
    most_ms: f64,
}

impl From<Waits> for Kind {
    fn from(Waits { requests, waited, p50, p99, most }: Waits) -> Kind {
        let [p50_ms, p99_ms, most_ms] = [p50, p99, most].map(milliseconds);
        Kind { requests, waited, p50_ms, p99_ms, most_ms }
    }
}

/// Of microseconds.
fn milliseconds(us: u64) -> f64 {
    // Hours at most.
    #[allow(clippy::cast_precision_loss)]
    let us = us as f64;
    us / 1000.0
}

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let mut rows = Vec::new();
    for rate in RATES {
        let load = Load { vms: VMS, seats: SEATS, requests: REQUESTS, rate, alpha: 1.0, seed: SEED };
        for (admission, gatekeeper) in Admission::ALL.into_iter().zip(Admission::NAMES) {
            let Admissions { popular, cold, large, comings } = play(&load, admission);
            let [popular, cold, large] = [popular, cold, large].map(Kind::from);
            rows.push(Row { rate, gatekeeper, comings, popular, cold, large });
        }
    }
    let json = serde_json::to_string_pretty(&rows).context(|| "cannot write the table as JSON".into())?;
    write("gatekeepers.json", &json)?;
    bench.note(table(&rows));
    let default =
        Admission::NAMES.into_iter().zip(Admission::ALL).find(|(_, admission)| *admission == Admission::default());
    let Some(row) =
        rows.iter().find(|row| row.rate == RATES[1] && default.is_some_and(|(name, _)| name == row.gatekeeper))
    else {
        fail!("the load that the figures are of was not played");
    };
    let conditions = format!(
        "gatekeeper={}, the scheduler's own code, simulated; {VMS} VMs with {SMALL} frames, one in 16 with {LARGE}, {SEATS} seats and as many times {SMALL} frames, \
         Zipf 1.0, {REQUESTS} requests, {} a second, to come in takes {} ms, eight at once, seed {SEED}; popular is one VM in {POPULAR_PART}",
        row.gatekeeper,
        row.rate,
        milliseconds(LOAD)
    );
    let figure = |metric, value| Figure { metric, value, unit: "ms", conditions: conditions.clone() };
    Ok(vec![figure("gatekeeper_popular_p99_ms", row.popular.p99_ms), figure("gatekeeper_cold_p99_ms", row.cold.p99_ms)])
}

/// A line for each load and way: how many came in for each request, and p50, p99 and the longest wait of each kind.
fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:>5} {:<12} {:>8} {:>24} {:>24} {:>24}\n",
        "rate", "gatekeeper", "came in", "popular, ms", "cold, ms", "large, ms"
    );
    for row in rows {
        let part = f64::from(row.comings) / f64::from(REQUESTS);
        let kind = |kind: &Kind| format!("{:.0} / {:.0} / {:.0}", kind.p50_ms, kind.p99_ms, kind.most_ms);
        let (popular, cold, large) = (kind(&row.popular), kind(&row.cold), kind(&row.large));
        // Writing to a string cannot fail.
        let _ =
            writeln!(text, "{:>5} {:<12} {part:>8.3} {popular:>24} {cold:>24} {large:>24}", row.rate, row.gatekeeper);
    }
    text
}
