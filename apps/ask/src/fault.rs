//! Why there is no answer.

use core::fmt;

/// Bytes of a response's line and headers at most.
pub const MAX_HEAD: usize = 8192;
/// Headers at most.
pub const MAX_HEADERS: usize = 64;

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection failed.
    Net(ilwaco::net::Error),
    /// The server took too long.
    Silence,
    /// What came is no HTTP response.
    NoHttp,
    /// Its line and headers are more bytes than are read, or there are more headers.
    Large,
    /// It is encoded for transfer, and not in chunks.
    Encoded,
    /// It ended too early.
    Short,
}

impl From<ilwaco::net::Error> for Fault {
    fn from(error: ilwaco::net::Error) -> Fault {
        Fault::Net(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Net(error) => error.fmt(f),
            Fault::Silence => f.write_str("the server took too long"),
            Fault::NoHttp => f.write_str("what came is no HTTP response"),
            Fault::Large => {
                write!(f, "the response's line and headers are more than {MAX_HEAD} bytes, or more than {MAX_HEADERS}")
            }
            Fault::Encoded => {
                f.write_str("the response is encoded for transfer, and not in chunks, which alone are understood here")
            }
            Fault::Short => f.write_str("the response ended too early"),
        }
    }
}
