use super::*;
use crate::console_io::PIECE;
use abi::control::{ControlReply, ControlRequest, status};
use abi::limits::Name;
use abi::vm::ImageId;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use ilwaco::block_on;
use ilwaco::control::Control;
use ilwaco::sim::Sim;

const LOG: &str = "[    0.100000] INFO  core: one\n[    0.200000] WARN  guest: vm1.1: two\n";

/// What a VM has said, what it was given, and how much it takes of each piece.
#[derive(Default)]
struct Seat {
    said: Vec<u8>,
    given: Vec<u8>,
    takes: usize,
}

fn machine(said: &[u8], takes: usize) -> Rc<RefCell<Seat>> {
    let _sim = Sim::new("");
    let seat = Rc::new(RefCell::new(Seat { said: said.to_vec(), given: Vec::new(), takes }));
    let at = seat.clone();
    Sim::control(move |request, page| {
        let mut seat = at.borrow_mut();
        let put = |bytes: &[u8]| page.write(PIECE.offset.into(), bytes).expect("within the page");
        vec![match request {
            ControlRequest::Image { image } if image == ImageId::new(0) => {
                ControlReply::Image { image, name: Name::EMPTY, memory_bytes: 0 }
            }
            ControlRequest::ConsoleRead { vm, from, .. } if vm == VmId::new(1, 1) => {
                let all = seat.said.len() as u64;
                let from = if from == u64::MAX { 0 } else { from.min(all) };
                let piece = &seat.said[usize::try_from(from).expect("small")..];
                let piece = &piece[..piece.len().min(PIECE.len.into())];
                put(piece);
                let bytes = u32::try_from(piece.len()).expect("small");
                ControlReply::Console { vm, next: from + u64::from(bytes), missed: 0, bytes }
            }
            ControlRequest::ConsoleWrite { vm, from } if vm == VmId::new(1, 1) => {
                let mut bytes = vec![0; seat.takes.min(from.len.into())];
                page.read(from.offset.into(), &mut bytes).expect("within the page");
                seat.given.extend(&bytes);
                ControlReply::Done { status: status::OK, value: bytes.len() as u64 }
            }
            ControlRequest::LogRead { from, .. } => {
                let from = if from == u64::MAX { 0 } else { from };
                let piece = &LOG.as_bytes()[usize::try_from(from).expect("small")..];
                put(piece);
                ControlReply::Log {
                    next: LOG.len() as u64,
                    missed: 0,
                    bytes: u32::try_from(piece.len()).expect("small"),
                }
            }
            _ => ControlReply::Done { status: status::NOT_FOUND, value: 0 },
        }]
    });
    seat
}

async fn begin() -> Node {
    Node::new(Control::open().expect("a ring")).await.expect("an answer")
}

fn is(reply: &Reply, status: &str, says: &str) {
    assert!(
        reply.status.starts_with(status) && reply.body.contains(says),
        "{} {} instead of {status} {says}",
        reply.status,
        reply.body
    );
}

#[test]
fn lines_of_the_log_are_asked_for_as_on_the_line() {
    machine(b"", 0);
    block_on(async {
        let node = begin().await;
        let line = r#"[{"up_us":200000,"level":"warn","from":"vm1.1","text":"two"}]"#;
        is(&log(&node, "level=warn&lines=3").await, "200", line);
        is(&log(&node, "from=core").await, "200", "\"text\":\"one\"}]");
        for (query, says) in [
            ("lines=0", "lines 0: give a number"),
            ("level=loud", "give error, warn"),
            ("follow", "give lines, level, from"),
            ("for=3", "for 3: give lines, level or from"),
        ] {
            is(&log(&node, query).await, "400", says);
        }
    });
}

#[test]
fn a_program_reads_a_console_from_where_it_was_and_gives_it_lines() {
    let seat = machine(b"ready\n", 5);
    block_on(async {
        let node = begin().await;
        let whole = r#"{"vm":"vm1.1","id":"vm1.1","next":6,"missed":0,"text":"ready\n"}"#;
        is(&read(&node, "token a at 1", "vm1.1", "").await, "200", whole);
        is(&read(&node, "token a at 2", "vm1.1", "from=6").await, "200", r#""next":6,"missed":0,"text":"""#);
        is(&write(&node, "token a at 3", "vm1.1", br#"{"line":"6 * 7"}"#).await, "204", "");
        assert_eq!(seat.borrow().given, b"6 * 7\n");
        // Once a token: who polls fills no audit log.
        assert_eq!(node.audit.borrow().count(), 1);
        is(&read(&node, "token b at 1", "vm1.1", "").await, "200", whole);
        assert_eq!(node.audit.borrow().count(), 2);
        seat.borrow_mut().said.extend(vec![b'x'; 40_000]);
        let long = read(&node, "token a at 1", "vm1.1", "from=6").await;
        is(&long, "200", &format!("\"next\":{}", 6 + MOST));
    });
}

#[test]
fn what_makes_no_sense_is_refused_with_what_would() {
    machine(b"", 0);
    block_on(async {
        let node = begin().await;
        for (query, says) in [
            ("from=a", "the `next` of an answer"),
            ("wait=11", "wait 11: give a number of seconds from 0 to 10"),
            ("wait=-1", "wait -1"),
            ("x=1", "from or wait"),
        ] {
            is(&read(&node, "token a", "vm1.1", query).await, "400", says);
        }
        is(&read(&node, "token a", "vm7.1", "").await, "404", "does not run");
        is(&read(&node, "token a", "nobody", "").await, "404", "there is no VM `nobody`");
        for body in [&b"6 * 7"[..], br#"{"line":"a\nb"}"#, br#"{"line":"\u001b[2J"}"#, br#"{"text":"a"}"#] {
            is(&write(&node, "token a", "vm1.1", body).await, "400", "give");
        }
        let long = format!("{{\"line\":\"{}\"}}", "x".repeat(LINE + 1));
        is(&write(&node, "token a", "vm1.1", long.as_bytes()).await, "400", "4096 bytes at most");
        is(&write(&node, "token a", "vm1.1", br#"{"line":"a"}"#).await, "409", "does not read its console: 2 bytes");
        let before = Instant::now();
        is(&read(&node, "token a", "vm1.1", "wait=2").await, "200", r#""text":"""#);
        assert!(before.elapsed() >= Duration::from_secs(2));
    });
}
