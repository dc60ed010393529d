//! Which addresses guests reach beyond this network, and by which of the host's.

use super::{HOST, PREFIX};
use std::net::{Ipv4Addr, SocketAddr};

/// Where guests get to beyond the gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Outside {
    /// Nowhere
    None,
    /// To public addresses, and not to those of the host's own networks, where many trust whoever is there
    #[default]
    Public,
    /// To all addresses that the host reaches, but for its own
    All,
    /// In tests: one address stands for the loopback interface.
    #[cfg(test)]
    #[clap(skip)]
    Stand(Ipv4Addr),
}

impl Outside {
    /// Where a connection of a guest's to this address and port leads. `None`: it is refused.
    pub fn leads(self, to: Ipv4Addr, port: u16) -> Option<SocketAddr> {
        if to == HOST {
            return Some((Ipv4Addr::LOCALHOST, port).into());
        }
        let open = match self {
            Outside::None => false,
            Outside::Public => is_unicast(to) && !is_private(to),
            Outside::All => is_unicast(to),
            #[cfg(test)]
            Outside::Stand(address) => return (to == address).then(|| (Ipv4Addr::LOCALHOST, port).into()),
        };
        open.then(|| (to, port).into())
    }
}

/// Why a guest does not get to this address, and what would let it. `None` where it gets there, or nobody expects that it does.
pub fn why_not(outside: Outside, to: Ipv4Addr) -> Option<&'static str> {
    if outside.leads(to, 0).is_some() {
        return None;
    }
    if to.is_loopback() || to.is_link_local() {
        return Some(
            "loopback and link-local addresses are not reached from here; the host's loopback interface is 10.0.2.2",
        );
    }
    match outside {
        _ if !is_unicast(to) => None,
        Outside::None => Some(
            "--outside none carries nowhere: --outside public carries to public addresses, and --outside all to those of the host's own networks, too",
        ),
        _ => Some(
            "it is one of the host's own networks, where --outside public, the default, does not carry: --outside all does",
        ),
    }
}

/// True where a datagram to this address may be answered by a message that it has not arrived (RFC 1122 3.2.2): none of the machine's network, and no group.
pub fn is_one_elsewhere(to: Ipv4Addr) -> bool {
    is_unicast(to) || to.is_loopback() || to.is_link_local()
}

/// True for the addresses of the machine's own network, and of all who hear.
pub fn is_here(to: Ipv4Addr) -> bool {
    let here = u32::MAX << (32 - PREFIX);
    (to.to_bits() ^ HOST.to_bits()) & here == 0 || to.is_broadcast()
}

/// True for an address that another host can have, which is none of the machine's network: those are VMs, or nobody.
fn is_unicast(to: Ipv4Addr) -> bool {
    let [first, ..] = to.octets();
    !is_here(to) && !to.is_loopback() && !to.is_link_local() && (1..224).contains(&first)
}

/// True for addresses that mean somebody else elsewhere (RFC 6890): networks of one's own, of a provider's, and for documents and measurements.
fn is_private(to: Ipv4Addr) -> bool {
    let within = |net: [u8; 4], bits: u32| (to.to_bits() ^ u32::from_be_bytes(net)) >> (32 - bits) == 0;
    to.is_private()
        || to.is_documentation()
        || within([100, 64, 0, 0], 10)
        || within([192, 0, 0, 0], 24)
        || within([198, 18, 0, 0], 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_reached() {
        for (to, public, all) in [
            ([1, 1, 1, 1], true, true),
            ([223, 255, 255, 254], true, true),
            ([10, 0, 3, 1], false, true),
            ([172, 16, 0, 1], false, true),
            ([192, 168, 1, 1], false, true),
            ([100, 64, 0, 1], false, true),
            ([100, 128, 0, 1], true, true),
            ([198, 19, 255, 255], false, true),
            ([203, 0, 113, 5], false, true),
            ([10, 0, 2, 17], false, false),
            ([10, 0, 2, 255], false, false),
            ([127, 0, 0, 1], false, false),
            ([169, 254, 169, 254], false, false),
            ([0, 0, 0, 0], false, false),
            ([0, 1, 2, 3], false, false),
            ([224, 0, 0, 1], false, false),
            ([255, 255, 255, 255], false, false),
        ] {
            let to = Ipv4Addr::from(to);
            let there = |reached: bool| reached.then(|| SocketAddr::from((to, 80)));
            assert_eq!(Outside::Public.leads(to, 80), there(public), "{to}");
            assert_eq!(Outside::All.leads(to, 80), there(all), "{to}");
            assert_eq!(Outside::None.leads(to, 80), None, "{to}");
        }
        let says = |outside, to: [u8; 4], word: &str| {
            assert!(why_not(outside, to.into()).is_some_and(|why| why.contains(word)), "{to:?}");
        };
        says(Outside::Public, [192, 168, 1, 1], "--outside all does");
        says(Outside::None, [192, 168, 1, 1], "--outside all");
        says(Outside::None, [1, 1, 1, 1], "--outside public carries");
        says(Outside::All, [169, 254, 169, 254], "10.0.2.2");
        says(Outside::All, [127, 0, 0, 1], "10.0.2.2");
        for (outside, to) in
            [(Outside::Public, [1, 1, 1, 1]), (Outside::All, [10, 1, 1, 1]), (Outside::None, [224, 0, 0, 1])]
        {
            assert_eq!(why_not(outside, to.into()), None, "{to:?}");
        }
        for outside in [Outside::None, Outside::Public, Outside::All] {
            assert_eq!(why_not(outside, HOST), None);
            assert_eq!(outside.leads(HOST, 80), Some((Ipv4Addr::LOCALHOST, 80).into()));
        }
    }
}
