//! Admission without a scheduler: a VM that the gatekeeper leaves waiting although there is room for it is admitted by the
//! core, first come, first served.
//!
//! The gatekeeper decides as long as it lives. It counts as dead for a VM that has waited [`PATIENCE_MS`], stolen time not counted
//! ([`crate::kernel::Steady`]), when there has been room for it for [`ROOM_MS`] and the gatekeeper has admitted nobody meanwhile, and the plan, which is its other work, does not come
//! either (or nobody needs one).

use crate::board::Board;
use crate::kernel::{Cpu, Kernel};
use crate::log::say;
use crate::vm::{NEVER, Queue, Seed};
use abi::control::{ControlReply, GATEKEEPER_NAME, policy_state, status};
use abi::limits::Name;
use abi::log::Record;
use abi::sched::{Admission, SchedEvent};
use abi::service::Service;
use abi::vm::VmId;
use backend::Backend;

/// How long the gatekeeper may take, in milliseconds.
const PATIENCE_MS: u64 = 1000;
/// For how many of these there has been room, and nobody was admitted. (Frames are free first and the gatekeeper hears of it then.)
const ROOM_MS: u64 = 250;
/// How soon the gatekeeper hears of frames that were given back, in milliseconds.
const TELL_MS: u64 = 10;
/// Milliseconds from one look to the next while those who hear of it have no space in their rings.
const PAUSE_MS: u64 = 1;
/// VMs that are admitted before components come to their turn.
const BATCH: usize = 8;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Admit those that have waited too long; `admit_at` becomes the time of the next look.
    #[cold]
    pub fn admit_late(&mut self, now: u64) {
        let Self { vms, cpu, .. } = self;
        if cpu.node.is_none() {
            let left = cpu.node_due.saturating_sub(cpu.steady.at(now));
            if left > 0 {
                cpu.admit_at = now.saturating_add(left);
                return;
            }
            let node = cpu.node();
            say(Record::NodeChosen { node: node.number() });
        }
        let patience = cpu.time.milliseconds(PATIENCE_MS);
        cpu.steady.look(now);
        if !cpu.queues.is_empty(Queue::Waiting) && cpu.has_room(cpu.endpoints.first(Service::Plan)) {
            let room = cpu.room(vms);
            cpu.tell_scheduler(SchedEvent::Room { room }, true);
        }
        for _ in 0..BATCH {
            let Some(seed) = cpu.queues.first(Queue::Waiting).and_then(|slot| vms.waiting_in(slot)) else {
                cpu.admit_at = NEVER;
                return;
            };
            let planned = !cpu.queues.is_empty(Queue::Ready) && !cpu.plan.asked;
            let has_room = vms.seats().free() != 0 && cpu.frames.unreserved() >= u64::from(vms.wants(&seed));
            let room_for = cpu.has_had_room(has_room, now);
            if planned || !has_room {
                cpu.admit_at = now.saturating_add(patience);
                return;
            }
            let left = patience.saturating_sub(cpu.has_waited(&seed, now));
            let left = left.max(cpu.time.milliseconds(ROOM_MS).saturating_sub(room_for));
            if left > 0 {
                // A longer break than a period would count as one; this look may come late.
                cpu.admit_at = now.saturating_add(left.min(cpu.steady.period_ticks() / 2));
                return;
            }
            if !cpu.all_have_room() {
                cpu.admit_at = now.saturating_add(cpu.time.milliseconds(PAUSE_MS));
                return;
            }
            if cpu.component_log.allow(now, cpu.time.tsc_hz()).is_some() {
                say(Record::AdmittedLate { vm: seed.id, waited_ms: PATIENCE_MS });
            }
            cpu.counters.late += 1;
            cpu.admit(vms, seed.id);
        }
        // More of them when components have had their turn.
        cpu.admit_at = now;
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// VMs are not created by the boot options before it is known which node this is, which the network demultiplexer says when it has
    /// started its NIC; but that must not be for ever.
    pub fn await_node(&mut self) {
        if self.node.is_none() {
            let (now, patience) = (self.board.now(), self.time.milliseconds(PATIENCE_MS));
            self.admit_at = now.saturating_add(patience);
            // No time that was stolen counts.
            self.node_due = self.steady.at(now).saturating_add(patience);
        }
    }

    /// Frames were given back: where VMs wait for admission, the gatekeeper is told soon. (Not at once: a guest could keep it busy.)
    pub fn has_more_room(&mut self) {
        if !self.queues.is_empty(Queue::Waiting) {
            let soon = self.board.now().saturating_add(self.time.milliseconds(TELL_MS));
            if soon < self.admit_at {
                self.admit_at = soon;
                self.arm(soon);
            }
        }
    }

    /// Milliseconds that were stolen until the TSC `now`, modulo 2^32.
    pub fn stolen_ms(&self, now: u64) -> u32 {
        let ms = self.steady.stolen(now) / self.time.milliseconds(1).max(1);
        // Cut on purpose: only differences are looked at.
        u32::try_from(ms & u64::from(u32::MAX)).unwrap_or(0)
    }

    /// Ticks for which a VM has waited for admission at the TSC `now`, without those that were stolen.
    pub(super) fn has_waited(&self, seed: &Seed, now: u64) -> u64 {
        let stolen = self.stolen_ms(now).wrapping_sub(seed.stolen_ms);
        now.saturating_sub(seed.created_tsc).saturating_sub(self.time.milliseconds(u64::from(stolen)))
    }

    /// For how long there has been room for whoever has waited longest and the gatekeeper has admitted nobody, in ticks of steady time: 0 where
    /// there is none. (Who has waited for long for room is not left waiting by the gatekeeper, which is told of room only when there is some.)
    fn has_had_room(&mut self, has_room: bool, now: u64) -> u64 {
        let now = self.steady.at(now);
        if !has_room {
            self.room_since = NEVER;
        } else if self.room_since == NEVER {
            self.room_since = now;
        }
        now.saturating_sub(self.room_since)
    }

    /// One of the gatekeeper's ways, as a policy.
    pub(super) fn describe_gatekeeper(&self, policy: u16) -> Option<ControlReply> {
        let way = Admission::of(policy.into())?;
        Some(ControlReply::Policy {
            component: Name::new(GATEKEEPER_NAME)?,
            name: Name::new(way.name())?,
            // Three.
            policies: u16::try_from(Admission::ALL.len()).unwrap_or(u16::MAX),
            state: if way == self.admission { policy_state::RUNS } else { policy_state::READY },
        })
    }

    /// The gatekeeper goes on in this way, and its successors do. The status that says what came of it.
    pub(super) fn change_gatekeeper(&mut self, policy: u16) -> u32 {
        let Some(admission) = Admission::of(policy.into()) else { return status::NOT_FOUND };
        if !self.all_have_room() {
            return status::BUSY;
        }
        self.admission = admission;
        self.tell_scheduler(SchedEvent::Gatekeeper { admission }, true);
        status::OK
    }

    /// A VM waits for admission from now on.
    pub fn await_admission(&mut self, id: VmId) {
        self.queues.push(Queue::Waiting, id.slot);
        if self.admit_at == NEVER {
            self.admit_at = self.board.now().saturating_add(self.steady.period_ticks() / 2);
            self.arm(self.admit_at);
        }
        self.ask_for_room_soon();
    }
}
