//! Documents by size from `httpd`, and from a Linux on the same emulator that is asked by the same clients.

use super::http::{Load, busy, inside};
use super::mechanism::parse;
use super::plot::{self, Line};
use super::{Bench, Entry, Figure, Repeats, write};
use crate::error::{Context, Result, fail};
use crate::http;
use crate::linux::Image;
use crate::machine::{Kind, Nic, tap};
use crate::test::lab::{BOOT, Lab};
use serde::Serialize;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

pub const ENTRY: Entry = Entry {
    name: "http_close_100b_over_linux",
    measures: "instructions for a request for 100 bytes, a connection each, over those of a Linux on the same emulator; and of larger documents",
    // How requests fall into rounds depends on the host's timing.
    repeats: Repeats::Within(0.1),
    run,
};

/// Documents, their bytes, and how many requests are measured.
const SIZES: [(&str, usize, u64); 6] = [
    ("/100b", 100, 1_500),
    ("/2258b", 2_258, 1_500),
    ("/10k", 10_240, 800),
    ("/50k", 51_200, 320),
    ("/100k", 102_400, 200),
    ("/1000k", 1_024_000, 32),
];
/// Where Linux is.
const ADDRESS: &str = "10.0.2.16";
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Serialize)]
struct Row {
    document: &'static str,
    bytes: usize,
    /// Instructions for a request.
    foraker: u64,
    linux: u64,
}

/// A connection for each request, 16 at once; the last of all, large ones on one connection, as a stream.
fn loads() -> impl Iterator<Item = Load> {
    let each = |(path, bytes, requests)| Load {
        metric: ENTRY.name,
        path,
        bytes,
        keep: false,
        connections: 16,
        warm_up: requests / 10 + 4,
        requests,
        per_byte: false,
    };
    SIZES.into_iter().map(each).chain([Load { keep: true, connections: 1, ..each(SIZES[SIZES.len() - 1]) }])
}

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    // Packages and programs are there before anything runs inside, where nothing can be fetched.
    let image = match Image::make(ADDRESS) {
        Ok(image) => image,
        Err(error) => {
            bench.note(format!("there is no Linux to compare with: {error}\n"));
            return Ok(Vec::new());
        }
    };
    let text: String = inside(bench, ENTRY.name, |_| measure(&image))?;
    let counts = text.split(',').map(str::parse).collect::<std::result::Result<Vec<u64>, _>>();
    let counts = counts.context(|| format!("the one inside says {text}"))?;
    let (ours, linux) = counts.split_at(counts.len() / 2);
    let row = |(load, (&foraker, &linux)): (Load, (&u64, &u64))| Row {
        document: load.path,
        bytes: load.bytes,
        foraker,
        linux,
    };
    let mut rows: Vec<Row> = loads().zip(ours.iter().zip(linux)).map(row).collect();
    let Some(stream) = rows.pop().filter(|_| rows.len() == SIZES.len()) else { fail!("the one inside says {text}") };
    bench.note(table(&rows, &stream));
    let json = serde_json::to_string_pretty(&(&rows, &stream)).context(|| "cannot write the table as JSON".into())?;
    write(&format!("{}-sizes.json", ENTRY.name), &json)?;
    write(&format!("{}-curve.svg", ENTRY.name), &drawn(&rows))?;
    let conditions = "QEMU, AMD (EPYC), one CPU, icount shift=0,sleep=on, virtio-net at a tap; 1 VM of httpd, and Debian's kernel for virtual machines with a server \
                      that has a thread for each connection; 16 clients on the host, a connection per request; all instructions of the machine but idle ones, Foraker's \
                      over Linux's"
        .to_owned();
    Ok(vec![Figure { metric: ENTRY.name, value: ratio(&rows[0]), unit: "ratio", conditions }])
}

/// Instructions for a request of each load: ours, then Linux's.
fn measure(image: &Image) -> Result<String> {
    let lab = Lab::with(Kind::Qemu)?;
    let mut running = lab.boot("vms=httpd").tap(tap::DEVICE).qemu_with(Nic::Virtio.qemu()).counted().start()?;
    running.wait_for_services(BOOT)?;
    running.wait_for_monitor()?;
    let mut counts = Vec::new();
    for load in loads() {
        load.ask(running.services()[0], load.warm_up)?;
        let busy = busy(&running, || load.ask(running.services()[0], load.requests))?;
        counts.push(busy / load.requests);
    }
    running.power_off()?;
    let _linux = image.boot(tap::DEVICE)?;
    let server: SocketAddr = format!("{ADDRESS}:80").parse().context(|| "no address".into())?;
    for load in loads() {
        load.ask(server, load.warm_up)?;
        let before = stamp(server)?;
        load.ask(server, load.requests)?;
        let after = stamp(server)?;
        let (all, idle) = (after.0 - before.0, after.1 - before.1);
        if idle > all / 4 {
            eprintln!(
                "Linux idled {} % of the time with {}: the client did not keep it busy",
                idle * 100 / all.max(1),
                load.path
            );
        }
        counts.push(all.saturating_sub(idle) / load.requests);
    }
    Ok(counts.iter().map(u64::to_string).collect::<Vec<_>>().join(","))
}

/// What Linux says of the time that has passed, and of that in which it idled: nanoseconds, of which each is an instruction.
fn stamp(server: SocketAddr) -> Result<(u64, u64)> {
    let answer = http::get(server, "/stamp", PATIENCE)?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    Ok((parse(&text, "ns")?, parse(&text, "idle_ns")?))
}

/// Ours over Linux's.
// Far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn ratio(row: &Row) -> f64 {
    (row.foraker as f64 / row.linux.max(1) as f64 * 100.0).round() / 100.0
}

fn table(rows: &[Row], stream: &Row) -> String {
    let mut text = String::new();
    for row in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "    {}: Foraker {}, Linux {}, {:.2} of it",
            row.document,
            row.foraker,
            row.linux,
            ratio(row)
        );
    }
    let Row { document, foraker, linux, .. } = stream;
    let _ = writeln!(
        text,
        "    {document} again and again on one connection: Foraker {foraker}, Linux {linux}, {:.2} of it",
        ratio(stream)
    );
    text
}

/// Ours over Linux's for each document, as shares of the most.
fn drawn(rows: &[Row]) -> String {
    let most = rows.iter().map(ratio).fold(1.0, f64::max);
    let line = Line {
        name: "Foraker's over Linux's".to_owned(),
        heights: rows.iter().map(|row| Some(ratio(row) / most)).collect(),
    };
    let places: Vec<String> = rows.iter().map(|row| row.document.trim_start_matches('/').to_owned()).collect();
    let title = format!("instructions for a request over those of Linux by document; 1.0 is {most:.2}");
    plot::lines(&title, &places, rows.len(), &[line])
}
