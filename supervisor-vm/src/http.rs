//! What is served over HTTP: a page for people, the figures for Prometheus, and the VMs as JSON, for whoever asks; and for programs with a token
//! what changes something ([`crate::api`]).

use crate::image_order::FILE_BYTES;
use crate::image_query::ImageQuery;
use crate::node::Node;
use crate::query::{ListQuery, Query};
use crate::reply::{JSON, Reply};
use crate::request::{Asked, BODY, Body, HEAD, Head, parse};
use crate::shown::shown;
use crate::{api, audit, disks, heard, images, list, metrics, policies, show, tenants, top};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use ilwaco::net::{Error, TcpListener, TcpStream};
use ilwaco::task::spawn;
use ilwaco::time::{Duration, timeout};

/// Where requests are taken.
pub const PORT: u16 = 80;
/// Connections at the same time: with what their requests and answers take, they leave room for logins.
const CONNECTIONS: usize = 32;
/// How long a client may take for its request, and how long for the answer.
const LIMIT: Duration = Duration::from_secs(15);

/// How long an image may take to come.
const IMAGE_LIMIT: Duration = Duration::from_secs(300);

/// What somebody is told for whom there is no place, which fits into any buffer; and how long that may take.
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// See `BUSY`.
const BRIEF: Duration = Duration::from_millis(10);

/// The kind of Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// That of the page for people.
const PAGE: &str = "text/html; charset=utf-8";

/// Serves until that fails.
pub async fn serve(listener: TcpListener, node: Rc<Node>) -> Error {
    let places = Rc::new(());
    loop {
        let mut stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        // One is kept here.
        if Rc::strong_count(&places) > CONNECTIONS {
            log::debug!("http: {CONNECTIONS} connections at once, no room for one more");
            let _ = timeout(BRIEF, stream.write_all(BUSY)).await;
            continue;
        }
        let (node, place) = (node.clone(), places.clone());
        let answered = async move {
            let _ = answer(stream, &node).await;
            node.power.told();
            drop(place);
        };
        if spawn(answered).is_err() {
            log::warn!("no task for a connection");
        }
    }
}

/// Takes a request and answers it. Who takes too long for either is left alone; what was begun meanwhile is done to its end.
async fn answer(mut stream: TcpStream, node: &Node) -> Result<(), Error> {
    let mut bytes = Vec::new();
    let Ok(taken) = timeout(LIMIT, take_head(&mut stream, &mut bytes)).await else { return Ok(()) };
    let (reply, head_only) = match (taken?, parse(&bytes)) {
        (false, _) => return Ok(()),
        (true, Asked::Head(head)) => {
            let who = stream.peer_addr().map_or_else(|| String::from("?"), |address| format!("{address}"));
            (
                reply_to(&mut stream, node, &who, &head, bytes.get(head.bytes..).unwrap_or_default()).await?,
                head.method == "HEAD",
            )
        }
        (true, _) => (Some(Reply::text("400 Bad Request", "that is no HTTP request\n")), false),
    };
    let Some(reply) = reply else { return Ok(()) };
    let sent = async {
        stream.write_all(reply.head().as_bytes()).await?;
        if !head_only {
            stream.write_all(reply.body.as_bytes()).await?;
        }
        stream.flush().await
    };
    timeout(LIMIT, sent).await.unwrap_or(Ok(()))
}

