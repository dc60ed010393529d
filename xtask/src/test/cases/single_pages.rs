//! VMs that are larger than what goes out as a whole, in less memory than they use: single pages go out.

use super::{ensure, pooled, strays};
use crate::error::{Context, Result};
use crate::http;
use crate::machine::Kind;
use crate::manifest::Bytes;
use crate::test::Case;
use crate::test::lab::{BOOT, Lab, Running};
use std::collections::HashMap;
use std::time::Duration;

pub const CASES: &[Case] = &[
    Case {
        name: "qemu: single pages, wsclock",
        asserts: "guests that use more memory than there is find in each page what they wrote, a web server beside them answers, and nobody ends, whoever of swap and pager dies meanwhile; their pages are in no other VM and in no free frame; who is destroyed leaves nothing in the pool",
        run: wsclock,
    },
    Case { name: "qemu: single pages, clock", asserts: "the same with the policy clock", run: clock },
    Case { name: "qemu: single pages, fifo", asserts: "the same with the policy fifo", run: fifo },
];

/// Guests that use 20 of their 24 MiB each: together more than the machine has.
const GUESTS: usize = 4;
const GUEST_BYTES: u64 = 24 << 20;
/// Memory of the machine.
const MEGS: u32 = 96;
/// The slot of the web server.
const SERVER: usize = GUESTS;
/// A crime takes as long as the pages that it waits for.
const PATIENCE: Duration = Duration::from_secs(240);

fn wsclock(_: &Lab) -> Result<()> {
    play("wsclock")
}

fn clock(_: &Lab) -> Result<()> {
    play("clock")
}

fn fifo(_: &Lab) -> Result<()> {
    play("fifo")
}

/// Who has no memory for a moment gives connections up (docs/ilwaco.md): whoever was asked is asked again then, and what is found in the end counts.
const TRIES: u32 = 4;

fn asked(running: &Running, guest: usize, path: &str, patience: Duration) -> Result<http::Response> {
    let ask = || http::get(running.services()[guest], path, patience);
    let mut answer = ask();
    for _ in 1..TRIES {
        if answer.is_ok() {
            break;
        }
        answer = ask();
    }
    answer.context(|| format!("guest {guest}"))
}

/// A guest writes to all its pages, or looks whether all is there.
fn patterns(running: &Running, guest: usize) -> Result<()> {
    let answer = asked(running, guest, "/crime/memory-patterns", PATIENCE)?;
    let said = || format!("guest {guest} answers {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    ensure(answer.status == 200 && !String::from_utf8_lossy(&answer.body).contains("does not hold"), said)
}

fn serves(running: &Running) -> Result<()> {
    let answer = asked(running, SERVER, "/100b", pooled::ANSWER)?;
    ensure(answer.status == 200, || format!("the web server answers {}", answer.status))
}

/// Every so manieth page is looked for: to ask whose each is takes its time.
const EACH: u64 = 16;

/// Where pages are that the guests have written (`memory-patterns` of `apps/hostile`), and whose.
fn find(memory: &[u8]) -> Vec<(usize, usize)> {
    let pages = (4 << 20..GUEST_BYTES).step_by(4096).filter(|page| page >> 12 & (EACH - 1) == 0);
    let word = |guest: usize, page: u64| pooled::mix((guest as u64) << 40 | (page + 8)).to_le_bytes();
    let written: HashMap<[u8; 8], usize> =
        pages.flat_map(|page| (0..GUESTS).map(move |guest| (word(guest, page), guest))).collect();
    let frames = memory.chunks(4096).zip((0..).step_by(4096));
    frames.filter_map(|(frame, at)| Some((at, *written.get(&frame[8..16])?))).collect()
}

fn play(policy: &str) -> Result<()> {
    let lab = Lab::with(Kind::Qemu)?;
    let options = format!("vms=hostile*{GUESTS},httpd pool=24MiB pager={policy}");
    let boot = lab.boot(&options).megs(MEGS).system(|system| {
        for image in system.image.iter_mut().filter(|image| image.name == "hostile") {
            image.memory = Bytes(GUEST_BYTES);
        }
    });
    let mut running = boot.start()?;
    running.wait_for_services(BOOT)?;
    running.wait_for_monitor()?;
    running.wait_for(&format!("policy={policy} "), BOOT)?;
    for guest in 0..GUESTS {
        patterns(&running, guest)?;
        serves(&running)?;
    }
    let out = pooled::swap(&running, "pages")?;
    ensure(out > 1000, || format!("{out} pages went out"))?;
    for (guest, dies) in (0..GUESTS).zip(["swap", "pager", "swap", "sched"]) {
        // While pages come and go.
        std::thread::scope(|scope| {
            let killer = scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(200));
                running.monitor(&format!("kill {dies}")).map(|_| ())
            });
            let checked = patterns(&running, guest);
            killer.join().unwrap_or(Ok(())).and(checked)
        })?;
        serves(&running)?;
    }
    // All of them at once.
    std::thread::scope(|scope| {
        let running = &running;
        let checks: Vec<_> = (0..GUESTS).map(|guest| scope.spawn(move || patterns(running, guest))).collect();
        checks.into_iter().try_for_each(|check| check.join().unwrap_or(Ok(())))
    })?;
    ensure(pooled::swap(&running, "damaged")? == 0, || "what came back was damaged".into())?;
    let own = strays::none_in(&mut running, MEGS, find)?;
    ensure(own > 100, || format!("{own} of the pages that were looked for are there: the search finds too little"))?;
    running.must_not_say(0, " ended: ")?;
    for guest in 0..GUESTS {
        running.monitor(&format!("destroy {guest}"))?;
        running.wait_for(&format!("vm{guest}.1 ended: "), BOOT)?;
    }
    serves(&running)?;
    let own = strays::none_in(&mut running, MEGS, find)?;
    ensure(own == 0, || format!("{own} pages are those of somebody who is gone"))?;
    let left = pooled::swap(&running, "used")?;
    ensure(left < 64 << 10, || format!("{left} bytes are left in the pool"))?;
    running.power_off()
}
