//! A crowd: connections that are all opened at once.

use super::http::inside;
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::http::Connection;
use crate::machine::tap;
use crate::test::lab::{BOOT, Lab};
use std::net::SocketAddr;
use std::sync::Barrier;
use std::time::{Duration, Instant};

pub const ENTRY: Entry = Entry {
    name: "connect_burst_lost",
    measures: "of 1,000 connections that are opened at once on one VM, those whose request is not answered",
    repeats: Repeats::Exactly,
    run,
};

/// Connections.
const CONNECTIONS: usize = 1_000;
/// A SYN that is lost on the way is sent again after one, three and seven seconds, and the machine is a slow one.
const PATIENCE: Duration = Duration::from_secs(90);
/// A client needs next to no stack.
const STACK: usize = 64 << 10;

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let value: f64 = inside(bench, ENTRY.name, burst)?;
    let conditions = format!(
        "{}, tap; {CONNECTIONS} connections of clients on the host to 1 VM of httpd, all opened at once, each GET /100b",
        bench.kind.name()
    );
    Ok(vec![Figure { metric: ENTRY.name, value, unit: "requests", conditions }])
}

fn burst(lab: &Lab) -> Result<f64> {
    // At the speed that users get: nothing is counted.
    let mut running = lab.boot("vms=httpd").tap(tap::DEVICE).start()?;
    running.wait_for_services(BOOT)?;
    let lost = lost(running.services()[0])?;
    running.power_off()?;
    Ok(f64::from(lost))
}

/// How many of the crowd get no answer. Why, and after how long, is said of each.
fn lost(server: SocketAddr) -> Result<u32> {
    let start = Barrier::new(CONNECTIONS);
    let asked = || -> Result<()> {
        let answer = Connection::open(server, PATIENCE)?.request("GET", "/100b")?;
        if answer.status != 200 || answer.body.len() != 100 {
            fail!("status {} and {} bytes", answer.status, answer.body.len());
        }
        Ok(())
    };
    let answered = || {
        start.wait();
        let since = Instant::now();
        let result = asked();
        if let Err(error) = &result {
            eprintln!("a connection is lost after {} s: {error}", since.elapsed().as_secs());
        }
        result.is_ok()
    };
    std::thread::scope(|scope| {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            match std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, answered) {
                Ok(client) => clients.push(client),
                // The others would wait for it for ever.
                Err(error) => {
                    eprintln!("no thread for a client: {error}");
                    std::process::exit(1);
                }
            }
        }
        let lost = clients.into_iter().map(|client| client.join().map_or(1, |answered| u32::from(!answered)));
        Ok(lost.sum())
    })
}
