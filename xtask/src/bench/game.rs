//! Servers of games: how evenly their updates come to players, beside VMs that compute.

use super::load;
use super::mechanism::parse;
use super::victims::LOOP;
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::machine::Kind;
use crate::manifest::model::Image;
use crate::test::lab::Lab;
use std::fmt::Write;
use std::time::Duration;

pub const ENTRY: Entry = Entry {
    name: "game_jitter_p99_ms_16_loops",
    measures: "p99 of how far updates of 32 game servers are from ten in a second, beside 16 VMs that compute, ms",
    repeats: Repeats::Exactly,
    run,
};

/// Servers, players of each, VMs that compute, and seconds that are measured.
const SERVERS: u32 = 32;
const PLAYERS: u32 = 4;
const LOOPS: u32 = 16;
const SECONDS: u32 = 3;
/// Emulators with a busy host take minutes for a second.
const PATIENCE: Duration = Duration::from_secs(900);

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let (lab, mut notes) = (Lab::with(Kind::Qemu)?, String::new());
    played(&lab, "fair", 0, &mut notes)?;
    let value = played(&lab, "fair", LOOPS, &mut notes)?;
    played(&lab, "round-robin", LOOPS, &mut notes)?;
    bench.note(notes);
    let conditions = format!(
        "QEMU, SVM, one CPU, TSC counts instructions (icount shift=0), 10^9 a second; sched=fair; {SERVERS} VMs of game, {PLAYERS} players of each, who say 40 bytes \
         each 33 ms, from clients that the demultiplexer holds; {LOOPS} VMs that compute; distance of the time from one update to the next from 100 ms, {SECONDS} seconds"
    );
    Ok(vec![Figure { metric: ENTRY.name, value, unit: "ms", conditions }])
}

/// p99 of the distances, in milliseconds.
// Microseconds are far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn played(lab: &Lab, sched: &str, loops: u32, notes: &mut String) -> Result<f64> {
    let beside = if loops > 0 { format!(",other*{loops}") } else { String::new() };
    let options = format!("vms=game*{SERVERS}{beside} sched={sched} slots=4096");
    let boot = load::boot(lab, &options, &format!("play-{PLAYERS}-{SECONDS}-{SERVERS}"))?;
    let boot = boot.deterministic().system(|system| {
        let like = system.image.iter().find(|image| image.name == LOOP.0).cloned();
        system.image.iter_mut().for_each(|image| image.ports.clear());
        system.image.extend(like.map(|like| Image {
            name: "other".to_owned(),
            module: Some(LOOP.0.to_owned()),
            args: LOOP.1.to_owned(),
            ..like
        }));
    });
    let running = boot.start()?;
    let line = running.wait_for("load: players=", PATIENCE)?;
    for word in [" ended: ", " killed: "] {
        running.must_not_say(0, word)?;
    }
    running.power_off()?;
    let of = |key| parse(&line, key);
    let (updates, should, p50, p99) = (of("updates")?, of("should")?, of("p50_us")?, of("p99_us")?);
    // Writing to a string cannot fail.
    let _ = writeln!(
        notes,
        "    sched={sched}, {loops} VMs that compute: {updates} updates of {should}, p50 {p50} us, p99 {p99} us, p999 {} us, most {} us",
        of("p999_us")?,
        of("most_us")?
    );
    if sched == "fair" && updates < should * 98 / 100 {
        fail!("only {updates} updates of {should} came: {line}");
    }
    Ok(p99 as f64 / 1000.0)
}
