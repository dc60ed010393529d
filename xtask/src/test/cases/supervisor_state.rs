//! What the operator's VM keeps on its virtual disk: over its own end, and over a start of the machine.

use super::ensure;
use super::supervisor::{Login, start_as};
use super::supervisor_http::Client;
use crate::audit;
use crate::disk::{fsck, mkdisk};
use crate::error::{Context, Result};
use crate::machine::{DiskKind, run_dir};
use crate::operator_ports::IMAGE;
use crate::test::Case;
use crate::test::lab::{Lab, Running};
use serde_json::Value;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const CASES: &[Case] = &[
    Case {
        name: "supervisor: state",
        asserts: "the host's key, names, tokens, quotas and the audit log are as they were when the operator's VM was killed and when the machine was off; VMs that ran run again, others do not; no other VM gets the disk; the log is one chain",
        run: state,
    },
    Case {
        name: "supervisor: a disk that is not to be used",
        asserts: "a disk of somebody else, one to read only, one that is too small and one that is damaged are refused with reason and remedy and not written, the operator's VM works without them, and begins one anew when told to",
        run: refused,
    },
    Case {
        name: "supervisor: a fleet file on the boot medium",
        asserts: "VMs are made as it says when the operator's VM starts, written down as others are; another start of it makes none a second time, with a disk and without one; what is wrong with it is said with its line",
        run: fleet,
    },
];

/// How long something may take with another machine beside.
const SOON: Duration = Duration::from_secs(120);
const OPTIONS: &str = "vms=supervisor-vm,httpd net=10.0.2.16/24,gw=10.0.2.2";

/// A machine with these disks, whose operator's VM has this virtual disk.
fn start(lab: &Lab, image: &Path, disk: &'static str) -> Result<(Running, Login)> {
    start_with_fleet(lab, image, disk, "")
}

/// The same with a fleet file on the boot medium.
fn start_with_fleet(lab: &Lab, image: &Path, disk: &'static str, file: &str) -> Result<(Running, Login)> {
    let give = move |system: &mut crate::manifest::model::System| {
        let operators = system.image.iter_mut().filter(|image| image.name == IMAGE);
        operators.for_each(|image| image.disk = Some(disk.to_owned()));
    };
    let images = [image.to_path_buf()];
    start_as(lab, OPTIONS, |boot| boot.disks(DiskKind::Ide, &images).fleet(file).system(give))
}

/// The host key's fingerprint that was said behind a mark, with what was said of it.
fn host_key(running: &Running, mark: usize, how: &str) -> Result<String> {
    let line = running.wait_for_since(mark, "ssh: the host key is SHA256:", SOON)?;
    ensure(line.contains(how), || format!("{line} instead of {how}"))?;
    let (_, rest) = line.split_once("the host key is ").context(|| line.clone())?;
    Ok(rest.split(',').next().unwrap_or_default().to_owned())
}

/// What the client finds: the fingerprint of the host's key.
fn offered(login: &Login) -> Result<String> {
    let port = login.place.port().to_string();
    let said = std::process::Command::new("ssh-keyscan")
        .args(["-T", "60", "-t", "ed25519", "-p", &port, "127.0.0.1"])
        .output();
    let said = said.context(|| "cannot start ssh-keyscan".into())?;
    let file = run_dir()?.join("known");
    std::fs::write(&file, &said.stdout).context(|| "cannot write".into())?;
    crate::operator::fingerprint(&file)
}

fn json(login: &Login, line: &str) -> Result<Value> {
    let said = login.good(line)?;
    serde_json::from_str(&said).context(|| said.clone())
}

/// Ends the operator's VM, and creates another one. Where it begins in the log.
fn again(running: &Running, more: &str) -> Result<usize> {
    let mark = running.mark();
    running.monitor("destroy 0")?;
    running.wait_for_since(mark, "core: vm0.", SOON)?;
    let mark = running.mark();
    running.monitor(&format!("create supervisor-vm{more}"))?;
    running.wait_for_since(mark, "supervisor: serving http://10.0.2.16/", SOON)?;
    Ok(mark)
}

