//! What hosts on the wire may say to a VM's TCP/IP beside what honest clients do, and hundreds of them at once.

use super::ensure;
use super::frames::{arp_request, ethernet, internet_checksum, ipv4};
use super::peer::{ACK, Cable, Heard, ICMP, Packet, Peer, RST, SYN, TCP, UDP, is_whole};
use crate::error::{Context, Result, fail};
use crate::machine::vm_mac;
use crate::net::FIRST_VM;
use crate::test::Case;
use crate::test::lab::{BOOT, Lab, Running};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    Case {
        name: "peers: neighbours",
        asserts: "300 hosts of one LAN, each with its own addresses, open connections at once, and each gets its document at its own",
        run: neighbours,
    },
    Case {
        name: "peers: silent neighbours",
        asserts: "hosts whose datagrams are answered beside 200 who do not say where they are wait for none of them; one who is silent is asked less and less",
        run: silent,
    },
    Case {
        name: "peers: blind segments",
        asserts: "resets in the window and SYNs of a live connection get a challenge, few of them, and the connection goes on; the exact reset ends it",
        run: blind,
    },
    Case {
        name: "peers: nothing old",
        asserts: "after thousands of bytes of a pattern in every slot, errors, echoes, resets and ARP replies are to the last byte what they should be",
        run: nothing_old,
    },
    Case {
        name: "peers: martians",
        asserts: "packets from addresses that no host has, LAND, without hops left, and TCP and echoes to all are dropped and counted, not answered",
        run: martians,
    },
    Case {
        name: "peers: pieces",
        asserts: "datagrams and echoes in pieces are answered, and those whose pieces overlap are not",
        run: in_pieces,
    },
    Case {
        name: "peers: probes",
        asserts: "TCP in pieces is not answered, probes of an idle connection are, within a second; a closed window is probed and opens",
        run: probes,
    },
];

/// Where the VM's web server, or whatever it serves, is.
const VM: Ipv4Addr = FIRST_VM;
/// The address of all hosts of [`start`]'s network.
const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(10, 0, 255, 255);
/// Long enough for an answer that shall not come.
const QUIET: Duration = Duration::from_millis(700);

/// A machine with these VMs in a network of 16 bits.
fn start(lab: &Lab, vms: &str) -> Result<Running> {
    lab.boot(&format!("vms={vms} net=10.0.2.16/16,gw=10.0.2.2")).start()
}

fn web_server(lab: &Lab) -> Result<Running> {
    let mut running = start(lab, "httpd")?;
    running.wait_for_services(BOOT)?;
    Ok(running)
}

fn echo_server(lab: &Lab) -> Result<Running> {
    let running = start(lab, "udp-echo")?;
    running.wait_for("udp-echo: serving ", BOOT)?;
    Ok(running)
}

fn peer(n: u16, port: u16) -> Peer {
    Peer::new(n, (vm_mac(0), VM), port)
}

fn neighbours(lab: &Lab) -> Result<()> {
    const HOSTS: u16 = 300;
    const REQUEST: &[u8] = b"GET /100b HTTP/1.1\r\nHost: vm\r\n\r\n";
    let running = web_server(lab)?;
    let cable = Cable::of(running.net()?);
    let mut hosts: Vec<(Peer, Vec<u8>)> = (0..HOSTS).map(|n| (peer(n, 80), Vec::new())).collect();
    // What each says until it has heard more: a SYN at first, its request once it is connected.
    let words = |host: &Peer| if host.ack == 0 { host.segment(SYN, &[]) } else { host.segment(ACK, REQUEST) };
    let began = Instant::now();
    let mut left = hosts.len();
    while left > 0 {
        for (host, answer) in hosts.iter().filter(|(_, answer)| !is_whole(answer, 100)) {
            ensure(began.elapsed() < Duration::from_secs(10), || {
                format!("{left} of {HOSTS} wait after 10 s, {} among them with {answer:?}", host.ip)
            })?;
            cable.send(&words(host));
        }
        let again = Instant::now() + Duration::from_secs(1);
        while left > 0
            && let Some(frame) = cable.next(again)
        {
            let Some((host, answer)) = hosts.iter_mut().find(|(host, _)| host.hear(&frame).is_some()) else { continue };
            let Some(heard) = host.hear(&frame) else { continue };
            ensure(heard.flags & RST == 0, || format!("{} is reset", host.ip))?;
            if host.ack == 0 && host.accepts(&heard) {
                cable.send(&words(host));
            } else if !heard.data.is_empty() && heard.seq == host.ack {
                answer.extend(&heard.data);
                let next = u32::try_from(heard.data.len()).unwrap_or(0);
                cable.send(&host.forged(ACK, heard.ack, heard.seq.wrapping_add(next), &[]));
                left -= usize::from(is_whole(answer, 100));
            }
        }
    }
    // Whatever else they ask is answered there, too.
    cable.falls_silent();
    for (host, _) in hosts.iter().step_by(10) {
        let mac = cable.ask("an echo", &host.echo(1, b"x"), |frame| {
            Packet::read(frame)
                .filter(|packet| packet.to == host.ip && packet.protocol == ICMP)
                .map(|packet| packet.mac)
        })?;
        ensure(mac == host.mac, || format!("the echo for {} went to {mac:x?}", host.ip))?;
    }
    running.power_off()
}

