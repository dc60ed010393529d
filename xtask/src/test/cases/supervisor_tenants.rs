//! Quotas of tenants, at the operator's VM, over HTTP and on the operator's line.

use super::ensure;
use super::supervisor::{Login, start_as};
use super::supervisor_http::Client;
use crate::error::{Context, Result, fail};
use crate::http;
use crate::manifest::model::Tenant;
use crate::test::Case;
use crate::test::lab::{Lab, Running};
use serde_json::Value;
use std::time::Duration;

pub const CASES: &[Case] = &[
    Case {
        name: "supervisor: quotas",
        asserts: "a tenant gets as many VMs and as much memory as its quota says, from system.toml, by command, over HTTP and on the operator's line, who is refused is told quota and remedy, other tenants are not touched, who ends makes room, and quotas survive the operator's VM",
        run: quotas,
    },
    Case {
        name: "supervisor: quotas of the pool",
        asserts: "VMs of a tenant that may have nothing of the pool stay in, whoever waits for their seats, and one goes out as soon as it may; commands, HTTP, figures and the operator's line say how much they take",
        run: pool,
    },
    Case {
        name: "supervisor: quotas of wakes",
        asserts: "VMs of a tenant that are out and called come in no more often than its quota says, each answers in the end, also when netmux dies, and commands, HTTP, figures and the operator's line say the quota and who had to wait",
        run: wakes,
    },
    Case {
        name: "supervisor: quotas of rates",
        asserts: "the VMs of a tenant send together no more in a second than its quota says, each of them does in the end, also when netmux dies, and commands, HTTP, figures and the operator's line say the quota",
        run: rates,
    },
];

/// How long something may take with another machine beside.
const SOON: Duration = Duration::from_secs(120);

fn quotas(lab: &Lab) -> Result<()> {
    let told = Tenant::new("blue", &[("vms", "2")]);
    let options = "vms=supervisor-vm,httpd net=10.0.2.16/24,gw=10.0.2.2";
    let (running, login) = start_as(lab, options, |boot| boot.system(|system| system.tenant.push(told)))?;
    let list = login.good("tenant list --json")?;
    let known = r#"[{"name":"blue","vms":0,"quota_vms":2,"limit_bytes":0,"quota_bytes":null,"refused":0,"disk_bytes":0,"quota_disk_bytes":null,"pool_bytes":0,"quota_pool_bytes":null,"quota_wakes":null,"waiting_wakes":0,"delayed_wakes":0,"quota_rate":null}]"#;
    ensure(list.trim_end() == known, || list.clone())?;
    commands(&login)?;
    over_http(&login)?;
    on_the_line(&running)?;
    survives(&running, &login)?;
    running.power_off()
}

fn is(login: &Login, key: &str, value: u64) -> Result<()> {
    let shown = login.good("tenant show blue --json")?;
    let shown: Value = serde_json::from_str(&shown).context(|| shown.clone())?;
    ensure(shown[key] == value, || format!("{key} is not {value}: {shown}"))
}

fn commands(login: &Login) -> Result<()> {
    let create = |name, whose| login.good(&format!("vm create {name} --image httpd --memory 8M {whose}"));
    for name in ["b-1", "b-2", "b-3"] {
        create(name, "--tenant blue")?;
    }
    login.good("vm start b-1 && vm start b-2")?;
    let over = "b-3 does not start: the tenant blue may have no more VMs: its quota is 2, and 2 live: end one of `vm list --tenant blue`, or `tenant set blue --vms 3`";
    login.bad("vm start b-3", 1, over)?;
    create("r-1", "--tenant red")?;
    create("n-1", "")?;
    login.good("vm start r-1 && vm start n-1")?;
    is(login, "vms", 2)?;
    is(login, "refused", 1)?;
    login.good("vm kill b-1 && vm start b-3")?;
    login.bad("vm start b-1", 1, "its quota is 2, and 2 live")?;
    login.good("tenant set blue --vms unlimited --memory 16M")?;
    is(login, "limit_bytes", 16 << 20)?;
    let over = "with it the VMs of the tenant blue could hold 24576 KiB, and its quota is 16384 KiB: end one of `vm list --tenant blue`, create it with less --memory, or `tenant set blue --memory 24576K`";
    login.bad("vm start b-1", 1, over)?;
    // Those that live are left alone where less is allowed.
    let said = login.good("tenant set blue --vms 1")?;
    ensure(said.ends_with("; those that live go on, and no new one starts\n"), || said.clone())?;
    let living = login.good("vm list --name b- --json")?;
    ensure(living.matches("\"id\":\"vm").count() == 2, || living.clone())?;
    login.bad("tenant show green", 1, "green has neither VMs nor a quota")?;
    login.bad("tenant set blue --vms many", 2, "--vms many: give a number of VMs, or unlimited")?;
    for (line, count) in [("--tenant blue", "3"), ("--tenant red", "1"), ("--tenant green", "0")] {
        let found = login.good(&format!("vm list --count {line}"))?;
        ensure(found.trim() == count, || format!("{line}: {found} instead of {count}"))?;
    }
    for (vm, tenant) in [("b-2", "\"blue\""), ("r-1", "\"red\""), ("n-1", "null")] {
        let shown = login.good(&format!("vm show {vm} --json"))?;
        let found: Value = serde_json::from_str(&shown).context(|| shown.clone())?;
        ensure(found["tenant"].to_string().as_str() == tenant, || shown.clone())?;
    }
    let audit = login.good("audit")?;
    let written = "\"what\":\"tenant set blue --vms 1\",\"outcome\":\"done\"";
    ensure(audit.contains(written), || audit.clone())
}

