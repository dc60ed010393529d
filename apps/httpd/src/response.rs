//! What a client gets: status lines and headers.

use crate::date::DATE_BYTES;
use crate::document::{Constant, LAST_MODIFIED};
use crate::request::{After, Refusal};
use alloc::vec::Vec;

/// A status code with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub &'static str);

/// The document follows.
pub const OK: Code = Code("200 OK");
/// A part of the document follows.
pub const PARTIAL_CONTENT: Code = Code("206 Partial Content");
/// The document is at another place.
pub const MOVED_PERMANENTLY: Code = Code("301 Moved Permanently");
/// The client has the document already.
pub const NOT_MODIFIED: Code = Code("304 Not Modified");
/// See [`Refusal::BadRequest`].
pub const BAD_REQUEST: Code = Code("400 Bad Request");
/// There is no such document.
pub const NOT_FOUND: Code = Code("404 Not Found");
/// Documents can only be read.
pub const METHOD_NOT_ALLOWED: Code = Code("405 Method Not Allowed");
/// The client has not sent a whole request in time.
pub const REQUEST_TIMEOUT: Code = Code("408 Request Timeout");
/// The document is not as the client wants it.
pub const PRECONDITION_FAILED: Code = Code("412 Precondition Failed");
/// See [`Refusal::BodyTooLarge`].
pub const CONTENT_TOO_LARGE: Code = Code("413 Content Too Large");
/// See [`Refusal::UriTooLong`].
pub const URI_TOO_LONG: Code = Code("414 URI Too Long");
/// The document has no such part.
pub const RANGE_NOT_SATISFIABLE: Code = Code("416 Range Not Satisfiable");
/// See [`Refusal::Expectation`].
pub const EXPECTATION_FAILED: Code = Code("417 Expectation Failed");
/// See [`Refusal::HeadersTooLarge`].
pub const HEADERS_TOO_LARGE: Code = Code("431 Request Header Fields Too Large");
/// The disk, or what is on it, is not as it should be.
pub const INTERNAL_ERROR: Code = Code("500 Internal Server Error");
/// The server does not know what to do.
pub const NOT_IMPLEMENTED: Code = Code("501 Not Implemented");
/// There is no memory to read so large a request now.
pub const UNAVAILABLE: Code = Code("503 Service Unavailable");
/// See [`Refusal::Version`].
pub const VERSION_NOT_SUPPORTED: Code = Code("505 HTTP Version Not Supported");

impl From<Refusal> for Code {
    fn from(refusal: Refusal) -> Code {
        match refusal {
            Refusal::BadRequest => BAD_REQUEST,
            Refusal::UriTooLong => URI_TOO_LONG,
            Refusal::HeadersTooLarge => HEADERS_TOO_LARGE,
            Refusal::BodyTooLarge => CONTENT_TOO_LARGE,
            Refusal::EncodedBody => NOT_IMPLEMENTED,
            Refusal::Expectation => EXPECTATION_FAILED,
            // Whoever does not take it for 1.1 does not know it.
            Refusal::Version | Refusal::LaterMinor => VERSION_NOT_SUPPORTED,
        }
    }
}

/// Types of documents.
pub mod content_type {
    /// Plain text.
    pub const TEXT: &str = "text/plain; charset=utf-8";
    /// A page.
    pub const HTML: &str = "text/html; charset=utf-8";
    /// JSON.
    pub const JSON: &str = "application/json";
}

/// What all responses of the same second share.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The start of a whole document's head: status line, `Server`, `Date`, and when the constant documents were changed last unless this
    /// machine's clock says that they have not been yet.
    bytes: [u8; MOMENT_BYTES],
    len: usize,
}

const OK_START: &[u8] = b"HTTP/1.1 200 OK\r\nServer: Ilwaco\r\nDate: ";
const MOMENT_BYTES: usize = OK_START.len() + DATE_BYTES + LAST_MODIFIED.len();

impl Moment {
    /// The moment of this date.
    pub const fn new(date: &[u8; DATE_BYTES], after_changes: bool) -> Moment {
        let mut bytes = [0; MOMENT_BYTES];
        let (start, rest) = bytes.split_at_mut(OK_START.len());
        start.copy_from_slice(OK_START);
        let (middle, end) = rest.split_at_mut(DATE_BYTES);
        middle.copy_from_slice(date);
        end.copy_from_slice(LAST_MODIFIED);
        Moment { bytes, len: if after_changes { MOMENT_BYTES } else { MOMENT_BYTES - LAST_MODIFIED.len() } }
    }

