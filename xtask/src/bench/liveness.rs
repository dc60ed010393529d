//! How soon components are found out that make no progress, and whether others are blamed for what they did not do.

use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Context, Result, fail};
use crate::test::cases::crowd::crowd;
use crate::test::cases::culprits;
use crate::test::lab::{BOOT, Lab, number};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const NOTICED: Entry = Entry {
    name: "no_progress_noticed",
    measures: "time until a scheduler that sleeps for ever, or waits for the past, is replaced, under load",
    repeats: Repeats::Within(0.1),
    run: noticed,
};

pub const STOLEN: Entry = Entry {
    name: "stolen_time_kills",
    measures: "components killed while the host has four busy loops beside the machine",
    repeats: Repeats::Within(0.0),
    run: stolen,
};

pub const START: Entry = Entry {
    name: "start_10000_kills",
    measures: "components killed while 10,000 VMs start",
    repeats: Repeats::Exactly,
    run: start,
};

/// Guests that compute without pause, and lives of the culprit.
const LOAD: usize = 4;
const LIVES: usize = 5;

/// Machines with busy loops beside them, busy loops, and how long clients ask each of them.
const MACHINES: usize = 4;
const LOOPS: usize = 4;
const ASKED: Duration = Duration::from_secs(20);
const VMS: usize = 8;

/// VMs of the last, and memory in MiB.
const MANY: u64 = 10_000;
const MEMORY: u32 = 1024;
/// How long these may take, and the pause from one look at them to the next.
const PATIENCE: Duration = Duration::from_secs(1200);
const PAUSE: Duration = Duration::from_secs(5);

fn noticed(bench: &Bench) -> Result<Vec<Figure>> {
    let inside = bench.inside()?;
    let mut figures = Vec::new();
    for (metric, deed, found_out) in [
        ("sleeper_noticed_ms", "sleeps", "component sched killed: it sleeps"),
        ("spinner_noticed_ms", "past-waits", "waited only for what is past"),
    ] {
        let boot = bench.lab()?.boot(&format!("vms=bench*{LOAD}")).deterministic().system(|system| {
            for image in system.image.iter_mut().filter(|image| image.name == "bench") {
                image.args = "bench=compute".to_owned();
            }
        });
        let running = culprits::with_scheduler(boot, deed)?.start()?;
        let times = culprits::noticed(&running, deed, found_out, LIVES)?;
        running.power_off()?;
        let value = (times.into_iter().fold(0.0, f64::max) * 1000.0).round();
        let conditions = format!(
            "{inside}; {LOAD} VMs that compute; from a start of the scheduler `{deed}` until the core stops it; the longest of {LIVES} lives"
        );
        figures.push(Figure { metric, value, unit: "ms", conditions });
    }
    Ok(figures)
}

/// Processes that do nothing but take time.
struct BusyLoops(Vec<Child>);

impl BusyLoops {
    fn start(count: usize) -> Result<Self> {
        let mut loops = BusyLoops(Vec::new());
        for _ in 0..count {
            let child = Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn();
            loops.0.push(child.context(|| "no busy loop".to_owned())?);
        }
        Ok(loops)
    }
}

impl Drop for BusyLoops {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have ended; there is nothing else to be done.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn stolen(bench: &Bench) -> Result<Vec<Figure>> {
    let lab = bench.lab()?;
    let loops = BusyLoops::start(LOOPS)?;
    let mut kills = 0;
    for machine in 0..MACHINES {
        kills += robbed(lab, machine)?;
    }
    drop(loops);
    let conditions = format!(
        "{}; {MACHINES} boots of {VMS} web servers that are asked for {} s each while policies are swapped; {LOOPS} busy loops on the host",
        bench.kind.name(),
        ASKED.as_secs()
    );
    Ok(vec![Figure { metric: STOLEN.name, value: f64::from(kills), unit: "components", conditions }])
}

/// Components that are killed on one machine.
fn robbed(lab: &Lab, machine: usize) -> Result<u32> {
    const POLICIES: [(&str, &str); 4] =
        [("sched", "stride"), ("netmux", "drr"), ("sched", "round-robin"), ("netmux", "round-robin")];
    let mut running = lab.boot(&format!("vms=httpd*{VMS}")).start()?;
    running.wait_for_services(BOOT * 4)?;
    running.wait_for_monitor()?;
    let end = Instant::now() + ASKED;
    let mut round = machine;
    while Instant::now() < end {
        for server in 0..VMS {
            running.get(server, "/2258b")?;
        }
        if round.is_multiple_of(8) {
            let (component, policy) = POLICIES[round / 8 % POLICIES.len()];
            running.monitor(&format!("policy {component} {policy}"))?;
        }
        round += 1;
    }
    let kills = running.count_since(0, " killed: ") + running.count_since(0, "is given up");
    running.power_off()?;
    Ok(u32::try_from(kills).unwrap_or(u32::MAX))
}

fn start(bench: &Bench) -> Result<Vec<Figure>> {
    let inside = bench.inside()?;
    let running = crowd(bench.lab()?, MANY, MEMORY).start()?;
    running.wait_for_monitor()?;
    let end = Instant::now() + PATIENCE;
    // Until no more of them come in.
    let mut admitted = (0, 0);
    while admitted.1 < 3 {
        if Instant::now() > end {
            fail!("VMs are still being admitted after {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(PAUSE);
        // While thousands start the operator's line answers late: then it is asked again.
        let Ok(lines) = running.monitor("frames") else { continue };
        let line = lines.iter().find(|line| line.contains("owner=vm-metadata "));
        let Some(frames) = line.and_then(|line| number(line, "frames")) else { fail!("no such owner in {lines:?}") };
        admitted = if frames == admitted.0 { (frames, admitted.1 + 1) } else { (frames, 0) };
    }
    let kills = running.count_since(0, " killed: ");
    running.power_off()?;
    let conditions = format!("{inside}; {MANY} VMs of httpd, {MEMORY} MiB; until no more of them are admitted");
    // A few.
    #[allow(clippy::cast_precision_loss)]
    Ok(vec![Figure { metric: START.name, value: kills as f64, unit: "components", conditions }])
}
