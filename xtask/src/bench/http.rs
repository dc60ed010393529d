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
use std::process::Stdio;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub const KEEP_ALIVE: Entry =
    entry(KEEP_ALIVE_100B.metric, "a request on a connection that stays", |bench| measured(bench, &KEEP_ALIVE_100B));
pub const CLOSE: Entry =
    entry(CLOSE_100B.metric, "a request on a connection of its own", |bench| measured(bench, &CLOSE_100B));
pub const KEEP_ALIVE_LARGER: Entry =
    entry(KEEP_ALIVE_2258B.metric, "a request for 2,258 bytes on a connection that stays", |bench| {
        measured(bench, &KEEP_ALIVE_2258B)
    });
pub const KEEP_ALIVE_LARGE: Entry =
    entry(KEEP_ALIVE_100K.metric, "a request for 102,400 bytes on a connection that stays", |bench| {
        measured(bench, &KEEP_ALIVE_100K)
    });
pub const CLOSE_LARGE: Entry =
    entry(CLOSE_100K.metric, "a request for 102,400 bytes on a connection of its own", |bench| {
        measured(bench, &CLOSE_100K)
    });
pub const BULK: Entry =
    entry(ONE_100K.metric, "each byte of large documents on one connection, one after the other", |bench| {
        measured(bench, &ONE_100K)
    });

const fn entry(name: &'static str, measures: &'static str, run: fn(&Bench) -> Result<Vec<Figure>>) -> Entry {
    Entry { name, measures, repeats: REPEATS, run }
}

/// What is asked for, and how.
pub struct Load {
    pub metric: &'static str,
    pub path: &'static str,
    pub bytes: usize,
    /// Connections stay; else each request has one of its own.
    pub keep: bool,
    /// Connections at once.
    pub connections: u64,
    /// Requests before the measurement, and those that are measured.
    pub warm_up: u64,
    pub requests: u64,
    /// The figure is of a byte and not of a request.
    pub per_byte: bool,
}

const KEEP_ALIVE_100B: Load = Load {
    metric: "http_keepalive_100b",
    path: "/100b",
    bytes: 100,
    keep: true,
    connections: 16,
    warm_up: 200,
    requests: 3_000,
    per_byte: false,
};
const CLOSE_100B: Load = Load { metric: "http_close_100b", keep: false, ..KEEP_ALIVE_100B };
const KEEP_ALIVE_2258B: Load = Load { metric: "http_keepalive_2258b", path: "/2258b", bytes: 2_258, ..KEEP_ALIVE_100B };
const KEEP_ALIVE_100K: Load = Load {
    metric: "http_keepalive_100kb",
    path: "/100k",
    bytes: 102_400,
    warm_up: 32,
    requests: 320,
    ..KEEP_ALIVE_100B
};
const CLOSE_100K: Load = Load { metric: "http_close_100kb", keep: false, ..KEEP_ALIVE_100K };
const ONE_100K: Load =
    Load { metric: "tcp_send_per_byte", connections: 1, warm_up: 4, requests: 100, per_byte: true, ..KEEP_ALIVE_100K };

/// How requests fall into the server's rounds depends on the host's timing.
const REPEATS: Repeats = Repeats::Within(0.05);
/// Instructions in a second of the machine's time: so few that the tap's frame a millisecond loads the server fully.
const IPS: u64 = 2_000_000;
/// At that speed GRUB alone takes the better part of a minute: so many times as long as elsewhere until the server must be there.
const SLOW: u32 = 5;
/// Sixteen clients of large documents wait for some seconds each.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the one inside says before its value.
const VALUE: &str = "value=";

/// What counts the instructions of the machine, in words.
pub fn conditions(kind: Kind) -> Result<String> {
    Ok(match kind {
        Kind::Bochs => format!("Bochs, VT-x, one CPU, ips={IPS}, sync=slowdown"),
        Kind::Qemu => "QEMU, SVM, one CPU, icount shift=0,sleep=on".to_owned(),
        Kind::Kvm => fail!("--machine kvm: nothing there counts instructions: use --machine bochs or qemu"),
    })
}