/// Reads until there is a head, or something that is none. False when the client has said all before.
async fn take_head(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<bool, Error> {
    while parse(bytes) == Asked::More {
        if stream.read_onto(bytes, HEAD).await? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What is answered to a request of which the head and the beginning of the body are there; `None` when the rest does not come.
async fn reply_to(
    stream: &mut TcpStream,
    node: &Node,
    address: &str,
    head: &Head<'_>,
    begins: &[u8],
) -> Result<Option<Reply>, Error> {
    let Some(route) = api::route(head.method, head.path) else {
        let read = matches!(head.method, "GET" | "HEAD");
        return Ok(Some(if read { document(node, head.path, head.query).await } else { nothing_there() }));
    };
    if let api::Route::Wrong(allowed) = route {
        return Ok(Some(Reply::wrong_method(allowed)));
    }
    let name = head.token.and_then(|token| node.tokens.borrow_mut().take(token).map(String::from));
    let Some(name) = name else {
        log::warn!("http: {address} may not {} {}: it shows no token that is known", head.method, shown(head.path));
        let mut refused = Reply::refused(
            "401 Unauthorized",
            "show a token in the header Authorization: Bearer TOKEN; an operator makes one with `token new`",
        );
        refused.headers.push_str("WWW-Authenticate: Bearer\r\n");
        return Ok(Some(refused));
    };
    let most = if matches!(route, api::Route::PutImage(_)) { FILE_BYTES } else { BODY };
    let length = match head.body {
        Body::Bytes(length) if length <= most => length,
        Body::Bytes(_) | Body::TooLong => {
            let why = format!("a body has {most} bytes at most");
            return Ok(Some(Reply::refused("413 Content Too Large", &why)));
        }
        Body::Unsaid => {
            return Ok(Some(Reply::refused("411 Length Required", "say how long the body is, in Content-Length")));
        }
    };
    let who = format!("token {name} at {address}");
    if let api::Route::PutImage(name) = route {
        return take_image(stream, node, &who, head, &name, (length, begins)).await;
    }
    let mut body = Vec::from(begins);
    let taken = timeout(LIMIT, take_body(stream, &mut body, length, head.waits)).await;
    if !taken.unwrap_or(Ok(false))? {
        return Ok(None);
    }
    body.truncate(length);
    Ok(Some(match route {
        api::Route::Log => heard::log(node, head.query).await,
        api::Route::ReadConsole(vm) => heard::read(node, &who, &vm, head.query).await,
        api::Route::WriteConsole(vm) => heard::write(node, &who, &vm, &body).await,
        route => api::serve(node, &who, route, &body).await,
    }))
}

/// Takes an image of so many bytes, of which the beginning is there.
async fn take_image(
    stream: &mut TcpStream,
    node: &Node,
    who: &str,
    head: &Head<'_>,
    name: &str,
    (length, begins): (usize, &[u8]),
) -> Result<Option<Reply>, Error> {
    let order = match api::image_order(name, head.query) {
        Ok(order) => order,
        Err(why) => return Ok(Some(Reply::refused("400 Bad Request", &why))),
    };
    let mut receipt = match node.receive(length) {
        Ok(receipt) => receipt,
        Err(why) => return Ok(Some(Reply::refused("503 Service Unavailable", &why))),
    };
    receipt.file.extend_from_slice(begins);
    let taken = timeout(IMAGE_LIMIT, take_body(stream, &mut receipt.file, length, head.waits)).await;
    if !taken.unwrap_or(Ok(false))? {
        return Ok(None);
    }
    receipt.file.truncate(length);
    let said = images::put(node, &order, &receipt.file).await;
    let text = format!("image put {name} {}", shown(head.query));
    audit::done(node, who, text.trim(), said.as_ref().map_or_else(String::as_str, |_| audit::DONE)).await;
    Ok(Some(match said {
        Ok(_) => match images::show(node, name, true).await {
            Ok(body) => Reply { headers: format!("Location: /images/{name}\r\n"), ..Reply::json("201 Created", body) },
            Err(why) => Reply::refused("503 Service Unavailable", &why),
        },
        Err(why) => Reply::refused("409 Conflict", &why),
    }))
}

/// Reads so many bytes. False when they do not come.
async fn take_body(stream: &mut TcpStream, body: &mut Vec<u8>, length: usize, waits: bool) -> Result<bool, Error> {
    if waits && body.len() < length {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    while body.len() < length {
        if stream.read_onto(body, length).await? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn nothing_there() -> Reply {
    Reply::text(
        "404 Not Found",
        "there are /, /metrics, /vms, /components.json and /node.json; docs/supervisor.md has the rest\n",
    )
}

async fn document(node: &Node, path: &str, query: &str) -> Reply {
    let (kind, body) = match path {
        "/metrics" => (METRICS, metrics::page(node).await),
        "/vms" | "/vms.json" => return vms(node, query).await,
        "/tenants" | "/tenants.json" => (JSON, tenants::list(node, true).await),
        "/images" | "/images.json" => return images(node, query).await,
        "/top.json" => (JSON, top::top(node, top::SHOWN, true).await),
        "/disks" | "/disks.json" => (JSON, disks::list(node, true).await),
        "/policies.json" => (JSON, policies::list(node, None, true).await),
        "/components.json" => (JSON, show::components(node, true).await),
        "/node.json" => (JSON, show::node(node, true).await),
        "/" => {
            let headers = "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'\r\n";
            return Reply {
                kind: PAGE,
                headers: String::from(headers),
                ..Reply::text("200 OK", include_str!("page.html"))
            };
        }
        path => {
            let found = match path.strip_prefix('/').and_then(|path| path.split_once('/')) {
                Some(("vms", vm)) => list::vm(node, vm, true).await,
                Some(("images", image)) => images::show(node, image, true).await,
                Some(("policies", component)) => policies::list(node, Some(component), true).await,
                Some(("tenants", tenant)) => tenants::named(node, tenant).await,
                _ => return nothing_there(),
            };
            return found.map_or_else(|why| Reply::refused("404 Not Found", &why), |body| Reply::json("200 OK", body));
        }
    };
    match body {
        Ok(body) => Reply { kind, ..Reply::text("200 OK", body) },
        Err(why) => Reply::text("503 Service Unavailable", why + "\n"),
    }
}

/// The VMs that are asked for, and the address at which the list goes on; with the word `count` how many they are.
async fn vms(node: &Node, text: &str) -> Reply {
    let (counts, text) = counts(text);
    match Query::of_address(&text) {
        Ok(query) if counts => listed("/vms.json", &text, list::count(node, &query, true).await.map(whole)),
        Ok(query) => listed("/vms.json", &text, list::vms(node, &query, true).await),
        Err((key, takes)) => misunderstood(&key, takes),
    }
}

/// The same of images.
async fn images(node: &Node, text: &str) -> Reply {
    let (counts, text) = counts(text);
    match ImageQuery::of_address(&text) {
        Ok(query) if counts => listed("/images.json", &text, images::count(node, &query, true).await.map(whole)),
        Ok(query) => listed("/images.json", &text, images::list(node, &query, true).await),
        Err((key, takes)) => misunderstood(&key, takes),
    }
}

/// Whether it is asked how many there are, and the rest of what is asked.
fn counts(text: &str) -> (bool, String) {
    let (counts, rest): (Vec<&str>, Vec<&str>) = text.split('&').partition(|pair| matches!(*pair, "count" | "count="));
    (!counts.is_empty(), rest.join("&"))
}

/// What goes on nowhere.
fn whole(text: String) -> (String, Option<String>) {
    (text, None)
}

/// A list, as `text` asks for it at `path`, and behind whom it goes on.
fn listed(path: &str, text: &str, list: Result<(String, Option<String>), String>) -> Reply {
    match list {
        Ok((body, more_after)) => {
            let headers = more_after.map(|last| next(path, text, &last)).unwrap_or_default();
            Reply { kind: JSON, headers, ..Reply::text("200 OK", body) }
        }
        Err(why) => Reply::text("503 Service Unavailable", why + "\n"),
    }
}

fn misunderstood(key: &str, takes: &str) -> Reply {
    Reply::text("400 Bad Request", format!("{}: give {takes}\n", shown(key)))
}

/// The header that says where a list goes on behind `last`. `text` has been understood, so that nothing in it ends a line.
fn next(path: &str, text: &str, last: &str) -> String {
    let mut address = format!("{path}?");
    for pair in text.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("after=")) {
        address.push_str(pair);
        address.push('&');
    }
    format!("Link: <{address}after={last}>; rel=\"next\"\r\n")
}

#[cfg(test)]
#[path = "crowd_tests.rs"]
mod crowd;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_asked_for_by_a_word() {
        let is =
            |text, expected: (bool, &str)| assert_eq!(counts(text), (expected.0, String::from(expected.1)), "{text}");
        is("", (false, ""));
        is("count", (true, ""));
        is("state=idle&count=&image=a", (true, "state=idle&image=a"));
        is("count=3", (false, "count=3"));
    }

    #[test]
    fn a_list_says_where_it_goes_on() {
        assert_eq!(next("/vms.json", "", "vm7.1"), "Link: </vms.json?after=vm7.1>; rel=\"next\"\r\n");
        let again = next("/vms.json", "after=vm7.1&state=idle&limit=2", "vm9.1");
        assert_eq!(again, "Link: </vms.json?state=idle&limit=2&after=vm9.1>; rel=\"next\"\r\n");
    }
}
