//! Frames for tests.

use crate::directory::{Directory, Resident};
use crate::frame::{ARP, IPV4, IPV6, Mac};
use abi::nic::Node;
use abi::vm::{Seat, Slot};
use std::vec;
use std::vec::Vec;

/// The node that the tests run on.
pub const NODE: Node = Node::new(0x15a_a5a5);

/// The seat of the VM in a slot: not of the same number, so that nobody takes the one for the other.
pub const fn seat(slot: u16) -> Seat {
    Seat::new(slot + 3)
}

/// Three VMs: slot 1 with a fixed address, slot 2 that asks DHCP, slot 5 with a fixed address.
pub struct Village;

impl Village {
    /// Address of the VM in slot 1.
    pub const IPV4: u32 = 0x0a00_0211;

    pub fn new() -> Self {
        Village
    }

    fn seat_of(slot: Slot) -> Option<Seat> {
        let slot = u16::try_from(slot.number()).ok()?;
        matches!(slot, 1 | 2 | 5).then_some(seat(slot))
    }
}

impl Directory for Village {
    fn resident(&self, mac: Mac) -> Option<Resident> {
        let seat = Self::seat_of(mac.slot_behind(Mac::of_slot(0))?)?;
        let ipv4 = match seat.number() - self::seat(0).number() {
            1 => Self::IPV4,
            5 => 0x0a00_0215,
            _ => 0,
        };
        Some(Resident { seat, ipv4, learns: ipv4 == 0 })
    }

    fn solicited(&self, group: Mac) -> Option<Seat> {
        Self::seat_of(group.solicited_on(NODE)?)
    }

    fn owner(&self, ipv4: u32) -> Option<Seat> {
        match ipv4 {
            Self::IPV4 => Some(seat(1)),
            0x0a00_0215 => Some(seat(5)),
            _ => None,
        }
    }
}

pub fn ethernet(from: Mac, to: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![];
    frame.extend(to.bytes());
    frame.extend(from.bytes());
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

pub fn ipv4(from: Mac, to: Mac, source: u32, destination: u32, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).expect("short");
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
    packet.extend(source.to_be_bytes());
    packet.extend(destination.to_be_bytes());
    packet.extend(payload);
    ethernet(from, to, IPV4, &packet)
}

pub fn udp(ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![];
    datagram.extend(ports.0.to_be_bytes());
    datagram.extend(ports.1.to_be_bytes());
    datagram.extend(u16::try_from(8 + payload.len()).expect("short").to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

pub fn arp(from: Mac, to: Mac, operation: u16, sender: (Mac, u32), target: u32) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    packet.extend(sender.0.bytes());
    packet.extend(sender.1.to_be_bytes());
    packet.extend([0; 6]);
    packet.extend(target.to_be_bytes());
    ethernet(from, to, ARP, &packet)
}

pub fn ipv6(from: Mac, to: Mac, source: [u8; 16], next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(payload.len()).expect("short").to_be_bytes());
    packet.extend([next, 255]);
    packet.extend(source);
    packet.extend([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend(payload);
    ethernet(from, to, IPV6, &packet)
}

/// The address that a VM forms within the network `prefix`.
pub fn own_ipv6(prefix: [u8; 8], mac: Mac) -> [u8; 16] {
    let mut address = [0; 16];
    address[..8].copy_from_slice(&prefix);
    address[8..].copy_from_slice(&mac.interface_id());
    address
}

fn bootp(operation: u8, client: Mac, yours: u32, kind: u8) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..3].copy_from_slice(&[operation, 1, 6]);
    message[16..20].copy_from_slice(&yours.to_be_bytes());
    message[28..34].copy_from_slice(&client.bytes());
    message[236..240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    // A pad and another option come first.
    message.extend([0, 54, 4, 10, 0, 2, 2, 53, 1, kind, 255]);
    message
}

pub fn dhcp_answer(to: Mac, client: Mac, yours: u32, kind: u8) -> Vec<u8> {
    let server = Mac::new([0x52, 0x55, 10, 0, 2, 2]);
    ipv4(server, to, 0x0a00_0202, u32::MAX, 17, &udp((67, 68), &bootp(2, client, yours, kind)))
}

pub fn dhcp_discover(client: Mac) -> Vec<u8> {
    ipv4(client, Mac::BROADCAST, 0, u32::MAX, 17, &udp((68, 67), &bootp(1, client, 0, 1)))
}
