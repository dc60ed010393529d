//! No circles of imports: what a file uses of its own package, file by file. Where a circle is, neither file can be read, tested or
//! moved without the other.
//!
//! Names are resolved through re-exports to the file that defines them. A re-export itself is no use, tests may use what they like, and a
//! module and its own parts are one room. Methods are not seen: `impl` blocks of one type in several files may call each other.

use crate::workspace::packages;
use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use syn::visit::Visit;

/// What may stand after a `use`, and what it ends at: a path of names, `*` for a glob.
type Names = Vec<String>;

/// A module of a package.
#[derive(Default)]
struct Module {
    /// Number of its file.
    file: usize,
    children: BTreeSet<String>,
    /// Re-exports, by the names that they give: where they lead, as written in this module.
    exports: BTreeMap<String, Names>,
    /// Re-exports of all that a module has.
    globs: Vec<Names>,
    /// What it names.
    uses: Vec<Names>,
    /// What its own `use`s bring into it, by name.
    imports: BTreeMap<String, Names>,
}

/// The modules of a crate, by their paths.
#[derive(Default)]
struct Crate {
    modules: BTreeMap<Names, Module>,
    files: Vec<PathBuf>,
}

impl Crate {
    /// The crate whose root is this file.
    fn read(root: &Path) -> Crate {
        let mut all = Crate::default();
        all.add(&mut Vec::new(), root, true);
        all
    }

    fn add(&mut self, at: &mut Names, file: &Path, owns_folder: bool) {
        let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.files.push(file.to_owned());
        let folder = if owns_folder { file.parent().expect("a folder").to_owned() } else { file.with_extension("") };
        self.add_items(at, &syntax.items, self.files.len() - 1, &folder, file.parent().expect("a folder"));
    }

    fn add_items(&mut self, at: &mut Names, items: &[syn::Item], file: usize, folder: &Path, beside: &Path) {
        let mut module = Module { file, ..Module::default() };
        for item in items.iter().filter(|item| !is_test(attributes(item))) {
            match item {
                syn::Item::Mod(inner) => {
                    let name = inner.ident.to_string();
                    module.children.insert(name.clone());
                    at.push(name.clone());
                    if let Some((_, items)) = &inner.content {
                        self.add_items(at, items, file, &folder.join(&name), &folder.join(&name));
                    } else if let Some(path) = path_of(&inner.attrs) {
                        self.add(at, &beside.join(path), true);
                    } else {
                        let (flat, nested) = (folder.join(format!("{name}.rs")), folder.join(&name).join("mod.rs"));
                        let is_flat = flat.is_file();
                        self.add(at, if is_flat { &flat } else { &nested }, !is_flat);
                    }
                    at.pop();
                }
                syn::Item::Use(item) => {
                    let public = !matches!(item.vis, syn::Visibility::Inherited);
                    flatten(&item.tree, &mut Vec::new(), &mut |name, path| match (public, name) {
                        (true, None) => module.globs.push(path),
                        (true, Some(name)) => {
                            module.exports.insert(name, path);
                        }
                        (false, name) => {
                            if let Some(name) = name {
                                module.imports.insert(name, path.clone());
                            }
                            module.uses.push(path);
                        }
                    });
                }
                item => Paths(&mut module.uses).visit_item(item),
            }
        }
        self.modules.insert(at.clone(), module);
    }

    /// The module that defines what `path` names in the module `at`; `None` for what other crates have.
    fn resolve(&self, at: &[String], path: &[String], depth: u32) -> Option<&[String]> {
        // A name that leads to itself leads nowhere.
        if depth > 16 {
            return None;
        }
        let (first, rest) = path.split_first()?;
        let mut here: Names = at.to_vec();
        let mut rest = rest;
        match first.as_str() {
            "crate" => here.clear(),
            "self" => {}
            "super" => {
                here.pop()?;
            }
            name => {
                let module = self.modules.get(at)?;
                if module.children.contains(name) {
                    here.push(name.to_owned());
                } else {
                    let leads = module.imports.get(name).or_else(|| module.exports.get(name))?;
                    if leads.first() == Some(first) && leads.len() == 1 {
                        return None;
                    }
                    let whole: Names = leads.iter().chain(rest).cloned().collect();
                    return self.resolve(at, &whole, depth + 1);
                }
            }
        }
        while let Some((name, after)) = rest.split_first() {
            let module = self.modules.get(&here)?;
            if name == "super" {
                here.pop()?;
            } else if module.children.contains(name) {
                here.push(name.clone());
            } else if let Some(leads) = module.exports.get(name) {
                let whole: Names = leads.iter().chain(after).cloned().collect();
                return self.resolve(&here, &whole, depth + 1);
            } else {
                break;
            }
            rest = after;
        }
        self.modules.get_key_value(&here).map(|(at, _)| at.as_slice())
    }

