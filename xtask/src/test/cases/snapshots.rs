//! Snapshots of virtual disks: taken by the operator while VMs use them, kept, and refused where there can be none.

use super::ensure;
use crate::disk::{fsck, mkdisk};
use crate::error::{Context, Result, fail};
use crate::machine::{DiskKind, Kind};
use crate::test::Case;
use crate::test::lab::{Lab, Running, number};
use crate::workspace::scratch;
use std::path::PathBuf;
use std::time::Duration;

pub const CASES: &[Case] = &[Case {
    name: "qemu: disks: snapshots",
    asserts: "a snapshot has what its disk had when it was taken, also of one under load and after a death of diskmux; what cannot be is refused with the reason; fsck finds all well",
    run: |_| snapshots(),
}];

const SOON: Duration = Duration::from_secs(60);

/// Reads a whole virtual disk: how much of it is zeros, and the sum over the rest.
fn read(running: &Running, disk: &str) -> Result<String> {
    let mark = running.mark();
    running.monitor(&format!("create disk-log disk={disk}:ro mode=read"))?;
    let line = running.wait_for_since(mark, "disk-log: read zeros=", SOON)?;
    ensure(number(&line, "corrupt") == Some(0) && number(&line, "failed") == Some(0), || line.clone())?;
    let (_, found) = line.split_once("zeros=").context(|| line.clone())?;
    Ok(found.to_owned())
}

fn append(running: &Running, count: u32, before: u64) -> Result<()> {
    let mark = running.mark();
    running.monitor(&format!("create disk-log disk=log append={count}"))?;
    running.wait_for_since(mark, &format!("disk-log: records={before} "), SOON)?;
    running.wait_for_since(mark, "disk-log: done", SOON).map(drop)
}

fn take(running: &Running, of: &str, name: &str) -> Result<()> {
    let lines = running.monitor(&format!("disk snapshot {of} {name}"))?;
    ensure(lines.contains(&format!("snapshot of={of} name={name}")), || lines.join("\n"))
}

fn refused(running: &Running, of: &str, name: &str, why: &str) -> Result<()> {
    match running.monitor(&format!("disk snapshot {of} {name}")) {
        Ok(lines) => fail!("a snapshot {name} of {of} was taken:\n{}", lines.join("\n")),
        Err(error) => ensure(error.to_string().contains(why), || error.to_string()),
    }
}

/// A VM that knows what it has written does not notice that a snapshot is taken, nor that diskmux dies.
fn under_load(running: &Running) -> Result<()> {
    let mark = running.mark();
    let lines = running.monitor("create disk-log disk=log mode=load")?;
    let slot = lines.iter().find_map(|line| number(line, "index")).context(|| lines.join("\n"))?;
    running.wait_for_since(mark, "disk-log: load requests=", SOON)?;
    take(running, "log", "busy")?;
    let taken = read(running, "busy")?;
    let killed = running.mark();
    running.monitor("kill diskmux")?;
    running.wait_for_since(killed, "diskmux: set foraker: 2 members", SOON)?;
    running.wait_for_since(killed, "disk-log: load requests=", SOON)?;
    let now = read(running, "busy")?;
    ensure(now == taken, || format!("the snapshot has changed: {taken}, and then {now}"))?;
    let asked = running.mark();
    running.monitor(&format!("shutdown {slot}"))?;
    running.wait_for_since(asked, "disk-log: load ok", SOON)?;
    // It says what it has read at its end, as others do, who are asked next.
    running.wait_for_since(asked, "disk-log: read zeros=", SOON)?;
    running.must_not_say(mark, "disk-log: LOST")
}

fn snapshots() -> Result<()> {
    let dir = scratch("snapshots")?;
    let members = ["one", "two"].map(|name| dir.path().join(name));
    let words = ["--disk=log=256KiB", "--disk=large=5MiB", "--swap=1MiB", "--size=5MiB"].map(PathBuf::from);
    mkdisk::make(&mkdisk::Args::parse(members.iter().cloned().chain(words))?)?;
    let running = Lab::with(Kind::Qemu)?.boot("vms=asm-guest").disks(DiskKind::Virtio, &members).start()?;
    running.wait_for_monitor()?;
    running.wait_for("diskmux: set foraker: 2 members", SOON)?;
    append(&running, 5, 0)?;
    let before = read(&running, "log")?;
    take(&running, "log", "before")?;
    let lines = running.monitor("disks")?;
    let is_listed = |start: &str, end: &str| lines.iter().any(|line| line.starts_with(start) && line.ends_with(end));
    let listed = is_listed("entry name=before kind=read-only blocks=64 ", "")
        && is_listed("entry name=log kind=disk blocks=64 ", " beneath=before");
    ensure(listed, || lines.join("\n"))?;
    append(&running, 3, 5)?;
    let after = read(&running, "log")?;
    let kept = read(&running, "before")?;
    ensure(kept == before && after != before, || format!("before {before}, the snapshot {kept}, after {after}"))?;
    refused(&running, "log", "before", "there is a before already; take another name")?;
    refused(&running, "nobody", "other", "no virtual disk nobody")?;
    refused(&running, "before", "other", "before is never written")?;
    refused(&running, "large", "other", "blocks of the set once more, and ")?;
    under_load(&running)?;
    let kept = read(&running, "before")?;
    ensure(kept == before, || format!("the first snapshot has changed: {before}, and then {kept}"))?;
    running.power_off()?;
    let report = fsck::check(&members, false)?;
    let chain = ["busy: virtual disk of 256 KiB on before, never written", "log: virtual disk of 256 KiB on busy"];
    ensure(report.faults == 0 && chain.iter().all(|line| report.text.contains(line)), || report.text.clone())
}
