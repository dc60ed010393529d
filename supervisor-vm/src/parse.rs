//! What a line says: which commands.

use crate::command::Command;
use crate::image_order::ImageOrder;
use crate::log_query::LogQuery;
use crate::query::ListQuery;
use crate::shown::shown;
use crate::wanted::Wanted;
use crate::{disks, tenants, top};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::iter::Peekable;
use quota_words::TenantChange;

/// That an answer is to be JSON.
const JSON: &str = "--json";

/// The commands of a line, which `&&` divides, each behind its text; none of an empty line, or of one that begins with `#`.
///
/// # Errors
///
/// What is wrong with it, and what would be right.
pub fn parse(line: &str) -> Result<Vec<(String, Command)>, String> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    if words.first().is_none_or(|word| word.starts_with('#')) {
        return Ok(Vec::new());
    }
    words.split(|word| *word == "&&").map(|words| Ok((words.join(" "), command(words)?))).collect()
}

/// Whether the text of a command says that its answer is to be JSON. What stands behind `--` is for others.
pub fn says_json(text: &str) -> bool {
    text.split_ascii_whitespace().take_while(|word| *word != "--").any(|word| word == JSON)
}

/// A command. Each that changes something takes [`JSON`] beside its own words.
fn command(words: &[&str]) -> Result<Command, String> {
    let plain = one(words);
    let at = words.iter().take_while(|word| **word != "--").position(|word| *word == JSON);
    let (Err(_), Some(at)) = (&plain, at) else { return plain };
    let mut without = words.to_vec();
    without.remove(at);
    match one(&without) {
        Ok(command) if command.changes() || matches!(command, Command::ImagePut { .. }) => Ok(command),
        _ => plain,
    }
}

type Words<'a, 'b> = Peekable<core::iter::Copied<core::slice::Iter<'b, &'a str>>>;

