//! Hosts far away, and what lies on the way to them, whose frames are made by hand: time, floods, and links that swallow what is large.

use super::ensure;
use super::frames::arp_request;
use super::peer::{ACK, Cable, Heard, Peer, RST, SYN, is_whole};
use crate::error::Result;
use crate::machine::vm_mac;
use crate::net::FIRST_VM;
use crate::test::Case;
use crate::test::lab::{BOOT, Lab, Running};
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    Case {
        name: "peers: far clients in a flood",
        asserts: "beside 10,000 SYNs a second from everywhere, all of 100 clients that are 100 ms away get their documents, and none sees a reset",
        run: flood,
    },
    Case {
        name: "peers: black hole",
        asserts: "clients behind a link that swallows packets of more than 1,300 bytes, or 600, and says nothing, get documents of 2,258 and 102,400 bytes within five seconds",
        run: black_hole,
    },
];

/// How long what a far host says is on its way.
const WAY: Duration = Duration::from_millis(100);
/// SYNs in each millisecond.
const SYNS: u32 = 10;
const CLIENTS: u16 = 100;
const REQUEST: &[u8] = b"GET /2258b HTTP/1.1\r\nHost: vm\r\n\r\n";
/// How long all of it may take: the machine may have a part of a processor.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a document may take where the path swallows two sizes, of which each is waited for: 1 and 2 s for the first, and 1 s for the second.
const FOUND: Duration = Duration::from_secs(5);
/// After which a client says again what was not answered, for the first time; it doubles.
const AGAIN: Duration = Duration::from_secs(1);

fn start(lab: &Lab) -> Result<Running> {
    let mut running = lab.boot("vms=httpd net=10.0.2.16/16,gw=10.0.2.2").start()?;
    running.wait_for_services(BOOT)?;
    Ok(running)
}

fn peer(n: u16) -> Peer {
    Peer { largest: Some(1460), ..Peer::new(n, (vm_mac(0), FIRST_VM), 80) }
}

/// One that connects, asks, and takes what comes.
struct Client {
    peer: Peer,
    answer: Vec<u8>,
    /// When it says again what it said last, how long it waits then, and how often it has.
    again: Instant,
    patience: Duration,
    repeats: u32,
}

impl Client {
    fn new(peer: Peer, now: Instant) -> Client {
        Client { peer, answer: Vec::new(), again: now, patience: AGAIN, repeats: 0 }
    }

    fn is_done(&self) -> bool {
        is_whole(&self.answer, 2258)
    }

    /// What it has to say until it has heard more.
    fn words(&self) -> Vec<u8> {
        if self.peer.ack == 0 {
            self.peer.segment(SYN, &[])
        } else if self.answer.is_empty() {
            self.peer.segment(ACK, REQUEST)
        } else {
            let next = Peer {
                seq: self.peer.seq.wrapping_add(u32::try_from(REQUEST.len()).unwrap_or(0)),
                ..self.peer.clone()
            };
            next.segment(ACK, &[])
        }
    }

    /// What it says to a segment.
    fn hear(&mut self, heard: &Heard, now: Instant) -> Option<Vec<u8>> {
        (self.again, self.patience) = (now + AGAIN, AGAIN);
        if self.peer.ack == 0 {
            return self.peer.accepts(heard).then(|| self.words());
        }
        if heard.data.is_empty() {
            return None;
        }
        if heard.seq == self.peer.ack {
            self.answer.extend(&heard.data);
            self.peer.ack = self.peer.ack.wrapping_add(u32::try_from(heard.data.len()).unwrap_or(0));
        }
        Some(self.words())
    }
}

/// A SYN of nobody's, the `n`th.
fn nobody(n: u32) -> Vec<u8> {
    // All addresses from 11.0.0.0 on, one after another in a strange order, with another port each.
    let ip = Ipv4Addr::from_bits(0x0b00_0000 + (n.wrapping_mul(0x9e37_79b1) >> 4));
    let [high, low, ..] = n.wrapping_mul(0x85eb_ca6b).to_be_bytes();
    let port = u16::from_be_bytes([high, low]) | 1024;
    Peer { ip, mac: [2, 0x99, 1, 0, 0, 1], ports: (port, 80), seq: n.wrapping_mul(77), ..peer(0) }.segment(SYN, &[])
}

