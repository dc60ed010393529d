//! The conversation with the core: one command at a time, as requests and their answers.

use crate::command::{Command, HELP};
use crate::composition::{Composition, IMAGE_ARGS, Who};
use crate::host::Host;
use crate::mistake::Mistake;
use crate::processor;
use crate::quota;
use crate::refusal;
use crate::report::Report;
use crate::step::{Job, Step, Walk};
use abi::control::{ControlReply, ControlRequest, GATEKEEPER, status};
use abi::guest::BOOT_ARGS_MAX;
use abi::limits::{LIVE_IMAGES, LIVE_TENANTS, MAX_COMPONENTS, MAX_POLICIES, Name};
use abi::message::Message;
use abi::quota::{Beyond, Quota};
use abi::request_page::Piece;
use abi::vm::{ImageId, Slot, VmId};
use core::fmt::{Display, Formatter};

#[derive(Clone, Copy, Debug)]
struct Pending {
    id: u32,
    request: ControlRequest,
}

/// The console's state.
#[derive(Debug)]
pub struct Session {
    vm_slots: u32,
    /// Ticks of the TSC in a second; 0 when nobody knows.
    tsc_hz: u64,
    /// Names of the images by index, as they were when this command began: images come and go.
    pub(crate) images: heapless::Vec<Name, LIVE_IMAGES>,
    pub(crate) job: Option<Job>,
    /// The request that waits for its answer.
    pending: Option<Pending>,
    pub(crate) last_id: u32,
    /// Policies of the component that is to have another one, as far as they were told.
    known: heapless::Vec<Name, MAX_POLICIES>,
    /// What the core has said last of what a tenant may do in a second; what it has beside that follows.
    flow: Option<ControlReply>,
    /// Where the state of a processor is that was taken, as far as it was.
    loaded: Piece,
    /// The VM that is to be created or to become somebody else.
    pub(crate) composition: Composition,
}

/// How often a VM is put together anew because another one took its slot.
const MOVED_MOST: u32 = 8;

/// What became of an answer.
pub(crate) enum Outcome {
    /// The command goes on.
    More,
    /// It is done.
    Done,
    /// It has failed and has said why.
    Failed,
}

impl Session {
    /// A session on a machine with `vm_slots` slots for VMs.
    pub const fn new(vm_slots: u32) -> Self {
        Session {
            vm_slots,
            tsc_hz: 0,
            images: heapless::Vec::new(),
            job: None,
            pending: None,
            last_id: 0,
            known: heapless::Vec::new(),
            flow: None,
            loaded: processor::NONE,
            composition: Composition::new(),
        }
    }

    /// On a machine whose TSC makes so many ticks in a second.
    #[must_use]
    pub const fn with_clock(mut self, tsc_hz: u64) -> Self {
        self.tsc_hz = tsc_hz;
        self
    }

