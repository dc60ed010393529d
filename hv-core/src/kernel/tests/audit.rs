//! What must be true of the machine after every turn of the loop.

use super::machine::Machine;
use crate::component::{EndpointId, MAX_ENDPOINTS, Party, Run};
use crate::kernel::Kernel;
use crate::memory::{CLASSES, Owner, OwnerClass, PhysAddr};
use crate::service::{Open, Order};
use crate::vm::{AccountNumber, Away, Devices, DiskTold, METADATA_FRAMES, NEVER, Queue, Seed, State, Vm};
use abi::charges::Charges;
use abi::component::layout;
use abi::control::ControlReply;
use abi::flow::Flow;
use abi::limits::PAGE_SIZE;
use abi::nic;
use abi::quota::Quota;
use abi::service::Service;
use abi::swap::{Bundle, WINDOW_BYTES, WINDOWS};
use abi::vm::{ImageId, Seat, Slot, VmId};
use std::collections::{BTreeMap, BTreeSet};

/// Pages of a NIC's window.
const WINDOW_PAGES: u64 = nic::WINDOW_STRIDE / PAGE_SIZE;

/// The slots in a queue, in order.
fn members<B: backend::Backend, H: crate::board::Board>(kernel: &Kernel<B, H>, queue: Queue) -> BTreeSet<Slot> {
    kernel.vms.slots().filter(|&slot| kernel.cpu.queues.contains(queue, slot)).collect()
}

/// The queues of those that leave, one for each endpoint that there could be.
fn leaving() -> impl Iterator<Item = Queue> {
    (0..=MAX_ENDPOINTS).map(|index| Queue::Leaving(EndpointId::new(index)))
}

/// What a directory of pages that are out names.
fn named(away: &Away) -> Vec<Bundle> {
    let mut from = 0;
    let next = || {
        let (page, bundle) = away.next(from)?;
        from = page + 1;
        Some(bundle)
    };
    core::iter::from_fn(next).collect()
}

impl<const TIMER: bool> Machine<TIMER> {
    /// Looks which pages are out of each VM.
    fn look_away(&mut self) {
        self.away.clear();
        for slot in self.kernel.vms.slots() {
            let mut pages = named(&Away::found(self.kernel.vms.away(slot)));
            if let Some(memory) = self.kernel.vms.get(slot).and_then(|vm| vm.life.memory()) {
                pages.extend(named(memory.away()));
                assert_eq!(pages.len(), memory.away().pages() as usize, "pages of slot {slot} that are out");
            }
            self.away.insert(slot, pages);
        }
    }

    /// Those of the VM in a slot, at the last look.
    fn pages_of(&self, slot: Slot) -> &[Bundle] {
        self.away.get(&slot).map_or(&[], |pages| pages)
    }

    /// Each tick is counted once, and what is charged to VMs is theirs, wherever they are, or was of those that have ended.
    pub fn audit_account(&mut self) {
        let ControlReply::Account {
            idle_ticks,
            guest_ticks,
            service_ticks,
            own_ticks,
            ended_ran_ticks,
            ended_service_ticks,
            ..
        } = self.kernel.cpu.account()
        else {
            unreachable!("it says so always")
        };
        let sum = idle_ticks + guest_ticks + service_ticks + own_ticks;
        assert_eq!(sum, self.kernel.cpu.mark, "ticks are lost or counted twice");
        let Kernel { vms, .. } = &mut self.kernel;
        let (mut ran, mut service) = (ended_ran_ticks, ended_service_ticks);
        for slot in vms.slots() {
            let (ran_ticks, charges) = match vms.get(slot) {
                Some(vm) => (vm.ran_ticks, vm.charges),
                None => vms.spent(slot),
            };
            ran += ran_ticks;
            service += charges.service_ticks;
        }
        assert_eq!((ran, service), (guest_ticks, service_ticks), "VMs are charged with other ticks than there were");
    }

