//! What can stand next in a line, by what `help` says of each command: so there is no second list of them.

use crate::help::HELP;
use alloc::vec::Vec;

/// What a word is the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A VM, by its name or its id.
    Vm,
    /// A VM that has a name.
    Name,
    /// A state of VMs.
    State,
    /// An image.
    Image,
    /// A virtual disk.
    Disk,
    /// A tenant.
    Tenant,
    /// A component.
    Component,
    /// A policy of the component that stands before it.
    Policy,
    /// A token.
    Token,
    /// How serious a line of the machine's log is.
    Level,
    /// Who says something there: a component, a VM, or the core.
    Who,
}

/// What can stand where a word is begun.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Next {
    /// Words as they are.
    pub words: Vec<&'static str>,
    /// A name of this kind.
    pub names: Option<Kind>,
}

/// A command as `help` shows it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Usage {
    /// The words that it begins with.
    words: Vec<&'static str>,
    /// What it is about, in their order.
    operands: Vec<&'static str>,
    /// Options, and what each takes.
    options: Vec<(&'static str, Option<&'static str>)>,
}

/// What ends the options of a command: what stands behind is a VM's own.
const ARGUMENTS: &str = "--";

impl Usage {
    fn of(line: &'static str) -> Option<Usage> {
        // What a command does stands behind some spaces, or in the next line.
        let text = line.split("  ").next().filter(|text| text.starts_with(|c: char| c.is_ascii_lowercase()))?;
        let mut usage = Usage::default();
        let mut words = text.split(' ').peekable();
        while let Some(word) = words.next() {
            let name = word.trim_start_matches('[').trim_end_matches(']');
            if name == ARGUMENTS {
                break;
            }
            if name.starts_with("--") {
                let value = words.next_if(|next| !word.ends_with(']') && next.starts_with(is_large));
                usage.options.push((name, value.map(placeholder)));
            } else if name.starts_with(is_large) {
                usage.operands.push(placeholder(name));
            } else {
                usage.words.push(name);
            }
        }
        Some(usage)
    }

    /// What a word stands for.
    fn kind(&self, placeholder: &str) -> Option<Kind> {
        match (&self.words[..], placeholder) {
            (["vm", "create"] | ["token", "new"], "NAME") | (["disk", "create"], "DISK") => None,
            (["token", ..], "NAME") => Some(Kind::Token),
            (_, "NAME") => Some(Kind::Name),
            (_, "VM") => Some(Kind::Vm),
            (_, "STATE") => Some(Kind::State),
            (_, "IMAGE") => Some(Kind::Image),
            (_, "DISK") => Some(Kind::Disk),
            (_, "TENANT") => Some(Kind::Tenant),
            (_, "COMPONENT") => Some(Kind::Component),
            (_, "POLICY") => Some(Kind::Policy),
            (_, "LEVEL") => Some(Kind::Level),
            (_, "WHO") => Some(Kind::Who),
            _ => None,
        }
    }

    /// Adds what can stand behind these words.
    fn add(&self, done: &[&str], begun: &str, next: &mut Next) {
        let Some(rest) = done.strip_prefix(&self.words[..]) else {
            let follows = self.words.starts_with(done);
            if let Some(word) = self.words.get(done.len()).copied().filter(|word| follows && !next.words.contains(word))
            {
                next.words.push(word);
            }
            return;
        };
        let mut operands = 0;
        let mut waits = None;
        for word in rest {
            let option = self.options.iter().find(|(name, _)| name == word);
            match (waits.take(), option) {
                (Some(_), _) => {}
                (None, Some((_, value))) => waits = *value,
                (None, None) => operands += 1,
            }
        }
        if let Some(value) = waits {
            next.names = next.names.or(self.kind(value));
            return;
        }
        match self.operands.get(operands) {
            Some(operand) if !begun.starts_with('-') => next.names = next.names.or(self.kind(operand)),
            _ => {
                for (name, _) in self.options.iter().filter(|(name, _)| !rest.contains(name)) {
                    if !next.words.contains(name) {
                        next.words.push(name);
                    }
                }
            }
        }
    }
}

/// All commands, each once.
fn usages() -> Vec<Usage> {
    let mut all: Vec<Usage> = Vec::new();
    for usage in HELP.lines().filter_map(Usage::of) {
        match all.iter_mut().find(|other| other.words == usage.words) {
            // Another way to use it.
            Some(other) => {
                let known: Vec<&str> = other.options.iter().map(|(name, _)| *name).collect();
                other.options.extend(usage.options.iter().filter(|(name, _)| !known.contains(name)));
            }
            None => all.push(usage),
        }
    }
    all
}

