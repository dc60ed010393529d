//! Where VMs wait and there is no room for them, pagers are asked for some. They choose who goes out; the core says how much is wanted, again and
//! again as long as somebody waits.

use crate::board::Board;
use crate::kernel::{Cpu, Kernel};
use crate::vm::{NEVER, Queue, Seed, Table};
use abi::pager::PagerEvent;
use abi::sched::SchedEvent;
use abi::service::Service;
use backend::Backend;

/// VMs that wait that are looked at: as many as can go out at once.
const AHEAD: usize = abi::swap::WINDOWS;
/// The gatekeeper leaves one part in so many of all frames free.
const SLACK: u64 = 64;
/// How often is asked while somebody waits, in milliseconds.
const PERIOD_MS: u64 = 10;
/// How soon the next of those who wait is looked at when one of them lets others pass, in milliseconds.
const PASS_MS: u64 = 1;
/// For so many milliseconds, beyond `residence`, nobody has gone out for whoever is next: it lets others pass. By then no alarm keeps anybody in.
const STUCK_MS: u64 = 250;
/// Frames that are kept for VMs that come in, where VMs go out: whoever has grown large and cannot go out would have all of them, and nobody would come in any
/// more. Two web servers that serve somebody, and some more that idle.
const COMING_FRAMES: u64 = 64;
/// And no more than one part in so many of all that VMs have.
const COMING_PART: u64 = 32;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Ask pagers for the room that those lack who have waited longest.
    #[cold]
    pub fn ask_for_room(&mut self, now: u64) {
        let Self { vms, cpu, .. } = self;
        cpu.room_at = NEVER;
        if cpu.queues.is_empty(Queue::Waiting) || cpu.pool_bytes() == 0 {
            cpu.frames.set_aside(0, 0);
            return;
        }
        cpu.room_at = now.saturating_add(cpu.time.milliseconds(PERIOD_MS));
        if cpu.is_stuck(vms, now) {
            return cpu.let_others_pass(vms, now);
        }
        if !cpu.swap_is_there() || now < cpu.windows.full_until {
            return;
        }
        let is_crowded = now < cpu.windows.crowded_until;
        if is_crowded && cpu.next_is_pooled(vms).is_none() {
            return cpu.pass_over(vms, now);
        }
        // One exchange after the other.
        let ahead = if is_crowded { 1 } else { AHEAD };
        let slack = if is_crowded { 0 } else { cpu.vm_frames / SLACK + 1 };
        let (wanted, seats) = cpu.wanted(vms, ahead);
        cpu.frames.set_aside(0, wanted);
        let (more_frames, more_seats) = cpu.windows.under_way();
        let has = cpu.frames.unreserved() + more_frames;
        let frames = (wanted + slack).saturating_sub(has);
        let seats = seats.saturating_sub(vms.seats().free() + more_seats);
        if frames == 0 && seats == 0 {
            return;
        }
        for id in (0..crate::component::MAX_ENDPOINTS).map(crate::component::EndpointId::new) {
            let is_pager = cpu.endpoints.get(id).is_some_and(|endpoint| endpoint.service == Service::Pager);
            if is_pager && cpu.has_room(id) {
                cpu.tell(id, &PagerEvent::Room { frames, seats }.into(), true);
            }
        }
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// Frames and seats that so many want who have waited longest.
    fn wanted(&self, vms: &Table<B>, ahead: usize) -> (u64, u32) {
        let ahead = self.queues.all(Queue::Waiting).take(ahead).filter_map(|slot| vms.waiting_in(slot));
        ahead.fold((0, 0), |(frames, seats), seed| (frames + u64::from(vms.wants(&seed)), seats + 1))
    }

    /// Somebody has gone out, by which so many frames are free: nobody else has them before those who wait for them.
    pub(super) fn keep_for_waiting(&mut self, vms: &Table<B>, freed: u64) {
        let (wanted, _) = self.wanted(vms, AHEAD);
        self.frames.set_aside(freed, wanted);
    }

    /// The pool has room only for somebody who makes room there by coming in, and who is next does not: it has never run, or lies on the disks. Where
    /// others would, it lets them pass.
    fn pass_over(&mut self, vms: &Table<B>, now: u64) {
        if vms.pooled_waiting() != 0 {
            self.let_others_pass(vms, now);
        }
    }

    /// Whether somebody is next for whom not enough frames can be had, and others are behind it for whom there may be: it is larger than what is kept for those
    /// who come in, or one of these would fit.
    fn is_stuck(&mut self, vms: &Table<B>, now: u64) -> bool {
        let mut waiting = self.queues.all(Queue::Waiting).filter_map(|slot| vms.waiting_in(slot));
        let Some(next) = waiting.next() else { return false };
        let (free, wants) = (self.frames.unreserved(), u64::from(vms.wants(&next)));
        let fits = |seed: Seed| wants > self.frames.floor() || u64::from(vms.wants(&seed)) <= free;
        if free >= wants || vms.seats().free() == 0 || !waiting.take(AHEAD).any(fits) {
            self.stuck.forget();
            return false;
        }
        let (more, _) = self.windows.under_way();
        let patience = self.residence_ticks.saturating_add(self.time.milliseconds(STUCK_MS));
        self.stuck.look(next.id, free + more, self.steady.at(now)) >= patience
    }

    /// Who is next lets others pass, and is tried again when it is its turn again.
    fn let_others_pass(&mut self, vms: &Table<B>, now: u64) {
        if !self.has_room(self.endpoints.first(Service::Plan)) {
            return;
        }
        let Some(seed) = self.queues.first(Queue::Waiting).and_then(|slot| vms.waiting_in(slot)) else { return };
        self.queues.rotate(Queue::Waiting, seed.id.slot);
        self.tell_scheduler(SchedEvent::Later { vm: seed.id }, true);
        self.stuck.forget();
        self.room_at = now.saturating_add(self.time.milliseconds(PASS_MS));
    }

    /// Where VMs go out, some frames are for those who come in, for good.
    pub fn keep_for_coming(&mut self) {
        let frames = if self.pool_bytes() == 0 { 0 } else { COMING_FRAMES.min(self.vm_frames / COMING_PART) };
        self.frames.keep_for_coming(frames);
    }

    /// Somebody waits for room, or there is another reason to look whether somebody does.
    pub fn ask_for_room_soon(&mut self) {
        if self.pool_bytes() != 0 && !self.queues.is_empty(Queue::Waiting) {
            self.room_at = self.board.now();
            self.arm(self.room_at);
        }
    }
}
