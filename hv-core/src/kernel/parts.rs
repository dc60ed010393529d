//! What a kernel is put together from, at boot and in tests.

use super::cpu::{Counters, Cpu, Ended};
use super::turn::Plan;
use super::{Attention, Crossings, HardwareErrors, Kernel, PERIOD_MS, Steady};
use crate::board::{Board, TimeBase, UnixClock};
use crate::boot::VmTables;
use crate::boot::options::Options;
use crate::component::{Backlog, BacklogLink, Components, EMPTY_BACKLOG, EndpointId, EndpointSet, Endpoints};
use crate::log::{RateLimit, say};
use crate::memory::{Frames, core_slice};
use crate::service::{DiskQuestions, Stuck, Swapped, Wakes, Windows};
use crate::vm::{
    Account, Deaths, Discarded, EMPTY_ACCOUNT, EMPTY_CELL, EMPTY_LINK, EMPTY_SEAT, EMPTY_WAKER, Images, Link, NEVER,
    Queues, Requested, Table, TimerCell, Timers, Wakers, Watches,
};
use abi::barriers::BarrierPlan;
use abi::limits::LIVE_TENANTS;
use abi::log::Record;
use abi::sched::Admission;
use abi::service::Service;
use backend::Backend;

/// Lines a second, and at once, by which guests that end make themselves heard; and components with bad messages.
const LOG_RATE: (u32, u32) = (20, 100);
/// The same for hardware that fails.
const HARDWARE_LOG_RATE: (u32, u32) = (1, 10);

/// The tables that have an entry for each slot or seat, or for each tenant.
pub struct Tables {
    contexts: &'static mut [u32],
    vms: VmTables,
    links: &'static mut [Link],
    seats: &'static mut [u32],
    timers: &'static mut [TimerCell],
    wakers: &'static mut [u32],
    absent_timers: &'static mut [TimerCell],
    backlog: &'static mut [BacklogLink],
    accounts: &'static mut [Account],
    called: &'static mut [TimerCell],
    of_seats: &'static mut [u16],
}

impl Tables {
    /// Those beside the tables of VMs, for as many slots and seats. `None` when there is no room for them.
    pub fn new(frames: &mut Frames, vms: VmTables) -> Option<Self> {
        let (slots, seats) = (vms.records.len(), vms.seats);
        Some(Tables {
            contexts: core_slice(frames, slots, 0)?,
            vms,
            links: core_slice(frames, slots, EMPTY_LINK)?,
            seats: core_slice(frames, seats, EMPTY_SEAT)?,
            timers: core_slice(frames, seats, EMPTY_CELL)?,
            wakers: core_slice(frames, seats, EMPTY_WAKER)?,
            absent_timers: core_slice(frames, slots, EMPTY_CELL)?,
            backlog: core_slice(frames, seats, EMPTY_BACKLOG)?,
            accounts: core_slice(frames, LIVE_TENANTS, EMPTY_ACCOUNT)?,
            called: core_slice(frames, LIVE_TENANTS, EMPTY_CELL)?,
            of_seats: core_slice(frames, seats, u16::MAX)?,
        })
    }
}

/// What boot has found and made.
pub struct Parts<B: Backend, H: Board> {
    pub backend: B,
    pub board: H,
    pub time: TimeBase,
    pub clock: UnixClock,
    /// Those that are free are for VMs, when everything else has been made.
    pub frames: Frames,
    /// What is done against side channels.
    pub barriers: BarrierPlan,
}

