//! Lists of 100,000 VMs at the operator's VM.

use super::ensure;
use super::supervisor::{Login, start_alone};
use crate::error::{Context, Result};
use crate::http;
use crate::test::Case;
use crate::test::lab::{Lab, Running};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[Case {
    name: "supervisor: lists of 100,000 VMs",
    asserts: "over SSH and HTTP 100,000 VMs are counted, listed page by page, each once, and found by image, state, name and tenant; while all are looked at another login is served; the status page and its figures stay small",
    run: crowd,
}];

/// VMs, the operator's among them.
const VMS: usize = 100_000;
/// VMs of a page.
const PAGE: usize = 1000;
/// How long something may take with another machine beside.
const SOON: Duration = Duration::from_secs(300);

fn crowd(lab: &Lab) -> Result<()> {
    let options = format!("vms=supervisor-vm,httpd*{} slots=131072 start=lazy net=10.0.2.16/8,gw=10.0.2.2", VMS - 1);
    let (running, login) = start_alone(lab, &options, |boot| {
        boot.megs(1024).system(|system| {
            // Nobody asks them anything.
            system.image.iter_mut().filter(|image| image.name == "httpd").for_each(|image| image.ports.clear());
        })
    })?;
    let end = Instant::now() + SOON;
    while login.good("vm list --count")?.trim() != VMS.to_string() {
        ensure(Instant::now() < end, || "not all VMs are there".into())?;
    }
    found(&login)?;
    over_ssh(&login)?;
    over_http(&login)?;
    beside(&running, &login)?;
    looks(&running, &login)?;
    running.power_off()
}

/// Clients that look at all at once, each at what takes most memory.
const LOOKERS: usize = 12;

/// Whoever looks at all, and however many do, is answered, or told to come back: nobody ends the operator's VM.
fn looks(running: &Running, login: &Login) -> Result<()> {
    let top: Value = serde_json::from_slice(&http::get(login.web, "/top.json", SOON)?.body).context(|| "top".into())?;
    ensure(ids(&top).any(|id| id == "vm0.1" || id == "web-2"), || format!("{top}"))?;
    let paths = ["/metrics", "/vms.json?limit=1000", "/metrics", "/top.json"];
    let look = |at: usize| -> Result<u16> { Ok(http::get(login.web, paths[at % paths.len()], SOON)?.status) };
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..LOOKERS).map(|at| scope.spawn(move || look(at))).collect();
        all.into_iter().map(|one| one.join().expect("it does not panic")).collect::<Result<_>>()
    })?;
    ensure(answers.contains(&200) && answers.iter().all(|status| matches!(status, 200 | 503)), || {
        format!("{answers:?}")
    })?;
    login.good("vm show vm0.1")?;
    running.must_not_say(0, "vm0.1 ended")
}

/// Those that are asked for are counted.
fn found(login: &Login) -> Result<()> {
    login.good("vm create web-1 --image httpd --tenant blue && vm create web-2 --image httpd && vm start web-2")?;
    for (query, vms) in [
        ("--state out", VMS),
        ("--image supervisor-vm", 1),
        ("--name web-", 2),
        ("--name web- --state stopped", 1),
        ("--tenant blue", 1),
        ("--image httpd --after vm99990.1", 11),
    ] {
        let said = login.good(&format!("vm list --count {query}"))?;
        ensure(said.trim() == vms.to_string(), || format!("`vm list --count {query}` says {said} and not {vms}"))?;
        let words: Vec<&str> = query.trim_start_matches("--").split(" --").collect();
        let path = format!("/vms.json?count&{}", words.join("&").replace(' ', "="));
        let count = http::get(login.web, &path, SOON)?;
        let count = String::from_utf8_lossy(&count.body).into_owned();
        ensure(count == format!("{{\"vms\":{vms}}}\n"), || format!("{path} says {count} and not {vms}"))?;
    }
    login.bad("vm list --limit 1001", 2, "a number from 1 to 1000")
}

fn ids(list: &Value) -> impl Iterator<Item = String> {
    list.as_array().into_iter().flatten().map(|vm| vm["id"].as_str().or(vm["name"].as_str()).unwrap_or("?").to_owned())
}

/// All of them, page by page, as the words say that it goes on.
fn over_ssh(login: &Login) -> Result<()> {
    let (mut all, mut after) = (BTreeSet::new(), String::new());
    loop {
        let (out, error, status) = login.ask_with(&format!("vm list --json{after}"), "")?;
        ensure(status == Some(0), || error.clone())?;
        let list: Value = serde_json::from_str(&out).context(|| out.clone())?;
        let before = all.len();
        all.extend(ids(&list));
        let Some((_, word)) = error.split_once("--after ") else { break };
        ensure(all.len() == before + PAGE, || format!("a page has {} others", all.len() - before))?;
        after =
            format!(" --after {}", word.split_whitespace().next().unwrap_or_default().trim_matches(['`', ',', ':']));
    }
    ensure(all.len() == VMS + 2, || format!("{} VMs are listed", all.len()))
}

fn over_http(login: &Login) -> Result<()> {
    let (mut all, mut path) = (BTreeSet::new(), "/vms.json".to_owned());
    loop {
        let answer = http::get(login.web, &path, SOON)?;
        ensure(answer.status == 200, || format!("{path}: {}", answer.status))?;
        let list: Value = serde_json::from_slice(&answer.body).context(|| path.clone())?;
        all.extend(ids(&list));
        let Some(next) = answer.header("link") else { break };
        path = next.split(['<', '>']).nth(1).context(|| next.to_owned())?.to_owned();
    }
    ensure(all.len() == VMS + 2, || format!("{} VMs are listed over HTTP", all.len()))?;
    // What the page looks at: 200 at a time, and the machine.
    for (path, most) in
        [("/", 64 << 10), ("/vms.json?limit=200", 64 << 10), ("/node.json", 4096), ("/metrics", 3 << 20)]
    {
        let answer = http::get(login.web, path, SOON)?;
        ensure(answer.status == 200 && answer.body.len() < most, || format!("{path} has {} bytes", answer.body.len()))?;
    }
    let one = http::get(login.web, "/vms.json?name=web-&limit=200", SOON)?;
    let one: Value = serde_json::from_slice(&one.body).context(|| "no list".into())?;
    ensure(ids(&one).count() == 2, || format!("{one}"))
}

/// Who looks at all keeps nobody waiting.
fn beside(running: &Running, login: &Login) -> Result<()> {
    std::thread::scope(|scope| {
        let counts: Vec<_> = (0..2).map(|_| scope.spawn(|| login.good("vm list --count --image nobody"))).collect();
        let end = Instant::now() + SOON;
        let mut served = 0;
        while counts.iter().any(|count| !count.is_finished()) && Instant::now() < end {
            login.good("vm show web-2")?;
            served += 1;
        }
        for count in counts {
            let said = count.join().expect("it does not panic")?;
            ensure(said == "0\n", || said.clone())?;
        }
        ensure(served > 3, || format!("{served} were served meanwhile"))
    })?;
    running.must_not_say(0, "ERROR")
}
