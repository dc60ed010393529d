//! VMs that have run, go out, and come in again.

use super::{ensure, strays};
use crate::error::{Context, Result, fail};
use crate::http;
use crate::machine::Kind;
use crate::test::Case;
use crate::test::lab::{Boot, Lab, Running, number};
use std::collections::HashMap;
use std::time::Duration;

pub const CASES: &[Case] = &[
    Case {
        name: "qemu: pooled",
        asserts: "three times as many web servers as there are seats answer again and again, have all that they had, and outlive deaths of swap, pager, sched and netmux",
        run: pooled,
    },
    Case {
        name: "qemu: secrets",
        asserts: "the boot arguments of servers are, after 50 swaps, in no other VM and in no free frame",
        run: some_secrets,
    },
];

/// Those that take long.
pub const LONG_CASES: &[Case] = &[Case {
    name: "qemu: secrets, at length",
    asserts: "the boot arguments of servers are, after 1,000 swaps, in no other VM and in no free frame",
    run: many_secrets,
}];

/// Web servers, and those that can be in at the same time.
pub const VMS: usize = 24;
pub const SEATS: usize = 8;
const OPTIONS: &str = "start=lazy pool=8MiB residence=10ms";
/// Memory of the machine.
const MEGS: u32 = 96;
/// A client's patience: its first packet may be lost, and is sent again after a second, and then after two.
pub const ANSWER: Duration = Duration::from_secs(30);

pub fn boot(lab: &Lab) -> Boot<'_> {
    lab.boot(&format!("vms=httpd*{VMS} seats={SEATS} {OPTIONS}")).megs(MEGS)
}

pub fn start(lab: &Lab) -> Result<Running> {
    let running = boot(lab).start()?;
    running.wait_for_monitor()?;
    Ok(running)
}

/// A figure of the line `swap`.
pub fn swap(running: &Running, what: &str) -> Result<u64> {
    match running.monitor("swap")?.first().and_then(|line| number(line, what)) {
        Some(value) => Ok(value),
        None => fail!("`swap` does not say {what}"),
    }
}

/// How many requests a VM has answered, this one included, by what it says itself.
pub fn requests(running: &Running, vm: usize) -> Result<u64> {
    counted(vm, &http::get(running.services()[vm], "/status.json", ANSWER).context(|| format!("VM {vm}"))?)
}

/// How many requests a VM has answered, by the status that it says.
pub fn counted(vm: usize, answer: &http::Response) -> Result<u64> {
    let status: serde_json::Value =
        serde_json::from_slice(&answer.body).context(|| format!("VM {vm} says no status"))?;
    let of = |key: &str| status.get(key).and_then(serde_json::Value::as_u64);
    ensure(of("vm") == u64::try_from(vm).ok(), || format!("VM {vm} says that it is {status}"))?;
    match of("requests") {
        Some(requests) => Ok(requests),
        None => fail!("VM {vm} does not count requests: {status}"),
    }
}

/// Makes a number into one that looks like nothing (SplitMix64).
pub fn mix(number: u64) -> u64 {
    let word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

fn pooled(_: &Lab) -> Result<()> {
    let lab = Lab::with(Kind::Qemu)?;
    let running = start(&lab)?;
    for (round, victim) in [None, Some("swap"), Some("pager"), Some("sched"), Some("netmux")].into_iter().enumerate() {
        for vm in 0..VMS {
            // In the midst of it.
            if let Some(component) = victim.filter(|_| vm % 7 == 3) {
                running.monitor(&format!("kill {component}"))?;
            }
            let requests = requests(&running, vm)?;
            ensure(requests == round as u64 + 1, || {
                format!("VM {vm} has answered {requests} requests, in round {round}")
            })?;
        }
    }
    let (out, came_in) = (swap(&running, "gone_out")?, swap(&running, "come_in")?);
    // In each round but the first all of them come in again but those that are in.
    ensure(came_in >= (4 * (VMS - SEATS)) as u64, || format!("{came_in} came in again"))?;
    ensure(out >= came_in, || format!("{out} went out and {came_in} came in"))?;
    let vms = swap(&running, "vms")?;
    let bytes = swap(&running, "used")?.checked_div(vms).unwrap_or(0);
    ensure(vms >= (VMS - SEATS) as u64 && vms <= VMS as u64, || format!("{vms} are in the pool"))?;
    // It was 2,816 before web servers served files; the aim is 4,096.
    ensure((1..=5120).contains(&bytes), || format!("an idle web server takes {bytes} bytes of the pool"))?;
    ensure(swap(&running, "refused")? == 0 && swap(&running, "damaged")? == 0, || "some were lost".into())?;
    running.must_not_say(0, " ended: ")?;
    running.power_off()
}

/// Characters of half a secret.
const HALF: usize = 32;

/// What VM `vm` is told: 64 characters that nobody else is.
pub fn secret(vm: usize) -> String {
    (0..4).map(|index| format!("{:016x}", mix(1 + 4 * vm as u64 + index))).collect()
}

/// Where in memory halves of secrets are: address, and whose secret. (The other half may lie in another page.)
fn find(memory: &[u8]) -> Vec<(usize, usize)> {
    let secrets: Vec<String> = (0..VMS).map(secret).collect();
    let halves: HashMap<&[u8], usize> = (0..)
        .zip(&secrets)
        .flat_map(|(vm, secret)| secret.as_bytes().chunks(HALF).map(move |half| (half, vm)))
        .collect();
    // Most of memory is zeros.
    let starts = memory.windows(HALF).enumerate().filter(|(_, part)| part[0] != 0 && part[1] != 0);
    starts.filter_map(|(at, part)| Some((at, *halves.get(part)?))).collect()
}

fn some_secrets(_: &Lab) -> Result<()> {
    secrets(50)
}

fn many_secrets(_: &Lab) -> Result<()> {
    secrets(1000)
}

/// Looks for secrets after so many VMs have gone out and come in again.
fn secrets(swaps: u64) -> Result<()> {
    let lab = Lab::with(Kind::Qemu)?;
    let mut running = start(&lab)?;
    let mut round = 0;
    while swap(&running, "come_in")? < swaps {
        for vm in 0..VMS {
            let answer = http::get(running.services()[vm], "/100b", ANSWER).context(|| format!("VM {vm}"))?;
            ensure(answer.status == 200, || format!("VM {vm} answers {}", answer.status))?;
            if round == 0 {
                // It is in now, and its boot arguments lie in its memory as long as it lives.
                running.monitor(&format!("identity {vm} secret={}", secret(vm)))?;
            }
        }
        // In each round but the first at least those come in for whom there was no seat.
        let least = round * (VMS - SEATS) as u64;
        ensure(swap(&running, "come_in")? >= least, || format!("they do not come in again in round {round}"))?;
        round += 1;
    }
    let own = strays::none_in(&mut running, MEGS, find)?;
    ensure(own > 0, || "no VM that is in remembers what it was told: the search finds nothing".into())?;
    running.power_off()
}
