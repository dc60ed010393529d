//! A guest that is a client: it fetches a document from a web server in another VM, over TCP, and says what came.
//!
//! Boot arguments: `server=HOST:PORT` with an address or a name, `path=PATH`, `times=N`; when not given: port 80 of the VM before this one, `/100b`, 3.
//! `round-trips=N`: then asks N times more over one connection, one request after the other, and says how long an answer took.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod answer;
mod fault;
mod question;

pub use answer::Answer;
pub use fault::Fault;

use alloc::format;
use ilwaco::args::Args;
use ilwaco::net::{Error, TcpStream};
use ilwaco::time::{Duration, Instant, sleep, timeout};
use question::{Question, Server};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two requests.
const PAUSE: Duration = Duration::from_secs(1);
/// Requests on a connection before its time counts.
const WARM_UP: u32 = 64;
/// A server that is not there yet is asked so often before that counts.
const ATTEMPTS: u32 = 30;

/// Asks. The code that the VM ends with: 0 when all was answered, 1 without a network, 2 when the arguments make no sense, 3 when a
/// request failed.
pub async fn run() -> u64 {
    let address = match ilwaco::net::up().await {
        Ok(address) => address,
        Err(error) => {
            ilwaco::println!("ask: {error}");
            return 1;
        }
    };
    let Question { server, path, times, rounds } = match Question::new(&Args::of_this_vm(), address) {
        Ok(question) => question,
        Err(why) => {
            ilwaco::println!("ask: {why}");
            return 2;
        }
    };
    let mut done = 0;
    let mut attempts = 0;
    while done < times {
        let started = Instant::now();
        match timeout(PATIENCE, fetch(&server, &path)).await.unwrap_or(Err(Fault::Silence)) {
            Ok(answer) => {
                let took = started.elapsed().as_micros();
                ilwaco::println!("ask: {server}{path}: {}, {} bytes, {took} us", answer.code, answer.body_bytes);
                done += 1;
            }
            // It may only have started with us.
            Err(Fault::Net(error)) if done == 0 && attempts < ATTEMPTS && may_pass(error) => {
                if attempts == 0 {
                    ilwaco::println!("ask: {server}{path}: {error}; up to {ATTEMPTS} more attempts, one a second");
                }
                attempts += 1;
            }
            Err(fault) => {
                ilwaco::println!("ask: {server}{path}: {fault}");
                return 3;
            }
        }
        if done < times {
            sleep(PAUSE).await;
        }
    }
    if rounds > 0 {
        sleep(PAUSE).await;
        match round_trips(&server, &path, rounds).await {
            Ok(ticks) => ilwaco::println!("ask: round trips of {server}{path}: count={rounds} ticks={ticks}"),
            Err(fault) => {
                ilwaco::println!("ask: {server}{path}: {fault}");
                return 3;
            }
        }
    }
    0
}

/// True for what can be another matter when the server has started.
fn may_pass(error: Error) -> bool {
    matches!(error, Error::ConnectionRefused | Error::ConnectionReset | Error::TimedOut | Error::Unreachable)
}

/// The mean time of a request and its answer on a connection that stays, in ticks of the time-stamp counter.
async fn round_trips(server: &Server, path: &str, count: u32) -> Result<u64, Fault> {
    let mut stream = TcpStream::connect_to(&server.host, server.port).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\n\r\n");
    for _ in 0..WARM_UP {
        timeout(PATIENCE, exchange(&mut stream, &request)).await.unwrap_or(Err(Fault::Silence))?;
    }
    let started = Instant::now();
    for _ in 0..count {
        timeout(PATIENCE, exchange(&mut stream, &request)).await.unwrap_or(Err(Fault::Silence))?;
    }
    let ticks = started.elapsed().as_nanos() * u128::from(ilwaco::tsc_hz()) / 1_000_000_000 / u128::from(count);
    Ok(u64::try_from(ticks).unwrap_or(u64::MAX))
}

/// One request and its answer, whose length the server must say.
async fn exchange(stream: &mut TcpStream, request: &str) -> Result<Answer, Fault> {
    stream.write_all(request.as_bytes()).await?;
    read(stream).await
}

async fn fetch(server: &Server, path: &str) -> Result<Answer, Fault> {
    let mut stream = TcpStream::connect_to(&server.host, server.port).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    read(&mut stream).await
}

async fn read(stream: &mut TcpStream) -> Result<Answer, Fault> {
    let mut reader = answer::Reader::default();
    let mut bytes = [0; 512];
    loop {
        match stream.read(&mut bytes).await? {
            0 => return reader.end(),
            len => {
                if let Some(answer) = reader.take(&bytes[..len])? {
                    return Ok(answer);
                }
            }
        }
    }
}