    /// Each tenant has what its VMs are together, wherever they are, those counted that boot has written; and nobody else has an account.
    pub fn audit_tenants(&mut self) {
        self.look_away();
        let vms = &self.kernel.vms;
        let mut sums: BTreeMap<u32, (u32, u64, u64)> = BTreeMap::new();
        for slot in vms.slots() {
            let Some((tenant, limit)) = vms.counts_for(slot).filter(|(tenant, _)| !tenant.is_unsaid()) else {
                continue;
            };
            let sum = sums.entry(tenant.raw()).or_default();
            let bundle = vms.bundle(slot).filter(|bundle| !bundle.is_on_disk());
            let pages: u64 = self.pages_of(slot).iter().map(|bundle| u64::from(bundle.bytes)).sum();
            let pooled = bundle.map_or(0, |bundle| u64::from(bundle.bytes)) + pages;
            *sum = (sum.0 + 1, sum.1 + u64::from(limit), sum.2 + pooled);
        }
        for (tenant, bundle) in self.kernel.cpu.given_back.iter().filter(|(tenant, _)| !tenant.is_unsaid()) {
            if let Some(sum) = sums.get_mut(&tenant.raw()) {
                sum.2 += u64::from(bundle.bytes);
            }
        }
        let mut from = 0;
        while let Some((number, tenant, standing)) = vms.tenants().next(from) {
            let sum = sums.remove(&tenant.raw()).unwrap_or_default();
            assert_eq!((standing.vms, standing.frames, standing.pooled), sum, "what {tenant} has");
            let is_set = standing.quota != Quota::NONE || standing.flow != Flow::NONE;
            assert!(standing.vms != 0 || is_set, "{tenant} has an account for nothing");
            let called = self.kernel.cpu.queues.all(Queue::Called(number));
            let called = called.filter(|&slot| vms.out_in(slot).is_some_and(|seed| seed.tenant == tenant)).count();
            assert_eq!(called, standing.waiting as usize, "VMs of {tenant} that were called and wait");
            let due = self.kernel.cpu.called_timers.deadline_of(AccountNumber(number));
            assert_eq!(due == NEVER, called == 0, "when the next VM of {tenant} comes in");
            from = number + 1;
        }
        assert!(sums.is_empty(), "VMs of tenants without an account: {sums:?}");
    }

