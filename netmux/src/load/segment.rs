//! Frames of clients: ARP and TCP over IPv4, as little of them as a web server needs.

/// Bytes of a frame up to the end of the TCP header, without options.
pub const HEADERS: usize = 14 + 20 + 20;
/// Bytes of the longest frame that is made here.
pub const MOST: usize = 128;
/// Bytes of a VM's frame that are read: all headers, with options.
pub const READ: usize = 14 + 60 + 60;

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
}

/// Reads a frame of a VM, or as much of it as is there; `None` for everything that no client answers.
pub fn read(frame: &[u8]) -> Option<Heard> {
    let (two, four) = (|at| two(frame, at), |at| four(frame, at));
    let mac = frame.get(6..12)?.try_into().ok()?;
    match two(12)? {
        0x806 if two(20)? == 1 => Some(Heard::Who { mac, ip: four(28)?, asked: four(38)? }),
        0x800 if *frame.get(23)? == 6 => {
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

/// Writes a client's segment with `data` behind it, whose length is not taken from `segment`. The data that does not fit is left out.
pub fn write(frame: &mut [u8; MOST], own: [u8; 6], segment: &Segment, data: &[u8]) -> usize {
    let data = &data[..data.len().min(MOST - HEADERS)];
    let end = HEADERS + data.len();
    frame[..6].copy_from_slice(&segment.mac);
    frame[6..12].copy_from_slice(&own);
    frame[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
    // At most `MOST`.
    let [high, low] = u16::try_from(end - 14).unwrap_or(0).to_be_bytes();
    frame[16..26].copy_from_slice(&[high, low, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    frame[26..30].copy_from_slice(&segment.client.0.to_be_bytes());
    frame[30..34].copy_from_slice(&segment.vm.0.to_be_bytes());
    frame[34..36].copy_from_slice(&segment.client.1.to_be_bytes());
    frame[36..38].copy_from_slice(&segment.vm.1.to_be_bytes());
    frame[38..42].copy_from_slice(&segment.seq.to_be_bytes());
    frame[42..46].copy_from_slice(&segment.ack.to_be_bytes());
    frame[46..54].copy_from_slice(&[0x50, segment.flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame[HEADERS..end].copy_from_slice(data);
    let header = fold(sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&header.to_be_bytes());
    // The pseudo-header: both addresses, the protocol, the length.
    let tcp = sum(&frame[26..end]) + 6 + u32::try_from(end - 34).unwrap_or(0);
    frame[50..52].copy_from_slice(&fold(tcp).to_be_bytes());
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
            assert_eq!(write(&mut frame, OWN, &segment(), data), 60.max(HEADERS + data.len()));
            assert_eq!(fold(sum(&frame[14..34])), 0);
            let tcp = u32::try_from(20 + data.len()).expect("short");
            assert_eq!(fold(sum(&frame[26..HEADERS + data.len()]) + 6 + tcp), 0);
            assert_eq!(&frame[HEADERS..HEADERS + data.len()], data);
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut frame = [0; MOST];
        let len = write(&mut frame, OWN, &segment(), b"GET /");
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
}
