//! What a NIC costs whose driver accesses registers for each packet, as with devices of real machines that are emulated, beside one that takes none.
//!
//! Denali's authors compared their NIC, of one access for a packet, with an emulated one of 10 for a packet that is received and 12 for one that is sent. A guest without a
//! stack makes as many hypercalls for each here: such as the core answers at once, which is the least that an access can cost, and such as have a component run, as one would
//! that holds a device's model.

use super::dispatch::{APART, PACKETS, REPLY, exchange, spent};
use super::mechanism::instructions;
use super::wake::Spent;
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::machine::Kind;
use crate::test::lab::{BOOT, Lab, Running, number};
use std::fmt::Write;

pub const ENTRY: Entry = Entry {
    name: "chatty_nic_added_100b",
    measures: "instructions that ten accesses to an emulated device add to a packet of 100 bytes that is received; and twelve to one that is sent",
    // Timers that fall in between are those of the host's time.
    repeats: Repeats::Within(0.1),
    run,
};

/// Accesses for a packet that is received, and for one that is sent: those of the driver of a PCnet.
const RECEIVES: u32 = 10;
const SENDS: u32 = 12;
/// Bytes of the packets from their IP header on.
const BYTES: u16 = 100;

/// What a packet takes.
struct Cost {
    spent: Spent,
    exits: f64,
}

/// A packet that is received, and the answer to one.
struct Costs {
    received: Cost,
    sent: Cost,
}

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let (lab, mut notes, mut value) = (Lab::with(Kind::Qemu)?, String::new(), 0);
    let ours = costs(&lab, "receives=0 sends=0")?;
    note(&mut notes, "none", &ours);
    for (by, what) in [("core", "which the core answers"), ("component", "which a component answers")] {
        let costs = costs(&lab, &format!("receives={RECEIVES} sends={SENDS} by={by}"))?;
        note(&mut notes, &format!("{RECEIVES} and {SENDS}, {what}"), &costs);
        value = costs.received.spent.all().saturating_sub(ours.received.spent.all());
    }
    bench.note(notes);
    let conditions = format!(
        "QEMU, SVM, one CPU, icount shift=0,sleep=on, user-mode network, e1000; a VM without a stack that idles and is sent {PACKETS} packets of {BYTES} bytes, {} ms apart; \
         {RECEIVES} hypercalls for each, each of which has the demultiplexer run, less without; all instructions but idle ones; mean",
        APART.as_millis()
    );
    Ok(vec![instructions(ENTRY.name, value, conditions)])
}

/// A line for docs/evaluation.md.
fn note(notes: &mut String, accesses: &str, costs: &Costs) {
    for (way, cost) in [("received", &costs.received), ("sent", &costs.sent)] {
        // Writing to a string cannot fail.
        let _ = writeln!(
            notes,
            "    accesses {accesses}; {way}: {}; all {}, exits {:.1}",
            cost.spent,
            cost.spent.all(),
            cost.exits
        );
    }
}

/// What packets take where the guest has these boot arguments: those that it only takes, and the answers of one that sends each back.
fn costs(lab: &Lab, args: &str) -> Result<Costs> {
    let received = cost(lab, args, false)?;
    let echoed = cost(lab, &format!("{args} answers=1"), true)?;
    let sent = Cost { spent: echoed.spent.less(&received.spent), exits: echoed.exits - received.exits };
    Ok(Costs { received, sent })
}

/// What a packet takes, and its answer where there is one.
// Exits are few.
#[allow(clippy::cast_precision_loss)]
fn cost(lab: &Lab, args: &str, answers: bool) -> Result<Cost> {
    let boot = lab.boot("vms=bench").counted().system(|system| {
        for image in system.image.iter_mut().filter(|image| image.name == "bench") {
            image.args = format!("bench=nic {args}");
        }
    });
    let running = boot.start()?;
    running.wait_for("bench: nic ready", BOOT)?;
    running.wait_for_monitor()?;
    // Tables, ring pages, and all that is done once.
    exchange(&running, REPLY, BYTES, answers)?;
    let begun = exits(&running)?;
    let idle = spent(&running, || {
        std::thread::sleep(APART * PACKETS.into());
        Ok(())
    })?;
    let between = exits(&running)?;
    let all = spent(&running, || exchange(&running, REPLY, BYTES, answers))?;
    let exits = (exits(&running)? - between).saturating_sub(between - begun) as f64 / f64::from(PACKETS);
    running.power_off()?;
    Ok(Cost { spent: all.less(&idle).over(PACKETS.into()), exits })
}

/// Exits of VMs so far.
fn exits(running: &Running) -> Result<u64> {
    let lines = running.monitor("machine")?;
    match lines.iter().find_map(|line| number(line, "exits")) {
        Some(exits) => Ok(exits),
        None => fail!("`machine` was answered with {lines:?}"),
    }
}
