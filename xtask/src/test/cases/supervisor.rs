//! The operator's VM, with OpenSSH's client at the other end.

use super::ensure;
use crate::audit;
use crate::error::{Context, Result, fail};
use crate::http;
use crate::machine::{DiskKind, run_dir};
use crate::operator;
use crate::test::Case;
use crate::test::lab::{Boot, Lab, Running};
use std::ffi::OsStr;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The client.
pub const PROGRAM: &str = "ssh";

pub const CASES: &[Case] = &[
    Case {
        name: "supervisor: commands",
        asserts: "OpenSSH's client creates, starts, lists, stops, ends and destroys VMs and restarts components, by one command, several, and scripts that stop at the first error, with a status each; figures are served for Prometheus",
        run: commands,
    },
    Case {
        name: "supervisor: strangers",
        asserts: "who has no key, another user or another key does not log in and is logged, passwords are not asked for, noise and clients that hang up disturb nobody, and when the operator's VM ends the others go on",
        run: strangers,
    },
];

/// How long something may take with another machine beside.
const SOON: Duration = Duration::from_secs(60);

/// The same for a machine's start, when four of them start at once.
const BOOT: Duration = Duration::from_secs(180);

/// Keys in a folder of their own, and where to log in.
pub struct Login {
    dir: PathBuf,
    pub place: SocketAddr,
    pub web: SocketAddr,
}

/// What a command says, what it says of errors, and its status.
pub type Said = (String, String, Option<i32>);

impl Login {
    fn command(&self, user: &str, key: &str) -> Command {
        let mut ssh = Command::new(PROGRAM);
        ssh.args(["-F", "/dev/null", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"])
            .args(["-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=300", "-i"])
            .arg(self.dir.join(key))
            .args(["-p", &self.place.port().to_string(), &format!("{user}@{}", self.place.ip())]);
        ssh.env_remove("SSH_AUTH_SOCK");
        ssh
    }

    fn said(mut ssh: Command, input: &[u8]) -> Result<Said> {
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = ssh.spawn().context(|| "cannot start ssh".into())?;
        // Who is refused reads nothing.
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input));
        let output = child.wait_with_output().context(|| "ssh".into())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((text(&output.stdout), text(&output.stderr), output.status.code()))
    }

    /// One line.
    pub fn ask(&self, line: &str) -> Result<Said> {
        self.ask_with(line, "")
    }

    /// One line with this on its standard input.
    pub fn ask_with(&self, line: &str, input: &str) -> Result<Said> {
        self.ask_with_bytes(line, input.as_bytes())
    }

    /// One line that is said with this on its standard input, by a client that is killed before all was read.
    pub fn hang_up(&self, line: &str, input: &[u8]) -> Result<()> {
        let mut ssh = self.command(operator::USER, "key");
        ssh.arg(line).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = ssh.spawn().context(|| "cannot start ssh".into())?;
        let stdin = child.stdin.take();
        let written = stdin.as_ref().map(|mut stdin| stdin.write_all(input));
        let killed = child.kill().and_then(|()| child.wait());
        drop(stdin);
        ensure(matches!(written, Some(Ok(()))) && killed.is_ok(), || format!("{written:?} {killed:?}"))
    }

    /// A client that says this line, with pipes at its ends.
    pub fn start(&self, line: &str) -> Result<Child> {
        let mut ssh = self.command(operator::USER, "key");
        ssh.arg(line).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        ssh.spawn().context(|| "cannot start ssh".into())
    }

    /// The same with more options.
    pub fn start_with(&self, options: &[&str], line: &str) -> Result<Child> {
        let mut ssh = self.command(operator::USER, "key");
        ssh.args(options).args((!line.is_empty()).then_some(line));
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        ssh.spawn().context(|| "cannot start ssh".into())
    }

    /// One line with more options, and these bytes on its standard input.
    pub fn ask_as(&self, options: &[&str], line: &str, input: &[u8]) -> Result<Said> {
        let mut ssh = self.command(operator::USER, "key");
        ssh.args(options).args((!line.is_empty()).then_some(line));
        Login::said(ssh, input)
    }

