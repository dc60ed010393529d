//! What fake components know and answer, by role.

use super::swap_role::Swap;
use abi::attachment::Attachment;
use abi::component::{ERROR_MIN, bits, kicks, syscall};
use abi::control::{ControlReply, ControlRequest};
use abi::disk::{DiskReply, DiskRequest};
use abi::disk_service::{DiskCommand, DiskEvent, no_disk};
use abi::guest::pending;
use abi::limits::Name;
use abi::message::Message;
use abi::net::{NetCommand, NetEvent};
use abi::pager::{Access, PagerCommand, PagerEvent, Stays, THEN_RESUME};
use abi::sched::{Admission, Room, SchedCommand, SchedEvent};
use abi::swap::SwapEvent;
use abi::vm::{ImageId, Seat, VmId};
use ring::SharedMemory;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Entries of the plan that are ahead of the core at most.
pub const PLAN_DEPTH: usize = 16;
/// Turns ahead of the plan that it allows in a row, and ticks that a VM that has idled may run ahead, where it allows any.
pub const IN_ROW: u32 = 3;
const AHEAD: u64 = 15_000;
/// Frames that the gatekeeper keeps free.
const RESERVE: u64 = 8;
/// Slots that netmux wakes at one interrupt of the NIC.
const WAKES: usize = 4;

pub enum Role {
    Swap(Swap),
    Net(Net),
    Pager(Pager),
    Sched(Sched),
    Monitor(Monitor),
    Disk(Disk),
}

/// The demultiplexer: who is attached.
#[derive(Default)]
pub struct Net {
    pub attached: BTreeMap<VmId, Seat>,
    /// VMs that are out.
    pub out: BTreeSet<VmId>,
    /// What tenants may send, by account, and the accounts of VMs.
    pub rates: BTreeMap<u32, u32>,
    pub accounts: BTreeMap<VmId, u32>,
    /// It has said of VMs what is not so: what it knows is not what the core believes.
    pub lied: bool,
    /// VMs that were to leave.
    leaves: u32,
    /// Whoever is woken next at an interrupt.
    turn: usize,
}

/// The striper: who is attached, with what.
#[derive(Default)]
pub struct Disk {
    pub attached: BTreeMap<VmId, (Seat, Attachment, bool)>,
    /// VMs that are out, and the virtual disks that they have.
    pub out: BTreeMap<VmId, Name>,
    /// It has said of VMs what is not so: what it knows is not what the core believes.
    pub lied: bool,
    /// VMs that were to leave.
    leaves: u32,
    /// It has been told of all that were there before.
    pub told: bool,
    /// It lets go of nobody, and answers no question.
    pub withholds: bool,
    /// The ids of questions that it was asked.
    pub asked: Vec<u32>,
}

/// The pager: the images' segments, and the VMs.
#[derive(Default)]
pub struct Pager {
    /// Image, first page, pages from the file.
    pub segments: Vec<(ImageId, u32, u32)>,
    pub vms: BTreeMap<VmId, (ImageId, Seat)>,
    /// Faults of VMs that it does not know.
    pub surprises: u32,
    /// Since when VMs idle, by seat.
    pub idles: Option<SharedMemory>,
    /// It chooses this one of those that it knows to go out.
    pub out: Option<u8>,
    /// It looks at these pages of this one of them, or chooses them to go out.
    pub pages: Option<(u8, bool, u64)>,
    /// What it was told of them: first page, those that are gone, or are there and were used.
    pub looked: Vec<(VmId, u32, u64, u64)>,
    pub gone: Vec<(VmId, u32, u64)>,
    pub came: Vec<(VmId, u32)>,
    /// What the core has said that stays, and why.
    pub stays: Vec<(VmId, Stays)>,
    /// What was wanted last.
    pub wanted: Option<(u64, u32)>,
    /// It chooses nobody by itself.
    pub lazy: bool,
}

