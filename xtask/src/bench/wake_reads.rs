//! How often a disk is read to wake a VM that lies there.

use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::machine::Kind;
use crate::test::cases::{on_disk, pooled};
use crate::test::lab::Lab;
use crate::workspace::scratch;

pub const ENTRY: Entry = Entry {
    name: "wake_reads",
    measures: "disk reads to wake a web server that lies on the disks, and have it answer a request",
    // What clients have left in a VM depends on the host's timing, and with it whether it takes one block or two.
    repeats: Repeats::Within(0.1),
    run,
};

/// Rounds of requests; what happens in the first is not counted.
const ROUNDS: u64 = 3;

fn run(_: &Bench) -> Result<Vec<Figure>> {
    let dir = scratch("wake-reads")?;
    // Nothing is counted inside, so what is fast does.
    let mut running = on_disk::start(&Lab::with(Kind::Qemu)?, &on_disk::members(&dir)?)?;
    let (mut wakes, mut reads, mut most, mut shared) = (0_u32, 0, 0, 0_u32);
    for round in 1..=ROUNDS {
        for vm in 0..on_disk::VMS {
            let lies_there = round > 1 && on_disk::lies_there(&running, vm)?;
            let came = pooled::swap(&running, "come_in")?;
            let before: u64 = running.machine().disk_reads()?.iter().sum();
            let requests = pooled::requests(&running, vm)?;
            let after: u64 = running.machine().disk_reads()?.iter().sum();
            let came = pooled::swap(&running, "come_in")? - came;
            if requests != round {
                fail!("VM {vm} has answered {requests} requests in round {round}");
            }
            if lies_there && came > 1 {
                // Somebody else came in meanwhile, for an alarm: whose the reads are nobody knows.
                shared += 1;
            } else if lies_there {
                wakes += 1;
                reads += after - before;
                most = most.max(after - before);
            } else if round > 1 && came == 0 && after != before {
                fail!("VM {vm} did not lie on the disks, and they were read {} times for it", after - before);
            }
        }
    }
    running.power_off()?;
    if wakes < 20 {
        fail!("only {wakes} VMs were woken from the disks, and {shared} while others were");
    }
    let conditions = format!(
        "QEMU, three virtio disks, user-mode network; {} httpd for {} seats, pool=64KiB, asked for /status.json in turn, {ROUNDS} times; requests to \
         read that QEMU counts on all disks, over the wakes of VMs that lay there, but for those during which another VM came in for its alarm; {most} at most \
         for one",
        on_disk::VMS,
        on_disk::SEATS
    );
    // Far below 2^53.
    #[allow(clippy::cast_precision_loss)]
    let value = reads as f64 / f64::from(wakes);
    Ok(vec![Figure { metric: ENTRY.name, value, unit: "ratio", conditions }])
}