    /// A client at a terminal, a real one, behind a command of the shell's there.
    pub fn at_terminal(&self, first: &str, words: &str) -> Command {
        let ssh = self.command(operator::USER, "key");
        let options: Vec<String> = ssh.get_args().map(|word| format!("'{}'", word.to_string_lossy())).collect();
        let mut script = Command::new("script");
        script.args(["-q", "-e", "-c", &format!("{first}; exec {PROGRAM} {} {words}", options.join(" ")), "/dev/null"]);
        script.env_remove("SSH_AUTH_SOCK").env("TERM", "xterm").env("SHELL", "/bin/sh");
        script
    }

    /// Where the keys are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// One line with these bytes on its standard input.
    pub fn ask_with_bytes(&self, line: &str, input: &[u8]) -> Result<Said> {
        let mut ssh = self.command(operator::USER, "key");
        ssh.arg(line);
        Login::said(ssh, input)
    }

    /// Sends a file by `scp`, as it is called with these options: what it says of errors, and its status.
    pub fn scp(&self, options: &[&str], file: &Path, to: &str) -> Result<(String, Option<i32>)> {
        let ssh = self.command(operator::USER, "key");
        // All that stands in front of the port, which scp calls by another letter.
        let words: Vec<&OsStr> = ssh.get_args().collect();
        let before = words.iter().position(|word| *word == "-p").context(|| "no port".into())?;
        let mut scp = Command::new("scp");
        scp.args(&words[..before]).args(options).args(["-P", &self.place.port().to_string()]).arg(file);
        scp.arg(format!("{}@{}:{to}", operator::USER, self.place.ip())).env_remove("SSH_AUTH_SOCK");
        let output = scp.stdin(Stdio::null()).output().context(|| "cannot start scp".into())?;
        Ok((String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code()))
    }

    /// Commands for `sftp`, one a line, in the folder of the keys: what it says, what it says of errors, and its status.
    pub fn sftp(&self, commands: &str) -> Result<Said> {
        let ssh = self.command(operator::USER, "key");
        let words: Vec<&OsStr> = ssh.get_args().collect();
        let before = words.iter().position(|word| *word == "-p").context(|| "no port".into())?;
        let mut sftp = Command::new("sftp");
        sftp.args(&words[..before]).args(["-b", "-", "-P", &self.place.port().to_string()]);
        sftp.arg(format!("{}@{}", operator::USER, self.place.ip())).env_remove("SSH_AUTH_SOCK").current_dir(&self.dir);
        Login::said(sftp, commands.as_bytes())
    }

    /// One line that goes well.
    pub fn good(&self, line: &str) -> Result<String> {
        match self.ask(line)? {
            (out, _, Some(0)) => Ok(out),
            (_, error, status) => fail!("`{line}` ends with {status:?}: {error}"),
        }
    }

    /// One line that ends with this status and says this of it.
    pub fn bad(&self, line: &str, status: i32, says: &str) -> Result<()> {
        let (out, error, found) = self.ask(line)?;
        ensure(found == Some(status) && error.contains(says) && out.is_empty(), || {
            format!("`{line}` ends with {found:?} and says {error:?} and {out:?} instead of {status} and \"{says}\"")
        })
    }

    /// A script.
    pub fn script(&self, lines: &str) -> Result<Said> {
        Login::said(self.command(operator::USER, "key"), lines.as_bytes())
    }
}

fn key(dir: &Path, name: &str) -> Result<()> {
    let mut made = Command::new("ssh-keygen");
    made.args(["-q", "-t", "ed25519", "-N", "", "-C", "a test", "-f"]).arg(dir.join(name));
    let status = made.status().context(|| "cannot start ssh-keygen".into())?;
    ensure(status.success(), || format!("ssh-keygen failed: {status}"))
}

fn start(lab: &Lab) -> Result<(Running, Login)> {
    start_with(lab, &[])
}

/// A machine with the operator's VM, two others, and these disks.
pub fn start_with(lab: &Lab, disks: &[PathBuf]) -> Result<(Running, Login)> {
    let options = "vms=supervisor-vm,httpd*2 net=10.0.2.16/24,gw=10.0.2.2";
    start_as(lab, options, |boot| boot.disks(DiskKind::Ide, disks))
}

/// A machine that was changed, with these options, of which the first VM is the operator's.
pub fn start_as<'l>(
    lab: &'l Lab,
    options: &str,
    change: impl FnOnce(Boot<'l>) -> Boot<'l>,
) -> Result<(Running, Login)> {
    let (mut running, login) = start_alone(lab, options, change)?;
    running.wait_until_ready(BOOT)?;
    Ok((running, login))
}

