//! Bodies in chunks (RFC 9112, section 7.1). They are read up to their end, of requests and of answers alike; what they hold is for
//! the caller to keep; how many bytes that are is counted.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

/// Bytes of a chunk's line, extensions included, and of a trailer's line.
const MAX_LINE: usize = 1024;
/// Lines of trailers.
const MAX_TRAILERS: usize = 32;

/// What is wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not in chunks.
    Malformed,
    /// It is longer than allowed.
    TooLarge,
}

/// Where in the body the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Into the size of a chunk; the number of its digits so far.
    Size(usize),
    /// Behind the size, up to the line's end.
    Extension,
    /// The line feed after the carriage return of a chunk's line.
    SizeEnd,
    /// Into a chunk.
    Data,
    /// Behind a chunk: a carriage return, or a line feed if that has come.
    DataEnd { returned: bool },
    /// Into a trailer's line, of which so many bytes have come.
    Trailer(usize),
    /// The line feed after the carriage return of a trailer's line; an empty one is the body's end.
    TrailerEnd { empty: bool },
    /// Nothing more belongs to it.
    Over,
}

/// Reads one body.
#[derive(Clone, Debug)]
pub struct Chunked {
    place: Place,
    /// Bytes that are still to come of this chunk.
    left: usize,
    /// Bytes that further chunks may have.
    allowed: usize,
    /// Bytes of chunks that have come.
    data: u64,
    line: usize,
    trailers: usize,
}

impl Chunked {
    /// The start of a body of `allowed` bytes at most.
    pub fn new(allowed: usize) -> Chunked {
        Chunked { place: Place::Size(0), left: 0, allowed, data: 0, line: 0, trailers: 0 }
    }

    /// True at the body's end.
    pub fn is_over(&self) -> bool {
        self.place == Place::Over
    }

    /// Bytes of what the chunks hold that have come.
    pub fn data(&self) -> u64 {
        self.data
    }