    /// No VM is lost or forgotten: each is where its state says, so something will move it on.
    pub fn audit_lives(&mut self) {
        let waiting_at = self.kernel.cpu.admit_at;
        let (mut living, mut out) = (0, 0);
        let mut seated = 0;
        for slot in self.kernel.vms.slots() {
            let Kernel { vms, cpu, .. } = &mut self.kernel;
            let listed = |queue| cpu.queues.contains(queue, slot);
            if let Some(seed) = vms.waiting_in(slot) {
                living += 1;
                let held = listed(Queue::Held);
                assert!(listed(Queue::Waiting) || held, "{} waits for admission and is in no queue", seed.id);
                assert!(!held || vms.held_by(slot) != 0, "{} is held and nobody holds it", seed.id);
                assert!(!listed(Queue::Ready) && !listed(Queue::Ended), "{} waits and is in another queue", seed.id);
                assert!(held || waiting_at != NEVER, "{} waits for admission and the core never looks", seed.id);
                continue;
            }
            if let Some(seed) = vms.out_in(slot) {
                living += 1;
                out += 1;
                let queues = [Queue::Ready, Queue::Waiting, Queue::Held, Queue::Ended, Queue::Coming];
                assert!(!queues.into_iter().chain(leaving()).any(listed), "{} is out and in a queue", seed.id);
                let account = vms.tenants().get(seed.tenant).map(|(number, _)| number);
                let others = (0..8).filter(|&number| Some(number) != account).map(Queue::Called);
                assert!(!others.into_iter().any(listed), "{} waits for another tenant's turn", seed.id);
                assert!(
                    vms.bundle(slot).is_some() || vms.spent(slot) == (0, Charges::NONE),
                    "{} ran and has nothing",
                    seed.id
                );
                continue;
            }
            let Some(vm) = vms.get(slot) else {
                let queues = [Queue::Ready, Queue::Waiting, Queue::Held, Queue::Ended];
                let called = (0..8).map(Queue::Called);
                assert!(
                    !queues.into_iter().chain(leaving()).chain(called).any(listed),
                    "the empty slot {slot} is in a queue"
                );
                continue;
            };
            living += 1;
            seated += 1;
            let (id, seat, state) = (vm.id, vm.seat, vm.life.state());
            assert_eq!((id.slot, vms.seats().slot(seat)), (slot, Some(slot)));
            let Some(vm) = vms.get(slot) else { unreachable!("it was there") };
            let server = match vm.life.shared() {
                shared if shared.contains(Devices::NIC) => Some(vm.net),
                shared if shared.contains(Devices::DISK) => Some(vm.disk),
                _ => None,
            };
            let leaves = state == State::Ending;
            for queue in leaving() {
                let expected = leaves && server.map(Queue::Leaving) == Some(queue);
                assert_eq!(listed(queue), expected, "{id} in the queue {queue:?}");
            }
            let deadline = cpu.timers.deadline_of(seat);
            let on_turn = cpu.plan.turn.is_some_and(|turn| turn.vm == id);
            match state {
                State::New => panic!("{id} was never built"),
                State::Ready => {
                    let held = listed(Queue::Held) && vm.held_by != 0 && !on_turn;
                    assert!(listed(Queue::Ready) || held, "{id} can run and is in no queue");
                }
                State::Idle { until } => {
                    assert!(!listed(Queue::Ready) && !listed(Queue::Held), "{id} idles and is planned for");
                    assert!(!on_turn, "{id} idles and has the turn");
                    assert!(deadline <= until, "{id} idles until {until} and is woken at {deadline}");
                }
                State::Fault(_) => {
                    let paused = cpu.plan.paused.is_some_and(|turn| turn.vm == id);
                    assert!(
                        on_turn || paused || !listed(Queue::Ready),
                        "{id} waits for a page and the scheduler never hears of it"
                    );
                }
                State::Paused => {
                    assert!(
                        !listed(Queue::Ready) && !listed(Queue::Held) && !on_turn,
                        "{id} stands still and is planned for"
                    );
                }
                State::Leaving { .. } => {
                    assert!(
                        !listed(Queue::Ready) && !listed(Queue::Held) && !on_turn,
                        "{id} leaves and is planned for"
                    );
                    let windows = cpu.windows.open().filter(|(_, open)| open.vm == id);
                    let orders: Vec<_> = windows.map(|(_, open)| open.order).collect();
                    let stored = matches!(orders[..], [Order::Store { .. }]);
                    assert!(stored || orders == [Order::Promised], "{id} leaves through {orders:?}");
                    assert_eq!(stored, vm.life.shared().contains(Devices::SWAP), "{id}");
                    let others =
                        [Devices::NIC, Devices::DISK].into_iter().any(|device| vm.life.shared().contains(device));
                    assert!(!stored || !others, "{id} is seen by two");
                }
                State::Coming => {
                    assert!(!listed(Queue::Ready) && !listed(Queue::Held) && !on_turn, "{id} comes and is planned for");
                    let windows = cpu.windows.open().filter(|(_, open)| open.vm == id);
                    let loads = windows.filter(|(_, open)| matches!(open.order, Order::Load { .. })).count();
                    assert_eq!(loads + usize::from(listed(Queue::Coming)), 1, "{id} comes in and nobody brings it");
                }
                State::Ending => {
                    assert!(
                        !listed(Queue::Ready) && !listed(Queue::Waiting) && !listed(Queue::Held) && !on_turn,
                        "{id} has ended and is planned for"
                    );
                    if let Some(server) = server {
                        let run = cpu.endpoints.rank(server).map(|rank| cpu.components.list[rank].run);
                        let asked_for = listed(Queue::Leaving(server)) || matches!(run, Some(Run::Condemned(_)));
                        assert!(asked_for, "{id} has ended and nobody asks for its pages");
                    } else if vm.life.shared().contains(Devices::SWAP) {
                        let seen = cpu.windows.open().any(|(_, open)| open.vm == id);
                        assert!(seen && !listed(Queue::Ended), "{id} has ended and nobody asks for its window");
                    } else {
                        assert!(listed(Queue::Ended), "{id} has ended and is not buried");
                        let waits = (0..MAX_ENDPOINTS)
                            .any(|id| cpu.endpoints.get(EndpointId::new(id)).is_some_and(|endpoint| endpoint.owes));
                        let soon = cpu.attention.clone().take_ended() || waits;
                        assert!(soon, "{id} is to be buried and nobody does it");
                    }
                }
            }
            let idles = self.kernel.cpu.components.idles.as_ref();
            let since = idles.and_then(|idles| idles.memory.load64(seat.index() * 8)).unwrap_or(0);
            assert_eq!(since != 0, matches!(state, State::Idle { .. }), "{id} is {state:?} and idles since {since}");
            if !matches!(state, State::Ending | State::Coming) {
                let due = self.kernel.vms.by_id(id).expect("it lives").deadline();
                assert!(deadline <= due, "{id} has an alarm at {due} and is woken at {deadline}");
            }
        }
        assert_eq!((living, out), (self.kernel.vms.living(), self.kernel.vms.out_count()));
        self.audit_seats(seated);
    }

    /// As many seats are taken as VMs have one, and an empty one is empty.
    fn audit_seats(&self, seated: usize) {
        let seats = self.kernel.vms.seats();
        let all = (0..seats.used()).map(|seat| Seat::new(u16::try_from(seat).expect("few")));
        assert_eq!(all.clone().filter(|&seat| seats.slot(seat).is_some()).count(), seated, "somebody has two seats");
        for seat in all.filter(|&seat| seats.slot(seat).is_none()) {
            assert_eq!(self.kernel.cpu.timers.deadline_of(seat), NEVER, "the empty seat {seat} has a deadline");
            if let Some(idles) = &self.kernel.cpu.components.idles {
                assert_eq!(idles.memory.load64(seat.index() * 8), Some(0), "the empty seat {seat} idles");
            }
        }
    }

