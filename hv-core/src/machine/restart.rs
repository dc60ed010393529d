//! Killing and restarting components.

use super::Machine;
use super::syscalls::Death;
use crate::components::{Role, Run};
use crate::cpu;
use backend::Backend;

/// A component that dies within this many milliseconds of its start dies quickly.
const QUICK_MS: u64 = 1000;
/// Quick deaths in a row that are answered by a restart at once; after that a restart waits for a second.
const QUICK_DEATHS: u32 = 5;

impl<B: Backend> Machine<B> {
    /// Stop a component for good, say why, and have it restarted from its module. Whoever it is, no VM is lost: VMs that
    /// wait for it are told to its successor.
    #[cold]
    pub(super) fn kill(&mut self, rank: usize, why: Death) {
        let now = cpu::tsc();
        let hz = self.hardware.tsc_hz();
        let Some(component) = self.components.list.get_mut(rank) else { return };
        if matches!(component.run, Run::Dead { .. }) {
            return;
        }
        let (name, incarnation, context) = (component.entry.name, component.incarnation, &component.context);
        match why {
            Death::Fault(vector, error, cr2) => log::error!(
                target: "core",
                "component {name} killed: fault {vector} (error {error:#x}, address {cr2:#x}), registers {context:x?}"
            ),
            Death::Exit(code) => {
                log::error!(target: "core", "component {name} ended itself with code {code}: its last lines say why");
            }
            Death::Overrun(ticks) => log::error!(
                target: "core",
                "component {name} killed: it ran {} us without waiting, its budget is {} us (rip {:#x})",
                ticks / (hz / 1_000_000).max(1),
                component.entry.budget_us,
                context.rip
            ),
            Death::RingFull => {
                log::error!(target: "core", "component {name} killed: it does not empty its ring from the core (rip {:#x})", context.rip);
            }
            Death::Withholds(vm) => {
                log::error!(target: "core", "component {name} killed: it does not let go of {vm}, which has ended (rip {:#x})", context.rip);
            }
            Death::Killed => log::warn!(target: "core", "component {name} (start {incarnation}) killed by request"),
        }
        let quick = now.saturating_sub(component.started_at) < hz / 1000 * QUICK_MS;
        component.quick_deaths = if quick { component.quick_deaths + 1 } else { 0 };
        let delay = if component.quick_deaths > QUICK_DEATHS { hz } else { 0 };
        component.run = Run::Dead { restart_at: now.saturating_add(delay) };
        component.notified = 0;
        self.components.runnable &= !(1 << rank);
        if delay == 0 {
            self.components.runnable |= 1 << rank;
        } else {
            log::warn!(target: "core", "component {name} dies again and again: next start in a second");
            self.components.next_deadline = self.components.next_deadline.min(now + delay);
            self.arm(now + delay);
        }
        // Whatever its devices do, they must not do it to memory that its successor uses for something else.
        for device in &self.components.list[rank].devices {
            if let Some(gsi) = device.gsi {
                self.hardware.mask(gsi);
            }
            if let Some(pci) = device.pci {
                self.hardware.set_bus_master(pci, false);
            }
        }
        match self.components.list[rank].role {
            Role::Net => self.forget_net(),
            Role::Sched => self.planned = None,
            _ => {}
        }
    }

    /// Start a component: the first time, or from its module after its death.
    pub(super) fn restart(&mut self, rank: usize) {
        let Self { components, hardware, quantum_ticks, vm_frames, .. } = self;
        let Some(component) = components.list.get_mut(rank) else { return };
        component.incarnation += 1;
        // Both ends of every ring drop to empty before the new one looks at them; peers find out by the epoch. Nothing in the
        // headers can be believed: the component may have died of writing where it should not have, or meant to.
        let [a, b, c, d, ..] = hardware.random();
        let epoch = u32::from_le_bytes([a, b, c, d]);
        for ring in &component.rings {
            if component.incarnation > 1 && ring::reset_to(ring, epoch).is_err() {
                log::error!(target: "core", "bug: a ring of {} cannot be reset", component.entry.name);
            }
        }
        component.load(*vm_frames, *quantum_ticks);
        component.started_at = cpu::tsc();
        component.notified = 0;
        component.used_ticks = 0;
        component.run = Run::Ready;
        component.resync = match component.role {
            Role::Net | Role::Pager | Role::Sched => Some(0),
            Role::Control | Role::Other => None,
        };
        let (name, policy, incarnation) = (component.entry.name, component.policy, component.incarnation);
        let peers = component.peers;
        for device in &component.devices {
            if let Some(pci) = device.pci {
                hardware.set_bus_master(pci, true);
            }
        }
        components.runnable |= 1 << rank;
        if incarnation > 1 {
            log::info!(target: "core", "component {name} restarted with policy {policy} (start {incarnation})");
        }
        for peer in peers.into_iter().filter(|peer| peer.bit != 0) {
            self.components.notify(peer.rank, peer.bit);
        }
        if self.loaded == Some(rank) {
            self.loaded = None;
        }
        self.open_interrupts(rank);
        self.hello(rank);
        self.resync(rank);
        // What the core did is nobody's time.
        self.mark = cpu::tsc();
    }
}
