//! The hostile guest commits every crime of its table, each in a VM of its own, while eight web servers run beside it.
//!
//! After each crime the VM is gone for the documented reason or has said that it was contained, the monitor answers, and one
//! of the servers does; after each family, and while a flood runs, all eight do.

use super::ensure;
use crate::disk::{fsck, mkdisk};
use crate::error::{Context, Result, fail};
use crate::machine::{DiskKind, Kind};
use crate::test::Case;
use crate::test::lab::{BOOT, Lab, Running, number};
use crate::workspace::scratch;
use abi::end::EndReason;
use std::path::PathBuf;
use std::time::Duration;
use table::{CRIMES, Crime, Expect, Family};

#[path = "../../../../apps/hostile/src/table.rs"]
mod table;

/// How long a crime may take, the longest (every port, every page) included.
const CRIME: Duration = Duration::from_secs(90);
/// How long eight servers may take to answer.
const ANSWERS: Duration = Duration::from_secs(40);
/// Web servers.
const SERVERS: usize = 8;
/// Crimes of which something else comes in QEMU (7.2) than on a processor, and why that harms nobody. They are committed all
/// the same; the VM has to come to its end, and everybody else has to go on.
const OTHERWISE_IN_QEMU: &[(&str, &str)] = &[
    ("xsetbv", "XSETBV does not exit, whatever the VMCB says; the backend puts XCR0 back before another guest runs"),
    ("push-non-canonical", "the exception is 13 instead of 12"),
    ("rdtscp", "it does not exit, whatever the VMCB says; TSC_AUX is 0"),
    ("simd-error", "there are no SIMD exceptions"),
    ("cr3-reserved", "MOV takes the bits, and the next entry fails"),
];

macro_rules! cases {
    ($($function:ident $name:literal $family:ident;)*) => {
        pub const CASES: &[Case] = &[
            $(Case {
                name: concat!("hostile: ", $name),
                asserts: "each crime of this family is contained or ends its VM as documented; the core and eight servers go on",
                run: $function,
            },)*
            Case {
                name: "hostile: served commands",
                asserts: "the hostile guest takes commands over HTTP, commits them and answers again",
                run: served,
            },
            Case {
                name: "hostile: corrupt state",
                asserts: "VMs that cannot be entered end with the reason, and a VM created afterwards runs",
                run: corrupt_state,
            },
            Case {
                name: "qemu: hostile: disk",
                asserts: "lies in the rings of a virtual disk are contained; two VMs that know what they have written go on beside them, and the set stays whole",
                run: disk,
            },
        ];

        $(fn $function(lab: &Lab) -> Result<()> {
            family(lab, Family::$family)
        })*
    };
}

cases! {
    instructions "instructions" Instructions;
    exceptions "exceptions" Exceptions;
    memory "memory" Memory;
    hypercalls "hypercalls" Hypercalls;
    entries "entries" Entries;
    rings "rings" Rings;
    frames "frames" Frames;
    leaks "leaks" Leaks;
    mistakes "mistakes" Mistakes;
    floods "floods" Floods;
}

/// A VM that was created.
struct Suspect {
    /// Its slot.
    index: u32,
    /// As the log names it.
    name: String,
    /// What the machine says from its creation on.
    mark: usize,
}

impl Suspect {
    fn create(running: &Running, args: &str) -> Result<Suspect> {
        let mark = running.mark();
        let answer = running.monitor(&format!("create hostile {args}"))?;
        let line = answer.iter().find(|line| line.starts_with("created "));
        let Some(line) = line else { fail!("`create hostile {args}` was answered with {answer:?}") };
        let number = |key: &str| -> Result<u32> {
            let value = line.split(' ').find_map(|word| word.strip_prefix(key));
            value.unwrap_or_default().parse().context(|| format!("no number behind {key} in \"{line}\""))
        };
        let (index, incarnation) = (number("index=")?, number("incarnation=")?);
        Ok(Suspect { index, name: format!("vm{index}.{incarnation}"), mark })
    }

    /// Waits for the line with which the core says why this VM ended.
    fn end(&self, running: &Running) -> Result<String> {
        let line = running.wait_for_since(self.mark, &format!("{} ended: ", self.name), CRIME);
        line.map_err(|error| format!("{error}\n{}", state(running)).into())
    }