/// The scheduler: who waits for admission, and who can run.
#[derive(Default)]
pub struct Sched {
    pub waiting: Vec<(VmId, u64)>,
    pub ready: VecDeque<VmId>,
    promised: BTreeMap<VmId, u64>,
    room: Room,
    /// It admits nobody, or plans nothing.
    pub lazy: bool,
    /// It keeps this one of those that it knows back, until its next plan.
    pub hold: Option<u8>,
    /// VMs that wake may go ahead of the plan.
    pub ahead: bool,
    /// It has laid that down.
    ruled: bool,
    /// Those that may from now on.
    allow: Vec<VmId>,
    /// Plans published since its start.
    pub plans: u64,
    /// How it was told to admit; it has one way only.
    pub admission: Admission,
}

/// The operator: what it asks, and what it was answered.
#[derive(Default)]
pub struct Monitor {
    pub requests: VecDeque<ControlRequest>,
    pub replies: Vec<ControlReply>,
    /// The id of each reply.
    pub ids: Vec<u32>,
    /// The id of its last request, and the one before its first.
    pub asked: u32,
    pub before: u32,
}

impl Role {
    /// It starts from its module.
    pub fn forget(&mut self) {
        match self {
            Role::Net(net) => *net = Net::default(),
            Role::Disk(disk) => *disk = Disk { withholds: disk.withholds, ..Disk::default() },
            Role::Pager(pager) => {
                let idles = pager.idles.take();
                *pager = Pager { surprises: pager.surprises, idles, lazy: pager.lazy, ..Pager::default() };
            }
            Role::Swap(swap) => swap.known.clear(),
            Role::Sched(sched) => *sched = Sched { lazy: sched.lazy, ahead: sched.ahead, ..Sched::default() },
            // The operator is outside of the machine.
            Role::Monitor(_) => {}
        }
    }

    /// A wait is over, or a call has returned.
    pub fn woken(&mut self, result: u64, kicks: Option<&SharedMemory>, calls: &mut VecDeque<[u64; 4]>) {
        // Results of other calls have none of these bits, or are errors.
        if result >= ERROR_MIN {
            return;
        }
        if result & (bits::PORT_IRQ | 1 << bits::IRQ_SHIFT) != 0 {
            calls.push_back([syscall::IRQ_ACK, 0, 0, 0]);
        }
        if let Role::Net(net) = self {
            if result & 1 << bits::IRQ_SHIFT != 0 {
                net.raise_some(calls);
            }
            if let (Some(kicks), true) = (kicks, result & bits::KICK != 0) {
                net.take_kicks(kicks, calls);
            }
        }
    }

    /// A message from the core.
    pub fn told(&mut self, message: &Message, answers: &mut VecDeque<Message>) {
        match self {
            Role::Swap(swap) => swap.told(SwapEvent::try_from(message).expect("the core speaks well"), answers),
            Role::Net(net) => net.told(NetEvent::try_from(message).expect("the core speaks well"), answers),
            Role::Disk(disk) => match DiskRequest::try_from(message) {
                Ok(DiskRequest::Entry { index }) => {
                    disk.asked.push(message.id);
                    let reply = DiskReply::DiskLoad { index, queue: 1, p50_us: 2, p99_us: 3 };
                    answers.extend((!disk.withholds).then(|| Message { id: message.id, ..reply.into() }));
                }
                Ok(DiskRequest::Read { .. } | DiskRequest::Snapshot { .. } | DiskRequest::Remove { .. }) => {
                    disk.asked.push(message.id);
                    answers.push_back(Message { id: message.id, ..DiskReply::None.into() });
                }
                _ => disk.told(DiskEvent::try_from(message).expect("the core speaks well"), answers),
            },
            Role::Pager(pager) => pager.told(PagerEvent::try_from(message).expect("the core speaks well"), answers),
            Role::Sched(sched) => sched.told(SchedEvent::try_from(message).expect("the core speaks well")),
            Role::Monitor(monitor) => {
                // What it says when it lies has no id.
                let asked = message.id == 0 || (monitor.before + 1..=monitor.asked).contains(&message.id);
                assert!(asked, "an answer to what somebody else has asked: {message:?}");
                monitor.ids.push(message.id);
                monitor.replies.push(ControlReply::try_from(message).expect("the core speaks well"));
            }
        }
    }