/// Measures requests.
// Instructions of a request are far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn measured(bench: &Bench, load: &Load) -> Result<Vec<Figure>> {
    let how = conditions(bench.kind)?;
    let Load { metric, path, bytes, requests, .. } = *load;
    let value: u64 = inside(bench, metric, |lab| measure(lab, load))?;
    let connections = match (load.connections, load.keep) {
        (1, _) => "one connection of a client on the host".to_owned(),
        (many, true) => format!("{many} connections of a client on the host, keep-alive"),
        (many, false) => format!("{many} connections of a client on the host, a connection per request"),
    };
    let conditions = format!(
        "{how}, tap; 1 VM of httpd, {connections}; all instructions of the machine but idle ones over {requests} requests \
         for {path}"
    );
    if load.per_byte {
        // In hundredths.
        let value = (value as f64 * 100.0 / bytes as f64).round() / 100.0;
        let conditions = format!("{conditions}, of {bytes} bytes each");
        return Ok(vec![Figure { metric, value, unit: "instructions/byte", conditions }]);
    }
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
    let mut arguments = vec!["bench", metric, "--machine", &kind];
    if bench.long {
        arguments.push("--long");
    }
    // What it says beside its value is for whoever looks.
    let mut command = namespace.xtask(&arguments)?;
    let output = command.stderr(Stdio::inherit()).output().context(|| "cannot start xtask inside".into())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match text.lines().find_map(|line| line.strip_prefix(VALUE)?.parse().ok()) {
        Some(value) => Ok(value),
        None => {
            fail!("the measurement inside the namespace failed:\n{text}")
        }
    }
}

/// A machine with one web server on the tap, whose instructions are counted.
pub fn server(lab: &Lab) -> Result<Running> {
    let mut running = lab.boot("vms=httpd").tap(tap::DEVICE).ips(IPS).counted().start()?;
    running.wait_for_services(BOOT * SLOW)?;
    running.wait_for_monitor()?;
    Ok(running)
}

/// Instructions per request.
fn measure(lab: &Lab, load: &Load) -> Result<u64> {
    let running = server(lab)?;
    let server = running.services()[0];
    load.ask(server, load.warm_up)?;
    let busy = busy(&running, || load.ask(server, load.requests))?;
    running.power_off()?;
    Ok(busy / load.requests)
}

/// What the machine executes while `work` keeps it busy, but for idling.
pub fn busy(running: &Running, work: impl FnOnce() -> Result<()>) -> Result<u64> {
    let (all, idle) = spent(running, work)?;
    if idle > all / 4 {
        eprintln!("the machine idled {} % of the time: the client did not keep it busy", idle * 100 / all.max(1));
    }
    Ok(all - idle)
}

/// Instructions of the machine while `work` is done, and how many of them are idle ones. Asking for them is in it.
pub fn spent(running: &Running, work: impl FnOnce() -> Result<()>) -> Result<(u64, u64)> {
    let before = Stamp::take(running)?;
    work()?;
    let after = Stamp::take(running)?;
    Ok((after.tsc - before.tsc, after.idle - before.idle))
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

impl Load {
    /// Makes `requests` requests over all connections at once.
    pub fn ask(&self, server: SocketAddr, requests: u64) -> Result<()> {
        let left = AtomicU64::new(requests);
        let take = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..self.connections).map(|_| scope.spawn(|| self.client(server, take))).collect();
            clients.into_iter().try_for_each(|client| match client.join() {
                Ok(result) => result,
                Err(_) => fail!("a client panicked"),
            })
        })
    }

    /// One connection after the other, or one that stays, while there is something to take.
    fn client(&self, server: SocketAddr, take: impl Fn() -> bool) -> Result<()> {
        let path = self.path;
        let mut connection: Option<Connection> = None;
        while take() {
            let mut open = match connection.take() {
                Some(open) => open,
                None => Connection::open(server, PATIENCE)?,
            };
            let answer = if self.keep {
                open.request("GET", path)?
            } else {
                open.send(format!("GET {path} HTTP/1.1\r\nHost: foraker\r\nConnection: close\r\n\r\n").as_bytes())?;
                open.response(false)?
            };
            if answer.status != 200 || answer.body.len() != self.bytes {
                fail!("{path} was answered with status {} and {} bytes", answer.status, answer.body.len());
            }
            if self.keep {
                connection = Some(open);
            } else if !open.is_closed() {
                fail!("the server did not close the connection");
            }
        }
        Ok(())
    }
}
