//! What the controller asks for, and what it is answered.

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
use abi::control::{ControlReply, ControlRequest, status, vm_state};
use abi::guest::{BOOT_ARGS, REGISTER_PAGE, hypercall, pending};
use abi::limits::{Name, PAGE_SIZE};
use abi::manifest::RESERVE_LEAST;
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
    ControlRequest::Create { image, slot: None, ipv4: 0, args, share, claim, tenant }
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
                created_tsc: 0,
                stolen_ms: 0,
            };
            assert!(vms.create(seed, b""));
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
fn a_vm_that_is_created_has_the_name_it_is_answered_with_and_its_arguments() {
    let mut machine = at_rest();
    let vm = VmId::new(1, 1);
    let args = machine.lay(b"ip=10.0.2.17/24 a=b");
    let (slot, ipv4, share) = (Some(vm.slot), 0x0a00_0211, Share::UNSAID);
    let reply = machine.request(ControlRequest::Create {
        image: WITHOUT_NIC,
        slot,
        ipv4,
        args,
        share,
        claim: Claim::UNSAID,
        tenant: Tenant::UNSAID,
    });
    assert_eq!(reply, [done(status::OK, vm.raw())]);
    assert_eq!(machine.kernel.vms.by_id(vm).expect("it lives").ipv4, ipv4);
    assert_eq!(machine.state(vm), Some(State::Idle { until: u64::MAX }));
    let text = b"ip=10.0.2.17/24 a=b";
    let mut bytes: Vec<u8> =
        (0..3).flat_map(|i| machine.word(vm, REGISTER_PAGE + BOOT_ARGS + 8 * i).to_le_bytes()).collect();
    assert_eq!(bytes.split_off(text.len()), [0; 5]);
    assert_eq!(bytes, text);
    // The upper half of a word.
    assert_eq!(machine.word(vm, field!(held_frames)) >> 32, text.len() as u64);
}

#[test]
fn a_vm_has_the_share_of_its_image_but_for_what_its_creator_says() {
    let mut machine = at_rest();
    let said = Share { weight: 300, rate: 5000, burst: 0 };
    let ordered = |share| ControlRequest::Create {
        image: WITH_NIC,
        slot: None,
        ipv4: 0,
        args: Piece::EMPTY,
        share,
        claim: Claim::UNSAID,
        tenant: Tenant::UNSAID,
    };
    let reply = machine.request(ordered(said));
    let vm = VmId::new(1, 1);
    assert_eq!(reply, [done(status::OK, vm.raw())]);
    let shares = [FIRST, vm].map(|vm| machine.kernel.vms.by_id(vm).expect("lives").share);
    assert_eq!(shares, [Share::DEFAULT, Share { burst: Share::DEFAULT.burst, ..said }]);
    let bad = Share { weight: abi::share::WEIGHT_MAX + 1, ..Share::UNSAID };
    let reply = machine.request(ordered(bad));
    assert_eq!(reply, [done(status::BAD_REQUEST, 0)]);
}

#[test]
fn a_vm_that_waits_is_destroyed_by_its_name() {
    let mut machine = at_rest();
    let vm = machine.create(WITHOUT_NIC);
    assert!(machine.waits(vm));
    assert!(!machine.kernel.destroy(VmId { generation: 2, ..vm }) && machine.waits(vm));
    assert!(machine.kernel.destroy(vm));
    assert!(!machine.kernel.destroy(vm));
    assert_eq!(machine.vms(), [FIRST]);
    machine.rouse();
    machine.settle(1000);
    machine.audit();
}

#[test]
fn a_vm_is_not_created_when_no_room_is_left_for_its_arguments() {
    let mut machine = Machine::<true>::new(700);
    machine.settle(1000);
    let args = machine.lay(b"a");
    // There is a cell for each slot, so only a table with fewer cells can run out of them.
    let capacity = machine.kernel.vms.capacity();
    machine.kernel.vms = crate::vm::Table::new(
        vec![0; capacity].leak(),
        vec![abi::record::Record::EMPTY; capacity].leak(),
        &mut [],
        vec![crate::vm::EMPTY_SEAT; capacity].leak(),
        crate::vm::Written::default(),
    );
    let (slot, ipv4, share) = (None, 0, Share::UNSAID);
    let refused = machine.request(ControlRequest::Create {
        image: WITHOUT_NIC,
        slot,
        ipv4,
        args,
        share,
        claim: Claim::UNSAID,
        tenant: Tenant::UNSAID,
    });
    assert_eq!(refused, [done(status::NO_ARGUMENTS, 0)]);
    let made = machine.request(create(WITHOUT_NIC));
    assert_eq!(made, [done(status::OK, VmId::new(0, 1).raw())]);
}

