//! What the controller asks for, and what it is answered.

mod tenants;
mod vms;

use super::board::{SERIAL_GSI, vector};
use super::component::{Due, Misdeed};
use super::guest::{FIRST, call, field, keep, poke};
use super::lines;
use super::machine::{GUEST_PAGES, HZ, IMAGE_PAGE, Machine, Places, REFUSED, WITH_NIC, WITHOUT_NIC};
use super::roles::Role as FakeRole;
use crate::kernel::Kernel;
use crate::memory::{CLASSES, Owner, OwnerClass, PhysAddr};
use crate::vm::{Seed, State};
use abi::claim::Claim;
use abi::claim::RESERVE_LEAST;
use abi::control::{ControlReply, ControlRequest, status, vm_state};
use abi::guest::{BOOT_ARGS, REGISTER_PAGE, hypercall, pending};
use abi::limits::{Name, PAGE_SIZE};
use abi::manifest::image_flags;
use abi::pager::Access;
use abi::request_page::Piece;
use abi::service::Service;
use abi::share::Share;
use abi::tenant::Tenant;
use abi::vcpu::VcpuState;
use abi::vm::{ImageId, Slot, VmId};
use backend::fake::Step;

/// A request for a VM without arguments, in whatever slot is next.
fn create(image: ImageId) -> ControlRequest {
    create_on(image, Claim::UNSAID)
}

/// The same with this claim on memory.
fn create_on(image: ImageId, claim: Claim) -> ControlRequest {
    let (args, share, tenant) = (Piece::EMPTY, Share::UNSAID, Tenant::UNSAID);
    ControlRequest::Create {
        image,
        slot: None,
        ipv4: 0,
        args,
        share,
        claim,
        tenant,
        disk: abi::request_page::Piece::EMPTY,
    }
}

impl Machine<true> {
    /// The operator asks this, and the machine comes to rest: what the operator was answered.
    pub(super) fn request(&mut self, request: ControlRequest) -> Vec<ControlReply> {
        let rank = self.rank(Service::Control);
        match &mut self.hardware.borrow_mut().components[rank].role {
            FakeRole::Monitor(monitor) => {
                (monitor.replies, monitor.ids) = (Vec::new(), Vec::new());
                monitor.requests.push_back(request);
            }
            _ => panic!("not the monitor"),
        }
        self.wires.raise(vector(SERIAL_GSI));
        self.rouse();
        self.settle(20_000);
        self.audit();
        match &self.hardware.borrow().components[rank].role {
            FakeRole::Monitor(monitor) => monitor.replies.clone(),
            _ => panic!("not the monitor"),
        }
    }

    /// The scheduler sleeps from now on, and its ring is full.
    fn fill_scheduler(&mut self) {
        let rank = self.rank(Service::Plan);
        self.hardware.borrow_mut().components[rank].due = Some(Due { after: 0, what: Misdeed::Sleep });
        let plan = self.kernel.cpu.endpoints.first(Service::Plan);
        while self.kernel.cpu.has_room(plan) {
            self.create(WITHOUT_NIC);
        }
    }

    /// The ids of the last replies.
    fn ids(&self) -> Vec<u32> {
        match &self.hardware.borrow().components[self.rank(Service::Control)].role {
            FakeRole::Monitor(monitor) => monitor.ids.clone(),
            _ => panic!("not the monitor"),
        }
    }

    /// What is said of the first VM.
    fn described(&mut self) -> (u16, [u32; 4]) {
        match self.request(ControlRequest::Vm { slot: Slot::new(0) })[..] {
            [ControlReply::Vm { vm: FIRST, image: WITHOUT_NIC, state, memory, metadata, tables, shared, .. }] => {
                (state, [memory, metadata, tables, shared])
            }
            ref other => panic!("{other:?}"),
        }
    }
}

