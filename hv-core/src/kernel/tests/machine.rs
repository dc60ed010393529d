//! A whole machine on the host: the kernel as it is, over fake hardware, with fake components and scripted guests.

use super::board::{FakeBoard, Hardware};
use super::component::FakeComponent;
use super::placed::{DATA, HOLE as HOLES, Part, TEXT, program};
use super::roles::{Disk, Monitor, Net, Pager, Role as FakeRole, Sched};
use super::swap_role::Swap;
use crate::board::{TimeBase, UnixClock};
use crate::boot::VmTables;
use crate::boot::options::{Net as Addresses, Options};
use crate::component::{Component, EndpointId, MAX_ENDPOINTS, Run, Sources, load_all};
use crate::kernel::{Cpu, Kernel, Parts, Tables};
use crate::memory::phys;
use crate::memory::tables::{DirectMap, Tables as PageTables};
use crate::memory::{CoreImage, Frames, KernelSpace, Owner, core_slice, frames};
use crate::vm::{BootArgs, CreateError, Image, NEVER, Order, Queue, Written};
use abi::attachment::Attachment;
use abi::barriers::BarrierPlan;
use abi::boot;
use abi::claim::Claim;
use abi::guest::IMAGE_BASE;
use abi::limits::{MAX_POLICIES, Name, PAGE_SIZE};
use abi::manifest::{self, CORE, NONE, Policy, Ring};
use abi::message::{BadMessage, Message};
use abi::record::{Args, Cell, NONE as NO_CELL, PIECE_BYTES, Record, cells_for};
use abi::request_page::Piece as PagePiece;
use abi::service::Service;
use abi::share::Share;
use abi::tenant::Tenant;
use abi::terms::Terms;
use abi::vm::{ImageId, Slot, VmId};
use backend::fake::{FakeBackend, Ram, Step, Wires};
use ring::SharedMemory;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// What a fake may take from one trap to the next beyond its turn, in ticks.
const SHARE_SLACK: u64 = 100_000;
/// Ticks of the fake TSC in a second.
pub const HZ: u64 = 1_000_000_000;
/// Slots of each ring between the core and a component.
pub const RING_SLOTS: u32 = 64;
/// Policies of each component but the monitor: two that can run, and two that cannot. The monitor has the first.
pub const POLICIES: [&str; 4] = ["fake", "other", "missing", "refused"];
/// Images: with a NIC; without one; one whose module was refused.
pub const WITH_NIC: ImageId = ImageId::new(0);
pub const WITHOUT_NIC: ImageId = ImageId::new(1);
pub const REFUSED: ImageId = ImageId::new(2);
/// With a NIC, served by the second party to each service; only where there is one.
pub const ELSEWHERE: ImageId = ImageId::new(3);
/// Memory of a guest.
pub const GUEST_PAGES: u32 = 256;
/// First page of a guest's image: text, then data, of which a part comes from the file.
#[allow(clippy::cast_possible_truncation)] // It is 0x20.
pub const IMAGE_PAGE: u32 = (IMAGE_BASE / PAGE_SIZE) as u32;

/// What guests do.
#[derive(Default)]
pub struct Guests {
    /// For whichever guest of a slot that `hostile` says runs next.
    pub steps: VecDeque<Step>,
    /// Every slot that is a multiple of this takes its steps from there; 0 for none.
    pub hostile: u32,
    /// What the others do.
    pub calm: Option<Box<dyn FnMut(u32) -> Option<Step>>>,
    /// By slot, how often a guest was asked what it does.
    pub asked: BTreeMap<u32, u64>,
}

impl Guests {
    fn next(&mut self, slot: u32) -> Option<Step> {
        *self.asked.entry(slot).or_default() += 1;
        if self.hostile != 0 && slot.is_multiple_of(self.hostile) {
            return self.steps.pop_front();
        }
        self.calm.as_mut().and_then(|calm| calm(slot))
    }
}

/// What those that share the CPU have had: the demoted component and its ticks then, those of guests, and how much of it was
/// without the other side.
#[derive(Clone)]
struct SharedSince {
    demoted: Vec<usize>,
    own: u64,
    guests: u64,
    alone_own: u64,
    alone_guests: u64,
}

