//! `vm top`: which VMs take most of the processor's time now, by what is charged to each at two moments.

use crate::list::tenant_of;
use crate::node::{Node, living};
use crate::refusal::said;
use crate::show::as_json;
use crate::walk::Walk;
use abi::control::{ControlReply, ControlRequest};
use abi::limits::PAGE_SIZE;
use abi::vm::VmId;
use alloc::collections::BinaryHeap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::{Ordering, Reverse};
use core::fmt::Write;
use core::iter::Peekable;
use ilwaco::control::Error;
use ilwaco::time::{Duration, sleep};
use serde::Serialize;

/// VMs that are shown where nobody says how many.
pub const SHOWN: usize = 10;
/// VMs that are shown at most.
pub const MOST: usize = 1000;
/// Memory that an answer takes for each VM that it shows.
const RATE_BYTES: usize = 1200;
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

/// What was charged to VMs at a moment, in the order of their slots. Those to which nothing was are not in it.
#[derive(Default)]
struct Sample {
    /// Each but the last has [`PIECE`], so that nothing is moved when more come.
    pieces: Vec<Vec<(VmId, Charged)>>,
}

/// VMs of a piece.
const PIECE: usize = 1024;
/// VMs of a sample at most: what is asked for by whoever reaches this VM shall not take all memory.
const SAMPLED: usize = 131_072;

impl Sample {
    /// False where there is no room.
    fn push(&mut self, vm: VmId, charged: Charged) -> bool {
        if charged == Charged::default() {
            return true;
        }
        if self.pieces.last().is_none_or(|piece| piece.len() == PIECE) {
            let mut piece = Vec::new();
            if self.pieces.len() == SAMPLED / PIECE || piece.try_reserve_exact(PIECE).is_err() {
                return false;
            }
            self.pieces.push(piece);
        }
        self.pieces.last_mut().is_some_and(|piece| {
            piece.push((vm, charged));
            true
        })
    }

