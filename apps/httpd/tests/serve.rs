//! The server as its clients see it: over TCP, on the simulated machine.

use ilwaco::sim::smoltcp::socket::tcp;
use ilwaco::sim::smoltcp::wire::{IpAddress, Ipv4Address};
use ilwaco::sim::{GUEST, Sim, World};
use ilwaco::task::{Either, block_on, race};
use ilwaco::time::{Duration, Instant, sleep};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

const ARGS: &str = "ip=10.0.2.16/24 gw=10.0.2.2";

/// What one client does: pieces of text, each sent at its time (milliseconds).
type Plan = Vec<(u64, String)>;

/// What one client got: bytes, and when the server ended the connection (milliseconds).
#[derive(Clone, Default)]
struct Got {
    bytes: Vec<u8>,
    ended: Option<u64>,
}

impl Got {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Status codes of all responses.
    fn codes(&self) -> Vec<String> {
        self.text().split("HTTP/1.1 ").skip(1).map(|rest| rest[..3].to_string()).collect()
    }
}

/// Runs the server for `ms` milliseconds against these clients.
fn run(ms: u64, plans: Vec<Plan>) -> Vec<Got> {
    let mut world = World::new(ARGS);
    let got = Rc::new(RefCell::new(vec![Got::default(); plans.len()]));
    let handles: Vec<_> = plans.iter().map(|_| world.tcp()).collect();
    let results = got.clone();
    let mut sent = vec![(0, 0); plans.len()];
    let mut started = vec![false; plans.len()];
    world.script(move |sockets, iface, now| {
        for (client, plan) in plans.iter().enumerate() {
            let socket = sockets.get_mut::<tcp::Socket>(handles[client]);
            let got = &mut results.borrow_mut()[client];
            if !started[client] {
                started[client] = true;
                let port = 40_000 + u16::try_from(client).expect("few");
                socket.connect(iface.context(), (IpAddress::from(Ipv4Address::from(GUEST)), 80), port).expect("closed");
            }
            while socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), got.bytes.extend_from_slice(bytes))).expect("open");
            }
            if got.ended.is_none() && matches!(socket.state(), tcp::State::CloseWait | tcp::State::Closed) {
                got.ended = Some(now / 1_000_000);
                socket.close();
            }
            let (piece, offset) = &mut sent[client];
            if let Some((time, text)) = plan.get(*piece)
                && now >= time * 1_000_000
                && socket.can_send()
            {
                *offset += socket.send_slice(&text.as_bytes()[*offset..]).expect("open");
                if *offset == text.len() {
                    (*piece, *offset) = (*piece + 1, 0);
                }
            }
        }
    });
    world.run();
    // The outside gets its turn at least every millisecond.
    let clock = async {
        let end = Instant::from_nanos(ms * 1_000_000);
        while Instant::now() < end {
            sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(matches!(block_on(race(httpd::serve(), clock)), Either::Right(())));
    got.take()
}

fn one(ms: u64, text: &str) -> Got {
    run(ms, vec![vec![(0, text.to_string())]]).remove(0)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: vm\r\n\r\n")
}

fn body(text: &str) -> &str {
    text.split_once("\r\n\r\n").expect("a head").1
}

#[test]
fn every_document_has_its_size() {
    for (path, size) in [("/100b", 100), ("/2258b", 2258), ("/100k", 102_400)] {
        let got = one(400, &get(path));
        let text = got.text();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text:.200}");
        assert!(text.contains(&format!("\r\nContent-Length: {size}\r\n")));
        assert_eq!(body(&text).len(), size, "{path}");
        assert_eq!(got.ended, None, "the connection stays");
        let head = one(100, &get(path).replace("GET", "HEAD")).text();
        assert!(head.contains(&format!("\r\nContent-Length: {size}\r\n")) && body(&head).is_empty());
    }
}

#[test]
fn the_page_and_the_status() {
    let text = one(100, &get("/")).text();
    assert!(text.contains("<h1>VM 0</h1>") && text.contains("text/html"), "{text}");
    let text = one(100, &get("/status")).text();
    assert!(text.contains("\nvm: 0\n") || text.contains("vm: 0\n"), "{text}");
    let json = one(100, &get("/status").replace("\r\n\r\n", "\r\nAccept: application/json\r\n\r\n")).text();
    assert!(json.contains("Content-Type: application/json") && json.contains("\"connections_open\":1"), "{json}");
    assert_eq!(body(&one(100, &get("/status.json")).text()).lines().count(), 1);
    assert!(Sim::console().contains("httpd: serving http://10.0.2.16/ (vm 0)"), "what scripts wait for");
}

