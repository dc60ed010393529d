//! The machine fuzzed from inside: guests that do what comes into their heads, beside web servers that are asked all the while.
//!
//! A run has a seed, which is printed and kept. From it come the instructions of the guests' image and the seed of each guest. A guest that ends is
//! followed by one with the next seed.

use super::ensure;
use crate::build::build_bins;
use crate::error::{Context, Result, fail};
use crate::http;
use crate::image::stripped;
use crate::machine::Kind;
use crate::manifest::Bytes;
use crate::manifest::model::{Image, Start};
use crate::test::Case;
use crate::test::lab::{BOOT, Boot, Lab, Running, number};
use crate::workspace::out;
use guest_fuzz::act::CLASSES;
use guest_fuzz::avoided::Emulator;
use guest_fuzz::counts::Counts;
use guest_fuzz::{CORPUS_BYTES, MARK, Noise, corpus};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

pub const CASES: &[Case] = &[Case { name: "fuzz: from inside", asserts: ASSERTS, run: |lab| fuzz(lab, MILLION) }];
pub const LONG_CASES: &[Case] =
    &[Case { name: "fuzz: from inside, at length", asserts: ASSERTS, run: |lab| fuzz(lab, 100 * MILLION) }];

const ASSERTS: &str = "guests that execute random instructions and hypercalls, with random register pages, rings and page tables, harm nobody: servers answer, no other VM ends, no component dies, all frames come back";

/// Steps on both machines together.
const MILLION: u64 = 1_000_000;
/// Of a hundred of them, those on Bochs, which is several times slower than QEMU.
const ON_BOCHS: u64 = 20;
/// Steps on one machine, after which it is booted anew with other instructions.
const STEPS_A_BOOT: u64 = 5_000_000;
/// Steps of one guest.
const STEPS_A_GUEST: u64 = 50_000;
/// Guests that run at the same time.
const AT_ONCE: usize = 3;
/// Web servers beside them.
const SERVERS: u32 = 2;
/// How long one may take to answer; a client whose connection is not taken tries again after a second, and then after two.
const ANSWER: Duration = Duration::from_secs(15);
/// How long a guest may say nothing until it is taken for stuck: in a loop without an alarm, or asleep for good.
const SILENCE: Duration = Duration::from_secs(10);
/// How long no guest at all may come on.
const STANDSTILL: Duration = Duration::from_secs(60);
/// Boots in a row that an emulator may end by itself before so many steps were done.
const ABORTS: u32 = 5;
const ABORTED_EARLY: u64 = 10_000;
/// The seed of the normal suite, so that a change is judged by what others were judged by; the long one draws new ones.
const SEED: u64 = 21;
const IMAGE: &str = "guest-fuzz";

fn fuzz(lab: &Lab, both: u64) -> Result<()> {
    let part = if lab.kind() == Kind::Bochs { ON_BOCHS } else { 100 - ON_BOCHS };
    let steps = both / 100 * part;
    let mut seed = lab.seed.unwrap_or_else(|| if both > MILLION { drawn() } else { SEED });
    let mut counts = Counts::default();
    let mut aborts = 0;
    while counts.total() < steps {
        note(lab, seed, "begins")?;
        let mut boot = Rampage::new(lab, seed, (steps - counts.total()).min(STEPS_A_BOOT));
        let result = boot.run();
        counts += boot.done();
        let said = format!("seed {seed} on {}: {}; {}", lab.kind().name(), boot.done(), boot.ends());
        match result {
            Ok(()) => note(lab, seed, &said)?,
            Err(Trouble::Emulator(what)) => {
                note(lab, seed, &format!("{said}; the emulator ended: {what}"))?;
                println!("       the emulator ended by itself, which says nothing of Foraker: {what} ({said})");
                aborts = if boot.done().total() < ABORTED_EARLY { aborts + 1 } else { 0 };
                ensure(aborts < ABORTS, || {
                    format!("the emulator has ended {aborts} times in a row, the last time: {what}. {said}")
                })?;
            }
            Err(Trouble::Foraker(error)) => {
                note(lab, seed, &format!("{said}; failed: {error}"))?;
                fail!(
                    "{error}\n{said}\nagain: cargo xtask test --machine {} --seed {seed} 'fuzz: from inside'",
                    lab.kind().name().to_lowercase()
                );
            }
        }
        seed = seed.wrapping_add(1);
    }
    println!("       {} steps: {counts}", counts.total());
    let none = CLASSES.iter().zip(counts.0).find(|(_, count)| *count == 0);
    ensure(none.is_none(), || format!("no steps of the class {:?}", none.map(|(class, _)| class.1)))
}

/// A seed that nobody has chosen.
fn drawn() -> u64 {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Noise::new(clock.as_secs() ^ u64::from(clock.subsec_nanos())).word() >> 24
}

