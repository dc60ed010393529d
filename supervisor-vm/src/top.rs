//! `vm top`: which VMs take most of the processor's time now, by what is charged to each at two moments.

use crate::list::tenant_of;
use crate::node::{Node, living};
use crate::refusal::said;
use crate::show::as_json;
use abi::control::{ControlReply, ControlRequest, status};
use abi::limits::PAGE_SIZE;
use abi::vm::{Slot, VmId};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use ilwaco::control::Error;
use ilwaco::time::{Duration, sleep};
use serde::Serialize;

/// VMs that are shown where nobody says how many.
pub const SHOWN: usize = 10;
/// VMs that are shown at most.
pub const MOST: usize = 1000;
/// Time between the two moments.
const APART: Duration = Duration::from_secs(1);

/// What is charged to a VM so far: ticks that it ran, and that others ran on its behalf; its frames, modulo 2^32, and their bytes, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Charged {
    ran: u64,
    service: u64,
    frames: u32,
    bytes: u64,
}

/// What is charged to some VMs, and when the first of them was asked for, in ticks.
struct Sample {
    tsc: u64,
    vms: Vec<(VmId, Charged)>,
}

/// What was charged to a VM between two samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    vm: VmId,
    more: Charged,
}

/// A VM, as it is shown.
#[derive(Serialize)]
struct ShownRate {
    name: Option<String>,
    id: String,
    image: String,
    tenant: Option<String>,
    cpu_permille: u64,
    ran_permille: u64,
    service_permille: u64,
    frames_per_s: u64,
    bytes_per_s: u64,
    memory_bytes: u64,
}

/// What is charged to all VMs that live.
async fn sample(node: &Node) -> Result<Sample, String> {
    let ControlReply::Account { tsc, .. } = node.ask(ControlRequest::Account, drop).await.map_err(said)? else {
        return Err(said(Error::Answer));
    };
    let (mut vms, mut from) = (Vec::new(), 0_u32);
    loop {
        // Others may ask in between: who has many VMs keeps nobody waiting.
        let reply = node.ask(ControlRequest::NextCharges { slot: Slot::new(from) }, drop).await.map_err(said)?;
        let next = match reply {
            ControlReply::Charges { vm, ran_ticks, charges } => {
                let traffic = charges.traffic;
                let charged = Charged {
                    ran: ran_ticks,
                    service: charges.service_ticks,
                    frames: traffic.rx_frames.wrapping_add(traffic.tx_frames),
                    bytes: traffic.rx_bytes.wrapping_add(traffic.tx_bytes),
                };
                vms.push((vm, charged));
                vm.slot.number().saturating_add(1)
            }
            ControlReply::Done { status: status::GO_ON, value } => u32::try_from(value).unwrap_or(0),
            ControlReply::Done { .. } => return Ok(Sample { tsc, vms }),
            _ => return Err(said(Error::Answer)),
        };
        // Each answer leads on, or the list would never end.
        if next <= from {
            return Err(said(Error::Answer));
        }
        from = next;
    }
}

/// What was charged meanwhile to those that are in both samples, or have come: the one that took most time first, and of those that took as much
/// the one with most traffic.
fn rates(before: &Sample, after: &Sample) -> Vec<Rate> {
    let mut earlier = before.vms.iter().peekable();
    let mut rates: Vec<Rate> = Vec::with_capacity(after.vms.len());
    for &(vm, now) in &after.vms {
        // Both are in the order of slots.
        while earlier.next_if(|(other, _)| other.slot.number() < vm.slot.number()).is_some() {}
        let had = earlier.peek().filter(|(other, _)| *other == vm).map_or(Charged::default(), |(_, had)| *had);
        let more = Charged {
            ran: now.ran.saturating_sub(had.ran),
            service: now.service.saturating_sub(had.service),
            frames: now.frames.wrapping_sub(had.frames),
            bytes: now.bytes.saturating_sub(had.bytes),
        };
        rates.push(Rate { vm, more });
    }
    rates.sort_by_key(|rate| core::cmp::Reverse((rate.more.ran.saturating_add(rate.more.service), rate.more.bytes)));
    rates
}

/// How many times `unit` an amount is in a second, of which there were `ticks` of `hz`.
fn each_second(amount: u64, unit: u64, ticks: u64, hz: u64) -> u64 {
    let all = (u128::from(amount) * u128::from(unit)).saturating_mul(hz.into());
    u64::try_from(all / u128::from(ticks.max(1))).unwrap_or(u64::MAX)
}

