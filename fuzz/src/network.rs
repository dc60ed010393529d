//! Frames from the wire and from guests, as the network demultiplexer judges them.

use abi::nic::Node;
use abi::vm::{Seat, Slot};
use netmux::dhcp::{self, CLIENT_PORT, SERVER_PORT};
use netmux::egress::{self, Route, Sender};
use netmux::frame::{ARP, IPV4, IPV6, Mac};
use netmux::ingress::{self, Receivers};
use netmux::segments::{HEADERS_MOST, Segments};

const NODE: Node = Node::new(17);
const OWN: u32 = 0x0a00_0211;

/// Three VMs: slot 1 with an address, slot 2 that asks DHCP, slot 5 with an address.
struct Village;

/// The seat of the VM in a slot of the village, and its address, 0 for none yet.
fn villager(slot: Slot) -> Option<(Seat, u32)> {
    match slot.number() {
        1 => Some((Seat::new(4), OWN)),
        2 => Some((Seat::new(5), 0)),
        5 => Some((Seat::new(8), 0x0a00_0215)),
        _ => None,
    }
}

impl netmux::Directory for Village {
    fn resident(&self, mac: Mac) -> Option<netmux::Resident> {
        let (seat, ipv4) = villager(mac.slot_behind(Mac::of(NODE, Slot::new(0)))?)?;
        Some(netmux::Resident { seat, ipv4, learns: ipv4 == 0 })
    }

    fn solicited(&self, group: Mac) -> Option<Seat> {
        villager(group.solicited_on(NODE)?).map(|(seat, _)| seat)
    }

