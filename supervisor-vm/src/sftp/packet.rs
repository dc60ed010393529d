//! Packets of SFTP, version 3 (draft-ietf-secsh-filexfer-02): what a client asks, and what it is answered. Pure.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Bytes of a packet at most: clients write 32 KiB at a time.
pub const MOST: usize = 64 * 1024;
/// Bytes that are read at once, at most.
pub const READ_MOST: usize = 32 * 1024;
/// Bit of [`Ask::Open`]: the file is to be written.
pub const WRITE: u32 = 2;

/// What came of something (section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Status {
    Ok = 0,
    End = 1,
    NoSuchFile = 2,
    Denied = 3,
    Failure = 4,
    Unsupported = 8,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Ask<'p> {
    /// Which version is spoken.
    Init,
    Open {
        path: &'p [u8],
        flags: u32,
    },
    Close,
    Write {
        offset: u64,
        data: &'p [u8],
    },
    Read {
        offset: u64,
        len: u32,
    },
    OpenFolder {
        path: &'p [u8],
    },
    ReadFolder,
    Remove {
        path: &'p [u8],
    },
    /// What there is at a path; of the open file, whose handle has no path, `None`.
    Stat {
        path: Option<&'p [u8]>,
    },
    /// Dates and modes, of which nothing is kept.
    SetStat,
    RealPath {
        path: &'p [u8],
    },
    Other,
}

struct Reader<'p>(&'p [u8]);

impl<'p> Reader<'p> {
    fn take(&mut self, count: usize) -> Option<&'p [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(*self.take(4)?.as_array()?))
    }

    fn string(&mut self) -> Option<&'p [u8]> {
        let count = usize::try_from(self.number()?).ok()?;
        self.take(count)
    }
}

/// Bytes of the first packet behind its length, and those of what follows it. `Some(None)`: not all of it is there yet. `None`: it is none.
#[allow(clippy::option_option)]
pub fn split(bytes: &[u8]) -> Option<Option<(usize, usize)>> {
    let Some(length) = bytes.first_chunk::<4>() else { return Some(None) };
    let length = usize::try_from(u32::from_be_bytes(*length)).ok().filter(|length| (1..=MOST).contains(length))?;
    Some((bytes.len() >= 4 + length).then_some((4, 4 + length)))
}

/// What a packet asks, and its number; `None` for what makes no sense.
pub fn parse(packet: &[u8]) -> Option<(u32, Ask<'_>)> {
    let mut reader = Reader(packet);
    let kind = reader.take(1)?.first()?;
    // Of the first packet it is the version.
    let id = reader.number()?;
    let ask = match kind {
        1 => Ask::Init,
        3 => Ask::Open { path: reader.string()?, flags: reader.number()? },
        4 => Ask::Close,
        5 => {
            reader.string()?;
            Ask::Read { offset: u64::from_be_bytes(*reader.take(8)?.as_array()?), len: reader.number()? }
        }
        11 => Ask::OpenFolder { path: reader.string()? },
        12 => Ask::ReadFolder,
        13 => Ask::Remove { path: reader.string()? },
        6 => {
            reader.string()?;
            let offset = u64::from_be_bytes(*reader.take(8)?.as_array()?);
            Ask::Write { offset, data: reader.string()? }
        }
        7 | 17 => Ask::Stat { path: Some(reader.string()?) },
        8 => Ask::Stat { path: None },
        9 | 10 => Ask::SetStat,
        16 => Ask::RealPath { path: reader.string()? },
        _ => Ask::Other,
    };
    Some((id, ask))
}

fn number(to: &mut Vec<u8>, value: u32) {
    to.extend(value.to_be_bytes());
}

fn string(to: &mut Vec<u8>, text: &[u8]) {
    number(to, u32::try_from(text.len()).unwrap_or(0));
    to.extend(text);
}

fn packet(kind: u8, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::from([0, 0, 0, 0, kind]);
    fill(&mut bytes);
    let length = u32::try_from(bytes.len() - 4).unwrap_or(0);
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

/// That version 3 is spoken.
pub fn version() -> Vec<u8> {
    packet(2, |bytes| number(bytes, 3))
}

/// What came of it, and a word about that.
pub fn status(id: u32, status: Status, text: &str) -> Vec<u8> {
    packet(101, |bytes| {
        number(bytes, id);
        number(bytes, status as u32);
        string(bytes, text.as_bytes());
        string(bytes, b"en");
    })
}

/// The file is open.
pub fn handle(id: u32) -> Vec<u8> {
    packet(102, |bytes| {
        number(bytes, id);
        string(bytes, b"file");
    })
}

/// The one name of a path.
pub fn name(id: u32, path: &str) -> Vec<u8> {
    packet(104, |bytes| {
        number(bytes, id);
        number(bytes, 1);
        string(bytes, path.as_bytes());
        string(bytes, path.as_bytes());
        number(bytes, 0);
    })
}

/// What is known of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in its folder.
    pub name: String,
    /// Bytes of a file, where they are known.
    pub bytes: Option<u64>,
    /// It is a folder.
    pub is_folder: bool,
}