/// The machine.
pub struct Machine<const TIMER: bool> {
    pub kernel: Kernel<FakeBackend<TIMER>, FakeBoard>,
    pub wires: Rc<Wires>,
    pub hardware: Rc<RefCell<Hardware>>,
    pub guests: Rc<RefCell<Guests>>,
    /// VMs that were seen to have ended, since somebody last looked.
    pub ended: BTreeSet<VmId>,
    /// Pages that are out of each VM, at the last look ([`super::audit`]).
    pub away: std::collections::BTreeMap<abi::vm::Slot, Vec<abi::swap::Bundle>>,
    /// The virtual disk of the VM that is created next.
    pub next_disk: Attachment,
    /// Since when components and VMs share the CPU: ticks of those components and of guests, since the others had their turn.
    shared: Option<SharedSince>,
    /// Keeps the memory.
    _ram: Ram,
}

fn name(text: &str) -> Name {
    Name::new(text).expect("short")
}

fn entry(role: &str, priority: u32) -> manifest::Component {
    let mut policies = [Policy { name: Name::EMPTY, module: Name::EMPTY }; MAX_POLICIES];
    for (policy, text) in policies.iter_mut().zip(POLICIES) {
        *policy = Policy { name: name(text), module: name(text) };
    }
    manifest::Component {
        name: name(role),
        policies,
        policy_count: u32::try_from(POLICIES.len()).expect("few"),
        priority,
        budget_us: 1_000,
        stack_pages: 2,
        memory_pages: 8,
        dma_pages: 0,
        pci_class: NONE,
        port_first: 0,
        port_count: 0,
        port_irq: NONE,
        keep_pages: 0,
        flags: 0,
        reserved: 0,
    }
}

/// Each component, and the service that it is a party to. The first four are always there.
const PARTIES: [(&str, Service); 8] = [
    ("netmux", Service::Net),
    ("pager", Service::Pager),
    ("sched", Service::Plan),
    ("monitor", Service::Control),
    ("lan", Service::Net),
    ("attic", Service::Pager),
    ("supervisor", Service::Control),
    ("swap", Service::Swap),
];
/// Who serves disks, where somebody does.
const DISKS: (&str, Service) = ("diskmux", Service::Disk);
/// Pages of the pool.
const POOL_PAGES: u64 = 64;

fn manifest(parties: &[(&str, Service)]) -> (Vec<manifest::Component>, Vec<Ring>) {
    let mut components: Vec<_> = parties.iter().zip(0..).map(|((role, _), priority)| entry(role, priority)).collect();
    for (component, (role, service)) in components.iter_mut().zip(parties) {
        match service {
            Service::Net => {
                if *role == "netmux" {
                    (component.pci_class, component.dma_pages) = (0x0200, 2);
                }
                component.keep_pages = 2;
            }
            Service::Control => {
                component.policy_count = 1;
                if *role == "monitor" {
                    (component.port_first, component.port_count, component.port_irq) = (0x3f8, 8, 4);
                }
            }
            Service::Pager | Service::Plan | Service::Swap | Service::Disk => {}
        }
    }
    let rings = parties.iter().zip(0..).flat_map(|((role, service), index)| {
        let ring = |text: &str, producer, consumer| {
            let name = name(&format!("{text}-{role}"));
            Ring { name, producer, consumer, slots: RING_SLOTS, service: service.raw(), data_pages: 0, reserved: 0 }
        };
        [ring("to", CORE, index), ring("from", index, CORE)]
    });
    (components, rings.collect())
}

/// The program of a policy: text, and data at different places, which begins with the policy's name.
fn policy(frames: &mut Frames, name: &str) -> boot::Program {
    let data = match name {
        "fake" => 0x40_1000,
        "other" => 0x40_2000,
        _ => {
            let state = if name == "missing" { boot::program::NO_MODULE } else { boot::program::REFUSED };
            return boot::Program { state, ..program(frames, 0, &[], None) };
        }
    };
    let mut content = [0; 0x10];
    content[..name.len()].copy_from_slice(name.as_bytes());
    program(frames, 0x40_0010, &[(0x40_0000, TEXT, 1, &[0x90; 0x800]), (data, DATA, 3, &content)], None)
}

/// First page of the hole of an image, which has two.
pub const HOLE: u32 = IMAGE_PAGE + 26;

