//! Memory of VMs, from the core's frame table.

use super::boot::milliseconds;
use super::mechanism::parse;
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::test::lab::{BOOT, Lab, Running};
use std::time::{Duration, Instant};

pub const ENTRY: Entry =
    Entry { name: "vm_memory", measures: "frames of idle web server VMs", repeats: Repeats::Exactly, run };

/// VMs that are compared with one.
const VMS: u64 = 8;
/// Bytes of a frame.
const FRAME: u64 = 4096;
/// A guest that nobody asks gives back what it can after a minute of the machine's time, by which it has begun to, in milliseconds.
const REST_MS: f64 = 62_000.0;
/// It is done when nothing has changed for so long.
const QUIET: Duration = Duration::from_secs(8);
/// The host takes longer for that than the machine, but not longer than this.
const PATIENCE: Duration = Duration::from_secs(900);

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let lab = bench.lab()?;
    let (one, many) = (idle(lab, 1)?, idle(lab, 1 + VMS)?);
    let per_vm = |what: &str, before: u64, after: u64| match after.checked_sub(before) {
        Some(frames) if frames > 0 => Ok(frames * FRAME / VMS),
        _ => fail!("{VMS} more VMs do not have more {what}: {before} and {after} frames"),
    };
    let used = per_vm("frames", many.free, one.free)?;
    let metadata = per_vm("metadata", one.metadata, many.metadata)?;
    let own = format!(
        "memory {}, metadata {}, page tables {} bytes",
        per_vm("memory", one.memory, many.memory)?,
        metadata,
        per_vm("tables", one.tables, many.tables)?
    );
    let conditions = format!(
        "httpd, 16 MiB, after {VMS} answered once and were left alone until each had given back what it does not need, a minute later; frames that {VMS} more VMs take from the machine, components' \
         windows included ({own}); golden frames of the image are there once and not counted"
    );
    let bytes = |metric, value: u64, conditions| -> Figure {
        // Far below 2^53.
        #[allow(clippy::cast_precision_loss)]
        Figure { metric, value: value as f64, unit: "bytes", conditions }
    };
    Ok(vec![
        bytes("idle_vm_bytes", used, conditions),
        bytes("vm_metadata_bytes", metadata, "frames with the owner vm-metadata, per admitted VM".to_owned()),
    ])
}

/// Frames by owner.
struct Frames {
    free: u64,
    memory: u64,
    metadata: u64,
    tables: u64,
}

/// The frames of a machine with `vms` web servers that have answered and then been left alone. Its memory is the same
/// whatever their number.
fn idle(lab: &Lab, vms: u64) -> Result<Frames> {
    let mut running = lab.boot(&format!("vms=httpd*{vms}")).start()?;
    running.wait_for_services(BOOT)?;
    running.wait_for_monitor()?;
    let frames = at_rest(&running)?;
    running.power_off()?;
    Ok(frames)
}

/// The frames when VMs have had the time to give some back, and nothing has changed since for a while.
fn at_rest(running: &Running) -> Result<Frames> {
    let (first, begun, end) = (Frames::read(running)?, time(running)?, Instant::now() + PATIENCE);
    let (mut last, mut since) = (first.memory, Instant::now());
    while Instant::now() < end {
        std::thread::sleep(Duration::from_secs(1));
        let frames = Frames::read(running)?;
        // One that has not been asked yet gives back what the start took, long before the others.
        if frames.memory != last || time(running)? < begun + REST_MS {
            (last, since) = (frames.memory, Instant::now());
        } else if last < first.memory && since.elapsed() >= QUIET {
            return Ok(frames);
        }
    }
    fail!(
        "VMs had {} frames of memory at first, and have {last} after {} s: they do not come to rest",
        first.memory,
        PATIENCE.as_secs()
    )
}

/// The machine's time, in milliseconds: when it last said something.
fn time(running: &Running) -> Result<f64> {
    match running.said_since(0).last() {
        Some(line) => milliseconds(line),
        None => fail!("the machine has said nothing"),
    }
}

impl Frames {
    fn read(running: &Running) -> Result<Frames> {
        let lines = running.monitor("frames")?;
        let of = |owner: &str| match lines.iter().find(|line| line.contains(&format!("owner={owner} "))) {
            Some(line) => parse(line, "frames"),
            None => fail!("`frames` names no owner {owner}: {lines:?}"),
        };
        Ok(Frames {
            free: of("free")?,
            memory: of("vm-memory")?,
            metadata: of("vm-metadata")?,
            tables: of("vm-tables")?,
        })
    }
}
