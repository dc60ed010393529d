//! A line that is edited at a terminal: keys in, what is to be shown out. It is one row of the screen; what is wider than that moves sideways.

use crate::width::{of, of_text};
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Bytes of a line at most.
pub const LINE: usize = 4096;
/// Lines that are remembered.
const HISTORY: usize = 64;
/// Bytes of all of them at most.
const HISTORY_BYTES: usize = 8 * 1024;
/// Columns of the narrowest window that is drawn for.
const NARROW: usize = 8;
const BELL: u8 = 7;

/// What a key has led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// A line.
    Line(String),
    /// Ctrl-C: it was dropped.
    Dropped,
    /// Ctrl-D where nothing was typed.
    End,
    /// Tab; whether it was pressed before, and nothing else since.
    Tab(bool),
    /// Ctrl-].
    Escape,
}

/// How far a key that is more than one byte has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Start,
    Escape,
    /// The number behind `ESC [`, and whether there is more than that.
    Control(u8, bool),
    Single,
}

/// A line that is edited.
pub struct Editor {
    line: Vec<char>,
    /// Bytes of the line.
    bytes: usize,
    /// The character that the next one is put in front of.
    cursor: usize,
    /// The first character that is shown.
    first: usize,
    prompt: String,
    columns: usize,
    history: VecDeque<String>,
    /// The line of the history that is shown, from the oldest, and what was typed before it was.
    shown: Option<usize>,
    draft: Vec<char>,
    key: Key,
    /// Of a character in several bytes those that have come.
    parts: Vec<u8>,
    tabs: bool,
    /// The last key was a carriage return.
    returned: bool,
    /// The row is on the screen.
    drawn: bool,
}

impl Editor {
    /// An empty line behind a prompt, in a window of so many columns.
    pub fn new(prompt: &str, columns: u32) -> Editor {
        let mut editor = Editor {
            line: Vec::new(),
            bytes: 0,
            cursor: 0,
            first: 0,
            prompt: prompt.to_string(),
            columns: NARROW,
            history: VecDeque::new(),
            shown: None,
            draft: Vec::new(),
            key: Key::Start,
            parts: Vec::new(),
            tabs: false,
            returned: false,
            drawn: false,
        };
        editor.set_columns(columns);
        editor
    }

    /// The window has so many columns now. Whether that is another number.
    pub fn set_columns(&mut self, columns: u32) -> bool {
        let columns = usize::try_from(columns).unwrap_or(NARROW).max(NARROW);
        core::mem::replace(&mut self.columns, columns) != columns
    }

    /// Columns of the window.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// What stands in front of the line from now on.
    pub fn set_prompt(&mut self, prompt: &str) {
        self.prompt = prompt.to_string();
    }

    /// What stands in front of the line.
    pub fn prompt(&self) -> &str {
        &self.prompt
    }

    /// What stands in front of the cursor.
    pub fn before(&self) -> String {
        self.line.iter().take(self.cursor).collect()
    }

    /// Takes a byte that was typed. What it has led to, and on `screen` what is to be shown.
    pub fn take(&mut self, byte: u8, screen: &mut Vec<u8>) -> Option<Typed> {
        let tabs = core::mem::take(&mut self.tabs);
        let returned = core::mem::take(&mut self.returned);
        match (self.key, byte) {
            (Key::Start | Key::Escape, 0x1b) => self.key = Key::Escape,
            (Key::Escape, b'[') => self.key = Key::Control(0, false),
            (Key::Escape, b'O') => self.key = Key::Single,
            (Key::Control(number, more), b'0'..=b'9') if !more => {
                self.key = Key::Control(number.saturating_mul(10).saturating_add(byte - b'0'), false);
            }
            // What is held down beside a key makes no difference.
            (Key::Control(number, _), 0x20..=0x3f) => self.key = Key::Control(number, true),
            (Key::Control(number, _), byte) => self.special(byte, number, screen),
            (Key::Single, byte) => self.special(byte, 0, screen),
            (Key::Escape, _) => self.key = Key::Start,
            (Key::Start, b'\n') if returned => {}
            (Key::Start, b'\r' | b'\n') => {
                self.returned = byte == b'\r';
                return Some(Typed::Line(self.finish(screen)));
            }
            (Key::Start, b'\t') => {
                self.tabs = true;
                return Some(Typed::Tab(tabs));
            }
            (Key::Start, 0x1d) => return Some(Typed::Escape),
            (Key::Start, 3) => {
                screen.extend(b"^C");
                self.forget(screen);
                return Some(Typed::Dropped);
            }
            (Key::Start, 4) if self.line.is_empty() => return Some(Typed::End),
            (Key::Start, 0..0x20 | 0x7f) => self.control(byte, screen),
            (Key::Start, byte) => self.character(byte, screen),
        }
        None
    }

