//! One line of text in a buffer of fixed size.

use abi::limits::LOG_LINE_BYTES;

/// A line that is cut, not refused, when it gets too long.
pub struct Line {
    bytes: [u8; LOG_LINE_BYTES],
    len: usize,
}

impl Line {
    /// The empty line.
    pub const fn new() -> Self {
        Line { bytes: [0; LOG_LINE_BYTES], len: 0 }
    }

    /// What was written so far.
    pub fn as_bytes(&self) -> &[u8] {
        // No index that could panic: a panic is told by a line.
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Write for Line {
    /// Appends as much as fits; line breaks become spaces, since a line is one record of the log.
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for (to, from) in self.bytes.iter_mut().skip(self.len).zip(text.bytes()) {
            *to = if from == b'\n' || from == b'\r' { b' ' } else { from };
            self.len += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write;

    #[test]
    fn long_lines_are_cut_and_breaks_become_spaces() {
        let mut line = Line::new();
        write!(line, "a\nb {}", 7).expect("never fails");
        assert_eq!(line.as_bytes(), b"a b 7");
        for _ in 0..LOG_LINE_BYTES {
            line.write_str("xy").expect("never fails");
        }
        assert_eq!(line.as_bytes().len(), LOG_LINE_BYTES);
        assert!(line.as_bytes().starts_with(b"a b 7xyxy"));
    }
}
