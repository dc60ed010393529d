//! States that power cuts may leave on disks.

use super::{Bench, Entry, Figure, Repeats};
use crate::error::Result;
use crate::machine::Kind;
use crate::test::cases::power_cuts::{Cuts, LONG};
use crate::test::lab::Lab;

pub const ENTRY: Entry = Entry {
    name: "power_cuts_checked",
    measures: "states after a power cut that are recognised and hold all that was flushed",
    // Which writes share a batch depends on the host's timing.
    repeats: Repeats::Within(0.5),
    run,
};

fn run(_: &Bench) -> Result<Vec<Figure>> {
    let count = LONG.run(&Lab::with(Kind::Qemu)?)?;
    let Cuts { epochs, kills, snapshots, .. } = LONG;
    let conditions = format!(
        "QEMU, two virtio-blk disks, {epochs} epochs of disk-log, diskmux killed {kills} times, {snapshots} snapshots; of up to 10 writes between two flushes all subsets, \
         beyond all prefixes and 1,000 random subsets; none was wrong"
    );
    // Far below 2^53.
    #[allow(clippy::cast_precision_loss)]
    let value = count.states as f64;
    Ok(vec![Figure { metric: "power_cuts_checked", value, unit: "states", conditions }])
}
