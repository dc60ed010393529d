//! Disks, as the machine finds them; what it did to them is seen from the host.

use super::ensure;
use crate::disk::{fsck, mkdisk};
use crate::error::{Context, Result, fail};
use crate::machine::{DiskKind, Kind};
use crate::test::Case;
use crate::test::lab::{Lab, Running, number};
use crate::workspace::{Temporary, scratch};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const CASES: &[Case] = &[
    Case {
        name: "disks: IDE",
        asserts: "a set on two disks is opened, its virtual disk read and found good, and bad after a bit has flipped; a foreign disk is not written",
        run: ide,
    },
    Case { name: "qemu: disks: virtio-blk", asserts: "the same with virtio-blk", run: virtio },
    Case { name: "qemu: disks: AHCI", asserts: "the same with SATA disks behind an AHCI controller", run: ahci },
    Case {
        name: "qemu: disks: AHCI: restart",
        asserts: "on SATA disks, too, diskmux that is killed opens the set again",
        run: |_| restart(&Lab::with(Kind::Qemu)?, DiskKind::Ahci),
    },
    Case {
        name: "qemu: disks: AHCI: a bad sector",
        asserts: "of many reads at the same time only that of the bad sector fails, and the disk goes on",
        run: |_| bad_sector(DiskKind::Ahci),
    },
    Case {
        name: "qemu: disks: AHCI: a member is missing",
        asserts: "the set is not opened, and the operator is told which member is missing",
        run: |_| missing(&Lab::with(Kind::Qemu)?, DiskKind::Ahci),
    },
    Case {
        name: "qemu: disks: NVMe",
        asserts: "the same with NVMe, and diskmux that is killed opens the set again",
        run: |_| {
            let lab = Lab::with(Kind::Qemu)?;
            all(&lab, DiskKind::Nvme, "nvme")?;
            restart(&lab, DiskKind::Nvme)
        },
    },
    Case {
        name: "qemu: disks: NVMe: a bad sector",
        asserts: "of many reads at the same time only that of the bad sector fails, and the disk goes on",
        run: |_| bad_sector(DiskKind::Nvme),
    },
    Case {
        name: "qemu: disks: NVMe: a member is missing",
        asserts: "the set is not opened, and the operator is told which member is missing",
        run: |_| missing(&Lab::with(Kind::Qemu)?, DiskKind::Nvme),
    },
    Case {
        name: "disks: restart",
        asserts: "diskmux that is killed opens the set again, with the next generation",
        run: |lab| restart(lab, DiskKind::Ide),
    },
    Case {
        name: "disks: a member is missing",
        asserts: "the set is not opened, and the operator is told which member is missing",
        run: |lab| missing(lab, DiskKind::Ide),
    },
    Case {
        name: "disks: none",
        asserts: "on a machine without disks there is no diskmux, and the operator is told",
        run: none,
    },
];

const SOON: Duration = Duration::from_secs(60);
/// Blocks of the virtual disk, every fourth of which is zeros.
const BLOCKS: u64 = 1100;
/// One of them, and its block on the second member. The virtual disk begins at block 256 of the set, with three blocks of checks; units of 16 blocks. So it is
/// block 760 of the set: unit 47, on the second member, in its row 23, block 8; data begins at block 16.
const CHOSEN: u64 = 501;
const PLACE: u64 = 16 + 23 * 16 + 8;

/// Images of two members and of a disk that is not ours, which comes first.
struct Images {
    _dir: Temporary,
    foreign: PathBuf,
    members: [PathBuf; 2],
    /// What is on the foreign disk.
    held: Vec<u8>,
}