    /// Who uses what, by the numbers of files, each once.
    fn graph(&self) -> DiGraphMap<usize, ()> {
        let mut graph = DiGraphMap::new();
        for (at, module) in &self.modules {
            for path in &module.uses {
                let Some(found) = self.resolve(at, path, 0) else { continue };
                if let Some(of) = self.modules.get(found)
                    && of.file != module.file
                    && !found.starts_with(at)
                    && !at.starts_with(found)
                {
                    graph.add_edge(module.file, of.file, ());
                }
            }
        }
        graph
    }

    /// Each circle: how many files are in it, and the uses that it consists of.
    fn circles(&self) -> Vec<(usize, Vec<String>)> {
        let graph = self.graph();
        let name = |file: usize| self.files[file].display().to_string();
        let circles = tarjan_scc(&graph).into_iter().filter(|files| files.len() > 1);
        circles
            .map(|files| {
                let uses = graph.all_edges().filter(|(a, b, ())| files.contains(a) && files.contains(b));
                (files.len(), uses.map(|(a, b, ())| format!("{} uses {}", name(a), name(b))).collect())
            })
            .collect()
    }
}

/// Paths in code, types and macros' names.
struct Paths<'a>(&'a mut Vec<Names>);

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.0.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        syn::visit::visit_path(self, path);
    }
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether it is there in tests only, with a fake machine or in fuzzers.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let condition = list.tokens.to_string();
        list.path.is_ident("cfg")
            && !condition.starts_with("not")
            && ["test", "fake", "fuzzing"]
                .iter()
                .any(|word| condition.split(|c: char| !c.is_alphanumeric()).any(|of| of == *word))
    })
}

fn path_of(attributes: &[syn::Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        syn::Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}

/// Gives each name that a `use` brings, and its path; for a glob no name.
fn flatten(tree: &syn::UseTree, path: &mut Names, found: &mut dyn FnMut(Option<String>, Names)) {
    match tree {
        syn::UseTree::Path(part) => {
            path.push(part.ident.to_string());
            flatten(&part.tree, path, found);
            path.pop();
        }
        syn::UseTree::Name(name) if name.ident == "self" => found(path.last().cloned(), path.clone()),
        syn::UseTree::Name(name) => {
            let name = name.ident.to_string();
            found(Some(name.clone()), path.iter().cloned().chain([name]).collect());
        }
        syn::UseTree::Rename(rename) => {
            let whole = path.iter().cloned().chain([rename.ident.to_string()]).collect();
            found(Some(rename.rename.to_string()), whole);
        }
        syn::UseTree::Glob(_) => found(None, path.clone()),
        syn::UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, path, found)),
    }
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let (mut all, mut seen) = (Vec::new(), 0);
    for package in packages().expect("the workspace").values() {
        let source = package.dir.join("src");
        for root in ["lib.rs", "main.rs"].map(|name| source.join(name)).iter().filter(|root| root.is_file()) {
            let found = Crate::read(root);
            seen += found.graph().edge_count();
            all.extend(found.circles().iter().map(|(_, circle)| circle.join("\n    ")));
        }
    }
    assert!(seen > 1000, "only {seen} uses were seen");
    assert!(all.is_empty(), "{} circles:\n{}", all.len(), all.join("\n\n"));
}

/// The circles of a crate of these files, each with its text.
fn crate_of(files: &[(&str, &str)]) -> Vec<(usize, Vec<String>)> {
    let folder = crate::workspace::scratch("imports").expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    Crate::read(&folder.path().join("lib.rs")).circles()
}

#[test]
fn circles_are_seen_through_re_exports_and_renames() {
    let circle = crate_of(&[
        ("lib.rs", "mod a; mod b; mod c; pub use b::Second as Other;"),
        ("a.rs", "use crate::Other; pub struct First(Other);"),
        ("b.rs", "use crate::c::Third; pub struct Second(Third);"),
        ("c.rs", "pub struct Third; impl Third { fn first(_: super::a::First) {} }"),
    ]);
    assert_eq!(circle.iter().map(|(files, uses)| (*files, uses.len())).collect::<Vec<_>>(), [(3, 3)], "{circle:?}");
}

#[test]
fn what_is_no_circle_is_none() {
    let none = crate_of(&[
        ("lib.rs", "mod a; mod b; mod fake; pub use a::First;"),
        // A part and its whole, tests, and what stands beside in one file.
        ("a/mod.rs", "mod part; use part::Part; pub struct First(Part); mod inner { use super::First; }"),
        ("a/part.rs", "use super::First; pub struct Part; impl Part { fn of(_: &First) {} }"),
        ("b.rs", "use crate::First; pub struct Second(First); use core::fmt::Write;"),
        ("fake.rs", "#[cfg(test)] mod tests { use crate::b::Second; } pub struct Fake;"),
    ]);
    assert!(none.is_empty(), "{none:?}");
}