    /// Every frame has exactly one owner, and the sums are right.
    pub fn audit_frames(&mut self) {
        let mut by_owner: BTreeMap<OwnerClass, u64> = BTreeMap::new();
        // Frames of each VM: memory, metadata, tables.
        let mut of_slot: BTreeMap<Slot, [u32; 3]> = BTreeMap::new();
        let all = self.kernel.cpu.frames.len() as u64;
        for number in 0..all {
            let (owner, _) = self.kernel.cpu.frames.owner_of(PhysAddr::from_frame(number));
            *by_owner.entry(owner.class()).or_default() += 1;
            let (slot, what) = match owner {
                Owner::VmMemory(slot) => (slot, 0),
                Owner::VmMeta(slot) => (slot, 1),
                Owner::VmTables(slot) => (slot, 2),
                _ => continue,
            };
            of_slot.entry(Slot::new(slot)).or_default()[what] += 1;
        }
        for class in CLASSES {
            let counted = by_owner.get(&class).copied().unwrap_or(0);
            assert_eq!(self.kernel.cpu.frames.count_of(class), counted, "{class:?}");
        }
        let mut lacking = 0;
        for slot in self.kernel.vms.slots() {
            let Kernel { vms, cpu, .. } = &mut self.kernel;
            let [memory, metadata, tables] = of_slot.remove(&slot).unwrap_or_default();
            let Some(vm) = vms.get(slot) else {
                let kept = Away::found(vms.away(slot)).frames();
                assert_eq!([memory, metadata, tables], [0, 0, kept], "the empty slot {slot} owns frames");
                continue;
            };
            assert_eq!(metadata, METADATA_FRAMES, "{}", vm.id);
            assert_eq!(cpu.frames.owner_of(vm.control_frame).0, Owner::VmMeta(slot.number()));
            let Some(mem) = vm.life.memory() else {
                assert_eq!([memory, tables], [0; 2], "{}", vm.id);
                continue;
            };
            let (own, table_pages, shared) = mem.counts();
            assert_eq!([own, table_pages], [memory, tables], "{}", vm.id);
            let reservation = mem.reservation();
            assert_eq!(reservation.held(), memory + tables + metadata, "{}", vm.id);
            let away = mem.away();
            assert!(reservation.held() - away.frames() + away.pages() <= mem.claim().limit, "{}", vm.id);
            lacking += u64::from(reservation.reserve().saturating_sub(reservation.held()));
            let (mut found_own, mut found_shared) = (BTreeSet::new(), 0);
            for page in 0..mem.pages() {
                let Some((frame, rights)) = mem.mapping(&mut cpu.frames, page) else { continue };
                let image = cpu.images.get(vm.image).expect("it was made from it");
                let most = image.rights(page).unwrap_or_else(|| panic!("page {page} of {} is in a hole", vm.id));
                assert!(
                    rights.write <= most.write && rights.execute <= most.execute,
                    "page {page} of {}: {rights:?}",
                    vm.id
                );
                match cpu.frames.owner_of(frame) {
                    (Owner::VmMemory(of), noted) => {
                        assert_eq!((of, noted), (slot.number(), page), "page {page} of {}", vm.id);
                        assert!(found_own.insert(frame), "frame {frame} is mapped twice in {}", vm.id);
                    }
                    (Owner::Golden(_) | Owner::Module, _) => {
                        assert!(!rights.write, "{} can write to the golden frame {frame}", vm.id);
                        found_shared += 1;
                    }
                    (other, _) => panic!("page {page} of {} is a frame of {other:?}", vm.id),
                }
            }
            let mapped = (own - mem.loose()) as usize;
            assert_eq!((found_own.len(), found_shared), (mapped, shared), "{}", vm.id);
            assert!(mem.loose() == 0 || vm.life.shared().contains(Devices::SWAP), "{}", vm.id);
        }
        // What every VM lacks of its reserve is free, whatever the others hold.
        let frames = &self.kernel.cpu.frames;
        assert!(frames.free_frames() >= lacking || frames.count_of(OwnerClass::Damaged) > 0);
        assert_eq!(frames.unreserved(), frames.free_frames().saturating_sub(lacking));
        assert!(of_slot.is_empty(), "frames of slots that do not exist: {of_slot:?}");
    }