/// Keeps a line about a seed.
fn note(lab: &Lab, seed: u64, what: &str) -> Result<()> {
    let path = out("guest-fuzz")?.join("seeds");
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
    let line = format!("{} {seed} {}\n", lab.kind().name(), what.lines().next().unwrap_or_default());
    file.and_then(|mut file| file.write_all(line.as_bytes())).context(|| format!("cannot write {}", path.display()))
}

/// Why a run ended early.
enum Trouble {
    /// The emulator gave up.
    Emulator(String),
    /// Something happened that must not.
    Foraker(crate::error::Error),
}

impl From<crate::error::Error> for Trouble {
    fn from(error: crate::error::Error) -> Trouble {
        Trouble::Foraker(error)
    }
}

/// A guest that fuzzes.
struct Guest {
    /// As the log names it.
    name: String,
    slot: u32,
    /// What it has said of its steps, and when.
    counts: Counts,
    heard: Instant,
}

/// One boot of a machine with guests that fuzz it.
struct Rampage<'a> {
    lab: &'a Lab,
    seed: u64,
    steps: u64,
    guests: Vec<Guest>,
    /// Guests that were created.
    created: u64,
    /// Steps of those that have ended.
    ended: Counts,
    /// For what they have ended, and how often; "stuck" where it was us.
    reasons: BTreeMap<String, u32>,
}

impl<'a> Rampage<'a> {
    fn new(lab: &'a Lab, seed: u64, steps: u64) -> Rampage<'a> {
        Rampage { lab, seed, steps, guests: Vec::new(), created: 0, ended: Counts::default(), reasons: BTreeMap::new() }
    }

    /// Steps so far.
    fn done(&self) -> Counts {
        let mut sum = self.ended;
        self.guests.iter().for_each(|guest| sum += guest.counts);
        sum
    }

    /// How the guests have ended, in words.
    fn ends(&self) -> String {
        let ends: Vec<String> = self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        format!("{} guests, {}", self.created, ends.join(", "))
    }

    fn run(&mut self) -> std::result::Result<(), Trouble> {
        let mut running = self.boot()?.start()?;
        let result = self.rage(&mut running);
        // Whatever looks wrong: is there a machine at all?
        if running.machine().wait_for_end(Duration::from_millis(if result.is_err() { 500 } else { 0 }))
            && !running.machine().powered_off()
        {
            let dir = running.machine().dir().display().to_string();
            if let Some(what) = running.machine().gave_up() {
                return Err(Trouble::Emulator(format!("{what}; see {dir}")));
            }
        }
        result?;
        Ok(running.power_off()?)
    }

    fn boot(&self) -> Result<Boot<'a>> {
        let name = IMAGE.to_owned();
        let programs = build_bins(std::slice::from_ref(&name))?;
        let Some(program) = programs.get(&name) else { fail!("{name} was not built") };
        let mut bytes = stripped(program)?;
        let Some(at) = bytes.windows(MARK.len()).position(|window| window == MARK) else {
            fail!("{} has no place for instructions", program.display());
        };
        let emulator = if self.lab.kind() == Kind::Bochs { Emulator::Bochs } else { Emulator::Qemu };
        corpus::fill(&mut bytes[at..at + CORPUS_BYTES], self.seed, emulator);
        let image = Image {
            name,
            module: None,
            memory: Bytes(2 << 20),
            rx_slots: 256,
            tx_slots: 256,
            net: None,
            pager: None,
            control: false,
            reads_disks: false,
            start: Start::Now,
            args: String::new(),
            reserve: None,
            limit: None,
            tenant: None,
            weight: None,
            rate: None,
            burst: None,
            ports: Vec::new(),
            ready: None,
            disk: None,
            disk_rate: None,
        };
        let boot = self.lab.boot(&format!("vms=httpd*{SERVERS}")).module(IMAGE, bytes);
        Ok(boot.system(|system| system.image.push(image)))
    }

