//! `cargo xtask run`, as somebody types it.

use super::ensure;
use crate::error::{Context, Result, fail};
use crate::test::Case;
use crate::test::lab::Lab;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    Case { name: "run: --exec", asserts: "the command gets the URLs and its status is passed on", run: exec },
    Case { name: "run: net=dhcp", asserts: "with --boot net=dhcp all VMs answer at the printed URLs", run: dhcp },
    Case { name: "run: --for", asserts: "it serves for the time asked for, then powers off", run: for_seconds },
    Case { name: "run: Ctrl-C", asserts: "an interrupt powers the machine off and ends with success", run: interrupt },
    Case { name: "run: refusals", asserts: "what cannot work is refused with the reason", run: refusals },
];

/// Those that take root.
pub const ROOT_CASES: &[Case] = &[
    Case { name: "run: --net tap", asserts: "VMs answer real TCP and ping over a tap in a namespace", run: tap },
    Case { name: "run: --net tap, net=dhcp", asserts: "there is a DHCP server on the tap, too", run: tap_dhcp },
    Case {
        name: "run: bursts",
        asserts: "a thousand connections at once to one VM are all served, kept open or one for each request",
        run: bursts,
    },
];

/// Nobody runs a command for so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// This very program, asked to `run` with `arguments`.
fn xtask(arguments: &[&str]) -> Result<Command> {
    let own = std::env::current_exe().context(|| "cannot find xtask's own program".into())?;
    let mut command = Command::new(own);
    command.arg("run").args(arguments).stdin(Stdio::null());
    Ok(command)
}

fn output(arguments: &[&str]) -> Result<Output> {
    xtask(arguments)?.output().context(|| "cannot start xtask".into())
}

/// Both outputs.
fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn exec(_: &Lab) -> Result<()> {
    let command = r#"set -e
        test -z "$FORAKER_URL_4"
        for i in 1 2 3; do url=FORAKER_URL_$i; curl -fsS --max-time 20 ${!url}; curl -fsS --max-time 20 -o /dev/null ${!url}/100k; done
        exit 7"#;
    let output = output(&["--headless", "--vms", "3", "--exec", command])?;
    let text = said(&output);
    ensure(output.status.code() == Some(7), || format!("it ended with {}:\n{text}", output.status))?;
    for vm in 0..3 {
        ensure(text.contains(&format!("VM {vm}")), || format!("no page of VM {vm} in:\n{text}"))?;
    }
    let urls =
        String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.contains("  http://127.0.0.1:")).count();
    ensure(urls == 3, || format!("{urls} URLs on standard output:\n{text}"))?;
    ensure(text.contains(crate::machine::POWERED_OFF), || format!("it did not power off:\n{text}"))
}

fn dhcp(_: &Lab) -> Result<()> {
    by_dhcp(&["--headless", "--vms", "3", "--boot", "net=dhcp"])
}

fn tap_dhcp(_: &Lab) -> Result<()> {
    by_dhcp(&["--headless", "--vms", "3", "--boot", "net=dhcp", "--net", "tap"])
}

fn by_dhcp(arguments: &[&str]) -> Result<()> {
    let command = "for url in $FORAKER_URL_1 $FORAKER_URL_2 $FORAKER_URL_3; do curl -fsS --max-time 20 $url/status || exit 1; done";
    let output = output(&[arguments, &["--exec", command]].concat())?;
    let text = said(&output);
    ensure(output.status.success(), || format!("it ended with {}:\n{text}", output.status))?;
    for vm in 0..3 {
        ensure(text.contains(&format!("\nvm: {vm}\n")) || text.starts_with(&format!("vm: {vm}\n")), || {
            format!("VM {vm} does not answer as itself:\n{text}")
        })?;
    }
    Ok(())
}