/// An image whose segments are a page of text, data of four pages, of which a page and a half come from the file, and a hole.
fn image(frames: &mut Frames, id: ImageId, rx_slots: u32, tx_slots: u32) -> Image {
    let mut data = [0; 0x1800];
    data[0xf00] = 0x5a;
    let parts: [Part<'_>; 3] = [
        (IMAGE_BASE, TEXT, 1, &[0; 0x1000]),
        (IMAGE_BASE + 0x1000, DATA, 4, &data),
        (IMAGE_BASE + 0x1_a000, HOLES, 2, &[]),
    ];
    let program = program(frames, IMAGE_BASE + 0x10, &parts, Some(id.number()));
    let args = [0; manifest::IMAGE_ARGS_BYTES];
    let memory_bytes = u64::from(GUEST_PAGES) * PAGE_SIZE;
    let entry = manifest::Image {
        name: name("guest"),
        module: name("guest"),
        memory_bytes,
        rx_slots,
        tx_slots,
        args,
        rate: abi::share::UNLIMITED,
        burst: abi::share::BURST,
        weight: abi::share::WEIGHT,
        net: manifest::ANY,
        pager: manifest::ANY,
        flags: 0,
        reserve_frames: abi::claim::RESERVE_LEAST,
        limit_frames: 300,
        tenant: 0,
        reserved: 0,
        disk: abi::attachment::Attachment::NONE,
        reserved2: 0,
    };
    Image::new(entry, &program).expect("good")
}

/// How many VMs a machine has room for.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    pub slots: usize,
    pub seats: usize,
}

/// Cells for boot arguments beyond one for each slot.
const MORE_CELLS: usize = 256;

/// Write VMs as the loader does: those of images that are there, as long as there is room.
fn write_vms(tables: &mut VmTables, vms: &[(ImageId, u32)], images: &[Option<Image>], net: &Addresses) {
    let VmTables { records, cells, written, .. } = tables;
    for &(id, count) in vms {
        let Some(Some(image)) = images.get(id.index()) else { continue };
        for _ in 0..count {
            let Some(record) = records.get_mut(written.slots as usize) else { return };
            let ipv4 = net.address_of(Slot::new(written.slots));
            let mut args = BootArgs::new();
            boot_args::compose(&mut args, &image.entry.args, net, ipv4, b"").expect("short");
            let (first, count) = (written.cells, cells_for(args.len()));
            for (piece, number) in args.chunks(PIECE_BYTES).zip(1..) {
                let next = if number == count { NO_CELL } else { written.cells + 1 };
                cells[written.cells as usize] = Cell::new(piece, next);
                written.cells += 1;
            }
            let of = &image.entry;
            let terms = Terms { share: of.share(), claim: of.claim(), tenant: of.tenant(), disk: of.disk };
            *record = Record::written(id, terms, ipv4, Args::at(first));
            written.slots += 1;
        }
    }
}

/// The core's address space, of a core that is nowhere.
fn kernel_space(frames: &mut Frames) -> KernelSpace {
    let at = |page: u64| CoreImage::START + page * PAGE_SIZE;
    let core = CoreImage {
        physical: 0,
        text_start: at(0),
        text_end: at(1),
        rodata_end: at(2),
        stack_guard: at(3),
        end: at(5),
    };
    let tables = PageTables::new(frames, DirectMap, Owner::Core).expect("room");
    // SAFETY: it was just made, in the memory of the fake machine, and nobody else has it.
    unsafe { KernelSpace::adopt(tables.root(), core) }
}

/// What plays a component that is a party to this service.
fn fake(component: &Component, service: Service, idles: Option<SharedMemory>) -> FakeComponent {
    let role = match service {
        Service::Net => FakeRole::Net(Net::default()),
        Service::Disk => FakeRole::Disk(Disk::default()),
        Service::Pager => FakeRole::Pager(Pager { idles, ..Pager::default() }),
        Service::Plan => FakeRole::Sched(Sched::default()),
        Service::Swap => FakeRole::Swap(Swap::new(
            component.space.tables().root().as_u64(),
            component.sheets.expect("it has windows"),
            component.info.pool_bytes,
        )),
        Service::Control => {
            // Each has ids of its own.
            let before = if component.entry.port_count == 0 { 1 << 20 } else { 0 };
            FakeRole::Monitor(Monitor { asked: before, before, ..Monitor::default() })
        }
    };
    let ring = |index: usize| (component.rings[index], RING_SLOTS, 1 << index);
    let entry = component.policies.program(0).expect("good").entry;
    let mut fake = FakeComponent::new(role, ring(0), ring(1), entry, component.kicks);
    fake.info = Some(component.info_page);
    fake
}