    fn owner(&self, ipv4: u32) -> Option<Seat> {
        [1, 5]
            .into_iter()
            .filter_map(|slot| villager(Slot::new(slot)))
            .find(|(_, own)| *own == ipv4)
            .map(|(seat, _)| seat)
    }
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// What a VM sends, and what the wire brings.
pub fn frames(data: &[u8]) -> bool {
    let is_seat = |seat: Seat| [4, 5, 8].contains(&seat.number());
    match ingress::route(data, &Village) {
        Receivers::Learnt(seat, ipv4) => {
            let answer = dhcp::answer(data);
            assert_eq!(answer.and_then(|answer| answer.acknowledged), Some(ipv4), "learnt from something else");
            assert_eq!(seat.number(), 5, "only one VM learns");
        }
        Receivers::One(seat) => assert!(is_seat(seat)),
        Receivers::All => assert!(data[0] & 1 != 0, "not sent to a group"),
        Receivers::Nobody => {}
    }
    let me = Mac::of(NODE, Slot::new(1));
    let mut content = false;
    for ipv4 in [OWN, 0] {
        let Ok(route) = egress::check(data, Sender { seat: Seat::new(4), mac: me, ipv4 }, &Village) else { continue };
        content = true;
        judge(data, me, ipv4);
        if let Route::Inside(seat) | Route::Both(seat) = route {
            assert!(is_seat(seat));
        }
    }
    content
}

/// A frame that may leave the VM `me` with the address `own`, read again without the library.
fn judge(data: &[u8], me: Mac, own: u32) {
    assert!((14..=abi::nic::MAX_FRAME).contains(&data.len()));
    assert_eq!(data[6..12], me.bytes(), "another's MAC");
    match be16(data, 12) {
        IPV4 => {
            let header = usize::from(data[14] & 15) * 4;
            assert!(data[14] >> 4 == 4 && header >= 20);
            let first = be16(data, 20) & 0x1fff == 0;
            let ports = (data[23] == 17 && first).then(|| (be16(data, 14 + header), be16(data, 16 + header)));
            assert_ne!(ports.map(|(from, _)| from), Some(SERVER_PORT), "a DHCP server's");
            let source = be32(data, 26);
            assert!(
                source == own && own != 0 || source == 0 && ports == Some((CLIENT_PORT, SERVER_PORT)),
                "another's address"
            );
        }
        ARP => {
            assert_eq!(data[22..28], me.bytes(), "another's MAC in ARP");
            let sender = be32(data, 28);
            assert!(sender == own || sender == 0, "another's address in ARP");
        }
        IPV6 => {
            assert_eq!(data[14] >> 4, 6);
            let source = &data[22..38];
            assert!(source == [0; 16] || source[8..] == me.interface_id(), "another's address in IPv6");
        }
        other => panic!("type {other:#x}"),
    }
}

/// A record of several segments: the bytes of data in each frame, two bytes, then the record. Whatever is cut is a frame that makes sense, and
/// all together have the record's data, once and in order.
pub fn segments(data: &[u8]) -> bool {
    let Some((size, record)) = data.split_first_chunk::<2>() else { return false };
    let size = u16::from_le_bytes(*size);
    let mut begin = [0; HEADERS_MOST];
    let known = record.len().min(HEADERS_MOST);
    begin[..known].copy_from_slice(&record[..known]);
    let Ok(whole) = Segments::of(&begin, record.len(), size) else { return false };
    let (headers, me) = (whole.headers(), Mac::of(NODE, Slot::new(1)));
    let (mut from, mut count) = (0, 0);
    while whole.data_at(from) > 0 {
        let len = whole.data_at(from);
        let (head, head_len) = whole.frame(from, len, 0);
        assert_eq!(head_len, headers);
        let frame = [&head[..headers], &record[headers + from..][..len]].concat();
        assert!(frame.len() <= abi::nic::MAX_FRAME && usize::from(be16(&frame, 16)) == frame.len() - 14);
        assert!(frame[14] == 0x45 && frame[23] == 6 && be16(&frame, 20) & 0x3fff == 0 && frame[47] & 0x26 == 0);
        let sequence = be32(record, 38).wrapping_add(u32::try_from(from).expect("short"));
        assert_eq!((be32(&frame, 38), &frame[..14], &frame[26..38]), (sequence, &record[..14], &record[26..38]));
        if egress::check(&frame[..], Sender { seat: Seat::new(4), mac: me, ipv4: OWN }, &Village).is_ok() {
            judge(&frame, me, OWN);
        }
        (from, count) = (from + len, count + 1);
    }
    assert_eq!((from, count), (record.len() - headers, whole.count()));
    assert!(count <= 1 + abi::nic::MAX_SEGMENTS / abi::nic::MIN_SEGMENT);
    true
}

/// Records that are cut into one frame, two, and as many as can be.
pub fn segment_seeds() -> Vec<Vec<u8>> {
    let seed = |size: u16, options: usize, len: usize| {
        let offset = u8::try_from((5 + options / 4) << 4).expect("four bits");
        let head =
            [&[0, 80, 4, 1, 0, 0, 0, 9, 0, 0, 0, 7, offset, 0x18, 1, 2, 0, 0, 0, 0][..], &vec![1; options]].concat();
        let segment = [head, vec![5; len]].concat();
        let host = Mac::new([0x52, 0x54, 0, 1, 2, 3]);
        let record = ipv4(Mac::of(NODE, Slot::new(1)), host, OWN, 0x0a00_0202, 6, &segment);
        [size.to_le_bytes().to_vec(), record].concat()
    };
    vec![seed(1460, 0, 100), seed(1448, 12, 2000), seed(536, 40, 8000)]
}

/// A DHCP server's answer, read along.
pub fn dhcp(data: &[u8]) -> bool {
    let Some(answer) = dhcp::answer(data) else { return false };
    let bootp = &data[14 + usize::from(data[14] & 15) * 4 + 8..];
    assert_eq!((be16(data, 12), data[23], bootp[0]), (IPV4, 17, 2));
    assert_eq!(answer.client.bytes(), bootp[28..34]);
    if let Some(ipv4) = answer.acknowledged {
        assert!(ipv4 != 0 && ipv4 == be32(bootp, 16));
        assert!(bootp[240..].windows(3).any(|option| option == [53, 1, 5]), "no DHCPACK");
    }
    answer.acknowledged.is_some()
}

fn ethernet(from: Mac, to: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to.bytes(), &from.bytes(), &kind.to_be_bytes()[..], payload].concat()
}

