//! The user-mode network of `cargo xtask run`: whether it loses anything, and how fast it is beside a tap.

use super::http::inside;
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::http::{self, Connection};
use crate::machine::tap;
use crate::test::lab::BOOT;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub const BURST: Entry = Entry {
    name: "slirp_burst_lost",
    measures: "of 100 clients at once through the user-mode network, those that do not get the whole document",
    repeats: Repeats::Exactly,
    run: burst,
};
pub const RATIO: Entry = Entry {
    name: "slirp_mb_s_ratio",
    measures: "the rate of large documents through the user-mode network, over that through a tap",
    // Rates depend on what else the host does.
    repeats: Repeats::Within(0.5),
    run: ratio,
};

/// Clients at once.
const CLIENTS: usize = 100;
const DOCUMENT: &str = "/100k";
const BYTES: usize = 102_400;
/// Connections that keep a server busy.
const CONNECTIONS: usize = 4;
/// Documents that each of them fetches in a round.
const DOCUMENTS: usize = 8;
/// Rounds; the two networks take turns, so that both see the same host.
const ROUNDS: usize = 9;
const PATIENCE: Duration = Duration::from_secs(60);

fn burst(bench: &Bench) -> Result<Vec<Figure>> {
    let mut running = bench.lab()?.boot("vms=httpd").start()?;
    running.wait_for_services(BOOT)?;
    let server = running.services()[0];
    let whole = move || {
        http::get(server, DOCUMENT, PATIENCE).is_ok_and(|answer| answer.status == 200 && answer.body.len() == BYTES)
    };
    let clients: Vec<_> = (0..CLIENTS).map(|_| std::thread::spawn(whole)).collect();
    let lost = clients.into_iter().map(|client| !client.join().unwrap_or(false));
    let value = f64::from(lost.map(u32::from).sum::<u32>());
    running.power_off()?;
    let conditions =
        format!("{}, user-mode network; {CLIENTS} clients at once, each GET {DOCUMENT}", bench.kind.name());
    Ok(vec![Figure { metric: "slirp_burst_lost", value, unit: "requests", conditions }])
}

fn ratio(bench: &Bench) -> Result<Vec<Figure>> {
    let value = inside(bench, "slirp_mb_s_ratio", |lab| {
        let mut over_tap = lab.boot("vms=httpd").tap(tap::DEVICE).start()?;
        let mut over_slirp = lab.boot("vms=httpd").start()?;
        over_tap.wait_for_services(BOOT)?;
        over_slirp.wait_for_services(BOOT)?;
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            let tap = round(over_tap.services()[0])?;
            let slirp = round(over_slirp.services()[0])?;
            ratios.push(tap.as_secs_f64() / slirp.as_secs_f64());
        }
        over_tap.power_off()?;
        over_slirp.power_off()?;
        ratios.sort_by(f64::total_cmp);
        Ok(ratios[ratios.len() / 2])
    })?;
    let conditions = format!(
        "{}; {CONNECTIONS} keep-alive connections, each {DOCUMENTS} times {DOCUMENT}; two machines in turn, one of them on a tap; \
         median of {ROUNDS} rounds",
        bench.kind.name()
    );
    Ok(vec![Figure { metric: "slirp_mb_s_ratio", value, unit: "ratio", conditions }])
}

/// How long a round takes.
fn round(server: SocketAddr) -> Result<Duration> {
    let started = Instant::now();
    let fetch = move || -> Result<()> {
        let mut connection = Connection::open(server, PATIENCE)?;
        for _ in 0..DOCUMENTS {
            let answer = connection.request("GET", DOCUMENT)?;
            if answer.status != 200 || answer.body.len() != BYTES {
                fail!("{DOCUMENT} was answered with status {} and {} bytes", answer.status, answer.body.len());
            }
        }
        Ok(())
    };
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| std::thread::spawn(fetch)).collect();
    for client in clients {
        client.join().map_err(|_| "a client panicked")??;
    }
    Ok(started.elapsed())
}