/// `vm top`: so many VMs at most.
///
/// # Errors
///
/// What the core refuses.
pub async fn top(node: &Node, limit: usize, json: bool) -> Result<String, String> {
    let before = sample(node).await?;
    sleep(APART).await;
    let after = sample(node).await?;
    let ticks = after.tsc.saturating_sub(before.tsc);
    let mut all = Vec::new();
    for Rate { vm, more } in rates(&before, &after) {
        if all.len() == limit {
            break;
        }
        // One that has ended since is not shown.
        let Some(found) = living(&mut *node.control().await, vm).await.map_err(said)? else { continue };
        let permille = |part: u64| each_second(part, 1000, ticks, 1);
        let hz = ilwaco::tsc_hz();
        let tenant = tenant_of(node, vm).await?.filter(|tenant| !tenant.is_unsaid());
        all.push(ShownRate {
            name: node.names.borrow().of(vm).map(ToString::to_string),
            id: vm.to_string(),
            image: node.image_name(found.image),
            tenant: tenant.map(|tenant| tenant.to_string()),
            cpu_permille: permille(more.ran.saturating_add(more.service)),
            ran_permille: permille(more.ran),
            service_permille: permille(more.service),
            frames_per_s: each_second(more.frames.into(), 1, ticks, hz),
            bytes_per_s: each_second(more.bytes, 1, ticks, hz),
            memory_bytes: found.frames * PAGE_SIZE,
        });
    }
    if json {
        return as_json(&all);
    }
    let mut text =
        "NAME                 ID         IMAGE           CPU %    OWN %  FRAMES/S      BYTES/S      KiB\n".to_string();
    all.iter().for_each(|vm| vm.line(&mut text));
    Ok(text)
}

impl ShownRate {
    fn line(&self, text: &mut String) {
        let percent = |permille: u64| format!("{}.{}", permille / 10, permille % 10);
        let (name, id, image) = (self.name.as_deref().unwrap_or("-"), &self.id, &self.image);
        let (cpu, own) = (percent(self.cpu_permille), percent(self.ran_permille));
        let (frames, bytes, kib) = (self.frames_per_s, self.bytes_per_s, self.memory_bytes / 1024);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<20} {id:<10} {image:<14} {cpu:>6} {own:>8} {frames:>9} {bytes:>12} {kib:>8}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(tsc: u64, vms: &[(u32, u32, u64, u64)]) -> Sample {
        let charged = |&(slot, generation, ran, bytes): &(u32, u32, u64, u64)| {
            (VmId::new(slot, generation), Charged { ran, bytes, ..Charged::default() })
        };
        Sample { tsc, vms: vms.iter().map(charged).collect() }
    }

    #[test]
    fn those_that_took_most_come_first() {
        let before = sample(0, &[(0, 1, 100, 0), (1, 1, 900, 5), (3, 1, 50, 0), (5, 1, 7, 7)]);
        let after = sample(1, &[(0, 1, 150, 9), (1, 2, 30, 5), (3, 1, 50, 0), (4, 1, 0, 3), (6, 1, 800, 0)]);
        let found: Vec<_> =
            rates(&before, &after).iter().map(|rate| (rate.vm, rate.more.ran, rate.more.bytes)).collect();
        let vm = VmId::new;
        let expected = [(vm(6, 1), 800, 0), (vm(0, 1), 50, 9), (vm(1, 2), 30, 5), (vm(4, 1), 0, 3), (vm(3, 1), 0, 0)];
        assert_eq!(found, expected, "another VM in a slot has nothing of its predecessor");
    }

    #[test]
    fn counts_that_begin_anew_are_counted_on() {
        let charged = |frames| Charged { frames, ..Charged::default() };
        let before = Sample { tsc: 0, vms: alloc::vec![(VmId::new(0, 1), charged(u32::MAX))] };
        let after = Sample { tsc: 1, vms: alloc::vec![(VmId::new(0, 1), charged(4))] };
        assert_eq!(rates(&before, &after)[0].more.frames, 5);
    }

    #[test]
    fn amounts_are_those_of_a_second() {
        assert_eq!(each_second(500, 1000, 2000, 1), 250, "a quarter of the time is 250 of 1000");
        assert_eq!(each_second(30, 1, 2_000_000, 1_000_000), 15);
        assert_eq!(each_second(u64::MAX, u64::MAX, 0, u64::MAX), u64::MAX);
    }
}
