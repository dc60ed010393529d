//! What a client asks for. Parsing never looks beyond [`MAX_HEAD`] bytes and keeps nothing.

use crate::condition::{Conditions, Lines};
use crate::target;
use core::mem::MaybeUninit;
use httparse::{Error, Status};

/// Bytes of a request's line and headers at most. Browsers send all cookies of a host, whatever its port, and so those of everything
/// else that somebody has tried on the loopback interface.
pub const MAX_HEAD: usize = 16 * 1024;
/// Headers of a request at most.
pub const MAX_HEADERS: usize = 100;
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

/// The body that follows a request's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes, at most [`MAX_BODY`].
    Bytes(usize),
    /// Chunks, up to the last.
    Chunked,
}

/// A request's line and headers, as far as they matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What is to be done.
    pub method: Method,
    /// With what: begins with `/`, without a query; empty for a target that is no path.
    pub path: &'a str,
    /// What the client wants to become of the connection afterwards.
    pub after: After,
    /// The client prefers JSON.
    pub wants_json: bool,
    /// The client waits for leave to send the body.
    pub waits: bool,
    /// There are headers that make it conditional or partial: see [`conditions`].
    pub is_conditional: bool,
    /// Bytes of the line and the headers.
    pub head_len: usize,
    /// What follows them.
    pub body: Body,
}

/// What becomes of the connection, as headers say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It stays, which goes without saying.
    Stay,
    /// It stays for a client that expects to be told.
    KeepAlive,
    /// It ends.
    Close,
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
    /// The body is encoded for transfer, and not by chunks alone.
    EncodedBody,
    /// The client expects something that is not known.
    Expectation,
    /// Another major version of HTTP.
    Version,
    /// A later minor version of HTTP/1, which is to be taken for 1.1: see [`take_for_1_1`].
    LaterMinor,
}

/// Reads the request at the start of `bytes`. `Ok(None)`: it goes on beyond them.
pub fn parse(bytes: &[u8]) -> Result<Option<Request<'_>>, Refusal> {
    let bytes = &bytes[..bytes.len().min(MAX_HEAD)];
    // Kilobytes that are not worth clearing: the parser fills in what it finds.
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let head_len = match parsed.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(Status::Partial) => {
            return Err(if bytes.contains(&b'\n') { Refusal::HeadersTooLarge } else { Refusal::UriTooLong });
        }
        Err(Error::TooManyHeaders) => return Err(Refusal::HeadersTooLarge),
        Err(Error::Version) => return Err(refuse_version(bytes)),
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
    let body = match fields.encoding {
        None => Body::Bytes(fields.body_len.unwrap_or(0)),
        // One of the two is a lie, or an attack; and HTTP/1.0 knows no chunks (RFC 9112, section 6.1).
        Some(_) if fields.body_len.is_some() || minor == 0 => return Err(Refusal::BadRequest),
        Some(false) => return Err(Refusal::EncodedBody),
        Some(true) => Body::Chunked,
    };
    if matches!(body, Body::Bytes(len) if len > MAX_BODY) {
        return Err(Refusal::BodyTooLarge);
    }
    if fields.expects_the_unknown && minor >= 1 {
        return Err(Refusal::Expectation);
    }
    Ok(Some(Request {
        method: match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" | "PUT" | "DELETE" | "CONNECT" | "OPTIONS" | "TRACE" | "PATCH" => Method::NotAllowed,
            _ => Method::Unknown,
        },
        path: target::path_of(target).map_err(|_| Refusal::BadRequest)?,
        after: match minor {
            _ if fields.close => After::Close,
            0 if fields.keep_alive => After::KeepAlive,
            0 => After::Close,
            _ => After::Stay,
        },
        wants_json: fields.wants_json,
        waits: fields.waits && minor >= 1 && body != Body::Bytes(0),
        is_conditional: fields.has_conditions,
        head_len,
        body,
    }))
}

/// The headers that matter.
#[derive(Default)]
struct Fields {
    hosts: usize,
    close: bool,
    keep_alive: bool,
    wants_json: bool,
    waits: bool,
    expects_the_unknown: bool,
    has_conditions: bool,
    /// There is an encoding for transfer, and it is that by chunks.
    encoding: Option<bool>,
    body_len: Option<usize>,
}