fn one(words: &[&str]) -> Result<Command, String> {
    let mut words = words.iter().copied().peekable();
    let Some(noun) = words.next() else {
        return Err("&& has nothing on one side: put a command on each".to_string());
    };
    match noun {
        "help" => return end(Command::Help, words),
        "log" => return log(words),
        "audit" => return end(Command::Audit, words),
        "metrics" => return end(Command::Metrics, words),
        _ => {}
    }
    if noun == "scp" {
        return Err(
            "files come by sftp, as OpenSSH's scp without -O sends them, or on the standard input of `image put NAME`"
                .to_string(),
        );
    }
    let Some(verb) = words.next() else {
        return Err(format!("`{}` alone is no command: `help` shows all", shown(noun)));
    };
    match (noun, verb) {
        ("vm", "list") => list(words),
        ("vm", "show") => {
            let vm = operand(&mut words, "vm show VM")?;
            json(words, |json| Command::VmShow { vm, json })
        }
        ("vm", "create") => create(words),
        ("vm", "start") => alone(words, "vm start NAME", |name| Command::VmStart { name }),
        ("vm", "pause") => alone(words, "vm pause VM", |vm| Command::VmPause { vm }),
        ("vm", "resume") => alone(words, "vm resume VM", |vm| Command::VmResume { vm }),
        ("vm", "stop") => alone(words, "vm stop VM", |vm| Command::VmStop { vm }),
        ("vm", "kill") => alone(words, "vm kill VM", |vm| Command::VmKill { vm }),
        ("vm", "destroy") => alone(words, "vm destroy VM", |vm| Command::VmDestroy { vm }),
        ("vm", "top") => top(words),
        ("vm", "console") => console(words),
        ("fleet", "apply") => fleet(words),
        ("component", "list") => json(words, |json| Command::ComponentList { json }),
        ("component", "restart") => {
            alone(words, "component restart COMPONENT", |name| Command::ComponentRestart { name })
        }
        ("policy", "list") => json(words, |json| Command::PolicyList { component: None, json }),
        ("policy", "show") => {
            let component = Some(operand(&mut words, "policy show COMPONENT")?);
            json(words, |json| Command::PolicyList { component, json })
        }
        ("policy", "set") => {
            let component = operand(&mut words, "policy set COMPONENT POLICY")?;
            alone(words, "policy set COMPONENT POLICY", |policy| Command::PolicySet { component, policy })
        }
        ("image", "list") => list_images(words),
        ("image", "show") => {
            let name = operand(&mut words, "image show IMAGE")?;
            json(words, |json| Command::ImageShow { name, json })
        }
        ("image", "put") => put(words),
        ("image", "rm") => alone(words, "image rm IMAGE", |name| Command::ImageRm { name }),
        ("disk", "list") => json(words, |json| Command::DiskList { json }),
        ("disk", "create") => {
            let name = operand(&mut words, "disk create DISK SIZE")?;
            let blocks = disks::size(&operand(&mut words, "disk create DISK SIZE")?)?;
            let tenant = match words.next_if_eq(&"--tenant") {
                Some(_) => Some(tenants::parse(&operand(&mut words, "disk create DISK SIZE --tenant TENANT")?)?),
                None => None,
            };
            end(Command::DiskCreate { name, blocks, tenant }, words)
        }
        ("disk", "snapshot") => {
            let name = operand(&mut words, "disk snapshot DISK NEW")?;
            alone(words, "disk snapshot DISK NEW", |new| Command::DiskSnapshot { name, new })
        }
        ("disk", "rm") => alone(words, "disk rm DISK", |name| Command::DiskRm { name }),
        ("disk", "attach") => {
            let vm = operand(&mut words, "disk attach NAME DISK[:ro]")?;
            let disk = disks::parse(&operand(&mut words, "disk attach NAME DISK[:ro]")?)?;
            end(Command::DiskAttach { vm, disk }, words)
        }
        ("disk", "detach") => alone(words, "disk detach NAME", |vm| Command::DiskDetach { vm }),
        ("token", "new") => {
            let name = operand(&mut words, "token new NAME")?;
            json(words, |json| Command::TokenNew { name, json })
        }
        ("token", "list") => json(words, |json| Command::TokenList { json }),
        ("token", "rm") => alone(words, "token rm NAME", |name| Command::TokenRm { name }),
        ("tenant", "list") => json(words, |json| Command::TenantList { json }),
        ("tenant", "show") => {
            let tenant = tenants::parse(&operand(&mut words, "tenant show TENANT")?)?;
            json(words, |json| Command::TenantShow { tenant, json })
        }
        ("tenant", "set") => quota(words),
        ("state", "begin-anew") => end(Command::StateBeginAnew, words),
        ("node", "show") => json(words, |json| Command::NodeShow { json }),
        ("node", "shutdown") => end(Command::NodeShutdown, words),
        _ => Err(format!("there is no command `{} {}`: `help` shows all", shown(noun), shown(verb))),
    }
}

fn console(mut words: Words) -> Result<Command, String> {
    const USAGE: &str = "vm console VM [--follow] [--for SECONDS]";
    let vm = operand(&mut words, USAGE)?;
    let follow = words.next_if_eq(&"--follow").is_some();
    let mut seconds = None;
    if words.next_if_eq(&"--for").is_some() {
        let value = words.next().ok_or_else(|| format!("--for has no value: {USAGE}"))?;
        let number = value.parse().ok().filter(|seconds| (1..=600).contains(seconds));
        seconds =
            Some(number.ok_or_else(|| format!("--for {}: give a number of seconds from 1 to 600", shown(value)))?);
    }
    end(Command::VmConsole { vm, follow, seconds }, words)
}

