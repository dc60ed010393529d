//! Virtual disks and policies, at the operator's VM and over HTTP; and that it powers the machine off.

use super::ensure;
use super::supervisor::{Login, start_as};
use super::supervisor_http::Client;
use crate::disk::{fsck, mkdisk};
use crate::error::{Context, Result, fail};
use crate::http;
use crate::machine::{DiskKind, run_dir};
use crate::test::Case;
use crate::test::lab::{Lab, Running, number};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    Case {
        name: "supervisor: disks",
        asserts: "the operator makes virtual disks, keeps snapshots, gives them to VMs and removes them, by command and over HTTP; a VM finds zeros on a new one where another one lay; those of a tenant have no more together than it may; what cannot be is refused with reason and remedy; a death of diskmux is told; fsck finds all well",
        run: disks,
    },
    Case {
        name: "supervisor: policies",
        asserts: "the operator lists policies, lets another one run, and is told of bad names; sees which VM takes most time; and whoever powers the machine off has the answer before it goes, over SSH and over HTTP",
        run: policies,
    },
];

/// How long something may take with another machine beside.
const SOON: Duration = Duration::from_secs(120);

fn json(login: &Login, line: &str) -> Result<Value> {
    let said = login.good(line)?;
    serde_json::from_str(&said).context(|| said.clone())
}

/// The virtual disk of this name, as it is listed.
fn disk(login: &Login, name: &str) -> Result<Value> {
    let all = json(login, "disk list --json")?;
    let found = all.as_array().into_iter().flatten().find(|disk| disk["name"] == name);
    found.cloned().context(|| format!("no {name} in {all}"))
}

/// A VM of this name with this disk reads all of it: what it says of it.
fn reads(running: &Running, login: &Login, name: &str, disk: &str) -> Result<String> {
    let mark = running.mark();
    login.good(&format!("vm create {name} --image disk-log --disk {disk} -- mode=read && vm start {name}"))?;
    let line = running.wait_for_since(mark, "disk-log: read zeros=", SOON)?;
    ensure(number(&line, "corrupt") == Some(0) && number(&line, "failed") == Some(0), || line.clone())?;
    running.wait_for_since(mark, " ended: exited", SOON)?;
    login.good(&format!("vm destroy {name}"))?;
    let (_, found) = line.split_once("zeros=").context(|| line.clone())?;
    Ok(found.to_owned())
}

fn appends(running: &Running, login: &Login, name: &str, disk: &str) -> Result<()> {
    let mark = running.mark();
    login.good(&format!("vm create {name} --image disk-log --disk {disk} -- append=3 && vm start {name}"))?;
    running.wait_for_since(mark, "disk-log: done", SOON)?;
    running.wait_for_since(mark, " ended: exited", SOON).map(drop)
}

fn disks(lab: &Lab) -> Result<()> {
    let image = run_dir()?.join("disk");
    let words = ["--disk=docs=256KiB", "--disk=large=1MiB", "--size=8064KiB"].map(PathBuf::from);
    mkdisk::make(&mkdisk::Args::parse([image.clone()].into_iter().chain(words))?)?;
    let options = "vms=supervisor-vm net=10.0.2.16/24,gw=10.0.2.2";
    let (running, login) = start_as(lab, options, |boot| boot.disks(DiskKind::Ide, std::slice::from_ref(&image)))?;
    running.wait_for("diskmux: set foraker: 1 members", SOON)?;
    commands(&running, &login)?;
    over_http(&login)?;
    quotas(&login)?;
    killed(&running, &login)?;
    let audit = login.good("audit")?;
    for written in [
        "\"what\":\"disk create logs 512K\",\"outcome\":\"done\"",
        "\"what\":\"disk rm docs\",\"outcome\":\"docs is the disk of ",
    ] {
        ensure(audit.contains(written), || format!("{written} is not in {audit}"))?;
    }
    running.power_off()?;
    all_is_well(&image)
}

