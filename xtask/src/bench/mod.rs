//! `bench`: measures, shows a table, writes `target/bench/NAME.json` and `NAME.svg`.
//!
//! A benchmark is an entry in [`all`]: a name, half a sentence on what it measures, how well it must repeat, and a function
//! from a [`Bench`] to figures. [`Bench::lab`] gives the same [`Lab`] that machine tests use, built once; boot with
//! `lab.boot("vms=bench").deterministic()` for figures in instructions, read them from the log with `wait_for`, and ask the
//! operator's line with `monitor`. Each benchmark runs twice and fails when the figures do not repeat. Targets and the best
//! figure of others are in [`targets`]; a metric must have an entry there.

mod accounts;
mod admission;
mod antisocial;
mod beside_linux;
mod boot;
mod chatty;
mod components;
mod compressed;
mod connections;
mod crowd;
mod delivery;
mod disk;
mod disk_speed;
mod dispatch;
mod echo;
mod fleet;
mod game;
mod gatekeepers;
mod hoarders;
mod host_tests;
mod http;
mod incore;
mod incore_zipf;
mod kills;
mod let_in;
mod liveness;
mod load;
mod logins;
mod mechanism;
mod memory;
mod neighbours;
mod operator;
mod packet;
mod paging;
mod pair;
mod plot;
mod popularity;
mod power_cuts;
mod privileged_lines;
mod receiving;
mod record;
mod registered;
mod resident;
mod slirp;
mod slots;
mod swap;
mod swapped;
mod sweep;
mod switches;
mod tables;
mod targets;
mod victims;
mod wake;
mod wake_disk;
mod wake_reads;

use crate::error::{Context, Result, fail};
use crate::machine::Kind;
use crate::setup::{self, For};
use crate::test::lab::Lab;
use crate::workspace::out;
use serde::Serialize;
use std::cell::{OnceCell, RefCell};
use std::process::ExitCode;
use targets::Target;

#[derive(clap::Args)]
pub struct Args {
    /// Only these [default: all]
    names: Vec<String>,
    /// List the benchmarks
    #[arg(long)]
    list: bool,
    /// Write the figures to docs/figures.json as well, for docs/performance.md
    #[arg(long)]
    record: bool,
    /// What runs the machine
    #[arg(long, value_name = "KIND", default_value = "bochs")]
    machine: Kind,
    /// Do as much as the targets are about, where that takes an hour: a thousand kills of each component
    #[arg(long)]
    long: bool,
}

/// A measured value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Its name, which [`targets`] knows for what `bench` measures.
    pub metric: &'static str,
    /// The value.
    pub value: f64,
    /// instructions, instructions/byte, ms, bytes, packets, requests, states, lines, mutants, or ratio.
    pub unit: &'static str,
    /// Under which conditions it was measured.
    pub conditions: String,
}

/// How well figures must repeat.
#[derive(Clone, Copy, PartialEq)]
pub enum Repeats {
    /// To the last digit.
    Exactly,
    /// Within this fraction of the first: for what real clients on the host take part in.
    Within(f64),
}

/// An entry of the list.
pub struct Entry {
    /// Its name, also of its files.
    pub name: &'static str,
    /// What it measures, as half a sentence.
    pub measures: &'static str,
    /// See [`Repeats`].
    pub repeats: Repeats,
    /// Measures.
    pub run: fn(&Bench) -> Result<Vec<Figure>>,
}

/// What benchmarks share.
pub struct Bench {
    /// What runs the machines.
    kind: Kind,
    /// See [`Args::long`].
    long: bool,
    lab: OnceCell<Lab>,
    /// What the benchmark shows below its figures.
    notes: RefCell<String>,
}

impl Bench {
    /// Where machines are booted; built when the first benchmark asks for it.
    pub fn lab(&self) -> Result<&Lab> {
        if let Some(lab) = self.lab.get() {
            return Ok(lab);
        }
        let lab = Lab::with(self.kind)?;
        Ok(self.lab.get_or_init(|| lab))
    }

    /// Shows this below the figures, in place of what was to be shown before.
    fn note(&self, notes: String) {
        self.notes.replace(notes);
    }

