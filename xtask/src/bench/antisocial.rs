//! Web servers beside one VM that is antisocial in one way, for each way; and where the processor's time goes meanwhile.

use super::victims::{ALL, CONTROLLER, HALF, LIGHT, MORE, Outcome, VICTIMS, conditions, note, outcome, weighty};
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::machine::Kind;
use crate::test::lab::{Lab, Running, number};
use std::fmt::Write;

pub const ENTRY: Entry = Entry {
    name: "victims_served_half_load_each",
    measures: "the least that two web servers serve of half of what they can, beside one VM that is antisocial, for each of thirteen ways to be that",
    // Floods meet the clock in another place each time.
    repeats: Repeats::Within(0.9),
    run,
};

/// Names those beside which alone it is measured, with commas between them, or with `+` between those that are there at once: to look for where a figure
/// comes from.
const ONLY: &str = "FORAKER_BESIDE";

/// What those have run that there are, in ticks.
struct Spent {
    tsc: u64,
    idle: u64,
    /// Components by name, and VMs by slot.
    of: Vec<(String, u64)>,
}

impl Spent {
    fn by(running: &Running) -> Result<Spent> {
        let lines: Vec<String> =
            running.monitor("components")?.into_iter().chain(running.monitor("charges")?).collect();
        let mut spent = Spent { tsc: 0, idle: 0, of: Vec::new() };
        for line in &lines {
            let Some(ran) = number(line, "ran_ticks") else {
                if let (Some(tsc), Some(idle)) = (number(line, "tsc"), number(line, "idle_ticks")) {
                    (spent.tsc, spent.idle) = (tsc, idle);
                }
                continue;
            };
            if let Some(name) = line.split(' ').find_map(|word| word.strip_prefix("name=")) {
                spent.of.push((name.to_owned(), ran));
            } else if let Some(slot) = number(line, "index") {
                spent.of.push((format!("VM {slot}"), ran));
            }
        }
        if spent.tsc == 0 {
            fail!("no sums: {lines:?}");
        }
        Ok(spent)
    }

    /// Where the time went between two of these, in hundredths; what nobody of them had was the core's way from one to another.
    // Ticks of seconds are far below 2^53.
    #[allow(clippy::cast_precision_loss)]
    fn until(&self, later: &Spent) -> String {
        let passed = later.tsc.saturating_sub(self.tsc).max(1);
        let part = |ticks: u64| ticks as f64 * 100.0 / passed as f64;
        let mut text = format!("of {passed} ticks, %: idle {:.1}", part(later.idle.saturating_sub(self.idle)));
        for (name, ran) in &later.of {
            let before = self.of.iter().find(|(same, _)| same == name).map_or(0, |(_, ran)| *ran);
            let part = part(ran.saturating_sub(before));
            if part >= 0.05 {
                // Writing to a string cannot fail.
                let _ = write!(text, ", {name} {part:.1}");
            }
        }
        text
    }
}

/// The ways by their names.
fn name(args: &'static str) -> &'static str {
    match args.strip_prefix("crime=") {
        Some(crime) => crime,
        None if args.contains("bomb=") => "vm-bomb",
        None => "disk-hog",
    }
}

/// All of them.
fn ways() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    ALL.iter().chain(&MORE)
}

/// Those whose names are these, with `+` between them.
fn together(names: &str) -> Result<Vec<(&'static str, &'static str)>> {
    let of = |wanted| match ways().find(|(_, args)| name(args) == wanted) {
        Some(other) => Ok(*other),
        None => fail!(
            "{ONLY} names `{wanted}`, which is none of {}; put commas between them, or + between those that are there at once",
            ways().map(|(_, args)| name(args)).collect::<Vec<_>>().join(", ")
        ),
    };
    names.split('+').map(of).collect()
}

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let (lab, mut notes, mut least) = (Lab::with(Kind::Qemu)?, String::new(), f64::INFINITY);
    let only = std::env::var(ONLY).unwrap_or_else(|_| ways().map(|(_, args)| name(args)).collect::<Vec<_>>().join(","));
    // With the time for it also with little to do, for how late requests are then.
    let loads = if bench.long { &[HALF, LIGHT][..] } else { &[HALF] };
    for (names, load) in only.split(',').flat_map(|names| loads.iter().map(move |load| (names, *load))) {
        let others = together(names)?;
        // By which two servers have two thirds of what VMs get, beside one and beside several.
        let weight = u32::try_from(100 * others.len()).unwrap_or(u32::MAX);
        let running = weighty(&lab, "fair", load, VICTIMS, &others, Some(weight))?;
        running.wait_for_monitor()?;
        let before = Spent::by(&running)?;
        let outcome: Outcome = outcome(&running)?;
        let after = Spent::by(&running)?;
        if others.iter().any(|(image, _)| *image == CONTROLLER) {
            // It is the one that would have to write down that the machine is to go off, and keeps it busy for as long as is waited for that.
            drop(running);
        } else {
            running.power_off()?;
        }
        note(&mut notes, &format!("{names}, {} a second", load.0), &outcome);
        // Writing to a string cannot fail.
        let _ = writeln!(notes, "        {}", before.until(&after));
        if load == HALF {
            least = least.min(outcome.share());
        }
    }
    bench.note(notes);
    let conditions = conditions(HALF, "beside one other VM of the same weight, the worst of thirteen");
    Ok(vec![Figure { metric: ENTRY.name, value: least, unit: "ratio", conditions }])
}
