//! Every power cut: all that a load writes to the disks of a set is logged, and each state that a cut may leave is looked at.

use super::ensure;
use crate::disk::mkdisk;
use crate::error::{Context, Result};
use crate::machine::Kind;
use crate::power::log::Logged;
use crate::power::replay::{Count, Replay};
use crate::test::Case;
use crate::test::lab::Lab;
use crate::workspace::scratch;
use std::path::PathBuf;
use std::time::Duration;

pub const CASES: &[Case] = &[Case {
    name: "qemu: disks: power cuts",
    asserts: "whatever a power cut leaves of what was not flushed, the set is recognised, what was flushed is there, no block is an error, and snapshots have what was there",
    run: |lab| {
        Cuts { epochs: 24, states: 1000, kills: 2, snapshots: 3, seed: lab.seed.unwrap_or(SEED) }
            .run(&Lab::with(Kind::Qemu)?)
            .map(drop)
    },
}];

pub const LONG_CASES: &[Case] = &[Case {
    name: "qemu: disks: power cuts: 100,000",
    asserts: "the same for 100,000 states of a longer load",
    run: |lab| Cuts { seed: lab.seed.unwrap_or(SEED), ..LONG }.run(&Lab::with(Kind::Qemu)?).map(drop),
}];

/// How long a load may take.
const LOAD: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_secs(60);
/// The seed of the load, unless another one is asked for.
const SEED: u64 = 11;

/// What is done and looked at.
pub struct Cuts {
    /// Epochs of the load.
    pub epochs: u64,
    /// States that there are at least.
    pub states: u64,
    /// How often diskmux is killed meanwhile.
    pub kills: u32,
    /// Snapshots that are taken: the first when the load begins, each further one behind a death of diskmux, so that all but the last are written above
    /// by the load and by the successors of those who took them.
    pub snapshots: usize,
    /// Of the load, and of the states that are drawn.
    pub seed: u64,
}

/// The long one.
pub const LONG: Cuts = Cuts { epochs: 1800, states: 100_000, kills: 10, snapshots: 8, seed: SEED };

impl Cuts {
    /// Loads a set of two disks and looks at all states that a power cut may leave.
    pub fn run(&self, lab: &Lab) -> Result<Count> {
        let Cuts { epochs, snapshots, seed, .. } = *self;
        let dir = scratch("power-cuts")?;
        let members = ["one", "two"].map(|name| dir.path().join(name));
        // Each snapshot takes as much of the set as the disk, of which the two members have half each.
        let size = format!("--size={}MiB", 3 * (snapshots + 1));
        let words = ["--disk=log=4MiB", "--no-operator", &size].map(PathBuf::from);
        mkdisk::make(&mkdisk::Args::parse(members.iter().cloned().chain(words))?)?;
        let logged = Logged::make(dir.path(), members.len())?;
        let read = |path: &PathBuf| std::fs::read(path).context(|| format!("cannot read {}", path.display()));
        let before = members.iter().map(read).collect::<Result<Vec<_>>>()?;
        self.load(lab, &members, &logged)?;
        let replay = || Replay::new(&before, &logged, "log", seed);
        let mut whole = replay()?;
        let count = whole.check().context(|| format!("seed {seed}"))?;
        ensure(whole.snapshots() == snapshots, || format!("{} snapshots were seen", whole.snapshots()))?;
        ensure(count.epochs == epochs, || format!("{} epochs instead of {epochs}", count.epochs))?;
        ensure(count.states >= self.states, || format!("only {} states", count.states))?;
        // Without the flushes the same writes are not enough, and that is seen.
        let mut without = replay()?;
        without.forget_flushes();
        ensure(without.check().is_err(), || "a load without flushes was found to be safe".to_owned())?;
        Ok(count)
    }

    fn load(&self, lab: &Lab, members: &[PathBuf], logged: &Logged) -> Result<()> {
        let Cuts { epochs, snapshots, seed, .. } = *self;
        let running = lab.boot("vms=asm-guest").logged_disks(members, logged).start()?;
        running.wait_for_monitor()?;
        running.wait_for("diskmux: set foraker: 2 members", SOON)?;
        let begun = running.mark();
        running.monitor(&format!("create disk-log disk=log mode=epochs epochs={epochs} seed={seed}"))?;
        running.wait_for_since(begun, "disk-log: epochs begin", SOON)?;
        let kills = usize::try_from(self.kills).unwrap_or(usize::MAX);
        for number in 0..snapshots.max(kills) {
            if number < snapshots {
                let lines = running.monitor(&format!("disk snapshot log cut-{number}"))?;
                let taken = format!("snapshot of=log name=cut-{number}");
                ensure(lines.contains(&taken), || lines.join("\n"))?;
            }
            if number < kills {
                let mark = running.mark();
                running.monitor("kill diskmux")?;
                running.wait_for_since(mark, "diskmux: set foraker: 2 members", SOON)?;
            }
        }
        running.wait_for_since(begun, &format!("disk-log: epochs ok count={epochs}"), LOAD)?;
        running.power_off()
    }
}
