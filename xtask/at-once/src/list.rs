//! The list of mutants, and where they are in a text.

use proc_macro2::{LineColumn, Span};
use serde::Deserialize;
use std::ops::Range;

/// A mutant as cargo-mutants lists it.
#[derive(Deserialize)]
pub struct Listed {
    /// Path of the file from the root of the workspace.
    pub file: String,
    genre: Genre,
    replacement: String,
    span: Place,
}

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Genre {
    /// All that a function does gives way to a value.
    FnValue,
    /// An operator gives way to another.
    BinaryOperator,
    /// An operator goes.
    UnaryOperator,
    /// An arm of a `match` goes.
    MatchArm,
    /// The condition of an arm gives way to `true` or `false`.
    MatchArmGuard,
    /// A field of a struct that is made from another one goes.
    StructField,
    /// Whatever else there may be: not built in.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Place {
    start: Position,
    end: Position,
}

/// Both count from 1; columns are characters.
#[derive(Deserialize)]
struct Position {
    line: usize,
    column: usize,
}

/// A mutant with its place in bytes.
#[derive(Debug)]
pub struct Mutant {
    pub number: usize,
    pub genre: Genre,
    pub replacement: String,
    pub place: Range<usize>,
}

impl Listed {
    pub fn at(&self, number: usize, text: &Text) -> Mutant {
        let byte = |position: &Position| text.byte(position.line, position.column - 1);
        let place = byte(&self.span.start)..byte(&self.span.end);
        Mutant { number, genre: self.genre, replacement: self.replacement.clone(), place }
    }
}

/// A text whose lines can be found.
pub struct Text<'a> {
    pub source: &'a str,
    /// Where each line starts.
    lines: Vec<usize>,
}

impl<'a> Text<'a> {
    pub fn new(source: &'a str) -> Self {
        let ends = source.match_indices('\n').map(|(end, _)| end + 1);
        Text { source, lines: std::iter::once(0).chain(ends).collect() }
    }

    /// The byte at this line, from 1, and column, from 0.
    fn byte(&self, line: usize, column: usize) -> usize {
        let start = self.lines.get(line - 1).copied().unwrap_or(self.source.len());
        self.source[start..].char_indices().nth(column).map_or(self.source.len(), |(bytes, _)| start + bytes)
    }

    /// The bytes of `span`.
    pub fn place(&self, span: Span) -> Range<usize> {
        let byte = |LineColumn { line, column }| self.byte(line, column);
        byte(span.start())..byte(span.end())
    }
}
