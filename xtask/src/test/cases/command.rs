//! `cargo xtask run`, as somebody types it.

use super::ensure;
use crate::error::{Context, Result, fail};
use crate::test::Case;
use crate::test::lab::Lab;
use clap::ValueEnum;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    Case { name: "run: --exec", asserts: "the command gets the URLs and its status is passed on", run: exec },
    Case { name: "run: net=dhcp", asserts: "with --boot net=dhcp all VMs answer at the printed URLs", run: dhcp },
    Case { name: "run: --for", asserts: "it serves for the time asked for, then powers off", run: for_seconds },
    Case { name: "run: Ctrl-C", asserts: "an interrupt powers the machine off and ends with success", run: interrupt },
    Case {
        name: "run: --image udp-echo",
        asserts: "datagrams reach each VM at its address, and come back",
        run: udp_echo,
    },
    Case {
        name: "run: mixed images",
        asserts: "VMs of several images are ready, each by its sign, and reached at their addresses",
        run: mixed,
    },
    Case {
        name: "run: an image that ends",
        asserts: "it fails without running the command, and names the VM, its end and its last words",
        run: ends,
    },
    Case { name: "run: refusals", asserts: "what cannot work is refused with the reason", run: refusals },
];

/// Those that take root.
pub const ROOT_CASES: &[Case] = &[
    Case { name: "run: --net tap", asserts: "VMs answer real TCP and ping over a tap in a namespace", run: tap },
    Case { name: "run: --net tap, udp-echo", asserts: "datagrams reach VMs at their own addresses", run: tap_udp_echo },
    Case {
        name: "run: more VMs than fit",
        asserts: "it fails when fewer VMs were created than asked for, and says how many",
        run: too_many,
    },
    Case {
        name: "run: fewer seats than VMs",
        asserts: "it fails when no further VM becomes ready, and says for what the others wait",
        run: no_seat,
    },
    Case { name: "run: --net tap, net=dhcp", asserts: "there is a DHCP server on the tap, too", run: tap_dhcp },
    Case {
        name: "run: bursts",
        asserts: "a thousand connections at once to one VM are all served, kept open or one for each request",
        run: bursts,
    },
];

/// Nobody runs a command for so long.
const PATIENCE: Duration = Duration::from_secs(120);
/// No run takes longer than that, however busy the host is.
const LIMIT: Duration = Duration::from_secs(900);

/// This very program, asked to `run` with `arguments`.
fn xtask(arguments: &[&str]) -> Result<Command> {
    let own = std::env::current_exe().context(|| "cannot find xtask's own program".into())?;
    let mut command = Command::new(own);
    command.arg("run").args(arguments).stdin(Stdio::null());
    Ok(command)
}

/// What it says until it ends. One that does not end is interrupted after [`LIMIT`], so that the case fails and not the whole run of tests.
pub(super) fn output(arguments: &[&str]) -> Result<Output> {
    let cannot = || "cannot start xtask".into();
    let child = xtask(arguments)?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context(cannot)?;
    let id = child.id();
    let (ended, end) = mpsc::channel::<()>();
    let watch =
        std::thread::spawn(move || end.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) && send_interrupt(id));
    let output = child.wait_with_output().context(cannot);
    drop(ended);
    ensure(!watch.join().unwrap_or(false), || format!("{arguments:?} did not end in {} s", LIMIT.as_secs()))?;
    output
}

/// Ends a run as Ctrl-C does. Whether it could be.
fn send_interrupt(id: u32) -> bool {
    Command::new("bash").args(["-c", &format!("kill -INT {id}")]).status().is_ok_and(|status| status.success())
}

/// The same on the kind of machine that is tested, not on the fastest that there is.
fn output_on(lab: &Lab, arguments: &[&str]) -> Result<Output> {
    let kind = lab.kind().to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    output(&[&["--headless", "--machine", &kind], arguments].concat())
}

