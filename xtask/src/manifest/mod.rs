//! `system.toml`: read, checked, and compiled to the binary manifest that the core reads.

mod check;
mod compile;
pub mod model;
pub mod options;
mod service;
mod units;

use crate::error::{Context, Result, fail};
use model::System;
use std::path::Path;

pub use compile::{compile, digest};
pub use units::Bytes;

/// Reads and checks the manifest `path`.
///
/// # Errors
/// Every rule that the file breaks, a line each.
pub fn load(path: &Path) -> Result<System> {
    let text = std::fs::read_to_string(path).context(|| format!("cannot read {}", path.display()))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    parse(&text, &name)
}

/// The manifest in `text`, which came from the file `name`.
fn parse(text: &str, name: &str) -> Result<System> {
    let system: System = match toml::from_str(text) {
        Ok(system) => system,
        Err(error) => {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            fail!("{name}:{line}: {}", error.message().replace('\n', ", "))
        }
    };
    let errors = check::check(&system);
    if errors.is_empty() {
        return Ok(system);
    }
    let lines: Vec<String> = errors.iter().map(|error| format!("{name}: {error}")).collect();
    Err(lines.join("\n").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::root;

    #[test]
    fn the_systems_own_manifest_is_good() {
        let system = load(&root().join("system.toml")).unwrap();
        let bytes = compile(&system, &[]);
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(bytes[..8], abi::manifest::MAGIC.to_le_bytes());
    }

    /// Every file `NAME.toml` in the folder is a manifest with one mistake; `NAME.expected` holds what xtask says.
    #[test]
    fn bad_manifests_say_exactly_what_is_wrong() {
        let folder = root().join("xtask/tests/bad-manifests");
        let mut seen = 0;
        let mut wrong = Vec::new();
        let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            let partner = match path.extension().and_then(|extension| extension.to_str()) {
                Some("toml") => path.with_extension("expected"),
                Some("expected") => path.with_extension("toml"),
                _ => panic!("{} is neither a manifest nor an expected message", path.display()),
            };
            assert!(partner.exists(), "{} has no partner {}", path.display(), partner.display());
            if path.extension().is_some_and(|extension| extension == "toml") {
                seen += 1;
                let expected = std::fs::read_to_string(&partner).unwrap();
                let text = std::fs::read_to_string(&path).unwrap();
                let said = match parse(&text, "system.toml") {
                    Ok(_) => "nothing: it was accepted".to_owned(),
                    Err(error) => error.to_string(),
                };
                if said.trim_end() != expected.trim_end() {
                    wrong.push(format!("{}\n  expected: {}\n  said:     {said}", path.display(), expected.trim_end()));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(seen >= 25, "only {seen} bad manifests: some were lost");
    }
}