fn state(lab: &Lab) -> Result<()> {
    let image = run_dir()?.join("disk");
    let words = ["--disk=operator=512KiB", "--disk=docs=256KiB", "--size=8064KiB"].map(PathBuf::from);
    mkdisk::make(&mkdisk::Args::parse([image.clone()].into_iter().chain(words))?)?;
    let (running, login) = start(lab, &image, "operator")?;
    let key = host_key(&running, 0, "made now and kept from now on")?;
    ensure(offered(&login)? == key, || format!("another key than {key} is offered"))?;
    make(&login)?;
    not_for_others(&login)?;
    let token = login.good("token new ci")?;
    // Another one finds everything as it was, also what runs.
    let web = json(&login, "vm show web-1 --json")?;
    let mark = again(&running, "")?;
    ensure(host_key(&running, mark, "as it was kept")? == key, || "the host's key is another one".into())?;
    ensure(offered(&login)? == key, || format!("another key than {key} is offered"))?;
    let found = json(&login, "vm show web-1 --json")?;
    ensure(found["id"] == web["id"] && found["state"] != "stopped", || format!("{web}, and then {found}"))?;
    as_it_was(&login, token.trim())?;
    let export = whole(&running, &login, 1)?;
    ensure(export.matches("\"what\":\"starts as vm0.").count() == 2, || export.clone())?;
    login.good("vm kill third && vm destroy gone && token new later && token rm later")?;
    let last = export.lines().count();
    // On COM1: that is on the disk before the machine is off.
    running.power_off()?;
    // The machine starts again, with the same disk.
    let (mut running, login) = start(lab, &image, "operator")?;
    ensure(host_key(&running, 0, "as it was kept")? == key, || "the host's key is another one".into())?;
    running.wait_for("state: of 2 VMs that ran when the machine went off, 2 run again", SOON)?;
    running.wait_until_ready(SOON)?;
    let found = json(&login, "vm show web-1 --json")?;
    let is = found["state"] != "stopped" && found["limit_bytes"] == 8 << 20 && found["tenant"] == "blue";
    ensure(is, || format!("{found}"))?;
    as_it_was(&login, token.trim())?;
    login.bad("vm show gone", 1, "there is no VM `gone`")?;
    let export = whole(&running, &login, 1)?;
    ensure(
        export.lines().count() > last && export.contains("\"who\":\"supervisor\",\"what\":\"vm start web-1\""),
        || export.clone(),
    )?;
    ensure(export.contains("\"who\":\"COM1\",\"what\":\"poweroff\",\"outcome\":\"done\""), || export.clone())?;
    let node = json(&login, "node show --json")?;
    let is = node["state_disk"] == "operator" && node["state_kept"] == true && node["state_why"].is_null();
    ensure(is, || format!("{node}"))?;
    running.power_off()?;
    let report = fsck::check(&[image], false)?;
    ensure(report.faults == 0, || report.text.clone())
}

/// VMs of all kinds, and a quota.
fn make(login: &Login) -> Result<()> {
    login.good("disk create mine 64K --tenant blue && tenant set blue --vms 3 --memory 64M --disk 1M --pool 2M && vm create web-1 --image httpd --memory 8M --weight 200 --tenant blue -- a=b && vm start web-1")?;
    let file = "[[vm]]\nname = \"spare\"\nimage = \"disk-log\"\ndisk = \"docs:ro\"\nstate = \"stopped\"\n";
    let (_, error, status) = login.ask_with("fleet apply", file)?;
    ensure(status == Some(0), || error)?;
    login.good(
        "vm create second --image udp-echo && vm start second && vm create third --image httpd && vm start third",
    )?;
    login
        .good("vm create halted --image httpd && vm start halted && vm kill halted && vm create gone --image httpd")?;
    let state = login.good("node show")?;
    ensure(state.contains("state    kept on the virtual disk operator, 4 of 188 KiB"), || state.clone())
}

/// Nobody gets at the private key by way of the disk.
fn not_for_others(login: &Login) -> Result<()> {
    let own = "operator is the disk of the operator's VM, with the private key of this machine";
    for line in [
        "disk snapshot operator copy",
        "disk snapshot docs operator",
        "disk attach spare operator:ro",
        "vm create thief --image disk-log --disk operator:ro",
    ] {
        login.bad(line, 1, own)?;
    }
    login.bad("disk rm operator", 1, "operator is the disk of ")?;
    let file = "[[vm]]\nname = \"thief\"\nimage = \"disk-log\"\ndisk = \"operator:ro\"\n";
    let (_, error, status) = login.ask_with("fleet apply", file)?;
    ensure(status == Some(1) && error.contains(own), || format!("{status:?} {error}"))
}

