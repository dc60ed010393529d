//! The link layer: which hardware address a packet goes to (RFC 826, RFC 4861), and what other hosts are told of ours.
//!
//! Neighbours are found by hashing, up to [`NEIGHBOURS`] of them; each is asked for on its own, at growing intervals, and a few
//! packets for it wait for the answer. Who completes a handshake is learnt by that, and need not be asked for.

use super::bounded::Bounded;
use super::device::NicDevice;
use super::frame::{
    ETHERNET_HEADER, ICMPV6, IPV4, IPV6, Mac, Own, be32, group_mac, is_link_local, mapped, solicited, unmapped,
};
use super::questions::Questions;
use super::routers::{LISTENER_QUERY, Routers};
use super::{checksum, frame};
use alloc::boxed::Box;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, Icmpv6Packet, Icmpv6Repr, Ipv4Address, Ipv6Address,
    NdiscNeighborFlags, NdiscRepr, RawHardwareAddress,
};

/// Neighbours that are remembered at least, if there are as many.
const NEIGHBOURS: usize = 512;
/// How long an answer is believed before it is asked for again, in the background.
const FRESH_US: u64 = 60_000_000;
/// How often our address is defended (RFC 5227 2.4).
const DEFEND_US: u64 = 10_000_000;
const ALL: Mac = [0xff; 6];
const ALL_NODES: Ipv6Address = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

struct Known {
    mac: Mac,
    since: u64,
}

/// Where a packet goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// To this hardware address.
    Mac(Mac),
    /// To a neighbour with this address.
    Neighbour(u128),
    /// There is none.
    None,
}

/// The link layer of this VM.
pub(super) struct Link {
    pub(super) own: Own,
    /// The IPv4 address of the router; 0 for none.
    pub(super) gateway: u32,
    /// What there is to routers of IPv6, once there is something.
    pub(super) routers: Option<Box<Routers>>,
    known: Bounded<u128, Known, NEIGHBOURS>,
    questions: Questions,
    /// When the next question is due, in microseconds.
    pub(super) due: u64,
    /// When our address may be defended again.
    defend: u64,
}

impl Link {
    pub(super) fn new(own: Own, seed: u64) -> Link {
        Link {
            own,
            gateway: 0,
            routers: None,
            known: Bounded::new(seed),
            questions: Questions::new(seed),
            due: u64::MAX,
            defend: 0,
        }
    }

    /// True when packets can be sent to this address.
    pub(super) fn reaches(&self, address: u128) -> bool {
        self.way(address) != Way::None
    }

    fn way(&self, address: u128) -> Way {
        let Own { v4: own, mask, .. } = self.own;
        match unmapped(address) {
            Some(u32::MAX) => Way::Mac(ALL),
            Some(v4) if v4 >> 28 == 0xe => {
                let [_, b, c, d] = v4.to_be_bytes();
                Way::Mac([1, 0, 0x5e, b & 0x7f, c, d])
            }
            Some(v4) if own != 0 && (v4 ^ own) & mask == 0 => {
                if !mask > 1 && v4 | mask == u32::MAX {
                    Way::Mac(ALL)
                } else {
                    Way::Neighbour(address)
                }
            }
            Some(_) if own != 0 && self.gateway != 0 => Way::Neighbour(mapped(self.gateway)),
            Some(_) => Way::None,
            None if address >> 120 == 0xff => {
                let [.., a, b, c, d] = address.to_be_bytes();
                Way::Mac([0x33, 0x33, a, b, c, d])
            }
            None if is_link_local(address) => Way::Neighbour(address),
            None => {
                let routers = self.routers.as_ref().filter(|_| self.own.net != 0);
                routers.and_then(|routers| routers.way(self.own.net, address)).map_or(Way::None, Way::Neighbour)
            }
        }
    }