    /// The demultiplexer sees the NIC pages of those VMs that share theirs, and those pages of their rings that it has asked for,
    /// and nothing else.
    pub fn audit_windows(&mut self) {
        for of in self.parties(Service::Net) {
            self.audit_window(of);
        }
    }

    fn audit_window(&mut self, of: EndpointId) {
        let rank = self.kernel.cpu.endpoints.rank(of).expect("a component");
        for seat in (0..self.kernel.vms.seats().used()).map(|seat| Seat::new(u16::try_from(seat).expect("few"))) {
            let Kernel { vms, cpu, .. } = &mut self.kernel;
            let shared = match vms.in_seat(seat) {
                Some(vm) if vm.net == of && vm.life.shared().contains(Devices::NIC) => vm.life.memory(),
                _ => None,
            };
            let space = &cpu.components.list[rank].space;
            for page in 0..WINDOW_PAGES {
                let at = layout::VM_WINDOW + u64::from(seat.number()) * nic::WINDOW_STRIDE + page * PAGE_SIZE;
                let seen = space.tables().walk(at).map(|leaf| leaf.frame);
                let number = u32::try_from(abi::guest::NIC_BASE / PAGE_SIZE + page).expect("a page");
                // Three pages with the image's NIC, of which two are of rings.
                let expected = shared.filter(|_| page < nic::nic_pages(32, 32) && (page == 0 || seen.is_some()));
                let expected = expected.and_then(|memory| memory.frame(&mut cpu.frames, number));
                assert_eq!(seen, expected, "page {page} of the NIC in seat {seat}");
            }
        }
    }