    /// Waits until it has ended for one of these reasons.
    fn ends_for(&self, running: &Running, reasons: &[EndReason]) -> Result<()> {
        let line = self.end(running)?;
        let expected = reasons.iter().any(|reason| line.contains(&format!("{} ended: {}", self.name, reason.text())));
        let names = || reasons.iter().map(|reason| reason.text()).collect::<Vec<_>>().join(" or ");
        ensure(expected, || format!("it was to end for {}, but: {line}", names()))
    }

    /// What it says of a crime must be this.
    fn says(&self, running: &Running, crime: &Crime, verdict: &str, patience: Duration) -> Result<()> {
        let line = format!("{}: hostile: {}: {verdict}", self.name, crime.name);
        running.wait_for_since(self.mark, &line, patience).map(|_| ())
    }

    /// Waits until it has ended by itself, after it has told its mistake with these words.
    fn tells(&self, running: &Running, words: &str) -> Result<()> {
        let end = self.end(running)?;
        let line = running.wait_for_since(self.mark, &format!("{}: {words}", self.name), Duration::from_secs(1));
        line.context(|| format!("but: {end}"))?;
        self.ends_for(running, &[EndReason::Exited])
    }

    /// Waits until it has ended after it has said what was expected of it.
    fn survives(&self, running: &Running, crime: &Crime, verdict: &str) -> Result<()> {
        // The core empties the console before it says that the VM has ended.
        let end = self.end(running)?;
        self.says(running, crime, verdict, Duration::from_secs(1)).context(|| format!("but: {end}"))?;
        self.ends_for(running, &[EndReason::Exited])
    }

    fn destroy(&self, running: &Running) -> Result<()> {
        running.monitor(&format!("destroy {}", self.index))?;
        self.ends_for(running, &[EndReason::Destroyed])
    }
}

/// What the monitor says about the machine, for a test that has failed.
fn state(running: &Running) -> String {
    let ask = |command| match running.monitor(command) {
        Ok(lines) => lines.join("\n"),
        Err(error) => error.to_string(),
    };
    format!("The monitor says:\n{}\n{}\n{}", ask("vms"), ask("components"), ask("machine"))
}

/// Commits all crimes of a family on one machine.
fn family(lab: &Lab, family: Family) -> Result<()> {
    let mut running = lab.boot(&format!("vms=httpd*{SERVERS}")).start()?;
    running.wait_for_services(BOOT)?;
    running.wait_for_monitor()?;
    let crimes: Vec<&Crime> = CRIMES.iter().filter(|crime| crime.family == family).collect();
    ensure(!crimes.is_empty(), || format!("the table has no {}", family.name()))?;
    let mut left = Vec::new();
    for (number, crime) in crimes.iter().enumerate() {
        let what = || format!("{} ({})", crime.name, crime.what);
        let suspect = commit(&mut running, crime).context(what)?;
        // What is left behind is looked for while those who leave it still run.
        match suspect {
            Some(suspect) if family == Family::Leaks => left.push(suspect),
            Some(suspect) => suspect.destroy(&running).context(what)?,
            None => {}
        }
        running.get(number % SERVERS, "/").context(|| format!("after {}", crime.name))?;
    }
    for suspect in left {
        running.must_not_say(suspect.mark, "ESCAPED")?;
        suspect.destroy(&running)?;
    }
    running.wait_for_services(ANSWERS).context(|| "after all of the family".into())?;
    running.must_not_say(0, "panic")?;
    let lost = running.monitor("vms")?;
    let alive = lost.iter().filter(|line| line.contains("image=httpd")).count();
    ensure(alive == SERVERS, || format!("{alive} of {SERVERS} servers are left: {lost:?}"))?;
    running.power_off()
}

