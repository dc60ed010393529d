//! Terminals over SSH, and what else OpenSSH's client does beside commands: several sessions over one connection, new keys.

use super::ensure;
use super::supervisor::{Login, start_as};
use super::supervisor_seat::{SOON, Seat};
use crate::error::{Context, Result, fail};
use crate::test::Case;
use crate::test::lab::{Lab, Running};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    Case {
        name: "supervisor: terminal",
        asserts: "at a terminal OpenSSH's client edits lines, gets old ones back, completes commands and names, stops what goes on with Ctrl-C, tells of another size of its window, and ends with the last status; the console of a VM shows what it says while a line is typed",
        run: terminal,
    },
    Case {
        name: "supervisor: connections",
        asserts: "OpenSSH's client has two sessions at once over one connection, new keys in the middle of a file and of long answers, and answers to its questions whether somebody is there while nothing else comes; what it would forward is refused",
        run: connections,
    },
];

const MACHINE: &str = "vms=supervisor-vm,calc net=10.0.2.16/24,gw=10.0.2.2";
const PROMPT: &str = "\nforaker> ";

fn terminal(lab: &Lab) -> Result<()> {
    let (running, login) = start_as(lab, MACHINE, |boot| boot)?;
    edits(&login)?;
    resizes(&login)?;
    commands(&login)?;
    console(&login)?;
    running.must_not_say(0, "panicked")?;
    running.power_off()
}

/// Keys of all kinds at a prompt.
fn edits(login: &Login) -> Result<()> {
    login.good("vm create web-17 --image calc")?;
    let mut seat = Seat::at_terminal(login, "stty cols 100", "")?;
    seat.sees("Tab completes")?;
    seat.sees(PROMPT)?;
    seat.types("vm li\t--co\t\r")?;
    seat.sees("vm list --count")?;
    seat.sees("\n3\nforaker> ")?;
    // The line comes again, and another one is made of it.
    seat.types("\x1b[A\r")?;
    seat.sees("vm list --count")?;
    seat.sees("\n3\nforaker> ")?;
    seat.types("\x10 --image calc\x01\x1b[C\x1b[C\x1b[3~ \r")?;
    seat.sees("\n2\nforaker> ")?;
    // What is ambiguous is listed when Tab is pressed again.
    seat.types("vm st\t\t")?;
    seat.sees("\nstart  stop\nforaker> vm st")?;
    seat.types("\x15vm show web\t\r")?;
    seat.sees("vm show web-17")?;
    seat.sees("stopped")?;
    seat.sees(PROMPT)?;
    seat.types("component restart sch\t\x15nonsense\x03")?;
    seat.sees("component restart sched")?;
    seat.sees("nonsense^C\nforaker> ")?;
    seat.types("gr\u{fc}n\x7f\x7f\x7f\x7f\x1b[Dhelp\r")?;
    seat.sees("VM is a name or an id")?;
    seat.sees(PROMPT)?;
    // What goes on is stopped, and what was typed before that is dropped.
    seat.types("log --follow --lines 1\r")?;
    seat.sees("ssh: ")?;
    seat.types("vm kill web-17\r\x03")?;
    seat.sees("^C\nforaker> ")?;
    seat.types("vm top && vm list --count\r\x03")?;
    seat.sees("^C\nforaker> ")?;
    // What only asks is not waited for, and the next question has its own answer.
    for _ in 0..5 {
        seat.types("vm list --json && metrics\r\x03")?;
        seat.sees("^C\nforaker> ")?;
        seat.types("vm list --count\r")?;
        seat.sees("\n3\nforaker> ")?;
    }
    seat.types("vm kill nobody\r")?;
    seat.sees("there is no VM `nobody`")?;
    seat.sees(PROMPT)?;
    seat.types("\x04")?;
    seat.ends(1)
}