impl<const TIMER: bool> Machine<TIMER> {
    /// A machine with so many frames, whose components have been started and have not run yet.
    pub fn new(ram_frames: usize) -> Self {
        Self::with_places(ram_frames, Places { slots: ram_frames / 16, seats: ram_frames / 16 })
    }

    /// The same, for so many VMs.
    pub fn with_places(ram_frames: usize, places: Places) -> Self {
        Self::with_parties(ram_frames, places, &PARTIES[..4], &[])
    }

    /// The same, with two demultiplexers, pagers and controllers, and an image whose VMs the second ones serve.
    pub fn with_twins(ram_frames: usize, places: Places) -> Self {
        Self::with_parties(ram_frames, places, &PARTIES, &[])
    }

    /// The same, with somebody who serves disks, and an image whose VMs have the virtual disk `web` for reading.
    pub fn with_disks(ram_frames: usize) -> Self {
        let places = Places { slots: ram_frames / 16, seats: ram_frames / 16 };
        let parties: Vec<_> = PARTIES[..4].iter().copied().chain([DISKS]).collect();
        Self::with_parties(ram_frames, places, &parties, &[])
    }

    /// The same, with the first four, swap and somebody who serves disks.
    pub fn with_swap_and_disks(ram_frames: usize, places: Places) -> Self {
        let parties: Vec<_> = PARTIES[..4].iter().chain(&PARTIES[7..]).copied().chain([DISKS]).collect();
        Self::with_parties(ram_frames, places, &parties, &[])
    }

    /// The same, with the first four and swap.
    pub fn with_swap(ram_frames: usize, places: Places) -> Self {
        let parties: Vec<_> = PARTIES[..4].iter().chain(&PARTIES[7..]).copied().collect();
        Self::with_parties(ram_frames, places, &parties, &[])
    }

    /// The same, with a demultiplexer, a pager and a controller, and nobody who plans.
    pub fn without_scheduler(ram_frames: usize) -> Self {
        let parties = PARTIES[..4].iter().copied().filter(|(_, service)| *service != Service::Plan);
        let places = Places { slots: ram_frames / 16, seats: ram_frames / 16 };
        Self::with_parties(ram_frames, places, &parties.collect::<Vec<_>>(), &[])
    }

    /// A machine whose boot options ask for these VMs.
    pub fn with_vms(ram_frames: usize, vms: &[(ImageId, u32)]) -> Self {
        let places = Places { slots: ram_frames / 16, seats: ram_frames / 16 };
        Self::with_parties(ram_frames, places, &PARTIES[..4], vms)
    }

    fn with_parties(ram_frames: usize, places: Places, parties: &[(&str, Service)], vms: &[(ImageId, u32)]) -> Self {
        Self::with_plan(ram_frames, places, parties, vms, BarrierPlan::default())
    }

    /// A machine whose processor needs these barriers; without anybody who plans, if so said.
    pub fn with_barriers(barriers: BarrierPlan, scheduler: bool) -> Self {
        let places = Places { slots: 64, seats: 64 };
        let parties = PARTIES[..4].iter().copied().filter(|(_, service)| scheduler || *service != Service::Plan);
        Self::with_plan(4096, places, &parties.collect::<Vec<_>>(), &[], barriers)
    }

