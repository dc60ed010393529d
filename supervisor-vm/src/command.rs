//! The operator's commands: what a line says.

use abi::attachment::Attachment;
use abi::share::WEIGHT_MAX;
use abi::tenant::Tenant;
use abi::terms::Terms;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::iter::Peekable;

/// What `help` says.
pub const HELP: &str = "\
vm list [--json]                           VMs that live, and those that have a name and were not started
vm show VM [--json]                        one of them
vm create NAME --image IMAGE [--disk DISK[:ro]] [--weight N] [--tenant TENANT] [-- ARGUMENT...]
                                           a VM under this name, which does not run yet
vm start NAME                              let it run, from its image
vm stop VM                                 ask it to end itself; its name stays
vm kill VM                                 end it; its name stays
vm destroy VM                              end it, and forget its name
component list [--json]                    the components of the machine
component restart COMPONENT                kill it; it starts from its module
image list [--json]                        what VMs can be made of
node show [--json]                         the machine
help                                       this
VM is a name or an id, as vm2.1. Commands can be joined with &&.
";

/// One command; `docs/supervisor.md` explains each, and what its words are.
// The words are named as there.
#[allow(missing_docs)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `vm list`.
    VmList { json: bool },
    /// `vm show`.
    VmShow { vm: String, json: bool },
    /// `vm create`.
    VmCreate { name: String, image: String, terms: Terms, args: String },
    /// `vm start`.
    VmStart { name: String },
    /// `vm stop`.
    VmStop { vm: String },
    /// `vm kill`.
    VmKill { vm: String },
    /// `vm destroy`.
    VmDestroy { vm: String },
    /// `component list`.
    ComponentList { json: bool },
    /// `component restart`.
    ComponentRestart { name: String },
    /// `image list`.
    ImageList { json: bool },
    /// `node show`.
    NodeShow { json: bool },
    /// `help`.
    Help,
}

/// The commands of a line, which `&&` divides; none of an empty line, or of one that begins with `#`.
///
/// # Errors
///
/// What is wrong with it, and what would be right.
pub fn parse(line: &str) -> Result<Vec<Command>, String> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    if words.first().is_none_or(|word| word.starts_with('#')) {
        return Ok(Vec::new());
    }
    words.split(|word| *word == "&&").map(one).collect()
}

type Words<'a, 'b> = Peekable<core::iter::Copied<core::slice::Iter<'b, &'a str>>>;

fn one(words: &[&str]) -> Result<Command, String> {
    let mut words = words.iter().copied().peekable();
    let Some(noun) = words.next() else {
        return Err("&& has nothing on one side: put a command on each".to_string());
    };
    if noun == "help" {
        return end(Command::Help, words);
    }
    let Some(verb) = words.next() else {
        return Err(format!("`{}` alone is no command: `help` shows all", shown(noun)));
    };
    match (noun, verb) {
        ("vm", "list") => json(words, |json| Command::VmList { json }),
        ("vm", "show") => {
            let vm = operand(&mut words, "vm show VM")?;
            json(words, |json| Command::VmShow { vm, json })
        }
        ("vm", "create") => create(words),
        ("vm", "start") => alone(words, "vm start NAME", |name| Command::VmStart { name }),
        ("vm", "stop") => alone(words, "vm stop VM", |vm| Command::VmStop { vm }),
        ("vm", "kill") => alone(words, "vm kill VM", |vm| Command::VmKill { vm }),
        ("vm", "destroy") => alone(words, "vm destroy VM", |vm| Command::VmDestroy { vm }),
        ("component", "list") => json(words, |json| Command::ComponentList { json }),
        ("component", "restart") => {
            alone(words, "component restart COMPONENT", |name| Command::ComponentRestart { name })
        }
        ("image", "list") => json(words, |json| Command::ImageList { json }),
        ("node", "show") => json(words, |json| Command::NodeShow { json }),
        _ => Err(format!("there is no command `{} {}`: `help` shows all", shown(noun), shown(verb))),
    }
}