impl<B: Backend, H: Board> Kernel<B, H> {
    /// A kernel without a VM, a component or an image: those are made in it, since it is a large value. Made where its only caller has
    /// the room for it.
    #[inline(always)]
    pub fn new(parts: Parts<B, H>, tables: Tables, options: &Options) -> Self {
        let Parts { mut backend, mut board, time, clock, frames, barriers } = parts;
        let crossings = Crossings::new(barriers, B::ENDS_QUANTUM && !backend.ends_quantum());
        backend.at_exits(barriers.exit);
        backend.at_entries(crossings.at_entries());
        let tsc_hz = time.tsc_hz();
        let quantum_ticks = ticks(options.quantum_ns, tsc_hz);
        let mark = board.now();
        let errors = HardwareErrors::new(board.has_error_banks());
        let drawn = u128::from_le_bytes(board.random());
        // Its halves.
        let boot = [drawn, drawn >> 64].map(|half| u64::try_from(half & u128::from(u64::MAX)).unwrap_or(0));
        let cpu = Cpu {
            vm_frames: 0,
            memory_wait_ticks: ticks(options.memory_wait_ns, tsc_hz),
            backend,
            board,
            time,
            clock,
            boot,
            clock_told: 0,
            frames,
            net: options.net(),
            node: options.node(),
            components: Components::new(),
            endpoints: Endpoints::new(),
            images: Images::new(),
            queues: Queues::new(tables.links),
            timers: Timers::new(tables.timers),
            wakers: Wakers::new(tables.wakers),
            absent_timers: Timers::new(tables.absent_timers),
            called_timers: Timers::new(tables.called),
            rates: [0; LIVE_TENANTS],
            accounts: tables.of_seats,
            plan: Plan::new(quantum_ticks, tsc_hz),
            callers: EndpointSet::EMPTY,
            answered: EndpointSet::EMPTY,
            watches: Watches::NONE,
            noted: 0,
            admit_at: NEVER,
            swap: None,
            disk_questions: DiskQuestions::default(),
            backlog: Backlog::new(tables.backlog),
            steady: Steady::new(mark, time.milliseconds(PERIOD_MS)),
            look_at: mark,
            ran_at_look: 0,
            node_due: 0,
            crossings,
            attention: Attention::default(),
            // Whoever had the processor before.
            counters: Counters { own_ticks: mark, ..Counters::default() },
            wakes: Wakes::NONE,
            windows: Windows::NONE,
            discarded: Discarded::NONE,
            given_back: heapless::Deque::new(),
            swapped: Swapped::default(),
            deaths: Deaths::new(),
            ended: Ended::default(),
            room_at: NEVER,
            room_since: NEVER,
            admission: Admission::of(options.gatekeeper).unwrap_or_default(),
            asker: None,
            stuck: Stuck::NOBODY,
            residence_ticks: ticks(options.residence_ns, tsc_hz),
            armed: NEVER,
            pumps: false,
            mark,
            loaded: None,
            guest_log: RateLimit::new(LOG_RATE.0, LOG_RATE.1),
            component_log: RateLimit::new(LOG_RATE.0, LOG_RATE.1),
            nmis: 0,
            errors,
            hardware_log: RateLimit::new(HARDWARE_LOG_RATE.0, HARDWARE_LOG_RATE.1),
        };
        let VmTables { records, cells, written, .. } = tables.vms;
        Kernel {
            vms: Table::new(tables.contexts, records, cells, tables.seats, tables.accounts, written),
            cpu,
            requested: Requested::new(written.slots),
        }
    }

    /// All components and images have been made, and nothing else takes frames for good: start the components, the most important first.
    pub fn start_components(&mut self) {
        let Cpu { components, endpoints, images, .. } = &mut self.cpu;
        images.connect(|component, service| match components.list.iter().position(|one| component == one.number) {
            Some(rank) => endpoints.of(rank, service),
            None => endpoints.first(service),
        });
        self.cpu.vm_frames = self.cpu.frames.free_frames();
        self.cpu.keep_for_coming();
        if self.cpu.endpoints.first(Service::Net) != EndpointId::NONE {
            self.cpu.await_node();
        }
        for rank in 0..self.cpu.components.list.len() {
            self.start(rank);
            let component = &self.cpu.components.list[rank];
            say(Record::Started { name: component.entry.name, policy: component.policies.name() });
        }
    }
}

/// `ns` in ticks.
fn ticks(ns: u64, hz: u64) -> u64 {
    u64::try_from(u128::from(ns) * u128::from(hz) / 1_000_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::ticks;

    #[test]
    fn nanoseconds_in_ticks() {
        assert_eq!(ticks(10_000_000, 2_500_000_000), 25_000_000);
        assert_eq!(ticks(1, 1), 0);
        assert_eq!(ticks(u64::MAX, u64::MAX), u64::MAX);
    }
}
