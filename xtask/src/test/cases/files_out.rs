//! Web servers that serve the files on a disk that they share, go out, and come in again.

use super::ensure;
use super::files::{Folder, asked, with_files};
use super::pooled::{requests, swap};
use crate::disk;
use crate::error::{Context, Result};
use crate::machine::{DiskKind, Kind};
use crate::test::Case;
use crate::test::lab::{Lab, Running};
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    Case {
        name: "qemu: pooled: files on a disk",
        asserts: "three times as many web servers as there are seats serve the files of a disk that they share, again and again, and outlive deaths of diskmux, swap, netmux and pager",
        run: pooled,
    },
    Case {
        name: "qemu: on disk: files on a disk",
        asserts: "five times as many web servers as there are seats lie on the disks of which they serve the files, and outlive deaths of diskmux and swap",
        run: on_disk,
    },
];

/// VMs that can be in at the same time.
const SEATS: usize = 8;
/// Bytes of the pool that a web server takes at most that is quiet.
const MOST: u64 = 8192;
/// By when all are.
const SOON: Duration = Duration::from_secs(120);
/// What the longer file holds, in bytes.
const LARGE: u32 = 100_000;

/// Has `vms` web servers serve files in rounds, in each of which one of these components is killed again and again, and looks whether all of it is right.
fn serve<'a>(options: &str, vms: usize, victims: impl Iterator<Item = Option<&'a str>>) -> Result<Running> {
    let lab = Lab::with(Kind::Qemu)?;
    let folder = Folder::make(LARGE)?;
    let images = disk::with_files(3, &folder.root(), folder.path())?;
    let options = format!("vms=httpd*{vms} seats={SEATS} start=lazy residence=10ms {options}");
    let running = lab.boot(&options).megs(96).disks(DiskKind::Virtio, &images).system(with_files).start()?;
    running.wait_for_monitor()?;
    let large = folder.large()?;
    let mut rounds = 0;
    for (round, victim) in victims.enumerate() {
        for vm in 0..vms {
            // In the midst of it.
            if let Some(component) = victim.filter(|_| vm % 5 == 3) {
                running.monitor(&format!("kill {component}"))?;
            }
            let small = asked(&running, vm, "/a%20folder/style.css", &["-f"])?;
            ensure(small == b"p { color: red }", || format!("VM {vm} serves another file in round {round}"))?;
            // Elsewhere for each of them and each time, so that it comes from the disk.
            let from = (vm * 7919 + round * 31_013) % (large.len() - 9000);
            let part = format!("{from}-{}", from + 8999);
            let part = asked(&running, vm, "/large.bin", &["-f", "-r", &part])?;
            ensure(part == large[from..from + 9000], || format!("VM {vm} serves another part in round {round}"))?;
            let requests = requests(&running, vm)?;
            ensure(requests == 3 * (round as u64 + 1), || {
                format!("VM {vm} has answered {requests} requests, in round {round}: it is another one")
            })?;
        }
        rounds = round;
    }
    let (out, came_in) = (swap(&running, "gone_out")?, swap(&running, "come_in")?);
    // In each round but the first all of them come in again but those that are in.
    ensure(came_in >= (rounds * (vms - SEATS)) as u64, || format!("{came_in} came in again"))?;
    ensure(out >= came_in, || format!("{out} went out and {came_in} came in"))?;
    ensure(swap(&running, "damaged")? == 0, || "some were lost".into())?;
    running.must_not_say(0, " ended: ")?;
    Ok(running)
}

fn pooled(_: &Lab) -> Result<()> {
    let victims = [None, Some("diskmux"), Some("swap"), Some("netmux"), Some("pager"), Some("diskmux")];
    let running = serve("pool=8MiB", 24, victims.into_iter())?;
    // What was read from the disk is not kept: each comes in when it was quiet for a while, and gives back what it does not need.
    let each = || -> Result<u64> { Ok(swap(&running, "used")?.checked_div(swap(&running, "vms")?).unwrap_or(0)) };
    let until = Instant::now() + SOON;
    while each()? > MOST && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(500));
    }
    let bytes = each()?;
    ensure((1..=MOST).contains(&bytes), || format!("an idle web server takes {bytes} bytes of the pool"))?;
    // An operator sees whose the disk is, whether the VM is in or not.
    let says = |vm: usize| running.monitor(&format!("vm {vm}")).context(|| format!("VM {vm}"));
    for vm in [0, 23] {
        let lines = says(vm)?;
        ensure(lines.iter().any(|line| line.contains(disk::FILES)), || format!("VM {vm} has no disk: {lines:?}"))?;
    }
    running.power_off()
}

fn on_disk(_: &Lab) -> Result<()> {
    let running = serve("pool=64KiB", 40, [None, None, Some("swap"), Some("diskmux")].into_iter())?;
    let on_disk = swap(&running, "on_disk")?;
    ensure(on_disk >= 20, || format!("{on_disk} lie on the disks"))?;
    running.power_off()
}
