//! Components that misbehave: each is killed for a reason that the log gives, with its registers, and started again; the
//! machine, its VMs and the other components go on.

use super::ensure;
use crate::build::build_bins;
use crate::error::{Context, Result, fail};
use crate::machine::Kind;
use crate::manifest::model::{Component, Policy, Ring, System};
use crate::test::Case;
use crate::test::lab::{BOOT, Boot, Lab, Running, number};
use std::time::{Duration, Instant};
use table::{DEEDS, Deed, Expect};

#[path = "../../../../component/src/bin/culprit/table.rs"]
#[allow(missing_docs)]
mod table;

pub const CASES: &[Case] = &[
    Case {
        name: "components: every misdeed",
        asserts: "a component dies in every way; each death is logged with cause and registers, it comes back, its peer and four servers notice nothing",
        run: misdeeds,
    },
    Case {
        name: "components: silent scheduler",
        asserts: "a scheduler that neither admits nor plans stops nobody: eight servers are admitted and answer",
        run: silent_scheduler,
    },
    Case {
        name: "components: raving pager",
        asserts: "a pager that answers nonsense is refused and logged within limits; monitor, restarts and VMs' creation and end go on",
        run: raving_pager,
    },
    Case {
        name: "components: deaf netmux",
        asserts: "a demultiplexer that does not let go of a VM that has ended is replaced, and the VM's frames are free",
        run: deaf_netmux,
    },
];

/// How long a component may take to come back: a second of back-off, on a machine that is busy.
const RESTART: Duration = Duration::from_secs(30);
/// How long servers may take to answer.
const ANSWERS: Duration = Duration::from_secs(60);
/// The component that misbehaves, and the one that it talks to.
const CULPRIT: [&str; 2] = ["culprit", "bench-pong"];

/// A machine with these programs in addition to those of `system.toml`.
fn with_programs<'a>(mut boot: Boot<'a>, names: &[&str]) -> Result<Boot<'a>> {
    for (name, path) in build_bins(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())? {
        boot = boot.program(&name, path);
    }
    Ok(boot)
}

/// A component without authority; everything else as `like`.
fn bare(like: &Component, name: &str, priority: u32) -> Component {
    Component { name: name.to_owned(), module: Some(name.to_owned()), priority, ports: None, ..like.clone() }
}

fn misdeeds(lab: &Lab) -> Result<()> {
    const VMS: usize = 4;
    let boot = lab.boot(&format!("vms=httpd*{VMS}")).system(|system| {
        let like = system.component.iter().find(|component| component.name == "monitor").cloned();
        for (like, (name, priority)) in like.iter().cycle().zip(CULPRIT.into_iter().zip(10..)) {
            system.component.push(bare(like, name, priority));
        }
        let [culprit, peer] = CULPRIT;
        let ends = [("ping-pong", culprit, peer), ("pong-ping", peer, culprit)];
        let core = [("core-culprit", "core", culprit), ("culprit-core", culprit, "core")];
        for (name, from, to) in ends.into_iter().chain(core) {
            // It is a controller, too: one that never says anything that makes sense.
            let with_core = from == "core" || to == "core";
            let service = with_core.then(|| "control".to_owned());
            let [name, from, to] = [name, from, to].map(str::to_owned);
            system.ring.push(Ring { name, from, to, slots: 64, service, data: None });
        }
    });
    let mut running = with_programs(boot, &CULPRIT)?.start()?;
    for (start, (deed, expected)) in (1..).zip(DEEDS) {
        let says = format!("culprit: {start}: {deed:?}");
        let expected = match (lab.kind(), deed) {
            // QEMU 7.2 counts 16 bytes for an entry of the IDT where processors count 8.
            (Kind::Qemu, Deed::Interrupt) => &Expect::Fault(13, 0x80 << 4 | 2),
            _ => expected,
        };
        died(&running, start, &says, *expected).context(|| format!("{says}, to be {expected:?}"))?;
    }
    running.wait_for("culprit: all done", RESTART)?;
    running.must_not_say(0, "ESCAPED")?;
    for misfortune in ["killed", "ended", "restarted"] {
        running.must_not_say(0, &format!("component bench-pong {misfortune}"))?;
    }
    running.wait_for("component culprit dies again and again", Duration::ZERO)?;
    settled(&mut running, VMS)?;
    running.power_off()
}