    /// Fills in the hardware addresses of a frame whose packet is complete. False when it cannot leave now: it waits for the
    /// answer of a neighbour, or is lost. `hop`: where the peer's frames come from.
    #[inline]
    pub(super) fn address(&mut self, frame: &mut [u8], hop: Option<Mac>, now: u64) -> bool {
        frame[6..12].copy_from_slice(&self.own.mac);
        let mac = match hop {
            Some(mac) => mac,
            None => match self.resolve(frame, now) {
                Some(mac) => mac,
                None => return false,
            },
        };
        frame[..6].copy_from_slice(&mac);
        true
    }

    fn resolve(&mut self, frame: &[u8], now: u64) -> Option<Mac> {
        let target = match frame::be16(frame, 12)? {
            IPV4 => mapped(be32(frame, 30)?),
            _ => u128::from_be_bytes(*frame.get(38..)?.first_chunk()?),
        };
        let neighbour = match self.way(target) {
            Way::Mac(mac) => return Some(mac),
            Way::Neighbour(neighbour) => neighbour,
            Way::None => return None,
        };
        if let Some(known) = self.known.get_mut(&neighbour) {
            let mac = known.mac;
            if now >= known.since + FRESH_US {
                self.ask(neighbour, None, now);
            }
            return Some(mac);
        }
        self.ask(neighbour, Some(frame), now);
        None
    }

    /// Asks for a neighbour, now or when its turn comes.
    fn ask(&mut self, address: u128, hold: Option<&[u8]>, now: u64) {
        if let Some(next) = self.questions.ask(address, hold, now) {
            self.due = self.due.min(next);
        }
    }

    /// Asks what is due. When the next question is, in microseconds.
    pub(super) fn work(&mut self, now: u64, nic: &mut NicDevice) -> u64 {
        if now < self.due {
            return self.due;
        }
        self.due = self.routers.as_mut().map_or(u64::MAX, |routers| routers.work(&self.own, now, nic));
        let mut index = 0;
        while let Some(turn) = self.questions.turn(&mut index, now) {
            if turn.in_vain {
                self.known.remove(&turn.address);
            }
            self.question(turn.address, nic);
        }
        self.due = self.due.min(self.questions.due());
        self.due
    }

    /// A neighbour's hardware address is known. The frames that have waited for that leave.
    pub(super) fn learn(&mut self, address: u128, mac: Mac, now: u64, nic: &mut NicDevice) {
        if mac[0] & 1 != 0 || mac == [0; 6] {
            return;
        }
        self.known.insert(address, Known { mac, since: now });
        for mut frame in self.questions.answered(address) {
            frame[..6].copy_from_slice(&mac);
            nic.send(&frame);
        }
    }

    /// A peer has shown by a handshake that frames to `mac` reach it. What a neighbour has said itself weighs more.
    pub(super) fn learn_from_peer(&mut self, peer: u128, mac: Mac, now: u64, nic: &mut NicDevice) {
        if let Way::Neighbour(neighbour) = self.way(peer)
            && self.known.get_mut(&neighbour).is_none()
        {
            self.learn(neighbour, mac, now, nic);
        }
    }

    /// Neighbours that are known.
    #[cfg(test)]
    pub(super) fn neighbours(&self) -> usize {
        self.known.len()
    }

    /// True when an answer about this address concerns us.
    fn is_wanted(&mut self, address: u128) -> bool {
        self.known.get_mut(&address).is_some() || self.questions.has(address)
    }

    fn question(&self, address: u128, nic: &mut NicDevice) {
        match unmapped(address) {
            Some(v4) => send_arp(nic, &self.own, ArpOperation::Request, (ALL, ALL), v4),
            None => {
                let lladdr = Some(self.own_link_address());
                let solicit = NdiscRepr::NeighborSolicit { target_addr: Ipv6Address::from_bits(address), lladdr };
                let group = Ipv6Address::from_bits(solicited(address));
                self.send_neighbour(nic, self.own.v6(), group_mac(group), group, solicit);
            }
        }
    }