#[test]
fn a_vm_is_not_created_without_a_slot() {
    let mut machine = Machine::<true>::new(700);
    machine.settle(1000);
    let slots = machine.kernel.vms.capacity();
    assert!((2..64).contains(&slots), "{slots}");
    let create = create(WITHOUT_NIC);
    for index in 0..slots as u64 {
        assert_eq!(machine.request(create), [done(status::OK, 1 << 32 | index)]);
    }
    assert!(machine.kernel.cpu.frames.free_frames() > 2);
    assert_eq!(machine.request(create), [done(status::NO_SPACE, 0)]);
    // The slot of one that ends is free for the next, which has another name.
    assert_eq!(machine.request(ControlRequest::Destroy { vm: FIRST }), [done(status::OK, 0)]);
    assert_eq!(machine.request(create), [done(status::OK, 2 << 32)]);
}

#[test]
fn a_vm_that_is_destroyed_is_gone() {
    for image in [WITH_NIC, WITHOUT_NIC] {
        let (mut machine, vm) = Machine::<true>::with_guest(image, &[]);
        lines::listen();
        assert_eq!(machine.request(ControlRequest::Destroy { vm }), [done(status::OK, 0)]);
        assert_eq!(machine.vms(), []);
        let line = "INFO core: vm0.1 ended: destroyed (detail 0x0, rip 0x20013; 0 such lines left out)";
        assert_eq!(lines::heard(" ended: "), [line]);
        assert_eq!(machine.request(ControlRequest::Destroy { vm }), [done(status::NOT_FOUND, 0)]);
    }
}

/// Generation id, clock and boot arguments of a VM, as it finds them; and its sequence word, behind the version.
fn identity(machine: &mut Machine<true>, vm: VmId) -> ([u64; 2], [u64; 2], String, u64) {
    let id = [0, 8].map(|at| machine.word(vm, field!(generation_id) + at));
    let clock = [field!(clock_tsc), field!(clock_unix_ns)].map(|at| machine.word(vm, at));
    // The upper half of a word.
    let len = usize::try_from(machine.word(vm, field!(held_frames)) >> 32).expect("short");
    let at = REGISTER_PAGE + BOOT_ARGS;
    let args: Vec<u8> = (0..128).flat_map(|word| machine.word(vm, at + 8 * word).to_le_bytes()).collect();
    assert!(args[len..].iter().all(|&byte| byte == 0));
    let sequence = machine.word(vm, field!(abi_version)) >> 32;
    (id, clock, String::from_utf8(args[..len].to_vec()).expect("text"), sequence)
}

#[test]
fn a_vm_becomes_somebody_else_and_cannot_but_hear_of_it() {
    // It has masked everything, and sleeps for ever.
    let (mut machine, vm) = Machine::<true>::with_guest(WITH_NIC, &[]);
    machine.finish();
    machine.settle(1000);
    machine.guests.borrow_mut().steps.extend([keep(0), poke(field!(pending), 0)]);
    let before = identity(&mut machine, vm);
    assert_eq!((before.2.as_str(), before.3), ("ip=10.0.2.16/24", 0));
    machine.wires.spend(HZ);
    let args = machine.lay(b"ip=10.0.2.99/24 a=b");
    let ipv4 = 0x0a00_0263;
    assert_eq!(machine.request(ControlRequest::Identity { vm, ipv4, args }), [done(status::OK, 0)]);
    machine.settle(1000);
    machine.audit();
    let after = identity(&mut machine, vm);
    assert_eq!(machine.kept(1), [pending::IDENTITY]);
    // That it keeps its results where its arguments were is seen there, too.
    assert_eq!(&after.2[8..], "2.99/24 a=b");
    assert_ne!(before.0, after.0);
    // One clock as the other: they tell the same time.
    assert!(after.1[0] > before.1[0] + HZ, "{after:?}");
    assert_eq!(after.1[0] - before.1[0], after.1[1] - before.1[1]);
    assert_eq!(after.3, 2);
    assert_eq!(machine.kernel.vms.by_id(vm).expect("it lives").ipv4, ipv4);
}

