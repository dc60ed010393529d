//! Hosts whose frames are made by hand, to the last bit.

use super::super::checksum;
use super::super::frame::{self, ACK, ARP, FIN, ICMP, IPV4, RST, SYN, TCP, be16, be32};
use crate::sim::{self, GUEST, Sim};
use crate::time::{Duration, sleep};
use std::vec::Vec;

/// The guest's hardware address.
pub const GUEST_MAC: [u8; 6] = [2, 0x46, 0x4b, 0, 0, 0];

/// A machine with a guest that runs, and nobody else.
pub fn machine(args: &str) -> Sim {
    let sim = Sim::new(args);
    sim::start();
    sim
}

/// Gives the guest the time to take in what was delivered, and returns what it has sent.
pub async fn turn(sim: &mut Sim) -> Vec<Vec<u8>> {
    sleep(Duration::from_millis(1)).await;
    core::iter::from_fn(|| sim.collect()).collect()
}

/// Lets so many seconds pass in which the guest is never idle for long, so that it forgets nothing.
pub async fn awake(seconds: u32) {
    for _ in 0..seconds * 5 {
        sleep(Duration::from_millis(200)).await;
    }
}

/// Delivers a frame, and returns what the guest says to it.
pub async fn ask(sim: &mut Sim, frame: &[u8]) -> Vec<Vec<u8>> {
    assert!(sim.deliver(frame), "there is room");
    turn(sim).await
}

/// A frame with the headers of Ethernet and IPv4.
pub fn ipv4(mac: [u8; 6], from: [u8; 4], to: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).expect("short");
    let mut bytes = [GUEST_MAC.as_slice(), &mac, &IPV4.to_be_bytes(), &[0x45, 0], &total.to_be_bytes()].concat();
    bytes.extend([0, 9, 0x40, 0, 57, protocol, 0, 0]);
    bytes.extend([from, to].concat());
    bytes.extend(payload);
    checksum::fill(&mut bytes);
    bytes
}

/// A frame with the headers of Ethernet and IPv6.
pub fn ipv6(mac: [u8; 6], from: u128, to: u128, hops: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).expect("short");
    let mut bytes =
        [GUEST_MAC.as_slice(), &mac, &frame::IPV6.to_be_bytes(), &[0x60, 0, 0, 0], &len.to_be_bytes()].concat();
    bytes.extend([protocol, hops]);
    bytes.extend(from.to_be_bytes());
    bytes.extend(to.to_be_bytes());
    bytes.extend(payload);
    checksum::fill(&mut bytes);
    bytes
}

/// An ARP packet: who says it, who that is, and about whom.
pub fn arp(operation: u8, mac: [u8; 6], from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let mut bytes = [GUEST_MAC.as_slice(), &mac, &ARP.to_be_bytes(), &[0, 1, 8, 0, 6, 4, 0, operation]].concat();
    bytes.extend(mac);
    bytes.extend(from);
    bytes.extend([[0; 6].as_slice(), &to].concat());
    bytes
}

/// One end of a TCP connection with the guest.
#[derive(Clone, Debug)]
pub struct Host {
    pub mac: [u8; 6],
    pub ip: [u8; 4],
    pub ports: (u16, u16),
    pub seq: u32,
    pub ack: u32,
}

/// A segment that the guest has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub to: [u8; 6],
    pub port: u16,
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    pub options: Vec<u8>,
    pub data: Vec<u8>,
}

/// What a frame of the guest says, if it is TCP; its checksums are right.
pub fn heard(frame: &[u8]) -> Option<Heard> {
    if be16(frame, 12) != Some(IPV4) || frame[23] != TCP {
        return None;
    }
    assert!(checksum::header_valid(&frame[14..34]) && checksum::segment_valid(&frame[26..34], TCP, &frame[34..]));
    let data = 34 + usize::from(frame[46] >> 4) * 4;
    Some(Heard {
        to: *frame.first_chunk().expect("long enough"),
        port: be16(frame, 36).expect("long enough"),
        flags: frame[47],
        seq: be32(frame, 38).expect("long enough"),
        ack: be32(frame, 42).expect("long enough"),
        window: be16(frame, 48).expect("long enough"),
        options: frame[54..data].into(),
        data: frame[data..].into(),
    })
}

