//! A scheduler that makes no progress, in each way, for good: it is found out within a second and a half each time it is started, the operator
//! can kill it while it rages, and web servers answer all the while.

use super::ensure;
use crate::build::build_bins;
use crate::error::{Result, fail};
use crate::manifest::model::{Policy, System};
use crate::test::Case;
use crate::test::lab::{BOOT, Boot, Lab, Running};
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    Case { name: "culprits: sleeper", asserts: ASSERTS, run: |lab| rages(lab, "sleeps", SLEEPS) },
    Case { name: "culprits: spinner on the past", asserts: ASSERTS, run: |lab| rages(lab, "past-waits", PAST) },
    Case { name: "culprits: endless loop", asserts: ASSERTS, run: |lab| rages(lab, "spins", LOOPS) },
    Case { name: "culprits: empties no ring", asserts: ASSERTS, run: |lab| rages(lab, "ignores", KILLED) },
    Case { name: "culprits: log flooder", asserts: ASSERTS, run: |lab| rages(lab, FLOODS, FLOODED) },
];

const ASSERTS: &str = "a component that makes no progress, or floods the log, is noticed within 1.5 s; the operator can kill it, and four servers answer all the while";
/// How the core says so. One that takes no messages sleeps on them, or leaves its ring full, whichever comes first.
const SLEEPS: &str = "component sched killed: it sleeps and does not take what it was rung for";
const PAST: &str = " us and waited only for what is past, its budget is 50000 us";
const LOOPS: &str = " us without waiting, its budget is 50000 us";
const KILLED: &str = "component sched killed: it ";
const FLOODED: &str = "component sched floods the log: its lines are limited";
/// The one that lives on.
const FLOODS: &str = "floods";
/// Seconds of the machine's time until it is said.
const NOTICED: f64 = 1.5;
/// Lives that are looked at.
const LIVES: usize = 3;
/// How long that may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);
/// VMs.
const VMS: usize = 4;

/// `boot` with a scheduler that does this, and no other.
pub fn with_scheduler<'a>(boot: Boot<'a>, deed: &str) -> Result<Boot<'a>> {
    let name = "sched-bad".to_owned();
    let programs = build_bins(std::slice::from_ref(&name))?;
    let Some(program) = programs.get(&name) else { fail!("{name} was not built") };
    let change = |system: &mut System| {
        for component in system.component.iter_mut().filter(|component| component.name == "sched") {
            component.policies = vec![Policy { name: deed.to_owned(), module: name.clone() }];
        }
        let defaults = system.defaults.split(' ').filter(|word| !word.starts_with("sched="));
        system.defaults = defaults.collect::<Vec<_>>().join(" ");
    };
    Ok(boot.system(change).program(&name, program.clone()))
}

/// Seconds of the machine's time from each start of a scheduler that does this until the core says `found_out`, of so many lives.
pub fn noticed(running: &Running, deed: &str, found_out: &str, lives: usize) -> Result<Vec<f64>> {
    running.wait_for_lines(lives, found_out, PATIENCE)?;
    let lines = running.said_until("no line says this");
    let (mut started, mut times) = (None, Vec::new());
    for line in lines {
        if line.contains(&format!("sched: policy={deed} incarnation=")) {
            started = time_of(&line);
        } else if line.contains(found_out)
            && let (Some(from), Some(to)) = (started.take(), time_of(&line))
        {
            times.push(to - from);
        }
    }
    if times.len() < lives { fail!("{deed}: {} of {lives} lives can be told apart", times.len()) } else { Ok(times) }
}

/// Seconds since boot at the beginning of a line of the core's log.
fn time_of(line: &str) -> Option<f64> {
    let (_, rest) = line.split_once('[')?;
    rest.split_once(']')?.0.trim().parse().ok()
}

fn rages(lab: &Lab, deed: &str, found_out: &str) -> Result<()> {
    let mut running = with_scheduler(lab.boot(&format!("vms=httpd*{VMS}")), deed)?.start()?;
    running.wait_for_services(BOOT)?;
    running.wait_for_monitor()?;
    let lives = if deed == FLOODS { 1 } else { LIVES };
    let end = Instant::now() + PATIENCE;
    while running.count_since(0, found_out) < lives {
        ensure(Instant::now() < end, || format!("\"{found_out}\" is not said {lives} times"))?;
        for server in 0..VMS {
            let answer = running.get(server, "/100b")?;
            ensure(answer.status == 200 && answer.body.len() == 100, || format!("{answer:?}"))?;
        }
    }
    for time in noticed(&running, deed, found_out, lives)? {
        ensure(time <= NOTICED, || format!("noticed after {time} s"))?;
    }
    // The operator is heard while it rages.
    let mark = running.mark();
    running.monitor("kill sched")?;
    running.wait_for_since(mark, "killed by request", PATIENCE)?;
    running.wait_for_since(mark, &format!("component sched restarted with policy {deed}"), PATIENCE)?;
    running.wait_for_services(BOOT)?;
    running.must_not_say(0, " ended: ")?;
    running.must_not_say(0, "FATAL")?;
    for other in ["netmux", "pager", "monitor"] {
        running.must_not_say(0, &format!("component {other} killed: "))?;
    }
    running.power_off()
}
