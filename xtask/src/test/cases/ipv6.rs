//! IPv6 beyond the link: a router that advertises a prefix is played here.

use super::ensure;
use crate::error::{Result, fail};
use crate::machine::vm_mac;
use crate::net::HOST_MAC;
use crate::test::Case;
use crate::test::lab::{BOOT, Lab};
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[Case {
    name: "ipv6: autoconfiguration",
    asserts: "a VM makes an address of what a router advertises, tells its group, and is reached there",
    run: autoconfiguration,
}];

const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0);
/// Somebody behind the router.
const FAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb9, 0, 0, 0, 0, 0, 5);
const ICMPV6: u8 = 58;
/// Messages of ICMPv6 (RFC 4443, RFC 4861, RFC 3810).
const ECHO: u8 = 128;
const ECHO_REPLY: u8 = 129;
const SOLICITATION: u8 = 133;
const REPORT: u8 = 143;

fn autoconfiguration(lab: &Lab) -> Result<()> {
    let running = lab
        .boot("vms=udp-echo")
        .system(|system| {
            for image in system.image.iter_mut().filter(|image| image.name == "udp-echo") {
                image.args = "ip6=auto".to_owned();
            }
        })
        .start()?;
    let net = running.net()?;
    let frames = net.watch();
    let address = address_of(PREFIX, vm_mac(0));
    let mut reported = false;
    let end = Instant::now() + BOOT;
    // Solicitations come again and again until one is answered.
    let told = format!("IPv6: {address}/64");
    while running.wait_for(&told, Duration::from_millis(100)).is_err() {
        if Instant::now() > end {
            fail!("the VM does not say \"{told}\"");
        }
        while let Ok(frame) = frames.try_recv() {
            match message(&frame) {
                Some((SOLICITATION, ..)) => net.inject(&advert()),
                Some((REPORT, ..)) => reported = true,
                _ => {}
            }
        }
    }
    ensure(reported, || "no group was reported".to_owned())?;
    let request = frame(vm_mac(0), FAR, address, 64, &[&[ECHO, 0, 0, 0, 0, 7, 0, 9][..], b"hello"].concat());
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        net.inject(&request);
        while let Ok(frame) = frames.recv_timeout(Duration::from_secs(1)) {
            if let Some((ECHO_REPLY, from, to)) = message(&frame) {
                ensure((from, to) == (address, FAR) && frame.ends_with(b"hello"), || format!("{from} to {to}"))?;
                return running.power_off();
            }
        }
        if Instant::now() > end {
            fail!("{address} does not answer");
        }
    }
}

/// The address that is made of a prefix and a MAC (RFC 4291, appendix A).
fn address_of(prefix: Ipv6Addr, [a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    let id = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    Ipv6Addr::from_bits(prefix.to_bits() | u128::from(id))
}

/// What the router says to all.
fn advert() -> Vec<u8> {
    let mut message = [&[134, 0, 0, 0, 64, 0, 7, 8][..], &[0; 8], &[1, 1], &HOST_MAC].concat();
    // The prefix is that of neighbours, and addresses may be made of it; for an hour.
    message.extend([3, 4, 64, 0xc0, 0, 0, 14, 16, 0, 0, 14, 16, 0, 0, 0, 0]);
    message.extend(PREFIX.octets());
    frame([0x33, 0x33, 0, 0, 0, 1], ROUTER, ALL_NODES, 255, &message)
}

/// A frame of the router with a message of ICMPv6, whose checksum is filled in.
fn frame(mac: [u8; 6], from: Ipv6Addr, to: Ipv6Addr, hops: u8, message: &[u8]) -> Vec<u8> {
    let len = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
    let addresses = [from.octets(), to.octets()].concat();
    let mut message = message.to_vec();
    let sum = checksum(&[&addresses[..], &[0, 0], &len, &[0, 0, 0, ICMPV6], &message].concat());
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let head = [&mac[..], &HOST_MAC, &[0x86, 0xdd, 0x60, 0, 0, 0], &len, &[ICMPV6, hops]].concat();
    [head, addresses, message].concat()
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    !u16::try_from(sum).unwrap_or(0)
}

/// The type of a message of ICMPv6, from whom it is and for whom, behind hop-by-hop options at most.
fn message(frame: &[u8]) -> Option<(u8, Ipv6Addr, Ipv6Addr)> {
    let address = |at: usize| frame.get(at..)?.first_chunk::<16>().map(|&bytes| Ipv6Addr::from(bytes));
    let start = match (frame.get(12..14)?, *frame.get(20)?) {
        ([0x86, 0xdd], ICMPV6) => 54,
        ([0x86, 0xdd], 0) if frame.get(54) == Some(&ICMPV6) => 62,
        _ => return None,
    };
    Some((*frame.get(start)?, address(22)?, address(38)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_they_should_be() {
        let bytes = advert();
        assert_eq!(message(&bytes), Some((134, ROUTER, ALL_NODES)));
        let len = u16::try_from(bytes.len() - 54).unwrap().to_be_bytes();
        let whole = [&bytes[22..54], &[0, 0], &len, &[0, 0, 0, ICMPV6], &bytes[54..]].concat();
        assert_eq!(checksum(&whole), 0, "its sum is right");
        let address = address_of(PREFIX, [2, 0x46, 0x4b, 0, 0, 1]);
        assert_eq!(address.to_string(), "2001:db8::46:4bff:fe00:1");
        for len in 0..bytes.len() {
            assert!(len >= 55 || message(&bytes[..len]).is_none());
        }
    }
}
