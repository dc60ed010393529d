//! A fleet file: which VMs there should be, and what tenants may have, as TOML. `docs/supervisor.md` explains its keys.

use crate::names::{NAME_MAX, NAMES_MAX, is_name};
use crate::shown::{shown, shown_up_to};
use crate::tenants;
use crate::wanted::Order;
use abi::tenant::Tenant;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use quota_words::TenantChange;
use serde::Deserialize;
use toml::Spanned;
use toml_parser::lexer::TokenKind;

/// A VM that there should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The line of its entry, from 1.
    pub line: usize,
    /// What it is to be like.
    pub order: Order,
    /// Whether it is to run.
    pub runs: bool,
}

/// What a tenant may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The line of its entry, from 1.
    pub line: usize,
    /// Whose quota it is.
    pub tenant: Tenant,
    /// What is said of it.
    pub change: TenantChange,
    /// `tenant set ...`.
    pub text: String,
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// Quotas, by the names of their tenants.
    pub tenants: Vec<Told>,
    /// VMs, in the order of the file.
    pub members: Vec<Member>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    tenant: BTreeMap<String, Spanned<BTreeMap<String, Said>>>,
    #[serde(default)]
    vm: Vec<Spanned<Entry>>,
}

/// A number, or a text that says one.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a number or a text")]
enum Said {
    Number(u64),
    Text(String),
}

/// One VM, or several of a kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    image: String,
    count: Option<u32>,
    memory: Option<String>,
    disk: Option<String>,
    weight: Option<u32>,
    tenant: Option<String>,
    args: Option<String>,
    #[serde(default)]
    state: State,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Running,
    Stopped,
}

/// How deep arrays, tables and keys of a text may lie in each other. Reading takes some of the stack for each, which is small; a fleet needs two.
const DEEP: usize = 8;

/// The first place where a text is deeper than that.
fn too_deep(text: &str) -> Option<usize> {
    let (mut open, mut dots) = (0_usize, 0);
    let tokens = toml_parser::Source::new(text).lex();
    tokens.into_iter().find_map(|token| {
        match token.kind() {
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => open += 1,
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => open = open.saturating_sub(1),
            TokenKind::Dot => dots += 1,
            TokenKind::Newline => dots = 0,
            _ => {}
        }
        (open > DEEP || dots > DEEP).then(|| token.span().start())
    })
}

/// The line of a place in a text.
fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// What a file says.
///
/// # Errors
///
/// The first thing that is wrong, with its line.
pub fn parse(text: &str) -> Result<Fleet, String> {
    if let Some(at) = too_deep(text) {
        return Err(format!("line {}: too much lies in each other there", line_of(text, at)));
    }
    let file: File = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or_else(String::new, |span| format!("line {}: ", line_of(text, span.start)));
        format!("{line}{}", shown_up_to(error.message(), 200))
    })?;
    let mut tenants = Vec::new();
    for (name, parts) in &file.tenant {
        let line = line_of(text, parts.span().start);
        tenants.push(told(line, name, parts.get_ref()).map_err(|why| format!("line {line}: {why}"))?);
    }
    let mut members = Vec::new();
    let mut lines = BTreeMap::new();
    for entry in &file.vm {
        let line = line_of(text, entry.span().start);
        for member in entry.get_ref().members(line).map_err(|why| format!("line {line}: {why}"))? {
            if let Some(before) = lines.insert(member.order.name.clone(), line) {
                return Err(format!("line {line}: line {before} has a VM `{}` already", member.order.name));
            }
            if members.len() >= NAMES_MAX {
                return Err(format!("line {line}: there are more than {NAMES_MAX} VMs in the file"));
            }
            members.push(member);
        }
    }
    Ok(Fleet { tenants, members })
}

fn told(line: usize, name: &str, parts: &BTreeMap<String, Said>) -> Result<Told, String> {
    let tenant = tenants::parse(name)?;
    let (mut change, mut text) = (TenantChange::default(), format!("tenant set {tenant}"));
    for (key, value) in parts {
        if !TenantChange::KEYS.contains(&key.as_str()) {
            return Err(format!("`{}` is no quota: give {}", shown(key), TenantChange::KEYS.join(", ")));
        }
        let value = match value {
            Said::Number(number) => number.to_string(),
            Said::Text(text) => text.clone(),
        };
        change.take(key, &value).map_err(|takes| format!("{key} {}: give {takes}", shown(&value)))?;
        text.push_str(&format!(" --{key} {value}"));
    }
    if change == TenantChange::default() {
        return Err(format!("what of the quota of {tenant}? give {}", TenantChange::KEYS.join(", ")));
    }
    Ok(Told { line, tenant, change, text })
}