/// What [`make`] has made, but for VMs that run.
fn as_it_was(login: &Login, token: &str) -> Result<()> {
    let fleet = "[[vm]]\nname = \"spare\"\nimage = \"disk-log\"\ndisk = \"docs:ro\"\nstate = \"stopped\"\n\n[[vm]]\nname = \"web-1\"\nimage = \"httpd\"\nmemory = \"8M\"\nweight = 200\ntenant = \"blue\"\nargs = \"a=b\"\n";
    let (out, error, status) = login.ask_with("fleet apply", fleet)?;
    ensure(status == Some(0) && out == "2 VMs are as the file says\n", || format!("{status:?} {out}{error}"))?;
    for name in ["spare", "halted"] {
        let found = json(login, &format!("vm show {name} --json"))?;
        ensure(found["state"] == "stopped", || format!("{found}"))?;
    }
    let tenant = json(login, "tenant show blue --json")?;
    ensure(tenant["quota_vms"] == 3 && tenant["quota_bytes"] == 64 << 20, || format!("{tenant}"))?;
    ensure(
        tenant["disk_bytes"] == 64 << 10
            && tenant["quota_disk_bytes"] == 1 << 20
            && tenant["quota_pool_bytes"] == 2 << 20,
        || format!("{tenant}"),
    )?;
    let client = Client { login, token };
    client.is(201, "POST /vms", r#"{"name":"by-token","image":"httpd"}"#)?;
    client.is(204, "DELETE /vms/by-token", "")?;
    Client { login, token: "foraker_none" }.refused(401, "DELETE /vms/web-1", "", "show a token")?;
    login.bad("token new ci", 1, "is the name of another token")
}

/// The audit log, which is one chain from this line on, and as the machine's log says.
fn whole(running: &Running, login: &Login, first: u64) -> Result<String> {
    let export = login.good("audit")?;
    let checked = audit::check(&export)?;
    ensure(export.starts_with(&format!("{{\"audit\":\"foraker\",\"first\":{first},")), || export.clone())?;
    audit::compare(&checked, &running.said_since(0).join("\n"))?;
    Ok(export)
}

fn refused(lab: &Lab) -> Result<()> {
    let image = run_dir()?.join("disk");
    let words =
        ["--disk=docs=256KiB", "--disk=operator=256KiB", "--disk=tiny=32KiB", "--size=8064KiB"].map(PathBuf::from);
    mkdisk::make(&mkdisk::Args::parse([image.clone()].into_iter().chain(words))?)?;
    let (running, login) = start(lab, &image, "operator")?;
    login.good("vm create kept --image httpd")?;
    login.bad("state begin-anew", 1, "operator is in use")?;
    let mark = running.mark();
    running.monitor("create disk-log disk=docs append=3")?;
    running.wait_for_since(mark, "disk-log: done", SOON)?;
    running.wait_for_since(mark, " ended: exited", SOON)?;
    for (disk, why) in [
        (
            "docs",
            "docs is not used: block 0 holds what this VM has not written, so it may be somebody's; give another disk",
        ),
        ("docs:ro", "docs is not used: it is attached for reading only: attach it without :ro"),
        ("tiny", "tiny is not used: it has 32 KiB, and 64 are needed"),
    ] {
        let mark = again(&running, &format!(" disk={disk}"))?;
        // A long line comes in pieces.
        let begins: String = why.chars().take(60).collect();
        running.wait_for_since(
            mark,
            &format!("state: kept until this VM ends only: its virtual disk {begins}"),
            SOON,
        )?;
        host_key(&running, mark, ", made for this start, since its disk is not used")?;
        login.good("vm create a --image httpd && vm start a && vm destroy a")?;
        login.bad("vm show kept", 1, "there is no VM `kept`")?;
        let node = json(&login, "node show --json")?;
        ensure(
            node["state_kept"] == false && node["state_why"].as_str().is_some_and(|said| said.contains(why)),
            || format!("{node}"),
        )?;
    }
    login.bad("state begin-anew", 1, "tiny cannot be used: it has 32 KiB, and 64 are needed")?;
    // Nothing was written on that of somebody else.
    let mark = running.mark();
    running.monitor("create disk-log disk=docs append=1")?;
    running.wait_for_since(mark, "disk-log: records=3 last=3", SOON)?;
    running.wait_for_since(mark, " ended: exited", SOON)?;
    let mark = again(&running, " disk=docs")?;
    let key = host_key(&running, mark, ", made for this start")?;
    login.good("vm create mine --image httpd && state begin-anew && vm create yours --image httpd")?;
    let mark = again(&running, " disk=docs")?;
    ensure(host_key(&running, mark, "as it was kept")? == key, || "the host's key is another one".into())?;
    login.good("vm show mine && vm show yours")?;
    let mark = again(&running, "")?;
    host_key(&running, mark, "as it was kept")?;
    login.good("vm show kept")?;
    running.power_off()?;
    damaged(lab, &image)
}

/// A block that is not as it was written, behind diskmux's own checks.
fn damaged(lab: &Lab, image: &Path) -> Result<()> {
    let bytes = std::fs::read(image).context(|| "cannot read the disk".into())?;
    let magic = b"FKOPDISK";
    let places: Vec<usize> = bytes.windows(8).enumerate().filter(|(_, part)| part == magic).map(|(at, _)| at).collect();
    ensure(places.len() > 2, || format!("{} blocks of a store are on the disk", places.len()))?;
    let file = std::fs::OpenOptions::new().write(true).open(image).context(|| "cannot open the disk".into())?;
    for at in &places {
        file.write_all_at(&[bytes[at + 60] ^ 1], (at + 60) as u64).context(|| "cannot write".into())?;
    }
    let (running, login) = start(lab, image, "operator")?;
    running.wait_for(
        "state: kept until this VM ends only: its virtual disk operator is not used: block 0 is not as it was written",
        SOON,
    )?;
    login.good(
        "vm create b --image httpd && vm start b && vm destroy b && state begin-anew && vm create after --image httpd",
    )?;
    let mark = again(&running, "")?;
    host_key(&running, mark, "as it was kept")?;
    login.good("vm show after")?;
    running.power_off()
}

const FLEET: &str = "[[vm]]\nname = \"f\"\nimage = \"httpd\"\ncount = 2\nmemory = \"8M\"\n\n[[vm]]\nname = \"spare\"\nimage = \"udp-echo\"\nstate = \"stopped\"\n";

fn fleet(lab: &Lab) -> Result<()> {
    let (running, login) = start_as(lab, OPTIONS, |boot| boot.fleet(FLEET))?;
    running.wait_for("fleet: of 3 VMs in the file: 3 created", SOON)?;
    ensure(login.good("vm list --count")? == "5\n", || "not all are there".into())?;
    let audit = whole(&running, &login, 1)?;
    for what in ["vm create f-2 --image httpd --memory 8M", "vm start f-1", "fleet apply, from the boot medium"] {
        let line = format!("\"who\":\"supervisor\",\"what\":\"{what}\",\"outcome\":\"done\"");
        ensure(audit.contains(&line), || format!("{line} is not in\n{audit}"))?;
    }
    // Names end with this VM, and what runs does not.
    let mark = again(&running, "")?;
    running.wait_for_since(mark, "fleet: the file of the boot medium: another operator's VM has applied it", SOON)?;
    ensure(login.good("vm list --count")? == "4\n", || "some were made a second time".into())?;
    running.power_off()?;
    let image = run_dir()?.join("disk");
    let words = ["--disk=operator=256KiB", "--size=8064KiB"].map(PathBuf::from);
    mkdisk::make(&mkdisk::Args::parse([image.clone()].into_iter().chain(words))?)?;
    let (running, login) = start_with_fleet(lab, &image, "operator", FLEET)?;
    running.wait_for("fleet: of 3 VMs in the file: 3 created", SOON)?;
    login.good("vm kill f-1")?;
    let mark = again(&running, "")?;
    running.wait_for_since(mark, "fleet: of 3 VMs in the file: 1 started", SOON)?;
    let mark = again(&running, "")?;
    running.wait_for_since(mark, "fleet: 3 VMs are as the file says", SOON)?;
    ensure(login.good("vm list --count")? == "5\n", || "some were made a second time".into())?;
    running.power_off()?;
    let (running, login) = start_with_fleet(lab, &image, "operator", "[[vm]]\nname = \"a\"\nimage = \"nobody\"\n")?;
    running.wait_for("state: of 2 VMs that ran when the machine went off, 2 run again", SOON)?;
    running.wait_for("fleet: the file of the boot medium: line 1: there is no image `nobody`", SOON)?;
    login.good("vm show f-2")?;
    running.power_off()
}
