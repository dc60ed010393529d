//! The server as its clients see it: over TCP, on the simulated machine.

mod client;

use client::{ARGS, Got, Plan, body, get, run_with};
use ilwaco::block_on;
use ilwaco::net::PROMISED_BYTES;
use ilwaco::sim::smoltcp::socket::tcp;
use ilwaco::sim::smoltcp::wire::{IpAddress, Ipv4Address};
use ilwaco::sim::{GUEST, Sim, World};
use ilwaco::task::{Either, race};
use ilwaco::time::{Duration, Instant, sleep};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Runs the server for `ms` milliseconds against these clients.
fn run(ms: u64, plans: Vec<Plan>) -> Vec<Got> {
    run_with(ms, plans, || {})
}

fn one(ms: u64, text: &str) -> Got {
    run(ms, vec![vec![(0, text.to_string())]]).remove(0)
}

/// The value of a header of the first answer in `text`.
fn header(text: &str, name: &str) -> Option<String> {
    let start = text.find(&format!("\r\n{name}: ")).map(|at| at + name.len() + 4);
    start.map(|start| text[start..].split("\r\n").next().unwrap_or_default().to_string())
}

#[test]
fn every_document_has_its_size() {
    for (path, size) in [
        ("/100b", 100),
        ("/2258b", 2258),
        ("/10k", 10_240),
        ("/50k", 51_200),
        ("/100k", 102_400),
        ("/1000k", 1_024_000),
    ] {
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
    assert!(text.contains("\r\nContent-Security-Policy: default-src 'self';"), "{text}");
    for part in ["/foraker.css", "/foraker.js", "/favicon.svg", "/favicon.ico"] {
        assert!(part == "/favicon.ico" || text.contains(&format!("\"{part}\"")), "{part} is not in {text}");
        assert_eq!(one(200, &get(part)).codes(), ["200"]);
    }
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
fn bodies_in_chunks_are_skipped() {
    let post = "POST /100b HTTP/1.1\r\nHost: vm\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7d0;a=b\r\n"
        .to_string()
        + &"x".repeat(2000)
        + "\r\n0\r\nTrailer: t\r\n\r\n";
    assert_eq!(one(300, &(post.clone() + &get("/100b"))).codes(), ["405", "200"]);
    // A byte at a time, some of them.
    let (slow, rest) = post.split_at(90);
    let mut plan: Plan = slow.bytes().zip(0..).map(|(byte, n)| (2 * n, char::from(byte).to_string())).collect();
    plan.push((200, rest.to_string() + &get("/100b")));
    assert_eq!(run(500, vec![plan]).remove(0).codes(), ["405", "200"]);
    let large = "POST / HTTP/1.1\r\nHost: vm\r\nTransfer-Encoding: chunked\r\n\r\n1001\r\n";
    assert_eq!(one(300, large).codes(), ["413"]);
}

#[test]
fn whoever_sends_everything_first_reads_a_refusal_too() {
    // As wget and urllib do: 200,000 bytes in the way of the answer, and more than the connection's window.
    let post = format!("POST / HTTP/1.1\r\nHost: vm\r\nContent-Length: 200000\r\n\r\n{}", "x".repeat(200_000));
    let got = one(3_000, &post);
    assert_eq!(got.codes(), ["413"]);
    assert!(got.ended.expect("ended by the server") < 1_000);
    assert!(got.took.expect("everything was taken") < 2_000, "{:?}", got.took);
}

#[test]
fn who_does_not_stop_sending_is_cut_off() {
    let mut plan: Plan = vec![(0, "POST / HTTP/1.1\r\nHost: vm\r\nContent-Length: 200000\r\n\r\n".to_string())];
    plan.extend((1..60).map(|second| (second * 1000, "x".repeat(100))));
    let got = run(40_000, vec![plan]).remove(0);
    assert_eq!(got.codes(), ["413"]);
    let reset = got.reset.expect("reset by the server");
    assert!((29_000..33_000).contains(&reset), "{reset}");
}

#[test]
fn clients_that_wait_for_leave() {
    let wait = |method: &str, more: &str| {
        format!("{method} /100b HTTP/1.1\r\nHost: vm\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n{more}")
    };
    let granted = run(300, vec![vec![(0, wait("GET", "")), (100, "hello".to_string() + &get("/100b"))]]).remove(0);
    assert_eq!(granted.codes(), ["100", "200", "200"]);
    assert!(granted.text().starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"));
    let refused = one(300, &wait("POST", ""));
    assert!(refused.codes() == ["405"] && refused.ended.is_some());
    assert_eq!(one(300, &(wait("POST", "hello") + &get("/100b"))).codes(), ["405", "200"], "it has not waited");
}

#[test]
fn later_minor_versions_are_taken_for_1_1() {
    let text = get("/100b").replace("HTTP/1.1", "HTTP/1.7");
    assert_eq!(one(200, &(text.clone() + &get("/100b") + &text)).codes(), ["200", "200", "200"]);
}

#[test]
fn large_heads() {
    let cookies = |len: usize| get("/100b").replace("\r\n\r\n", &format!("\r\nCookie: {}\r\n\r\n", "c".repeat(len)));
    assert_eq!(one(500, &(cookies(16_000) + &get("/100b") + &cookies(3_000))).codes(), ["200", "200", "200"]);
    let many = get("/100b").replace("\r\n\r\n", &format!("\r\n{}\r\n", "Cookie: a=b\r\n".repeat(99)));
    assert_eq!(one(500, &many).codes(), ["200"]);
}

#[test]
fn without_memory_a_client_is_served_from_what_is_there_or_told() {
    let short_at = |ms: u64| {
        move || {
            let later = async move {
                sleep(Duration::from_millis(ms)).await;
                Sim::run_short(true);
            };
            ilwaco::task::spawn(later).expect("room");
        }
    };
    let run = |plan: Plan| run_with(1000, vec![plan], short_at(50)).remove(0);
    // The document goes through the connection's own memory where there is none for anything else.
    let got = run(vec![(0, get("/100k")), (25, get("/100k")), (100, get("/100k"))]);
    assert_eq!(got.codes(), ["200"; 3]);
    assert!(got.bytes.len() > 3 * 102_400 && got.ended.is_none());
    let told = |plan: Plan| {
        let got = run(plan);
        let text = got.text();
        assert!(got.ended.is_some() && text.contains("\r\nConnection: close\r\n"), "{text}");
        assert!(text.contains("HTTP/1.1 503 Service Unavailable\r\n"), "{text}");
        got.codes().len()
    };
    assert_eq!(told(vec![(100, get("/100b"))]), 1);
    let large = get("/100b").replace("\r\n\r\n", &format!("\r\nCookie: {}\r\n\r\n", "c".repeat(9000)));
    assert_eq!(told(vec![(0, large[..3000].to_string()), (100, large[3000..].to_string())]), 1);
    for path in ["/", "/status", "/status.json"] {
        assert_eq!(told(vec![(0, get("/100k")), (100, get(path))]), 2, "{path}");
    }
    // Nobody is let in whom nothing can be said to.
    let got = run_with(1000, vec![vec![(0, get("/100b"))]], || Sim::run_short(true)).remove(0);
    assert!(got.bytes.is_empty() && got.ended.is_none() && got.reset.is_none());
}

#[test]
fn leave_for_a_large_head_is_returned_only_where_there_is_memory_for_a_small_one() {
    let large = |len: usize| get("/100b").replace("\r\n\r\n", &format!("\r\nCookie: {}\r\n\r\n", "c".repeat(len)));
    let code = |short: bool| {
        let prepare = move || {
            let later = async move {
                for is_short in [short, false] {
                    sleep(Duration::from_millis(200)).await;
                    Sim::run_short(is_short);
                }
            };
            ilwaco::task::spawn(later).expect("room");
        };
        // As many as there may be, of which each has all memory that it takes when there is no more of it.
        let text = large(2500);
        let (start, rest) = text.split_at(text.len() - 4);
        let holder = |n| vec![(n, get("/100b")), (50 + 2 * n, start.to_string()), (300 + n, rest.to_string())];
        let mut plans: Vec<Plan> = (0..32).map(holder).collect();
        plans.push(vec![(500, large(3000))]);
        let got = run_with(900, plans, prepare);
        for got in &got[..32] {
            assert_eq!(got.codes(), ["200", "200"]);
        }
        got[32].codes()
    };
    assert_eq!(code(false), ["200"]);
    assert_eq!(code(true), ["503"]);
}

/// Kept for a connection that is in, in bytes.
const KEPT: usize = 1024 + PROMISED_BYTES;

#[test]
fn whatever_is_made_for_an_answer_is_asked_for_before() {
    let run = |path: &str, left: usize| {
        let short = move || {
            let later = async move {
                sleep(Duration::from_millis(50)).await;
                Sim::leave(left);
            };
            ilwaco::task::spawn(later).expect("room");
        };
        // It is in before memory is short.
        let got = run_with(400, vec![vec![(100, get(path))]], short).remove(0);
        got.text().rsplit_once("HTTP/1.1 ").expect("an answer").1[..3].to_string()
    };
    for path in ["/", "/status", "/status.json"] {
        let size = body(&one(100, &get(path)).text()).len();
        assert!(size > 100);
        assert_eq!(run(path, KEPT + size - 1), "503", "{path}");
        assert_eq!(run(path, KEPT + 16_384), "200", "{path}");
    }
    // Heads are of what was promised, for which there is memory where there is no other.
    assert_eq!(run("/100b", 600), "200");
    assert_eq!(run("/100b", 300), "503", "a broken promise");
}

#[test]
fn conditions_and_parts() {
    let with = |path: &str, headers: &str| get(path).replace("\r\n\r\n", &format!("\r\n{headers}\r\n\r\n"));
    let whole = one(300, &get("/100k")).text();
    let tag = header(&whole, "ETag").expect("a tag");
    let same = one(300, &with("/100k", &format!("If-None-Match: {tag}"))).text();
    assert!(same.starts_with("HTTP/1.1 304 Not Modified\r\n") && body(&same).is_empty(), "{same}");
    assert_eq!(header(&same, "ETag"), Some(tag.clone()));
    assert_eq!(one(300, &with("/100k", "If-None-Match: \"other\"")).codes(), ["200"]);
    assert_eq!(one(300, &with("/100k", "If-Match: \"other\"")).codes(), ["412"]);
    assert_eq!(one(300, &with("/100b", "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT")).codes(), ["304"]);
    assert_eq!(one(300, &with("/100b", "If-Modified-Since: Thu, 01 Jan 2015 00:00:00 GMT")).codes(), ["200"]);
    for (range, from, up_to) in
        [("0-0", 0, 1), ("2000-6000", 2000, 6001), ("-100", 102_300, 102_400), ("100000-", 100_000, 102_400)]
    {
        let part = one(300, &with("/100k", &format!("Range: bytes={range}\r\nIf-Range: {tag}"))).text();
        assert!(part.starts_with("HTTP/1.1 206 Partial Content\r\n"), "{part}");
        assert_eq!(header(&part, "Content-Range"), Some(format!("bytes {from}-{}/102400", up_to - 1)));
        assert_eq!(header(&part, "Content-Length"), Some((up_to - from).to_string()));
        assert!(body(&part) == &body(&whole)[from..up_to]);
    }
    let none = one(300, &(with("/100k", "Range: bytes=102400-") + &get("/100b")));
    assert_eq!(none.codes(), ["416", "200"]);
    assert_eq!(header(&none.text(), "Content-Range"), Some("bytes */102400".to_string()));
    let lines = format!("If-None-Match: \"other\"\r\nAccept: */*\r\nif-none-match: , {tag} ,");
    assert_eq!(one(300, &with("/100k", &lines)).codes(), ["304"], "one list in two lines");
    for path in ["/", "/status", "/status.json"] {
        let star = one(300, &(with(path, "If-None-Match: *") + &get("/100b")));
        assert_eq!(star.codes(), ["304", "200"], "{path}");
        assert!(
            header(&star.text(), "Cache-Control").is_some()
                && header(&star.text(), "Content-Length") != Some("0".into())
        );
        assert_eq!(one(300, &with(path, "If-Match: \"a\"")).codes(), ["412"], "{path}");
        assert_eq!(
            one(300, &with(path, "If-Match: *\r\nIf-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT")).codes(),
            ["200"]
        );
    }
    let head = one(300, &with("/100k", "Range: bytes=0-0").replace("GET", "HEAD"));
    assert_eq!(head.codes(), ["200"], "only GET knows parts");
}

#[test]
fn what_is_sent_again_is_what_was_asked_for() {
    let old = get("/100b").replace("HTTP/1.1", "HTTP/1.0").replace("\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n");
    let head = get("/100b").replace("GET", "HEAD");
    let text =
        one(400, &(get("/100b").repeat(2) + &old + &get("/missing") + &get("/100b") + &head + &get("/100b"))).text();
    let answers: Vec<&str> = text.split("HTTP/1.1 ").skip(1).collect();
    let plain = [0, 1, 4, 6].map(|index| answers[index]);
    assert!(plain.iter().all(|answer| *answer == plain[0] && body(answer).len() == 100), "{text}");
    assert!(answers[2].contains("\r\nConnection: keep-alive\r\n") && body(answers[2]) == body(plain[0]));
    assert!(answers[3].starts_with("404 ") && body(answers[5]).is_empty(), "{text}");
}

#[test]
fn the_same_request_gets_what_is_right_now() {
    // The answer changes although the request does not: the figures, and the date.
    let status = get("/status");
    let got = one(3000, &status.repeat(2));
    let figures = |answer: &str| body(answer).lines().find(|line| line.starts_with("requests: ")).map(str::to_string);
    let plan = vec![(0, status.clone()), (500, status.clone()), (1000, status.clone()), (2500, status)];
    let text = run(3000, vec![plan]).remove(0).text();
    let answers: Vec<String> = text.split("HTTP/1.1 ").skip(1).map(str::to_string).collect();
    let counted: Vec<_> = answers.iter().filter_map(|answer| figures(answer)).collect();
    assert_eq!(counted, ["requests: 1", "requests: 2", "requests: 3", "requests: 4"], "{text}");
    assert_ne!(header(&answers[0], "Date"), header(&answers[3], "Date"));
    assert_eq!(got.codes(), ["200", "200"]);
    // Of the same length, begun as before, in pieces, with something behind it, and with another word only in a header.
    let (known, other) = (get("/100b"), get("/10kb"));
    let bare = known.replace("\r\n\r\n", "\r\nRange: bytes=0-9\r\n\r\n");
    let (start, rest) = known.split_at(20);
    let steps =
        [&known, &known, &other, &known, start, rest, &known, &(known.clone() + &other), &known, &bare, &bare, &known];
    let plan = steps.iter().zip(0..).map(|(text, step)| (step * 100, (*text).to_string())).collect();
    let codes = run(3000, vec![plan]).remove(0).codes();
    assert_eq!(codes, ["200", "200", "404", "200", "200", "200", "200", "404", "200", "206", "206", "200"]);
}

#[test]
fn percent_encoded_paths() {
    assert_eq!(one(100, &(get("/%31%30%30b") + &get("/%2f100b") + &get("/%zz"))).codes(), ["200", "404", "400"]);
}

#[test]
fn malformed_requests_get_an_answer_and_the_end() {
    for (text, code) in [
        ("hello\r\n\r\n".to_string(), "400"),
        ("GET / HTTP/1.1\r\n\r\n".to_string(), "400"),
        ("GET / HTTP/3.0\r\n\r\n".to_string(), "505"),
        ("GET /a b HTTP/1.1\r\nHost: vm\r\n\r\n".to_string(), "400"),
        ("GET / HTTP/1.2 HTTP/1.3\r\nHost: vm\r\n\r\n".to_string(), "400"),
        ("BREW /pot HTTP/1.1\r\nHost: vm\r\n\r\n".to_string(), "501"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(20_000)), "414"),
        (format!("GET / HTTP/1.1\r\nHost: vm\r\nCookie: {}\r\n\r\n", "a".repeat(20_000)), "431"),
        (format!("GET / HTTP/1.1\r\nHost: vm\r\n{}\r\n", "A: b\r\n".repeat(100)), "431"),
        ("GET / HTTP/1.1\r\nHost: v m\r\n\r\n".to_string(), "400"),
        ("GET / HTTP/1.1\r\nHost: vm\r\nExpect: wonders\r\n\r\n".to_string(), "417"),
        ("POST / HTTP/1.1\r\nHost: vm\r\nTransfer-Encoding: gzip\r\n\r\n".to_string(), "501"),
        ("POST / HTTP/1.1\r\nHost: vm\r\nTransfer-Encoding: chunked\r\n\r\nnone\r\n".to_string(), "400"),
        ("\0\0\0\0\0\0\0\0".to_string(), "400"),
    ] {
        let got = one(300, &text);
        assert_eq!(got.codes(), [code], "{text:.60}");
        assert_eq!(got.ended.is_some(), !text.starts_with("BREW"), "{text:.60}");
    }
}

#[test]
fn slow_clients_are_ended() {
    // One says nothing, one sends a byte a second, one is idle after a request; one wants to say something only when its time is over,
    // and one does so just before, as a client whose packets were lost.
    let trickle: Plan = (0..40).map(|n| (n * 1000, "G".to_string())).collect();
    let last = get("/100b").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let plans = vec![vec![], trickle, vec![(0, get("/100b"))], vec![(27_000, last.clone())], vec![(24_500, last)]];
    let got = run(33_000, plans);
    for (client, code, end) in [(0, "408", 25_000), (1, "408", 10_000), (2, "200", 15_000), (3, "408", 25_000)] {
        assert_eq!(got[client].codes(), [code], "{client}");
        let ended = got[client].ended.expect("ended by the server");
        // The last one hears its end when it has said something.
        assert!(client == 3 || (end - 100..end + 1_000).contains(&ended), "{client}: {ended}");
    }
    assert_eq!(got[4].codes(), ["200"]);
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