fn log(mut words: Words) -> Result<Command, String> {
    let (usage, mut wanted) = (LogQuery::USAGE, LogQuery::default());
    while let Some(option) = words.next() {
        let nonsense = || format!("`{}` makes no sense here: {usage}", shown(option));
        let key = option.strip_prefix("--").ok_or_else(nonsense)?;
        if wanted.set(key) {
            continue;
        }
        if !LogQuery::KEYS.contains(&key) {
            return Err(nonsense());
        }
        let value = words.next().ok_or_else(|| format!("{option} has no value: {usage}"))?;
        wanted.take(key, value).map_err(|takes| format!("{option} {}: give {takes}", shown(value)))?;
    }
    if !wanted.is_sound() {
        return Err(format!("--for goes with --follow, and --json without it: {usage}"));
    }
    Ok(Command::Log { wanted })
}

fn fleet(mut words: Words) -> Result<Command, String> {
    const USAGE: &str = "fleet apply [--dry-run] [--replace] [--prune] [--json] < FILE, or with --disk DISK[:PATH]";
    let (mut dry_run, mut replace, mut prune, mut json) = (false, false, false, false);
    let mut from = None;
    while let Some(word) = words.next() {
        match word {
            "--disk" => {
                let value = words.next().ok_or_else(|| format!("--disk has no value: {USAGE}"))?;
                from = Some(disks::path(value, "vms.toml")?);
            }
            "--dry-run" => dry_run = true,
            "--replace" => replace = true,
            "--prune" => prune = true,
            "--json" => json = true,
            _ => {
                return Err(format!("`{}` makes no sense here: {USAGE}", shown(word)));
            }
        }
    }
    Ok(Command::FleetApply { from, dry_run, replace, prune, json })
}

fn list(words: Words) -> Result<Command, String> {
    const USAGE: &str = "vm list [--state STATE] [--image IMAGE] [--tenant TENANT] [--name BEGINNING] [--after VM] [--limit N] [--count] [--json]";
    let (query, count, json) = listed(words, USAGE)?;
    Ok(Command::VmList { query, count, json })
}

fn list_images(words: Words) -> Result<Command, String> {
    const USAGE: &str = "image list [--name BEGINNING] [--after IMAGE] [--limit N] [--count] [--json]";
    let (query, count, json) = listed(words, USAGE)?;
    Ok(Command::ImageList { query, count, json })
}

/// What a list is asked for, whether only the number is, and whether it is to be JSON.
fn listed<Q: ListQuery>(mut words: Words, usage: &str) -> Result<(Q, bool, bool), String> {
    let (mut query, mut count, mut json) = (Q::default(), false, false);
    while let Some(option) = words.next() {
        match option.strip_prefix("--") {
            Some("count") => count = true,
            Some("json") => json = true,
            Some(key) if Q::KEYS.contains(&key) => {
                let value = words.next().ok_or_else(|| format!("{option} has no value: {usage}"))?;
                query.set(key, value).map_err(|takes| format!("{option} {}: give {takes}", shown(value)))?;
            }
            _ => return Err(format!("`{}` makes no sense here: {usage}", shown(option))),
        }
    }
    Ok((query, count, json))
}

fn top(mut words: Words) -> Result<Command, String> {
    const USAGE: &str = "vm top [--limit N] [--json]";
    let (mut limit, mut json) = (top::SHOWN, false);
    while let Some(option) = words.next() {
        match option {
            "--json" => json = true,
            "--limit" => {
                let value = words.next().ok_or_else(|| format!("--limit has no value: {USAGE}"))?;
                let number = value.parse().ok().filter(|number| (1..=top::MOST).contains(number));
                let no_number = || format!("--limit {}: give a number from 1 to {}", shown(value), top::MOST);
                limit = number.ok_or_else(no_number)?;
            }
            _ => return Err(format!("`{}` makes no sense here: {USAGE}", shown(option))),
        }
    }
    Ok(Command::VmTop { limit, json })
}

