//! Clients that keep their connections and say nothing, on servers that can have no more memory.

use super::ensure;
use super::hoarders::full_machine;
use crate::error::{Context, Result, fail};
use crate::http::{self, Connection};
use crate::test::Case;
use crate::test::lab::{BOOT, Lab, Running, number};
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    Case {
        name: "web: idle clients at a limit",
        asserts: "ten idle clients, and then a hundred, on a server that may hold no more than what thirty take end nothing and keep nobody out, and what they took is given back after they left",
        run: at_a_limit,
    },
    Case {
        name: "web: idle clients on a full machine",
        asserts: "the same on servers beside guests that hold all memory beyond reserves",
        run: on_a_full_machine,
    },
];

/// What the server may hold, in frames and as the operator says it.
const LIMIT: u64 = 128;
const LIMIT_SAID: &str = "512KiB";
/// How long a request may take. Whom nobody has room for asks again after 1, 3, 7 and 15 s: within the first second nobody is idle, at its second attempt some make room, and
/// at the third, mostly, there is memory; one was seen to wait for the fourth. After 15 s idle clients are ended by themselves.
const ANSWER: Duration = Duration::from_secs(20);
/// After which a server without clients has given back what it does not need: what ends connections, and 300 ms of quiet.
const GIVEN_BACK: Duration = Duration::from_secs(20);

fn at_a_limit(lab: &Lab) -> Result<()> {
    let mut running = lab.boot("vms=httpd*2").start()?;
    running.wait_for_services(BOOT)?;
    running.wait_for_monitor()?;
    running.monitor("destroy 1")?;
    running.wait_for("vm1.1 ended: ", BOOT)?;
    running.monitor(&format!("create httpd limit={LIMIT_SAID}"))?;
    running.wait_for_services(BOOT)?;
    idle(&running, 1, LIMIT)?;
    running.power_off()
}

fn on_a_full_machine(lab: &Lab) -> Result<()> {
    let running = full_machine(lab)?;
    idle(&running, 0, u64::MAX)?;
    running.power_off()
}

/// Frames that a VM holds, and those that are kept for it.
fn frames(running: &Running, vm: usize) -> Result<(u64, u64)> {
    let vms = running.monitor("vms")?;
    let line = vms.iter().find(|line| line.contains(&format!("vm index={vm} ")));
    match line.map(|line| (number(line, "held_frames"), number(line, "reserve_frames"))) {
        Some((Some(held), Some(reserve))) => Ok((held, reserve)),
        _ => fail!("nothing of VM {vm} in {}", vms.join("\n")),
    }
}

/// Ten clients, and then a hundred, have a document each from a VM that may hold so many frames, and stay.
fn idle(running: &Running, vm: usize, limit: u64) -> Result<()> {
    let mark = running.mark();
    let address = running.services()[vm];
    for count in [10, 100] {
        let mut clients = Vec::new();
        let mut slowest = Duration::ZERO;
        for n in 0..count {
            let began = Instant::now();
            let mut client = Connection::open(address, ANSWER).context(|| format!("client {n} of {count}"))?;
            let answer = client.request("GET", "/100b").context(|| format!("client {n} of {count}"))?;
            ensure(answer.status == 200, || format!("client {n} of {count} has {}", answer.status))?;
            slowest = slowest.max(began.elapsed());
            clients.push(client);
        }
        let (held, reserve) = frames(running, vm)?;
        ensure(held > reserve && held <= limit, || format!("with {count} clients it holds {held} of {limit} frames"))?;
        for n in 0..5 {
            let answer = http::get(address, "/100k", ANSWER).context(|| format!("request {n} beside {count}"))?;
            ensure((answer.status, answer.body.len()) == (200, 102_400), || {
                format!("request {n} beside {count} has {} and {} bytes", answer.status, answer.body.len())
            })?;
        }
        drop(clients);
        let left = Instant::now();
        while frames(running, vm)?.0 > reserve {
            let now = frames(running, vm)?.0;
            ensure(left.elapsed() < GIVEN_BACK, || {
                format!("of {held} frames with {count} clients it holds {now}, although {reserve} are kept for it")
            })?;
            std::thread::sleep(Duration::from_millis(500));
        }
        println!(
            "{count} clients, of whom one waited for {slowest:?}: {held} frames, {reserve} or less {:?} after they left",
            left.elapsed()
        );
    }
    running.must_not_say(mark, " ended: ")
}