    /// A key that is a letter with Ctrl.
    fn control(&mut self, byte: u8, screen: &mut Vec<u8>) {
        match byte {
            1 => self.go(0, screen),
            2 => self.go(self.cursor.saturating_sub(1), screen),
            4 => self.remove(self.cursor, self.cursor + 1, screen),
            5 => self.go(self.line.len(), screen),
            6 => self.go(self.cursor + 1, screen),
            8 | 0x7f => self.remove(self.cursor.saturating_sub(1), self.cursor, screen),
            0x0b => self.remove(self.cursor, self.line.len(), screen),
            0x0c => {
                screen.extend(b"\x1b[H\x1b[2J");
                self.draw(screen);
            }
            0x0e => self.newer(screen),
            0x10 => self.older(screen),
            0x15 => self.remove(0, self.cursor, screen),
            0x17 => self.remove(self.word(), self.cursor, screen),
            _ => screen.push(BELL),
        }
    }

    /// A key that is several bytes, of which this is the last one.
    fn special(&mut self, byte: u8, number: u8, screen: &mut Vec<u8>) {
        self.key = Key::Start;
        match (byte, number) {
            (b'A', _) => self.older(screen),
            (b'B', _) => self.newer(screen),
            (b'C', _) => self.go(self.cursor + 1, screen),
            (b'D', _) => self.go(self.cursor.saturating_sub(1), screen),
            (b'H', _) | (b'~', 1 | 7) => self.go(0, screen),
            (b'F', _) | (b'~', 4 | 8) => self.go(self.line.len(), screen),
            (b'~', 3) => self.remove(self.cursor, self.cursor + 1, screen),
            _ => {}
        }
    }

    /// A byte of a character.
    fn character(&mut self, byte: u8, screen: &mut Vec<u8>) {
        self.parts.push(byte);
        match core::str::from_utf8(&self.parts) {
            Ok(text) => {
                let typed: Vec<char> = text.chars().filter(|c| !c.is_control()).collect();
                self.parts.clear();
                self.insert_all(&typed, screen);
            }
            Err(error) if error.error_len().is_none() => {}
            Err(_) => {
                // The byte may be the first one of another character.
                let again = self.parts.len() > 1;
                self.parts.clear();
                if again {
                    self.character(byte, screen);
                } else {
                    screen.push(BELL);
                }
            }
        }
    }

    /// Puts a text where the cursor is.
    pub fn insert(&mut self, text: &str, screen: &mut Vec<u8>) {
        let typed: Vec<char> = text.chars().filter(|c| !c.is_control()).collect();
        self.insert_all(&typed, screen);
    }

    fn insert_all(&mut self, typed: &[char], screen: &mut Vec<u8>) {
        let bytes: usize = typed.iter().map(|c| c.len_utf8()).sum();
        if self.bytes + bytes > LINE {
            screen.push(BELL);
            return;
        }
        let at_end = self.cursor == self.line.len();
        self.bytes += bytes;
        self.line.splice(self.cursor..self.cursor, typed.iter().copied());
        self.cursor += typed.len();
        let width =
            of_text(&self.prompt) + self.line.get(self.first..).map_or(0, |line| line.iter().map(|c| of(*c)).sum());
        if at_end && self.drawn && width < self.columns {
            let mut text = String::new();
            text.extend(typed);
            screen.extend(text.as_bytes());
        } else {
            self.draw(screen);
        }
    }

    fn remove(&mut self, from: usize, to: usize, screen: &mut Vec<u8>) {
        let to = to.min(self.line.len());
        if from >= to {
            screen.push(BELL);
            return;
        }
        self.bytes -= self.line.drain(from..to).map(char::len_utf8).sum::<usize>();
        self.cursor = from;
        self.draw(screen);
    }

    fn go(&mut self, to: usize, screen: &mut Vec<u8>) {
        self.cursor = to.min(self.line.len());
        self.draw(screen);
    }