fn commands(running: &Running, login: &Login) -> Result<()> {
    let docs = disk(login, "docs")?;
    let is = docs["bytes"] == 256 << 10
        && docs["read_only"] == false
        && docs["beneath"].is_null()
        && docs["vms"] == Value::Array(vec![]);
    ensure(is, || format!("{docs}"))?;
    // What is written on one is not on the next one at its place.
    let before = reads(running, login, "r", "docs:ro")?;
    appends(running, login, "w", "docs")?;
    login.bad("disk rm docs", 1, "docs is the disk of w: `vm destroy` what is not needed, or `disk detach` it")?;
    login.good("disk snapshot docs kept")?;
    let (docs, kept) = (disk(login, "docs")?, disk(login, "kept")?);
    ensure(docs["beneath"] == "kept" && kept["read_only"] == true, || format!("{docs} {kept}"))?;
    let written = reads(running, login, "r", "kept:ro")?;
    ensure(written != before, || format!("nothing was written: {written}"))?;
    login.bad("disk snapshot kept again", 1, "kept is never written")?;
    login.bad("disk rm kept", 1, "another virtual disk lies on kept: `disk list` says which; remove that one first")?;
    login.good("disk detach w && disk rm docs && disk rm kept")?;
    login.good("disk create logs 512K")?;
    login.bad("disk create logs 512K", 1, "there is a logs already: take another name")?;
    login.bad("disk create all 1G", 1, "all needs ")?;
    login.bad("disk create a/b 4K", 1, "`a/b` is no name of a virtual disk: take 1 to 16 of")?;
    login.bad("disk rm docs", 1, "there is no virtual disk `docs`: `disk list` shows all")?;
    login.good("disk create docs 256K")?;
    let found = reads(running, login, "r", "docs:ro")?;
    ensure(found == before, || format!("a new disk has {found} instead of {before}"))?;
    // A VM has another one from its next start on, and only then.
    login.bad("disk attach nobody docs", 1, "no VM has the name `nobody`")?;
    login.bad("disk attach w nothing", 1, "there is no virtual disk `nothing`")?;
    login.bad("disk detach w", 1, "w was created without a disk")?;
    login.good("disk snapshot docs frozen")?;
    login.bad("disk attach w frozen", 1, "frozen is never written: `disk attach w frozen:ro`")?;
    login.good("disk attach w logs")?;
    let mark = running.mark();
    login.good("vm start w")?;
    running.wait_for_since(mark, "disk-log: done", SOON)?;
    running.wait_for_since(mark, " ended: exited", SOON)?;
    login.good("vm create h --image httpd --disk frozen:ro && vm start h")?;
    starts(running, login)?;
    login.bad("disk attach h docs:ro", 1, "h runs, and has the disk that it was started with: `vm stop h` first")?;
    login.bad("disk rm frozen", 1, "frozen is the disk of h: ")?;
    let logs = disk(login, "logs")?;
    ensure(logs["vms"] == Value::Array(vec!["w".into()]), || format!("{logs}"))?;
    let table = login.good("disk list")?;
    let row = table.lines().find(|line| line.starts_with("frozen "));
    ensure(row.is_some_and(|row| row.contains(" 256 read-only ") && row.ends_with(" h")), || table.clone())?;
    login.good("vm destroy h && vm destroy w").map(drop)
}

/// VMs that could not have their disks are not started.
fn starts(running: &Running, login: &Login) -> Result<()> {
    login.good("vm create s --image httpd --disk nothing")?;
    login.bad("vm start s", 1, "s does not start: there is no virtual disk `nothing`: `disk list` shows all")?;
    login.good("vm create t --image httpd --disk frozen")?;
    login.bad("vm start t", 1, "t does not start: frozen is never written: `disk attach t frozen:ro`")?;
    login.good("vm destroy t && disk create one 64K && disk attach s one && vm start s")?;
    for how in ["one", "one:ro"] {
        login.good(&format!("vm create t --image httpd --disk {how}"))?;
        login.bad("vm start t", 1, "t does not start: s has one: `vm stop s` first, or let both have one:ro")?;
        login.good("vm destroy t")?;
    }
    login.good(
        "vm kill s && disk attach s one:ro && vm start s && vm create t --image httpd --disk one:ro && vm start t",
    )?;
    login.good("vm kill s && vm kill t")?;
    nameless(running, login)?;
    login.good("vm destroy s && vm destroy t && disk rm one").map(drop)
}

