//! Policies that are replaced while all goes on, and those that are no good.

use super::ensure;
use crate::build::build_bins;
use crate::error::{Context, Result, fail};
use crate::http::Connection;
use crate::manifest::model::{Micros, Policy, System};
use crate::test::Case;
use crate::test::lab::{BOOT, Boot, Lab, Running, number};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    Case {
        name: "swap: sched and netmux",
        asserts: "20 swaps of each under load lose no VM and no connection, and the plan is back within two plans",
        run: some,
    },
    Case {
        name: "swap: bad policies",
        asserts: "a scheduler that dies, spins, raves, plans for nobody or stalls gives way to the last good one, which is said; no connection is lost",
        run: bad,
    },
    Case {
        name: "swap: bad disciplines",
        asserts: "a discipline of netmux that lets nobody send, or one VM never, gives way to the last good one, which is said; no connection is lost",
        run: bad_disciplines,
    },
    Case {
        name: "swap: refused",
        asserts: "a policy that is unknown, missing or damaged is refused with a message, and nothing changes",
        run: refused,
    },
    Case {
        name: "swap: leases",
        asserts: "addresses from DHCP are known to netmux's successor after a swap and after a death: connections go on",
        run: leases,
    },
];

/// Those that take long.
pub const LONG_CASES: &[Case] = &[Case {
    name: "swap: a thousand",
    asserts: "1,000 swaps under load lose no VM and no connection, and the plan is always back within two plans",
    run: thousand,
}];

/// VMs in these tests.
const VMS: usize = 4;
/// How long one request may take while components are started anew.
const REQUEST: Duration = Duration::from_secs(60);
/// How long it may take until the core has found a policy out: a trial of a second, on a machine that is busy.
const TRIAL: Duration = Duration::from_secs(30);
/// Entries of two plans, and parts of a second in a quantum.
const TURNS: u64 = 32;
const QUANTA: u64 = 100;

const SCHED: [&str; 4] = ["round-robin", "stride", "lottery", "fair"];
const NETMUX: [&str; 3] = ["drr", "token-bucket", "round-robin"];

fn some(lab: &Lab) -> Result<()> {
    swapped_under_load(lab, 40)
}

fn thousand(lab: &Lab) -> Result<()> {
    swapped_under_load(lab, 1000)
}

/// A machine whose components are not blamed for the time that a busy host takes from them: a policy on trial would be given
/// up for it.
fn servers<'a>(lab: &'a Lab, options: &str) -> Boot<'a> {
    lab.boot(&format!("vms=httpd*{VMS} {options}")).system(|system| {
        for component in &mut system.component {
            component.budget = Micros(1_000_000);
        }
    })
}

/// Swaps policies of `sched` and `netmux` by turns, so many times.
fn swapped_under_load(lab: &Lab, swaps: usize) -> Result<()> {
    let mut running = servers(lab, "").start()?;
    running.wait_for_services(BOOT)?;
    running.wait_for_monitor()?;
    under_load(&running, |load| {
        for swap in 0..swaps {
            let (component, policies) = if swap % 2 == 0 { ("sched", &SCHED[..]) } else { ("netmux", &NETMUX[..]) };
            let policy = policies[swap / 2 % policies.len()];
            let context = || format!("swap {} of {swaps}: {component} {policy}", swap + 1);
            let mark = running.mark();
            running.monitor(&format!("policy {component} {policy}")).context(context)?;
            running
                .wait_for_since(mark, &format!("{component}: policy={policy} incarnation="), TRIAL)
                .context(context)?;
            load.goes_on().context(context)?;
            if component == "sched" {
                plan_is_back(&running).context(context)?;
            }
        }
        Ok(())
    })?;
    for text in [" killed: ", " restarted with ", " is given up", "is admitted by the core"] {
        running.must_not_say(0, text)?;
    }
    let starts = running.monitor("components")?;
    for (component, expected) in [("sched", swaps / 2 + 1), ("netmux", swaps / 2 + 1), ("pager", 1)] {
        let line = starts.iter().find(|line| line.contains(&format!("name={component} ")));
        let started = line.and_then(|line| number(line, "incarnation"));
        ensure(started == Some(expected as u64), || {
            format!("{component} was to be started {expected} times: {line:?}")
        })?;
    }
    settled(running)
}

/// No VM was lost.
fn settled(running: Running) -> Result<()> {
    running.must_not_say(0, "ended:")?;
    running.must_not_say(0, "FATAL")?;
    let vms = running.monitor("vms")?;
    let alive = vms.iter().filter(|line| line.contains("incarnation=1 image=httpd")).count();
    ensure(alive == VMS, || format!("{alive} of {VMS} VMs are left:\n{}", vms.join("\n")))?;
    running.power_off()
}

