//! What the programs of all policies have in common: the NIC's start, then rings, registers and system calls around a [`Demux`].

use crate::doors;
use crate::drivers::e1000::{self, E1000};
use crate::drivers::none::NoNic;
use crate::drivers::virtio::{self, Structures, VirtioNet};
use crate::drivers::{Known, KnownList, Nic, known};
use crate::frame::Mac;
use crate::policy::{Discipline, Limited};
use crate::ports::Used;
use crate::{Called, Demux, Doors, Host, Leases, Newcomer, Pace, Ports};
use abi::charges::Traffic;
use abi::component::{DeviceInfo, bits};
use abi::guest::pending;
use abi::message::Message;
use abi::net::{NO_ACCOUNT, NetCommand, NetEvent};
use abi::nic::Node;
use abi::note::TableBytes;
use abi::service::Service;
use abi::vm::VmId;
use component::{
    Complaints, Component, Error, Inbox, KEEP_HEADER_BYTES, Outbox, Tables, irq_ack, now, raise, ring_page,
    ring_return, wait,
};
use ring::SharedMemory;

/// Makes a program of a discipline: `netmux::main!(netmux::policy::Drr);` is all that stands in its file.
#[macro_export]
macro_rules! main {
    ($discipline:ty) => {
        $crate::component::main!(main, $crate::tables::<$discipline>());

        fn main(component: $crate::component::Component) -> ! {
            $crate::run::<$discipline>(&component)
        }
    };
}

/// What the tables of a demultiplexer with this discipline take.
pub const fn tables<D: Discipline>() -> TableBytes {
    TableBytes {
        per_slot: Ports::TABLES.per_slot + Doors::TABLES.per_slot,
        per_seat: Ports::TABLES.per_seat + Limited::<D>::SEAT_BYTES + Leases::SEAT_BYTES,
        // Two copies.
        keep_per_seat: 2 * Leases::SEAT_BYTES,
        ..TableBytes::NONE
    }
}

/// The core, as the demultiplexer needs it.
struct Core {
    /// The ring to it.
    commands: Outbox,
}

impl Host for Core {
    #[inline]
    fn raise(&mut self, vm: VmId) {
        // A VM that has ended meanwhile misses nothing.
        let _ = raise(vm, pending::NIC);
    }

    fn call(&mut self, vm: VmId) -> Called {
        match raise(vm, pending::NIC) {
            Ok(()) => Called::Yes,
            Err(Error::Busy) => Called::Busy,
            Err(_) => Called::Gone,
        }
    }

    #[inline]
    fn now(&mut self) -> u64 {
        now()
    }

    fn ring_page(&mut self, vm: VmId, page: u32) -> bool {
        ring_page(vm, page).is_ok()
    }

    fn used(&mut self, Used { vm, traffic, work, caused }: Used, of: u64) {
        let small = |work: u64| u32::try_from(work).unwrap_or(u32::MAX);
        self.answer(NetCommand::Used { vm, traffic, of: small(of), caused: small(caused), work: small(work) });
    }

    fn return_pages(&mut self, vm: VmId, pages: u32) -> bool {
        ring_return(vm, pages).is_ok()
    }
}

impl Core {
    /// Tells it something. A ring that is full is emptied first.
    fn answer(&mut self, command: NetCommand) {
        if !self.commands.send(&Message::from(command)) {
            log::error!("netmux-core takes no messages: {command:?} is lost");
        }
    }
}

/// Finds a NIC, starts it, and serves the VMs with it, for ever.
///
/// # Panics
///
/// When the manifest gives the component too little DMA memory, no memory that is kept, or no rings for the service `net`; and when the
/// discipline does what none may ([`crate::policy::Fault`]).
pub fn run<D: Discipline>(component: &Component) -> ! {
    let info = component.info();
    log::info!("policy={} incarnation={} seats={}", D::NAME, info.incarnation, info.vm_seats);
    let Parts { ports, discipline, leases, doors, buffers, physical } =
        Parts::<D>::of(component, &mut component.tables());
    for (index, device) in (0_u32..).zip(component.devices()) {
        let Ok(at) = usize::try_from(index) else { continue };
        let region = |bar| component.mmio(at, bar);
        let DeviceInfo { vendor, device: id, config, .. } = device;
        match known(*vendor, *id) {
            Some(name @ e1000::ID) => {
                let Some(registers) = region(0).filter(|registers| registers.bytes() >= e1000::REGISTER_BYTES) else {
                    log::error!("{}: its registers are not mapped; check its PCI region 0", name.name);
                    continue;
                };
                match E1000::start(registers, buffers, physical, info.incarnation, sleep(info.tsc_hz)) {
                    Ok(nic) => {
                        let (rx, tx) = nic.descriptors();
                        introduce(name, nic.mac(), nic.link_up(), rx, tx);
                        if nic.goes_on() {
                            log::info!("goes on with the rings that its predecessor has left in the NIC");
                        }
                        serve(component, nic, ports, discipline, (leases, doors), Some(index))
                    }
                    Err(error) => log::error!("{}: {error}", name.name),
                }
            }
            Some(name) => {
                let structures = Structures::find(config, region).ok_or(virtio::StartError::NotModern);
                let started = structures
                    .and_then(|structures| VirtioNet::start(structures, buffers, physical, sleep(info.tsc_hz)));
                match started {
                    Ok(nic) => {
                        let (rx, tx) = nic.descriptors();
                        introduce(name, nic.mac(), nic.link_up(), rx.into(), tx.into());
                        serve(component, nic, ports, discipline, (leases, doors), Some(index))
                    }
                    Err(error) => log::error!("{}: {error}", name.name),
                }
            }
            None => log::error!("NIC {vendor:04x}:{id:04x} has no driver here; those with one: {KnownList}"),
        }
    }
    log::warn!("no NIC: VMs reach each other and nobody else; drivers exist for {KnownList}");
    match NoNic::new(buffers) {
        Some(nic) => serve(component, nic, ports, discipline, (leases, doors), None),
        None => too_little_memory(),
    }
}

