//! Histories of the machine, drawn at random: guests that do anything, components that go wrong at any message, operators,
//! interrupts, stolen frames, time. After every event everything must hold that [`super::audit`] asks for; when all is well
//! again, the machine comes to rest with every VM that did no wrong.

use super::board::{NIC_GSI, SERIAL_GSI, vector};
use super::component::{Due, Misdeed};
use super::machine::{ELSEWHERE, GUEST_PAGES, IMAGE_PAGE, Machine, Places, REFUSED, WITH_NIC, WITHOUT_NIC};
use super::readiness::Readiness;
use super::roles::Role as FakeRole;
use crate::component::{Death, EndpointId, MAX_ENDPOINTS, Party};
use crate::memory::{Owner, PhysAddr, core_memory};
use crate::vm::State;
use abi::attachment::Attachment;
use abi::claim::Claim;
use abi::control::ControlRequest;
use abi::flow::Flow;
use abi::guest::{REGISTER_PAGE, hypercall, pending};
use abi::guest_control::{ANSWERS, CONTROL_PAGE, REQUEST_SLOTS, REQUESTS};
use abi::pager::Access;
use abi::quota::Quota;
use abi::ring::{HEAD, HEADER_BYTES, SLOT_BYTES, TAIL};
use abi::service::Service;
use abi::tenant::Tenant;
use abi::vm::{ImageId, Slot, VmId};
use backend::fake::Step;
use core::mem::offset_of;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// VMs that live at once at most.
const VMS: usize = 64;
/// Every so-manieth slot has a hostile guest.
const HOSTILE: u32 = 3;
/// Turns of the loop in which a machine that is left alone comes to rest.
const REST: usize = 60_000;

#[derive(Clone, Debug)]
pub enum Event {
    /// So many turns of the loop.
    Turns(u8),
    /// A hostile guest will do this.
    Guest(Step),
    /// A VM is created from an image, with this claim on memory.
    Create(ImageId, Claim),
    /// A tenant may have so many VMs, which may hold so many frames, from now on.
    Quota(usize, Quota),
    /// So many of its VMs may come in in a second from now on, which may send so many bytes, 0 for any number.
    Flow(usize, u32, u32),
    /// The VM of this number among the living is destroyed.
    Destroy(u8),
    /// The same for the wish that it may end itself.
    Shutdown(u8),
    /// The same for another identity.
    Identity(u8),
    /// The operator asks something.
    Ask(u16),
    /// A component of this rank is killed.
    Kill(u8),
    /// A component of this rank goes wrong.
    Wrong(u8, Due),
    /// The operator replaces the policy of the component of this rank by that of this number.
    Swap(u8, u8),
    /// From now on the second policy of the component of this rank goes wrong after each start.
    Flaw(u8, Due),
    /// The scheduler keeps a VM back.
    Hold(u8),
    /// The pager chooses a VM to go out.
    Out(u8),
    /// It chooses pages of one, or looks at them.
    Pages(u8, bool, u64),
    /// Of the VMs that control the machine the one of this number writes a message into its ring, and this word as an index of it,
    /// and rings.
    Call(u8, u32, [u64; 4], Option<(bool, u64)>),
    /// The NIC interrupts.
    Nic,
    /// So many ticks pass.
    Time(u32),
    /// So many frames are taken away, or given back.
    Squeeze(u16),
    Relax,
    /// A processor will be refused.
    Refuse,
    Nmi,
}

fn page() -> impl Strategy<Value = u32> {
    prop_oneof![
        // The image, the heap, what is shared, and beyond.
        4 => IMAGE_PAGE..IMAGE_PAGE + 6,
        3 => IMAGE_PAGE..IMAGE_PAGE + 28,
        1 => 0_u32..8,
        1 => GUEST_PAGES - 1..GUEST_PAGES + 2,
    ]
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![Just(Access::Read), Just(Access::Write), Just(Access::Execute)]
}