/// The same where the VM that has the disk was created on the operator's line, and where the one that wants it is.
fn nameless(running: &Running, login: &Login) -> Result<()> {
    let refused = |line: &str, says: &str| match running.monitor(line) {
        Ok(said) => fail!("`{line}` is done: {said:?}"),
        Err(why) => ensure(why.to_string().contains(says), || format!("`{line}`: {why}")),
    };
    let create = |disk: &str| -> Result<u64> {
        let created = running.monitor(&format!("create httpd disk={disk}"))?;
        created.iter().find_map(|line| number(line, "index")).context(|| format!("{created:?}"))
    };
    let slot = create("one")?;
    // It has it when it has come in.
    let has_come_in = |slot: u64| -> Result<()> {
        let (end, load) = (Instant::now() + SOON, format!("load index={slot} "));
        while !running.monitor("disks")?.iter().any(|line| line.starts_with(&load)) {
            ensure(Instant::now() < end, || format!("nobody serves the disk of VM {slot}"))?;
        }
        Ok(())
    };
    has_come_in(slot)?;
    login.bad("vm start s", 1, &format!("s does not start: vm{slot}."))?;
    for how in ["one", "one:ro"] {
        refused(
            &format!("create httpd disk={how}"),
            &format!("error create: VM {slot} has one; write \"shutdown {slot}\""),
        )?;
    }
    let mark = running.mark();
    running.monitor(&format!("destroy {slot}"))?;
    running.wait_for_since(mark, " ended: destroyed", SOON)?;
    let readers = [create("one:ro")?, create("one:ro")?];
    login.good("vm start s")?;
    has_come_in(readers[0])?;
    refused("create httpd disk=one", "has one; write")?;
    // What was done there is written down.
    let end = Instant::now() + SOON;
    loop {
        let audit = login.good("audit")?;
        let written = [
            "\"who\":\"COM1\",\"what\":\"create httpd disk=one:ro\",\"outcome\":\"done\"".to_owned(),
            format!("\"who\":\"COM1\",\"what\":\"destroy {slot}\",\"outcome\":\"done\""),
            "\"who\":\"COM1\",\"what\":\"create httpd disk=one\",\"outcome\":\"create: VM ".to_owned(),
        ];
        if written.iter().all(|line| audit.contains(line)) {
            break;
        }
        ensure(Instant::now() < end, || format!("{written:?} are not in {audit}"))?;
    }
    for slot in readers {
        running.monitor(&format!("destroy {slot}"))?;
    }
    Ok(())
}

