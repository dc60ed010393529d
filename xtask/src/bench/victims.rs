//! Web servers beside VMs that take all that they can get: what is served, and how late.
//!
//! The clients live in `netmux-load`, whose wire they sit at (`netmux/src/load.rs`): requests come as a Poisson process, whether others have been answered or not.

use super::load;
use super::mechanism::parse;
use super::{Bench, Entry, Figure, Repeats};
use crate::build::build_bins;
use crate::disk::mkdisk;
use crate::error::{Context, Result};
use crate::machine::{DiskKind, Kind};
use crate::manifest::model::Image;
use crate::test::lab::{Lab, Running};
use crate::workspace::{Temporary, scratch};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

pub const SERVED: Entry = entry(
    "victims_served_half_load_loop",
    "what two web servers serve of half of what they can, beside a VM that computes",
    |bench| served(bench, SERVED.name, 1),
);
pub const P99: Entry = entry(
    "victims_p99_light_loop",
    "p99 of requests to two web servers with little to do beside a VM that computes, over that of those alone",
    |bench| light(bench, P99.name, 1),
);
pub const P99_OF_16: Entry = entry("victims_p99_light_16_loops", "the same beside 16 VMs that compute", |bench| {
    light(bench, P99_OF_16.name, 16)
});

pub const SERVED_BESIDE_ALL: Entry = Entry {
    name: "victims_served_half_load_all",
    measures: "the same beside one VM for each way to be antisocial, all at once, where the servers' weights entitle them to what they are beside one",
    // Floods meet the clock in another place each time.
    repeats: Repeats::Within(0.5),
    run: beside_all,
};

pub const FLOODED: Entry = Entry {
    name: "flooded_vm_served",
    measures: "what a web server serves that another VM floods with datagrams",
    // A flood meets the clock in another place each time.
    repeats: Repeats::Within(0.2),
    run: flooded,
};

const fn entry(name: &'static str, measures: &'static str, run: fn(&Bench) -> Result<Vec<Figure>>) -> Entry {
    Entry { name, measures, repeats: Repeats::Exactly, run }
}

/// The servers that are asked.
pub const VICTIMS: usize = 2;
/// Requests in a second at a twentieth of what the servers can, and at half of that; and how many are measured.
pub const LIGHT: (u32, u32) = (2_400, 2_400);
pub const HALF: (u32, u32) = (24_000, 9_600);
/// Emulators with a busy host take minutes for a second.
const PATIENCE: Duration = Duration::from_secs(600);

/// What came of the requests; times in microseconds of the machine.
pub struct Outcome {
    requests: u64,
    served: u64,
    p50: u64,
    p99: u64,
    p999: u64,
}

impl Outcome {
    /// What a line says.
    pub fn read(line: &str) -> Result<Outcome> {
        let of = |key| parse(line, key);
        Ok(Outcome {
            requests: of("requests")?,
            served: of("served")?,
            p50: of("p50_us")?,
            p99: of("p99_us")?,
            p999: of("p999_us")?,
        })
    }

    // Counts and microseconds are far below 2^53.
    #[allow(clippy::cast_precision_loss)]
    pub fn share(&self) -> f64 {
        (self.served as f64 / self.requests as f64 * 10_000.0).round() / 10_000.0
    }
}

/// Who is beside the servers: images that `vms=` names, and their boot arguments.
pub type Others = [(&'static str, &'static str)];

/// One that computes.
pub const LOOP: (&str, &str) = ("bench", "bench=work");
/// One that floods the first server with datagrams.
const FLOOD: (&str, &str) = ("hostile", "crime=datagram-flood");
/// One for each way to be antisocial that needs no disk.
pub const ALL: [(&str, &str); 10] = [
    ("hostile", "crime=loop"),
    ("hostile", "crime=hypercall-flood"),
    ("hostile", "crime=idle-flood"),
    ("hostile", "crime=kick-flood"),
    ("hostile", "crime=alarm-flood"),
    ("hostile", "crime=fault-flood"),
    ("hostile", "crime=page-flood"),
    ("hostile", "crime=console-flood"),
    ("hostile", "crime=broadcast-flood"),
    FLOOD,
];

/// Those that need more than the image of `hostile`: one that creates VMs and destroys them as fast as it can, and one that reads its virtual disk 32 blocks at a time.
pub const MORE: [(&str, &str); 3] = [
    ("hostile", "crime=wire-flood"),
    (CONTROLLER, "image=httpd bomb=64"),
    (READER, "mode=many op=read order=scattered width=32 count=1000000000"),
];
pub const CONTROLLER: &str = "control-vm";
const READER: &str = "disk-log";
/// Blocks of that one's disk.
const BLOCKS: usize = 256;