/// A word that a guest or a component might say: small, a time, a VM, or anything.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => 0_u64..8,
        2 => (0_u64..80, 1_u64..3).prop_map(|(slot, incarnation)| incarnation << 16 | slot),
        1 => (0_u64..3_000_000_000).prop_map(|ticks| super::machine::HZ + ticks),
        1 => Just(u64::MAX),
        1 => any::<u64>(),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let field = prop_oneof![
        Just(offset_of!(abi::guest::RegisterPage, upcall_entry)),
        Just(offset_of!(abi::guest::RegisterPage, fault_entry)),
        Just(offset_of!(abi::guest::RegisterPage, enabled)),
        Just(offset_of!(abi::guest::RegisterPage, upcalls_on)),
        Just(offset_of!(abi::guest::RegisterPage, pending)),
        Just(offset_of!(abi::guest::RegisterPage, upcall)),
        Just(offset_of!(abi::guest::RegisterPage, fault)),
        0_usize..512,
    ];
    prop_oneof![
        8 => (page(), access()).prop_map(|(page, access)| Step::Touch { page, access }),
        3 => (1_u64..60_000).prop_map(Step::Compute),
        3 => (field, word()).prop_map(|(at, value)| Step::Poke { address: REGISTER_PAGE + at as u64 * if at < 512 { 1 } else { 8 }, value }),
        6 => (0_u64..9, word(), word()).prop_map(|(number, a, b)| Step::Hypercall { number, a, b }),
        2 => (page(), 0_u64..5).prop_map(|(page, count)| {
            Step::Hypercall { number: hypercall::GIVE_BACK, a: page.into(), b: count }
        }),
        2 => Just(Step::Hypercall { number: hypercall::IDLE, a: 1, b: 0 }),
        1 => Just(Step::Halt),
        1 => (0_u8..32).prop_map(|vector| Step::Exception { vector }),
        1 => (1_u32..9).prop_map(|class| Step::Refused { class }),
        1 => prop_oneof![
            Just(Step::TripleFault),
            Just(Step::EntryFailure),
            Just(Step::Unknown),
            Just(Step::Nmi),
            Just(Step::MachineCheck),
            Just(Step::Served)
        ],
    ]
}

fn kind() -> impl Strategy<Value = u32> {
    prop_oneof![
        0x101_u32..0x119,
        0x201_u32..0x214,
        0x301_u32..0x315,
        0x401_u32..0x418,
        0x711_u32..0x715,
        0x811_u32..0x815,
        any::<u32>()
    ]
}

/// Whether it is the index of the requests, and what stands there instead; mostly nothing does.
fn lie() -> impl Strategy<Value = Option<(bool, u64)>> {
    prop_oneof![6 => Just(None), 1 => (any::<bool>(), word()).prop_map(Some)]
}

/// Everything that a component can do wrong. Without lies: only what ends with its death.
fn misdeed(lies: bool) -> BoxedStrategy<Misdeed> {
    let deaths = prop_oneof![3 => Just(Misdeed::Fault), 1 => Just(Misdeed::Exit), 1 => Just(Misdeed::Spin), 1 => Just(Misdeed::SpinPast), 1 => Just(Misdeed::Sleep), 1 => Just(Misdeed::Ignore)];
    if !lies {
        return deaths.boxed();
    }
    prop_oneof![
        2 => deaths,
        4 => (kind(), word(), word(), word()).prop_map(|(kind, a, b, c)| Misdeed::Lie(kind, [a, b, c])),
        1 => any::<u64>().prop_map(Misdeed::Corrupt),
        2 => (0_u64..10, word(), word(), word()).prop_map(|(number, a, b, c)| Misdeed::Ask([number, a, b, c])),
    ]
    .boxed()
}

fn due(lies: bool) -> impl Strategy<Value = Due> {
    (0_u32..12, misdeed(lies)).prop_map(|(after, what)| Due { after, what })
}

/// Of a component. Where there are no twins, there are six of them.
fn rank() -> impl Strategy<Value = u8> {
    prop_oneof![2 => 0_u8..6, 1 => 6_u8..8]
}

