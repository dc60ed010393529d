//! VMs that start with the first packet for them.

use super::ensure;
use crate::error::{Result, fail};
use crate::http;
use crate::machine::Kind;
use crate::test::Case;
use crate::test::lab::{BOOT, Lab, Running, number};
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    Case {
        name: "qemu: lazy",
        asserts: "web servers that nobody has asked are records, and each answers its first request, also after deaths of netmux and sched",
        run: lazy,
    },
    Case { name: "lazy: dhcp", asserts: "start=lazy is refused where addresses come from DHCP", run: dhcp },
];

/// Web servers.
const VMS: usize = 40;
/// A client's patience: its first packet may be lost, and is sent again after a second, and then after two.
const ANSWER: Duration = Duration::from_secs(15);

/// Lines of `vms` in this state.
fn count(running: &Running, state: &str) -> Result<usize> {
    let word = format!(" state={state} ");
    Ok(running.monitor("vms")?.iter().filter(|line| line.contains(&word)).count())
}

fn frames_of_vms(running: &Running) -> Result<u64> {
    let lines = running.monitor("frames")?;
    Ok(lines.iter().filter(|line| line.contains("owner=vm-")).filter_map(|line| number(line, "frames")).sum())
}

fn wakes(running: &Running, what: &str) -> Result<u64> {
    match running.monitor("wakes")?.first().and_then(|line| number(line, what)) {
        Some(value) => Ok(value),
        None => fail!("`wakes` does not say {what}"),
    }
}

fn get(running: &Running, vm: usize) -> Result<()> {
    let answer = http::get(running.services()[vm], "/100b", ANSWER)?;
    ensure(answer.status == 200, || format!("VM {vm} answers {}", answer.status))
}

fn lazy(_: &Lab) -> Result<()> {
    let lab = Lab::with(Kind::Qemu)?;
    let running = lab.boot(&format!("vms=httpd*{VMS} start=lazy")).start()?;
    running.wait_for_monitor()?;
    let end = Instant::now() + BOOT;
    while count(&running, "out")? != VMS {
        ensure(Instant::now() < end, || "not all VMs are there".into())?;
    }
    ensure(frames_of_vms(&running)? == 0, || "VMs that are out have frames".into())?;
    ensure(wakes(&running, "woken")? == 0, || "somebody was woken".into())?;
    // One, some at once, and one after each death.
    get(&running, 3)?;
    ensure(count(&running, "out")? == VMS - 1, || "not one VM has come in".into())?;
    let failed: Vec<String> = std::thread::scope(|scope| {
        let running = &running;
        let clients: Vec<_> = (4..20).map(|vm| scope.spawn(move || get(running, vm))).collect();
        clients.into_iter().filter_map(|client| client.join().ok()?.err()).map(|error| error.to_string()).collect()
    });
    ensure(failed.is_empty(), || failed.join("; "))?;
    ensure(count(&running, "out")? == VMS - 17, || "others have come in, too".into())?;
    for (vm, component) in [(20, "netmux"), (21, "sched"), (22, "pager")] {
        running.monitor(&format!("kill {component}"))?;
        get(&running, vm)?;
    }
    // The operator can end one that is out, and wake one by asking it to end.
    running.monitor("destroy 39")?;
    running.monitor("shutdown 38")?;
    running.wait_for("vm38.1 ended: ", Duration::from_secs(20))?;
    if http::get(running.services()[39], "/100b", Duration::from_secs(3)).is_ok() {
        fail!("a VM that is gone answers");
    }
    let left = count(&running, "out")?;
    ensure(left == VMS - 22, || format!("{left} VMs are out"))?;
    ensure(wakes(&running, "out")? == left as u64, || "`wakes` counts others".into())?;
    ensure(wakes(&running, "waiting")? == 0, || "somebody waits".into())?;
    // 3, 4 to 19, 20, 21, 22 and 38.
    ensure(wakes(&running, "woken")? == 21, || "`wakes` has not counted all".into())?;
    let (half, most) = (wakes(&running, "p50_ticks")?, wakes(&running, "p99_ticks")?);
    ensure(half > 0 && half <= most, || format!("half waited {half} ticks and 99 of 100 {most}"))?;
    // More than nothing, less than a client's patience: so the clock is the right one.
    let most = wakes(&running, "p99_us")?;
    ensure((1..20_000_000).contains(&most), || format!("99 of 100 waited {most} microseconds"))?;
    running.must_not_say(0, "ERROR")?;
    running.power_off()
}

fn dhcp(lab: &Lab) -> Result<()> {
    let said = lab.boot("vms=httpd net=dhcp start=lazy").fails_with("F019")?;
    ensure(said.contains("write net=ADDRESS/PREFIX, or start=now"), || said.clone())
}