#[test]
fn keep_alive_pipelining_and_close() {
    let got = one(
        200,
        &(get("/100b").repeat(40)
            + &get("/missing")
            + &get("/100b").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
            + &get("/")),
    );
    let mut codes = vec!["200"; 40];
    codes.extend(["404", "200"]);
    assert_eq!(got.codes(), codes, "in order, and none after the close");
    assert!(got.ended.is_some());
    let old = one(100, "GET /100b HTTP/1.0\r\n\r\n");
    assert!(old.ended.is_some() && old.text().contains("\r\nConnection: close\r\n"));
}

#[test]
fn bodies_are_skipped_and_refused() {
    let post = "POST /100b HTTP/1.1\r\nHost: vm\r\nContent-Length: 3000\r\n\r\n".to_string() + &"x".repeat(3000);
    let got = one(200, &(post + &get("/100b")));
    assert_eq!(got.codes(), ["405", "200"]);
    assert!(got.text().contains("\r\nAllow: GET, HEAD\r\n"));
    let big = one(200, "PUT / HTTP/1.1\r\nHost: vm\r\nContent-Length: 5000\r\n\r\n");
    assert!(big.codes() == ["413"] && big.ended.is_some());
}

#[test]
fn malformed_requests_get_an_answer_and_the_end() {
    for (text, code) in [
        ("hello\r\n\r\n".to_string(), "400"),
        ("GET / HTTP/1.1\r\n\r\n".to_string(), "400"),
        ("GET / HTTP/3.0\r\n\r\n".to_string(), "505"),
        ("BREW /pot HTTP/1.1\r\nHost: vm\r\n\r\n".to_string(), "501"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(4000)), "414"),
        (format!("GET / HTTP/1.1\r\nHost: vm\r\nCookie: {}\r\n\r\n", "a".repeat(4000)), "431"),
        ("\0\0\0\0\0\0\0\0".to_string(), "400"),
    ] {
        let got = one(300, &text);
        assert_eq!(got.codes(), [code], "{text:.60}");
        assert_eq!(got.ended.is_some(), code != "501", "{text:.60}");
    }
}

#[test]
fn slow_clients_are_ended() {
    // One says nothing, one sends a byte a second, one is idle after a request; one wants to say something only when its time is
    // over.
    let trickle: Plan = (0..40).map(|n| (n * 1000, "G".to_string())).collect();
    let got = run(
        30_000,
        vec![
            vec![],
            trickle,
            vec![(0, get("/100b"))],
            vec![(25_000, get("/100b").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"))],
        ],
    );
    assert_eq!(got[0].codes(), ["408"]);
    assert_eq!(got[1].codes(), ["408"]);
    for slow in &got[..2] {
        let ended = slow.ended.expect("ended by the server");
        assert!((9_900..11_000).contains(&ended), "{ended}");
    }
    assert_eq!(got[2].codes(), ["200"]);
    let ended = got[2].ended.expect("ended by the server");
    assert!((14_900..16_000).contains(&ended), "{ended}");
    assert_eq!(got[3].codes(), ["408"]);
}

#[test]
fn a_client_that_reads_nothing_is_cut_off() {
    let mut world = World::new(ARGS);
    let handle = world.tcp();
    let gone = Rc::new(Cell::new(None));
    let seen = gone.clone();
    let mut started = false;
    let mut asked = false;
    world.script(move |sockets, iface, now| {
        let socket = sockets.get_mut::<tcp::Socket>(handle);
        if !started {
            started = true;
            socket.connect(iface.context(), (IpAddress::from(Ipv4Address::from(GUEST)), 80), 5555).expect("closed");
        } else if socket.can_send() && !asked {
            asked = true;
            socket.send_slice(get("/100k").as_bytes()).expect("open");
        } else if asked && !socket.is_active() && seen.get().is_none() {
            seen.set(Some(now / 1_000_000));
        }
    });
    world.run();
    let clock = async {
        while Instant::now() < Instant::from_nanos(40_000_000_000) {
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(ilwaco::net::connections(), (0, 0));
    };
    assert!(matches!(block_on(race(httpd::serve(), clock)), Either::Right(())));
    let gone = gone.get().expect("reset by the server");
    assert!((20_000..25_000).contains(&gone), "{gone}");
}

#[test]
fn many_clients_at_once() {
    let plans: Vec<Plan> = (0..24).map(|n| vec![(n, get("/2258b")), (50 + n, get("/100k"))]).collect();
    let got = run(3_000, plans);
    let mut sizes = BTreeMap::new();
    for client in &got {
        assert_eq!(client.codes(), ["200", "200"]);
        *sizes.entry(client.bytes.len()).or_insert(0) += 1;
    }
    assert_eq!(sizes.len(), 1, "all the same: {sizes:?}");
}
