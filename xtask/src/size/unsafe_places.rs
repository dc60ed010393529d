//! The manual's list of places where `unsafe` may stand, beside the tree: neither has a place that the other has not.

use super::lines::{Source, collect};
use crate::workspace::{packages, root};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const LIST: &str = "docs/safety.md";

/// The part of the manual that holds the list.
fn list() -> String {
    let text = std::fs::read_to_string(root().join(LIST)).expect("the manual");
    let (_, from) = text.split_once("\n## Where `unsafe` may stand\n").expect("the list's heading");
    from.split("\n## ").next().unwrap_or_default().to_owned()
}

/// The first column of the table in `text`: paths from the root of the repository, `{a,b}` written out.
fn places(text: &str) -> Vec<PathBuf> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    rows.flat_map(|(paths, _)| paths.split("`, `")).flat_map(written_out).map(PathBuf::from).collect()
}

/// `a/{b,c}.rs` is `a/b.rs` and `a/c.rs`.
fn written_out(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.to_owned()] };
    let (names, after) = rest.split_once('}').unwrap_or((rest, ""));
    names.split(',').map(|name| format!("{before}{name}{after}")).collect()
}

/// The folders that the sentence below the table names as free of `unsafe`.
fn free(text: &str) -> BTreeSet<PathBuf> {
    let sentence = text.rsplit("\n\n").find(|part| part.contains("forbid it")).expect("who forbids it");
    sentence.split('`').skip(1).step_by(2).map(PathBuf::from).collect()
}

/// All Rust files of the workspace's packages, by their paths from the root of the repository.
fn sources() -> BTreeSet<PathBuf> {
    let mut files = Vec::new();
    for package in packages().expect("packages").values() {
        for folder in ["src", "tests", "benches", "examples"].map(|name| package.dir.join(name)) {
            if folder.is_dir() {
                collect(&folder, &mut files).expect("a readable tree");
            }
        }
        files.extend(Some(package.dir.join("build.rs")).filter(|file| file.is_file()));
    }
    let rust = files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|file| file.strip_prefix(root()).expect("a package of the repository").to_owned()).collect()
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[test]
fn unsafe_stands_where_the_manual_lists_it_and_nowhere_else() {
    let places = places(&list());
    let using: Vec<PathBuf> = sources().into_iter().filter(|file| Source::whole(&read(file)).has_unsafe()).collect();
    let unlisted: Vec<&PathBuf> =
        using.iter().filter(|file| !places.iter().any(|place| file.starts_with(place))).collect();
    assert!(unlisted.is_empty(), "{LIST} does not list these files with `unsafe`: {unlisted:?}");
    let needless: Vec<&PathBuf> =
        places.iter().filter(|place| !using.iter().any(|file| file.starts_with(place))).collect();
    assert!(needless.is_empty(), "{LIST} lists these places, in which there is no `unsafe`: {needless:?}");
}

#[test]
fn the_packages_that_forbid_it_are_those_that_the_manual_names() {
    let mut forbidding = BTreeSet::new();
    for package in packages().expect("packages").values() {
        let roots = ["src/lib.rs", "src/main.rs"].map(|name| package.dir.join(name));
        let roots: Vec<&PathBuf> = roots.iter().filter(|root| root.is_file()).collect();
        if !roots.is_empty() && roots.iter().all(|root| read(root).contains("\n#![forbid(unsafe_code)]\n")) {
            forbidding.insert(package.dir.strip_prefix(root()).expect("in the repository").to_owned());
        }
    }
    assert_eq!(forbidding, free(&list()), "forbid it, and are named in {LIST}");
}

#[test]
fn the_list_is_read_as_it_is_meant() {
    let text =
        "Text.\n\n| place | why |\n|---|---|\n| `a/{b,c}.rs`, `d` | `e` |\n| `f/` | |\n\n`g`, `h/i` forbid it.\n";
    assert_eq!(places(text), ["a/b.rs", "a/c.rs", "d", "f"].map(PathBuf::from));
    assert_eq!(free(text), ["g", "h/i"].map(PathBuf::from).into());
    let has = |text| Source::whole(text).has_unsafe();
    assert!(has("#[unsafe(no_mangle)]\nfn a() {}") && has("#[cfg(test)]\nmod tests { unsafe fn a() {} }"));
    assert!(!has("#![deny(unsafe_op_in_unsafe_fn)]\n// unsafe {}\nconst A: &str = \"unsafe\";\n"));
}
