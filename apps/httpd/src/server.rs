//! Connections: one task for each.

use crate::date::{self, DATE_BYTES};
use crate::document::{self, Document, LEN_100, LEN_2258, PIECE, PIECES_OF_100K};
use crate::request::{self, MAX_HEAD, Method, Request};
use crate::response::{self, Code, OK, content_type};
use crate::status::StatusPage;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt::Write;
use ilwaco::net::{Error, TcpListener, TcpStream};
use ilwaco::task::{Either, race, shutdown_requested, spawn, yield_now};
use ilwaco::time::{Duration, Instant, timeout, unix_seconds};

/// Where requests are taken.
pub const PORT: u16 = 80;
/// How long a client may take to send a request's line and headers, from its first byte on (or from the connection's start).
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may stay open without a request.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a client may take to accept a piece of a response.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of a body up to which it is cheaper to copy it behind the head than to write twice.
const JOINED: usize = 512;
/// Requests of one connection that are answered before others get a turn.
const TURN: u32 = 16;

/// What all connections share.
struct Site {
    started: Instant,
    requests: Cell<u64>,
    errors: Cell<u64>,
    accepted: Cell<u64>,
    /// The second for which `date` holds.
    second: Cell<u64>,
    date: Cell<[u8; DATE_BYTES]>,
}

/// Serves for ever, or until the VM is asked to end itself. The code that the VM ends with: 0 when it was asked, 1 without
/// a network.
pub async fn serve() -> u64 {
    let vm = ilwaco::vm_id().index;
    let address = match ilwaco::net::up().await {
        Ok(address) => address,
        Err(error) => {
            ilwaco::println!("httpd: {error}");
            return 1;
        }
    };
    let listener = match TcpListener::bind(PORT) {
        Ok(listener) => listener,
        Err(error) => {
            ilwaco::println!("httpd: port {PORT}: {error}");
            return 1;
        }
    };
    ilwaco::println!("httpd: serving http://{address}/ (vm {vm})");
    let site = Rc::new(Site {
        started: Instant::from_nanos(0),
        requests: Cell::new(0),
        errors: Cell::new(0),
        accepted: Cell::new(0),
        second: Cell::new(u64::MAX),
        date: Cell::new([b' '; DATE_BYTES]),
    });
    match race(shutdown_requested(), accept(&listener, &site)).await {
        Either::Left(()) => {
            ilwaco::println!("httpd: asked to end");
            0
        }
        Either::Right(error) => {
            ilwaco::println!("httpd: {error}");
            1
        }
    }
}

/// Accepts connections until that fails.
async fn accept(listener: &TcpListener, site: &Rc<Site>) -> Error {
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        site.accepted.set(site.accepted.get() + 1);
        let site = site.clone();
        let connection = async move {
            let mut connection = Connection { stream, site, input: Vec::new(), output: Vec::new() };
            if let Err(Fate::Abort) = connection.run().await {
                connection.stream.abort();
            }
        };
        // There are more tasks than connections, so this is a matter of principle: the client sees its connection closed.
        if spawn(connection).is_err() {
            log::warn!("no task for a connection");
        }
    }
}

/// Why a connection ends early.
enum Fate {
    /// There is nothing more to say.
    Close,
    /// The client does not take what it is sent.
    Abort,
}

impl From<Error> for Fate {
    fn from(_: Error) -> Fate {
        Fate::Close
    }
}

struct Connection {
    stream: TcpStream,
    site: Rc<Site>,
    /// What has been received and not been dealt with: at most [`MAX_HEAD`] bytes.
    input: Vec<u8>,
    /// What is being written.
    output: Vec<u8>,
}

/// What is done with a request.
struct Answer {
    head_len: usize,
    body_len: usize,
    keep_alive: bool,
    with_body: bool,
    what: Result<Document, Code>,
}