    fn ok_start(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }

    fn date(&self) -> &[u8] {
        &self.bytes[OK_START.len()..][..DATE_BYTES]
    }

    fn last_modified(&self) -> &[u8] {
        &self.ok_start()[OK_START.len() + DATE_BYTES..]
    }
}

/// Leave to send the body of a request.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A whole answer that says that there is no memory for another one, and that ends the connection.
pub const NO_MEMORY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nServer: Ilwaco\r\nRetry-After: 1\r\nContent-Length: 0\r\n\
    Connection: close\r\n\r\n";

/// The end of a response's head.
fn ending(after: After) -> &'static [u8] {
    match after {
        After::Stay => b"\r\n\r\n",
        After::KeepAlive => b"\r\nConnection: keep-alive\r\n\r\n",
        After::Close => b"\r\nConnection: close\r\n\r\n",
    }
}

fn end(to: &mut Vec<u8>, after: After) {
    to.extend_from_slice(ending(after));
}

fn start(to: &mut Vec<u8>, code: Code, moment: &Moment) {
    to.extend_from_slice(b"HTTP/1.1 ");
    to.extend_from_slice(code.0.as_bytes());
    to.extend_from_slice(b"\r\nServer: Ilwaco\r\nDate: ");
    to.extend_from_slice(moment.date());
}

/// Appends the head of a response with a body of `len` bytes. `further`: headers, each with a line's end in front.
pub fn head(
    to: &mut Vec<u8>,
    code: Code,
    content_type: &str,
    further: &str,
    len: usize,
    after: After,
    moment: &Moment,
) {
    start(to, code, moment);
    to.extend_from_slice(b"\r\nContent-Type: ");
    to.extend_from_slice(content_type.as_bytes());
    to.extend_from_slice(further.as_bytes());
    to.extend_from_slice(b"\r\nContent-Length: ");
    decimal(to, len);
    end(to, after);
}

/// Appends the head of a response with a whole constant document. `further`: bytes that the caller will append.
pub fn whole(to: &mut Vec<u8>, document: &Constant, after: After, further: usize, moment: &Moment) {
    let (start, headers, end) = (moment.ok_start(), document.headers(), ending(after));
    // Else the buffer of a new connection would grow several times, and be copied each time.
    to.reserve_exact(start.len() + headers.len() + end.len() + further);
    to.extend_from_slice(start);
    to.extend_from_slice(headers);
    to.extend_from_slice(end);
}

/// Appends the head of a response with the bytes from `from` up to, but without, `up_to` of a document.
pub fn part(to: &mut Vec<u8>, document: &Constant, from: usize, up_to: usize, after: After, moment: &Moment) {
    start(to, PARTIAL_CONTENT, moment);
    to.extend_from_slice(moment.last_modified());
    // Content-Length is the last of them, and here another one.
    let headers = document.headers();
    let kept = headers.len() - headers.rsplit(|&byte| byte == b' ').next().unwrap_or(&[]).len();
    to.extend_from_slice(&headers[..kept]);
    decimal(to, up_to - from);
    to.extend_from_slice(b"\r\nContent-Range: bytes ");
    decimal(to, from);
    to.push(b'-');
    decimal(to, up_to - 1);
    to.push(b'/');
    decimal(to, document.len());
    end(to, after);
}

/// Appends a whole response that says: the client has this document.
pub fn not_modified(to: &mut Vec<u8>, document: &Constant, after: After, moment: &Moment) {
    start(to, NOT_MODIFIED, moment);
    to.extend_from_slice(moment.last_modified());
    to.extend_from_slice(document.common_headers());
    end(to, after);
}

/// Appends a whole response that says what is wrong. `with_body`: false after a `HEAD`.
pub fn error(to: &mut Vec<u8>, code: Code, after: After, with_body: bool, moment: &Moment) {
    let further = if code == METHOD_NOT_ALLOWED { "\r\nAllow: GET, HEAD" } else { "" };
    said(to, code, further, after, with_body, moment);
}

/// Appends a whole response that says no more than its code. `further` as in [`head`], `with_body` as in [`error`].
pub fn said(to: &mut Vec<u8>, code: Code, further: &str, after: After, with_body: bool, moment: &Moment) {
    head(to, code, content_type::TEXT, further, code.0.len() + 1, after, moment);
    if with_body {
        to.extend_from_slice(code.0.as_bytes());
        to.push(b'\n');
    }
}

