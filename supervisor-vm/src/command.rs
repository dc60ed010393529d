//! The operator's commands: what a line says.

use crate::image_order::ImageOrder;
use crate::log_query::Wanted as WantedLines;
use crate::query::Query;
use crate::shown::shown;
use crate::wanted::Wanted;
use crate::{disks, tenants, top};
use abi::attachment::Attachment;
use abi::quota::Change;
use abi::tenant::Tenant;
use abi::terms::Terms;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::iter::Peekable;

/// What `help` says.
pub const HELP: &str = "\
vm list [--state STATE] [--image IMAGE] [--tenant TENANT] [--name BEGINNING] [--after VM] [--limit N] [--count] [--json]
                                           VMs that live, and those that have a name and were not started
vm show VM [--json]                        one of them
vm create NAME --image IMAGE [--memory SIZE] [--disk DISK[:ro]] [--weight N] [--tenant TENANT] [-- ARGUMENT...]
                                           a VM under this name, which does not run yet
vm start NAME                              let it run, from its image
vm pause VM                                let it stand still; it keeps its memory
vm resume VM                               let it go on
vm stop VM                                 ask it to end itself; its name stays
vm kill VM                                 end it; its name stays
vm destroy VM                              end it, and forget its name
vm top [--limit N] [--json]                the VMs that take most of the processor's time now
vm console VM [--for SECONDS]              its console, line by line; when standard input has ended, until it was quiet for SECONDS (1)
vm console VM --follow [--for SECONDS]     what it says, as it comes; SECONDS long
fleet apply [--dry-run] [--replace] [--prune] [--json]
                                           let the VMs be as the file on standard input says
component list [--json]                    the components of the machine
component restart COMPONENT                kill it; it starts from its module
policy list [--json]                       which programs can fill the components' roles, and which do
policy show COMPONENT [--json]             those of one component
policy set COMPONENT POLICY                let it run with that one from now on
image list [--json]                        what VMs can be made of
image show IMAGE [--json]                  one of them
image put IMAGE [--memory SIZE] [--sha256 DIGEST] [-- ARGUMENT...]
                                           take the program on standard input as an image
image rm IMAGE                             forget one that was put, when no VM is made of it
disk list [--json]                         virtual disks, and which VMs have them
disk create DISK SIZE                      a new one, of zeros
disk snapshot DISK NEW                     keep what one holds now, as another one that is never written
disk rm DISK                               remove one that no VM has, and on which none lies
disk attach NAME DISK[:ro]                 let a VM that does not run have it from its next start on
disk detach NAME                           let it have none
tenant list [--json]                       tenants, what their VMs are and may hold, and their quotas
tenant show TENANT [--json]                one of them
tenant set TENANT [--vms N|unlimited] [--memory SIZE|unlimited]
                                           what its VMs may be and hold together from now on
node show [--json]                         the machine
state begin-anew                           write over the operator's own disk, where it is not used, and keep what is known now
node shutdown                              power it off; VMs are not asked first
token new NAME [--json]                    a token with which a program may do all this over HTTP; it is shown once
token list [--json]                        the tokens there are
token rm NAME                              take it away
log [--lines N] [--level LEVEL] [--from WHO] [--json]
                                           the last lines of the machine's log: 50; as serious as LEVEL or more; said by core, a component or a VM
log --follow [--for SECONDS]               and what is said then, as it comes; SECONDS long
audit                                      who has done what, and which VMs have ended
help                                       this
VM is a name or an id, as vm2.1. Commands can be joined with &&.
";

