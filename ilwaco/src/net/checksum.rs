//! The Internet checksum (RFC 1071), eight bytes at a time.
//!
//! The stack's own code adds two bytes at a time; a document of 100 KB makes that a matter of 200,000 instructions.

use super::frame::{ETHERNET_HEADER, ICMPV6, IPV4, IPV6, TCP, UDP, be16};

/// Adds the bytes to a sum. Only the last piece of what is summed may have an odd length.
#[inline]
fn add(sum: u64, bytes: &[u8]) -> u64 {
    #[inline]
    fn word(sum: u64, bytes: &[u8; 8]) -> u64 {
        let (sum, carry) = sum.overflowing_add(u64::from_ne_bytes(*bytes));
        sum + u64::from(carry)
    }
    /// Adds a block by a chain of additions with carry, which is one instruction for each word.
    #[inline]
    fn chain<const N: usize>(sum: u64, block: &[u8; N]) -> u64 {
        let (words, _) = block.as_chunks::<8>();
        let (mut sum, mut carry) = (sum, false);
        for bytes in words {
            (sum, carry) = sum.carrying_add(u64::from_ne_bytes(*bytes), carry);
        }
        let (sum, carry) = sum.overflowing_add(u64::from(carry));
        sum + u64::from(carry)
    }
    let (blocks, rest) = bytes.as_chunks::<64>();
    let mut sum = sum;
    for block in blocks {
        sum = chain(sum, block);
    }
    // Halves of what may be left: no loop for what has a few words.
    let mut rest = rest;
    if let Some((block, behind)) = rest.split_first_chunk::<32>() {
        (sum, rest) = (chain(sum, block), behind);
    }
    if let Some((block, behind)) = rest.split_first_chunk::<16>() {
        (sum, rest) = (chain(sum, block), behind);
    }
    if let Some((bytes, behind)) = rest.split_first_chunk::<8>() {
        (sum, rest) = (word(sum, bytes), behind);
    }
    // What is left stands at an even place, and any of the four is as good as another.
    if let Some((bytes, behind)) = rest.split_first_chunk::<4>() {
        (sum, rest) = (word(sum, &u64::from(u32::from_ne_bytes(*bytes)).to_ne_bytes()), behind);
    }
    match *rest {
        [a] => word(sum, &[a, 0, 0, 0, 0, 0, 0, 0]),
        [a, b] => word(sum, &[a, b, 0, 0, 0, 0, 0, 0]),
        [a, b, c] => word(sum, &[a, b, c, 0, 0, 0, 0, 0]),
        _ => sum,
    }
}

/// The sum of a few bytes whose number is known when this is compiled: their halves of words cannot overflow it.
#[inline]
fn few<const N: usize>(bytes: &[u8; N]) -> u64 {
    const { assert!(N.is_multiple_of(4) && N <= MOST_OF_FEW) };
    bytes.as_chunks::<4>().0.iter().map(|half| u64::from(u32::from_ne_bytes(*half))).sum()
}

const MOST_OF_FEW: usize = 64;

/// The sum in 16 bits, in the byte order of memory.
#[inline]
fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    u16::try_from(sum).unwrap_or(0)
}

/// The sum of bytes of which the first stands at an even place.
pub(super) fn sum(bytes: &[u8]) -> u16 {
    fold(add(0, bytes))
}

/// The sum of bytes behind others of even length, which have the sum `before`.
#[inline]
pub(super) fn sum_behind(before: u16, bytes: &[u8]) -> u16 {
    fold(add(u64::from(before), bytes))
}

/// A sum of sums in 16 bits.
#[inline]
pub(super) fn folded(sum: u64) -> u16 {
    fold(sum)
}

/// Sums of pieces, put together.
#[derive(Clone, Copy, Default)]
pub(super) struct Sum {
    sum: u64,
    odd: bool,
}

impl Sum {
    /// With the sum of a piece of `len` bytes behind it.
    #[inline]
    pub(super) fn and(self, sum: u16, len: usize) -> Sum {
        let sum = if self.odd { sum.swap_bytes() } else { sum };
        Sum { sum: self.sum + u64::from(sum), odd: self.odd != (len % 2 == 1) }
    }

    #[inline]
    pub(super) fn get(self) -> u16 {
        fold(self.sum)
    }
}