    /// What a component knows that has taken all that the core has told it is what the core knows, whether it was told from
    /// the beginning or after a restart.
    pub fn audit_knowledge(&mut self) {
        let informed = |machine: &mut Self, party| {
            let cpu = &machine.kernel.cpu;
            let rank = cpu.endpoints.rank(party).expect("a component");
            let knows_all =
                cpu.endpoints.get(party).is_some_and(|endpoint| endpoint.resync.is_none() && !endpoint.owes);
            let at_rest = matches!(cpu.components.list[rank].run, Run::Waiting { .. }) && knows_all;
            at_rest && machine.hardware.borrow_mut().components[rank].is_informed()
        };
        // Whom the scheduler keeps back it knows as it knows the others.
        let held = members(&self.kernel, Queue::Held);
        let (waits, runs): (BTreeSet<Slot>, BTreeSet<Slot>) =
            held.into_iter().partition(|&slot| self.kernel.vms.waiting_in(slot).is_some());
        let ready: BTreeSet<Slot> = members(&self.kernel, Queue::Ready).union(&runs).copied().collect();
        let waiting: BTreeSet<Slot> = members(&self.kernel, Queue::Waiting).union(&waits).copied().collect();
        let mut admitted = BTreeSet::new();
        // VMs that go out or come in and have no NIC meanwhile.
        let mut between = BTreeMap::new();
        // VMs that were asked to leave: they have one until the answer is read.
        let mut asked = BTreeSet::new();
        let mut attached = BTreeMap::new();
        let mut ending = BTreeSet::new();
        for id in self.vms() {
            let Some(vm) = self.kernel.vms.by_id(id) else { continue };
            match vm.life.state() {
                State::New => {}
                State::Ending => {
                    ending.insert(id);
                }
                State::Coming => _ = between.insert(id, vm.net),
                state => {
                    if matches!(state, State::Leaving { .. }) {
                        if vm.life.shared().contains(Devices::NIC) {
                            asked.insert(id);
                        } else {
                            between.insert(id, vm.net);
                        }
                    }
                    admitted.insert((id, vm.pager.index()));
                }
            }
            if vm.life.shared().contains(Devices::NIC) && !vm.life.is_ending() {
                attached.insert(id, (vm.seat, vm.net));
            }
        }
        // One whose NIC could not be attached stays out for its demultiplexer.
        let admitted_or_ending = |id: &VmId| {
            ending.contains(id) || !between.contains_key(id) && admitted.iter().any(|(other, _)| other == id)
        };
        let slots = |ids: &mut dyn Iterator<Item = VmId>| -> BTreeSet<Slot> { ids.map(|id| id.slot).collect() };
        let plan = self.kernel.cpu.endpoints.first(Service::Plan);
        if informed(self, plan) {
            let rank = self.rank(Service::Plan);
            let hardware = self.hardware.borrow();
            let sched = hardware.components[rank].sched();
            let known = slots(&mut sched.ready.iter().copied().filter(|id| !ending.contains(id)));
            assert_eq!(known, ready, "who can run");
            // One that it has admitted is on its way.
            let known = slots(&mut sched.waiting.iter().map(|(id, _)| *id).filter(|id| !ending.contains(id)));
            let told = slots(&mut sched.admitting().filter(|id| !ending.contains(id)));
            assert!(known.is_subset(&waiting), "who waits: {known:?} {waiting:?}");
            assert!(
                waiting.iter().all(|slot| known.contains(slot) || told.contains(slot)),
                "who waits: {known:?} {told:?} {waiting:?}"
            );
        }
        for party in self.parties(Service::Pager) {
            if !informed(self, party) {
                continue;
            }
            let images = &self.kernel.cpu.images;
            let images =
                (0..images.len()).filter(|&id| images.get(ImageId::new(u32::try_from(id).expect("few"))).is_some());
            let images = images.count();
            let rank = self.kernel.cpu.endpoints.rank(party).expect("a component");
            let hardware = self.hardware.borrow();
            let pager = hardware.components[rank].pager();
            let known: BTreeSet<VmId> = pager.vms.keys().copied().filter(|id| !ending.contains(id)).collect();
            let its = admitted.iter().filter(|(_, pager)| *pager == party.index()).map(|(id, _)| *id);
            assert_eq!(known, its.collect(), "who has memory");
            assert_eq!(pager.surprises, 0, "faults of VMs that the pager was not told of");
            assert_eq!(pager.segments.len(), 2 * images, "two segments of each image that is there");
        }
        for party in self.parties(Service::Net) {
            if !informed(self, party) {
                continue;
            }
            let rank = self.kernel.cpu.endpoints.rank(party).expect("a component");
            let hardware = self.hardware.borrow();
            let net = hardware.components[rank].net();
            if net.lied {
                continue;
            }
            let settled = |id: &VmId| !asked.contains(id);
            let its = attached.iter().filter(|(_, (_, net))| *net == party).map(|(id, (seat, _))| (*id, *seat));
            let known: BTreeMap<_, _> =
                net.attached.iter().map(|(id, seat)| (*id, *seat)).filter(|(id, _)| settled(id)).collect();
            assert_eq!(known, its.filter(|(id, _)| settled(id)).collect(), "who is attached");
            for id in net.attached.keys().filter(|id| attached.contains_key(id)) {
                let Some(vm) = self.kernel.vms.by_id(*id) else { continue };
                let (tenant, account) = (vm.tenant, self.kernel.cpu.accounts[vm.seat.index()]);
                let account = (account != u16::MAX).then(|| u32::from(account));
                let standing = self.kernel.vms.tenants().get(tenant);
                assert_eq!(account, standing.map(|(number, _)| number), "whose {id} is");
                let Some((number, standing)) = standing else { continue };
                assert_eq!(net.accounts.get(id), Some(&number), "whose {id} is");
                assert_eq!(net.rates.get(&number), Some(&standing.flow.rate), "what VMs of {tenant} may send");
            }
            let known: BTreeSet<VmId> =
                net.out.iter().copied().filter(|id| !admitted_or_ending(id) && settled(id)).collect();
            let Kernel { vms, cpu, .. } = &self.kernel;
            let absent = vms.slots().filter_map(|slot| vms.out_in(slot).or_else(|| vms.waiting_in(slot)));
            let its = |seed: &Seed| cpu.images.get(seed.image).is_some_and(|image| image.net == party);
            let runs = |seed: &Seed| vms.bundle(seed.id.slot).is_some();
            let has_nic = |id: ImageId| cpu.images.get(id).is_some_and(|image| image.entry.rx_slots != 0);
            let absent =
                absent.filter(|seed| its(seed) && (cpu.starts_lazily(seed) || runs(seed) && has_nic(seed.image)));
            let between =
                between.iter().filter(|(id, net)| **net == party && vms.image_of(id.slot).is_some_and(has_nic));
            let expected = absent.map(|seed| seed.id).chain(between.map(|(id, _)| *id)).collect();
            assert_eq!(known, expected, "who is out");
        }
        if let Some(&party) = self.parties(Service::Disk).first().filter(|&&party| informed(self, party)) {
            self.audit_disks(party);
        }
        self.audit_pool();
    }

