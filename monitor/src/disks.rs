//! `disks` and `scrub`: what the disk component is asked, one question after the other, and its answers as lines.

use crate::command::Command;
use crate::host::{Asked, Host};
use crate::session::{Outcome, Session};
use crate::step::{Job, Step, Walk};
use abi::attachment;
use abi::control::ControlReply;
use abi::disk::{DiskReply, disk_state, driver, entry_kind, problem, set_state, snapshot};
use abi::limits::Name;
use abi::message::Message;
use core::fmt::{Display, Formatter, Result};

impl Session {
    /// Sends the question of this step.
    pub(crate) fn ask_disks(&mut self, command: Command, step: Walk, host: &mut impl Host) {
        let step = match (command, step) {
            (Command::Scrub(_), Walk::Disk(_)) => Walk::Entry(0),
            (Command::Snapshot(name, new), _) => Walk::Snapshot(name, new),
            _ => step,
        };
        self.last_id = self.last_id.wrapping_add(1).max(1);
        self.job = Some(Job { command, step: Step::Disks(step) });
        let word = command.word();
        match host.ask_disks(&Message { id: self.last_id, ..Message::from(step.request()) }) {
            Asked::Sent => return,
            Asked::Full => host.print(format_args!("error {word}: the ring to the disk component is full; try again")),
            Asked::Nobody => host.print(format_args!(
                "error {word}: the machine had no disk when it was started; connect one and start it again"
            )),
        }
        self.finish();
    }

    /// Takes an answer from the disk component.
    pub fn disk_reply(&mut self, message: &Message, host: &mut impl Host) {
        let Some(Job { command, step: Step::Disks(step) }) = self.job else { return };
        if message.id != self.last_id {
            return;
        }
        let word = command.word();
        let reply = match DiskReply::try_from(message) {
            Ok(reply) => reply,
            Err(bad) => {
                host.print(format_args!(
                    "error {word}: the disk component's answer is no answer ({bad}); build both from one source"
                ));
                return self.finish();
            }
        };
        let found = reply != DiskReply::None;
        // Seats without such a VM were passed over.
        let step = if let DiskReply::VmLoad { index, .. } = reply { Walk::VmLoad(index) } else { step };
        if let Command::Create(_, terms) = command {
            return match reply {
                DiskReply::VmLoad { index, vm, disk, .. } if disk == terms.disk.disk => {
                    self.job = Some(Job { command, step: Step::Holder(vm.slot, index) });
                    self.advance(host);
                }
                _ => self.look_for_holder(command, step.next(found), host),
            };
        }
        if let (Command::Scrub(wanted), Walk::Entry(index)) = (command, step) {
            return match reply {
                DiskReply::Entry { name, .. } if name == wanted => self.ask_disks(command, Walk::Scrub(index), host),
                _ => match step.next(found) {
                    Some(next @ Walk::Entry(_)) => self.ask_disks(command, next, host),
                    _ => {
                        host.print(format_args!("error scrub: no virtual disk {wanted}; \"disks\" lists them"));
                        self.finish();
                    }
                },
            };
        }
        if let (Walk::Scrub(_), Command::Scrub(name), false) = (step, command, found) {
            host.print(format_args!("error scrub: {name} is no virtual disk, or another one is being read; try again"));
            return self.finish();
        }
        if let (DiskReply::Snapped { why, needed, free }, Command::Snapshot(name, new)) = (reply, command)
            && why != snapshot::TAKEN
        {
            host.print(format_args!("error {word}: {}", Refusal { why, needed, free, name, new }));
            return self.finish();
        }
        if found {
            host.print(format_args!("{}", Line(reply, command)));
        }
        match step.next(found) {
            Some(next) => self.ask_disks(command, next, host),
            None => {
                host.print(format_args!("done {word}"));
                self.finish();
            }
        }
    }

    /// Whether a VM that is to be created wants a virtual disk of which it is not known yet whether others have it.
    pub(crate) fn wants_disk(&self, command: Command) -> bool {
        matches!(command, Command::Create(_, terms) if !terms.disk.is_none()) && !self.composition.judged
    }