fn over_http(login: &Login) -> Result<()> {
    let token = login.good("token new ci")?;
    let client = Client { login, token: token.trim() };
    client.refused(409, "POST /vms/b-1/start", "", "its quota is 1, and 2 live")?;
    let now = client.is(200, "PUT /tenants/blue", r#"{"vms":3}"#)?;
    ensure(now["quota_vms"] == 3 && now["quota_bytes"].is_null() && now["vms"] == 2, || format!("{now}"))?;
    client.is(200, "POST /vms/b-1/start", "")?;
    client.refused(400, "PUT /tenants/blue", r#"{"vms":"many"}"#, "that is no quota")?;
    client.refused(404, "GET /tenants/green", "", "green has neither VMs nor a quota")?;
    Client { login, token: "" }.refused(401, "PUT /tenants/blue", r#"{"vms":9}"#, "show a token")?;
    let all = client.is(200, "GET /tenants.json", "")?;
    let names: Vec<_> = all.as_array().into_iter().flatten().map(|one| one["name"].to_string()).collect();
    ensure(names == ["\"blue\"", "\"red\""] && all[0]["vms"] == 3, || format!("{all}"))?;
    let metrics = http::get(login.web, "/metrics", SOON)?;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    for line in [
        "# HELP foraker_tenant_quota_vms ",
        "# TYPE foraker_tenant_vms gauge\n",
        "foraker_tenant_vms{tenant=\"blue\"} 3\n",
        "foraker_tenant_quota_vms{tenant=\"blue\"} 3\n",
        "foraker_tenant_limit_bytes{tenant=\"red\"} 8388608\n",
    ] {
        ensure(text.contains(line), || format!("{line} is not in {text}"))?;
    }
    Ok(())
}

fn on_the_line(running: &Running) -> Result<()> {
    let Err(refused) = running.monitor("create httpd tenant=blue") else { fail!("a fourth VM is created") };
    let over = "the tenant blue may have no more VMs: its quota is 3, and 3 live; end one of them, or write \"tenants blue vms=4\"";
    ensure(refused.to_string().contains(over), || format!("{refused}"))?;
    running.monitor("tenants red vms=1 memory=8MiB")?;
    let listed = running.monitor("tenants")?;
    let red = "tenant name=red vms=1 limit_frames=2048 vms_quota=1 frames_quota=2048 refused=0 pool=0 pool_quota=unlimited wakes_quota=unlimited called=0 delayed=0 rate_quota=unlimited";
    ensure(listed.iter().any(|line| line == red), || format!("{listed:?}"))
}

/// Another start of the operator's VM finds the quotas as they were, and who lives.
fn survives(running: &Running, login: &Login) -> Result<()> {
    let mark = running.mark();
    running.monitor("destroy 0")?;
    running.wait_for_since(mark, "core: vm0.1 ended: destroyed", SOON)?;
    running.monitor("create supervisor-vm")?;
    running.wait_for_since(mark, "supervisor: serving http://10.0.2.16/", SOON)?;
    is(login, "vms", 3)?;
    is(login, "quota_vms", 3)?;
    login.good("vm create c --image httpd --tenant blue")?;
    login.bad("vm start c", 1, "its quota is 3, and 3 live")?;
    login.good("tenant set blue --vms 4 && vm start c && tenant set red --vms unlimited --memory unlimited").map(drop)
}

/// Bytes of the pool that the VMs of blue take.
fn pooled(login: &Login) -> Result<u64> {
    let shown = login.good("tenant show blue --json")?;
    let shown: Value = serde_json::from_str(&shown).context(|| shown.clone())?;
    shown["pool_bytes"].as_u64().context(|| format!("{shown}"))
}

fn waits(login: &Login) -> Result<bool> {
    let shown = login.good("vm show r-1 --json")?;
    let shown: Value = serde_json::from_str(&shown).context(|| shown.clone())?;
    Ok(shown["state"] == "waiting")
}

/// Two seats beside the operator's, which VMs of blue have, and a VM of red that waits for one.
fn pool(lab: &Lab) -> Result<()> {
    let options = "vms=supervisor-vm net=10.0.2.16/24,gw=10.0.2.2 seats=3 pool=8MiB residence=10ms";
    let (running, login) = start_as(lab, options, |boot| boot)?;
    let set = login.good("tenant set blue --pool 0")?;
    ensure(set.ends_with("; of the pool those that are out take 0 KiB, of 0 KiB at most\n"), || set.clone())?;
    for (name, address) in [("b-1", "10.0.2.17"), ("b-2", "10.0.2.18")] {
        login.good(&format!("vm create {name} --image httpd --tenant blue && vm start {name}"))?;
        running.wait_for(&format!("httpd: serving http://{address}/"), SOON)?;
    }
    login.good("vm create r-1 --image httpd --tenant red && vm start r-1")?;
    for _ in 0..10 {
        ensure(waits(&login)? && pooled(&login)? == 0, || "a VM of blue has gone out".into())?;
    }
    let token = login.good("token new ci")?;
    let client = Client { login: &login, token: token.trim() };
    let now = client.is(200, "PUT /tenants/blue", r#"{"pool":"1M"}"#)?;
    ensure(now["quota_pool_bytes"] == 1 << 20 && now["quota_vms"].is_null(), || format!("{now}"))?;
    running.wait_for("httpd: serving http://10.0.2.19/", SOON)?;
    let bytes = pooled(&login)?;
    ensure((1..1 << 20).contains(&bytes) && !waits(&login)?, || format!("{bytes} bytes"))?;
    let text = String::from_utf8_lossy(&http::get(login.web, "/metrics", SOON)?.body).into_owned();
    let lines =
        ["foraker_tenant_pool_bytes{tenant=\"blue\"} ", "foraker_tenant_quota_pool_bytes{tenant=\"blue\"} 1048576\n"];
    for line in lines {
        ensure(text.contains(line), || format!("{line} is not in {text}"))?;
    }
    let listed = running.monitor("tenants")?;
    let quota = |line: &String| line.starts_with("tenant name=blue ") && line.contains(" pool_quota=1048576 ");
    ensure(listed.iter().any(quota), || format!("{listed:?}"))?;
    running.monitor("tenants blue pool=unlimited")?;
    let list = login.good("tenant list")?;
    ensure(list.contains("POOL KiB"), || list.clone())?;
    running.power_off()
}

/// Web servers that share one seat: each that is asked comes in, and another one goes out.
const CALLED: usize = 6;

/// Asks all of them at once; what went wrong.
fn ask_all(running: &Running) -> Vec<String> {
    std::thread::scope(|scope| {
        let ask = |vm: usize| {
            let answer = http::get(running.services()[vm], "/100b", SOON)?;
            ensure(answer.status == 200, || format!("VM {vm} answers {}", answer.status))
        };
        let clients: Vec<_> = (0..CALLED).map(|vm| scope.spawn(move || ask(vm))).collect();
        clients.into_iter().filter_map(|client| client.join().ok()?.err()).map(|error| error.to_string()).collect()
    })
}

fn wakes(lab: &Lab) -> Result<()> {
    let options = format!(
        "vms=supervisor-vm,httpd*{CALLED} net=10.0.2.16/24,gw=10.0.2.2 seats=2 start=lazy pool=8MiB residence=10ms"
    );
    let (running, login) = start_as(lab, &options, |boot| {
        boot.system(|system| {
            system.image.iter_mut().filter(|image| image.name == "httpd").for_each(|image| {
                image.tenant = Some("blue".into());
            });
        })
    })?;
    let figure = |key: &str| -> Result<u64> {
        let shown = login.good("tenant show blue --json")?;
        let shown: Value = serde_json::from_str(&shown).context(|| shown.clone())?;
        shown[key].as_u64().context(|| format!("{key}: {shown}"))
    };
    let failed = ask_all(&running);
    ensure(failed.is_empty() && figure("delayed_wakes")? == 0, || format!("without a quota: {}", failed.join("; ")))?;
    let set = login.good("tenant set blue --wakes 1")?;
    ensure(set.ends_with("; of those that are out 1 come in in a second at most, and 0 wait\n"), || set.clone())?;
    login.bad("tenant set blue --wakes 0", 2, "--wakes 0: give VMs in a second, at least 1, or unlimited")?;
    // Where the host is busy they may be asked slowly enough for nobody to wait.
    let end = std::time::Instant::now() + 4 * SOON;
    for round in 0.. {
        if round == 1 {
            running.monitor("kill netmux")?;
        }
        let failed = ask_all(&running);
        ensure(failed.is_empty(), || failed.join("; "))?;
        if round > 1 && figure("delayed_wakes")? >= 3 {
            break;
        }
        ensure(std::time::Instant::now() < end, || "nobody has to wait".into())?;
    }
    let listed = running.monitor("tenants")?;
    let quota = |line: &String| line.starts_with("tenant name=blue ") && line.contains(" wakes_quota=1 called=");
    ensure(listed.iter().any(quota), || format!("{listed:?}"))?;
    let text = String::from_utf8_lossy(&http::get(login.web, "/metrics", SOON)?.body).into_owned();
    for line in [
        "foraker_tenant_quota_wakes{tenant=\"blue\"} 1\n",
        "foraker_tenant_waiting_wakes{tenant=\"blue\"} ",
        "# TYPE foraker_tenant_delayed_wakes_total counter\n",
    ] {
        ensure(text.contains(line), || format!("{line} is not in {text}"))?;
    }
    let token = login.good("token new ci")?;
    let client = Client { login: &login, token: token.trim() };
    let now = client.is(200, "PUT /tenants/blue", r#"{"wakes":7}"#)?;
    ensure(now["quota_wakes"] == 7 && now["quota_vms"].is_null(), || format!("{now}"))?;
    running.monitor("tenants blue wakes=unlimited")?;
    let shown = login.good("tenant show blue")?;
    ensure(shown.contains("\nwakes    without a quota; 0 wait, and "), || shown.clone())?;
    running.must_not_say(0, " ended: ")?;
    running.power_off()
}

/// What two web servers of one tenant send together, in bytes a second, and at once after a pause.
const RATE: u64 = 200_000;
const BURST: u64 = 64 << 10;

fn rates(lab: &Lab) -> Result<()> {
    let options = "vms=supervisor-vm,httpd*2 net=10.0.2.16/24,gw=10.0.2.2";
    let (running, login) = start_as(lab, options, |boot| {
        boot.system(|system| {
            system.image.iter_mut().filter(|image| image.name == "httpd").for_each(|image| {
                image.tenant = Some("blue".into());
            });
        })
    })?;
    // By the machine's own clock, so that it does not matter how busy the host is.
    let seconds = || -> Result<f64> {
        let text = String::from_utf8_lossy(&http::get(login.web, "/metrics", SOON)?.body).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix("foraker_up_seconds_total "));
        line.and_then(|line| line.parse().ok()).context(|| text.clone())
    };
    // How long both take to send so many bytes each.
    let both = |path: &str| -> Result<f64> {
        let before = seconds()?;
        let failed: Vec<String> = std::thread::scope(|scope| {
            let running = &running;
            let ask = |vm: usize| {
                let answer = http::get(running.services()[vm], path, 4 * SOON)?;
                ensure(answer.status == 200, || format!("VM {vm} answers {}", answer.status))
            };
            let clients: Vec<_> = (0..2).map(|vm| scope.spawn(move || ask(vm))).collect();
            clients.into_iter().filter_map(|client| client.join().ok()?.err()).map(|error| error.to_string()).collect()
        });
        ensure(failed.is_empty(), || failed.join("; "))?;
        Ok(seconds()? - before)
    };
    let set = login.good(&format!("tenant set blue --rate {RATE}"))?;
    ensure(set.ends_with("; they send 200000 bytes in a second at most\n"), || set.clone())?;
    login.bad("tenant set blue --rate 0", 2, "--rate 0: give bytes in a second, as 125000 or 2M")?;
    for round in 0..2 {
        // Headers come on top.
        let (bytes, took) = (2 * 1000 * 1024, both("/1000k")?);
        let least = (bytes - BURST) as f64 / RATE as f64;
        ensure(took >= least, || format!("round {round}: they took {took} s, and {least} s is the least"))?;
        running.monitor("kill netmux")?;
    }
    let token = login.good("token new ci")?;
    let client = Client { login: &login, token: token.trim() };
    let now = client.is(200, "PUT /tenants/blue", r#"{"rate":"1M"}"#)?;
    ensure(now["quota_rate"] == 1 << 20 && now["quota_wakes"].is_null(), || format!("{now}"))?;
    let text = String::from_utf8_lossy(&http::get(login.web, "/metrics", SOON)?.body).into_owned();
    let line = "foraker_tenant_quota_send_bytes_per_second{tenant=\"blue\"} 1048576\n";
    ensure(text.contains(line), || format!("{line} is not in {text}"))?;
    let listed = running.monitor("tenants")?;
    let quota = |line: &String| line.starts_with("tenant name=blue ") && line.ends_with(" rate_quota=1048576");
    ensure(listed.iter().any(quota), || format!("{listed:?}"))?;
    running.monitor("tenants blue rate=unlimited")?;
    let shown = login.good("tenant show blue")?;
    ensure(shown.ends_with("\nsends    without a quota\n"), || shown.clone())?;
    both("/1000k")?;
    running.must_not_say(0, " ended: ")?;
    running.power_off()
}