/// Waits for the start after the one in which the culprit `says` this, and looks at how it died in between.
fn died(running: &Running, start: u32, says: &str, expected: Expect) -> Result<()> {
    let back = format!("component culprit restarted with policy culprit (start {})", start + 1);
    running.wait_for(&back, if start == 1 { BOOT } else { RESTART })?;
    running.must_not_say(0, "ESCAPED")?;
    let lines = running.said_until(&back);
    let mut life = lines.iter().skip_while(|line| !line.ends_with(says));
    ensure(life.next().is_some(), || format!("it did not say \"{says}\""))?;
    let death =
        |line: &&String| line.contains("component culprit killed: ") || line.contains("component culprit ended ");
    let Some(line) = life.find(death) else { fail!("nothing says why it was started again") };
    let said = |text: &str| ensure(line.contains(text), || format!("\"{text}\" was to be in: {line}"));
    match expected {
        Expect::Fault(vector, error) => {
            said(&format!("killed: fault {vector} (error {error:#x}, address 0x"))?;
            ["registers ", "rax: ", "rip: ", "rsp: "].into_iter().try_for_each(said)
        }
        Expect::Overrun => {
            said("killed: it ran ")?;
            said(" us without waiting, its budget is 100000 us (rip 0x")
        }
        Expect::Exit(code) => said(&format!("ended itself with code {code}: its last lines say why")),
    }
}

/// The machine is as it was: the monitor answers, no VM was lost, all servers answer.
fn settled(running: &mut Running, vms: usize) -> Result<()> {
    running.wait_for_monitor()?;
    running.must_not_say(0, "FATAL")?;
    running.must_not_say(0, " ended: ")?;
    let lines = running.monitor("vms")?;
    let alive = lines.iter().filter(|line| line.contains("incarnation=1 image=httpd")).count();
    ensure(alive == vms, || format!("{alive} of {vms} VMs are left:\n{}", lines.join("\n")))?;
    running.wait_for_services(ANSWERS)
}

/// `system` with another program in the role `role`.
fn fill(system: &mut System, role: &str, program: &str) {
    for component in system.component.iter_mut().filter(|component| component.name == role) {
        component.module = None;
        component.policies = vec![Policy { name: program.to_owned(), module: program.to_owned() }];
    }
    let defaults = system.defaults.split(' ').filter(|word| !word.starts_with(&format!("{role}=")));
    system.defaults = defaults.collect::<Vec<_>>().join(" ");
}

fn silent_scheduler(lab: &Lab) -> Result<()> {
    const VMS: usize = 8;
    let boot = lab.boot(&format!("vms=httpd*{VMS}")).system(|system| fill(system, "sched", "sched-silent"));
    let mut running = with_programs(boot, &["sched-silent"])?.start()?;
    running.wait_for("silent, start 1", BOOT)?;
    let admitted = running.wait_for_lines(VMS, "is admitted by the core", BOOT)?;
    // In the order of their creation.
    for (line, slot) in admitted.iter().zip(0..) {
        ensure(line.contains(&format!("vm{slot}.1 ")), || format!("vm{slot} was to come next: {line}"))?;
    }
    running.wait_for_services(ANSWERS)?;
    // One that comes later, while the others keep the machine busy, does not wait either.
    running.wait_for_monitor()?;
    let mark = running.mark();
    running.monitor("create httpd")?;
    running.wait_for_since(mark, &format!("vm{VMS}.1 is admitted by the core"), ANSWERS)?;
    settled(&mut running, VMS + 1)?;
    // Its successor is no better, and its restart takes nothing away.
    let mark = running.mark();
    running.monitor("kill sched")?;
    running.wait_for_since(mark, "component sched restarted", RESTART)?;
    running.wait_for_services(ANSWERS)?;
    let fallbacks = running.monitor("machine")?.iter().find_map(|line| number(line, "fallbacks"));
    ensure(fallbacks.is_some_and(|count| count > 0), || format!("fallbacks: {fallbacks:?}"))?;
    running.power_off()
}