impl Fields {
    fn collect(headers: &[httparse::Header]) -> Result<Fields, Refusal> {
        let mut fields = Fields::default();
        for header in headers {
            // The lengths tell most headers apart from those that matter.
            match header.name.len() {
                4 if is(header, "host") => {
                    fields.hosts += 1;
                    if !target::is_host(header.value) {
                        return Err(Refusal::BadRequest);
                    }
                }
                5 if is(header, "range") => fields.has_conditions = true,
                6 if is(header, "accept") => fields.wants_json |= prefers_json(header.value),
                6 if is(header, "expect") => {
                    for item in items(header.value) {
                        let known = item.eq_ignore_ascii_case(b"100-continue");
                        fields.waits |= known;
                        fields.expects_the_unknown |= !known;
                    }
                }
                8 | 13 | 17 | 19 if header.name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("if-")) => {
                    fields.has_conditions = true;
                }
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
                17 if is(header, "transfer-encoding") => {
                    // Twice "chunked" is not "chunked" (RFC 9112, section 6.1).
                    if fields.encoding == Some(true) {
                        return Err(Refusal::BadRequest);
                    }
                    fields.encoding = Some(is_chunked(header.value, fields.encoding.is_some())?);
                }
                _ => {}
            }
        }
        Ok(fields)
    }
}

/// True when "chunked" is the only encoding of all.
fn is_chunked(list: &[u8], behind_others: bool) -> Result<bool, Refusal> {
    let (mut ends, mut others) = (false, behind_others);
    for item in items(list) {
        // Anything behind it would hide the body's end.
        if ends {
            return Err(Refusal::BadRequest);
        }
        ends = item.eq_ignore_ascii_case(b"chunked");
        others |= !ends;
    }
    Ok(ends && !others)
}

/// What is in a list; what is empty is not (RFC 9110, section 5.6.1.2).
fn items(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

/// The headers that are conditions, of a request that [`parse`] has found good. They are rare, and read for themselves only where they
/// are.
#[cold]
pub fn conditions(bytes: &[u8]) -> Conditions<'_> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let bytes = &bytes[..bytes.len().min(MAX_HEAD)];
    let Ok(Status::Complete(len)) = parsed.parse(bytes) else { return Conditions::default() };
    let one = |name: &str| {
        let mut found = parsed.headers.iter().filter(|header| is(header, name));
        match (found.next(), found.next()) {
            (Some(header), None) => Some(header.value),
            _ => None,
        }
    };
    let list = |name: &'static str| {
        let first = parsed.headers.iter().find(|header| is(header, name))?.value;
        // A value lies in the head that it was read from.
        let end = (first.as_ptr().addr() + first.len()).saturating_sub(bytes.as_ptr().addr());
        Some(Lines::new(name, first, bytes.get(end..len).unwrap_or(&[])))
    };
    Conditions {
        if_match: list("if-match"),
        if_none_match: list("if-none-match"),
        if_modified_since: one("if-modified-since"),
        if_unmodified_since: one("if-unmodified-since"),
        if_range: one("if-range"),
        range: one("range"),
    }
}

/// What stands behind the path in the target of a request that [`parse`] has found good, with its question mark; mostly nothing.
#[cold]
pub fn query(bytes: &[u8]) -> &str {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    // What comes behind the target does not matter.
    let _ = parsed.parse(&bytes[..bytes.len().min(MAX_HEAD)]);
    parsed.path.and_then(|target| target.find('?').map(|at| &target[at..])).unwrap_or("")
}

fn is(header: &httparse::Header, name: &str) -> bool {
    header.name.eq_ignore_ascii_case(name)
}