#[test]
fn each_start_of_the_machine_is_another_one() {
    let boot = |machine: &mut Machine<true>| match machine.request(ControlRequest::Boot)[..] {
        [ControlReply::Boot { low, high }] => (low, high),
        ref other => panic!("{other:?}"),
    };
    let mut machine = Machine::<true>::new(1024);
    machine.settle(4000);
    let first = boot(&mut machine);
    machine.create(WITHOUT_NIC);
    machine.settle(20_000);
    assert_eq!(boot(&mut machine), first);
    assert!(first.0 != 0 && first.1 != 0 && first.0 != first.1);
}

#[test]
fn why_there_is_no_state_of_a_processor_is_said() {
    let (mut machine, _) = Machine::<true>::with_guest(WITHOUT_NIC, &[]);
    let piece = Piece { offset: 0, len: u16::try_from(size_of::<VcpuState>()).expect("small") };
    let done = |status| vec![ControlReply::Done { status, value: 0 }];
    let nobody = VmId::new(7, 1);
    assert_eq!(machine.request(ControlRequest::ReadState { vm: nobody, to: piece }), done(status::NOT_FOUND));
    let state = machine.lay(VcpuState::INITIAL.to_bytes());
    assert_eq!(machine.request(ControlRequest::WriteState { vm: nobody, from: state }), done(status::NOT_FOUND));
    let bad = VcpuState { rip: 1 << 47, ..VcpuState::INITIAL };
    let bad = machine.lay(bad.to_bytes());
    assert_eq!(machine.request(ControlRequest::WriteState { vm: FIRST, from: bad }), done(status::BAD_REQUEST));
    // One that the scheduler has not admitted yet.
    let rank = machine.rank(Service::Plan);
    if let FakeRole::Sched(sched) = &mut machine.hardware.borrow_mut().components[rank].role {
        sched.lazy = true;
    }
    let waits = machine.create(WITHOUT_NIC);
    assert_eq!(machine.request(ControlRequest::ReadState { vm: waits, to: piece }), done(status::NOT_ADMITTED));
}

#[test]
fn the_state_of_a_processor_is_read_into_a_piece_that_has_just_the_room() {
    let (mut machine, _) = Machine::<true>::with_guest(WITHOUT_NIC, &[]);
    let bytes = VcpuState::INITIAL.to_bytes().len();
    let piece = |len: usize| Piece { offset: 0, len: u16::try_from(len).expect("small") };
    let read = |machine: &mut Machine<true>, to| machine.request(ControlRequest::ReadState { vm: FIRST, to });
    assert_eq!(read(&mut machine, piece(bytes)), [done(status::OK, bytes as u64)]);
    assert_eq!(read(&mut machine, piece(bytes - 1)), [done(status::TOO_LONG, 0)]);
}

#[test]
fn who_asks_while_somebody_is_behind_with_its_ring_is_to_ask_again() {
    let identity = |vm| ControlRequest::Identity { vm, ipv4: 0, args: Piece::EMPTY };
    for ask in [|_| create(WITHOUT_NIC), |vm| ControlRequest::Destroy { vm }, identity] {
        let mut machine = at_rest();
        let vm = machine.create(WITHOUT_NIC);
        machine.rouse();
        machine.settle(1000);
        machine.fill_scheduler();
        assert_eq!(machine.request(ask(vm)), [done(status::BUSY, 0)]);
    }
}

#[test]
fn who_is_to_come_in_for_its_end_waits_until_the_scheduler_has_room() {
    let mut machine = at_rest();
    machine.kernel.cpu.images.get_mut(WITH_NIC).expect("it is there").entry.flags = image_flags::LAZY;
    let vm = machine.create(WITH_NIC);
    machine.rouse();
    machine.settle(1000);
    assert!(machine.kernel.vms.out(vm).is_some());
    machine.fill_scheduler();
    assert_eq!(machine.request(ControlRequest::Shutdown { vm }), [done(status::BUSY, 0)]);
    assert!(machine.kernel.vms.out(vm).is_some());
    assert_eq!(machine.request(ControlRequest::Shutdown { vm }), [done(status::OK, 0)]);
    assert!(machine.kernel.vms.out(vm).is_none());
}