impl Entry {
    /// A folder.
    pub fn folder(name: &str) -> Entry {
        Entry { name: name.to_string(), bytes: None, is_folder: true }
    }

    /// A file.
    pub fn file(name: &str, bytes: Option<u64>) -> Entry {
        Entry { name: name.to_string(), bytes, is_folder: false }
    }

    fn put(&self, to: &mut Vec<u8>) {
        // Its size, where it is known, and its mode.
        number(to, if self.bytes.is_some() { 5 } else { 4 });
        if let Some(bytes) = self.bytes {
            to.extend(bytes.to_be_bytes());
        }
        number(to, if self.is_folder { 0o40_755 } else { 0o100_644 });
    }

    /// As `ls -l` shows it.
    fn line(&self) -> String {
        let mode = if self.is_folder { "drwxr-xr-x" } else { "-rw-r--r--" };
        let bytes = self.bytes.map_or_else(|| "?".to_string(), |bytes| bytes.to_string());
        format!("{mode} 1 admin admin {bytes:>10} Jan  1 00:00 {}", self.name)
    }
}

/// What is at a path.
pub fn attributes(id: u32, entry: &Entry) -> Vec<u8> {
    packet(105, |bytes| {
        number(bytes, id);
        entry.put(bytes);
    })
}

/// What is in a folder.
pub fn names(id: u32, entries: &[Entry]) -> Vec<u8> {
    packet(104, |bytes| {
        number(bytes, id);
        number(bytes, u32::try_from(entries.len()).unwrap_or(0));
        for entry in entries {
            string(bytes, entry.name.as_bytes());
            string(bytes, entry.line().as_bytes());
            entry.put(bytes);
        }
    })
}

/// A piece of a file.
pub fn data(id: u32, piece: &[u8]) -> Vec<u8> {
    packet(103, |bytes| {
        number(bytes, id);
        string(bytes, piece);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn packets_are_what_clients_send() {
        // As OpenSSH's scp sends them.
        let init = [0, 0, 0, 5, 1, 0, 0, 0, 3];
        assert_eq!(split(&init), Some(Some((4, 9))));
        assert_eq!(parse(&init[4..]), Some((3, Ask::Init)));
        let open = [&[3, 0, 0, 0, 7, 0, 0, 0, 4][..], b"shop", &[0, 0, 0, 0x1a, 0, 0, 0, 4, 0, 0, 1, 0xa4]].concat();
        assert_eq!(parse(&open), Some((7, Ask::Open { path: b"shop", flags: 0x1a })));
        let write = [&[6, 0, 0, 0, 8, 0, 0, 0, 1, b'h', 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2][..], b"ab"].concat();
        assert_eq!(parse(&write), Some((8, Ask::Write { offset: 256, data: b"ab" })));
        assert_eq!(parse(&write[..write.len() - 1]), None);
        assert_eq!(
            (split(&[0, 0]), split(&[0, 0, 0, 2, 1]), split(&[0; 4]), split(&[0, 2, 0, 0])),
            (Some(None), Some(None), None, None)
        );
        assert_eq!(
            status(1, Status::Failure, "no"),
            [&[0, 0, 0, 21, 101, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 2][..], b"no", &[0, 0, 0, 2], b"en"].concat()
        );
        assert_eq!(version(), [0, 0, 0, 5, 2, 0, 0, 0, 3]);
    }

    #[test]
    fn what_is_read_has_its_numbers() {
        let read = [5, 0, 0, 0, 9, 0, 0, 0, 1, b'h', 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 128, 0];
        assert_eq!(parse(&read), Some((9, Ask::Read { offset: 2, len: 32_768 })));
        assert_eq!(parse(&read[..read.len() - 1]), None);
        for (kind, ask) in [(11, Ask::OpenFolder { path: b"a" }), (13, Ask::Remove { path: b"a" })] {
            assert_eq!(parse(&[kind, 0, 0, 0, 1, 0, 0, 0, 1, b'a']), Some((1, ask)));
        }
        assert_eq!(data(1, b"xy"), [&[0, 0, 0, 11, 103, 0, 0, 0, 1, 0, 0, 0, 2][..], b"xy"].concat());
        let (file, folder) = (Entry::file("shop", Some(258)), Entry::folder("images"));
        assert_eq!(attributes(2, &folder), [0, 0, 0, 13, 105, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0x41, 0xed]);
        let known = [0, 0, 0, 21, 105, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0x81, 0xa4];
        assert_eq!(attributes(2, &file), known);
        assert_eq!(file.line(), "-rw-r--r-- 1 admin admin        258 Jan  1 00:00 shop");
        assert_eq!(names(3, &[]), [0, 0, 0, 9, 104, 0, 0, 0, 3, 0, 0, 0, 0]);
        let both = names(3, &[file, folder]);
        assert_eq!((both[12], usize::from(both[2]) << 8 | usize::from(both[3])), (2, both.len() - 4));
    }

    proptest! {
        #[test]
        fn nothing_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(Some((from, to))) = split(&bytes) {
                prop_assert!(to <= bytes.len() && from < to);
            }
            parse(&bytes);
        }
    }
}
