//! What there is to be fetched.

use crate::target::{self, Malformed};
use crate::text::Text;
use ilwaco::net::{Repeated, Summed, block_sums};

/// A document of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// A page that names the VM and shows its figures.
    Index,
    /// The state of the VM, as text or JSON.
    Status,
    /// The state of the VM as JSON.
    StatusJson,
    /// One that never changes.
    Constant(&'static Constant),
}

impl Document {
    /// The document at a path, which begins with `/` and has no query.
    ///
    /// # Errors
    /// The path has a percent sign with nothing behind it that it could mean.
    pub fn at(path: &str) -> Result<Option<Document>, Malformed> {
        match Document::named(path) {
            None if path.contains('%') => Ok(Document::named(target::decode(path)?.path())),
            named => Ok(named),
        }
    }

    fn named(path: &str) -> Option<Document> {
        Some(match path {
            "/100b" => Document::Constant(&BYTES_100),
            "/2258b" => Document::Constant(&BYTES_2258),
            "/10k" => Document::Constant(&BYTES_10K),
            "/50k" => Document::Constant(&BYTES_50K),
            "/100k" => Document::Constant(&BYTES_100K),
            "/1000k" => Document::Constant(&BYTES_1000K),
            "/" => Document::Index,
            "/status" => Document::Status,
            "/status.json" => Document::StatusJson,
            "/foraker.css" => Document::Constant(&STYLE),
            "/foraker.js" => Document::Constant(&SCRIPT),
            "/favicon.svg" => Document::Constant(&ICON),
            "/favicon.ico" => Document::Constant(&ICON_OF_PIXELS),
            _ => return None,
        })
    }
}

/// A document that never changes: some bytes, once or several times.
#[derive(Debug)]
pub struct Constant {
    piece: &'static [u8],
    summed: Summed,
    pieces: usize,
    /// Its entity tag, with its quotes.
    etag: Text<10>,
    /// The headers that it has in every whole answer, each with a line's end in front.
    headers: Text<160>,
    /// Of those, what also an answer without the whole document has.
    common: Text<128>,
}

impl PartialEq for Constant {
    fn eq(&self, other: &Constant) -> bool {
        core::ptr::eq(self, other)
    }
}

impl Eq for Constant {}

impl Constant {
    const fn new(piece: &'static [u8], pieces: usize, content_type: &str, caching: &str) -> Constant {
        let etag = Text::of(b"\"").and_hex(fingerprint(piece, pieces)).and(b"\"");
        let mut common = Text::of(b"\r\nETag: \"").and_hex(fingerprint(piece, pieces)).and(b"\"");
        common = common.and(caching.as_bytes());
        let headers = Text::of(b"\r\nContent-Type: ")
            .and(content_type.as_bytes())
            .and(b"\r\nETag: \"")
            .and_hex(fingerprint(piece, pieces))
            .and(b"\"")
            .and(caching.as_bytes())
            .and(b"\r\nContent-Length: ")
            .and_number(piece.len() * pieces);
        Constant { piece, summed: Summed::none(piece), pieces, etag, headers, common }
    }

    /// The same document, with sums of its beginnings.
    const fn summed<const N: usize>(self, sums: &'static [u16; N]) -> Constant {
        let Constant { piece, pieces, etag, headers, common, .. } = self;
        Constant { piece, summed: Summed::new(piece, sums), pieces, etag, headers, common }
    }

    /// Its bytes.
    pub fn len(&self) -> usize {
        self.piece.len() * self.pieces
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its entity tag.
    pub fn etag(&self) -> &str {
        core::str::from_utf8(self.etag.bytes()).unwrap_or("")
    }

    /// Headers of an answer with all of it, each with a line's end in front.
    pub fn headers(&self) -> &[u8] {
        self.headers.bytes()
    }

    /// Headers of every answer about it.
    pub fn common_headers(&self) -> &[u8] {
        self.common.bytes()
    }

    /// The bytes from `start` up to `end`, for a connection to send.
    pub fn repeated(&self, start: usize, end: usize) -> Repeated {
        Repeated::new(self.summed, start, end.min(self.len()))
    }

    /// The bytes from `start` up to `end`, as far as they lie in one piece: at least one, while there are any.
    pub fn bytes(&self, start: usize, end: usize) -> &'static [u8] {
        let from = start % self.piece.len();
        let len = end.min(self.len()).saturating_sub(start).min(self.piece.len() - from);
        self.piece.get(from..from + len).unwrap_or(&[])
    }
}

/// FNV-1a (Fowler, Noll, Vo): tells contents apart, and is not meant to withstand who wants two to look alike.
const fn fingerprint(piece: &[u8], pieces: usize) -> u32 {
    let mut sum: u32 = 0x811c_9dc5;
    const PRIME: u32 = 0x0100_0193;
    let mut i = 0;
    while i < piece.len() {
        sum = (sum ^ piece[i] as u32).wrapping_mul(PRIME);
        i += 1;
    }
    i = 1;
    while i < pieces {
        sum = sum.wrapping_mul(PRIME);
        i += 1;
    }
    sum
}

/// When a constant document was changed last, in Unix seconds and as a header. The test below tells when that is.
pub const CHANGED: u64 = 1_795_824_000;
/// See [`CHANGED`].
pub const LAST_MODIFIED: &[u8] = b"\r\nLast-Modified: Sat, 28 Nov 2026 00:00:00 GMT";