/// Both outputs.
pub(super) fn said(output: &Output) -> String {
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

/// Asks an echo at each of the first two VMs.
const ASK_ECHOES: &str = r#"
    for address in $FORAKER_ADDR_1 $FORAKER_ADDR_2; do
        exec 3<>/dev/udp/${address%:*}/${address#*:}
        printf 'hello %s' $address >&3
        test "$(timeout 20 dd bs=2048 count=1 status=none <&3)" = "hello $address" || exit 1
        echo "echoed by $address"
    done
    test -z "$FORAKER_ADDR_3$FORAKER_URL_1" -a -f $FORAKER_URLS -a ! -s $FORAKER_URLS"#;

fn udp_echo(lab: &Lab) -> Result<()> {
    let output = output_on(lab, &["--image", "udp-echo", "--vms", "2", "--exec", ASK_ECHOES])?;
    let text = said(&output);
    ensure(output.status.success(), || format!("it ended with {}:\n{text}", output.status))?;
    ensure(text.matches("echoed by 127.0.0.1:").count() == 2, || format!("an echo is missing:\n{text}"))?;
    let places = String::from_utf8_lossy(&output.stdout);
    let told = places.lines().filter(|line| line.contains("  udp 127.0.0.1:") && line.contains("(port 7 of udp-echo)"));
    ensure(told.count() == 2, || format!("it does not print where they are:\n{text}"))
}

fn tap_udp_echo(_: &Lab) -> Result<()> {
    let arguments = ["--headless", "--image", "udp-echo", "--vms", "2", "--net", "tap", "--exec", ASK_ECHOES];
    let output = output(&arguments)?;
    let text = said(&output);
    ensure(output.status.success(), || format!("it ended with {}:\n{text}", output.status))?;
    ensure(text.contains("echoed by 10.0.2.16:7") && text.contains("echoed by 10.0.2.17:7"), || {
        format!("an echo is missing:\n{text}")
    })
}

fn mixed(lab: &Lab) -> Result<()> {
    let command = r#"set -e
        curl -fsS --max-time 20 $FORAKER_URL_1 $FORAKER_URL_2 http://$FORAKER_ADDR_2 > /dev/null
        curl -fsS --max-time 20 $FORAKER_URL_3/crimes > /dev/null
        test "$(cat $FORAKER_URLS)" = "$FORAKER_URL_1"$'\n'"$FORAKER_URL_2"$'\n'"$FORAKER_URL_3"
        test -z "$FORAKER_ADDR_3" -a "$FORAKER_URL_3" = "http://$FORAKER_ADDR_5"
        exec 3<>/dev/udp/${FORAKER_ADDR_4%:*}/${FORAKER_ADDR_4#*:}
        printf hello >&3
        test "$(timeout 20 head -c 5 <&3)" = hello"#;
    let vms = "vms=httpd*2,ask,udp-echo,hostile,asm-guest";
    let output = output_on(lab, &["--boot", vms, "--exec", command])?;
    let text = said(&output);
    ensure(output.status.success(), || format!("it ended with {}:\n{text}", output.status))?;
    for line in ["vm 2  no port (ask)", "vm 3  udp 127.0.0.1:", "vm 4  http://127.0.0.1:", "vm 5  no port (asm-guest)"]
    {
        ensure(text.contains(line), || format!("no \"{line}\" in:\n{text}"))?;
    }
    Ok(())
}

fn ends(lab: &Lab) -> Result<()> {
    // Without its argument `bench=NAME` it says so, and ends.
    let output = output_on(lab, &["--boot", "vms=httpd,bench", "--exec", "echo the command ran"])?;
    let text = said(&output);
    ensure(output.status.code() == Some(1), || format!("it ended with {}:\n{text}", output.status))?;
    ensure(!text.contains("the command ran"), || format!("the command ran:\n{text}"))?;
    for word in ["VM 1 (bench) ended (before it was ready): exited with code 0", "Its last words: \"bench: "] {
        ensure(text.contains(word), || format!("no \"{word}\" in:\n{text}"))?;
    }
    Ok(())
}

fn too_many(_: &Lab) -> Result<()> {
    let output = output(&["--headless", "--net", "tap", "--vms", "300", "--boot", "slots=100", "--exec", "true"])?;
    let text = said(&output);
    ensure(output.status.code() == Some(1), || format!("it ended with {}:\n{text}", output.status))?;
    let word = "100 of 300 VMs were created: every slot for VMs is taken";
    ensure(text.contains(word), || format!("no \"{word}\" in:\n{text}"))
}

fn no_seat(_: &Lab) -> Result<()> {
    let output = output(&["--headless", "--vms", "6", "--boot", "seats=4", "--exec", "true"])?;
    let text = said(&output);
    ensure(output.status.code() == Some(1), || format!("it ended with {}:\n{text}", output.status))?;
    for word in ["2 of 6 VMs are not ready ", "  VM 5 (httpd): it waits for memory or a seat: "] {
        ensure(text.contains(word), || format!("no \"{word}\" in:\n{text}"))?;
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
    let sent = send_interrupt(id);
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
    ensure(serves && sent, || "it printed no URL".into())?;
    ensure(status.success(), || format!("it ended with {status}"))
}

fn refusals(_: &Lab) -> Result<()> {
    let refused: [(&[&str], &str); 8] = [
        (&["--machine", "vmware"], "possible values: bochs, qemu, kvm"),
        (&["--cpus", "2"], "one processor"),
        (&["--disks", "99"], "the machine has room for"),
        (&["--vms", "0"], "at least 1"),
        (&["--image", "nobody"], "known are httpd"),
        (&["--boot", "vms=httpd,nobody"], "unknown image `nobody`: known are httpd"),
        (&["--image", "udp-echo", "--boot", "log=warn"], "log=warn hides whether VM 0 (udp-echo) is ready"),
        (&["--net", "carrier-pigeon"], "possible values: slirp, tap"),
    ];
    for (arguments, reason) in refused {
        let output = output(arguments)?;
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
