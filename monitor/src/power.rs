//! `poweroff`: the machine goes off when the operator's VM has written down that it was asked for, or does not within two seconds.

use crate::host::Host;
use crate::session::{Outcome, Session};
use crate::step::{Job, Step};
use abi::control::{ControlReply, ControlRequest};

/// Looks for whether it is written down, each of which is followed by a [pause](Session::pauses): two seconds in all.
pub(crate) const LOOKS_MOST: u16 = 40;
/// Such pauses in a second.
pub const PAUSES: u64 = 20;

impl Session {
    /// Whether it goes on by itself, with [`Session::go_on`], when a [while](PAUSES) has passed.
    pub fn pauses(&self) -> bool {
        matches!(self.job, Some(Job { step: Step::Pause(..), .. }))
    }

    /// Goes on after a pause.
    pub fn go_on(&mut self, host: &mut impl Host) {
        if let Some(Job { command, step: Step::Pause(end, looks) }) = self.job {
            self.job = Some(Job { command, step: Step::Noted(end, looks) });
            self.advance(host);
        }
    }

    /// The core has said how much of the log is written down.
    pub(crate) fn power_off_when_noted(&mut self, job: Job, reply: ControlReply, host: &mut impl Host) -> Outcome {
        if let (Step::Noted(end, looks), ControlReply::Noted { end: now, until, vms }) = (job.step, reply) {
            // What is logged later is not waited for; but what was said before may not be logged yet.
            let end = end.or((now != u64::MAX).then_some(now));
            // Without a VM that writes it down nobody is.
            if vms != 0 && end.is_none_or(|end| until < end) && looks < LOOKS_MOST {
                self.job = Some(Job { step: Step::Pause(end, looks + 1), ..job });
                return Outcome::More;
            }
        }
        let _ = self.last(ControlRequest::PowerOff, host);
        // It has no answer, and why it could not be sent is said.
        Outcome::Failed
    }
}
