//! What is served over HTTP, for reading only: the figures for Prometheus, and the VMs as JSON.

use crate::node::Node;
use crate::{metrics, show};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use httparse::Status;
use ilwaco::net::{Error, TcpListener, TcpStream};
use ilwaco::task::spawn;
use ilwaco::time::{Duration, timeout};

/// Where requests are taken.
pub const PORT: u16 = 80;
/// Bytes of a request at most.
const HEAD: usize = 8 * 1024;
/// Headers of a request at most.
const HEADERS: usize = 64;
/// How long a client may take for its request, and for the answer.
const LIMIT: Duration = Duration::from_secs(15);

/// The kind of Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves until that fails.
pub async fn serve(listener: TcpListener, node: Rc<Node>) -> Error {
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        let node = node.clone();
        let answered = async move {
            // Who takes longer is left alone.
            let _ = timeout(LIMIT, answer(stream, &node)).await;
        };
        if spawn(answered).is_err() {
            log::warn!("no task for a connection");
        }
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked<'a> {
    /// It goes on.
    More,
    /// The document of this path, or its headers alone.
    Get { path: &'a str, head_only: bool },
    /// Something else.
    Other,
    /// It is no request.
    Bad,
}

fn parse(bytes: &[u8]) -> Asked<'_> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(Status::Partial) if bytes.len() < HEAD => Asked::More,
        Ok(Status::Complete(_)) => match (request.method, request.path) {
            (Some(method @ ("GET" | "HEAD")), Some(path)) => {
                Asked::Get { path: path.split('?').next().unwrap_or(path), head_only: method == "HEAD" }
            }
            _ => Asked::Other,
        },
        _ => Asked::Bad,
    }
}

async fn answer(mut stream: TcpStream, node: &Node) -> Result<(), Error> {
    let mut bytes = Vec::new();
    let (status, kind, body, head_only) = loop {
        match parse(&bytes) {
            Asked::More => {
                if stream.read_onto(&mut bytes, HEAD).await? == 0 {
                    return Ok(());
                }
            }
            Asked::Get { path, head_only } => {
                let (status, kind, body) = document(node, path).await;
                break (status, kind, body, head_only);
            }
            Asked::Other => {
                break (
                    "405 Method Not Allowed",
                    "text/plain",
                    "only GET and HEAD are served here\n".to_string(),
                    false,
                );
            }
            Asked::Bad => break ("400 Bad Request", "text/plain", "that is no HTTP request\n".to_string(), false),
        }
    };
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}Cache-Control: no-store\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    if !head_only {
        stream.write_all(body.as_bytes()).await?;
    }
    stream.flush().await
}

async fn document(node: &Node, path: &str) -> (&'static str, &'static str, String) {
    let (kind, body) = match path {
        "/metrics" => (METRICS, metrics::page(node).await),
        "/vms.json" => ("application/json", show::vms(node, true).await),
        "/components.json" => ("application/json", show::components(node, true).await),
        "/node.json" => ("application/json", show::node(node, true).await),
        _ => {
            let body = "there are /metrics, /vms.json, /components.json and /node.json\n".to_string();
            return (if path == "/" { "200 OK" } else { "404 Not Found" }, "text/plain", body);
        }
    };
    match body {
        Ok(body) => ("200 OK", kind, body),
        Err(why) => ("503 Service Unavailable", "text/plain", why + "\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let get = |path, head_only| Asked::Get { path, head_only };
        assert_eq!(parse(b"GET /metrics?a=b HTTP/1.1\r\nHost: a\r\n\r\n"), get("/metrics", false));
        assert_eq!(parse(b"HEAD / HTTP/1.0\r\n\r\n"), get("/", true));
        assert_eq!(parse(b"GET / HTT"), Asked::More);
        assert_eq!(parse(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"), Asked::Other);
        assert_eq!(parse(b"\x16\x03\x01 hello"), Asked::Bad);
        assert_eq!(parse(&[b'a'; HEAD]), Asked::Bad);
    }
}
