//! Ten thousand web servers on one machine: until all of them are admitted.

use super::mechanism::parse;
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::machine::Kind;
use crate::test::lab::{Lab, Running};
use std::time::{Duration, Instant};

pub const ENTRY: Entry = Entry {
    name: "admit_10000",
    measures: "machine time until 10,000 web servers are admitted, and how many of them the core had to admit by itself",
    // The emulator's speed is the host's.
    repeats: Repeats::Within(0.5),
    run,
};

/// Web servers.
pub const VMS: u64 = 10_000;
/// Memory of the machine in MiB.
const MEGS: u32 = 1024;
/// How long it may take on a slow host.
const PATIENCE: Duration = Duration::from_secs(600);

fn run(_: &Bench) -> Result<Vec<Figure>> {
    let lab = Lab::with(Kind::Qemu)?;
    let running = start(&lab, VMS, MEGS)?;
    let Admitted { ms, late } = admitted(&running, VMS, PATIENCE)?;
    running.power_off()?;
    let conditions = format!("QEMU, {VMS} httpd, {MEGS} MiB");
    // Small numbers.
    #[allow(clippy::cast_precision_loss)]
    let figure = |metric, value: u64, unit, more: &str| Figure {
        metric,
        value: value as f64,
        unit,
        conditions: format!("{conditions}{more}"),
    };
    Ok(vec![
        figure("admit_10000_fallbacks", late, "VMs", ""),
        figure("admit_10000_ms", ms, "ms", "; machine time from the core's start"),
    ])
}

/// A machine that starts so many web servers, which nobody outside reaches.
pub fn start(lab: &Lab, vms: u64, megs: u32) -> Result<Running> {
    let boot = lab.boot(&format!("vms=httpd*{vms} net=10.0.0.16/16,gw=10.0.0.2")).megs(megs).system(|system| {
        system.image.iter_mut().for_each(|image| image.ports.clear());
    });
    let running = boot.start()?;
    running.wait_for_monitor()?;
    Ok(running)
}

/// How VMs were admitted.
pub struct Admitted {
    /// Milliseconds of the machine's time from the core's start until the last one was.
    pub ms: u64,
    /// Those that the core admitted because the scheduler had left them waiting.
    pub late: u64,
}

/// Waits until so many VMs are admitted.
pub fn admitted(running: &Running, vms: u64, patience: Duration) -> Result<Admitted> {
    let end = Instant::now() + patience;
    loop {
        let frames = running.monitor("frames")?;
        let metadata = frames.iter().find(|line| line.contains("owner=vm-metadata "));
        let metadata = metadata.map_or(Ok(0), |line| parse(line, "frames"))?;
        if metadata >= 2 * vms {
            let machine = running.monitor("machine")?.join(" ");
            let ms = parse(&machine, "admitted_ticks")? * 1000 / parse(&machine, "tsc_hz")?.max(1);
            return Ok(Admitted { ms, late: parse(&machine, "late")? });
        }
        if Instant::now() >= end {
            fail!("{} of {vms} VMs are admitted after {} s", metadata / 2, patience.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
