//! Pools, memory and seats that are full of those who do not go by themselves, while VMs are out.

use super::{ensure, pooled};
use crate::error::{Context, Result, fail};
use crate::http;
use crate::machine::Kind;
use crate::manifest::Bytes;
use crate::test::Case;
use crate::test::lab::{BOOT, Lab, Running, number};
use abi::sched::Admission;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    Case {
        name: "qemu: a pool full of noise",
        asserts: "where the pool is full of what cannot be compressed nobody goes out, nobody ends, and who is in answers; who is called waits, and has all that it had when there is room",
        run: noise,
    },
    Case {
        name: "qemu: everybody is busy",
        asserts: "where all seats have web servers that are spoken to several times a second, others that are called come in and answer, too, again and again, and nobody ends",
        run: busy,
    },
    Case {
        name: "qemu: each gatekeeper",
        asserts: "whichever way the gatekeeper chooses, more web servers than there are seats answer, again and again, though some are spoken to all the time; the log says which way it is, also after the scheduler has died",
        run: each_gatekeeper,
    },
    Case {
        name: "qemu: hoarders beside those who are out",
        asserts: "where guests hold all memory that they can get and never go out, and others that are out want much, web servers that are out come in and answer, again and again; who wants much comes in when there is room",
        run: hoarded,
    },
    Case {
        name: "qemu: destroyed on the way",
        asserts: "VMs that are destroyed at any time while they and others go out and come in are gone, with what lies in the pool; whoever is created in their place begins anew, and nobody else notices",
        run: destroyed,
    },
];

/// VMs, of which three are out, and those that can be in.
const VMS: usize = 7;
const SEATS: usize = 4;
/// The pool has room for three VMs of 64 pages of noise, and a quarter of it is for exchanges; the fourth is one too many.
const OPTIONS: &str = "start=lazy pool=1MiB residence=10ms";
/// How long it may take until the pool is full.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long somebody is waited for who cannot come in.
const IN_VAIN: Duration = Duration::from_secs(8);

/// Has a VM write noise, or look whether it is still there. True when it has answered in this time.
fn noisy(running: &Running, vm: usize, patience: Duration) -> Result<bool> {
    let Ok(answer) = http::get(running.services()[vm], "/crime/memory-noise", patience) else { return Ok(false) };
    ensure(answer.status == 200, || {
        format!("VM {vm} answers {}: {}", answer.status, String::from_utf8_lossy(&answer.body))
    })?;
    Ok(true)
}

/// The slots of the VMs that are in.
fn who_is_in(running: &Running) -> Result<Vec<usize>> {
    let lines = running.monitor("vms")?;
    let out = [" state=out", " state=waiting", " state=coming", " state=leaving"];
    let lines = lines.iter().filter(|line| line.contains("vm index=") && !out.iter().any(|state| line.contains(state)));
    Ok(lines.filter_map(|line| usize::try_from(number(line, "index")?).ok()).collect())
}

/// Calls VMs until the pool is full. The one that has been called then and cannot come in.
fn fill(running: &Running) -> Result<usize> {
    let end = Instant::now() + PATIENCE;
    for vm in (0..VMS).cycle() {
        // On a busy host one that is only late does not answer either.
        if !noisy(running, vm, IN_VAIN)? && stands_still(running, vm)? {
            return Ok(vm);
        }
        if Instant::now() > end {
            fail!("the pool is not full: {}", running.monitor("swap")?.join("\n"));
        }
    }
    fail!("there are no VMs")
}

/// Whether a VM stays out for a while in which others are asked to go out for it and cannot.
fn stands_still(running: &Running, vm: usize) -> Result<bool> {
    let (refused, inside) = (pooled::swap(running, "refused")?, who_is_in(running)?);
    std::thread::sleep(IN_VAIN / 2);
    let is_asked = pooled::swap(running, "refused")? > refused;
    Ok(is_asked && inside.len() == SEATS && !inside.contains(&vm) && who_is_in(running)? == inside)
}