    /// An answer as a line.
    fn report(&self, reply: ControlReply) -> Report<'_> {
        Report { reply, flow: self.flow, images: &self.images, tsc_hz: self.tsc_hz }
    }

    /// Whether a command waits for answers. The next one must wait for it.
    pub fn busy(&self) -> bool {
        self.job.is_some()
    }

    /// Starts the command on `line`. Must not be called while [`Session::busy`].
    pub fn line(&mut self, line: &str, host: &mut impl Host) {
        match Command::parse(line, &mut self.composition.extra) {
            Ok(Command::Help) => {
                print_help(host);
                host.print(format_args!("done help"));
            }
            Ok(command @ (Command::Disks | Command::Scrub(_) | Command::Snapshot(..))) => {
                self.ask_disks(command, Walk::FIRST, host)
            }
            Ok(Command::Load(at)) => match processor::load(self.loaded, at, self.composition.extra.as_bytes(), host) {
                Ok(loaded) => {
                    self.loaded = loaded;
                    host.print(format_args!("done load"));
                }
                Err(why) => host.print(format_args!("error load: {why}")),
            },
            Ok(command) => self.start(command, host),
            Err(Mistake::Unknown) => {
                print_help(host);
                let word = line.trim_matches(' ').split(' ').next().unwrap_or("");
                host.print(format_args!("error {word}: no such command; the list above has them all"));
            }
            Err(Mistake::Arguments { word, takes: "" }) => {
                host.print(format_args!("error {word}: it takes no arguments; write {word:?} alone"));
            }
            Err(Mistake::Arguments { word, takes }) => {
                host.print(format_args!("error {word}: wrong arguments; write \"{word} {takes}\""));
            }
            Err(Mistake::Terms { word, takes }) => {
                host.print(format_args!("error create: this is no {word}; write {takes}"));
            }
            Err(Mistake::Address) => {
                host.print(format_args!("error identity: this is no host's address; write addr=A.B.C.D"));
            }
            Err(Mistake::LongArguments) => {
                let word = line.trim_matches(' ').split(' ').next().unwrap_or("");
                host.print(format_args!(
                    "error {word}: the extra boot arguments are too long; write at most {BOOT_ARGS_MAX} characters"
                ));
            }
        }
    }

    fn start(&mut self, command: Command, host: &mut impl Host) {
        let step = match command {
            Command::Vms | Command::Vm(_) | Command::Create(..) => {
                self.images.clear();
                Step::Names(0)
            }
            _ => first_step(command),
        };
        if command == Command::PowerOff {
            // There is no answer: this is the last chance to say something, and what is said is written down before the machine goes off.
            host.print(format_args!("done poweroff"));
        }
        self.known.clear();
        self.flow = None;
        self.composition.moved = 0;
        self.composition.judged = false;
        self.job = Some(Job { command, step });
        self.advance(host);
    }

    /// Takes an answer from the core.
    pub fn reply(&mut self, message: &Message, host: &mut impl Host) {
        let Some(job) = self.job else { return };
        // An answer to a question that nobody asks any more.
        let Some(Pending { request, .. }) = self.pending.filter(|pending| pending.id == message.id) else { return };
        let reply = match ControlReply::try_from(message) {
            Ok(reply) => reply,
            Err(bad) => {
                let word = job.command.word();
                host.print(format_args!(
                    "error {word}: the core's answer is no answer ({bad}); build both from one source"
                ));
                return self.finish();
            }
        };
        let answered = match request {
            ControlRequest::Frames => matches!(reply, ControlReply::Done { .. }),
            ControlRequest::Machine => !matches!(reply, ControlReply::Machine { .. }),
            ControlRequest::Tenant { .. } | ControlRequest::NextTenant { .. } => {
                if matches!(reply, ControlReply::Flow { .. }) {
                    self.flow = Some(reply);
                    return;
                }
                true
            }
            _ => true,
        };
        if answered {
            self.pending = None;
        }
        match self.take(job, request, reply, host) {
            Outcome::More => self.advance(host),
            Outcome::Done => {
                host.print(format_args!("done {}", job.command.word()));
                self.finish();
            }
            Outcome::Failed => self.finish(),
        }
    }

    /// What an answer means for the command.
    fn take(&mut self, job: Job, request: ControlRequest, reply: ControlReply, host: &mut impl Host) -> Outcome {
        let none_left = matches!(reply, ControlReply::Done { status: status::NOT_FOUND, .. });
        match (job.step, reply) {
            (Step::Names(_), ControlReply::Image { name, .. }) => {
                // Cannot be full: there are requests for `LIVE_IMAGES` only.
                let _ = self.images.push(name);
                if self.images.is_full() { self.names_known(job.command) } else { Outcome::More }
            }
            (Step::Names(_), _) if none_left => self.names_known(job.command),
            (Step::Walk(_), ControlReply::Vm { vm, .. } | ControlReply::Charges { vm, .. }) => {
                host.print(format_args!("{}", self.report(reply)));
                self.walk_on(job, u64::from(vm.slot.number()) + 1, host)
            }
            (Step::Walk(asked), ControlReply::Tenant { number, .. }) => {
                host.print(format_args!("{}", self.report(reply)));
                // Each answer leads on, or the list would never end.
                match number.checked_add(1).filter(|&next| next >= asked) {
                    Some(next) => {
                        self.job = Some(Job { step: Step::Walk(next), ..job });
                        Outcome::More
                    }
                    None => Outcome::Done,
                }
            }
            (Step::Walk(_), ControlReply::Done { status: status::GO_ON, value }) => self.walk_on(job, value, host),
            (Step::Walk(_), ControlReply::Component { index, name, .. }) if matches!(job.command, Command::Kill(_)) => {
                let Command::Kill(wanted) = job.command else { return Outcome::More };
                if name == wanted { self.last(ControlRequest::Kill { component: index }, host) } else { Outcome::More }
            }
            (Step::Walk(_), ControlReply::Policy { component: of, name, .. })
                if matches!(job.command, Command::Policy(..)) =>
            {
                let (Command::Policy(wanted, policy), ControlRequest::Policy { component, policy: number }) =
                    (job.command, request)
                else {
                    return Outcome::More;
                };
                if of != wanted {
                    return Outcome::More;
                }
                // Not more than one component has.
                let _ = self.known.push(name);
                if name == policy {
                    return self.last(ControlRequest::Swap { component, policy: number }, host);
                }
                Outcome::More
            }
            (Step::Walk(_), _) if none_left => self.end_of_list(job.command, host),
            (Step::Walk(_), ControlReply::Image { name, .. }) if name.is_empty() => Outcome::More,
            (Step::Walk(_), reply) => {
                host.print(format_args!("{}", self.report(reply)));
                Outcome::More
            }
            (Step::Find, ControlReply::Tenant { quota: had, .. }) => self.change_quota(job.command, had, host),
            // It has none yet.
            (Step::Find, _) if none_left && matches!(job.command, Command::Quota(..)) => {
                self.change_quota(job.command, Quota::NONE, host)
            }
            (Step::Find, ControlReply::Vm { vm, image, ipv4, .. }) => {
                let request = match job.command {
                    Command::State(_) => ControlRequest::ReadState { vm, to: processor::ALL },
                    Command::Restore(_) => ControlRequest::WriteState { vm, from: self.loaded },
                    Command::Shutdown(_) => ControlRequest::Shutdown { vm },
                    Command::Identity(_, address) => {
                        self.composition.who = Who::Other(vm, if address == 0 { ipv4 } else { address });
                        self.composition.image = image;
                        self.job = Some(Job { step: Step::Network, ..job });
                        return Outcome::More;
                    }
                    _ => ControlRequest::Destroy { vm },
                };
                self.last(request, host)
            }
            (Step::Holder(_, seat), reply) if matches!(reply, ControlReply::DiskOf { .. }) || none_left => {
                self.judge_holder(job.command, seat, reply, host)
            }
            (Step::Noted(..), reply) => self.power_off_when_noted(job, reply, host),
            (Step::Network, ControlReply::Network { net, next }) => {
                self.composition.net = net;
                // Where none is free, the core says so when it is asked for the VM.
                self.composition.slot = next.unwrap_or(Slot::new(0));
                self.job = Some(Job { step: Step::ImageArguments, ..job });
                Outcome::More
            }
            (Step::ImageArguments, ControlReply::Done { status: status::OK, .. }) => self.compose(job.command, host),
            (Step::Last, ControlReply::Done { status: status::MOVED, value })
                if self.composition.moved < MOVED_MOST =>
            {
                // Another one has come to live, or has ended, meanwhile.
                self.composition.moved += 1;
                self.composition.slot = Slot::new(u32::try_from(value).unwrap_or(0));
                self.compose(job.command, host)
            }
            (Step::Last, ControlReply::Done { status, value })
                if matches!(status, status::OVER_VMS | status::OVER_MEMORY) =>
            {
                let Some(beyond) = Beyond::from_raw(value) else {
                    refusal::say(job.command, request, status, host);
                    return Outcome::Failed;
                };
                let outcome = self.last(ControlRequest::Tenant { tenant: beyond.tenant }, host);
                self.job = self.job.map(|job| Job { step: Step::Refused(status, beyond), ..job });
                outcome
            }
            (Step::Refused(status, beyond), reply) => {
                quota::say(job.command.word(), status, beyond, reply, host);
                Outcome::Failed
            }
            (Step::Last, ControlReply::Done { status: status::OK, value }) => {
                if let Command::State(slot) = job.command {
                    processor::show(slot, value, host);
                }
                if let Command::Create(image, ..) = job.command {
                    let VmId { slot, generation } = VmId::from_raw(value);
                    host.print(format_args!("created index={slot} incarnation={generation} image={image}"));
                }
                Outcome::Done
            }
            (Step::Last, ControlReply::Vm { vm, .. }) if matches!(job.command, Command::Vm(_)) => {
                host.print(format_args!("{}", self.report(reply)));
                self.last(ControlRequest::Share { slot: vm.slot }, host)
            }
            (_, ControlReply::Done { status, .. }) => {
                refusal::say(job.command, request, status, host);
                Outcome::Failed
            }
            (Step::Last, ControlReply::DiskOf { disk, .. }) => {
                if !disk.is_empty() {
                    host.print(format_args!("{}", self.report(reply)));
                }
                Outcome::Done
            }
            (_, reply) => {
                host.print(format_args!("{}", self.report(reply)));
                match reply {
                    ControlReply::Exits { .. } if job.command == Command::Machine => {
                        self.last(ControlRequest::Barriers, host)
                    }
                    ControlReply::Share { vm, .. } => self.last(ControlRequest::NextCharges { slot: vm.slot }, host),
                    ControlReply::Charges { vm, .. } => self.last(ControlRequest::DiskOf { slot: vm.slot }, host),
                    ControlReply::Frame { .. }
                    | ControlReply::Exits { .. }
                    | ControlReply::Barriers { .. }
                    | ControlReply::Account { .. }
                    | ControlReply::Pool { .. } => Outcome::Done,
                    // What lies in the pool belongs to it.
                    ControlReply::Wakes { .. } => self.last(ControlRequest::Pool, host),
                    _ => Outcome::More,
                }
            }
        }
    }

    /// What a tenant may have that had this quota.
    fn change_quota(&mut self, command: Command, had: Quota, host: &mut impl Host) -> Outcome {
        let Command::Quota(tenant, change) = command else { return Outcome::Failed };
        self.last(ControlRequest::SetQuota { tenant, quota: change.of(had), flow: change.flow() }, host)
    }

    /// The list of VMs goes on from this slot.
    fn walk_on(&mut self, job: Job, from: u64, host: &mut impl Host) -> Outcome {
        match (job.step, u32::try_from(from)) {
            // Each answer leads on, or the list would never end.
            (Step::Walk(asked), Ok(from)) if from >= asked && from < self.vm_slots => {
                self.job = Some(Job { step: Step::Walk(from), ..job });
                Outcome::More
            }
            _ => self.end_of_list(job.command, host),
        }
    }

    fn names_known(&mut self, command: Command) -> Outcome {
        self.job = Some(Job { command, step: first_step(command) });
        Outcome::More
    }

    /// There are no more entries.
    fn end_of_list(&mut self, command: Command, host: &mut impl Host) -> Outcome {
        match command {
            Command::Charges => self.last(ControlRequest::Account, host),
            // There are numbers without a policy between the others.
            Command::Policies | Command::Policy(..) => Outcome::More,
            Command::Kill(name) => {
                host.print(format_args!("error kill: no component {name}; \"components\" lists them"));
                Outcome::Failed
            }
            _ => Outcome::Done,
        }
    }

    /// There is no such component or policy; what there is instead.
    fn print_no_policy(&self, component: Name, policy: Name, host: &mut impl Host) {
        let known = Names(&self.known);
        match self.known.len() {
            0 => host.print(format_args!("error policy: no component {component}; \"policy\" lists them")),
            1 => host.print(format_args!("error policy: {component} has no policies to choose from, only {known}")),
            _ => host.print(format_args!("error policy: {component} has no policy {policy}; it has {known}")),
        }
    }

    /// Sends the command's last request.
    pub(crate) fn last(&mut self, request: ControlRequest, host: &mut impl Host) -> Outcome {
        let sent = self.request(request, host);
        if let Some(job) = &mut self.job {
            job.step = Step::Last;
            if !sent {
                print_full(job.command, host);
            }
        }
        if sent { Outcome::More } else { Outcome::Failed }
    }

    /// Sends what can be sent now.
    pub(crate) fn advance(&mut self, host: &mut impl Host) {
        // Bounded: each round sends a request, of which one can be pending, or ends.
        while let Some(Job { command, step }) = self.job {
            let (request, next) = match step {
                Step::Disks(_) | Step::Refused(..) | Step::Pause(..) => return,
                Step::Network if self.wants_disk(command) => return self.ask_disks(command, Walk::VmLoad(0), host),
                Step::Names(index) => (ControlRequest::Image { image: ImageId::new(index) }, Step::Names(index + 1)),
                Step::Walk(index) => {
                    let (request, end) = match command {
                        Command::Vms => {
                            (ControlRequest::NextVm { slot: Slot::new(index) }, Slot::new(self.vm_slots).index())
                        }
                        Command::Charges => {
                            (ControlRequest::NextCharges { slot: Slot::new(index) }, Slot::new(self.vm_slots).index())
                        }
                        Command::Policies | Command::Policy(..) => {
                            let (component, policy) = policy_at(index);
                            (ControlRequest::Policy { component, policy }, Slot::new(POLICY_END).index())
                        }
                        Command::Tenants => (ControlRequest::NextTenant { number: index }, LIVE_TENANTS),
                        Command::Images => (ControlRequest::Image { image: ImageId::new(index) }, LIVE_IMAGES),
                        _ => (
                            ControlRequest::Component { index: u16::try_from(index).unwrap_or(u16::MAX) },
                            MAX_COMPONENTS,
                        ),
                    };
                    if Slot::new(index).index() >= end {
                        if self.pending.is_none() {
                            self.walked(command, host);
                        }
                        return;
                    }
                    (request, Step::Walk(index + 1))
                }
                Step::Find | Step::Network | Step::ImageArguments | Step::Holder(..) | Step::Noted(..) | Step::Last
                    if self.pending.is_some() =>
                {
                    return;
                }
                Step::Noted(..) => (ControlRequest::Noted { until: 0 }, step),
                Step::Network => match self.network_request(command, host) {
                    Some(request) => (request, step),
                    None => return,
                },
                Step::ImageArguments => {
                    (ControlRequest::ImageArguments { image: self.composition.image, to: IMAGE_ARGS }, step)
                }
                Step::Holder(slot, _) => (ControlRequest::DiskOf { slot }, step),
                Step::Find | Step::Last => match self.only_request(command) {
                    Some(request) => (request, step),
                    None => return,
                },
            };
            if self.pending.is_some() {
                return;
            }
            if !self.request(request, host) {
                print_full(command, host);
                self.finish();
                return;
            }
            self.job = Some(Job { command, step: next });
        }
    }

    /// All entries of the command's list have been asked for and answered.
    fn walked(&mut self, command: Command, host: &mut impl Host) {
        if let Command::Policy(component, policy) = command {
            self.print_no_policy(component, policy, host);
        } else if command == Command::Charges {
            // The sums come last.
            if matches!(self.end_of_list(command, host), Outcome::More) {
                return;
            }
        } else if !matches!(self.end_of_list(command, host), Outcome::Failed) {
            host.print(format_args!("done {}", command.word()));
        }
        self.finish();
    }

    /// The request of a command that has only one; for those that end a VM, the one that finds it. `None` when it cannot
    /// be made, and the command has ended.
    fn only_request(&mut self, command: Command) -> Option<ControlRequest> {
        Some(match command {
            Command::Frames => ControlRequest::Frames,
            Command::Frame(address) => ControlRequest::Frame { address },
            Command::Machine => ControlRequest::Machine,
            Command::Wakes => ControlRequest::Wakes,
            Command::Quota(tenant, _) => ControlRequest::Tenant { tenant },
            Command::Swap => ControlRequest::Pool,
            Command::Vm(slot)
            | Command::Destroy(slot)
            | Command::Shutdown(slot)
            | Command::Identity(slot, ..)
            | Command::State(slot)
            | Command::Restore(slot) => ControlRequest::Vm { slot },
            Command::Create(..)
            | Command::Help
            | Command::PowerOff
            | Command::Vms
            | Command::Charges
            | Command::Components
            | Command::Images
            | Command::Tenants
            | Command::Disks
            | Command::Scrub(_)
            | Command::Snapshot(..)
            | Command::Kill(_)
            | Command::Load(_)
            | Command::Policies
            | Command::Policy(..) => {
                self.finish();
                return None;
            }
        })
    }

    fn request(&mut self, request: ControlRequest, host: &mut impl Host) -> bool {
        if self.pending.is_some() {
            return false;
        }
        self.last_id = self.last_id.wrapping_add(1).max(1);
        let sent = host.send(&Message { id: self.last_id, ..Message::from(request) });
        if sent {
            self.pending = Some(Pending { id: self.last_id, request });
        }
        sent
    }

    /// The rings were reset: answers that were under way are lost. Asks again, but for what must not be done twice.
    pub fn reset(&mut self, host: &mut impl Host) {
        let Some(job) = self.job else { return };
        if let Some(Pending { id, request }) = self.pending {
            let once = matches!(
                request,
                ControlRequest::Create { .. } | ControlRequest::Kill { .. } | ControlRequest::Swap { .. }
            );
            if once || !host.send(&Message { id, ..Message::from(request) }) {
                let word = job.command.word();
                host.print(format_args!(
                    "error {word}: the core's answer was lost; see whether it was done, then try again"
                ));
                self.finish();
            }
        }
    }

    /// The core has not answered for too long.
    pub fn expired(&mut self, host: &mut impl Host) {
        if let Some(job) = self.job {
            let who = if let Step::Disks(_) = job.step { "disk component" } else { "core" };
            host.print(format_args!("error {}: the {who} does not answer; try again", job.command.word()));
            self.finish();
        }
    }

    pub(crate) fn finish(&mut self) {
        self.job = None;
        self.pending = None;
    }
}