/// True when a comma-separated list has the token, in whatever case.
fn has_token(list: &[u8], token: &[u8]) -> bool {
    items(list).any(|item| item.eq_ignore_ascii_case(token))
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

/// Where in `bytes` the digits of the version stand, when the first line ends in the name of a version of HTTP.
fn version_at(bytes: &[u8]) -> Option<usize> {
    let start = bytes.iter().position(|&byte| byte != b'\r' && byte != b'\n')?;
    let len = bytes[start..].iter().position(|&byte| byte == b'\n')?;
    let line = &bytes[start..start + len];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let name = line.len() - line.rsplit(|&byte| byte == b' ').next()?.len();
    let version = line[name..].strip_prefix(b"HTTP/")?;
    matches!(version, [major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit())
        .then_some(start + name + b"HTTP/".len())
}

fn refuse_version(bytes: &[u8]) -> Refusal {
    match version_at(bytes).map(|at| (bytes[at], bytes[at + 2])) {
        // One that is known was refused for what stands before it: a target with a space in it. Nor is what was taken for 1.1 taken for it again.
        None | Some((b'1', b'0' | b'1')) => Refusal::BadRequest,
        Some((b'1', _)) => Refusal::LaterMinor,
        Some(_) => Refusal::Version,
    }
}

/// Makes HTTP/1.1 of the version of a request that was refused as [`Refusal::LaterMinor`]: within a major version, whoever does not know
/// the client's minor version goes by the highest that it knows (RFC 9110, section 2.5).
pub fn take_for_1_1(bytes: &mut [u8]) {
    if let Some(at) = version_at(bytes)
        && bytes[at] == b'1'
    {
        bytes[at + 2] = b'1';
    }
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
                after: After::Stay,
                wants_json: false,
                waits: false,
                is_conditional: false,
                head_len: curl.len(),
                body: Body::Bytes(0)
            }
        );
        assert_eq!(good("HEAD / HTTP/1.0\r\n\r\n").method, Method::Head);
        assert_eq!(good("GET / HTTP/1.0\r\n\r\n").after, After::Close);
        assert_eq!(good("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").after, After::KeepAlive);
        assert_eq!(good("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, Close\r\n\r\n").after, After::Close);
        assert_eq!(good("GET / HTTP/1.1\r\nhost:a\r\nCONNECTION:close\r\n\r\n").after, After::Close);
        assert_eq!(good("GET / HTTP/1.1\nHost: a\n\n").head_len, 24, "bare line feeds are tolerated");
        assert_eq!(good("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").path, "/", "and empty lines in front");
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
        assert_eq!(good(&with("Content-Length: 12")).body, Body::Bytes(12));
        assert_eq!(good(&with("Content-Length: 12\r\nContent-Length: 12")).body, Body::Bytes(12));
        assert_eq!(one(&with("Content-Length: 12\r\nContent-Length: 13")), Err(Refusal::BadRequest));
        assert_eq!(one(&with("Content-Length: +1")), Err(Refusal::BadRequest));
        assert_eq!(one(&with("Content-Length: 1,1")), Err(Refusal::BadRequest));
        assert_eq!(one(&with("Content-Length:")), Err(Refusal::BadRequest));
        assert_eq!(one(&with("Content-Length: 4097")), Err(Refusal::BodyTooLarge));
        assert_eq!(one(&with("Content-Length: 99999999999999999999999999")), Err(Refusal::BodyTooLarge));
        assert_eq!(good(&with("Transfer-Encoding: Chunked")).body, Body::Chunked);
        assert_eq!(one(&with("Transfer-Encoding: gzip, chunked")), Err(Refusal::EncodedBody));
        assert_eq!(one(&with("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked")), Err(Refusal::EncodedBody));
        assert_eq!(one(&with("Transfer-Encoding: identity")), Err(Refusal::EncodedBody));
        for list in [", chunked", "chunked ,", " ,, CHUNKED ,\t,"] {
            assert_eq!(good(&with(&format!("Transfer-Encoding: {list}"))).body, Body::Chunked, "{list}");
        }
        assert_eq!(one(&with("Transfer-Encoding: ,")), Err(Refusal::EncodedBody));
        assert_eq!(one(&with("Transfer-Encoding: chunked,,chunked")), Err(Refusal::BadRequest));
        assert_eq!(one(&with("Transfer-Encoding: chunked, chunked")), Err(Refusal::BadRequest));
        assert_eq!(one(&with("Transfer-Encoding: chunked, gzip")), Err(Refusal::BadRequest));
        assert_eq!(one(&with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")), Err(Refusal::BadRequest));
        assert_eq!(one("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(Refusal::BadRequest));
        assert_eq!(one(&with("Transfer-Encoding: chunked\r\nContent-Length: 1")), Err(Refusal::BadRequest));
    }

    #[test]
    fn clients_that_wait() {
        let with = |headers: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n");
        assert!(good(&with("Expect: 100-Continue\r\nContent-Length: 1")).waits);
        assert!(good(&with("Expect: 100-continue\r\nTransfer-Encoding: chunked")).waits);
        assert!(good(&with("Expect: , 100-continue,\r\nContent-Length: 1")).waits);
        assert_eq!(one(&with("Expect: 100-continue, wonders\r\nContent-Length: 1")), Err(Refusal::Expectation));
        assert!(!good(&with("Expect: 100-continue")).waits, "for nothing");
        assert!(!good("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n").waits);
        assert_eq!(one(&with("Expect: wonders")), Err(Refusal::Expectation));
    }

    #[test]
    fn minor_versions() {
        for minor in 2..=9 {
            let mut text = format!("\r\nGET /HTTP/1.{minor} HTTP/1.{minor}\r\nHost: a\r\n\r\n").into_bytes();
            assert_eq!(parse(&text), Err(Refusal::LaterMinor));
            take_for_1_1(&mut text);
            let request = parse(&text).expect("valid").expect("complete");
            assert!(request.after == After::Stay && request.path == format!("/HTTP/1.{minor}"), "{request:?}");
        }
        assert_eq!(one("GET / HTTP/1.10\r\nHost: a\r\n\r\n"), Err(Refusal::BadRequest));
    }

    #[test]
    fn a_target_with_a_space_in_it_has_no_version() {
        for line in ["GET /a b HTTP/1.1", "GET /a HTTP/1.1 HTTP/1.0", "GET /a HTTP/1.3 HTTP/1.1", "GET /a  HTTP/1.1"] {
            assert_eq!(one(&format!("{line}\r\nHost: a\r\n\r\n")), Err(Refusal::BadRequest), "{line}");
        }
        let mut text = b"GET /a HTTP/1.4 HTTP/1.5\r\nHost: a\r\n\r\n".to_vec();
        assert_eq!(parse(&text), Err(Refusal::LaterMinor));
        take_for_1_1(&mut text);
        assert_eq!(parse(&text), Err(Refusal::BadRequest), "once, and not again and again");
    }

    #[test]
    fn conditions_are_found() {
        let with = |headers: &str| String::from("GET / HTTP/1.1\r\nHost: a\r\n") + headers + "\r\n\r\n";
        let text =
            with("IF-NONE-MATCH: \"x\"\r\nRange: bytes=0-1\r\nif-modified-since: now\r\nIf-Unmodified-Since: then");
        assert!(good(&text).is_conditional);
        let conditions = conditions(text.as_bytes());
        let behind = text.split_once("\"x\"").expect("it is there").1;
        assert_eq!(conditions.if_none_match, Some(Lines::new("if-none-match", b"\"x\"", behind.as_bytes())));
        assert_eq!(conditions.range, Some(&b"bytes=0-1"[..]));
        assert_eq!(
            (conditions.if_modified_since, conditions.if_unmodified_since),
            (Some(&b"now"[..]), Some(&b"then"[..]))
        );
        let text = with("Range: bytes=0-1\r\nRange: bytes=0-2");
        assert_eq!(super::conditions(text.as_bytes()), Conditions::default(), "which of them?");
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
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Refusal::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Refusal::BadRequest),
            ("GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", Refusal::BadRequest),
            ("GET / HTTP/1.0\r\nHost: a:b\r\n\r\n", Refusal::BadRequest),
            ("GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::BadRequest),
        ] {
            assert_eq!(one(text), Err(refusal), "{text:?}");
        }
        assert_eq!(good("BREW / HTTP/1.1\r\nHost: a\r\n\r\n").method, Method::Unknown);
        assert_eq!(good("get / HTTP/1.1\r\nHost: a\r\n\r\n").method, Method::Unknown);
        assert_eq!(good("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n").method, Method::NotAllowed);
    }

    #[test]
    fn limits() {
        assert_eq!(one(&format!("GET /{}", "a".repeat(MAX_HEAD))), Err(Refusal::UriTooLong));
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "b".repeat(MAX_HEAD));
        assert_eq!(one(&long), Err(Refusal::HeadersTooLarge));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(MAX_HEADERS));
        assert_eq!(one(&many), Err(Refusal::HeadersTooLarge));
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {}\r\n\r\n", "b".repeat(MAX_HEAD - 50));
        assert_eq!(good(&long).head_len, long.len());
        let just = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(MAX_HEADERS - 1));
        assert_eq!(good(&just).path, "/");
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            let _ = conditions(&bytes);
            if let Ok(Some(request)) = parse(&bytes) {
                prop_assert!(request.head_len <= bytes.len().min(MAX_HEAD));
            }
        }

        #[test]
        fn nearly_a_request(mut text in "(GET|POST|HEAD|X)( |  )(/|\\*|http://a|/100b)[ -~]{0,8}( |  )(b |HTTP/1\\.3 )?HTTP/[0-9]\\.[0-9]\r?\n((Host|Content-Length|Connection|Transfer-Encoding|Accept|Expect|Range|If-Range): ?[ -~]{0,12}\r?\n){0,4}\r?\n?") {
            if one(&text) == Err(Refusal::LaterMinor) {
                let mut bytes = text.into_bytes();
                take_for_1_1(&mut bytes);
                prop_assert_ne!(parse(&bytes), Err(Refusal::LaterMinor));
                text = String::from_utf8(bytes).expect("a digit for a digit");
            }
            if let Ok(Some(request)) = one(&text) {
                prop_assert!(request.head_len <= text.len());
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
