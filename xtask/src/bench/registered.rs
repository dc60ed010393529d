//! VMs that start with the first packet for them, of which nearly none ever gets one.

use super::http::inside;
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::http;
use crate::machine::{Kind, tap};
use crate::test::lab::{Lab, Running, number};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub const ENTRY: Entry = Entry {
    name: "registered_vms",
    measures: "VMs of a machine with 1 GiB that were created, most of them never spoken to, and answer when asked",
    repeats: Repeats::Exactly,
    run,
};

/// VMs, and as many as the target is about.
const VMS: u32 = 100_000;
const VMS_LONG: u32 = 1_000_000;
/// Memory, in MiB.
const MEGS: u32 = 1024;
/// VMs that are asked, each once.
const ASKED: u32 = 1_000;
/// How many at once.
const CLIENTS: u32 = 16;
/// The first VM's address, in a network with room for all, where the tap's host has one.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 16);
/// How long it may take on a slow host until all are there, and until one answers.
const PATIENCE: Duration = Duration::from_secs(1200);
const ANSWER: Duration = Duration::from_secs(60);

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    // Nothing is counted, so what is fast does.
    let kind = if bench.kind == Kind::Kvm { Kind::Kvm } else { Kind::Qemu };
    let vms = if bench.long { VMS_LONG } else { VMS };
    let value: u32 = inside(bench, ENTRY.name, |_| registered(&Lab::with(kind)?, vms))?;
    let conditions = format!(
        "{}, tap; {vms} httpd with start=lazy, {MEGS} MiB, no disk; {ASKED} of them, spread over all, are asked for /100b by clients on \
         the host, {CLIENTS} at once, and answer; the others are still out then",
        kind.name()
    );
    Ok(vec![Figure { metric: ENTRY.name, value: value.into(), unit: "VMs", conditions }])
}

/// As many VMs, if all that are asked answer, and only they are in.
fn registered(lab: &Lab, vms: u32) -> Result<u32> {
    let options = format!("vms=httpd*{vms} slots={vms} start=lazy net={FIRST}/8,gw=10.0.2.2");
    let boot = lab.boot(&options).megs(MEGS).tap(tap::DEVICE).system(|system| {
        // The addresses are reckoned here; nobody needs a list of a million.
        system.image.iter_mut().for_each(|image| image.ports.clear());
    });
    let running = boot.start()?;
    let end = Instant::now() + PATIENCE;
    running.wait_for("monitor: ready incarnation=", PATIENCE)?;
    while !is_out(&running, vms - 1).unwrap_or(false) {
        if Instant::now() >= end {
            fail!("the last VM is not there after {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    let failed = ask(vms);
    if !failed.is_empty() {
        fail!("{} of {ASKED} VMs do not answer: {}", failed.len(), failed[..failed.len().min(5)].join("; "));
    }
    let lines = running.monitor("frames")?;
    let metadata = lines.iter().find(|line| line.contains("owner=vm-metadata "));
    // Each that is in has a control structure and a context.
    let admitted = metadata.and_then(|line| number(line, "frames")).unwrap_or(0) / 2;
    if admitted != u64::from(ASKED) {
        fail!("{ASKED} VMs were asked and {admitted} are in");
    }
    // The neighbours of those that were asked.
    for asked in (0..ASKED).step_by(100) {
        let neighbour = (slot(vms, asked) + 1) % vms;
        if !is_out(&running, neighbour)? {
            fail!("nobody has asked VM {neighbour}, and it is in");
        }
    }
    running.must_not_say(0, "ERROR")?;
    running.must_not_say(0, "not created")?;
    running.power_off()?;
    Ok(vms)
}

fn is_out(running: &Running, slot: u32) -> Result<bool> {
    Ok(running.monitor(&format!("vm {slot}"))?.iter().any(|line| line.contains(" state=out ")))
}

/// The slot of a VM that is asked: one of each stretch, not all at the same place in it.
fn slot(vms: u32, asked: u32) -> u32 {
    let stretch = vms / ASKED;
    asked * stretch + asked * 7 % stretch
}

/// Asks the VMs. Why those that failed did.
fn ask(vms: u32) -> Vec<String> {
    let next = AtomicU32::new(0);
    let client = || {
        let mut failed = Vec::new();
        loop {
            let asked = next.fetch_add(1, Ordering::Relaxed);
            if asked >= ASKED {
                return failed;
            }
            let slot = slot(vms, asked);
            let address = SocketAddr::from((Ipv4Addr::from_bits(FIRST.to_bits() + slot), 80));
            match http::get(address, "/100b", ANSWER) {
                Ok(answer) if answer.status == 200 && answer.body.len() == 100 => {}
                Ok(answer) => failed.push(format!("VM {slot}: status {}", answer.status)),
                Err(error) => failed.push(format!("VM {slot}: {error}")),
            }
        }
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap_or_else(|_| vec!["a client fails".into()])).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_vm_is_asked_twice_and_no_neighbour_of_one_is() {
        for vms in [VMS, VMS_LONG] {
            let slots: BTreeSet<u32> = (0..ASKED).map(|asked| slot(vms, asked)).collect();
            assert!(slots.len() == ASKED as usize && slots.iter().all(|slot| *slot < vms));
            assert!((0..ASKED).step_by(100).all(|asked| !slots.contains(&((slot(vms, asked) + 1) % vms))));
        }
    }
}