/// The address that is asked for, if this is a question of ARP's.
fn asked(frame: &[u8]) -> Option<Ipv4Addr> {
    let is_question = frame.get(12..14) == Some(&[8, 6]) && frame.get(20..22) == Some(&[0, 1]);
    is_question.then(|| frame.get(38..)?.first_chunk::<4>().copied()).flatten().map(Ipv4Addr::from)
}

/// The answer to that question.
fn arp_reply(host: &Peer) -> Vec<u8> {
    let body = [&[0, 1, 8, 0, 6, 4, 0, 2][..], &host.mac, &host.ip.octets(), &host.vm.0, &host.vm.1.octets()].concat();
    ethernet(host.vm.0, host.mac, 0x0806, &body)
}

/// Has all `speakers` send a datagram each second, a few at a time, until it comes back; those for whom `answers` is true say where they are when they
/// are asked. Fails unless all of these have it back in the end. Who was asked for, and when.
fn talk(
    cable: &Cable,
    speakers: &[Peer],
    answers: impl Fn(usize) -> bool,
    seconds: u64,
) -> Result<Vec<(Ipv4Addr, Duration)>> {
    let began = Instant::now();
    let number = |ip: Ipv4Addr| speakers.iter().position(|speaker| speaker.ip == ip);
    let mut echoed = vec![false; speakers.len()];
    let mut questions = Vec::new();
    for round in 0..seconds {
        let mut next = 0;
        for step in 0..10 {
            // No more at once than wait for a socket.
            for (speaker, _) in speakers[next..].iter().zip(&echoed[next..]).take(25).filter(|(_, echoed)| !**echoed) {
                cable.send(&speaker.datagram(b"who is there?"));
            }
            next = (next + 25).min(speakers.len());
            let until = began + Duration::from_secs(round) + Duration::from_millis(100 * (step + 1));
            while let Some(frame) = cable.next(until) {
                if let Some(address) = asked(&frame) {
                    questions.push((address, began.elapsed()));
                    if let Some(index) = number(address).filter(|&index| answers(index)) {
                        cable.send(&arp_reply(&speakers[index]));
                    }
                } else if let Some(packet) = Packet::read(&frame).filter(|packet| packet.protocol == UDP)
                    && let Some(index) = number(packet.to)
                {
                    ensure(packet.mac == speakers[index].mac, || format!("what is for {} went elsewhere", packet.to))?;
                    echoed[index] = true;
                }
            }
        }
    }
    let waits = (0..speakers.len()).filter(|&index| answers(index) && !echoed[index]).count();
    ensure(waits == 0, || format!("{waits} that answer questions for them heard nothing in {seconds} s"))?;
    Ok(questions)
}

fn silent(lab: &Lab) -> Result<()> {
    let running = echo_server(lab)?;
    let cable = Cable::of(running.net()?);
    // Few: each is asked after 1, 2 and 4 s, and then every 16 s.
    let few: Vec<Peer> = (0..60).map(|n| peer(n, 7)).collect();
    let questions = talk(&cable, &few, |n| n % 6 != 0, 10)?;
    for quiet in few.iter().step_by(6) {
        let times: Vec<Duration> = questions.iter().filter(|(ip, _)| *ip == quiet.ip).map(|(_, at)| *at).collect();
        ensure((2..=4).contains(&times.len()), || format!("{} was asked for at {times:?} in 10 s", quiet.ip))?;
        let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        ensure(gaps.is_sorted(), || format!("{} was asked for at {times:?}, not less and less", quiet.ip))?;
    }
    // More than can be asked for at once, and they do not stop.
    let many: Vec<Peer> = (100..350).map(|n| peer(n, 7)).collect();
    talk(&cable, &many, |n| n % 5 == 0, 10)?;
    running.power_off()
}

