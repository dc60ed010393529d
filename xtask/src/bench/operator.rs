//! The operator's VM: its memory, what a login costs, how a thousand VMs are created from a script, and how much the page for people loads.

use super::http::spent;
use super::mechanism::instructions;
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Context, Result, fail};
use crate::machine::Kind;
use crate::test::cases::supervisor::{Login, start_as};
use crate::test::lab::{Lab, Running};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub const LOGIN: Entry = Entry {
    name: "ssh_login_instructions",
    measures: "one login with one command, and the memory of the operator's VM afterwards",
    // How what the client says falls into packets depends on the host.
    repeats: Repeats::Within(0.05),
    run: login,
};
pub const CREATE: Entry = Entry {
    name: "create_1000_over_ssh",
    measures: "1,000 VMs created and started by scripts over SSH, each over one of the first 100",
    repeats: Repeats::Within(0.15),
    run: create,
};
pub const PAGE: Entry = Entry {
    name: "status_page_10000_bytes",
    measures: "bytes of the page for people at its first load with 10,000 VMs",
    // Some numbers have a digit more.
    repeats: Repeats::Within(0.01),
    run: page,
};

/// Logins, of which the median counts.
const LOGINS: usize = 5;
/// The first VMs of the script, and all of them.
const FIRST: usize = 100;
const ALL: usize = 1000;
/// Machines on which they are created: what else they do meanwhile depends on the host.
const ROUNDS: usize = 5;
/// VMs of the page.
const VMS: usize = 10_000;
/// As long nobody does anything, and what was asked for last is done.
const QUIET: Duration = Duration::from_secs(3);
/// How long something may take on a slow host.
const PATIENCE: Duration = Duration::from_secs(300);
const HOW: &str = "QEMU, SVM, one CPU, icount shift=0,sleep=on, user-mode network";
/// What the page asks for when it is loaded.
const LOADS: [&str; 3] = ["/", "/vms.json?limit=200", "/node.json"];

/// Instructions of a login with one command, but for idle ones: the median.
fn login_costs(running: &Running, login: &Login) -> Result<u64> {
    let mut costs = Vec::new();
    for _ in 0..LOGINS {
        let (all, idle) = spent(running, || login.good("vm list --count").map(drop))?;
        costs.push(all - idle);
    }
    costs.sort_unstable();
    Ok(costs[LOGINS / 2])
}

fn login(_: &Bench) -> Result<Vec<Figure>> {
    let lab = Lab::with(Kind::Qemu)?;
    let (running, login) =
        start_as(&lab, "vms=supervisor-vm,httpd*8 net=10.0.2.16/24,gw=10.0.2.2", |boot| boot.counted())?;
    std::thread::sleep(QUIET);
    let cost = login_costs(&running, &login)?;
    LOADS.iter().try_for_each(|path| loaded(login.web, path).map(drop))?;
    std::thread::sleep(QUIET);
    let shown = login.good("vm show vm0.1 --json")?;
    let shown: serde_json::Value = serde_json::from_str(&shown).context(|| shown.clone())?;
    // A few megabytes.
    #[allow(clippy::cast_precision_loss)]
    let Some(bytes) = shown["memory_bytes"].as_u64().map(|bytes| bytes as f64) else { fail!("{shown}") };
    running.power_off()?;
    let conditions = format!(
        "{HOW}; beside 8 httpd; OpenSSH logs in and says `vm list --count`; all instructions but idle ones; median of {LOGINS}"
    );
    let memory = format!(
        "{HOW}; beside 8 httpd; frames of memory, page tables and metadata, those apart that it shares with its image, after {LOGINS} logins and one load of the page, {} s later",
        QUIET.as_secs()
    );
    Ok(vec![
        instructions("ssh_login_instructions", cost, conditions),
        Figure { metric: "supervisor_bytes", value: bytes, unit: "bytes", conditions: memory },
    ])
}

