//! A name server (RFC 1035) for the machine's own network: the host and the VMs have names there, and of all others nothing is said:
//! no VM reaches anybody else.

use super::{FIRST_VM, HOST};
use smoltcp::wire::{DnsFlags, DnsOpcode, DnsPacket, DnsQueryType, DnsQuestion, DnsRcode};
use std::net::Ipv4Addr;

/// The port at which it answers.
pub const PORT: u16 = 53;
/// Where all names are: `host.` and `vm1.`, `vm2.` and so on, as they are counted when the machine has started.
const ZONE: &str = "foraker.internal";
/// How long an answer may be kept, in seconds: a VM's address is its slot's.
const TIME_TO_LIVE: u32 = 60;
const CLASS_IN: u16 = 1;
const HEADER: usize = 12;
/// The place of the question's name.
const ASKED: [u8; 2] = [0xc0, 12];

/// The answer to a query; none to what is no query.
pub fn answer(message: &[u8]) -> Option<Vec<u8>> {
    let packet = DnsPacket::new_checked(message).ok()?;
    if packet.flags().contains(DnsFlags::RESPONSE)
        || packet.opcode() != DnsOpcode::Query
        || packet.question_count() != 1
    {
        return None;
    }
    let (rest, question) = DnsQuestion::parse(packet.payload()).ok()?;
    let (code, address) = match look_up(&name(&packet, question.name)?) {
        Known::Address(address) => (DnsRcode::NoError, (question.type_ == DnsQueryType::A).then_some(address)),
        Known::Zone => (DnsRcode::NoError, None),
        Known::Nobody => (DnsRcode::NXDomain, None),
        Known::Elsewhere => (DnsRcode::Refused, None),
    };
    let mut reply = message[..message.len() - rest.len()].to_vec();
    // An answer with authority, to a query that may have asked for more than this.
    reply[2] = 0x84 | (message[2] & 1);
    reply[3] = u8::from(code);
    reply[6..HEADER].fill(0);
    if let Some(address) = address {
        reply[7] = 1;
        reply.extend(ASKED);
        reply.extend(u16::from(DnsQueryType::A).to_be_bytes());
        reply.extend(CLASS_IN.to_be_bytes());
        reply.extend(TIME_TO_LIVE.to_be_bytes());
        reply.extend(4_u16.to_be_bytes());
        reply.extend(address.octets());
    }
    Some(reply)
}

/// A name in small letters.
fn name(packet: &DnsPacket<&[u8]>, bytes: &[u8]) -> Option<String> {
    let labels: Result<Vec<_>, _> = packet.parse_name(bytes).collect();
    let labels: Result<Vec<_>, _> = labels.ok()?.into_iter().map(std::str::from_utf8).collect();
    Some(labels.ok()?.join(".").to_ascii_lowercase())
}

/// What is known of a name.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    Address(Ipv4Addr),
    /// It is the zone itself.
    Zone,
    Nobody,
    /// It is none of this network's.
    Elsewhere,
}

fn look_up(name: &str) -> Known {
    if name == ZONE {
        return Known::Zone;
    }
    let Some(label) = name.strip_suffix(ZONE).and_then(|rest| rest.strip_suffix('.')) else { return Known::Elsewhere };
    if label == "host" {
        return Known::Address(HOST);
    }
    let number = label.strip_prefix("vm").filter(|digits| !digits.starts_with('0'));
    let number = number.and_then(|digits| digits.parse::<u32>().ok()).and_then(|number| number.checked_sub(1));
    let address = number.and_then(|slot| FIRST_VM.to_bits().checked_add(slot)).map(Ipv4Addr::from_bits);
    // The network ends with its broadcast address.
    match address.filter(|address| address.octets()[..3] == FIRST_VM.octets()[..3] && address.octets()[3] != 255) {
        Some(address) => Known::Address(address),
        None => Known::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::wire::{DnsRecord, DnsRecordData, DnsRepr};

    fn query(name: &str, kind: DnsQueryType) -> Vec<u8> {
        let mut bytes = Vec::new();
        for label in name.split('.') {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend(label.as_bytes());
        }
        bytes.push(0);
        let question = DnsQuestion { name: &bytes, type_: kind };
        let flags = DnsFlags::RECURSION_DESIRED;
        let repr = DnsRepr { transaction_id: 0x1234, opcode: DnsOpcode::Query, flags, question };
        let mut message = vec![0; repr.buffer_len()];
        repr.emit(&mut DnsPacket::new_unchecked(message.as_mut_slice()));
        message
    }

    fn asked(name: &str, kind: DnsQueryType) -> (DnsRcode, Option<Ipv4Addr>) {
        let reply = answer(&query(name, kind)).unwrap();
        let packet = DnsPacket::new_checked(&reply[..]).unwrap();
        assert_eq!((packet.transaction_id(), packet.question_count()), (0x1234, 1));
        assert!(packet.flags().contains(DnsFlags::RESPONSE | DnsFlags::AUTHORITATIVE | DnsFlags::RECURSION_DESIRED));
        let (rest, question) = DnsQuestion::parse(packet.payload()).unwrap();
        assert_eq!(question.type_, kind);
        if packet.answer_record_count() == 0 {
            assert!(rest.is_empty());
            return (packet.rcode(), None);
        }
        let (rest, record) = DnsRecord::parse(rest).unwrap();
        assert!(rest.is_empty());
        let DnsRecordData::A(address) = record.data else { panic!("{record:?}") };
        (packet.rcode(), Some(address))
    }

    #[test]
    fn the_host_and_the_vms_have_names() {
        for (name, code, address) in [
            ("host.foraker.internal", DnsRcode::NoError, Some(HOST)),
            ("vm1.foraker.internal", DnsRcode::NoError, Some(FIRST_VM)),
            ("VM2.Foraker.Internal", DnsRcode::NoError, Some(Ipv4Addr::new(10, 0, 2, 17))),
            ("vm239.foraker.internal", DnsRcode::NoError, Some(Ipv4Addr::new(10, 0, 2, 254))),
            ("vm240.foraker.internal", DnsRcode::NXDomain, None),
            ("vm0.foraker.internal", DnsRcode::NXDomain, None),
            ("vm01.foraker.internal", DnsRcode::NXDomain, None),
            ("vm4294967295.foraker.internal", DnsRcode::NXDomain, None),
            ("www.foraker.internal", DnsRcode::NXDomain, None),
            ("foraker.internal", DnsRcode::NoError, None),
            ("aforaker.internal", DnsRcode::Refused, None),
            ("www.example", DnsRcode::Refused, None),
        ] {
            assert_eq!(asked(name, DnsQueryType::A), (code, address), "{name}");
        }
        assert_eq!(asked("host.foraker.internal", DnsQueryType::Aaaa), (DnsRcode::NoError, None));
    }

    #[test]
    fn what_is_no_query_gets_no_answer() {
        let good = query("host.foraker.internal", DnsQueryType::A);
        for len in 0..good.len() {
            assert_eq!(answer(&good[..len]), None, "{len}");
        }
        for (at, value) in [(2, 0x81), (2, 0x11), (5, 2), (12, 0xc0)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(answer(&bad), None, "byte {at}");
        }
    }
}
