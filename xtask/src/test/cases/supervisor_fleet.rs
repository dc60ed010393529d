//! Fleet files at the operator's VM.

use super::ensure;
use super::supervisor::{Login, start_as, start_with};
use crate::error::{Context, Result};
use crate::manifest::model::Tenant;
use crate::test::Case;
use crate::test::lab::{Lab, Running};
use serde_json::Value;
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    Case {
        name: "supervisor: quotas in files",
        asserts: "all quotas of tenants are taken from system.toml and from fleet files in the words of `tenant set`, also those of virtual disks; applied again they change nothing; those that were said on the machine count before the manifest's; nothing is done of a file with a wrong one",
        run: quotas,
    },
    Case {
        name: "supervisor: a script on the boot medium",
        asserts: "its commands are carried out when the machine has started, up to the first line that fails, which is said with its number in the log and written down; another operator's VM does not carry them out again",
        run: script,
    },
    Case {
        name: "supervisor: fleet",
        asserts: "VMs come to be as a file says, a second time changes nothing, a dry run makes no change, others are replaced or destroyed only where that is allowed, progress is told, and the first error is said with its line before anything changes",
        run: fleet,
    },
];

/// How long something may take with another machine beside.
const SOON: Duration = Duration::from_secs(60);
/// VMs of a kind of which progress is told.
const MANY: usize = 150;

const FIRST: &str = "# three web servers and one that stands by\n[[vm]]\nname = \"web\"\nimage = \"httpd\"\ncount = 3\nmemory = \"8M\"\n\n\
                     [[vm]]\nname = \"spare\"\nimage = \"udp-echo\"\nstate = \"stopped\"\n";

fn apply(login: &Login, how: &str, file: &str) -> Result<Value> {
    let (out, error, status) = login.ask_with(&format!("fleet apply --json {how}"), file)?;
    ensure(status == Some(0), || format!("fleet apply {how} ends with {status:?}: {error}"))?;
    serde_json::from_str(&out).context(|| out.clone())
}

/// The steps of a summary, each with its VM.
fn steps(summary: &Value) -> Vec<String> {
    let changes = summary["changes"].as_array().map_or(&[][..], Vec::as_slice);
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    changes.iter().map(|change| word(&change["step"]) + " " + &word(&change["vm"])).collect()
}

fn is(summary: &Value, wanted: &[&str]) -> Result<()> {
    ensure(steps(summary) == wanted, || format!("{summary} instead of {wanted:?}"))
}

fn refused(login: &Login, how: &str, file: &str, says: &str) -> Result<()> {
    let before = login.good("vm list")?;
    let (out, error, status) = login.ask_with(&format!("fleet apply {how}"), file)?;
    ensure(out.is_empty() && status.is_some_and(|status| status == 1 || status == 2) && error.contains(says), || {
        format!("fleet apply {how} ends with {status:?} and says {error:?} and {out:?} instead of \"{says}\"")
    })?;
    // Names, ids and images: states come and go.
    let names = |list: &str| list.lines().map(|line| line.chars().take(46).collect()).collect::<Vec<String>>();
    let after = login.good("vm list")?;
    ensure(names(&before) == names(&after), || format!("{before}\nbefore, and after it was refused\n{after}"))
}

fn fleet(lab: &Lab) -> Result<()> {
    let (running, login) = start_with(lab, &[])?;
    bad(&login)?;
    let all = ["create web-1", "create web-2", "create web-3", "create spare"];
    is(&apply(&login, "--dry-run", FIRST)?, &all)?;
    ensure(login.good("vm list --count")? == "3\n", || "a dry run makes VMs".into())?;
    is(&apply(&login, "", FIRST)?, &all)?;
    running.wait_for("vm5.1: httpd: serving http://10.0.2.21/", SOON)?;
    ensure(login.good("vm list --count --state stopped --name spare")? == "1\n", || "spare runs".into())?;
    ensure(login.good("vm show web-2")?.contains("limit    8192 KiB"), || "web-2 has no limit".into())?;
    let (out, _, _) = login.ask_with("fleet apply", FIRST)?;
    ensure(out == "4 VMs are as the file says\n", || out.clone())?;
    // What has come to be another way is put right.
    login.good("vm kill web-2 && vm start spare")?;
    is(&apply(&login, "", FIRST)?, &["start web-2", "stop spare"])?;
    stopped(&login, "spare")?;
    is(&apply(&login, "", FIRST)?, &[])?;
    changed(&running, &login)?;
    many(&running, &login)?;
    running.power_off()
}

