//! What programs change over HTTP at the operator's VM.

use super::ensure;
use super::supervisor::{Login, start_with};
use crate::audit;
use crate::error::{Context, Result, fail};
use crate::http::{self, Connection, Response};
use crate::test::Case;
use crate::test::lab::{Lab, Running};
use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What judges figures.
pub const JUDGE: &str = "promtool";

pub const JUDGED_CASES: &[Case] = &[Case {
    name: "supervisor: figures that promtool takes",
    asserts: "Prometheus' own tool finds nothing wrong with the figures of a machine with VMs, tenants and names",
    run: takes,
}];

pub const CASES: &[Case] = &[Case {
    name: "supervisor: over HTTP",
    asserts: "a program with a token creates, starts, pauses, stops, ends and destroys VMs and restarts components; without one, with a wrong method, a body that is none, too long or does not come, nothing is done; it reads the log, and talks with a VM on its console; the audit log names the token",
    run: over_http,
}];

/// How long something may take with another machine beside.
const SOON: Duration = Duration::from_secs(60);

/// A program reads the log, and talks with a VM on its console.
fn heard(login: &Login, client: &Client) -> Result<()> {
    login.good("vm create sums --image calc && vm start sums")?;
    client.is(204, "POST /vms/sums/console", "{\"line\":\"6 * 7\"}")?;
    let (mut said, mut from) = (String::new(), String::new());
    let end = Instant::now() + SOON;
    while !said.contains("42\n") {
        ensure(Instant::now() < end, || said.clone())?;
        let heard = client.is(200, &format!("GET /vms/sums/console?wait=5{from}"), "")?;
        said += heard["text"].as_str().unwrap_or_default();
        from = format!("&from={}", heard["next"]);
    }
    ensure(said.contains("calc: ready"), || said.clone())?;
    // The core takes its time with what VMs say.
    loop {
        let log = client.is(200, "GET /log.json?from=sums", "")?;
        let is = |line: &Value| line["text"].as_str().is_some_and(|text| text.contains("calc: ready"));
        if log.as_array().is_some_and(|lines| lines.iter().any(is)) {
            break;
        }
        ensure(Instant::now() < end, || format!("{log}"))?;
        std::thread::sleep(Duration::from_millis(200));
    }
    client.refused(400, "GET /log.json?level=loud", "", "level loud: give error, warn")?;
    client.refused(400, "GET /vms/sums/console?wait=60", "", "wait 60: give a number of seconds from 0 to 10")?;
    client.refused(409, "GET /vms/vm0.1/console", "", "that is the supervisor itself")?;
    client.refused(404, "GET /vms/nobody/console", "", "there is no VM `nobody`")?;
    let stranger = Client { login, token: "" };
    for line in ["GET /log.json", "GET /vms/sums/console", "POST /vms/sums/console"] {
        stranger.refused(401, line, "", "show a token")?;
    }
    login.good("vm destroy sums")?;
    client.refused(404, "GET /vms/sums/console", "", "there is no VM `sums`")?;
    let audit = login.good("audit")?;
    let visits = audit.matches("\"what\":\"vm console sums\"").count();
    ensure(visits == 1, || format!("{visits} visits in {audit}"))
}

/// A client that shows a token, or none.
pub struct Client<'a> {
    pub login: &'a Login,
    pub token: &'a str,
}

impl Client<'_> {
    /// A request with these headers and this body.
    fn send(&self, line: &str, headers: &str, body: &str) -> Result<Response> {
        let mut connection = Connection::open(self.login.web, SOON)?;
        let token = match self.token {
            "" => String::new(),
            token => format!("Authorization: Bearer {token}\r\n"),
        };
        connection.send(format!("{line} HTTP/1.1\r\nHost: a\r\n{token}{headers}\r\n{body}").as_bytes())?;
        connection.response(line.starts_with("HEAD")).context(|| line.to_owned())
    }

    /// A request that is answered with this status. Its body.
    pub fn is(&self, status: u16, line: &str, body: &str) -> Result<Value> {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let response = self.send(line, &length, body)?;
        judged(line, status, &response)
    }

    /// A request that is refused with this status, and says this.
    pub fn refused(&self, status: u16, line: &str, body: &str, says: &str) -> Result<()> {
        let said = self.is(status, line, body)?;
        let why = said["error"].as_str().unwrap_or_default();
        ensure(why.contains(says), || format!("`{line}` with {body}: \"{why}\" instead of \"{says}\""))
    }
}

fn judged(line: &str, status: u16, response: &Response) -> Result<Value> {
    let text = String::from_utf8_lossy(&response.body);
    ensure(response.status == status, || format!("{line}: {} instead of {status}: {text}", response.status))?;
    if text.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&text).context(|| format!("{line}: {text}")) }
}

