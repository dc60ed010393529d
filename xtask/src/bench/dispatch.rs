//! Packets one at a time, by who works on them: the core, the demultiplexer, the guest.

use super::echo::sum;
use super::mechanism::instructions;
use super::wake::Spent;
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::machine::{Kind, vm_mac};
use crate::net::{FIRST_VM, HOST, HOST_MAC};
use crate::test::lab::{BOOT, Lab, Running};
use std::fmt::Write;
use std::time::{Duration, Instant};

pub const ENTRY: Entry = Entry {
    name: "dispatch_100b",
    measures: "instructions for a packet of 100 bytes that comes alone, from the NIC until the VM idles again, by stage; one of 1,400 bytes, and answers",
    // Timers that fall in between are those of the host's time.
    repeats: Repeats::Within(0.1),
    run,
};

/// Bytes of the packets from their IP header on, as the Denali authors had them.
const SIZES: [u16; 2] = [100, 1400];
/// Packets of a measurement.
pub(super) const PACKETS: u16 = 200;
/// From one to the next one: so that each finds a machine that idles.
pub(super) const APART: Duration = Duration::from_millis(4);
/// How long an answer may take on a busy host.
const PATIENCE: Duration = Duration::from_secs(30);
/// The kinds of ICMP messages (RFC 792). Nobody has asked for the reply, so the guest looks at all of it and says nothing.
pub(super) const REPLY: u8 = 0;
const REQUEST: u8 = 8;

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let (lab, mut notes, mut value) = (Lab::with(Kind::Qemu)?, String::new(), None);
    let running = lab.boot("vms=httpd").counted().start()?;
    running.wait_for("httpd: serving", BOOT)?;
    running.wait_for_monitor()?;
    // Neighbours, tables, and all that is done once.
    send(&running, REQUEST, SIZES[0])?;
    let idle = spent(&running, || {
        std::thread::sleep(APART * PACKETS.into());
        Ok(())
    })?;
    for bytes in SIZES {
        let of = |kind| -> Result<Spent> {
            let all = spent(&running, || send(&running, kind, bytes))?;
            Ok(all.less(&idle).over(PACKETS.into()))
        };
        let (received, echoed) = (of(REPLY)?, of(REQUEST)?);
        // Writing to a string cannot fail.
        let _ = writeln!(notes, "    {bytes} bytes, received: {received}; all {}", received.all());
        value.get_or_insert(received.all());
        let answer = echoed.less(&received);
        let _ = writeln!(notes, "    {bytes} bytes, the answer to one: {answer}; all {}", answer.all());
    }
    running.power_off()?;
    bench.note(notes);
    let conditions = format!(
        "QEMU, SVM, one CPU, icount shift=0,sleep=on, user-mode network, e1000; a web server that idles and is sent {PACKETS} ICMP messages that it does not \
         answer, {} ms apart; all instructions but idle ones, less those of as long a time without messages; mean",
        APART.as_millis()
    );
    Ok(vec![instructions(ENTRY.name, value.unwrap_or(0), conditions)])
}

/// What the machine executes while `work` is done. Asking for it is in it.
pub(super) fn spent(running: &Running, work: impl FnOnce() -> Result<()>) -> Result<Spent> {
    let before = Spent::take(running)?;
    work()?;
    Ok(Spent::take(running)?.less(&before))
}

/// Sends messages one by one, and waits for the answers of those that are requests.
fn send(running: &Running, kind: u8, bytes: u16) -> Result<()> {
    exchange(running, kind, bytes, kind == REQUEST)
}

/// The same where `answered` says whether there are answers.
pub(super) fn exchange(running: &Running, kind: u8, bytes: u16, answered: bool) -> Result<()> {
    let net = running.net()?;
    let answers = net.watch();
    for number in 0..PACKETS {
        net.inject(&frame(kind, bytes, number));
        let end = Instant::now() + PATIENCE;
        std::thread::sleep(APART);
        let mut awaited = answered;
        while awaited {
            match answers.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(answer) => awaited = !is_reply(&answer, number),
                Err(_) => fail!("echo {number} was not answered"),
            }
        }
    }
    Ok(())
}

/// An ICMP message to the first VM whose packet has so many bytes.
fn frame(kind: u8, bytes: u16, number: u16) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend(bytes.to_be_bytes());
    header.extend([0, 0, 0x40, 0, 64, 1, 0, 0]);
    header.extend(HOST.octets());
    header.extend(FIRST_VM.octets());
    let checksum = !sum(&header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    let mut message = vec![kind, 0, 0, 0, b'F', b'o'];
    message.extend(number.to_be_bytes());
    message.resize(usize::from(bytes) - header.len(), 0x5a);
    let checksum = !sum(&message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    [&vm_mac(0)[..], &HOST_MAC, &[8, 0], &header, &message].concat()
}

/// The frame holds the reply of this number.
fn is_reply(frame: &[u8], number: u16) -> bool {
    let [high, low] = number.to_be_bytes();
    frame.get(12..14) == Some(&[8, 0][..])
        && frame.get(23) == Some(&1)
        && frame.get(34) == Some(&REPLY)
        && frame.get(40..42) == Some(&[high, low][..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_valid_and_their_replies_are_known() {
        for bytes in SIZES {
            let frame = frame(REQUEST, bytes, 0x1234);
            assert_eq!((frame.len(), frame[34]), (usize::from(bytes) + 14, REQUEST));
            assert_eq!((sum(&frame[14..34]), sum(&frame[34..])), (0xffff, 0xffff));
            assert!(!is_reply(&frame, 0x1234));
        }
        let reply = frame(REPLY, SIZES[0], 0x1234);
        assert!(is_reply(&reply, 0x1234) && !is_reply(&reply, 0x1235) && !is_reply(&reply[..40], 0x1234));
    }
}
