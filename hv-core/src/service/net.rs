//! The network: a demultiplexer's share of its VMs, which is the NIC page, in its window while a VM is attached, and the pages of the
//! rings, which come into being when it or the guest first stores there. Only the demultiplexer has pages taken out of its window:
//! what a guest does never takes one away under it. Where there are several demultiplexers, each VM has one of them, and
//! another one can neither see it nor speak of it.

use crate::board::Board;
use crate::component::{Death, EndpointId, MAX_ENDPOINTS, Run};
use crate::kernel::{Cpu, Kernel};
use crate::log::say;
use crate::vm::{Devices, End, NEVER, Queue, Vm};
use abi::component::bits;
use abi::end::EndReason;
use abi::guest::NIC_BASE;
use abi::limits::PAGE_SHIFT;
use abi::log::Record;
use abi::message::{BadMessage, Message};
use abi::net::{NO_ACCOUNT, NetCommand, NetEvent};
use abi::nic;
use abi::pager::Stays;
use abi::service::Service;
use abi::vm::VmId;
use backend::{Backend, Flush};

/// Why a page of a ring is not given or taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRingPage {
    /// The VM is not attached, or its rings have no such page.
    NoSuchPage,
    /// No frame is free.
    NoFrame,
    /// The VM does not idle: it may be writing there.
    InUse,
}