/// What a creator says of a VM's memory: mostly nothing, sometimes what is refused. Nobody says less than its guest takes while it does no
/// wrong, and all of them together not more than there is, or one would wait for ever and the machine never rest.
fn claim() -> impl Strategy<Value = Claim> {
    prop_oneof![
        6 => Just(Claim::UNSAID),
        2 => (12_u32..20).prop_map(|reserve| Claim { reserve, limit: 0 }),
        1 => (100_u32..300).prop_map(|limit| Claim { reserve: 0, limit }),
        1 => (0_u32..20, 100_u32..400).prop_map(|(reserve, limit)| Claim { reserve, limit }),
        1 => (301_u32..400).prop_map(|reserve| Claim { reserve, limit: 0 }),
    ]
}

/// One of three: nobody, as of most VMs, and two with names.
fn tenant(number: usize) -> Tenant {
    Tenant::new(["", "blue", "red"][number % 3]).unwrap_or_default()
}

fn quota() -> impl Strategy<Value = Quota> {
    let vms = prop_oneof![2 => 0_u32..8, 1 => Just(Quota::ANY_VMS)];
    let frames = prop_oneof![1 => 0_u64..3000, 1 => Just(Quota::ANY_FRAMES)];
    let pool = prop_oneof![1 => 0_u64..6000, 1 => Just(Quota::ANY_POOL)];
    (vms, frames, pool).prop_map(|(vms, frames, pool)| Quota { vms, frames, pool })
}

/// Events, with lies of components or without.
pub fn event(lies: bool) -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (1_u8..12).prop_map(Event::Turns),
        10 => step().prop_map(Event::Guest),
        4 => prop_oneof![4 => Just(WITH_NIC), 3 => Just(ELSEWHERE), 2 => Just(WITHOUT_NIC), 1 => Just(REFUSED)]
            .prop_flat_map(|image| claim().prop_map(move |claim| Event::Create(image, claim))),
        1 => (0_usize..3, quota()).prop_map(|(of, quota)| Event::Quota(of, quota)),
        1 => (0_usize..3, 0_u32..4, 0_u32..4).prop_map(|(of, wakes, rate)| Event::Flow(of, wakes, rate)),
        2 => any::<u8>().prop_map(Event::Destroy),
        1 => any::<u8>().prop_map(Event::Shutdown),
        1 => any::<u8>().prop_map(Event::Identity),
        1 => (0_u16..90).prop_map(Event::Ask),
        1 => rank().prop_map(Event::Kill),
        3 => (rank(), due(lies)).prop_map(|(rank, due)| Event::Wrong(rank, due)),
        2 => (0_u8..8, 0_u8..5).prop_map(|(rank, policy)| Event::Swap(rank, policy)),
        1 => (rank(), due(lies)).prop_map(|(rank, due)| Event::Flaw(rank, due)),
        2 => any::<u8>().prop_map(Event::Hold),
        6 => any::<u8>().prop_map(Event::Out),
        6 => (any::<u8>(), prop::bool::weighted(0.8), prop_oneof![Just(u64::MAX), any::<u64>()])
            .prop_map(|(vm, away, pages)| Event::Pages(vm, away, pages)),
        4 => (any::<u8>(), prop_oneof![3 => 0x401_u32..0x423, 1 => kind()], [word(), word(), word(), word()], lie())
            .prop_map(|(number, kind, words, lie)| Event::Call(number, kind, words, lie)),
        3 => Just(Event::Nic),
        2 => (1_u32..2_000_000).prop_map(Event::Time),
        1 => (0_u32..1_500_000_000).prop_map(Event::Time),
        1 => (1_u16..400).prop_map(Event::Squeeze),
        1 => Just(Event::Relax),
        1 => prop_oneof![Just(Event::Refuse), Just(Event::Nmi)],
    ]
}

/// A history in the making.
pub struct History<const TIMER: bool> {
    pub machine: Machine<TIMER>,
    /// Frames that were taken away.
    squeezed: Vec<PhysAddr>,
    /// VMs that may end: hostile ones, those that were destroyed or asked to end.
    doomed: BTreeSet<VmId>,
    /// All VMs that were seen alive, but for those that are gone.
    seen: BTreeSet<VmId>,
    /// Those of them that waited for admission.
    waited: BTreeSet<VmId>,
    /// Components may lie, or memory may be short: any VM may end.
    pub harsh: bool,
    /// Requests of controllers.
    asked: usize,
    /// Who is ready, and how many have had their turn meanwhile.
    readiness: Readiness,
    /// VMs that had ended because swap did not give them back, at the last look.
    damaged: u64,
}

