//! What a client asks for. Parsing never looks beyond [`MAX_HEAD`] bytes and keeps nothing.

use core::mem::MaybeUninit;
use httparse::{Error, Status};

/// Bytes of a request's line and headers at most.
pub const MAX_HEAD: usize = 2048;
/// Headers of a request at most.
pub const MAX_HEADERS: usize = 32;
/// Bytes of a request's body at most. Bodies are skipped: no document wants one.
pub const MAX_BODY: usize = 4096;

/// What the client wants to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The document.
    Get,
    /// The document's headers.
    Head,
    /// Something that HTTP knows and no document allows.
    NotAllowed,
    /// Something that HTTP does not know.
    Unknown,
}

/// A request's line and headers, as far as they matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What is to be done.
    pub method: Method,
    /// With what: begins with `/`, without a query; empty for a target that is no path.
    pub path: &'a str,
    /// The client wants to go on with the connection afterwards.
    pub keep_alive: bool,
    /// The client prefers JSON.
    pub wants_json: bool,
    /// Bytes of the line and the headers.
    pub head_len: usize,
    /// Bytes of the body that follows, at most [`MAX_BODY`].
    pub body_len: usize,
}

/// Why there is no answer but an error; the connection is closed after each, since where the next request starts is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is no HTTP request, or contradicts itself.
    BadRequest,
    /// The target alone is longer than [`MAX_HEAD`].
    UriTooLong,
    /// More than [`MAX_HEAD`] bytes or [`MAX_HEADERS`] headers.
    HeadersTooLarge,
    /// The body is longer than [`MAX_BODY`].
    BodyTooLarge,
    /// The body is encoded for transfer.
    EncodedBody,
    /// Another major version of HTTP.
    Version,
}

/// Reads the request at the start of `bytes`. `Ok(None)`: it goes on beyond them.
pub fn parse(bytes: &[u8]) -> Result<Option<Request<'_>>, Refusal> {
    let bytes = &bytes[..bytes.len().min(MAX_HEAD)];
    // A kilobyte that is not worth clearing: the parser fills in what it finds.
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let head_len = match parsed.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(Status::Partial) => {
            return Err(if bytes.contains(&b'\n') { Refusal::HeadersTooLarge } else { Refusal::UriTooLong });
        }
        Err(Error::TooManyHeaders) => return Err(Refusal::HeadersTooLarge),
        Err(Error::Version) if names_another_version(bytes) => return Err(Refusal::Version),
        Err(_) => return Err(Refusal::BadRequest),
    };
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Refusal::BadRequest);
    };
    let fields = Fields::collect(parsed.headers)?;
    // RFC 9112, section 3.2: exactly one, from HTTP/1.1 on.
    if minor >= 1 && fields.hosts != 1 || fields.hosts > 1 {
        return Err(Refusal::BadRequest);
    }
    if fields.encoded {
        return Err(if fields.body_len.is_some() { Refusal::BadRequest } else { Refusal::EncodedBody });
    }
    let body_len = fields.body_len.unwrap_or(0);
    if body_len > MAX_BODY {
        return Err(Refusal::BodyTooLarge);
    }
    Ok(Some(Request {
        method: match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" | "PUT" | "DELETE" | "CONNECT" | "OPTIONS" | "TRACE" | "PATCH" => Method::NotAllowed,
            _ => Method::Unknown,
        },
        path: path_of(target),
        keep_alive: if minor >= 1 { !fields.close } else { fields.keep_alive && !fields.close },
        wants_json: fields.wants_json,
        head_len,
        body_len,
    }))
}

/// The headers that matter.
#[derive(Default)]
struct Fields {
    hosts: usize,
    close: bool,
    keep_alive: bool,
    wants_json: bool,
    encoded: bool,
    body_len: Option<usize>,
}

impl Fields {
    fn collect(headers: &[httparse::Header]) -> Result<Fields, Refusal> {
        let mut fields = Fields::default();
        for header in headers {
            // The lengths tell most headers apart from those that matter.
            match header.name.len() {
                4 if is(header, "host") => fields.hosts += 1,
                6 if is(header, "accept") => fields.wants_json |= prefers_json(header.value),
                10 if is(header, "connection") => {
                    fields.close |= has_token(header.value, b"close");
                    fields.keep_alive |= has_token(header.value, b"keep-alive");
                }
                14 if is(header, "content-length") => {
                    let len = number(header.value).ok_or(Refusal::BadRequest)?;
                    // The same length twice is not worth a quarrel; two lengths are an attack.
                    if fields.body_len.is_some_and(|other| other != len) {
                        return Err(Refusal::BadRequest);
                    }
                    fields.body_len = Some(len);
                }
                17 if is(header, "transfer-encoding") => fields.encoded = true,
                _ => {}
            }
        }
        Ok(fields)
    }
}