    /// What whoever serves disks knows, who has taken all that it was told: who is attached, and who is out and has its disk all the same.
    fn audit_disks(&mut self, party: EndpointId) {
        let (mut attached, mut out) = (BTreeMap::new(), BTreeMap::new());
        // Those who were asked to let go have perhaps been let go of, and the core does not know yet.
        let mut between = BTreeSet::new();
        for id in self.vms() {
            let Kernel { vms, .. } = &mut self.kernel;
            let (bundle, disk) = (vms.bundle(id.slot).is_some(), vms.disk(id.slot).disk);
            let Some(vm) = vms.by_id(id) else {
                if bundle && !disk.is_empty() {
                    out.insert(id, disk);
                }
                continue;
            };
            let shared = vm.life.shared().contains(Devices::DISK);
            if vm.life.is_ending() || vm.life.is_leaving() && shared {
                between.insert(id);
            } else if shared {
                attached.insert(id, (vm.seat, vm.attachment));
            } else if vm.disk_told == DiskTold::Out {
                out.insert(id, disk);
            }
        }
        let rank = self.kernel.cpu.endpoints.rank(party).expect("a component");
        let hardware = self.hardware.borrow();
        let known = hardware.components[rank].disk();
        if known.lied {
            return;
        }
        let its = known.attached.iter().map(|(id, (seat, attachment, _))| (*id, (*seat, *attachment)));
        assert_eq!(
            its.filter(|(id, _)| !between.contains(id)).collect::<BTreeMap<_, _>>(),
            attached,
            "who is attached"
        );
        let its = known.out.iter().map(|(id, disk)| (*id, *disk)).filter(|(id, _)| !between.contains(id));
        assert_eq!(its.collect::<BTreeMap<_, _>>(), out, "who is out and has a disk");
    }

    /// The striper sees the disk pages of those VMs that share theirs, and nothing else.
    fn audit_disk_windows(&mut self) {
        let Some(&of) = self.parties(Service::Disk).first() else { return };
        let rank = self.kernel.cpu.endpoints.rank(of).expect("a component");
        for seat in (0..self.kernel.vms.seats().used()).map(|seat| Seat::new(u16::try_from(seat).expect("few"))) {
            let Kernel { vms, cpu, .. } = &mut self.kernel;
            let shares = |vm: &&mut Vm<_>| vm.life.shared().contains(Devices::DISK);
            let memory = vms.in_seat(seat).filter(shares).and_then(|vm| vm.life.memory());
            let space = &cpu.components.list[rank].space;
            for page in 0..WINDOW_PAGES {
                let at = layout::VM_WINDOW + u64::from(seat.number()) * nic::WINDOW_STRIDE + page * PAGE_SIZE;
                let seen = space.tables().walk(at).map(|leaf| leaf.frame);
                let number = u32::try_from(abi::guest_disk::DISK_BASE / PAGE_SIZE + page).expect("a page");
                let expected = memory.filter(|_| page < abi::guest_disk::PAGES);
                let expected = expected.and_then(|memory| memory.frame(&mut cpu.frames, number));
                assert_eq!(seen, expected, "page {page} of the disk in seat {seat}");
            }
        }
    }

    /// What swap knows to be in its pool is what the records say, and what it has just stored.
    fn audit_pool(&mut self) {
        self.look_away();
        let Some(&party) = self.parties(Service::Swap).first() else { return };
        // What it has said and the core has not taken, it will hear of.
        let heard = self.kernel.cpu.endpoints.get_mut(party).is_some_and(|endpoint| !endpoint.has_untaken());
        let cpu = &self.kernel.cpu;
        let rank = cpu.endpoints.rank(party).expect("a component");
        let (vms, total) = (self.kernel.vms.slots(), self.kernel.vms.pooled());
        let bundles: BTreeMap<_, _> =
            vms.filter_map(|slot| Some((self.kernel.vms.named(slot)?, self.kernel.vms.bundle(slot)?))).collect();
        let (on_disk, pooled): (Vec<&Bundle>, Vec<&Bundle>) = bundles.values().partition(|bundle| bundle.is_on_disk());
        let pages: BTreeMap<u64, Bundle> =
            self.away.values().flatten().map(|bundle| (bundle.counter, *bundle)).collect();
        let all = pooled.iter().copied().chain(pages.values());
        let given_back = cpu.given_back.iter().map(|(_, bundle)| bundle);
        let sums = (pooled.len(), all.chain(given_back).map(|bundle| u64::from(bundle.bytes)).sum::<u64>());
        assert_eq!(total, sums, "what lies in the pool");
        assert_eq!(self.kernel.vms.on_disk() as usize, on_disk.len(), "what lies on the disks");
        let knows_all = cpu.endpoints.get(party).is_some_and(|endpoint| endpoint.resync.is_none() && !endpoint.owes);
        let at_rest = matches!(cpu.components.list[rank].run, Run::Waiting { .. }) && knows_all && heard;
        let has_said_all = self.hardware.borrow().components[rank].has_said_all();
        if !at_rest || !has_said_all || !self.hardware.borrow_mut().components[rank].is_informed() {
            return;
        }
        let hardware = self.hardware.borrow();
        let swap = hardware.components[rank].swap();
        assert_eq!(swap.surprises, 0, "swap was asked for what it does not have");
        let known: BTreeMap<u64, Bundle> =
            swap.pages.iter().map(|(counter, (_, bundle))| (*counter, *bundle)).collect();
        for (counter, bundle) in &pages {
            assert_eq!(known.get(counter), Some(bundle), "a page lies in the pool");
        }
        let discarded: BTreeSet<u64> = self.kernel.cpu.discarded.all().iter().map(|bundle| bundle.counter).collect();
        let given_back: BTreeSet<u64> = self.kernel.cpu.given_back.iter().map(|(_, bundle)| bundle.counter).collect();
        for (counter, (vm, _)) in swap.pages.iter().filter(|(counter, _)| !pages.contains_key(counter)) {
            let goes = self.kernel.cpu.windows.sending(*vm, *counter).is_some();
            let known = goes || discarded.contains(counter) || given_back.contains(counter);
            assert!(known, "a page of {vm} lies in the pool and nobody knows");
        }
        for (vm, bundle) in &bundles {
            assert_eq!(swap.known.get(vm), Some(bundle), "{vm} lies in the pool, or on the disks");
        }
        for (vm, bundle) in swap.known.iter().filter(|(vm, _)| !bundles.contains_key(vm)) {
            let going = self.kernel.cpu.windows.storing(*vm, bundle.counter);
            assert!(going.is_some(), "{vm} lies in the pool and nobody knows");
        }
    }