fn for_seconds(_: &Lab) -> Result<()> {
    let output = output(&["--headless", "--vms", "1", "--for", "2", "--boot", "log=warn"])?;
    let text = said(&output);
    ensure(output.status.success(), || format!("it ended with {}:\n{text}", output.status))?;
    ensure(!text.contains("switched off"), || format!("it did not power off:\n{text}"))?;
    ensure(!text.contains("serving http"), || format!("--boot log=warn has no effect:\n{text}"))
}

fn interrupt(_: &Lab) -> Result<()> {
    let mut child = xtask(&["--headless", "--vms", "1"])?
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context(|| "cannot start xtask".into())?;
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let serves = lines.map_while(std::result::Result::ok).any(|line| line.contains("http://"));
    let id = child.id();
    let sent = Command::new("bash").args(["-c", &format!("kill -INT {id}")]).status();
    let end = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            _ if Instant::now() >= end => {
                let _ = child.kill();
                let _ = child.wait();
                fail!("it did not end after an interrupt");
            }
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    ensure(serves && sent.is_ok_and(|sent| sent.success()), || "it printed no URL".into())?;
    ensure(status.success(), || format!("it ended with {status}"))
}

fn refusals(_: &Lab) -> Result<()> {
    let refused = [
        (["--machine", "vmware"], "possible values: bochs, qemu, kvm"),
        (["--cpus", "2"], "one processor"),
        (["--disks", "1"], "no disk component"),
        (["--vms", "0"], "at least 1"),
        (["--image", "nobody"], "known are httpd"),
        (["--net", "carrier-pigeon"], "possible values: slirp, tap"),
    ];
    for (arguments, reason) in refused {
        let output = output(&arguments)?;
        let text = said(&output);
        ensure(!output.status.success(), || format!("{arguments:?} was accepted"))?;
        ensure(text.contains(reason), || format!("{arguments:?} does not say \"{reason}\": {text}"))?;
    }
    Ok(())
}

fn tap(_: &Lab) -> Result<()> {
    let command = r#"set -e
        ping -c 2 -W 10 10.0.2.16; ping -c 2 -W 10 10.0.2.17
        curl -fsS --max-time 20 $FORAKER_URL_1 $FORAKER_URL_2
        wrk -t 1 -c 8 -d 2 $FORAKER_URL_1/100b | tee /dev/stderr | grep -q 'requests in'
        ! ip link show eth0"#;
    let output = output(&["--headless", "--vms", "2", "--net", "tap", "--exec", command])?;
    let text = said(&output);
    ensure(output.status.success(), || format!("it ended with {}:\n{text}", output.status))?;
    ensure(text.contains("VM 0") && text.contains("VM 1"), || format!("a page is missing:\n{text}"))?;
    let errors = text.lines().find(|line| line.contains("Socket errors") || line.contains("Non-2xx"));
    ensure(errors.is_none(), || format!("wrk says {errors:?}"))
}

fn bursts(_: &Lab) -> Result<()> {
    // The connections of wrk stay open while it runs, all of them at once; those of curl are new for each request.
    let command = r#"set -e
        ulimit -n 4096
        for connections in 32 100 1000; do
            wrk -t 1 -c $connections -d 5 --timeout 10 $FORAKER_URL_1/100b | tee /dev/stderr | grep -q 'requests in'
        done
        for i in $(seq 1000); do echo url = $FORAKER_URL_1/2258b; echo output = /dev/null; done \
            | curl -fsS -Z --parallel-immediate --parallel-max 300 --max-time 60 -H 'Connection: close' -K -
        curl -fsS --max-time 20 $FORAKER_URL_1/status"#;
    let output = output(&["--headless", "--vms", "1", "--net", "tap", "--exec", command])?;
    let text = said(&output);
    ensure(output.status.success(), || format!("it ended with {}:\n{text}", output.status))?;
    let errors = text.lines().find(|line| line.contains("Socket errors") || line.contains("Non-2xx"));
    ensure(errors.is_none(), || format!("wrk says {errors:?}"))
}