/// A machine whose first `victims` servers are asked so often, beside others, under this scheduler.
pub fn asked(lab: &Lab, sched: &str, load: (u32, u32), victims: usize, others: &Others) -> Result<Running> {
    weighty(lab, sched, load, victims, others, None)
}

/// The same with servers of this weight.
pub fn weighty(
    lab: &Lab,
    sched: &str,
    (rate, count): (u32, u32),
    victims: usize,
    others: &Others,
    weight: Option<u32>,
) -> Result<Running> {
    // Images of their own, so that they have boot arguments of their own; those that are alike share one, as there are few.
    let kinds: Vec<_> = others.iter().collect::<BTreeSet<_>>().into_iter().collect();
    let kind = |other| kinds.iter().position(|kind| *kind == other).unwrap_or_default();
    let names = others.iter().map(|other| format!(",other-{}", kind(other))).collect::<String>();
    let options = format!("vms=httpd*{VICTIMS}{names} sched={sched} slots=4096");
    let mut boot = load::boot(lab, &options, &format!("ask-{rate}-{count}-{victims}"))?.deterministic();
    for program in [CONTROLLER, READER].into_iter().filter(|image| kinds.iter().any(|(kind, _)| kind == image)) {
        for (name, path) in build_bins(&[program.to_owned()])? {
            boot = boot.program(&name, path);
        }
    }
    let disk = if kinds.iter().any(|(image, _)| *image == READER) { Some(disk()?) } else { None };
    if let Some((_, disk)) = &disk {
        boot = boot.disks(DiskKind::Virtio, std::slice::from_ref(disk));
    }
    let boot = boot.system(|system| {
        let mut images = std::mem::take(&mut system.image);
        // One that controls the machine is no image of the usual one.
        let like = images.iter().find(|image| image.name == "hostile").cloned();
        images.extend(like.filter(|_| images.iter().all(|image| image.name != CONTROLLER)).map(|like| Image {
            name: CONTROLLER.to_owned(),
            module: Some(CONTROLLER.to_owned()),
            control: true,
            ..like
        }));
        for (index, (image, args)) in kinds.iter().enumerate() {
            let like = images.iter().find(|like| like.name == *image).cloned();
            system.image.extend(like.map(|like| Image {
                name: format!("other-{index}"),
                module: Some(like.module.unwrap_or(like.name)),
                args: (*args).to_owned(),
                disk: (*image == READER).then(|| "web:ro".to_owned()),
                ready: None,
                ..like
            }));
        }
        let servers = images.into_iter().filter(|image| image.name == "httpd");
        system.image.extend(servers.map(|server| Image { weight: weight.or(server.weight), ..server }));
    });
    let running = boot.start()?;
    if disk.is_some() {
        // Whoever has it open keeps it.
        running.wait_for("diskmux: set foraker: 1 members", PATIENCE)?;
    }
    Ok(running)
}

/// A disk with a virtual disk `web`, all blocks of which hold something, in a folder that goes with the first of both.
fn disk() -> Result<(Temporary, PathBuf)> {
    let dir = scratch("bench-victims")?;
    let (disk, tree) = (dir.path().join("disk"), dir.path().join("tree"));
    std::fs::write(&tree, vec![7; BLOCKS * 4096]).context(|| "cannot write what is to be on the disk".into())?;
    let words = [format!("--image=web={}", tree.display()), "--size=8MiB".to_owned()];
    mkdisk::make(&mkdisk::Args::parse([disk.clone()].into_iter().chain(words.map(PathBuf::from)))?)?;
    Ok((dir, disk))
}

/// What comes of the requests to such a machine.
fn ask(lab: &Lab, sched: &str, load: (u32, u32), victims: usize, others: &Others) -> Result<Outcome> {
    outcome(&asked(lab, sched, load, victims, others)?)
}

/// What its clients say.
pub fn outcome(running: &Running) -> Result<Outcome> {
    Outcome::read(&running.wait_for("load: requests=", PATIENCE)?)
}

/// What all of these have in common.
pub fn conditions((rate, count): (u32, u32), beside: &str) -> String {
    format!(
        "QEMU, SVM, one CPU, TSC counts instructions (icount shift=0), 10^9 a second; sched=fair; {VICTIMS} httpd, {beside}; {count} requests for /100b, \
         {rate} a second, Poisson arrivals, a connection per request, from clients that the demultiplexer holds; times from when a request was due"
    )
}