    /// Swap sees the frames of those who go out and come in, and nothing else.
    fn audit_swap_windows(&mut self) {
        let Some(&party) = self.parties(Service::Swap).first() else { return };
        let Kernel { vms, cpu, .. } = &mut self.kernel;
        let rank = cpu.endpoints.rank(party).expect("a component");
        let open: BTreeMap<usize, Open> = cpu.windows.open().collect();
        for window in 0..WINDOWS {
            let pages = match open.get(&window).map(|open| open.order) {
                Some(Order::Store { pages, .. } | Order::Load { pages, .. }) => pages,
                Some(Order::Promised) | None => 0,
                Some(Order::Pages { pages, .. }) => pages.bits.count_ones(),
            };
            // Those that were answered are not there any more.
            let is_there = |index: u32| match open.get(&window).map(|open| open.order) {
                Some(Order::Pages { pages, left, .. }) => {
                    cpu.windows.page_at(window, index).is_some_and(|page| left >> (page - pages.first) & 1 != 0)
                }
                _ => index < pages,
            };
            for index in 0..65_u32.max(pages + 1) {
                let at = layout::SWAP_WINDOW + window as u64 * WINDOW_BYTES + u64::from(index) * PAGE_SIZE;
                let leaf = cpu.components.list[rank].space.tables().walk(at);
                assert_eq!(leaf.is_some(), is_there(index), "page {index} of window {window}");
                let Some(leaf) = leaf else { continue };
                let open = open[&window];
                let (owner, _) = cpu.frames.owner_of(leaf.frame);
                assert_eq!(owner, Owner::VmMemory(open.vm.slot.number()), "page {index} of window {window}");
                assert_eq!(leaf.write, matches!(open.order, Order::Load { .. }), "page {index} of window {window}");
                assert!(vms.by_id(open.vm).is_some_and(|vm| vm.life.shared().contains(Devices::SWAP)));
            }
        }
    }

    /// Each endpoint of a VM is that of one which lives, and which knows it; and no other VM says that it has one.
    pub fn audit_callers(&mut self) {
        let mut owned = BTreeSet::new();
        for id in (0..MAX_ENDPOINTS).map(EndpointId::new) {
            let Kernel { vms, cpu, .. } = &mut self.kernel;
            let Some(Party::Vm(vm)) = cpu.endpoints.get(id).map(|endpoint| endpoint.party) else { continue };
            let control = vms.by_id(vm).filter(|vm| !vm.life.is_ending()).map(|vm| vm.control);
            assert_eq!(control, Some(id), "{vm} is gone, and its endpoint is not");
            owned.insert(vm);
        }
        for id in self.vms() {
            let control = self.kernel.vms.by_id(id).map_or(EndpointId::NONE, |vm| vm.control);
            assert_eq!(control != EndpointId::NONE, owned.contains(&id), "{id} and its endpoint");
        }
    }

    /// Everything.
    pub fn audit(&mut self) {
        self.audit_account();
        self.audit_lives();
        self.audit_tenants();
        self.audit_callers();
        self.audit_frames();
        self.audit_windows();
        self.audit_disk_windows();
        self.audit_swap_windows();
        self.audit_knowledge();
    }
}
