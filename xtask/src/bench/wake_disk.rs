//! What the machine executes to wake a VM that lies on a disk.

use super::http::spent;
use super::mechanism::instructions;
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::machine::Kind;
use crate::test::cases::{on_disk, pooled};
use crate::test::lab::{Lab, Running};
use crate::workspace::scratch;
use std::time::Duration;

pub const ENTRY: Entry = Entry {
    name: "wake_disk_instructions",
    measures: "instructions to wake a web server that lies on the disks, waiting apart",
    // Which timers of others fall into a request depends on the host's timing.
    repeats: Repeats::Within(0.1),
    run,
};

/// VMs that are ended, so that others can come in and nobody has to go out for them; and those that come in.
const ENDED: usize = on_disk::SEATS - 1;
const WOKEN: usize = ENDED - 1;
/// So many of these have to count.
const ENOUGH: usize = 4;
/// Whoever has answered gives the pages of its rings back meanwhile, and has no alarm any more.
pub const QUIET: Duration = Duration::from_secs(3);

fn run(_: &Bench) -> Result<Vec<Figure>> {
    let dir = scratch("wake-disk")?;
    let lab = Lab::with(Kind::Qemu)?;
    let running = on_disk::boot(&lab, &on_disk::members(&dir)?).counted().start()?;
    running.wait_for_monitor()?;
    for vm in 0..on_disk::VMS {
        pooled::requests(&running, vm)?;
    }
    // The last ones are in.
    for vm in on_disk::VMS - ENDED..on_disk::VMS {
        running.monitor(&format!("destroy {vm}"))?;
    }
    std::thread::sleep(QUIET);
    let mut costs = Vec::new();
    for vm in on_disk::lie_there(&running)?.into_iter().take(WOKEN) {
        let before = pooled::swap(&running, "gone_out")?;
        let cold = ask(&running, vm)?;
        // The same once more, by one that is in.
        std::thread::sleep(QUIET);
        let warm = ask(&running, vm)?;
        std::thread::sleep(QUIET);
        // One that went out with an alarm comes in again for that, and another one goes out for it.
        if pooled::swap(&running, "gone_out")? == before {
            costs.push(cold.saturating_sub(warm));
        }
    }
    running.power_off()?;
    costs.sort_unstable();
    let counted = costs.len();
    if counted < ENOUGH {
        fail!("{counted} VMs were woken without another one going out meanwhile");
    }
    let conditions = format!(
        "QEMU, SVM, one CPU, icount shift=0,sleep=on, three virtio disks, user-mode network; a request for /status.json to a httpd that lies on the \
         disks in one block, less the same request to it when it is in, all instructions but idle ones; nobody goes out meanwhile; median of {counted}"
    );
    Ok(vec![instructions(ENTRY.name, costs[counted / 2], conditions)])
}

/// Instructions for a request, but for idle ones.
pub fn ask(running: &Running, vm: usize) -> Result<u64> {
    let (all, idle) = spent(running, || pooled::requests(running, vm).map(|_| ()))?;
    Ok(all - idle)
}
