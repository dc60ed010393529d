//! VMs that have run, are out, and answer when they are asked: in memory, and on disks.

use super::fleet::{self, Private};
use super::http::inside;
use super::{Bench, Entry, Figure, Repeats};
use crate::disk::mkdisk;
use crate::error::{Result, fail};
use crate::machine::{DiskKind, Kind};
use crate::test::cases::pooled::swap;
use crate::test::lab::{Lab, Running};
use crate::workspace::{Temporary, scratch};
use std::path::PathBuf;
use std::time::Instant;

pub const IN_MEMORY: Entry = Entry {
    name: "swapped_vms_memory",
    measures: "VMs of a machine with 1 GiB and no disk that have run, know what only they can, and answer when asked",
    repeats: Repeats::Exactly,
    run: in_memory,
};
pub const ON_DISKS: Entry = Entry {
    name: "swapped_vms",
    measures: "the same with three disks and a pool of 16 MiB: most lie on the disks",
    repeats: Repeats::Exactly,
    run: on_disks,
};

/// VMs, and as many as the targets are about.
const VMS: u32 = 20_000;
const VMS_LONG: u32 = 100_000;
/// Memory, in MiB.
const MEGS: u32 = 1024;
/// VMs that are asked a second time.
const AGAIN: u32 = 1_000;
/// Disks.
const DISKS: usize = 3;
/// KiB of a VM's region there: an idle web server takes 4 of them, one that serves up to 64.
const REGION: u32 = 64;

fn in_memory(bench: &Bench) -> Result<Vec<Figure>> {
    measured(bench, IN_MEMORY.name, Tier::Pool)
}

fn on_disks(bench: &Bench) -> Result<Vec<Figure>> {
    measured(bench, ON_DISKS.name, Tier::Disks)
}

/// Where those that are out should be.
#[derive(Clone, Copy, PartialEq)]
enum Tier {
    Pool,
    Disks,
}

fn measured(bench: &Bench, metric: &'static str, tier: Tier) -> Result<Vec<Figure>> {
    // Nothing is counted, so what is fast does.
    let kind = if bench.kind == Kind::Kvm { Kind::Kvm } else { Kind::Qemu };
    let vms = if bench.long { VMS_LONG } else { VMS };
    let (place, options) = match tier {
        Tier::Pool => ("no disk", "start=lazy"),
        Tier::Disks => ("three virtio disks, pool=16M", "start=lazy pool=16M"),
    };
    let value: u32 = inside(bench, metric, |_| {
        let lab = Lab::with(kind)?;
        let dir = scratch(metric)?;
        let boot = fleet::boot(&lab, vms, MEGS, options);
        let boot = if tier == Tier::Disks { boot.disks(DiskKind::Virtio, &members(&dir, vms)?) } else { boot };
        swapped(boot.start()?, vms, tier)
    })?;
    let conditions = format!(
        "{}, tap; {vms} httpd with start=lazy, {MEGS} MiB, {place}; each is asked by clients on the host, {} at once, for 1 to 7 documents on a \
         connection, some of which it does not have, and {AGAIN} of them, drawn, are asked again; all say what they were asked for, and nobody ends",
        kind.name(),
        fleet::CLIENTS
    );
    Ok(vec![Figure { metric, value: value.into(), unit: "VMs", conditions }])
}

/// Disks with a region for each of so many VMs.
pub fn members(dir: &Temporary, vms: u32) -> Result<Vec<PathBuf>> {
    let images: Vec<PathBuf> = (0..DISKS).map(|number| dir.path().join(format!("disk{number}.img"))).collect();
    let swap = u64::from(vms) * u64::from(REGION);
    // Files are made large, and hold what is written.
    let size = swap.div_ceil(DISKS as u64) + 4096;
    let words = [
        format!("--swap={swap}KiB"),
        format!("--swap-region={REGION}KiB"),
        format!("--size={}MiB", size.div_ceil(1024)),
    ];
    mkdisk::make(&mkdisk::Args::parse(images.iter().cloned().chain(words.map(PathBuf::from)))?)?;
    Ok(images)
}

/// As many VMs, if each that is asked answers, and nobody is lost.
fn swapped(running: Running, vms: u32, tier: Tier) -> Result<u32> {
    fleet::is_there(&running, vms)?;
    fleet::introduce(0..vms)?;
    let all: Vec<u32> = (0..vms).collect();
    let since = Instant::now();
    all_right(&running, &fleet::each(&all, Private::give), "asked for the first time")?;
    let first = since.elapsed();
    let again = fleet::drawn(vms, AGAIN);
    let since = Instant::now();
    all_right(&running, &fleet::each(&again, |slot| Private::ask(slot, 1)), "asked again")?;
    let (in_pool, on_disk) = (swap(&running, "vms")?, swap(&running, "on_disk")?);
    let lost = swap(&running, "damaged")? + swap(&running, "refused")?;
    let admitted = fleet::admitted(&running)?;
    eprintln!(
        "{vms} VMs were asked for the first time in {} s, {AGAIN} again in {} s; {admitted} are in, {in_pool} in the pool, {on_disk} on the disks; the \
         pool holds {} bytes of {}",
        first.as_secs(),
        since.elapsed().as_secs(),
        swap(&running, "used")?,
        swap(&running, "bytes")?
    );
    if lost != 0 {
        fail!("{lost} VMs were lost, or found no room");
    }
    let there = if tier == Tier::Disks { on_disk } else { in_pool };
    if there < u64::from(vms) / 4 {
        fail!("only {there} of {vms} VMs lie there: {admitted} are in, {in_pool} in the pool, {on_disk} on the disks");
    }
    for word in [" ended: ", " killed: ", "ERROR"] {
        running.must_not_say(0, word)?;
    }
    running.power_off()?;
    Ok(vms)
}

fn all_right(running: &Running, failed: &[String], what: &str) -> Result<()> {
    if failed.is_empty() {
        return Ok(());
    }
    let wakes = running.monitor("wakes").unwrap_or_default();
    fail!("{} VMs {what} fail: {}; {}", failed.len(), failed[..failed.len().min(5)].join("; "), wakes.join("; "))
}
