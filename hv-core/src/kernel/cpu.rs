//! What one CPU owns beside its VMs, and how its parts are told of each other.

use super::attention::Attention;
use super::barriers::Crossings;
use super::errors::HardwareErrors;
use super::steady::Steady;
use super::turn::Plan;
use crate::board::{Board, TimeBase, UnixClock};
use crate::boot::options::Net;
use crate::component::{
    Backlog, Components, Death, EndpointId, EndpointSet, Endpoints, Full, MAX_ENDPOINTS, Party, Run, Swap, Told,
};
use crate::log::{RateLimit, say};
use crate::memory::Frames;
use crate::service::{DiskQuestions, Stuck, Swapped, Wakes, Windows};
use crate::vm::{AccountNumber, Deaths, Discarded, Images, Queues, Timers, Wakers, Watches};
use abi::limits::LIVE_TENANTS;
use abi::log::Record;
use abi::message::{BadMessage, Message};
use abi::nic::Node;
use abi::sched::Admission;
use abi::service::Service;
use abi::swap::Bundle;
use abi::tenant::Tenant;
use abi::vm::{Seat, Slot, VmId};
use backend::Backend;

/// Pages that guests have given back of which swap has still to be told.
const GIVEN_BACK: usize = 64;

/// What is counted from boot on, for the monitor and for measurements.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// VM exits.
    pub exits: u64,
    pub hypercalls: u64,
    /// External interrupts.
    pub interrupts: u64,
    /// System calls of components.
    pub syscalls: u64,
    /// Faults given to the pager.
    pub faults: u64,
    /// Dispatches that the plan did not name.
    pub fallbacks: u64,
    /// Turns of VMs that woke and went ahead of the plan.
    pub ahead: u64,
    /// Planned turns that VMs did not run, as they paid with them for what others had run for them.
    pub paid: u64,
    /// Ticks from the last stop of the scheduler until a VM went on by its plan, or by the plan or the rules of its
    /// successor, idle ones left out.
    pub gap_ticks: u64,
    /// Ticks from the core's start to the last admission of a VM.
    pub admitted_ticks: u64,
    /// VMs that the core admitted because the scheduler had left them waiting.
    pub late: u64,
    pub component_ticks: u64,
    pub guest_ticks: u64,
    pub idle_ticks: u64,
    /// Of those of components, and those of the core that are nobody's else, what is charged to VMs.
    pub service_ticks: u64,
    /// Those of the core, before and since its start, and of components for nobody in particular, that are charged to none.
    pub own_ticks: u64,
}

/// What was charged to VMs that have ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended {
    pub ran_ticks: u64,
    pub service_ticks: u64,
}