/// Where a command starts when the names of the images are known or not needed.
fn first_step(command: Command) -> Step {
    match command {
        Command::Vms
        | Command::Charges
        | Command::Components
        | Command::Images
        | Command::Tenants
        | Command::Kill(_)
        | Command::Policies
        | Command::Policy(..) => Step::Walk(0),
        Command::Destroy(_)
        | Command::Shutdown(_)
        | Command::Identity(..)
        | Command::State(_)
        | Command::Quota(..)
        | Command::Restore(_) => Step::Find,
        Command::Create(..) => Step::Network,
        Command::PowerOff => Step::Noted(None, 0),
        _ => Step::Last,
    }
}

/// Those who have policies: the components and, behind them, the gatekeeper.
const HOLDERS: usize = GATEKEEPER as usize + 1;
/// Policies are numbered from one of them to the next.
// They are few.
#[allow(clippy::cast_possible_truncation)]
const POLICY_END: u32 = (HOLDERS * MAX_POLICIES) as u32;

/// The numbers of component and policy with this number among all.
fn policy_at(index: u32) -> (u16, u16) {
    let each = POLICY_END / u32::try_from(HOLDERS).unwrap_or(1);
    let small = |number| u16::try_from(number).unwrap_or(u16::MAX);
    (small(index / each), small(index % each))
}

/// Names with commas between them.
struct Names<'a>(&'a [Name]);

impl Display for Names<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> core::fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            write!(f, "{}{name}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

fn print_full(command: Command, host: &mut impl Host) {
    host.print(format_args!("error {}: the ring to the core is full; try again", command.word()));
}

fn print_help(host: &mut impl Host) {
    for (word, takes, what) in HELP {
        if takes.is_empty() {
            host.print(format_args!("help {word}: {what}"));
        } else {
            host.print(format_args!("help {word} {takes}: {what}"));
        }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