fn over_http(login: &Login) -> Result<()> {
    let token = login.good("token new ci")?;
    let client = Client { login, token: token.trim() };
    let made = client.is(201, "POST /disks", r#"{"name":"web","size":"64K"}"#)?;
    ensure(made["name"] == "web" && made["bytes"] == 64 << 10, || format!("{made}"))?;
    client.refused(409, "POST /disks", r#"{"name":"web","size":"64K"}"#, "there is a web already")?;
    client.refused(400, "POST /disks", r#"{"name":"web","size":"much"}"#, "much: give bytes")?;
    let taken = client.is(201, "POST /disks/web/snapshot", r#"{"name":"web-1"}"#)?;
    ensure(taken["name"] == "web-1" && taken["read_only"] == true, || format!("{taken}"))?;
    client.refused(404, "POST /disks/none/snapshot", r#"{"name":"b"}"#, "there is no virtual disk `none`")?;
    client.is(201, "POST /vms", r#"{"name":"v","image":"httpd"}"#)?;
    client.is(200, "PUT /vms/v/disk", r#"{"disk":"web-1:ro"}"#)?;
    client.refused(409, "DELETE /disks/web-1", "", "web-1 is the disk of v")?;
    client.is(200, "DELETE /vms/v/disk", "")?;
    client.refused(404, "PUT /vms/none/disk", r#"{"disk":"web"}"#, "no VM has the name `none`")?;
    Client { login, token: "" }.refused(401, "DELETE /disks/web", "", "show a token")?;
    client.is(204, "DELETE /disks/web", "")?;
    client.is(204, "DELETE /disks/web-1", "")?;
    client.refused(404, "DELETE /disks/web", "", "there is no virtual disk `web`")?;
    let all = client.is(200, "GET /disks.json", "")?;
    let names: Vec<_> = all.as_array().into_iter().flatten().map(|one| one["name"].to_string()).collect();
    ensure(names.len() == 4 && !names.contains(&"\"web\"".to_owned()), || format!("{all}"))
}

/// Virtual disks of a tenant have no more together than it may.
fn quotas(login: &Login) -> Result<()> {
    let said = login.good("tenant set blue --disk 64K && disk create b-1 32K --tenant blue")?;
    ensure(said.contains("; its virtual disks have 0 KiB, of 64 KiB at most\n"), || said.clone())?;
    let why = "with it the virtual disks of the tenant blue would have 68 KiB, and its quota is 64 KiB: `disk rm` one that is not needed, or `tenant set blue --disk 68K`";
    login.bad("disk create b-2 36K --tenant blue", 1, why)?;
    login.good("disk snapshot b-1 b-s")?;
    login.bad("disk snapshot b-1 b-t", 1, "would have 96 KiB, and its quota is 64 KiB")?;
    let token = login.good("token new quotas")?;
    let client = Client { login, token: token.trim() };
    client.refused(409, "POST /disks", r#"{"name":"b-2","size":"4K","tenant":"blue"}"#, "would have 68 KiB")?;
    client.refused(
        400,
        "POST /disks",
        r#"{"name":"b-2","size":"4K","tenant":"Blue"}"#,
        "`Blue` is no tenant's name",
    )?;
    // One that does not come is not counted, nor is one that has gone; one that is nobody's never is.
    login.bad("disk create b-1 4K --tenant red", 1, "there is a b-1 already")?;
    login.good("disk rm b-1 && disk create b-2 32K --tenant blue && disk create n-1 64K")?;
    let blue = json(login, "tenant show blue --json")?;
    ensure(blue["disk_bytes"] == 64 << 10 && blue["quota_disk_bytes"] == 64 << 10, || format!("{blue}"))?;
    ensure(disk(login, "b-2")?["tenant"] == "blue" && disk(login, "n-1")?["tenant"].is_null(), || "whose?".into())?;
    let answer = http::get(login.web, "/metrics", SOON)?;
    let figures = String::from_utf8_lossy(&answer.body).into_owned();
    for line in [
        "foraker_tenant_disk_bytes{tenant=\"blue\"} 65536\n",
        "foraker_tenant_quota_disk_bytes{tenant=\"blue\"} 65536\n",
    ] {
        ensure(figures.contains(line), || format!("{line} is not in {figures}"))?;
    }
    let set = client.is(200, "PUT /tenants/blue", r#"{"vms":3,"disk":"128K"}"#)?;
    ensure(set["quota_disk_bytes"] == 128 << 10 && set["quota_vms"] == 3, || format!("{set}"))?;
    client.is(201, "POST /disks", r#"{"name":"b-3","size":"64K","tenant":"blue"}"#)?;
    login.good("disk rm b-s && disk rm b-2 && disk rm b-3 && disk rm n-1")?;
    login.good("tenant set blue --vms unlimited --disk unlimited")?;
    login.bad("tenant show blue", 1, "blue has neither VMs nor a quota")
}

/// What was made is there when the component has died.
fn killed(running: &Running, login: &Login) -> Result<()> {
    let before = json(login, "disk list --json")?;
    let mark = running.mark();
    login.good("component restart diskmux")?;
    running.wait_for_since(mark, "diskmux: set foraker: 1 members", SOON)?;
    let now = json(login, "disk list --json")?;
    ensure(now == before, || format!("{before}, and then {now}"))
}

fn all_is_well(image: &Path) -> Result<()> {
    let report = fsck::check(&[image.to_path_buf()], false)?;
    ensure(report.faults == 0, || report.text.clone())
}

/// Waits until the machine is off.
pub fn goes_off(running: &Running) -> Result<()> {
    let since = Instant::now();
    while running.is_on() {
        if since.elapsed() > SOON {
            fail!("the machine is still on");
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn policies(lab: &Lab) -> Result<()> {
    let options = "vms=supervisor-vm,httpd net=10.0.2.16/24,gw=10.0.2.2";
    let (running, login) = start_as(lab, options, |boot| boot)?;
    let state = |name: &str| {
        let all = json(&login, "policy show sched --json")?;
        let found = all.as_array().into_iter().flatten().find(|policy| policy["name"] == name);
        found.map(|policy| policy["state"].to_string()).context(|| format!("{all}"))
    };
    let all = login.good("policy list")?;
    ensure(all.lines().any(|line| line.starts_with("netmux ")) && all.contains(" runs\n"), || all.clone())?;
    ensure(state("fair")? == "\"runs\"" && state("round-robin")? == "\"ready\"", || all.clone())?;
    login.good("policy set sched round-robin")?;
    ensure(state("fair")? == "\"ready\"" && state("round-robin")? == "\"runs\"", || "it is as it was".into())?;
    login.bad("policy set sched quick", 1, "sched has no policy `quick`: known are ")?;
    login.bad("policy set shed fair", 1, "there is no component `shed` with policies: known are ")?;
    let token = login.good("token new ci")?;
    let client = Client { login: &login, token: token.trim() };
    client.is(200, "PUT /policies/sched", r#"{"policy":"fair"}"#)?;
    client.refused(409, "PUT /policies/sched", r#"{"policy":"quick"}"#, "sched has no policy `quick`")?;
    client.refused(404, "PUT /policies/shed", r#"{"policy":"fair"}"#, "there is no component `shed`")?;
    client.refused(400, "PUT /policies/sched", "[]", "that is no policy")?;
    ensure(state("fair")? == "\"runs\"", || "it is as it was".into())?;
    busy(&login)?;
    let (said, _, status) = login.ask_with("node shutdown", "")?;
    ensure(status == Some(0) && said == "the machine is powered off\n", || format!("{status:?} {said}"))?;
    goes_off(&running)?;
    let (running, login) = start_as(lab, options, |boot| boot)?;
    let token = login.good("token new ci")?;
    Client { login: &login, token: "" }.refused(401, "POST /node/shutdown", "", "show a token")?;
    let said = Client { login: &login, token: token.trim() }.is(202, "POST /node/shutdown", "")?;
    ensure(said["done"] == "the machine is powered off", || format!("{said}"))?;
    goes_off(&running)
}

/// A VM that computes for ever takes most time.
fn busy(login: &Login) -> Result<()> {
    login.good("vm create spin --image bench -- bench=compute && vm start spin")?;
    let top = json(login, "vm top --limit 1 --json")?;
    let first = &top[0];
    let is = first["name"] == "spin" && first["cpu_permille"].as_u64().is_some_and(|part| (100..=1100).contains(&part));
    ensure(is && top.as_array().is_some_and(|all| all.len() == 1), || format!("{top}"))?;
    let table = login.good("vm top")?;
    ensure(table.lines().nth(1).is_some_and(|row| row.starts_with("spin ")), || table.clone())?;
    login.good("vm destroy spin").map(drop)
}
