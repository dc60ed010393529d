//! VMs that are out: a record each, which takes no frame and no seat. The network demultiplexer answers for one, and what is raised for it
//! brings it in, by way of the gatekeeper as any other.

use crate::board::Board;
use crate::component::EndpointId;
use crate::kernel::{Cpu, Kernel};
use crate::vm::{End, NEVER, Seed, Table, Vm};
use abi::guest::pending;
use abi::net::NetEvent;
use abi::service::Service;
use abi::tenant::Tenant;
use abi::vm::{ImageId, Slot, VmId};
use backend::Backend;

/// Those whose deadline has come that are brought in before others come to their turn.
const BATCH: usize = 16;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Whether a VM that is out could be told to those who have to know of it, if it is one.
    pub fn can_come_in(&mut self, id: VmId) -> bool {
        self.vms.out(id).is_none() || self.cpu.has_room(self.cpu.endpoints.first(Service::Plan))
    }

    /// Bring a VM in that is out, with these bits pending: now, or when it is its tenant's turn. False when there is none of this name.
    #[cold]
    #[inline(never)]
    pub fn bring_in(&mut self, id: VmId, bits: u64) -> bool {
        let Some(seed) = self.vms.out(id) else { return false };
        self.must_wait(&seed, bits) || self.let_in(id, bits)
    }

    /// Bring a VM in that is out, whoever waits. False when there is none of this name.
    pub(super) fn let_in(&mut self, id: VmId, bits: u64) -> bool {
        let now = self.cpu.board.now();
        if let Some(seed) = self.vms.out(id) {
            self.cpu.calls_no_more(&mut self.vms, &seed);
        }
        let stolen_ms = self.cpu.stolen_ms(now);
        let Some(seed) = self.vms.come_in(id, now, stolen_ms) else { return false };
        let _ = self.vms.raise_early(id, bits);
        self.cpu.absent_timers.set(id.slot, NEVER);
        let wants = self.vms.wants(&seed);
        self.want_in(&seed, wants);
        true
    }

    /// Bring those in who are out and whose deadline has come.
    #[cold]
    pub fn wake_absent(&mut self, now: u64) {
        for _ in 0..BATCH {
            let Some(slot) = self.cpu.absent_timers.pop_due(now) else { return };
            let Some(seed) = self.vms.out_in(slot) else { continue };
            if self.can_come_in(seed.id) {
                self.bring_in(seed.id, pending::ALARM);
            } else {
                // When the scheduler has had its turn.
                self.cpu.absent_timers.set(slot, now.saturating_add(self.cpu.time.milliseconds(1)));
                return;
            }
        }
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// Whether a VM that has just been created is out until somebody asks for it.
    pub fn starts_lazily(&self, seed: &Seed) -> bool {
        seed.ipv4 != 0 && self.images.get(seed.image).is_some_and(|image| image.entry.starts_lazily())
    }

    /// Tell the demultiplexer of a VM that is out.
    pub fn tell_out(&mut self, seed: &Seed) {
        let Some(net) = self.images.get(seed.image).map(|image| image.net) else { return };
        let (node, tenant) = (self.node(), seed.tenant);
        let event = NetEvent::Out { vm: seed.id, node, ipv4: seed.ipv4, ran: false, tenant };
        self.tell(net, &event.into(), true);
    }

    /// Tell the demultiplexer of a VM that goes out or comes in, which is out for it.
    pub(super) fn tell_ran(&mut self, vm: &Vm<B>) {
        self.tell_out_that_ran(vm.net, vm.id, vm.image, vm.ipv4, vm.tenant);
    }

    fn tell_out_that_ran(&mut self, net: EndpointId, vm: VmId, image: ImageId, ipv4: u32, tenant: Tenant) {
        if ipv4 != 0 && self.has_nic(image) {
            let event = NetEvent::Out { vm, node: self.node(), ipv4, ran: true, tenant };
            self.tell(net, &event.into(), true);
        }
    }

    fn has_nic(&self, image: ImageId) -> bool {
        self.images.get(image).is_some_and(|image| image.entry.rx_slots != 0 && image.entry.tx_slots != 0)
    }

    /// Tell the demultiplexer that a VM of this image, of which it knows as of one that is out, does not come in any more.
    pub fn tell_gone(&mut self, vm: VmId, image: ImageId) {
        let goes_out = self.pool_bytes() != 0 && self.has_nic(image);
        let known = self.images.get(image).filter(|image| goes_out || image.entry.starts_lazily());
        if let Some(net) = known.map(|image| image.net) {
            self.tell(net, &NetEvent::Gone { vm }.into(), true);
        }
    }

    /// What this demultiplexer must know of a slot whose VM is out, or was and has not come in yet.
    pub(super) fn tell_net_of(&mut self, of: EndpointId, vms: &Table<B>, slot: Slot) {
        let Some(seed) = vms.out_in(slot).or_else(|| vms.waiting_in(slot)) else { return };
        let its = self.images.get(seed.image).is_some_and(|image| image.net == of);
        if its && vms.bundle(slot).is_some() {
            self.tell_out_that_ran(of, seed.id, seed.image, seed.ipv4, seed.tenant);
        } else if its && self.starts_lazily(&seed) {
            self.tell_out(&seed);
        }
    }

    /// End a VM that is out: it was a record, and is gone. The scheduler has never heard of it.
    pub fn end_out(&mut self, vms: &mut Table<B>, seed: &Seed, end: End) {
        self.absent_timers.set(seed.id.slot, NEVER);
        self.calls_no_more(vms, seed);
        let (ran_ticks, charges) = vms.spent(seed.id.slot);
        self.note_gone(ran_ticks, &charges);
        self.forget_bundle(vms, seed.id);
        let _ = vms.remove(seed.id.slot);
        self.say_end(seed.id, end, 0);
        self.tell_gone(seed.id, seed.image);
        self.tell_disk_gone(seed.id, seed.disk.disk);
    }
}