fn raving_pager(lab: &Lab) -> Result<()> {
    const VMS: usize = 4;
    let boot = lab.boot(&format!("vms=httpd*{VMS}")).system(|system| fill(system, "pager", "pager-raving"));
    let running = with_programs(boot, &["pager-raving"])?.start()?;
    running.wait_for("raving, start 1", BOOT)?;
    for what in [
        "kind 0x0: unknown kind",
        "kind 0xffffffff: unknown kind",
        "kind 0x103: unknown kind",
        "kind 0x111: a 32-bit word has bits above 31 set",
        "kind 0x111: more pages than a command may name",
        "kind 0x111: a page that the VM or its image does not have",
        "kind 0x112: a page that the VM or its image does not have",
        "kind 0x112: more pages than a command may name",
        "kind 0x113: a page that the VM or its image does not have",
    ] {
        running.wait_for(&format!("pager sent a message of {what}; ignored"), BOOT).context(|| what.to_owned())?;
    }
    running.wait_for_monitor()?;
    lives(&running, VMS, 0)?;
    // The log is kept within its limits: a hundred lines, then twenty a second of the machine's time.
    let seconds = || -> Result<f64> {
        let line = running.monitor("machine")?.into_iter().find(|line| line.starts_with("machine "));
        let line = line.unwrap_or_default();
        match (number(&line, "tsc"), number(&line, "tsc_hz")) {
            #[allow(clippy::cast_precision_loss)] // Fifty-two bits of ticks are weeks.
            (Some(tsc), Some(hz)) if hz > 0 => Ok(tsc as f64 / hz as f64),
            _ => Err(format!("the monitor says: {line}").into()),
        }
    };
    let (mark, before) = (running.mark(), seconds()?);
    std::thread::sleep(Duration::from_secs(3));
    // The lines first: those that come meanwhile would count against less time.
    let lines = running.count_since(mark, "pager sent a message");
    let most = 100.0 + 20.0 * (seconds()? - before) + 1.0;
    #[allow(clippy::cast_precision_loss)] // A few lines.
    ensure(lines as f64 <= most, || format!("{lines} lines about the pager where {most} are the limit"))?;
    // Every component can be restarted, and VMs come and go.
    for victim in ["pager", "netmux", "sched"] {
        let mark = running.mark();
        running.monitor(&format!("kill {victim}"))?;
        running.wait_for_since(mark, &format!("component {victim} restarted"), RESTART)?;
        lives(&running, VMS, 0).context(|| format!("after {victim} was killed"))?;
    }
    let mark = running.mark();
    running.monitor("create httpd")?;
    lives(&running, VMS + 1, 0)?;
    running.monitor(&format!("destroy {VMS}"))?;
    running.wait_for_since(mark, &format!("vm{VMS}.1 ended: "), RESTART)?;
    lives(&running, VMS, 1)?;
    running.must_not_say(0, "component pager killed: ")?;
    running.must_not_say(0, "FATAL")?;
    running.power_off()
}

/// The monitor answers, `vms` web servers have their memory, and `ended` VMs have ended so far.
fn lives(running: &Running, vms: usize, ended: usize) -> Result<()> {
    running.wait_for_monitor()?;
    let lines = running.monitor("vms")?;
    let alive = lines.iter().filter(|line| line.contains("incarnation=1 image=httpd")).count();
    ensure(alive == vms, || format!("{alive} of {vms} VMs are left:\n{}", lines.join("\n")))?;
    let found = running.count_since(0, " ended: ");
    ensure(found == ended, || format!("{found} VMs have ended where {ended} should have"))
}

fn deaf_netmux(lab: &Lab) -> Result<()> {
    let boot = lab.boot("vms=httpd*2").system(|system| fill(system, "netmux", "netmux-deaf"));
    let running = with_programs(boot, &["netmux-deaf"])?.start()?;
    running.wait_for("deaf, start 1", BOOT)?;
    running.wait_for_monitor()?;
    // It does not say which node this is either.
    running.wait_for("has not said which node this is: it is node 0", BOOT)?;
    let end = Instant::now() + BOOT;
    while running.monitor("vms")?.iter().filter(|line| !line.contains("state=waiting")).count() < 2 {
        ensure(Instant::now() < end, || "the VMs are not admitted".to_owned())?;
    }
    let memory = || -> Result<u64> {
        let lines = running.monitor("frames")?;
        let line = lines.iter().find(|line| line.contains("owner=vm-memory "));
        line.and_then(|line| number(line, "frames")).ok_or_else(|| format!("no frames of VMs in {lines:?}").into())
    };
    let before = memory()?;
    let mark = running.mark();
    running.monitor("destroy 0")?;
    running.wait_for_since(mark, "vm0.1 is asked for, but stays here", RESTART)?;
    running.wait_for_since(mark, "component netmux killed: it does not let go of vm0.1, which has ended", RESTART)?;
    running.wait_for_since(mark, "component netmux restarted", RESTART)?;
    running.wait_for_since(mark, "deaf, start 2", RESTART)?;
    let vms = running.monitor("vms")?;
    let [left] = &vms[..] else { fail!("one VM was to be left: {vms:?}") };
    ensure(left.contains("vm index=1 incarnation=1 "), || format!("not the one that was to be left: {left}"))?;
    let after = memory()?;
    ensure(after * 4 <= before * 3, || format!("{after} of {before} frames are left in use with one of two VMs gone"))?;
    running.must_not_say(0, "FATAL")?;
    running.power_off()
}
