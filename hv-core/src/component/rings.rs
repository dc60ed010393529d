//! The rings between components, and with the core: made at boot, mapped at both ends.

use super::component::Component as Made;
use super::count32;
use super::endpoint::{Endpoint, EndpointSet, Endpoints, Party, Peer};
use super::load_error::LoadError;
use super::space::Space;
use crate::memory::phys::index;
use crate::memory::{Frames, MapError, Owner, PhysAddr, core_memory};
use abi::boot::Component;
use abi::component::{ComponentInfo, RingInfo, layout};
use abi::limits::{MAX_COMPONENTS, MAX_RINGS, MAX_RINGS_PER_COMPONENT, PAGE_SIZE};
use abi::manifest::{CORE, Ring as RingEntry};
use abi::request_page;
use abi::service::Service;
use ring::SharedMemory;

/// All rings of the manifest, and the order of the components that they connect.
pub(super) struct Rings<'b> {
    entries: &'b [RingEntry],
    memory: heapless::Vec<(SharedMemory, PhysAddr), MAX_RINGS>,
    /// The components' numbers in the manifest, by rank.
    order: heapless::Vec<usize, MAX_COMPONENTS>,
}

/// Whether requests of a controller come in a ring.
const fn carries_requests(ring: &RingEntry) -> bool {
    ring.consumer == CORE && ring.service == Service::Control.raw()
}

/// A component's ends.
pub(super) struct Connected {
    pub(super) rings: heapless::Vec<SharedMemory, MAX_RINGS_PER_COMPONENT>,
    pub(super) peers: [Peer; MAX_RINGS_PER_COMPONENT],
}

/// What a component is a party to.
pub(super) struct Joined {
    pub(super) endpoints: EndpointSet,
    /// Its notification bits for messages from the core.
    #[cfg(test)]
    pub(super) bells: u64,
    /// [`abi::component::authority`].
    pub(super) authority: u32,
}

impl<'b> Rings<'b> {
    /// Empty ones.
    pub(super) fn new(
        components: &[Component],
        entries: &'b [RingEntry],
        frames: &mut Frames,
    ) -> Result<Rings<'b>, LoadError> {
        let mut order: heapless::Vec<usize, MAX_COMPONENTS> = (0..components.len()).collect();
        order.sort_unstable_by_key(|&index| components[index].entry.priority);
        let mut rings = Rings { entries, memory: heapless::Vec::new(), order };
        for ring in entries {
            // The request page follows the ring that requests come in, and data one between components.
            let pages = if carries_requests(ring) { 1 } else { u64::from(ring.data_pages) };
            let bytes = abi::ring::ring_bytes(ring.slots) + pages * PAGE_SIZE;
            let first = frames
                .alloc_contiguous(bytes / PAGE_SIZE, 1, u64::MAX, Owner::Core)
                .ok_or(LoadError::Memory(ring.name))?;
            let memory = core_memory(first, bytes);
            let _ = memory.clear(0, memory.len());
            let _ = rings.memory.push((memory, first));
        }
        Ok(rings)
    }

    /// How many components there are.
    pub(super) fn components(&self) -> usize {
        self.order.len()
    }

    /// The number in the manifest of the component of this rank.
    pub(super) fn number(&self, rank: usize) -> usize {
        self.order[rank]
    }

    /// The rings of the component with this number, as they stand in the manifest, with their places there.
    fn of(&self, number: u32) -> impl Iterator<Item = (usize, &RingEntry)> {
        self.entries.iter().enumerate().filter(move |(_, ring)| ring.producer == number || ring.consumer == number)
    }

    /// Map the rings of the component of this rank, and tell it of them.
    pub(super) fn connect(
        &self,
        rank: usize,
        space: &mut Space,
        frames: &mut Frames,
        info: &mut ComponentInfo,
    ) -> Result<Connected, MapError> {
        let own = count32(self.order[rank]);
        let mut connected =
            Connected { rings: heapless::Vec::new(), peers: [Peer::default(); MAX_RINGS_PER_COMPONENT] };
        for (position, (place, ring)) in self.of(own).enumerate() {
            let at = layout::RINGS + position as u64 * layout::RING_STRIDE;
            let (memory, first) = self.memory[place];
            space.map_range(frames, at, first, memory.len() as u64, Space::DATA)?;
            let is_producer = ring.producer == own;
            let other = if is_producer { ring.consumer } else { ring.producer };
            if let Some(rank) = self.order.iter().position(|&number| count32(number) == other) {
                let before = self.of(other).take_while(|(at, _)| *at < place).count();
                connected.peers[position] = Peer { rank, bit: Made::ring_bit(before) };
            }
            let RingEntry { name, slots, service, data_pages, .. } = *ring;
            info.rings[position] = RingInfo { name, slots, producer: is_producer.into(), service, data_pages };
            let _ = connected.rings.push(memory);
        }
        info.ring_count = count32(connected.rings.len());
        Ok(connected)
    }
}

impl Connected {
    /// Make the component of this rank a party to each service for which it has a pair of rings with the core.
    pub(super) fn join(
        &self,
        rank: usize,
        info: &ComponentInfo,
        endpoints: &mut Endpoints,
    ) -> Result<Joined, LoadError> {
        let mut joined = Joined {
            endpoints: EndpointSet::EMPTY,
            #[cfg(test)]
            bells: 0,
            authority: 0,
        };
        for service in Service::ALL {
            let position = |producer: u32| {
                let mut own = info.rings[..self.rings.len()].iter();
                own.position(|ring| ring.service == service.raw() && ring.producer == producer)
            };
            let (to, from) = match (position(0), position(1)) {
                (None, None) => continue,
                (Some(to), Some(from)) => (to, from),
                _ => return Err(LoadError::Pair(service)),
            };
            let ring = |at: usize| (&self.rings[at], info.rings[at].slots);
            let bit = Made::ring_bit(to);
            let endpoint = Endpoint::new(service, Party::Component(rank), bit, ring(to), ring(from));
            let mut endpoint = endpoint.ok_or(LoadError::Pair(service))?;
            if service == Service::Control {
                let behind = index(request_page::offset_behind(info.rings[from].slots));
                endpoint.page = self.rings[from].sub(behind, request_page::BYTES);
            }
            joined.endpoints.add(endpoints.add(endpoint));
            #[cfg(test)]
            {
                joined.bells |= bit;
            }
            joined.authority |= service.authority();
        }
        Ok(joined)
    }
}