/// VMs that have ended that are taken from it, when it is gone, before others come to their turn.
const BATCH: usize = 64;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Show the demultiplexer at the endpoint `of` page `index` of the NIC of a VM of its own. The guest has the same frame
    /// there, from now on if it had none.
    ///
    /// # Errors
    /// [`NoRingPage`].
    pub fn give_ring_page(&mut self, of: EndpointId, vm: VmId, index: u64) -> Result<(), NoRingPage> {
        let Self { vms, cpu, .. } = self;
        let vm = vms.by_id(vm).filter(|vm| vm.net == of).ok_or(NoRingPage::NoSuchPage)?;
        let end = cpu.nic_pages(vm);
        let seat = vm.seat;
        let attached = vm.life.shared().contains(Devices::NIC);
        let body =
            vm.life.body_mut().filter(|_| attached && (1..end).contains(&index)).ok_or(NoRingPage::NoSuchPage)?;
        let page = guest_page(index);
        let frame = match body.memory.frame(&mut cpu.frames, page) {
            Some(frame) => frame,
            // It lies below all images.
            // Of a reserve, only the first page: what comes for a VM must not take what it needs to answer.
            None if index > 1 && cpu.frames.spare() == 0 => return Err(NoRingPage::NoFrame),
            None => body.memory.map_plain(&mut cpu.frames, page).ok().flatten().ok_or(NoRingPage::NoFrame)?,
        };
        body.registers.set_held(body.memory.reservation().held());
        let rank = cpu.endpoints.rank(of).ok_or(NoRingPage::NoSuchPage)?;
        let space = &mut cpu.components.list[rank].space;
        if space.map_window(&mut cpu.frames, seat, index, frame) { Ok(()) } else { Err(NoRingPage::NoFrame) }
    }

    /// Free the pages of a VM's rings whose bits are set in `pages` (bit `i`: page `i` of the NIC), for its demultiplexer at the
    /// endpoint `of`, which has seen that nothing is in them.
    ///
    /// # Errors
    /// [`NoRingPage`]; nothing is freed then.
    pub fn take_ring_pages(&mut self, of: EndpointId, vm: VmId, pages: u64) -> Result<(), NoRingPage> {
        let Self { vms, cpu, .. } = self;
        let vm = vms.by_id(vm).filter(|vm| vm.net == of).ok_or(NoRingPage::NoSuchPage)?;
        let end = cpu.nic_pages(vm);
        if !vm.life.shared().contains(Devices::NIC) || pages & !(((1 << end) - 1) & !1) != 0 {
            return Err(NoRingPage::NoSuchPage);
        }
        // One that is to go out does not run either.
        if !vm.life.is_idle() && !vm.life.is_leaving() {
            return Err(NoRingPage::InUse);
        }
        let seat = vm.seat;
        let body = vm.life.body_mut().ok_or(NoRingPage::NoSuchPage)?;
        let rank = cpu.endpoints.rank(of).ok_or(NoRingPage::NoSuchPage)?;
        let space = &mut cpu.components.list[rank].space;
        let mut flush = Flush::Unneeded;
        let mut any = false;
        for index in (1..end).filter(|index| pages >> index & 1 != 0) {
            space.unmap_window(seat, index);
            let (freed, flushes) = body.memory.give_back(&mut cpu.frames, guest_page(index));
            any |= freed;
            if flushes == Flush::Needed {
                flush = Flush::Needed;
            }
        }
        // Before anything else runs; and the demultiplexer's space is loaded anew before it does.
        if flush == Flush::Needed {
            cpu.backend.flush(&mut vm.vcpu, body.memory.tables());
        }
        body.registers.set_held(body.memory.reservation().held());
        if any {
            body.registers.count_taking();
        }
        cpu.has_more_room();
        Ok(())
    }

    /// Carry out a command of the demultiplexer at this endpoint. What it says of another one's VMs is not heard.
    ///
    /// # Errors
    /// What is no command.
    pub fn net_command(&mut self, from: EndpointId, message: &Message) -> Result<(), BadMessage> {
        let Self { vms, cpu, .. } = self;
        match NetCommand::try_from(message)? {
            NetCommand::Detached { vm: id } => {
                let lets_go = |vm: &&mut Vm<B>| vm.net == from && (vm.life.is_ending() || vm.life.leaves_nic());
                if let Some(vm) = vms.by_id(id).filter(lets_go).filter(|vm| vm.life.shared().contains(Devices::NIC)) {
                    cpu.detach(vm);
                    if vm.life.is_leaving() {
                        // It is to be told of the VM anew when that comes in, or stays.
                        vm.attached_to = 0;
                        self.net_let_go(id);
                    } else {
                        cpu.let_go_of(vm);
                    }
                }
            }
            NetCommand::Stays { vm } => {
                if let Some(vm) = vms.by_id(vm).filter(|vm| vm.net == from && vm.life.leaves_nic()) {
                    cpu.stay(vm, Stays::Busy);
                }
            }
            NetCommand::Refused { vm } => {
                let is_its = |vm: &&mut Vm<B>| vm.net == from && vm.life.shared().contains(Devices::NIC);
                if let Some(vm) = vms.by_id(vm).filter(is_its) {
                    cpu.detach(vm);
                    cpu.end_or_let_go(vm, End::new(EndReason::NoNetwork, 0));
                }
            }
            // The most important one has the NIC that names the machine.
            NetCommand::Node { node } if from == cpu.endpoints.first(Service::Net) => {
                cpu.node.get_or_insert(node);
            }
            NetCommand::Used { vm, traffic, of, caused, work } => {
                let mut vm = vms.by_id(vm).filter(|vm| vm.net == from);
                if let Some(vm) = &mut vm {
                    vm.charges.traffic = vm.traffic_before.and(traffic);
                }
                cpu.bill_work(from, vm, work, caused, of);
            }
            NetCommand::Node { .. } => {}
        }
        Ok(())
    }

    /// The demultiplexer or striper at this endpoint is gone: VMs that have ended need not wait for it. A few at a time; true when none is
    /// left. (What it shares with VMs that live stays where it is: its successor has the same window, and is told of each.)
    #[must_use]
    pub fn forget_server(&mut self, gone: EndpointId) -> bool {
        let Self { vms, cpu, .. } = self;
        // Who was to go out stays, and its successor is told of it.
        for (_, open) in cpu.windows.open() {
            let waits_for_it =
                |vm: &&mut Vm<B>| vm.net == gone && vm.life.leaves_nic() || vm.disk == gone && vm.life.leaves_disk();
            if let Some(vm) = vms.by_id(open.vm).filter(waits_for_it) {
                cpu.stay(vm, Stays::Busy);
            }
        }
        let leaving = Queue::Leaving(gone);
        for _ in 0..BATCH {
            let Some(slot) = cpu.queues.first(leaving) else { return true };
            match vms.get(slot) {
                Some(vm) => {
                    let has_nic = vm.life.shared().contains(Devices::NIC) && vm.net == gone;
                    if has_nic {
                        cpu.detach(vm)
                    } else {
                        cpu.detach_disk(vm)
                    }
                    cpu.let_go_of(vm);
                }
                None => cpu.queues.remove(leaving, slot),
            }
        }
        cpu.queues.is_empty(leaving)
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// First words to a demultiplexer.
    pub(super) fn net_hello(&mut self, to: EndpointId) {
        self.tell(to, &NetEvent::Hello.into(), true);
    }

    /// Share the NIC page of an admitted VM with its demultiplexer, and tell that. Where it does not live, its successor is told.
    pub fn attach(&mut self, vm: &mut Vm<B>) {
        let Some(image) = self.images.get(vm.image) else { return };
        let (rx_slots, tx_slots) = (image.entry.rx_slots, image.entry.tx_slots);
        let Some(start) = self.living_start(vm.net) else { return };
        let Some(rank) = self.endpoints.rank(vm.net) else { return };
        let space = &mut self.components.list[rank].space;
        if rx_slots == 0 || tx_slots == 0 || vm.attached_to == start {
            return;
        }
        let Some(body) = vm.life.body() else { return };
        let mapped = body
            .memory
            .frame(&mut self.frames, guest_page(0))
            .is_some_and(|frame| space.map_window(&mut self.frames, vm.seat, 0, frame));
        // From an earlier start there may be pages that this one has not asked for, and the first one.
        for index in u64::from(mapped)..nic::nic_pages(rx_slots, tx_slots) {
            space.unmap_window(vm.seat, index);
        }
        if !mapped {
            vm.life.unshare(Devices::NIC);
            say(Record::NoWindow { vm: vm.id });
            return;
        }
        vm.life.share(Devices::NIC);
        vm.attached_to = start;
        vm.traffic_before = vm.charges.traffic;
        let node = self.node();
        let (account, rate) = self.account_of(vm);
        let (seat, ipv4, share) = (vm.seat, vm.ipv4, vm.share);
        let event = NetEvent::Attach { vm: vm.id, seat, node, ipv4, rx_slots, tx_slots, share, account, rate };
        self.tell(vm.net, &event.into(), true);
    }

    /// The account of a VM's tenant, and the bytes that it may send in a second, as demultiplexers hear of it.
    fn account_of(&self, vm: &Vm<B>) -> (u32, u32) {
        let account = self.accounts.get(vm.seat.index()).copied().map(usize::from);
        let rate = account.and_then(|account| Some((u32::try_from(account).ok()?, *self.rates.get(account)?)));
        rate.unwrap_or((NO_ACCOUNT, 0))
    }

    /// The VMs of the tenant with this account may send so many bytes in a second from now on. All that live are told; each has room.
    pub(super) fn tell_rate(&mut self, account: u32, rate: u32) {
        if let Some(known) = self.rates.get_mut(account as usize) {
            *known = rate;
        }
        for id in (0..MAX_ENDPOINTS).map(EndpointId::new) {
            if self.endpoints.get(id).is_some_and(|endpoint| endpoint.service == Service::Net) {
                self.tell(id, &NetEvent::Rate { account, rate }.into(), true);
            }
        }
    }

    /// Pages of the NIC of a VM, at most 16: that many lie in the window's range for it.
    fn nic_pages(&self, vm: &Vm<B>) -> u64 {
        self.images.get(vm.image).map_or(0, |image| nic::nic_pages(image.entry.rx_slots, image.entry.tx_slots))
    }

    /// Which start of the component at this endpoint is the one that lives.
    pub(super) fn living_start(&self, of: EndpointId) -> Option<u32> {
        let component = &self.components.list[self.endpoints.rank(of)?];
        matches!(component.run, Run::Ready | Run::Waiting { .. }).then_some(component.incarnation)
    }

    /// Whether the demultiplexer that lives has been told of a VM: that one has a NIC, and it is not the predecessor's alone.
    pub(super) fn knows(&self, vm: &Vm<B>) -> bool {
        vm.life.shared().contains(Devices::NIC) && self.living_start(vm.net) == Some(vm.attached_to)
    }

    /// A VM that shares its NIC pages has ended: its demultiplexer has to let go of them. Where that does not live, or has not been
    /// told of the VM since its start, nobody has, and false is the answer.
    #[must_use]
    pub fn begin_detach(&mut self, vm: &mut Vm<B>) -> bool {
        if !self.knows(vm) {
            self.detach(vm);
            return false;
        }
        self.queues.push(Queue::Leaving(vm.net), vm.slot());
        self.timers.set(vm.seat, NEVER);
        self.tell_of(vm.net, vm.seat, false, &NetEvent::Detach { vm: vm.id, seat: vm.seat }.into(), true);
        true
    }

    /// The time has come by which the demultiplexer at this endpoint must have let go of a VM.
    pub fn withholds(&mut self, of: EndpointId, vm: VmId) {
        if let Some(rank) = self.endpoints.rank(of) {
            self.condemn(rank, Death::DetachTimeout(vm));
        }
    }

    /// What the demultiplexer has still to be told of a VM.
    pub(super) fn tell_owed_net(&mut self, vm: &mut Vm<B>) {
        let shared = vm.life.shared().contains(Devices::NIC);
        if vm.life.is_ending() && shared {
            self.tell(vm.net, &NetEvent::Detach { vm: vm.id, seat: vm.seat }.into(), true);
        } else if vm.life.leaves_nic() {
            self.tell(vm.net, &NetEvent::Leave { vm: vm.id, seat: vm.seat, tenant: vm.tenant }.into(), true);
        } else if vm.life.body().is_some() && !vm.life.is_leaving() {
            // Where it has been told already, nothing is told.
            self.attach(vm);
        }
    }

    /// Share the NIC page of an admitted VM with its demultiplexer, and tell that when there is space in its ring.
    pub(super) fn attach_soon(&mut self, vm: &mut Vm<B>) {
        if self.has_room(vm.net) {
            self.attach(vm);
        } else {
            self.owe(vm.net, vm.seat, false);
        }
    }

    /// A VM has another address. Whoever has still to be told of the VM is told of this one then.
    pub fn tell_address(&mut self, vm: &Vm<B>) {
        if self.knows(vm) {
            let event = NetEvent::Address { vm: vm.id, seat: vm.seat, ipv4: vm.ipv4 };
            self.tell(vm.net, &event.into(), true);
        }
    }

    /// A guest has kicked its NIC.
    #[inline]
    pub fn kick_nic(&mut self, vm: &Vm<B>) {
        if vm.life.shared().contains(Devices::NIC) {
            self.kick_server(vm.net, vm);
        }
    }

    /// A guest has kicked a device that whoever is at this endpoint serves.
    #[inline]
    pub(super) fn kick_server(&mut self, server: EndpointId, vm: &Vm<B>) {
        if let Some(rank) = self.endpoints.rank(server) {
            self.components.kick(rank, vm.seat);
            self.components.list[rank].live.kicked = Some((vm.id, self.mark));
            self.notify(rank, bits::KICK);
        }
    }

    /// Unmap a VM's NIC pages from its demultiplexer, if it shares them.
    fn detach(&mut self, vm: &mut Vm<B>) {
        if !vm.life.shared().contains(Devices::NIC) {
            return;
        }
        let end = self.nic_pages(vm);
        if let Some(rank) = self.endpoints.rank(vm.net) {
            for index in 0..end {
                self.components.list[rank].space.unmap_window(vm.seat, index);
            }
        }
        vm.life.unshare(Devices::NIC);
        if vm.life.is_ending() {
            self.queues.remove(Queue::Leaving(vm.net), vm.slot());
        }
    }
}

/// The guest's page that holds page `index` of its NIC.
fn guest_page(index: u64) -> u32 {
    u32::try_from((NIC_BASE >> PAGE_SHIFT) + index).unwrap_or(u32::MAX)
}