#[test]
fn the_next_vm_is_found_and_the_search_is_bounded() {
    let mut machine = Machine::<true>::with_places(4096, Places { slots: 3000, seats: 8 });
    let vms: Vec<_> = (0..2500)
        .map(|_| {
            let Kernel { vms, .. } = &mut machine.kernel;
            let id = vms.next_id().expect("room");
            let seed = Seed {
                id,
                image: WITHOUT_NIC,
                ipv4: 0,
                share: Share::DEFAULT,
                claim: Claim::UNSAID,
                tenant: Tenant::UNSAID,
                disk: abi::attachment::Attachment::NONE,
                created_tsc: 0,
                stolen_ms: 0,
            };
            assert_eq!(vms.create(seed, b""), Ok(()));
            id
        })
        .collect();
    let ask = |machine: &mut Machine<true>, slot| machine.kernel.describe_next_vm(Slot::new(slot));
    // Whoever waits counts.
    for slot in [0, 1, 2499] {
        let found = ask(&mut machine, slot);
        assert!(matches!(found, ControlReply::Vm { vm, .. } if vm == vms[slot as usize]), "{found:?}");
    }
    for slot in [2500, 2999, 3000, u32::MAX] {
        assert_eq!(ask(&mut machine, slot), done(status::NOT_FOUND, 0));
    }
    for vm in &vms[10..2490] {
        machine.kernel.vms.remove(vm.slot);
    }
    assert_eq!(ask(&mut machine, 10), done(status::GO_ON, 10 + 1024));
    assert_eq!(ask(&mut machine, 1034), done(status::GO_ON, 2058));
    assert!(matches!(ask(&mut machine, 2058), ControlReply::Vm { vm, .. } if vm == vms[2490]));
}

#[test]
fn the_list_of_vms_is_asked_for_by_one_that_lives_to_the_next() {
    let mut machine = at_rest();
    let next = |slot| ControlRequest::NextVm { slot: Slot::new(slot) };
    assert!(matches!(machine.request(next(0))[..], [ControlReply::Vm { vm: FIRST, .. }]));
    assert_eq!(machine.request(next(1)), [done(status::NOT_FOUND, 0)]);
}

fn at_rest() -> Machine<true> {
    Machine::with_guest(WITHOUT_NIC, &[]).0
}

fn done(status: u32, value: u64) -> ControlReply {
    ControlReply::Done { status, value }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("short")
}

#[test]
fn a_reply_carries_the_id_of_its_request() {
    let mut machine = at_rest();
    for id in 1..4 {
        let replies = machine.request(ControlRequest::Machine);
        assert_eq!(replies.len(), 2);
        assert_eq!(machine.ids(), [id, id]);
    }
}

#[test]
fn frames_are_told_by_owner_and_none_is_left_out() {
    let mut machine = at_rest();
    let mut counted = [0; CLASSES.len()];
    for number in 0..machine.kernel.cpu.frames.len() as u64 {
        let class = machine.kernel.cpu.frames.owner_of(PhysAddr::from_frame(number)).0.class();
        counted[CLASSES.iter().position(|&other| other == class).expect("one of them")] += 1;
    }
    assert_eq!(counted.iter().sum::<u64>(), 2048);
    let lacks = {
        let vm = machine.kernel.vms.by_id(FIRST).expect("it lives");
        let reservation = vm.life.memory().expect("it is admitted").reservation();
        reservation.reserve() - reservation.held()
    };
    assert!(lacks > 0);
    let mut expected: Vec<_> = CLASSES
        .into_iter()
        .zip(counted)
        .map(|(class, frames)| {
            let owners = if class == OwnerClass::Component { 4 } else { 1 };
            let kept = if class == OwnerClass::Free { u64::from(lacks) } else { 0 };
            ControlReply::Frames { owner: name(class.name()), frames, owners, kept }
        })
        .collect();
    expected.push(done(status::OK, 0));
    assert_eq!(machine.request(ControlRequest::Frames), expected);
}