impl<const TIMER: bool> History<TIMER> {
    pub fn new(ram_frames: usize, harsh: bool, twins: bool) -> Self {
        // More seats than VMs live at a time, those that controllers have still to ask for included, or nobody would come to rest.
        let places = Places { slots: ram_frames / 16, seats: (ram_frames / 16).min(2 * VMS) };
        let mut machine = match twins {
            true => Machine::with_twins(ram_frames, places),
            false => Machine::with_swap_and_disks(ram_frames, places),
        };
        // All of them read one virtual disk.
        if let Some(image) = machine.kernel.cpu.images.get_mut(WITH_NIC).filter(|_| !twins) {
            image.entry.disk = Attachment::parse("web:ro").expect("a name");
        }
        if !twins {
            let rank = machine.rank(abi::service::Service::Swap);
            if let super::roles::Role::Swap(swap) = &mut machine.hardware.borrow_mut().components[rank].role {
                swap.moves = 2;
            }
        }
        if harsh {
            // Who controls the machine may do anything to anybody.
            let image = machine.kernel.cpu.images.get_mut(WITHOUT_NIC).expect("it is there");
            image.entry.flags = abi::manifest::image_flags::CONTROL;
        }
        {
            let rank = machine.rank(Service::Plan);
            if let FakeRole::Sched(sched) = &mut machine.hardware.borrow_mut().components[rank].role {
                sched.ahead = true;
            }
        }
        // The first packet starts them.
        if let Some(image) = machine.kernel.cpu.images.get_mut(ELSEWHERE) {
            image.entry.flags = abi::manifest::image_flags::LAZY;
        }
        {
            let mut guests = machine.guests.borrow_mut();
            guests.hostile = HOSTILE;
            guests.calm = Some(calm());
        }
        History {
            machine,
            squeezed: Vec::new(),
            doomed: BTreeSet::new(),
            seen: BTreeSet::new(),
            waited: BTreeSet::new(),
            harsh,
            asked: 0,
            readiness: Readiness::default(),
            damaged: 0,
        }
    }

    /// The controllers take turns.
    fn ask(&mut self, request: ControlRequest) {
        let controllers = self.machine.parties(Service::Control);
        self.asked += 1;
        let endpoint = controllers[self.asked % controllers.len()];
        let rank = self.machine.kernel.cpu.endpoints.rank(endpoint).expect("a component");
        if let FakeRole::Monitor(monitor) = &mut self.machine.hardware.borrow_mut().components[rank].role {
            monitor.requests.push_back(request);
        }
        if rank == self.machine.rank(Service::Control) {
            self.interrupt(SERIAL_GSI);
        } else {
            self.machine.kernel.cpu.ring(endpoint);
            self.machine.hardware.borrow_mut().asleep = false;
        }
    }

    /// A VM that controls the machine asks something, or lies.
    fn call(&mut self, number: u8, kind: u32, words: [u64; 4], lie: Option<(bool, u64)>) {
        let crate::kernel::Kernel { vms, cpu, .. } = &mut self.machine.kernel;
        let callers: Vec<_> = (0..MAX_ENDPOINTS)
            .map(EndpointId::new)
            .filter_map(|id| match cpu.endpoints.get(id)?.party {
                Party::Vm(vm) => Some((id, vm)),
                Party::Component(_) => None,
            })
            .collect();
        let Some(&(id, vm)) = callers.get(usize::from(number) % callers.len().max(1)) else { return };
        let memory = vms.by_id(vm).and_then(|vm| vm.life.memory()).expect("it lives");
        let page = u32::try_from(CONTROL_PAGE / abi::limits::PAGE_SIZE).expect("small");
        let ring = core_memory(memory.frame(&mut cpu.frames, page).expect("it is there"), abi::limits::PAGE_SIZE);
        let tail = ring.load64(REQUESTS + TAIL).expect("in the page");
        let slot =
            REQUESTS + HEADER_BYTES + usize::try_from(tail % u64::from(REQUEST_SLOTS)).expect("few") * SLOT_BYTES;
        for (at, word) in (8..).step_by(8).zip(words) {
            ring.store64(slot + at, word).expect("in the page");
        }
        ring.store64(slot, u64::from(kind) | 1 << 32).expect("in the page");
        ring.store64(REQUESTS + TAIL, tail.wrapping_add(1)).expect("in the page");
        // It takes all answers that there are.
        let answered = ring.load64(ANSWERS + TAIL).expect("in the page");
        ring.store64(ANSWERS + HEAD, answered).expect("in the page");
        match lie {
            Some((true, word)) => ring.store64(REQUESTS + TAIL, word).expect("in the page"),
            Some((false, word)) => ring.store64(ANSWERS + HEAD, word).expect("in the page"),
            None => {}
        }
        cpu.call_of(id);
        self.machine.hardware.borrow_mut().asleep = false;
    }

