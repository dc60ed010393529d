//! The pager's policies on traces of wakes, beside what nobody can do better.

use super::plot::{self, Line};
use super::{Bench, Entry, Figure, Repeats, write};
use crate::error::{Context, Result, fail};
use paging_simulator::trace::{PAGES, Pattern};
use paging_simulator::{Comes, Outcome, PagePolicy, Policy, Shape, Trace, optimum, play, play_pages};
use serde::Serialize;
use std::fmt::Write;

pub const ENTRY: Entry = Entry {
    name: "paging-policies",
    measures: "share of wakes that need the disk, with memory for a tenth of the VMs, by policy and trace",
    repeats: Repeats::Exactly,
    run,
};

/// What all traces are made from.
const SEED: u64 = 20_021_209;
/// VMs and wakes of most traces, as in docs/policies.md; a tenth of the VMs fits.
const VMS: u32 = 4_000;
const WAKES: u32 = 60_000;
/// One in a thousand wakes reads all documents of its VM.
const SCANS: u32 = 1;
/// The largest machine, on which as many are in as there can be seats: one in sixteen.
const MANY: u32 = 1_000_000;
const MANY_WAKES: u32 = 3_000_000;
const MANY_SEATS: u32 = 62_500;

/// A trace, and what became of it.
#[derive(Serialize)]
struct Row {
    trace: String,
    vms: u32,
    /// VMs that fit with all their pages.
    room: u32,
    wakes: u32,
    seed: u64,
    results: Vec<Cell>,
}

/// What became of a trace by one policy.
#[derive(Serialize)]
struct Cell {
    policy: String,
    from_disk: f64,
    pages_per_wake: f64,
}

/// What is played.
struct Play {
    name: String,
    shape: Shape,
    room: u32,
    /// Also by single pages, which takes memory for each page of each VM.
    by_page: bool,
}

fn plays() -> Vec<Play> {
    let shape = |pattern, scans| Shape { vms: VMS, wakes: WAKES, pattern, scans, seed: SEED };
    let play = |name: &str, pattern, scans| Play {
        name: name.to_owned(),
        shape: shape(pattern, scans),
        room: VMS / 10,
        by_page: true,
    };
    let zipf = |alpha| play(&format!("zipf {alpha:.1}"), Pattern::Zipf { alpha }, SCANS);
    let mut plays: Vec<Play> = [0.6, 0.8, 1.0, 1.2, 1.4].map(zipf).into();
    plays.push(play("scans x20", Pattern::Zipf { alpha: 1.0 }, 20 * SCANS));
    plays.push(play("robot", Pattern::Robot, SCANS));
    // Half as many again as fit.
    plays.push(play("thrash", Pattern::Thrash { vms: VMS * 15 / 100 }, SCANS));
    plays.push(play("bursts", Pattern::Bursts { visitors: 64 }, SCANS));
    let many = Shape { vms: MANY, wakes: MANY_WAKES, ..shape(Pattern::Zipf { alpha: 1.0 }, SCANS) };
    plays.push(Play { name: "million".into(), shape: many, room: MANY_SEATS, by_page: false });
    plays
}

/// The names of results, in order.
const BEST_BY_VM: &str = "Belady";
const BEST_BY_PAGE: &str = "Belady, pages";

fn cell(policy: &str, outcome: Outcome) -> Cell {
    Cell { policy: policy.to_owned(), from_disk: outcome.share(), pages_per_wake: outcome.pages_per_wake() }
}