fn over_http(lab: &Lab) -> Result<()> {
    let (running, login) = start_with(lab, &[])?;
    let made = login.good("token new ci --json")?;
    let made: Value = serde_json::from_str(&made).context(|| made.clone())?;
    let Some(token) = made["token"].as_str().filter(|_| made["name"] == "ci") else { fail!("{made}") };
    let client = Client { login: &login, token };
    strangers(&running, &login, token)?;
    lives(&running, &client)?;
    bad(&client)?;
    hangs_up(&client)?;
    heard(&login, &client)?;
    let components = client.is(204, "POST /components/sched/restart", "").and_then(|_| login.good("component list"))?;
    ensure(
        components.lines().any(|line| line.starts_with("sched ") && line.split_whitespace().nth(1) == Some("2")),
        || components.clone(),
    )?;
    client.refused(404, "POST /components/nobody/restart", "", "there is no component `nobody`")?;
    let list = login.good("token list")?;
    ensure(list.lines().any(|line| line.starts_with("ci ")) && !list.contains(token), || list.clone())?;
    login.bad("token new ci", 1, "is the name of another token")?;
    login.bad("token rm cd", 1, "there is no token `cd`")?;
    login.good("token rm ci")?;
    client.refused(401, "POST /vms/vm1.1/kill", "", "show a token")?;
    audited(&running, &login, token)?;
    running.power_off()
}

