//! What the programs of all policies have in common: the NIC's start, then rings, registers and system calls around a [`Demux`].

use crate::drivers::e1000::{self, E1000};
use crate::drivers::none::NoNic;
use crate::drivers::virtio::{self, Structures, VirtioNet};
use crate::drivers::{Known, KnownList, Nic, known};
use crate::frame::Mac;
use crate::policy::Discipline;
use crate::{Demux, Host, Leases, Pace, Ports};
use abi::component::{DeviceInfo, bits};
use abi::guest::pending;
use abi::message::Message;
use abi::net::{NetCommand, NetEvent};
use abi::vm::VmId;
use component::{Component, Inbox, Outbox, RateLimit, irq_ack, now, raise, wait};

/// VM slots that the tables of the programs have room for: 284 bytes each, and what the discipline keeps.
pub const SLOTS: usize = 4096;

/// Makes a program of a discipline: `netmux::main!(netmux::policy::Drr);` is all that stands in its file.
///
/// The discipline has `const fn new() -> Self`, of zero bytes only, so that its tables lie in `.bss`.
#[macro_export]
macro_rules! main {
    ($discipline:ty) => {
        $crate::component::main!(main);

        fn main(component: $crate::component::Component) -> ! {
            use $crate::component::Once;
            static PORTS: Once<$crate::Ports<{ $crate::SLOTS }>> = Once::new($crate::Ports::new());
            static DISCIPLINE: Once<$discipline> = Once::new(<$discipline>::new());
            match (PORTS.take(), DISCIPLINE.take()) {
                (Some(ports), Some(discipline)) => $crate::run::<$discipline>(&component, ports, discipline),
                _ => panic!("the tables are taken already"),
            }
        }
    };
}

/// The core, as the demultiplexer needs it.
struct Core;

impl Host for Core {
    #[inline]
    fn raise(&mut self, vm: VmId) {
        // A VM that has ended meanwhile misses nothing.
        let _ = raise(vm, pending::NIC);
    }

    #[inline]
    fn now(&mut self) -> u64 {
        now()
    }
}

/// Finds a NIC, starts it, and serves the VMs with it, for ever.
///
/// # Panics
///
/// When the manifest gives the component too little DMA memory, or no rings `core-netmux` and `netmux-core`.
pub fn run<D: Discipline>(component: &Component, ports: &mut Ports<SLOTS>, discipline: &mut D) -> ! {
    let info = component.info();
    log::info!("policy={} incarnation={} slots={}", D::NAME, info.incarnation, info.vm_slots);
    if usize::try_from(info.vm_slots).unwrap_or(usize::MAX) > SLOTS {
        log::debug!("VMs in slots from {SLOTS} on get no network");
    }
    let Some(dma) = component.dma() else { too_little_memory() };
    // The leases lie at the end, where the buffers of no driver reach.
    let lease_bytes = 8 * usize::try_from(info.vm_slots).unwrap_or(SLOTS).min(SLOTS);
    let Some(buffer_bytes) = dma.memory.len().checked_sub(lease_bytes) else { too_little_memory() };
    let (Some(buffers), Some(leases)) = (dma.memory.sub(0, buffer_bytes), dma.memory.sub(buffer_bytes, lease_bytes))
    else {
        too_little_memory()
    };
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
                match E1000::start(registers, buffers, dma.physical, sleep(info.tsc_hz)) {
                    Ok(nic) => {
                        let (rx, tx) = nic.descriptors();
                        introduce(name, nic.mac(), nic.link_up(), rx, tx);
                        serve(component, nic, ports, discipline, Leases::new(leases), Some(index))
                    }
                    Err(error) => log::error!("{}: {error}", name.name),
                }
            }
            Some(name) => {
                let structures = Structures::find(config, region);
                let started = structures
                    .and_then(|structures| VirtioNet::start(structures, buffers, dma.physical, sleep(info.tsc_hz)));
                match started {
                    Ok(nic) => {
                        let (rx, tx) = nic.descriptors();
                        introduce(name, nic.mac(), nic.link_up(), rx.into(), tx.into());
                        serve(component, nic, ports, discipline, Leases::new(leases), Some(index))
                    }
                    Err(error) => log::error!("{}: {error}", name.name),
                }
            }
            None => log::error!("NIC {vendor:04x}:{id:04x} has no driver here; those with one: {KnownList}"),
        }
    }
    log::warn!("no NIC: VMs reach each other and nobody else; drivers exist for {KnownList}");
    match NoNic::new(buffers) {
        Some(nic) => serve(component, nic, ports, discipline, Leases::new(leases), None),
        None => too_little_memory(),
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
    let (least, most) = (pages(least + 8 * SLOTS), pages(most + 8 * SLOTS));
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
    ports: &mut Ports<SLOTS>,
    discipline: &mut D,
    leases: Leases,
    device: Option<u32>,
) -> ! {
    let tsc_hz = component.info().tsc_hz;
    let mut events = component.inbox("core-netmux");
    let mut commands = component.outbox("netmux-core");
    let mut demux = Demux::new(nic, Core, ports, discipline, leases, tsc_hz);
    let mut complaints = RateLimit::new(10, tsc_hz);
    let irq = device.map_or(0, |device| 1 << (bits::IRQ_SHIFT + device));
    let awake = events.doorbell | irq | bits::KICK;
    // An interrupt that came to the predecessor was perhaps never acknowledged.
    let mut unacknowledged = irq != 0;
    let mut news = !0;
    loop {
        let mut all_read = true;
        if news & events.doorbell != 0 {
            all_read = listen(component, &mut demux, &mut events, &mut commands, &mut complaints);
        }
        if news & irq != 0 {
            demux.interrupt();
            unacknowledged = true;
        }
        if news & bits::KICK != 0 {
            take_kicks(component, &mut demux);
        }
        let pace = demux.turn();
        if unacknowledged && !demux.rx_left() {
            unacknowledged = false;
            // It fails only for a device that we do not have.
            let _ = device.map(irq_ack);
        }
        news = match pace {
            _ if !all_read => wait(awake, 0, 0) | events.doorbell,
            Pace::Idle => wait(awake, u64::MAX, 0),
            Pace::Until(time) => wait(awake, time, 0),
            Pace::Rest(ticks) => {
                // Only lifecycle messages end a rest early: the core waits for their answer. What else has happened
                // meanwhile is looked at afterwards, or under lasting load nobody's kick would ever be heard.
                let early = wait(events.doorbell, now().saturating_add(ticks), 0);
                early | wait(awake, 0, 0)
            }
        };
    }
}