    /// Takes bytes of the body. How many; fewer than there are at its end only.
    ///
    /// # Errors
    /// See [`Fault`]. Where another request could start is not known then.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut taken = 0;
        while taken < bytes.len() && !self.is_over() {
            if self.place == Place::Data {
                let len = self.left.min(bytes.len() - taken);
                taken += len;
                self.left -= len;
                self.data = self.data.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
                if self.left == 0 {
                    self.place = Place::DataEnd { returned: false };
                }
            } else {
                self.byte(bytes[taken])?;
                taken += 1;
            }
        }
        Ok(taken)
    }

    fn byte(&mut self, byte: u8) -> Result<(), Fault> {
        self.line += 1;
        if self.line > MAX_LINE {
            return Err(Fault::Malformed);
        }
        self.place = match (self.place, byte) {
            (Place::Size(digits), _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).and_then(|digit| usize::try_from(digit).ok()).unwrap_or(0);
                self.left = self.left.saturating_mul(16).saturating_add(digit);
                if self.left > self.allowed {
                    return Err(Fault::TooLarge);
                }
                Place::Size(digits + 1)
            }
            (Place::Size(0), _) => return Err(Fault::Malformed),
            (Place::Size(_) | Place::Extension, b'\r') => Place::SizeEnd,
            // Space before an extension is bad, but harmless.
            (Place::Size(_), b';' | b' ' | b'\t') => Place::Extension,
            // A line feed alone could end the line for one reader and not for another.
            (Place::Extension, 0x20..=0x7e | b'\t' | 0x80..) => Place::Extension,
            (Place::SizeEnd, b'\n') => {
                self.line = 0;
                self.allowed -= self.left;
                if self.left == 0 { Place::Trailer(0) } else { Place::Data }
            }
            (Place::DataEnd { returned: false }, b'\r') => Place::DataEnd { returned: true },
            (Place::DataEnd { returned: true }, b'\n') => {
                self.line = 0;
                Place::Size(0)
            }
            (Place::Trailer(len), b'\r') => Place::TrailerEnd { empty: len == 0 },
            (Place::Trailer(len), 0x20..=0x7e | b'\t' | 0x80..) => Place::Trailer(len + 1),
            (Place::TrailerEnd { empty: true }, b'\n') => Place::Over,
            (Place::TrailerEnd { empty: false }, b'\n') => {
                self.line = 0;
                self.trailers += 1;
                if self.trailers > MAX_TRAILERS {
                    return Err(Fault::Malformed);
                }
                Place::Trailer(0)
            }
            _ => return Err(Fault::Malformed),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_the_chunks_hold_is_counted() {
        let text = b"5\r\nhello\r\n00A;name=value\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nmore";
        for cut in 0..text.len() {
            let mut body = Chunked::new(usize::MAX);
            for part in [&text[..cut], &text[cut..]] {
                body.take(part).expect("good");
            }
            assert_eq!((body.is_over(), body.data()), (true, 15), "{cut}");
        }
    }

    fn whole(text: &str) -> Result<(usize, bool), Fault> {
        let mut body = Chunked::new(4096);
        let taken = body.take(text.as_bytes())?;
        Ok((taken, body.is_over()))
    }

    #[test]
    fn bodies() {
        for text in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "000A;name=value;other=\"x y\"\r\n0123456789\r\n00\r\n\r\n",
            "1 ; a\r\nx\r\n0\r\nTrailer: a\r\nOther: b\r\n\r\n",
        ] {
            assert_eq!(whole(text), Ok((text.len(), true)), "{text:?}");
            assert_eq!(whole(&format!("{text}GET /")), Ok((text.len(), true)), "and what follows stays");
            for cut in 0..text.len() {
                assert_eq!(whole(&text[..cut]), Ok((cut, false)), "{text:?} up to {cut}");
            }
        }
    }

    #[test]
    fn what_is_refused() {
        for text in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "0x5\r\n",
            "5\nhello",
            "5\r\nhello!",
            "5\r\nhello\n",
            "1\r\r\n",
            "0\r\na\nb",
            "1;\n",
            "1;a\0",
            ";a\r\n",
        ] {
            assert_eq!(whole(text), Err(Fault::Malformed), "{text:?}");
        }
        assert_eq!(whole(&format!("1;{}", "a".repeat(MAX_LINE))), Err(Fault::Malformed));
        assert_eq!(whole(&format!("{}1\r\n", "0".repeat(MAX_LINE))), Err(Fault::Malformed));
        assert_eq!(whole(&format!("0\r\n{}", "a: b\r\n".repeat(MAX_TRAILERS + 1))), Err(Fault::Malformed));
        for text in ["1001\r\n", "ffffffffffffffffffffff\r\n"] {
            assert_eq!(whole(text), Err(Fault::TooLarge), "{text:?}");
        }
        let two = format!("800\r\n{}\r\n801\r\n", "x".repeat(0x800));
        assert_eq!(whole(&two), Err(Fault::TooLarge), "together");
    }

    proptest! {
        #[test]
        fn however_it_is_cut(chunks in prop::collection::vec(1usize..200, 0..8), cuts in prop::collection::vec(1usize..50, 1..100)) {
            let mut text = String::new();
            for len in &chunks {
                text += &format!("{len:X}\r\n{}\r\n", "\n".repeat(*len));
            }
            text += "0\r\n\r\n";
            let mut body = Chunked::new(4096);
            let mut rest = text.as_bytes();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let piece = &rest[..rest.len().min(*cut)];
                prop_assert!(!body.is_over());
                prop_assert_eq!(body.take(piece), Ok(piece.len()));
                rest = &rest[piece.len()..];
            }
            prop_assert!(body.is_over());
        }

        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut body = Chunked::new(64);
            if let Ok(taken) = body.take(&bytes) {
                prop_assert!(taken <= bytes.len() && (taken == bytes.len() || body.is_over()));
            }
        }

        #[test]
        fn nearly_a_body(text in "([0-9a-f]{1,2}(;[ -~]{0,4})?\r?\n?[a-z]{0,20}\r?\n?){0,6}0?\r?\n?\r?\n?") {
            let mut body = Chunked::new(4096);
            let bytes: Vec<u8> = text.into_bytes();
            let _ = body.take(&bytes);
        }
    }
}