    /// What it says by itself, when `outstanding` of its messages are still in the ring.
    pub fn plan(&mut self, unsent: &mut VecDeque<Message>, outstanding: u32) {
        match self {
            Role::Sched(sched) => sched.plan(unsent, outstanding),
            Role::Monitor(monitor) => unsent.extend(monitor.requests.drain(..).map(|request| {
                monitor.asked += 1;
                Message { id: monitor.asked, ..Message::from(request) }
            })),
            Role::Pager(pager) => {
                let all: Vec<_> = pager.vms.keys().copied().collect();
                if let Some(number) = pager.out.take().filter(|_| !all.is_empty()) {
                    unsent.push_back(PagerCommand::Out { vm: all[usize::from(number) % all.len()] }.into());
                }
                if let Some((number, away, pages)) = pager.pages.take().filter(|_| !all.is_empty()) {
                    let vm = all[usize::from(number) % all.len()];
                    let look = PagerCommand::Look { vm, page: 0, pages };
                    unsent.push_back(if away { PagerCommand::Away { vm, page: 0, pages } } else { look }.into());
                }
            }
            Role::Net(_) | Role::Swap(_) | Role::Disk(_) => {}
        }
    }
}

impl Disk {
    fn told(&mut self, event: DiskEvent, answers: &mut VecDeque<Message>) {
        match event {
            DiskEvent::Hello => assert!(self.attached.is_empty() && !self.told, "greeted in the middle"),
            DiskEvent::Told => assert!(!core::mem::replace(&mut self.told, true), "once"),
            DiskEvent::Attach { disk, vm, .. } if disk.as_str() == "missing" => {
                answers.push_back(DiskCommand::Refused { vm, why: no_disk::NO_SUCH_DISK }.into());
            }
            DiskEvent::Attach { vm, seat, disk, mode, rate, again, .. } => {
                let attachment = Attachment { disk, mode, rate };
                let was_out = self.out.remove(&vm);
                assert!(was_out.is_none_or(|had| had == disk && again), "{vm} comes back with another disk");
                let was = self.attached.insert(vm, (seat, attachment, again));
                assert!(was.is_none() || self.lied, "{vm} is attached twice");
            }
            DiskEvent::Leave { vm, seat } => {
                let found = self.attached.get(&vm).copied();
                assert!(found.is_some_and(|(at, ..)| at == seat) || self.lied, "{vm} is to leave and is not attached");
                self.leaves += 1;
                if self.leaves.is_multiple_of(4) {
                    // A request of it is under way.
                    return answers.push_back(DiskCommand::Stays { vm }.into());
                }
                if let Some((_, Attachment { disk, .. }, _)) = self.attached.remove(&vm) {
                    self.out.insert(vm, disk);
                }
                if !self.withholds {
                    answers.push_back(DiskCommand::Left { vm }.into());
                }
            }
            DiskEvent::Out { vm, disk, .. } => {
                assert!(!self.attached.contains_key(&vm) || self.lied, "{vm} is out");
                self.out.insert(vm, disk);
            }
            DiskEvent::Gone { vm, disk } => {
                let had = self.out.remove(&vm);
                assert!(had.is_none_or(|had| had == disk), "{vm} had another disk");
            }
            DiskEvent::Detach { vm, seat } => {
                let found = self.attached.remove(&vm).map(|(seat, ..)| seat);
                // It may have left a moment before.
                assert!(
                    found == Some(seat) || self.out.contains_key(&vm) || self.lied,
                    "{vm} is detached that was not attached"
                );
                if !self.withholds {
                    answers.push_back(DiskCommand::Detached { vm }.into());
                }
            }
        }
    }
}

