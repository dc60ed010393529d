//! What clients notice of components that are killed.

use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::http;
use crate::machine::{Kind, Nic};
use crate::test::lab::{BOOT, Running};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub const ENTRY: Entry = Entry {
    name: "kills_under_load",
    measures: "connections lost, and the longest time without an answer, while components are killed",
    // What a client notices depends on what it was at; what is lost must repeat all the same when it is 0.
    repeats: Repeats::Within(9.0),
    run,
};

/// Web servers, and the time from one client of a server to the next. Clients come whether others are answered or not: if they waited for
/// each other, the gap would be the time after which they send again what was lost.
const VMS: usize = 4;
const EVERY: Duration = Duration::from_millis(20);
/// Kills of each component alone, and as many of all at once.
const KILLS: usize = 25;
const KILLS_LONG: usize = 1000;
const COMPONENTS: [&str; 4] = ["netmux", "pager", "sched", "monitor"];
/// From one kill to the next: no component dies again so soon after its start that its next one is delayed.
const PAUSE: Duration = Duration::from_millis(600);
/// How long a start may take, and an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What clients have noticed.
struct Noticed {
    answered: u64,
    lost: u64,
    last: Instant,
    /// The longest time in which none was answered, and the longest that one waited.
    gap: Duration,
    wait: Duration,
}

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    if bench.kind == Kind::Bochs {
        fail!("this is measured with a virtio-net, which Bochs does not have: use --machine qemu");
    }
    let kills = if bench.long { KILLS_LONG } else { KILLS };
    let mut running = bench.lab()?.boot(&format!("vms=httpd*{VMS}")).qemu_with(Nic::Virtio.qemu()).start()?;
    running.wait_for_services(BOOT)?;
    running.wait_for_monitor()?;
    let noticed = under_load(&running, kills)?;
    running.must_not_say(0, " ended: ")?;
    running.must_not_say(0, "FATAL")?;
    running.power_off()?;
    if noticed.answered == 0 {
        fail!("no request was answered");
    }
    let conditions = format!(
        "{}, virtio-net, {VMS} VMs of httpd, a client for each every {} ms; {kills} kills of each of {}, and {kills} of all at once, {} ms apart",
        bench.kind.name(),
        EVERY.as_millis(),
        COMPONENTS.join(", "),
        PAUSE.as_millis()
    );
    let figure = |metric, value, unit| Figure { metric, value, unit, conditions: conditions.clone() };
    // Far below 2^53.
    #[allow(clippy::cast_precision_loss)]
    let lost = noticed.lost as f64;
    let ms = |time: Duration| (time.as_secs_f64() * 1000.0).round();
    Ok(vec![
        figure("kills_under_load_lost", lost, "connections"),
        figure("kills_under_load_gap_ms", ms(noticed.gap), "ms"),
        figure("kills_under_load_wait_ms", ms(noticed.wait), "ms"),
    ])
}

fn under_load(running: &Running, kills: usize) -> Result<Noticed> {
    let over = AtomicBool::new(false);
    let start = Instant::now();
    let noticed = Mutex::new(Noticed { answered: 0, lost: 0, last: start, gap: Duration::ZERO, wait: Duration::ZERO });
    std::thread::scope(|scope| {
        for &server in running.services() {
            let (over, noticed) = (&over, &noticed);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    scope.spawn(move || ask(server, noticed));
                    std::thread::sleep(EVERY);
                }
            });
        }
        let result = kill(running, kills);
        over.store(true, Ordering::Relaxed);
        result
    })?;
    Ok(noticed.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// One client.
fn ask(server: SocketAddr, noticed: &Mutex<Noticed>) {
    let asked = Instant::now();
    let good = http::get(server, "/100b", PATIENCE).is_ok_and(|answer| answer.status == 200);
    let now = Instant::now();
    let mut noticed = noticed.lock().unwrap_or_else(PoisonError::into_inner);
    noticed.wait = noticed.wait.max(now - asked);
    if good {
        noticed.answered += 1;
        noticed.gap = noticed.gap.max(now.saturating_duration_since(noticed.last));
        noticed.last = noticed.last.max(now);
    } else {
        noticed.lost += 1;
    }
}

/// Each component alone, then all at once, so many times.
fn kill(running: &Running, kills: usize) -> Result<()> {
    for _ in 0..kills {
        for victims in COMPONENTS.iter().map(std::slice::from_ref).chain([&COMPONENTS[..]]) {
            std::thread::sleep(PAUSE);
            let mark = running.mark();
            // The monitor cannot say that it is done when it is among the victims; so it comes last.
            for victim in victims {
                running.type_line(&format!("kill {victim}"))?;
            }
            for victim in victims {
                running.wait_for_since(mark, &format!("component {victim} restarted"), PATIENCE)?;
            }
        }
    }
    Ok(())
}
