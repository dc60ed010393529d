//! What the core says in its log while a test listens. Why a VM ended is said there and nowhere else.

use crate::log::capture;
pub use crate::log::capture::listen;

/// What was said since [`listen`] or the last call that has this text in it, with its level.
pub fn heard(text: &str) -> Vec<String> {
    let lines = capture::heard_with_level().into_iter().map(|(level, line)| format!("{level} {line}"));
    lines.filter(|line| line.contains(text)).collect()
}

/// How many of these lines have this text in them.
pub fn count(lines: &[String], text: &str) -> usize {
    lines.iter().filter(|line| line.contains(text)).count()
}
