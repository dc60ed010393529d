//! What a server says. It is believed only as far as it can be checked.

use super::fault::{Fault, MAX_HEAD, MAX_HEADERS};
use alloc::vec::Vec;
use http_chunks::Chunked;

/// A whole response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// Bytes of the body.
    pub body_bytes: u64,
}

/// Reads one response.
#[derive(Debug, Default)]
pub struct Reader {
    head: Vec<u8>,
    code: Option<u16>,
    /// Bytes of the body, when the server has said so.
    length: Option<u64>,
    /// What the server sends in chunks.
    chunks: Option<Chunked>,
    body: u64,
}

impl Reader {
    /// Takes bytes. The answer, when it is complete.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Option<Answer>, Fault> {
        if self.code.is_some() {
            return self.take_body(bytes);
        }
        self.head.extend_from_slice(bytes);
        while let Some(len) = self.take_head()? {
            let rest = self.head.split_off(len);
            self.head = Vec::new();
            if self.code.is_some() {
                return self.take_body(&rest);
            }
            // It was a word before the answer (RFC 9110, section 15.2).
            self.head = rest;
        }
        Ok(None)
    }

    /// Reads a line and headers, when they are there. How many bytes they are.
    fn take_head(&mut self) -> Result<Option<usize>, Fault> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let len = match response.parse(&self.head) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) if self.head.len() < MAX_HEAD => return Ok(None),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => return Err(Fault::Large),
            Err(_) => return Err(Fault::NoHttp),
        };
        let code = response.code.ok_or(Fault::NoHttp)?;
        if (100..200).contains(&code) {
            return Ok(Some(len));
        }
        let value = |name: &str| {
            let mut found = response.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
            found.next().map(|header| header.value.trim_ascii())
        };
        self.code = Some(code);
        match (value("transfer-encoding"), value("content-length")) {
            // What has no body (RFC 9112, section 6.3).
            _ if code == 204 || code == 304 => self.length = Some(0),
            (Some(encoding), _) if encoding.eq_ignore_ascii_case(b"chunked") => {
                self.chunks = Some(Chunked::new(usize::MAX))
            }
            (Some(_), _) => return Err(Fault::Encoded),
            (None, Some(length)) => {
                let text = core::str::from_utf8(length).map_err(|_| Fault::NoHttp)?;
                self.length = Some(text.parse().map_err(|_| Fault::NoHttp)?);
            }
            (None, None) => {}
        }
        Ok(Some(len))
    }

    fn take_body(&mut self, bytes: &[u8]) -> Result<Option<Answer>, Fault> {
        if let Some(chunks) = &mut self.chunks {
            chunks.take(bytes).map_err(|_| Fault::NoHttp)?;
            let (is_over, body) = (chunks.is_over(), chunks.data());
            return Ok(if is_over { self.answer(body) } else { None });
        }
        self.body = self.body.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        match self.length {
            Some(length) if self.body >= length => Ok(self.answer(length)),
            _ => Ok(None),
        }
    }

    /// The server has closed the connection.
    pub fn end(self) -> Result<Answer, Fault> {
        match (self.length, self.chunks) {
            (None, None) => self.code.map(|code| Answer { code, body_bytes: self.body }).ok_or(Fault::Short),
            _ => Err(Fault::Short),
        }
    }

    fn answer(&self, body_bytes: u64) -> Option<Answer> {
        self.code.map(|code| Answer { code, body_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
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
        let mut reader = Reader::default();
        assert_eq!(reader.take(b"HTTP/1.1 304 Not Modified\r\n\r\n"), Ok(Some(Answer { code: 304, body_bytes: 0 })));
    }

    #[test]
    fn words_before_and_chunks() {
        let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
        let text = format!("{early}HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        for cut in 0..text.len() {
            let mut reader = Reader::default();
            assert_eq!(reader.take(&text.as_bytes()[..cut]), Ok(None), "{cut}");
            let answer = Answer { code: 200, body_bytes: 5 };
            assert_eq!(reader.take(&text.as_bytes()[cut..]), Ok(Some(answer)), "{cut}");
        }
        let mut reader = Reader::default();
        assert_eq!(reader.take(&text.as_bytes()[..text.len() - 2]), Ok(None));
        assert_eq!(reader.end(), Err(Fault::Short), "the last chunk is not all");
        let mut reader = Reader::default();
        let bad = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n";
        assert_eq!(reader.take(bad), Err(Fault::NoHttp), "a chunk is longer than it says");
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
        assert_eq!(reader.take(&endless), Err(Fault::Large));
        let mut reader = Reader::default();
        let many = [&b"HTTP/1.1 200 OK\r\n"[..], &b"X: y\r\n".repeat(MAX_HEADERS + 1), b"\r\n"].concat();
        assert_eq!(reader.take(&many), Err(Fault::Large));
        let mut reader = Reader::default();
        let zipped = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
        assert_eq!(reader.take(zipped), Err(Fault::Encoded));
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
