//! The consoles of VMs over SSH, both ways.

use super::ensure;
use super::supervisor::{Login, start_as};
use super::supervisor_seat::{SOON, Seat};
use crate::error::Result;
use crate::test::Case;
use crate::test::lab::{Lab, Running};
use std::thread;
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[Case {
    name: "supervisor: console",
    asserts: "OpenSSH's client sees what a VM has said and what it says, as it comes, while each line that it types goes to the VM; one that follows reads nothing; several see the same, a word, the end of input and the client's own end end it, a VM that floods loses its own output and disturbs nobody, and one that ends, does not read, does not run or is the supervisor is told of",
    run: console,
}];

fn console(lab: &Lab) -> Result<()> {
    let (running, login) = start_as(lab, "vms=supervisor-vm,calc,httpd net=10.0.2.16/24,gw=10.0.2.2", |boot| boot)?;
    refused(&login)?;
    both_ways(&running, &login)?;
    follows(&login)?;
    pipes(&login)?;
    floods(&login)?;
    ends(&login)?;
    running.must_not_say(0, "ERROR")?;
    running.power_off()
}

/// What cannot be.
fn refused(login: &Login) -> Result<()> {
    login.good("vm create sleeps --image calc")?;
    login.bad("vm console sleeps", 1, "sleeps does not run: `vm start sleeps` lets it")?;
    login.bad("vm console nobody", 1, "there is no VM `nobody`")?;
    login.bad("vm console vm40.1", 1, "vm40.1 does not run (any more)")?;
    login.bad("vm console vm0.1", 1, "that is the supervisor itself")?;
    login.bad("vm console vm1.1 && vm list", 1, "a console comes alone")?;
    login.bad("vm console vm1.1 --for 0", 2, "give a number of seconds from 1 to 600")?;
    login.bad("vm console sleeps --follow", 1, "sleeps does not run: `vm start sleeps` lets it")
}

/// Two people at one VM.
fn both_ways(running: &Running, login: &Login) -> Result<()> {
    let mut first = Seat::take(login, "vm console vm1.1")?;
    // What it has said before anybody was there. The greeting comes by the client's other output, perhaps behind it.
    first.sees("calc: ready")?;
    first.sees("calc> ")?;
    let mark = running.mark();
    first.types("6*7\n")?;
    first.sees("42\ncalc> ")?;
    running.wait_for_since(mark, "guest: vm1.1: 42", SOON)?;
    let mut second = Seat::take(login, "vm console vm1.1")?;
    second.sees("42\ncalc> ")?;
    second.types("1000 + 1\n")?;
    second.sees("1001\ncalc> ")?;
    // The first one is shown it without a key; an empty line goes to the VM, too.
    first.sees("1001\ncalc> ")?;
    first.types("\n")?;
    first.sees("calc> ")?;
    first.types("~~\n")?;
    first.sees("that is no expression")?;
    // It stays an operator's console whatever else is at work.
    ensure(login.good("vm list --count")?.trim() == "4", || "vm list".into())?;
    first.types("~q\n")?;
    first.ends(0)?;
    // Ctrl-D is the end of the input.
    second.types("2 * 8\n")?;
    second.sees("16\ncalc> ")?;
    second.input = None;
    second.ends(0)?;
    let audit = login.good("audit")?;
    ensure(audit.contains("vm console vm1.1"), || audit.clone())
}

