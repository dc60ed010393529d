//! Web serving: everything that the machine executes for a request but idling.
//!
//! Measured as the Linux rows of docs/performance.md were: through the NIC, over a tap, by a client on the host that keeps the
//! server busy. The client and the machine live in a network namespace, so xtask starts itself again inside one, for one
//! measurement each time.

use super::mechanism::{instructions, parse};
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Context, Result, fail};
use crate::http::Connection;
use crate::machine::Kind;
use crate::machine::tap::{self, Namespace};
use crate::test::lab::{BOOT, Lab, Running};
use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub const KEEP_ALIVE: Entry = Entry {
    name: "http_keepalive_100b",
    measures: "a request on a connection that stays",
    repeats: REPEATS,
    run: keep_alive,
};
pub const CLOSE: Entry =
    Entry { name: "http_close_100b", measures: "a request on a connection of its own", repeats: REPEATS, run: close };

/// How requests fall into the server's rounds depends on the host's timing.
const REPEATS: Repeats = Repeats::Within(0.05);
/// Requests that are measured.
const REQUESTS: u64 = 3_000;
/// Requests before the measurement.
const WARM_UP: u64 = 200;
/// Connections at once.
const CONNECTIONS: u64 = 16;
/// Instructions in a second of the machine's time: so few that the tap's frame a millisecond loads the server fully.
const IPS: u64 = 2_000_000;
const PATIENCE: Duration = Duration::from_secs(30);
/// What the one inside says before its value.
const VALUE: &str = "value=";

fn keep_alive(bench: &Bench) -> Result<Vec<Figure>> {
    measured(bench, "http_keepalive_100b", true)
}

fn close(bench: &Bench) -> Result<Vec<Figure>> {
    measured(bench, "http_close_100b", false)
}

/// Measures requests.
fn measured(bench: &Bench, metric: &'static str, keep: bool) -> Result<Vec<Figure>> {
    let how = match bench.kind {
        Kind::Bochs => format!("Bochs, VT-x, one CPU, ips={IPS}, sync=slowdown"),
        Kind::Qemu => "QEMU, SVM, one CPU, icount shift=0,sleep=on".to_owned(),
        Kind::Kvm => fail!("--machine kvm: nothing there counts instructions: use --machine bochs or qemu"),
    };
    let value = inside(bench, metric, |lab| measure(lab, keep))?;
    let conditions = format!(
        "{how}, tap; 1 VM of httpd, {CONNECTIONS} connections of a client on the host, {}; \
         all instructions of the machine but idle ones over {REQUESTS} requests",
        if keep { "keep-alive" } else { "a connection per request" }
    );
    Ok(vec![instructions(metric, value, conditions)])
}

/// Measures inside a namespace with a tap: here when this process is in one, or else in another process.
pub fn inside<V: Display + FromStr>(
    bench: &Bench,
    metric: &'static str,
    measure: impl FnOnce(&Lab) -> Result<V>,
) -> Result<V> {
    if tap::is_inside() {
        let value = measure(bench.lab()?)?;
        println!("{VALUE}{value}");
        // The one outside measures twice, and compares.
        std::process::exit(0)
    }
    // Built before anything runs inside.
    bench.lab()?;
    let namespace = Namespace::create()?;
    let kind = bench.kind.name().to_lowercase();
    let output = namespace
        .xtask(&["bench", metric, "--machine", &kind])?
        .output()
        .context(|| "cannot start xtask inside".into())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match text.lines().find_map(|line| line.strip_prefix(VALUE)?.parse().ok()) {
        Some(value) => Ok(value),
        None => {
            fail!("the measurement inside the namespace failed:\n{text}{}", String::from_utf8_lossy(&output.stderr))
        }
    }
}

/// Instructions per request.
fn measure(lab: &Lab, keep: bool) -> Result<u64> {
    let mut running = lab.boot("vms=httpd").tap(tap::DEVICE).ips(IPS).counted().start()?;
    running.wait_for_services(BOOT)?;
    running.wait_for_monitor()?;
    let server = running.services()[0];
    load(server, keep, WARM_UP)?;
    let before = Stamp::take(&running)?;
    load(server, keep, REQUESTS)?;
    let after = Stamp::take(&running)?;
    running.power_off()?;
    let (all, idle) = (after.tsc - before.tsc, after.idle - before.idle);
    if idle > all / 4 {
        eprintln!("http: the server idled {} % of the time: the client did not keep it busy", idle * 100 / all.max(1));
    }
    Ok((all - idle) / REQUESTS)
}

/// Time and idle time of the machine, in instructions.
struct Stamp {
    tsc: u64,
    idle: u64,
}

impl Stamp {
    fn take(running: &Running) -> Result<Stamp> {
        let lines = running.monitor("machine")?;
        let Some(line) = lines.iter().find(|line| line.starts_with("machine ")) else {
            fail!("`machine` was answered with {lines:?}")
        };
        Ok(Stamp { tsc: parse(line, "tsc")?, idle: parse(line, "idle_ticks")? })
    }
}

/// Makes `requests` requests over [`CONNECTIONS`] connections at once.
fn load(server: SocketAddr, keep: bool, requests: u64) -> Result<()> {
    let left = AtomicU64::new(requests);
    let take = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(|| client(server, keep, take))).collect();
        clients.into_iter().try_for_each(|client| match client.join() {
            Ok(result) => result,
            Err(_) => fail!("a client panicked"),
        })
    })
}

/// One connection after the other, or one that stays, while there is something to take.
fn client(server: SocketAddr, keep: bool, take: impl Fn() -> bool) -> Result<()> {
    let mut connection: Option<Connection> = None;
    while take() {
        let mut open = match connection.take() {
            Some(open) => open,
            None => Connection::open(server, PATIENCE)?,
        };
        let answer = if keep {
            open.request("GET", "/100b")?
        } else {
            open.send(b"GET /100b HTTP/1.1\r\nHost: foraker\r\nConnection: close\r\n\r\n")?;
            open.response(false)?
        };
        if answer.status != 200 || answer.body.len() != 100 {
            fail!("/100b was answered with status {} and {} bytes", answer.status, answer.body.len());
        }
        if keep {
            connection = Some(open);
        } else if !open.is_closed() {
            fail!("the server did not close the connection");
        }
    }
    Ok(())
}