/// What one CPU owns beside its VMs. What is done for one VM is a method here that takes the VM, which cannot vanish
/// meanwhile; what looks at several is [`super::Kernel`]'s.
pub struct Cpu<B: Backend, H: Board> {
    pub backend: B,
    pub board: H,
    pub time: TimeBase,
    pub clock: UnixClock,
    /// Which start of the machine this is.
    pub boot: [u64; 2],
    /// VMs in the seats before this one know how they tell the time now.
    pub clock_told: u16,
    pub frames: Frames,
    pub net: Net,
    /// What tells the VMs of this machine from those of others on the same LAN; nobody has said so yet when there is none.
    pub node: Option<Node>,
    pub components: Components,
    /// The ends of the rings with them.
    pub endpoints: Endpoints,
    pub images: Images,
    pub queues: Queues<'static>,
    pub timers: Timers<'static>,
    /// VMs that may run ahead of the plan.
    pub wakers: Wakers<'static>,
    pub plan: Plan,
    /// VMs that control the machine and have something to ask, and those that have been answered.
    pub callers: EndpointSet,
    /// See `callers`.
    pub answered: EndpointSet,
    /// Consoles that controllers watch.
    pub watches: Watches,
    /// Position in the log in front of which all is written down, as VMs that control the machine say.
    pub noted: u64,
    /// TSC at which the core itself looks after those that wait for admission.
    pub admit_at: u64,
    /// A policy that is being replaced.
    pub swap: Option<Swap>,
    /// What VMs that control the machine have asked the striper.
    pub disk_questions: DiskQuestions,
    /// What parties to services have still to be told of seats.
    pub backlog: Backlog<'static>,
    /// What patience is measured by.
    pub steady: Steady,
    /// TSC of the next look after components; `u64::MAX` while all sleep and nobody owes anything.
    pub look_at: u64,
    /// Ticks that components and guests had run at the last look.
    pub ran_at_look: u64,
    /// Steady time by which the network demultiplexer has to say which node this is.
    pub node_due: u64,
    /// Who was on this CPU last.
    pub crossings: Crossings,
    pub attention: Attention,
    pub counters: Counters,
    /// How long VMs that were called have waited.
    pub wakes: Wakes,
    /// Through which swap sees VMs that go out and come in.
    pub windows: Windows,
    /// Pages of VMs that are gone, which swap has still to be told to forget.
    pub discarded: Discarded,
    /// The same of pages that guests have given back, with their tenants, whose share of the pool they still take.
    pub given_back: heapless::Deque<(Tenant, Bundle), GIVEN_BACK>,
    /// What was counted of those.
    pub swapped: Swapped,
    /// Who has ended last.
    pub deaths: Deaths,
    /// What was charged to those who have ended.
    pub ended: Ended,
    /// Deadlines of those that are out.
    pub absent_timers: Timers<'static, Slot>,
    /// When the first VM may come in of those that were called and wait because of their tenant.
    pub called_timers: Timers<'static, AccountNumber>,
    /// Bytes that the VMs of tenants may send in a second, by account, 0 for any number: what network demultiplexers are told.
    pub rates: [u32; LIVE_TENANTS],
    /// The numbers of the accounts of the tenants of admitted VMs, by seat; another number for nobody's. (A VM's context has no room for it.)
    pub accounts: &'static mut [u16],
    /// TSC at which pagers are asked for room.
    pub room_at: u64,
    /// Whether somebody is next for whom no room can be made.
    pub stuck: Stuck,
    /// Since when, in steady time, there has been room for whoever has waited longest for admission and the gatekeeper has admitted nobody; [`NEVER`](crate::vm::NEVER): there is none.
    pub room_since: u64,
    /// How the gatekeeper chooses.
    pub admission: Admission,
    /// The VM that has asked last for others to come or go, until the scheduler, which hears of them, has been billed to it.
    pub asker: Option<VmId>,
    /// How long a VM is in before it may go out again, in ticks.
    pub residence_ticks: u64,
    /// TSC for which the timer is set; it may be early, never late.
    pub armed: u64,
    /// It is set for the serial line, too, for which something waits.
    pub pumps: bool,
    /// TSC at which whoever runs, or the core on its behalf, began: the last change between components, VMs and idling.
    pub mark: u64,
    /// Rank of the component whose address space is loaded.
    pub loaded: Option<usize>,
    /// Frames that VMs can have: those that were free when everything else had been made.
    pub vm_frames: u64,
    /// How long a VM waits for a frame beyond its reserve, in ticks.
    pub memory_wait_ticks: u64,
    /// Limits what guests can make the core log.
    pub guest_log: RateLimit,
    /// Limits what components' bad messages can make the core log.
    pub component_log: RateLimit,
    /// NMIs that were said.
    pub nmis: u64,
    /// What is known of hardware that fails.
    pub errors: HardwareErrors,
    /// Limits what failing hardware can make the core log.
    pub hardware_log: RateLimit,
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// What tells the VMs of this machine from those of others: for good, from the first question on.
    pub fn node(&mut self) -> Node {
        *self.node.get_or_insert_default()
    }

    /// Set the timer no later than `deadline`.
    #[inline]
    pub fn arm(&mut self, deadline: u64) {
        if deadline < self.armed {
            self.armed = deadline;
            self.board.set_timer(deadline);
        }
    }

    /// When the next deadline comes.
    #[inline]
    pub fn next_deadline(&self) -> u64 {
        let own = self.admit_at.min(self.swap_at()).min(self.errors.look_at).min(self.look_at);
        let absent = self.absent_timers.next().min(self.called_timers.next()).min(self.room_at).min(self.clock.due());
        self.timers.next().min(self.components.next_deadline).min(own).min(absent)
    }

    /// Set notification bits of a component; it can run when it waits for one of them.
    #[inline]
    pub fn notify(&mut self, rank: usize, bits: u64) {
        if self.components.notify(rank, bits) {
            self.attention.set_runnable(rank);
        }
    }

    /// Put a message into the ring to the party at this endpoint, and wake it when it should act `now`. For what whoever says it has
    /// made sure of space for ([`Cpu::has_room`], or the party has just been started): a ring that is full all the same has an end
    /// that lies, and its party is condemned. What cannot be held back goes through [`Cpu::tell_of`].
    #[inline]
    pub fn tell(&mut self, to: EndpointId, message: &Message, now: bool) {
        let Some(endpoint) = self.endpoints.get_mut(to) else { return };
        let Party::Component(rank) = endpoint.party else { return self.answer_vm(to, message) };
        // What is told to one that is stopped is gone when its ring's epoch moves; its successor is told everything anew.
        match endpoint.tell(message) {
            Told::Yes if now || !endpoint.has_space() => {
                let bit = endpoint.bit;
                self.notify(rank, bit);
            }
            Told::Yes => {}
            Told::Full => self.condemn(rank, Death::RingFull),
        }
    }