impl Answer {
    fn to(request: &Request) -> Answer {
        let what = match (request.method, Document::at(request.path)) {
            (Method::Get | Method::Head, Some(Document::Status)) if request.wants_json => Ok(Document::StatusJson),
            (Method::Get | Method::Head, Some(document)) => Ok(document),
            (Method::Get | Method::Head, None) => Err(response::NOT_FOUND),
            (Method::NotAllowed, _) => Err(response::METHOD_NOT_ALLOWED),
            (Method::Unknown, _) => Err(response::NOT_IMPLEMENTED),
        };
        Answer {
            head_len: request.head_len,
            body_len: request.body_len,
            keep_alive: request.keep_alive,
            with_body: request.method != Method::Head,
            what,
        }
    }
}

impl Connection {
    async fn run(&mut self) -> Result<(), Fate> {
        let mut turn = 0;
        let mut first = true;
        loop {
            let answer = match self.request(first).await? {
                Ok(answer) => answer,
                Err(code) => {
                    self.count(true);
                    self.output.clear();
                    response::error(&mut self.output, code, false, true, &self.site.date());
                    return self.write().await;
                }
            };
            first = false;
            self.skip(answer.head_len, answer.body_len).await?;
            self.respond(&answer).await?;
            if !answer.keep_alive {
                return Ok(());
            }
            turn += 1;
            if turn % TURN == 0 {
                yield_now().await;
            }
        }
    }

    /// The next request, or the code of the error that is to be reported.
    async fn request(&mut self, first: bool) -> Result<Result<Answer, Code>, Fate> {
        // A connection that has never said anything has the time of a request, and not that of an idle one.
        let mut since = (first || !self.input.is_empty()).then(Instant::now);
        loop {
            if !self.input.is_empty() {
                match request::parse(&self.input) {
                    Ok(Some(request)) => return Ok(Ok(Answer::to(&request))),
                    Ok(None) => {}
                    Err(refusal) => return Ok(Err(refusal.into())),
                }
            }
            let patience = since.map_or(IDLE_TIMEOUT, |since| REQUEST_TIMEOUT.saturating_sub(since.elapsed()));
            match timeout(patience, self.stream.read_onto(&mut self.input, MAX_HEAD)).await {
                Ok(read) => {
                    // In the middle of a request, the end is as good as no request.
                    if read? == 0 {
                        return Err(Fate::Close);
                    }
                }
                Err(_) if since.is_some() => return Ok(Err(response::REQUEST_TIMEOUT)),
                Err(_) => return Err(Fate::Close),
            }
            if since.is_none() {
                since = Some(Instant::now());
            }
        }
    }

    /// Takes a request's head and body out of what was received.
    async fn skip(&mut self, head_len: usize, body_len: usize) -> Result<(), Fate> {
        let mut rest = head_len + body_len;
        let since = Instant::now();
        loop {
            let len = rest.min(self.input.len());
            if len == self.input.len() {
                self.input.clear();
            } else {
                self.input.drain(..len);
            }
            rest -= len;
            if rest == 0 {
                return Ok(());
            }
            let patience = REQUEST_TIMEOUT.saturating_sub(since.elapsed());
            match timeout(patience, self.stream.read_onto(&mut self.input, MAX_HEAD)).await {
                Ok(read) if read? > 0 => {}
                _ => return Err(Fate::Close),
            }
        }
    }

    async fn respond(&mut self, answer: &Answer) -> Result<(), Fate> {
        self.count(answer.what.is_err());
        let document = match answer.what {
            Ok(document) => document,
            Err(code) => {
                self.output.clear();
                response::error(&mut self.output, code, answer.keep_alive, answer.with_body, &self.site.date());
                return self.write().await;
            }
        };
        match document {
            Document::Bytes100 => self.send(answer, content_type::TEXT, document::bytes(LEN_100)).await,
            Document::Bytes2258 => self.send(answer, content_type::TEXT, document::bytes(LEN_2258)).await,
            Document::Bytes100k => {
                self.head(answer, content_type::TEXT, PIECE * PIECES_OF_100K);
                self.write().await?;
                for _ in 0..if answer.with_body { PIECES_OF_100K } else { 0 } {
                    self.write_bytes(document::bytes(PIECE)).await?;
                }
                Ok(())
            }
            Document::Index => {
                let page = self.site.index();
                self.send(answer, content_type::HTML, &page).await
            }
            Document::Status => {
                let page = self.site.status(false);
                self.send(answer, content_type::TEXT, &page).await
            }
            Document::StatusJson => {
                let page = self.site.status(true);
                self.send(answer, content_type::JSON, &page).await
            }
        }
    }