/// The same, where nobody waits for other VMs.
pub fn start_alone<'l>(
    lab: &'l Lab,
    options: &str,
    change: impl FnOnce(Boot<'l>) -> Boot<'l>,
) -> Result<(Running, Login)> {
    let dir = run_dir()?;
    key(&dir, "key")?;
    key(&dir, "other")?;
    let mut admitted = Ok(());
    let boot = change(lab.boot(options)).system(|system| admitted = operator::admit(system, &dir.join("key.pub")));
    admitted?;
    let running = boot.start()?;
    running.wait_for("supervisor: serving http://10.0.2.16/ and ssh admin@10.0.2.16", BOOT)?;
    let Some((place, web)) = operator::places(running.vms()) else { fail!("the operator's VM has no ports") };
    Ok((running, Login { dir, place, web }))
}

fn commands(lab: &Lab) -> Result<()> {
    let (running, login) = start(lab)?;
    let list = login.good("vm list")?;
    let httpds = list.lines().filter(|line| line.contains(" httpd ")).count();
    ensure(list.starts_with("NAME ") && list.contains(" supervisor-vm ") && httpds == 2, || list.clone())?;
    let created = login.good("vm create web-17 --image httpd --memory 8M --weight 200 -- a=b && vm start web-17")?;
    ensure(created.ends_with("web-17 runs as vm3.1\n"), || created.clone())?;
    running.wait_for("vm3.1: httpd: serving http://10.0.2.19/", SOON)?;
    let shown = login.good("vm show web-17 --json")?;
    let shown: serde_json::Value = serde_json::from_str(&shown).context(|| shown.clone())?;
    let limit = shown["limit_bytes"].as_u64();
    let is = shown["id"] == "vm3.1" && shown["image"] == "httpd" && shown["address"] == "10.0.2.19";
    ensure(is && limit == Some(8 << 20), || format!("{shown}"))?;
    let done = login.good("vm create json --image httpd --json && vm destroy json --json")?;
    let says = "{\"done\":\"json is created; `vm start json` lets it run\"}\n{\"done\":\"json is destroyed\"}\n";
    ensure(done == says, || done.clone())?;
    paused(&login)?;
    lists(&login)?;
    figures(&login)?;
    login.bad("vm start web-17", 1, "web-17 runs already, as vm3.2")?;
    login.bad("vm create web-17 --image httpd", 1, "is the name of another VM")?;
    login.bad("vm create Web --image httpd", 1, "is no name: take 1 to 63 small letters")?;
    login.bad("vm create a --image nobody", 1, "there is no image `nobody`: known are httpd, ")?;
    login.bad("vm create a --image httpd --memory 17M", 1, "VMs of httpd have 16384K at most")?;
    login.bad("vm pause vm0.1", 1, "that is the supervisor itself")?;
    login.bad("vm kill vm0.1", 1, "that is the supervisor itself")?;
    login.bad("vm stop vm9.9", 1, "vm9.9 does not run (any more)")?;
    login.bad("vm frobnicate", 2, "there is no command `vm frobnicate`")?;
    login.good("vm stop web-17")?;
    running.wait_for("core: vm3.2 ended: exited (detail 0x0", SOON)?;
    let list = login.good("vm list")?;
    ensure(list.lines().any(|line| line.starts_with("web-17 ") && line.contains(" stopped ")), || list.clone())?;
    login.good("vm start web-17 && vm kill web-17 && vm start web-17 && vm destroy web-17")?;
    running.wait_for("core: vm3.4 ended: destroyed", SOON)?;
    login.bad("vm show web-17", 1, "there is no VM `web-17`")?;
    scripts(&running, &login)?;
    people(&running, &login)?;
    audited(&running, &login)?;
    login.good("component restart sched")?;
    let components = login.good("component list")?;
    let sched = components.lines().find(|line| line.starts_with("sched ")).unwrap_or_default();
    ensure(sched.split_whitespace().nth(1) == Some("2"), || components.clone())?;
    for (line, key) in [("node show --json", "\"vms\":"), ("image list --json", "\"httpd\""), ("help", "vm create")] {
        let said = login.good(line)?;
        ensure(said.contains(key), || format!("{line}: {said}"))?;
    }
    running.power_off()
}