    /// Asks who else has a virtual disk; where all were asked about, the VM is created.
    fn look_for_holder(&mut self, command: Command, next: Option<Walk>, host: &mut impl Host) {
        if let Some(next) = next {
            return self.ask_disks(command, next, host);
        }
        self.composition.judged = true;
        self.job = Some(Job { command, step: Step::Network });
        self.advance(host);
    }

    /// Whether a VM that has the virtual disk is in the way of the one that is to be created; the next seat is `seat` + 1.
    pub(crate) fn judge_holder(
        &mut self,
        command: Command,
        seat: u16,
        reply: ControlReply,
        host: &mut impl Host,
    ) -> Outcome {
        let Command::Create(_, terms) = command else { return Outcome::Failed };
        if let ControlReply::DiskOf { vm, disk, mode, .. } = reply
            && disk == terms.disk.disk
            && !(terms.disk.is_read_only() && mode == attachment::mode::READ_ONLY)
        {
            let slot = vm.slot;
            host.print(format_args!(
                "error create: VM {slot} has {disk}; write \"shutdown {slot}\" first, or let both have {disk}:ro"
            ));
            return Outcome::Failed;
        }
        self.look_for_holder(command, seat.checked_add(1).map(Walk::VmLoad), host);
        Outcome::More
    }

    /// The disk component was started anew: its answer is lost.
    pub fn disks_reset(&mut self, host: &mut impl Host) {
        if let Some(Job { command, step: Step::Disks(_) }) = self.job {
            host.print(format_args!("error {}: the disk component was started anew; try again", command.word()));
            self.finish();
        }
    }

    /// Whether the disk component reads a virtual disk, or takes a snapshot of one, which takes as long as that.
    pub fn waits_for_disks(&self) -> bool {
        matches!(self.job, Some(Job { step: Step::Disks(Walk::Scrub(_) | Walk::Snapshot(..)), .. }))
    }
}

/// An answer as a line of `key=value`.
struct Line(DiskReply, Command);

impl Display for Line {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.0 {
            DiskReply::None => f.write_str("none"),
            DiskReply::Disk { index, driver: by, state, member, blocks, set, generation, requests, errors } => {
                let by = match by {
                    driver::VIRTIO => "virtio-blk",
                    driver::IDE => "ide",
                    driver::AHCI => "ahci",
                    driver::NVME => "nvme",
                    _ => "?",
                };
                write!(f, "disk index={index} driver={by} state={} blocks={blocks}", state_name(state))?;
                if matches!(state, disk_state::MEMBER | disk_state::SHRUNK) {
                    write!(f, " set={} member={member} generation={generation}", Uuid(set))?;
                }
                write!(f, " requests={requests} errors={errors}")
            }
            DiskReply::Set { index, members, state, name, id, generation, blocks } => {
                let state = match state {
                    set_state::USED => "used",
                    set_state::SPARE => "spare",
                    set_state::BROKEN => "broken",
                    set_state::READ_ONLY => "read-only",
                    _ => "?",
                };
                write!(
                    f,
                    "set index={index} name={name} id={} members={members} state={state} generation={generation} blocks={blocks}",
                    Uuid(id)
                )
            }
            DiskReply::Problem { set, what, which, first, second, .. } => {
                write!(f, "problem set={set} ")?;
                match what {
                    problem::MISSING => write!(f, "what=missing member={which}"),
                    problem::DUPLICATE => write!(f, "what=duplicate member={which} disks={first},{second}"),
                    problem::STALE => write!(f, "what=stale disk={which} generation={first} newest={second}"),
                    problem::SHRUNK => write!(f, "what=shrunk disk={which} blocks={first} recorded={second}"),
                    problem::DISAGREES => write!(f, "what=disagrees disk={which}"),
                    problem::UNFINISHED => f.write_str("what=unfinished"),
                    problem::UNOPENED => f.write_str("what=unopened"),
                    _ => f.write_str("what=?"),
                }
            }
            DiskReply::Entry { kind, name, first, blocks, beneath, .. } => {
                let kind = match kind {
                    entry_kind::SWAP => "swap",
                    entry_kind::DISK => "disk",
                    entry_kind::READ_ONLY => "read-only",
                    _ => "?",
                };
                write!(f, "entry name={name} kind={kind} blocks={blocks} first={first}")?;
                if beneath == Name::EMPTY { Ok(()) } else { write!(f, " beneath={beneath}") }
            }
            DiskReply::DiskLoad { index, queue, p50_us, p99_us } => {
                write!(f, "load disk={index} queue={queue} p50_us={p50_us} p99_us={p99_us}")
            }
            DiskReply::VmLoad { vm, disk, requests, errors, queue, p50_us, p99_us, .. } => {
                let (index, incarnation) = (vm.slot, vm.generation);
                write!(
                    f,
                    "load index={index} incarnation={incarnation} name={disk} requests={requests} errors={errors} queue={queue} p50_us={p50_us} p99_us={p99_us}"
                )
            }
            DiskReply::Read { .. } | DiskReply::Snapped { .. } => {
                let Command::Snapshot(name, new) = self.1 else { return f.write_str("snapshot") };
                write!(f, "snapshot of={name} name={new}")
            }
            DiskReply::Scrubbed { empty, good, bad, first_bad, .. } => {
                let name = if let Command::Scrub(name) = self.1 { name } else { Name::EMPTY };
                write!(f, "scrubbed name={name} empty={empty} good={good} bad={bad}")?;
                if bad > 0 { write!(f, " first_bad={first_bad}") } else { Ok(()) }
            }
        }
    }
}

