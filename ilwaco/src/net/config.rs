//! The address of this VM: from its boot arguments.

use super::servers::SERVERS;
use crate::args::Args;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

/// How this VM comes by its IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ipv4Config {
    /// It has none (IPv6 link-local only).
    None,
    /// It asks DHCP.
    Dhcp,
    /// It is given.
    Static { address: Ipv4Addr, prefix: u8, gateway: Option<Ipv4Addr> },
}

/// What is wrong with the boot arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConfigError {
    Address,
    Gateway,
    Ipv6,
    NameServer,
}

impl core::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            ConfigError::Address => {
                "boot argument ip: want ip=dhcp or ip=A.B.C.D/P with a host's address and P from 1 to 32"
            }
            ConfigError::Gateway => "boot argument gw: want gw=A.B.C.D",
            ConfigError::Ipv6 => "boot argument ip6: want ip6=auto or ip6=link",
            ConfigError::NameServer => "boot argument dns: want dns=ADDRESS[,ADDRESS[,ADDRESS]]",
        })
    }
}

impl Ipv4Config {
    /// Reads `ip=` and `gw=`.
    pub(crate) fn from_args(args: &Args) -> Result<Ipv4Config, ConfigError> {
        let text = match args.get("ip") {
            None => return Ok(Ipv4Config::None),
            Some("dhcp") => return Ok(Ipv4Config::Dhcp),
            Some(text) => text,
        };
        let (address, prefix) = text.split_once('/').ok_or(ConfigError::Address)?;
        let address: Ipv4Addr = address.parse().map_err(|_| ConfigError::Address)?;
        let prefix: u8 = prefix.parse().map_err(|_| ConfigError::Address)?;
        let no_host = address.is_unspecified() || address.is_multicast() || address.is_broadcast();
        if no_host || !(1..=32).contains(&prefix) {
            return Err(ConfigError::Address);
        }
        let gateway = args.get("gw").map(str::parse).transpose().map_err(|_| ConfigError::Gateway)?;
        Ok(Ipv4Config::Static { address, prefix, gateway })
    }
}

/// Reads `ip6=`: whether routers are asked for an IPv6 address that is good beyond the link.
pub(crate) fn wants_ipv6(args: &Args) -> Result<bool, ConfigError> {
    match args.get("ip6") {
        None | Some("link") => Ok(false),
        Some("auto") => Ok(true),
        Some(_) => Err(ConfigError::Ipv6),
    }
}

/// Reads `dns=`: the servers that are asked for names; none when it is not there.
pub(crate) fn name_servers(args: &Args) -> Result<Vec<IpAddr>, ConfigError> {
    let Some(text) = args.get("dns") else { return Ok(Vec::new()) };
    let servers: Result<Vec<IpAddr>, _> = text.split(',').map(str::parse).collect();
    servers.ok().filter(|servers| servers.len() <= SERVERS).ok_or(ConfigError::NameServer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Ipv4Config, ConfigError> {
        Ipv4Config::from_args(&Args::new(text))
    }

    #[test]
    fn what_is_understood() {
        assert_eq!(config(""), Ok(Ipv4Config::None));
        assert_eq!(config("x=1 ip=dhcp"), Ok(Ipv4Config::Dhcp));
        let address = Ipv4Addr::new(10, 0, 2, 16);
        assert_eq!(config("ip=10.0.2.16/24"), Ok(Ipv4Config::Static { address, prefix: 24, gateway: None }));
        let gateway = Some(Ipv4Addr::new(10, 0, 2, 2));
        assert_eq!(config("ip=10.0.2.16/24 gw=10.0.2.2"), Ok(Ipv4Config::Static { address, prefix: 24, gateway }));
    }

    #[test]
    fn what_is_refused() {
        for text in [
            "ip=",
            "ip=10.0.2.16",
            "ip=10.0.2.16/0",
            "ip=10.0.2.16/33",
            "ip=10.0.2/24",
            "ip=224.0.0.1/24",
            "ip=0.0.0.0/8",
            "ip=1.2.3.4/-1",
        ] {
            assert_eq!(config(text), Err(ConfigError::Address), "{text}");
        }
        assert_eq!(config("ip=10.0.2.16/24 gw=me"), Err(ConfigError::Gateway));
    }

    #[test]
    fn addresses_beyond_the_link() {
        let wants = |text: &str| wants_ipv6(&Args::new(text));
        assert_eq!((wants(""), wants("ip6=link"), wants("ip6=auto")), (Ok(false), Ok(false), Ok(true)));
        assert_eq!(wants("ip6=2001:db8::1"), Err(ConfigError::Ipv6));
    }

    #[test]
    fn servers() {
        let servers = |text: &str| name_servers(&Args::new(text));
        assert_eq!(servers("ip=dhcp"), Ok(Vec::new()));
        let two = [IpAddr::from([10, 0, 2, 2]), "fe80::1".parse().expect("an address")];
        assert_eq!(servers("dns=10.0.2.2,fe80::1"), Ok(two.into()));
        for text in ["dns=", "dns=me", "dns=1.1.1.1,", "dns=1.1.1.1,2.2.2.2,3.3.3.3,4.4.4.4"] {
            assert_eq!(servers(text), Err(ConfigError::NameServer), "{text}");
        }
    }
}
