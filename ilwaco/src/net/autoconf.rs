//! An IPv6 address that is good beyond the link, made of what a router says (RFC 4861 6.3, RFC 4862), for VMs that ask for one with
//! `ip6=auto`; and name servers from the same message (RFC 8106).
//!
//! One router and one prefix of 64 bits: the first that are of use, until they run out. Only numbers and times; frames are made in
//! `link.rs` and `discovery.rs`, and `ipv6_address.rs` does what is said here.

use super::frame::{be16, be32};
use super::servers::SERVERS;
use alloc::vec::Vec;
use core::net::IpAddr;

const SECOND: u64 = 1_000_000;
/// How long somebody has to say that he has an address already (RFC 4862 5.4, RetransTimer), in microseconds.
const TENTATIVE: u64 = SECOND;
/// Time to the second question for routers and between the last ones: it doubles (RFC 7559).
const SOLICIT: u64 = 4 * SECOND;
const MOST_SOLICIT: u64 = 3600 * SECOND;
/// What a lifetime is never shortened to by one message that nobody has signed (RFC 4862 5.5.3 e).
const TWO_HOURS: u64 = 7200 * SECOND;
/// When what runs out is asked for anew: by the part that is left of it.
const PART_LEFT: u64 = 4;
/// Options of a message that are looked at.
const OPTIONS: usize = 32;
const FOREVER: u32 = u32::MAX;

/// What a router advertises.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Advert {
    /// How long it is a way out, in seconds; 0 for not at all.
    lifetime: u16,
    /// The hardware address of the router.
    pub(super) mac: Option<[u8; 6]>,
    prefixes: Vec<Prefix>,
    pub(super) servers: Vec<IpAddr>,
}

/// A prefix of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Prefix {
    /// The upper half of addresses.
    bits: u128,
    /// Who has it is a neighbour; addresses may be made of it.
    on_link: bool,
    autonomous: bool,
    /// Seconds.
    valid: u32,
}

impl Advert {
    /// Reads a message that starts with its type. `None` for what a router may not say (RFC 4861 6.1.2).
    pub(super) fn read(message: &[u8]) -> Option<Advert> {
        let (head, mut options) = message.split_at_checked(16)?;
        if head[..2] != [134, 0] {
            return None;
        }
        let mut advert = Advert { lifetime: be16(head, 6)?, ..Advert::default() };
        for _ in 0..OPTIONS {
            let Some(&len) = options.get(1) else { break };
            let (option, rest) = options.split_at_checked(usize::from(len) * 8).filter(|_| len > 0)?;
            options = rest;
            match (option[0], len) {
                (1, 1) => advert.mac = option[2..].first_chunk().copied(),
                (3, 4) => advert.prefixes.extend(Prefix::read(option)),
                (25, 3..) if be32(option, 4)? > 0 => {
                    let (servers, _) = option[8..].as_chunks::<16>();
                    let room = SERVERS.saturating_sub(advert.servers.len());
                    advert.servers.extend(servers.iter().take(room).map(|&server| IpAddr::from(server)));
                }
                _ => {}
            }
        }
        Some(advert)
    }
}

impl Prefix {
    /// Reads a prefix information option (RFC 4861 4.6.2). `None` for what no address can be made of.
    fn read(option: &[u8]) -> Option<Prefix> {
        let (valid, preferred) = (be32(option, 4)?, be32(option, 8)?);
        let bits = u128::from_be_bytes(*option.get(16..)?.first_chunk()?) >> 64 << 64;
        let global = bits >> 118 != 0xfe80 >> 6 && bits >> 120 != 0xff && bits != 0;
        if option[2] != 64 || preferred > valid || !global {
            return None;
        }
        Some(Prefix { bits, on_link: option[3] & 0x80 != 0, autonomous: option[3] & 0x40 != 0, valid })
    }
}

/// How far an address has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is being asked whether somebody has it; until then.
    Tentative(u64),
    Ours,
    /// Somebody else's.
    Duplicate,
}

/// An address that was made of a prefix.
#[derive(Clone, Copy, Debug)]
struct Address {
    address: u128,
    on_link: bool,
    /// When it runs out, in microseconds.
    until: u64,
    standing: Standing,
}

/// What is known of routers and addresses.
#[derive(Debug)]
pub(super) struct Autoconf {
    /// The link-local address.
    local: u128,
    standing: Standing,
    address: Option<Address>,
    /// The way out, and until when it is.
    pub(super) router: Option<(u128, u64)>,
    /// When routers are asked next, and how long after that again.
    solicit: u64,
    wait: u64,
}