    /// What figures have in common that come from inside of the machine.
    fn inside(&self) -> Result<&'static str> {
        match self.kind {
            Kind::Bochs => Ok("Bochs, VT-x, one CPU, TSC counts instructions (sync=none), nothing on the wire"),
            Kind::Qemu => Ok("QEMU, SVM, one CPU, TSC counts instructions (icount shift=0), nothing on the wire"),
            Kind::Kvm => fail!("--machine kvm: nothing there counts instructions: use --machine bochs or qemu"),
        }
    }

    /// Fails on other machines than Bochs.
    fn only_bochs(&self) -> Result<()> {
        if self.kind != Kind::Bochs {
            fail!("this is measured on Bochs only, whose NIC and clock it was made for: use --machine bochs");
        }
        Ok(())
    }
}

/// All benchmarks.
fn all() -> Vec<Entry> {
    vec![
        mechanism::NULL_HYPERCALL,
        mechanism::VM_SWITCH,
        mechanism::VM_SWITCH_FAIR,
        mechanism::COMPONENT_MESSAGE,
        mechanism::DEMAND_ZERO_FAULT,
        mechanism::VM_CREATE,
        mechanism::VM_CREATE_10000,
        mechanism::VM_SWITCH_100,
        switches::ENTRY,
        swap::ENTRY,
        liveness::NOTICED,
        liveness::STOLEN,
        liveness::START,
        kills::ENTRY,
        packet::ENTRY,
        dispatch::ENTRY,
        chatty::ENTRY,
        http::KEEP_ALIVE,
        http::CLOSE,
        http::KEEP_ALIVE_LARGER,
        http::KEEP_ALIVE_LARGE,
        http::CLOSE_LARGE,
        http::BULK,
        beside_linux::ENTRY,
        receiving::ENTRY,
        echo::ENTRY,
        pair::ENTRY,
        crowd::ENTRY,
        slirp::BURST,
        slirp::RATIO,
        memory::ENTRY,
        hoarders::ENTRY,
        neighbours::ALARMS,
        neighbours::WEIGHTS,
        victims::SERVED,
        victims::SERVED_BESIDE_ALL,
        antisocial::ENTRY,
        victims::P99,
        victims::P99_OF_16,
        victims::FLOODED,
        connections::ENTRY,
        delivery::BATCHING,
        delivery::IDLE,
        delivery::DOCUMENTS,
        game::ENTRY,
        gatekeepers::ENTRY,
        let_in::ENTRY,
        accounts::ENTRY,
        admission::ENTRY,
        slots::ENTRY,
        tables::ENTRY,
        compressed::ENTRY,
        paging::ENTRY,
        wake_reads::ENTRY,
        wake::ENTRY,
        wake_disk::ENTRY,
        registered::ENTRY,
        incore::VMS,
        incore::REQUEST,
        incore_zipf::ENTRY,
        sweep::ENTRY,
        popularity::FIRST_BYTE,
        popularity::THROUGHPUT,
        swapped::IN_MEMORY,
        swapped::ON_DISKS,
        operator::LOGIN,
        operator::CREATE,
        logins::LOGINS,
        operator::PAGE,
        components::ENTRY,
        privileged_lines::ENTRY,
        resident::ENTRY,
        disk::ENTRY,
        disk_speed::VIRTIO,
        disk_speed::PIIX,
        disk_speed::FAIRNESS,
        power_cuts::ENTRY,
        boot::ENTRY,
        host_tests::ENTRY,
    ]
}