impl Host {
    /// The `n`th host of the guest's network, with its own hardware address.
    pub fn new(n: u16, port: u16) -> Host {
        let [high, low] = n.to_be_bytes();
        let ip = [10, 0, 3 + high, low];
        Host { mac: [2, 1, 0, 0, high, low], ip, ports: (30_000 + n, port), seq: u32::from(n) * 77_777, ack: 0 }
    }

    /// A segment with the host's present numbers.
    pub fn segment(&self, flags: u8, options: &[u8], data: &[u8]) -> Vec<u8> {
        let words = u8::try_from(5 + options.len() / 4).expect("short");
        let mut bytes = [self.ports.0.to_be_bytes(), self.ports.1.to_be_bytes()].concat();
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(if flags & ACK == 0 { 0 } else { self.ack }.to_be_bytes());
        bytes.extend([words << 4, flags, 0x20, 0, 0, 0, 0, 0]);
        bytes.extend(options);
        bytes.extend(data);
        ipv4(self.mac, self.ip, GUEST, TCP, &bytes)
    }

    /// As [`Host::segment`], with the sequence number moved on by what it takes.
    pub fn next(&mut self, flags: u8, data: &[u8]) -> Vec<u8> {
        let frame = self.segment(flags, &[], data);
        let span = u32::try_from(data.len()).expect("short") + u32::from(flags & (SYN | FIN) != 0);
        self.seq = self.seq.wrapping_add(span);
        frame
    }

    /// What the guest has said to this host. Its numbers are taken over.
    pub fn listen(&mut self, frames: &[Vec<u8>]) -> Vec<Heard> {
        let mine = |heard: &Heard| heard.to == self.mac && heard.port == self.ports.0;
        let heard: Vec<_> = frames.iter().filter_map(|frame| heard(frame)).filter(mine).collect();
        for segment in &heard {
            let len = u32::try_from(segment.data.len()).expect("short");
            let end = segment.seq.wrapping_add(len + u32::from(segment.flags & (SYN | FIN) != 0));
            if segment.flags & RST == 0 && (segment.flags & SYN != 0 || segment.seq == self.ack) {
                self.ack = end;
            }
        }
        heard
    }

    /// The first two thirds of the handshake.
    pub async fn knock(&mut self, sim: &mut Sim) {
        let syn = self.next(SYN, &[]);
        let frames = ask(sim, &syn).await;
        let heard = self.listen(&frames);
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert_eq!((heard[0].flags, heard[0].ack), (SYN | ACK, self.seq));
    }

    /// The whole handshake.
    pub async fn connect(&mut self, sim: &mut Sim) {
        self.knock(sim).await;
        let ack = self.next(ACK, &[]);
        let frames = ask(sim, &ack).await;
        assert!(self.listen(&frames).iter().all(|heard| heard.flags & RST == 0));
    }

    /// Sends data, and returns all segments that come back; what they hold is acknowledged.
    pub async fn say(&mut self, sim: &mut Sim, data: &[u8]) -> Vec<Heard> {
        let frame = self.next(ACK, data);
        let frames = ask(sim, &frame).await;
        let mut heard = self.listen(&frames);
        if heard.iter().any(|heard| !heard.data.is_empty()) {
            let frames = ask(sim, &self.segment(ACK, &[], &[])).await;
            heard.extend(self.listen(&frames));
        }
        heard
    }

    /// Sends a segment with other numbers than it should have, and returns what comes back.
    pub async fn forge(&mut self, sim: &mut Sim, flags: u8, seq: u32, ack: u32, data: &[u8]) -> Vec<Heard> {
        let forged = Host { seq, ack, ..self.clone() };
        let frames = ask(sim, &forged.segment(flags, &[], data)).await;
        frames.iter().filter_map(|frame| heard(frame)).collect()
    }
}

/// An ICMP message.
pub fn icmp(mac: [u8; 6], from: [u8; 4], to: [u8; 4], kind: [u8; 2], rest: [u8; 4], body: &[u8]) -> Vec<u8> {
    ipv4(mac, from, to, ICMP, &[kind.as_slice(), &[0, 0], &rest, body].concat())
}