/// What is to be sent or done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Ask whether somebody has this address.
    Probe(u128),
    /// Ask for routers.
    Solicit,
    /// Use the address, or what is left of the way out.
    Change,
}

fn until(seconds: u32, now: u64) -> u64 {
    if seconds == FOREVER { u64::MAX } else { now + u64::from(seconds) * SECOND }
}

impl Autoconf {
    /// Begins with asking for `local`. What is sent first is the first thing that [`Autoconf::work`] says.
    pub(super) fn new(local: u128, now: u64) -> Autoconf {
        Autoconf { local, standing: Standing::Tentative(0), address: None, router: None, solicit: now, wait: SOLICIT }
    }

    /// When there is something to do, in microseconds.
    pub(super) fn due(&self) -> u64 {
        let tentative = |standing| match standing {
            Standing::Tentative(until) => until,
            _ => u64::MAX,
        };
        let address = self.address.map_or(u64::MAX, |address| tentative(address.standing).min(address.until));
        let router = self.router.map_or(u64::MAX, |(_, until)| until);
        let own = match self.standing {
            Standing::Tentative(until) => until,
            Standing::Ours => self.solicit,
            Standing::Duplicate => u64::MAX,
        };
        own.min(address).min(router)
    }

    /// The next thing to do, if something is due.
    pub(super) fn work(&mut self, now: u64) -> Option<Act> {
        match self.standing {
            Standing::Tentative(0) => {
                self.standing = Standing::Tentative(now + TENTATIVE);
                return Some(Act::Probe(self.local));
            }
            Standing::Tentative(until) if now >= until => {
                self.standing = Standing::Ours;
                self.solicit = now;
            }
            _ => {}
        }
        if let Some(address) = &mut self.address {
            match address.standing {
                Standing::Tentative(0) => {
                    address.standing = Standing::Tentative(now + TENTATIVE);
                    return Some(Act::Probe(address.address));
                }
                Standing::Tentative(until) if now >= until => {
                    address.standing = Standing::Ours;
                    return Some(Act::Change);
                }
                _ if now >= address.until => {
                    self.address = None;
                    return Some(Act::Change);
                }
                _ => {}
            }
        }
        if self.router.is_some_and(|(_, until)| now >= until) {
            self.router = None;
            return Some(Act::Change);
        }
        if self.standing == Standing::Ours && now >= self.solicit {
            self.solicit = now + self.wait;
            self.wait = (2 * self.wait).min(MOST_SOLICIT);
            return Some(Act::Solicit);
        }
        None
    }

    /// A router says something. True when our way out or our address is another one by that.
    pub(super) fn advertised(&mut self, router: u128, advert: &Advert, now: u64) -> bool {
        if self.standing != Standing::Ours {
            return false;
        }
        let before = (self.router.map(|(router, _)| router), self.address.map(|address| address.on_link));
        let is_ours = self.router.is_none_or(|(ours, _)| ours == router);
        if is_ours {
            self.router = (advert.lifetime > 0).then(|| (router, until(advert.lifetime.into(), now)));
        }
        for prefix in advert.prefixes.iter().filter(|prefix| prefix.autonomous) {
            let address = prefix.bits | (self.local & u128::from(u64::MAX));
            let until = until(prefix.valid, now);
            match &mut self.address {
                Some(known) if known.address == address => {
                    let left = known.until.saturating_sub(now);
                    let more = until > now + TWO_HOURS || until > known.until;
                    known.on_link = prefix.on_link;
                    if more {
                        known.until = until;
                    } else if left > TWO_HOURS {
                        known.until = now + TWO_HOURS;
                    }
                }
                None if prefix.valid > 0 => {
                    let standing = Standing::Tentative(0);
                    self.address = Some(Address { address, on_link: prefix.on_link, until, standing });
                }
                // One is enough.
                _ => {}
            }
        }
        // Before the first of both runs out, it is asked for again.
        if self.router.is_some() || self.address.is_some() {
            let ends = self.router.map_or(u64::MAX, |(_, until)| until);
            let ends = ends.min(self.address.map_or(u64::MAX, |address| address.until));
            self.solicit = if ends == u64::MAX { ends } else { ends - (ends - now) / PART_LEFT };
            self.wait = SOLICIT;
        }
        (self.router.map(|(router, _)| router), self.address.map(|address| address.on_link)) != before
    }

