//! What a party to a service is told after its start: everything that it must know of the VMs that live, a few at a time, as its
//! ring has room.

use crate::board::Board;
use crate::component::{Death, Endpoint, EndpointId, Full, Party};
use crate::kernel::{Cpu, Kernel};
use crate::vm::{Queue, State, Vm};
use abi::service::Service;
use abi::vm::{Seat, Slot};
use backend::Backend;

/// Seats or slots that are looked at in one round at most, whether anybody is there or not.
const LOOK: usize = 256;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// First words to a party that has just been started. What it must know of VMs follows with [`Kernel::resync`].
    pub fn hello(&mut self, to: EndpointId) {
        let Self { vms, cpu, .. } = self;
        let Some(endpoint) = cpu.endpoints.get_mut(to) else { return };
        let service = endpoint.service;
        endpoint.resync = (service != Service::Control).then_some(0);
        endpoint.restart();
        cpu.backlog.clear(to, service);
        match service {
            Service::Net => cpu.net_hello(to),
            Service::Disk => cpu.disk_hello(to),
            Service::Pager => cpu.pager_hello(to),
            Service::Plan => cpu.plan_hello(cpu.room(vms)),
            Service::Swap => cpu.swap_hello(to),
            Service::Control => cpu.drop_incoming(to),
        }
    }

    /// Go on telling a party what did not fit into its ring, when it waits or rings others: with the mask of its wait, if it waits. One
    /// that leaves the ring full although it has waited for messages is condemned.
    #[cold]
    #[inline(never)]
    pub fn tell_owed(&mut self, to: EndpointId, mask: Option<u64>) {
        let Self { vms, cpu, .. } = self;
        let Some(endpoint) = cpu.endpoints.get_mut(to) else { return };
        let Party::Component(rank) = endpoint.party else { return };
        if endpoint.is_full() {
            match (endpoint.full, mask) {
                (Full::Woken(_), Some(_)) => cpu.condemn(rank, Death::RingFull),
                (Full::Since(at), Some(mask)) if mask & endpoint.bit != 0 => {
                    endpoint.full = Full::Woken(at);
                    // It goes on at once, and knows.
                    let bit = endpoint.bit;
                    cpu.notify(rank, bit);
                }
                _ => {}
            }
            return;
        }
        endpoint.full = Full::No;
        let service = endpoint.service;
        for _ in 0..LOOK {
            if !cpu.endpoints.get_mut(to).is_some_and(Endpoint::has_space) {
                return;
            }
            let Some(seat) = cpu.backlog.pop(to, service) else { return self.has_told(to) };
            // Nothing is owed any more where the seat is free, or another's.
            let Some(vm) = vms.in_seat(seat) else { continue };
            match service {
                Service::Net if vm.net == to => cpu.tell_owed_net(vm),
                Service::Pager if vm.pager == to => cpu.tell_owed_pager(vm),
                Service::Plan => cpu.tell_owed_plan(vm),
                Service::Disk if vm.disk == to => cpu.tell_owed_disk(vm),
                Service::Net | Service::Pager | Service::Control | Service::Swap | Service::Disk => {}
            }
        }
        // Perhaps it was told nothing, and must come back all the same.
        cpu.ring(to);
    }

    /// A party was told all: what has waited for space in its ring goes on.
    fn has_told(&mut self, to: EndpointId) {
        if let Some(endpoint) = self.cpu.endpoints.get_mut(to) {
            endpoint.owes = false;
        }
        if !self.cpu.queues.is_empty(Queue::Ended) {
            self.cpu.attention.set_ended();
        }
        self.cpu.attention.set_swap();
    }

    /// Go on telling a party of the VMs, from the seat or slot where the last round stopped.
    pub fn resync(&mut self, to: EndpointId) {
        let Self { vms, cpu, .. } = self;
        let Some(endpoint) = cpu.endpoints.get_mut(to) else { return };
        let (service, Some(from)) = (endpoint.service, endpoint.resync.take()) else { return };
        // The scheduler knows of VMs that wait, too; demultiplexers and the striper of those that are out, behind those that are in.
        let seats = vms.seats().used();
        let end = match service {
            Service::Plan => vms.used(),
            Service::Net if cpu.images.has_lazy() || cpu.pool_bytes() != 0 => seats + vms.used(),
            Service::Swap => vms.used(),
            Service::Disk if cpu.pool_bytes() != 0 => seats + vms.used(),
            Service::Net | Service::Pager | Service::Control | Service::Disk => seats,
        };
        for (looked, number) in (from..).take_while(|&number| (number as usize) < end).enumerate() {
            let Some(endpoint) = cpu.endpoints.get_mut(to) else { return };
            if !endpoint.has_space() {
                endpoint.resync = Some(number);
                return;
            }
            if looked == LOOK {
                endpoint.resync = Some(number);
                // Perhaps it was told nothing, and must come back all the same.
                return cpu.ring(to);
            }
            let behind = (number as usize).checked_sub(seats).and_then(|slot| u32::try_from(slot).ok());
            if service == Service::Plan {
                cpu.tell_scheduler_of(vms, Slot::new(number));
            } else if service == Service::Swap {
                if !cpu.tell_swap_of(to, vms, Slot::new(number)) {
                    if let Some(endpoint) = cpu.endpoints.get_mut(to) {
                        endpoint.resync = Some(number);
                    }
                    return;
                }
            } else if let Some(slot) = behind {
                let slot = Slot::new(slot);
                if service == Service::Disk { cpu.tell_disk_of(to, vms, slot) } else { cpu.tell_net_of(to, vms, slot) }
            } else if let Some(vm) = u16::try_from(number).ok().and_then(|seat| vms.in_seat(Seat::new(seat))) {
                cpu.tell_all_of(to, service, vm);
            }
        }
        if service == Service::Disk {
            cpu.disk_told(to);
        }
        if service == Service::Swap {
            // Those who were coming in when its predecessor died go on.
            cpu.attention.set_swap();
        }
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// Everything that this party to this service must know of a VM, if the VM is its own.
    fn tell_all_of(&mut self, to: EndpointId, service: Service, vm: &mut Vm<B>) {
        let absent = match vm.life.state() {
            State::New | State::Ending => return,
            State::Leaving { .. } | State::Coming => true,
            State::Ready | State::Idle { .. } | State::Fault(_) | State::Paused => false,
        };
        match service {
            // Nothing of it is shared any more, or yet; but whoever serves the disk of one that leaves comes first.
            Service::Net if vm.net == to && absent && !vm.life.leaves_disk() => self.tell_ran(vm),
            Service::Pager if vm.life.is_coming() => {}
            Service::Disk if vm.disk == to && absent => self.tell_absent_disk(vm),
            Service::Net if vm.net == to => self.attach(vm),
            Service::Pager if vm.pager == to => self.tell_pager_all_of(vm),
            Service::Disk if vm.disk == to => self.attach_disk(vm),
            Service::Net | Service::Pager | Service::Plan | Service::Control | Service::Swap | Service::Disk => {}
        }
    }
}