/// Why there is no snapshot.
struct Refusal {
    why: u16,
    needed: u64,
    free: u64,
    name: Name,
    new: Name,
}

impl Display for Refusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let &Refusal { why, needed, free, name, new } = self;
        match why {
            snapshot::NO_SET => f.write_str("no set of disks is in use; \"disks\" says why"),
            snapshot::READ_ONLY_SET => {
                f.write_str("a disk of the set takes no writes; make it writable and start the machine again")
            }
            snapshot::NO_SUCH_DISK => write!(f, "no virtual disk {name}; \"disks\" lists them"),
            snapshot::NEVER_WRITTEN => write!(f, "{name} is never written: it stays as it is without a snapshot"),
            snapshot::BAD_NAME => write!(f, "{new} is no name of a virtual disk; take 1 to 16 of a-z A-Z 0-9 - _ ."),
            snapshot::NAME_TAKEN => write!(f, "there is a {new} already; take another name"),
            snapshot::TOO_DEEP => write!(
                f,
                "as many snapshots of {name} lie beneath each other as may; copy it to a new virtual disk first"
            ),
            snapshot::FULL => f.write_str("the directory of the set is full; make a set with fewer virtual disks"),
            snapshot::NO_ROOM => {
                write!(f, "{name} needs {needed} blocks of the set once more, and {free} are free; make a larger set")
            }
            snapshot::BUSY => f.write_str("another snapshot is being taken; try again"),
            snapshot::FAILED => {
                f.write_str("a disk could not do it, and nothing has changed; \"disks\" and the log say which")
            }
            _ => f.write_str("the disk component says what this program does not know; build both from one source"),
        }
    }
}

fn state_name(state: u16) -> &'static str {
    match state {
        disk_state::BLANK => "blank",
        disk_state::FOREIGN => "foreign",
        disk_state::UNREADABLE => "unreadable",
        disk_state::VERSION => "other-version",
        disk_state::DAMAGED => "damaged",
        disk_state::MIXED => "mixed",
        disk_state::SHRUNK => "shrunk",
        disk_state::MEMBER => "member",
        _ => "?",
    }
}

/// A UUID as one writes it.
struct Uuid([u8; 16]);

impl Display for Uuid {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for (at, byte) in self.0.iter().enumerate() {
            let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "disks_tests.rs"]
mod tests;