    fn with_plan(
        ram_frames: usize,
        places: Places,
        parties: &[(&str, Service)],
        vms: &[(ImageId, u32)],
        barriers: BarrierPlan,
    ) -> Self {
        let ram = Ram::new(ram_frames);
        phys::fake::DIRECT_MAP.set(ram.base() as u64);
        let table = vec![frames::Entry::RESERVED; ram_frames].leak();
        let mut frames = Frames::new(table);
        assert!(frames.add_free(1, ram_frames as u64));
        let space = kernel_space(&mut frames);
        let wires = Rc::new(Wires::new(HZ, crate::board::vectors::TIMER));
        let hardware = Rc::new(RefCell::new(Hardware::default()));
        let board = FakeBoard { wires: wires.clone(), hardware: hardware.clone() };
        let guests = Rc::new(RefCell::new(Guests::default()));
        let script = guests.clone();
        let backend =
            FakeBackend::new(wires.clone(), ram.clone(), Box::new(move |slot| script.borrow_mut().next(slot)));
        let mut vm_tables = VmTables {
            records: core_slice(&mut frames, places.slots, Record::EMPTY).expect("room"),
            cells: core_slice(&mut frames, places.slots + MORE_CELLS, Cell::EMPTY).expect("room"),
            written: Written::default(),
            seats: places.seats,
        };
        let (entries, rings) = manifest(parties);
        let components: Vec<boot::Component> = entries
            .into_iter()
            .map(|entry| boot::Component {
                reserved: 0,
                entry,
                chosen: 0,
                programs: core::array::from_fn(|at| match POLICIES.get(at) {
                    Some(name) => policy(&mut frames, name),
                    None => zerocopy::FromZeros::new_zeroed(),
                }),
            })
            .collect();
        let sources = Sources {
            components: &components,
            rings: &rings,
            kernel: &space,
            pcid: true,
            vm_slots: places.slots,
            vm_seats: places.seats,
            tsc_hz: HZ,
            pool_bytes: POOL_PAGES * PAGE_SIZE,
            pool_passes: false,
            seal_key: [7; 32],
        };
        let mut images =
            vec![Some(image(&mut frames, WITH_NIC, 32, 32)), Some(image(&mut frames, WITHOUT_NIC, 0, 0)), None];
        if parties.len() == PARTIES.len() {
            let mut elsewhere = image(&mut frames, ELSEWHERE, 32, 32);
            (elsewhere.entry.net, elsewhere.entry.pager) = (4, 5);
            images.push(Some(elsewhere));
        }
        let mut options = Options { quantum_ns: 20_000, residence_ns: 50_000, node: 7, ..Options::default() };
        options.set_net(Addresses::Static { address: 0x0a00_0210, prefix: 24, gateway: None });
        write_vms(&mut vm_tables, vms, &images, &options.net());
        let tables = Tables::new(&mut frames, vm_tables).expect("room");
        let (time, clock) = (TimeBase::new(HZ, HZ), UnixClock::new(HZ, 0, 1 << 32));
        let parts = Parts { backend, board, time, clock, frames, barriers };
        let mut kernel = Kernel::new(parts, tables, &options);
        let Cpu { frames, board, components, endpoints, images: made, .. } = &mut kernel.cpu;
        load_all(&sources, frames, board, components, endpoints).expect("room");
        images.into_iter().for_each(|image| made.add(image));
        for (component, (_, service)) in components.list.iter().zip(parties) {
            let mut hardware = hardware.borrow_mut();
            let idles = components.idles.as_ref().map(|idles| idles.memory);
            hardware.components.push(fake(component, *service, idles));
            hardware.roots.push(component.space.tables().root().as_u64());
        }
        kernel.start_components();
        let next_disk = Attachment::NONE;
        Machine {
            kernel,
            wires,
            hardware,
            guests,
            ended: BTreeSet::new(),
            away: std::collections::BTreeMap::new(),
            shared: None,
            next_disk,
            _ram: ram,
        }
    }

    /// Create a VM as an operator would.
    pub fn create(&mut self, image: ImageId) -> VmId {
        self.create_with(image, b"").expect("room")
    }

    /// The same, with these extra boot arguments.
    ///
    /// # Errors
    /// What the core says.
    pub fn create_with(&mut self, image: ImageId, extra: &[u8]) -> Result<VmId, CreateError> {
        self.create_on(Claim::UNSAID, Tenant::UNSAID, image, extra)
    }

    /// The same, for a tenant.
    ///
    /// # Errors
    /// What the core says.
    pub fn create_for(&mut self, tenant: Tenant, image: ImageId, extra: &[u8]) -> Result<VmId, CreateError> {
        self.create_on(Claim::UNSAID, tenant, image, extra)
    }