fn blind(lab: &Lab) -> Result<()> {
    let running = web_server(lab)?;
    let cable = Cable::of(running.net()?);
    let mut client = peer(1, 80);
    client.connect(&cable)?;
    client.get(&cable, "/100b", 100)?;
    cable.falls_silent();
    // How far from the number that is due each of them is.
    let kinds: [(&str, u8, u32); 5] = [
        ("a reset in the window", RST, 1),
        ("a reset at the window's end", RST, 2000),
        ("a SYN in the window", SYN, 10),
        ("a SYN with the next number", SYN, 0),
        ("a SYN from far away", SYN, 0x4000_0000),
    ];
    for (what, flags, off) in kinds {
        for _ in 0..100 {
            cable.send(&client.forged(flags, client.seq.wrapping_add(off), 0, &[]));
        }
        let heard: Vec<Heard> = cable.all_within(QUIET).iter().filter_map(|frame| client.hear(frame)).collect();
        // What is expected of the peer, and hardly ever.
        let is_challenge = |heard: &Heard| (heard.flags, heard.seq, heard.ack) == (ACK, client.ack, client.seq);
        ensure((1..=3).contains(&heard.len()) && heard.iter().all(is_challenge), || {
            format!("a hundred times {what} was answered with {heard:x?}")
        })?;
        client.get(&cable, "/100b", 100).context(|| format!("after {what}"))?;
    }
    cable.send(&client.forged(RST, client.seq.wrapping_add(0x4000_0000), 0, &[]));
    client.get(&cable, "/100b", 100).context(|| "after a reset from far away".into())?;
    cable.send(&client.forged(RST, client.seq, 0, &[]));
    let after = cable.ask("a segment after the reset", &client.segment(ACK, b"x"), |frame| client.hear(frame))?;
    ensure(after.flags & RST != 0, || format!("after the exact reset: {after:x?}"))?;
    running.power_off()
}

/// Sends so many bytes of a pattern that every slot that the VM receives in or sends from has held nothing else.
fn fill(cable: &Cable, by: &Peer, pattern: u8) -> Result<()> {
    // More than either ring has slots, a few at a time, so that none is lost.
    for number in 0..288_u16 {
        cable.send(&by.echo(number, &[pattern; 1400]));
        if number % 16 == 15 {
            cable.ask("an echo", &by.echo(number, &[pattern; 1400]), |frame| {
                by.packet_for_us(frame).filter(|packet| packet.payload.get(6..8) == Some(&number.to_be_bytes()))
            })?;
        }
    }
    cable.falls_silent();
    Ok(())
}

/// A question, and what the answer has behind the headers of Ethernet and IPv4, where that is known to the last byte.
struct Question {
    what: &'static str,
    frame: Vec<u8>,
    protocol: u8,
    answer: Option<Vec<u8>>,
}