    fn interrupt(&mut self, gsi: u32) {
        let masked = self.machine.hardware.borrow().masked.contains(&gsi);
        if !masked {
            self.machine.wires.raise(vector(gsi));
            self.machine.hardware.borrow_mut().asleep = false;
        }
    }

    fn pick(&mut self, number: u8) -> Option<VmId> {
        let vms = self.machine.vms();
        (!vms.is_empty()).then(|| vms[usize::from(number) % vms.len()])
    }

    /// As many VMs as may live at once.
    fn fill(&mut self) {
        for number in 0..4 * VMS {
            if self.machine.kernel.vms.living() >= VMS {
                return;
            }
            self.happen(&Event::Create([WITH_NIC, ELSEWHERE, WITHOUT_NIC][number % 3], Claim::UNSAID));
        }
        panic!("{} VMs live", self.machine.kernel.vms.living());
    }

    /// An operator does something about a VM, or asks.
    fn operate(&mut self, event: &Event) {
        match event {
            Event::Create(image, claim) => {
                let living = self.machine.kernel.vms.living();
                if living < VMS {
                    // Whatever lies in the page.
                    let args =
                        abi::request_page::Piece { offset: 4000, len: (living * 7 % 96).try_into().expect("few") };
                    let share = abi::share::Share::UNSAID;
                    self.ask(ControlRequest::Create {
                        image: *image,
                        slot: None,
                        ipv4: 7,
                        args,
                        share,
                        // Where memory is short, larger reserves would keep some waiting for ever.
                        claim: if self.harsh { Claim { reserve: 0, ..*claim } } else { *claim },
                        tenant: tenant((claim.reserve + claim.limit) as usize),
                        disk: abi::request_page::Piece::EMPTY,
                    });
                }
            }
            Event::Quota(of, quota) => {
                self.ask(ControlRequest::SetQuota { tenant: tenant(*of), quota: *quota, flow: Flow::UNCHANGED });
            }
            Event::Flow(of, wakes, rate) => {
                let found = self.machine.kernel.vms.tenants().get(tenant(*of));
                let quota = found.map_or(Quota::NONE, |(_, standing)| standing.quota);
                self.ask(ControlRequest::SetQuota {
                    tenant: tenant(*of),
                    quota,
                    flow: Flow { wakes: *wakes, rate: *rate },
                });
            }
            Event::Destroy(number) => {
                if let Some(vm) = self.pick(*number) {
                    self.doomed.insert(vm);
                    self.ask(ControlRequest::Destroy { vm });
                }
            }
            Event::Shutdown(number) => {
                if let Some(vm) = self.pick(*number) {
                    self.ask(ControlRequest::Shutdown { vm });
                }
            }
            Event::Identity(number) => {
                if let Some(vm) = self.pick(*number) {
                    let ipv4 = u32::from(*number & 1) * 0x0a00_0300;
                    let args = abi::request_page::Piece { offset: u16::from(*number) * 16, len: 32 };
                    self.ask(ControlRequest::Identity { vm, ipv4, args });
                }
            }
            Event::Ask(number) => {
                let index = number % 70;
                self.ask(match number % 8 {
                    0 => ControlRequest::Frames,
                    1 => ControlRequest::Vm { slot: Slot::new(index.into()) },
                    2 => ControlRequest::Component { index },
                    3 => ControlRequest::Image { image: ImageId::new(index.into()) },
                    4 => ControlRequest::Share { slot: Slot::new(index.into()) },
                    7 => ControlRequest::NextTenant { number: index.into() },
                    5 => ControlRequest::Policy { component: index % 5, policy: index / 5 },
                    _ => ControlRequest::Machine,
                });
            }
            _ => unreachable!("nothing that operators do"),
        }
    }