    /// The same for this tenant, with this claim on memory.
    pub fn create_on(
        &mut self,
        claim: Claim,
        tenant: Tenant,
        image: ImageId,
        extra: &[u8],
    ) -> Result<VmId, CreateError> {
        let slot = self.kernel.vms.next_id().map(|id| id.slot);
        let ipv4 = slot.map_or(0, |slot| self.kernel.cpu.net.address_of(slot));
        let disk = core::mem::replace(&mut self.next_disk, Attachment::NONE);
        let order = Order { image, slot, ipv4, share: Share::UNSAID, claim, tenant, disk };
        self.kernel.create(&order, &self.arguments(image, ipv4, extra))
    }

    /// The boot arguments of a VM, as an operator puts them together.
    pub fn arguments(&self, image: ImageId, ipv4: u32, extra: &[u8]) -> BootArgs {
        let mut args = BootArgs::new();
        let of_image = self.kernel.cpu.images.get(image).map_or(&b""[..], |image| &image.entry.args);
        boot_args::compose(&mut args, of_image, &self.kernel.cpu.net, ipv4, extra).expect("short");
        args
    }

    /// Where these bytes lie in the request page of the most important controller.
    pub fn lay(&self, bytes: &[u8]) -> PagePiece {
        let piece = PagePiece { offset: 77, len: bytes.len().try_into().expect("short") };
        let from = self.kernel.cpu.endpoints.first(Service::Control);
        let page = self.kernel.cpu.endpoints.get(from).and_then(|endpoint| endpoint.page).expect("it has one");
        page.write(77, bytes).expect("short");
        // The party has it where it was promised.
        let behind = usize::try_from(abi::request_page::offset_behind(RING_SLOTS)).expect("small");
        let ring = self.kernel.cpu.components.list[self.rank(Service::Control)].rings[1];
        let mut seen = vec![0; bytes.len()];
        ring.read(behind + 77, &mut seen).expect("the page follows the ring");
        assert_eq!(seen, bytes);
        piece
    }

    /// A turn of the loop.
    ///
    /// # Panics
    /// It has run nobody, slept not, and neither created nor wiped anything, although it was asked again.
    pub fn step(&mut self) {
        let wipes = |machine: &Self| machine.kernel.cpu.frames.wipes();
        // A turn that a VM pays with is one.
        let progress = |machine: &Self| {
            let cpu = &machine.kernel.cpu;
            machine.hardware.borrow().progress + cpu.backend.entries + wipes(machine) + cpu.counters.paid
        };
        let before = progress(self);
        for _ in 0..4 {
            self.kernel.step();
            self.note_ended();
            self.audit_shares();
            if progress(self) != before {
                return;
            }
        }
        panic!("the loop spins without progress: {:?}", self.kernel.cpu.attention);
    }

    /// While components that are over their budgets and VMs could all run, neither has the CPU for much longer than a quantum
    /// without the other.
    fn audit_shares(&mut self) {
        let cpu = &self.kernel.cpu;
        let demoted: Vec<_> =
            (0..cpu.components.list.len()).filter(|&rank| cpu.components.shares.contains(rank)).collect();
        for &rank in &demoted {
            let run = cpu.components.list[rank].run;
            assert!(run == Run::Ready, "{rank} is demoted and cannot run: {run:?}");
            assert!(!cpu.attention.is_runnable(rank), "{rank} is demoted and comes before VMs");
        }
        let Kernel { vms, cpu, .. } = &mut self.kernel;
        let ready = !demoted.is_empty()
            && vms.slots().any(|slot| {
                cpu.queues.contains(Queue::Ready, slot) && vms.get(slot).is_some_and(|vm| vm.life.is_ready())
            });
        if !ready {
            self.shared = None;
            return;
        }
        let own = demoted.iter().map(|&rank| cpu.components.list[rank].ran_ticks).sum();
        let guests = cpu.counters.guest_ticks;
        // Whoever has just been demoted or promoted changes the sum.
        let Some(before) = self.shared.take().filter(|before| before.demoted == demoted) else {
            self.shared = Some(SharedSince { demoted, own, guests, alone_own: 0, alone_guests: 0 });
            return;
        };
        let (more_own, more_guests) = (own - before.own, guests - before.guests);
        let alone_own = if more_guests > 0 { 0 } else { before.alone_own + more_own };
        let alone_guests = if more_own > 0 { 0 } else { before.alone_guests + more_guests };
        // A turn ends at the next trap. Whatever that took, or was stolen in it: the next turn is the other side's.
        let most = 2 * cpu.plan.quantum_ticks() + SHARE_SLACK;
        assert!(alone_own <= before.alone_own || before.alone_own < most, "VMs are starved for {alone_own} ticks");
        assert!(
            alone_guests <= before.alone_guests || before.alone_guests < most,
            "a demoted component is starved for {alone_guests} ticks"
        );
        self.shared = Some(SharedSince { demoted, own, guests, alone_own, alone_guests });
    }

