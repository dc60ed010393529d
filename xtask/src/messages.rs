//! `docs/messages.md`: each message that `abi` makes with its macro has a row, and no row is of a message that is not there.

use crate::workspace::root;
use std::collections::BTreeSet;

/// The files whose messages are made by the macro.
const SERVICES: [&str; 9] =
    ["control", "disk", "disk_service", "guest_disk", "net", "pager", "sched", "swap", "swap_disk"];

/// Number and name of each message in a source file.
fn in_source(text: &str) -> BTreeSet<(String, String)> {
    let kind = |line: &str| {
        let (number, rest) = line.trim_start().split_once(' ')?;
        let name: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
        number.starts_with("0x").then(|| (number.to_owned(), name))
    };
    text.lines().filter_map(kind).collect()
}

/// The same of the manual's rows.
fn in_manual(text: &str) -> BTreeSet<(String, String)> {
    let row = |line: &str| {
        let (number, rest) = line.strip_prefix("| 0x")?.split_once(" | `")?;
        Some((format!("0x{number}"), rest.split_once('`')?.0.to_owned()))
    };
    text.lines().filter_map(row).filter(|(number, _)| number.len() == 5).collect()
}

#[test]
fn the_manual_has_each_message_by_its_number() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect("a file of the repository");
    let sources = SERVICES.map(|service| in_source(&read(&format!("abi/src/{service}.rs"))));
    let messages: BTreeSet<_> = sources.into_iter().flatten().collect();
    assert!(messages.len() > 60, "{messages:?}");
    assert_eq!(messages, in_manual(&read("docs/messages.md")));
}