/// Who shows no token, or a wrong one, changes nothing.
fn strangers(running: &Running, login: &Login, token: &str) -> Result<()> {
    let longer = format!("{token}A");
    for wrong in ["", "ci", &token[1..], &longer] {
        let client = Client { login, token: wrong };
        for (line, body) in [
            ("POST /vms", r#"{"name":"b","image":"httpd"}"#),
            ("POST /vms/vm1.1/kill", ""),
            ("DELETE /vms/vm1.1", ""),
            ("POST /components/sched/restart", ""),
        ] {
            client.refused(401, line, body, "`token new`")?;
        }
    }
    running.wait_for("may not DELETE /vms/vm1.1: it shows no token that is known", SOON)?;
    // A body is not waited for.
    let response = Client { login, token: "" }.send("POST /vms", "Content-Length: 100\r\n", "")?;
    ensure(response.status == 401 && response.header("www-authenticate") == Some("Bearer"), || {
        format!("{response:?}")
    })?;
    let count = login.good("vm list --count")?;
    ensure(count == "3\n", || count.clone())
}

/// A VM from its beginning to its end.
fn lives(running: &Running, client: &Client) -> Result<()> {
    let body = r#"{"name":"web-17","image":"httpd","memory":"8M","weight":200,"args":"a=b"}"#;
    let length = format!("Content-Length: {}\r\n", body.len());
    let response = client.send("POST /vms", &length, body)?;
    let created = judged("POST /vms", 201, &response)?;
    let is = response.header("location") == Some("/vms/web-17") && created["state"] == "stopped";
    ensure(is && created["limit_bytes"] == 8 << 20, || format!("{response:?}"))?;
    client.refused(409, "POST /vms", body, "is the name of another VM")?;
    client.refused(409, "POST /vms/web-17/stop", "", "web-17 does not run: `vm start web-17` lets it")?;
    let mark = running.mark();
    let started = client.is(200, "POST /vms/web-17/start", "")?;
    ensure(started["id"] == "vm3.1" && started["address"] == "10.0.2.19", || format!("{started}"))?;
    running.wait_for_since(mark, "vm3.1: httpd: serving http://10.0.2.19/", SOON)?;
    client.refused(409, "POST /vms/web-17/start", "", "web-17 runs already, as vm3.1")?;
    ensure(client.is(200, "POST /vms/vm3.1/pause", "")?["state"] == "paused", || "it does not stand still".into())?;
    ensure(client.is(200, "GET /vms/web-17", "")?["state"] == "paused", || "it does not stand still".into())?;
    ensure(client.is(200, "POST /vms/web-17/resume", "")?["state"] != "paused", || "it does not go on".into())?;
    client.is(200, "POST /vms/web-17/stop", "")?;
    running.wait_for("core: vm3.1 ended: exited", SOON)?;
    client.is(200, "POST /vms/web-17/start", "")?;
    client.is(200, "POST /vms/web-17/kill", "")?;
    running.wait_for("core: vm3.2 ended: destroyed", SOON)?;
    client.is(200, "POST /vms/web-17/start", "")?;
    client.is(204, "DELETE /vms/web-17", "")?;
    client.refused(404, "GET /vms/web-17", "", "there is no VM `web-17`")?;
    client.refused(404, "POST /vms/web-17/start", "", "no VM has the name `web-17`")?;
    client.refused(404, "DELETE /vms/vm3.3", "", "vm3.3 does not run (any more)")
}

/// What is no request.
fn bad(client: &Client) -> Result<()> {
    for (body, says) in [
        ("", "that is no VM: EOF"),
        ("{\"name\":\"b\"}", "missing field `image`"),
        ("{\"name\":\"b\",\"image\":\"httpd\",\"cpus\":2}", "unknown field `cpus`"),
        ("{\"name\":\"b\",\"image\":\"httpd\",\"memory\":\"44K\"}", "memory 44K: give bytes"),
    ] {
        client.refused(400, "POST /vms", body, says)?;
    }
    client.refused(409, "POST /vms", "{\"name\":\"B\",\"image\":\"httpd\"}", "is no name")?;
    client.refused(409, "POST /vms", "{\"name\":\"b\",\"image\":\"nobody\"}", "there is no image `nobody`")?;
    for (line, allowed) in [
        ("PUT /vms", "GET, HEAD, POST"),
        ("GET /vms/b/start", "POST"),
        ("POST /vms/b", "GET, HEAD, DELETE"),
        ("POST /metrics", "GET, HEAD"),
    ] {
        let response = client.send(line, "", "")?;
        ensure(response.status == 405 && response.header("allow") == Some(allowed), || {
            format!("{line}: {response:?}")
        })?;
    }
    for (headers, status) in [("Content-Length: 16385\r\n", 413), ("Transfer-Encoding: chunked\r\n", 411)] {
        judged(headers, status, &client.send("POST /vms", headers, "")?)?;
    }
    for line in ["POST /nothing", "POST /vms/b/frobnicate", "POST /vms/../start"] {
        ensure(client.send(line, "", "")?.status == 404, || format!("{line} is there"))?;
    }
    Ok(())
}

/// A client that waits to be told to go on is; one that hangs up in the middle of a body has done nothing.
fn hangs_up(client: &Client) -> Result<()> {
    let body = r#"{"name":"half","image":"httpd"}"#;
    let mut connection = Connection::open(client.login.web, SOON)?;
    let head = |more: &str| {
        let (token, length) = (client.token, body.len());
        format!(
            "POST /vms HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n{more}Content-Length: {length}\r\n\r\n"
        )
    };
    connection.send((head("") + &body[..20]).as_bytes())?;
    drop(connection);
    let mut connection = Connection::open(client.login.web, SOON)?;
    connection.send(head("Expect: 100-continue\r\n").as_bytes())?;
    let go_on = connection.response(true)?;
    ensure(go_on.status == 100, || format!("{go_on:?}"))?;
    client.refused(404, "GET /vms/half", "", "there is no VM `half`")?;
    connection.send(body.as_bytes())?;
    judged("POST /vms", 201, &connection.response(false)?)?;
    client.is(204, "DELETE /vms/half", "").map(drop)
}

/// What was done is written down with the token's name, and the token itself nowhere.
fn audited(running: &Running, login: &Login, token: &str) -> Result<()> {
    let log = login.good("audit")?;
    let console = running.said_since(0).join("\n");
    audit::check(&log).and_then(|whole| audit::compare(&whole, &console)).context(|| log.clone())?;
    for (whose, what) in [
        (
            "token ci at 10.0.2.",
            "\"what\":\"vm create web-17 --image httpd --memory 8M --weight 200 -- a=b\",\"outcome\":\"done\"",
        ),
        ("token ci at 10.0.2.", "\"what\":\"vm start web-17\",\"outcome\":\"web-17 runs already, as vm3.1\""),
        ("token ci at 10.0.2.", "\"what\":\"vm pause vm3.1\",\"outcome\":\"done\""),
        ("token ci at 10.0.2.", "\"what\":\"component restart sched\",\"outcome\":\"done\""),
        ("SHA256:", "\"what\":\"token new ci --json\",\"outcome\":\"done\""),
        ("SHA256:", "\"what\":\"token rm ci\",\"outcome\":\"done\""),
    ] {
        let found = log.lines().any(|line| line.contains(&format!("\"who\":\"{whose}")) && line.contains(what));
        ensure(found, || format!("{what} by {whose} is not in\n{log}"))?;
    }
    ensure(!log.contains(token) && !console.contains(token), || "the token itself is in a log".into())
}

fn takes(lab: &Lab) -> Result<()> {
    let (running, login) = super::supervisor::start_with(lab, &[])?;
    login.good("tenant set blue --vms 4 --memory 64M --disk 1M --pool 1M --wakes 5 --rate 1M")?;
    login.good("vm create a-1 --image httpd --tenant blue && vm start a-1 && vm create a-2 --image udp-echo")?;
    let figures = http::get(login.web, "/metrics", SOON)?;
    for bad in [false, true] {
        let mut judge = Command::new(JUDGE);
        judge.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut judge = judge.spawn().context(|| "cannot start promtool".into())?;
        let text = if bad { [&figures.body[..], b"no figure {\n"].concat() } else { figures.body.clone() };
        // It may end before it has read all.
        let _ = judge.stdin.take().map(|mut stdin| stdin.write_all(&text));
        let said = judge.wait_with_output().context(|| "promtool".into())?;
        let words = [said.stdout, said.stderr].concat();
        ensure(said.status.success() != bad && (bad || words.is_empty()), || {
            format!("{}: {}", said.status, String::from_utf8_lossy(&words))
        })?;
    }
    running.power_off()
}
