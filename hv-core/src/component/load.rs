//! Making components of what boot has placed, and loading their images at every start.

use super::component::Component;
use super::components::{Components, Idles};
use super::count32;
use super::devices::Device;
use super::devices::{Attached, attach_devices};
use super::endpoint::Endpoints;
use super::liveness::Liveness;
use super::load_error::LoadError;
use super::policies::{Policies, Policy, Unfit};
use super::program::Program;
use super::rings::Rings;
use super::run::Run;
use super::space::Space;
use crate::board::Devices;
use crate::log::say;
use crate::memory::phys::index as to_index;
use crate::memory::{Frames, KernelSpace, MapError, Owner, PhysAddr, core_memory};
use crate::trap::UserContext;
use abi::boot::{self, program};
use abi::component::{ComponentInfo, INFO_MAGIC, authority, bits, idles, kicks, layout};
use abi::limits::PAGE_SIZE;
use abi::log::Record;
use abi::manifest::{self, NONE};
use abi::note::TableBytes;
use abi::swap::{SHEET_STRIDE, WINDOW_BYTES, WINDOWS};
use ring::SharedMemory;
use zerocopy::{FromZeros, IntoBytes};

/// Devices must reach DMA memory with 32-bit addresses.
const DMA_LIMIT: u64 = 1 << 32;

/// What the components are made from.
pub struct Sources<'b> {
    /// The components, with the policies that can fill their roles.
    pub components: &'b [boot::Component],
    /// The rings.
    pub rings: &'b [manifest::Ring],
    /// The core's half of every address space.
    pub kernel: &'b KernelSpace,
    /// Tag translations of address spaces.
    pub pcid: bool,
    /// Slots for VMs, and seats for those that are admitted.
    pub vm_slots: usize,
    /// See `vm_slots`.
    pub vm_seats: usize,
    /// Ticks of the TSC in a second.
    pub tsc_hz: u64,
    /// Bytes of the pool for VMs that are out, whole pages.
    pub pool_bytes: u64,
    /// It is only the way to the disks.
    pub pool_passes: bool,
    /// The key with which VMs that are out are sealed.
    pub seal_key: [u8; 32],
}

/// Make all components and the core's ends of the rings with them, in place: both are empty, and too large to be passed round. None
/// has been started yet.
///
/// # Errors
/// [`LoadError`] for the first that cannot be made.
pub fn load_all(
    sources: &Sources<'_>,
    frames: &mut Frames,
    hardware: &mut impl Devices,
    components: &mut Components,
    endpoints: &mut Endpoints,
) -> Result<(), LoadError> {
    let rings = Rings::new(sources.components, sources.rings, frames)?;
    for rank in 0..rings.components() {
        load_one(rank, &rings, sources, frames, hardware, components, endpoints)?;
    }
    Ok(())
}

/// Make the component of this rank.
fn load_one(
    rank: usize,
    rings: &Rings<'_>,
    sources: &Sources<'_>,
    frames: &mut Frames,
    hardware: &mut impl Devices,
    components: &mut Components,
    endpoints: &mut Endpoints,
) -> Result<(), LoadError> {
    let index = rings.number(rank);
    let entry = sources.components[index].entry;
    let no_memory = |_: MapError| LoadError::Memory(entry.name);
    let policies = find_policies(&sources.components[index]).ok_or(LoadError::Memory(entry.name))?;
    // There are at most MAX_COMPONENTS ranks.
    let rank8 = u8::try_from(rank).unwrap_or(u8::MAX);
    let (mut space, info_frame) = make_space(&entry, rank8, &policies, sources, frames).map_err(no_memory)?;
    let mut info = ComponentInfo::new_zeroed();
    let connected = rings.connect(rank, &mut space, frames, &mut info).map_err(no_memory)?;
    let joined = connected.join(rank, &info, endpoints)?;
    let authority = authority_of(joined.authority, sources.pool_bytes);
    let kicks = give_regions(&entry, rank8, authority, &policies, sources, &mut space, frames, &mut info)
        .ok_or(LoadError::Memory(entry.name))?;
    show_idles(authority, sources, &mut space, frames, &mut components.idles).map_err(no_memory)?;
    let sheets =
        give_windows(rank8, authority, sources, &mut space, frames, &mut info).ok_or(LoadError::Memory(entry.name))?;
    let Attached { mut devices, ports } = match entry.pci_class {
        NONE => Attached::default(),
        class => attach_devices(&entry.name, class, &mut space, frames, hardware, &mut info)?,
    };
    if entry.port_irq != NONE {
        // The ports' interrupt counts as the device after the others.
        let gsi = hardware.route_isa(entry.port_irq);
        let _ = devices.push(Device { pci: None, gsi, bit: bits::PORT_IRQ });
    }
    introduce(&mut info, &entry, authority, sources);
    let budget_ticks = sources.tsc_hz / 1_000_000 * u64::from(entry.budget_us);
    let inbound = info.rings[..connected.rings.len()].iter().zip(0_u32..);
    let doorbells = inbound.filter(|(ring, _)| ring.producer == 0).fold(0, |bits, (_, index)| bits | 1 << index);
    let of_devices = devices.iter().fold(0, |bits, device: &Device| bits | device.bit);
    let component = Component {
        entry,
        number: index,
        endpoints: joined.endpoints,
        #[cfg(test)]
        bells: joined.bells,
        authority: joined.authority,
        mapped: policies.running(),
        policies,
        successor: None,
        trial_ends: u64::MAX,
        space,
        info,
        info_page: core_memory(info_frame, PAGE_SIZE),
        rings: connected.rings,
        peers: connected.peers,
        devices,
        ports,
        kicks,
        sheets,
        context: UserContext::default(),
        run: Run::Stopped { start_at: 0 },
        notified: 0,
        incarnation: 0,
        live: Liveness::new(budget_ticks, sources.tsc_hz),
        watched: doorbells | of_devices | bits::KICK,
        ran_ticks: 0,
        billed_ticks: 0,
        started_at: 0,
        quick_deaths: 0,
    };
    components.with_devices |= u32::from(!component.devices.is_empty()) << components.list.len();
    let _ = components.list.push(component);
    Ok(())
}

