//! What the machine executes to wake a VM that is out in memory.

use super::mechanism::instructions;
use super::wake_disk::QUIET;
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::machine::Kind;
use crate::test::cases::pooled;
use crate::test::lab::{BOOT, Lab, Running, number};
use std::collections::BTreeMap;

pub const ENTRY: Entry = Entry {
    name: "wake_instructions",
    measures: "instructions to wake a web server that is out in memory, waiting apart",
    // Which timers of others fall into a request depends on the host's timing.
    repeats: Repeats::Within(0.1),
    run,
};

/// VMs that come in, for each of which one that is in is ended, so that nobody has to go out for them.
const WOKEN: usize = 6;

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let lab = Lab::with(Kind::Qemu)?;
    let running = pooled::boot(&lab).counted().start()?;
    // What is typed before that is lost, and this machine is slow.
    running.wait_for("monitor: ready incarnation=", BOOT)?;
    running.wait_for_monitor()?;
    for vm in 0..pooled::VMS {
        pooled::requests(&running, vm)?;
    }
    std::thread::sleep(QUIET);
    let (out, inside) = whereabouts(&running)?;
    if out.len() < WOKEN || inside.len() < WOKEN {
        fail!("{} VMs are out and {} are in", out.len(), inside.len());
    }
    for vm in &inside[..WOKEN] {
        running.monitor(&format!("destroy {vm}"))?;
    }
    std::thread::sleep(QUIET);
    let before = pooled::swap(&running, "gone_out")?;
    let mut costs = Vec::new();
    for &vm in &out[..WOKEN] {
        let cold = ask(&running, vm)?;
        // The same once more, by one that is in.
        std::thread::sleep(QUIET);
        let warm = ask(&running, vm)?;
        std::thread::sleep(QUIET);
        costs.push(cold.less(&warm));
    }
    let (gone, came) = (pooled::swap(&running, "gone_out")?, pooled::swap(&running, "come_in")?);
    running.power_off()?;
    costs.sort_unstable_by_key(Spent::all);
    if gone != before || came < WOKEN as u64 {
        fail!("{} VMs have gone out meanwhile, and {came} came in", gone - before);
    }
    let conditions = format!(
        "QEMU, SVM, one CPU, icount shift=0,sleep=on, user-mode network; a request for /status.json to a httpd that is out in memory, less the same \
         request to it when it is in, all instructions but idle ones; nobody goes out meanwhile; median of {WOKEN}"
    );
    bench.note(format!("    of which {}\n", costs[WOKEN / 2]));
    Ok(vec![instructions(ENTRY.name, costs[WOKEN / 2].all(), conditions)])
}

/// Instructions that were executed, by who has: `guests`, a component's name, or `core`.
pub struct Spent(BTreeMap<String, u64>);

impl Spent {
    /// All that the machine has executed since it was started.
    pub fn take(running: &Running) -> Result<Spent> {
        let lines = running.monitor("machine")?;
        let of = |key: &str| lines.iter().find_map(|line| number(line, key));
        let (Some(tsc), Some(idle), Some(guests)) = (of("tsc"), of("idle_ticks"), of("guest_ticks")) else {
            fail!("`machine` was answered with {lines:?}")
        };
        let mut spent = Spent(BTreeMap::from([("guests".to_owned(), guests)]));
        for line in running.monitor("components")? {
            let name = line.split_once(" name=").and_then(|(_, rest)| rest.split(' ').next());
            spent.0.extend(name.map(str::to_owned).zip(number(&line, "ran_ticks")));
        }
        let others = spent.all();
        spent.0.insert("core".to_owned(), (tsc - idle).saturating_sub(others));
        Ok(spent)
    }

    /// A part of it.
    pub fn over(self, parts: u64) -> Spent {
        Spent(self.0.into_iter().map(|(name, count)| (name, count / parts.max(1))).collect())
    }

    /// The sum.
    pub fn all(&self) -> u64 {
        self.0.values().sum()
    }

    /// What was executed since `other` was taken.
    pub fn less(self, other: &Spent) -> Spent {
        let of = |name: &String| other.0.get(name).copied().unwrap_or(0);
        let left = self.0.into_iter().map(|(name, count)| {
            let count = count.saturating_sub(of(&name));
            (name, count)
        });
        Spent(left.collect())
    }
}

impl std::fmt::Display for Spent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts: Vec<_> = self.0.iter().filter(|(_, count)| **count != 0).collect();
        parts.sort_unstable_by_key(|(_, count)| std::cmp::Reverse(**count));
        let parts: Vec<_> = parts.into_iter().map(|(name, count)| format!("{name} {count}")).collect();
        f.write_str(&parts.join(", "))
    }
}

/// What a request takes, but for idle instructions.
fn ask(running: &Running, vm: usize) -> Result<Spent> {
    let before = Spent::take(running)?;
    pooled::requests(running, vm)?;
    Ok(Spent::take(running)?.less(&before))
}

/// The slots of VMs that are out in memory, and of those that are in.
fn whereabouts(running: &Running) -> Result<(Vec<usize>, Vec<usize>)> {
    let lines = running.monitor("vms")?;
    let slot = |line: &String| number(line, "index").and_then(|slot| usize::try_from(slot).ok());
    let of = |out: bool| {
        let lines =
            lines.iter().filter(|line| line.contains("vm index=") && line.contains(" state=out-memory ") == out);
        lines.filter_map(slot).collect()
    };
    Ok((of(true), of(false)))
}