fn is_large(c: char) -> bool {
    c.is_ascii_uppercase()
}

/// `DISK[:ro]` is a `DISK`, and `N|unlimited` an `N`.
fn placeholder(word: &'static str) -> &'static str {
    word.split(|c| !is_large(c)).next().unwrap_or(word)
}

/// The last command of a line: its words before the one that is begun, and that one.
pub fn words(line: &str) -> (Vec<&str>, &str) {
    let mut words: Vec<&str> = line.split_ascii_whitespace().collect();
    let begun = if line.ends_with(|c: char| c.is_ascii_whitespace()) { None } else { words.pop() };
    let from = words.iter().rposition(|word| *word == "&&").map_or(0, |at| at + 1);
    (words.split_off(from), begun.unwrap_or(""))
}

/// What can stand at the end of this line.
pub fn next(line: &str) -> Next {
    let (done, begun) = words(line);
    let mut next = Next::default();
    if !done.contains(&ARGUMENTS) {
        usages().iter().for_each(|usage| usage.add(&done, begun, &mut next));
    }
    next.words.retain(|word| word.starts_with(begun));
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;
    use alloc::format;
    use alloc::string::{String, ToString};

    #[test]
    fn what_can_come_next() {
        for (line, words, names) in [
            ("v", &["vm"][..], None),
            ("vm st", &["start", "stop"], None),
            ("vm start ", &[], Some(Kind::Name)),
            ("vm show we", &[], Some(Kind::Vm)),
            ("vm show web-1 ", &["--json"], None),
            ("vm show -", &["--json"], None),
            ("vm create ", &[], None),
            ("vm create a --i", &["--image"], None),
            ("vm create a --image ", &[], Some(Kind::Image)),
            ("vm create a --image httpd --disk ", &[], Some(Kind::Disk)),
            ("vm create a --image httpd --m", &["--memory"], None),
            ("vm create a --image httpd -- --i", &[], None),
            ("vm list --count && vm k", &["kill"], None),
            ("vm list --state ", &[], Some(Kind::State)),
            ("vm console v", &[], Some(Kind::Vm)),
            ("vm console a --f", &["--for", "--follow"], None),
            ("log --f", &["--from", "--follow", "--for"], None),
            ("log --level ", &[], Some(Kind::Level)),
            ("policy set ", &[], Some(Kind::Component)),
            ("policy set sched ", &[], Some(Kind::Policy)),
            ("disk create ", &[], None),
            ("disk attach web-1 ", &[], Some(Kind::Disk)),
            ("disk create a ", &[], None),
            ("tenant set blue --v", &["--vms"], None),
            ("tenant set blue --vms ", &[], None),
            ("token rm ", &[], Some(Kind::Token)),
            ("nobody ", &[], None),
            ("help ", &[], None),
        ] {
            assert_eq!(next(line), Next { words: words.to_vec(), names }, "{line:?}");
        }
        assert!(next("").words.starts_with(&["vm", "fleet", "component"]) && next("").words.contains(&"help"));
    }

    /// Each command that `help` shows is one, with each of its options.
    #[test]
    fn what_is_offered_is_taken() {
        let value = |placeholder: &str| match placeholder {
            "SIZE" => "1M",
            "N" | "SECONDS" => "1",
            "LEVEL" => "warn",
            "STATE" => "idle",
            "DIGEST" => "0000000000000000000000000000000000000000000000000000000000000000",
            _ => "a",
        };
        for usage in usages() {
            let mut line = usage.words.join(" ");
            usage.operands.iter().for_each(|operand| line += &format!(" {}", value(operand)));
            if line.starts_with("vm create") {
                line += " --image a";
            }
            let follow = if line.starts_with("log") { " --follow" } else { "" };
            let mut options: Vec<String> = Vec::from([String::new()]);
            options.extend(usage.options.iter().filter(|(name, _)| *name != "--image").map(|(name, takes)| {
                let follow = if *name == "--for" { follow } else { "" };
                format!("{follow} {name} {}", takes.map_or("", value))
            }));
            for option in options {
                let whole = format!("{line}{option}");
                let needs = whole.starts_with("tenant set") && option.is_empty();
                assert!(needs || parse(&whole).is_ok(), "{whole}: {:?}", parse(&whole).map_err(|why| why.to_string()));
            }
        }
    }
}