/// A web server that stands still does not answer before it goes on.
fn paused(login: &Login) -> Result<()> {
    login.good("vm pause web-17 && vm pause web-17")?;
    let ran = || -> Result<(String, u64)> {
        let shown: serde_json::Value =
            serde_json::from_str(&login.good("vm show web-17 --json")?).context(|| "vm show".into())?;
        Ok((shown["state"].to_string(), shown["ran_ms"].as_u64().unwrap_or(0)))
    };
    let before = ran()?;
    // It is called: that alone does not let it run.
    login.good("vm stop web-17")?;
    std::thread::sleep(Duration::from_secs(1));
    let after = ran()?;
    ensure(before.0 == "\"paused\"" && before == after, || format!("{before:?}, later {after:?}"))?;
    login.good("vm resume web-17")?;
    let deadline = std::time::Instant::now() + SOON;
    while ran()?.0 != "\"stopped\"" {
        ensure(std::time::Instant::now() < deadline, || "it goes on and does not end as it was asked to".into())?;
        std::thread::sleep(Duration::from_millis(200));
    }
    login.bad("vm resume web-17", 1, "web-17 does not run (any more)")?;
    login.good("vm start web-17").map(drop)
}

/// Filters, counts, and pages of one VM that are all of them in the end.
fn lists(login: &Login) -> Result<()> {
    login.good("vm create a-1 --image httpd && vm create a-2 --image httpd")?;
    for (line, count) in
        [("--image httpd", "5"), ("--name a-", "2"), ("--state stopped", "2"), ("--image ask", "0"), ("", "6")]
    {
        let found = login.good(&format!("vm list --count {line}"))?;
        ensure(found.trim() == count, || format!("{line}: {found} instead of {count}"))?;
    }
    let (mut line, mut seen) = ("vm list --image httpd --limit 1 --json".to_owned(), Vec::new());
    let (mut path, mut served) = ("/vms.json?image=httpd&limit=1".to_owned(), Vec::new());
    loop {
        let (out, error, status) = login.ask(&line)?;
        ensure(status == Some(0), || error.clone())?;
        seen.push(out);
        let Some(last) = error.trim().strip_prefix("there are more: vm list --after ") else { break };
        line = format!("vm list --after {last} --image httpd --limit 1 --json");
        ensure(seen.len() < 9, || "the list has no end".into())?;
    }
    loop {
        let answer = http::get(login.web, &path, SOON)?;
        served.push(String::from_utf8_lossy(&answer.body).into_owned());
        let Some(next) = answer.header("link").and_then(|link| link.strip_prefix('<')?.split_once(">; rel=\"next\""))
        else {
            break;
        };
        path = next.0.to_owned();
        ensure(served.len() < 9, || "the list has no end".into())?;
    }
    let ids = |lists: &[String]| -> Result<Vec<String>> {
        let mut names = Vec::new();
        for list in lists {
            let list: serde_json::Value = serde_json::from_str(list).context(|| list.clone())?;
            let [vm] = list.as_array().map_or(&[][..], Vec::as_slice) else { fail!("{list} is not one VM") };
            names.push(if vm["id"].is_null() { vm["name"].to_string() } else { vm["id"].to_string() });
        }
        Ok(names)
    };
    let (seen, served) = (ids(&seen)?, ids(&served)?);
    let all = ["\"vm1.1\"", "\"vm2.1\"", "\"vm3.2\"", "\"a-1\"", "\"a-2\""];
    ensure(seen == all && served == all, || format!("{seen:?} and {served:?}"))?;
    ensure(http::get(login.web, "/vms.json?limit=2000", SOON)?.status == 400, || "2,000 are not too many".into())?;
    login.good("vm destroy a-1 && vm destroy a-2").map(drop)
}

/// What was done and who has ended is in the audit log, as it was written, and the machine's log says the same.
fn audited(running: &Running, login: &Login) -> Result<()> {
    login.bad("vm kill nobody", 1, "there is no VM `nobody`")?;
    let log = login.good("audit")?;
    let console = running.said_since(0).join("\n");
    let compared = audit::check(&log).and_then(|whole| audit::compare(&whole, &console)).context(|| log.clone())?;
    ensure(compared > 15, || format!("only {compared} lines are in the machine's log"))?;
    let whose = operator::fingerprint(&login.dir.join("key.pub"))?;
    for says in [
        "\"who\":\"supervisor\",\"what\":\"starts as vm0.1 with the host key SHA256:".to_owned(),
        format!("\"who\":\"{whose} at 10.0.2."),
        "\"what\":\"vm kill web-17\",\"outcome\":\"done\"".to_owned(),
        "\"who\":\"core\",\"what\":\"vm3.1 ended\",\"outcome\":\"exited\"".to_owned(),
        "\"what\":\"vm3.4 ended\",\"outcome\":\"destroyed\"".to_owned(),
        "\"what\":\"vm kill nobody\",\"outcome\":\"there is no VM `nobody`".to_owned(),
    ] {
        ensure(log.contains(&says), || format!("{says} is not in\n{log}"))?;
    }
    ensure(!log.contains("\"what\":\"vm list"), || "what changes nothing is written down".into())
}

