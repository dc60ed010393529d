//! What a kernel is put together from, at boot and in tests.

use super::cpu::{Counters, Cpu};
use super::requests::Requests;
use super::turn::Plan;
use super::{Attention, Crossings, HardwareErrors, Kernel, PERIOD_MS, Steady};
use crate::board::{Board, TimeBase};
use crate::boot::options::Options;
use crate::boot::vms;
use crate::component::{Backlog, BacklogLink, EMPTY_BACKLOG, EndpointId, EndpointSet, Loaded};
use crate::log::RateLimit;
use crate::memory::{Frames, core_slice};
use crate::vm::{
    Cell, EMPTY_ARGS, EMPTY_CELL, EMPTY_LINK, EMPTY_RECORD, EMPTY_SEAT, Images, Link, NEVER, Queues, Record, Table,
    TimerCell, Timers, Written,
};
use abi::barriers::BarrierPlan;
use abi::limits::{MAX_SEATS, MAX_SLOTS};
use abi::service::Service;
use abi::vm::ImageId;
use backend::Backend;

/// Frames per seat, unless the boot options say how many seats there are: a machine has as many as it could have VMs that are small and
/// share nearly everything.
const FRAMES_PER_SEAT: u64 = 16;
/// Frames per VM slot: a VM that waits takes none.
const FRAMES_PER_SLOT: u64 = 8;
/// Cells for boot arguments beyond one for each slot: where there are few slots, some VMs may have long ones all the same.
const MORE_CELLS: usize = 256;
/// Lines a second, and at once, by which guests that end make themselves heard; and components with bad messages.
const LOG_RATE: (u32, u32) = (20, 100);
/// The same for hardware that fails.
const HARDWARE_LOG_RATE: (u32, u32) = (1, 10);

/// How many VMs a machine has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// Slots: VMs that live.
    pub slots: usize,
    /// Seats: VMs that are admitted. Not more than slots.
    pub seats: usize,
}

impl Places {
    /// What the options ask for; where they say nothing, as many as the free frames are good for, and as many slots as VMs are asked for.
    pub fn new(options: &Options, free_frames: u64) -> Self {
        let by_memory = |frames_each: u64, most: usize| {
            usize::try_from(free_frames / frames_each).map_or(most, |places| places.clamp(1, most))
        };
        let asked = options.vms().iter().map(|request| request.count as usize).sum();
        let slots = match options.slots {
            0 => by_memory(FRAMES_PER_SLOT, MAX_SLOTS).max(asked),
            slots => slots as usize,
        };
        let seats = match options.seats {
            0 => by_memory(FRAMES_PER_SEAT, MAX_SEATS),
            seats => seats as usize,
        };
        Places { slots: slots.min(MAX_SLOTS), seats: seats.min(MAX_SEATS).min(slots) }
    }
}

/// The tables that have an entry for each slot or seat.
pub struct Tables {
    contexts: &'static mut [u32],
    records: &'static mut [Record],
    args: &'static mut [Cell],
    links: &'static mut [Link],
    seats: &'static mut [u32],
    timers: &'static mut [TimerCell],
    written: Written,
    backlog: &'static mut [BacklogLink],
}

impl Tables {
    /// Tables of this size, with so many cells for boot arguments more than slots. `None` when there is no room for them.
    pub fn new(frames: &mut Frames, places: Places, more_cells: usize) -> Option<Self> {
        let Places { slots, seats } = places;
        Some(Tables {
            contexts: core_slice(frames, slots, 0)?,
            records: core_slice(frames, slots, EMPTY_RECORD)?,
            args: core_slice(frames, slots + MORE_CELLS + more_cells, EMPTY_ARGS)?,
            links: core_slice(frames, slots, EMPTY_LINK)?,
            seats: core_slice(frames, seats, EMPTY_SEAT)?,
            timers: core_slice(frames, seats, EMPTY_CELL)?,
            written: Written::default(),
            backlog: core_slice(frames, seats, EMPTY_BACKLOG)?,
        })
    }

    /// Write the VMs that the boot options ask for into them. Those that there is no room for are said.
    pub fn write_vms(&mut self, options: &Options, images: &Images) {
        let image = |number: usize| {
            let number = u32::try_from(number).ok()?;
            images.get(ImageId::new(number)).map(|image| &image.entry)
        };
        let missing = |missing| log::error!(target: "core", "{missing}");
        self.written = vms::write(options.vms(), &options.net(), image, self.records, self.args, missing);
    }
}

/// What boot has found and made.
pub struct Parts<B: Backend, H: Board> {
    pub backend: B,
    pub board: H,
    pub time: TimeBase,
    /// Those that are free are for VMs.
    pub frames: Frames,
    /// All components, and the ends of the rings with them.
    pub loaded: Loaded,
    pub images: Images,
    /// What is done against side channels.
    pub barriers: BarrierPlan,
}