fn computing(loops: usize) -> String {
    format!("{loops} VMs that compute")
}

/// A line for each scheduler, for docs/evaluation.md.
pub fn note(notes: &mut String, what: &str, outcome: &Outcome) {
    let Outcome { p50, p99, p999, .. } = outcome;
    // Writing to a string cannot fail.
    let _ = writeln!(notes, "    {what}: served {:.4}, p50 {p50} us, p99 {p99} us, p999 {p999} us", outcome.share());
}

fn served(bench: &Bench, metric: &'static str, loops: usize) -> Result<Vec<Figure>> {
    let (lab, mut notes) = (Lab::with(Kind::Qemu)?, String::new());
    note(&mut notes, "alone", &ask(&lab, "fair", HALF, VICTIMS, &[])?);
    let fair = ask(&lab, "fair", HALF, VICTIMS, &vec![LOOP; loops])?;
    note(&mut notes, "fair", &fair);
    note(&mut notes, "round-robin", &ask(&lab, "round-robin", HALF, VICTIMS, &vec![LOOP; loops])?);
    bench.note(notes);
    Ok(vec![Figure { metric, value: fair.share(), unit: "ratio", conditions: conditions(HALF, &computing(loops)) }])
}

// Microseconds are far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn light(bench: &Bench, metric: &'static str, loops: usize) -> Result<Vec<Figure>> {
    let (lab, mut notes) = (Lab::with(Kind::Qemu)?, String::new());
    let alone = ask(&lab, "fair", LIGHT, VICTIMS, &[])?;
    note(&mut notes, "alone", &alone);
    let fair = ask(&lab, "fair", LIGHT, VICTIMS, &vec![LOOP; loops])?;
    note(&mut notes, "fair", &fair);
    note(&mut notes, "round-robin", &ask(&lab, "round-robin", LIGHT, VICTIMS, &vec![LOOP; loops])?);
    bench.note(notes);
    let value = (fair.p99 as f64 / alone.p99.max(1) as f64 * 100.0).round() / 100.0;
    Ok(vec![Figure { metric, value, unit: "ratio", conditions: conditions(LIGHT, &computing(loops)) }])
}

/// By which two servers beside ten others have two thirds of what VMs get, as two beside one have.
const WEIGHT: u32 = 1_000;

fn beside_all(bench: &Bench) -> Result<Vec<Figure>> {
    let (lab, mut notes) = (Lab::with(Kind::Qemu)?, String::new());
    let mut ask = |sched, weight| -> Result<f64> {
        let outcome = outcome(&weighty(&lab, sched, HALF, VICTIMS, &ALL, weight)?)?;
        note(&mut notes, &format!("{sched}, servers of weight {}", weight.unwrap_or(100)), &outcome);
        Ok(outcome.share())
    };
    let value = ask("fair", Some(WEIGHT))?;
    ask("fair", None)?;
    ask("round-robin", None)?;
    bench.note(notes);
    let beside = "of weight 1,000, one VM of weight 100 each that computes, idles until the past, and floods with hypercalls, kicks, alarms, faults, pages, \
                  lines, broadcasts and datagrams to the first server";
    let conditions = conditions(HALF, beside);
    Ok(vec![Figure { metric: SERVED_BESIDE_ALL.name, value, unit: "ratio", conditions }])
}

/// Of half of what one of two servers can; the other one is not asked.
const HALF_OF_ONE: (u32, u32) = (12_000, 4_800);

fn flooded(bench: &Bench) -> Result<Vec<Figure>> {
    let (lab, mut notes) = (Lab::with(Kind::Qemu)?, String::new());
    note(&mut notes, "alone", &ask(&lab, "fair", HALF_OF_ONE, 1, &[])?);
    let fair = ask(&lab, "fair", HALF_OF_ONE, 1, &[FLOOD])?;
    note(&mut notes, "fair", &fair);
    note(&mut notes, "round-robin", &ask(&lab, "round-robin", HALF_OF_ONE, 1, &[FLOOD])?);
    bench.note(notes);
    let beside = "of which one is asked, and one VM that sends datagrams of 36 bytes to that one without end";
    Ok(vec![Figure {
        metric: FLOODED.name,
        value: fair.share(),
        unit: "ratio",
        conditions: conditions(HALF_OF_ONE, beside),
    }])
}