/// Appends a whole response without a body. `further` as in [`head`]; `len`: what it says of a body's length.
pub fn bare(to: &mut Vec<u8>, code: Code, further: &str, len: Option<usize>, after: After, moment: &Moment) {
    start(to, code, moment);
    to.extend_from_slice(further.as_bytes());
    if let Some(len) = len {
        to.extend_from_slice(b"\r\nContent-Length: ");
        decimal(to, len);
    }
    end(to, after);
}

/// Appends a whole response that says: this document has no such part.
pub fn out_of_range(to: &mut Vec<u8>, document: &Constant, after: After, moment: &Moment) {
    start(to, RANGE_NOT_SATISFIABLE, moment);
    to.extend_from_slice(b"\r\nContent-Range: bytes */");
    decimal(to, document.len());
    to.extend_from_slice(b"\r\nContent-Length: 0");
    end(to, after);
}

/// Appends a number.
fn decimal(to: &mut Vec<u8>, number: usize) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    to.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Document;
    use std::format;
    use std::string::String;

    const MOMENT: Moment = Moment::new(b"Sun, 06 Nov 1994 08:49:37 GMT", false);

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut bytes = Vec::new();
        write(&mut bytes);
        String::from_utf8(bytes).expect("text")
    }

    fn constant() -> &'static Constant {
        match Document::at("/100k") {
            Ok(Some(Document::Constant(constant))) => constant,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_head() {
        assert_eq!(
            text(|to| head(to, OK, content_type::TEXT, "\r\nA: b", 100, After::KeepAlive, &MOMENT)),
            "HTTP/1.1 200 OK\r\nServer: Ilwaco\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain; charset=utf-8\r\n\
             A: b\r\nContent-Length: 100\r\nConnection: keep-alive\r\n\r\n"
        );
    }

    #[test]
    fn constant_documents() {
        let tag = constant().etag();
        assert_eq!(
            text(|to| whole(to, constant(), After::Stay, 0, &MOMENT)),
            format!(
                "HTTP/1.1 200 OK\r\nServer: Ilwaco\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain\r\n\
                 ETag: {tag}\r\nContent-Length: 102400\r\n\r\n"
            )
        );
        let later = Moment::new(b"Sun, 06 Nov 1994 08:49:37 GMT", true);
        assert!(
            text(|to| whole(to, constant(), After::Stay, 0, &later))
                .contains("\r\nLast-Modified: Sat, 28 Nov 2026 00:00:00 GMT\r\n")
        );
        let part = text(|to| part(to, constant(), 10, 20, After::Close, &later));
        assert!(part.starts_with("HTTP/1.1 206 Partial Content\r\n") && part.contains("\r\nLast-Modified: "));
        assert!(
            part.contains("\r\nContent-Length: 10\r\nContent-Range: bytes 10-19/102400\r\nConnection: close\r\n\r\n")
        );
        let same = text(|to| not_modified(to, constant(), After::Stay, &later));
        assert!(same.starts_with("HTTP/1.1 304 Not Modified\r\n") && same.contains(&format!("\r\nETag: {tag}\r\n")));
        assert!(!same.contains("Content-") && same.ends_with("\r\n\r\n"));
        let none = text(|to| out_of_range(to, constant(), After::Stay, &MOMENT));
        assert!(
            none.starts_with("HTTP/1.1 416 ")
                && none.contains("\r\nContent-Range: bytes */102400\r\nContent-Length: 0\r\n")
        );
    }

    #[test]
    fn errors() {
        let refused = text(|to| error(to, METHOD_NOT_ALLOWED, After::Close, true, &MOMENT));
        assert!(refused.contains("\r\nAllow: GET, HEAD\r\n") && refused.contains("\r\nConnection: close\r\n"));
        assert!(
            refused.contains("\r\nContent-Length: 23\r\n") && refused.ends_with("\r\n\r\n405 Method Not Allowed\n")
        );
        assert!(text(|to| error(to, NOT_FOUND, After::Stay, false, &MOMENT)).ends_with("\r\n\r\n"));
    }

    #[test]
    fn numbers() {
        for number in [0, 7, 10, 102_400, usize::MAX] {
            let mut bytes = Vec::new();
            decimal(&mut bytes, number);
            assert_eq!(String::from_utf8(bytes).expect("text"), std::format!("{number}"));
        }
    }
}
