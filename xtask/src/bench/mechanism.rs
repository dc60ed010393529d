//! Mechanism: hypercalls, switches, faults, messages, creation. Everything happens inside the machine, whose time counts
//! instructions, so the figures repeat to the last digit.

use super::{Bench, Entry, Figure, Repeats};
use crate::build::build_bins;
use crate::error::{Result, fail};
use crate::manifest::model::{Component, System};
use crate::manifest::model::{Policy, Ring};
use crate::test::lab::{BOOT, Boot, Lab, Running};
use std::time::Duration;

pub const NULL_HYPERCALL: Entry = entry("null_hypercall", "from a guest to the core and back", null_hypercall);
pub const VM_SWITCH: Entry = entry("vm_switch", "from one VM to another by idling", vm_switch);
pub const VM_SWITCH_FAIR: Entry =
    entry("vm_switch_fair", "from one VM to another by idling, by virtual time", vm_switch_fair);
pub const DEMAND_ZERO_FAULT: Entry =
    entry("demand_zero_fault", "a page that is touched for the first time, through the pager", demand_zero_fault);
pub const COMPONENT_MESSAGE: Entry =
    entry("component_message", "a message from one component to another, which sleeps", component_message);
pub const VM_CREATE: Entry =
    entry("vm_create", "a VM from the controller's request to the guest's first instruction", vm_create);

pub const VM_SWITCH_100: Entry =
    entry("vm_switch_100", "a switch among 100 VMs in turn, over one between two", vm_switch_100);
pub const VM_CREATE_10000: Entry =
    entry("vm_create_10000", "the creation of a VM beside 9,999 others, over that beside 9", vm_create_10000);

const fn entry(name: &'static str, measures: &'static str, run: fn(&Bench) -> Result<Vec<Figure>>) -> Entry {
    Entry { name, measures, repeats: Repeats::Exactly, run }
}

/// How long a measurement may take on a loaded host.
const PATIENCE: Duration = Duration::from_secs(600);
/// The same for ten thousand VMs.
const CROWD_PATIENCE: Duration = Duration::from_secs(900);

/// The figures of a line `bench: NAME key=value …`, the first such line.
pub fn parse(line: &str, key: &str) -> Result<u64> {
    let value = line.split_ascii_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    match value.map(str::parse) {
        Some(Ok(value)) => Ok(value),
        _ => fail!("no number {key}= in: {line}"),
    }
}

/// A figure in instructions.
// Instruction counts of single events are far below 2^53.
#[allow(clippy::cast_precision_loss)]
pub fn instructions(metric: &'static str, value: u64, conditions: String) -> Figure {
    Figure { metric, value: value as f64, unit: "instructions", conditions }
}

/// Boots guests that measure `what`, which further boot arguments may follow: `vms` as in the boot option. Waits for the lines of so many.
pub fn measure(lab: &Lab, vms: &str, count: usize, what: &str) -> Result<Vec<String>> {
    let running = lab.boot(&format!("vms={vms}")).deterministic().system(|system| {
        for image in system.image.iter_mut().filter(|image| image.name == "bench") {
            image.args = format!("bench={what}");
        }
    });
    let running = running.start()?;
    let name = what.split(' ').next().unwrap_or(what);
    running.wait_for_lines(count, &format!("bench: {name}"), PATIENCE)
}

fn null_hypercall(bench: &Bench) -> Result<Vec<Figure>> {
    let inside = bench.inside()?;
    let lines = measure(bench.lab()?, "bench", 1, "null_hypercall")?;
    let (median, samples) = (parse(&lines[0], "median")?, parse(&lines[0], "samples")?);
    let conditions = format!("{inside}; median of {samples}, NOP hypercall, the two readings of the TSC subtracted");
    Ok(vec![instructions("null_hypercall", median, conditions)])
}

/// Mean and median of a round in which so many VMs give their turns up in turn, under this scheduler.
fn round(bench: &Bench, vms: u64, sched: &str) -> Result<(u64, u64)> {
    let lines = measure(bench.lab()?, &format!("bench*{vms} sched={sched}"), 1, "vm_switch")?;
    // All see the same rounds; the first that says so will do.
    Ok((parse(&lines[0], "mean")?, parse(&lines[0], "median")?))
}

