//! What the components take of a machine's memory.

use super::mechanism::parse;
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::test::lab::BOOT;

pub const ENTRY: Entry =
    Entry { name: "components_bytes", measures: "memory of all components", repeats: Repeats::Exactly, run };

/// VMs, and slots for VMs.
const VMS: usize = 8;
const SLOTS: usize = 4096;
/// Bytes of a frame.
const FRAME: u64 = 4096;

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let mut running = bench.lab()?.boot(&format!("vms=httpd*{VMS} slots={SLOTS}")).start()?;
    running.wait_for_services(BOOT)?;
    running.wait_for_monitor()?;
    let lines = running.monitor("frames")?;
    running.power_off()?;
    let of = |owner: &str| match lines.iter().find(|line| line.contains(&format!("owner={owner} "))) {
        Some(line) => parse(line, "frames"),
        None => fail!("`frames` names no owner {owner}: {lines:?}"),
    };
    let (memory, dma) = (of("components")?, of("dma")?);
    let conditions = format!(
        "{VMS} VMs of httpd, slots={SLOTS}, 256 MiB, the default policies: {memory} frames of data, stacks, rings, tables and windows, {dma} for DMA; code, which lies in modules, apart"
    );
    // Far below 2^53.
    #[allow(clippy::cast_precision_loss)]
    let value = ((memory + dma) * FRAME) as f64;
    Ok(vec![Figure { metric: "components_bytes", value, unit: "bytes", conditions }])
}
