//! Waits until all VMs that a machine is asked for are ready, and says which are not and why.

use super::Vm;
use super::line::{self, Line};
use super::sample::Sample;
use crate::error::{Context, Result, fail};
use crate::machine::Machine;
use crate::manifest::model::{Port, Ready};
use abi::end::EndReason;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a VM without a sign must have been seen running until it is ready: one that ends at once is not.
const RUNS: Duration = Duration::from_secs(1);
/// Time between two questions to the monitor for the list of VMs.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long one VM may take to show its sign until the next one's turn.
const PROBE: Duration = Duration::from_secs(2);
/// Pause between two looks at all VMs.
const PAUSE: Duration = Duration::from_millis(100);
/// Time for further lines when one tells that something is wrong.
const MORE_LINES: Duration = Duration::from_millis(500);
/// When no further VM has become ready for so long, none will.
const STALLED: Duration = Duration::from_secs(60);
/// VMs that a message tells about; of the others it tells how many there are.
const SHOWN: usize = 10;

/// How a wait has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All VMs are ready.
    Ready,
    /// Ctrl-C was pressed.
    Interrupted,
}

/// True when the readiness of some VM shows only in lines of the log that are information: those of guests and of the monitor.
pub fn wants_information(vms: &[Vm]) -> bool {
    vms.is_empty() || vms.iter().any(|vm| !answers(vm))
}

/// Waits until all of `vms` are ready, for `limit` at most. Of those that are ready when they answer, only those of the sample are asked;
/// the others are as soon as the machine's log says that they run, or at once when the log `hides` that.
///
/// # Errors
/// The machine has stopped, or will not have all these VMs, or one has ended, or the time is over. What, why, and what to do.
pub fn wait(
    machine: &mut Machine,
    vms: &[Vm],
    sample: &Sample,
    hides: bool,
    limit: Duration,
    interrupted: &AtomicBool,
) -> Result<Outcome> {
    let start = Instant::now();
    let mut watch = Watch::new(vms, sample, hides);
    let (mut ready, mut progress) = (0, start);
    let (mut read, mut asked, mut next) = (0, None, 0);
    loop {
        if interrupted.load(Ordering::Relaxed) {
            return Ok(Outcome::Interrupted);
        }
        let new = listen(machine, &mut watch, read);
        read += new;
        if watch.stopped || machine.has_ended() {
            // The rest of the message.
            machine.wait_for_end(Duration::from_secs(1));
            fail!(
                "the machine stopped before its VMs were ready. Its last words:\n{}{}",
                machine.log().tail(12),
                where_logs_are(machine)
            );
        }
        if new > 0 && watch.is_bad() {
            std::thread::sleep(MORE_LINES);
            listen(machine, &mut watch, read);
            fail!("{}\n{}", watch.complaint(), end_of_log(machine));
        }
        let now = Instant::now();
        if watch.progress() > ready {
            (ready, progress) = (watch.progress(), now);
        }
        if now - start >= limit || now - progress >= STALLED {
            // Whoever is not listed was not created, or has ended.
            let _ = machine.send("vms");
            std::thread::sleep(MORE_LINES);
            listen(machine, &mut watch, read);
            fail!("{}\n{}", watch.lateness(limit.min(now - start)), end_of_log(machine));
        }
        // One VM, then the log again: a dead one is named soon, however many there are.
        if let Some(slot) = (next..vms.len()).find(|&slot| watch.wants_probe(slot)) {
            next = slot + 1;
            watch.probed(slot, probe(machine, &vms[slot]));
            continue;
        }
        if watch.is_ready() {
            return Ok(Outcome::Ready);
        }
        if asked.is_none_or(|asked| now - asked >= ASK_AGAIN)
            && let Some(question) = watch.question()
        {
            asked = Some(now);
            // When typing fails the machine has gone, which the next round sees.
            let _ = machine.send(question);
        }
        next = 0;
        std::thread::sleep(PAUSE);
    }
}

fn end_of_log(machine: &Machine) -> String {
    format!("The end of the machine's log:\n{}{}", machine.log().tail(20), where_logs_are(machine))
}

