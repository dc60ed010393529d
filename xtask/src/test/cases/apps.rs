//! Guests beside the web server: one that asks another VM, and one that sends datagrams back.

use super::ensure;
use crate::error::{Context, Result, fail};
use crate::machine::vm_mac;
use crate::manifest::model::{Port, Ready, System};
use crate::net::{FIRST_VM, HOST, HOST_MAC};
use crate::test::Case;
use crate::test::lab::{BOOT, Lab};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket,
    UdpRepr,
};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    Case { name: "apps: ask", asserts: "a VM fetches documents from a web server in another VM over TCP", run: ask },
    Case {
        name: "apps: ask the host",
        asserts: "a VM's connections to the gateway reach a server on the host's loopback interface, by address and by name",
        run: ask_the_host,
    },
    Case {
        name: "apps: ask by name",
        asserts: "a VM asks the server that DHCP or its arguments name for another VM's address",
        run: ask_by_name,
    },
    Case { name: "apps: udp-echo", asserts: "a VM sends datagrams back as they were", run: udp_echo },
    Case { name: "apps: ready", asserts: "VMs are ready by every kind of sign, and not before", run: ready },
    Case {
        name: "apps: never ready",
        asserts: "a refused image and a port where nobody listens are named with the reason",
        run: never_ready,
    },
];

fn ask(lab: &Lab) -> Result<()> {
    let running = lab.boot("vms=httpd,ask").start()?;
    let lines = running.wait_for_lines(3, "ask: 10.0.2.16:80/100b: 200, 100 bytes", BOOT)?;
    ensure(lines.len() == 3, || format!("{lines:?}"))?;
    running.must_not_say(0, "ERROR")?;
    running.power_off()
}

fn ask_the_host(lab: &Lab) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context(|| "cannot listen".into())?;
    let port = listener.local_addr().context(|| "the listener has no address".into())?.port();
    // For as long as this process runs; each client asks once, and takes the end for the answer's.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let answer =
                [&b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\n"[..], &[b'x'; 100]].concat();
            // Whoever does not hear it says so.
            let _ = stream.read(&mut [0; 1024]).and_then(|_| stream.write_all(&answer));
        }
    });
    for (host, net) in [("10.0.2.2", ""), ("host.foraker.internal", " net=dhcp")] {
        let running = lab
            .boot(&format!("vms=ask{net}"))
            .system(move |system| {
                for image in system.image.iter_mut().filter(|image| image.name == "ask") {
                    image.args = format!("server={host}:{port}");
                }
            })
            .start()?;
        running.wait_for_lines(3, &format!("ask: {host}:{port}/100b: 200, 100 bytes"), BOOT)?;
        running.power_off()?;
    }
    Ok(())
}

fn ask_by_name(lab: &Lab) -> Result<()> {
    // A second server is asked where the first one, which does not exist, says nothing.
    for (arguments, net) in [("dns=10.0.2.99,10.0.2.2", ""), ("", " net=dhcp")] {
        let running = lab
            .boot(&format!("vms=httpd,ask{net}"))
            .system(move |system| {
                for image in system.image.iter_mut().filter(|image| image.name == "ask") {
                    image.args = format!("server=vm1.foraker.internal:80 {arguments}");
                }
            })
            .start()?;
        running.wait_for_lines(3, "ask: vm1.foraker.internal:80/100b: 200, 100 bytes", BOOT)?;
        running.must_not_say(0, "ERROR")?;
        running.power_off()?;
    }
    Ok(())
}

fn udp_echo(lab: &Lab) -> Result<()> {
    let running = lab.boot("vms=udp-echo").start()?;
    running.wait_for("udp-echo: serving 10.0.2.16 port 7", BOOT)?;
    let net = running.net()?;
    let frames = net.watch();
    for text in [&b"hello"[..], b"", &[7; 1472]] {
        // The first one may be lost while the VM asks for our MAC.
        let end = Instant::now() + Duration::from_secs(20);
        let mut echoed = None;
        while echoed.is_none() && Instant::now() < end {
            net.inject(&datagram(text));
            let patience = Instant::now() + Duration::from_secs(1);
            while echoed.is_none()
                && let Ok(frame) = frames.recv_timeout(patience.saturating_duration_since(Instant::now()))
            {
                echoed = payload(&frame).filter(|payload| payload == text);
            }
        }
        if echoed.is_none() {
            fail!("a datagram of {} bytes did not come back", text.len());
        }
    }
    running.power_off()
}