/// Hands the kicks of VMs to the demultiplexer.
#[inline]
fn take_kicks<C: Nic, D: Discipline>(component: &Component, demux: &mut Demux<'_, C, Core, D, SLOTS>) {
    for word in 0..demux.end().div_ceil(64) {
        let mut kicks = component.take_kicks(usize::from(word));
        while kicks != 0 {
            // Below 64.
            let bit = u16::try_from(kicks.trailing_zeros()).unwrap_or(0);
            demux.kick(word * 64 + bit);
            kicks &= kicks - 1;
        }
    }
}

/// Reads what the core says about VMs. False when there may be more.
fn listen<C: Nic, D: Discipline>(
    component: &Component,
    demux: &mut Demux<'_, C, Core, D, SLOTS>,
    events: &mut Inbox,
    commands: &mut Outbox,
    complaints: &mut RateLimit,
) -> bool {
    events.drain(|message| match NetEvent::try_from(message) {
        Ok(NetEvent::Hello) => demux.forget_all(),
        Ok(NetEvent::Attach { vm, ipv4, rx_slots, tx_slots, share }) => {
            let attached = match component.vm_nic(vm.slot, rx_slots, tx_slots) {
                Some(nic) => demux.attach(vm, ipv4, nic, share),
                None => false,
            };
            if !attached {
                log::error!(
                    "{vm} gets no network: no slot for it, or rings of {rx_slots} and {tx_slots} slots do not fit"
                );
            }
        }
        Ok(NetEvent::Address { vm, ipv4 }) => demux.address(vm, ipv4),
        Ok(NetEvent::Detach { vm }) => {
            if let Some(counters) = demux.detach(vm) {
                log::debug!("{vm} detached: {counters:?}; all VMs: {}", demux.totals());
            }
            if !commands.send(&Message::from(NetCommand::Detached { vm })) {
                log::error!("netmux-core takes no messages: the pages of {vm} stay with netmux");
            }
        }
        Err(bad) => {
            if let Some(suppressed) = complaints.pass(now()) {
                log::warn!("dropped a {bad}; {suppressed} such lines suppressed");
            }
        }
    })
}
