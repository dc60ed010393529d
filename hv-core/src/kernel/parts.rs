//! What a kernel is put together from, at boot and in tests.

use super::cpu::{Counters, Cpu};
use super::requests::Requests;
use super::turn::Plan;
use super::{Attention, Kernel};
use crate::board::{Board, TimeBase};
use crate::boot::Options;
use crate::component::Components;
use crate::log::RateLimit;
use crate::memory::{Frames, core_slice};
use crate::vm::{
    Cell, EMPTY_ARGS, EMPTY_CELL, EMPTY_LINK, EMPTY_RECORD, Images, Link, NEVER, Queues, Record, Table, TimerCell,
    Timers,
};
use abi::limits::MAX_VMS;
use backend::Backend;

/// Frames per VM slot: a machine has as many slots as it could have VMs that are small and share nearly everything.
const FRAMES_PER_SLOT: u64 = 16;
/// Lines a second, and at once, by which guests that end make themselves heard; and components with bad messages.
const LOG_RATE: (u32, u32) = (20, 100);

/// The tables that have an entry for each VM slot.
pub struct Tables {
    contexts: &'static mut [u32],
    pub records: &'static mut [Record],
    args: &'static mut [Cell],
    cells: &'static mut [TimerCell],
    links: &'static mut [Link],
}

impl Tables {
    /// Tables for as many VMs as the free frames are good for. `None` when there is no room for them.
    pub fn new(frames: &mut Frames) -> Option<Self> {
        let slots = frames.free_frames() / FRAMES_PER_SLOT;
        let slots = usize::try_from(slots).map_or(MAX_VMS, |slots| slots.min(MAX_VMS));
        Some(Tables {
            contexts: core_slice(frames, slots, 0)?,
            records: core_slice(frames, slots, EMPTY_RECORD)?,
            args: core_slice(frames, slots, EMPTY_ARGS)?,
            cells: core_slice(frames, slots, EMPTY_CELL)?,
            links: core_slice(frames, slots, EMPTY_LINK)?,
        })
    }
}

/// What boot has found and made.
pub struct Parts<B: Backend, H: Board> {
    pub backend: B,
    pub board: H,
    pub time: TimeBase,
    /// Those that are free are for VMs.
    pub frames: Frames,
    pub components: Components,
    pub images: Images,
}

impl<B: Backend, H: Board> Kernel<B, H> {
    /// A kernel without a VM, whose components have still to be started.
    pub fn new(parts: Parts<B, H>, tables: Tables, options: Options) -> Self {
        let Parts { backend, board, time, frames, components, images } = parts;
        let tsc_hz = time.tsc_hz();
        let quantum_ticks = ticks(options.quantum_ns, tsc_hz);
        let mark = board.now();
        let cpu = Cpu {
            vm_frames: frames.free_frames(),
            backend,
            board,
            time,
            frames,
            net: options.net,
            components,
            images,
            queues: Queues::new(tables.links),
            timers: Timers::new(tables.cells),
            plan: Plan::new(quantum_ticks, tsc_hz),
            admit_at: NEVER,
            swap: None,
            attention: Attention::default(),
            counters: Counters::default(),
            armed: NEVER,
            mark,
            loaded: None,
            guest_log: RateLimit::new(LOG_RATE.0, LOG_RATE.1),
            component_log: RateLimit::new(LOG_RATE.0, LOG_RATE.1),
            nmis: 0,
        };
        Kernel {
            vms: Table::new(tables.contexts, tables.records, tables.args),
            cpu,
            requests: Requests::new(options.vms),
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
    use super::ticks;

    #[test]
    fn nanoseconds_in_ticks() {
        assert_eq!(ticks(10_000_000, 2_500_000_000), 25_000_000);
        assert_eq!(ticks(1, 1), 0);
        assert_eq!(ticks(u64::MAX, u64::MAX), u64::MAX);
    }
}
