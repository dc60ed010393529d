//! Thousands of web servers that are all in: how many there can be, and what a request costs beside them.

use super::fleet::{self, ANSWER};
use super::http::inside;
use super::mechanism::instructions;
use super::wake::Spent;
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::http::Connection;
use crate::machine::Kind;
use crate::manifest::model::Bytes;
use crate::test::cases::crowd::admitted;
use crate::test::lab::{Boot, Lab, Running};
use std::time::Duration;

pub const VMS: Entry = Entry {
    name: "incore_vms",
    measures: "idle web servers of a machine with 1 GiB that are all in, and answer when asked",
    repeats: Repeats::Exactly,
    run: vms,
};
pub const REQUEST: Entry = Entry {
    name: "incore_request_10000",
    measures: "a request to one of 10,000 web servers that are in, a connection each",
    // How requests fall into rounds depends on the host's timing.
    repeats: Repeats::Within(0.05),
    run: request,
};

/// Memory, in MiB.
const MEGS: u32 = 1024;
/// Servers of the one, and of the other.
const MANY: u32 = 16_000;
const ASKED: u32 = 10_000;
/// What a web server that idles holds, and a little more: [docs/memory.md](../../../docs/memory.md#web-servers).
const RESERVE_KIB: u64 = 56;
/// How long it may take on a slow host until all are admitted.
const PATIENCE: Duration = Duration::from_secs(1200);
const DOCUMENT: &str = "/100b";
const BYTES: usize = 100;

/// A machine on which nobody can go out.
fn boot(lab: &Lab, vms: u32) -> Boot<'_> {
    fleet::boot(lab, vms, MEGS, "pool=0")
}

fn vms(bench: &Bench) -> Result<Vec<Figure>> {
    // Nothing is counted, so what is fast does.
    let kind = if bench.kind == Kind::Kvm { Kind::Kvm } else { Kind::Qemu };
    let value: u32 = inside(bench, VMS.name, |_| {
        let lab = Lab::with(kind)?;
        let boot = boot(&lab, MANY).system(|system| {
            let servers = system.image.iter_mut().filter(|image| image.name == "httpd");
            servers.for_each(|server| server.reserve = Some(Bytes(RESERVE_KIB << 10)));
        });
        let running = boot.start()?;
        settled(&running, MANY)?;
        every(&running, MANY)?;
        over(running, MANY)?;
        Ok(MANY)
    })?;
    let conditions = format!(
        "{}, tap; {MANY} httpd, reserve={RESERVE_KIB}KiB, {MEGS} MiB, pool=0, no disk: nobody can go out; each is asked for {DOCUMENT} by clients \
         on the host, {} at once, and answers, and all are in then as before",
        kind.name(),
        fleet::CLIENTS
    );
    Ok(vec![Figure { metric: VMS.name, value: value.into(), unit: "VMs", conditions }])
}

fn request(bench: &Bench) -> Result<Vec<Figure>> {
    let value: u64 = inside(bench, REQUEST.name, |_| {
        let lab = Lab::with(Kind::Qemu)?;
        let running = boot(&lab, ASKED).counted().start()?;
        settled(&running, ASKED)?;
        // What servers need for their first client only they have then.
        every(&running, ASKED)?;
        let before = Spent::take(&running)?;
        every(&running, ASKED)?;
        let spent = Spent::take(&running)?.less(&before).over(ASKED.into());
        over(running, ASKED)?;
        eprintln!("of a request: {spent}");
        Ok(spent.all())
    })?;
    let conditions = format!(
        "QEMU, SVM, one CPU, icount shift=0,sleep=on, tap; {ASKED} httpd, {MEGS} MiB, pool=0, no disk: all are in; {ASKED} requests for {DOCUMENT}, one to \
         each, in an order that is drawn, {} at once, a connection per request, after as many for warmth; all instructions of the machine but idle ones",
        fleet::CLIENTS
    );
    Ok(vec![instructions(REQUEST.name, value, conditions)])
}

/// Waits until all servers are in.
fn settled(running: &Running, vms: u32) -> Result<()> {
    admitted(running, vms.into(), PATIENCE)?;
    fleet::introduce(0..vms)
}

/// Asks each server once, in an order that is drawn.
fn every(running: &Running, vms: u32) -> Result<()> {
    let failed = fleet::each(&fleet::drawn(vms, vms), |slot| {
        let mut connection = Connection::open(fleet::address(slot), ANSWER)?;
        connection.send(format!("GET {DOCUMENT} HTTP/1.1\r\nHost: foraker\r\nConnection: close\r\n\r\n").as_bytes())?;
        match connection.response(false)? {
            answer if answer.status == 200 && answer.body.len() == BYTES && connection.is_closed() => Ok(()),
            answer => fail!("status {} and {} bytes", answer.status, answer.body.len()),
        }
    });
    if failed.is_empty() {
        return Ok(());
    }
    let frames = running.monitor("frames").unwrap_or_default();
    fail!("{} VMs do not answer: {}; {}", failed.len(), failed[..failed.len().min(5)].join("; "), frames.join("; "))
}

/// All servers must be in, and nobody may have come to harm.
fn over(running: Running, vms: u32) -> Result<()> {
    let inside = fleet::admitted(&running)?;
    if inside != u64::from(vms) {
        fail!("{inside} of {vms} VMs are in");
    }
    for word in [" ended: ", " killed: ", "ERROR"] {
        running.must_not_say(0, word)?;
    }
    running.power_off()
}