    fn rage(&mut self, running: &mut Running) -> std::result::Result<(), Trouble> {
        running.wait_for_services(BOOT)?;
        running.wait_for_monitor()?;
        let frames = frames_of_all(running)?;
        let (over, lost, answered) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
        let running = &*running;
        std::thread::scope(|scope| {
            for &service in running.services() {
                let (over, lost, answered) = (&over, &lost, &answered);
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        let good = http::get(service, "/100b", ANSWER).is_ok_and(|answer| answer.status == 200);
                        let count = if good { answered } else { lost };
                        count.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(100));
                    }
                });
            }
            let result = self.steps(running, &lost);
            over.store(true, Ordering::Relaxed);
            result
        })?;
        let (lost, answered) = (lost.into_inner(), answered.into_inner());
        ensure(lost == 0 && answered > 0, || {
            format!("the servers have not answered {lost} of {} requests", lost + answered)
        })?;
        running.must_not_say(0, "FATAL")?;
        running.must_not_say(0, "panic")?;
        running.must_not_say(0, " killed: ")?;
        for server in 0..SERVERS {
            running.must_not_say(0, &format!("vm{server}.1 ended"))?;
        }
        // Everybody goes: everything must come back.
        let slots: Vec<u32> = self.guests.iter().map(|guest| guest.slot).chain(0..SERVERS).collect();
        for slot in slots {
            // One may have ended in between.
            let _ = running.monitor(&format!("destroy {slot}"));
        }
        Ok(come_back(running, frames)?)
    }

    /// Until there were enough of them.
    fn steps(&mut self, running: &Running, lost: &AtomicU32) -> Result<()> {
        let mut mark = 0;
        let mut moved = (0, Instant::now());
        while self.done().total() < self.steps {
            let lines = running.said_since(mark);
            mark += lines.len();
            lines.iter().for_each(|line| self.hear(line));
            self.give_up_on_the_stuck(running)?;
            while self.guests.len() < AT_ONCE {
                self.create(running)?;
            }
            ensure(lost.load(Ordering::Relaxed) == 0, || "a server does not answer".into())?;
            let done = self.done().total();
            if done > moved.0 {
                moved = (done, Instant::now());
            }
            ensure(moved.1.elapsed() < STANDSTILL, || format!("no guest comes on, after {done} steps"))?;
            if lines.is_empty() {
                ensure(running.is_on(), || "the machine has ended".into())?;
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    fn create(&mut self, running: &Running) -> Result<()> {
        // So that guests of one run, and of the next seed's, have nothing in common.
        let seed = self.seed.wrapping_mul(1 << 20).wrapping_add(self.created);
        let trace = self.lab.trace.map(|step| format!(" trace={step}")).unwrap_or_default();
        let answer = running.monitor(&format!("create {IMAGE} seed={seed} steps={STEPS_A_GUEST}{trace}"))?;
        let line = answer.iter().find(|line| line.starts_with("created ")).cloned().unwrap_or_default();
        let (Some(slot), Some(generation)) = (number(&line, "index"), number(&line, "incarnation")) else {
            fail!("`create {IMAGE}` was answered with {answer:?}");
        };
        self.created += 1;
        let slot = u32::try_from(slot).context(|| line)?;
        let name = format!("vm{slot}.{generation}");
        self.guests.push(Guest { name, slot, counts: Counts::default(), heard: Instant::now() });
        Ok(())
    }

    /// Takes notice of a line of the log.
    fn hear(&mut self, line: &str) {
        let named = |guest: &Guest| line.split(' ').any(|word| word.trim_end_matches(':') == guest.name);
        let Some(index) = self.guests.iter().position(named) else { return };
        if let Some((_, reason)) = line.split_once(" ended: ") {
            self.bury(index, reason.split(" (").next().unwrap_or_default());
        } else if line.contains(": guest-fuzz: ") {
            let guest = &mut self.guests[index];
            guest.heard = Instant::now();
            guest.counts = Counts::parse(line).unwrap_or(guest.counts);
        }
    }

    fn bury(&mut self, index: usize, reason: &str) {
        let guest = self.guests.remove(index);
        self.ended += guest.counts;
        *self.reasons.entry(reason.to_owned()).or_default() += 1;
    }

    fn give_up_on_the_stuck(&mut self, running: &Running) -> Result<()> {
        while let Some(index) = self.guests.iter().position(|guest| guest.heard.elapsed() > SILENCE) {
            let (slot, name) = (self.guests[index].slot, self.guests[index].name.clone());
            // One that has ended, and of which no line was heard, is not there any more.
            let _ = running.monitor(&format!("destroy {slot}"));
            self.bury(index, &format!("stuck ({name})"));
        }
        Ok(())
    }
}

/// Frames of the machine, and of those how many are VMs'.
fn frames_of_all(running: &Running) -> Result<(u64, u64)> {
    let lines = running.monitor("frames")?;
    let sum = |of: &dyn Fn(&str) -> bool| {
        lines.iter().filter(|line| of(line)).filter_map(|line| number(line, "frames")).sum()
    };
    Ok((sum(&|_| true), sum(&|line| line.contains("owner=vm-"))))
}

/// Waits until no frame is a VM's, and all are there.
fn come_back(running: &Running, before: (u64, u64)) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let (all, of_vms) = frames_of_all(running)?;
        if all == before.0 && of_vms == 0 && before.1 > 0 {
            return Ok(());
        }
        if Instant::now() >= end {
            let frames = running.monitor("frames")?.join("\n");
            fail!("of {} frames there are {all}, {of_vms} of them still VMs' that are gone:\n{frames}", before.0);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
