//! A web server for Linux that serves the documents of `httpd`: what that is compared with on the same emulator. A thread for each connection, as Linux
//! programs have them; answers are made beforehand, and leave with one call.
//!
//! `/stamp` says what time it is, and for how long the machine has idled.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

/// Paths, and bytes of what lies there.
const DOCUMENTS: [(&str, usize); 6] =
    [("/100b", 100), ("/2258b", 2_258), ("/10k", 10_240), ("/50k", 51_200), ("/100k", 102_400), ("/1000k", 1_024_000)];

/// A document, and its answers to those who stay and to those who do not.
struct Page {
    path: &'static str,
    keep: Vec<u8>,
    close: Vec<u8>,
}

fn page((path, bytes): (&'static str, usize)) -> Page {
    let answer = |connection| answer("200 OK", &vec![b'x'; bytes], connection);
    Page { path, keep: answer("keep-alive"), close: answer("close") }
}

fn answer(status: &str, body: &[u8], connection: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Nanoseconds since the start, and those for which the machine has idled since it was booted, as precisely as Linux says it.
fn stamp(start: Instant) -> String {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    // user, nice, system, idle; in hundredths of a second.
    let idle = text.lines().next().and_then(|line| line.split_whitespace().nth(4)?.parse::<u64>().ok()).unwrap_or(0);
    format!("ns={} idle_ns={}\n", start.elapsed().as_nanos(), idle * 10_000_000)
}

/// One request after the other, until the client or we have had enough.
fn serve(stream: &TcpStream, pages: &[Page], start: Instant) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut keep = true;
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.trim_end().is_empty() {
                break;
            }
            keep &= !line.trim_end().eq_ignore_ascii_case("connection: close");
        }
        match pages.iter().find(|page| page.path == path) {
            Some(page) => writer.write_all(if keep { &page.keep } else { &page.close })?,
            None if path == "/stamp" => writer.write_all(&answer("200 OK", stamp(start).as_bytes(), "keep-alive"))?,
            None => writer.write_all(&answer("404 Not Found", b"", "keep-alive"))?,
        }
        if !keep {
            return Ok(());
        }
    }
}

fn main() -> std::io::Result<()> {
    let start = Instant::now();
    let pages: &'static [Page] = Vec::leak(DOCUMENTS.map(page).into());
    let listener = TcpListener::bind(("0.0.0.0", 80))?;
    println!("linux-server: ready");
    for stream in listener.incoming() {
        let stream = stream?;
        // A client that is gone is no reason to end.
        std::thread::spawn(move || _ = serve(&stream, pages, start));
    }
    Ok(())
}