impl<B: Backend, H: Board> Kernel<B, H> {
    /// A kernel without a VM, whose components have still to be started.
    pub fn new(parts: Parts<B, H>, tables: Tables, options: &Options) -> Self {
        let Parts { mut backend, board, time, frames, loaded, mut images, barriers } = parts;
        let Loaded { components, endpoints } = loaded;
        let crossings = Crossings::new(barriers, B::ENDS_QUANTUM && !backend.ends_quantum());
        backend.at_exits(barriers.exit);
        backend.at_entries(crossings.at_entries());
        images.connect(|component, service| match components.list.iter().position(|one| component == one.number) {
            Some(rank) => endpoints.of(rank, service),
            None => endpoints.first(service),
        });
        let tsc_hz = time.tsc_hz();
        let quantum_ticks = ticks(options.quantum_ns, tsc_hz);
        let mark = board.now();
        let errors = HardwareErrors::new(board.has_error_banks());
        let mut cpu = Cpu {
            vm_frames: frames.free_frames(),
            memory_wait_ticks: ticks(options.memory_wait_ns, tsc_hz),
            backend,
            board,
            time,
            frames,
            net: options.net(),
            node: options.node(),
            components,
            endpoints,
            images,
            queues: Queues::new(tables.links),
            timers: Timers::new(tables.timers),
            plan: Plan::new(quantum_ticks, tsc_hz),
            callers: EndpointSet::EMPTY,
            answered: EndpointSet::EMPTY,
            admit_at: NEVER,
            swap: None,
            backlog: Backlog::new(tables.backlog),
            steady: Steady::new(mark, time.milliseconds(PERIOD_MS)),
            look_at: mark,
            ran_at_look: 0,
            node_due: 0,
            crossings,
            attention: Attention::default(),
            counters: Counters::default(),
            armed: NEVER,
            mark,
            loaded: None,
            guest_log: RateLimit::new(LOG_RATE.0, LOG_RATE.1),
            component_log: RateLimit::new(LOG_RATE.0, LOG_RATE.1),
            nmis: 0,
            errors,
            hardware_log: RateLimit::new(HARDWARE_LOG_RATE.0, HARDWARE_LOG_RATE.1),
        };
        if cpu.endpoints.first(Service::Net) != EndpointId::NONE {
            cpu.await_node();
        }
        Kernel {
            vms: Table::new(tables.contexts, tables.records, tables.args, tables.seats, tables.written),
            cpu,
            requests: Requests::new(tables.written.slots),
        }
    }

    /// Start all components, the most important first.
    pub fn start_components(&mut self) {
        for rank in 0..self.cpu.components.list.len() {
            self.start(rank);
            let component = &self.cpu.components.list[rank];
            log::info!(target: "core", "component {} started with policy {}", component.entry.name, component.policies.name());
        }
    }
}

/// `ns` in ticks.
fn ticks(ns: u64, hz: u64) -> u64 {
    u64::try_from(u128::from(ns) * u128::from(hz) / 1_000_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Places, ticks};
    use crate::boot::options::{Options, VmRequest};

    #[test]
    fn as_many_places_as_memory_is_good_for_unless_somebody_says_otherwise() {
        let places = |slots: Option<u32>, seats: Option<u32>, vms: &[u32], frames| {
            let mut options = Options { slots: slots.unwrap_or(0), seats: seats.unwrap_or(0), ..Options::default() };
            for (request, &count) in options.vms.iter_mut().zip(vms) {
                *request = VmRequest { image: 0, count };
                options.vm_count += 1;
            }
            let Places { slots, seats } = Places::new(&options, frames);
            (slots, seats)
        };
        assert_eq!(places(None, None, &[], 65_536), (8192, 4096));
        assert_eq!(places(None, None, &[3000, 7000], 65_536), (10_000, 4096), "one for each that is asked for");
        assert_eq!(places(None, None, &[], 1 << 40), (1 << 20, 65_535));
        assert_eq!(places(None, None, &[], 5), (1, 1));
        assert_eq!(places(Some(1 << 20), Some(9), &[], 65_536), (1 << 20, 9));
        assert_eq!(places(Some(100), None, &[], 65_536), (100, 100), "who is admitted lives");
        assert_eq!(places(Some(100), Some(200), &[500], 65_536), (100, 100), "what is said counts");
    }

    #[test]
    fn nanoseconds_in_ticks() {
        assert_eq!(ticks(10_000_000, 2_500_000_000), 25_000_000);
        assert_eq!(ticks(1, 1), 0);
        assert_eq!(ticks(u64::MAX, u64::MAX), u64::MAX);
    }
}
