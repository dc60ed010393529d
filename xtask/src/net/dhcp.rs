//! A DHCP server (RFC 2131) that gives each VM the address that belongs to its slot.

use super::{FIRST_VM, HOST};
use crate::error::{Context, Result};
use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress};
use std::net::{Ipv4Addr, UdpSocket};

/// How long an address is leased, in seconds.
const LEASE_SECONDS: u32 = 3600;

/// Serves, for as long as this process runs, on a network whose host's end is one of ours: a tap in its namespace. Broadcasts must
/// have their way there.
pub fn serve(prefix: u8) -> Result<()> {
    let what = || "cannot serve DHCP on the tap".into();
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67)).context(what)?;
    socket.set_broadcast(true).context(what)?;
    std::thread::spawn(move || {
        let mut message = [0; 2048];
        while let Ok((len, _)) = socket.recv_from(&mut message) {
            if let Some(reply) = answer(&message[..len], prefix, None) {
                // A reply that is lost is asked for again.
                let _ = socket.send_to(&reply, (Ipv4Addr::BROADCAST, 68));
            }
        }
    });
    Ok(())
}

/// The answer to a client's message, if it gets one. The network's addresses share their first `prefix` bits; `names`: who answers
/// questions for names there.
pub fn answer(message: &[u8], prefix: u8, names: Option<Ipv4Addr>) -> Option<Vec<u8>> {
    let packet = DhcpPacket::new_checked(message).ok()?;
    let request = DhcpRepr::parse(&packet).ok()?;
    let address = address_of(request.client_hardware_address, prefix)?;
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
        subnet_mask: given.then(|| mask(prefix)),
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: request.broadcast,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(HOST),
        parameter_request_list: None,
        dns_servers: names.filter(|_| given).map(|server| [server].into_iter().collect()),
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
fn address_of(mac: EthernetAddress, prefix: u8) -> Option<Ipv4Addr> {
    let (_, slot) = abi::nic::owner_of(mac.0)?;
    let address = Ipv4Addr::from_bits(FIRST_VM.to_bits() + slot.number());
    let (mask, broadcast) = (mask(prefix), address | !mask(prefix));
    (address & mask == FIRST_VM & mask && address != broadcast).then_some(address)
}

/// The mask of a prefix of so many bits.
fn mask(prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::vm_mac;

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
        let bytes = answer(message, 24, Some(HOST))?;
        let packet = DhcpPacket::new_checked(&bytes[..]).unwrap();
        let repr = DhcpRepr::parse(&packet).unwrap();
        assert_eq!(repr.transaction_id, 77);
        let servers = repr.dns_servers.map(|servers| servers.iter().copied().collect::<Vec<_>>());
        assert_eq!(servers, (repr.message_type != DhcpMessageType::Nak).then(|| vec![HOST]));
        Some((repr.message_type, repr.your_ip))
    }

    #[test]
    fn each_slot_gets_its_own_address() {
        let third = Ipv4Addr::new(10, 0, 2, 18);
        let mac = vm_mac(2);
        assert_eq!(answered(&message(DhcpMessageType::Discover, mac, None)), Some((DhcpMessageType::Offer, third)));
        assert_eq!(answered(&message(DhcpMessageType::Request, mac, Some(third))), Some((DhcpMessageType::Ack, third)));
        let other = Some(Ipv4Addr::new(10, 0, 2, 17));
        let nak = Some((DhcpMessageType::Nak, Ipv4Addr::UNSPECIFIED));
        assert_eq!(answered(&message(DhcpMessageType::Request, mac, other)), nak);
    }

    #[test]
    fn the_network_ends_where_its_prefix_says() {
        let address = |slot, prefix| address_of(EthernetAddress(vm_mac(slot)), prefix);
        assert_eq!(address(238, 24), Some(Ipv4Addr::new(10, 0, 2, 254)));
        assert_eq!(address(239, 24), None, "the broadcast address");
        assert_eq!(address(240, 24), None);
        assert_eq!(address(240, 16), Some(Ipv4Addr::new(10, 0, 3, 0)));
    }

    #[test]
    fn strangers_and_nonsense_get_no_answer() {
        assert_eq!(answered(&message(DhcpMessageType::Discover, [0, 0x1b, 0x21, 1, 2, 3], None)), None);
        assert_eq!(answered(&message(DhcpMessageType::Discover, vm_mac(250), None)), None);
        assert_eq!(answered(&message(DhcpMessageType::Release, vm_mac(1), None)), None);
        assert!(answer(&[1, 2, 3], 24, None).is_none());
    }
}