#[test]
fn who_cannot_become_somebody_else_stays_who_it_is() {
    let (mut machine, vm) = Machine::<true>::with_guest(WITHOUT_NIC, &[]);
    machine.finish();
    machine.settle(1000);
    let before = identity(&mut machine, vm);
    let ask = |machine: &mut Machine<true>, vm, args| machine.request(ControlRequest::Identity { vm, ipv4: 7, args });
    let short = machine.lay(b"ip=dhcp");
    assert_eq!(ask(&mut machine, VmId::new(0, 2), short), [done(status::NOT_FOUND, 0)]);
    for (piece, refusal) in BAD_PIECES {
        assert_eq!(ask(&mut machine, vm, piece), [done(refusal, 0)], "{piece:?}");
    }
    assert_eq!(identity(&mut machine, vm), before);
    machine.guests.borrow_mut().steps.push_back(poke(field!(pending), 0));
    assert_eq!(ask(&mut machine, vm, short), [done(status::OK, 0)]);
    assert_eq!(identity(&mut machine, vm).2, "ip=dhcp");
}

/// Pieces of a request page that are none, or hold more than any boot arguments, and what is said of each.
const BAD_PIECES: [(Piece, u32); 5] = [
    (Piece { offset: 0, len: 1025 }, status::TOO_LONG),
    (Piece { offset: 0, len: 4096 }, status::TOO_LONG),
    (Piece { offset: 3073, len: 1024 }, status::BAD_REQUEST),
    (Piece { offset: 1, len: u16::MAX }, status::BAD_REQUEST),
    (Piece { offset: u16::MAX, len: 0 }, status::BAD_REQUEST),
];

#[test]
fn a_vm_has_the_claim_of_its_image_but_for_what_its_creator_says() {
    let mut machine = at_rest();
    let of_image = Claim { reserve: RESERVE_LEAST, limit: 300 };
    for (slot, said) in (1..).zip([
        Claim::UNSAID,
        Claim { reserve: 20, limit: 0 },
        Claim { reserve: 0, limit: 100 },
        Claim { reserve: 30, limit: 30 },
    ]) {
        let unreserved = machine.kernel.cpu.frames.unreserved();
        let vm = VmId::new(slot, 1);
        assert_eq!(machine.request(create_on(WITHOUT_NIC, said)), [done(status::OK, vm.raw())]);
        let claim = said.or(of_image);
        let seen = machine.word(vm, field!(reserve_frames));
        assert_eq!(seen, u64::from(claim.limit) << 32 | u64::from(claim.reserve), "both words as the guest sees them");
        match &machine.request(ControlRequest::Share { slot: vm.slot })[..] {
            [ControlReply::Share { reserve, limit, held, .. }] => {
                assert_eq!((*reserve, *limit), (claim.reserve, claim.limit));
                assert!(*held < claim.reserve);
            }
            other => panic!("{other:?}"),
        }
        match &machine.request(ControlRequest::Vm { slot: vm.slot })[..] {
            [ControlReply::Vm { claim: told, .. }] => assert_eq!(*told, claim),
            other => panic!("{other:?}"),
        }
        assert_eq!(
            unreserved - machine.kernel.cpu.frames.unreserved(),
            claim.reserve.into(),
            "kept from its admission on"
        );
        machine.audit_lives();
    }
}

#[test]
fn a_claim_with_which_a_vm_cannot_start_is_refused() {
    let mut machine = at_rest();
    for (reserve, limit) in [(RESERVE_LEAST - 1, 0), (301, 0), (0, RESERVE_LEAST - 1), (40, 39), (1, 1)] {
        let reply = machine.request(create_on(WITHOUT_NIC, Claim { reserve, limit }));
        assert_eq!(reply, [done(status::BAD_CLAIM, 0)], "{reserve} {limit}");
    }
    assert_eq!(machine.kernel.vms.living(), 1);
}