    fn note_ended(&mut self) {
        for slot in self.kernel.vms.slots() {
            if let Some(vm) = self.kernel.vms.get(slot).filter(|vm| vm.life.is_ending()) {
                self.ended.insert(vm.id);
            }
        }
    }

    /// A machine with one VM of this image, in slot 0, that does these steps and idles for good then, at rest.
    pub fn with_guest(image: ImageId, steps: &[Step]) -> (Self, VmId) {
        let mut machine = Self::new(2048);
        machine.guests.borrow_mut().hostile = 1;
        machine.guests.borrow_mut().steps.extend(steps);
        let vm = machine.create(image);
        machine.settle(4000);
        (machine, vm)
    }

    /// Nothing but the outside can wake the machine.
    pub fn is_asleep(&self) -> bool {
        self.hardware.borrow().asleep
    }

    /// Turns of the loop until the machine sleeps for good.
    ///
    /// # Panics
    /// It takes more than `limit`.
    pub fn settle(&mut self, limit: usize) {
        for _ in 0..limit {
            self.step();
            if self.is_asleep() {
                return;
            }
        }
        panic!("the machine does not come to rest: {:?}", self.kernel.cpu.attention);
    }

    /// Rank of the most important party to this service.
    pub fn rank(&self, service: Service) -> usize {
        let endpoints = &self.kernel.cpu.endpoints;
        endpoints.rank(endpoints.first(service)).expect("there is one")
    }

    /// The endpoints of a service whose parties are components, the most important one's first.
    pub fn parties(&self, service: Service) -> Vec<EndpointId> {
        let endpoints = &self.kernel.cpu.endpoints;
        let all = (0..MAX_ENDPOINTS).map(EndpointId::new);
        all.filter(|&id| endpoints.rank(id).is_some())
            .filter(|&id| endpoints.get(id).is_some_and(|endpoint| endpoint.service == service))
            .collect()
    }

    /// The most important pager gives a command.
    pub fn pager_says(&mut self, message: &Message) -> Result<(), BadMessage> {
        let from = self.kernel.cpu.endpoints.first(Service::Pager);
        self.kernel.pager_command(from, message)
    }

    /// The most important demultiplexer gives a command.
    pub fn net_says(&mut self, message: &Message) -> Result<(), BadMessage> {
        let from = self.kernel.cpu.endpoints.first(Service::Net);
        self.kernel.net_command(from, message)
    }

    /// The living VMs, admitted or not.
    pub fn vms(&mut self) -> Vec<VmId> {
        let vms = &mut self.kernel.vms;
        let slots = vms.slots();
        slots
            .filter_map(|slot| {
                vms.get(slot).map(|vm| vm.id).or_else(|| Some(vms.waiting_in(slot).or_else(|| vms.out_in(slot))?.id))
            })
            .collect()
    }

    /// The deadline of the VM in a slot, [`NEVER`] when it has none.
    pub fn deadline_of(&mut self, slot: Slot) -> u64 {
        let seat = self.kernel.vms.get(slot).map(|vm| vm.seat);
        seat.map_or(NEVER, |seat| self.kernel.cpu.timers.deadline_of(seat))
    }

    /// Whether a VM waits for admission.
    pub fn waits(&self, vm: VmId) -> bool {
        self.kernel.vms.waiting(vm).is_some()
    }

    /// The gatekeeper admits a VM.
    pub fn admit(&mut self, vm: VmId) {
        let Kernel { vms, cpu, .. } = &mut self.kernel;
        cpu.admit(vms, vm);
    }
}