/// So many log in at once, and all are served.
fn at_once(login: &Login, many: usize) -> Result<()> {
    let ask = || login.good("vm list --count");
    let said: Result<Vec<String>> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..many).map(|_| scope.spawn(ask)).collect();
        all.into_iter().map(|one| one.join().unwrap_or_else(|_| fail!("a login panicked"))).collect()
    });
    let said = said?;
    ensure(said.iter().all(|said| said == "3\n"), || format!("{said:?}"))
}

/// What a person sees at a terminal, a real one, who types this.
fn typed(login: &Login, word: &str, keys: &str) -> Result<(String, Option<i32>)> {
    let (out, error, status) = Login::said(login.at_terminal("true", word), keys.as_bytes())?;
    Ok((plain(&out) + &error, status))
}

/// What a terminal was told, without what moves its cursor.
pub fn plain(text: &str) -> String {
    let mut text = text.replace('\r', "");
    while let Some(at) = text.find("\x1b[") {
        let end = text[at + 2..].find(|c: char| c.is_ascii_alphabetic()).map_or(text.len(), |end| at + 3 + end);
        text.replace_range(at..end, "");
    }
    text
}

/// A prompt, which errors do not end.
fn people(running: &Running, login: &Login) -> Result<()> {
    const GREETING: &str = "Foraker. A command a line; `help` shows all, `exit` or Ctrl-D ends this.\nforaker> ";
    const AT_TERMINAL: &str = "Foraker. A command a line; `help` shows all, Tab completes, Ctrl-C stops, `exit` or Ctrl-D ends this.\nforaker> ";
    let mark = running.mark();
    let (seen, status) = typed(login, "", "vm list --count\n\nvm frobnicate\nvm kill nobody\nnode show\nexit\n")?;
    let mut rest = seen.as_str();
    for says in [
        AT_TERMINAL,
        "3\nforaker> ",
        "foraker> ",
        "there is no command `vm frobnicate`",
        "there is no VM `nobody`",
        "foraker> ",
        "VMs      3, of which",
        "foraker> ",
    ] {
        let Some((_, behind)) = rest.split_once(says) else { fail!("\"{says}\" is not where it should be in\n{seen}") };
        rest = behind;
    }
    ensure(status == Some(0), || format!("{status:?} in the end of\n{seen}"))?;
    running.wait_for_since(mark, ": a shell", SOON)?;
    // The word asks for a prompt where there is no terminal; the end of what is typed is one, and the status is the last one's.
    let (seen, status) = typed(login, operator::SHELL, "vm kill nobody\n\x04")?;
    ensure(status == Some(1) && seen.contains(GREETING), || format!("{status:?}\n{seen}"))
}

fn scripts(running: &Running, login: &Login) -> Result<()> {
    let (out, error, status) =
        login.script("# two VMs\nvm create a --image httpd\n\nvm create b --image httpd && vm start b\n")?;
    ensure(status == Some(0) && error.is_empty() && out.contains("b runs as vm3.5\n"), || {
        format!("{status:?} {out} {error}")
    })?;
    let (out, error, status) = login.script("vm kill b\nvm start nobody\nvm destroy a\n")?;
    let stopped =
        status == Some(1) && out == "b is ended\n" && error.starts_with("line 2: no VM has the name `nobody`");
    ensure(stopped, || format!("{status:?} {out} {error}"))?;
    login.good("vm destroy a && vm destroy b")?;
    // One that hangs up before its end has done nothing.
    let mut ssh = login.command(operator::USER, "key");
    ssh.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mark = running.mark();
    let mut child = ssh.spawn().context(|| "cannot start ssh".into())?;
    let mut input = child.stdin.take().expect("piped");
    let sent = input.write_all(b"vm create half --image httpd\n");
    sent.context(|| "ssh takes no script".into())?;
    std::thread::sleep(Duration::from_secs(3));
    child.kill().context(|| "cannot end ssh".into())?;
    child.wait().context(|| "ssh".into())?;
    login.bad("vm show half", 1, "there is no VM `half`")?;
    running.must_not_say(mark, "panicked")
}

