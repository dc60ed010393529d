//! Frames that no decent host sends.

use super::ensure;
use crate::error::{Context, Result};
use crate::machine::vm_mac;
use crate::net::{FIRST_VM, HOST, HOST_MAC};
use crate::test::Case;
use crate::test::lab::{BOOT, Lab, Running};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    Case {
        name: "frames: bad ones",
        asserts: "short, long, lying and lost frames are dropped, and service goes on",
        run: bad,
    },
    Case {
        name: "frames: ARP flood",
        asserts: "2,000 ARP requests from strangers do not stop service",
        run: arp_flood,
    },
    Case {
        name: "frames: half-open connections",
        asserts: "300 connections that are never completed do not stop service",
        run: half_open,
    },
    Case { name: "frames: addresses", asserts: "each VM answers ARP for its own address from its own MAC", run: arp },
];

fn start(lab: &Lab, count: usize) -> Result<Running> {
    let mut running = lab.boot(&format!("vms=httpd*{count}")).start()?;
    running.wait_for_services(BOOT)?;
    Ok(running)
}

/// The machine still serves.
fn serves(running: &Running) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(30);
    for i in 0..running.services().len() {
        loop {
            match running.get(i, "/100b") {
                Ok(answer) if answer.status == 200 => break,
                Ok(answer) => return Err(format!("server {i} answers with {}", answer.status).into()),
                Err(error) if Instant::now() >= end => return Err(error),
                Err(_) => {}
            }
        }
    }
    running.must_not_say(0, "FATAL")?;
    running.must_not_say(0, "ended:")
}

/// An Ethernet frame.
pub fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

pub fn arp_request(sender_mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let fixed = [0, 1, 8, 0, 6, 4, 0, 1];
    let payload = [&fixed[..], &sender_mac, &sender.octets(), &[0; 6], &target.octets(), &[0; 18]].concat();
    ethernet([0xff; 6], sender_mac, 0x0806, &payload)
}

/// The ones' complement sum of RFC 1071.
pub fn internet_checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let [.., high, low] = ((sum & 0xffff) + (sum >> 16)).to_be_bytes();
    !u16::from_be_bytes([high, low])
}

pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX);
    let mut header = [0x45, 0, 0, 0, 0x12, 0x34, 0, 0, 64, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[2..4].copy_from_slice(&total.to_be_bytes());
    header[6..8].copy_from_slice(&fragment.to_be_bytes());
    header[12..16].copy_from_slice(&from.octets());
    header[16..20].copy_from_slice(&to.octets());
    let sum = internet_checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&header[..], payload].concat()
}

