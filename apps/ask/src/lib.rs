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

pub use answer::{Answer, Fault};

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::net::{Ipv4Addr, SocketAddr};
use core::str::FromStr;
use ilwaco::args::Args;
use ilwaco::net::TcpStream;
use ilwaco::time::{Duration, Instant, sleep, timeout};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two requests.
const PAUSE: Duration = Duration::from_secs(1);
/// Requests on a connection before its time counts.
const WARM_UP: u32 = 64;
/// A server that is not there yet is asked so often before that counts.
const ATTEMPTS: u32 = 30;

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Server {
    /// A name, or an address that is written out.
    host: String,
    port: u16,
}

impl FromStr for Server {
    type Err = ();

    fn from_str(text: &str) -> Result<Server, ()> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Server { host: address.ip().to_string(), port: address.port() });
        }
        let (host, port) =
            text.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains(':')).ok_or(())?;
        Ok(Server { host: host.to_string(), port: port.parse().map_err(|_| ())? })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.parse() {
            Ok(address) => SocketAddr::new(address, self.port).fmt(f),
            Err(_) => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

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
    let args = Args::of_this_vm();
    let neighbour = SocketAddr::from((Ipv4Addr::from_bits(address.to_bits().wrapping_sub(1)), 80));
    let neighbour = Server { host: neighbour.ip().to_string(), port: neighbour.port() };
    let server = args.get("server").map_or(Ok(neighbour), str::parse);
    let times = args.get("times").map_or(Ok(3), str::parse::<u32>);
    let (Ok(server), Ok(times)) = (server, times) else {
        ilwaco::println!("ask: server=HOST:PORT and times=NUMBER are what is understood");
        return 2;
    };
    let Ok(rounds) = args.get("round-trips").map_or(Ok(0), str::parse::<u32>) else {
        ilwaco::println!("ask: round-trips=NUMBER is what is understood");
        return 2;
    };
    let path = args.get("path").unwrap_or("/100b");
    let mut done = 0;
    let mut attempts = 0;
    while done < times {
        let started = Instant::now();
        match timeout(PATIENCE, fetch(&server, path)).await.unwrap_or(Err(Fault::Silence)) {
            Ok(answer) => {
                let took = started.elapsed().as_micros();
                ilwaco::println!("ask: {server}{path}: {}, {} bytes, {took} us", answer.code, answer.body_bytes);
                done += 1;
            }
            // It may only have started with us.
            Err(Fault::Net(_)) if done == 0 && attempts < ATTEMPTS => attempts += 1,
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
        match round_trips(&server, path, rounds).await {
            Ok(ticks) => ilwaco::println!("ask: round trips of {server}{path}: count={rounds} ticks={ticks}"),
            Err(fault) => {
                ilwaco::println!("ask: {server}{path}: {fault}");
                return 3;
            }
        }
    }
    0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        for (text, host, port) in [
            ("10.0.2.16:80", "10.0.2.16", 80),
            ("[fe80::1]:8080", "fe80::1", 8080),
            ("vm1.foraker.internal:80", "vm1.foraker.internal", 80),
        ] {
            let server: Server = text.parse().expect("understood");
            assert_eq!((server.host.as_str(), server.port, server.to_string().as_str()), (host, port, text));
        }
        for text in ["", "10.0.2.16", ":80", "host:", "host:99999", "fe80::1:80:x", "a:b:80"] {
            assert_eq!(text.parse::<Server>(), Err(()), "{text}");
        }
    }
}