/// An ICMP message with its checksum.
fn message(kind: [u8; 2], rest: &[u8]) -> Vec<u8> {
    let mut message = [&kind[..], &[0, 0], rest].concat();
    let sum = internet_checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

fn questions(asker: &Peer) -> Vec<Question> {
    let nobody = Peer { ports: (asker.ports.0, 9), ..asker.clone() };
    let echo = |what, data: &[u8]| Question {
        what,
        frame: asker.echo(7, data),
        protocol: ICMP,
        answer: Some(message([0, 0], &[&[0x12, 0x34, 0, 7], data].concat())),
    };
    let unreachable = |what, data: &[u8]| {
        let frame = nobody.datagram(data);
        // As much as fits into 576 bytes (RFC 1812 4.3.2.3), unchanged.
        let quoted = &frame[14..frame.len().min(14 + 548)];
        let answer = message([3, 3], &[&[0; 4], quoted].concat());
        Question { what, frame, protocol: ICMP, answer: Some(answer) }
    };
    let segment = |what, frame| Question { what, frame, protocol: TCP, answer: None };
    vec![
        echo("an empty echo", &[]),
        echo("an echo of one byte", &[1]),
        echo("an echo of 56 bytes", &[2; 56]),
        unreachable("an empty datagram for nobody", &[]),
        unreachable("a datagram of one byte for nobody", &[3]),
        unreachable("a long datagram for nobody", &[4; 1400]),
        segment("a SYN for nobody", nobody.segment(SYN, &[])),
        segment("an acknowledgement for nobody", nobody.segment(ACK, &[])),
        segment("a SYN", asker.segment(SYN, &[])),
    ]
}

fn nothing_old(lab: &Lab) -> Result<()> {
    let running = web_server(lab)?;
    let cable = Cable::of(running.net()?);
    let asker = peer(9, 80);
    cable.send(&arp_request(asker.mac, asker.ip, VM));
    for pattern in [0xa5, 0x5a] {
        let is_clean = |what: &str, bytes: &[u8]| {
            // A cookie may have such a byte, and hardly three in a row.
            let old = bytes.windows(3).position(|bytes| bytes.iter().all(|&byte| byte == pattern));
            ensure(old.is_none(), || format!("the answer to {what} has old bytes: {bytes:02x?}"))
        };
        // Each answer takes the next slot.
        fill(&cable, &asker, pattern)?;
        for question in questions(&asker) {
            let (whole, packet) = cable.ask(question.what, &question.frame, |frame| {
                let packet = asker.packet_for_us(frame).filter(|packet| packet.protocol == question.protocol)?;
                Some((frame.to_vec(), packet))
            })?;
            is_clean(question.what, &whole)?;
            ensure(question.answer.as_ref().is_none_or(|answer| *answer == packet.payload), || {
                format!(
                    "the answer to {} is {:02x?} instead of {:02x?}",
                    question.what, packet.payload, question.answer
                )
            })?;
            let padding = whole.get(34 + packet.payload.len()..).unwrap_or_default();
            ensure(padding.iter().all(|&byte| byte == 0), || {
                format!("behind the answer to {}: {padding:02x?}", question.what)
            })?;
        }
        let reply = cable.ask("ARP", &arp_request(asker.mac, asker.ip, VM), |frame| {
            (frame.get(12..14) == Some(&[8, 6]) && frame.get(..6) == Some(&asker.mac)).then(|| frame.to_vec())
        })?;
        is_clean("ARP", &reply)?;
        ensure(reply[42..].iter().all(|&byte| byte == 0), || format!("behind ARP's answer: {:02x?}", &reply[42..]))?;
    }
    running.power_off()
}

/// What the server has refused so far.
fn refused(running: &Running) -> Result<u64> {
    let text = String::from_utf8_lossy(&running.get(0, "/status")?.body).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("net_refused_frames: "));
    match line.and_then(|number| number.trim().parse().ok()) {
        Some(number) => Ok(number),
        None => fail!("no net_refused_frames in {text}"),
    }
}