/// From the stop of the last scheduler until a VM went on by the plan it took no longer than two plans do.
fn plan_is_back(running: &Running) -> Result<()> {
    let lines = running.monitor("machine")?;
    let of = |key| lines.iter().find_map(|line| number(line, key)).ok_or_else(|| format!("no {key}= in {lines:?}"));
    let (gap, hz) = (of("gap_ticks")?, of("tsc_hz")?);
    let most = hz / QUANTA * TURNS;
    ensure((1..=most).contains(&gap), || format!("{gap} ticks without a planned turn, {most} are two plans"))
}

/// Clients that ask without pause, each on one connection.
struct Load {
    served: Vec<AtomicUsize>,
    stop: AtomicBool,
    /// What went wrong first.
    wrong: Mutex<Option<String>>,
}

impl Load {
    /// One client: its only connection must do for all requests.
    fn ask(&self, client: usize, server: SocketAddr) {
        let result = Connection::open(server, REQUEST).and_then(|mut connection| {
            while !self.stop.load(Ordering::Relaxed) {
                let answer = connection.request("GET", "/2258b")?;
                if answer.status != 200 || answer.body.len() != 2258 {
                    fail!("status {} and {} bytes", answer.status, answer.body.len());
                }
                self.served[client].fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        if let Err(error) = result {
            let served = self.served[client].load(Ordering::Relaxed);
            let line = format!("the connection to server {client} is lost after {served} requests: {error}");
            self.wrong.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(line);
        }
    }

    /// Waits until every client has been answered twice more.
    fn goes_on(&self) -> Result<()> {
        let counts = || -> Vec<usize> { self.served.iter().map(|count| count.load(Ordering::Relaxed)).collect() };
        let before = counts();
        let end = Instant::now() + REQUEST;
        loop {
            if let Some(wrong) = self.wrong.lock().unwrap_or_else(std::sync::PoisonError::into_inner).as_ref() {
                fail!("{wrong}");
            }
            let now = counts();
            if now.iter().zip(&before).all(|(now, before)| *now >= before + 2) {
                return Ok(());
            }
            if Instant::now() >= end {
                fail!("a server answers no more: {before:?} requests were served, then {now:?}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Does `work` while all servers are asked without pause. A connection that is lost is an error.
fn under_load(running: &Running, work: impl FnOnce(&Load) -> Result<()>) -> Result<()> {
    let servers = running.services().to_vec();
    let load = Load {
        served: servers.iter().map(|_| AtomicUsize::new(0)).collect(),
        stop: AtomicBool::new(false),
        wrong: Mutex::new(None),
    };
    let result = std::thread::scope(|scope| {
        for (client, &server) in servers.iter().enumerate() {
            let load = &load;
            scope.spawn(move || load.ask(client, server));
        }
        let result = load.goes_on().and_then(|()| work(&load)).and_then(|()| load.goes_on());
        load.stop.store(true, Ordering::Relaxed);
        result
    });
    // What went wrong with a connection says more than what follows from it.
    match load.wrong.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(wrong) => match result {
            Ok(()) => fail!("{wrong}"),
            Err(error) => fail!("{wrong}; {error}"),
        },
        None => result,
    }
}

/// Policies of `sched` that are no good: their names, and how they are found out.
const BAD: [(&str, &str); 6] = [
    ("dies", "component sched ended itself with code 101"),
    ("spins", "component sched killed: it ran "),
    ("raves", "component sched killed: on trial it sent a message of kind 0xffffffff: unknown kind"),
    ("dreams", "component sched killed: on trial it did not do its work"),
    ("stalls", "component sched killed: on trial it did not do its work"),
    ("tires", "component sched ended itself with code 101"),
];

/// The same of `netmux`.
const BAD_DISCIPLINES: [(&str, &str); 2] = [
    ("swallows", "policy swallows: it lets nobody send, though somebody has something to send"),
    ("starves", "policy starves: it gives the VM in seat 0 no turn"),
];

/// `system` with these policies of `role` in addition to its first one; their modules have their names.
fn with_bad(system: &mut System, role: &str, names: &[&str]) {
    for component in system.component.iter_mut().filter(|component| component.name == role) {
        component.policies.truncate(1);
        let policy = |&name: &&str| Policy { name: name.to_owned(), module: format!("{role}-{name}") };
        component.policies.extend(names.iter().map(policy));
    }
}

fn bad(lab: &Lab) -> Result<()> {
    found_out(lab, "sched", "fair", &BAD)
}

fn bad_disciplines(lab: &Lab) -> Result<()> {
    found_out(lab, "netmux", "round-robin", &BAD_DISCIPLINES)
}

/// Replaces the policy of `role`, which is `good` at first, by one that is no good, again and again.
fn found_out(lab: &Lab, role: &str, good: &str, bad: &[(&str, &str)]) -> Result<()> {
    let name = format!("{role}-bad");
    let programs = build_bins(std::slice::from_ref(&name))?;
    let Some(program) = programs.get(&name) else { fail!("{name} was not built") };
    for bad in bad.chunks(3) {
        let names: Vec<&str> = bad.iter().map(|(name, _)| *name).collect();
        let mut boot = servers(lab, "").system(|system| with_bad(system, role, &names));
        for name in &names {
            boot = boot.program(&format!("{role}-{name}"), program.clone());
        }
        let mut running = boot.start()?;
        running.wait_for_services(BOOT)?;
        running.wait_for_monitor()?;
        under_load(&running, |load| {
            for (name, found_out) in bad {
                let mark = running.mark();
                running.monitor(&format!("policy {role} {name}")).context(|| (*name).to_owned())?;
                let given_up = format!(
                    "component {role}: policy {name} is given up, and {good} takes its place, the last good one"
                );
                let restarted = format!("component {role} restarted with policy {good}");
                for text in [found_out, given_up.as_str(), restarted.as_str()] {
                    running.wait_for_since(mark, text, TRIAL).context(|| (*name).to_owned())?;
                }
                load.goes_on().context(|| format!("after {name}"))?;
                let runs = running.monitor("policy")?;
                let expected = format!("policy component={role} name={good} state=runs");
                ensure(runs.contains(&expected), || format!("after {name}: {runs:?}"))?;
            }
            Ok(())
        })?;
        settled(running)?;
    }
    Ok(())
}

fn refused(lab: &Lab) -> Result<()> {
    let mut damaged = lab.module("sched-lottery")?;
    damaged.truncate(4096);
    let boot = lab.boot(&format!("vms=httpd*{VMS}")).without_module("sched-stride").module("sched-lottery", damaged);
    let mut running = boot.start()?;
    running.wait_for(
        "sched: policy stride cannot be chosen: its module 'sched-stride' is not among the boot modules",
        BOOT,
    )?;
    running.wait_for("sched: policy lottery cannot be chosen: its module 'sched-lottery' is refused: ", BOOT)?;
    running.wait_for_services(BOOT)?;
    running.wait_for_monitor()?;
    let list = running.monitor("policy")?;
    let line =
        |component: &str, name: &str, state: &str| format!("policy component={component} name={name} state={state}");
    let expected = [
        line("netmux", "round-robin", "runs"),
        line("netmux", "drr", "ready"),
        line("netmux", "token-bucket", "ready"),
        line("pager", "vm-sieve", "runs"),
        line("pager", "vm-lru", "ready"),
        line("pager", "vm-fifo", "ready"),
        line("pager", "demand", "ready"),
        line("pager", "wsclock", "ready"),
        line("pager", "clock", "ready"),
        line("pager", "fifo", "ready"),
        line("sched", "fair", "runs"),
        line("sched", "round-robin", "ready"),
        line("sched", "stride", "missing"),
        line("sched", "lottery", "refused"),
        line("monitor", "monitor", "runs"),
        line("gatekeeper", "fifo", "runs"),
        line("gatekeeper", "working-set", "ready"),
        line("gatekeeper", "deadline", "ready"),
    ];
    ensure(list == expected, || format!("\"policy\" says {list:?}"))?;
    for (command, refusal) in [
        ("policy sched stride", "the module of stride was not loaded at boot; add it to the boot entry"),
        ("policy sched lottery", "the module of lottery was refused at boot, the log says why; rebuild it"),
        ("policy sched drr", "sched has no policy drr; it has fair, round-robin, stride, lottery"),
        ("policy pager mru", "pager has no policy mru; it has vm-sieve, vm-lru, vm-fifo, demand, wsclock, clock, fifo"),
        ("policy disk stride", "no component disk; \"policy\" lists them"),
    ] {
        match running.monitor(command) {
            Ok(lines) => fail!("{command} was done: {lines:?}"),
            Err(error) => ensure(error.to_string().contains(refusal), || format!("{command}: {error}"))?,
        }
    }
    ensure(running.monitor("policy")? == expected, || "a refused policy has changed something".into())?;
    settled(running)
}

fn leases(lab: &Lab) -> Result<()> {
    let mut running = servers(lab, "net=dhcp").start()?;
    running.wait_for_services(BOOT)?;
    running.wait_for_monitor()?;
    under_load(&running, |load| {
        for policy in ["drr", "token-bucket"] {
            running.monitor(&format!("policy netmux {policy}"))?;
            load.goes_on().context(|| format!("after netmux {policy}"))?;
        }
        let mark = running.mark();
        running.monitor("kill netmux")?;
        running.wait_for_since(mark, "component netmux restarted", TRIAL)?;
        load.goes_on().context(|| "after netmux was killed".into())
    })?;
    running.must_not_say(0, "no room to keep leases")?;
    settled(running)
}