    fn count(&self, error: bool) {
        self.site.requests.set(self.site.requests.get() + 1);
        self.site.errors.set(self.site.errors.get() + u64::from(error));
    }

    /// Starts the output with a head.
    fn head(&mut self, answer: &Answer, content_type: &str, len: usize) {
        self.output.clear();
        response::head(&mut self.output, OK, content_type, len, answer.keep_alive, &self.site.date());
    }

    /// Sends a head and, unless only that was asked for, a body.
    async fn send(&mut self, answer: &Answer, content_type: &str, body: &[u8]) -> Result<(), Fate> {
        self.head(answer, content_type, body.len());
        if !answer.with_body {
            return self.write().await;
        }
        if body.len() <= JOINED {
            self.output.extend_from_slice(body);
            return self.write().await;
        }
        self.write().await?;
        self.write_bytes(body).await
    }

    /// Sends the output.
    async fn write(&mut self) -> Result<(), Fate> {
        match timeout(WRITE_TIMEOUT, self.stream.write_all(&self.output)).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(Fate::Abort),
        }
    }

    /// Sends a piece of a body.
    async fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), Fate> {
        match timeout(WRITE_TIMEOUT, self.stream.write_all(bytes)).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(Fate::Abort),
        }
    }
}

/// Text collects here.
struct Page(Vec<u8>);

impl Write for Page {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

impl Site {
    /// The present, in the form of a header; formatted once a second at most.
    fn date(&self) -> [u8; DATE_BYTES] {
        let second = unix_seconds();
        if self.second.replace(second) != second {
            self.date.set(date::format(second));
        }
        self.date.get()
    }

    fn index(&self) -> Vec<u8> {
        let vm = ilwaco::vm_id().index;
        let mut page = Page(Vec::new());
        // Writing to a `Page` does not fail.
        let _ = write!(
            page,
            "<!doctype html>\n<html lang=\"en\">\n<title>Foraker VM {vm}</title>\n<h1>VM {vm}</h1>\n\
             <p>This page comes from a web server in a virtual machine of its own.</p>\n\
             <p><a href=\"/status\">Its state</a> (<a href=\"/status.json\">JSON</a>); documents of \
             <a href=\"/100b\">100</a>, <a href=\"/2258b\">2,258</a> and <a href=\"/100k\">102,400</a> bytes.</p>\n</html>\n"
        );
        page.0
    }

    fn status(&self, json: bool) -> Vec<u8> {
        let vm = ilwaco::vm_id();
        let nic = ilwaco::net::nic_counters();
        let net = ilwaco::net::net_counters();
        let (half_open, open) = ilwaco::net::connections();
        let status = StatusPage {
            vm: vm.index,
            incarnation: vm.incarnation,
            uptime: self.started.elapsed(),
            memory_bytes: ilwaco::memory_bytes(),
            heap_used_bytes: ilwaco::heap_usage().0,
            requests: self.requests.get(),
            errors: self.errors.get(),
            accepted: self.accepted.get(),
            open,
            half_open,
            counters: [
                ("nic_rx_frames", nic.rx_frames),
                ("nic_rx_bytes", nic.rx_bytes),
                ("nic_tx_frames", nic.tx_frames),
                ("nic_tx_bytes", nic.tx_bytes),
                ("nic_rx_drop_full", nic.rx_drop_full),
                ("nic_tx_drop_mac", nic.tx_drop_mac),
                ("nic_tx_drop_ip", nic.tx_drop_ip),
                ("nic_tx_drop_malformed", nic.tx_drop_malformed),
                ("nic_tx_drop_full", nic.tx_drop_full),
                ("net_refused_frames", net.refused_frames),
                ("net_refused_connections", net.refused_connections),
                ("net_forgotten_handshakes", net.forgotten_handshakes),
            ],
        };
        let mut page = Page(Vec::new());
        // Writing to a `Page` does not fail.
        let _ = if json { status.json(&mut page) } else { status.text(&mut page) };
        page.0
    }
}
