//! Somebody looks at all addresses while a few VMs are asked by many.

use super::load;
use super::victims::{Outcome, note};
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::machine::Kind;
use crate::test::cases::pooled::swap;
use crate::test::lab::Lab;

pub const ENTRY: Entry = Entry {
    name: "sweep_others_share",
    measures: "what ten web servers that are asked much serve while somebody looks at all addresses of 5,000, most of which are out",
    repeats: Repeats::Exactly,
    run,
};

/// VMs, and memory in MiB, which is good for a part of them.
const VMS: u32 = 5_000;
const MEGS: u32 = 256;
/// Requests to the popular ones in a second, half of what the machine can; and SYNs to all.
const RATE: u32 = 24_000;
const SYNS: u32 = 1_000;

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let (lab, mut notes) = (Lab::with(Kind::Qemu)?, String::new());
    let running = load::servers(&lab, VMS, MEGS, "", &format!("sweep-{RATE}-{SYNS}"))?.deterministic().start()?;
    let lines = load::outcomes(&running, 2)?;
    let (alone, swept) = (Outcome::read(&lines[0])?, Outcome::read(&lines[1])?);
    let (out, came) = (swap(&running, "vms")?, swap(&running, "come_in")?);
    note(&mut notes, "alone", &alone);
    note(&mut notes, &format!("beside {SYNS} SYNs a second ({out} VMs out, {came} came in)"), &swept);
    bench.note(notes);
    if out < u64::from(VMS) / 4 || came < u64::from(SYNS) {
        fail!("{out} of {VMS} VMs are out, and {came} came in");
    }
    for word in [" ended: ", " killed: "] {
        running.must_not_say(0, word)?;
    }
    running.power_off()?;
    let value = (swept.share() / alone.share() * 10_000.0).round() / 10_000.0;
    let conditions = format!(
        "QEMU, SVM, one CPU, TSC counts instructions (icount shift=0), 10^9 a second; {VMS} httpd with start=lazy, {MEGS} MiB, all of which have served \
         once; {RATE} requests for /100b in a second to ten of them, Poisson arrivals, a connection per request, for two seconds, beside {SYNS} SYNs in \
         a second to port 80 of all in turn, whose answers are refused; from clients that the demultiplexer holds; served, over the same without the SYNs"
    );
    Ok(vec![Figure { metric: ENTRY.name, value, unit: "ratio", conditions }])
}
