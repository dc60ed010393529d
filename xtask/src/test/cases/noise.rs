//! What a LAN is full of reaches VMs that have run and are out.

use super::ensure;
use super::frames::{arp_request, ethernet, ipv4, syn};
use super::pooled::{self, VMS, requests};
use crate::error::Result;
use crate::machine::{Kind, vm_mac};
use crate::net::{FIRST_VM, HOST, HOST_MAC};
use crate::test::Case;
use crate::test::lab::{Lab, Running, number};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[Case {
    name: "qemu: pooled, noise",
    asserts: "who asks for the addresses of VMs that are out is answered, and neither that nor what is sent to ports where they do not listen brings them in; it is refused",
    run: noise,
}];

/// How long answers may take, and what comes is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Somebody on the LAN.
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 99);
const STRANGER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// VMs that have run and are out.
fn out(running: &Running) -> Result<BTreeSet<u32>> {
    let lines = running.monitor("vms")?;
    let out = lines.iter().filter(|line| line.contains(" state=out-memory "));
    Ok(out.filter_map(|line| number(line, "index")?.try_into().ok()).collect())
}

/// Slots of VMs that are out when none has come in or gone out for a while: a server has an alarm a second after its last request, for which it comes in
/// again.
fn settled(running: &Running) -> Result<BTreeSet<u32>> {
    let end = Instant::now() + SETTLED;
    let (mut before, mut since) = (out(running)?, Instant::now());
    while since.elapsed() < QUIET {
        ensure(Instant::now() < end, || format!("VMs come in and go out, {before:?} are out"))?;
        std::thread::sleep(Duration::from_millis(100));
        let now = out(running)?;
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
    Ok(before)
}

/// A datagram from the host to a port at which no web server listens.
fn datagram(to: Ipv4Addr) -> Vec<u8> {
    let [high, low] = 5353_u16.to_be_bytes();
    let [from_high, from_low] = FROM_PORT.to_be_bytes();
    ipv4(HOST, to, 17, 0, &[from_high, from_low, high, low, 0, 12, 0, 0, 1, 2, 3, 4])
}

/// From where the SYN comes, and a port at which no web server listens.
const FROM_PORT: u16 = 5000;
const CLOSED_PORT: u16 = 81;

/// What was answered to those on the LAN.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answers {
    /// Who has this address.
    neighbours: usize,
    /// "Port unreachable".
    unreachable: usize,
    /// Resets of what came to port 81.
    resets: usize,
}

impl Answers {
    fn add(&mut self, frame: &[u8]) {
        let is = |at: usize, bytes: &[u8]| frame.get(at..at + bytes.len()) == Some(bytes);
        self.neighbours += usize::from(is(0, &STRANGER_MAC) && is(12, &[8, 6]) && is(21, &[2]));
        self.unreachable += usize::from(is(0, &HOST_MAC) && is(12, &[8, 0]) && is(23, &[1]) && is(34, &[3, 3]));
        // All of the SYN is acknowledged.
        let is_reset = is(34, &[0, 81, 0x13, 0x88]) && is(42, &[1, 2, 3, 5, 0x50, 0x14]);
        self.resets += usize::from(is(0, &HOST_MAC) && is(12, &[8, 0]) && is(23, &[6]) && is_reset);
    }
}

/// How long nothing may change, and until when that has to be so.
const QUIET: Duration = Duration::from_secs(3);
const SETTLED: Duration = Duration::from_secs(60);

fn noise(_: &Lab) -> Result<()> {
    let lab = Lab::with(Kind::Qemu)?;
    let running = pooled::start(&lab)?;
    for vm in 0..VMS {
        requests(&running, vm)?;
    }
    let before = settled(&running)?;
    ensure(before.len() > VMS / 2, || format!("{} VMs are out", before.len()))?;
    let net = running.net()?;
    let seen = net.watch();
    for &slot in &before {
        let (mac, address) = (vm_mac(slot), Ipv4Addr::from_bits(FIRST_VM.to_bits() + slot));
        // A question, one of whoever wants the address, and something for nobody.
        net.inject(&arp_request(STRANGER_MAC, STRANGER, address));
        net.inject(&arp_request(STRANGER_MAC, Ipv4Addr::UNSPECIFIED, address));
        net.inject(&ethernet(mac, HOST_MAC, 0x0800, &datagram(address)));
        net.inject(&ethernet(
            mac,
            HOST_MAC,
            0x0800,
            &ipv4(HOST, address, 6, 0, &syn((HOST, FROM_PORT), (address, CLOSED_PORT))),
        ));
        // The receive ring of the NIC is no place for all of it at once.
        std::thread::sleep(Duration::from_millis(10));
    }
    let end = Instant::now() + PATIENCE;
    let count = before.len();
    let (mut answers, all) = (Answers::default(), Answers { neighbours: 2 * count, unreachable: count, resets: count });
    while answers != all {
        let left = end.saturating_duration_since(Instant::now());
        let Ok(frame) = seen.recv_timeout(left) else { break };
        answers.add(&frame);
    }
    ensure(answers == all, || format!("{answers:?} for {count} VMs that were asked"))?;
    let after = out(&running)?;
    ensure(after == before, || format!("{before:?} were out, and now {after:?} are"))?;
    // They are called by what they listen to.
    for vm in before {
        let answered = requests(&running, vm as usize)?;
        ensure(answered == 2, || format!("VM {vm} has answered {answered} requests"))?;
    }
    running.must_not_say(0, " ended: ")?;
    running.power_off()
}
