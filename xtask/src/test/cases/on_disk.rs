//! VMs that have run, go out, and lie on the disks until somebody asks for them.

use super::ensure;
use super::pooled::{requests, secret, swap};
use crate::disk::mkdisk;
use crate::error::{Context, Result};
use crate::machine::{DiskKind, Kind};
use crate::test::Case;
use crate::test::lab::Lab;
use crate::workspace::{Temporary, scratch};
use std::path::PathBuf;

pub const CASES: &[Case] = &[Case {
    name: "qemu: on disk",
    asserts: "five times as many web servers as there are seats answer again and again from the disks, outlive deaths of swap and diskmux, and none of their secrets is on a disk",
    run: on_disk,
}];

/// Web servers, and those that can be in at the same time.
const VMS: usize = 40;
const SEATS: usize = 8;
/// The pool is good for a few.
const OPTIONS: &str = "start=lazy pool=64KiB residence=10ms";
const MEMBERS: usize = 3;

fn members(dir: &Temporary) -> Result<Vec<PathBuf>> {
    let images: Vec<PathBuf> = (0..MEMBERS).map(|number| dir.path().join(format!("disk{number}.img"))).collect();
    let words = ["--swap=4MiB", "--swap-region=64KiB", "--size=8MiB"].map(PathBuf::from);
    mkdisk::make(&mkdisk::Args::parse(images.iter().cloned().chain(words))?)?;
    Ok(images)
}

fn on_disk(_: &Lab) -> Result<()> {
    let lab = Lab::with(Kind::Qemu)?;
    let dir = scratch("on-disk")?;
    let images = members(&dir)?;
    let options = format!("vms=httpd*{VMS} seats={SEATS} {OPTIONS}");
    let running = lab.boot(&options).megs(96).disks(DiskKind::Virtio, &images).start()?;
    running.wait_for_monitor()?;
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
            let lie_there = swap(&running, "on_disk")?;
            ensure(lie_there >= (VMS / 2) as u64, || format!("{lie_there} lie on the disks in round {round}"))?;
        }
    }
    let moved = swap(&running, "moved")?;
    ensure(moved >= (3 * VMS / 2) as u64, || format!("{moved} were moved to the disks"))?;
    ensure(swap(&running, "damaged")? == 0, || "some were lost".into())?;
    running.must_not_say(0, " ended: ")?;
    let states = running.monitor("vms")?;
    let lie_there = states.iter().filter(|line| line.contains("state=out-disk")).count();
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
