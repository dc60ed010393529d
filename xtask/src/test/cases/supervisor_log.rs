//! The machine's log over SSH.

use super::ensure;
use super::supervisor::{Login, start_as};
use super::supervisor_seat::{SOON, Seat};
use crate::error::{Context, Result};
use crate::test::Case;
use crate::test::lab::Lab;
use serde_json::Value;

pub const CASES: &[Case] = &[Case {
    name: "supervisor: log",
    asserts: "an operator reads the machine's log from the core's first line on, the last lines, those of somebody, and those that are serious, as text and as JSON; one that follows it sees what comes; what makes no sense is refused",
    run: log,
}];

fn log(lab: &Lab) -> Result<()> {
    let (running, login) = start_as(lab, "vms=supervisor-vm,httpd net=10.0.2.16/24,gw=10.0.2.2", |boot| boot)?;
    refused(&login)?;
    let all = login.good("log --lines 1000")?;
    ensure(all.starts_with("[") && all.contains("core: Foraker "), || format!("not from the beginning: {all:?}"))?;
    let last = login.good("log --lines 3")?;
    ensure(last.lines().count() == 3 && last.contains("ssh: "), || format!("{last:?}"))?;
    only(&login, "netmux", "component: netmux: ")?;
    only(&login, "vm1.1", "guest: vm1.1: ")?;
    login.good("vm create web-9 --image httpd && vm start web-9")?;
    running.wait_for("vm2.1: httpd: serving", SOON)?;
    only(&login, "web-9", "guest: vm2.1: ")?;
    let calm = login.good("log --level warn")?;
    ensure(!calm.contains(" INFO ") && !calm.contains(" DEBUG "), || format!("{calm:?}"))?;
    as_json(&login)?;
    follows(&login)?;
    running.power_off()
}

/// What cannot be.
fn refused(login: &Login) -> Result<()> {
    login.bad("log --lines 0", 2, "give a number from 1 to 1000")?;
    login.bad("log --follow --json", 2, "--json without it")?;
    login.bad("log --follow && vm list", 1, "a log that is followed comes alone")
}

/// All lines of somebody, of which there are some.
fn only(login: &Login, from: &str, says: &str) -> Result<()> {
    let lines = login.good(&format!("log --from {from}"))?;
    ensure(!lines.is_empty() && lines.lines().all(|line| line.contains(says)), || format!("of {from}: {lines:?}"))
}

fn as_json(login: &Login) -> Result<()> {
    let text = login.good("log --from core --lines 1000 --json")?;
    let lines: Value = serde_json::from_str(&text).context(|| text.clone())?;
    let first = &lines[0];
    let good = first["from"] == "core" && first["level"] == "info" && first["up_us"].is_u64();
    ensure(good && first["text"].as_str().is_some_and(|text| text.starts_with("Foraker ")), || format!("{first}"))
}

fn follows(login: &Login) -> Result<()> {
    let mut seat = Seat::take(login, "log --follow --lines 1 --from web-9")?;
    seat.sees("httpd: serving")?;
    let mut short = Seat::take(login, "log --follow --for 2")?;
    login.good("vm kill web-9")?;
    short.sees("vm kill web-9")?;
    short.ends(0)
}