#[test]
fn each_frame_has_the_owner_that_its_entry_says() {
    let mut machine = at_rest();
    let end = machine.kernel.cpu.frames.len() as u64;
    for number in (0..end).step_by(7).chain([end - 1]) {
        let (owner, page) = machine.kernel.cpu.frames.owner_of(PhysAddr::from_frame(number));
        // Somewhere in the frame.
        let address = number * PAGE_SIZE + number % PAGE_SIZE;
        let of = name(owner.class().name());
        let expected = ControlReply::Frame { address, owner: of, page, id: owner.id() };
        assert_eq!(machine.request(ControlRequest::Frame { address }), [expected]);
    }
    for address in [end * PAGE_SIZE, u64::MAX] {
        assert_eq!(machine.request(ControlRequest::Frame { address }), [done(status::NOT_FOUND, 0)]);
    }
}

#[test]
fn the_owners_of_frames_of_vms_are_as_many_as_live() {
    let mut machine = at_rest();
    machine.request(create(WITHOUT_NIC));
    let of = |class: OwnerClass| name(class.name());
    let vms = [OwnerClass::VmMemory, OwnerClass::VmMeta, OwnerClass::VmTables].map(of);
    for reply in machine.request(ControlRequest::Frames) {
        if let ControlReply::Frames { owner, owners, .. } = reply {
            assert_eq!(owners == 2, vms.contains(&owner), "{owner}");
        }
    }
}

#[test]
fn the_machine_tells_its_time_and_its_counters() {
    let mut machine = at_rest();
    let (before, interrupts_before) = (machine.wires.now(), machine.kernel.cpu.counters.interrupts);
    let replies = machine.request(ControlRequest::Machine);
    let c = machine.kernel.cpu.counters;
    let [ControlReply::Machine { tsc, idle_ticks, tsc_hz, component_ticks, guest_ticks, .. }, exits] = replies[..]
    else {
        panic!("{replies:?}");
    };
    assert!((before..machine.wires.now()).contains(&tsc));
    assert_eq!(tsc_hz, HZ);
    assert_eq!(guest_ticks, c.guest_ticks);
    assert!(idle_ticks > 0 && component_ticks > 0 && idle_ticks + component_ticks + guest_ticks < tsc - HZ);
    let ControlReply::Exits { exits, hypercalls, interrupts, syscalls, faults, fallbacks, gap_ticks: 0 } = exits else {
        panic!("{exits:?}");
    };
    // The guest has idled, and the serial line has interrupted once more.
    assert_eq!([exits, hypercalls, interrupts, faults, fallbacks], [1, 1, interrupts_before + 1, 0, 0]);
    assert!(syscalls > 4 && syscalls <= c.syscalls);
}

#[test]
fn a_vm_is_told_with_its_state_and_its_frames() {
    let mut machine = at_rest();
    // The register page, two page tables; four nested tables.
    assert_eq!(machine.described(), (vm_state::IDLE, [3, 2, 4, 0]));
    let touch = |page, access| Step::Touch { page, access };
    machine.go_on(&[touch(IMAGE_PAGE, Access::Execute), touch(IMAGE_PAGE + 1, Access::Write)]);
    // The controller's turn comes before that of any VM.
    assert_eq!(machine.described(), (vm_state::READY, [3, 2, 4, 0]));
    assert_eq!(machine.described(), (vm_state::IDLE, [4, 2, 4, 1]));
    let pager = machine.rank(Service::Pager);
    machine.hardware.borrow_mut().components[pager].due = Some(Due { after: 0, what: Misdeed::Sleep });
    machine.go_on(&[touch(IMAGE_PAGE + 2, Access::Write)]);
    for _ in 0..10 {
        machine.step();
    }
    assert_eq!(machine.described(), (vm_state::FAULT, [4, 2, 4, 1]));
}