/// Creates and starts these VMs by one script. Instructions until all of them idle, but for idle ones and `cost` for each login.
fn created(running: &Running, login: &Login, vms: std::ops::Range<usize>, cost: u64) -> Result<u64> {
    let end = vms.end;
    let lines: String = vms.map(|vm| format!("vm create w-{vm} --image httpd && vm start w-{vm}\n")).collect();
    let mut logins = 1;
    let (all, idle) = spent(running, || {
        let (_, error, status) = login.script(&lines)?;
        if status != Some(0) {
            fail!("the script ends with {status:?}: {error}");
        }
        let deadline = Instant::now() + PATIENCE;
        while login.good("vm list --count --state idle --name w-")?.trim() != end.to_string() {
            if Instant::now() > deadline {
                fail!("not all of the {end} VMs idle after {} s", PATIENCE.as_secs());
            }
            logins += 1;
            std::thread::sleep(Duration::from_secs(1));
        }
        logins += 1;
        Ok(())
    })?;
    Ok((all - idle).saturating_sub(logins * cost))
}

/// Instructions of one VM of the first ones, and of one of all.
// They are far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn costs(lab: &Lab) -> Result<[f64; 2]> {
    let options = "vms=supervisor-vm net=10.0.2.16/16,gw=10.0.2.2";
    let (running, login) = start_as(lab, options, |boot| boot.counted().megs(256))?;
    let cost = login_costs(&running, &login)?;
    let first = created(&running, &login, 0..FIRST, cost)?;
    let rest = created(&running, &login, FIRST..ALL, cost)?;
    running.power_off()?;
    Ok([first as f64 / FIRST as f64, (first + rest) as f64 / ALL as f64])
}

fn create(bench: &Bench) -> Result<Vec<Figure>> {
    let lab = Lab::with(Kind::Qemu)?;
    let mut rounds = (0..ROUNDS).map(|_| costs(&lab)).collect::<Result<Vec<_>>>()?;
    rounds.sort_by(|[first, all], [other_first, other_all]| (all / first).total_cmp(&(other_all / other_first)));
    let [of_first, of_all] = rounds[ROUNDS / 2];
    bench.note(format!("{:<24} {of_first:.0} instructions each of the first {FIRST}, {of_all:.0} each of all\n", ""));
    let conditions = format!(
        "{HOW}; 256 MiB; `vm create` and `vm start` of httpd, {FIRST} in one script and {} in another, each until all idle; all instructions \
         but idle ones and those of as many logins; over {ALL} and over {FIRST}; median of {ROUNDS} machines",
        ALL - FIRST
    );
    let value = (1000.0 * of_all / of_first).round() / 1000.0;
    Ok(vec![Figure { metric: "create_1000_over_ssh", value, unit: "ratio", conditions }])
}

// Some kilobytes.
#[allow(clippy::cast_precision_loss)]
fn page(_: &Bench) -> Result<Vec<Figure>> {
    let lab = Lab::with(Kind::Qemu)?;
    let options = format!("vms=supervisor-vm,httpd*{} slots=16384 start=lazy net=10.0.2.16/8,gw=10.0.2.2", VMS - 1);
    let (running, login) = start_as(&lab, &options, |boot| {
        boot.megs(256).system(|system| {
            // Nobody asks them anything.
            system.image.iter_mut().filter(|image| image.name == "httpd").for_each(|image| image.ports.clear());
        })
    })?;
    let count = login.good("vm list --count")?;
    if count.trim() != VMS.to_string() {
        fail!("there are {count} VMs instead of {VMS}");
    }
    let mut bytes = 0;
    for path in LOADS {
        bytes += loaded(login.web, path)?;
    }
    running.power_off()?;
    let conditions = format!(
        "{}; {VMS} VMs, of which all but one are out and start with the first packet; {} with their heads",
        Kind::Qemu.name(),
        LOADS.join(", ")
    );
    Ok(vec![Figure { metric: "status_page_10000_bytes", value: bytes as f64, unit: "bytes", conditions }])
}

/// The bytes of an answer, with its head.
fn loaded(server: SocketAddr, path: &str) -> Result<usize> {
    let broken = || format!("{path}: the connection broke");
    let mut stream = TcpStream::connect(server).context(broken)?;
    stream.set_read_timeout(Some(PATIENCE)).context(broken)?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).context(broken)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context(broken)?;
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        fail!("{path}: {}", String::from_utf8_lossy(answer.get(..40).unwrap_or(&answer)));
    }
    Ok(answer.len())
}