/// Serves the VMs with the NIC that `make` makes of the memory for buffers, for ever.
///
/// # Panics
///
/// As [`run`].
pub fn run_on<D: Discipline, C: Nic>(component: &Component, make: impl FnOnce(&mut Tables, SharedMemory) -> C) -> ! {
    let info = component.info();
    log::info!("policy={} incarnation={} seats={}", info.policy.as_str(), info.incarnation, info.vm_seats);
    let mut tables = component.tables();
    let Parts { ports, discipline, leases, doors, buffers, .. } = Parts::<D>::of(component, &mut tables);
    let nic = make(&mut tables, buffers);
    serve(component, nic, ports, discipline, (leases, doors), None)
}

/// What a demultiplexer is made of, whatever its NIC is.
struct Parts<D: Discipline> {
    ports: Ports,
    discipline: Limited<D>,
    leases: Leases,
    doors: Doors,
    /// The memory for the NIC, and where it lies.
    buffers: SharedMemory,
    physical: u64,
}

impl<D: Discipline> Parts<D> {
    fn of(component: &Component, tables: &mut Tables) -> Self {
        let (ports, discipline) = (Ports::new(tables), Limited::<D>::new(tables));
        let Some(dma) = component.dma() else { too_little_memory() };
        let (buffers, places) = divide(dma.memory);
        let doors = Doors::new(tables, places, component.info().tsc_hz);
        let leases = Leases::new(kept_memory(component), tables);
        Parts { ports, discipline, leases, doors, buffers, physical: dma.physical }
    }
}

/// The DMA memory for the NIC, and behind it that for packets for VMs that are out, where there is enough for both.
fn divide(memory: SharedMemory) -> (SharedMemory, Option<SharedMemory>) {
    let least = e1000::DMA_BYTES_MIN.max(virtio::DMA_BYTES_MIN);
    let for_nic = memory.len().saturating_sub(doors::BYTES.next_multiple_of(4096));
    match (memory.sub(0, for_nic), memory.sub(for_nic, doors::BYTES)) {
        (Some(nic), Some(places)) if for_nic >= least => (nic, Some(places)),
        _ => (memory, None),
    }
}

/// The memory for leases.
fn kept_memory(component: &Component) -> SharedMemory {
    // For the headers; the leases have as much as all seats take.
    match component.keep() {
        Some(memory) => memory,
        None => {
            panic!("no kept memory: give netmux {} pages of it (`keep`) in system.toml", pages(2 * KEEP_HEADER_BYTES))
        }
    }
}

/// Says which NIC is in use and how.
fn introduce(name: Known, mac: Mac, link_up: bool, rx: usize, tx: usize) {
    let link = if link_up { "up" } else { "down" };
    log::info!("{} mac={mac} link={link} rx={rx} tx={tx}", name.name);
}

/// The manifest is wrong.
fn too_little_memory() -> ! {
    let least = e1000::DMA_BYTES_MIN.max(virtio::DMA_BYTES_MIN);
    let most = e1000::DMA_BYTES.max(virtio::DMA_BYTES);
    let (least, most) = (pages(least), pages(most));
    panic!("too little DMA memory: give netmux {least} to {most} pages in system.toml")
}

/// Whole pages for that many bytes.
fn pages(bytes: usize) -> usize {
    bytes.div_ceil(4096)
}

/// A function that sleeps for microseconds.
fn sleep(tsc_hz: u64) -> impl FnMut(u32) {
    move |microseconds| {
        let ticks = u64::from(microseconds).saturating_mul(tsc_hz) / 1_000_000;
        let until = now().saturating_add(ticks.max(1));
        while now() < until {
            wait(0, until, 0);
        }
    }
}

