//! A host of the machines' network whose frames are made by hand, to the last bit.

use super::ensure;
use super::frames::{ethernet, internet_checksum, ipv4};
use crate::error::{Result, fail};
use crate::net::UserNet;
use std::net::Ipv4Addr;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;
pub const TCP: u8 = 6;
pub const ICMP: u8 = 1;
pub const UDP: u8 = 17;
const IPV4: u16 = 0x0800;
/// After which a question is asked again that was not answered: frames get lost.
const AGAIN: Duration = Duration::from_secs(1);
/// After which no more comes of what was asked for before.
const SILENCE: Duration = Duration::from_millis(500);
/// How long an answer is waited for altogether.
const PATIENCE: Duration = Duration::from_secs(20);

/// The machine's end of the wire.
pub struct Cable<'a> {
    net: &'a UserNet,
    frames: Receiver<Vec<u8>>,
}

impl Cable<'_> {
    pub fn of(net: &UserNet) -> Cable<'_> {
        Cable { net, frames: net.watch() }
    }

    /// Sends a frame to the machine.
    pub fn send(&self, frame: &[u8]) {
        self.net.inject(frame);
    }

    /// The next frame of the machine's that comes before `end`.
    pub fn next(&self, end: Instant) -> Option<Vec<u8>> {
        self.frames.recv_timeout(end.saturating_duration_since(Instant::now())).ok()
    }

    /// What comes within this time.
    pub fn all_within(&self, time: Duration) -> Vec<Vec<u8>> {
        let end = Instant::now() + time;
        std::iter::from_fn(|| self.next(end)).collect()
    }

    /// Waits until nothing has come for a while.
    pub fn falls_silent(&self) {
        while self.next(Instant::now() + SILENCE).is_some() {}
    }

    /// Sends a frame, again and again, until the machine has sent one for which `wanted` has something.
    pub fn ask<T>(&self, what: &str, frame: &[u8], mut wanted: impl FnMut(&[u8]) -> Option<T>) -> Result<T> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            self.send(frame);
            let again = Instant::now() + AGAIN;
            while let Some(frame) = self.next(again) {
                if let Some(found) = wanted(&frame) {
                    return Ok(found);
                }
            }
        }
        fail!("no answer to {what} in {} s", PATIENCE.as_secs())
    }
}

/// A packet of the machine's: the hardware address that it goes to, and what IPv4 says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub mac: [u8; 6],
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
    pub protocol: u8,
    /// The identification, and flags and offset.
    pub piece: (u16, u16),
    pub payload: Vec<u8>,
}

impl Packet {
    pub fn read(frame: &[u8]) -> Option<Packet> {
        let header = frame.get(14..34)?;
        if frame[12..14] != IPV4.to_be_bytes() || header[0] != 0x45 || internet_checksum(header) != 0 {
            return None;
        }
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
        Some(Packet {
            mac: *frame.first_chunk()?,
            from: address(12),
            to: address(16),
            protocol: header[9],
            piece: (word(4), word(6)),
            payload: frame.get(34..14 + usize::from(word(2)))?.to_vec(),
        })
    }
}

/// A segment of the machine's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub data: Vec<u8>,
}

/// One host, and its end of one TCP connection.
#[derive(Clone, Debug)]
pub struct Peer {
    pub mac: [u8; 6],
    pub ip: Ipv4Addr,
    /// Its own, and the VM's.
    pub ports: (u16, u16),
    /// The VM.
    pub vm: ([u8; 6], Ipv4Addr),
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    /// The largest segment that it says it takes, when it connects.
    pub largest: Option<u16>,
}

