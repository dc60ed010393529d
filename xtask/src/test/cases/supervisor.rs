//! The operator's VM, with OpenSSH's client and curl at the other end.

use super::ensure;
use crate::error::{Context, Result, fail};
use crate::http;
use crate::machine::run_dir;
use crate::operator;
use crate::test::Case;
use crate::test::lab::{Lab, Running};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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

/// Keys in a folder of their own, and where to log in.
struct Login {
    dir: PathBuf,
    place: SocketAddr,
    web: SocketAddr,
}

/// What a command says, what it says of errors, and its status.
type Said = (String, String, Option<i32>);

impl Login {
    fn command(&self, user: &str, key: &str) -> Command {
        let mut ssh = Command::new(PROGRAM);
        ssh.args(["-F", "/dev/null", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"])
            .args(["-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=60", "-i"])
            .arg(self.dir.join(key))
            .args(["-p", &self.place.port().to_string(), &format!("{user}@{}", self.place.ip())]);
        ssh.env_remove("SSH_AUTH_SOCK");
        ssh
    }

    fn said(mut ssh: Command, input: &str) -> Result<Said> {
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = ssh.spawn().context(|| "cannot start ssh".into())?;
        // Who is refused reads nothing.
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().context(|| "ssh".into())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((text(&output.stdout), text(&output.stderr), output.status.code()))
    }

    /// One line.
    fn ask(&self, line: &str) -> Result<Said> {
        let mut ssh = self.command(operator::USER, "key");
        ssh.arg(line);
        Login::said(ssh, "")
    }

    /// One line that goes well.
    fn good(&self, line: &str) -> Result<String> {
        match self.ask(line)? {
            (out, _, Some(0)) => Ok(out),
            (_, error, status) => fail!("`{line}` ends with {status:?}: {error}"),
        }
    }

    /// One line that ends with this status and says this of it.
    fn bad(&self, line: &str, status: i32, says: &str) -> Result<()> {
        let (out, error, found) = self.ask(line)?;
        ensure(found == Some(status) && error.contains(says) && out.is_empty(), || {
            format!("`{line}` ends with {found:?} and says {error:?} and {out:?} instead of {status} and \"{says}\"")
        })
    }

    /// A script.
    fn script(&self, lines: &str) -> Result<Said> {
        Login::said(self.command(operator::USER, "key"), lines)
    }
}

fn key(dir: &Path, name: &str) -> Result<()> {
    let mut made = Command::new("ssh-keygen");
    made.args(["-q", "-t", "ed25519", "-N", "", "-C", "a test", "-f"]).arg(dir.join(name));
    let status = made.status().context(|| "cannot start ssh-keygen".into())?;
    ensure(status.success(), || format!("ssh-keygen failed: {status}"))
}

fn start(lab: &Lab) -> Result<(Running, Login)> {
    let dir = run_dir()?;
    key(&dir, "key")?;
    key(&dir, "other")?;
    let mut admitted = Ok(());
    let boot = lab
        .boot("vms=supervisor-vm,httpd*2 net=10.0.2.16/24,gw=10.0.2.2")
        .system(|system| admitted = operator::admit(system, &dir.join("key.pub")));
    admitted?;
    let mut running = boot.start()?;
    running.wait_for("supervisor: serving http://10.0.2.16/ and ssh admin@10.0.2.16", SOON)?;
    running.wait_until_ready(SOON)?;
    let Some((place, web)) = operator::places(running.vms()) else { fail!("the operator's VM has no ports") };
    Ok((running, Login { dir, place, web }))
}

fn commands(lab: &Lab) -> Result<()> {
    let (running, login) = start(lab)?;
    let list = login.good("vm list")?;
    let httpds = list.lines().filter(|line| line.contains(" httpd ")).count();
    ensure(list.starts_with("NAME ") && list.contains(" supervisor-vm ") && httpds == 2, || list.clone())?;
    let created = login.good("vm create web-17 --image httpd --weight 200 -- a=b && vm start web-17")?;
    ensure(created.ends_with("web-17 runs as vm3.1\n"), || created.clone())?;
    running.wait_for("vm3.1: httpd: serving http://10.0.2.19/", SOON)?;
    let shown = login.good("vm show web-17 --json")?;
    let shown: serde_json::Value = serde_json::from_str(&shown).context(|| shown.clone())?;
    ensure(shown["id"] == "vm3.1" && shown["image"] == "httpd" && shown["address"] == "10.0.2.19", || {
        format!("{shown}")
    })?;
    figures(&login)?;
    login.bad("vm start web-17", 1, "web-17 runs already, as vm3.1")?;
    login.bad("vm create web-17 --image httpd", 1, "is the name of another VM")?;
    login.bad("vm create Web --image httpd", 1, "is no name: take 1 to 63 small letters")?;
    login.bad("vm create a --image nobody", 1, "there is no image `nobody`: known are httpd, ")?;
    login.bad("vm kill vm0.1", 1, "that is the supervisor itself")?;
    login.bad("vm stop vm9.9", 1, "vm9.9 does not run (any more)")?;
    login.bad("vm frobnicate", 2, "there is no command `vm frobnicate`")?;
    login.good("vm stop web-17")?;
    running.wait_for("core: vm3.1 ended: exited (detail 0x0", SOON)?;
    let list = login.good("vm list")?;
    ensure(list.lines().any(|line| line.starts_with("web-17 ") && line.contains(" stopped ")), || list.clone())?;
    login.good("vm start web-17 && vm kill web-17 && vm start web-17 && vm destroy web-17")?;
    running.wait_for("core: vm3.3 ended: destroyed", SOON)?;
    login.bad("vm show web-17", 1, "there is no VM `web-17`")?;
    scripts(&running, &login)?;
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

fn scripts(running: &Running, login: &Login) -> Result<()> {
    let (out, error, status) =
        login.script("# two VMs\nvm create a --image httpd\n\nvm create b --image httpd && vm start b\n")?;
    ensure(status == Some(0) && error.is_empty() && out.contains("b runs as vm3.4\n"), || {
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
    let vm = "foraker_vm_state{vm=\"vm3.1\",name=\"web-17\",image=\"httpd\",state=";
    for sample in ["foraker_vms 4\n", vm, "foraker_component_starts_total{component=\"netmux\"} 1\n"] {
        ensure(text.contains(sample), || format!("{sample} is not in\n{text}"))?;
    }
    let list = http::get(login.web, "/vms.json", SOON)?;
    let list: serde_json::Value = serde_json::from_slice(&list.body).context(|| "/vms.json".into())?;
    ensure(list.as_array().is_some_and(|list| list.len() == 4), || format!("{list}"))?;
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
        let (out, error, status) = Login::said(ssh, "")?;
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