/// Serves the VMs with `nic`, which is device `device`.
fn serve<C: Nic, D: Discipline>(
    component: &Component,
    nic: C,
    ports: Ports,
    discipline: Limited<D>,
    (leases, doors): (Leases, Doors),
    device: Option<u32>,
) -> ! {
    let node = Node::of_nic(nic.mac().bytes());
    let tsc_hz = component.info().tsc_hz;
    let (mut events, commands) = component.service(Service::Net);
    let mut demux = Demux::new(nic, Core { commands }, ports, discipline, leases, doors, tsc_hz);
    let mut complaints = Complaints::new(tsc_hz);
    demux.host_mut().answer(NetCommand::Node { node });
    // What it took until here is nobody's, and not that of whoever has traffic first.
    let start = Used { vm: VmId::from_raw(0), traffic: Traffic::NONE, work: 1, caused: 0 };
    demux.host_mut().used(start, 1);
    let irq = device.map_or(0, |device| 1 << (bits::IRQ_SHIFT + device));
    // Those of devices that nobody drives are taken note of once, and stay masked.
    let devices = (0_u32..).zip(component.devices()).fold(0, |all, (index, _)| all | 1 << (bits::IRQ_SHIFT + index));
    let awake = events.doorbell | irq | devices | bits::KICK;
    // An interrupt that came to the predecessor was perhaps never acknowledged.
    let mut unacknowledged = irq != 0;
    let mut news = !0;
    loop {
        let mut all_read = true;
        if news & events.doorbell != 0 {
            all_read = listen(component, &mut demux, &mut events, &mut complaints);
        }
        if news & irq != 0 {
            demux.interrupt();
            unacknowledged = true;
        }
        if news & bits::KICK != 0 {
            component.take_kicks(|seat| demux.kick(seat));
        }
        let pace = demux.turn();
        if let Some(fault) = demux.fault() {
            panic!("policy {}: {fault}", D::NAME);
        }
        if unacknowledged && !demux.rx_left() {
            unacknowledged = false;
            // It fails only for a device that we do not have.
            let _ = device.map(irq_ack);
        }
        news = match pace {
            _ if !all_read => wait(awake, 0, 0) | events.doorbell,
            Pace::Idle => wait(awake, demux.due(), 0),
            Pace::Until(time) => wait(awake, time.min(demux.due()), 0),
            Pace::Rest(ticks) => {
                // Only lifecycle messages end a rest early: the core waits for their answer. What else has happened
                // meanwhile is looked at afterwards, or under lasting load nobody's kick would ever be heard.
                let early = wait(events.doorbell, now().saturating_add(ticks), 0);
                early | wait(awake, 0, 0)
            }
        };
    }
}

/// Reads what the core says about VMs. False when there may be more.
fn listen<C: Nic, D: Discipline>(
    component: &Component,
    demux: &mut Demux<C, Core, D>,
    events: &mut Inbox,
    complaints: &mut Complaints,
) -> bool {
    events.drain(|message| match NetEvent::try_from(message) {
        Ok(NetEvent::Hello) => demux.forget_all(),
        Ok(NetEvent::Attach { vm, seat, node, ipv4, rx_slots, tx_slots, share, account, rate }) => {
            let of = (account != NO_ACCOUNT).then_some((account, rate));
            let new = Newcomer { id: vm, seat, node, ipv4, share, of };
            let nic = component.vm_nic(seat, rx_slots, tx_slots);
            if !nic.is_some_and(|nic| demux.attach(new, nic)) {
                demux.host_mut().answer(NetCommand::Refused { vm });
            }
        }
        Ok(NetEvent::Rate { account, rate }) => demux.set_rate(account, rate),
        Ok(NetEvent::Address { vm, seat, ipv4 }) => demux.address(vm, seat, ipv4),
        Ok(NetEvent::Out { vm, node, ipv4, ran, tenant }) => {
            if !demux.put_out(vm, tenant, node, ipv4, ran) {
                log::error!("{vm} is out and in no slot of this machine");
            }
        }
        Ok(NetEvent::Leave { vm, seat, tenant }) => {
            let left = demux.leave(vm, tenant, seat);
            demux.host_mut().answer(if left { NetCommand::Detached { vm } } else { NetCommand::Stays { vm } });
        }
        Ok(NetEvent::Gone { vm }) => demux.forget_absent(vm),
        Ok(NetEvent::Detach { vm, seat }) => {
            if let Some(counters) = demux.detach(vm, seat) {
                log::debug!("{vm} detached: {counters:?}; all VMs: {}", demux.totals());
            }
            // It may have left just now.
            demux.forget_absent(vm);
            demux.host_mut().answer(NetCommand::Detached { vm });
        }
        Err(bad) => {
            if let Some(suppressed) = complaints.pass(now()) {
                log::warn!("dropped a {bad}; {suppressed} such lines suppressed");
            }
        }
    })
}
