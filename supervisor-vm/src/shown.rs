//! What others have said, as it may be shown.

use alloc::string::String;

/// A word of the operator's as it may be shown to others: short, and without what moves a terminal's cursor.
pub fn shown(word: &str) -> String {
    shown_up_to(word, 64)
}

/// The same with so many characters at most.
pub fn shown_up_to(word: &str, most: usize) -> String {
    let mut text: String = word.chars().take(most).map(|c| if c.is_control() { '?' } else { c }).collect();
    if word.chars().nth(most).is_some() {
        text.push_str("...");
    }
    text
}
