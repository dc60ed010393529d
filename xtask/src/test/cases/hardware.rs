//! Hardware that fails, as QEMU plays it, whatever kind of machine the other tests run on.

use super::ensure;
use super::recovery::{VMS, more_requests, servers, under_load};
use crate::error::{Context, Result, fail};
use crate::machine::Kind;
use crate::test::Case;
use crate::test::lab::{BOOT, Lab, Running};
use std::time::Duration;

pub const CASES: &[Case] = &[
    Case {
        name: "qemu: hardware: corrected error",
        asserts: "an error that the hardware has corrected is said with bank and address, and nobody notices",
        run: corrected,
    },
    Case {
        name: "qemu: hardware: memory of one VM",
        asserts: "memory that fails ends the VM whose it is, and is never used again; the others serve",
        run: memory_of_one,
    },
    Case {
        name: "qemu: hardware: machine check",
        asserts: "a machine check while a guest runs stops the machine with bank and address",
        run: machine_check,
    },
    Case {
        name: "qemu: hardware: NMIs",
        asserts: "hundreds of non-maskable interrupts under load are counted and said, and everybody serves",
        run: nmis,
    },
];

/// The core looks at the banks every five seconds.
const NOTICED: Duration = Duration::from_secs(60);

/// What the crime `memory-hog` has written to the beginning of each page, but for the page's own address.
const HOG: u64 = 0x7365_6372_6574_2100;
/// A guest's memory ends below, in bytes.
const GUEST_END: u64 = 16 << 20;

fn corrected(_: &Lab) -> Result<()> {
    let lab = Lab::with(Kind::Qemu)?;
    let mut running = servers(&lab).start()?;
    running.wait_for_services(BOOT)?;
    let mark = running.mark();
    running.machine().emulator("mce 0 4 0x9c000000000000c0 0x0 0x1234 0x8c")?;
    let line =
        "core: the hardware has corrected an error (bank 4, status 0x9c000000000000c0, address 0x1234); 1 since boot";
    running.wait_for_since(mark, line, NOTICED)?;
    all_serve(&running, VMS)?;
    running.power_off()
}

fn memory_of_one(_: &Lab) -> Result<()> {
    let lab = Lab::with(Kind::Qemu)?;
    let mut running = lab.boot(&format!("vms=httpd*{VMS},hostile")).start()?;
    running.wait_for_services(BOOT)?;
    running.wait_for_monitor()?;
    let hogged = running.get(VMS, "/crime/memory-hog")?;
    ensure(hogged.status == 200, || format!("the hog answers {}", hogged.status))?;
    let address = hog_page(&mut running)? + 0x40;
    let mark = running.mark();
    // An error that nobody has run into (AMD's "deferred", bit 44), which raises no machine check.
    running.machine().emulator(&format!("mce 0 4 0x9c001000000000c0 0x0 {address:#x} 0x8c"))?;
    running.wait_for_since(
        mark,
        &format!("core: hardware error in the memory of the VM in slot {VMS}: bank 4"),
        NOTICED,
    )?;
    let end = format!("vm{VMS}.1 ended: hardware error (its memory is damaged) (detail {address:#x}");
    running.wait_for_since(mark, &end, NOTICED)?;
    all_serve(&running, VMS)?;
    let frames = running.monitor("frames")?;
    ensure(frames.iter().any(|line| line.contains("owner=damaged frames=1 ")), || frames.join("\n"))?;
    running.power_off()
}

/// Where in the machine's memory a page is that the hog has written to.
fn hog_page(running: &mut Running) -> Result<u64> {
    const PAGE: usize = 4096;
    running.machine().emulator("pmemsave 0 0x4000000 memory.bin")?;
    let path = running.machine().dir().join("memory.bin");
    let memory = std::fs::read(&path).context(|| format!("cannot read {}", path.display()))?;
    std::fs::remove_file(&path).context(|| format!("cannot remove {}", path.display()))?;
    let is_hogs = |page: &[u8]| {
        let address = page.first_chunk().map(|word| u64::from_le_bytes(*word) ^ HOG);
        address.is_some_and(|address| address != 0 && address < GUEST_END && address.is_multiple_of(PAGE as u64))
    };
    match memory.chunks_exact(PAGE).position(is_hogs) {
        Some(frame) => Ok((frame * PAGE) as u64),
        None => fail!("no page of the memory hog is found"),
    }
}

fn machine_check(_: &Lab) -> Result<()> {
    let lab = Lab::with(Kind::Qemu)?;
    let mut running = lab.boot("vms=bench").start()?;
    running.wait_for_monitor()?;
    running.monitor("create bench bench=compute")?;
    let mark = running.mark();
    running.machine().emulator("mce 0 4 0xbd000000000000c0 0x5 0x1234 0x8c")?;
    let line =
        running.wait_for_since(mark, "machine check: bank 4, status 0xbd000000000000c0, address 0x1234", NOTICED)?;
    ensure(line.contains("look at the firmware's event log"), || format!("no advice: {line}"))
}

fn nmis(_: &Lab) -> Result<()> {
    const COUNT: usize = 300;
    let lab = Lab::with(Kind::Qemu)?;
    let mut running = servers(&lab).start()?;
    running.wait_for_services(BOOT)?;
    running.wait_for_monitor()?;
    for _ in 0..COUNT {
        running.machine().emulator("nmi")?;
    }
    running.wait_for("non-maskable interrupts since boot: ", NOTICED)?;
    under_load(&running, more_requests)?;
    for _ in 0..COUNT {
        running.machine().emulator("nmi")?;
    }
    all_serve(&running, VMS)?;
    let said = running.count_since(0, "non-maskable interrupts since boot: ");
    ensure(said < COUNT / 4, || format!("{said} lines about {COUNT} interrupts"))?;
    running.must_not_say(0, "ended:")?;
    running.power_off()
}

fn all_serve(running: &Running, count: usize) -> Result<()> {
    for server in 0..count {
        let answer = running.get(server, "/100b")?;
        ensure(answer.status == 200, || format!("server {server} answers {}", answer.status))?;
    }
    Ok(())
}
