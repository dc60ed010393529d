//! The deprivileged components: their memory, their run state, and what each was given by the manifest.

mod component;
mod load;
mod rings;
mod space;

pub use component::{Component, Device, Role, Run};
pub use load::{LoadError, Sources, load_all};
pub use rings::{CoreEnds, Told};

use abi::limits::MAX_COMPONENTS;
use abi::vm::VmId;

/// All components, the most important first: a component's index here is its rank.
pub struct Components {
    /// The components.
    pub list: heapless::Vec<Component, MAX_COMPONENTS>,
    /// Bit `rank` is set while that component can run.
    pub runnable: u32,
    /// No component waits for a deadline before this one. It may be too early, never too late.
    pub next_deadline: u64,
    /// Rank of the component with each role.
    ranks: [Option<usize>; Role::COUNT],
}

impl Components {
    /// The components in the order of their importance.
    pub fn new(list: heapless::Vec<Component, MAX_COMPONENTS>) -> Self {
        let mut ranks = [None; Role::COUNT];
        for (rank, component) in list.iter().enumerate() {
            ranks[component.role as usize].get_or_insert(rank);
        }
        Components { list, runnable: 0, next_deadline: u64::MAX, ranks }
    }

    /// Rank of the (first) component that plays `role`.
    #[inline]
    pub fn rank_of(&self, role: Role) -> Option<usize> {
        self.ranks[role as usize]
    }

    /// The component that plays `role`.
    #[inline]
    pub fn of(&mut self, role: Role) -> Option<(usize, &mut Component)> {
        let rank = self.rank_of(role)?;
        self.list.get_mut(rank).map(|component| (rank, component))
    }

    /// Rank of the most important component that can run.
    #[inline]
    pub fn most_important(&self) -> Option<usize> {
        (self.runnable != 0).then_some(self.runnable.trailing_zeros() as usize)
    }

    /// Set notification bits of a component; it can run when it waits for one of them.
    #[inline]
    pub fn notify(&mut self, rank: usize, bits: u64) {
        let Some(component) = self.list.get_mut(rank) else { return };
        component.notified |= bits;
        if let Run::Waiting { mask, .. } = component.run
            && component.notified & mask != 0
        {
            self.runnable |= 1 << rank;
        }
    }

    /// Mark waiting components whose deadline has come as able to run, and find the next deadline.
    pub fn expire(&mut self, now: u64) {
        self.next_deadline = u64::MAX;
        for (rank, component) in self.list.iter_mut().enumerate() {
            if let Run::Waiting { deadline, .. } | Run::Dead { restart_at: deadline } = component.run {
                if deadline <= now {
                    self.runnable |= 1 << rank;
                } else {
                    self.next_deadline = self.next_deadline.min(deadline);
                }
            }
        }
    }

    /// Mark the NIC of a VM as kicked, and wake the network demultiplexer.
    #[inline]
    pub fn kick(&mut self, vm: VmId) {
        let Some((rank, component)) = self.of(Role::Net) else { return };
        let (word, bit) = (usize::from(vm.index / 64) * 8, 1 << (vm.index % 64));
        if let Some(kicks) = &component.kicks {
            // The bitmap has a bit for each slot; beyond it nothing is written.
            let _ = kicks.fetch_or64(word, bit);
        }
        self.notify(rank, abi::component::bits::KICK);
    }
}
