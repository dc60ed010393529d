//! Virtual disks of VMs: what guests read and write, and what is on the members then.

use super::ensure;
use crate::disk::{fsck, mkdisk};
use crate::error::{Context, Result, fail};
use crate::machine::{DiskKind, Kind};
use crate::test::Case;
use crate::test::lab::{Lab, Running, number};
use crate::workspace::{Temporary, scratch};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    Case {
        name: "guest disks: IDE",
        asserts: "what a VM has written and flushed is there for the next one, and on the disks; 'vm' shows the disk",
        run: ide,
    },
    Case { name: "qemu: guest disks: virtio-blk", asserts: "the same with virtio-blk", run: virtio },
    Case {
        name: "qemu: guest disks: shared",
        asserts: "VMs share a disk that they only read, with the same data; a flipped bit is an error to them, not data; one with disk-rate= reads no faster",
        run: shared,
    },
    Case {
        name: "qemu: guest disks: refused",
        asserts: "a disk that there is not, one that is never written and one that another VM has end the VM that wants it, with the reason; a second writer, and a machine without disks, are refused before",
        run: refused,
    },
    Case {
        name: "qemu: guest disks: diskmux is killed",
        asserts: "20 deaths of diskmux under the load of two VMs lose no request and nothing that was written",
        run: |_| killed(20),
    },
    Case {
        name: "qemu: guest disks: at boot",
        asserts: "VMs have the virtual disks that vms= names for them",
        run: at_boot,
    },
    Case {
        name: "qemu: guest disks: disciplines",
        asserts: "with disk=drr, elevator and fifo two VMs under load lose nothing, also when diskmux is killed or gets another discipline",
        run: disciplines,
    },
];

/// Those that take long.
pub const LONG_CASES: &[Case] = &[Case {
    name: "qemu: guest disks: diskmux is killed a thousand times",
    asserts: "1,000 deaths of diskmux under the load of two VMs lose no request and nothing that was written",
    run: |_| killed(1000),
}];

const SOON: Duration = Duration::from_secs(60);
/// Blocks of the disk `web`, every fourth of which is zeros.
const BLOCKS: u64 = 1100;

/// A set of two members with the disk `web`, which is never written, and `log` and `other`, which are empty.
struct Set {
    _dir: Temporary,
    members: [PathBuf; 2],
}

impl Set {
    fn make() -> Result<Set> {
        let dir = scratch("guest-disks")?;
        let at = |name: &str| dir.path().join(name);
        let mut tree = Vec::new();
        for block in 0..BLOCKS {
            let byte = if block % 4 == 0 { 0 } else { u8::try_from(block % 251 + 1).unwrap_or(1) };
            tree.extend([byte; 4096]);
        }
        fs::write(at("tree"), tree).context(|| "cannot write what is to be on the disk".into())?;
        let set = Set { members: [at("one"), at("two")], _dir: dir };
        let tree = format!("--image=web={}", set.members[0].with_file_name("tree").display());
        let words = [tree.as_str(), "--disk=log=256KiB", "--disk=other=256KiB", "--swap=1MiB", "--size=8064KiB"];
        let words = words.map(PathBuf::from);
        mkdisk::make(&mkdisk::Args::parse(set.members.iter().cloned().chain(words))?)?;
        Ok(set)
    }

    fn start(&self, lab: &Lab, kind: DiskKind) -> Result<Running> {
        let running = lab.boot("vms=asm-guest").disks(kind, &self.members).start()?;
        running.wait_for_monitor()?;
        running.wait_for("diskmux: set foraker: 2 members", SOON)?;
        Ok(running)
    }

    fn is_whole(&self) -> Result<()> {
        let report = fsck::check(&self.members, false)?;
        ensure(report.faults == 0, || report.text)
    }
}

/// Creates a VM of `disk-log` with these words. Its slot.
fn create(running: &Running, words: &str) -> Result<u64> {
    let lines = running.monitor(&format!("create disk-log {words}"))?;
    let slot = lines.iter().find_map(|line| number(line, "index"));
    slot.map_or_else(|| fail!("no VM was created:\n{}", lines.join("\n")), Ok)
}

/// What `disk-log` says of a whole disk, from this mark on.
fn read(running: &Running, mark: usize) -> Result<String> {
    running.wait_for_since(mark, "disk-log: read zeros=", SOON)
}

