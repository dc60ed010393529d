//! A body in chunks (RFC 9112, section 7.1), of which only the length matters.

use super::fault::Fault;
use alloc::vec::Vec;

/// Bytes of a chunk's or a trailer's line at most.
const MAX_LINE: usize = 1024;

/// What comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Next {
    /// A line with a chunk's size.
    #[default]
    Size,
    /// So many bytes of a chunk.
    Data(u64),
    /// The end of a chunk's last line.
    DataEnd,
    /// A line behind the last chunk; an empty one is the end.
    Trailer,
    Nothing,
}

/// Reads one body.
#[derive(Debug, Default)]
pub struct Chunks {
    next: Next,
    line: Vec<u8>,
}

impl Chunks {
    pub fn are_over(&self) -> bool {
        self.next == Next::Nothing
    }

    /// Takes bytes that have come. How many of them belong to what the chunks hold.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<u64, Fault> {
        let mut body = 0;
        while !bytes.is_empty() && !self.are_over() {
            if let Next::Data(left) = self.next {
                let here = u64::try_from(bytes.len()).unwrap_or(u64::MAX).min(left);
                bytes = bytes.get(usize::try_from(here).unwrap_or(usize::MAX)..).unwrap_or(&[]);
                body += here;
                self.next = if here == left { Next::DataEnd } else { Next::Data(left - here) };
                continue;
            }
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let (start, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
            self.line.extend_from_slice(start);
            if self.line.len() > MAX_LINE {
                return Err(Fault::NoHttp);
            }
            if end.is_some() {
                self.next = self.behind_line()?;
                self.line.clear();
            }
            bytes = rest;
        }
        Ok(body)
    }

    /// What comes behind the line that is there.
    fn behind_line(&self) -> Result<Next, Fault> {
        let line = self.line.trim_ascii_end();
        match self.next {
            Next::Size => {
                let digits = line.split(|&byte| byte == b';').next().unwrap_or(line).trim_ascii_end();
                let size = core::str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_hexdigit));
                match size.and_then(|size| u64::from_str_radix(size, 16).ok()) {
                    Some(0) => Ok(Next::Trailer),
                    Some(size) => Ok(Next::Data(size)),
                    None => Err(Fault::NoHttp),
                }
            }
            Next::DataEnd if line.is_empty() => Ok(Next::Size),
            Next::Trailer => Ok(if line.is_empty() { Next::Nothing } else { Next::Trailer }),
            _ => Err(Fault::NoHttp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_they_are_cut() {
        let text = b"5\r\nhello\r\n00A;name=value\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nmore";
        for cut in 0..text.len() {
            let mut chunks = Chunks::default();
            let body = chunks.take(&text[..cut]).expect("good") + chunks.take(&text[cut..]).expect("good");
            assert!(chunks.are_over() && body == 15, "{cut}: {body}");
        }
        for cut in 0..text.len() - 4 {
            let mut chunks = Chunks::default();
            chunks.take(&text[..cut]).expect("good");
            assert!(!chunks.are_over(), "{cut}");
        }
    }

    #[test]
    fn what_is_refused() {
        for text in ["\r\n", "x\r\n", "+5\r\nhello\r\n", "-1\r\n", "5\r\nhello!\r\n", "11111111111111111\r\n"] {
            assert_eq!(Chunks::default().take(text.as_bytes()), Err(Fault::NoHttp), "{text:?}");
        }
        assert_eq!(Chunks::default().take(&[b'0'; MAX_LINE + 1]), Err(Fault::NoHttp));
    }
}