/// A window that becomes narrower.
fn resizes(login: &Login) -> Result<()> {
    let named = login.dir().join("tty");
    let first = format!("stty cols 200; tty > '{}'", named.display());
    let mut seat = Seat::at_terminal(login, &first, "")?;
    seat.sees(PROMPT)?;
    seat.types("vm \t\t")?;
    seat.sees(
        "\nconsole  create   destroy  kill     list     pause    resume   show     start    stop     top\nforaker> vm ",
    )?;
    let tty = std::fs::read_to_string(&named).context(|| named.display().to_string())?;
    let sized = Command::new("stty").args(["-F", tty.trim(), "cols", "30"]).status().context(|| "stty".into())?;
    ensure(sized.success(), || format!("stty: {sized}"))?;
    // The line is drawn anew, of itself.
    seat.sees("foraker> vm ")?;
    seat.types("\t\t")?;
    seat.sees("\nconsole  create   destroy\nkill     list     pause\n")?;
    seat.types("\x15vm list --name a-name-that-is-too-long-for-the-window --count\r")?;
    seat.sees("\n0\nforaker> ")?;
    seat.types("exit\r")?;
    seat.ends(0)
}

/// Commands of which the client wants to be at a terminal.
fn commands(login: &Login) -> Result<()> {
    let (out, error, status) = login.ask_as(&["-tt"], "vm list --count && vm kill nobody", b"")?;
    let good = status == Some(1) && out.starts_with("3\r\nthere is no VM `nobody`") && error.is_empty();
    ensure(good, || format!("{status:?} {out:?} {error:?}"))?;
    let (out, _, status) = login.ask_as(&["-tt"], "fleet apply", b"")?;
    ensure(status == Some(2) && out.contains("leave out -t"), || format!("{status:?} {out:?}"))?;
    let mut seat = Seat::at_terminal(login, "true", "-t log --follow --lines 1")?;
    seat.sees("ssh: ")?;
    seat.types("\x03")?;
    seat.ends(130)
}

/// A console that is live both ways.
fn console(login: &Login) -> Result<()> {
    let mut seat = Seat::at_terminal(login, "true", "")?;
    seat.sees(PROMPT)?;
    seat.types("vm console vm1.\t\r")?;
    seat.sees("[console of vm1.1: ")?;
    seat.sees("calc> ")?;
    seat.types("6*8\x7f7\r")?;
    seat.sees("\n42\ncalc> ")?;
    // Somebody else is there, too, while a line is typed.
    seat.types("count 3")?;
    seat.sees("count 3")?;
    let mut other = Seat::take(login, "vm console vm1.1")?;
    other.sees("calc> ")?;
    other.types("1000 + 1\n")?;
    other.sees("1001\ncalc> ")?;
    seat.sees("1001\ncalc> count 3")?;
    seat.types("\r")?;
    seat.sees("\n1\n2\n3\ncalc> ")?;
    other.sees("1\n2\n3\ncalc> ")?;
    seat.types("~")?;
    seat.types("~\r")?;
    seat.sees("that is no expression")?;
    seat.types("\x1d")?;
    seat.sees(PROMPT)?;
    seat.types("vm console vm1.1\r")?;
    seat.sees("calc> ")?;
    seat.types("\x1b[A~q\r")?;
    seat.sees(PROMPT)?;
    // A word that goes to nobody.
    seat.types("vm console vm0.1\r")?;
    seat.sees("that is the supervisor itself")?;
    seat.sees(PROMPT)?;
    login.good("vm start web-17")?;
    seat.types("vm console web-17\r")?;
    seat.sees("calc> ")?;
    login.good("vm kill web-17")?;
    seat.sees("[web-17 has ended: `audit` says why]")?;
    seat.sees(PROMPT)?;
    seat.types("exit\r")?;
    seat.ends(1)
}

fn connections(lab: &Lab) -> Result<()> {
    let (running, login) = start_as(lab, MACHINE, |boot| boot)?;
    shared(&running, &login)?;
    new_keys(lab, &login)?;
    asked_whether(&login)?;
    let (_, error, status) = login.ask_as(&["-W", "10.0.2.17:80"], "", b"")?;
    ensure(status == Some(255) && error.contains("stdio forwarding failed"), || format!("{status:?} {error}"))?;
    let (_, error, status) = login.ask_as(&["-s"], "netconf", b"")?;
    ensure(status == Some(255) && error.contains("subsystem request failed"), || format!("{status:?} {error}"))?;
    running.must_not_say(0, "panicked")?;
    running.power_off()
}