/// Tells `watch` the lines from number `from` on. How many there were.
fn listen(machine: &Machine, watch: &mut Watch<'_>, from: usize) -> usize {
    let lines = machine.log().since(from);
    lines.iter().for_each(|line| watch.hear(line, Instant::now()));
    lines.len()
}

/// Where to read more.
pub fn where_logs_are(machine: &Machine) -> String {
    let (name, log) = (machine.kind().name(), machine.kind().log());
    format!("The whole log is {0}/console.log; what {name} says is in {0}/{log}", machine.dir().display())
}

/// Looks for the sign of a VM that shows on the network.
fn probe(machine: &Machine, vm: &Vm) -> Result<()> {
    match &vm.ready {
        Some(Ready::Http(_)) => vm.ask_http(PROBE),
        Some(Ready::Tcp(number)) => match vm.address(Port::tcp(*number)) {
            Some(address) => probe_tcp(machine, address),
            None => fail!("it has no port tcp/{number}"),
        },
        Some(Ready::Console(_)) | None => Ok(()),
    }
}

fn probe_tcp(machine: &Machine, address: SocketAddr) -> Result<()> {
    let _connection = TcpStream::connect_timeout(&address, PROBE).context(|| format!("cannot connect to {address}"))?;
    let Some(net) = machine.net() else { return Ok(()) };
    // The user-mode network has taken it; the guest may not have yet.
    let end = Instant::now() + PROBE;
    while !net.has_taken(address) {
        if Instant::now() >= end {
            fail!("the VM does not take the connection to {address}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// What is known about each of the VMs.
struct Watch<'a> {
    vms: &'a [Vm],
    sample: &'a Sample,
    known: Vec<Known>,
    /// Images that cannot be used, and why.
    refused: Vec<(String, String)>,
    /// How many VMs were not created, and why.
    missing: Vec<(usize, String)>,
    /// The monitor takes commands. What is typed earlier gets lost in part.
    monitor: bool,
    /// VMs that have been admitted at least, by what the monitor has counted.
    admitted: usize,
    /// The monitor has listed all VMs.
    listed: bool,
    /// The core cannot go on.
    stopped: bool,
}

/// What is known about a VM.
#[derive(Clone, Default)]
struct Known {
    /// It has shown its sign.
    ready: bool,
    /// Since when it has been listed as running.
    runs_since: Option<Instant>,
    /// How it was listed last.
    state: Option<String>,
    /// It is in the list that is being made.
    in_list: bool,
    /// Why it has ended.
    end: Option<String>,
    /// What it said last.
    said: Option<String>,
    /// Why it did not show its sign when it was looked for.
    missed: Option<String>,
}

impl<'a> Watch<'a> {
    fn new(vms: &'a [Vm], sample: &'a Sample, hides: bool) -> Watch<'a> {
        let known = vms.iter().map(|vm| Known { ready: hides && is_believed(vm, sample), ..Known::default() });
        let known = known.collect();
        Watch {
            vms,
            sample,
            known,
            refused: Vec::new(),
            missing: Vec::new(),
            monitor: false,
            admitted: 0,
            listed: false,
            stopped: false,
        }
    }

    /// Takes note of a line of the log.
    fn hear(&mut self, line: &str, now: Instant) {
        match line::read(line) {
            Some(Line::Said(slot, text)) => {
                let Some((vm, known)) = self.vms.get(slot).zip(self.known.get_mut(slot)) else { return };
                known.ready |= match &vm.ready {
                    Some(Ready::Console(sign)) => text.contains(sign),
                    _ => is_believed(vm, self.sample),
                };
                known.said = Some(text.to_owned());
            }
            Some(Line::Ended(slot, reason, detail)) => {
                if let Some(known) = self.known.get_mut(slot) {
                    known.end = Some(match reason == EndReason::Exited.text() {
                        true => format!("exited with code {detail}"),
                        false => format!("{reason} (detail {detail:#x})"),
                    });
                }
            }
            Some(Line::Refused(name, why)) => self.refused.push((name.to_owned(), why.to_owned())),
            Some(Line::NotCreated(count, why)) => self.missing.push((count, why.to_owned())),
            Some(Line::Listed(slot, state)) => {
                if let Some(known) = self.known.get_mut(slot) {
                    known.in_list = true;
                    known.state = Some(state.to_owned());
                }
            }
            Some(Line::MonitorReady) => self.monitor = true,
            Some(Line::AllListed) => self.end_list(now),
            Some(Line::Counted(living, waiting)) => self.count(living, waiting),
            Some(Line::Fatal) => self.stopped = true,
            None => {}
        }
    }

    /// So many VMs live, and of these so many wait for admission. When none does, all have been in: those that are believed are ready.
    fn count(&mut self, living: usize, waiting: usize) {
        self.admitted = self.admitted.max(living.saturating_sub(waiting));
        if living >= self.vms.len() && waiting == 0 {
            for (vm, known) in self.vms.iter().zip(&mut self.known) {
                known.ready |= is_believed(vm, self.sample);
            }
        }
    }

    /// A list of all VMs is complete.
    fn end_list(&mut self, now: Instant) {
        self.listed = true;
        for (vm, known) in self.vms.iter().zip(&mut self.known) {
            let state = known.state.as_deref().filter(|_| known.in_list);
            let runs = state.is_some_and(|state| state != "waiting" && state != "ending");
            // One that was out waits again when it is to come in.
            let waits = state == Some("waiting");
            known.in_list = false;
            if runs {
                let since = *known.runs_since.get_or_insert(now);
                // One that is out does nothing until somebody asks it.
                let settled =
                    now - since >= RUNS || known.state.as_deref().is_some_and(|state| state.starts_with("out"));
                known.ready |= (vm.ready.is_none() || is_believed(vm, self.sample)) && settled;
            } else if known.runs_since.is_some() && known.end.is_none() && !waits {
                known.end = Some("the log does not say why".to_owned());
            }
        }
    }

    fn probed(&mut self, slot: usize, result: Result<()>) {
        match result {
            Ok(()) => self.known[slot].ready = true,
            Err(error) => self.known[slot].missed = Some(error.to_string()),
        }
    }

    fn wants_probe(&self, slot: usize) -> bool {
        !self.known[slot].ready && answers(&self.vms[slot]) && self.sample.has(slot)
    }

    fn wants_list(&self) -> bool {
        let unsure = |(vm, known): (&Vm, &Known)| !known.ready && (vm.ready.is_none() || is_believed(vm, self.sample));
        self.monitor && (self.vms.is_empty() || self.vms.iter().zip(&self.known).any(unsure))
    }

    /// What the monitor is to be asked for, where something is to be learnt by that: a list of very many VMs takes minutes, and a count tells as much of those
    /// that are believed.
    fn question(&self) -> Option<&'static str> {
        let all_answer = self.vms.iter().all(answers);
        self.wants_list().then_some(if self.sample.size().is_some() && all_answer { "wakes" } else { "vms" })
    }

    /// Grows as long as VMs become ready, or are admitted.
    fn progress(&self) -> usize {
        self.known.iter().filter(|known| known.ready).count() + self.admitted
    }

    fn is_ready(&self) -> bool {
        // A machine without VMs is ready when its monitor is.
        self.known.iter().all(|known| known.ready) && (!self.vms.is_empty() || self.listed)
    }

    /// VMs that are gone although somebody counts on them. One that says when it is ready may have done its work with that.
    fn gone(&self) -> impl Iterator<Item = (&Vm, &Known)> {
        let done = |vm: &Vm, known: &Known| known.ready && matches!(vm.ready, Some(Ready::Console(_)));
        self.vms.iter().zip(&self.known).filter(move |(vm, known)| known.end.is_some() && !done(vm, known))
    }

    /// Images that somebody counts on and that cannot be used.
    fn unusable(&self) -> impl Iterator<Item = &(String, String)> {
        self.refused.iter().filter(|(name, _)| self.vms.iter().any(|vm| vm.image == *name))
    }

    /// True when not all VMs can become ready any more.
    fn is_bad(&self) -> bool {
        self.gone().next().is_some() || self.unusable().next().is_some() || !self.missing.is_empty()
    }

    /// What is bad, and what to do.
    fn complaint(&self) -> String {
        let mut lines = vec!["what was asked for does not run:".to_owned()];
        for (name, why) in self.unusable() {
            let count = self.vms.iter().filter(|vm| vm.image == *name).count();
            lines.push(format!(
                "  the image {name} of {count} VMs is refused: {why}. Build it as docs/ilwaco.md says, against this version"
            ));
        }
        // What a refused image has come to is known already.
        if let Some((_, why)) = self.missing.first()
            && self.unusable().next().is_none()
        {
            let missing: usize = self.missing.iter().map(|(count, _)| count).sum();
            let asked = self.vms.len();
            lines.push(format!(
                "  {} of {asked} VMs were created: {why}. Ask for fewer with --vms, or give --memory more",
                asked.saturating_sub(missing)
            ));
        }
        let gone = self.gone().map(|(vm, known)| {
            let end = known.end.as_deref().unwrap_or_default();
            let when = if known.ready { "it was ready, but not all others were" } else { "before it was ready" };
            let said = known.said.as_ref().map(|said| format!(". Its last words: \"{said}\"")).unwrap_or_default();
            format!("  {} ended ({when}): {end}{said}", name(vm))
        });
        let before = lines.len();
        shorten(&mut lines, gone);
        if lines.len() > before {
            lines.push(
                "An image that is to end after its work is ready when it has said so: give it `ready = { console = \"...\" }` in \
                 system.toml; others have a mistake that their lines in the log tell about"
                    .to_owned(),
            );
        }
        lines.join("\n")
    }

    /// What is not ready after `limit`, and what to do.
    fn lateness(&self, limit: Duration) -> String {
        let late = || self.vms.iter().zip(&self.known).filter(|(_, known)| !known.ready);
        let (count, all, seconds) = (late().count(), self.vms.len(), limit.as_secs());
        if all == 0 {
            return format!("the monitor does not answer {seconds} s after power-on: see what the core says of it");
        }
        let mut lines = vec![format!("{count} of {all} VMs are not ready {seconds} s after power-on:")];
        shorten(&mut lines, late().map(|(vm, known)| format!("  {}: {}", name(vm), self.why_late(vm, known))));
        lines.push(
            "See what they say in the log; correct `ports` and `ready` of their images in system.toml if these ask for what they do not do"
                .to_owned(),
        );
        lines.join("\n")
    }

    fn why_late(&self, vm: &Vm, known: &Known) -> String {
        match (known.state.as_deref(), self.listed) {
            (None, true) => {
                return "it was not created, or has ended: ask for fewer VMs, or give --memory more".to_owned();
            }
            (Some("waiting"), _) => {
                return "it waits for memory or a seat: ask for fewer VMs, or give --memory more".to_owned();
            }
            _ => {}
        }
        let said = match &known.said {
            Some(said) => format!("the last was \"{said}\""),
            None => "it has said nothing".to_owned(),
        };
        match &vm.ready {
            Some(Ready::Console(sign)) => format!("it has not said a line with \"{sign}\"; {said}"),
            Some(_) if is_believed(vm, self.sample) => {
                format!("it was not to answer, but {said}, and the monitor does not list it")
            }
            Some(Ready::Http(_) | Ready::Tcp(_)) => {
                known.missed.clone().unwrap_or_else(|| "it was not asked yet".to_owned())
            }
            None => "the monitor does not list it".to_owned(),
        }
    }
}

/// Whether it is ready when it answers.
fn answers(vm: &Vm) -> bool {
    matches!(vm.ready, Some(Ready::Http(_) | Ready::Tcp(_)))
}

/// Whether it would have to answer if there were not so many, and the machine is believed instead.
fn is_believed(vm: &Vm, sample: &Sample) -> bool {
    answers(vm) && !sample.has(vm.slot)
}

fn name(vm: &Vm) -> String {
    format!("VM {} ({})", vm.slot, vm.image)
}

/// Adds the first of `more`, and how many others there are.
fn shorten(lines: &mut Vec<String>, mut more: impl Iterator<Item = String>) {
    lines.extend(more.by_ref().take(SHOWN));
    match more.count() {
        0 => {}
        others => lines.push(format!("  and {others} more")),
    }
}

#[cfg(test)]
#[path = "ready_tests.rs"]
mod tests;
