//! Frames of clients: ARP, and TCP and UDP over IPv4, as little of them as a web server and a game need.

/// Bytes of a frame up to the end of the TCP header, without options.
pub const HEADERS: usize = 14 + 20 + 20;
/// Bytes of the longest frame that is made here.
pub const MOST: usize = 128;
/// Bytes of a VM's frame that are read: all headers, with options.
pub const READ: usize = 14 + 60 + 60;

/// Protocols.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What a SYN says where data are to come in whole frames: maximum segment size, 1460 (RFC 9293 3.2).
pub const WHOLE_FRAMES: &[u8] = &[2, 4, 5, 0xb4];

/// Flags of TCP.
pub const FIN: u8 = 1;
/// See [`FIN`].
pub const SYN: u8 = 2;
/// See [`FIN`].
pub const RST: u8 = 4;
/// See [`FIN`].
pub const PSH: u8 = 8;
/// See [`FIN`].
pub const ACK: u8 = 16;

/// A TCP segment, from one end or to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The VM's card.
    pub mac: [u8; 6],
    /// Addresses and ports of the client and of the VM.
    pub client: (u32, u16),
    pub vm: (u32, u16),
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    /// Bytes behind the headers.
    pub len: u32,
}

/// What a VM has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It asks whose this address is.
    Who { mac: [u8; 6], ip: u32, asked: u32 },
    /// It talks to a client.
    Segment(Segment),
    /// It sends a player a datagram. Addresses and ports.
    Datagram { client: (u32, u16), vm: (u32, u16) },
}

/// Reads a frame of a VM, or as much of it as is there; `None` for everything that no client answers.
pub fn read(frame: &[u8]) -> Option<Heard> {
    let (two, four) = (|at| two(frame, at), |at| four(frame, at));
    let mac = frame.get(6..12)?.try_into().ok()?;
    match two(12)? {
        0x806 if two(20)? == 1 => Some(Heard::Who { mac, ip: four(28)?, asked: four(38)? }),
        0x800 if *frame.get(23)? == UDP => {
            let udp = 14 + usize::from(frame.get(14)? & 15) * 4;
            Some(Heard::Datagram { client: (four(30)?, two(udp + 2)?), vm: (four(26)?, two(udp)?) })
        }
        0x800 if *frame.get(23)? == TCP => {
            let tcp = 14 + usize::from(frame.get(14)? & 15) * 4;
            let data = tcp + usize::from(frame.get(tcp + 12)? >> 4) * 4;
            let end = 14 + usize::from(two(16)?);
            Some(Heard::Segment(Segment {
                mac,
                client: (four(30)?, two(tcp + 2)?),
                vm: (four(26)?, two(tcp)?),
                seq: four(tcp + 4)?,
                ack: four(tcp + 8)?,
                flags: *frame.get(tcp + 13)?,
                len: u32::try_from(end.checked_sub(data)?).ok()?,
            }))
        }
        _ => None,
    }
}

/// Writes the answer that `ip`, whose card is `own`, gives to a VM that has asked.
pub fn write_arp(frame: &mut [u8; MOST], own: [u8; 6], ip: u32, mac: [u8; 6], vm: u32) -> usize {
    frame[..6].copy_from_slice(&mac);
    frame[6..12].copy_from_slice(&own);
    frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    frame[22..28].copy_from_slice(&own);
    frame[28..32].copy_from_slice(&ip.to_be_bytes());
    frame[32..38].copy_from_slice(&mac);
    frame[38..42].copy_from_slice(&vm.to_be_bytes());
    60
}

/// Reads headers of a record that is to be cut, of `len` bytes: lengths are empty there.
pub fn read_record(headers: &mut [u8], len: usize) -> Option<Heard> {
    let total = u16::try_from(len.checked_sub(14)?).ok()?;
    headers.get_mut(16..18)?.copy_from_slice(&total.to_be_bytes());
    read(headers)
}

