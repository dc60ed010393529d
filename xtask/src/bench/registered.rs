//! VMs that start with the first packet for them, of which nearly none ever gets one.

use super::fleet::{self, CLIENTS};
use super::http::inside;
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::http;
use crate::machine::Kind;
use crate::test::lab::Lab;

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
    let running = fleet::boot(lab, vms, MEGS, "start=lazy").start()?;
    fleet::is_there(&running, vms)?;
    let asked: Vec<u32> = (0..ASKED).map(|asked| slot(vms, asked)).collect();
    let failed = fleet::each(&asked, |slot| match http::get(fleet::address(slot), "/100b", fleet::ANSWER)? {
        answer if answer.status == 200 && answer.body.len() == 100 => Ok(()),
        answer => fail!("status {}", answer.status),
    });
    if !failed.is_empty() {
        fail!("{} of {ASKED} VMs do not answer: {}", failed.len(), failed[..failed.len().min(5)].join("; "));
    }
    let admitted = fleet::admitted(&running)?;
    if admitted != u64::from(ASKED) {
        fail!("{ASKED} VMs were asked and {admitted} are in");
    }
    // The neighbours of those that were asked.
    for asked in (0..ASKED).step_by(100) {
        let neighbour = (slot(vms, asked) + 1) % vms;
        if !fleet::is_out(&running, neighbour)? {
            fail!("nobody has asked VM {neighbour}, and it is in");
        }
    }
    running.must_not_say(0, "ERROR")?;
    running.must_not_say(0, "not created")?;
    running.power_off()?;
    Ok(vms)
}

/// The slot of a VM that is asked: one of each stretch, not all at the same place in it.
fn slot(vms: u32, asked: u32) -> u32 {
    let stretch = vms / ASKED;
    asked * stretch + asked * 7 % stretch
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