fn is(header: &httparse::Header, name: &str) -> bool {
    header.name.eq_ignore_ascii_case(name)
}

/// True when a comma-separated list has the token, in whatever case.
fn has_token(list: &[u8], token: &[u8]) -> bool {
    list.split(|&byte| byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

/// True when JSON is named, and neither text nor HTML before it.
fn prefers_json(list: &[u8]) -> bool {
    for item in list.split(|&byte| byte == b',') {
        let kind = item.split(|&byte| byte == b';').next().unwrap_or(item).trim_ascii();
        if kind.eq_ignore_ascii_case(b"application/json") {
            return true;
        }
        if kind.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"text/")) {
            return false;
        }
    }
    false
}

/// A number of digits and nothing else; one that is too large for a `usize` becomes the largest.
fn number(text: &[u8]) -> Option<usize> {
    let digits = text.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0_usize, |sum, &digit| sum.saturating_mul(10).saturating_add(usize::from(digit - b'0'))))
}

/// The path in a request's target: of `/path?query`, or of `http://host/path?query` (RFC 9112, section 3.2.2).
fn path_of(target: &str) -> &str {
    let path = match target.get(..7) {
        Some(scheme) if scheme.eq_ignore_ascii_case("http://") => {
            let rest = &target[7..];
            match rest.find(['/', '?']) {
                Some(at) if rest.as_bytes()[at] == b'/' => &rest[at..],
                _ => "/",
            }
        }
        _ => target,
    };
    let path = path.split('?').next().unwrap_or(path);
    if path.starts_with('/') { path } else { "" }
}