fn create(mut words: Words) -> Result<Command, String> {
    const USAGE: &str = "vm create NAME --image IMAGE [--memory SIZE] [--disk DISK[:ro]] [--weight N] [--tenant TENANT] [-- ARGUMENT...]";
    let name = operand(&mut words, USAGE)?;
    let mut wanted = Wanted::default();
    while let Some(option) = words.next_if(|word| *word != "--") {
        let Some(key) = option.strip_prefix("--").filter(|key| Wanted::KEYS.contains(key)) else {
            return Err(format!("`{}` makes no sense here: {USAGE}", shown(option)));
        };
        let Some(value) = words.next_if(|word| *word != "--") else {
            return Err(format!("{option} has no value: {USAGE}"));
        };
        wanted.set(key, value).map_err(|takes| format!("{option} {}: give {takes}", shown(value)))?;
    }
    let Wanted { image, terms } = wanted;
    let image = image.ok_or_else(|| format!("of which image? {USAGE}"))?;
    let args: Vec<&str> = words.skip(1).collect();
    Ok(Command::VmCreate { name, image, terms, args: args.join(" ") })
}

fn quota(mut words: Words) -> Result<Command, String> {
    const USAGE: &str = "tenant set TENANT [--vms N|unlimited] [--memory SIZE|unlimited] [--disk SIZE|unlimited] [--pool SIZE|unlimited] [--wakes N|unlimited] [--rate SIZE|unlimited]";
    let tenant = tenants::parse(&operand(&mut words, USAGE)?)?;
    let mut change = TenantChange::default();
    while let Some(option) = words.next() {
        let Some(key) = option.strip_prefix("--").filter(|key| TenantChange::KEYS.contains(key)) else {
            return Err(format!("`{}` makes no sense here: {USAGE}", shown(option)));
        };
        let value = words.next().ok_or_else(|| format!("{option} has no value: {USAGE}"))?;
        change.take(key, value).map_err(|takes| format!("{option} {}: give {takes}", shown(value)))?;
    }
    if change == TenantChange::default() {
        return Err(format!("what of its quota? {USAGE}"));
    }
    Ok(Command::TenantSet { tenant, change })
}

fn put(mut words: Words) -> Result<Command, String> {
    const USAGE: &str = "image put IMAGE [--memory SIZE] [--sha256 DIGEST] [-- ARGUMENT...] < FILE";
    let name = operand(&mut words, USAGE)?;
    let mut order = ImageOrder::new(&name).map_err(|why| format!("`{}` {why}", shown(&name)))?;
    while let Some(option) = words.next_if(|word| *word != "--") {
        let Some(key) = option.strip_prefix("--").filter(|key| ImageOrder::KEYS.contains(key)) else {
            return Err(format!("`{}` makes no sense here: {USAGE}", shown(option)));
        };
        let Some(value) = words.next_if(|word| *word != "--") else {
            return Err(format!("{option} has no value: {USAGE}"));
        };
        order.set(key, value).map_err(|takes| format!("{option} {}: give {takes}", shown(value)))?;
    }
    let args: Vec<&str> = words.skip(1).collect();
    order.set_args(&args.join(" ")).map_err(|takes| format!("the arguments: give {takes}"))?;
    Ok(Command::ImagePut { order })
}

/// What a command is about.
fn operand(words: &mut Words, usage: &str) -> Result<String, String> {
    let word = words.next_if(|word| !word.starts_with("--"));
    word.map(ToString::to_string).ok_or_else(|| format!("something is missing: {usage}"))
}

fn alone(mut words: Words, usage: &str, command: impl FnOnce(String) -> Command) -> Result<Command, String> {
    let word = operand(&mut words, usage)?;
    end(command(word), words)
}

fn json(mut words: Words, command: impl FnOnce(bool) -> Command) -> Result<Command, String> {
    let json = words.next_if_eq(&JSON).is_some();
    end(command(json), words)
}

fn end(command: Command, mut words: Words) -> Result<Command, String> {
    match words.next() {
        Some(word) => Err(format!("`{}` makes no sense here: `help` shows all commands", shown(word))),
        None => Ok(command),
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
