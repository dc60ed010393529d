//! Admission without a scheduler: a VM that the gatekeeper leaves waiting although there is room for it is admitted by the
//! core, first come, first served.
//!
//! The gatekeeper decides as long as it lives. It counts as dead for a VM that has waited [`PATIENCE_MS`] when enough frames
//! are free that nobody need wait, and the plan, which is its other work, does not come either (or nobody needs one).

use super::Machine;
use super::timers::NEVER;
use crate::cpu;
use backend::Backend;

/// How long the gatekeeper may take, in milliseconds.
const PATIENCE_MS: u64 = 1000;
/// VMs that are admitted before components come to their turn.
const BATCH: usize = 8;
/// One part in this many of the frames is kept free for the admitted VMs to grow into, as the gatekeeper does.
const RESERVE_PART: u64 = 64;

impl<B: Backend> Machine<B> {
    fn patience(&self) -> u64 {
        self.hardware.tsc_hz() / 1000 * PATIENCE_MS
    }

    /// A VM waits for admission from now on.
    pub(super) fn await_admission(&mut self, slot: u16) {
        self.waiting.push(slot);
        if self.admit_at == NEVER {
            self.admit_at = cpu::tsc().saturating_add(self.patience());
            self.arm(self.admit_at);
        }
    }

    /// Admit those that have waited too long; `admit_at` becomes the time of the next look.
    #[cold]
    pub(super) fn admit_late(&mut self, now: u64) {
        let patience = self.patience();
        for _ in 0..BATCH {
            let Some(slot) = self.waiting.first() else {
                self.admit_at = NEVER;
                return;
            };
            let Some(vm) = self.vms.get(slot) else {
                self.waiting.remove(slot);
                continue;
            };
            let (id, image, due) = (vm.id, vm.image, vm.created_tsc.saturating_add(patience));
            if due > now {
                self.admit_at = due;
                return;
            }
            let planned = !self.ready.is_empty() && !self.asked_scheduler;
            if planned || !has_room(self.frames_needed(image), self.frames.free_frames(), self.vm_frames) {
                self.admit_at = now.saturating_add(patience);
                return;
            }
            if self.component_log.allow(now, self.hardware.tsc_hz()).is_some() {
                log::warn!(target: "core", "{id} is admitted by the core: the scheduler has left it waiting for {PATIENCE_MS} ms");
            }
            self.admit(id);
        }
        // More of them when components have had their turn.
        self.admit_at = now;
    }
}

/// Whether a VM that needs this many frames would leave the reserve of the `all` frames for VMs free.
fn has_room(needed: u64, free: u64, all: u64) -> bool {
    free.checked_sub(needed).is_some_and(|left| left >= all / RESERVE_PART)
}

#[cfg(test)]
mod tests {
    use super::has_room;

    #[test]
    fn the_reserve_stays_free() {
        assert!(has_room(25, 125, 6400));
        assert!(!has_room(26, 125, 6400));
        assert!(!has_room(26, 25, 0));
        assert!(has_room(25, 25, 63));
        assert!(!has_room(u64::MAX, 25, u64::MAX));
    }
}