    pub fn happen(&mut self, event: &Event) {
        match event {
            Event::Turns(count) => self.turns(usize::from(*count)),
            Event::Guest(step) => self.machine.guests.borrow_mut().steps.push_back(*step),
            Event::Create(..)
            | Event::Quota(..)
            | Event::Flow(..)
            | Event::Destroy(_)
            | Event::Shutdown(_)
            | Event::Identity(_)
            | Event::Ask(_) => {
                self.operate(event);
            }
            Event::Kill(rank) => self.ask(ControlRequest::Kill { component: (*rank).into() }),
            Event::Wrong(rank, due) => {
                let components = &mut self.machine.hardware.borrow_mut().components;
                let number = usize::from(*rank) % components.len();
                components[number].due = Some(*due);
            }
            Event::Swap(rank, policy) => {
                self.ask(ControlRequest::Swap { component: (*rank).into(), policy: (*policy).into() });
            }
            Event::Flaw(rank, due) => {
                let components = &mut self.machine.hardware.borrow_mut().components;
                let number = usize::from(*rank) % components.len();
                components[number].flaw = Some(("other", *due));
            }
            Event::Hold(number) => {
                let rank = self.machine.rank(Service::Plan);
                if let FakeRole::Sched(sched) = &mut self.machine.hardware.borrow_mut().components[rank].role {
                    sched.hold = Some(*number);
                }
            }
            Event::Pages(number, away, pages) => {
                let pagers = self.machine.parties(Service::Pager);
                let endpoint = pagers[usize::from(*number) % pagers.len()];
                let rank = self.machine.kernel.cpu.endpoints.rank(endpoint).expect("a component");
                if let FakeRole::Pager(pager) = &mut self.machine.hardware.borrow_mut().components[rank].role {
                    pager.pages = Some((*number, *away, *pages));
                }
                self.machine.kernel.cpu.ring(endpoint);
                self.machine.hardware.borrow_mut().asleep = false;
            }
            Event::Out(number) => {
                let pagers = self.machine.parties(Service::Pager);
                let endpoint = pagers[usize::from(*number) % pagers.len()];
                let rank = self.machine.kernel.cpu.endpoints.rank(endpoint).expect("a component");
                if let FakeRole::Pager(pager) = &mut self.machine.hardware.borrow_mut().components[rank].role {
                    pager.out = Some(*number);
                }
                self.machine.kernel.cpu.ring(endpoint);
                self.machine.hardware.borrow_mut().asleep = false;
            }
            Event::Call(number, kind, words, lie) => self.call(*number, *kind, *words, *lie),
            Event::Nic => self.interrupt(NIC_GSI),
            Event::Time(ticks) => self.machine.wires.spend((*ticks).into()),
            Event::Squeeze(count) => {
                for _ in 0..*count {
                    self.squeezed.extend(self.machine.kernel.cpu.frames.alloc(Owner::Core, 0));
                }
            }
            Event::Relax => {
                for frame in self.squeezed.drain(..) {
                    self.machine.kernel.cpu.frames.free(frame, Owner::Core);
                }
            }
            Event::Refuse => {
                self.machine.kernel.cpu.backend.refuse += u32::from(self.harsh);
            }
            Event::Nmi => self.machine.hardware.borrow_mut().nmis += 1,
        }
        self.turns(2);
    }