fn ipv4(from: Mac, to: Mac, source: u32, destination: u32, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap_or(0);
    let mut header = vec![0x45, 0];
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(&[0, 0, 0, 0, 64, protocol, 0, 0]);
    header.extend_from_slice(&source.to_be_bytes());
    header.extend_from_slice(&destination.to_be_bytes());
    header.extend_from_slice(payload);
    ethernet(from, to, IPV4, &header)
}

fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap_or(0);
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload].concat()
}

fn bootp(operation: u8, client: Mac, yours: u32, kind: u8) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..3].copy_from_slice(&[operation, 1, 6]);
    message[16..20].copy_from_slice(&yours.to_be_bytes());
    message[28..34].copy_from_slice(&client.bytes());
    message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    message.extend_from_slice(&[0, 54, 4, 10, 0, 2, 2, 53, 1, kind, 255]);
    message
}

/// DHCP acknowledgements and an offer.
pub fn dhcp_seeds() -> Vec<Vec<u8>> {
    let host = Mac::new([0x52, 0x54, 0, 1, 2, 3]);
    let answer = |slot: u32, to: Mac, kind| {
        let client = Mac::of(NODE, Slot::new(slot));
        ipv4(host, to, 0x0a00_0202, u32::MAX, 17, &udp(SERVER_PORT, CLIENT_PORT, &bootp(2, client, 0x0a00_0212, kind)))
    };
    vec![answer(2, Mac::BROADCAST, 5), answer(2, Mac::of(NODE, Slot::new(2)), 5), answer(1, Mac::BROADCAST, 2)]
}

/// Frames of each kind in both directions.
pub fn frame_seeds() -> Vec<Vec<u8>> {
    let host = Mac::new([0x52, 0x54, 0, 1, 2, 3]);
    let me = Mac::of(NODE, Slot::new(1));
    let arp = |from: Mac, to: Mac, operation: u16, sender: u32, target: u32| {
        let head = [&[0, 1, 8, 0, 6, 4][..], &operation.to_be_bytes(), &from.bytes(), &sender.to_be_bytes()].concat();
        ethernet(from, to, ARP, &[head, vec![0; 6], target.to_be_bytes().to_vec()].concat())
    };
    let mut ipv6 = vec![0x60, 0, 0, 0, 0, 24, 58, 255, 0xfe, 0x80, 0, 0, 0, 0, 0, 0];
    ipv6.extend_from_slice(&me.interface_id());
    ipv6.extend_from_slice(&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 2]);
    ipv6.extend_from_slice(&[135, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    let discover = udp(CLIENT_PORT, SERVER_PORT, &bootp(1, me, 0, 1));
    let mut seeds = vec![
        ipv4(me, host, OWN, 0x0a00_0202, 6, &[0; 20]),
        ipv4(me, Mac::of(NODE, Slot::new(5)), OWN, 0x0a00_0215, 17, &udp(7, 9, b"hello")),
        ipv4(me, Mac::BROADCAST, 0, u32::MAX, 17, &discover),
        ipv4(host, me, 0x0a00_0202, OWN, 6, &[0; 20]),
        arp(me, Mac::BROADCAST, 1, OWN, 0x0a00_0202),
        arp(host, Mac::BROADCAST, 1, 0x0a00_0202, OWN),
        ethernet(me, Mac::new([0x33, 0x33, 0xff, 0, 0, 2]), IPV6, &ipv6),
    ];
    seeds.extend(dhcp_seeds());
    seeds
}
