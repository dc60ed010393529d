//! Components that die under load come back, and no VM is lost.

use super::ensure;
use crate::error::{Context, Result, fail};
use crate::http;
use crate::test::Case;
use crate::test::lab::{BOOT, Boot, Lab, Running};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    Case {
        name: "recovery: netmux",
        asserts: "netmux is killed under load: no VM is lost, requests succeed again",
        run: netmux,
    },
    Case {
        name: "recovery: pager",
        asserts: "the pager is killed under load: no VM is lost, requests succeed again",
        run: pager,
    },
    Case {
        name: "recovery: sched",
        asserts: "the scheduler is killed under load: no VM is lost, requests succeed again",
        run: sched,
    },
    Case {
        name: "recovery: monitor",
        asserts: "the monitor is killed under load and takes commands again",
        run: monitor,
    },
    Case {
        name: "recovery: all in turn",
        asserts: "every component is killed five times over, and eight servers still answer",
        run: all,
    },
];

/// VMs in these tests.
pub(super) const VMS: usize = 4;

fn netmux(lab: &Lab) -> Result<()> {
    killed_under_load(servers(lab), &["netmux"])
}

fn pager(lab: &Lab) -> Result<()> {
    killed_under_load(servers(lab), &["pager"])
}

fn sched(lab: &Lab) -> Result<()> {
    killed_under_load(servers(lab), &["sched"])
}

fn monitor(lab: &Lab) -> Result<()> {
    killed_under_load(servers(lab), &["monitor"])
}

fn all(lab: &Lab) -> Result<()> {
    killed_under_load(servers(lab), &["netmux", "pager", "sched", "monitor"].repeat(5))
}

/// The machine of these tests.
pub(super) fn servers(lab: &Lab) -> Boot<'_> {
    lab.boot(&format!("vms=httpd*{VMS}"))
}

/// Kills the components in `victims`, one after the other, while clients ask all servers without pause.
pub(super) fn killed_under_load(machine: Boot<'_>, victims: &[&str]) -> Result<()> {
    let mut running = machine.start()?;
    running.wait_for_services(BOOT)?;
    running.wait_for_monitor()?;
    under_load(&running, |served| kill_each(&running, victims, served))?;
    running.must_not_say(0, "ended:")?;
    running.must_not_say(0, "FATAL")?;
    let vms = running.monitor("vms")?;
    let alive = vms.iter().filter(|line| line.contains("incarnation=1 image=httpd")).count();
    ensure(alive == VMS, || format!("{alive} of {VMS} VMs are left:\n{}", vms.join("\n")))?;
    running.power_off()
}

/// Calls `f` while clients ask all servers without pause, with the number of requests that each has served.
pub(super) fn under_load(running: &Running, f: impl FnOnce(&[AtomicUsize]) -> Result<()>) -> Result<()> {
    let stop = AtomicBool::new(false);
    let served: Vec<AtomicUsize> = (0..VMS).map(|_| AtomicUsize::new(0)).collect();
    let addresses = running.services().to_vec();
    std::thread::scope(|scope| {
        for (address, served) in addresses.iter().zip(&served) {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // Requests may fail while a component or the server is away; that they succeed again is what counts.
                    let answer = http::get(*address, "/2258b", Duration::from_secs(5));
                    if answer.is_ok_and(|answer| answer.status == 200 && answer.body.len() == 2258) {
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let result = f(&served);
        stop.store(true, Ordering::Relaxed);
        result
    })
}

pub(super) fn kill_each(running: &Running, victims: &[&str], served: &[AtomicUsize]) -> Result<()> {
    for victim in victims {
        more_requests(served).context(|| format!("before {victim} was killed"))?;
        let mark = running.mark();
        // Not `monitor`: the monitor cannot say that it is done when it is the victim.
        running.type_line(&format!("kill {victim}"))?;
        running.wait_for_since(mark, &format!("component {victim} restarted"), Duration::from_secs(20))?;
        more_requests(served).context(|| format!("after {victim} was killed"))?;
        running.wait_for_monitor()?;
    }
    Ok(())
}

/// Waits until every server has served five more requests.
pub(super) fn more_requests(served: &[AtomicUsize]) -> Result<()> {
    let before: Vec<usize> = served.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    let end = Instant::now() + Duration::from_secs(45);
    loop {
        let now = served.iter().map(|count| count.load(Ordering::Relaxed));
        let behind = now.zip(&before).position(|(now, before)| now < before + 5);
        let Some(behind) = behind else { return Ok(()) };
        if Instant::now() >= end {
            let now: Vec<usize> = served.iter().map(|count| count.load(Ordering::Relaxed)).collect();
            fail!("server {behind} did not serve five requests within 45 s; all: {before:?}, then {now:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
