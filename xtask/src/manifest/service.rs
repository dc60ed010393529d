//! What an image serves: ports that clients reach, and the sign that tells when a VM of it is ready.

use super::model::Image;
use serde::Deserialize;

/// Ports that an image may have: as many as have places of their own on the host (`crate::service`).
const MAX_PORTS: usize = 8;
/// Longest path and text: what a VM says in one line.
const MAX_TEXT: usize = 240;

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// A port that a guest serves: `tcp/80`, `udp/7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Port {
    pub protocol: Protocol,
    /// From 1 on.
    pub number: u16,
}

impl Port {
    /// The TCP port `number`.
    pub const fn tcp(number: u16) -> Port {
        Port { protocol: Protocol::Tcp, number }
    }
}

impl TryFrom<String> for Port {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let protocol = |name: &str| match name {
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            _ => None,
        };
        // `parse` alone would take a sign.
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        match text.split_once('/').map(|(name, port)| (protocol(name), number(port))) {
            Some((Some(protocol), Some(number @ 1..))) => Ok(Port { protocol, number }),
            _ => Err(format!(
                "\"{text}\" is no port: write tcp/ or udp/ and a number from 1 to 65535, as in \"tcp/80\" or \"udp/7\""
            )),
        }
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.protocol, self.number)
    }
}

/// The sign that a VM is ready.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Keys")]
pub enum Ready {
    /// Its first TCP port answers a GET of this path with a status from 200 to 299.
    Http(String),
    /// This TCP port takes a connection.
    Tcp(u16),
    /// It says a line on its console that contains this text.
    Console(String),
}

/// `ready` as it is written: exactly one of these.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    http: Option<String>,
    tcp: Option<u16>,
    console: Option<String>,
}

impl TryFrom<Keys> for Ready {
    type Error = String;

    fn try_from(keys: Keys) -> Result<Self, String> {
        match keys {
            Keys { http: Some(path), tcp: None, console: None } => Ok(Ready::Http(path)),
            Keys { http: None, tcp: Some(port), console: None } => Ok(Ready::Tcp(port)),
            Keys { http: None, tcp: None, console: Some(text) } => Ok(Ready::Console(text)),
            _ => Err(
                "`ready` has exactly one sign: write { http = \"/\" }, { tcp = 80 } or { console = \"text\" }, or leave \
                 `ready` out for a VM that is ready as soon as it runs"
                    .to_owned(),
            ),
        }
    }
}

/// What is wrong with what `image` says it serves.
pub fn check(image: &Image) -> Result<(), String> {
    let ports = &image.ports;
    if ports.len() > MAX_PORTS {
        return Err(format!("{} ports are too many: at most {MAX_PORTS}", ports.len()));
    }
    if let Some((_, twice)) = ports.iter().enumerate().find(|(i, port)| ports[..*i].contains(port)) {
        return Err(format!("port {twice} is there twice: remove one"));
    }
    if let Some(port) = ports.first()
        && image.rx_slots == 0
    {
        return Err(format!(
            "port {port} cannot be reached without a NIC: give rx-slots and tx-slots, or remove `ports`"
        ));
    }
    match &image.ready {
        None => Ok(()),
        Some(Ready::Http(path)) => {
            if !ports.iter().any(|port| port.protocol == Protocol::Tcp) {
                return Err(
                    "ready by http, but none of its `ports` is TCP: add the one that answers, as in \"tcp/80\"".into(),
                );
            }
            if !path.starts_with('/') || path.len() > MAX_TEXT || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(format!(
                    "ready by http: {path:?} is no path: write `/` and printable ASCII without spaces, {MAX_TEXT} \
                     characters at most"
                ));
            }
            Ok(())
        }
        Some(Ready::Tcp(number)) if !ports.contains(&Port::tcp(*number)) => {
            Err(format!("ready by tcp: {number} is not among its `ports`: add \"tcp/{number}\""))
        }
        Some(Ready::Tcp(_)) => Ok(()),
        Some(Ready::Console(text)) => {
            if text.is_empty() || text.len() > MAX_TEXT || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                return Err(format!(
                    "ready by console: {text:?} is no part of a line: write printable ASCII, 1 to {MAX_TEXT} characters"
                ));
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_a_protocol_and_a_number() {
        let port = |text: &str| Port::try_from(text.to_owned());
        assert_eq!(port("tcp/80"), Ok(Port::tcp(80)));
        assert_eq!(port("udp/65535"), Ok(Port { protocol: Protocol::Udp, number: 65535 }));
        assert_eq!(port("udp/7").unwrap().to_string(), "udp/7");
        for bad in [
            "",
            "80",
            "tcp",
            "tcp/",
            "tcp/0",
            "tcp/65536",
            "tcp/+80",
            "tcp/-1",
            "TCP/80",
            "sctp/80",
            "tcp/80/1",
            "tcp 80",
        ] {
            let error = port(bad).unwrap_err();
            assert!(error.contains(&format!("\"{bad}\" is no port: write tcp/ or udp/")), "{error}");
        }
    }

    #[test]
    fn there_is_one_sign() {
        let ready = |text: &str| toml::from_str::<Ready>(text).map_err(|error| error.message().to_owned());
        assert_eq!(ready("http = '/status'"), Ok(Ready::Http("/status".into())));
        assert_eq!(ready("tcp = 7"), Ok(Ready::Tcp(7)));
        assert_eq!(ready("console = 'serving'"), Ok(Ready::Console("serving".into())));
        for bad in ["", "tcp = 7\nhttp = '/'"] {
            assert!(ready(bad).unwrap_err().contains("exactly one sign: write { http = \"/\" }"), "{bad}");
        }
        assert!(ready("udp = 7").unwrap_err().contains("expected one of `http`, `tcp`, `console`"));
        assert!(ready("tcp = 70000").is_err());
    }
}