/// Sessions that share a connection.
fn shared(running: &Running, login: &Login) -> Result<()> {
    let socket = login.dir().join("control");
    let control = format!("ControlPath={}", socket.display());
    let mut first = Seat::of(login.start_with(&["-M", "-o", &control, "-N"], "")?, None)?;
    let end = Instant::now() + SOON;
    while !Path::new(&socket).exists() {
        ensure(Instant::now() < end, || "the first client does not log in".into())?;
        thread::sleep(Duration::from_millis(50));
    }
    let mark = running.mark();
    let mut follower = Seat::of(login.start_with(&["-o", &control], "log --follow --lines 1")?, None)?;
    follower.sees("ssh: ")?;
    let mut console = Seat::of(login.start_with(&["-o", &control], "vm console vm1.1")?, None)?;
    console.sees("calc> ")?;
    for _ in 0..3 {
        let (out, error, status) = login.ask_as(&["-o", &control], "vm list --count", b"")?;
        ensure(status == Some(0) && out == "2\n", || format!("{status:?} {out} {error}"))?;
    }
    follower.sees(": vm list --count")?;
    console.types("6*7\n")?;
    console.sees("42\ncalc> ")?;
    follower.sees("guest: vm1.1: 42")?;
    // All of it came from one address and port.
    let said = running.said_since(mark);
    let from =
        |line: &&String| line.rsplit_once("ssh: ").and_then(|(_, rest)| rest.split(' ').next()).map(str::to_owned);
    let mut ports: Vec<String> =
        said.iter().filter(|line| line.contains(" with SHA256:")).filter_map(|line| from(&line)).collect();
    ensure(ports.len() == 5, || format!("{ports:?}"))?;
    ports.dedup();
    ensure(ports.len() == 1, || format!("{ports:?}"))?;
    // Nine at once are one too many.
    let mut followers = Vec::new();
    for _ in 0..6 {
        let mut seat = Seat::of(login.start_with(&["-o", &control], "log --follow --lines 1")?, None)?;
        seat.sees("ssh: ")?;
        followers.push(seat);
    }
    // The client says so, and has a connection of its own then.
    let (out, error, status) = login.ask_as(&["-o", &control], "vm list --count", b"")?;
    let refused = status == Some(0) && out == "2\n" && error.contains("refused by peer");
    ensure(refused, || format!("{status:?} {out} {error}"))?;
    drop(followers);
    console.input = None;
    console.ends(0)?;
    drop(follower);
    first.input = None;
    let mut stops = Command::new("ssh");
    stops.args(["-F", "/dev/null", "-o", &control, "-O", "exit", "any"]);
    let stopped = stops.stdout(Stdio::null()).stderr(Stdio::null()).status().context(|| "ssh".into())?;
    ensure(stopped.success(), || format!("-O exit: {stopped}"))
}

/// A file, and answers, of more than the client's keys are good for.
fn new_keys(lab: &Lab, login: &Login) -> Result<()> {
    const OPTIONS: [&str; 5] = ["-v", "-o", "LogLevel=DEBUG", "-o", "RekeyLimit=16K"];
    let exchanges = |error: &str| error.matches("SSH2_MSG_NEWKEYS received").count();
    let mut file = lab.module("httpd")?;
    // What stands behind its segments is nothing to a program.
    file.resize(1 << 20, 0);
    let (out, error, status) = login.ask_as(&OPTIONS, "image put shop", &file)?;
    let times = exchanges(&error);
    ensure(status == Some(0) && times > 20, || format!("{status:?} after {times} key exchanges: {out} {error}"))?;
    let script = "help\n".repeat(100);
    let (out, error, status) = login.ask_as(&OPTIONS, "", script.as_bytes())?;
    let (times, helps) = (exchanges(&error), out.matches("VM is a name or an id").count());
    let good = status == Some(0) && times > 4 && helps == 100;
    ensure(good, || format!("{status:?} after {times} key exchanges and {helps} answers: {error}"))?;
    if login.good("image rm shop")?.is_empty() {
        fail!("nothing was said");
    }
    Ok(())
}

/// A client that asks whether somebody is there, while a command says nothing.
fn asked_whether(login: &Login) -> Result<()> {
    let options = ["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2"];
    for line in ["vm console vm1.1 --follow --for 8", "log --follow --lines 1 --from vm1.1 --for 8"] {
        let (out, error, status) = login.ask_as(&options, line, b"")?;
        ensure(status == Some(0), || format!("{status:?} {out} {error}"))?;
    }
    Ok(())
}
