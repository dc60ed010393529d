//! What boot leaves, and how long it takes.

use super::mechanism::parse;
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Context, Result, fail};
use crate::machine::Kind;
use crate::test::lab::{BOOT, Lab};

pub const ENTRY: Entry = Entry {
    name: "boot",
    measures: "frames that boot code still owns when the first guest runs, and the time until eight web servers serve",
    repeats: Repeats::Within(0.1),
    run,
};

/// Web servers.
const VMS: usize = 8;

fn run(_: &Bench) -> Result<Vec<Figure>> {
    let lab = Lab::with(Kind::Qemu)?;
    let running = lab.boot(&format!("vms=httpd*{VMS}")).deterministic().start()?;
    let last = running.wait_for_lines(VMS, "httpd: serving", BOOT)?.pop().unwrap_or_default();
    running.wait_for_monitor()?;
    let frames = running.monitor("frames")?;
    let left = frames.iter().find(|line| line.contains("owner=loader ")).map_or(Ok(0), |line| parse(line, "frames"))?;
    running.power_off()?;
    let left = u32::try_from(left).map_err(|error| error.to_string())?;
    Ok(vec![
        Figure {
            metric: "boot_frames_left",
            value: left.into(),
            unit: "frames",
            conditions: format!("the owner `loader` in the monitor's `frames` while {VMS} web servers serve"),
        },
        Figure {
            metric: "boot_to_guests_ms",
            value: milliseconds(&last)?,
            unit: "ms",
            conditions: format!(
                "from the loader's first line until {VMS} web servers serve, by the log's own times; QEMU, SVM, whose time goes on by a nanosecond with each instruction"
            ),
        },
    ])
}

/// When a line was said: `[    0.123456] INFO ...`.
pub fn milliseconds(line: &str) -> Result<f64> {
    let time = line.trim_start().strip_prefix('[').and_then(|rest| rest.split(']').next()).map(str::trim);
    let Some(time) = time else { fail!("no time in: {line}") };
    let seconds: f64 = time.parse().context(|| format!("the time in: {line}"))?;
    Ok(seconds * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::milliseconds;

    #[test]
    fn times_of_lines() {
        let close = |line: &str, ms: f64| (milliseconds(line).unwrap() - ms).abs() < 0.001;
        assert!(close("[    0.210320] INFO  guest: vm1.1: httpd: serving", 210.32));
        assert!(close("[   12.000001] INFO  core", 12_000.001));
        assert!(milliseconds("FATAL").is_err());
    }
}
