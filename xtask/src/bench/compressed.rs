//! What an idle web server that is out takes of the pool.

use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::machine::Kind;
use crate::test::cases::pooled;
use crate::test::lab::Lab;

pub const ENTRY: Entry = Entry {
    name: "compressed_vm_bytes",
    measures: "memory of an idle web server that is out",
    // Who is in at the end, and what its clients have left in it, depends on the host's timing.
    repeats: Repeats::Within(0.1),
    run,
};

/// Requests that each VM has answered, each but the first after it has come in again.
const ROUNDS: u64 = 3;

fn run(_: &Bench) -> Result<Vec<Figure>> {
    // Nothing is counted, so what is fast does.
    let running = pooled::start(&Lab::with(Kind::Qemu)?)?;
    for round in 1..=ROUNDS {
        for vm in 0..pooled::VMS {
            let requests = pooled::requests(&running, vm)?;
            if requests != round {
                fail!("VM {vm} has answered {requests} requests in round {round}");
            }
        }
    }
    let (vms, used) = (pooled::swap(&running, "vms")?, pooled::swap(&running, "used")?);
    if vms < (pooled::VMS - pooled::SEATS) as u64 {
        fail!("{vms} of {} VMs are out", pooled::VMS);
    }
    running.power_off()?;
    let conditions = format!(
        "QEMU, user-mode network; {} httpd for {} seats, asked for /status.json in turn, {ROUNDS} times; bytes of the pool's cells over the {vms} VMs \
         that are out; what a slot takes (`slot_bytes`) comes on top",
        pooled::VMS,
        pooled::SEATS
    );
    // Far below 2^53.
    #[allow(clippy::cast_precision_loss)]
    let value = used as f64 / vms as f64;
    Ok(vec![Figure { metric: ENTRY.name, value, unit: "bytes", conditions }])
}
