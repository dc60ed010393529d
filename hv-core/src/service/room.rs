//! Where VMs wait and there is no room for them, pagers are asked for some. They choose who goes out; the core says how much is wanted, again and
//! again as long as somebody waits.

use crate::board::Board;
use crate::kernel::{Cpu, Kernel};
use crate::vm::{NEVER, Queue};
use abi::pager::PagerEvent;
use abi::service::Service;
use backend::Backend;

/// VMs that wait that are looked at: as many as can go out at once.
const AHEAD: usize = abi::swap::WINDOWS;
/// The gatekeeper leaves one part in so many of all frames free.
const SLACK: u64 = 64;
/// How often is asked while somebody waits, in milliseconds.
const PERIOD_MS: u64 = 10;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Ask pagers for the room that those lack who have waited longest.
    #[cold]
    pub fn ask_for_room(&mut self, now: u64) {
        let Self { vms, cpu, .. } = self;
        cpu.room_at = NEVER;
        if cpu.queues.is_empty(Queue::Waiting) || cpu.pool_bytes() == 0 {
            return;
        }
        cpu.room_at = now.saturating_add(cpu.time.milliseconds(PERIOD_MS));
        if !cpu.swap_is_there() || now < cpu.windows.full_until {
            return;
        }
        let ahead = cpu.queues.all(Queue::Waiting).take(AHEAD).filter_map(|slot| vms.waiting_in(slot));
        let (wanted, seats) =
            ahead.fold((0, 0_u32), |(frames, seats), seed| (frames + u64::from(vms.wants(&seed)), seats + 1));
        let (more_frames, more_seats) = cpu.windows.under_way();
        let has = cpu.frames.unreserved() + more_frames;
        let frames = (wanted + cpu.vm_frames / SLACK + 1).saturating_sub(has);
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
    /// Somebody waits for room, or there is another reason to look whether somebody does.
    pub fn ask_for_room_soon(&mut self) {
        if self.pool_bytes() != 0 && !self.queues.is_empty(Queue::Waiting) {
            self.room_at = self.board.now();
            self.arm(self.room_at);
        }
    }
}