/// Fills in the checksums of a frame with a TCP segment, whose headers are the first `headers` bytes; the others have this sum.
#[inline]
pub(super) fn fill_segment(frame: &mut [u8], headers: usize, data: u16) {
    let len = frame.len();
    let Some((ethernet, packet)) = frame.split_at_mut_checked(ETHERNET_HEADER) else { return };
    let is_v4 = be16(ethernet, 12) == Some(IPV4);
    let (addresses, header_len) = if is_v4 { (12..20, 20) } else { (8..40, 40) };
    let Some((header, segment)) = packet.split_at_mut_checked(header_len) else { return };
    if is_v4 {
        put_header(header);
    }
    let start = pseudo(&header[addresses], TCP, len - ETHERNET_HEADER - header_len);
    let (start, carry) = start.overflowing_add(u64::from(data));
    let start = start + u64::from(carry);
    let Some(header) = segment.get_mut(..headers.saturating_sub(ETHERNET_HEADER + header_len)) else { return };
    put(header, 16, start);
}

/// The sum of a pseudo-header: both addresses as they lie in the IP header, protocol and length.
#[inline]
fn pseudo(addresses: &[u8], protocol: u8, len: usize) -> u64 {
    let number = u32::from(protocol).wrapping_add(u32::try_from(len).unwrap_or(0));
    let number = u64::from(u32::from_ne_bytes(number.to_be_bytes()));
    match <&[u8; 8]>::try_from(addresses) {
        Ok(v4) => number + few(v4),
        Err(_) => add(number, addresses),
    }
}

/// The sum of an IPv4 header, or of whatever else is mostly as long.
#[inline]
fn header_sum(header: &[u8]) -> u64 {
    match <&[u8; 20]>::try_from(header) {
        Ok(usual) => few(usual),
        Err(_) => add(0, header),
    }
}

/// True when the header's checksum is right.
#[inline]
pub(super) fn header_valid(header: &[u8]) -> bool {
    fold(header_sum(header)) == 0xffff
}

/// The checksum of a header in which its place is zero, in the byte order of memory.
pub(super) fn header(header: &[u8]) -> u16 {
    !fold(header_sum(header))
}

/// The checksum of a segment in which its place is zero, in the byte order of memory.
pub(super) fn segment(addresses: &[u8], protocol: u8, segment: &[u8]) -> u16 {
    !fold(add(pseudo(addresses, protocol, segment.len()), segment))
}

/// True when the checksum of a TCP, UDP or ICMPv6 segment is right.
#[inline]
pub(super) fn segment_valid(addresses: &[u8], protocol: u8, segment: &[u8]) -> bool {
    fold(add(pseudo(addresses, protocol, segment.len()), segment)) == 0xffff
}

/// Fills in the checksums of a frame that the stack has written without.
#[inline]
pub(super) fn fill(frame: &mut [u8]) {
    let Some((ethernet, packet)) = frame.split_at_mut_checked(ETHERNET_HEADER) else { return };
    let (addresses, protocol, header_len) = match be16(ethernet, 12) {
        Some(IPV4) if packet.len() >= 20 => {
            let header_len = usize::from(packet[0] & 0x0f) * 4;
            let Some(header) = packet.get_mut(..header_len).filter(|header| header.len() >= 20) else { return };
            put_header(header);
            (12..20, packet[9], header_len)
        }
        Some(IPV6) if packet.len() >= 40 => (8..40, packet[6], 40),
        _ => return,
    };
    let (header, segment) = packet.split_at_mut(header_len);
    match protocol {
        TCP => put(segment, 16, pseudo(&header[addresses], protocol, segment.len())),
        UDP => {
            put(segment, 6, pseudo(&header[addresses], protocol, segment.len()));
            // Zero would say that there is no checksum.
            if let Some(field @ [0, 0]) = segment.get_mut(6..8) {
                field.copy_from_slice(&[0xff, 0xff]);
            }
        }
        ICMPV6 => put(segment, 2, pseudo(&header[addresses], protocol, segment.len())),
        // ICMP for IPv4 has no pseudo-header.
        _ => put(segment, 2, 0),
    }
}

/// Writes the checksum of an IPv4 header.
#[inline]
fn put_header(header: &mut [u8]) {
    let Some(field) = header.get_mut(10..12) else { return };
    field.fill(0);
    let checksum = !fold(header_sum(header));
    header[10..12].copy_from_slice(&checksum.to_ne_bytes());
}