fn stopped(login: &Login, vm: &str) -> Result<()> {
    let end = Instant::now() + SOON;
    while !login.good(&format!("vm show {vm} --json"))?.contains("\"stopped\"") {
        ensure(Instant::now() < end, || format!("{vm} does not end"))?;
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Nothing of a file is done when something in it is wrong.
fn bad(login: &Login) -> Result<()> {
    let good = "[[vm]]\nname = \"a\"\nimage = \"httpd\"\n";
    for (more, says) in [
        ("[[vm]]\nname = \"b\"\nimage = \"nobody\"\n", "line 4: there is no image `nobody`: known are httpd, "),
        ("[[vm]]\nname = \"B\"\nimage = \"httpd\"\n", "line 4: `B` is no name"),
        ("[[vm]]\nname = \"a\"\nimage = \"httpd\"\n", "line 4: line 1 has a VM `a` already"),
        ("cpus = 2\n", "line 4: unknown field `cpus`"),
        ("[[vm]\n", "line 4: "),
        ("count = 20000\n", "line 1: count 20000: give a number from 1 to 10000"),
    ] {
        refused(login, "", &format!("{good}{more}"), says)?;
    }
    refused(login, "", &format!("a = {}", "[".repeat(100_000)), "line 1: too much lies in each other")?;
    refused(login, "", &format!("a = {}{}", "[".repeat(8), "]".repeat(8)), "line 1: unknown field `a`")?;
    refused(login, "", &"#\n".repeat(140_000), "a fleet file has 262144 bytes at most")?;
    refused(login, "&& vm list", good, "the file comes on standard input, and nothing else with it")?;
    refused(login, "--now", good, "`--now` makes no sense here")
}

/// A VM that is another one than it should be, and one that is no longer named.
fn changed(running: &Running, login: &Login) -> Result<()> {
    login.good("vm create by-hand --image httpd")?;
    let file = "[[vm]]\nname = \"web-1\"\nimage = \"httpd\"\nmemory = \"8M\"\n\n[[vm]]\nname = \"web-3\"\nimage = \"httpd\"\nmemory = \"4M\"\n";
    refused(login, "", file, "line 6: web-3 is there and is not like this: with --replace")?;
    is(&apply(login, "--dry-run --replace", file)?, &["replace web-3"])?;
    is(&apply(login, "--replace --prune", file)?, &["replace web-3", "destroy spare", "destroy web-2"])?;
    running.wait_for("core: vm5.1 ended: destroyed", SOON)?;
    ensure(login.good("vm show web-3")?.contains("limit    4096 KiB"), || "web-3 is the old one".into())?;
    is(&apply(login, "--replace --prune", file)?, &[])?;
    login.good("vm show by-hand").map(drop)
}

/// Many changes: it is told how far they are, and each is written down.
fn many(running: &Running, login: &Login) -> Result<()> {
    let file = format!("[[vm]]\nname = \"m\"\nimage = \"udp-echo\"\ncount = {MANY}\nstate = \"stopped\"\n");
    let (out, error, status) = login.ask_with("fleet apply --prune", &file)?;
    let all = MANY + 2;
    ensure(status == Some(0) && error == format!("100 of {all} changes\n"), || format!("{status:?} {out}{error}"))?;
    ensure(out == format!("of {MANY} VMs in the file: {MANY} created, 2 destroyed\n"), || out.clone())?;
    let audit = login.good("audit")?;
    for what in ["vm create m-150 --image udp-echo", "vm destroy web-1"] {
        let line = format!("\"what\":\"{what}\",\"outcome\":\"done\"");
        ensure(audit.contains(&line), || format!("{line} is not in\n{audit}"))?;
    }
    let gone = apply(login, "--prune", "")?;
    let destroyed = steps(&gone).iter().filter(|step| step.starts_with("destroy m-")).count();
    ensure(destroyed == MANY, || format!("{gone}"))?;
    ensure(login.good("vm list --count")? == "4\n", || "VMs of the file are left".into())?;
    running.must_not_say(0, "panicked")
}

fn shown(login: &Login, tenant: &str) -> Result<Value> {
    let shown = login.good(&format!("tenant show {tenant} --json"))?;
    serde_json::from_str(&shown).context(|| shown.clone())
}

fn quotas(lab: &Lab) -> Result<()> {
    let all = [("vms", "2"), ("memory", "24M"), ("disk", "1M"), ("pool", "256K"), ("wakes", "20"), ("rate", "2M")];
    let options = "vms=supervisor-vm net=10.0.2.16/24,gw=10.0.2.2";
    let (running, login) = start_as(lab, options, |boot| {
        boot.system(|system| {
            system.tenant.push(Tenant::new("blue", &all));
            system.tenant.push(Tenant::new("green", &[("disk", "64K")]));
        })
    })?;
    let may = |tenant: &str, wanted: [Option<u64>; 6]| -> Result<()> {
        let shown = shown(&login, tenant)?;
        let keys = ["quota_vms", "quota_bytes", "quota_disk_bytes", "quota_pool_bytes", "quota_wakes", "quota_rate"];
        let found = keys.map(|key| shown[key].as_u64());
        ensure(found == wanted, || format!("{tenant} may have {found:?} instead of {wanted:?}: {shown}"))
    };
    let (mib, kib) = (1 << 20, 1 << 10);
    may("blue", [Some(2), Some(24 * mib), Some(mib), Some(256 * kib), Some(20), Some(2 * mib)])?;
    may("green", [None, None, Some(64 * kib), None, None, None])?;
    login.good("tenant set green --disk unlimited")?;
    login.bad("tenant show green", 1, "green has neither VMs nor a quota")?;
    let file = "[tenant.blue]\nvms = 3\ndisk = \"2M\"\nrate = \"unlimited\"\n\n[tenant.red]\nmemory = \"64M\"\npool = \"1M\"\nwakes = 5\n\n\
                [[vm]]\nname = \"a\"\nimage = \"udp-echo\"\ntenant = \"red\"\nstate = \"stopped\"\n";
    for (wrong, says) in [
        ("cpus = 1\n", "line 1: `cpus` is no quota: give vms, memory, disk, pool, wakes, rate"),
        ("vms = \"many\"\n", "line 1: vms many: give a number of VMs, or unlimited"),
    ] {
        refused(&login, "", &format!("[tenant.grey]\n{wrong}{file}"), says)?;
    }
    let all = ["set ?", "set ?", "create a"];
    is(&apply(&login, "--dry-run", file)?, &all)?;
    let (out, _, _) = login.ask_with("fleet apply --dry-run", file)?;
    ensure(out.starts_with("tenant set blue --disk 2M --rate unlimited --vms 3\n"), || out.clone())?;
    may("blue", [Some(2), Some(24 * mib), Some(mib), Some(256 * kib), Some(20), Some(2 * mib)])?;
    is(&apply(&login, "", file)?, &all)?;
    may("blue", [Some(3), Some(24 * mib), Some(2 * mib), Some(256 * kib), Some(20), None])?;
    may("red", [None, Some(64 * mib), None, Some(mib), Some(5), None])?;
    is(&apply(&login, "", file)?, &[])?;
    let audit = login.good("audit")?;
    let line = "\"what\":\"tenant set red --memory 64M --pool 1M --wakes 5\",\"outcome\":\"done\"";
    ensure(audit.contains(line), || format!("{line} is not in\n{audit}"))?;
    running.power_off()
}

const SCRIPT: &str = "# what this machine is for\nvm create web --image httpd --memory 8M && vm start web\n\ntenant set blue --vms 3\nvm list --count\nvm start nobody\nvm create late --image httpd\n";

fn script(lab: &Lab) -> Result<()> {
    let options = "vms=supervisor-vm,httpd net=10.0.2.16/24,gw=10.0.2.2";
    let (running, login) = start_as(lab, options, |boot| boot.script(SCRIPT))?;
    running.wait_for("script: web runs as vm2.1", SOON)?;
    running.wait_for("script: line 6: no VM has the name `nobody`", SOON)?;
    login.good("vm show web")?;
    ensure(shown(&login, "blue")?["quota_vms"] == 3, || "blue has another quota".into())?;
    login.bad("vm show late", 1, "there is no VM `late`")?;
    let audit = login.good("audit")?;
    for line in [
        "\"who\":\"supervisor\",\"what\":\"vm start web\",\"outcome\":\"done\"",
        "\"what\":\"script, from the boot medium\",\"outcome\":\"line 6: no VM has the name `nobody`",
    ] {
        ensure(audit.contains(line), || format!("{line} is not in\n{audit}"))?;
    }
    let mark = running.mark();
    running.monitor("destroy 0")?;
    running.wait_for_since(mark, "core: vm0.1 ended", SOON)?;
    running.monitor("create supervisor-vm")?;
    running.wait_for_since(mark, "script: another operator's VM has carried it out", SOON)?;
    ensure(running.monitor("vms")?.iter().filter(|line| line.contains("image=httpd")).count() == 2, || {
        "it was carried out again".into()
    })?;
    running.power_off()?;
    let (running, _) = start_as(lab, options, |boot| boot.script("vm list\ntoken new ci\n"))?;
    running.wait_for("script: line 2: a token is shown to whoever makes it", SOON)?;
    running.power_off()?;
    let (running, login) = start_as(lab, options, |boot| boot.script("vm create a --image httpd\n"))?;
    running.wait_for("script: 1 commands are carried out", SOON)?;
    login.good("vm show a")?;
    running.power_off()
}