    fn iter(&self) -> impl Iterator<Item = &(VmId, Charged)> {
        self.pieces.iter().flatten()
    }
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

impl Rate {
    /// Whoever has more is shown first: more time, and of those that took as much more traffic, and then the lower slot.
    fn rank(&self) -> (u64, u64, Reverse<u32>) {
        let Charged { ran, service, bytes, .. } = self.more;
        (ran.saturating_add(service), bytes, Reverse(self.vm.slot.number()))
    }
}

impl Ord for Rate {
    fn cmp(&self, other: &Rate) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Rate {
    fn partial_cmp(&self, other: &Rate) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The VMs to which most was charged since a sample, found one by one in the order of their slots.
struct Best<'s, I: Iterator<Item = &'s (VmId, Charged)>> {
    before: Peekable<I>,
    limit: usize,
    /// The least of them on top.
    best: BinaryHeap<Reverse<Rate>>,
}

impl<'s, I: Iterator<Item = &'s (VmId, Charged)>> Best<'s, I> {
    fn new(before: I, limit: usize) -> Self {
        Best { before: before.peekable(), limit, best: BinaryHeap::with_capacity(limit.saturating_add(1)) }
    }

    /// What is charged to the next VM now. Another one in the slot has nothing of its predecessor.
    fn add(&mut self, vm: VmId, now: Charged) {
        while self.before.next_if(|(other, _)| other.slot.number() < vm.slot.number()).is_some() {}
        let had = self.before.peek().filter(|(other, _)| *other == vm).map_or(Charged::default(), |(_, had)| *had);
        let more = Charged {
            ran: now.ran.saturating_sub(had.ran),
            service: now.service.saturating_sub(had.service),
            frames: now.frames.wrapping_sub(had.frames),
            bytes: now.bytes.saturating_sub(had.bytes),
        };
        self.best.push(Reverse(Rate { vm, more }));
        if self.best.len() > self.limit {
            self.best.pop();
        }
    }

    /// The one that has most first.
    fn into_rates(self) -> Vec<Rate> {
        self.best.into_sorted_vec().into_iter().map(|Reverse(rate)| rate).collect()
    }
}

/// What is charged to a VM, as the core says it.
fn charged(reply: ControlReply) -> Result<(VmId, (VmId, Charged)), Error> {
    let ControlReply::Charges { vm, ran_ticks, charges } = reply else { return Err(Error::Answer) };
    let traffic = charges.traffic;
    let charged = Charged {
        ran: ran_ticks,
        service: charges.service_ticks,
        frames: traffic.rx_frames.wrapping_add(traffic.tx_frames),
        bytes: traffic.rx_bytes.wrapping_add(traffic.tx_bytes),
    };
    Ok((vm, (vm, charged)))
}

/// Gives each VM that lives to `each`, with what is charged to it, as long as that is true. When they began to be asked for, in ticks.
async fn sample(node: &Node, mut each: impl FnMut(VmId, Charged) -> bool) -> Result<u64, String> {
    let ControlReply::Account { tsc, .. } = node.ask(ControlRequest::Account, drop).await.map_err(said)? else {
        return Err(said(Error::Answer));
    };
    let mut walk = Walk::new(node, 0, (|slot| ControlRequest::NextCharges { slot }, charged));
    loop {
        let some = walk.next().await.map_err(said)?;
        if some.is_empty() {
            return Ok(tsc);
        }
        for (vm, charged) in some {
            if !each(vm, charged) {
                return Err("this VM has no memory for the figures of all others now: try again, or look at /metrics, which has those of the first 2,000".to_string());
            }
        }
    }
}

/// How many times `unit` an amount is in a second, of which there were `ticks` of `hz`.
fn each_second(amount: u64, unit: u64, ticks: u64, hz: u64) -> u64 {
    let all = (u128::from(amount) * u128::from(unit)).saturating_mul(hz.into());
    u64::try_from(all / u128::from(ticks.max(1))).unwrap_or(u64::MAX)
}

/// The VMs that took most of the processor's time within a second, so many at most, and how many ticks it had.
async fn compare(node: &Node, limit: usize) -> Result<(u64, Vec<Rate>), String> {
    // One at a time: each takes memory for all VMs.
    let _turn = node.samples.lock().await;
    let most = node.at_most(SAMPLED).await?;
    let _room = node.room(most * size_of::<(VmId, Charged)>() + limit * RATE_BYTES)?;
    let mut before = Sample::default();
    let began = sample(node, |vm, charged| before.push(vm, charged)).await?;
    sleep(APART).await;
    let mut best = Best::new(before.iter(), limit);
    let ended = sample(node, |vm, charged| {
        best.add(vm, charged);
        true
    })
    .await?;
    Ok((ended.saturating_sub(began), best.into_rates()))
}

/// `vm top`: so many VMs at most.
///
/// # Errors
///
/// What the core refuses.
pub async fn top(node: &Node, limit: usize, json: bool) -> Result<String, String> {
    let (ticks, rates) = compare(node, limit).await?;
    let mut all = Vec::new();
    for Rate { vm, more } in rates {
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

    type Seen = (u32, u32, u64, u64);

    fn rates(before: &[Seen], after: &[Seen], limit: usize) -> Vec<(VmId, u64, u64)> {
        let charged = |&(slot, generation, ran, bytes): &Seen| {
            (VmId::new(slot, generation), Charged { ran, bytes, ..Charged::default() })
        };
        let mut sample = Sample::default();
        assert!(before.iter().map(charged).all(|(vm, charged)| sample.push(vm, charged)));
        let mut best = Best::new(sample.iter(), limit);
        after.iter().map(charged).for_each(|(vm, charged)| best.add(vm, charged));
        best.into_rates().iter().map(|rate| (rate.vm, rate.more.ran, rate.more.bytes)).collect()
    }

    #[test]
    fn those_that_took_most_come_first() {
        let before = [(0, 1, 100, 0), (1, 1, 900, 5), (2, 1, 0, 0), (3, 1, 50, 0), (5, 1, 7, 7)];
        let after = [(0, 1, 150, 9), (1, 2, 30, 5), (2, 1, 0, 0), (3, 1, 50, 0), (4, 1, 0, 3), (6, 1, 800, 0)];
        let vm = VmId::new;
        let expected = [
            (vm(6, 1), 800, 0),
            (vm(0, 1), 50, 9),
            (vm(1, 2), 30, 5),
            (vm(4, 1), 0, 3),
            (vm(2, 1), 0, 0),
            (vm(3, 1), 0, 0),
        ];
        assert_eq!(rates(&before, &after, 9), expected, "another VM in a slot has nothing of its predecessor");
        assert_eq!(rates(&before, &after, 3), expected[..3]);
        assert_eq!(rates(&before, &after, 0), []);
    }

    #[test]
    fn a_sample_takes_so_much_memory_and_no_more() {
        let (mut sample, vm) = (Sample::default(), |slot| VmId::new(slot, 1));
        let ran = Charged { ran: 1, ..Charged::default() };
        let slots = 0..u32::try_from(SAMPLED).expect("small");
        assert!(slots.clone().all(|slot| sample.push(vm(slot), ran)) && !sample.push(vm(slots.end), ran));
        assert!(sample.push(vm(slots.end), Charged::default()), "one that did nothing takes none");
        assert_eq!(sample.iter().count(), SAMPLED);
        // A third of the memory that the operator's VM has.
        assert!(SAMPLED * size_of::<(VmId, Charged)>() <= 6 << 20);
    }

    #[test]
    fn counts_that_begin_anew_are_counted_on() {
        let charged = |frames| Charged { frames, ..Charged::default() };
        let mut before = Sample::default();
        assert!(before.push(VmId::new(0, 1), charged(u32::MAX)));
        let mut best = Best::new(before.iter(), 1);
        best.add(VmId::new(0, 1), charged(4));
        assert_eq!(best.into_rates()[0].more.frames, 5);
    }

    #[test]
    fn amounts_are_those_of_a_second() {
        assert_eq!(each_second(500, 1000, 2000, 1), 250, "a quarter of the time is 250 of 1000");
        assert_eq!(each_second(30, 1, 2_000_000, 1_000_000), 15);
        assert_eq!(each_second(u64::MAX, u64::MAX, 0, u64::MAX), u64::MAX);
    }
}