#[test]
fn a_vm_that_waits_for_admission_has_its_metadata_only() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Plan);
    if let FakeRole::Sched(sched) = &mut machine.hardware.borrow_mut().components[rank].role {
        sched.lazy = true;
    }
    let vm = machine.create(WITH_NIC);
    // The core itself would admit it a second later, if there were room.
    while machine.kernel.cpu.frames.alloc(Owner::Core, 0).is_some() {}
    let rank = machine.rank(Service::Control);
    machine.wires.raise(vector(SERIAL_GSI));
    if let FakeRole::Monitor(monitor) = &mut machine.hardware.borrow_mut().components[rank].role {
        monitor.requests.push_back(ControlRequest::Vm { slot: vm.slot });
    }
    machine.rouse();
    for _ in 0..50 {
        machine.step();
    }
    let told = match &machine.hardware.borrow().components[rank].role {
        FakeRole::Monitor(monitor) => monitor.replies.clone(),
        _ => panic!("not the monitor"),
    };
    let (image, state, ipv4) = (WITH_NIC, vm_state::WAITING, 0x0a00_0211);
    let expected = ControlReply::Vm {
        vm,
        image,
        state,
        ran_ticks: 0,
        memory: 0,
        metadata: 0,
        tables: 0,
        shared: 0,
        ipv4,
        bus_locks: 0,
        claim: Claim { reserve: RESERVE_LEAST, limit: 300 },
    };
    assert_eq!(told, [expected]);
}

#[test]
fn what_does_not_exist_is_not_found() {
    let mut machine = at_rest();
    let gone = VmId::new(0, 2);
    let requests = [
        ControlRequest::Vm { slot: Slot::new(1) },
        ControlRequest::Vm { slot: Slot::new(u32::MAX) },
        ControlRequest::Component { index: 4 },
        ControlRequest::Component { index: u16::MAX },
        ControlRequest::Image { image: ImageId::new(3) },
        ControlRequest::Image { image: ImageId::new(u32::MAX) },
        ControlRequest::Kill { component: 4 },
        ControlRequest::Kill { component: u16::MAX },
        create(ImageId::new(3)),
        create(REFUSED),
        ControlRequest::ImageArguments { image: REFUSED, to: Piece::EMPTY },
        ControlRequest::Destroy { vm: gone },
        ControlRequest::Shutdown { vm: gone },
    ];
    for request in requests {
        assert_eq!(machine.request(request), [done(status::NOT_FOUND, 0)], "{request:?}");
    }
    assert_eq!(machine.vms(), [FIRST]);
    assert_eq!(machine.word(FIRST, field!(pending)), 0);
    assert!(machine.kernel.cpu.components.list.iter().all(|component| component.incarnation == 1));
}

#[test]
fn components_are_told_with_their_names_and_starts() {
    let mut machine = at_rest();
    for (index, text) in (0_u16..).zip(["netmux", "pager", "sched", "monitor"]) {
        let replies = machine.request(ControlRequest::Component { index });
        let [ControlReply::Component { index: told, name: its, incarnation: 1, ran_ticks }] = replies[..] else {
            panic!("{replies:?}");
        };
        assert_eq!((told, its), (index, name(text)));
        assert!(ran_ticks > 0 && ran_ticks <= machine.kernel.cpu.components.list[usize::from(index)].ran_ticks);
    }
}

#[test]
fn images_are_told_with_their_names_and_one_that_was_refused_without() {
    let mut machine = at_rest();
    let memory_bytes = u64::from(GUEST_PAGES) * PAGE_SIZE;
    for (image, name, memory_bytes) in
        [(WITH_NIC, name("guest"), memory_bytes), (WITHOUT_NIC, name("guest"), memory_bytes), (REFUSED, Name::EMPTY, 0)]
    {
        let reply = ControlReply::Image { image, name, memory_bytes };
        assert_eq!(machine.request(ControlRequest::Image { image }), [reply]);
    }
}