/// How long the client of one that is destroyed tries.
const BRIEF: Duration = Duration::from_secs(1);
/// Web servers of which some are spoken to all the time, as many as can be in; and how long they are left alone from one request to the next.
const CALLED: usize = 8;
const BUSY: usize = 2;
const PAUSE: Duration = Duration::from_millis(200);

fn busy(_: &Lab) -> Result<()> {
    let lab = Lab::with(Kind::Qemu)?;
    let options = format!("vms=httpd*{CALLED} seats={BUSY} start=lazy pool=4MiB residence=10ms");
    let running = lab.boot(&options).megs(96).start()?;
    running.wait_for_monitor()?;
    let over = AtomicBool::new(false);
    let answers = [const { AtomicU64::new(0) }; BUSY];
    let talk = |vm: usize| {
        while !over.load(Ordering::Relaxed) {
            let answer = http::get(running.services()[vm], "/100b", pooled::ANSWER);
            answers[vm].fetch_add(u64::from(answer.is_ok_and(|answer| answer.status == 200)), Ordering::Relaxed);
            std::thread::sleep(PAUSE);
        }
    };
    let fewest = || answers.iter().map(|answers| answers.load(Ordering::Relaxed)).min().unwrap_or(0);
    std::thread::scope(|scope| {
        for vm in 0..BUSY {
            let talk = &talk;
            scope.spawn(move || talk(vm));
        }
        let called = (0..3).try_for_each(|round| {
            (BUSY..CALLED).try_for_each(|vm| {
                let requests = pooled::requests(&running, vm).context(|| format!("in round {round}"))?;
                ensure(requests == round + 1, || format!("VM {vm} has answered {requests} requests in round {round}"))
            })
        });
        // They take turns with the others, and then have the machine for themselves.
        let during = fewest();
        let end = Instant::now() + pooled::ANSWER;
        while fewest() < 10 && Instant::now() < end {
            std::thread::sleep(PAUSE);
        }
        over.store(true, Ordering::Relaxed);
        called?;
        ensure(during > 1 && fewest() >= 10, || {
            format!("one of the busy ones has answered {during} requests beside the others, and {} in all", fewest())
        })
    })?;
    running.must_not_say(0, " ended: ")?;
    running.must_not_say(0, "ERROR")?;
    running.power_off()
}

fn each_gatekeeper(_: &Lab) -> Result<()> {
    let lab = Lab::with(Kind::Qemu)?;
    for (way, next) in Admission::NAMES.into_iter().zip(Admission::NAMES.into_iter().cycle().skip(1)) {
        let options =
            format!("vms=httpd*{CALLED} seats={BUSY} start=lazy pool=4MiB residence=10ms gatekeeper={way} sched=fair");
        let running = lab.boot(&options).megs(96).start()?;
        running.wait_for_monitor()?;
        running.wait_for(&format!("gatekeeper={way}"), pooled::ANSWER)?;
        // By that way, by a successor, by another way, by a successor that goes on in that.
        for (round, (command, way)) in (1..).zip([
            ("", way),
            ("kill sched", way),
            (&*format!("policy gatekeeper {next}"), next),
            ("kill sched", next),
        ]) {
            let mark = running.mark();
            if !command.is_empty() {
                running.monitor(command)?;
                running.wait_for_since(mark, &format!("gatekeeper={way}"), pooled::ANSWER)?;
            }
            for vm in 0..CALLED {
                let requests = pooled::requests(&running, vm).context(|| format!("with gatekeeper={way}"))?;
                ensure(requests == round, || {
                    format!("VM {vm} has answered {requests} requests with gatekeeper={way}")
                })?;
            }
        }
        running.must_not_say(0, " ended: ")?;
        running.power_off()?;
    }
    Ok(())
}