impl Peer {
    /// The `n`th one, which talks to a port of the VM with this hardware address and this one.
    pub fn new(n: u16, vm: ([u8; 6], Ipv4Addr), port: u16) -> Peer {
        let [high, low] = n.to_be_bytes();
        Peer {
            mac: [2, 0x99, 0, 0, high, low],
            ip: Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 3, 0).to_bits() + u32::from(n)),
            ports: (30_000 + n, port),
            vm,
            seq: u32::from(n) * 77_777,
            ack: 0,
            window: 0xffff,
            largest: None,
        }
    }

    /// A frame with this IPv4 payload for the VM.
    pub fn packet(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        ethernet(self.vm.0, self.mac, IPV4, &ipv4(self.ip, self.vm.1, protocol, 0, payload))
    }

    /// A segment with these numbers.
    pub fn forged(&self, flags: u8, seq: u32, ack: u32, data: &[u8]) -> Vec<u8> {
        self.packet(TCP, &self.bare_segment((self.ip, self.vm.1), flags, (seq, ack), data))
    }

    /// A segment whose checksum is right between these addresses.
    pub fn bare_segment(&self, ends: (Ipv4Addr, Ipv4Addr), flags: u8, numbers: (u32, u32), data: &[u8]) -> Vec<u8> {
        let mut segment = [self.ports.0.to_be_bytes(), self.ports.1.to_be_bytes()].concat();
        segment.extend(numbers.0.to_be_bytes());
        segment.extend(numbers.1.to_be_bytes());
        let option = self.largest.filter(|_| flags & SYN != 0).map(u16::to_be_bytes);
        segment.extend([if option.is_some() { 6 << 4 } else { 5 << 4 }, flags]);
        segment.extend(self.window.to_be_bytes());
        segment.extend([0; 4]);
        if let Some([high, low]) = option {
            segment.extend([2, 4, high, low]);
        }
        segment.extend(data);
        let len = u16::try_from(segment.len()).unwrap_or(u16::MAX).to_be_bytes();
        let whole = [&ends.0.octets()[..], &ends.1.octets(), &[0, TCP], &len, &segment].concat();
        segment[16..18].copy_from_slice(&internet_checksum(&whole).to_be_bytes());
        segment
    }

    /// A segment with the numbers that are due.
    pub fn segment(&self, flags: u8, data: &[u8]) -> Vec<u8> {
        self.forged(flags, self.seq, if flags & ACK == 0 { 0 } else { self.ack }, data)
    }

    /// A datagram, whose checksum is right.
    pub fn datagram(&self, data: &[u8]) -> Vec<u8> {
        self.packet(UDP, &self.bare_datagram(data))
    }

    /// The same without IP.
    pub fn bare_datagram(&self, data: &[u8]) -> Vec<u8> {
        let len = u16::try_from(8 + data.len()).unwrap_or(u16::MAX).to_be_bytes();
        let head = [self.ports.0.to_be_bytes(), self.ports.1.to_be_bytes(), len, [0, 0]].concat();
        let mut datagram = [&head[..], data].concat();
        let whole = [&self.ip.octets()[..], &self.vm.1.octets(), &[0, UDP], &len, &datagram].concat();
        datagram[6..8].copy_from_slice(&internet_checksum(&whole).to_be_bytes());
        datagram
    }

    /// An echo request.
    pub fn echo(&self, number: u16, data: &[u8]) -> Vec<u8> {
        self.packet(ICMP, &self.bare_echo(number, data))
    }

    /// The same without IP.
    pub fn bare_echo(&self, number: u16, data: &[u8]) -> Vec<u8> {
        let [high, low] = number.to_be_bytes();
        let mut message = [&[8, 0, 0, 0, 0x12, 0x34, high, low][..], data].concat();
        let sum = internet_checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }

    /// What the VM says to this host.
    pub fn packet_for_us(&self, frame: &[u8]) -> Option<Packet> {
        Packet::read(frame).filter(|packet| (packet.mac, packet.to) == (self.mac, self.ip) && packet.from == self.vm.1)
    }

    /// What the VM says on this connection, if it is a segment whose checksum is right.
    pub fn hear(&self, frame: &[u8]) -> Option<Heard> {
        let Packet { protocol: TCP, payload: segment, .. } = self.packet_for_us(frame)? else { return None };
        let word = |at: usize| Some(u16::from_be_bytes(*segment.get(at..)?.first_chunk()?));
        let long = |at: usize| Some(u32::from_be_bytes(*segment.get(at..)?.first_chunk()?));
        let len = u16::try_from(segment.len()).ok()?.to_be_bytes();
        let whole = [&self.vm.1.octets()[..], &self.ip.octets(), &[0, TCP], &len, &segment].concat();
        if (word(2)?, word(0)?) != self.ports || internet_checksum(&whole) != 0 {
            return None;
        }
        let data = segment.get(usize::from(segment.get(12)? >> 4) * 4..)?.to_vec();
        Some(Heard { flags: segment[13], seq: long(4)?, ack: long(8)?, data })
    }

    /// The first two thirds of a handshake have taken place: takes the VM's number, if that was the answer.
    pub fn accepts(&mut self, heard: &Heard) -> bool {
        let good = heard.flags & (SYN | ACK | RST) == SYN | ACK && heard.ack == self.seq.wrapping_add(1);
        if good {
            (self.seq, self.ack) = (heard.ack, heard.seq.wrapping_add(1));
        }
        good
    }

    /// Connects.
    pub fn connect(&mut self, cable: &Cable) -> Result<()> {
        let syn = self.segment(SYN, &[]);
        let heard = cable.ask("a SYN", &syn, |frame| self.hear(frame).filter(|heard| heard.flags & SYN != 0))?;
        ensure(self.accepts(&heard), || format!("the answer to a SYN is {heard:?}"))?;
        cable.send(&self.segment(ACK, &[]));
        Ok(())
    }

    /// Takes what a segment holds if it is what comes next, and acknowledges it.
    pub fn take(&mut self, cable: &Cable, heard: &Heard) -> Vec<u8> {
        let span = u32::try_from(heard.data.len()).unwrap_or(0) + u32::from(heard.flags & FIN != 0);
        if span == 0 {
            return Vec::new();
        }
        let next = heard.seq == self.ack;
        if next {
            self.ack = self.ack.wrapping_add(span);
        }
        cable.send(&self.segment(ACK, &[]));
        if next { heard.data.clone() } else { Vec::new() }
    }

    /// Asks for a document of this many bytes, and fails unless all of it comes.
    pub fn get(&mut self, cable: &Cable, path: &str, bytes: usize) -> Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: vm\r\n\r\n");
        let frame = self.segment(ACK, request.as_bytes());
        self.seq = self.seq.wrapping_add(u32::try_from(request.len()).unwrap_or(0));
        let mut answer = Vec::new();
        cable.ask(path, &frame, |frame| {
            let heard = self.hear(frame)?;
            answer.extend(self.take(cable, &heard));
            is_whole(&answer, bytes).then_some(())
        })
    }
}