/// One command; `docs/supervisor.md` explains each, and what its words are.
// The words are named as there.
#[allow(missing_docs)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `vm list`.
    VmList { query: Query, count: bool, json: bool },
    /// `vm show`.
    VmShow { vm: String, json: bool },
    /// `vm create`.
    VmCreate { name: String, image: String, terms: Terms, args: String },
    /// `vm start`.
    VmStart { name: String },
    /// `vm pause`.
    VmPause { vm: String },
    /// `vm resume`.
    VmResume { vm: String },
    /// `vm stop`.
    VmStop { vm: String },
    /// `vm kill`.
    VmKill { vm: String },
    /// `vm destroy`.
    VmDestroy { vm: String },
    /// `vm top`.
    VmTop { limit: usize, json: bool },
    /// `vm console`.
    VmConsole { vm: String, follow: bool, seconds: Option<u32> },
    /// `fleet apply`.
    FleetApply { dry_run: bool, replace: bool, prune: bool, json: bool },
    /// `component list`.
    ComponentList { json: bool },
    /// `component restart`.
    ComponentRestart { name: String },
    /// `policy list`, and `policy show` of one component.
    PolicyList { component: Option<String>, json: bool },
    /// `policy set`.
    PolicySet { component: String, policy: String },
    /// `image list`.
    ImageList { json: bool },
    /// `image show`.
    ImageShow { name: String, json: bool },
    /// `image put`.
    ImagePut { order: ImageOrder },
    /// `image rm`.
    ImageRm { name: String },
    /// `disk list`.
    DiskList { json: bool },
    /// `disk create`.
    DiskCreate { name: String, blocks: u64 },
    /// `disk snapshot`.
    DiskSnapshot { name: String, new: String },
    /// `disk rm`.
    DiskRm { name: String },
    /// `disk attach`.
    DiskAttach { vm: String, disk: Attachment },
    /// `disk detach`.
    DiskDetach { vm: String },
    /// `tenant list`.
    TenantList { json: bool },
    /// `tenant show`.
    TenantShow { tenant: Tenant, json: bool },
    /// `tenant set`.
    TenantSet { tenant: Tenant, change: Change },
    /// `state begin-anew`.
    StateBeginAnew,
    /// `node show`.
    NodeShow { json: bool },
    /// `node shutdown`.
    NodeShutdown,
    /// `token new`.
    TokenNew { name: String, json: bool },
    /// `token list`.
    TokenList { json: bool },
    /// `token rm`.
    TokenRm { name: String },
    /// `log`.
    Log { wanted: WantedLines },
    /// `audit`.
    Audit,
    /// `help`.
    Help,
}