fn flood(lab: &Lab) -> Result<()> {
    let running = start(lab)?;
    let cable = Cable::of(running.net()?);
    let began = Instant::now();
    // They come one after another while the flood goes on.
    let mut clients: Vec<Client> =
        (1..=CLIENTS).map(|n| Client::new(peer(n), began + Duration::from_millis(50 * u64::from(n)))).collect();
    let mut on_the_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut syns = 0;
    while clients.iter().any(|client| !client.is_done()) {
        let now = Instant::now();
        let waits = clients.iter().filter(|client| !client.is_done()).count();
        ensure(now < began + PATIENCE, || format!("{waits} of {CLIENTS} wait after {PATIENCE:?} and {syns} SYNs"))?;
        let due = u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX).saturating_mul(SYNS);
        while syns < due {
            cable.send(&nobody(syns));
            syns += 1;
        }
        while let Some((_, frame)) = on_the_way.pop_front_if(|(at, _)| *at <= now) {
            cable.send(&frame);
        }
        for client in clients.iter_mut().filter(|client| !client.is_done() && client.again <= now) {
            on_the_way.push_back((now + WAY, client.words()));
            client.repeats += 1;
            (client.again, client.patience) = (now + client.patience, client.patience * 2);
        }
        let end = now + Duration::from_millis(1);
        while Instant::now() < end
            && let Some(frame) = cable.next(end)
        {
            // Most are answers to nobody.
            let to = |client: &&mut Client| frame.get(30..34) == Some(&client.peer.ip.octets());
            let Some(client) = clients.iter_mut().find(to) else { continue };
            let Some(heard) = client.peer.hear(&frame) else { continue };
            if client.is_done() {
                continue;
            }
            ensure(heard.flags & RST == 0, || format!("{} is reset", client.peer.ip))?;
            if let Some(words) = client.hear(&heard, now) {
                on_the_way.push_back((now + WAY, words));
            }
        }
    }
    let repeats: u32 = clients.iter().map(|client| client.repeats - 1).sum();
    let rate = f64::from(syns) / began.elapsed().as_secs_f64();
    println!("{CLIENTS} clients beside {rate:.0} SYNs a second: {repeats} words said again");
    ensure(rate > 9_000.0, || format!("only {rate:.0} SYNs a second"))?;
    running.must_not_say(0, " ended: ")?;
    running.power_off()
}

fn black_hole(lab: &Lab) -> Result<()> {
    let running = start(lab)?;
    let cable = Cable::of(running.net()?);
    for (n, most) in [(1, 1300), (2, 600)] {
        for (turn, (path, bytes)) in [("/2258b", 2258), ("/100k", 102_400)].into_iter().enumerate() {
            // The second one comes from another host, which is told nothing of what was found out.
            let mut client = peer(n * 10 + u16::try_from(turn).unwrap_or(0));
            cable.send(&arp_request(client.mac, client.ip, FIRST_VM));
            client.connect(&cable)?;
            let request = client.segment(ACK, format!("GET {path} HTTP/1.1\r\nHost: vm\r\n\r\n").as_bytes());
            let began = Instant::now();
            let (mut answer, mut swallowed) = (Vec::new(), 0);
            cable.send(&request);
            client.seq = client.seq.wrapping_add(u32::try_from(request.len() - 54).unwrap_or(0));
            while !is_whole(&answer, bytes) {
                let what =
                    || format!("{} bytes of {path} came through {most}, {swallowed} packets did not", answer.len());
                ensure(began.elapsed() < FOUND, what)?;
                let Some(frame) = cable.next(Instant::now() + AGAIN) else { continue };
                let Some(heard) = client.hear(&frame) else { continue };
                if frame.len() - 14 > most {
                    swallowed += 1;
                    continue;
                }
                ensure(heard.flags & RST == 0, || format!("{path} through {most}: reset"))?;
                answer.extend(client.take(&cable, &heard));
            }
            println!("{path} through {most}: {:?}, {swallowed} swallowed", began.elapsed());
            ensure(swallowed > 0, || format!("nothing of {path} was too large for {most}"))?;
        }
    }
    running.power_off()
}