impl Net {
    fn told(&mut self, event: NetEvent, answers: &mut VecDeque<Message>) {
        match event {
            NetEvent::Hello => {
                self.attached.clear();
                self.out.clear();
                self.rates.clear();
            }
            NetEvent::Out { vm, ipv4, .. } => {
                assert!(ipv4 != 0 && (self.lied || !self.attached.contains_key(&vm)), "{vm} is out");
                self.attached.remove(&vm);
                self.out.insert(vm);
            }
            NetEvent::Leave { vm, seat, .. } => {
                let has = self.attached.get(&vm) == Some(&seat);
                assert!(has || self.lied, "{vm} is to leave and is not attached");
                self.leaves += 1;
                if self.leaves.is_multiple_of(4) {
                    // Something lies in its rings.
                    return answers.push_back(NetCommand::Stays { vm }.into());
                }
                self.attached.remove(&vm);
                self.out.insert(vm);
                answers.push_back(NetCommand::Detached { vm }.into());
            }
            NetEvent::Gone { vm } => _ = self.out.remove(&vm),
            NetEvent::Rate { account, rate } => _ = self.rates.insert(account, rate),
            NetEvent::Attach { vm, seat, account, rate, .. } => {
                self.rates.insert(account, rate);
                self.accounts.insert(vm, account);
                self.out.remove(&vm);
                let was = self.attached.insert(vm, seat);
                assert!(was.is_none() || self.lied, "{vm} is attached twice");
            }
            NetEvent::Address { vm, seat, .. } => {
                let has = self.attached.get(&vm) == Some(&seat);
                assert!(has || self.lied, "{vm} has another address and is not attached");
            }
            NetEvent::Detach { vm, seat } => {
                let was = self.attached.remove(&vm);
                // It may have left a moment before.
                assert!(
                    was == Some(seat) || self.out.remove(&vm) || self.lied,
                    "{vm} is detached that was not attached"
                );
                answers.push_back(NetCommand::Detached { vm }.into());
            }
        }
    }

    fn raise_some(&mut self, calls: &mut VecDeque<[u64; 4]>) {
        let attached: Vec<_> = self.attached.keys().copied().collect();
        for i in 0..WAKES.min(attached.len()) {
            let vm = attached[(self.turn + i) % attached.len()];
            // A frame for it: into a ring's page, of which the other one is not needed any more.
            let (page, other) = if (self.turn / WAKES + i).is_multiple_of(2) { (1, 2) } else { (2, 1) };
            calls.push_back([syscall::RING_PAGE, vm.raw(), page, 0]);
            calls.push_back([syscall::RING_RETURN, vm.raw(), 1 << other, 0]);
            calls.push_back([syscall::RAISE, vm.raw(), pending::NIC, 0]);
        }
        // And one for somebody who is out, as long as he does not come.
        let door = (self.turn / WAKES).checked_rem(self.out.len());
        if let Some(vm) = door.and_then(|door| self.out.iter().nth(door)) {
            calls.push_back([syscall::RAISE, vm.raw(), pending::NIC, 0]);
        }
        self.turn += WAKES;
    }

    /// Those whose bits are set on every level, as a component finds them.
    fn take_kicks(&self, memory: &SharedMemory, calls: &mut VecDeque<[u64; 4]>) {
        let words: Vec<_> = (0..memory.len() / 8)
            .map(|word| {
                let bits = memory.load64(word * 8).expect("a word");
                memory.store64(word * 8, 0).expect("a word");
                bits
            })
            .collect();
        let is_set = |from: usize, bit: usize| words[from / 8 + bit / 64] >> (bit % 64) & 1 != 0;
        for (vm, seat) in &self.attached {
            let seat = seat.index();
            let levels = [(kicks::SEATS, seat), (kicks::MIDDLE, seat / 64), (kicks::TOP, seat / 4096)];
            let set = levels.map(|(from, bit)| is_set(from, bit));
            assert!(!set[0] || set == [true; 3], "a kick that nobody finds");
            if set[0] {
                calls.push_back([syscall::RAISE, vm.raw(), pending::NIC, 0]);
            }
        }
    }
}