impl Command {
    /// Whether it changes something, and is written down therefore. What a fleet file changes is written down one by one, and an image
    /// that is put where its file is taken; who is at a console where it is shown.
    pub const fn changes(&self) -> bool {
        match self {
            Command::VmList { .. }
            | Command::VmShow { .. }
            | Command::VmTop { .. }
            | Command::VmConsole { .. }
            | Command::FleetApply { .. }
            | Command::ComponentList { .. }
            | Command::PolicyList { .. }
            | Command::DiskList { .. }
            | Command::ImageList { .. }
            | Command::ImageShow { .. }
            | Command::ImagePut { .. }
            | Command::TenantList { .. }
            | Command::TenantShow { .. }
            | Command::NodeShow { .. }
            | Command::TokenList { .. }
            | Command::Log { .. }
            | Command::Audit
            | Command::Help => false,
            Command::StateBeginAnew
            | Command::VmCreate { .. }
            | Command::VmStart { .. }
            | Command::VmPause { .. }
            | Command::VmResume { .. }
            | Command::VmStop { .. }
            | Command::VmKill { .. }
            | Command::VmDestroy { .. }
            | Command::ComponentRestart { .. }
            | Command::PolicySet { .. }
            | Command::DiskCreate { .. }
            | Command::DiskSnapshot { .. }
            | Command::DiskRm { .. }
            | Command::DiskAttach { .. }
            | Command::DiskDetach { .. }
            | Command::ImageRm { .. }
            | Command::TenantSet { .. }
            | Command::NodeShutdown
            | Command::TokenNew { .. }
            | Command::TokenRm { .. } => true,
        }
    }
}

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
    words.split(|word| *word == "&&").map(|words| Ok((words.join(" "), one(words)?))).collect()
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
        _ => {}
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
        ("image", "list") => json(words, |json| Command::ImageList { json }),
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
            end(Command::DiskCreate { name, blocks }, words)
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
    let (usage, mut wanted) = (WantedLines::USAGE, WantedLines::default());
    while let Some(option) = words.next() {
        let nonsense = || format!("`{}` makes no sense here: {usage}", shown(option));
        let key = option.strip_prefix("--").ok_or_else(nonsense)?;
        if wanted.set(key) {
            continue;
        }
        if !WantedLines::KEYS.contains(&key) {
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

fn fleet(words: Words) -> Result<Command, String> {
    let (mut dry_run, mut replace, mut prune, mut json) = (false, false, false, false);
    for word in words {
        match word {
            "--dry-run" => dry_run = true,
            "--replace" => replace = true,
            "--prune" => prune = true,
            "--json" => json = true,
            _ => {
                return Err(format!(
                    "`{}` makes no sense here: fleet apply [--dry-run] [--replace] [--prune] [--json] < FILE",
                    shown(word)
                ));
            }
        }
    }
    Ok(Command::FleetApply { dry_run, replace, prune, json })
}

fn list(mut words: Words) -> Result<Command, String> {
    const USAGE: &str = "vm list [--state STATE] [--image IMAGE] [--tenant TENANT] [--name BEGINNING] [--after VM] [--limit N] [--count] [--json]";
    let (mut query, mut count, mut json) = (Query::default(), false, false);
    while let Some(option) = words.next() {
        let Some(key) = option.strip_prefix("--").filter(|key| !key.is_empty()) else {
            return Err(format!("`{}` makes no sense here: {USAGE}", shown(option)));
        };
        match key {
            "count" => count = true,
            "json" => json = true,
            key if Query::KEYS.contains(&key) => {
                let value = words.next().ok_or_else(|| format!("{option} has no value: {USAGE}"))?;
                query.set(key, value).map_err(|takes| format!("{option} {}: give {takes}", shown(value)))?;
            }
            _ => return Err(format!("`{}` makes no sense here: {USAGE}", shown(option))),
        }
    }
    Ok(Command::VmList { query, count, json })
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
    const USAGE: &str = "tenant set TENANT [--vms N|unlimited] [--memory SIZE|unlimited]";
    let tenant = tenants::parse(&operand(&mut words, USAGE)?)?;
    let mut change = Change::default();
    while let Some(option) = words.next() {
        let Some(key) = option.strip_prefix("--").filter(|key| tenants::KEYS.contains(key)) else {
            return Err(format!("`{}` makes no sense here: {USAGE}", shown(option)));
        };
        let value = words.next().ok_or_else(|| format!("{option} has no value: {USAGE}"))?;
        tenants::take(&mut change, key, value).map_err(|takes| format!("{option} {}: give {takes}", shown(value)))?;
    }
    if change == Change::default() {
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
    let json = words.next_if_eq(&"--json").is_some();
    end(command(json), words)
}

fn end(command: Command, mut words: Words) -> Result<Command, String> {
    match words.next() {
        Some(word) => Err(format!("`{}` makes no sense here: `help` shows all commands", shown(word))),
        None => Ok(command),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn good(line: &str) -> Command {
        parse(line).expect(line).into_iter().next().expect("one").1
    }

    #[test]
    fn lines_are_commands() {
        for (line, follow, seconds) in [
            ("vm console web-1", false, None),
            ("vm console web-1 --for 600", false, Some(600)),
            ("vm console web-1 --follow", true, None),
            ("vm console web-1 --follow --for 1", true, Some(1)),
        ] {
            assert_eq!(good(line), Command::VmConsole { vm: "web-1".to_string(), follow, seconds });
        }
        for bad in
            ["vm console", "vm console a b", "vm console a --for", "vm console a --for 0", "vm console a --for 601"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(good("vm list"), Command::VmList { query: Query::default(), count: false, json: false });
        assert_eq!(good("  vm   list --json "), Command::VmList { query: Query::default(), count: false, json: true });
        assert_eq!(good("vm show a --json"), Command::VmShow { vm: "a".into(), json: true });
        assert_eq!(good("token new ci --json"), Command::TokenNew { name: "ci".into(), json: true });
        assert_eq!(good("token rm ci"), Command::TokenRm { name: "ci".into() });
        assert_eq!(good("component restart pager"), Command::ComponentRestart { name: "pager".into() });
        assert_eq!(good("vm top --limit 3 --json"), Command::VmTop { limit: 3, json: true });
        assert_eq!(good("vm top"), Command::VmTop { limit: 10, json: false });
        let (component, policy) = ("sched".to_string(), "fair".to_string());
        assert_eq!(good("policy set sched fair"), Command::PolicySet { component: component.clone(), policy });
        let component = Some(component);
        assert_eq!(good("policy show sched"), Command::PolicyList { component, json: false });
        let (name, new) = ("docs".to_string(), "kept".to_string());
        assert_eq!(good("disk create docs 2M"), Command::DiskCreate { name: name.clone(), blocks: 512 });
        assert_eq!(good("disk snapshot docs kept"), Command::DiskSnapshot { name, new });
        assert!(good("disk rm a").changes() && good("disk attach a b:ro").changes() && !good("disk list").changes());
        assert!(good("node shutdown").changes() && !good("policy list").changes());
        assert_eq!(parse(""), Ok(Vec::new()));
        assert_eq!(parse("  # vm list"), Ok(Vec::new()));
        let both = parse("vm start a && vm stop b").expect("two");
        let texts = ["vm start a", "vm stop b"].map(String::from);
        let commands = [Command::VmStart { name: "a".into() }, Command::VmStop { vm: "b".into() }];
        assert!(both.into_iter().eq(texts.into_iter().zip(commands)));
    }

    #[test]
    fn a_vm_has_terms_and_arguments() {
        let line = "vm create web-17 --image httpd --disk docs:ro --weight 300 --tenant blue -- a=1 --image b";
        let Command::VmCreate { name, image, terms, args } = good(line) else { panic!("{line}") };
        assert_eq!((name.as_str(), image.as_str(), args.as_str()), ("web-17", "httpd", "a=1 --image b"));
        assert_eq!(Some(terms.disk), Attachment::parse("docs:ro"));
        assert_eq!((terms.share.weight, Some(terms.tenant)), (300, Tenant::new("blue")));
        for (size, frames) in [("16M", 4096), ("48K", 12), ("4GiB", 1 << 20), ("65536", 16)] {
            let Command::VmCreate { terms, .. } = good(&format!("vm create a --image b --memory {size}")) else {
                panic!("{size}")
            };
            assert_eq!(terms.claim.limit, frames, "{size}");
        }
    }

    #[test]
    fn quotas_are_said_by_parts() {
        let tenant = Tenant::new("blue").expect("a name");
        for (words, vms, frames) in [
            ("--vms 3", Some(3), None),
            ("--memory 64M --vms 0", Some(0), Some(16_384)),
            ("--vms unlimited --memory unlimited", Some(u32::MAX), Some(u64::MAX)),
            ("--memory 0", None, Some(0)),
        ] {
            let expected = Command::TenantSet { tenant, change: Change { vms, frames } };
            assert_eq!(good(&format!("tenant set blue {words}")), expected);
        }
        assert_eq!(good("tenant show blue --json"), Command::TenantShow { tenant, json: true });
    }

    #[test]
    fn lists_are_asked_for_in_any_order_of_words() {
        let line =
            "vm list --json --limit 5 --count --state idle --image httpd --tenant blue --name web- --after vm7.1";
        let Command::VmList { query, count: true, json: true } = good(line) else { panic!("{line}") };
        assert_eq!(Ok(query), Query::of_address("limit=5&state=idle&image=httpd&tenant=blue&name=web-&after=vm7.1"));
    }

    #[test]
    fn what_is_no_command_is_told() {
        for (line, says) in [
            ("vm", "`vm` alone is no command"),
            ("vm lists", "there is no command `vm lists`: `help` shows all"),
            ("vm list all", "`all` makes no sense here"),
            ("vm start", "something is missing: vm start NAME"),
            ("vm top --limit 0", "--limit 0: give a number from 1 to 1000"),
            ("vm top all", "`all` makes no sense here: vm top"),
            ("policy set sched", "something is missing: policy set COMPONENT POLICY"),
            ("disk create a", "something is missing: disk create DISK SIZE"),
            ("disk create a 5", "5: give bytes, as 64M"),
            ("disk attach a b:rw", "b:rw: give the name of a virtual disk"),
            ("disk rm a b", "`b` makes no sense here"),
            ("node shutdown now", "`now` makes no sense here"),
            ("vm start a b", "`b` makes no sense here"),
            ("vm create a", "of which image?"),
            ("vm create --image httpd", "something is missing: vm create NAME"),
            ("vm create a --image", "--image has no value"),
            ("vm create a --image httpd --weight 0", "--weight 0: give a number from 1 to 10000"),
            ("vm create a --image httpd --tenant Blue", "--tenant Blue: give 1 to 6 small letters"),
            ("vm create a --image httpd --disk a:rw", "--disk a:rw: give the name of a virtual disk"),
            ("vm create a --image httpd --memory 1", "--memory 1: give bytes, as 16M or 512K, whole pages of 4 KiB"),
            ("vm create a --image httpd --memory 44K", "at least 48K"),
            ("vm create a --image httpd --memory 16384G", "--memory 16384G: give bytes"),
            ("vm create a --image httpd --memory 99999999999999999999M", "give bytes"),
            ("vm create a --image httpd --cpu 1", "`--cpu` makes no sense here"),
            ("vm list --limit", "--limit has no value"),
            ("vm list --limit 5000", "--limit 5000: give a number from 1 to 1000"),
            ("vm list --state asleep", "--state asleep: give a state"),
            ("fleet apply all", "`all` makes no sense here: fleet apply [--dry-run]"),
            ("tenant set blue", "what of its quota?"),
            ("tenant set Blue --vms 1", "`Blue` is no tenant's name: take 1 to 6"),
            ("tenant set --vms 1", "something is missing: tenant set TENANT"),
            ("tenant set blue --vms -1", "--vms -1: give a number of VMs, or unlimited"),
            (
                "tenant set blue --memory 5000",
                "--memory 5000: give bytes, as 64M or 512K, whole pages of 4 KiB, or unlimited",
            ),
            ("tenant set blue --disk 1", "`--disk` makes no sense here: tenant set"),
            ("tenant show", "something is missing: tenant show TENANT"),
            ("tenant", "`tenant` alone"),
            ("log all", "`all` makes no sense here: log [--lines N]"),
            ("log --lines 0", "--lines 0: give a number from 1 to 1000"),
            ("log --level loud", "--level loud: give error, warn, info, debug or trace"),
            ("log --from", "--from has no value"),
            ("log --last 5", "`--last` makes no sense here"),
            ("log --for 5", "--for goes with --follow"),
            ("log --follow --json", "and --json without it"),
            ("vm pause", "something is missing: vm pause VM"),
            ("image put", "something is missing: image put IMAGE"),
            ("image put Web", "`Web` is no name of an image: take 1 to 16"),
            ("image put a --memory 1", "--memory 1: give bytes, as 16M"),
            ("image put a --sha256 12", "--sha256 12: give 64 hexadecimal digits"),
            ("image put a --rom b", "`--rom` makes no sense here: image put IMAGE"),
            ("image rm a b", "`b` makes no sense here"),
            ("vm list &&", "&& has nothing on one side"),
            ("&& vm list", "&& has nothing on one side"),
            ("\u{1b}[2J now", "`?[2J now`"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(says), "{line}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_line_is_too_strange(line in "\\PC{0,80}", noise in "(vm|create|--image|&&|--| |a|show|\u{1b}){0,20}") {
            for text in [line, noise] {
                if let Err(error) = parse(&text) {
                    prop_assert!(!error.chars().any(char::is_control), "{error:?}");
                }
            }
        }
    }
}