/// A component's address space with the policy that runs in it, and the frame of its information page.
fn make_space(
    entry: &manifest::Component,
    rank: u8,
    policies: &Policies,
    sources: &Sources<'_>,
    frames: &mut Frames,
) -> Result<(Space, PhysAddr), MapError> {
    let owner = Owner::Component(rank);
    let pcid = sources.pcid.then_some(u16::from(rank) + 1);
    let mut space = Space::new(frames, sources.kernel, owner, pcid, policies, entry.stack_pages.into())?;
    if let Some(program) = policies.program(policies.running()) {
        space.show(frames, program)?;
    }
    let info_frame = frames.alloc_zeroed(owner, 0).ok_or(MapError::NoFrames)?;
    space.map(frames, layout::INFO, info_frame, Space::READ_ONLY)?;
    Ok((space, info_frame))
}

/// Tell a component what it is, what it may and how large the machine is.
fn introduce(info: &mut ComponentInfo, entry: &manifest::Component, authority: u32, sources: &Sources<'_>) {
    info.magic = INFO_MAGIC;
    info.abi_version = abi::ABI_VERSION;
    info.name = entry.name;
    let passes = sources.pool_passes && authority & authority::SWAP_WINDOW != 0;
    info.authority = authority | if passes { authority::SWAP_PASSES } else { 0 };
    info.vm_slots = count32(sources.vm_slots);
    info.vm_seats = count32(sources.vm_seats);
    info.tsc_hz = sources.tsc_hz;
}

/// Give a component its memory beside its image: kick bits, which are returned, DMA memory, what is kept, and tables. `None`
/// when there is not enough, or no room in its address space.
// One place each: they have nothing in common that a type could stand for.
#[allow(clippy::too_many_arguments)]
fn give_regions(
    entry: &manifest::Component,
    rank: u8,
    authority: u32,
    policies: &Policies,
    sources: &Sources<'_>,
    space: &mut Space,
    frames: &mut Frames,
    info: &mut ComponentInfo,
) -> Option<Option<SharedMemory>> {
    let owner = Owner::Component(rank);
    let mut give = |at, pages: u64, below, owner| give_memory(space, frames, at, pages * PAGE_SIZE, below, owner);
    let kicks = if authority & authority::VM_WINDOW != 0 {
        Some(give(layout::KICKS, kicks::pages(sources.vm_seats), u64::MAX, owner)?.0)
    } else {
        None
    };
    if entry.dma_pages != 0 {
        let (memory, first) = give(layout::DMA, entry.dma_pages.into(), DMA_LIMIT, Owner::Dma(rank))?;
        info.dma_physical = first.as_u64();
        info.dma_bytes = memory.len() as u64;
    }
    let asked = asked_for(policies);
    let keep_pages = u64::from(entry.keep_pages) + asked.keep(sources.vm_seats).div_ceil(PAGE_SIZE);
    if keep_pages > (layout::KEEP_END - layout::KEEP) / PAGE_SIZE {
        return None;
    }
    if keep_pages != 0 {
        give(layout::KEEP, keep_pages, u64::MAX, owner)?;
        // Far below 2^32, as just seen.
        info.keep_pages = u32::try_from(keep_pages).unwrap_or(0);
    }
    let pooled = authority & authority::IDLES != 0;
    let tables_pages = asked.total(sources.vm_slots, sources.vm_seats, pooled).div_ceil(PAGE_SIZE);
    if tables_pages > (layout::TABLES_END - layout::TABLES) / PAGE_SIZE {
        return None;
    }
    if tables_pages != 0 {
        give(layout::TABLES, tables_pages, u64::MAX, owner)?;
        info.tables_bytes = tables_pages * PAGE_SIZE;
    }
    Some(kicks)
}

/// What a component may: where nobody goes out nobody looks since when VMs idle, and it is not noted at each of their switches.
fn authority_of(joined: u32, pool_bytes: u64) -> u32 {
    if pool_bytes == 0 { joined & !authority::IDLES } else { joined }
}

