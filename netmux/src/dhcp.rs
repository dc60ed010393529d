//! Reads DHCP answers along (RFC 2131), to learn which address a VM was given and to whom a broadcast answer belongs.

use crate::frame::{ETHERNET, Frame, IPV4, Mac, UDP};

/// Port of DHCP servers.
pub const SERVER_PORT: u16 = 67;
/// Port of DHCP clients.
pub const CLIENT_PORT: u16 = 68;

/// Bytes of a frame that are looked at: the largest headers, BOOTP's fixed part, and the 312 bytes of options that every
/// client must accept (RFC 2131, section 2). The message type comes first in practice.
const LOOKED_AT: usize = ETHERNET + 60 + 8 + OPTIONS + 312;
/// Offsets in a BOOTP message (RFC 951; RFC 2131, figure 1).
const YIADDR: usize = 16;
const CHADDR: usize = 28;
const COOKIE: usize = 236;
const OPTIONS: usize = 240;

/// What a DHCP answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The client that it is meant for.
    pub client: Mac,
    /// The address that a server acknowledges (DHCPACK); `None` for an offer, a refusal, and an answer without address.
    pub acknowledged: Option<u32>,
}

/// The DHCP answer in `frame`, if it is one.
pub fn answer(frame: &(impl Frame + ?Sized)) -> Option<Answer> {
    let mut buffer = [0; LOOKED_AT];
    let bytes = frame.copy(&mut buffer);
    let ip = bytes.get(ETHERNET..)?;
    let header = usize::from(ip.first()? & 15) * 4;
    let u16_at = |bytes: &[u8], at: usize| Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    let plain = u16_at(bytes, 12)? == IPV4
        && ip[0] >> 4 == 4
        && header >= 20
        && *ip.get(9)? == UDP
        && u16_at(ip, 6)? & 0x3fff == 0;
    let udp = ip.get(header..)?;
    if !plain || u16_at(udp, 0)? != SERVER_PORT || u16_at(udp, 2)? != CLIENT_PORT {
        return None;
    }
    let bootp = udp.get(8..)?;
    if *bootp.first_chunk()? != [2, 1, 6] {
        return None;
    }
    let client = Mac::new(*bootp.get(CHADDR..)?.first_chunk()?);
    let yours = u32::from_be_bytes(*bootp.get(YIADDR..)?.first_chunk()?);
    let acknowledged = message_type(bootp) == Some(5) && yours != 0;
    Some(Answer { client, acknowledged: acknowledged.then_some(yours) })
}

/// Option 53 (RFC 2132, section 9.6): 5 is DHCPACK.
fn message_type(bootp: &[u8]) -> Option<u8> {
    if *bootp.get(COOKIE..)?.first_chunk()? != [0x63, 0x82, 0x53, 0x63] {
        return None;
    }
    let mut options = bootp.get(OPTIONS..)?;
    // Every step takes at least one byte of a buffer of fixed size.
    loop {
        match *options {
            [0, ref rest @ ..] => options = rest,
            [53, 1, kind, ..] => return Some(kind),
            [255, ..] | [] | [_] => return None,
            [_, len, ref rest @ ..] => options = rest.get(usize::from(len)..)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_frames as frames;
    use proptest::prelude::*;

    #[test]
    fn an_acknowledgement_names_client_and_address() {
        let frame = frames::dhcp_answer(Mac::BROADCAST, Mac::of_slot(3), 0x0a00_020f, 5);
        let expected = Answer { client: Mac::of_slot(3), acknowledged: Some(0x0a00_020f) };
        assert_eq!(answer(frame.as_slice()), Some(expected));
    }

    #[test]
    fn offers_acknowledge_nothing() {
        let frame = frames::dhcp_answer(Mac::BROADCAST, Mac::of_slot(3), 0x0a00_020f, 2);
        assert_eq!(answer(frame.as_slice()), Some(Answer { client: Mac::of_slot(3), acknowledged: None }));
    }

    #[test]
    fn other_frames_are_no_answers() {
        let tcp = frames::ipv4(Mac::of_slot(1), Mac::of_slot(2), 1, 2, 6, &[0; 300]);
        assert_eq!(answer(tcp.as_slice()), None);
        let discover = frames::dhcp_discover(Mac::of_slot(1));
        assert_eq!(answer(discover.as_slice()), None);
    }

    proptest! {
        #[test]
        fn damaged_answers_do_no_harm(cut in 0..400_usize, at in 14..340_usize, byte: u8) {
            let mut frame = frames::dhcp_answer(Mac::BROADCAST, Mac::of_slot(3), 0x0a00_020f, 5);
            if let Some(place) = frame.get_mut(at) {
                *place = byte;
            }
            frame.truncate(cut);
            answer(frame.as_slice());
        }
    }
}
