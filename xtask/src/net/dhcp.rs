//! A DHCP server (RFC 2131) that gives each VM the address that belongs to its slot.

use super::{FIRST_VM, HOST, PREFIX};
use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress};
use std::net::Ipv4Addr;

/// How long an address is leased, in seconds.
const LEASE_SECONDS: u32 = 3600;

/// The answer to a client's message, if it gets one.
pub fn answer(message: &[u8]) -> Option<Vec<u8>> {
    let packet = DhcpPacket::new_checked(message).ok()?;
    let request = DhcpRepr::parse(&packet).ok()?;
    let address = address_of(request.client_hardware_address)?;
    let wanted = request.requested_ip.unwrap_or(request.client_ip);
    let kind = match request.message_type {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        // A client that picked another server's offer is not ours to answer.
        DhcpMessageType::Request if request.server_identifier.is_some_and(|server| server != HOST) => return None,
        DhcpMessageType::Request if wanted == address => DhcpMessageType::Ack,
        DhcpMessageType::Request => DhcpMessageType::Nak,
        _ => return None,
    };
    let given = kind != DhcpMessageType::Nak;
    let reply = DhcpRepr {
        message_type: kind,
        transaction_id: request.transaction_id,
        secs: 0,
        client_hardware_address: request.client_hardware_address,
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: if given { address } else { Ipv4Addr::UNSPECIFIED },
        server_ip: HOST,
        router: given.then_some(HOST),
        subnet_mask: given.then(|| Ipv4Addr::from_bits(u32::MAX << (32 - u32::from(PREFIX)))),
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: request.broadcast,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(HOST),
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: given.then_some(LEASE_SECONDS),
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    let mut bytes = vec![0; reply.buffer_len()];
    reply.emit(&mut DhcpPacket::new_unchecked(&mut bytes)).ok()?;
    Some(bytes)
}

/// The address of the VM whose MAC this is (`abi::nic::mac_of`), when the network has room for it.
fn address_of(mac: EthernetAddress) -> Option<Ipv4Addr> {
    let [.., high, low] = mac.0;
    let slot = u16::from_be_bytes([high, low]);
    if abi::nic::mac_of(slot) != mac.0 {
        return None;
    }
    let last = u8::try_from(u16::from(FIRST_VM.octets()[3]) + slot).ok().filter(|last| *last < 255)?;
    let [a, b, c, _] = FIRST_VM.octets();
    Some(Ipv4Addr::new(a, b, c, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: DhcpMessageType, mac: [u8; 6], wanted: Option<Ipv4Addr>) -> Vec<u8> {
        let repr = DhcpRepr {
            message_type: kind,
            transaction_id: 77,
            secs: 0,
            client_hardware_address: EthernetAddress(mac),
            client_ip: Ipv4Addr::UNSPECIFIED,
            your_ip: Ipv4Addr::UNSPECIFIED,
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: None,
            subnet_mask: None,
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: false,
            requested_ip: wanted,
            client_identifier: None,
            server_identifier: None,
            parameter_request_list: None,
            dns_servers: None,
            max_size: None,
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        };
        let mut bytes = vec![0; repr.buffer_len()];
        repr.emit(&mut DhcpPacket::new_unchecked(&mut bytes)).unwrap();
        bytes
    }

    fn answered(message: &[u8]) -> Option<(DhcpMessageType, Ipv4Addr)> {
        let bytes = answer(message)?;
        let packet = DhcpPacket::new_checked(&bytes[..]).unwrap();
        let repr = DhcpRepr::parse(&packet).unwrap();
        assert_eq!(repr.transaction_id, 77);
        Some((repr.message_type, repr.your_ip))
    }

    #[test]
    fn each_slot_gets_its_own_address() {
        let third = Ipv4Addr::new(10, 0, 2, 18);
        let mac = abi::nic::mac_of(2);
        assert_eq!(answered(&message(DhcpMessageType::Discover, mac, None)), Some((DhcpMessageType::Offer, third)));
        assert_eq!(answered(&message(DhcpMessageType::Request, mac, Some(third))), Some((DhcpMessageType::Ack, third)));
        let other = Some(Ipv4Addr::new(10, 0, 2, 17));
        let nak = Some((DhcpMessageType::Nak, Ipv4Addr::UNSPECIFIED));
        assert_eq!(answered(&message(DhcpMessageType::Request, mac, other)), nak);
    }

    #[test]
    fn strangers_and_nonsense_get_no_answer() {
        assert_eq!(answered(&message(DhcpMessageType::Discover, [2, 0, 0, 0, 0, 1], None)), None);
        assert_eq!(answered(&message(DhcpMessageType::Discover, abi::nic::mac_of(250), None)), None);
        assert_eq!(answered(&message(DhcpMessageType::Release, abi::nic::mac_of(1), None)), None);
        assert!(answer(&[1, 2, 3]).is_none());
    }
}