fn played(play: &Play) -> Row {
    let trace = Trace::new(&play.shape);
    let room = play.room as usize;
    let mut results = Vec::new();
    for policy in Policy::ALL {
        results.push(cell(policy.name(), self::play(&trace, room, policy, Comes::Whole)));
    }
    results.push(cell(BEST_BY_VM, optimum::by_vm(&trace, room)));
    if play.by_page {
        for policy in [Policy::Sieve, Policy::Lru] {
            let name = format!("{}, pages", policy.name());
            results.push(cell(&name, self::play(&trace, room, policy, Comes::PageByPage)));
        }
        for policy in PagePolicy::ALL {
            results.push(cell(policy.name(), play_pages(&trace, play.room * PAGES, policy)));
        }
        results.push(cell(BEST_BY_PAGE, optimum::by_page(&trace, room * PAGES as usize)));
    }
    let Shape { vms, wakes, seed, .. } = play.shape;
    Row { trace: play.name.clone(), vms, room: play.room, wakes, seed, results }
}

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let rows: Vec<Row> = plays().iter().map(played).collect();
    let json = serde_json::to_string_pretty(&rows).context(|| "cannot write the table as JSON".into())?;
    write("paging-policies-traces.json", &json)?;
    write("paging-policies-traces.svg", &picture(&rows))?;
    bench.note(table(&rows));
    let one = rows.iter().find(|row| row.trace == "zipf 1.0");
    let share = |policy: &str| one?.results.iter().find(|cell| cell.policy == policy).map(|cell| cell.from_disk);
    let sieve = Policy::Sieve.name();
    let (Some(value), Some(best), Some(by_page), Some(pages)) =
        (share(sieve), share(BEST_BY_VM), share(&format!("{sieve}, pages")), share(BEST_BY_PAGE))
    else {
        fail!("the trace that the figure is of was not played");
    };
    let conditions = format!(
        "{sieve}, the pager's own code, simulated; {VMS} VMs of {PAGES} pages, Zipf 1.0, {WAKES} wakes from a start with nobody in, memory for a \
         tenth, no memory tier, seed {SEED}; who comes in does so whole; Belady by VM {best:.2}; where pages come one by one, {sieve} {by_page:.2}, \
         Belady by page {pages:.2}"
    );
    Ok(vec![Figure { metric: "wakes_from_disk", value, unit: "ratio", conditions }])
}

/// A line for each trace: of each policy the share of wakes from the disk, and pages that were read per wake.
fn table(rows: &[Row]) -> String {
    let mut text = format!("seed {SEED}; per cent of wakes that need the disk, and pages read per wake\n{:<10}", "");
    let all = rows.first().map(|row| row.results.as_slice()).unwrap_or_default();
    // Writing to a string cannot fail.
    all.iter().for_each(|cell| _ = write!(text, " {:>15}", cell.policy));
    for row in rows {
        let _ = write!(text, "\n{:<10}", row.trace);
        for cell in &row.results {
            let both = format!("{:.1} / {:.1}", cell.from_disk * 100.0, cell.pages_per_wake);
            let _ = write!(text, " {both:>15}");
        }
    }
    text + "\n"
}

fn picture(rows: &[Row]) -> String {
    let places: Vec<String> = rows.iter().map(|row| row.trace.clone()).collect();
    let all = rows.first().map(|row| row.results.as_slice()).unwrap_or_default();
    let line = |number: usize, cell: &Cell| {
        let heights = rows.iter().map(|row| row.results.get(number).map(|cell| cell.from_disk)).collect();
        Line { name: cell.policy.clone(), heights }
    };
    let lines: Vec<Line> = all.iter().enumerate().map(|(number, cell)| line(number, cell)).collect();
    let joined = places.iter().take_while(|place| place.starts_with("zipf")).count();
    plot::lines(&format!("{} (seed {SEED})", ENTRY.measures), &places, joined, &lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_shown_in_full() {
        let results = vec![cell("a", Outcome { wakes: 8, from_disk: 2, pages: 12 }), cell("b", Outcome::default())];
        let row = Row { trace: "zipf 9".into(), vms: 1, room: 1, wakes: 8, seed: 3, results };
        let table = table(std::slice::from_ref(&row));
        assert!(table.ends_with("\nzipf 9          25.0 / 1.5       0.0 / 0.0\n"), "{table}");
        assert!(picture(&[row]).contains("<circle cx=\"100.0\" cy=\"290.0\""));
    }

    #[test]
    fn all_that_is_played_fits_a_machine() {
        for play in plays() {
            assert!(play.room as usize <= abi::limits::MAX_SEATS && play.shape.vms as usize <= abi::limits::MAX_SLOTS);
            assert!(play.room < play.shape.vms);
        }
    }
}
