//! VMs that lie on disks which fail or vanish.

use super::ensure;
use super::on_disk::{MEMBERS, VMS, lie_there, members, start};
use super::pooled::requests;
use crate::error::{Context, Result};
use crate::http;
use crate::machine::Kind;
use crate::test::Case;
use crate::test::lab::{Lab, Running};
use crate::workspace::scratch;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    Case {
        name: "qemu: on disk: faults: bad sectors",
        asserts: "a web server that a disk does not take stays in the pool, one whose read fails once comes in, one that cannot be read ends with that reason, and all others answer",
        run: bad_sectors,
    },
    Case {
        name: "qemu: on disk: faults: a disk vanishes",
        asserts: "when a disk is pulled out, web servers that lie on it end with that reason, and all others go on, out and in",
        run: vanished,
    },
];

/// VMs whose regions have a bad sector: one cannot be written, one cannot be read once, one not at all. Their regions lie on the same disk.
const NOT_WRITTEN: usize = 4;
const READ_LATE: usize = 7;
const NOT_READ: usize = 10;
/// Where a member has its first stripe unit, and how long each is, in blocks.
const DATA: usize = 16;
const UNIT: usize = 16;
const END: &str = "ended: its memory could not be read from the disks";
const SOON: Duration = Duration::from_secs(90);

/// A rule of QEMU's by which the first block of a VM's region is bad.
fn rule(vm: usize, event: &str, once: &str) -> String {
    let sector = (DATA + vm / MEMBERS * UNIT) * 8;
    format!("[inject-error]\nevent = \"{event}\"\nerrno = \"5\"\nsector = \"{sector}\"\nonce = \"{once}\"\n\n")
}

/// What the log says of a VM that could not be read.
fn end_of(vm: usize) -> String {
    format!("vm{vm}.1 {END}")
}

/// Wakes a VM that does not answer any more, and waits until it has ended as it should. Its alarm may have done so before.
fn ends(running: &Running, vm: usize) -> Result<()> {
    let answer = http::get(running.services()[vm], "/status.json", Duration::from_secs(2));
    ensure(answer.is_err(), || format!("VM {vm} answers, although it cannot be read"))?;
    running.wait_for(&end_of(vm), SOON)?;
    Ok(())
}

/// Waits until these lie on the disks, or could not be read when an alarm called them in from there: a server has one a second after its last request.
fn await_there(running: &Running, vms: &[usize]) -> Result<Vec<usize>> {
    let end = Instant::now() + SOON;
    loop {
        let there = lie_there(running)?;
        if vms.iter().all(|vm| there.contains(vm) || running.count_since(0, &end_of(*vm)) == 1) {
            return Ok(there);
        }
        ensure(Instant::now() < end, || format!("{there:?} lie on the disks, and not all of {vms:?}"))?;
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn round(running: &Running, round: u64, but: &[usize]) -> Result<()> {
    for vm in (0..VMS).filter(|vm| !but.contains(vm)) {
        let requests = requests(running, vm)?;
        ensure(requests == round, || format!("VM {vm} has answered {requests} requests, in round {round}"))?;
    }
    Ok(())
}

fn bad_sectors(_: &Lab) -> Result<()> {
    let dir = scratch("on-disk-faults")?;
    let mut images = members(&dir)?;
    let rules = dir.path().join("rules");
    let text =
        rule(NOT_WRITTEN, "write_aio", "off") + &rule(READ_LATE, "read_aio", "on") + &rule(NOT_READ, "read_aio", "off");
    std::fs::write(&rules, text).context(|| "cannot write the rules".into())?;
    let bad = &mut images[NOT_READ % MEMBERS];
    *bad = PathBuf::from(format!("blkdebug:{}:{}", rules.display(), bad.display()));
    let running = start(&Lab::with(Kind::Qemu)?, &images)?;
    round(&running, 1, &[])?;
    running.wait_for(&format!("vm{NOT_WRITTEN}.1 stays in the pool: the disks did not take it"), SOON)?;
    let there = await_there(&running, &[READ_LATE, NOT_READ])?;
    ensure(!there.contains(&NOT_WRITTEN), || format!("VM {NOT_WRITTEN} lies where it cannot be written: {there:?}"))?;
    ends(&running, NOT_READ)?;
    round(&running, 2, &[NOT_READ])?;
    round(&running, 3, &[NOT_READ])?;
    ensure(running.count_since(0, " ended: ") == 1, || "others have ended, too".into())?;
    running.power_off()
}

fn vanished(_: &Lab) -> Result<()> {
    let dir = scratch("on-disk-faults")?;
    let mut running = start(&Lab::with(Kind::Qemu)?, &members(&dir)?)?;
    round(&running, 1, &[])?;
    running.machine().emulator("drive_del disk1")?;
    let there = lie_there(&running)?;
    let lost: Vec<usize> = there.iter().copied().filter(|vm| vm % MEMBERS == 1).collect();
    ensure(lost.len() >= 4 && there.len() >= 3 * lost.len() - 6, || format!("{there:?} lie on the disks"))?;
    // Those who lie elsewhere come in, one after the other, and others go out for them.
    round(&running, 2, &lost)?;
    ends(&running, lost[0])?;
    round(&running, 3, &lost)?;
    for &vm in &lost[1..] {
        ends(&running, vm)?;
    }
    ensure(running.count_since(0, " ended: ") == lost.len(), || "others have ended, too".into())?;
    running.power_off()
}

const _: () = assert!(NOT_WRITTEN % MEMBERS == NOT_READ % MEMBERS && READ_LATE % MEMBERS == NOT_READ % MEMBERS);
