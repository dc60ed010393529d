//! `docs/adr/`: each decision has a page of one form, and a row in the index.

use crate::workspace::root;
use std::collections::BTreeSet;

/// The headings that each page has, in this order.
const HEADINGS: [&str; 5] =
    ["The question", "What was considered", "The decision", "What it costs", "When to decide anew"];

#[test]
fn each_decision_is_in_the_index_and_has_all_its_parts() {
    let folder = root().join("docs/adr");
    let index = std::fs::read_to_string(folder.join("README.md")).expect("the index");
    let mut pages = BTreeSet::new();
    for entry in std::fs::read_dir(&folder).expect("the folder") {
        let name = entry.expect("the folder").file_name().into_string().expect("UTF-8");
        if name == "README.md" {
            continue;
        }
        let text = std::fs::read_to_string(folder.join(&name)).expect("a page");
        let headings: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(headings, HEADINGS, "{name}");
        let title = text.lines().next().and_then(|line| line.strip_prefix("# ")).expect("a title");
        let (number, title) = title.split_once(". ").expect("a number");
        assert!(name.starts_with(&format!("{number:0>4}-")), "{name} has the number {number}");
        assert!(index.contains(&format!("| [{number}]({name}) | {title} |")), "the index has no row for {name}");
        assert!(pages.insert(number.to_owned()), "{number} is there twice");
    }
    assert_eq!(index.lines().filter(|line| line.starts_with("| [")).count(), pages.len(), "rows and pages");
}
