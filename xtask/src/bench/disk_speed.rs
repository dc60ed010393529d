//! What several disks are faster than one, and who gets how much of a disk that many want.
//!
//! QEMU holds each disk to so many requests in a second, whatever the host does meanwhile, so that a disk is what everybody waits for.

use super::mechanism::parse;
use super::{Bench, Entry, Figure, Repeats};
use crate::disk::mkdisk;
use crate::error::{Context, Result, fail};
use crate::machine::{DiskKind, Kind};
use crate::test::lab::{Lab, Running};
use crate::workspace::scratch;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const VIRTIO: Entry = Entry {
    name: "stripe_speedup_virtio",
    measures: "the rate of a sequential read of three virtio-blk disks over that of one",
    // The host's own work is in it.
    repeats: Repeats::Within(0.35),
    run: |_| speedup("stripe_speedup_virtio", DiskKind::Virtio, "virtio-blk"),
};
pub const PIIX: Entry = Entry {
    name: "stripe_speedup_piix",
    measures: "the rate of a sequential read of three IDE disks on two channels over that of one",
    // The host's own work is in it.
    repeats: Repeats::Within(0.35),
    run: |_| speedup("stripe_speedup_piix", DiskKind::Ide, "PIIX IDE"),
};
pub const FAIRNESS: Entry = Entry {
    name: "disk_fairness_jain",
    measures: "how evenly sixteen VMs share a disk, one of which asks ten times as much",
    repeats: Repeats::Within(0.05),
    run: fairness,
};

/// Requests that a disk does in a second, in both measurements.
const SLOW: u64 = 200;
const SHARED: u64 = 800;
/// Requests that are on their way at a time, and how many are measured.
const WIDTH: u64 = 8;
const READS: u64 = 6000;
/// Those before the measurement.
const FEW: u64 = 50;
/// Blocks of the virtual disk, all of which hold something.
const BLOCKS: usize = 4096;
/// VMs that share a disk, what each of them asks for at a time, and what the greedy one does.
const VMS: usize = 16;
const MODEST: u64 = 4;
const GREEDY: u64 = 40;
/// How long they are looked at.
const WINDOW: Duration = Duration::from_secs(12);
const PATIENCE: Duration = Duration::from_secs(120);

/// A machine with a set of so many disks, each of which does so many requests in a second. `web` is never written.
fn start(dir: &Path, kind: DiskKind, disks: usize, rate: u64) -> Result<Running> {
    let members: Vec<PathBuf> = (0..disks).map(|disk| dir.join(format!("{disks}-{disk}"))).collect();
    let tree = dir.join("tree");
    std::fs::write(&tree, vec![7; BLOCKS * 4096]).context(|| "cannot write what is to be on the disk".into())?;
    let words = [format!("--image=web={}", tree.display()), "--size=24MiB".to_owned()];
    mkdisk::make(&mkdisk::Args::parse(members.iter().cloned().chain(words.map(PathBuf::from)))?)?;
    let mut running = Lab::with(Kind::Qemu)?.boot("vms=asm-guest").disks(kind, &members).each_apart().start()?;
    running.wait_for_monitor()?;
    running.wait_for(&format!("diskmux: set foraker: {disks} members"), PATIENCE)?;
    for disk in 0..disks {
        running.machine().emulator(&format!("block_set_io_throttle disk{disk} 0 0 0 {rate} 0 0"))?;
    }
    Ok(running)
}

fn line(running: &Running, command: &str, start: &str) -> Result<String> {
    let lines = running.monitor(command)?;
    lines.iter().find(|line| line.starts_with(start)).cloned().context(|| lines.join("\n"))
}

/// Reads so many blocks, one after the other. How long that takes, in milliseconds of the machine's time.
fn read(running: &Running, count: u64) -> Result<u64> {
    let begun = parse(&line(running, "machine", "machine ")?, "tsc")?;
    let mark = running.mark();
    running.monitor(&format!("create disk-log disk=web:ro mode=many op=read count={count} width={WIDTH}"))?;
    running.wait_for_since(mark, &format!("disk-log: many ok count={count}"), PATIENCE)?;
    let ended = line(running, "machine", "machine ")?;
    Ok((parse(&ended, "tsc")? - begun) * 1000 / parse(&ended, "tsc_hz")?.max(1))
}

/// How long reading takes with so many disks, without what a VM takes to begin and to end.
fn time(kind: DiskKind, disks: usize) -> Result<u64> {
    let dir = scratch("bench-stripes")?;
    let running = start(dir.path(), kind, disks, SLOW)?;
    let (few, all) = (read(&running, FEW)?, read(&running, FEW + READS)?);
    running.power_off()?;
    Ok(all.saturating_sub(few).max(1))
}

// Milliseconds are far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn speedup(metric: &'static str, kind: DiskKind, name: &str) -> Result<Vec<Figure>> {
    let (one, three) = (time(kind, 1)?, time(kind, 3)?);
    let conditions = format!(
        "QEMU, SVM, one CPU; {name} disks held to {SLOW} requests a second each, none of which QEMU merges, stripe unit 64 KiB; 1 VM of disk-log that reads {READS} blocks in order, {WIDTH} at a time; \
         machine time"
    );
    eprintln!("{READS} blocks took {one} ms from one disk, {three} ms from three");
    Ok(vec![Figure { metric, value: one as f64 / three as f64, unit: "ratio", conditions }])
}

/// Requests of each VM so far, as the operator sees them.
fn requests(running: &Running) -> Result<Vec<u64>> {
    let lines = running.monitor("disks")?;
    let loads = lines.iter().filter(|line| line.starts_with("load index=") && line.contains(" name=web "));
    loads.map(|line| parse(line, "requests")).collect()
}

// Counts of requests are far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn fairness(_: &Bench) -> Result<Vec<Figure>> {
    let dir = scratch("bench-fairness")?;
    let running = start(dir.path(), DiskKind::Virtio, 1, SHARED)?;
    for vm in 0..VMS {
        let width = if vm == 0 { GREEDY } else { MODEST };
        running.monitor(&format!("create disk-log disk=web:ro mode=many op=read count=1000000 width={width}"))?;
    }
    std::thread::sleep(WINDOW / 4);
    let before = requests(&running)?;
    std::thread::sleep(WINDOW);
    let after = requests(&running)?;
    running.must_not_say(0, "disk-log: LOST")?;
    running.power_off()?;
    if (before.len(), after.len()) != (VMS, VMS) {
        fail!("{VMS} VMs were to read, and {} do", after.len());
    }
    let done: Vec<f64> = before.iter().zip(&after).map(|(before, after)| (after - before) as f64).collect();
    let (least, most) = done.iter().fold((f64::MAX, 0.0_f64), |(least, most), &one| (least.min(one), most.max(one)));
    let (sum, squares): (f64, f64) = (done.iter().sum(), done.iter().map(|one| one * one).sum());
    let conditions = format!(
        "QEMU, SVM, one CPU; a virtio-blk disk held to {SHARED} requests a second, disk=drr; {VMS} VMs of disk-log read the same virtual disk, {MODEST} at a time, and one {GREEDY}; \
         requests that were taken in {} s",
        WINDOW.as_secs()
    );
    eprintln!("between {least} and {most} requests of a VM were taken");
    let value = sum * sum / (VMS as f64 * squares.max(1.0));
    Ok(vec![Figure { metric: "disk_fairness_jain", value, unit: "index", conditions }])
}