/// Web servers.
const SERVERS: usize = 32;
/// Guests that hoard, by slot: each could have 12 MiB, and all of them more than the machine has, in MiB. They have more in the end than fits through a window.
const HOARDERS: Range<usize> = SERVERS..SERVERS + 5;
const HOARDED_MEGS: u32 = 72;
/// Those that hoard less, and so go out; and what they may hold.
const LARGE: Range<usize> = HOARDERS.end..HOARDERS.end + 4;
const LARGE_LIMIT: &str = "1536KiB";
/// They want that many frames at least when they come in again.
const LARGE_FRAMES: u64 = 320;
/// Web servers for which one of them goes out.
const FEW: usize = 8;
/// What is kept for a hoarder, so that it can be told to take more.
const HOARDERS_RESERVE: u64 = 192 << 10;
/// Clients of web servers, and requests of each.
const CLIENTS: u64 = 4;
const REQUESTS: u64 = 16;

/// Has a VM take all the memory that it can get.
fn hoards(running: &Running, vm: usize) -> Result<()> {
    let answer = http::get(running.services()[vm], "/crime/memory-hoard", pooled::ANSWER);
    ensure(answer.is_ok_and(|answer| answer.status == 200), || format!("VM {vm} does not hoard"))
}

/// The requests of all clients that are not answered, by server, while those are called again and again who are out and want much.
fn unanswered(running: &Running) -> Vec<usize> {
    let over = AtomicBool::new(false);
    let client = |client: u64| {
        let servers =
            (0..REQUESTS).map(|number| usize::try_from(pooled::mix(client * REQUESTS + number)).unwrap_or(0) % SERVERS);
        let is_lost = |server: &usize| {
            !http::get(running.services()[*server], "/100b", pooled::ANSWER).is_ok_and(|answer| answer.status == 200)
        };
        servers.filter(is_lost).collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let (client, over) = (&client, &over);
        for large in LARGE {
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let _ = http::get(running.services()[large], "/crimes", IN_VAIN);
                    std::thread::sleep(PAUSE);
                }
            });
        }
        // These are called first.
        std::thread::sleep(BRIEF);
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        let left = clients.into_iter().flat_map(|client| client.join().unwrap_or_else(|_| vec![usize::MAX])).collect();
        over.store(true, Ordering::Relaxed);
        left
    })
}

/// Frames that are free, or held by those who can go out.
fn movable(running: &Running) -> Result<u64> {
    let frames = running.monitor("frames")?;
    let free = frames.iter().find(|line| line.contains("owner=free ")).and_then(|line| number(line, "frames"));
    let Some(free) = free else { fail!("`frames` does not say what is free: {}", frames.join("\n")) };
    let vms = running.monitor("vms")?;
    let hoards = |line: &&String| {
        number(line, "index").is_some_and(|slot| usize::try_from(slot).is_ok_and(|slot| HOARDERS.contains(&slot)))
    };
    Ok(free + vms.iter().filter(|line| !hoards(line)).filter_map(|line| number(line, "held_frames")).sum::<u64>())
}

