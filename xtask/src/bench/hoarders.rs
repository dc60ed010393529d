//! Web servers beside guests that hold all memory beyond reserves.

use super::{Bench, Entry, Figure, Repeats};
use crate::error::Result;
use crate::machine::Kind;
use crate::test::cases::hoarders::{HOARDERS, MEGS, VICTIMS, full_machine, lost};
use crate::test::lab::Lab;

pub const ENTRY: Entry = Entry {
    name: "hoarders_victims_lost",
    measures: "requests to web servers that are not answered beside guests that hold all memory beyond reserves",
    repeats: Repeats::Exactly,
    run,
};

/// Requests in all.
const REQUESTS: usize = 1000;

fn run(_: &Bench) -> Result<Vec<Figure>> {
    let lab = Lab::with(Kind::Qemu)?;
    let running = full_machine(&lab)?;
    let lost = lost(&running, REQUESTS / VICTIMS);
    running.power_off()?;
    let conditions = format!(
        "QEMU, {MEGS} MiB, {HOARDERS} hoarders of 16 MiB; {VICTIMS} httpd with a reserve of 96 KiB each, one client each, \
         {REQUESTS} requests for 100 bytes in all, a connection per request"
    );
    // A thousand at most.
    #[allow(clippy::cast_precision_loss)]
    let value = lost as f64;
    Ok(vec![Figure { metric: "hoarders_victims_lost", value, unit: "requests", conditions }])
}
