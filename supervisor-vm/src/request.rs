//! What a client says over HTTP: the head of a request, which is judged before its body is taken.

use crate::image_order::FILE_BYTES;
use httparse::Status;

/// Bytes of a head at most.
pub const HEAD: usize = 8 * 1024;
/// Bytes of a body at most, but for an image's.
pub const BODY: usize = 16 * 1024;
/// Headers at most.
const HEADERS: usize = 64;

/// What has come so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// It goes on.
    More,
    /// A whole head.
    Head(Head<'a>),
    /// It is no request.
    Bad,
}

/// The head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// What is to be done.
    pub method: &'a str,
    /// With what.
    pub path: &'a str,
    /// What stands behind the `?`.
    pub query: &'a str,
    /// The token that is shown.
    pub token: Option<&'a str>,
    /// What comes behind the head.
    pub body: Body,
    /// Whether the client waits to hear that its body is wanted.
    pub waits: bool,
    /// Bytes of the head.
    pub bytes: usize,
}

/// What comes behind a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes, at most [`FILE_BYTES`].
    Bytes(usize),
    /// More than that.
    TooLong,
    /// Nobody says how many.
    Unsaid,
}

/// What has come so far.
pub fn parse(bytes: &[u8]) -> Asked<'_> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let len = match request.parse(bytes) {
        Ok(Status::Partial) if bytes.len() < HEAD => return Asked::More,
        Ok(Status::Complete(len)) if len <= HEAD => len,
        _ => return Asked::Bad,
    };
    let (Some(method), Some(target)) = (request.method, request.path) else { return Asked::Bad };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut head = Head { method, path, query, token: None, body: Body::Bytes(0), waits: false, bytes: len };
    let (mut length, mut encoded) = (None, false);
    for header in request.headers.iter() {
        let Ok(value) = core::str::from_utf8(header.value).map(str::trim) else { continue };
        match header.name {
            name if name.eq_ignore_ascii_case("authorization") => head.token = bearer(value),
            name if name.eq_ignore_ascii_case("expect") => head.waits = value.eq_ignore_ascii_case("100-continue"),
            name if name.eq_ignore_ascii_case("transfer-encoding") => encoded = true,
            name if name.eq_ignore_ascii_case("content-length") => {
                let number = || value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse::<u64>().ok());
                // Two that differ: nobody knows where it ends.
                match number().flatten().filter(|number| length.is_none_or(|before| before == *number)) {
                    Some(number) => length = Some(number),
                    None => return Asked::Bad,
                }
            }
            _ => {}
        }
    }
    head.body = match length.map_or(Ok(0), usize::try_from) {
        _ if encoded => Body::Unsaid,
        Ok(length) if length <= FILE_BYTES => Body::Bytes(length),
        _ => Body::TooLong,
    };
    Asked::Head(head)
}

fn bearer(value: &str) -> Option<&str> {
    let (kind, token) = value.split_once(' ')?;
    kind.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use proptest::prelude::*;

    fn head(text: &str) -> Head<'_> {
        match parse(text.as_bytes()) {
            Asked::Head(head) => head,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn heads() {
        let get = head("GET /metrics?a=b HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((get.method, get.path, get.query, get.token), ("GET", "/metrics", "a=b", None));
        assert_eq!((get.body, get.waits), (Body::Bytes(0), false));
        let post =
            "POST /vms HTTP/1.1\r\nauthorization:  bearer abc \r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n";
        let found = head(post);
        assert_eq!((found.token, found.body, found.waits), (Some("abc"), Body::Bytes(2), true));
        assert_eq!(found.bytes, post.len());
        assert_eq!(head("PUT / HTTP/1.0\r\nAuthorization: Basic YTpi\r\n\r\n").token, None);
    }

    #[test]
    fn the_length_of_a_body() {
        let body = |headers: &str| match parse(format!("POST / HTTP/1.1\r\n{headers}\r\n").as_bytes()) {
            Asked::Head(head) => Some(head.body),
            _ => None,
        };
        assert_eq!(body("Content-Length: 4194304\r\n"), Some(Body::Bytes(FILE_BYTES)));
        assert_eq!(body("Content-Length: 4194305\r\n"), Some(Body::TooLong));
        assert_eq!(body("Content-Length: 18446744073709551615\r\n"), Some(Body::TooLong));
        assert_eq!(body("Content-Length: 5\r\nContent-Length: 5\r\n"), Some(Body::Bytes(5)));
        assert_eq!(body("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), Some(Body::Unsaid));
        for bad in ["5\r\nContent-Length: 6", "-1", "+1", "", "5, 5", "18446744073709551616"] {
            assert_eq!(body(&format!("Content-Length: {bad}\r\n")), None, "{bad}");
        }
    }

    #[test]
    fn what_is_no_request() {
        assert_eq!(parse(b"GET / HTT"), Asked::More);
        assert_eq!(parse(b"\x16\x03\x01 hello"), Asked::Bad);
        assert_eq!(parse(&[b'a'; HEAD]), Asked::Bad);
        let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "b".repeat(HEAD));
        assert_eq!(parse(long.as_bytes()), Asked::Bad);
    }

    proptest! {
        #[test]
        fn nothing_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200), headers in "(content-length: ?|authorization: |bearer|[0-9]{1,20}|\r\n| |expect:|:){0,20}") {
            parse(&bytes);
            parse(format!("POST /vms HTTP/1.1\r\n{headers}\r\n\r\n").as_bytes());
        }
    }
}