impl Images {
    fn make() -> Result<Images> {
        let dir = scratch("disks")?;
        let at = |name: &str| dir.path().join(name);
        let mut tree = Vec::new();
        for block in 0..BLOCKS {
            let byte = if block % 4 == 0 { 0 } else { u8::try_from(block % 251 + 1).unwrap_or(1) };
            tree.extend([byte; 4096]);
        }
        fs::write(at("tree"), tree).context(|| "cannot write what is to be on the disk".into())?;
        let images = Images {
            foreign: at("foreign"),
            members: [at("one"), at("two")],
            held: (0..4_u32 << 20).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect(),
            _dir: dir,
        };
        fs::write(&images.foreign, &images.held).context(|| "cannot write the foreign disk".into())?;
        let tree = format!("--image=web={}", images.members[0].with_file_name("tree").display());
        let words = [tree, "--swap=1MiB".to_owned(), "--size=8064KiB".to_owned()].map(PathBuf::from);
        mkdisk::make(&mkdisk::Args::parse(images.members.iter().cloned().chain(words))?)?;
        Ok(images)
    }

    fn all(&self) -> Vec<PathBuf> {
        [std::slice::from_ref(&self.foreign), &self.members].concat()
    }

    /// What fsck finds on the members.
    fn fsck(&self) -> Result<fsck::Report> {
        fsck::check(&self.members, false)
    }
}

/// The line of the monitor's that contains `text`.
fn line<'a>(lines: &'a [String], text: &str) -> Result<&'a str> {
    match lines.iter().find(|line| line.contains(text)) {
        Some(line) => Ok(line),
        None => fail!("no line has \"{text}\":\n{}", lines.join("\n")),
    }
}

fn is(lines: &[String], text: &str, key: &str, value: u64) -> Result<()> {
    let line = line(lines, text)?;
    ensure(number(line, key) == Some(value), || format!("{key} should be {value}: {line}"))
}

fn start(lab: &Lab, kind: DiskKind, images: &[PathBuf]) -> Result<Running> {
    let running = lab.boot("vms=asm-guest").disks(kind, images).start()?;
    running.wait_for_monitor()?;
    // The operator's line is open before all disks were looked at.
    running.wait_for("diskmux: disk 0: ", SOON)?;
    Ok(running)
}

fn flip(image: &Path, at: u64) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(image).context(|| "cannot open the image".into())?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)
        .and_then(|()| file.write_all_at(&[byte[0] ^ 1], at))
        .context(|| "cannot flip a bit".into())
}

fn ide(lab: &Lab) -> Result<()> {
    all(lab, DiskKind::Ide, "ide")
}

fn virtio(_: &Lab) -> Result<()> {
    all(&Lab::with(Kind::Qemu)?, DiskKind::Virtio, "virtio-blk")
}

fn ahci(_: &Lab) -> Result<()> {
    all(&Lab::with(Kind::Qemu)?, DiskKind::Ahci, "ahci")
}

fn all(lab: &Lab, kind: DiskKind, driver: &str) -> Result<()> {
    let images = Images::make()?;
    let running = start(lab, kind, &images.all())?;
    running.wait_for("diskmux: set foraker: 2 members", SOON)?;
    let lines = running.monitor("disks")?;
    for (index, state) in ["foreign", "member", "member"].iter().enumerate() {
        line(&lines, &format!("disk index={index} driver={driver} state={state} "))?;
    }
    is(&lines, "disk index=0 ", "blocks", 1024)?;
    is(&lines, "disk index=1 ", "blocks", 2016)?;
    is(&lines, "set index=0 name=foraker ", "generation", 2)?;
    line(&lines, " members=2 state=used ")?;
    is(&lines, "entry name=swap kind=swap ", "blocks", 256)?;
    is(&lines, "entry name=web kind=read-only ", "blocks", BLOCKS)?;
    let lines = running.monitor("scrub web")?;
    is(&lines, "scrubbed name=web ", "empty", BLOCKS / 4)?;
    is(&lines, "scrubbed name=web ", "good", BLOCKS - BLOCKS / 4)?;
    is(&lines, "scrubbed name=web ", "bad", 0)?;
    ensure(running.monitor("scrub swap").is_err() && running.monitor("scrub nothing").is_err(), || {
        "what is no virtual disk was read".to_owned()
    })?;
    running.power_off()?;
    let report = images.fsck()?;
    ensure(report.faults == 0 && report.text.contains("generation 2\n"), || report.text)?;
    ensure(fs::read(&images.foreign).is_ok_and(|now| now == images.held), || {
        "the foreign disk was written".to_owned()
    })?;

    flip(&images.members[1], PLACE * 4096 + 5)?;
    let running = start(lab, kind, &images.all())?;
    let lines = running.monitor("scrub web")?;
    is(&lines, "scrubbed name=web ", "bad", 1)?;
    is(&lines, "scrubbed name=web ", "first_bad", CHOSEN)?;
    running.power_off()?;
    let report = images.fsck()?;
    let found = report.text.contains("FAULT  web: block 501: it is not what was written");
    ensure(report.faults == 1 && found, || report.text)
}

