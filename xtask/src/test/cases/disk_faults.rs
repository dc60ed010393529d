//! Disks that fail, fall silent or vanish under the load of VMs.

use super::ensure;
use crate::disk::mkdisk;
use crate::error::{Context, Result};
use crate::machine::{DiskKind, Kind};
use crate::test::Case;
use crate::test::lab::{Lab, Running, number};
use crate::workspace::{Temporary, scratch};
use std::path::PathBuf;
use std::time::Duration;

pub const CASES: &[Case] = &[
    Case {
        name: "qemu: disks: faults: a bad sector",
        asserts: "a read that fails once is done all the same, one that always fails is an error of that request, and all others are done",
        run: bad_sectors,
    },
    Case {
        name: "qemu: disks: faults: a disk vanishes",
        asserts: "a disk that is pulled out under load is an error to the VM that needs it; the one whose disk is elsewhere goes on",
        run: |_| lost(|running| running.machine().emulator("drive_del disk1")),
    },
    Case {
        name: "qemu: disks: faults: a controller is pulled out",
        asserts: "a disk that is pulled out with its controller under load is an error to the VM that needs it; the one whose disk is elsewhere goes on",
        run: |_| lost(pull_out),
    },
    Case {
        name: "qemu: disks: faults: a disk falls silent",
        asserts: "a disk that does not answer any more is an error to the VM that needs it, in time; the one whose disk is elsewhere goes on",
        // A byte a second.
        run: |_| lost(|running| running.machine().emulator("block_set_io_throttle disk1 1 0 0 0 0 0")),
    },
];

const SOON: Duration = Duration::from_secs(60);
/// Blocks of the disk `web`.
const BLOCKS: u64 = 200;
/// Where the second member has the data of the first stripe unit of `web` that is its own: data begins at block 16, units have 16 blocks, and the one
/// block of checks is the first of the first member.
const PLACE: u64 = 16;

fn members(dir: &Temporary, words: &[String]) -> Result<[PathBuf; 2]> {
    let members = ["one", "two"].map(|name| dir.path().join(name));
    mkdisk::make(&mkdisk::Args::parse(members.iter().cloned().chain(words.iter().map(PathBuf::from)))?)?;
    Ok(members)
}

fn start(lab: &Lab, members: &[PathBuf]) -> Result<Running> {
    let running = lab.boot("vms=asm-guest").disks(DiskKind::Virtio, members).start()?;
    running.wait_for_monitor()?;
    running.wait_for("diskmux: set foraker: 2 members", SOON)?;
    Ok(running)
}

fn create(running: &Running, words: &str) -> Result<u64> {
    let lines = running.monitor(&format!("create disk-log {words}"))?;
    let slot = lines.iter().find_map(|line| number(line, "index"));
    slot.context(|| format!("no VM was created:\n{}", lines.join("\n")))
}

/// Errors of a disk, as the operator sees them.
fn errors(running: &Running, disk: usize) -> Result<u64> {
    let lines = running.monitor("disks")?;
    let line = lines.iter().find(|line| line.starts_with(&format!("disk index={disk} ")));
    line.and_then(|line| number(line, "errors")).context(|| lines.join("\n"))
}

fn bad_sectors(_: &Lab) -> Result<()> {
    let dir = scratch("disk-faults")?;
    let (tree, rules) = (dir.path().join("tree"), dir.path().join("rules"));
    std::fs::write(&tree, vec![7; usize::try_from(BLOCKS * 4096).unwrap_or(0)]).context(|| "cannot write".into())?;
    let [first, second] = members(&dir, &[format!("--image=web={}", tree.display()), "--size=4MiB".to_owned()])?;
    let rule = |block: u64, once: &str| {
        let sector = (PLACE + block) * 8;
        format!("[inject-error]\nevent = \"read_aio\"\nerrno = \"5\"\nsector = \"{sector}\"\nonce = \"{once}\"\n\n")
    };
    let text = rule(3, "on") + &rule(5, "off");
    std::fs::write(&rules, text).context(|| "cannot write the rules".into())?;
    let second = PathBuf::from(format!("blkdebug:{}:{}", rules.display(), second.display()));
    let running = start(&Lab::with(Kind::Qemu)?, &[first, second])?;
    create(&running, "disk=web:ro mode=read")?;
    let line = running.wait_for("disk-log: read zeros=", SOON)?;
    ensure(line.contains("zeros=0 corrupt=0 failed=1 "), || line)?;
    // One that was tried again, and one that was given up after three. What they were asked for together with fails with them, and so does what QEMU has merged: the first try of
    // both may have been one.
    let [good, bad] = [errors(&running, 0)?, errors(&running, 1)?];
    ensure(good == 0 && bad >= 3, || format!("{good} and {bad} errors"))?;
    running.power_off()
}

/// Pulls the second disk's controller out. QEMU asks first, by ACPI, and waits until the slot is ejected, which nobody here does: so its own console does, by the ports
/// of its hot-plug controller (docs/specs/acpi_pci_hotplug.rst of QEMU: the bus is selected at 0xae10, slots are ejected at 0xae08).
fn pull_out(running: &mut Running) -> Result<()> {
    const VIRTIO_BLK: [&str; 2] = [" 1af4:1001 ", " 1af4:1042 "];
    let lines = running.machine().log().since(0);
    let disks = lines.iter().filter(|line| VIRTIO_BLK.iter().any(|id| line.contains(id)));
    let slot = disks.filter_map(|line| line.split_once(" PCI 00:")?.1.split_once('.')).nth(1);
    let slot = slot.and_then(|(slot, _)| u32::from_str_radix(slot, 16).ok()).filter(|slot| *slot < 32);
    let slot = slot.context(|| format!("the second disk's slot is not named:\n{}", lines.join("\n")))?;
    for command in
        ["device_del virtio1".to_owned(), "o/4 0xae10 0".to_owned(), format!("o/4 0xae08 {:#x}", 1_u32 << slot)]
    {
        running.machine().emulator(&command)?;
    }
    Ok(())
}

/// What happens when this befalls the second disk, on which only one of two VMs has its virtual disk.
fn lost(what: impl FnOnce(&mut Running) -> Result<()>) -> Result<()> {
    let (dir, lab) = (scratch("disk-faults")?, Lab::with(Kind::Qemu)?);
    let words = ["--stripe=1MiB", "--disk=log=256KiB", "--disk=other=256KiB", "--size=8MiB"].map(str::to_owned);
    let mut running = start(&lab, &members(&dir, &words)?)?;
    let [here, there] = [create(&running, "disk=log mode=load")?, create(&running, "disk=other mode=load")?];
    running.wait_for_lines(2, "disk-log: load begins", SOON)?;
    let mark = running.mark();
    what(&mut running)?;
    let line = running.wait_for_since(mark, "disk-log: LOST block", SOON)?;
    ensure(line.contains(&format!("vm{there}.")), || line)?;
    let after = running.mark();
    running.wait_for_since(after, &format!("vm{here}."), SOON)?;
    running.wait_for_since(after, "disk-log: load requests=", SOON)?;
    let [good, bad] = [errors(&running, 0)?, errors(&running, 1)?];
    ensure(good == 0 && bad > 0, || format!("{good} and {bad} errors"))?;
    let mark = running.mark();
    running.monitor(&format!("shutdown {here}"))?;
    let line = running.wait_for_since(mark, "disk-log: load ok", SOON)?;
    ensure(line.contains(&format!("vm{here}.")), || line)?;
    running.power_off()
}
