//! Requests to the web server.

use http_chunks::Chunked;
use httpd::request::{Body, MAX_BODY, MAX_HEAD, Refusal, Request, conditions, parse, take_for_1_1};

/// A request, which comes at once or in two parts, and the body behind it.
pub fn run(data: &[u8]) -> bool {
    let whole = parse(data);
    // Where it is cut makes no difference to what is read in the end.
    let cut = usize::from(data.first().copied().unwrap_or(0)) * data.len() / 256;
    for early in [cut, data.len().saturating_sub(1)] {
        match parse(&data[..early]) {
            Ok(Some(request)) => assert_eq!(whole, Ok(Some(request)), "more bytes have changed a whole request"),
            Ok(None) => {}
            Err(refusal) => assert!(whole.is_err(), "{refusal:?} of a part of a good request"),
        }
    }
    if whole == Err(Refusal::LaterMinor) {
        let mut bytes = data.to_vec();
        take_for_1_1(&mut bytes);
        assert_ne!(parse(&bytes), Err(Refusal::LaterMinor), "it would be taken for 1.1 again and again");
        return run(&bytes);
    }
    let Ok(Some(request)) = whole else { return false };
    judge(&request, data);
    if request.is_conditional {
        let _ = conditions(data);
    }
    if request.body == Body::Chunked {
        body(&data[request.head_len..]);
    }
    true
}

fn judge(request: &Request, data: &[u8]) {
    assert!(request.head_len <= data.len().min(MAX_HEAD) && data[..request.head_len].ends_with(b"\n"));
    assert!(request.path.is_empty() || request.path.starts_with('/'), "{:?}", request.path);
    assert!(!request.path.contains('?'), "{:?}", request.path);
    if let Body::Bytes(len) = request.body {
        assert!(len <= MAX_BODY);
    }
}

/// A body in chunks ends at the same place however it comes.
fn body(data: &[u8]) {
    let mut at_once = Chunked::new(MAX_BODY);
    let whole = at_once.take(data);
    let mut by_bytes = Chunked::new(MAX_BODY);
    let mut taken = Ok(0);
    for byte in data {
        match (taken, by_bytes.take(std::slice::from_ref(byte))) {
            (Ok(sum), Ok(1)) => taken = Ok(sum + 1),
            (Ok(_), Ok(_)) => break,
            (_, Err(fault)) => {
                taken = Err(fault);
                break;
            }
            (Err(_), _) => break,
        }
    }
    assert_eq!(whole, taken);
    assert_eq!(at_once.is_over(), by_bytes.is_over());
}

/// Requests of browsers and of others.
pub fn seeds() -> Vec<Vec<u8>> {
    let requests: [&[u8]; 9] = [
        b"GET / HTTP/1.1\r\nHost: 10.0.2.16\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n",
        b"HEAD /foraker.css?v=%32 HTTP/1.1\r\nHost: [fe80::1]:8080\r\nIf-None-Match: \"x\", W/\"y\"\r\nRange: bytes=0-99\r\n\r\n",
        b"GET /%66oraker.js HTTP/1.0\r\nConnection: keep-alive\r\nAccept: application/json;q=1\r\n\r\nGET",
        b"POST /status HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
        b"PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nTrailer: x\r\n\r\nGET /",
        b"OPTIONS * HTTP/1.1\r\nHost: example.org\r\nConnection: close, x\r\n\r\n",
        b"GET http://example.org/100k HTTP/1.9\r\nHost: example.org\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n",
        b"GET /a b HTTP/1.4 HTTP/1.3\r\nHost: a\r\n\r\n",
        b"\r\nGET / HTTP/1.1\nHost: a\nContent-Length: 3\nContent-Length: 3\n\nabc",
    ];
    requests.iter().map(|request| request.to_vec()).collect()
}