    /// Asks whether somebody has this address, which is not ours yet (RFC 4862 5.4.2).
    pub(super) fn probe(&self, address: u128, nic: &mut NicDevice) {
        let group = Ipv6Address::from_bits(solicited(address));
        let solicit = NdiscRepr::NeighborSolicit { target_addr: Ipv6Address::from_bits(address), lladdr: None };
        self.send_neighbour(nic, 0, group_mac(group), group, solicit);
    }

    pub(super) fn own_link_address(&self) -> RawHardwareAddress {
        RawHardwareAddress::from_bytes(&self.own.mac)
    }

    /// Tells everybody that we have our IPv4 address (RFC 5227 3).
    pub(super) fn announce(&self, nic: &mut NicDevice) {
        if self.own.v4 != 0 {
            send_arp(nic, &self.own, ArpOperation::Request, (ALL, [0; 6]), self.own.v4);
        }
    }

    /// Takes an ARP frame in.
    pub(super) fn arp(&mut self, now: u64, nic: &mut NicDevice) {
        let Some(ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: EthernetAddress(mac),
            source_protocol_addr: source,
            target_protocol_addr: target,
            ..
        }) = nic
            .peek()
            .and_then(|frame| ArpPacket::new_checked(frame.get(ETHERNET_HEADER..)?).ok())
            .and_then(|packet| ArpRepr::parse(&packet).ok())
        else {
            return;
        };
        let (source, target) = (source.to_bits(), target.to_bits());
        let Own { v4: own, mask, mac: own_mac, .. } = self.own;
        if own == 0 || mac[0] & 1 != 0 || mac == own_mac {
            return;
        }
        if source == own {
            // Somebody else has our address.
            if now >= self.defend {
                self.defend = now + DEFEND_US;
                log::warn!("{} is used by {} as well", Ipv4Address::from_bits(own), EthernetAddress(mac));
                self.announce(nic);
            }
            return;
        }
        let asks_us = operation == ArpOperation::Request && target == own;
        let is_neighbour = source != 0 && (source ^ own) & mask == 0;
        if is_neighbour && (asks_us || self.is_wanted(mapped(source))) {
            self.learn(mapped(source), mac, now, nic);
        }
        if asks_us {
            send_arp(nic, &self.own, ArpOperation::Reply, (mac, mac), source);
        }
    }

    /// Takes an ICMPv6 frame in, whose message starts at `start`. False when it is no business of the link layer.
    pub(super) fn icmpv6(&mut self, start: usize, now: u64, nic: &mut NicDevice) -> bool {
        let Some(frame) = nic.peek() else { return true };
        let Some(message) = frame.get(start..) else { return true };
        if !matches!(message.first(), Some(130 | 133..=137)) {
            return false;
        }
        let address = |at: usize| Some(Ipv6Address::from_octets(*frame.get(at..)?.first_chunk()?));
        let (Some(source), Some(target)) = (address(22), address(38)) else { return true };
        let mut sender = ALL;
        sender.copy_from_slice(&frame[6..12]);
        if message[0] == 130 {
            let mut query = [0; LISTENER_QUERY];
            let len = message.len().min(query.len());
            query[..len].copy_from_slice(&message[..len]);
            self.listener_query(&query[..len], source, now);
            return true;
        }
        // From a neighbour, and no router between (RFC 4861 7.1).
        if frame[21] != 255 {
            return true;
        }
        let capabilities = ChecksumCapabilities::ignored();
        let repr = Icmpv6Packet::new_checked(message)
            .and_then(|packet| Icmpv6Repr::parse(&source, &target, &packet, &capabilities));
        let mac = |lladdr: RawHardwareAddress| <Mac>::try_from(lladdr.as_bytes()).ok();
        match repr {
            Ok(Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr, lladdr }))
                if self.own.is_v6(target_addr.to_bits()) =>
            {
                let nobody = source.is_unspecified();
                if !nobody && let Some(mac) = lladdr.and_then(mac) {
                    self.learn(source.to_bits(), mac, now, nic);
                }
                // Who wants to know whether the address is free is told before all.
                let (to, flags) = match nobody {
                    true => ((ALL_NODES, [0x33, 0x33, 0, 0, 0, 1]), NdiscNeighborFlags::OVERRIDE),
                    false => ((source, sender), NdiscNeighborFlags::OVERRIDE | NdiscNeighborFlags::SOLICITED),
                };
                let lladdr = Some(self.own_link_address());
                let advert = NdiscRepr::NeighborAdvert { flags, target_addr, lladdr };
                self.send_neighbour(nic, target_addr.to_bits(), to.1, to.0, advert);
            }
            Ok(Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert { target_addr, lladdr: Some(lladdr), .. })) => {
                if let Some(mac) = mac(lladdr)
                    && self.is_wanted(target_addr.to_bits())
                {
                    self.learn(target_addr.to_bits(), mac, now, nic);
                }
            }
            _ => {}
        }
        true
    }

    pub(super) fn send_neighbour(
        &self,
        nic: &mut NicDevice,
        own: u128,
        mac: Mac,
        target: Ipv6Address,
        repr: NdiscRepr<'_>,
    ) {
        let repr = Icmpv6Repr::Ndisc(repr);
        let len = repr.buffer_len();
        let mut frame = [0; ETHERNET_HEADER + 40 + 32];
        let header = ETHERNET_HEADER + 40;
        let Some(message) = frame.get_mut(header..header + len) else { return };
        let own = Ipv6Address::from_bits(own);
        repr.emit(&own, &target, &mut Icmpv6Packet::new_unchecked(message), &ChecksumCapabilities::ignored());
        frame[..6].copy_from_slice(&mac);
        frame[6..12].copy_from_slice(&self.own.mac);
        frame[12..14].copy_from_slice(&IPV6.to_be_bytes());
        frame[14] = 0x60;
        frame[18..20].copy_from_slice(&u16::try_from(len).unwrap_or(0).to_be_bytes());
        frame[20..22].copy_from_slice(&[ICMPV6, 255]);
        frame[22..38].copy_from_slice(&own.octets());
        frame[38..54].copy_from_slice(&target.octets());
        checksum::fill(&mut frame[..header + len]);
        nic.send(&frame[..header + len]);
    }

    /// Everything about IPv4 neighbours is different now.
    pub(super) fn forget(&mut self) {
        self.known.retain(|_, _| false);
        self.questions.forget();
        self.due = u64::MAX;
    }

    /// Gives memory back to the heap. Neighbours are soon learnt again: by the next handshake, or by asking. False when there is some that will not be in
    /// use much longer.
    pub(super) fn shrink(&mut self, now: u64) -> bool {
        self.known.retain(|_, _| false);
        if self.routers.as_ref().is_some_and(|routers| routers.says_nothing()) {
            self.routers = None;
        }
        self.questions.shrink(now)
    }
}

/// Sends an ARP packet to `to.0`, about the host with the hardware address `to.1` and this IPv4 address.
fn send_arp(nic: &mut NicDevice, own: &Own, operation: ArpOperation, to: (Mac, Mac), target: u32) {
    let repr = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: EthernetAddress(own.mac),
        source_protocol_addr: Ipv4Address::from_bits(own.v4),
        target_hardware_addr: EthernetAddress(if operation == ArpOperation::Request { [0; 6] } else { to.1 }),
        target_protocol_addr: Ipv4Address::from_bits(target),
    };
    let mut frame = [0; ETHERNET_HEADER + 28];
    frame[..6].copy_from_slice(&to.0);
    frame[6..12].copy_from_slice(&own.mac);
    frame[12..14].copy_from_slice(&frame::ARP.to_be_bytes());
    repr.emit(&mut ArpPacket::new_unchecked(&mut frame[ETHERNET_HEADER..]));
    nic.send(&frame);
}
