//! VMs that have run, go out, and lie on the disks until somebody asks for them.

use super::ensure;
use super::pooled::{requests, secret, swap};
use crate::disk::mkdisk;
use crate::error::{Context, Result};
use crate::machine::{DiskKind, Kind};
use crate::test::Case;
use crate::test::lab::{Boot, Lab, Running, number};
use crate::workspace::{Temporary, scratch};
use std::path::PathBuf;
use std::time::Duration;

pub const CASES: &[Case] = &[
    Case {
        name: "qemu: on disk: no pool",
        asserts: "with pool=0 web servers go straight to the disks and answer from there, also after deaths of swap and diskmux; without disks nobody goes out, and the log says why",
        run: no_pool,
    },
    Case {
        name: "qemu: on disk",
        asserts: "five times as many web servers as there are seats answer again and again from the disks, outlive deaths of swap and diskmux, and none of their secrets is on a disk",
        run: on_disk,
    },
];

/// Without a memory tier.
const NO_POOL: &str = "start=lazy pool=0 residence=10ms";

/// Members of the set. Units of stripes are as long as regions: the region of VM `n` lies on disk `n % MEMBERS`, all of it.
pub const MEMBERS: usize = 3;
/// Web servers, and those that can be in at the same time.
pub const VMS: usize = 40;
pub const SEATS: usize = 8;
/// The pool is good for a few.
const OPTIONS: &str = "start=lazy pool=64KiB residence=10ms";

pub fn members(dir: &Temporary) -> Result<Vec<PathBuf>> {
    let images: Vec<PathBuf> = (0..MEMBERS).map(|number| dir.path().join(format!("disk{number}.img"))).collect();
    let words = ["--swap=4MiB", "--swap-region=64KiB", "--size=8MiB"].map(PathBuf::from);
    mkdisk::make(&mkdisk::Args::parse(images.iter().cloned().chain(words))?)?;
    Ok(images)
}

/// A machine with these disks.
pub fn start(lab: &Lab, images: &[PathBuf]) -> Result<Running> {
    let running = boot(lab, images).start()?;
    running.wait_for_monitor()?;
    Ok(running)
}

/// It, before it starts.
pub fn boot<'a>(lab: &'a Lab, images: &[PathBuf]) -> Boot<'a> {
    let options = format!("vms=httpd*{VMS} seats={SEATS} {OPTIONS}");
    lab.boot(&options).megs(96).disks(DiskKind::Virtio, images)
}

/// VMs that lie on the disks, in order.
pub fn lie_there(running: &Running) -> Result<Vec<usize>> {
    let lines = running.monitor("vms")?;
    let on_disk = lines.iter().filter(|line| line.contains("state=out-disk"));
    Ok(on_disk.filter_map(|line| usize::try_from(number(line, "index")?).ok()).collect())
}

/// Whether a VM lies on the disks.
pub fn lies_there(running: &Running, vm: usize) -> Result<bool> {
    Ok(running.monitor(&format!("vm {vm}"))?.iter().any(|line| line.contains(" state=out-disk")))
}

fn no_pool(_: &Lab) -> Result<()> {
    let lab = Lab::with(Kind::Qemu)?;
    let dir = scratch("no-pool")?;
    let images = members(&dir)?;
    let options = format!("vms=httpd*{VMS} seats={SEATS} {NO_POOL}");
    let running = lab.boot(&options).megs(96).disks(DiskKind::Virtio, &images).start()?;
    running.wait_for_monitor()?;
    for (round, victim) in [None, None, Some("swap"), Some("diskmux")].into_iter().enumerate() {
        for vm in 0..VMS {
            if let Some(component) = victim.filter(|_| vm % 17 == 5) {
                running.monitor(&format!("kill {component}"))?;
            }
            let requests = requests(&running, vm)?;
            ensure(requests == round as u64 + 1, || {
                format!("VM {vm} has answered {requests} requests, in round {round}")
            })?;
        }
    }
    // Who is not in lies there: all but those on their way.
    let on_disk = swap(&running, "on_disk")?;
    ensure(on_disk >= (VMS - SEATS - 4) as u64, || format!("{on_disk} lie on the disks"))?;
    ensure(swap(&running, "damaged")? == 0, || "some were lost".into())?;
    running.must_not_say(0, " ended: ")?;
    running.power_off()?;
    let running = lab.boot("vms=httpd pool=0").start()?;
    running.wait_for_monitor()?;
    running.wait_for("'swap' is left out: with pool=0 it needs disks, and there are none", Duration::from_secs(5))?;
    running.power_off()
}

fn on_disk(_: &Lab) -> Result<()> {
    let lab = Lab::with(Kind::Qemu)?;
    let dir = scratch("on-disk")?;
    let images = members(&dir)?;
    let running = start(&lab, &images)?;
    for (round, victim) in [None, None, Some("swap"), Some("diskmux")].into_iter().enumerate() {
        for vm in 0..VMS {
            // In the midst of it.
            if let Some(component) = victim.filter(|_| vm % 13 == 5) {
                running.monitor(&format!("kill {component}"))?;
            }
            let requests = requests(&running, vm)?;
            ensure(requests == round as u64 + 1, || {
                format!("VM {vm} has answered {requests} requests, in round {round}")
            })?;
            if round == 0 {
                // It is in now, and its boot arguments lie in its memory as long as it lives.
                running.monitor(&format!("identity {vm} secret={}", secret(vm)))?;
            }
        }
        if round > 0 {
            let on_disk = swap(&running, "on_disk")?;
            ensure(on_disk >= (VMS / 2) as u64, || format!("{on_disk} lie on the disks in round {round}"))?;
        }
    }
    let moved = swap(&running, "moved")?;
    ensure(moved >= (3 * VMS / 2) as u64, || format!("{moved} were moved to the disks"))?;
    ensure(swap(&running, "damaged")? == 0, || "some were lost".into())?;
    running.must_not_say(0, " ended: ")?;
    let lie_there = lie_there(&running)?.len();
    ensure(lie_there >= VMS / 2, || format!("{lie_there} say that they lie on the disks"))?;
    running.power_off()?;
    for image in &images {
        let bytes = std::fs::read(image).context(|| format!("cannot read {}", image.display()))?;
        for vm in 0..VMS {
            // Half of it: the other one may lie in another page.
            let secret = secret(vm);
            let half = &secret.as_bytes()[..16];
            let found = bytes.windows(16).any(|part| part[0] == half[0] && part == half);
            ensure(!found, || format!("a secret of VM {vm} is on {}", image.display()))?;
        }
    }
    let written = std::fs::read(&images[0]).context(|| "cannot read a member".into())?;
    ensure(written.chunks(4096).skip(64).filter(|block| block.iter().any(|&byte| byte != 0)).count() > 10, || {
        "nothing is on the disks: the search finds nothing".into()
    })?;
    Ok(())
}

const _: () = assert!(VMS > SEATS);