/// A machine where hoarders have all memory but what a few of those hold who go out, and which is less than some of these want.
fn full_of_hoarders(lab: &Lab) -> Result<Running> {
    let options = format!("vms=httpd*{SERVERS},hostile*{} start=lazy pool=8MiB residence=10ms", LARGE.end - SERVERS);
    let boot = lab.boot(&options).megs(HOARDED_MEGS).system(|system| {
        for image in system.image.iter_mut().filter(|image| image.name == "hostile") {
            image.reserve = Some(Bytes(HOARDERS_RESERVE));
        }
    });
    let running = boot.start()?;
    running.wait_for_monitor()?;
    for slot in LARGE {
        running.monitor(&format!("destroy {slot}"))?;
        running.wait_for(&format!("vm{slot}.1 ended: "), BOOT)?;
        running.monitor(&format!("create hostile limit={LARGE_LIMIT}"))?;
        hoards(&running, slot)?;
    }
    for hoarder in HOARDERS {
        hoards(&running, hoarder)?;
    }
    // Whoever goes out leaves room for the last of the hoarders.
    let mut movable = movable(&running)?;
    for round in 0.. {
        if movable < LARGE_FRAMES {
            break;
        }
        ensure(round < 20, || format!("{movable} frames are not the hoarders'"))?;
        // All servers go out for it, and it goes out for some of them, which have not so much all together.
        let _ = http::get(running.services()[LARGE.start], "/crimes", BRIEF);
        hoards(&running, HOARDERS.end - 1)?;
        for number in 0..FEW {
            pooled::requests(&running, (round * FEW + number) % SERVERS)?;
        }
        hoards(&running, HOARDERS.end - 1)?;
        movable = self::movable(&running)?;
    }
    Ok(running)
}

fn hoarded(_: &Lab) -> Result<()> {
    let lab = Lab::with(Kind::Qemu)?;
    let running = full_of_hoarders(&lab)?;
    for round in 0..2 {
        let left = unanswered(&running);
        ensure(left.is_empty(), || {
            let lines = ["frames", "wakes"];
            let lines = lines.map(|what| running.monitor(what).unwrap_or_default().join("\n"));
            format!("in round {round} {} requests are not answered, of {left:?}:\n{}", left.len(), lines.join("\n"))
        })?;
    }
    // Two of the hoarders make room for the others.
    for slot in HOARDERS.take(2) {
        running.monitor(&format!("destroy {slot}"))?;
        running.wait_for(&format!("vm{slot}.1 ended: "), BOOT)?;
    }
    // A guest that needs more than its reserve while others hoard may end for it.
    let ends = |slot: usize| running.count_since(0, &format!("vm{slot}.2 ended: ")) != 0;
    for slot in LARGE.filter(|&slot| !ends(slot)) {
        let answer = http::get(running.services()[slot], "/crimes", pooled::ANSWER);
        ensure(answer.is_ok_and(|answer| answer.status == 200) || ends(slot), || {
            format!("VM {slot} has room and does not answer")
        })?;
    }
    for server in 0..SERVERS {
        running.must_not_say(0, &format!("vm{server}.1 ended: "))?;
    }
    ensure(pooled::swap(&running, "damaged")? == 0, || "some were damaged".into())?;
    running.must_not_say(0, "ERROR")?;
    running.power_off()
}

/// VMs that are destroyed, one after the other.
const DESTROYED: u64 = 60;

/// The line `vms` of the VM in a slot.
fn state(running: &Running, slot: usize) -> Result<String> {
    Ok(running.monitor(&format!("vm {slot}"))?.into_iter().find(|line| line.contains("vm index=")).unwrap_or_default())
}

/// Destroys the VM of a slot a moment after it was called, and another one's is created there.
fn replace(running: &Running, slot: usize, generation: u64, moment: Duration) -> Result<()> {
    let address = running.services()[slot];
    std::thread::scope(|scope| {
        // It may be answered or not.
        let client = scope.spawn(move || drop(http::get(address, "/100b", BRIEF)));
        std::thread::sleep(moment);
        running.monitor(&format!("destroy {slot}"))?;
        running.wait_for(&format!("vm{slot}.{generation} ended: "), BOOT)?;
        let created = running.monitor("create httpd")?;
        let line = format!("created index={slot} incarnation={} ", generation + 1);
        ensure(created.iter().any(|said| said.contains(&line)), || created.join("\n"))?;
        client.join().map_err(|_| "a client fails".into())
    })
}

