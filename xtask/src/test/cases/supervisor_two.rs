//! Operators who want the same at once, and what there is no more of.

use super::ensure;
use super::supervisor::{Login, Said, start_as};
use super::supervisor_http::Client;
use crate::error::{Context, Result};
use crate::test::Case;
use crate::test::lab::{Lab, Running};
use serde_json::Value;
use std::time::Duration;

pub const CASES: &[Case] = &[
    Case {
        name: "supervisor: operators at once",
        asserts: "of those who create, start, end and destroy one VM at once one does it, by SSH or over HTTP, and each other one is told why not; no VM is left without its name",
        run: at_once,
    },
    Case {
        name: "supervisor: none left",
        asserts: "who starts a VM for which there is no slot is told and how to get one, by SSH, over HTTP and in a fleet file, and what was not started is as it was; one for which there is no memory waits and is shown so, and starts when there is some",
        run: none_left,
    },
];

/// How long something may take with another machine beside.
const SOON: Duration = Duration::from_secs(120);
/// Who want the same at once.
const OPERATORS: usize = 6;

/// All of them say this at once.
fn all_say(login: &Login, line: &str) -> Result<Vec<Said>> {
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..OPERATORS).map(|_| scope.spawn(|| login.ask(line))).collect();
        all.into_iter().map(|one| one.join().expect("it does not panic")).collect()
    })
}

/// One has done it, and each other one was told this.
fn one_does(login: &Login, line: &str, others: &[&str]) -> Result<()> {
    let said = all_say(login, line)?;
    let done = said.iter().filter(|(_, _, status)| *status == Some(0)).count();
    let told = |(_, error, status): &&Said| *status == Some(1) && others.iter().any(|words| error.contains(words));
    let refused = said.iter().filter(told).count();
    ensure((done, refused) == (1, OPERATORS - 1), || format!("{OPERATORS} say `{line}` at once: {said:?}"))
}

fn at_once(lab: &Lab) -> Result<()> {
    let (running, login) = start_as(lab, "vms=supervisor-vm,httpd net=10.0.2.16/24,gw=10.0.2.2", |boot| boot)?;
    for _ in 0..3 {
        one_does(&login, "vm create web --image httpd", &["is the name of another VM"])?;
        one_does(&login, "vm start web", &["web runs already, as vm2."])?;
        one_does(&login, "vm kill web", &["web does not run (any more)"])?;
        one_does(&login, "vm destroy web", &["there is no VM `web`"])?;
    }
    // Some want it to run, and some do not want it at all: it is there with its name, or not at all.
    login.good("vm create web --image httpd")?;
    std::thread::scope(|scope| {
        for line in [
            "vm start web",
            "vm destroy web",
            "vm start web && vm kill web",
            "vm create web --image httpd && vm start web",
        ] {
            scope.spawn(|| login.ask(line));
        }
    });
    for vm in list(&login, "--image httpd")? {
        ensure(vm["id"] == "vm1.1" || vm["name"] == "web", || format!("{vm} has lost its name"))?;
    }
    let _ = login.ask("vm destroy web")?;
    // The same over HTTP.
    let token = login.good("token new ci")?;
    let client = Client { login: &login, token: token.trim() };
    let answers: Vec<Result<Value>> = std::thread::scope(|scope| {
        let make = || client.is(201, "POST /vms", r#"{"name":"api","image":"httpd"}"#);
        let all: Vec<_> = (0..OPERATORS).map(|_| scope.spawn(make)).collect();
        all.into_iter().map(|one| one.join().expect("it does not panic")).collect()
    });
    let made = answers.iter().filter(|answer| answer.is_ok()).count();
    let told = answers.iter().filter_map(|answer| answer.as_ref().err()).map(ToString::to_string);
    ensure(
        made == 1 && told.clone().all(|why| why.contains("409") && why.contains("is the name of another VM")),
        || format!("{made} have made it: {:?}", told.collect::<Vec<_>>()),
    )?;
    login.good("vm destroy api")?;
    ensure(login.good("vm list --count")? == "2\n", || "VMs are left".into())?;
    running.must_not_say(0, "panicked")?;
    running.power_off()
}

fn list(login: &Login, words: &str) -> Result<Vec<Value>> {
    let said = login.good(&format!("vm list --json {words}"))?;
    serde_json::from_str(&said).context(|| said.clone())
}

fn none_left(lab: &Lab) -> Result<()> {
    let options = "vms=supervisor-vm,httpd slots=4 net=10.0.2.16/24,gw=10.0.2.2";
    let (running, login) = start_as(lab, options, |boot| boot)?;
    slots(&login)?;
    running.power_off()?;
    let options = "vms=supervisor-vm,httpd slots=4096 seats=4 net=10.0.2.16/24,gw=10.0.2.2";
    let (running, login) = start_as(lab, options, |boot| boot)?;
    seats(&running, &login)?;
    running.power_off()
}

fn slots(login: &Login) -> Result<()> {
    const NONE: &str = "does not start: no slot for a VM is free; end one first";
    for name in ["a", "b", "c"] {
        login.good(&format!("vm create {name} --image httpd"))?;
    }
    login.good("vm start a && vm start b")?;
    login.bad("vm start c", 1, NONE)?;
    let token = login.good("token new ci")?;
    let client = Client { login, token: token.trim() };
    client.refused(409, "POST /vms/c/start", "", NONE)?;
    let file = "[[vm]]\nname = \"d\"\nimage = \"httpd\"\n";
    let (_, error, status) = login.ask_with("fleet apply", file)?;
    ensure(status == Some(1) && error.contains(NONE), || format!("{status:?} {error}"))?;
    for name in ["c", "d"] {
        let shown = login.good(&format!("vm show {name} --json"))?;
        ensure(shown.contains("\"state\":\"stopped\""), || shown.clone())?;
    }
    login.good("vm kill a && vm start c")?;
    login.bad("vm start a", 1, NONE)?;
    login.good("vm destroy b")?;
    // What was left of the file is done when it is applied again.
    let (out, error, status) = login.ask_with("fleet apply", file)?;
    ensure(status == Some(0) && out.contains("1 started"), || format!("{status:?} {out}{error}"))
}

/// Without a seat a VM waits, and is shown so.
fn seats(running: &Running, login: &Login) -> Result<()> {
    for name in ["a", "b", "c"] {
        login.good(&format!("vm create {name} --image httpd && vm start {name}"))?;
    }
    let state = || -> Result<Value> { Ok(list(login, "--name c")?.remove(0)["state"].clone()) };
    ensure(state()? == "waiting", || "c does not wait".into())?;
    let node = login.good("node show --json")?;
    ensure(node.contains("\"vms_waiting\":1"), || node.clone())?;
    login.bad("vm pause c", 1, "c waits or is out")?;
    let mark = running.mark();
    login.good("vm kill a")?;
    running.wait_for_since(mark, "httpd: serving http://", SOON)?;
    ensure(state()? != "waiting", || "c waits still".into())
}
