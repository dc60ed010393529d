//! The IPv6 address of this VM that is good beyond its link: asked for, used and given up as `autoconf.rs` says.

use super::autoconf::{Act, Advert, Autoconf};
use super::stack::Stack;
use alloc::boxed::Box;
use core::net::Ipv6Addr;
use smoltcp::wire::{IpCidr, Ipv6Address, Ipv6Cidr};

impl Stack {
    /// Begins to ask for an IPv6 address, or stops it.
    pub(super) fn set_autoconf(&mut self, wanted: bool) {
        self.autoconf = wanted.then(|| Box::new(Autoconf::new(self.link.own.v6(), self.now)));
        if wanted {
            self.link.report_groups(self.now);
        }
        self.use_address();
    }

    /// Does what is due. When something is next, in microseconds.
    pub(super) fn work_autoconf(&mut self) -> u64 {
        if self.autoconf.as_ref().is_some_and(|autoconf| autoconf.due() <= self.now) {
            self.do_autoconf();
        }
        self.autoconf.as_ref().map_or(u64::MAX, |autoconf| autoconf.due())
    }

    #[cold]
    fn do_autoconf(&mut self) {
        // There are no more things than these that can be due at once.
        for _ in 0..8 {
            let now = self.now;
            match self.autoconf.as_mut().and_then(|autoconf| autoconf.work(now)) {
                Some(Act::Probe(address)) => self.link.probe(address, &mut self.device),
                Some(Act::Solicit) => self.link.solicit_routers(&mut self.device),
                Some(Act::Change) => self.use_address(),
                None => return,
            }
        }
    }

    /// A message of ICMPv6 is next, which starts at `start`: perhaps a router's, or a word about our addresses.
    #[cold]
    pub(super) fn hear_autoconf(&mut self, start: usize) {
        let (Some(autoconf), Some(frame)) = (&mut self.autoconf, self.device.peek()) else { return };
        let address = |at: usize| frame.get(at..)?.first_chunk().map(|bytes| u128::from_be_bytes(*bytes));
        let (Some(message), Some(source)) = (frame.get(start..), address(22)) else { return };
        // What a neighbour's question or answer is about.
        let target = address(start + 8).unwrap_or(0);
        // No router between, and not we ourselves.
        if frame[21] != 255 || frame[6..12] == self.link.own.mac {
            return;
        }
        match message {
            [134, ..] if source >> 118 == 0xfe80 >> 6 => {
                let Some(advert) = Advert::read(message) else { return };
                let changed = autoconf.advertised(source, &advert, self.now);
                if let Some(mac) = advert.mac {
                    self.link.learn(source, mac, self.now, &mut self.device);
                }
                self.learn_name_servers(advert.servers);
                if changed {
                    self.use_address();
                }
            }
            // Somebody else asks for it, too, or has it.
            [135, ..] if source == 0 && autoconf.taken(target) => self.tell_duplicate(target),
            [136, ..] if autoconf.taken(target) => self.tell_duplicate(target),
            _ => {}
        }
    }

    fn tell_duplicate(&self, address: u128) {
        log::error!("{} is used by another host; this VM goes on without it", Ipv6Addr::from_bits(address));
    }

    /// What is known of routers and addresses is what the others go by.
    fn use_address(&mut self) {
        let usable = self.autoconf.as_ref().and_then(|autoconf| autoconf.usable());
        let router = self.autoconf.as_ref().and_then(|autoconf| autoconf.router).map_or(0, |(router, _)| router);
        let (address, on_link) = usable.unwrap_or((0, false));
        self.link.set_ipv6(address, on_link, router);
        let now = self.iface.ip_addrs().iter().filter_map(|address| match address {
            IpCidr::Ipv6(address) => Some(address.address().to_bits()),
            IpCidr::Ipv4(_) => None,
        });
        if now.clone().any(|own| own == address) || (address == 0 && now.count() == 1) {
            return;
        }
        let link_local = self.link.own.v6();
        self.iface.update_ip_addrs(|addresses| {
            addresses.retain(|own| !matches!(own, IpCidr::Ipv6(own) if own.address().to_bits() != link_local));
            if address != 0 {
                // One of three places is free: the others are the link-local address's and that of IPv4.
                let _ = addresses.push(IpCidr::Ipv6(Ipv6Cidr::new(Ipv6Address::from_bits(address), 64)));
            }
        });
        self.paths.forget_interfaces();
        match address {
            0 => log::warn!("IPv6: the address is lost"),
            _ => log::info!("IPv6: {}/64", Ipv6Addr::from_bits(address)),
        }
    }
}