impl Entry {
    fn members(&self, line: usize) -> Result<Vec<Member>, String> {
        let weight = self.weight.map(|weight| weight.to_string());
        let parts = [self.memory.as_deref(), self.disk.as_deref(), weight.as_deref(), self.tenant.as_deref()];
        let args = self.args.as_deref().unwrap_or_default();
        let names = match self.count {
            None => Vec::from([self.name.clone()]),
            Some(count) if (1..=NAMES_MAX).contains(&(count as usize)) => {
                (1..=count).map(|number| format!("{}-{number}", self.name)).collect()
            }
            Some(count) => return Err(format!("count {count}: give a number from 1 to {NAMES_MAX}")),
        };
        let member = |name: String| {
            if !is_name(&name) {
                return Err(format!(
                    "`{}` is no name: take 1 to {NAME_MAX} small letters, digits and dashes, with a letter or a digit at the start",
                    shown(&name)
                ));
            }
            let order = Order::of(&name, &self.image, parts, args)?;
            Ok(Member { line, order, runs: self.state == State::Running })
        };
        names.into_iter().map(member).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_file_describes_vms() {
        let text = "# mine\n[[vm]]\nname = \"db\"\nimage = \"disk-log\"\ndisk = \"docs:ro\"\nstate = \"stopped\"\n\n\
                    [[vm]]\nname = \"web\"\nimage = \"httpd\"\ncount = 3\nmemory = \"8M\"\nweight = 200\nargs = \"a=b  c\"\n";
        let members = parse(text).expect("a fleet").members;
        let seen: Vec<_> = members.iter().map(|m| (m.line, m.order.text.as_str(), m.runs)).collect();
        let web = |number| format!("vm create web-{number} --image httpd --memory 8M --weight 200 -- a=b c");
        let webs = [web(1), web(2), web(3)];
        assert_eq!(seen[0], (2, "vm create db --image disk-log --disk docs:ro", false));
        assert!(seen[1..].iter().zip(&webs).all(|(seen, web)| *seen == (8, web.as_str(), true)), "{seen:?}");
        assert_eq!(parse(""), Ok(Fleet::default()));
    }

    #[test]
    fn a_file_says_what_tenants_may_have() {
        let text = "[tenant.red]\nvms = \"unlimited\"\n\n[tenant.blue]\nvms = 4\nmemory = \"64M\"\ndisk = \"1G\"\npool = \"1M\"\nwakes = 20\nrate = \"2M\"\n";
        let tenants = parse(text).expect("a fleet").tenants;
        let seen: Vec<_> = tenants.iter().map(|told| (told.line, told.text.as_str())).collect();
        let blue = "tenant set blue --disk 1G --memory 64M --pool 1M --rate 2M --vms 4 --wakes 20";
        assert_eq!(seen, [(4, blue), (1, "tenant set red --vms unlimited")]);
        for told in &tenants {
            let commands = crate::parse::parse(&told.text).expect("a command");
            let wanted = crate::command::Command::TenantSet { tenant: told.tenant, change: told.change };
            assert!(matches!(&commands[..], [(_, command)] if *command == wanted), "{}", told.text);
        }
        for (text, says) in [
            ("[tenant.Blue]\nvms = 1\n", "line 1: `Blue` is no tenant's name"),
            ("\n[tenant.blue]\n", "line 2: what of the quota of blue?"),
            ("[tenant.blue]\ncpus = 1\n", "line 1: `cpus` is no quota: give vms, memory"),
            ("[tenant.blue]\nvms = -1\n", "line 2: a number or a text"),
            ("[tenant.blue]\nwakes = 0\n", "line 1: wakes 0: give VMs in a second"),
            ("[tenant.blue]\nvms = 1\n[tenant.blue]\n", "line 3: "),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn the_first_error_has_its_line() {
        let one = "[[vm]]\nname = \"a\"\nimage = \"b\"\n";
        for (text, says) in [
            ("[[vm]\n", "line 1: "),
            ("\n\nvm = 3\n", "line 3: invalid type"),
            ("[[vm]]\nname = \"a\"\n", "line 1: missing field `image`"),
            (&format!("{one}cpus = 2\n"), "line 4: unknown field `cpus`"),
            (&format!("{one}[[vms]]\n"), "line 4: unknown field `vms`"),
            (&format!("{one}memory = \"44K\"\n"), "line 1: memory 44K: give bytes"),
            (&format!("{one}weight = 0\n"), "line 1: weight 0: give a number from 1"),
            (&format!("{one}weight = -1\n"), "line 4: "),
            (&format!("{one}state = \"asleep\"\n"), "line 4: unknown variant `asleep`"),
            (&format!("{one}count = 0\n"), "line 1: count 0: give a number from 1 to 10000"),
            (&format!("{one}count = 10001\n"), "line 1: count 10001: give"),
            (&format!("{one}count = 10000\n{one}"), "line 5: there are more than 10000 VMs"),
            (&format!("{one}{one}"), "line 4: line 1 has a VM `a` already"),
            ("[[vm]]\nname = \"A\"\nimage = \"b\"\n", "line 1: `A` is no name"),
            ("[[vm]]\nname = \"\\u001b[2J\"\nimage = \"b\"\n", "line 1: `?[2J` is no name"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.starts_with(says) && !error.chars().any(char::is_control), "{text}: {error}");
        }
        for (one, many) in [("a = ", "["), ("a = ", "{a="), ("a", ".a"), ("[a", ".a"), ("a = ", "{a.a=")] {
            let error = parse(&format!("\n{one}{}", many.repeat(10_000))).expect_err(many);
            assert_eq!(error, "line 2: too much lies in each other there", "{many}");
        }
        assert_eq!(parse(&format!("{one}args = \"[[[[[[[[[.........\"\n")).map(|fleet| fleet.members.len()), Ok(1));
    }

    proptest! {
        #[test]
        fn no_file_is_too_strange(text in "(\\[\\[vm\\]\\]\n|name = \"|a|\"|\n|image = |count = |[0-9]{1,5}|\\PC|\\[|\\{){0,30}") {
            let _ = parse(&text);
        }
    }
}
