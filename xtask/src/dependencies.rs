//! What may be linked: `deny.toml` beside the packages that cargo resolves. cargo-deny checks the same and more, and takes longer
//! to build than all host tests take to run; here is what every change is held against.

use crate::workspace::{cargo, output, root};
use serde_json::Value;
use std::collections::BTreeMap;

/// The part of `deny.toml` that is read here.
#[derive(serde::Deserialize)]
struct Deny {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
}

#[derive(serde::Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(serde::Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(serde::Deserialize)]
struct Bans {
    skip: Vec<Skip>,
}

#[derive(serde::Deserialize)]
struct Skip {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

fn deny() -> Deny {
    let text = std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml");
    toml::from_str(&text).expect("the parts of deny.toml that are read here")
}

/// What is resolved for any of the targets, by name and version: licence, and source where it is not the workspace's own.
fn resolved(targets: &[String]) -> BTreeMap<String, (String, Option<String>)> {
    let mut all = BTreeMap::new();
    for target in targets {
        let mut command = cargo();
        command.args(["metadata", "--format-version", "1", "--locked", "--all-features", "--filter-platform", target]);
        let json: Value = serde_json::from_str(&output(&mut command).expect("cargo metadata")).expect("JSON");
        let nodes: Vec<&str> =
            json["resolve"]["nodes"].as_array().expect("nodes").iter().filter_map(|node| node["id"].as_str()).collect();
        for package in json["packages"].as_array().expect("packages") {
            let text = |key: &str| package[key].as_str().map(str::to_owned);
            if nodes.contains(&package["id"].as_str().unwrap_or_default()) {
                let name = format!("{}@{}", text("name").expect("a name"), text("version").expect("a version"));
                all.insert(name, (text("license").unwrap_or_default(), text("source")));
            }
        }
    }
    assert!(all.len() > 50, "only {} packages", all.len());
    all
}

/// Whether a licence expression (SPDX, with the old `/` for OR) is met by what is allowed. AND binds before OR.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let met = any(&mut words, allowed);
    met && words.next().is_none()
}

type Words<'a, 'b> = &'a mut std::iter::Peekable<std::str::SplitWhitespace<'b>>;

fn any(words: Words, allowed: &[String]) -> bool {
    let mut met = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= all(words, allowed);
    }
    met
}

fn all(words: Words, allowed: &[String]) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: Words, allowed: &[String]) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let met = any(words, allowed);
        return words.next_if_eq(&")").is_some() && met;
    }
    words.next().is_some_and(|word| allowed.iter().any(|allowed| allowed == word))
}

#[test]
fn licences_are_allowed_ones() {
    let deny = deny();
    for (package, (licence, _)) in resolved(&deny.graph.targets) {
        assert!(is_allowed(&licence, &deny.licenses.allow), "{package} has the licence \"{licence}\"");
    }
}

#[test]
fn each_crate_is_there_once() {
    let deny = deny();
    let packages = resolved(&deny.graph.targets);
    for skip in &deny.bans.skip {
        assert!(packages.contains_key(&skip.name), "{} is not there any more: deny.toml need not skip it", skip.name);
        assert!(!skip.reason.is_empty(), "{} has no reason", skip.name);
    }
    let mut once = BTreeMap::new();
    for package in packages.keys().filter(|package| !deny.bans.skip.iter().any(|skip| skip.name == **package)) {
        let (name, version) = package.rsplit_once('@').expect("a version");
        let other = once.insert(name, version);
        assert_eq!(other, None, "{name} is there twice, also as {version}: take one version, or skip one in deny.toml");
    }
}

#[test]
fn all_is_from_the_registry_or_ours() {
    for (package, (_, source)) in resolved(&deny().graph.targets) {
        let known =
            source.as_deref().is_none_or(|source| source == "registry+https://github.com/rust-lang/crates.io-index");
        assert!(known, "{package} is from {source:?}");
    }
}

#[test]
fn licence_expressions_are_read_right() {
    let allowed = ["MIT".to_owned(), "Zlib".to_owned()];
    for good in ["MIT", "MIT/Apache-2.0", "GPL-3.0 OR MIT", "(GPL-3.0 OR MIT) AND Zlib", "GPL-3.0 AND X OR Zlib"] {
        assert!(is_allowed(good, &allowed), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "MIT AND (GPL-3.0 OR X)", "(MIT", "MIT Zlib", "OR"] {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
}
