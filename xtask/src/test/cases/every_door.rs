//! A tenant for all of whose VMs packets come, again and again, beside one that has a single VM.

use super::ensure;
use super::frames::{ethernet, ipv4};
use super::pooled;
use crate::error::{Context, Result, fail};
use crate::machine::{Kind, vm_mac};
use crate::net::{FIRST_VM, HOST, HOST_MAC, UserNet};
use crate::test::Case;
use crate::test::lab::{BOOT, Lab, Running, number};
use smoltcp::wire::{EthernetFrame, EthernetProtocol, Icmpv4Message, Icmpv4Packet, IpProtocol, Ipv4Packet};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[Case {
    name: "qemu: a tenant at every door",
    asserts: "while packets come for all VMs of a tenant that are out, and far more of them wait than there is room for, another tenant's VM comes in before nearly all of them",
    run: every_door,
}];

/// Web servers, all but the last of one tenant, and those that can be in at the same time.
const VMS: u32 = 180;
const SEATS: usize = 8;
const VICTIM: u32 = VMS - 1;
/// How often the victim is asked while it is out.
const ASKED: u32 = 4;
/// Greedy VMs that have to wait when the victim is called: so many would come in before it if nobody looked whose they are. (netmux holds packets for 32
/// of them at most, and would for 64.)
const CROWD: u64 = 28;
/// Greedy VMs that may answer from when the victim is called until it does, in the order of the wire: the seats of those that are in or on their way
/// already, one whose turn it is, and as many as fit on the way from here to the machine and back.
const BEFORE: usize = 14;
/// Between two knocks. Ten times as many come as VMs can, and each VM is spoken to every three seconds only: those that are in can go out in between.
const PACE: Duration = Duration::from_millis(17);
/// How long the victim may take until it is out, and the crowd until it waits.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);

/// Asks for an echo from each of the greedy VMs in turn, until it is over.
fn knock(net: &UserNet, over: &AtomicBool) {
    for slot in (0..VICTIM).cycle() {
        if over.load(Ordering::Relaxed) {
            return;
        }
        call(net, slot);
        std::thread::sleep(PACE);
    }
}

/// Asks a VM for an echo.
fn call(net: &UserNet, slot: u32) {
    let echo = ipv4(HOST, Ipv4Addr::from_bits(FIRST_VM.to_bits() + slot), 1, 0, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    net.inject(&ethernet(vm_mac(slot), HOST_MAC, 0x0800, &echo));
}

/// The VM that an echo reply comes from.
fn who_answers(frame: &[u8]) -> Option<u32> {
    let frame = EthernetFrame::new_checked(frame).ok().filter(|frame| frame.ethertype() == EthernetProtocol::Ipv4)?;
    let packet =
        Ipv4Packet::new_checked(frame.payload()).ok().filter(|packet| packet.next_header() == IpProtocol::Icmp)?;
    let echo = Icmpv4Packet::new_checked(packet.payload()).ok()?;
    (echo.msg_type() == Icmpv4Message::EchoReply).then(|| packet.src_addr().to_bits().wrapping_sub(FIRST_VM.to_bits()))
}

/// The greedy VMs that answer before the victim, which is called now. The machine says it by the order of its frames: how long it takes to ask the
/// machine by its operator's line, in which other VMs come in, is not in it.
fn answered_before(net: &UserNet) -> Result<BTreeSet<u32>> {
    let frames = net.watch();
    call(net, VICTIM);
    let (end, mut before) = (Instant::now() + ANSWER, BTreeSet::new());
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let Ok(frame) = frames.recv_timeout(left) else {
            fail!("the victim does not answer; {} others have", before.len())
        };
        match who_answers(&frame) {
            Some(VICTIM) => return Ok(before),
            Some(other) => _ = before.insert(other),
            None => {}
        }
    }
}

/// A figure of the line `wakes`.
fn wakes(running: &Running, what: &str) -> Result<u64> {
    match running.monitor("wakes")?.first().and_then(|line| number(line, what)) {
        Some(value) => Ok(value),
        None => fail!("`wakes` does not say {what}"),
    }
}

/// Waits until the victim is out and the crowd waits.
fn calm(running: &Running) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let victim = running.monitor(&format!("vm {VICTIM}"))?;
        let is_out = victim.iter().any(|line| line.contains(" state=out"));
        let crowd = wakes(running, "waiting")?;
        if is_out && crowd >= CROWD {
            return Ok(());
        }
        ensure(Instant::now() < end, || format!("{crowd} VMs wait, and the victim: {}", victim.join("\n")))?;
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn ask(running: &Running) -> Result<()> {
    for round in 0..ASKED {
        calm(running)?;
        let came = answered_before(running.net()?)?.len();
        ensure(came <= BEFORE, || format!("{came} VMs came in before the victim had answered, in round {round}"))?;
        let requests = pooled::requests(running, VICTIM as usize)?;
        ensure(requests == u64::from(round) + 1, || format!("in round {round} the victim has answered {requests}"))?;
    }
    Ok(())
}

fn every_door(_: &Lab) -> Result<()> {
    let lab = Lab::with(Kind::Qemu)?;
    let options = format!("vms=httpd*{VMS} seats={SEATS} start=lazy pool=8MiB residence=10ms");
    let boot = lab.boot(&options).megs(96).system(|system| {
        for image in system.image.iter_mut().filter(|image| image.name == "httpd") {
            image.tenant = Some("greedy".into());
        }
    });
    let running = boot.start()?;
    running.wait_for_monitor()?;
    // Another one, in the same place.
    running.monitor(&format!("destroy {VICTIM}"))?;
    running.wait_for(&format!("vm{VICTIM}.1 ended: "), BOOT)?;
    let created = running.monitor("create httpd tenant=victim")?;
    ensure(created.iter().any(|line| line.contains(&format!("index={VICTIM} "))), || created.join("\n"))?;
    let over = AtomicBool::new(false);
    let net = running.net()?;
    std::thread::scope(|scope| {
        scope.spawn(|| knock(net, &over));
        let asked = ask(&running);
        over.store(true, Ordering::Relaxed);
        asked
    })
    .context(|| "with packets for all VMs of another tenant".into())?;
    let ended = running.count_since(0, " ended: ");
    ensure(ended == 1, || format!("{ended} VMs have ended"))?;
    running.must_not_say(0, "ERROR")?;
    running.power_off()
}