pub fn bench(args: &Args) -> Result<ExitCode> {
    let known = all();
    if args.list {
        known.iter().for_each(|entry| println!("{}: {}", entry.name, entry.measures));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(name) = args.names.iter().find(|name| !known.iter().any(|entry| entry.name == **name)) {
        let names: Vec<&str> = known.iter().map(|entry| entry.name).collect();
        fail!("there is no benchmark `{name}`: known are {}", names.join(", "));
    }
    setup::setup(For::Everything)?;
    if let Some(refusal) = args.machine.refusal() {
        fail!("--machine: {refusal}");
    }
    let bench = Bench { kind: args.machine, long: args.long, lab: OnceCell::new(), notes: RefCell::default() };
    let wanted = known.iter().filter(|entry| args.names.is_empty() || args.names.iter().any(|name| name == entry.name));
    println!("{:<24} {:>12} {:>12} {:<12} {:>10}  best other", "metric", "value", "again", "unit", "target");
    let mut failures = Vec::new();
    for entry in wanted {
        let spinner = crate::build::spinner(&format!("{}: {}", entry.name, entry.measures));
        let result = twice(entry, &bench);
        spinner.finish_and_clear();
        match result {
            // There is nothing here to measure with, and it has said so.
            Ok((first, _)) if first.is_empty() => print!("{:<24} skipped: {}", entry.name, bench.notes.take()),
            Ok((first, second)) => {
                report(entry, bench.kind, &first, &second)?;
                print!("{}", bench.notes.take());
                if args.record {
                    record::record(&first)?;
                }
            }
            Err(error) => {
                println!("{:<24} failed: {error}", entry.name);
                failures.push(entry.name);
            }
        }
    }
    if failures.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("failed: {}", failures.join(", "));
    Ok(ExitCode::FAILURE)
}

/// Runs a benchmark twice; fails when the figures do not repeat.
fn twice(entry: &Entry, bench: &Bench) -> Result<(Vec<Figure>, Vec<Figure>)> {
    let first = (entry.run)(bench)?;
    if first.is_empty() && !bench.notes.borrow().is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let second = (entry.run)(bench)?;
    if first.is_empty() || first.len() != second.len() {
        fail!("{} figures the first time, {} the second", first.len(), second.len());
    }
    for (a, b) in first.iter().zip(&second) {
        if !repeats(entry.repeats, a, b) {
            fail!("{} does not repeat: {} the first time, {} the second", a.metric, a.value, b.value);
        }
    }
    Ok((first, second))
}

fn repeats(how: Repeats, a: &Figure, b: &Figure) -> bool {
    let same = (a.metric, a.unit, &a.conditions) == (b.metric, b.unit, &b.conditions);
    let close = match how {
        Repeats::Exactly => a.value.to_bits() == b.value.to_bits(),
        Repeats::Within(fraction) => (a.value - b.value).abs() <= a.value.abs() * fraction,
    };
    same && close
}

fn report(entry: &Entry, kind: Kind, first: &[Figure], second: &[Figure]) -> Result<()> {
    let mut bars = Vec::new();
    for (figure, again) in first.iter().zip(second) {
        let Some(aim) = targets::of(figure.metric) else {
            fail!("the metric `{}` has no entry in bench/targets.rs", figure.metric);
        };
        let Target { target, best_other, .. } = aim;
        let Figure { metric, value, unit, .. } = figure;
        let mark = if aim.is_met_by(*value) { "" } else { "  MISSED" };
        let target = if target.is_finite() { target.to_string() } else { "none".to_owned() };
        let digits = if ["ratio", "ms", "instructions/byte"].contains(unit) { 2 } else { 0 };
        println!(
            "{metric:<24} {value:>12.digits$} {:>12.digits$} {unit:<12} {target:>10}  {best_other}{mark}",
            again.value
        );
        println!("    {}", figure.conditions);
        bars.push((figure.clone(), aim.target));
    }
    let name = if kind == Kind::Bochs {
        entry.name.to_owned()
    } else {
        format!("{}-{}", entry.name, kind.name().to_lowercase())
    };
    write_json(&name, first)?;
    write(&format!("{name}.svg"), &plot::svg(entry.measures, &bars))
}

/// Writes `figures` to `target/bench/NAME.json`.
pub fn write_json(name: &str, figures: &[Figure]) -> Result<()> {
    let json = serde_json::to_string_pretty(figures).context(|| "cannot write figures as JSON".into())?;
    write(&format!("{name}.json"), &json)
}

/// Writes `text` to the file `name` in `target/bench`.
fn write(name: &str, text: &str) -> Result<()> {
    let path = out("bench")?.join(name);
    std::fs::write(&path, text).context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64) -> Figure {
        Figure { metric: "privileged_lines", value, unit: "lines", conditions: "here".to_owned() }
    }

    #[test]
    fn figures_repeat_or_not() {
        assert!(repeats(Repeats::Exactly, &figure(5.0), &figure(5.0)));
        assert!(!repeats(Repeats::Exactly, &figure(5.0), &figure(5.1)));
        assert!(repeats(Repeats::Within(0.01), &figure(100.0), &figure(100.9)));
        assert!(!repeats(Repeats::Within(0.01), &figure(100.0), &figure(101.1)));
    }

    #[test]
    fn json_has_the_fields_that_scripts_rely_on() {
        let json = serde_json::to_value([figure(5.0)]).unwrap();
        assert_eq!(
            json,
            serde_json::json!([{"metric": "privileged_lines", "value": 5.0, "unit": "lines", "conditions": "here"}])
        );
    }
}
