//! Whether what VMs are charged with, what was idle and what is the node's own add up to the time that has passed.

use super::victims::{HALF, LOOP, VICTIMS, asked};
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::machine::Kind;
use crate::test::lab::{Lab, Running, number};
use std::fmt::Write;
use std::time::Duration;

pub const ENTRY: Entry = Entry {
    name: "accounting_error",
    measures: "distance of the sum of all charges from the time that has passed, over that",
    // It is next to nothing; what of it depends on when the operator asks.
    repeats: Repeats::Within(1.0),
    run,
};

/// Emulators with a busy host take minutes for a second.
const PATIENCE: Duration = Duration::from_secs(600);

/// What `charges` on the operator's line adds up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sums {
    /// The machine's time.
    pub tsc: u64,
    /// What VMs ran, and what was done on their behalf, those that have ended included.
    pub vms: u64,
    /// What was done on the behalf of those that live.
    pub service: u64,
    /// Idle ticks, and those that are the node's own.
    pub idle: u64,
    /// See `idle`.
    pub own: u64,
}

/// The sums of what `charges` says.
pub fn sums(lines: &[String]) -> Result<Sums> {
    let Some(account) = lines.iter().find(|line| line.contains("account tsc=")) else { fail!("no sums: {lines:?}") };
    let of = |line: &str, key: &str| match number(line, key) {
        Some(value) => Ok(value),
        None => fail!("no {key}= in: {line}"),
    };
    let mut vms = of(account, "ended_ran_ticks")? + of(account, "ended_service_ticks")?;
    let mut service = 0;
    for line in lines.iter().filter(|line| line.contains("charges index=")) {
        vms += of(line, "ran_ticks")? + of(line, "service_ticks")?;
        service += of(line, "service_ticks")?;
    }
    Ok(Sums {
        tsc: of(account, "tsc")?,
        vms,
        service,
        idle: of(account, "idle_ticks")?,
        own: of(account, "own_ticks")?,
    })
}

/// What is missing from the time between two of them, or too much, over that.
// Ticks of seconds are far below 2^53.
#[allow(clippy::cast_precision_loss)]
pub fn error(before: &Sums, after: &Sums) -> f64 {
    let of = |sums: &Sums| sums.vms + sums.idle + sums.own;
    let (charged, passed) = (of(after) - of(before), (after.tsc - before.tsc).max(1));
    charged.abs_diff(passed) as f64 / passed as f64
}

/// Web servers that are asked beside a VM that computes; then all of them end but one server.
fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let (lab, mut notes) = (Lab::with(Kind::Qemu)?, String::new());
    let running = asked(&lab, "fair", HALF, VICTIMS, &[LOOP])?;
    running.wait_for_monitor()?;
    let ask = |running: &Running| sums(&running.monitor("charges")?);
    let start = ask(&running)?;
    running.wait_for("load: requests=", PATIENCE)?;
    let loaded = ask(&running)?;
    for slot in 1..=VICTIMS {
        running.monitor(&format!("destroy {slot}"))?;
    }
    for component in ["sched", "pager", "netmux"] {
        running.monitor(&format!("kill {component}"))?;
    }
    running.wait_for_lines(3, " restarted with policy ", PATIENCE)?;
    let ended = ask(&running)?;
    running.power_off()?;
    let mut worst = 0.0_f64;
    for (what, before, after) in [("under load", start, loaded), ("while VMs and components end", loaded, ended)] {
        let error = error(&before, &after);
        let passed = after.tsc - before.tsc;
        // Writing to a string cannot fail.
        let _ = writeln!(
            notes,
            "    {what}: of {passed} ticks VMs {}, idle {}, the node {}: {error:.6}",
            after.vms - before.vms,
            after.idle - before.idle,
            // What netmux has still to say of whom counts for the node until then.
            i128::from(after.own) - i128::from(before.own)
        );
        worst = worst.max(error);
    }
    bench.note(notes);
    let conditions = format!(
        "QEMU, SVM, one CPU, TSC counts instructions (icount shift=0); sched=fair; {VICTIMS} httpd asked {} times a second beside a VM that computes, \
         then one VM is left and three components are killed; the worse of both; what `charges` adds up to",
        HALF.0
    );
    Ok(vec![Figure {
        metric: ENTRY.name,
        value: (worst * 1_000_000.0).round() / 1_000_000.0,
        unit: "ratio",
        conditions,
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_are_added_up_and_what_is_missing_is_seen() {
        let line = |ran: u64, service: u64| {
            format!("charges index=0 incarnation=1 ran_ticks={ran} service_ticks={service} rx_frames=1")
        };
        let account = |tsc: u64, idle: u64| {
            format!(
                "account tsc={tsc} idle_ticks={idle} guest_ticks=9 service_ticks=9 own_ticks=5 ended_ran_ticks=2 ended_service_ticks=1"
            )
        };
        let before = sums(&[line(10, 20), line(30, 40), account(200, 92)]).unwrap();
        assert_eq!(before, Sums { tsc: 200, vms: 103, service: 60, idle: 92, own: 5 });
        let after = sums(&[line(60, 20), line(30, 80), account(300, 92)]).unwrap();
        assert_eq!(error(&before, &after).to_bits(), 0.1_f64.to_bits());
        assert!(sums(&[line(1, 2)]).is_err() && sums(&["account tsc=1 idle_ticks=".to_owned()]).is_err());
    }
}
