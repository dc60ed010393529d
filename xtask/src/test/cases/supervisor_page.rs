//! What `docs/supervisor.md` tells people to type, typed.

use super::ensure;
use super::supervisor::{Login, start_with};
use super::supervisor_disks::goes_off;
use crate::disk::mkdisk;
use crate::error::{Context, Result};
use crate::http;
use crate::machine::run_dir;
use crate::test::Case;
use crate::test::lab::{Lab, Running};
use crate::workspace::root;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[Case {
    name: "supervisor: examples",
    asserts: "every command and every address in docs/supervisor.md does what it should, in the order of the page",
    run: examples,
}];

/// How long something may take with another machine beside.
const SOON: Duration = Duration::from_secs(60);

/// An example of the page.
#[derive(Debug, PartialEq, Eq)]
enum Example<'a> {
    /// A command, as SSH carries it.
    Command(&'a str),
    /// The path of an address.
    Path(&'a str),
    /// A line for the shell, with the ports of the page.
    Shell(&'a str),
    /// A command that is given the file of the page.
    Fleet(&'a str),
    /// A command that is given a program.
    Put(&'a str),
    /// A command that is given a sum.
    Type(&'a str),
}

/// The examples of a page: lines of its blocks that log in with a command or fetch something, and the first words of the rows of its table of commands.
fn examples_of(page: &str) -> Vec<Example<'_>> {
    let mut found = Vec::new();
    for line in page.lines() {
        if let Some(line) =
            line.strip_prefix("    ssh -p 2222 admin@localhost ").and_then(|line| line.strip_suffix(" < vms.toml"))
        {
            found.push(Example::Fleet(line));
        } else if let Some(line) =
            line.strip_prefix("    ssh -p 2222 admin@localhost ").and_then(|line| line.strip_suffix(" < shop.elf"))
        {
            found.push(Example::Put(line));
        } else if let Some(line) =
            line.strip_prefix("    ssh -p 2222 admin@localhost ").and_then(|line| line.strip_suffix(" < sums.txt"))
        {
            found.push(Example::Type(line));
        } else if let Some(line) = line.strip_prefix("    ssh -p 2222 admin@localhost ") {
            // What follows is a remark, or for the shell of whoever reads the page.
            let line = line.split(['#', '>']).next().unwrap_or(line).trim();
            if !line.is_empty() && !line.starts_with('<') {
                found.push(Example::Command(line.trim_matches('\'')));
            }
        } else if let Some(address) = line
            .strip_prefix("    curl ")
            .and_then(|line| line.trim_start_matches('"').strip_prefix("http://localhost:8000"))
        {
            found.push(Example::Path(address.split_whitespace().next().unwrap_or(address).trim_end_matches('"')));
        } else if line.starts_with("    TOKEN=$(ssh -p 2222 admin@localhost ") || line.starts_with("    curl -H ") {
            found.push(Example::Shell(line.trim()));
        } else if let Some((command, _)) = line.strip_prefix("| `").and_then(|row| row.split_once("` | "))
            && !command.contains(" < ")
            && [
                "vm ",
                "component ",
                "policy ",
                "disk ",
                "image ",
                "node ",
                "state ",
                "token ",
                "tenant ",
                "audit",
                "metrics",
                "help",
            ]
            .iter()
            .any(|noun| command.starts_with(noun))
            && !line.contains("` | `")
        {
            found.push(Example::Command(command));
        } else if let Some(line) = line.strip_prefix("| `").and_then(|row| row.split_once(" < vms.toml` | ")) {
            found.push(Example::Fleet(line.0));
        } else if let Some(line) = line.strip_prefix("| `").and_then(|row| row.split_once(" < shop.elf` | ")) {
            found.push(Example::Put(line.0));
        }
    }
    found
}

fn examples(lab: &Lab) -> Result<()> {
    let page = root().join("docs/supervisor.md");
    let page = std::fs::read_to_string(&page).context(|| format!("cannot read {}", page.display()))?;
    let disk = run_dir()?.join("disk");
    let plans = run_dir()?.join("plans");
    let written = fs::create_dir_all(&plans).and_then(|()| fs::write(plans.join("vms.toml"), fleet_of(&page)));
    written.context(|| format!("cannot write {}", plans.display()))?;
    let plans = format!("--files=plans={}", plans.display());
    let words = ["--disk=docs=256KiB", &plans, "--size=8064KiB"].map(PathBuf::from);
    mkdisk::make(&mkdisk::Args::parse([disk.clone()].into_iter().chain(words))?)?;
    let (running, login) = start_with(lab, &[disk])?;
    running.wait_for("diskmux: set foraker: 1 members", SOON)?;
    let mut token = String::new();
    let shop = lab.module("httpd")?;
    let hash: String = Sha256::digest(&shop).iter().map(|byte| format!("{byte:02x}")).collect();
    for example in examples_of(&page) {
        match example {
            Example::Fleet(line) => {
                let (said, error, status) = login.ask_with(line, &fleet_of(&page))?;
                ensure(status == Some(0) && said.contains("VMs"), || format!("`{line}`: {status:?} {said}{error}"))?;
            }
            Example::Put(line) => {
                // The shell fills the hash in.
                let line = match line.split_once("\"$(") {
                    Some((before, _)) => format!("{before}{hash}"),
                    None => line.to_owned(),
                };
                let (said, error, status) = login.ask_with_bytes(&line, &shop)?;
                ensure(status == Some(0) && said.contains("shop"), || format!("`{line}`: {status:?} {said}{error}"))?;
            }
            Example::Type(line) => {
                let (said, error, status) = login.ask_with(line, "6 * 7\n")?;
                ensure(status == Some(0) && said.contains("42\n"), || format!("`{line}`: {status:?} {said}{error}"))?;
            }
            Example::Shell(line) => match line.strip_prefix("TOKEN=$(ssh -p 2222 admin@localhost ") {
                Some(line) => login.good(line.trim_end_matches(')'))?.trim().clone_into(&mut token),
                None => shell(&login, &token, line)?,
            },
            // The last thing that is done.
            Example::Command("node shutdown") => {}
            // There is no such disk here: `supervisor: a disk that is not to be used` does it.
            Example::Command(line @ "state begin-anew") => login.bad(line, 1, "this VM has no virtual disk")?,
            Example::Command(line) => one(&running, &login, line)?,
            Example::Path(path) => {
                let status = http::get(login.web, path, SOON)?.status;
                ensure(status == 200, || format!("{path} is answered with {status}"))?;
            }
        }
    }
    login.good("node shutdown")?;
    goes_off(&running)
}

/// The fleet file of the page: the block that begins with its first entry, and what follows.
fn fleet_of(page: &str) -> String {
    let lines = page.lines().skip_while(|line| *line != "    [[vm]]");
    let block = lines.take_while(|line| line.is_empty() || line.starts_with("    "));
    block.map(|line| line.trim().to_owned() + "\n").collect()
}

/// A line of `curl`, at the address of the machine.
fn shell(login: &Login, token: &str, line: &str) -> Result<()> {
    let line = line.replace("curl ", "curl -sS --fail-with-body ").replace("localhost:8000", &login.web.to_string());
    let ask = || Command::new("bash").args(["-c", &line]).env("TOKEN", token).output().context(|| "bash".into());
    let (mut output, end) = (ask()?, Instant::now() + SOON);
    // A VM takes its time for what it was given.
    while line.contains("/console?") && !String::from_utf8_lossy(&output.stdout).contains("42") && Instant::now() < end
    {
        output = ask()?;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let says = match &line {
        line if line.contains("/log.json") => "\"text\":",
        line if line.contains("/console?") => "42\\n",
        line if line.contains("/tenants/") => "\"name\":\"red\"",
        line if line.contains("sums") => "\"name\":\"sums\"",
        _ => "\"name\":\"web-18\"",
    };
    let is_silent = line.contains("DELETE") || line.contains("/console -d");
    let as_it_is = is_silent == text.is_empty() && (text.is_empty() || text.contains(says));
    ensure(output.status.success() && as_it_is, || {
        format!("`{line}` ends with {}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr))
    })
}

fn one(running: &Running, login: &Login, line: &str) -> Result<()> {
    let mark = running.mark();
    let said = login.good(line)?;
    ensure(!said.trim().is_empty(), || format!("`{line}` says nothing"))?;
    if line.contains("vm start") {
        let serves = if line.contains("--image calc") { "calc: ready" } else { "httpd: serving " };
        running.wait_for_since(mark, serves, SOON)?;
    }
    if line.contains("&& vm start web-17") {
        // The next example begins with the name.
        login.good("vm destroy web-17")?;
    }
    if line.starts_with("vm stop") {
        // So that the next example has something to end.
        running.wait_for_since(mark, " ended: exited", SOON)?;
        login.good("vm start web-17")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_examples() {
        let page = "    ssh -p 2222 admin@localhost 'a && b'  # c\n    ssh -p 2222 admin@localhost < file\n    ssh -p 2222 admin@localhost audit > file\n\
                    | `vm list` | all |\n| `name` | x |\n    curl http://localhost:8000/metrics   # d\n    curl \"http://localhost:8000/a?b&c\"\n    curl -H x y\n    ssh -p 2222 admin@localhost fleet < vms.toml\n    ssh -p 2222 admin@localhost   # e\n";
        assert_eq!(
            examples_of(page),
            [
                Example::Command("a && b"),
                Example::Command("audit"),
                Example::Command("vm list"),
                Example::Path("/metrics"),
                Example::Path("/a?b&c"),
                Example::Shell("curl -H x y"),
                Example::Fleet("fleet")
            ]
        );
    }

    #[test]
    fn the_page_explains_each_command() {
        let page = std::fs::read_to_string(root().join("docs/supervisor.md")).expect("the page");
        let source = std::fs::read_to_string(root().join("supervisor-vm/src/help.rs")).expect("the commands");
        let help =
            source.split_once("HELP: &str = \"\\\n").and_then(|(_, rest)| rest.split_once("\n\";")).expect("help").0;
        let examples = examples_of(&page);
        for line in help.lines().filter(|line| !line.starts_with(' ') && !line.starts_with("VM is")) {
            let words: Vec<&str> = line.split_whitespace().take(2).collect();
            let command = if matches!(words[0], "help" | "audit" | "log" | "metrics") {
                words[0].to_owned()
            } else {
                words.join(" ")
            };
            let explained = |example: &Example| matches!(example, Example::Command(line) | Example::Fleet(line) | Example::Put(line) if line.starts_with(&command));
            assert!(examples.iter().any(explained), "docs/supervisor.md has no example of `{command}`");
        }
    }
}