impl Pager {
    fn told(&mut self, event: PagerEvent, answers: &mut VecDeque<Message>) {
        match event {
            PagerEvent::Hello { .. } => {
                self.segments.clear();
                self.vms.clear();
            }
            PagerEvent::Segment { image, first_page, file_pages, .. } => {
                self.segments.push((image, first_page, file_pages));
            }
            PagerEvent::ImageGone { image } => self.segments.retain(|(of, ..)| *of != image),
            PagerEvent::VmStarted { vm, seat, image, reserve, .. } => {
                assert!(reserve > 0, "{vm}");
                self.vms.insert(vm, (image, seat));
            }
            PagerEvent::VmEnded { vm, .. } => {
                self.vms.remove(&vm);
            }
            PagerEvent::Fault { vm, page, access, present, .. } => {
                let Some(&(image, _)) = self.vms.get(&vm) else {
                    self.surprises += 1;
                    return;
                };
                answers.extend(self.serve(image, vm, page, access, present));
            }
            PagerEvent::OutOfFrames { vm, page, .. } if page.is_multiple_of(3) => {
                answers.push_back(PagerCommand::Refuse { vm, page }.into());
            }
            // The others may wait.
            PagerEvent::OutOfFrames { .. } => {}
            PagerEvent::Room { frames, seats } => {
                assert!(frames != 0 || seats != 0, "nothing is wanted");
                self.wanted = Some((frames, seats));
                answers.extend(self.choose().map(|vm| Message::from(PagerCommand::Out { vm })));
            }
            PagerEvent::Stays { vm, why, .. } => self.stays.push((vm, why)),
            PagerEvent::Looked { vm, page, used, there, .. } => {
                assert_eq!(used & !there, 0, "{vm} uses pages that are not there");
                self.looked.push((vm, page, used, there));
            }
            PagerEvent::Gone { vm, page, gone, .. } => self.gone.push((vm, page, gone)),
            PagerEvent::Came { vm, page, .. } => self.came.push((vm, page)),
        }
    }

    /// The one that idles longest, of those that can go out at all.
    fn choose(&self) -> Option<VmId> {
        let idles = self.idles.as_ref().filter(|_| !self.lazy)?;
        let never: BTreeSet<_> = self.stays.iter().filter(|(_, why)| *why == Stays::Never).map(|(vm, _)| *vm).collect();
        let since = |seat: &Seat| idles.load64(seat.index() * 8).expect("a seat");
        let idle = self
            .vms
            .iter()
            .map(|(vm, (_, seat))| (since(seat), *vm))
            .filter(|(since, vm)| *since != 0 && !never.contains(vm));
        idle.min().map(|(_, vm)| vm)
    }

    fn serve(&self, image: ImageId, vm: VmId, page: u32, access: Access, present: bool) -> Vec<Message> {
        let in_file =
            |&&(of, first, pages): &&(ImageId, u32, u32)| of == image && page >= first && page - first < pages;
        let command = match (self.segments.iter().find(in_file), access) {
            (Some(_), Access::Write) => PagerCommand::CopyImage { vm, page },
            (Some(_), _) => PagerCommand::MapImage { vm, page, count: 1 },
            // A page that is there and may not be touched in this way will never be.
            (None, _) if present => PagerCommand::Refuse { vm, page },
            (None, _) => PagerCommand::MapZero { vm, page, count: 1 },
        };
        let mut message = Message::from(command);
        if page.is_multiple_of(2) && !matches!(command, PagerCommand::Refuse { .. }) {
            message.id = THEN_RESUME;
            return vec![message];
        }
        vec![message, PagerCommand::Resume { vm }.into()]
    }
}

