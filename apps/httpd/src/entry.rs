//! What a tree has for a request.

use crate::condition::Verdict;
use crate::date;
use crate::kind;
use alloc::format;
use alloc::string::String;
use core::fmt::Write;
use file_tree::File;

/// What was found.
pub enum Found {
    /// A file, and what the request's conditions come to.
    File(Entry, Verdict),
    /// A directory, which is to be asked for at this place, with its slash.
    Moved(String),
}

/// A file that can be served.
pub struct Entry {
    /// The file.
    pub file: File,
    /// The type of its content.
    pub kind: &'static str,
    /// Its entity tag, with its quotes.
    pub etag: String,
    /// When it was changed last, Unix seconds.
    pub changed: u64,
}

impl Entry {
    /// A file of the name that `path` ends with, in the tree of this id.
    pub fn new(file: File, path: &[u8], tree: u64) -> Entry {
        let changed = u64::try_from(file.modified().0).unwrap_or(0);
        let (seconds, nanoseconds) = file.modified();
        // The tree's id makes it strong: who makes another tree gives it another one, even if a file's size and time are the same.
        let etag = format!("\"{tree:x}-{:x}-{:x}-{seconds:x}.{nanoseconds:x}\"", file.inode(), file.len());
        Entry { file, kind: kind::of(path), etag, changed }
    }

    /// Bytes of it.
    pub fn len(&self) -> usize {
        usize::try_from(self.file.len()).unwrap_or(usize::MAX)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Headers of every answer about it at this time (Unix seconds), each with a line's end in front.
    pub fn headers(&self, now: u64) -> String {
        // What is there is worth asking for whether it is still the same.
        let mut headers = format!("\r\nETag: {}\r\nAccept-Ranges: bytes\r\nCache-Control: no-cache", self.etag);
        // Nobody is told of a change to come (RFC 9110, section 8.8.2.1), by a clock that is wrong or by a file's.
        if self.changed <= now {
            headers.push_str("\r\nLast-Modified: ");
            headers.push_str(core::str::from_utf8(&date::format(self.changed)).unwrap_or(""));
        }
        headers
    }

    /// The header that says which part of it an answer has; `None`: that it has no such part.
    pub fn range(&self, part: Option<(usize, usize)>) -> String {
        let mut header = String::from("\r\nContent-Range: bytes ");
        // Writing to a `String` does not fail.
        let _ = match part {
            Some((start, end)) => write!(header, "{start}-{}", end.saturating_sub(1)),
            None => write!(header, "*"),
        };
        let _ = write!(header, "/{}", self.len());
        header
    }
}
