//! One component.

use super::devices::{Device, PortRanges};
use super::endpoint::{EndpointSet, Peer};
use super::liveness::Liveness;
use super::policies::Policies;
use super::program::Place;
use super::run::Run;
use super::space::Space;
use crate::memory::core_memory;
use crate::trap::UserContext;
use abi::component::{ComponentInfo, layout};
use abi::limits::{MAX_DEVICES_PER_COMPONENT, MAX_RINGS_PER_COMPONENT, PAGE_SIZE};
use abi::manifest;
use ring::SharedMemory;

/// A component: what the manifest gives it, its memory, and how it runs.
pub struct Component {
    /// Its manifest entry, and the number of that.
    pub entry: manifest::Component,
    /// See `entry`.
    pub number: usize,
    /// Its endpoints, one for each service that it is a party to.
    pub endpoints: EndpointSet,
    /// The notification bits of messages from the core.
    #[cfg(test)]
    pub bells: u64,
    /// What its services allow it ([`abi::component::authority`]).
    pub authority: u32,
    /// Those that can fill the role.
    pub policies: Policies,
    /// The number of the policy whose segments are mapped.
    pub mapped: usize,
    /// The policy that is started next, whose pristine image lies in the space's other block.
    pub successor: Option<usize>,
    /// Steady time at which the policy that runs has shown that it is good; `u64::MAX` for one that need not.
    pub trial_ends: u64,
    /// What it is told about itself, and the page where.
    pub info: ComponentInfo,
    /// See `info`.
    pub info_page: SharedMemory,
    /// Address space and memory.
    pub space: Space,
    /// Its rings, by its own ring index: header, then slots.
    pub rings: heapless::Vec<SharedMemory, MAX_RINGS_PER_COMPONENT>,
    /// Who hears its doorbells, by its own ring index.
    pub peers: [Peer; MAX_RINGS_PER_COMPONENT],
    /// Its devices.
    pub devices: heapless::Vec<Device, MAX_DEVICES_PER_COMPONENT>,
    /// Ports of its devices.
    pub ports: PortRanges,
    /// The kick bits, for a party to the service `net`.
    pub kicks: Option<SharedMemory>,
    /// The sheets of its windows, for the party to the service `swap`.
    pub sheets: Option<SharedMemory>,
    /// Registers while it does not run.
    pub context: UserContext,
    /// Whether it can run.
    pub run: Run,
    /// Notification bits that are set.
    pub notified: u64,
    /// How often it was started.
    pub incarnation: u32,
    /// Whether it makes progress.
    pub live: Liveness,
    /// Notification bits that it has to take in time: kicks, interrupts, and doorbells of the rings that it consumes.
    pub watched: u64,
    /// Ticks that it ran since boot.
    pub ran_ticks: u64,
    /// Of these, those of which it is known on whose behalf they were.
    pub billed_ticks: u64,
    /// TSC of its last start, and deaths in quick succession that were its own fault.
    pub started_at: u64,
    /// See `started_at`.
    pub quick_deaths: u32,
}

impl Component {
    /// Ticks that it ran and of which it was not known on whose behalf. They are known from now on.
    #[inline]
    pub fn take_unbilled(&mut self) -> u64 {
        self.ran_ticks - core::mem::replace(&mut self.billed_ticks, self.ran_ticks)
    }

    /// The bytes at `address..address + len` of the component's own memory (image or stack), or `None` when they are not
    /// all its own. The address is an allegation.
    pub fn read(&self, address: u64, len: usize) -> Option<SharedMemory> {
        let stack_bytes = u64::from(self.entry.stack_pages) * PAGE_SIZE;
        let stack_low = layout::STACK_TOP - stack_bytes;
        let offset = if (stack_low..layout::STACK_TOP).contains(&address) {
            let offset = address - stack_low;
            (offset + len as u64 <= stack_bytes).then_some(self.space.data_bytes() + offset)?
        } else {
            let part = self.policies.program(self.mapped)?.part(address, len)?;
            match part.place(address - part.address) {
                Place::Block(offset) => offset,
                Place::Module(at) => return Some(core_memory(at, len as u64)),
            }
        };
        self.space.block().sub(usize::try_from(offset).ok()?, len)
    }

    /// Notification bits of those of its devices that raise this interrupt.
    #[inline]
    pub fn interrupt_bits(&self, gsi: u32) -> u64 {
        let devices = self.devices.iter().filter(|device| device.gsi == Some(gsi));
        devices.fold(0, |bits, device| bits | device.bit)
    }

    /// The notification bit of its ring `index`.
    pub fn ring_bit(index: usize) -> u64 {
        1 << index
    }
}
