//! Guests that take all the memory that they can get, and keep it.

use super::ensure;
use crate::error::{Context, Result};
use crate::http;
use crate::machine::Kind;
use crate::manifest::Bytes;
use crate::test::Case;
use crate::test::lab::{BOOT, Lab, Running, number};
use std::time::Duration;

pub const CASES: &[Case] = &[Case {
    name: "qemu: hoarders",
    asserts: "servers beside guests that hold all memory beyond reserves answer every request, and nobody ends",
    run: hoarders,
}];

/// Web servers beside the hoarders.
pub const VICTIMS: usize = 4;
/// Guests that hoard. Each could have 16 MiB.
pub const HOARDERS: usize = 7;
/// Memory of the machine in MiB: less than the hoarders could have.
pub const MEGS: u32 = 72;
/// Memory that is kept for each hoarder, so that it can still be told to take more.
const HOARDERS_RESERVE: u64 = 192 << 10;
/// How long a request may take; a client whose connection is not taken tries again after a second, and then after two.
const ANSWER: Duration = Duration::from_secs(15);

/// A machine all of whose memory is held, but for what is kept for somebody.
pub fn full_machine(lab: &Lab) -> Result<Running> {
    let boot = lab.boot(&format!("vms=httpd*{VICTIMS},hostile*{HOARDERS}")).megs(MEGS).system(|system| {
        for image in system.image.iter_mut().filter(|image| image.name == "hostile") {
            image.reserve = Some(Bytes(HOARDERS_RESERVE));
        }
    });
    let mut running = boot.start()?;
    running.wait_for_services(BOOT)?;
    running.wait_for_monitor()?;
    // The second time they get what the others used to serve the first request.
    for hoarder in (VICTIMS..VICTIMS + HOARDERS).cycle().take(2 * HOARDERS) {
        let answer = running.get(hoarder, "/crime/memory-hoard")?;
        ensure(answer.status == 200, || format!("hoarder {hoarder} answers {}", answer.status))?;
    }
    let frames = running.monitor("frames")?;
    let free = frames.iter().find(|line| line.contains("owner=free ")).and_then(|line| number(line, "frames"));
    let most = (VICTIMS + 2 * HOARDERS) as u64 * HOARDERS_RESERVE / 4096;
    ensure(free.is_some_and(|free| free < most), || {
        format!("the hoarders have left more than reserves: {}", frames.join("\n"))
    })?;
    Ok(running)
}

/// Asks each of the servers for a document so many times, all at once. How many requests are not answered.
pub fn lost(running: &Running, each: usize) -> usize {
    let client = |server: usize| {
        let get = |_: &usize| {
            !http::get(running.services()[server], "/100b", ANSWER).is_ok_and(|answer| answer.status == 200)
        };
        (0..each).filter(get).count()
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..VICTIMS).map(|server| scope.spawn(move || client(server))).collect();
        clients.into_iter().map(|client| client.join().unwrap_or(each)).sum()
    })
}

fn hoarders(_: &Lab) -> Result<()> {
    let lab = Lab::with(Kind::Qemu)?;
    let running = full_machine(&lab)?;
    let lost = lost(&running, 50);
    ensure(lost == 0, || format!("{lost} of {} requests are not answered", 50 * VICTIMS))?;
    running.must_not_say(0, " ended: ").context(|| "a VM has ended for want of memory".into())?;
    running.power_off()
}
