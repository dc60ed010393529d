//! Clients of the server, on the simulated machine.

use ilwaco::block_on;
use ilwaco::sim::smoltcp::socket::tcp;
use ilwaco::sim::smoltcp::wire::{IpAddress, Ipv4Address};
use ilwaco::sim::{GUEST, World};
use ilwaco::task::{Either, race};
use ilwaco::time::{Duration, Instant, sleep};
use std::cell::RefCell;
use std::rc::Rc;

pub const ARGS: &str = "ip=10.0.2.16/24 gw=10.0.2.2";

/// What one client does: pieces of text, each sent at its time (milliseconds).
pub type Plan = Vec<(u64, String)>;

/// What one client got: bytes, and when the server ended the connection (milliseconds).
#[derive(Clone, Default)]
pub struct Got {
    pub bytes: Vec<u8>,
    pub ended: Option<u64>,
    /// When the server reset the connection.
    pub reset: Option<u64>,
    /// When the server had acknowledged everything.
    pub took: Option<u64>,
}

impl Got {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Status codes of all responses.
    pub fn codes(&self) -> Vec<String> {
        self.text().split("HTTP/1.1 ").skip(1).map(|rest| rest[..3].to_string()).collect()
    }
}

/// Runs the server for `ms` milliseconds against these clients, on a machine that `prepare` has changed before.
pub fn run_with(ms: u64, plans: Vec<Plan>, prepare: impl FnOnce()) -> Vec<Got> {
    run_carrying(None, ms, plans, prepare)
}

/// The same with a server that carries this file system.
pub fn run_carrying(carried: Option<&'static [u8]>, ms: u64, plans: Vec<Plan>, prepare: impl FnOnce()) -> Vec<Got> {
    let mut world = World::new(ARGS);
    prepare();
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
                if plan.get(sent[client].0).is_none() {
                    socket.close();
                }
            }
            if got.reset.is_none() && started[client] && !socket.is_open() && plan.get(sent[client].0).is_some() {
                got.reset = Some(now / 1_000_000);
            }
            let (piece, offset) = &mut sent[client];
            if got.took.is_none() && *piece == plan.len() && socket.send_queue() == 0 {
                got.took = Some(now / 1_000_000);
            }
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
    assert!(matches!(block_on(race(httpd::serve_with(carried), clock)), Either::Right(())));
    got.take()
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: vm\r\n\r\n")
}

pub fn body(text: &str) -> &str {
    text.split_once("\r\n\r\n").expect("a head").1
}
