//! The plan that the scheduler publishes, and the core's own order where the plan is late.

use crate::board::Board;
use crate::component::Endpoint;
use crate::kernel::{Cpu, Kernel, Rules, Turn};
use crate::vm::{NEVER, Queue, Seed, State, Table, Vm};
use abi::sched::{Room, SchedCommand, SchedEvent};
use abi::service::Service;
use abi::vm::{Slot, VmId};
use backend::Backend;

/// Plan entries looked at for one turn at most; the rest of a plan of VMs that cannot run waits for the next.
const LOOK_AHEAD: usize = 256;
/// VMs that are admitted before components come to their turn.
const ADMIT_BATCH: usize = 32;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// The VM that runs next; `None` when no VM can, or when the scheduler has just been asked and runs first.
    #[inline]
    pub fn next_turn(&mut self) -> Option<Turn> {
        // One branch where nobody goes ahead.
        if self.cpu.plan.aside {
            self.turn_aside();
        }
        self.begun().or_else(|| self.planned())
    }

    /// The turn of whoever has the CPU, if it goes on. Where it does not, it is over, and where its VM waits for a page, the scheduler is told.
    #[inline(always)]
    fn begun(&mut self) -> Option<Turn> {
        let Self { vms, cpu, .. } = self;
        // One that goes on stays where it is: most do, and to move it costs more than all of this.
        let turn = cpu.plan.turn.as_ref()?;
        let vm = vms.by_id(turn.vm);
        if turn.left_ticks != 0 && vm.as_ref().is_some_and(|vm| vm.life.is_ready()) {
            let turn = *turn;
            if cpu.plan.is_lost() {
                cpu.found();
            }
            return Some(turn);
        }
        cpu.plan.turn = None;
        let vm = vm?;
        if vm.life.page_fault().is_some() && cpu.queues.contains(Queue::Ready, vm.slot()) {
            // The pager has had its chance; others go on meanwhile.
            cpu.blocked(vm, false);
        }
        None
    }

    /// Gives the turn to a VM that has woken, where the scheduler's rules let it go ahead; else it stays with whoever has it, or goes back
    /// to whoever had it when others went ahead.
    #[inline(never)]
    fn turn_aside(&mut self) {
        self.cpu.plan.turn = self.begun();
        if let Some(turn) = self.turn_ahead() {
            // The scheduler that lives has let it: the rules of its predecessor have ended with that.
            self.cpu.resumed();
            self.cpu.plan.turn = Some(turn);
        } else if self.cpu.plan.turn.is_none() {
            let Self { vms, cpu, .. } = self;
            let vm = cpu.plan.paused.and_then(|turn| vms.by_id(turn.vm));
            let can = vm.is_some_and(|vm| vm.life.is_ready());
            cpu.plan.turn = if can { cpu.plan.go_back() } else { cpu.plan.paused.take() };
        }
        self.cpu.plan.aside = self.cpu.plan.paused.is_some() || !self.cpu.wakers.is_empty();
    }

    /// The turn of a VM that has woken and goes ahead of the plan; in the order of waking.
    fn turn_ahead(&mut self) -> Option<Turn> {
        let Self { vms, cpu, .. } = self;
        for _ in 0..LOOK_AHEAD {
            if !cpu.plan.makes_way() {
                break;
            }
            let seat = cpu.wakers.pop()?;
            // It may have run by the plan, blocked again, or be gone.
            if let Some(vm) = vms.in_seat(seat)
                && vm.life.is_ready()
                && cpu.queues.contains(Queue::Ready, vm.slot())
                && cpu.plan.lets_ahead(vm.ahead_ticks)
            {
                cpu.counters.ahead += 1;
                return Some(cpu.plan.go_ahead(vm.id, vm.share.weight, vm.ahead_ticks));
            }
        }
        None
    }

    /// The next entry of the plan.
    #[inline(always)]
    fn planned(&mut self) -> Option<Turn> {
        let Self { vms, cpu, .. } = self;
        let plan = &mut cpu.plan;
        // Nearly always: the next message is a turn of a VM that can run, and not the first of its plan.
        if !plan.asked
            && plan.next.is_none()
            && plan.admit.is_none()
            && let Some(endpoint) = cpu.endpoints.get_mut(cpu.endpoints.first(Service::Plan))
            && let Some((vm, quantum_ticks)) =
                endpoint.take_turn(|vm| vms.by_id(vm).is_some_and(|named| named.held_by == 0 && named.life.is_ready()))
        {
            return Some(plan.turn_of(vm, quantum_ticks));
        }
        self.sought()
    }

    /// The next entry of the plan that can run, wherever it stands; else whoever the core chooses. Wakes the scheduler when nothing is left.
    #[inline(never)]
    fn sought(&mut self) -> Option<Turn> {
        // Admissions must not wait in the plan behind turns of VMs that cannot run.
        self.advance_plan();
        let Self { vms, cpu, .. } = self;
        if cpu.queues.is_empty(Queue::Ready) {
            return None;
        }
        let plan = cpu.endpoints.first(Service::Plan);
        let Some((vm, quantum_ticks)) = cpu.plan.next.take() else {
            // The scheduler gets one chance to say who is next before the core decides by itself.
            if cpu.endpoints.rank(plan).is_some() && cpu.plan.asks() {
                cpu.ring(plan);
            }
            return if cpu.attention.is_none() { self.unplanned() } else { None };
        };
        if cpu.plan.asked {
            cpu.plan.asked = false;
            // Once in each plan, and not at each turn: its first one pays for it.
            if let Some(named) = vms.by_id(vm) {
                cpu.bill(plan, named);
            }
            if cpu.plan.news {
                cpu.plan_came();
            }
        }
        Some(cpu.plan.turn_of(vm, quantum_ticks))
    }

    /// Go on in the plan up to an entry whose VM can run: admissions are carried out on the way, and turns of VMs that
    /// cannot run are passed over.
    #[inline]
    pub fn advance_plan(&mut self) {
        if let Some((vm, _)) = self.cpu.plan.next
            && self.vms.by_id(vm).is_some_and(|vm| vm.life.is_ready())
        {
            return;
        }
        if let Some(asker) = self.cpu.asker {
            self.seek_for(asker);
        } else {
            self.seek();
        }
    }

    /// As [`Kernel::seek`], after this VM has asked for others to come or go.
    #[cold]
    #[inline(never)]
    fn seek_for(&mut self, asker: VmId) {
        self.cpu.asker = None;
        let since = self.cpu.bill_asker(&mut self.vms, asker);
        if self.seek() != 0 {
            self.cpu.asker_owes(&mut self.vms, asker, since);
        }
    }

    /// The entry that was next is no more: go on to one that can run. How many VMs were admitted on the way.
    #[inline(never)]
    fn seek(&mut self) -> usize {
        let Self { vms, cpu, .. } = self;
        let plan = cpu.endpoints.first(Service::Plan);
        cpu.plan.next = None;
        let mut message = match cpu.plan.admit.take() {
            None => cpu.endpoints.get_mut(plan).and_then(Endpoint::take),
            Some(vm) => Some(SchedCommand::Admit { vm }.into()),
        };
        if message.is_none() {
            return 0;
        }
        let mut admitted = 0;
        let mut left = LOOK_AHEAD;
        while let Some(this) = message {
            match SchedCommand::try_from(&this) {
                Ok(SchedCommand::Run { vm, quantum_ticks }) => {
                    if let Some(named) = vms.by_id(vm) {
                        cpu.let_go(named);
                        if named.life.is_ready() {
                            cpu.plan.next = Some((vm, quantum_ticks));
                            break;
                        }
                    }
                }
                Ok(SchedCommand::Admit { vm }) => {
                    if !cpu.all_have_room() {
                        // Others are told of it. It waits until they have emptied their rings.
                        cpu.plan.admit = Some(vm);
                        break;
                    }
                    cpu.let_wait(vms, vm);
                    cpu.admit(vms, vm);
                    cpu.room_since = NEVER;
                    admitted += 1;
                }
                Ok(SchedCommand::Hold { vm }) => {
                    cpu.hold(vms, vm);
                }
                Ok(SchedCommand::Rules { most_in_row, preempts, slice_ticks }) => {
                    cpu.plan.rule(Rules { most_in_row, preempts, slice_ticks });
                }
                Ok(SchedCommand::Allow { vm, ticks }) => {
                    if let Some(vm) = vms.by_id(vm) {
                        cpu.bill(plan, vm);
                        vm.ahead_ticks = ticks;
                    }
                }
                // One that is held, or does not wait any more, is in another queue.
                Ok(SchedCommand::First { vm }) if vms.waiting(vm).is_some() => {
                    cpu.queues.advance(Queue::Waiting, vm.slot);
                }
                Ok(SchedCommand::First { .. }) => {}
                Err(error) => cpu.bad_message(plan, &error),
            }
            left -= 1;
            // Components are told of every VM that is admitted, and must come to their turn before their rings are full.
            if left == 0 || admitted == ADMIT_BATCH {
                break;
            }
            message = cpu.endpoints.get_mut(plan).and_then(Endpoint::take);
        }
        if let Some(endpoint) = cpu.endpoints.get_mut(plan) {
            endpoint.release();
        }
        admitted
    }

    /// The core's own order, first come first served: the plan is late, or there is no scheduler.
    fn unplanned(&mut self) -> Option<Turn> {
        let Self { vms, cpu, .. } = self;
        let slot = cpu.queues.first(Queue::Ready)?;
        cpu.counters.fallbacks += 1;
        cpu.queues.rotate(Queue::Ready, slot);
        let vm = vms.get(slot)?.id;
        let turn = cpu.plan.turn_of(vm, cpu.plan.quantum_ticks());
        // It is not to blame while what it has planned is held up.
        if let Some(rank) = cpu.scheduler().filter(|_| cpu.plan.admit.is_none()) {
            self.note_unnamed(rank);
        }
        Some(turn)
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// What a VM waited for has happened: it can run again.
    #[inline]
    pub fn wake(&mut self, vm: &mut Vm<B>) {
        vm.life.wake();
        vm.charges.wakes = vm.charges.wakes.wrapping_add(1);
        self.components.note_idle(vm.seat, 0);
        self.now_ready(vm);
    }

    /// A VM can run: the scheduler is told. It need not act now on one that goes ahead of its plan. (Not inlined, as
    /// [`crate::component::Endpoint::tell`].)
    #[inline(never)]
    pub fn now_ready(&mut self, vm: &mut Vm<B>) {
        let queue = if self.is_held(vm) { Queue::Held } else { Queue::Ready };
        self.queues.push(queue, vm.slot());
        let ahead = queue == Queue::Ready && self.stand_ahead(vm);
        if ahead {
            self.plan.unheard = true;
        }
        let event = SchedEvent::Ready { vm: vm.id, seat: vm.seat, weight: vm.share.weight };
        self.tell_of(self.endpoints.first(Service::Plan), vm.seat, false, &event.into(), !ahead);
    }

    /// A VM that can run goes ahead of the plan, behind those that stand there already, if it may. Whether it does.
    #[inline]
    pub fn stand_ahead(&mut self, vm: &Vm<B>) -> bool {
        let may = self.plan.lets_ahead(vm.ahead_ticks);
        if may {
            self.wakers.push(vm.seat);
            self.plan.aside = true;
        }
        may
    }

    /// A VM cannot run for now: the scheduler is told.
    #[inline]
    pub fn blocked(&mut self, vm: &mut Vm<B>, idle: bool) {
        self.queues.remove(Queue::Ready, vm.slot());
        let ran_ticks = core::mem::take(&mut vm.burst_ticks);
        // With that the scheduler hears of it.
        vm.debt_ticks = 0;
        let event = SchedEvent::Blocked { vm: vm.id, seat: vm.seat, ran_ticks, idle };
        self.tell_of(self.endpoints.first(Service::Plan), vm.seat, true, &event.into(), false);
    }

    /// What the scheduler has still to be told of a VM. What it ran before it was blocked and ready again is not billed: the
    /// machine is overloaded, and that is little.
    pub fn tell_owed_plan(&mut self, vm: &Vm<B>) {
        let thought = self.backlog.thought_ready(vm.seat).is_some_and(core::mem::take);
        let ready = self.queues.contains(Queue::Ready, vm.slot()) || self.queues.contains(Queue::Held, vm.slot());
        match (thought, ready) {
            (false, true) => {
                self.tell_scheduler(SchedEvent::Ready { vm: vm.id, seat: vm.seat, weight: vm.share.weight }, true);
            }
            (true, false) if !vm.life.is_ending() => {
                let idle = vm.life.is_idle();
                let event = SchedEvent::Blocked { vm: vm.id, seat: vm.seat, ran_ticks: vm.burst_ticks, idle };
                self.tell_scheduler(event, true);
            }
            _ => {}
        }
    }

    /// Rank of the component that plans.
    #[inline]
    pub fn scheduler(&self) -> Option<usize> {
        self.endpoints.rank(self.endpoints.first(Service::Plan))
    }

    /// First words to the scheduler.
    pub(super) fn plan_hello(&mut self, room: Room) {
        self.tell_scheduler(
            SchedEvent::Hello { quantum_ticks: self.plan.quantum_ticks(), room, admission: self.admission },
            true,
        );
    }

    /// A VM waits for admission, for which so many frames are to be kept.
    pub fn tell_arrived(&mut self, vms: &Table<B>, seed: &Seed, reserve: u32, now: bool) {
        let (room, tenant) = (self.room(vms), seed.tenant);
        let event = SchedEvent::Arrived { vm: seed.id, frames: reserve.into(), room, tenant };
        self.tell_scheduler(event, now);
    }

    /// Everything that the scheduler must know of the VM in a slot. It hears of one that waits for a page when the page is
    /// there, and of one that idles when it can run.
    pub(super) fn tell_scheduler_of(&mut self, vms: &mut Table<B>, slot: Slot) {
        let Some(vm) = vms.get(slot) else {
            if let Some(seed) = vms.waiting_in(slot) {
                self.tell_arrived(vms, &seed, vms.wants(&seed), true);
            }
            return;
        };
        match vm.life.state() {
            State::Fault(_) => self.queues.remove(Queue::Ready, slot),
            State::Ready => {
                let event = SchedEvent::Ready { vm: vm.id, seat: vm.seat, weight: vm.share.weight };
                self.tell_scheduler(event, true);
            }
            State::New | State::Idle { .. } | State::Paused | State::Leaving { .. } | State::Coming | State::Ending => {
            }
        }
    }

    /// What VMs that are admitted could have.
    pub fn room(&self, vms: &Table<B>) -> Room {
        Room { frames: self.frames.unreserved(), seats: vms.seats().free() }
    }

    /// A turn goes on that was begun before the scheduler was stopped.
    #[cold]
    #[inline(never)]
    fn found(&mut self) {
        if let Some(gap_ticks) = self.plan.go_on(self.mark.saturating_sub(self.counters.idle_ticks)) {
            self.counters.gap_ticks = gap_ticks;
        }
    }

    /// A VM goes ahead by the rules of the scheduler that lives. That does not say that it plans.
    fn resumed(&mut self) {
        if let Some(gap_ticks) = self.plan.resume(self.mark.saturating_sub(self.counters.idle_ticks)) {
            self.counters.gap_ticks = gap_ticks;
        }
    }

    /// The scheduler has planned a turn, which is news.
    #[cold]
    #[inline(never)]
    fn plan_came(&mut self) {
        if let Some(gap_ticks) = self.plan.come(self.mark.saturating_sub(self.counters.idle_ticks)) {
            self.counters.gap_ticks = gap_ticks;
        }
    }

    /// Tell the scheduler; wake it when it should act now.
    #[inline]
    pub fn tell_scheduler(&mut self, event: SchedEvent, now: bool) {
        self.tell(self.endpoints.first(Service::Plan), &event.into(), now);
    }
}