    /// Tell the party at this endpoint what has become of the VM in a seat, which the scheduler `thought` able to run before. Where
    /// that does not fit, it is told later what holds then ([`crate::kernel::Kernel::tell_owed`]).
    #[inline]
    pub fn tell_of(&mut self, to: EndpointId, seat: Seat, thought: bool, message: &Message, now: bool) {
        let Some(endpoint) = self.endpoints.get_mut(to) else { return };
        // VMs hear of no seats.
        let Party::Component(rank) = endpoint.party else { return };
        if !endpoint.owes {
            match endpoint.tell(message) {
                Told::Yes if now || !endpoint.has_space() => {
                    let bit = endpoint.bit;
                    return self.notify(rank, bit);
                }
                Told::Yes => return,
                Told::Full => {}
            }
        }
        self.owe(to, seat, thought);
    }

    /// Keep in mind that a party has to be told of a seat.
    #[cold]
    #[inline(never)]
    pub fn owe(&mut self, to: EndpointId, seat: Seat, thought: bool) {
        let Some(endpoint) = self.endpoints.get_mut(to) else { return };
        // VMs hear of no seats.
        let Party::Component(rank) = endpoint.party else { return };
        let component = &self.components.list[rank];
        // The successor of one that is stopped is told everything anew.
        if !matches!(component.run, Run::Ready | Run::Waiting { .. }) {
            return;
        }
        endpoint.owes = true;
        if endpoint.full == Full::No && endpoint.is_full() {
            endpoint.full = Full::Since(component.live.charged_ticks);
        }
        let (service, bit) = (endpoint.service, endpoint.bit);
        if self.backlog.push(to, service, seat)
            && service == Service::Plan
            && let Some(ready) = self.backlog.thought_ready(seat)
        {
            *ready = thought;
        }
        self.notify(rank, bit);
    }

    /// Whether there is space for some messages to the party at this endpoint, who hears at once that there is none. Where
    /// there is none, what is to be told waits where it is, and goes on when the party has emptied its ring. One that does not live is
    /// told everything when it starts.
    pub fn has_room(&mut self, to: EndpointId) -> bool {
        let Some(endpoint) = self.endpoints.get_mut(to) else { return true };
        // A VM that controls the machine is asked for room before its request is served.
        let Party::Component(rank) = endpoint.party else { return true };
        let component = &self.components.list[rank];
        if endpoint.has_room() || !matches!(component.run, Run::Ready | Run::Waiting { .. }) {
            return true;
        }
        endpoint.owes = true;
        if endpoint.full == Full::No && endpoint.is_full() {
            endpoint.full = Full::Since(component.live.charged_ticks);
        }
        let bit = endpoint.bit;
        self.notify(rank, bit);
        false
    }

    /// Whether there is space to tell all who hear of VMs that come and go.
    pub fn all_have_room(&mut self) -> bool {
        (0..MAX_ENDPOINTS).map(EndpointId::new).all(|id| {
            let hears = self.endpoints.get(id).is_some_and(|endpoint| endpoint.service != Service::Control);
            !hears || self.has_room(id)
        })
    }

    /// Wake the party at this endpoint as if it had been told something.
    pub fn ring(&mut self, party: EndpointId) {
        if let Some(endpoint) = self.endpoints.get(party)
            && let Party::Component(rank) = endpoint.party
        {
            self.notify(rank, endpoint.bit);
        }
    }

    /// A component is guilty: it does not run again, and the loop, which holds no borrowed state, stops it and starts its
    /// successor. The first reason counts.
    #[cold]
    pub fn condemn(&mut self, rank: usize, why: Death) {
        let Some(component) = self.components.list.get_mut(rank) else { return };
        if matches!(component.run, Run::Ready | Run::Waiting { .. }) {
            component.run = Run::Condemned(why);
            self.attention.clear_runnable(rank);
            self.components.shares.promote(rank);
            self.attention.set_components();
        }
    }

    /// A component wrote what is no message of its ring. A policy on trial must not.
    #[cold]
    pub fn bad_message(&mut self, from: EndpointId, error: &BadMessage) {
        let Some(rank) = self.endpoints.rank(from) else { return };
        let name = self.components.list[rank].entry.name;
        if self.component_log.allow(self.board.now(), self.time.tsc_hz()).is_some() {
            say(Record::SentNonsense { name, bad: *error });
        }
        if self.on_trial(rank) {
            self.condemn(rank, Death::Nonsense(*error));
        }
    }
}
