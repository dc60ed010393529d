//! `disks` and `scrub`: what the disk component is asked, one question after the other, and its answers as lines.

use crate::command::Command;
use crate::host::{Asked, Host};
use crate::session::Session;
use crate::step::{Job, Step, Walk};
use abi::disk::{DiskReply, disk_state, driver, entry_kind, problem, set_state};
use abi::limits::Name;
use abi::message::Message;
use core::fmt::{Display, Formatter, Result};

impl Session {
    /// Sends the question of this step.
    pub(crate) fn ask_disks(&mut self, command: Command, step: Walk, host: &mut impl Host) {
        let step = match (command, step) {
            (Command::Scrub(_), Walk::Disk(_)) => Walk::Entry(0),
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
        if let (Command::Scrub(wanted), Walk::Entry(index)) = (command, step) {
            return match reply {
                DiskReply::Entry { name, .. } if name == wanted => self.ask_disks(command, Walk::Scrub(index), host),
                _ => match step.next(found) {
                    Some(next) => self.ask_disks(command, next, host),
                    None => {
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

    /// The disk component was started anew: its answer is lost.
    pub fn disks_reset(&mut self, host: &mut impl Host) {
        if let Some(Job { command, step: Step::Disks(_) }) = self.job {
            host.print(format_args!("error {}: the disk component was started anew; try again", command.word()));
            self.finish();
        }
    }

    /// Whether the disk component reads a virtual disk, which takes as long as that.
    pub fn waits_for_scrub(&self) -> bool {
        matches!(self.job, Some(Job { step: Step::Disks(Walk::Scrub(_)), .. }))
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
            DiskReply::Entry { kind, name, first, blocks, .. } => {
                let kind = match kind {
                    entry_kind::SWAP => "swap",
                    entry_kind::DISK => "disk",
                    entry_kind::READ_ONLY => "read-only",
                    _ => "?",
                };
                write!(f, "entry name={name} kind={kind} blocks={blocks} first={first}")
            }
            DiskReply::Scrubbed { empty, good, bad, first_bad, .. } => {
                let name = if let Command::Scrub(name) = self.1 { name } else { Name::EMPTY };
                write!(f, "scrubbed name={name} empty={empty} good={good} bad={bad}")?;
                if bad > 0 { write!(f, " first_bad={first_bad}") } else { Ok(()) }
            }
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
