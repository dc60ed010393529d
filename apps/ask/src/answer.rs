//! What a server says. It is believed only as far as it can be checked.

use alloc::vec::Vec;
use core::fmt;

/// Bytes of a response's line and headers at most.
const MAX_HEAD: usize = 4096;
/// Headers at most.
const MAX_HEADERS: usize = 32;

/// A whole response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// Bytes of the body.
    pub body_bytes: u64,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection failed.
    Net(ilwaco::net::Error),
    /// The server took too long.
    Silence,
    /// What came is no HTTP response.
    NoHttp,
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
            Fault::Short => f.write_str("the response ended too early"),
        }
    }
}

/// Reads one response.
#[derive(Debug, Default)]
pub struct Reader {
    head: Vec<u8>,
    code: Option<u16>,
    /// Bytes of the body, when the server has said so.
    length: Option<u64>,
    body: u64,
}

impl Reader {
    /// Takes bytes. The answer, when it is complete.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Option<Answer>, Fault> {
        let mut body = bytes.len();
        if self.code.is_none() {
            self.head.extend_from_slice(bytes);
            let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut response = httparse::Response::new(&mut headers);
            match response.parse(&self.head) {
                Ok(httparse::Status::Complete(len)) => {
                    self.code = response.code;
                    let length =
                        response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
                    if let Some(header) = length {
                        let text = core::str::from_utf8(header.value).map_err(|_| Fault::NoHttp)?;
                        self.length = Some(text.trim().parse().map_err(|_| Fault::NoHttp)?);
                    }
                    body = self.head.len() - len;
                    self.head = Vec::new();
                }
                Ok(httparse::Status::Partial) if self.head.len() < MAX_HEAD => return Ok(None),
                _ => return Err(Fault::NoHttp),
            }
        }
        self.body = self.body.saturating_add(u64::try_from(body).unwrap_or(u64::MAX));
        match self.length {
            Some(length) if self.body >= length => Ok(self.answer(length)),
            _ => Ok(None),
        }
    }

    /// The server has closed the connection.
    pub fn end(self) -> Result<Answer, Fault> {
        match self.length {
            None => self.answer(self.body).ok_or(Fault::Short),
            Some(_) => Err(Fault::Short),
        }
    }

    fn answer(&self, body_bytes: u64) -> Option<Answer> {
        self.code.map(|code| Answer { code, body_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn responses() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        for cut in 0..text.len() {
            let mut reader = Reader::default();
            assert_eq!(reader.take(&text[..cut]), Ok(None), "{cut}");
            assert_eq!(reader.take(&text[cut..]), Ok(Some(Answer { code: 200, body_bytes: 5 })));
        }
        let mut reader = Reader::default();
        assert_eq!(reader.take(b"HTTP/1.0 404 Not Found\r\n\r\nsorry"), Ok(None));
        assert_eq!(reader.end(), Ok(Answer { code: 404, body_bytes: 5 }), "up to the connection's end");
    }

    #[test]
    fn what_is_refused() {
        let mut reader = Reader::default();
        assert_eq!(reader.take(b"SSH-2.0-x\r\n"), Err(Fault::NoHttp));
        let mut reader = Reader::default();
        assert_eq!(reader.take(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"), Err(Fault::NoHttp));
        let mut reader = Reader::default();
        assert_eq!(reader.take(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"), Ok(None));
        assert_eq!(reader.end(), Err(Fault::Short));
        assert_eq!(Reader::default().end(), Err(Fault::Short));
        let mut reader = Reader::default();
        let endless = [&b"HTTP/1.1 200 OK\r\nX: "[..], &[b'a'; MAX_HEAD]].concat();
        assert_eq!(reader.take(&endless), Err(Fault::NoHttp));
    }

    proptest! {
        #[test]
        fn any_bytes(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..20)) {
            let mut reader = Reader::default();
            for piece in pieces {
                if reader.take(&piece).is_err() {
                    break;
                }
                prop_assert!(reader.head.len() <= MAX_HEAD + 600);
            }
        }
    }
}
