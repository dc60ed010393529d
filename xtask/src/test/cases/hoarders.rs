//! Guests that take all the memory that they can get, and keep it.

use super::ensure;
use crate::build::LOADER;
use crate::error::{Context, Result, fail};
use crate::http;
use crate::machine::Kind;
use crate::manifest::Bytes;
use crate::test::Case;
use crate::test::lab::{BOOT, Lab, Running, number};
use object::{Object as _, ObjectSegment as _};
use std::time::Duration;

pub const CASES: &[Case] = &[Case {
    name: "qemu: hoarders",
    asserts: "servers beside guests that hold all memory beyond reserves answer every request, one with too small a reserve refuses, and nobody ends; the operator sees reserve, limit and held of each; where the loader was are VMs",
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
/// The slot of a server for which only so much is kept that it can live, and so much.
const MODEST: usize = VICTIMS;
const MODEST_RESERVE: &str = "56KiB";
/// What it may hold.
const MODEST_LIMIT: &str = "1MiB";
/// How long a client that is refused tries.
const REFUSED: Duration = Duration::from_secs(3);
/// How long a request may take; a client whose connection is not taken tries again after a second, and then after two.
const ANSWER: Duration = Duration::from_secs(15);

/// A machine all of whose memory is held, but for what is kept for somebody.
pub fn full_machine(lab: &Lab) -> Result<Running> {
    let boot = lab.boot(&format!("vms=httpd*{},hostile*{HOARDERS}", VICTIMS + 1)).megs(MEGS).system(|system| {
        for image in system.image.iter_mut().filter(|image| image.name == "hostile") {
            image.reserve = Some(Bytes(HOARDERS_RESERVE));
        }
    });
    let mut running = boot.start()?;
    running.wait_for_services(BOOT)?;
    running.wait_for_monitor()?;
    // The last of the servers is another one, in the same place.
    running.monitor(&format!("destroy {MODEST}"))?;
    running.wait_for(&format!("vm{MODEST}.1 ended: "), BOOT)?;
    running.monitor(&format!("create httpd reserve={MODEST_RESERVE} limit={MODEST_LIMIT}"))?;
    running.wait_for_services(BOOT)?;
    // The second time they get what the others used to serve the first request.
    for hoarder in (MODEST + 1..=MODEST + HOARDERS).cycle().take(2 * HOARDERS) {
        let answer = running.get(hoarder, "/crime/memory-hoard")?;
        ensure(answer.status == 200, || format!("hoarder {hoarder} answers {}", answer.status))?;
    }
    let frames = running.monitor("frames")?;
    let free = frames.iter().find(|line| line.contains("owner=free ")).and_then(|line| number(line, "frames"));
    let most = (VICTIMS + 1 + 2 * HOARDERS) as u64 * HOARDERS_RESERVE / 4096;
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

/// The frames that the loader was loaded into are VMs' now, or a component's for them, or are kept for VMs: there is no memory left that is for nobody.
fn loader_is_gone(lab: &Lab, running: &Running) -> Result<()> {
    let program = lab.program(LOADER)?;
    let what = || format!("cannot read {}", program.display());
    let file = std::fs::read(program).context(what)?;
    let elf = object::File::parse(&*file).context(what)?;
    let (mut vms, mut components, mut free) = (0, 0, 0);
    for segment in elf.segments() {
        for address in (segment.address()..segment.address() + segment.size()).step_by(4096) {
            let lines = running.monitor(&format!("frames {address:#x}"))?;
            match lines.iter().find_map(|line| line.split_once(" owner=")) {
                Some((_, owner)) if owner.starts_with("vm-") => vms += 1,
                // Page tables of the windows through which they see VMs.
                Some((_, owner)) if owner.starts_with("components ") => components += 1,
                Some((_, owner)) if owner.starts_with("free ") => free += 1,
                _ => fail!("where the loader was: {}", lines.join("\n")),
            }
        }
    }
    // What is free is kept for VMs, by their reserves; which frames these are depends on who asked when.
    ensure(vms > 0, || {
        format!("of the loader's frames {vms} are VMs', {components} are components' and {free} are free")
    })
}

fn hoarders(_: &Lab) -> Result<()> {
    let lab = Lab::with(Kind::Qemu)?;
    let running = full_machine(&lab)?;
    loader_is_gone(&lab, &running)?;
    let lost = lost(&running, 50);
    ensure(lost == 0, || format!("{lost} of {} requests are not answered", 50 * VICTIMS))?;
    let mark = running.mark();
    let modest = running.services()[MODEST];
    // It may find room for one by chance, and must not end for want of it.
    let answered = (0..5).filter(|_| http::get(modest, "/100b", REFUSED).is_ok()).count();
    running.must_not_say(mark, " ended: ").context(|| format!("the modest one, which answered {answered} of 5"))?;
    let vms = running.monitor("vms")?;
    for (slot, reserve, limit) in [(0, 24, None), (MODEST, 14, Some(256)), (MODEST + 1, 48, None)] {
        let line = vms.iter().find(|line| line.contains(&format!("vm index={slot} ")));
        let Some(line) = line else { fail!("no VM in slot {slot}: {}", vms.join("\n")) };
        let figures = ["reserve_frames", "limit_frames", "held_frames"].map(|key| number(line, key));
        let [Some(reserved), Some(most), Some(held)] = figures else { fail!("figures are missing: {line}") };
        let right = reserved == reserve && limit.is_none_or(|limit| most == limit) && held <= most;
        ensure(right && (slot <= MODEST || held > reserve), || format!("not what was ordered: {line}"))?;
    }
    let frames = running.monitor("frames")?;
    let free = frames
        .iter()
        .find(|line| line.contains("owner=free "))
        .map(|line| (number(line, "frames"), number(line, "kept")));
    ensure(matches!(free, Some((Some(free), Some(kept))) if kept > 0 && kept <= free), || frames.join("\n"))?;
    let of_others = running.count_since(0, " ended: ") - running.count_since(0, &format!("vm{MODEST}.1 ended: "));
    ensure(of_others == 0, || "a VM has ended for want of memory".into())?;
    running.power_off()
}