    fn step(&mut self) {
        self.machine.step();
        // A scheduler that lies may name whom it likes.
        self.readiness.look(&mut self.machine, !self.harsh);
    }

    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.step();
            self.machine.audit_lives();
            self.machine.audit_knowledge();
            self.note_lives();
            if self.machine.is_asleep() {
                break;
            }
        }
    }

    /// No VM vanishes that had not ended, and none ends that did no wrong.
    fn note_lives(&mut self) {
        let now: BTreeSet<VmId> = self.machine.vms().into_iter().collect();
        let ended = core::mem::take(&mut self.machine.ended);
        let damaged = self.machine.kernel.cpu.swapped.damaged;
        let flawed = {
            let rank = self.machine.rank(Service::Swap);
            self.machine.hardware.borrow().components[rank].flaw.is_some()
        };
        // A policy that dies as often as that of everything that it is told of gives nobody back.
        let given_up = core::mem::replace(&mut self.damaged, damaged) != damaged && flawed;
        for id in &ended {
            let hostile = id.slot.number().is_multiple_of(HOSTILE);
            let excused = hostile || self.harsh || given_up;
            assert!(excused || self.doomed.contains(id), "{id} ends and has done no wrong");
        }
        self.doomed.extend(ended);
        for gone in self.seen.difference(&now) {
            // One that waited may have been admitted where no frame was left, and was gone in the same turn.
            let turned_away = self.harsh && self.waited.contains(gone);
            assert!(turned_away || self.doomed.contains(gone), "{gone} is lost");
        }
        self.waited = now.iter().copied().filter(|&vm| self.machine.waits(vm)).collect();
        self.doomed.retain(|id| now.contains(id));
        self.seen = now;
    }

    /// All is well from now on: the machine comes to rest, and who lives then can run, waits for nothing that does not come,
    /// and still answers.
    pub fn heal(&mut self) {
        self.happen(&Event::Relax);
        self.machine.kernel.cpu.backend.refuse = 0;
        {
            let mut guests = self.machine.guests.borrow_mut();
            (guests.hostile, guests.calm) = (0, Some(at_rest()));
        }
        self.machine.audit();
        for rank in 0..self.machine.kernel.cpu.components.list.len() {
            {
                let component = &mut self.machine.hardware.borrow_mut().components[rank];
                (component.due, component.flaw) = (None, None);
            }
            self.machine.kernel.cpu.condemn(rank, Death::Killed);
        }
        self.machine.hardware.borrow_mut().asleep = false;
        for _ in 0..REST {
            self.step();
            self.note_lives();
            if self.machine.is_asleep() {
                break;
            }
        }
        assert!(self.machine.is_asleep(), "the machine does not come to rest");
        self.machine.audit();
        let vms = self.machine.vms();
        for &id in &vms {
            // Nobody has asked for it.
            if self.machine.kernel.vms.out(id).is_some() {
                continue;
            }
            let state = self.machine.kernel.vms.by_id(id).map(|vm| vm.life.state());
            assert!(matches!(state, Some(State::Idle { .. })), "{id} is still {state:?} when all is done");
        }
        self.wakes_everybody(&vms);
    }

    /// Whoever idles, or is out, runs when something happens that it wants.
    fn wakes_everybody(&mut self, vms: &[VmId]) {
        let before = self.machine.guests.borrow().asked.clone();
        for &id in vms {
            if self.machine.kernel.vms.out(id).is_some() {
                for _ in 0..REST {
                    if self.machine.kernel.can_come_in(id) {
                        break;
                    }
                    self.machine.rouse();
                    self.machine.step();
                }
                assert!(self.machine.kernel.raise(id, pending::NIC), "{id} is out and cannot be called");
                continue;
            }
            let crate::kernel::Kernel { vms, cpu, .. } = &mut self.machine.kernel;
            let vm = vms.by_id(id).expect("it lives");
            if let Some(body) = vm.life.body() {
                body.registers.memory().store64(offset_of!(abi::guest::RegisterPage, enabled), u64::MAX);
            }
            cpu.raise(vm, pending::SHUTDOWN);
        }
        self.machine.hardware.borrow_mut().asleep = false;
        self.machine.settle(REST);
        for id in vms {
            let (was, is) =
                (before.get(&id.slot.number()), self.machine.guests.borrow().asked.get(&id.slot.number()).copied());
            // A hostile guest may have registered an upcall that ends it instead.
            let ended = id.slot.number().is_multiple_of(HOSTILE) && self.machine.ended.contains(id);
            assert!(ended || is.unwrap_or(0) > was.copied().unwrap_or(0), "{id} was woken and has not run");
        }
    }
}