/// Changes when VMs of the image `name` are ready.
fn sign(system: &mut System, name: &str, ready: Option<Ready>) {
    system.image.iter_mut().filter(|image| image.name == name).for_each(|image| image.ready = ready.clone());
}

fn ready(lab: &Lab) -> Result<()> {
    let mut running = lab
        .boot("vms=httpd,asm-guest,udp-echo,hostile")
        .system(|system| {
            sign(system, "httpd", Some(Ready::Tcp(80)));
            sign(system, "udp-echo", None);
        })
        .start()?;
    running.wait_until_ready(BOOT)?;
    // Whoever has ended after its sign was ready, the others run.
    running.wait_for("asm-guest: all ", Duration::ZERO)?;
    running.wait_for("httpd: serving", Duration::ZERO)?;
    running.wait_for("monitor: vm index=2 incarnation=1 image=udp-echo", Duration::ZERO)?;
    running.power_off()
}

fn never_ready(lab: &Lab) -> Result<()> {
    let mut running = lab.boot("vms=asm-guest,httpd*2").module("httpd", b"no program".to_vec()).start()?;
    let error = refusal(running.wait_until_ready(BOOT))?;
    ensure(error.contains("the image httpd of 2 VMs is refused: its module is refused: "), || error.clone())?;
    let mut running = lab
        .boot("vms=httpd*2")
        .system(|system| {
            for image in system.image.iter_mut().filter(|image| image.name == "httpd") {
                (image.ports, image.ready) = (vec![Port::tcp(81)], Some(Ready::Tcp(81)));
            }
        })
        .start()?;
    running.wait_for_lines(2, "httpd: serving", BOOT)?;
    let error = refusal(running.wait_until_ready(Duration::from_secs(5)))?;
    for word in
        ["2 of 2 VMs are not ready 5 s after", "VM 1 (httpd): the VM does not take the connection to 127.0.0.1:"]
    {
        ensure(error.contains(word), || format!("no \"{word}\" in: {error}"))?;
    }
    running.power_off()
}

fn refusal(result: Result<()>) -> Result<String> {
    match result {
        Ok(()) => fail!("all VMs count as ready"),
        Err(error) => Ok(error.to_string()),
    }
}

/// A datagram from the host's port 5000 to the first VM's port 7.
fn datagram(payload: &[u8]) -> Vec<u8> {
    let udp = UdpRepr { src_port: 5000, dst_port: 7 };
    let ip = Ipv4Repr {
        src_addr: HOST,
        dst_addr: FIRST_VM,
        next_header: IpProtocol::Udp,
        payload_len: udp.header_len() + payload.len(),
        hop_limit: 64,
    };
    let header = EthernetRepr {
        src_addr: EthernetAddress(HOST_MAC),
        dst_addr: EthernetAddress(vm_mac(0)),
        ethertype: EthernetProtocol::Ipv4,
    };
    let sums = ChecksumCapabilities::default();
    let mut bytes = vec![0; header.buffer_len() + ip.buffer_len() + ip.payload_len];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    header.emit(&mut frame);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet, &sums);
    let mut segment = UdpPacket::new_unchecked(packet.payload_mut());
    let put = |space: &mut [u8]| space.copy_from_slice(payload);
    udp.emit(&mut segment, &HOST.into(), &FIRST_VM.into(), payload.len(), put, &sums);
    bytes
}

/// What a datagram from the first VM's port 7 to the host's port 5000 holds.
fn payload(frame: &[u8]) -> Option<Vec<u8>> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let packet =
        Ipv4Packet::new_checked(frame.payload()).ok().filter(|packet| packet.next_header() == IpProtocol::Udp)?;
    let segment = UdpPacket::new_checked(packet.payload()).ok()?;
    let ours = (segment.src_port(), segment.dst_port()) == (7, 5000);
    let whole = segment.verify_checksum(&packet.src_addr().into(), &packet.dst_addr().into());
    (ours && whole).then(|| segment.payload().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_one() {
        assert_eq!(payload(&datagram(b"hello")), None, "it goes the other way");
        let frame = datagram(b"hello");
        let packet = Ipv4Packet::new_checked(&frame[14..]).unwrap();
        let segment = UdpPacket::new_checked(packet.payload()).unwrap();
        assert!(packet.verify_checksum() && segment.verify_checksum(&HOST.into(), &FIRST_VM.into()));
        assert_eq!((segment.dst_port(), segment.payload()), (7, &b"hello"[..]));
    }
}
