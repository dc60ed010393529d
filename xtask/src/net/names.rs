//! A name server (RFC 1035) for the machine's own network, where the host and the VMs have names. For all others somebody else is asked.

use super::{FIRST_VM, HOST};
use smoltcp::wire::{DnsFlags, DnsOpcode, DnsPacket, DnsQueryType, DnsQuestion, DnsRcode};
use std::net::Ipv4Addr;

/// The port at which it answers.
pub const PORT: u16 = 53;
/// Where all names are: `host.` and `vm1.`, `vm2.` and so on, as they are counted when the machine has started.
const ZONE: &str = "foraker.internal";
/// How long an answer may be kept, in seconds: a VM's address is its slot's, and of others the host's resolver does not tell.
const TIME_TO_LIVE: u32 = 60;
const CLASS_IN: u16 = 1;
const HEADER: usize = 12;
/// Addresses in an answer at most, all of which fit into 512 bytes beside the longest name (section 2.3.4).
const MOST: usize = 12;
/// The place of the question's name.
const ASKED: [u8; 2] = [0xc0, 12];

/// What becomes of a query.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// This is the answer.
    Known(Vec<u8>),
    /// It is for a name of somebody else's.
    Elsewhere(Query),
}

/// A query for a name that is none of this network's.
#[derive(Debug, PartialEq, Eq)]
pub struct Query {
    name: String,
    kind: DnsQueryType,
    /// Its header and its question.
    message: Vec<u8>,
}

/// What somebody else knows of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It has these addresses, if any.
    Addresses(Vec<Ipv4Addr>),
    NoSuchName,
    /// Nobody could be asked.
    Failure,
    /// Nobody is asked.
    Refused,
}

impl Query {
    /// The name, in small letters and without the dot at the end.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True where it is for IPv4 addresses.
    pub fn is_for_address(&self) -> bool {
        self.kind == DnsQueryType::A
    }

    /// The answer that says this.
    pub fn answer(&self, found: &Found) -> Vec<u8> {
        let (code, addresses) = match found {
            Found::Addresses(addresses) => (DnsRcode::NoError, addresses.as_slice()),
            Found::NoSuchName => (DnsRcode::NXDomain, &[][..]),
            Found::Failure => (DnsRcode::ServFail, &[][..]),
            Found::Refused => (DnsRcode::Refused, &[][..]),
        };
        reply(&self.message, false, code, addresses)
    }
}

/// The answer to a query, as far as it is known here; none to what is no query.
pub fn answer(message: &[u8]) -> Option<Answer> {
    let packet = DnsPacket::new_checked(message).ok()?;
    if packet.flags().contains(DnsFlags::RESPONSE)
        || packet.opcode() != DnsOpcode::Query
        || packet.question_count() != 1
    {
        return None;
    }
    let (rest, question) = DnsQuestion::parse(packet.payload()).ok()?;
    let (name, kind) = (name(&packet, question.name)?, question.type_);
    // It may have asked for more than is answered.
    let message = &message[..message.len() - rest.len()];
    let known = |code, addresses: &[Ipv4Addr]| Some(Answer::Known(reply(message, true, code, addresses)));
    match look_up(&name) {
        Known::Address(address) if kind == DnsQueryType::A => known(DnsRcode::NoError, &[address]),
        Known::Address(_) | Known::Zone => known(DnsRcode::NoError, &[]),
        Known::Nobody => known(DnsRcode::NXDomain, &[]),
        Known::Elsewhere => Some(Answer::Elsewhere(Query { name, kind, message: message.to_vec() })),
    }
}

/// An answer to a query of which `message` has the header and the question. `own`: nobody knows better.
fn reply(message: &[u8], own: bool, code: DnsRcode, addresses: &[Ipv4Addr]) -> Vec<u8> {
    let mut reply = message.to_vec();
    reply[2] = if own { 0x84 } else { 0x80 } | (message[2] & 1);
    // Others are asked for who wants that.
    reply[3] = if own { 0 } else { 0x80 } | u8::from(code);
    reply[6..HEADER].fill(0);
    for (address, count) in addresses.iter().take(MOST).zip(1..) {
        reply[7] = count;
        reply.extend(ASKED);
        reply.extend(u16::from(DnsQueryType::A).to_be_bytes());
        reply.extend(CLASS_IN.to_be_bytes());
        reply.extend(TIME_TO_LIVE.to_be_bytes());
        reply.extend(4_u16.to_be_bytes());
        reply.extend(address.octets());
    }
    reply
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
        let Some(Answer::Known(reply)) = answer(&query(name, kind)) else { panic!("{name} is not ours") };
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
        ] {
            assert_eq!(asked(name, DnsQueryType::A), (code, address), "{name}");
        }
        assert_eq!(asked("host.foraker.internal", DnsQueryType::Aaaa), (DnsRcode::NoError, None));
    }

    #[test]
    fn what_others_know_is_passed_on() {
        for name in ["aforaker.internal", "www.example", &["label"; 42].join(".")] {
            let Some(Answer::Elsewhere(query)) = answer(&query(&name.to_uppercase(), DnsQueryType::A)) else {
                panic!("{name} is not ours")
            };
            assert_eq!((query.name(), query.is_for_address()), (name, true));
            let addresses: Vec<_> = (0..50).map(|n| Ipv4Addr::new(192, 0, 2, n)).collect();
            for (found, code, count) in [
                (Found::Addresses(addresses[..2].to_vec()), DnsRcode::NoError, 2),
                (Found::Addresses(addresses.clone()), DnsRcode::NoError, MOST),
                (Found::Addresses(Vec::new()), DnsRcode::NoError, 0),
                (Found::NoSuchName, DnsRcode::NXDomain, 0),
                (Found::Failure, DnsRcode::ServFail, 0),
                (Found::Refused, DnsRcode::Refused, 0),
            ] {
                let reply = query.answer(&found);
                assert!(reply.len() <= 512, "{}", reply.len());
                let packet = DnsPacket::new_checked(&reply[..]).unwrap();
                let flags = packet.flags();
                assert!(
                    flags.contains(DnsFlags::RESPONSE | DnsFlags::RECURSION_DESIRED | DnsFlags::RECURSION_AVAILABLE)
                );
                assert!(!flags.contains(DnsFlags::AUTHORITATIVE));
                assert_eq!((packet.transaction_id(), packet.rcode()), (0x1234, code));
                assert_eq!(usize::from(packet.answer_record_count()), count, "{name} {found:?}");
                let (mut rest, _) = DnsQuestion::parse(packet.payload()).unwrap();
                for address in &addresses[..count] {
                    let record;
                    (rest, record) = DnsRecord::parse(rest).unwrap();
                    assert!(matches!(record.data, DnsRecordData::A(it) if it == *address), "{record:?}");
                }
                assert!(rest.is_empty());
            }
        }
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