/// Guests that do no wrong: they touch what they may, compute, idle, ring.
fn calm() -> Box<dyn FnMut(u32) -> Option<Step>> {
    let mut seed = 1_u64;
    Box::new(move |_| {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let dice = seed >> 33;
        let page = IMAGE_PAGE + u32::try_from(dice >> 8 & 7).expect("three bits");
        let call = |number, a| Step::Hypercall { number, a, b: 0 };
        Some(match dice % 12 {
            // The data pages may be written, the text may not.
            0..3 => Step::Touch { page: page.max(IMAGE_PAGE + 1), access: Access::Write },
            3 => Step::Touch { page, access: Access::Read },
            4 => Step::Touch { page: IMAGE_PAGE, access: Access::Execute },
            5..7 => Step::Compute(dice % 30_000),
            7 => Step::Poke {
                address: REGISTER_PAGE + offset_of!(abi::guest::RegisterPage, enabled) as u64,
                value: u64::MAX,
            },
            8 => call(hypercall::KICK, dice >> 4 & 3),
            9 => call(hypercall::IDLE, super::machine::HZ + (dice & 0xff_ffff)),
            10 => call(hypercall::IDLE, u64::MAX),
            _ => Step::Poke { address: REGISTER_PAGE + offset_of!(abi::guest::RegisterPage, pending) as u64, value: 0 },
        })
    })
}

/// Guests that take note of what is pending, and idle.
fn at_rest() -> Box<dyn FnMut(u32) -> Option<Step>> {
    let mut noted = BTreeSet::new();
    Box::new(move |slot| {
        if noted.remove(&slot) {
            return Some(Step::Hypercall { number: hypercall::IDLE, a: u64::MAX, b: 0 });
        }
        noted.insert(slot);
        Some(Step::Poke { address: REGISTER_PAGE + offset_of!(abi::guest::RegisterPage, pending) as u64, value: 0 })
    })
}

fn lived<const TIMER: bool>(events: &[Event], ram_frames: usize, harsh: bool, twins: bool, full: bool) {
    let mut history = History::<TIMER>::new(ram_frames, harsh, twins);
    if full {
        history.fill();
    }
    for (number, event) in events.iter().enumerate() {
        history.happen(event);
        if number % 16 == 0 {
            history.machine.audit();
        }
    }
    history.heal();
}

/// Frames that are plenty for all VMs, and so few that most wait or end.
const PLENTY: usize = 4096 + POOL + DISKS;
const FEW: usize = 900 + POOL + DISKS;
/// What swap takes of them.
const POOL: usize = 120;
/// What who serves disks takes of them, and disk pages of those that fit.
const DISKS: usize = 200;

/// A history is long: fewer of them than of other cases, unless the environment says how many.
fn config() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    config.max_shrink_iters = config.max_shrink_iters.min(500);
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 24;
    }
    config
}

/// Whether a history begins with as many VMs as may live at once, for all of which there is memory: these take the most time.
fn full() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.25)
}

fn no_squeeze(event: &Event) -> bool {
    !matches!(event, Event::Squeeze(_))
}

proptest! {
    #![proptest_config(config())]

    /// Components die at any message; memory is plenty: whoever did no wrong lives to the end.
    #[test]
    fn nobody_is_lost_when_components_die(events in prop::collection::vec(event(false).prop_filter("plenty", no_squeeze), 1000..1200), twins: bool, full in full()) {
        lived::<true>(&events, PLENTY, false, twins, full);
    }

    #[test]
    fn nobody_is_lost_without_a_quantum_timer(events in prop::collection::vec(event(false).prop_filter("plenty", no_squeeze), 1000..1200), twins: bool, full in full()) {
        lived::<false>(&events, PLENTY, false, twins, full);
    }

    /// Components lie, memory is short or VMs are many, processors are refused.
    #[test]
    fn nothing_breaks_when_all_goes_wrong(events in prop::collection::vec(event(true), 1000..1200), twins: bool, full in full()) {
        lived::<true>(&events, if full { PLENTY } else { FEW }, true, twins, full);
    }

    #[test]
    fn nothing_breaks_without_a_quantum_timer(events in prop::collection::vec(event(true), 1000..1200), twins: bool, full in full()) {
        lived::<false>(&events, if full { PLENTY } else { FEW }, true, twins, full);
    }
}