/// Writes a client's segment with `options` and `data` behind it, whose length is not taken from `segment`. Options are whole words. The data that does not
/// fit is left out.
pub fn write(frame: &mut [u8; MOST], own: [u8; 6], segment: &Segment, options: &[u8], data: &[u8]) -> usize {
    let headers = HEADERS + options.len();
    let data = &data[..data.len().min(MOST - headers)];
    let end = headers + data.len();
    let Segment { mac, client, vm, .. } = *segment;
    write_ip(frame, (own, mac), TCP, (client.0, vm.0), end);
    frame[34..36].copy_from_slice(&client.1.to_be_bytes());
    frame[36..38].copy_from_slice(&vm.1.to_be_bytes());
    frame[38..42].copy_from_slice(&segment.seq.to_be_bytes());
    frame[42..46].copy_from_slice(&segment.ack.to_be_bytes());
    // A word at most.
    let offset = u8::try_from(20 + options.len()).unwrap_or(20) << 2;
    frame[46..54].copy_from_slice(&[offset, segment.flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame[HEADERS..headers].copy_from_slice(options);
    frame[headers..end].copy_from_slice(data);
    write_sum(frame, 50, TCP, end)
}

/// Writes a player's datagram to the card `mac`, of `data` as far as it fits.
pub fn write_datagram(
    frame: &mut [u8; MOST],
    cards: ([u8; 6], [u8; 6]),
    client: (u32, u16),
    vm: (u32, u16),
    data: &[u8],
) -> usize {
    let data = &data[..data.len().min(MOST - 42)];
    let end = 42 + data.len();
    write_ip(frame, cards, UDP, (client.0, vm.0), end);
    frame[34..36].copy_from_slice(&client.1.to_be_bytes());
    frame[36..38].copy_from_slice(&vm.1.to_be_bytes());
    let [high, low] = u16::try_from(end - 34).unwrap_or(0).to_be_bytes();
    frame[38..42].copy_from_slice(&[high, low, 0, 0]);
    frame[42..end].copy_from_slice(data);
    write_sum(frame, 40, UDP, end)
}

/// Writes the headers up to the end of IPv4's: from the first card to the second, and from the first address to the second.
fn write_ip(frame: &mut [u8; MOST], cards: ([u8; 6], [u8; 6]), protocol: u8, addresses: (u32, u32), end: usize) {
    frame[..6].copy_from_slice(&cards.1);
    frame[6..12].copy_from_slice(&cards.0);
    frame[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
    // At most `MOST`.
    let [high, low] = u16::try_from(end - 14).unwrap_or(0).to_be_bytes();
    frame[16..26].copy_from_slice(&[high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
    frame[26..30].copy_from_slice(&addresses.0.to_be_bytes());
    frame[30..34].copy_from_slice(&addresses.1.to_be_bytes());
    let header = fold(sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&header.to_be_bytes());
}

/// Writes the checksum of what lies behind IPv4's header, up to `end`, to `at`. The frame's length.
fn write_sum(frame: &mut [u8; MOST], at: usize, protocol: u8, end: usize) -> usize {
    // The pseudo-header: both addresses, the protocol, the length.
    let all = sum(&frame[26..end]) + u32::from(protocol) + u32::try_from(end - 34).unwrap_or(0);
    frame[at..at + 2].copy_from_slice(&fold(all).to_be_bytes());
    end.max(60)
}

fn two(frame: &[u8], at: usize) -> Option<u16> {
    frame.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn four(frame: &[u8], at: usize) -> Option<u32> {
    frame.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// The sum of all pairs of bytes, of which there are few.
fn sum(bytes: &[u8]) -> u32 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let last = rest.first().map_or(0, |&byte| u32::from(byte) << 8);
    pairs.iter().map(|&pair| u32::from(u16::from_be_bytes(pair))).sum::<u32>() + last
}

/// The Internet checksum that belongs to a sum.
fn fold(sum: u32) -> u16 {
    let folded = (sum & 0xffff) + (sum >> 16);
    // Sixteen bits are what is left.
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 9];

    fn segment() -> Segment {
        Segment {
            mac: [2, 1, 2, 3, 4, 5],
            client: (0x0a01_0001, 10_007),
            vm: (0x0a00_0210, 80),
            seq: 7,
            ack: 9,
            flags: ACK | PSH,
            len: 0,
        }
    }

    #[test]
    fn sums_of_what_is_written_are_right() {
        for data in [&b""[..], b"GET", b"GET / HTTP/1.1"] {
            let mut frame = [0; MOST];
            assert_eq!(write(&mut frame, OWN, &segment(), b"", data), 60.max(HEADERS + data.len()));
            assert_eq!(fold(sum(&frame[14..34])), 0);
            let tcp = u32::try_from(20 + data.len()).expect("short");
            assert_eq!(fold(sum(&frame[26..HEADERS + data.len()]) + 6 + tcp), 0);
            assert_eq!(&frame[HEADERS..HEADERS + data.len()], data);
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut frame = [0; MOST];
        let len = write(&mut frame, OWN, &segment(), b"", b"GET /");
        // From the other end.
        frame[26..34].rotate_left(4);
        frame[34..38].rotate_left(2);
        let heard = Segment { mac: OWN, len: 5, ..segment() };
        assert_eq!(read(&frame[..len]), Some(Heard::Segment(heard)));
        assert_eq!(read(&frame[..47]), None);
        let len = write_arp(&mut frame, OWN, 1, [3; 6], 2);
        assert_eq!(read(&frame[..len]), None, "an answer asks nothing");
        frame[21] = 1;
        assert_eq!(read(&frame[..len]), Some(Heard::Who { mac: OWN, ip: 1, asked: 2 }));
    }
    #[test]
    fn options_are_behind_the_header_and_no_data() {
        let mut frame = [0; MOST];
        let syn = Segment { flags: SYN, ..segment() };
        assert_eq!(write(&mut frame, OWN, &syn, WHOLE_FRAMES, b""), 60);
        assert_eq!((frame[46] >> 4, &frame[54..58]), (6, &[2, 4, 5, 0xb4][..]));
        assert_eq!(fold(sum(&frame[26..58]) + 6 + 24), 0);
        assert!(matches!(read(&frame), Some(Heard::Segment(Segment { len: 0, flags: SYN, .. }))));
    }

    #[test]
    fn datagrams_are_read_as_they_were_written() {
        let mut frame = [0; MOST];
        let len = write_datagram(&mut frame, (OWN, [2; 6]), (7, 8), (9, 10), b"forward");
        assert_eq!((len, &frame[..12]), (60, &[2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 9][..]));
        assert_eq!((fold(sum(&frame[14..34])), fold(sum(&frame[26..49]) + 17 + 15)), (0, 0));
        // From the other end.
        frame[26..34].rotate_left(4);
        frame[34..38].rotate_left(2);
        assert_eq!(read(&frame), Some(Heard::Datagram { client: (7, 8), vm: (9, 10) }));
    }

    #[test]
    fn a_record_that_is_to_be_cut_has_its_length_from_outside() {
        let mut frame = [0; MOST];
        write(&mut frame, OWN, &segment(), b"", b"data");
        frame[16..18].fill(0);
        assert_eq!(read(&frame), None);
        let Some(Heard::Segment(heard)) = read_record(&mut frame, HEADERS + 7_300) else { panic!("nothing heard") };
        assert_eq!(heard.len, 7_300);
    }
}