/// Commits all crimes against a virtual disk, in VMs that have one, while two others are busy with theirs.
fn disk(_: &Lab) -> Result<()> {
    let (dir, lab) = (scratch("hostile-disk")?, Lab::with(Kind::Qemu)?);
    let members = ["one", "two"].map(|name| dir.path().join(name));
    let words = ["--disk=first=256KiB", "--disk=own=256KiB", "--disk=last=256KiB", "--size=8MiB"].map(PathBuf::from);
    mkdisk::make(&mkdisk::Args::parse(members.iter().cloned().chain(words))?)?;
    let running = lab.boot("vms=asm-guest").disks(DiskKind::Virtio, &members).start()?;
    running.wait_for_monitor()?;
    running.wait_for("diskmux: set foraker: 2 members", ANSWERS)?;
    let mut victims = Vec::new();
    for name in ["first", "last"] {
        let lines = running.monitor(&format!("create disk-log disk={name} mode=load"))?;
        victims.push(lines.iter().find_map(|line| number(line, "index")).context(|| lines.join("\n"))?);
    }
    running.wait_for_lines(2, "disk-log: load begins", ANSWERS)?;
    for crime in CRIMES.iter().filter(|crime| crime.family == Family::Disk) {
        let what = || format!("{} ({})", crime.name, crime.what);
        let suspect = Suspect::create(&running, &format!("disk=own crime={}", crime.name))?;
        suspect.survives(&running, crime, crime.verdict().unwrap_or_default()).context(what)?;
        let mark = running.mark();
        running.wait_for_since(mark, "disk-log: load requests=", ANSWERS).context(what)?;
        running.must_not_say(0, "disk-log: LOST").context(what)?;
    }
    for slot in victims {
        let mark = running.mark();
        running.monitor(&format!("shutdown {slot}"))?;
        running.wait_for_since(mark, "disk-log: load ok", ANSWERS)?;
    }
    running.must_not_say(0, "panic")?;
    running.power_off()?;
    let report = fsck::check(&members, false)?;
    ensure(report.faults == 0, || report.text)
}

/// Commits one crime, with and without a fault handler where that makes a difference. Returns the VM if it still runs.
fn commit(running: &mut Running, crime: &Crime) -> Result<Option<Suspect>> {
    let suspect = Suspect::create(running, &format!("crime={}", crime.name))?;
    if running.machine().kind() == Kind::Qemu && OTHERWISE_IN_QEMU.iter().any(|(name, _)| *name == crime.name) {
        return suspect.ends_for(running, &[EndReason::Exited, EndReason::EntryFailure]).map(|()| None);
    }
    match (crime.expect, crime.verdict()) {
        (Expect::Ends(reasons), _) => suspect.ends_for(running, reasons)?,
        (Expect::Told(words), _) => suspect.tells(running, words)?,
        (Expect::Runs, Some(verdict)) => {
            suspect.says(running, crime, verdict, CRIME)?;
            running.wait_for_services(ANSWERS).context(|| "while it runs".into())?;
            running.monitor("machine").context(|| "while it runs".into())?;
            return Ok(Some(suspect));
        }
        (_, Some(verdict)) => suspect.survives(running, crime, verdict)?,
        (_, None) => fail!("the table does not say what must come of it"),
    }
    let bare = crime.ends_without_handler();
    if !bare.is_empty() {
        let suspect = Suspect::create(running, &format!("crime={} bare", crime.name))?;
        suspect.ends_for(running, bare).context(|| "without a fault handler".into())?;
    }
    Ok(None)
}

/// Crimes on request.
fn served(lab: &Lab) -> Result<()> {
    let mut running = lab.boot("vms=hostile").start()?;
    running.wait_until_ready(BOOT)?;
    let list = running.get(0, "/crimes")?;
    let lines = String::from_utf8_lossy(&list.body).lines().count();
    ensure(list.status == 200 && lines == CRIMES.len(), || format!("/crimes: status {}, {lines} lines", list.status))?;
    for name in ["cpuid", "outs-power-off", "int3", "read-beyond", "self-modify", "unknown", "alarm-past", "swapgs"] {
        let answer = running.get(0, &format!("/crime/{name}"))?;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        ensure(answer.status == 200 && body.contains("contained"), || {
            format!("{name}: status {}: {body}", answer.status)
        })?;
    }
    ensure(running.get(0, "/crime/tx-noise")?.status == 409, || "a crime against its own rings is not refused".into())?;
    ensure(running.get(0, "/crime/nonsense")?.status == 404, || "a crime that there is not is not refused".into())?;
    let mark = running.mark();
    running.get(0, "/crime/fault-in-handler")?;
    running.wait_for_since(mark, &format!("ended: {}", EndReason::NestedFault.text()), CRIME)?;
    running.power_off()
}

/// The core spoils the state of the first three VMs (`selftest=entry-failure`).
fn corrupt_state(lab: &Lab) -> Result<()> {
    let running = lab.boot("vms=httpd*3 selftest=entry-failure").test_image()?.start()?;
    running.wait_for_lines(3, &format!("ended: {}", EndReason::EntryFailure.text()), BOOT)?;
    running.wait_for_monitor()?;
    let suspect = Suspect::create(&running, "crime=ud2")?;
    let Some(crime) = table::find("ud2") else { fail!("the table has no ud2") };
    suspect.survives(&running, crime, crime.verdict().unwrap_or_default())?;
    running.power_off()
}
