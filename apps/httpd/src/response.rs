//! What a client gets: status lines and headers.

use crate::date::DATE_BYTES;
use crate::request::Refusal;
use alloc::vec::Vec;

/// A status code with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub &'static str);

/// The document follows.
pub const OK: Code = Code("200 OK");
/// See [`Refusal::BadRequest`].
pub const BAD_REQUEST: Code = Code("400 Bad Request");
/// There is no such document.
pub const NOT_FOUND: Code = Code("404 Not Found");
/// Documents can only be read.
pub const METHOD_NOT_ALLOWED: Code = Code("405 Method Not Allowed");
/// The client has not sent a whole request in time.
pub const REQUEST_TIMEOUT: Code = Code("408 Request Timeout");
/// See [`Refusal::BodyTooLarge`].
pub const CONTENT_TOO_LARGE: Code = Code("413 Content Too Large");
/// See [`Refusal::UriTooLong`].
pub const URI_TOO_LONG: Code = Code("414 URI Too Long");
/// See [`Refusal::HeadersTooLarge`].
pub const HEADERS_TOO_LARGE: Code = Code("431 Request Header Fields Too Large");
/// The server does not know what to do.
pub const NOT_IMPLEMENTED: Code = Code("501 Not Implemented");
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
            Refusal::Version => VERSION_NOT_SUPPORTED,
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

/// Appends the head of a response with a body of `len` bytes.
pub fn head(to: &mut Vec<u8>, code: Code, content_type: &str, len: usize, keep_alive: bool, date: &[u8; DATE_BYTES]) {
    to.extend_from_slice(b"HTTP/1.1 ");
    to.extend_from_slice(code.0.as_bytes());
    to.extend_from_slice(b"\r\nServer: Ilwaco\r\nDate: ");
    to.extend_from_slice(date);
    to.extend_from_slice(b"\r\nContent-Type: ");
    to.extend_from_slice(content_type.as_bytes());
    if code == METHOD_NOT_ALLOWED {
        to.extend_from_slice(b"\r\nAllow: GET, HEAD");
    }
    to.extend_from_slice(b"\r\nContent-Length: ");
    decimal(to, len);
    to.extend_from_slice(if keep_alive {
        b"\r\nConnection: keep-alive\r\n\r\n".as_slice()
    } else {
        b"\r\nConnection: close\r\n\r\n".as_slice()
    });
}

/// Appends a whole response that says what is wrong. `with_body`: false after a `HEAD`.
pub fn error(to: &mut Vec<u8>, code: Code, keep_alive: bool, with_body: bool, date: &[u8; DATE_BYTES]) {
    head(to, code, content_type::TEXT, code.0.len() + 1, keep_alive, date);
    if with_body {
        to.extend_from_slice(code.0.as_bytes());
        to.push(b'\n');
    }
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
    use std::string::String;

    const DATE: &[u8; DATE_BYTES] = b"Sun, 06 Nov 1994 08:49:37 GMT";

    #[test]
    fn a_head() {
        let mut bytes = Vec::new();
        head(&mut bytes, OK, content_type::TEXT, 100, true, DATE);
        assert_eq!(
            String::from_utf8(bytes).expect("text"),
            "HTTP/1.1 200 OK\r\nServer: Ilwaco\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: 100\r\nConnection: keep-alive\r\n\r\n"
        );
    }

    #[test]
    fn errors() {
        let mut bytes = Vec::new();
        error(&mut bytes, METHOD_NOT_ALLOWED, false, true, DATE);
        let text = String::from_utf8(bytes).expect("text");
        assert!(text.contains("\r\nAllow: GET, HEAD\r\n") && text.contains("\r\nConnection: close\r\n"));
        assert!(text.contains("\r\nContent-Length: 23\r\n") && text.ends_with("\r\n\r\n405 Method Not Allowed\n"));
        let mut bytes = Vec::new();
        error(&mut bytes, NOT_FOUND, true, false, DATE);
        assert!(bytes.ends_with(b"\r\n\r\n"));
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