fn martians(lab: &Lab) -> Result<()> {
    let running = web_server(lab)?;
    let cable = Cable::of(running.net()?);
    let host = peer(5, 80);
    cable.send(&arp_request(host.mac, host.ip, VM));
    let (vm, all) = (vm_mac(0), [0xff; 6]);
    // A SYN, whose sums are right.
    let syn = |mac: [u8; 6], from: Ipv4Addr, to: Ipv4Addr| {
        let segment = host.bare_segment((from, to), SYN, (1, 0), &[]);
        ethernet(mac, host.mac, 0x0800, &ipv4(from, to, TCP, 0, &segment))
    };
    let echo = |mac: [u8; 6], from: Ipv4Addr, to: Ipv4Addr| {
        ethernet(mac, host.mac, 0x0800, &ipv4(from, to, ICMP, 0, &host.bare_echo(1, b"hello")))
    };
    let without_hops = |mut frame: Vec<u8>| {
        frame[22] = 0;
        frame[24..26].fill(0);
        let sum = internet_checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    };
    let land = Peer { ports: (80, 80), ..host.clone() }.bare_segment((VM, VM), SYN, (1, 0), &[]);
    let frames: Vec<(&str, bool, Vec<u8>)> = vec![
        ("a SYN from 127.0.0.1", true, syn(vm, Ipv4Addr::LOCALHOST, VM)),
        ("an echo from 127.0.0.1", true, echo(vm, Ipv4Addr::LOCALHOST, VM)),
        ("a SYN from a group", true, syn(vm, Ipv4Addr::new(224, 0, 0, 1), VM)),
        ("a SYN from the reserved addresses", true, syn(vm, Ipv4Addr::new(240, 0, 0, 1), VM)),
        ("a SYN from everybody", true, syn(vm, Ipv4Addr::BROADCAST, VM)),
        ("an echo from all hosts of the network", true, echo(vm, ALL_HOSTS, VM)),
        ("LAND", true, ethernet(vm, host.mac, 0x0800, &ipv4(VM, VM, TCP, 0, &land))),
        ("an echo from the VM itself", true, echo(vm, VM, VM)),
        ("a SYN without hops left", true, without_hops(syn(vm, host.ip, VM))),
        ("an echo without hops left", true, without_hops(echo(vm, host.ip, VM))),
        // The demultiplexer may keep these from the VM, so they need not be counted there.
        ("a SYN in a broadcast frame", false, syn(all, host.ip, VM)),
        ("a SYN to all hosts of the network", false, syn(all, host.ip, ALL_HOSTS)),
        ("a SYN to everybody in a frame for the VM", true, syn(vm, host.ip, Ipv4Addr::BROADCAST)),
        ("an echo to all hosts of the network", false, echo(all, host.ip, ALL_HOSTS)),
        ("an echo to everybody", false, echo(all, host.ip, Ipv4Addr::BROADCAST)),
        ("an echo to the group of all hosts", false, echo([1, 0, 0x5e, 0, 0, 1], host.ip, Ipv4Addr::new(224, 0, 0, 1))),
    ];
    // The same from a host that there is, for the VM alone, is answered.
    cable.ask("an honest SYN", &syn(vm, host.ip, VM), |frame| host.packet_for_us(frame))?;
    cable.ask("an honest echo", &echo(vm, host.ip, VM), |frame| host.packet_for_us(frame))?;
    cable.falls_silent();
    let before = refused(&running)?;
    cable.falls_silent();
    let mut counted = 0;
    for (what, is_counted, frame) in &frames {
        for _ in 0..3 {
            cable.send(frame);
            counted += u64::from(*is_counted);
        }
        let said = cable.all_within(QUIET);
        ensure(said.is_empty(), || format!("{what} is answered with {said:02x?}"))?;
    }
    let after = refused(&running)?;
    ensure(after >= before + counted, || format!("{} of {counted} were counted as refused", after - before))?;
    ensure(running.get(0, "/100b")?.status == 200, || "it does not serve afterwards".into())?;
    running.power_off()
}

/// A datagram or message in pieces of so many bytes, the last one first.
fn pieces(host: &Peer, protocol: u8, payload: &[u8], size: usize) -> Vec<Vec<u8>> {
    let count = payload.len().div_ceil(size);
    let piece = |(index, bytes): (usize, &[u8])| {
        let offset = u16::try_from(index * size / 8).unwrap_or(0);
        let more = if index + 1 < count { 0x2000 } else { 0 };
        ethernet(host.vm.0, host.mac, 0x0800, &ipv4(host.ip, host.vm.1, protocol, offset | more, bytes))
    };
    let mut all: Vec<_> = payload.chunks(size).enumerate().map(piece).collect();
    all.reverse();
    all
}

fn in_pieces(lab: &Lab) -> Result<()> {
    let running = echo_server(lab)?;
    let cable = Cable::of(running.net()?);
    let host = peer(5, 7);
    cable.send(&arp_request(host.mac, host.ip, VM));
    let text: Vec<u8> = (0..1400_u16).map(|n| n.to_be_bytes()[1]).collect();
    let ask = |what, protocol, pieces: Vec<Vec<u8>>, wanted: &dyn Fn(&Packet) -> bool| {
        let (last, others) = pieces.split_last().ok_or("no pieces")?;
        others.iter().for_each(|piece| cable.send(piece));
        cable.ask(what, last, |frame| {
            host.packet_for_us(frame).filter(|packet| packet.protocol == protocol && wanted(packet))
        })
    };
    ask("a datagram in pieces", UDP, pieces(&host, UDP, &host.bare_datagram(&text), 512), &|packet| {
        packet.payload[8..] == text
    })?;
    ask("an echo in pieces", ICMP, pieces(&host, ICMP, &host.bare_echo(3, &text), 512), &|packet| {
        packet.payload[8..] == text
    })?;
    // A piece that lies upon others spoils the datagram.
    let mut spoilt = pieces(&host, UDP, &host.bare_datagram(&[7; 1000]), 512);
    let mut upon = spoilt[0].clone();
    upon[20..22].copy_from_slice(&0x2020_u16.to_be_bytes());
    upon[24..26].fill(0);
    let sum = internet_checksum(&upon[14..34]);
    upon[24..26].copy_from_slice(&sum.to_be_bytes());
    spoilt.insert(1, upon);
    spoilt.iter().for_each(|piece| cable.send(piece));
    let said = cable.all_within(QUIET);
    let echoed = |frame: &Vec<u8>| host.packet_for_us(frame).is_some_and(|packet| packet.protocol == UDP);
    ensure(!said.iter().any(echoed), || "a datagram whose pieces overlap came back".into())?;
    running.power_off()
}