impl Sched {
    /// Those that it has admitted and that the core has not said to be ready yet.
    pub fn admitting(&self) -> impl Iterator<Item = VmId> {
        self.promised.keys().copied()
    }

    fn told(&mut self, event: SchedEvent) {
        match event {
            SchedEvent::Hello { room, admission, .. } => {
                *self = Sched { room, admission, lazy: self.lazy, ahead: self.ahead, ..Sched::default() }
            }
            SchedEvent::Arrived { vm, frames, room, .. } => {
                self.room = room;
                if !self.waiting.iter().any(|(other, _)| *other == vm) {
                    self.waiting.push((vm, frames));
                }
            }
            SchedEvent::Ready { vm, .. } => {
                if let Some(frames) = self.promised.remove(&vm) {
                    self.room.frames = self.room.frames.saturating_sub(frames);
                    self.room.seats = self.room.seats.saturating_sub(1);
                }
                self.waiting.retain(|(other, _)| *other != vm);
                if !self.ready.contains(&vm) {
                    self.ready.push_back(vm);
                }
            }
            SchedEvent::Room { room } => self.room = room,
            SchedEvent::Gatekeeper { admission } => self.admission = admission,
            SchedEvent::Later { vm } => {
                if let Some(at) = self.waiting.iter().position(|(other, _)| *other == vm) {
                    self.waiting[at..].rotate_left(1);
                }
            }
            SchedEvent::Blocked { vm, idle, .. } => {
                self.ready.retain(|other| *other != vm);
                if idle && self.ahead && self.allow.len() < PLAN_DEPTH {
                    self.allow.push(vm);
                }
            }
            SchedEvent::Ended { vm, room, .. } => {
                self.room = room;
                self.promised.remove(&vm);
                self.waiting.retain(|(other, _)| *other != vm);
                self.ready.retain(|other| *other != vm);
            }
        }
    }

    fn plan(&mut self, unsent: &mut VecDeque<Message>, outstanding: u32) {
        if self.lazy {
            return;
        }
        if let Some(number) = self.hold.take() {
            let known: Vec<_> = self.waiting.iter().map(|(vm, _)| *vm).chain(self.ready.iter().copied()).collect();
            if !known.is_empty() {
                unsent.push_back(SchedCommand::Hold { vm: known[usize::from(number) % known.len()] }.into());
            }
        }
        while let Some(&(vm, frames)) = self.waiting.first() {
            let promised: u64 = self.promised.values().sum();
            let seated = self.promised.len() < self.room.seats as usize;
            if promised + frames + RESERVE > self.room.frames || !seated {
                break;
            }
            self.waiting.remove(0);
            self.promised.insert(vm, frames);
            unsent.push_back(SchedCommand::Admit { vm }.into());
        }
        if self.ahead && !core::mem::replace(&mut self.ruled, true) {
            unsent.push_back(SchedCommand::Rules { most_in_row: IN_ROW, preempts: true, slice_ticks: 5_000 }.into());
        }
        let ahead = outstanding as usize + unsent.len();
        if outstanding == 0 {
            let allowed = self.allow.drain(..).map(|vm| Message::from(SchedCommand::Allow { vm, ticks: AHEAD }));
            unsent.extend(allowed);
        }
        if ahead == 0 && !self.ready.is_empty() {
            self.plans += 1;
        }
        for _ in ahead..PLAN_DEPTH.min(self.ready.len()) {
            let vm = self.ready.pop_front().expect("as many as are planned");
            self.ready.push_back(vm);
            unsent.push_back(SchedCommand::Run { vm, quantum_ticks: 20_000 }.into());
        }
    }
}
