//! What is asked for, and of whom: as the boot arguments say it.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::net::{Ipv4Addr, SocketAddr};
use core::str::FromStr;
use ilwaco::args::Args;

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// A name, or an address that is written out.
    pub host: String,
    pub port: u16,
}

impl FromStr for Server {
    type Err = ();

    fn from_str(text: &str) -> Result<Server, ()> {
        let (host, port) = match text.parse::<SocketAddr>() {
            Ok(address) => (address.ip().to_string(), address.port()),
            Err(_) => {
                let (host, port) = text.rsplit_once(':').ok_or(())?;
                let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
                if host.is_empty() || !host.bytes().all(is_name) {
                    return Err(());
                }
                (host.to_owned(), port.parse().map_err(|_| ())?)
            }
        };
        if port == 0 { Err(()) } else { Ok(Server { host, port }) }
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

/// What a VM is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub server: Server,
    pub path: String,
    /// Requests, each on a connection of its own.
    pub times: u32,
    /// Requests on one connection, behind them.
    pub rounds: u32,
}

impl Question {
    /// As the arguments of a VM with this address say it.
    ///
    /// # Errors
    /// What makes no sense, why, and what would.
    pub fn new(args: &Args, address: Ipv4Addr) -> Result<Question, String> {
        let before = Ipv4Addr::from_bits(address.to_bits().wrapping_sub(1));
        let server = match args.get("server") {
            None => Server { host: before.to_string(), port: 80 },
            Some(text) => text.parse().map_err(|()| {
                let needed = "a host and a port, as server=10.0.2.2:8000, server=[fe80::1]:80 or server=example.org:80";
                format!("server={text} is not {needed}")
            })?,
        };
        let path = args.get("path").unwrap_or("/100b");
        if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("path={path} is no path: it begins with a slash, and is ASCII, as path=/100k"));
        }
        let number = |key, usual| match args.get(key) {
            None => Ok(usual),
            Some(text) => text.parse::<u32>().map_err(|_| {
                let most = u32::MAX;
                format!("{key}={text} is no number of requests: it is one from 0 to {most}, as {key}=3")
            }),
        };
        let (times, rounds) = (number("times", 3)?, number("round-trips", 0)?);
        Ok(Question { server, path: path.to_owned(), times, rounds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 17);

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
        for text in ["", "10.0.2.16", ":80", "host:", "host:99999", "fe80::1:80:x", "a:b:80", "10.0.2.2:0", "a:0"] {
            assert_eq!(text.parse::<Server>(), Err(()), "{text}");
        }
        for text in ["http://a:80", "a/b:80", "a@b:80", "http://a"] {
            assert_eq!(text.parse::<Server>(), Err(()), "{text}");
        }
    }

    #[test]
    fn questions() {
        let server = Server { host: "10.0.2.16".to_owned(), port: 80 };
        let usual = Question { server, path: "/100b".to_owned(), times: 3, rounds: 0 };
        assert_eq!(Question::new(&Args::new("ip=10.0.2.17/24"), ADDRESS), Ok(usual.clone()));
        let all = Args::new("server=a:1 path=/x?y times=0 round-trips=7");
        let server = Server { host: "a".to_owned(), port: 1 };
        let question = Question { server, path: "/x?y".to_owned(), times: 0, rounds: 7 };
        assert_eq!(Question::new(&all, ADDRESS), Ok(question));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for wrong in ["server=10.0.2.2", "path=100b", "path=/ä", "times=-1", "times=", "round-trips=many"] {
            let said = Question::new(&Args::new(wrong), ADDRESS).expect_err(wrong);
            assert!(said.starts_with(&format!("{wrong} is ")) && said.contains(", as "), "{said}");
        }
    }
}