fn probes(lab: &Lab) -> Result<()> {
    let running = web_server(lab)?;
    let cable = Cable::of(running.net()?);
    // A SYN in pieces opens nothing.
    let host = peer(6, 80);
    let syn = host.bare_segment((host.ip, VM), SYN, (1, 0), &[]);
    pieces(&host, TCP, &syn, 16).iter().for_each(|piece| cable.send(piece));
    let said: Vec<Heard> = cable.all_within(QUIET).iter().filter_map(|frame| host.hear(frame)).collect();
    ensure(said.is_empty(), || format!("a SYN in pieces is answered: {said:?}"))?;
    // Whether it is there (RFC 9293 3.8.4), with and without a byte that was had before.
    let mut client = peer(7, 80);
    client.connect(&cable)?;
    client.get(&cable, "/100b", 100)?;
    cable.falls_silent();
    for old in [&[][..], b"x"] {
        let asked = Instant::now();
        let probe = client.forged(ACK, client.seq.wrapping_sub(1), client.ack, old);
        let heard = cable.ask("a probe", &probe, |frame| client.hear(frame))?;
        ensure((heard.flags, heard.seq, heard.ack) == (ACK, client.ack, client.seq), || {
            format!("a probe gets {heard:?}")
        })?;
        ensure(asked.elapsed() < Duration::from_secs(1), || format!("a probe waited {:?}", asked.elapsed()))?;
    }
    closed_window(&cable)?;
    running.power_off()
}

/// A client that takes 600 bytes, then nothing for a while, and then everything.
fn closed_window(cable: &Cable) -> Result<()> {
    let mut client = peer(8, 80);
    client.window = 600;
    client.connect(cable)?;
    let request = b"GET /2258b HTTP/1.1\r\nHost: vm\r\n\r\n";
    let frame = client.segment(ACK, request);
    client.seq = client.seq.wrapping_add(u32::try_from(request.len()).unwrap_or(0));
    let mut answer = Vec::new();
    cable.ask("a request with a small window", &frame, |frame| {
        let heard = client.hear(frame).filter(|heard| !heard.data.is_empty() && heard.seq == client.ack)?;
        answer.extend(&heard.data);
        client.ack = client.ack.wrapping_add(u32::try_from(heard.data.len()).unwrap_or(0));
        client.window = 600_u16.saturating_sub(u16::try_from(answer.len()).unwrap_or(u16::MAX));
        cable.send(&client.segment(ACK, &[]));
        (answer.len() >= 600).then_some(())
    })?;
    ensure(answer.len() == 600, || format!("{} bytes came into a window of 600", answer.len()))?;
    // Probes of a byte come, less and less often, and nothing else (RFC 9293 3.8.6.1).
    let began = Instant::now();
    let mut probes = Vec::new();
    while let Some(frame) = cable.next(began + Duration::from_secs(8)) {
        if let Some(heard) = client.hear(&frame) {
            let off = heard.seq.wrapping_sub(client.ack).cast_signed();
            probes.push((began.elapsed(), heard.flags, off, heard.data.len()));
            cable.send(&client.segment(ACK, &[]));
        }
    }
    let is_probe = |&(_, flags, off, len): &(Duration, u8, i32, usize)| flags & RST == 0 && off <= 0 && len <= 1;
    ensure((2..=8).contains(&probes.len()) && probes.iter().all(is_probe), || {
        format!("in 8 s there came into a closed window (when, flags, how far from what is due, bytes): {probes:?}")
    })?;
    client.window = 0xffff;
    cable.ask("an open window", &client.segment(ACK, &[]), |frame| {
        let heard = client.hear(frame)?;
        answer.extend(client.take(cable, &heard));
        is_whole(&answer, 2258).then_some(())
    })
}