/// True when this is a good answer with a document of so many bytes.
pub fn is_whole(answer: &[u8], bytes: usize) -> bool {
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n");
    head.is_some_and(|head| answer.starts_with(b"HTTP/1.1 200 ") && answer.len() == head + 4 + bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same frame as the VM would send it.
    fn mirrored(peer: &Peer, flags: u8, data: &[u8]) -> Vec<u8> {
        let mirror = Peer {
            mac: peer.vm.0,
            ip: peer.vm.1,
            ports: (peer.ports.1, peer.ports.0),
            vm: (peer.mac, peer.ip),
            ..peer.clone()
        };
        mirror.forged(flags, 7, 9, data)
    }

    #[test]
    fn segments_are_understood_and_damaged_ones_are_not() {
        let peer = Peer::new(300, ([2; 6], Ipv4Addr::new(10, 0, 2, 16)), 80);
        let frame = mirrored(&peer, ACK, b"hello");
        assert_eq!(peer.hear(&frame), Some(Heard { flags: ACK, seq: 7, ack: 9, data: b"hello".to_vec() }));
        assert_eq!(peer.hear(&peer.segment(ACK, b"hello")), None, "it goes the other way");
        for at in 0..frame.len() {
            let mut damaged = frame.clone();
            damaged[at] ^= 1;
            // Where it comes from on the wire is not in question.
            assert!(peer.hear(&damaged).is_none() || (6..12).contains(&at), "{at}");
            assert_eq!(peer.hear(&frame[..at]), None);
        }
        assert_eq!(internet_checksum(&peer.bare_echo(1, b"odd")), 0);
    }

    #[test]
    fn answers_are_whole_or_not() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert!(is_whole(answer, 3) && !is_whole(answer, 2) && !is_whole(&answer[..answer.len() - 1], 3));
        assert!(!is_whole(b"HTTP/1.1 503 No\r\n\r\nabc", 3) && !is_whole(b"", 0));
    }
}