fn create(mut words: Words) -> Result<Command, String> {
    const USAGE: &str =
        "vm create NAME --image IMAGE [--disk DISK[:ro]] [--weight N] [--tenant TENANT] [-- ARGUMENT...]";
    let name = operand(&mut words, USAGE)?;
    let (mut image, mut terms) = (None, Terms::UNSAID);
    while let Some(option) = words.next_if(|word| *word != "--") {
        if !matches!(option, "--image" | "--disk" | "--weight" | "--tenant") {
            return Err(format!("`{}` makes no sense here: {USAGE}", shown(option)));
        }
        let Some(value) = words.next_if(|word| *word != "--") else {
            return Err(format!("{option} has no value: {USAGE}"));
        };
        let wrong = |takes: &str| format!("{option} {}: give {takes}", shown(value));
        match option {
            "--image" => image = Some(value.to_string()),
            "--disk" => {
                let takes = "the name of a virtual disk, and :ro behind it for one that is read only";
                terms.disk = Attachment::parse(value).ok_or_else(|| wrong(takes))?;
            }
            "--weight" => {
                let weight = value.parse().ok().filter(|weight| (1..=WEIGHT_MAX).contains(weight));
                terms.share.weight = weight.ok_or_else(|| wrong("a number from 1 to 10000"))?;
            }
            _ => {
                terms.tenant = Tenant::new(value).ok_or_else(|| wrong("1 to 6 small letters, digits or dashes"))?;
            }
        }
    }
    let image = image.ok_or_else(|| format!("of which image? {USAGE}"))?;
    let args: Vec<&str> = words.skip(1).collect();
    Ok(Command::VmCreate { name, image, terms, args: args.join(" ") })
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

/// A word of the operator's as it may be shown to others: short, and without what moves a terminal's cursor.
pub fn shown(word: &str) -> String {
    let mut text: String = word.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect();
    if word.chars().nth(64).is_some() {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn good(line: &str) -> Command {
        parse(line).expect(line).into_iter().next().expect("one")
    }

    #[test]
    fn lines_are_commands() {
        assert_eq!(good("vm list"), Command::VmList { json: false });
        assert_eq!(good("  vm   list --json "), Command::VmList { json: true });
        assert_eq!(good("vm show a --json"), Command::VmShow { vm: "a".into(), json: true });
        assert_eq!(good("component restart pager"), Command::ComponentRestart { name: "pager".into() });
        assert_eq!(parse(""), Ok(Vec::new()));
        assert_eq!(parse("  # vm list"), Ok(Vec::new()));
        let both = parse("vm start a && vm stop b").expect("two");
        assert_eq!(both, [Command::VmStart { name: "a".into() }, Command::VmStop { vm: "b".into() }]);
    }

    #[test]
    fn a_vm_has_terms_and_arguments() {
        let line = "vm create web-17 --image httpd --disk docs:ro --weight 300 --tenant blue -- a=1 --image b";
        let Command::VmCreate { name, image, terms, args } = good(line) else { panic!("{line}") };
        assert_eq!((name.as_str(), image.as_str(), args.as_str()), ("web-17", "httpd", "a=1 --image b"));
        assert_eq!(Some(terms.disk), Attachment::parse("docs:ro"));
        assert_eq!((terms.share.weight, Some(terms.tenant)), (300, Tenant::new("blue")));
    }

    #[test]
    fn what_is_no_command_is_told() {
        for (line, says) in [
            ("vm", "`vm` alone is no command"),
            ("vm lists", "there is no command `vm lists`: `help` shows all"),
            ("vm list all", "`all` makes no sense here"),
            ("vm start", "something is missing: vm start NAME"),
            ("vm start a b", "`b` makes no sense here"),
            ("vm create a", "of which image?"),
            ("vm create --image httpd", "something is missing: vm create NAME"),
            ("vm create a --image", "--image has no value"),
            ("vm create a --image httpd --weight 0", "--weight 0: give a number from 1 to 10000"),
            ("vm create a --image httpd --tenant Blue", "--tenant Blue: give 1 to 6 small letters"),
            ("vm create a --image httpd --disk a:rw", "--disk a:rw: give the name of a virtual disk"),
            ("vm create a --image httpd --memory 1", "`--memory` makes no sense here"),
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