/// What is worth asking for whether it is still the same: another version of this program may serve another one.
const ASK: &str = "\r\nCache-Control: no-cache";

static BYTES_100: Constant = Constant::new(PATTERN.split_at(100).0, 1, "text/plain", "");
static BYTES_2258: Constant = Constant::new(&PATTERN, 1, "text/plain", "");
static BYTES_10K: Constant = Constant::new(PATTERN.split_at(2048).0, 5, "text/plain", "").summed(&SUMS_2048);
static BYTES_50K: Constant = Constant::new(PATTERN.split_at(2048).0, 25, "text/plain", "").summed(&SUMS_2048);
static BYTES_100K: Constant = Constant::new(PATTERN.split_at(2048).0, 50, "text/plain", "").summed(&SUMS_2048);
static BYTES_1000K: Constant = Constant::new(PATTERN.split_at(2048).0, 500, "text/plain", "").summed(&SUMS_2048);
static STYLE: Constant = Constant::new(include_bytes!("../site/foraker.css"), 1, "text/css; charset=utf-8", ASK);
static SCRIPT: Constant = Constant::new(include_bytes!("../site/foraker.js"), 1, "text/javascript; charset=utf-8", ASK);
static ICON: Constant = Constant::new(include_bytes!("../site/favicon.svg"), 1, "image/svg+xml", ASK);
static ICON_OF_PIXELS: Constant =
    Constant::new(include_bytes!("../site/favicon.ico"), 1, "image/vnd.microsoft.icon", ASK);

/// Bytes of the longest document without meaning but for those of several pieces, as in Denali's experiments (OSDI 2002).
const LEN_2258: usize = 2258;

/// Lines of 63 characters and a line feed.
static PATTERN: [u8; LEN_2258] = pattern();

/// Of the piece that the largest document is made of.
static SUMS_2048: [u16; 129] = block_sums(&PATTERN);

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::date;
    use std::string::String;
    use std::vec::Vec;

    static ALL: [&Constant; 10] = [
        &BYTES_100,
        &BYTES_2258,
        &BYTES_10K,
        &BYTES_50K,
        &BYTES_100K,
        &BYTES_1000K,
        &STYLE,
        &SCRIPT,
        &ICON,
        &ICON_OF_PIXELS,
    ];

    fn whole(constant: &Constant) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < constant.len() {
            bytes.extend_from_slice(constant.bytes(bytes.len(), usize::MAX));
        }
        bytes
    }

    #[test]
    fn sizes_and_lines() {
        for (constant, len) in [(&BYTES_100, 100), (&BYTES_2258, 2258), (&BYTES_100K, 102_400)] {
            let bytes = whole(constant);
            assert_eq!(bytes.len(), len);
            assert!(bytes.iter().all(|&byte| byte == b'\n' || byte.is_ascii_graphic() || byte == b' '));
        }
        assert!(BYTES_100K.bytes(0, usize::MAX).ends_with(b"\n"));
    }

    #[test]
    fn parts_are_parts_of_the_whole() {
        for constant in ALL {
            let bytes = whole(constant);
            for (start, end) in [(0, 1), (0, 100), (99, 100), (40, 2050), (2040, 2060), (2048, 4096), (5, 102_400)] {
                let end = end.min(bytes.len());
                let mut at = start;
                while at < end {
                    let piece = constant.bytes(at, end);
                    assert!(!piece.is_empty() && *piece == bytes[at..at + piece.len()]);
                    at += piece.len();
                }
            }
        }
    }

    #[test]
    fn headers() {
        let text = String::from_utf8(BYTES_100K.headers().to_vec()).expect("text");
        assert!(text.starts_with("\r\nContent-Type: text/plain\r\nETag: \""));
        assert!(text.ends_with("\r\nContent-Length: 102400") && text.contains(BYTES_100K.etag()));
        assert_eq!(BYTES_100K.etag().len(), 10);
    }

    #[test]
    fn whoever_changes_a_document_changes_its_date() {
        // When this fails: set CHANGED and LAST_MODIFIED to today, then correct the value here.
        let tags: String = ALL.iter().map(|constant| constant.etag()).collect();
        assert_eq!(fingerprint(tags.as_bytes(), 1), 2_363_589_815);
        assert_eq!(LAST_MODIFIED.strip_prefix(b"\r\nLast-Modified: "), Some(&date::format(CHANGED)[..]));
    }

    #[test]
    fn tags_differ() {
        let mut tags: Vec<&str> = ALL.iter().map(|constant| constant.etag()).collect();
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), ALL.len());
    }

    #[test]
    fn paths() {
        assert_eq!(Document::at("/"), Ok(Some(Document::Index)));
        assert_eq!(Document::at("/100k"), Ok(Some(Document::Constant(&BYTES_100K))));
        assert_eq!(Document::at("/%3100k"), Ok(Some(Document::Constant(&BYTES_100K))));
        assert_eq!(Document::at("/%s"), Err(Malformed));
        for path in ["", "//", "/100", "/100b/", "/STATUS", "status", "/../100b", "/100b\0", "/%2f100b"] {
            assert_eq!(Document::at(path), Ok(None), "{path}");
        }
    }
}
