//! What a slot for a VM costs, over the core and all components.

use super::mechanism::parse;
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::test::lab::Lab;

pub const ENTRY: Entry =
    Entry { name: "slot_bytes", measures: "memory of a slot for a VM", repeats: Repeats::Exactly, run };

/// Slots of the two machines, as powers of two.
const FEW: u32 = 12;
const MANY: u32 = 20;
/// Seats of both.
const SEATS: u32 = 1024;
/// Memory of both, in MiB.
const MEMORY: u32 = 1024;
/// Bytes of a frame.
const FRAME: u64 = 4096;

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let lab = bench.lab()?;
    let (few, many) = (used(lab, FEW)?, used(lab, MANY)?);
    let slots = (1_u64 << MANY) - (1 << FEW);
    let Some(more) = many.checked_sub(few) else { fail!("more slots take fewer frames: {few} and {many}") };
    // Far below 2^53.
    #[allow(clippy::cast_precision_loss)]
    let value = (more * FRAME) as f64 / slots as f64;
    let conditions = format!(
        "frames of core, components and their DMA memory at slots=2^{MANY} ({many}) less those at slots=2^{FEW} ({few}), over the \
         difference of slots; seats={SEATS}, {MEMORY} MiB, the default policies; what a VM that is out takes of the pool is apart"
    );
    Ok(vec![Figure { metric: "slot_bytes", value, unit: "bytes", conditions }])
}

/// The frames of core and components of a machine with so many slots, and no VM.
fn used(lab: &Lab, slots: u32) -> Result<u64> {
    let running = lab.boot(&format!("vms= slots=2^{slots} seats={SEATS}")).megs(MEMORY).start()?;
    running.wait_for_monitor()?;
    let lines = running.monitor("frames")?;
    let of = |owner: &str| match lines.iter().find(|line| line.contains(&format!("owner={owner} "))) {
        Some(line) => parse(line, "frames"),
        None => fail!("`frames` names no owner {owner}: {lines:?}"),
    };
    let frames = of("core")? + of("components")? + of("dma")?;
    running.power_off()?;
    Ok(frames)
}
