//! Puts edits into a text, edits within edits included.

use std::cmp::Reverse;
use std::fmt::Write;
use std::ops::Range;

/// A change to a text.
pub enum Edit {
    /// This text comes in at this place.
    Insert(usize, String),
    /// What is at this place goes.
    Remove(Range<usize>),
    /// The expression at this place has these variants beside itself, each with its number.
    Choose(Range<usize>, Vec<(usize, String)>),
}

impl Edit {
    fn place(&self) -> Range<usize> {
        match self {
            Edit::Insert(at, _) => *at..*at,
            Edit::Remove(place) | Edit::Choose(place, _) => place.clone(),
        }
    }
}

/// `source` with all `edits`, of which none overlaps another in part.
pub fn weave(source: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| {
        let place = edit.place();
        // What is inserted comes first, and what encloses others before them.
        (place.start, !place.is_empty(), Reverse(place.end))
    });
    woven(source, 0..source.len(), &edits)
}

/// The text of `within`, in which all `edits` lie.
fn woven(source: &str, within: Range<usize>, mut edits: &[Edit]) -> String {
    let mut text = String::new();
    let mut at = within.start;
    while let [edit, rest @ ..] = edits {
        let place = edit.place();
        text.push_str(&source[at..place.start]);
        let enclosed = rest.iter().take_while(|other| !place.is_empty() && other.place().end <= place.end).count();
        match edit {
            Edit::Insert(_, inserted) => text.push_str(inserted),
            Edit::Remove(_) => {}
            Edit::Choose(_, variants) => {
                text.push_str("(match crate::__mutant() { ");
                for (number, variant) in variants {
                    // A String takes everything.
                    let _ = write!(text, "/*<{number}*/{number} => ({variant}),/*>{number}*/ ");
                }
                let itself = woven(source, place.clone(), &rest[..enclosed]);
                let _ = write!(text, "_ => ({itself}) }})");
            }
        }
        at = place.end;
        edits = &rest[enclosed..];
    }
    text.push_str(&source[at..within.end]);
    text
}