/// Writes the checksum of `bytes`, which starts with the sum `start`, at `offset`.
#[inline]
fn put(bytes: &mut [u8], offset: usize, start: u64) {
    let Some(field) = bytes.get_mut(offset..offset + 2) else { return };
    field.fill(0);
    let checksum = !fold(add(start, bytes));
    bytes[offset..offset + 2].copy_from_slice(&checksum.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// As the RFC describes it.
    fn slow(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            sum = (sum >> 16) + (sum & 0xffff);
        }
        u16::try_from(sum).expect("folded")
    }

    proptest! {
        #[test]
        fn as_the_rfc(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            let fast = fold(add(0, &bytes)).to_be();
            let slow = slow(&bytes);
            prop_assert!(fast == slow || fast % 0xffff == slow % 0xffff, "{} {}", fast, slow);
        }

        #[test]
        fn few_are_as_many(bytes: [u8; 64], addresses: [u8; 8], len in 0_u16..) {
            let [few_of, all] = [few(&bytes), add(0, &bytes)].map(fold);
            prop_assert_eq!(few_of, all);
            let pseudo_header = [&addresses[..], &[0, TCP], &len.to_be_bytes()].concat();
            prop_assert_eq!(fold(pseudo(&addresses, TCP, len.into())), fold(add(0, &pseudo_header)));
            for len in [20, 24, 60] {
                let mut header = bytes;
                put_header(&mut header[..len]);
                prop_assert!(header_valid(&header[..len]));
                header[len - 1] ^= 1;
                prop_assert!(!header_valid(&header[..len]));
            }
        }

        #[test]
        fn sums_of_pieces_are_that_of_the_whole(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8)) {
            let total = pieces.iter().fold(Sum::default(), |total, piece| total.and(sum(piece), piece.len()));
            prop_assert_eq!(total.get() % 0xffff, sum(&pieces.concat()) % 0xffff);
        }

        #[test]
        fn a_segment_is_filled_in_as_a_frame_is(v6: bool, data in prop::collection::vec(any::<u8>(), 0..1400), header: [u8; 60]) {
            let mut frame: Vec<u8> = [0; 12].into();
            let len = u16::try_from(data.len() + 20).expect("short");
            if v6 {
                frame.extend(IPV6.to_be_bytes());
                frame.extend([&[0x60, 0, 0, 0], &len.to_be_bytes()[..], &[TCP, 64], &header[..32]].concat());
            } else {
                frame.extend(IPV4.to_be_bytes());
                frame.extend([&[0x45, 0], &(len + 20).to_be_bytes()[..], &[0, 0, 0x40, 0, 64, TCP, 0, 0], &header[..8]].concat());
            }
            frame.extend(&header[40..]);
            let headers = frame.len();
            frame.extend(&data);
            let mut other = frame.clone();
            fill(&mut frame);
            fill_segment(&mut other, headers, sum(&data));
            prop_assert!(frame == other);
        }

        #[test]
        fn what_is_filled_in_is_valid(protocol in prop::sample::select([TCP, UDP].as_slice()), v6: bool, payload in prop::collection::vec(any::<u8>(), 20..1400), addresses: [u8; 32]) {
            let mut frame: Vec<u8> = [0; 12].into();
            let len = u16::try_from(payload.len()).expect("short");
            if v6 {
                frame.extend(IPV6.to_be_bytes());
                frame.extend([0x60, 0, 0, 0]);
                frame.extend(len.to_be_bytes());
                frame.extend([protocol, 64]);
                frame.extend(addresses);
            } else {
                frame.extend(IPV4.to_be_bytes());
                frame.extend([0x45, 0]);
                frame.extend((len + 20).to_be_bytes());
                frame.extend([1, 2, 0, 0, 64, protocol, 0xde, 0xad]);
                frame.extend(&addresses[..8]);
            }
            let header = frame.len();
            frame.extend(&payload);
            fill(&mut frame);
            let addresses = if v6 { 22..54 } else { 26..34 };
            prop_assert!(v6 || header_valid(&frame[14..34]));
            prop_assert!(segment_valid(&frame[addresses.clone()], protocol, &frame[header..]));
            let mut broken = frame.clone();
            broken[header + 3] ^= 1;
            prop_assert!(!segment_valid(&broken[addresses], protocol, &broken[header..]));
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(mut frame in prop::collection::vec(any::<u8>(), 0..200), kind in prop::sample::select([IPV4, IPV6, 0x806].as_slice())) {
            if let Some(field) = frame.get_mut(12..14) {
                field.copy_from_slice(&kind.to_be_bytes());
            }
            fill(&mut frame);
        }
    }
}