    /// Where the word begins that ends in front of the cursor.
    fn word(&self) -> usize {
        let before = self.line.get(..self.cursor).unwrap_or_default();
        let end = before.iter().rposition(|c| !c.is_whitespace()).map_or(0, |at| at + 1);
        before.get(..end).and_then(|before| before.iter().rposition(|c| c.is_whitespace())).map_or(0, |at| at + 1)
    }

    fn set(&mut self, line: Vec<char>, screen: &mut Vec<u8>) {
        self.bytes = line.iter().map(|c| c.len_utf8()).sum();
        (self.cursor, self.first, self.line) = (line.len(), 0, line);
        self.draw(screen);
    }

    fn older(&mut self, screen: &mut Vec<u8>) {
        let at = self.shown.unwrap_or(self.history.len());
        let Some((at, line)) = at.checked_sub(1).and_then(|at| Some((at, self.history.get(at)?))) else {
            screen.push(BELL);
            return;
        };
        let line = line.chars().collect();
        if self.shown.replace(at).is_none() {
            self.draft = self.line.clone();
        }
        self.set(line, screen);
    }

    fn newer(&mut self, screen: &mut Vec<u8>) {
        let Some(at) = self.shown else {
            screen.push(BELL);
            return;
        };
        let next = self.history.get(at + 1).map(|line| line.chars().collect());
        self.shown = next.is_some().then_some(at + 1);
        let line = next.unwrap_or_else(|| core::mem::take(&mut self.draft));
        self.set(line, screen);
    }

    /// The line is whole.
    fn finish(&mut self, screen: &mut Vec<u8>) -> String {
        let line: String = self.line.iter().collect();
        if self.cursor < self.line.len() {
            self.go(self.line.len(), screen);
        }
        self.forget(screen);
        if !line.trim().is_empty() && self.history.back() != Some(&line) {
            self.history.push_back(line.clone());
        }
        while self.history.len() > HISTORY || self.history.iter().map(String::len).sum::<usize>() > HISTORY_BYTES {
            self.history.pop_front();
        }
        line
    }

    /// An empty line, on the next row, which is not drawn yet.
    fn forget(&mut self, screen: &mut Vec<u8>) {
        screen.extend(b"\r\n");
        (self.line, self.draft, self.shown) = (Vec::new(), Vec::new(), None);
        (self.bytes, self.cursor, self.first, self.drawn) = (0, 0, 0, false);
    }

    /// Takes the row off the screen: what else is shown then stands in its place.
    pub fn hide(&mut self, screen: &mut Vec<u8>) {
        if core::mem::take(&mut self.drawn) {
            screen.extend(b"\r\x1b[K");
        }
    }

    /// Leaves the row as it is: what else is shown then stands below it.
    pub fn leave(&mut self, screen: &mut Vec<u8>) {
        if core::mem::take(&mut self.drawn) {
            screen.extend(b"\r\n");
        }
    }

    /// Draws the row, with the cursor where it is.
    pub fn draw(&mut self, screen: &mut Vec<u8>) {
        // A prompt that leaves too little room is cut.
        let mut prompt: Vec<char> = self.prompt.chars().collect();
        while prompt.iter().map(|c| of(*c)).sum::<usize>() > self.columns / 2 {
            prompt.remove(0);
        }
        let taken: usize = prompt.iter().map(|c| of(*c)).sum();
        // The last column stays free, so that no terminal wraps.
        let room = self.columns.saturating_sub(taken + 1).max(1);
        let width = |from: usize, to: usize| -> usize {
            self.line.get(from..to).unwrap_or_default().iter().map(|c| of(*c)).sum()
        };
        self.first = self.first.min(self.cursor);
        if width(self.first, self.cursor) > room {
            // As far to the left as lets the cursor be in the middle.
            while width(self.first, self.cursor) > room / 2 {
                self.first += 1;
            }
        } else {
            // What fits from further left is shown, when there was something removed.
            while self.first > 0 && width(self.first - 1, self.line.len()) <= room {
                self.first -= 1;
            }
        }
        let mut shown = self.first;
        while shown < self.line.len() && width(self.first, shown + 1) <= room {
            shown += 1;
        }
        let back = width(self.cursor, shown);
        let mut text = String::from("\r");
        text.extend(prompt);
        text.extend(self.line.get(self.first..shown).unwrap_or_default());
        text.push_str("\x1b[K");
        if back != 0 {
            text.push_str(&alloc::format!("\x1b[{back}D"));
        }
        screen.extend(text.as_bytes());
        self.drawn = true;
    }
}

#[cfg(test)]
#[path = "editor_tests.rs"]
mod tests;