fn restart(lab: &Lab, kind: DiskKind) -> Result<()> {
    let images = Images::make()?;
    let running = start(lab, kind, &images.members)?;
    running.wait_for("diskmux: set foraker: 2 members", SOON)?;
    for generation in [3, 4] {
        let mark = running.mark();
        running.monitor("kill diskmux")?;
        running.wait_for_since(mark, &format!("generation {generation}"), SOON)?;
        let lines = running.monitor("disks")?;
        is(&lines, "set index=0 name=foraker ", "generation", generation)?;
    }
    is(&running.monitor("scrub web")?, "scrubbed name=web ", "bad", 0)?;
    running.power_off()?;
    let report = images.fsck()?;
    ensure(report.faults == 0 && report.text.contains("generation 4\n"), || report.text)
}

/// QEMU refuses to read one sector.
fn bad_sector(kind: DiskKind) -> Result<()> {
    let images = Images::make()?;
    let rules = images.members[0].with_file_name("rules");
    let text = format!("[inject-error]\nevent = \"read_aio\"\nerrno = \"5\"\nsector = \"{}\"\n", PLACE * 8 + 3);
    fs::write(&rules, text).context(|| "cannot write the rules".into())?;
    let [first, second] = &images.members;
    let second = PathBuf::from(format!("blkdebug:{}:{}", rules.display(), second.display()));
    let running = start(&Lab::with(Kind::Qemu)?, kind, &[first.clone(), second])?;
    running.wait_for("diskmux: set foraker: 2 members", SOON)?;
    let lines = running.monitor("scrub web")?;
    is(&lines, "scrubbed name=web ", "bad", 1)?;
    is(&lines, "scrubbed name=web ", "first_bad", CHOSEN)?;
    is(&lines, "scrubbed name=web ", "good", BLOCKS - BLOCKS / 4 - 1)?;
    let lines = running.monitor("disks")?;
    is(&lines, "disk index=0 ", "errors", 0)?;
    is(&lines, "disk index=1 ", "errors", 1)?;
    running.power_off()?;
    let report = images.fsck()?;
    ensure(report.faults == 0, || report.text)
}

fn missing(lab: &Lab, kind: DiskKind) -> Result<()> {
    let images = Images::make()?;
    let before = fs::read(&images.members[1]).context(|| "cannot read the image".into())?;
    let running = start(lab, kind, &images.members[1..])?;
    running.wait_for("diskmux: set foraker: member 0 is missing", SOON)?;
    let lines = running.monitor("disks")?;
    line(&lines, " members=2 state=broken ")?;
    line(&lines, "problem set=0 what=missing member=0")?;
    ensure(running.monitor("scrub web").is_err(), || "a broken set was read".to_owned())?;
    running.power_off()?;
    ensure(fs::read(&images.members[1]).is_ok_and(|now| now == before), || "a broken set was written".to_owned())
}

fn none(lab: &Lab) -> Result<()> {
    let running = lab.boot("vms=asm-guest").start()?;
    running.wait_for_monitor()?;
    running.wait_for("'diskmux' is left out: there is no device for it", Duration::ZERO)?;
    let lines = running.monitor("components")?;
    ensure(!lines.iter().any(|line| line.contains("diskmux")), || lines.join("\n"))?;
    let said = running.monitor("disks").err().map(|error| error.to_string()).unwrap_or_default();
    ensure(said.contains("the machine had no disk when it was started"), || said)?;
    running.power_off()
}