#[test]
fn a_claim_beyond_what_there_is_waits_and_is_told_of() {
    let mut machine = at_rest();
    let claim = Claim { reserve: 1 << 20, limit: u32::MAX };
    let vm = machine.create_on(claim, Tenant::UNSAID, WITHOUT_NIC, b"").expect("room");
    let modest = machine.create(WITHOUT_NIC);
    for _ in 0..4000 {
        machine.step();
    }
    assert_eq!(machine.kernel.vms.waiting(vm).map(|seed| seed.claim), Some(claim));
    let told = machine.kernel.describe_next_vm(vm.slot);
    assert!(
        matches!(told, ControlReply::Vm { state: vm_state::WAITING, claim: found, .. } if found == claim),
        "{told:?}"
    );
    let told = machine.kernel.describe_next_vm(modest.slot);
    let of_image = Claim { reserve: RESERVE_LEAST, limit: 300 };
    assert!(matches!(told, ControlReply::Vm { claim: found, .. } if found == of_image), "{told:?}");
    machine.audit_lives();
}

#[test]
fn arguments_beyond_the_page_or_the_limit_are_refused_and_the_longest_arrive_whole() {
    let mut machine = at_rest();
    let order = |args| ControlRequest::Create {
        image: WITHOUT_NIC,
        slot: None,
        ipv4: 0,
        args,
        share: Share::UNSAID,
        claim: Claim::UNSAID,
        tenant: Tenant::UNSAID,
    };
    for (piece, refusal) in BAD_PIECES {
        assert_eq!(machine.request(order(piece)), [done(refusal, 0)], "{piece:?}");
    }
    // Bytes of all kinds, which the core does not read.
    let longest: Vec<u8> = (0..1024_u32).map(|i| i.to_le_bytes()[0] ^ 0x55).collect();
    let args = machine.lay(&longest);
    let vm = VmId::new(1, 1);
    assert_eq!(machine.request(order(args)), [done(status::OK, vm.raw())]);
    let found: Vec<u8> =
        (0..128).flat_map(|i| machine.word(vm, REGISTER_PAGE + BOOT_ARGS + 8 * i).to_le_bytes()).collect();
    // That a guest of the tests keeps its results there is seen, too.
    assert_eq!(found[64..], longest[64..]);
    assert_eq!(machine.word(vm, field!(held_frames)) >> 32, 1024);
}

#[test]
fn who_chose_by_a_slot_that_is_not_the_next_is_told_which_is() {
    let mut machine = at_rest();
    let net = machine.kernel.cpu.net;
    let next = Slot::new(1);
    assert_eq!(machine.request(ControlRequest::Network), [ControlReply::Network { net, next: Some(next) }]);
    let order = |slot| {
        let (args, share) = (Piece::EMPTY, Share::UNSAID);
        ControlRequest::Create {
            image: WITHOUT_NIC,
            slot,
            ipv4: 0,
            args,
            share,
            claim: Claim::UNSAID,
            tenant: Tenant::UNSAID,
        }
    };
    for slot in [0, 2, u32::MAX - 1] {
        assert_eq!(machine.request(order(Some(Slot::new(slot)))), [done(status::MOVED, 1)], "{slot}");
    }
    assert_eq!(machine.vms(), [FIRST]);
    assert_eq!(machine.request(order(Some(next))), [done(status::OK, VmId::new(1, 1).raw())]);
}

#[test]
fn the_arguments_of_an_image_are_written_where_the_controller_wants_them_and_nowhere_else() {
    let mut machine = at_rest();
    let Some(image) = machine.kernel.cpu.images.get_mut(WITH_NIC) else { panic!("it is there") };
    image.entry.args[..9].copy_from_slice(b"workers=2");
    machine.lay(&[b'.'; 20]);
    let read = |machine: &Machine<true>| {
        let ring = machine.kernel.cpu.components.list[machine.rank(Service::Control)].rings[1];
        let mut bytes = [0; 20];
        ring.read(8192 + 77, &mut bytes).expect("inside");
        String::from_utf8(bytes.to_vec()).expect("text")
    };
    for (len, expected) in [(0, "...................."), (4, ".work..............."), (1000, ".workers=2..........")] {
        let to = Piece { offset: 78, len };
        let reply = machine.request(ControlRequest::ImageArguments { image: WITH_NIC, to });
        assert_eq!((&reply[..], read(&machine).as_str()), (&[done(status::OK, 9)][..], expected));
    }
    let reply =
        machine.request(ControlRequest::ImageArguments { image: WITH_NIC, to: Piece { offset: 4000, len: 97 } });
    assert_eq!(reply, [done(status::BAD_REQUEST, 0)]);
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
