//! `at-once LIST FOLDER [--careful] LEFT_OUT...`: rewrites the sources below FOLDER so that all mutants of LIST are there, and which one
//! counts is chosen at run time by what `crate::__mutant()` returns: 0 for none.
//!
//! LIST is what `cargo mutants --list --json` says of the sources; mutants are numbered in its order, from 1. Those numbers in
//! LEFT_OUT are not built in. Nor are those of constants, which nothing can choose at run time, of conditions with `let`, and values
//! in the place of what only a trait names.
//! Functions that are `const` are no longer so where there are mutants in them, and arms of a `match` get conditions; a program
//! that needs the former in a constant, or in which the latter leave a case out, does not build then: `--careful` leaves the
//! mutants of both out. The numbers of all others are printed, one a line; their text stands between `/*<N*/` and `/*>N*/`.
#![forbid(unsafe_code)]

mod list;
mod sites;
mod weave;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [list, folder, left_out @ ..] = args.as_slice() else {
        eprintln!("type: at-once LIST FOLDER [--careful] LEFT_OUT...");
        return ExitCode::FAILURE;
    };
    let (careful, left_out) = match left_out {
        [flag, left_out @ ..] if flag == "--careful" => (true, left_out),
        left_out => (false, left_out),
    };
    match rewrite(Path::new(list), Path::new(folder), careful, left_out) {
        Ok(built_in) => {
            built_in.iter().for_each(|number| println!("{number}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("at-once: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The numbers of those that are built in.
fn rewrite(list: &Path, folder: &Path, careful: bool, left_out: &[String]) -> Result<BTreeSet<usize>, Box<dyn Error>> {
    let left_out: BTreeSet<usize> = left_out.iter().map(|number| number.parse()).collect::<Result<_, _>>()?;
    let listed: Vec<list::Listed> = serde_json::from_str(&std::fs::read_to_string(list)?)?;
    let mut files: BTreeMap<&str, Vec<(usize, &list::Listed)>> = BTreeMap::new();
    for (number, mutant) in (1..).zip(&listed).filter(|(number, _)| !left_out.contains(number)) {
        files.entry(&mutant.file).or_default().push((number, mutant));
    }
    let mut built_in = BTreeSet::new();
    for (file, listed) in files {
        let path = folder.join(file);
        let source = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let (text, numbers) = rewritten(&source, &listed, careful).map_err(|error| format!("{file}: {error}"))?;
        std::fs::write(&path, text)?;
        built_in.extend(numbers);
    }
    Ok(built_in)
}

/// `source` with these mutants, and the numbers of those that are in it.
fn rewritten(source: &str, listed: &[(usize, &list::Listed)], careful: bool) -> syn::Result<(String, BTreeSet<usize>)> {
    let text = list::Text::new(source);
    let mutants: Vec<list::Mutant> = listed.iter().map(|(number, mutant)| mutant.at(*number, &text)).collect();
    let found = sites::find(&syn::parse_file(source)?, &text, &mutants, careful);
    Ok((weave::weave(source, found.edits), found.numbers))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