#[test]
fn a_component_that_is_killed_is_started_again() {
    let mut machine = at_rest();
    lines::listen();
    let pager = machine.rank(Service::Pager);
    let component = u16::try_from(pager).expect("few");
    assert_eq!(machine.request(ControlRequest::Kill { component }), [done(status::OK, 0)]);
    assert_eq!(machine.kernel.cpu.components.list[pager].incarnation, 2);
    assert_eq!(lines::heard("killed"), ["WARN core: component pager (start 1) killed by request"]);
}

#[test]
fn the_controller_may_kill_itself_and_asks_on_afterwards() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Control);
    let component = u16::try_from(rank).expect("few");
    // The answer went down with the ring that it was in.
    assert_eq!(machine.request(ControlRequest::Kill { component }), []);
    assert_eq!(machine.kernel.cpu.components.list[rank].incarnation, 2);
    let missing = ControlRequest::Kill { component: 9 };
    assert_eq!(machine.request(missing), [done(status::NOT_FOUND, 0)]);
    assert_eq!(machine.ids(), [2]);
}

#[test]
fn a_shutdown_wakes_a_vm_that_wants_to_hear_of_it() {
    let steps = [poke(field!(enabled), pending::SHUTDOWN), call(hypercall::IDLE, u64::MAX), keep(0)];
    let (mut machine, vm) = Machine::<true>::with_guest(WITHOUT_NIC, &steps);
    machine.guests.borrow_mut().steps.push_back(poke(field!(pending), 0));
    assert_eq!(machine.request(ControlRequest::Shutdown { vm }), [done(status::OK, 0)]);
    assert_eq!(machine.kept(1), [pending::SHUTDOWN]);
}

#[test]
fn a_shutdown_of_a_vm_that_waits_for_admission_reaches_it_when_it_is_admitted() {
    let mut machine = at_rest();
    let vm = machine.create(WITHOUT_NIC);
    assert!(machine.kernel.raise(vm, pending::SHUTDOWN) && machine.waits(vm));
    machine.rouse();
    machine.settle(1000);
    machine.audit();
    assert_eq!(machine.word(vm, field!(pending)), pending::SHUTDOWN);
}

#[test]
fn the_machine_is_switched_off_on_request() {
    let mut machine = at_rest();
    assert!(!machine.hardware.borrow().powered_off);
    machine.request(ControlRequest::PowerOff);
    assert!(machine.hardware.borrow().powered_off);
}

#[test]
fn what_is_no_request_is_said_and_not_answered() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Control);
    lines::listen();
    // An unknown kind; a slot and an image that have no 32 bits.
    for (kind, word, what) in [
        (0x410, 0, "unknown kind"),
        (0x402, 1 << 32, "a 32-bit word has bits above 31 set"),
        (0x404, 1 << 32, "a 32-bit word has bits above 31 set"),
    ] {
        let lie = Misdeed::Lie(kind, [word, 0, 0]);
        machine.hardware.borrow_mut().components[rank].due = Some(Due { after: 0, what: lie });
        machine.wires.raise(vector(SERIAL_GSI));
        machine.rouse();
        machine.settle(1000);
        let line = format!("WARN core: monitor sent a message of kind {kind:#x}: {what}; ignored");
        assert_eq!(lines::heard("monitor"), [line]);
    }
    assert_eq!(machine.ids(), [0; 0]);
    assert_eq!(machine.vms(), [FIRST]);
}

#[test]
fn who_was_started_has_space_for_its_first_answer() {
    let mut machine = Machine::<true>::new(1024);
    machine.settle(1000);
    let id = machine.kernel.cpu.endpoints.first(Service::Control);
    for has in [crate::component::Endpoint::has_space, crate::component::Endpoint::has_room] {
        machine.kernel.start(machine.rank(Service::Control));
        let endpoint = machine.kernel.cpu.endpoints.get_mut(id).expect("a controller");
        // The core has not looked at the ring since its epoch changed.
        assert!(has(endpoint));
    }
}