    /// Somebody else has, or wants, this address. True when that is one that we have asked for.
    pub(super) fn taken(&mut self, address: u128) -> bool {
        if address == self.local && matches!(self.standing, Standing::Tentative(_)) {
            self.standing = Standing::Duplicate;
            return true;
        }
        match &mut self.address {
            Some(own) if own.address == address && matches!(own.standing, Standing::Tentative(_)) => {
                own.standing = Standing::Duplicate;
                true
            }
            _ => false,
        }
    }

    /// The address that can be used, and whether its prefix is that of neighbours.
    pub(super) fn usable(&self) -> Option<(u128, bool)> {
        self.address.filter(|address| address.standing == Standing::Ours).map(|own| (own.address, own.on_link))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOCAL: u128 = 0xfe80 << 112 | 0x46_4bff_fe00_0000;
    const ROUTER: u128 = 0xfe80 << 112 | 1;
    const PREFIX: u128 = 0x2001_0db8 << 96;
    const OWN: u128 = PREFIX | 0x46_4bff_fe00_0000;

    fn message(lifetime: u16, options: &[&[u8]]) -> Vec<u8> {
        let [high, low] = lifetime.to_be_bytes();
        let mut message: Vec<u8> = [134, 0, 0, 0, 64, 0, high, low, 0, 0, 0, 0, 0, 0, 0, 0].into();
        message.extend(options.concat());
        message
    }

    fn prefix(bits: u128, len: u8, flags: u8, valid: u32, preferred: u32) -> Vec<u8> {
        let mut option = [&[3, 4, len, flags][..], &valid.to_be_bytes(), &preferred.to_be_bytes(), &[0; 4]].concat();
        option.extend(bits.to_be_bytes());
        option
    }

    fn advert(lifetime: u16, valid: u32) -> Advert {
        Advert::read(&message(lifetime, &[&prefix(PREFIX, 64, 0xc0, valid, 0)])).expect("well-formed")
    }

    /// One whose link-local address is its own, at second 1.
    fn ready() -> Autoconf {
        let mut autoconf = Autoconf::new(LOCAL, 0);
        assert_eq!((autoconf.work(0), autoconf.work(0)), (Some(Act::Probe(LOCAL)), None));
        assert_eq!(autoconf.due(), SECOND);
        assert_eq!((autoconf.work(SECOND), autoconf.work(SECOND)), (Some(Act::Solicit), None));
        autoconf
    }

    #[test]
    fn adverts() {
        let mac = [1, 1, 2, 0, 0, 0, 0, 1];
        let servers = [&[25, 5, 0, 0, 0, 0, 0, 9][..], &[0x20; 16], &[0x21; 16]].concat();
        let full =
            message(1800, &[&mac, &prefix(PREFIX | 77, 64, 0xc0, 3600, 1800), &servers, &[200, 1, 0, 0, 0, 0, 0, 0]]);
        let advert = Advert::read(&full).expect("well-formed");
        assert_eq!((advert.lifetime, advert.mac), (1800, Some([2, 0, 0, 0, 0, 1])));
        assert_eq!(advert.prefixes, [Prefix { bits: PREFIX, on_link: true, autonomous: true, valid: 3600 }]);
        assert_eq!(advert.servers, [IpAddr::from([0x20; 16]), IpAddr::from([0x21; 16])]);
        for (option, why) in [
            (prefix(PREFIX, 48, 0xc0, 9, 9), "another length"),
            (prefix(PREFIX, 64, 0xc0, 8, 9), "preferred for longer than valid"),
            (prefix(0xfe80 << 112, 64, 0xc0, 9, 9), "link-local"),
            (prefix(0xff0e << 112, 64, 0xc0, 9, 9), "a group"),
        ] {
            assert_eq!(Advert::read(&message(9, &[&option])).expect("well-formed").prefixes, [], "{why}");
        }
        assert_eq!(Advert::read(&message(9, &[&[3, 0, 0, 0, 0, 0, 0, 0]])), None, "an option of no length");
        assert_eq!(Advert::read(&message(9, &[&[3, 4, 0, 0]])), None, "cut short");
        assert_eq!(Advert::read(&full[..15]), None);
    }

    #[test]
    fn an_address_is_made_asked_for_and_used() {
        let mut autoconf = ready();
        assert!(autoconf.advertised(ROUTER, &advert(1800, 3600), 2 * SECOND));
        assert_eq!((autoconf.work(2 * SECOND), autoconf.work(2 * SECOND)), (Some(Act::Probe(OWN)), None));
        assert_eq!(autoconf.usable(), None);
        assert_eq!((autoconf.work(3 * SECOND), autoconf.usable()), (Some(Act::Change), Some((OWN, true))));
        assert_eq!(autoconf.router.map(|(router, _)| router), Some(ROUTER));
        // Three quarters of what runs out first.
        assert_eq!(autoconf.due(), (2 + 1350) * SECOND);
        assert_eq!(autoconf.work(1352 * SECOND), Some(Act::Solicit));
        // Nobody says anything: the way out is gone first, the address then.
        assert_eq!(autoconf.due(), 1356 * SECOND);
        for (second, router, address) in [(1802, false, true), (3602, false, false)] {
            while let Some(act) = autoconf.work(second * SECOND) {
                assert_ne!(act, Act::Probe(OWN));
            }
            assert_eq!((autoconf.router.is_some(), autoconf.usable().is_some()), (router, address), "{second}");
        }
        assert!(autoconf.due() <= 3602 * SECOND + MOST_SOLICIT, "and it is asked on");
    }

    #[test]
    fn lifetimes_are_shortened_to_two_hours_and_no_further() {
        let mut autoconf = ready();
        autoconf.advertised(ROUTER, &advert(1800, 100_000), 0);
        let until = |autoconf: &Autoconf| autoconf.address.expect("there").until / SECOND;
        assert_eq!(until(&autoconf), 100_000);
        autoconf.advertised(ROUTER, &advert(1800, 0), 0);
        assert_eq!(until(&autoconf), 7_200);
        autoconf.advertised(ROUTER, &advert(1800, 1), 0);
        assert_eq!(until(&autoconf), 7_200);
        autoconf.advertised(ROUTER, &advert(1800, 7_300), 0);
        assert_eq!(until(&autoconf), 7_300);
        autoconf.advertised(ROUTER, &advert(1800, FOREVER), 0);
        assert_eq!(autoconf.address.expect("there").until, u64::MAX);
        // Another router's prefix is not needed, and its end is not ours.
        let other = Advert::read(&message(0, &[&prefix(0x2002 << 112, 64, 0xc0, 9, 9)])).expect("well-formed");
        assert!(!autoconf.advertised(ROUTER + 1, &other, 0));
        assert!(autoconf.advertised(ROUTER, &other, 0), "ours is one no more");
        assert_eq!(autoconf.router, None);
    }

    #[test]
    fn what_somebody_else_has_is_not_used() {
        let mut autoconf = Autoconf::new(LOCAL, 0);
        autoconf.work(0);
        assert!(!autoconf.taken(OWN) && autoconf.taken(LOCAL));
        assert_eq!((autoconf.work(9 * SECOND), autoconf.due()), (None, u64::MAX));
        let mut autoconf = ready();
        autoconf.advertised(ROUTER, &advert(1800, 3600), SECOND);
        autoconf.work(SECOND);
        assert!(autoconf.taken(OWN));
        while autoconf.work(3 * SECOND).is_some() {}
        assert_eq!(autoconf.usable(), None);
        // What is in use already is not given up for a word.
        let mut autoconf = ready();
        assert!(!autoconf.taken(LOCAL));
    }

    #[test]
    fn routers_are_asked_for_less_and_less() {
        let mut autoconf = ready();
        let mut last = SECOND;
        let mut waits = Vec::new();
        for _ in 0..13 {
            let due = autoconf.due();
            waits.push((due - last) / SECOND);
            last = due;
            assert_eq!(autoconf.work(due), Some(Act::Solicit));
        }
        assert_eq!(waits, [4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600, 3600]);
    }

    proptest! {
        #[test]
        fn any_bytes(rest in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Advert::read(&rest);
            if let Some(advert) = Advert::read(&[&message(9, &[])[..], &rest].concat()) {
                prop_assert!(advert.servers.len() <= SERVERS && advert.prefixes.len() <= OPTIONS);
                let mut autoconf = ready();
                autoconf.advertised(ROUTER, &advert, 5 * SECOND);
                for second in 5..20 {
                    while autoconf.work(second * SECOND).is_some() {}
                    prop_assert!(autoconf.due() > second * SECOND);
                }
            }
        }
    }
}