/// True when the first line ends in the name of a version of HTTP that is not 1.0 or 1.1.
fn names_another_version(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let line = lines.find(|line| !line.is_empty()).unwrap_or(&[]);
    let name = line.rsplit(|&byte| byte == b' ').next().unwrap_or(&[]);
    matches!(name.strip_prefix(b"HTTP/"), Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    fn one(text: &str) -> Result<Option<Request<'_>>, Refusal> {
        parse(text.as_bytes())
    }

    fn good(text: &str) -> Request<'_> {
        one(text).expect("valid").expect("complete")
    }

    #[test]
    fn what_browsers_and_tools_send() {
        let curl = "GET /100b HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n";
        assert_eq!(
            good(curl),
            Request {
                method: Method::Get,
                path: "/100b",
                keep_alive: true,
                wants_json: false,
                head_len: curl.len(),
                body_len: 0
            }
        );
        assert_eq!(good("HEAD / HTTP/1.0\r\n\r\n").method, Method::Head);
        assert!(!good("GET / HTTP/1.0\r\n\r\n").keep_alive);
        assert!(good("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keep_alive);
        assert!(!good("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, Close\r\n\r\n").keep_alive);
        assert!(!good("GET / HTTP/1.1\r\nhost:a\r\nCONNECTION:close\r\n\r\n").keep_alive);
        assert_eq!(good("GET / HTTP/1.1\nHost: a\n\n").head_len, 24, "bare line feeds are tolerated");
        assert_eq!(good("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").path, "/", "and empty lines in front");
    }

    #[test]
    fn targets() {
        let path = |target: &str| String::from(good(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).path);
        assert_eq!(path("/a?b=c?d"), "/a");
        assert_eq!(path("http://host:80/a/b?c"), "/a/b");
        assert_eq!(path("HTTP://host"), "/");
        assert_eq!(path("http://host?query/x"), "/");
        assert_eq!(path("*"), "");
        assert_eq!(path("host:443"), "");
    }

    #[test]
    fn json_on_request() {
        let json = |accept: &str| good(&format!("GET / HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n")).wants_json;
        assert!(json("application/json"));
        assert!(json("application/xml, Application/JSON;q=0.9"));
        assert!(!json("text/html, application/json"));
        assert!(!json("*/*"));
        assert!(!json("application/jsonp"));
    }

    #[test]
    fn bodies() {
        let with = |headers: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n");
        assert_eq!(good(&with("Content-Length: 12")).body_len, 12);
        assert_eq!(good(&with("Content-Length: 12\r\nContent-Length: 12")).body_len, 12);
        assert_eq!(one(&with("Content-Length: 12\r\nContent-Length: 13")), Err(Refusal::BadRequest));
        assert_eq!(one(&with("Content-Length: +1")), Err(Refusal::BadRequest));
        assert_eq!(one(&with("Content-Length: 1,1")), Err(Refusal::BadRequest));
        assert_eq!(one(&with("Content-Length:")), Err(Refusal::BadRequest));
        assert_eq!(one(&with("Content-Length: 4097")), Err(Refusal::BodyTooLarge));
        assert_eq!(one(&with("Content-Length: 99999999999999999999999999")), Err(Refusal::BodyTooLarge));
        assert_eq!(one(&with("Transfer-Encoding: chunked")), Err(Refusal::EncodedBody));
        assert_eq!(one(&with("Transfer-Encoding: chunked\r\nContent-Length: 1")), Err(Refusal::BadRequest));
    }

    #[test]
    fn what_is_refused() {
        for (text, refusal) in [
            ("GET / HTTP/1.1\r\n\r\n", Refusal::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Refusal::BadRequest),
            ("GET /\r\n\r\n", Refusal::BadRequest),
            ("GET  / HTTP/1.1\r\n\r\n", Refusal::BadRequest),
            ("\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03", Refusal::BadRequest),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Refusal::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n", Refusal::BadRequest),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Refusal::Version),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refusal::Version),
            ("GET / HTTX/1.1\r\n\r\n", Refusal::BadRequest),
        ] {
            assert_eq!(one(text), Err(refusal), "{text:?}");
        }
        assert_eq!(good("BREW / HTTP/1.1\r\nHost: a\r\n\r\n").method, Method::Unknown);
        assert_eq!(good("get / HTTP/1.1\r\nHost: a\r\n\r\n").method, Method::Unknown);
        assert_eq!(good("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n").method, Method::NotAllowed);
    }

    #[test]
    fn limits() {
        assert_eq!(one(&format!("GET /{}", "a".repeat(5000))), Err(Refusal::UriTooLong));
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "b".repeat(3000));
        assert_eq!(one(&long), Err(Refusal::HeadersTooLarge));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(MAX_HEADERS));
        assert_eq!(one(&many), Err(Refusal::HeadersTooLarge));
        let just = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(MAX_HEADERS - 1));
        assert_eq!(good(&just).path, "/");
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            if let Ok(Some(request)) = parse(&bytes) {
                prop_assert!(request.head_len <= bytes.len().min(MAX_HEAD) && request.body_len <= MAX_BODY);
            }
        }

        #[test]
        fn nearly_a_request(text in "(GET|POST|HEAD|X)( |  )(/|\\*|http://a|/100b)[ -~]{0,8} HTTP/[0-9]\\.[0-9]\r?\n((Host|Content-Length|Connection|Transfer-Encoding|Accept): ?[ -~]{0,12}\r?\n){0,4}\r?\n?") {
            if let Ok(Some(request)) = one(&text) {
                prop_assert!(request.head_len <= text.len() && request.body_len <= MAX_BODY);
                prop_assert!(request.path.is_empty() || request.path.starts_with('/'));
            }
        }

        #[test]
        fn every_prefix_is_incomplete(cut in 0usize..70) {
            let whole = "GET /100b HTTP/1.1\r\nHost: 10.0.2.16\r\nAccept: */*\r\nX: 1\r\nY: 2\r\nZ: three\r\n\r\n";
            prop_assert_eq!(one(&whole[..cut]), Ok(None));
        }

        #[test]
        fn pipelined_requests_are_taken_one_by_one(count in 1usize..10) {
            let all: Vec<u8> = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n".repeat(count);
            let mut rest = all.as_slice();
            for _ in 0..count {
                let request = parse(rest).expect("valid").expect("complete");
                prop_assert_eq!(request.path, "/a");
                rest = &rest[request.head_len..];
            }
            prop_assert!(rest.is_empty());
        }
    }
}