// Instruction counts of single events are far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn ratio(of: u64, to: u64) -> f64 {
    (1000.0 * of as f64 / to as f64).round() / 1000.0
}

fn vm_switch_100(bench: &Bench) -> Result<Vec<Figure>> {
    let inside = bench.inside()?;
    let (few, many) = (round(bench, 2, "round-robin")?.0 / 2, round(bench, 100, "round-robin")?.0 / 100);
    let conditions = format!(
        "{inside}; sched=round-robin; a hundredth of a round of 100 VMs, {many}, over half a round of two, {few}; means"
    );
    Ok(vec![Figure { metric: "vm_switch_100", value: ratio(many, few), unit: "ratio", conditions }])
}

fn vm_switch(bench: &Bench) -> Result<Vec<Figure>> {
    switch_of_two(bench, VM_SWITCH.name, "round-robin")
}

fn vm_switch_fair(bench: &Bench) -> Result<Vec<Figure>> {
    switch_of_two(bench, VM_SWITCH_FAIR.name, "fair")
}

fn switch_of_two(bench: &Bench, metric: &'static str, sched: &str) -> Result<Vec<Figure>> {
    let inside = bench.inside()?;
    // The mean, because the plan that is made for some switches at a time is part of each.
    let (mean, median) = round(bench, 2, sched)?;
    let conditions = format!(
        "{inside}; sched={sched}; two VMs that idle until the past; half of a round, mean of 1,000 rounds (median {})",
        median / 2
    );
    Ok(vec![instructions(metric, mean / 2, conditions)])
}

fn demand_zero_fault(bench: &Bench) -> Result<Vec<Figure>> {
    let inside = bench.inside()?;
    let lines = measure(bench.lab()?, "bench", 1, "demand_zero_fault")?;
    let (median, zeroing) = (parse(&lines[0], "median")?, parse(&lines[0], "zeroing")?);
    let conditions = format!(
        "{inside}; pager demand; median of {}; all that the guest sees, with frames that were wiped while the machine idled: {zeroing} stores more where none is",
        parse(&lines[0], "samples")?
    );
    Ok(vec![instructions("demand_zero_fault", median, conditions)])
}

/// A component for a measurement; everything else as `like`.
pub fn component(like: &Component, name: &str, priority: u32) -> Component {
    Component {
        name: name.to_owned(),
        module: Some(name.to_owned()),
        policies: Vec::<Policy>::new(),
        priority,
        dma: None,
        pci_class: None,
        ports: None,
        ..like.clone()
    }
}

/// The entry of the monitor, which measurements imitate.
pub fn monitor(system: &System) -> Result<Component> {
    let monitor = system.component.iter().find(|component| component.name == "monitor");
    monitor.cloned().ok_or_else(|| "system.toml has no component monitor".into())
}

fn component_message(bench: &Bench) -> Result<Vec<Figure>> {
    let inside = bench.inside()?;
    let lab = bench.lab()?;
    let monitor = monitor(&lab.system)?;
    let names = ["bench-ping", "bench-pong"].map(str::to_owned);
    let programs = build_bins(&names)?;
    let mut boot = lab.boot("vms=").deterministic().system(|system| {
        for (name, priority) in names.iter().zip(10..) {
            system.component.push(component(&monitor, name, priority));
        }
        for (name, from, to) in [("ping-pong", 0, 1), ("pong-ping", 1, 0)] {
            let (from, to) = (names[from].clone(), names[to].clone());
            system.ring.push(Ring { name: name.to_owned(), from, to, slots: 64, service: None, data: None });
        }
    });
    for (name, path) in programs {
        boot = boot.program(&name, path);
    }
    let running = boot.start()?;
    let line = running.wait_for("bench: component_message instructions=", PATIENCE)?;
    let conditions = format!(
        "{inside}; 64 bytes through a ring: message, doorbell, wake, receive; one way; median of {} (least {}, most {})",
        parse(&line, "samples")?,
        parse(&line, "min")?,
        parse(&line, "max")?
    );
    Ok(vec![instructions("component_message", parse(&line, "instructions")?, conditions)])
}

/// VMs that `bench-create` creates before its figures count: they bring the image's pages into memory.
const WARM_UP: usize = 4;

