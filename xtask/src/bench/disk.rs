//! What a request of a guest to its virtual disk costs.

use super::http::busy;
use super::mechanism::instructions;
use super::{Bench, Entry, Figure, Repeats};
use crate::disk::mkdisk;
use crate::error::{Context, Result};
use crate::machine::{DiskKind, Kind};
use crate::test::lab::{Lab, Running};
use crate::workspace::scratch;
use std::path::PathBuf;
use std::time::Duration;

pub const ENTRY: Entry = Entry {
    name: "disk_instructions",
    measures: "a request of 4 KiB of a guest to its virtual disk, everything but idling",
    // How many ends share an interrupt depends on the host's timing.
    repeats: Repeats::Within(0.1),
    run,
};

/// Metric, requests, how many at a time, and what they do. What is read in order is read ahead, so most of its requests need no disk.
const LOADS: [(&str, u64, u64, &str); 4] = [
    ("disk_read_instructions", 4000, 1, "read order=scattered"),
    ("disk_write_instructions", 2000, 1, "write order=scattered"),
    ("disk_read_instructions_32", 8000, 32, "read order=scattered"),
    ("disk_read_instructions_in_order", 8000, 1, "read"),
];
const PATIENCE: Duration = Duration::from_secs(120);
/// Blocks of the disks, all of which hold something.
const BLOCKS: usize = 256;

fn run(_: &Bench) -> Result<Vec<Figure>> {
    let (dir, lab) = (scratch("bench-disk")?, Lab::with(Kind::Qemu)?);
    let (disk, tree) = (dir.path().join("disk"), dir.path().join("tree"));
    std::fs::write(&tree, vec![7; BLOCKS * 4096]).context(|| "cannot write what is to be on the disk".into())?;
    let words = [format!("--image=web={}", tree.display()), "--disk=log=1MiB".to_owned(), "--size=8MiB".to_owned()];
    mkdisk::make(&mkdisk::Args::parse([disk.clone()].into_iter().chain(words.map(PathBuf::from)))?)?;
    let running = lab.boot("vms=asm-guest").disks(DiskKind::Virtio, &[disk]).counted().start()?;
    running.wait_for_monitor()?;
    running.wait_for("diskmux: set foraker: 1 members", PATIENCE)?;
    let mut figures = Vec::new();
    for (metric, count, width, op) in LOADS {
        let disk = if op.starts_with("write") { "log" } else { "web:ro" };
        let work = |count: u64| {
            busy(&running, || {
                load(&running, &format!("disk={disk} mode=many op={op} count={count} width={width}"), count)
            })
        };
        // What one of the same kind takes to begin and to end is no request's.
        let (few, all) = (work(BLOCKS as u64)?, work(count + BLOCKS as u64)?);
        let conditions = format!(
            "QEMU, SVM, one CPU, icount shift=0,sleep=on; one virtio-blk disk; 1 VM of disk-log, op={op}, {width} at a time, of which eight are \
             given to diskmux; all instructions of the machine but idle ones over {count} requests"
        );
        figures.push(instructions(metric, all.saturating_sub(few) / count, conditions));
    }
    running.power_off()?;
    Ok(figures)
}

fn load(running: &Running, words: &str, count: u64) -> Result<()> {
    let mark = running.mark();
    running.monitor(&format!("create disk-log {words}"))?;
    running.wait_for_since(mark, &format!("disk-log: many ok count={count}"), PATIENCE)?;
    Ok(())
}