/// Show a component since when VMs idle, if its services say so: the same pages to all.
fn show_idles(
    authority: u32,
    sources: &Sources<'_>,
    space: &mut Space,
    frames: &mut Frames,
    idles: &mut Option<Idles>,
) -> Result<(), MapError> {
    if authority & authority::IDLES == 0 {
        return Ok(());
    }
    let bytes = idles::pages(sources.vm_seats) * PAGE_SIZE;
    let first = match idles {
        Some(idles) => idles.first,
        None => {
            let first =
                frames.alloc_contiguous(bytes / PAGE_SIZE, 1, u64::MAX, Owner::Core).ok_or(MapError::NoFrames)?;
            let memory = core_memory(first, bytes);
            let _ = memory.clear(0, memory.len());
            *idles = Some(Idles { first, memory });
            first
        }
    };
    space.map_range(frames, layout::IDLES, first, bytes, Space::READ_ONLY)
}

/// Give a component that keeps the memory of VMs that are out its pool, and windows in which nothing is yet. Returns their sheets, if it is one.
fn give_windows(
    rank: u8,
    authority: u32,
    sources: &Sources<'_>,
    space: &mut Space,
    frames: &mut Frames,
    info: &mut ComponentInfo,
) -> Option<Option<SharedMemory>> {
    if authority & authority::SWAP_WINDOW == 0 {
        return Some(None);
    }
    let owner = Owner::Component(rank);
    let bytes = WINDOWS as u64 * SHEET_STRIDE;
    let (sheets, first) = give_memory(space, frames, layout::SWAP_SHEETS, bytes, u64::MAX, owner)?;
    // Something is mapped in each window once, so that there are tables for it for good.
    for at in (0..WINDOWS as u64).map(|window| layout::SWAP_WINDOW + window * WINDOW_BYTES) {
        space.map(frames, at, first, Space::READ_ONLY).ok()?;
        space.unmap(at);
    }
    // It need not be in one piece, and pieces of that size are rare.
    for at in (0..sources.pool_bytes).step_by(to_index(PAGE_SIZE)) {
        let frame = frames.alloc_zeroed(owner, 0)?;
        space.map(frames, layout::POOL + at, frame, Space::DATA).ok()?;
    }
    info.pool_bytes = sources.pool_bytes;
    info.seal_key = sources.seal_key;
    Some(Some(sheets))
}

/// The policies of a component.
fn find_policies(component: &boot::Component) -> Option<Policies> {
    let entry = &component.entry;
    let named = entry.policies.iter().zip(&component.programs).take(to_index(entry.policy_count.into()));
    let list = named.map(|(policy, from)| {
        let program = match from.state {
            program::GOOD => Ok(Program::new(from)),
            program::NO_MODULE => Err(Unfit::NoModule),
            _ => Err(Unfit::BadModule),
        };
        Policy { name: policy.name, program }
    });
    Policies::new(list.collect(), to_index(component.chosen.into()))
}

/// What the tables of a component take, whichever of its policies it runs.
fn asked_for(policies: &Policies) -> TableBytes {
    policies.programs().map(|program| program.tables).fold(TableBytes::NONE, TableBytes::max)
}

/// Give a component cleared memory at `at`, contiguous and below the physical address `below`. `None` when there is not as
/// much, or no room in its address space.
fn give_memory(
    space: &mut Space,
    frames: &mut Frames,
    at: u64,
    bytes: u64,
    below: u64,
    owner: Owner,
) -> Option<(SharedMemory, PhysAddr)> {
    let first = frames.alloc_contiguous(bytes / PAGE_SIZE, 1, below, owner)?;
    let memory = core_memory(first, bytes);
    let _ = memory.clear(0, memory.len());
    space.map_range(frames, at, first, bytes, Space::DATA).ok()?;
    Some((memory, first))
}

impl Component {
    /// Put the component into the state of a first start of the policy that is to run: what it writes as its module has it, registers,
    /// information page. Where its successor's image is ready, only that is shown.
    pub fn load(&mut self, frames: &mut Frames, vm_frames: u64, quantum_ticks: u64) {
        let ready = self.successor.take();
        if let Some(successor) = ready {
            self.policies.replace(successor);
        }
        let running = self.policies.running();
        let (Some(program), Some(mapped)) = (self.policies.program(running), self.policies.program(self.mapped)) else {
            return;
        };
        let ready = ready == Some(running) && self.space.spare().is_some();
        if ready || self.mapped != running {
            self.space.hide(mapped);
            if ready {
                self.space.change_blocks();
            }
            if self.space.show(frames, program).is_err() {
                say(Record::NoTables { name: self.entry.name, policy: self.policies.name() });
            }
            self.mapped = running;
        }
        if !ready {
            program.lay(self.space.block(), 0..usize::MAX);
        }
        self.info.policy = self.policies.name();
        self.info.incarnation = self.incarnation;
        self.info.vm_frames = vm_frames;
        self.info.quantum_ticks = quantum_ticks;
        let _ = self.info_page.write(0, self.info.as_bytes());
        if let Some(kicks) = &self.kicks {
            let _ = kicks.clear(0, kicks.len());
        }
        self.context = UserContext::start(program.entry, layout::STACK_TOP);
    }
}