/// A machine with the image `bench` and no VM, on which `program` stands in the place of the monitor; `nic`: its VMs have one.
fn with_controller<'l>(lab: &'l Lab, program: &str, nic: bool) -> Result<Boot<'l>> {
    let programs = build_bins(&[program.to_owned()])?;
    let mut boot = lab.boot("vms=").deterministic().system(|system| {
        system.image.retain(|image| image.name == "bench");
        for image in system.image.iter_mut().filter(|_| !nic) {
            (image.rx_slots, image.tx_slots) = (0, 0);
        }
        system.defaults = without_vms(&system.defaults);
        for monitor in system.component.iter_mut().filter(|component| component.name == "monitor") {
            monitor.module = Some(program.to_owned());
            monitor.ports = None;
        }
    });
    for (name, path) in programs {
        boot = boot.program(&name, path);
    }
    Ok(boot)
}

/// What creations cost, least first, without those that warm up.
fn warm(mut costs: Vec<u64>) -> Result<Vec<u64>> {
    if costs.len() <= WARM_UP {
        fail!("only {} VMs were created", costs.len());
    }
    costs.drain(..WARM_UP);
    costs.sort_unstable();
    Ok(costs)
}

fn vm_create_10000(bench: &Bench) -> Result<Vec<Figure>> {
    let inside = bench.inside()?;
    let running = with_controller(bench.lab()?, "bench-crowd", false)?.megs(1024).start()?;
    running.wait_for("bench: crowd: beside 9999", CROWD_PATIENCE)?;
    let lines = running.said_until("bench: crowd: beside 9999");
    let Some(middle) = lines.iter().position(|line| line.contains("bench: crowd: beside 9")) else {
        fail!("nothing was measured beside 9 VMs");
    };
    let median = |lines: &[String]| -> Result<u64> {
        let costs = lines.iter().filter(|line| line.contains("bench: vm_create instructions="));
        let costs = warm(costs.map(|line| parse(line, "instructions")).collect::<Result<_>>()?)?;
        Ok(costs[costs.len() / 2])
    };
    let (few, many) = (median(&lines[..middle])?, median(&lines[middle..])?);
    let conditions =
        format!("{inside}; VMs without a NIC, as vm_create; medians: {many} beside 9,999 VMs, {few} beside 9");
    Ok(vec![Figure { metric: "vm_create_10000", value: ratio(many, few), unit: "ratio", conditions }])
}

fn vm_create(bench: &Bench) -> Result<Vec<Figure>> {
    let inside = bench.inside()?;
    let running = with_controller(bench.lab()?, "bench-create", true)?.start()?;
    running.wait_for("bench: vm_create done", PATIENCE)?;
    let costs = warm(costs(&running)?)?;
    let (median, most) = (costs[costs.len() / 2], costs[costs.len() - 1]);
    let conditions = format!(
        "{inside}; 16 MiB VM with a NIC's pages; request, admission, frames with their zeroing, processor, fault of the first \
         page of code; median of {} (least {}, most {most})",
        costs.len(),
        costs[0]
    );
    Ok(vec![instructions("vm_create", median, conditions)])
}

/// The defaults without `vms=`: this manifest has no other image.
fn without_vms(defaults: &str) -> String {
    defaults.split_ascii_whitespace().filter(|word| !word.starts_with("vms=")).collect::<Vec<_>>().join(" ")
}

fn costs(running: &Running) -> Result<Vec<u64>> {
    let lines = running.wait_for_lines(WARM_UP + 1, "bench: vm_create instructions=", BOOT)?;
    lines.iter().map(|line| parse(line, "instructions")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_figures() {
        let line =
            "[    1.2] INFO  guest: vm0.1: bench: vm_switch_round median=701 mean=703 min=9 max=1000 samples=1000";
        assert_eq!((parse(line, "median").unwrap(), parse(line, "samples").unwrap()), (701, 1000));
        assert!(parse(line, "me").is_err() && parse("median=x", "median").is_err());
    }

    #[test]
    fn defaults_without_vms() {
        assert_eq!(without_vms("vms=httpd*8 quantum=10ms net=dhcp"), "quantum=10ms net=dhcp");
    }
}
