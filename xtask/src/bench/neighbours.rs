//! What neighbours that compute do to a VM that sleeps and wakes.

use super::mechanism::{measure, parse};
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::manifest::model::Image;
use crate::test::lab::{Running, number};
use std::fmt::Write;
use std::time::{Duration, Instant};

pub const ALARMS: Entry = Entry {
    name: "alarm_late_p99_us_16_loops",
    measures: "how late the end of an idle comes beside 16 VMs that compute",
    repeats: Repeats::Exactly,
    run: alarms,
};

pub const WEIGHTS: Entry = Entry {
    name: "weights_error",
    measures: "largest distance of a VM's share of the CPU over a second from what its weight entitles it to",
    repeats: Repeats::Within(0.5),
    run: weights,
};

/// VMs that compute.
const LOOPS: u64 = 16;

// Microseconds are far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn alarms(bench: &Bench) -> Result<Vec<Figure>> {
    let inside = bench.inside()?;
    let lines = measure(bench.lab()?, &format!("bench*{} sched=fair", LOOPS + 1), 1, "alarms")?;
    let of = |key| parse(&lines[0], key);
    let conditions = format!(
        "{inside}; sched=fair; {LOOPS} VMs that compute, one that idles for 1 to 20 ms, drawn evenly; p99 of {} (p50 {}, most {})",
        of("samples")?,
        of("p50")?,
        of("most")?
    );
    Ok(vec![Figure { metric: ALARMS.name, value: of("p99")? as f64, unit: "us", conditions }])
}

/// Who shares a CPU: weight, and microseconds that it computes and idles in turn; one that never idles has none to idle.
const SHARERS: [(u32, u64, u64); 8] = [
    // Loops.
    (100, 1, 0),
    (100, 1, 0),
    (300, 1, 0),
    (50, 1, 0),
    // One that is half busy, and one that gives the CPU up for an instant before its quantum ends.
    (100, 5_000, 5_000),
    (100, 9_900, 1),
    // A server, which wants a hundredth, and a game: an update each 100 ms.
    (100, 100, 9_900),
    (100, 2_000, 98_000),
];
/// Seconds of the machine, in each of which shares are measured.
const SECONDS: usize = 5;
/// How long a second may take on a busy host.
const PATIENCE: Duration = Duration::from_secs(600);

fn weights(bench: &Bench) -> Result<Vec<Figure>> {
    let inside = bench.inside()?;
    let names = (0..SHARERS.len()).map(|index| format!("sharer-{index}")).collect::<Vec<_>>().join(",");
    let running = bench.lab()?.boot(&format!("vms={names} sched=fair")).deterministic().system(|system| {
        let Some(like) = system.image.iter().find(|image| image.name == "bench").cloned() else { return };
        // A machine has 16 images at most; the manifest's own options name this one.
        system.image.retain(|image| image.name == "httpd");
        system.image.extend(SHARERS.iter().enumerate().map(|(index, &(weight, run, idle))| Image {
            name: format!("sharer-{index}"),
            module: Some("bench".to_owned()),
            args: if idle == 0 { "bench=work".to_owned() } else { format!("bench=busy run={run} idle={idle}") },
            weight: Some(weight),
            ..like.clone()
        }));
    });
    let running = running.start()?;
    running.wait_for_monitor()?;
    let hz = machine(&running, "tsc_hz")?;
    // Everybody has begun, and what was planned at the start is done.
    pass(&running, hz)?;
    let (mut worst, mut notes) = (0.0_f64, String::new());
    for _ in 0..SECONDS {
        let before = ran(&running)?;
        pass(&running, hz)?;
        let after = ran(&running)?;
        let ran: Vec<u64> = before.iter().zip(&after).map(|(before, after)| after - before).collect();
        let error = error(&ran);
        // Writing to a string cannot fail.
        let _ = writeln!(notes, "    ticks {ran:?}: {error:.4}");
        worst = worst.max(error);
    }
    bench.note(notes);
    running.power_off()?;
    let conditions = format!(
        "{inside}; sched=fair; weights 100, 100, 300 and 50 compute, one of 100 each computes for 5 of 10 ms, for 9.9 ms and idles for 1 us, \
         for 0.1 of 10 ms, and for 2 of 100 ms; the worst of them in the worst of {SECONDS} seconds"
    );
    Ok(vec![Figure { metric: WEIGHTS.name, value: (worst * 10_000.0).round() / 10_000.0, unit: "ratio", conditions }])
}

/// The largest distance of a share from what its VM is entitled to: by weight, where those that want less than that get what they want.
// Ticks of a second, and weights.
#[allow(clippy::cast_precision_loss)]
fn error(ran: &[u64]) -> f64 {
    let all: f64 = ran.iter().map(|&ticks| ticks as f64).sum();
    let wants = |index: usize| match SHARERS[index] {
        (_, _, 0) => 1.0,
        (_, run, idle) => run as f64 / (run + idle) as f64,
    };
    let mut content = [false; SHARERS.len()];
    let due: Vec<f64> = loop {
        let indices = || 0..SHARERS.len();
        let left = 1.0 - indices().filter(|&i| content[i]).map(wants).sum::<f64>();
        let weights: f64 = indices().filter(|&i| !content[i]).map(|i| f64::from(SHARERS[i].0)).sum();
        let share = |i: usize| left * f64::from(SHARERS[i].0) / weights;
        match indices().find(|&i| !content[i] && wants(i) <= share(i)) {
            Some(index) => content[index] = true,
            None => break indices().map(|i| if content[i] { wants(i) } else { share(i) }).collect(),
        }
    };
    ran.iter().zip(due).map(|(&ticks, due)| (ticks as f64 / all - due).abs()).fold(0.0, f64::max)
}

/// Lets so many ticks of the machine pass, or a little more.
fn pass(running: &Running, ticks: u64) -> Result<()> {
    let (start, end) = (machine(running, "tsc")?, Instant::now() + PATIENCE);
    while machine(running, "tsc")? < start + ticks {
        if Instant::now() > end {
            fail!("{ticks} ticks have not passed after {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A number that the operator's line says of the machine.
fn machine(running: &Running, key: &str) -> Result<u64> {
    let lines = running.monitor("machine")?;
    lines.iter().find_map(|line| number(line, key)).ok_or_else(|| format!("no {key}: {lines:?}").into())
}

/// The ticks that each VM has run.
fn ran(running: &Running) -> Result<Vec<u64>> {
    let of = |slot| {
        let lines = running.monitor(&format!("vm {slot}"))?;
        lines
            .iter()
            .find_map(|line| number(line, "ran_ticks"))
            .ok_or_else(|| format!("no ticks of VM {slot}: {lines:?}").into())
    };
    (0..SHARERS.len()).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_that_are_due_are_no_error() {
        // Wants of 0.01 and 0.02 are below a share; the rest is by weight: 100, 100, 300, 50, 100, 100 of 750.
        let rest = |weight: u64| 970_000 * weight / 750;
        let due = [rest(100), rest(100), rest(300), rest(50), rest(100), rest(100), 10_000, 20_000];
        assert!(error(&due) < 1e-5, "{}", error(&due));
        let mut off = due;
        off[2] -= 50_000;
        off[3] += 50_000;
        assert!((error(&off) - 0.05).abs() < 1e-4, "{}", error(&off));
    }
}