/// A TCP segment that opens a connection, with sequence number 0x01020304.
pub fn syn(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) -> Vec<u8> {
    let mut segment = vec![0; 20];
    segment[..2].copy_from_slice(&from.1.to_be_bytes());
    segment[2..4].copy_from_slice(&to.1.to_be_bytes());
    segment[4..8].copy_from_slice(&[1, 2, 3, 4]);
    segment[12..16].copy_from_slice(&[5 << 4, 2, 0xff, 0xff]);
    let pseudo = [&from.0.octets()[..], &to.0.octets(), &[0, 6, 0, 20]].concat();
    let sum = internet_checksum(&[&pseudo[..], &segment].concat());
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

fn bad(lab: &Lab) -> Result<()> {
    let running = start(lab, 2)?;
    let net = running.net()?;
    let vm = vm_mac(0);
    let echo = ipv4(HOST, FIRST_VM, 1, 0, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    let mut long_header = echo.clone();
    long_header[0] = 0x4f;
    let mut wrong_sum = echo.clone();
    wrong_sum[10] ^= 0xff;
    let mut lying_length = echo.clone();
    lying_length[2..4].copy_from_slice(&60_000_u16.to_be_bytes());
    let frames = [
        // To nobody; to a multicast group; from a group; from the VM itself; to the NIC's own address.
        ethernet([2, 0x46, 0x4b, 0, 0x40, 0], HOST_MAC, 0x0800, &echo),
        ethernet([1, 0, 0x5e, 0, 0, 1], HOST_MAC, 0x0800, &echo),
        ethernet(vm, [0xff; 6], 0x0800, &echo),
        ethernet(vm, vm, 0x0800, &echo),
        ethernet([0x52, 0x54, 0, 0x12, 0x34, 0x56], HOST_MAC, 0x0800, &echo),
        // Cut off within the address, within the type, without payload.
        vm[..3].to_vec(),
        ethernet(vm, HOST_MAC, 0x0800, &[])[..13].to_vec(),
        ethernet(vm, HOST_MAC, 0x0800, &[]),
        // Longer than a frame can be, just and by far.
        ethernet(vm, HOST_MAC, 0x0800, &[0xaa; 1501]),
        ethernet(vm, HOST_MAC, 0x0800, &[0xaa; 9000]),
        // Headers that lie, fragments that have no first and no last, unknown types and protocols.
        ethernet(vm, HOST_MAC, 0x0800, &long_header),
        ethernet(vm, HOST_MAC, 0x0800, &wrong_sum),
        ethernet(vm, HOST_MAC, 0x0800, &lying_length),
        ethernet(vm, HOST_MAC, 0x0800, &ipv4(HOST, FIRST_VM, 17, 0x2001, &[0xbb; 64])),
        ethernet(vm, HOST_MAC, 0x0800, &ipv4(HOST, FIRST_VM, 17, 0x1fff, &[0xbb; 64])),
        ethernet(vm, HOST_MAC, 0x0800, &ipv4(HOST, FIRST_VM, 250, 0, &[0xcc; 40])),
        ethernet(vm, HOST_MAC, 0x86dd, &[0x60; 60]),
        ethernet(vm, HOST_MAC, 0x86dd, &[0; 10]),
        ethernet(vm, HOST_MAC, 0x1234, &[0xdd; 100]),
        ethernet(vm, HOST_MAC, 0x8100, &[0, 5, 8, 0]),
        ethernet([0xff; 6], HOST_MAC, 0x0806, &[0xee; 28]),
    ];
    for frame in frames.iter().cycle().take(frames.len() * 5) {
        net.inject(frame);
    }
    serves(&running)
}

fn arp_flood(lab: &Lab) -> Result<()> {
    let running = start(lab, 2)?;
    let net = running.net()?;
    for i in 0..2_000_u16 {
        let [high, low] = i.to_be_bytes();
        let stranger = Ipv4Addr::new(10, 0, 2, 100 + low % 100);
        net.inject(&arp_request([2, 0, 0, 0, high, low], stranger, FIRST_VM));
    }
    serves(&running)
}

fn half_open(lab: &Lab) -> Result<()> {
    let running = start(lab, 2)?;
    let net = running.net()?;
    for i in 0..300_u16 {
        let stranger = Ipv4Addr::new(10, 0, 2, 200);
        let packet = ipv4(stranger, FIRST_VM, 6, 0, &syn((stranger, 20_000 + i), (FIRST_VM, 80)));
        net.inject(&ethernet(vm_mac(0), HOST_MAC, 0x0800, &packet));
    }
    serves(&running)
}

fn arp(lab: &Lab) -> Result<()> {
    let running = start(lab, 2)?;
    let net = running.net()?;
    let seen = net.watch();
    let asker = [2, 0, 0, 0, 0, 9];
    for slot in 0..2_u16 {
        let target = Ipv4Addr::from_bits(FIRST_VM.to_bits() + u32::from(slot));
        net.inject(&arp_request(asker, Ipv4Addr::new(10, 0, 2, 99), target));
        let end = Instant::now() + Duration::from_secs(10);
        let reply = loop {
            let left = end.saturating_duration_since(Instant::now());
            let frame = seen.recv_timeout(left).context(|| format!("no ARP reply for {target}"))?;
            let is_reply = frame.get(12..14) == Some(&[8, 6]) && frame.get(20..22) == Some(&[0, 2]);
            if is_reply && frame.get(28..32) == Some(&target.octets()) {
                break frame;
            }
        };
        let mac = vm_mac(slot.into());
        ensure(reply[6..12] == mac && reply[22..28] == mac, || {
            format!("{target} is answered for by {:x?}", &reply[6..12])
        })?;
        ensure(reply[..6] == asker, || format!("the reply for {target} went to {:x?}", &reply[..6]))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_internet() {
        let packet = ipv4(HOST, FIRST_VM, 1, 0, &[]);
        assert_eq!(internet_checksum(&packet), 0);
        assert_eq!(internet_checksum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }
}
