//! All components, and which of them can run.

use super::component::Component;
use super::run::Run;
use super::shares::Shares;
use crate::kernel::Attention;
use crate::memory::PhysAddr;
use abi::component::kicks;
use abi::limits::MAX_COMPONENTS;
use abi::vm::Seat;
use ring::SharedMemory;

/// Since when VMs idle ([`abi::component::idles`]), as pagers see it.
pub struct Idles {
    pub first: PhysAddr,
    pub memory: SharedMemory,
}

/// All components, the most important first: a component's index here is its rank.
pub struct Components {
    pub list: heapless::Vec<Component, MAX_COMPONENTS>,
    /// Bit `i`: the component of rank `i` has devices, or the interrupt of its ports.
    pub with_devices: u32,
    /// No component waits for a deadline before this one. It may be too early, never too late.
    pub next_deadline: u64,
    /// Those that are over their budgets.
    pub shares: Shares,
    /// Where there is a pager.
    pub idles: Option<Idles>,
}

impl Components {
    /// None yet.
    pub const fn new() -> Self {
        Components {
            list: heapless::Vec::new(),
            with_devices: 0,
            next_deadline: u64::MAX,
            shares: Shares::new(),
            idles: None,
        }
    }

    /// Set notification bits of a component. True when it waits for one of them, and so can run.
    #[inline]
    #[must_use]
    pub fn notify(&mut self, rank: usize, bits: u64) -> bool {
        let Some(component) = self.list.get_mut(rank) else { return false };
        component.notified |= bits;
        matches!(component.run, Run::Waiting { mask, .. } if component.notified & mask != 0)
    }

    /// Whose deadline has come can run, or is started again; find the next deadline.
    pub fn expire(&mut self, now: u64, attention: &mut Attention) {
        self.next_deadline = u64::MAX;
        for (rank, component) in self.list.iter().enumerate() {
            match component.run {
                Run::Waiting { deadline, .. } if deadline <= now => attention.set_runnable(rank),
                Run::Stopped { start_at } if start_at <= now => attention.set_components(),
                Run::Waiting { deadline, .. } | Run::Stopped { start_at: deadline } => {
                    self.next_deadline = self.next_deadline.min(deadline);
                }
                Run::Ready | Run::Condemned(_) => {}
            }
        }
    }

    /// The VM in a seat idles since the TSC `since`, which is not 0, or does something else: 0.
    #[inline]
    pub fn note_idle(&self, seat: Seat, since: u64) {
        if let Some(idles) = &self.idles {
            // There is a word for each seat.
            let _ = idles.memory.store64(seat.index() * 8, since);
        }
    }

    /// Mark the NIC of the VM in a seat as kicked for the component of this rank, which has to be notified then.
    #[inline]
    pub fn kick(&mut self, rank: usize, seat: Seat) {
        if let Some(bits) = self.list.get(rank).and_then(|component| component.kicks.as_ref()) {
            let seat = seat.index();
            // There is a bit for each seat; beyond them nothing is written.
            let _ = bits.fetch_or64(kicks::SEATS + seat / 64 * 8, 1 << (seat % 64));
            let _ = bits.fetch_or64(kicks::MIDDLE + seat / 4096 * 8, 1 << (seat / 64 % 64));
            let _ = bits.fetch_or64(kicks::TOP, 1 << (seat / 4096));
        }
    }
}