/// Those who only look.
fn follows(login: &Login) -> Result<()> {
    let mut follower = Seat::take(login, "vm console vm1.1 --follow")?;
    follower.sees("calc> ")?;
    // What it types is nobody's.
    follower.types("1 + 1\n")?;
    let mut typist = Seat::take(login, "vm console vm1.1")?;
    typist.sees("calc> ")?;
    typist.types("99 * 99\n")?;
    follower.sees("9801\ncalc> ")?;
    typist.types("count 3\n")?;
    follower.sees("1\n2\n3\ncalc> ")?;
    typist.types("~q\n")?;
    typist.ends(0)?;
    let mut short = Seat::take(login, "vm console vm1.1 --follow --for 2")?;
    short.sees("calc> ")?;
    short.ends(0)?;
    // As many that are killed as consoles can be watched: each VM is watched no more soon after, though it says nothing.
    let names: Vec<String> = (0..8).map(|number| format!("quiet-{number}")).collect();
    for name in &names {
        login.good(&format!("vm create {name} --image calc && vm start {name}"))?;
    }
    let mut seats = vec![];
    for name in &names[1..] {
        let mut seat = Seat::take(login, &format!("vm console {name} --follow"))?;
        seat.sees("calc> ")?;
        seats.push(seat);
    }
    login.bad(&format!("vm console {}", names[0]), 1, "8 consoles are watched already")?;
    drop(seats);
    drop(follower);
    let end = Instant::now() + SOON;
    while login.ask(&format!("vm console {}", names[0]))?.2 != Some(0) {
        ensure(Instant::now() < end, || "those who were killed still watch".into())?;
        thread::sleep(Duration::from_secs(1));
    }
    for name in &names {
        login.good(&format!("vm destroy {name}"))?;
    }
    Ok(())
}

/// A program that types, and takes the answer.
fn pipes(login: &Login) -> Result<()> {
    let (out, error, status) = login.ask_with("vm console vm1.1 --for 5", "2 * (3 + 4)\n")?;
    let greeted = error.contains("[console of vm1.1: ");
    ensure(status == Some(0) && greeted && out.ends_with("14\ncalc> "), || format!("{status:?} {out:?} {error:?}"))?;
    // A last line without an end, longer than a slot, and as many lines as the ring has no room for.
    let lines: String = (0..12).map(|number| format!("{number} + {}\n", "0 + ".repeat(30) + "1000")).collect();
    let (out, error, status) = login.ask_with("vm console vm1.1 --for 5", &(lines + "7 * 191"))?;
    let answers = (1000..1012).all(|answer| out.contains(&format!("{answer}\n")));
    ensure(status == Some(0) && answers && out.ends_with("1337\ncalc> "), || format!("{status:?} {out:?} {error:?}"))
}

/// One that says more than is kept.
fn floods(login: &Login) -> Result<()> {
    let mut follower = Seat::take(login, "vm console vm1.1 --follow")?;
    follower.sees("calc> ")?;
    let mut seat = Seat::take(login, "vm console vm1.1")?;
    seat.sees("calc> ")?;
    seat.types("count 50000\n")?;
    follower.sees(" bytes missed]")?;
    follower.sees("50000\ncalc> ")?;
    seat.types("\n")?;
    seat.sees(" bytes missed]")?;
    seat.sees("50000\ncalc> ")?;
    seat.types("count 10\n")?;
    seat.sees("8\n9\n10\ncalc> ")?;
    seat.types("~q\n")?;
    seat.ends(0)
}

/// One that ends while somebody is there, one that comes again under its name, and one that does not read.
fn ends(login: &Login) -> Result<()> {
    login.good("vm start sleeps")?;
    let mut follower = Seat::take(login, "vm console sleeps --follow")?;
    let mut seat = Seat::take(login, "vm console sleeps")?;
    seat.sees("calc> ")?;
    follower.sees("calc> ")?;
    seat.types("exit\n")?;
    follower.sees("calc: bye\n")?;
    follower.sees("[sleeps has ended: `audit` says why]")?;
    follower.ends(1)?;
    seat.sees("calc: bye\n")?;
    // It has perhaps ended behind the last look.
    let _ = seat.types("\n");
    seat.sees("[sleeps has ended: `audit` says why]")?;
    seat.ends(1)?;
    login.good("vm start sleeps")?;
    let mut follower = Seat::take(login, "vm console sleeps --follow")?;
    let mut seat = Seat::take(login, "vm console sleeps")?;
    seat.sees("calc> ")?;
    follower.sees("calc> ")?;
    login.good("vm destroy sleeps")?;
    follower.sees("[sleeps has ended")?;
    follower.ends(1)?;
    // It waits for a line, or has been told already.
    let _ = seat.types("\n");
    seat.sees("[sleeps has ended")?;
    seat.ends(1)?;
    let mut seat = Seat::take(login, "vm console vm2.1")?;
    seat.types(&"nobody reads this\n".repeat(9))?;
    seat.sees("vm2.1 does not read its console: 18 bytes were not taken]")?;
    seat.ends(1)
}