fn figures(login: &Login) -> Result<()> {
    let answer = http::get(login.web, "/metrics", SOON)?;
    let said = login.good("metrics")?;
    ensure(said.contains("# HELP foraker_vms ") && said.contains("\nforaker_vms "), || said.clone())?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    ensure(answer.status == 200, || format!("{} {text}", answer.status))?;
    let mut known = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(about) = line.strip_prefix("# TYPE ") {
            let (name, kind) = about.split_once(' ').unwrap_or_default();
            ensure(known.insert(name) && matches!(kind, "gauge" | "counter"), || line.to_owned())?;
            ensure(text.contains(&format!("# HELP {name} ")), || format!("no help for {name}"))?;
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap_or_default();
            let base = name.split('{').next().unwrap_or_default();
            ensure(known.contains(base) && value.parse::<f64>().is_ok(), || line.to_owned())?;
        }
    }
    let vm = "foraker_vm_state{vm=\"vm3.2\",name=\"web-17\",image=\"httpd\",state=";
    for sample in ["foraker_vms 4\n", vm, "foraker_component_starts_total{component=\"netmux\"} 1\n"] {
        ensure(text.contains(sample), || format!("{sample} is not in\n{text}"))?;
    }
    let list = http::get(login.web, "/vms.json", SOON)?;
    let list: serde_json::Value = serde_json::from_slice(&list.body).context(|| "/vms.json".into())?;
    ensure(list.as_array().is_some_and(|list| list.len() == 4), || format!("{list}"))?;
    let page = http::get(login.web, "/", SOON)?;
    let text = String::from_utf8_lossy(&page.body);
    let alone = !text.contains("src=") && !text.contains("href=") && !text.contains("://");
    ensure(page.status == 200 && alone && text.contains("<title>Foraker</title>"), || {
        "the page loads something".into()
    })?;
    ensure(
        page.header("content-security-policy").is_some_and(|policy| policy.starts_with("default-src 'none'")),
        || format!("{:?}", page.headers),
    )?;
    ensure(http::get(login.web, "/nothing", SOON)?.status == 404, || "/nothing is there".into())
}

fn strangers(lab: &Lab) -> Result<()> {
    let (running, login) = start(lab)?;
    for (user, key, says) in [
        (operator::USER, "other", " may not log in as admin with the key SHA256:"),
        ("root", "key", " may not log in as root "),
    ] {
        let mark = running.mark();
        let mut ssh = login.command(user, key);
        ssh.arg("vm list");
        let (out, error, status) = Login::said(ssh, b"")?;
        let refused = status == Some(255) && out.is_empty() && error.contains("Permission denied (publickey)");
        ensure(refused, || format!("{user} with {key}: {status:?} {out} {error}"))?;
        running.wait_for_since(mark, says, SOON)?;
    }
    // Noise, a client that says nothing, and one that begins as one should and hangs up.
    let mut silent = Vec::new();
    for begin in [
        &b"\x00\xff\xfe noise\r\n\r\n"[..],
        b"",
        b"SSH-2.0-x\r\n",
        b"SSH-2.0-x\r\n\xff\xff\xff\xff\x00\x14",
        b"SSH-1.0-old\r\n",
    ] {
        let mut stream = TcpStream::connect(login.place).context(|| "no connection".into())?;
        stream.write_all(begin).context(|| "the connection broke".into())?;
        silent.push(stream);
    }
    silent.truncate(2);
    let list = login.good("vm list")?;
    ensure(list.contains(" supervisor-vm "), || list.clone())?;
    at_once(&login, 50)?;
    // What is left when it is down: the others, and the operator's line.
    running.monitor("destroy 0")?;
    running.wait_for("core: vm0.1 ended: destroyed", SOON)?;
    for service in running.services() {
        ensure(http::get(*service, "/", SOON)?.status == 200, || format!("{service} does not answer any more"))?;
    }
    // Another one finds everything as it was.
    let mark = running.mark();
    running.monitor("create supervisor-vm")?;
    running.wait_for_since(mark, "supervisor: serving http://10.0.2.16/", SOON)?;
    let list = login.good("vm list")?;
    ensure(list.contains("vm0.2") && list.contains("vm1.1") && list.contains("vm2.1"), || list.clone())?;
    running.power_off()
}
