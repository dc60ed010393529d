//! What there is to be fetched.

/// A document of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// A page that names the VM.
    Index,
    /// 100 bytes.
    Bytes100,
    /// 2,258 bytes, as in Denali's experiments (OSDI 2002).
    Bytes2258,
    /// 102,400 bytes.
    Bytes100k,
    /// The state of the VM, as text or JSON.
    Status,
    /// The state of the VM as JSON.
    StatusJson,
}

impl Document {
    /// The document at a path, which begins with `/` and has no query.
    pub fn at(path: &str) -> Option<Document> {
        Some(match path {
            "/100b" => Document::Bytes100,
            "/2258b" => Document::Bytes2258,
            "/100k" => Document::Bytes100k,
            "/" => Document::Index,
            "/status" => Document::Status,
            "/status.json" => Document::StatusJson,
            _ => return None,
        })
    }
}

/// Bytes of a piece of the documents that have no other content than their size.
pub const PIECE: usize = 2048;
/// Pieces of [`Document::Bytes100k`].
pub const PIECES_OF_100K: usize = 50;
/// Bytes of [`Document::Bytes2258`].
pub const LEN_2258: usize = 2258;
/// Bytes of [`Document::Bytes100`].
pub const LEN_100: usize = 100;

/// Lines of 63 characters and a line feed. Large enough for [`Document::Bytes2258`]; its first [`PIECE`] bytes are whole lines.
static PATTERN: [u8; LEN_2258] = pattern();

const fn pattern() -> [u8; LEN_2258] {
    const LINE: &[u8; 64] =
        b"Foraker serves this line to whoever asks for bytes of no meaning\n".first_chunk().unwrap();
    let mut bytes = [b'\n'; LEN_2258];
    let mut i = 0;
    while i < LEN_2258 - 1 {
        if i % 64 != 63 {
            bytes[i] = LINE[i % 64];
        }
        i += 1;
    }
    bytes
}

/// The first `len` bytes of the documents without meaning, at most [`LEN_2258`].
pub fn bytes(len: usize) -> &'static [u8] {
    PATTERN.get(..len).unwrap_or(&PATTERN)
}

const _: () = assert!(PIECE * PIECES_OF_100K == 102_400 && PIECE.is_multiple_of(64) && PIECE <= LEN_2258);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_lines() {
        assert_eq!(bytes(LEN_100).len(), 100);
        assert_eq!(bytes(LEN_2258).len(), 2258);
        assert!(bytes(PIECE).ends_with(b"\n"));
        assert!(bytes(LEN_2258).iter().all(|&byte| byte == b'\n' || byte.is_ascii_graphic() || byte == b' '));
    }

    #[test]
    fn paths() {
        assert_eq!(Document::at("/"), Some(Document::Index));
        assert_eq!(Document::at("/100k"), Some(Document::Bytes100k));
        for path in ["", "//", "/100", "/100b/", "/STATUS", "status", "/../100b", "/100b\0"] {
            assert_eq!(Document::at(path), None, "{path}");
        }
    }
}
