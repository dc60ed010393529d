//! The table of RFCs in `docs/ilwaco.md`: whatever it says is done has a test, and that test exists.

use crate::workspace::root;
use std::path::Path;

/// All Rust of a folder of the repository.
fn sources(folder: &Path, into: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("a folder").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            into.push((name, std::fs::read_to_string(&path).expect("Rust")));
        }
    }
}

/// Whether a test of this name, a file with tests, or a machine test is among these.
fn exists(name: &str, sources: &[(String, String)]) -> bool {
    let (function, case) = (format!("fn {name}("), format!("name: \"{name}\","));
    sources.iter().any(|(file, text)| match name.strip_suffix(".rs") {
        Some(_) => file == name && text.contains("#[test]"),
        None => text.contains(&function) || text.contains(&case),
    })
}

#[test]
fn what_is_said_to_be_done_has_a_test_that_exists() {
    let text = std::fs::read_to_string(root().join("docs/ilwaco.md")).expect("the manual");
    let (_, table) = text.split_once("### What of the RFCs there is").expect("the table");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with("| "))
        .skip(1)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() > 40, "{} rows", rows.len());
    let mut all = Vec::new();
    for folder in ["ilwaco/src", "apps/httpd", "apps/ask", "netmux/src", "xtask/src/test/cases"] {
        sources(&root().join(folder), &mut all);
    }
    for row in rows {
        let &[what, _, done, ref test @ ..] = &row[..] else { panic!("{row:?} is no row") };
        let test = test.join(" ");
        let names: Vec<&str> = test.split('`').skip(1).step_by(2).collect();
        for name in &names {
            // Names of other things than tests have no space and no underscore.
            let is_test = name.contains(['_', ' ', '.']) || exists(name, &all);
            assert!(!is_test || exists(name, &all), "{what}: there is no test {name}");
        }
        let refused = done == "no" || done.starts_with("no;") || done.starts_with("no:");
        assert!(refused || !names.is_empty() || test.contains("the same"), "{what} is done and has no test");
        assert!(!refused || !test.is_empty(), "{what} is not done, and nobody says why");
    }
}
