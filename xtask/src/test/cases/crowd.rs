//! Many VMs on one machine.

use super::ensure;
use crate::error::{Result, fail};
use crate::machine::Kind;
use crate::test::Case;
use crate::test::lab::{Boot, Lab, Running, number};
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[Case {
    name: "qemu: a thousand VMs",
    asserts: "a machine with memory for a thousand reserves admits a thousand web servers at once, by its gatekeeper, and no component is killed",
    run: thousand,
}];

/// Memory in MiB: a thousand reserves of 96 KiB, and some for everything else.
const MEGS: u32 = 112;
/// How long it may take on a slow host.
const PATIENCE: Duration = Duration::from_secs(300);
/// Milliseconds of the machine's time that it may take, in which it executes a billion instructions a second.
const MOST_MS: u64 = 1_000;

/// How VMs were admitted.
pub struct Admitted {
    /// Milliseconds of the machine's time from the core's start until the last one was.
    pub ms: u64,
    /// Those that the core admitted because the scheduler had left them waiting.
    pub late: u64,
}

/// A machine that starts so many web servers, which nobody outside reaches, and whose time counts instructions.
pub fn crowd(lab: &Lab, vms: u64, megs: u32) -> Boot<'_> {
    lab.boot(&format!("vms=httpd*{vms} net=10.0.0.16/16,gw=10.0.0.2")).megs(megs).deterministic().system(|system| {
        system.image.iter_mut().for_each(|image| image.ports.clear());
    })
}

/// Waits until so many VMs are admitted.
pub fn admitted(running: &Running, vms: u64, patience: Duration) -> Result<Admitted> {
    let end = Instant::now() + patience;
    let of = |lines: &[String], key: &str| lines.iter().find_map(|line| number(line, key));
    running.wait_for("monitor: ready incarnation=", patience)?;
    loop {
        let lines = running.monitor("frames")?;
        let metadata = lines.iter().find(|line| line.contains("owner=vm-metadata "));
        let metadata = metadata.and_then(|line| number(line, "frames")).unwrap_or(0);
        if metadata >= 2 * vms {
            let machine = running.monitor("machine")?;
            return match (of(&machine, "admitted_ticks"), of(&machine, "tsc_hz"), of(&machine, "late")) {
                (Some(ticks), Some(hz @ 1..), Some(late)) => Ok(Admitted { ms: ticks * 1000 / hz, late }),
                _ => fail!("`machine` says {machine:?}"),
            };
        }
        if Instant::now() >= end {
            fail!("{} of {vms} VMs are admitted after {} s", metadata / 2, patience.as_secs());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn thousand(_: &Lab) -> Result<()> {
    let lab = Lab::with(Kind::Qemu)?;
    let running = crowd(&lab, 1000, MEGS).start()?;
    let Admitted { ms, late } = admitted(&running, 1000, PATIENCE)?;
    ensure(late == 0, || format!("the core had to admit {late} VMs"))?;
    ensure(ms <= MOST_MS, || format!("the last one was admitted after {ms} ms"))?;
    running.must_not_say(0, " killed: ")?;
    running.must_not_say(0, " ended: ")?;
    running.power_off()
}