/// The operator sees how the disks do, and this VM, which is busy with its disk.
fn seen(running: &Running, slot: u64) -> Result<()> {
    let begun = Instant::now();
    loop {
        let lines = running.monitor("disks")?;
        let own = format!("load index={slot} incarnation=");
        let loads: Vec<&String> = lines
            .iter()
            .filter(|line| line.starts_with("load disk=") || line.starts_with(&own) && line.contains(" name=other "))
            .collect();
        let of = |line: &str, key| number(line, key).unwrap_or(0);
        let is_good = |line: &&String| of(line, "p50_us") > 0 && of(line, "p50_us") <= of(line, "p99_us");
        let busy = loads.iter().any(|line| of(line, "requests") >= 50 && number(line, "errors") == Some(0));
        if loads.len() == 3 && loads.iter().all(is_good) && busy {
            return Ok(());
        }
        ensure(begun.elapsed() < SOON, || lines.join("\n"))?;
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn has(line: &str, key: &str, value: u64) -> Result<()> {
    ensure(number(line, key) == Some(value), || format!("{key} should be {value}: {line}"))
}

/// The last words of a line: what was read, whoever has read it.
fn sum(line: &str) -> &str {
    line.rsplit_once("sum=").map_or("", |(_, sum)| sum)
}

fn ide(lab: &Lab) -> Result<()> {
    written(lab, DiskKind::Ide)
}

fn virtio(_: &Lab) -> Result<()> {
    written(&Lab::with(Kind::Qemu)?, DiskKind::Virtio)
}

fn written(lab: &Lab, kind: DiskKind) -> Result<()> {
    let set = Set::make()?;
    let running = set.start(lab, kind)?;
    create(&running, "disk=log append=5")?;
    running.wait_for("disk-log: a disk of 64 blocks, to write", SOON)?;
    running.wait_for("disk-log: records=0 last=0", SOON)?;
    running.wait_for("disk-log: record 5 is durable", SOON)?;
    running.wait_for("disk-log: done", SOON)?;
    let mark = running.mark();
    create(&running, "disk=log append=1")?;
    running.wait_for_since(mark, "disk-log: records=5 last=5", SOON)?;
    running.wait_for_since(mark, "disk-log: record 6 is durable", SOON)?;
    running.wait_for_since(mark, "disk-log: done", SOON)?;
    let slot = create(&running, "disk=other mode=load")?;
    running.wait_for("disk-log: load begins", SOON)?;
    charged(&running, slot)?;
    seen(&running, slot)?;
    running.monitor(&format!("shutdown {slot}"))?;
    running.wait_for("disk-log: load ok", SOON)?;
    running.power_off()?;
    set.is_whole()?;
    // Another machine over the same disks.
    let running = set.start(lab, kind)?;
    create(&running, "disk=log append=0")?;
    running.wait_for("disk-log: records=6 last=6", SOON)?;
    running.power_off()
}

/// `vm` shows the disk of the VM in a slot, and before long what that has done with it.
fn charged(running: &Running, slot: u64) -> Result<()> {
    let end = Instant::now() + SOON;
    loop {
        let lines = running.monitor(&format!("vm {slot}"))?;
        let shown = format!("disk index={slot} incarnation=");
        let line = lines.iter().find(|line| line.contains(&shown)).context(|| lines.join("\n"))?;
        ensure(line.contains(" name=other mode=rw rate=unlimited state=attached requests="), || line.clone())?;
        let (requests, bytes) = (number(line, "requests").unwrap_or(0), number(line, "bytes").unwrap_or(0));
        ensure(bytes <= requests * 4096, || format!("more blocks than requests: {line}"))?;
        if bytes != 0 {
            return Ok(());
        }
        ensure(Instant::now() < end, || format!("nothing was charged: {line}"))?;
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn shared(_: &Lab) -> Result<()> {
    let (set, lab) = (Set::make()?, Lab::with(Kind::Qemu)?);
    let running = set.start(&lab, DiskKind::Virtio)?;
    let mut sums = Vec::new();
    for words in ["disk=web:ro mode=read", "disk=web:ro mode=read"] {
        let mark = running.mark();
        create(&running, words)?;
        let line = read(&running, mark)?;
        has(&line, "zeros", BLOCKS / 4)?;
        has(&line, "corrupt", 0)?;
        has(&line, "failed", 0)?;
        sums.push(sum(&line).to_owned());
    }
    ensure(sums[0] == sums[1] && sums[0].len() == 16, || sums.join(" and "))?;
    // One that may ask only so often reads the same, and takes its time: 1,100 requests, 16 of them at once.
    let (mark, began) = (running.mark(), Instant::now());
    create(&running, "disk=web:ro disk-rate=300 mode=read")?;
    let line = read(&running, mark)?;
    ensure(sum(&line) == sums[0], || format!("{} and {line}", sums[0]))?;
    ensure(began.elapsed() >= Duration::from_secs(3), || format!("it took {:?} at 300 in a second", began.elapsed()))?;
    running.power_off()?;
    // Entries begin at multiples of the stripe unit of 16 blocks: behind the swap regions, 256 blocks, `web` with three blocks of checks. Its block 501 is
    // block 760 of the set: unit 47, on the second member, in its row 23, block 8; data begins at block 16.
    let file = OpenOptions::new().write(true).open(&set.members[1]).context(|| "cannot open the image".into())?;
    file.write_all_at(&[0xff], (16 + 23 * 16 + 8) * 4096 + 5).context(|| "cannot flip a bit".into())?;
    let running = set.start(&lab, DiskKind::Virtio)?;
    let mark = running.mark();
    create(&running, "disk=web:ro mode=read")?;
    let line = read(&running, mark)?;
    has(&line, "corrupt", 1)?;
    has(&line, "failed", 0)?;
    ensure(sum(&line) != sums[0], || "what was spoilt is in the sum".to_owned())?;
    running.power_off()
}

fn at_boot(_: &Lab) -> Result<()> {
    let (set, lab) = (Set::make()?, Lab::with(Kind::Qemu)?);
    let vms = "vms=asm-guest,disk-log*2:disk=web:ro,disk-log:disk=log";
    let running = lab.boot(vms).disks(DiskKind::Virtio, &set.members).start()?;
    running.wait_for_monitor()?;
    running.wait_for_lines(2, &format!("disk-log: a disk of {BLOCKS} blocks, to read"), SOON)?;
    running.wait_for("vm3.1: disk-log: a disk of 64 blocks, to write", SOON)?;
    running.power_off()
}

/// A VM with these words ends for this reason (`abi::disk_service::no_disk`).
fn ends(running: &Running, words: &str, why: u16) -> Result<()> {
    let mark = running.mark();
    create(running, words)?;
    running.wait_for_since(mark, &format!("without its virtual disk (detail {why:#x},"), SOON)?;
    Ok(())
}

fn refused(_: &Lab) -> Result<()> {
    use abi::disk_service::no_disk;
    let (set, lab) = (Set::make()?, Lab::with(Kind::Qemu)?);
    let running = set.start(&lab, DiskKind::Virtio)?;
    let writer = create(&running, "disk=log mode=load")?;
    running.wait_for("disk-log: load begins", SOON)?;
    for second in ["disk=log", "disk=log:ro mode=read"] {
        let told = running.monitor(&format!("create disk-log {second}")).err().map(|error| error.to_string());
        let says = format!("VM {writer} has log; write \"shutdown {writer}\" first, or let both have log:ro");
        ensure(told.as_ref().is_some_and(|told| told.contains(&says)), || format!("{second}: {told:?}"))?;
    }
    ends(&running, "disk=nothing", no_disk::NO_SUCH_DISK)?;
    running.wait_for(
        "disk nothing: the set has no virtual disk of that name; see 'disks'; it has web, log, other",
        SOON,
    )?;
    ends(&running, "disk=swap", no_disk::NO_SUCH_DISK)?;
    ends(&running, "disk=web", no_disk::READ_ONLY)?;
    ensure(running.monitor("create disk-log disk=a/b").is_err(), || "no disk has such a name".to_owned())?;
    let mark = running.mark();
    running.monitor(&format!("shutdown {writer}"))?;
    running.wait_for_since(mark, "disk-log: load ok", SOON)?;
    // Its successor gets it.
    create(&running, "disk=log:ro mode=read")?;
    read(&running, mark)?;
    let mark = running.mark();
    create(&running, "")?;
    running.wait_for_since(mark, "disk-log: this VM has no disk", SOON)?;
    running.power_off()?;
    set.is_whole()?;
    // Nobody looks at that before both are there.
    let both = "vms=asm-guest,disk-log:disk=log,disk-log:disk=log:ro";
    let running = lab.boot(both).disks(DiskKind::Virtio, &set.members).start()?;
    running.wait_for("disk log: another VM has it; end that one, or attach it to both with :ro", SOON)?;
    running.wait_for(&format!("without its virtual disk (detail {:#x},", no_disk::IN_USE), SOON)?;
    running.wait_for_monitor()?;
    running.power_off()?;
    let running = lab.boot("vms=asm-guest").start()?;
    running.wait_for_monitor()?;
    let told = running.monitor("create disk-log disk=log").err().map(|error| error.to_string());
    let says = "the machine had no disk when it was started";
    ensure(told.as_ref().is_some_and(|told| told.contains(says)), || format!("{told:?}"))?;
    running.power_off()
}

const DISCIPLINES: [&str; 3] = ["drr", "elevator", "fifo"];

fn disciplines(_: &Lab) -> Result<()> {
    let (set, lab) = (Set::make()?, Lab::with(Kind::Qemu)?);
    let component = lab.system.component.iter().find(|component| component.name == "diskmux");
    let policies = component.map(|component| component.programs()).unwrap_or_default();
    ensure(policies.iter().map(|policy| policy.name.as_str()).eq(DISCIPLINES), || {
        "test the new policy here".to_owned()
    })?;
    for (at, policy) in DISCIPLINES.iter().enumerate() {
        let running =
            lab.boot(&format!("vms=asm-guest disk={policy}")).disks(DiskKind::Virtio, &set.members).start()?;
        running.wait_for(&format!("diskmux: policy={policy} incarnation=1 "), SOON)?;
        running.wait_for_monitor()?;
        let slots = [create(&running, "disk=log mode=load")?, create(&running, "disk=other mode=load")?];
        running.wait_for_lines(2, "disk-log: load begins", SOON)?;
        let mark = running.mark();
        running.monitor("kill diskmux")?;
        running.wait_for_since(mark, &format!("diskmux: policy={policy} incarnation=2 "), SOON)?;
        running.wait_for_since(mark, "disk-log: load requests=", SOON)?;
        let (mark, next) = (running.mark(), DISCIPLINES[(at + 1) % DISCIPLINES.len()]);
        running.monitor(&format!("policy diskmux {next}"))?;
        running.wait_for_since(mark, &format!("diskmux: policy={next} "), SOON)?;
        running.wait_for_since(mark, "disk-log: load requests=", SOON)?;
        for slot in slots {
            let mark = running.mark();
            running.monitor(&format!("shutdown {slot}"))?;
            running.wait_for_since(mark, "disk-log: load ok", SOON)?;
        }
        running.must_not_say(0, "disk-log: LOST")?;
        running.power_off()?;
        set.is_whole()?;
    }
    Ok(())
}

fn killed(kills: u32) -> Result<()> {
    let (set, lab) = (Set::make()?, Lab::with(Kind::Qemu)?);
    let running = set.start(&lab, DiskKind::Virtio)?;
    let slots = [create(&running, "disk=log mode=load")?, create(&running, "disk=other mode=load")?];
    running.wait_for_lines(2, "disk-log: load begins", SOON)?;
    for kill in 0..kills {
        let mark = running.mark();
        running.monitor("kill diskmux")?;
        running.wait_for_since(mark, "diskmux: set foraker: 2 members", SOON)?;
        // Both go on.
        if kill % 5 == 4 {
            running.wait_for_since(mark, "disk-log: load requests=", SOON)?;
        }
    }
    running.must_not_say(0, "disk-log: LOST")?;
    let mut sums = Vec::new();
    for slot in slots {
        let mark = running.mark();
        running.monitor(&format!("shutdown {slot}"))?;
        running.wait_for_since(mark, "disk-log: load ok", SOON)?;
        sums.push(sum(&read(&running, mark)?).to_owned());
    }
    running.must_not_say(0, "disk-log: LOST")?;
    running.power_off()?;
    set.is_whole()?;
    // What both have flushed at last.
    let running = set.start(&lab, DiskKind::Virtio)?;
    for (disk, sum_then) in ["log", "other"].iter().zip(&sums) {
        let mark = running.mark();
        create(&running, &format!("disk={disk}:ro mode=read"))?;
        let line = read(&running, mark)?;
        ensure(sum(&line) == sum_then, || format!("{disk} held {sum_then}: {line}"))?;
    }
    running.power_off()
}