fn destroyed(_: &Lab) -> Result<()> {
    let lab = Lab::with(Kind::Qemu)?;
    let running = pooled::start(&lab)?;
    let mut generations = [1; pooled::VMS];
    let mut answered = [0; pooled::VMS];
    for round in 0..DESTROYED {
        // Those that are called make others go out: the one of whom it is the turn next is often among them.
        for number in [2 * round, 2 * round + 1] {
            let slot = usize::try_from(pooled::mix(number)).unwrap_or(0) % pooled::VMS;
            let requests = pooled::requests(&running, slot)?;
            // More where the client of one that was destroyed has reached its successor.
            let least = answered[slot] + 1;
            ensure(requests >= least, || {
                format!("VM {slot} has answered {requests} requests and not {least}: it has lost some")
            })?;
            answered[slot] = requests;
        }
        let slot = usize::try_from(pooled::mix(round + 1_000_000)).unwrap_or(0) % pooled::VMS;
        replace(&running, slot, generations[slot], Duration::from_micros(500 * (round % 40)))?;
        generations[slot] += 1;
        answered[slot] = 0;
    }
    let (out, came_in) = (pooled::swap(&running, "gone_out")?, pooled::swap(&running, "come_in")?);
    ensure(came_in >= DESTROYED / 4, || format!("{out} went out and {came_in} came in"))?;
    for (slot, generation) in generations.into_iter().enumerate() {
        let line = state(&running, slot)?;
        ensure(line.contains(&format!(" incarnation={generation} ")), || format!("in slot {slot}: {line}"))?;
        running.monitor(&format!("destroy {slot}"))?;
        running.wait_for(&format!("vm{slot}.{generation} ended: "), BOOT)?;
    }
    // Nothing of them is left.
    for what in ["vms", "used"] {
        let left = pooled::swap(&running, what)?;
        ensure(left == 0, || format!("{what}={left} in the pool when all are gone"))?;
    }
    let frames = running.monitor("frames")?;
    let owned = frames.iter().filter(|line| line.contains("owner=vm-")).filter_map(|line| number(line, "frames"));
    ensure(owned.sum::<u64>() == 0, || frames.join("\n"))?;
    running.must_not_say(0, "ERROR")?;
    running.power_off()
}

fn noise(_: &Lab) -> Result<()> {
    let lab = Lab::with(Kind::Qemu)?;
    let running = lab.boot(&format!("vms=hostile*{VMS} seats={SEATS} {OPTIONS}")).megs(96).start()?;
    running.wait_for_monitor()?;
    let called = fill(&running)?;
    let inside = who_is_in(&running)?;
    ensure(inside.len() == SEATS && !inside.contains(&called), || format!("{inside:?} are in, {called} is called"))?;
    let refused = pooled::swap(&running, "refused")?;
    for &vm in inside.iter().cycle().take(3 * SEATS) {
        let answers = noisy(&running, vm, pooled::ANSWER)?;
        ensure(answers, || format!("VM {vm}, which is in, does not answer"))?;
    }
    // They stay because there is no room for them, and are asked again and again.
    std::thread::sleep(IN_VAIN);
    let again = pooled::swap(&running, "refused")?;
    ensure(again > refused, || format!("{refused} were refused, and {again} later"))?;
    ensure(who_is_in(&running)? == inside, || "others are in than before".into())?;
    running.must_not_say(0, " ended: ")?;
    // One makes room.
    running.monitor(&format!("destroy {}", inside[0]))?;
    running.wait_for(&format!("vm{}.1 ended: ", inside[0]), BOOT)?;
    let others = (0..VMS).filter(|vm| *vm != inside[0]);
    for vm in [called].into_iter().chain(others) {
        let answers = noisy(&running, vm, pooled::ANSWER).context(|| format!("when there is room, VM {vm}"))?;
        ensure(answers, || format!("VM {vm} does not answer when there is room"))?;
    }
    ensure(running.count_since(0, " ended: ") == 1, || "others have ended".into())?;
    ensure(pooled::swap(&running, "damaged")? == 0, || "some were damaged".into())?;
    running.must_not_say(0, "ERROR")?;
    running.power_off()
}
