//! Which mutants keep the program from being built, by the compiler's errors and the marks around each mutant's text.

use crate::error::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A line of `cargo --message-format json`.
#[derive(Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum Line {
    CompilerMessage {
        message: Message,
    },
    CompilerArtifact {
        executable: Option<PathBuf>,
        profile: Profile,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

#[derive(Deserialize)]
struct Message {
    level: String,
    rendered: Option<String>,
    spans: Vec<Span>,
    children: Vec<Child>,
}

#[derive(Deserialize)]
struct Child {
    spans: Vec<Span>,
}

#[derive(Deserialize)]
struct Span {
    file_name: PathBuf,
    byte_start: usize,
    byte_end: usize,
}

/// What a build came to.
#[derive(Debug, Default, PartialEq)]
pub struct Built {
    /// The test programs.
    pub programs: Vec<PathBuf>,
    /// Mutants whose texts the errors lie in.
    pub guilty: BTreeSet<usize>,
    /// The errors as the compiler shows them.
    pub errors: Vec<String>,
}

/// Reads what cargo printed; the sources' paths are those below `folder`.
pub fn read(printed: &str, folder: &Path) -> Result<Built> {
    let mut built = Built::default();
    for line in printed.lines().filter(|line| line.starts_with('{')) {
        match serde_json::from_str(line).context(|| format!("cargo said {line}"))? {
            Line::CompilerArtifact { executable: Some(program), profile: Profile { test: true } } => {
                built.programs.push(program);
            }
            Line::CompilerMessage { message } if message.level == "error" => {
                let children = message.children.iter().flat_map(|child| &child.spans);
                for Span { file_name, byte_start, byte_end } in message.spans.iter().chain(children) {
                    // What is no file of ours has no marks.
                    let text = std::fs::read_to_string(folder.join(file_name)).unwrap_or_default();
                    built.guilty.extend(owner(&text, *byte_start, *byte_end));
                }
                built.errors.extend(message.rendered);
            }
            _ => {}
        }
    }
    Ok(built)
}

/// The mutant between whose marks the bytes from `start` to `end` of `text` lie: the innermost.
fn owner(text: &str, start: usize, end: usize) -> Option<usize> {
    let (before, after) = (text.get(..start)?, text.get(end..)?);
    before.rmatch_indices("/*<").find_map(|(mark, _)| {
        let number: usize = before[mark + 3..].split_once("*/")?.0.parse().ok()?;
        let closing = format!("/*>{number}*/");
        (!before[mark..].contains(&closing) && after.contains(&closing)).then_some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_belongs_to_the_mutant_in_whose_text_it_lies() {
        let text = "a /*<7*/bb/*>7*/ c /*<12*/dd/*>12*/ e";
        let owner_of = |piece: &str| {
            let start = text.find(piece).unwrap();
            owner(text, start, start + piece.len())
        };
        assert_eq!((owner_of("bb"), owner_of("dd")), (Some(7), Some(12)));
        assert_eq!(
            (owner_of("a "), owner_of(" c "), owner_of(" e"), owner_of("bb/*>7*/ c ")),
            (None, None, None, None)
        );
        assert_eq!(owner(text, 90, 99), None);
    }

    #[test]
    fn programs_and_errors_are_found() {
        let lines = [
            r#"{"reason":"compiler-artifact","executable":"/t/a","profile":{"test":true},"more":1}"#,
            r#"{"reason":"compiler-artifact","executable":"/t/b","profile":{"test":false}}"#,
            r#"{"reason":"compiler-artifact","executable":null,"profile":{"test":true}}"#,
            r#"{"reason":"compiler-message","message":{"level":"warning","rendered":"w","spans":[],"children":[]}}"#,
            r#"{"reason":"compiler-message","message":{"level":"error","rendered":"e","spans":[],"children":[]}}"#,
            r#"{"reason":"build-finished","success":false}"#,
        ];
        let built = read(&lines.join("\n"), Path::new("/nowhere")).unwrap();
        let expected = Built { programs: vec!["/t/a".into()], guilty: BTreeSet::new(), errors: vec!["e".into()] };
        assert_eq!(built, expected);
    }
}
