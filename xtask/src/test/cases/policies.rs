//! The policies that can be chosen at boot: each does its work, and shares are what they promise.

use super::ensure;
use crate::error::{Context, Result};
use crate::test::Case;
use crate::test::lab::{BOOT, Lab, Running, number};
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    Case {
        name: "policies: each of sched",
        asserts: "with sched=fair, round-robin, stride and lottery four servers answer, and still do after the scheduler was killed",
        run: each_of_sched,
    },
    Case {
        name: "policies: each of netmux",
        asserts: "with net=round-robin, drr and token-bucket four servers answer, and still do after netmux was killed",
        run: each_of_netmux,
    },
    Case {
        name: "policies: shares of the CPU",
        asserts: "with sched=fair, stride and lottery a guest of weight 300 runs three times as long as one of weight 100",
        run: shares,
    },
    Case {
        name: "policies: limited rate",
        asserts: "with net=token-bucket a server created with rate= sends no faster, and one without does",
        run: limited_rate,
    },
];

/// How long servers may take to answer.
const ANSWERS: Duration = Duration::from_secs(60);
/// How long VMs may take for the turns that shares are measured in.
const PATIENCE: Duration = Duration::from_secs(240);

fn each_of_sched(lab: &Lab) -> Result<()> {
    each(lab, "sched", "sched", &["fair", "round-robin", "stride", "lottery"])
}

fn each_of_netmux(lab: &Lab) -> Result<()> {
    each(lab, "netmux", "net", &["round-robin", "drr", "token-bucket"])
}

/// Boots with each of the policies that `role` has, by the option `key`.
fn each(lab: &Lab, role: &str, key: &str, expected: &[&str]) -> Result<()> {
    let component = lab.system.component.iter().find(|component| component.name == role);
    let policies = component.map(|component| component.programs()).unwrap_or_default();
    let policies: Vec<String> = policies.into_iter().map(|policy| policy.name).collect();
    ensure(policies == expected, || format!("system.toml has the policies {policies:?}: test them here"))?;
    for policy in policies {
        works(lab, role, &format!("{key}={policy}"), &policy).context(|| format!("{key}={policy}"))?;
    }
    Ok(())
}

fn works(lab: &Lab, role: &str, option: &str, policy: &str) -> Result<()> {
    let mut running = lab.boot(&format!("vms=httpd*4 {option}")).start()?;
    running.wait_for(&format!("{role}: policy={policy} incarnation="), BOOT)?;
    running.wait_for_services(BOOT)?;
    running.wait_for_monitor()?;
    let mark = running.mark();
    running.monitor(&format!("kill {role}"))?;
    // Its number is not looked at: a busy host may have made it overrun its budget before.
    running.wait_for_since(mark, &format!("{role}: policy={policy} incarnation="), ANSWERS)?;
    running.wait_for_services(ANSWERS)?;
    running.must_not_say(0, "ended:")?;
    running.must_not_say(0, "FATAL")?;
    running.must_not_say(0, "is admitted by the core")?;
    running.power_off()
}

fn shares(lab: &Lab) -> Result<()> {
    // Chance evens out slowly: of 2,000 draws one in four is three times the others to a seventh, in all but one of a thousand tries.
    for (policy, turns) in [("fair", 200), ("stride", 200), ("lottery", 2_000)] {
        share(lab, policy, turns).context(|| format!("sched={policy}"))?;
    }
    Ok(())
}

/// Runs two VMs until they have had so many turns together.
fn share(lab: &Lab, policy: &str, turns: u64) -> Result<()> {
    let running = lab.boot(&format!("vms= sched={policy} quantum=5ms")).start()?;
    running.wait_for_monitor()?;
    for weight in [100, 300] {
        running.monitor(&format!("create bench bench=compute weight={weight}"))?;
    }
    let machine = running.monitor("machine")?;
    let hz = machine.iter().find_map(|line| number(line, "tsc_hz")).ok_or_else(|| format!("no clock: {machine:?}"))?;
    let quantum = hz / 200;
    let before = ran(&running)?;
    // By the machine's clock: on a busy host its seconds are longer than the world's.
    let end = Instant::now() + PATIENCE;
    let [one, three] = loop {
        std::thread::sleep(Duration::from_millis(500));
        let after = ran(&running)?;
        let ran = [after[0] - before[0], after[1] - before[1]];
        if ran[0] + ran[1] >= turns * quantum {
            break ran;
        }
        ensure(Instant::now() < end, || format!("{ran:?} ticks of {turns} turns in {PATIENCE:?}"))?;
    };
    // Ticks of the machine's own clock, in tenths.
    let tenths = 10 * three / one.max(1);
    ensure((24..=38).contains(&tenths), || {
        format!("{three} ticks against {one}: {tenths} tenths where 30 were to be")
    })?;
    running.power_off()
}

/// The ticks that the VMs in the slots 0 and 1 have run.
fn ran(running: &Running) -> Result<[u64; 2]> {
    let ticks = |slot| -> Result<u64> {
        let lines = running.monitor(&format!("vm {slot}"))?;
        let ticks = lines.iter().find_map(|line| number(line, "ran_ticks"));
        ticks.ok_or_else(|| format!("no ticks of VM {slot}: {lines:?}").into())
    };
    Ok([ticks(0)?, ticks(1)?])
}

fn limited_rate(lab: &Lab) -> Result<()> {
    const RATE: f64 = 65_536.0;
    let mut running = lab.boot("vms=httpd*2 net=token-bucket").start()?;
    running.wait_for_services(BOOT)?;
    running.wait_for_monitor()?;
    // In place of the second server one that is limited, at the same address.
    let mark = running.mark();
    running.monitor("destroy 1")?;
    running.wait_for_since(mark, "vm1.1 ended: ", ANSWERS)?;
    let created = running.monitor("create httpd rate=64KiB burst=8KiB")?;
    ensure(created.iter().any(|line| line.contains("index=1 ")), || format!("not in slot 1: {created:?}"))?;
    running.wait_for_services(ANSWERS)?;
    let limited = seconds(&running, 1)?;
    let unlimited = seconds(&running, 0)?;
    // The burst leaves at once.
    let least = (102_400.0 - 8192.0) / RATE;
    ensure(limited >= least, || format!("100 KiB took {limited:.2} s, at the limit it takes {least:.2} s"))?;
    ensure(limited <= 10.0 * least, || format!("100 KiB took {limited:.2} s where {least:.2} s were to be"))?;
    ensure(unlimited < limited, || format!("{unlimited:.2} s without a limit, {limited:.2} s with one"))?;
    running.must_not_say(mark, "netmux killed")?;
    running.power_off()
}

/// How long 100 KiB take from the web server number `i`, by the machine's clock: Bochs' can be ahead of the world's.
pub fn seconds(running: &Running, i: usize) -> Result<f64> {
    let before = clock(running)?;
    let answer = running.get(i, "/100k")?;
    ensure(answer.body.len() == 102_400, || format!("{} bytes of /100k", answer.body.len()))?;
    Ok(clock(running)? - before)
}

/// The machine's time in seconds.
#[allow(clippy::cast_precision_loss)] // Fifty-two bits of ticks are weeks.
pub fn clock(running: &Running) -> Result<f64> {
    let line = running.monitor("machine")?.into_iter().find(|line| line.starts_with("machine ")).unwrap_or_default();
    match (number(&line, "tsc"), number(&line, "tsc_hz")) {
        (Some(tsc), Some(hz)) if hz > 0 => Ok(tsc as f64 / hz as f64),
        _ => Err(format!("the monitor says: {line}").into()),
    }
}
