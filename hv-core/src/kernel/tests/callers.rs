//! VMs that control the machine: what they ask by their control rings, what becomes of lies there, and that others cannot.

mod console;
mod disks;
mod images;
mod log;

use super::board::{SERIAL_GSI, vector};
use super::guest::{FIRST, call, field, keep, poke, results};
use super::lines;
use super::machine::{HZ, Machine, WITH_NIC, WITHOUT_NIC};
use super::roles::Role as FakeRole;
use crate::component::{EndpointId, Party};
use crate::kernel::Kernel;
use crate::memory::core_memory;
use crate::vm::State;
use abi::claim::Claim;
use abi::control::{ControlReply, ControlRequest, status};
use abi::guest::{BOOT_ARGS, ERROR_ARGUMENT, IMAGE_BASE, REGISTER_PAGE, device, hypercall, pending};
use abi::guest_control::{
    ANSWER_SLOTS, ANSWERS, CONTROL_PAGE, MAX_CONTROL_VMS, REQUEST_PAGE, REQUEST_SLOTS, REQUESTS, ROOM, bytes,
};
use abi::limits::PAGE_SIZE;
use abi::manifest::image_flags;
use abi::message::Message;
use abi::request_page::Piece;
use abi::ring::{HEAD, TAIL};
use abi::service::Service;
use abi::share::Share;
use abi::tenant::Tenant;
use abi::vm::{ImageId, Slot, VmId};
use backend::fake::Step;
use ring::{Consumer, Producer, SharedMemory};

type Fake = Machine<true>;

/// A guest's ends of its control rings.
struct Caller {
    vm: VmId,
    requests: Producer<SharedMemory>,
    answers: Consumer<SharedMemory>,
    ring: SharedMemory,
    page: SharedMemory,
    last: u32,
}

/// The frame of a VM at this address.
fn frame(machine: &mut Fake, vm: VmId, address: u64) -> Option<SharedMemory> {
    let Kernel { vms, cpu, .. } = &mut machine.kernel;
    let memory = vms.by_id(vm)?.life.memory()?;
    let frame = memory.frame(&mut cpu.frames, u32::try_from(address / PAGE_SIZE).expect("a page"))?;
    Some(core_memory(frame, PAGE_SIZE))
}

impl Caller {
    fn new(machine: &mut Fake, vm: VmId) -> Caller {
        let ring = frame(machine, vm, CONTROL_PAGE).expect("it has one");
        let page = frame(machine, vm, REQUEST_PAGE).expect("it has one");
        let part = |at, slots| ring.sub(at, bytes(slots)).expect("in the page");
        Caller {
            vm,
            requests: Producer::attach_contiguous(&part(REQUESTS, REQUEST_SLOTS), REQUEST_SLOTS).expect("a ring"),
            answers: Consumer::attach_contiguous(&part(ANSWERS, ANSWER_SLOTS), ANSWER_SLOTS).expect("a ring"),
            ring,
            page,
            last: 0,
        }
    }

    /// Put a message into its ring.
    fn put(&mut self, message: Message) {
        self.last += 1;
        self.requests.push(&Message { id: self.last, ..message }).expect("room");
    }

    /// It rings, and the machine comes to rest.
    fn ring(&self, machine: &mut Fake) {
        machine.guests.borrow_mut().steps.push_back(call(hypercall::KICK, device::CONTROL));
        let Kernel { vms, cpu, .. } = &mut machine.kernel;
        cpu.wake(vms.by_id(self.vm).expect("it lives"));
        machine.rouse();
        machine.settle(20_000);
        machine.audit();
    }

    fn take(&mut self) -> Vec<(u32, ControlReply)> {
        core::iter::from_fn(|| self.answers.pop().expect("the core does not lie"))
            .map(|message| (message.id, ControlReply::try_from(&message).expect("the core speaks well")))
            .collect()
    }

    /// What is answered to this.
    fn ask(&mut self, machine: &mut Fake, request: ControlRequest) -> Vec<ControlReply> {
        self.put(request.into());
        self.ring(machine);
        let answers = self.take();
        assert!(answers.iter().all(|(id, _)| *id == self.last), "{answers:?}");
        answers.into_iter().map(|(_, reply)| reply).collect()
    }
}

/// A machine whose VMs of the image without a NIC control it.
fn machine() -> Fake {
    controlled(Fake::new(4096))
}

fn controlled(mut machine: Fake) -> Fake {
    machine.guests.borrow_mut().hostile = 1;
    let image = machine.kernel.cpu.images.get_mut(WITHOUT_NIC).expect("it is there");
    image.entry.flags = image_flags::CONTROL;
    machine
}

/// The same, with one of them in slot 0, at rest.
fn with_caller() -> (Fake, Caller) {
    caller_of(machine())
}

fn caller_of(mut machine: Fake) -> (Fake, Caller) {
    machine.create(WITHOUT_NIC);
    machine.settle(4000);
    let caller = Caller::new(&mut machine, FIRST);
    (machine, caller)
}

fn done(status: u32, value: u64) -> ControlReply {
    ControlReply::Done { status, value }
}

fn endpoint_of(machine: &mut Fake, vm: VmId) -> EndpointId {
    machine.kernel.vms.by_id(vm).map_or(EndpointId::NONE, |vm| vm.control)
}

#[test]
fn a_vm_that_controls_the_machine_asks_and_is_answered() {
    let (mut machine, mut caller) = with_caller();
    assert_eq!(machine.word(FIRST, field!(control_page)), CONTROL_PAGE);
    let found = caller.ask(&mut machine, ControlRequest::NextVm { slot: Slot::new(0) });
    assert!(matches!(found[..], [ControlReply::Vm { vm: FIRST, image: WITHOUT_NIC, .. }]), "{found:?}");
    assert_eq!(machine.word(FIRST, field!(pending)) & pending::CONTROL, pending::CONTROL);
    let names = (0..5).map(|index| match caller.ask(&mut machine, ControlRequest::Component { index })[..] {
        [ControlReply::Component { name, .. }] => name.as_str().to_owned(),
        [ControlReply::Done { status: status::NOT_FOUND, .. }] => String::new(),
        ref other => panic!("{other:?}"),
    });
    assert_eq!(names.collect::<Vec<_>>(), ["netmux", "pager", "sched", "monitor", ""]);
    assert_eq!(caller.ask(&mut machine, ControlRequest::Machine).len(), 2);
    let frames = caller.ask(&mut machine, ControlRequest::Frames);
    assert!(frames.len() > 5 && frames.len() < ROOM as usize && frames.last() == Some(&done(status::OK, 0)));
    // Nobody else was told anything.
    let rank = machine.rank(Service::Control);
    match &machine.hardware.borrow().components[rank].role {
        FakeRole::Monitor(monitor) => assert!(monitor.replies.is_empty()),
        _ => panic!("not the monitor"),
    }
}

#[test]
fn it_creates_a_vm_with_arguments_from_its_page_and_destroys_it() {
    let (mut machine, mut caller) = with_caller();
    let text = b"ip=10.0.2.17/24 said=by-a-vm";
    caller.page.write(4000, text).expect("in the page");
    let args = Piece { offset: 4000, len: 28 };
    let (slot, ipv4, share) = (Some(Slot::new(1)), 0x0a00_0211, Share::UNSAID);
    let vm = VmId::new(1, 1);
    let answer = caller.ask(
        &mut machine,
        ControlRequest::Create {
            image: WITH_NIC,
            slot,
            ipv4,
            args,
            share,
            claim: Claim::UNSAID,
            tenant: Tenant::UNSAID,
            disk: abi::request_page::Piece::EMPTY,
        },
    );
    assert_eq!(answer, [done(status::OK, vm.raw())]);
    let found: Vec<u8> =
        (0..4).flat_map(|i| machine.word(vm, REGISTER_PAGE + BOOT_ARGS + 8 * i).to_le_bytes()).collect();
    assert_eq!(&found[..28], text);
    assert_eq!(machine.word(vm, field!(control_page)), 0);
    assert_eq!(caller.ask(&mut machine, ControlRequest::Destroy { vm }), [done(status::OK, 0)]);
    assert_eq!(machine.vms(), [FIRST]);
    assert_eq!(caller.ask(&mut machine, ControlRequest::Destroy { vm }), [done(status::NOT_FOUND, 0)]);
}

#[test]
fn an_answer_wakes_a_vm_that_waits_for_it() {
    let (mut machine, mut caller) = with_caller();
    machine.go_on(&[
        poke(field!(pending), 0),
        poke(field!(enabled), pending::CONTROL),
        call(hypercall::KICK, device::CONTROL),
        keep(0),
        call(hypercall::IDLE, u64::MAX),
        keep(1),
        poke(field!(pending), 0),
    ]);
    caller.put(ControlRequest::Machine.into());
    machine.settle(20_000);
    assert_eq!(machine.kept(2), [0, pending::CONTROL]);
    assert_eq!(caller.take().len(), 2);
}

#[test]
fn only_vms_of_such_an_image_have_a_control_ring_and_no_other_can_name_it() {
    let kick = call(hypercall::KICK, device::CONTROL);
    assert_eq!(results(&[kick, call(hypercall::KICK, 4)]), [ERROR_ARGUMENT; 2]);
    let (mut machine, mut caller) = with_caller();
    let other = machine.create(WITH_NIC);
    machine.rouse();
    machine.settle(4000);
    assert_eq!(machine.word(other, field!(control_page)), 0);
    // What lies at the same addresses is its own memory, and nobody looks at it.
    let last = u32::try_from(CONTROL_PAGE / PAGE_SIZE).expect("small");
    let lie = |at: usize, value| poke(CONTROL_PAGE + at as u64, value);
    let message = Message::from(ControlRequest::Destroy { vm: FIRST });
    machine.guests.borrow_mut().steps.extend([
        lie(REQUESTS + 256, u64::from(message.kind)),
        lie(REQUESTS + 264, message.words[0]),
        lie(REQUESTS + TAIL, 1),
        kick,
        Step::Touch { page: last + 1, access: abi::pager::Access::Write },
    ]);
    let Kernel { vms, cpu, .. } = &mut machine.kernel;
    cpu.wake(vms.by_id(other).expect("it lives"));
    machine.rouse();
    machine.settle(20_000);
    machine.audit();
    assert_eq!(machine.vms(), [FIRST, other]);
    assert_eq!(machine.word(other, CONTROL_PAGE + u64::try_from(REQUESTS + TAIL).expect("small")), 1);
    // The frames are others than those of the VM that controls the machine.
    assert_eq!(caller.ask(&mut machine, ControlRequest::Vm { slot: Slot::new(0) }).len(), 1);
}

#[test]
fn what_is_no_request_is_answered_so_and_the_next_one_is_served() {
    let (mut machine, mut caller) = with_caller();
    for message in [
        Message::default(),
        Message::new(0x410, []),
        Message::new(0x402, [1 << 32]),
        Message::new(u32::MAX, [u64::MAX; 7]),
        Message::from(done(status::OK, 0)),
    ] {
        caller.put(message);
    }
    caller.put(ControlRequest::Kill { component: 9 }.into());
    caller.ring(&mut machine);
    let answers = caller.take();
    assert_eq!(answers[..5], [1, 2, 3, 4, 5].map(|id| (id, done(status::BAD_REQUEST, 0))));
    assert_eq!(answers[5..], [(6, done(status::NOT_FOUND, 0))]);
    for (offset, len) in [(4000, 97), (u16::MAX, 1), (0, 4096)] {
        let args = Piece { offset, len };
        let (image, slot, ipv4, share) = (WITHOUT_NIC, None, 0, Share::UNSAID);
        let answer = caller.ask(
            &mut machine,
            ControlRequest::Create {
                image,
                slot,
                ipv4,
                args,
                share,
                claim: Claim::UNSAID,
                tenant: Tenant::UNSAID,
                disk: abi::request_page::Piece::EMPTY,
            },
        );
        let status = if len == 4096 { status::TOO_LONG } else { status::BAD_REQUEST };
        assert_eq!(answer, [done(status, 0)]);
    }
    assert_eq!(machine.vms(), [FIRST]);
}

#[test]
fn a_ring_that_lies_ends_its_vm() {
    // More requests than the ring has; a head that is ahead of the tail.
    for (at, word) in
        [(REQUESTS + TAIL, 17), (REQUESTS + TAIL, 0xffff_ffff), (ANSWERS + HEAD, 1), (ANSWERS + HEAD, 0x8000_0000)]
    {
        let (mut machine, caller) = with_caller();
        let before = machine.frames_by_owner();
        lines::listen();
        caller.ring.store64(at, word).expect("in the page");
        machine.guests.borrow_mut().steps.push_back(call(hypercall::KICK, device::CONTROL));
        let Kernel { vms, cpu, .. } = &mut machine.kernel;
        cpu.wake(vms.by_id(FIRST).expect("it lives"));
        machine.rouse();
        machine.settle(20_000);
        machine.audit();
        assert_eq!(machine.vms(), [], "{at} {word:#x}");
        let said = lines::heard(" ended: ");
        assert!(said[0].starts_with("INFO core: vm0.1 ended: nonsense in its control ring (detail 0x0"), "{said:?}");
        assert_ne!(machine.frames_by_owner(), before);
        // It may be created again, and finds everything as it was.
        let again = machine.create(WITHOUT_NIC);
        machine.rouse();
        machine.settle(20_000);
        let mut caller = Caller::new(&mut machine, again);
        assert_eq!(machine.frames_by_owner(), before);
        assert_eq!(caller.ask(&mut machine, ControlRequest::Machine).len(), 2);
    }
}

#[test]
fn an_epoch_that_it_makes_up_costs_it_what_was_in_the_ring_and_nobody_else_anything() {
    let (mut machine, mut caller) = with_caller();
    caller.put(ControlRequest::Destroy { vm: FIRST }.into());
    for at in [ANSWERS, REQUESTS] {
        caller.ring.store32(at + abi::ring::EPOCH, 77).expect("in the page");
    }
    caller.ring(&mut machine);
    assert_eq!(machine.vms(), [FIRST]);
    let mut caller = Caller::new(&mut machine, FIRST);
    assert_eq!(caller.ask(&mut machine, ControlRequest::Machine).len(), 2);
}

#[test]
fn a_flood_is_served_a_few_at_a_time_and_waits_for_room() {
    let (mut machine, mut caller) = with_caller();
    for _ in 0..REQUEST_SLOTS {
        caller.put(ControlRequest::Frames.into());
    }
    // One turn of the loop serves few of them.
    machine.guests.borrow_mut().steps.push_back(call(hypercall::KICK, device::CONTROL));
    let Kernel { vms, cpu, .. } = &mut machine.kernel;
    cpu.wake(vms.by_id(FIRST).expect("it lives"));
    machine.rouse();
    let mut most = 0;
    let mut left = REQUEST_SLOTS;
    for _ in 0..200 {
        machine.step();
        let now = caller.requests.in_flight().expect("a ring");
        most = most.max(left - now);
        left = now;
    }
    assert!((1..=4).contains(&most), "{most}");
    machine.settle(20_000);
    machine.audit();
    // No answer is lost: the core goes on when there is room again.
    let mut answered = Vec::new();
    for _ in 0..REQUEST_SLOTS {
        let answers = caller.take();
        assert!(answers.len() <= ANSWER_SLOTS as usize);
        answered.extend(answers.into_iter().filter(|(_, reply)| matches!(reply, ControlReply::Done { .. })));
        caller.ring(&mut machine);
    }
    let ids: Vec<u32> = answered.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, (1..=REQUEST_SLOTS).collect::<Vec<_>>());
}

#[test]
fn a_vm_may_end_itself_by_it_and_its_endpoint_is_free() {
    let (mut machine, mut caller) = with_caller();
    let endpoint = endpoint_of(&mut machine, FIRST);
    assert_ne!(endpoint, EndpointId::NONE);
    caller.put(ControlRequest::Destroy { vm: FIRST }.into());
    caller.put(ControlRequest::PowerOff.into());
    machine.guests.borrow_mut().steps.push_back(call(hypercall::KICK, device::CONTROL));
    let Kernel { vms, cpu, .. } = &mut machine.kernel;
    cpu.wake(vms.by_id(FIRST).expect("it lives"));
    machine.rouse();
    machine.settle(20_000);
    machine.audit();
    assert_eq!(machine.vms(), []);
    assert!(!machine.hardware.borrow().powered_off, "nobody is there who has asked for that");
    assert!(machine.kernel.cpu.endpoints.get(endpoint).is_none());
}

#[test]
fn whoever_has_the_endpoint_next_hears_nothing_of_what_the_last_one_has_asked() {
    let (mut machine, mut caller) = with_caller();
    let endpoint = endpoint_of(&mut machine, FIRST);
    // A swap is answered when it is done, which takes a while.
    let pager = u16::try_from(machine.rank(Service::Pager)).expect("few");
    caller.put(ControlRequest::Swap { component: pager, policy: 1 }.into());
    machine.guests.borrow_mut().steps.push_back(call(hypercall::KICK, device::CONTROL));
    let Kernel { vms, cpu, .. } = &mut machine.kernel;
    cpu.wake(vms.by_id(FIRST).expect("it lives"));
    machine.rouse();
    while machine.kernel.cpu.swap.is_none() {
        machine.step();
    }
    assert!(machine.kernel.destroy(FIRST));
    let next = machine.create(WITHOUT_NIC);
    machine.settle(20_000);
    machine.audit();
    assert_eq!((machine.kernel.cpu.swap.is_none(), endpoint_of(&mut machine, next)), (true, endpoint));
    let mut caller = Caller::new(&mut machine, next);
    assert_eq!(caller.take(), []);
    // And one that lives is answered.
    caller.put(ControlRequest::Swap { component: pager, policy: 0 }.into());
    caller.ring(&mut machine);
    machine.settle(20_000);
    assert_eq!(caller.take(), [(1, done(status::OK, 0))]);
}

#[test]
fn as_many_control_the_machine_as_there_are_rings_for_and_the_next_one_is_told_so() {
    let mut machine = machine();
    let vms: Vec<VmId> = (0..MAX_CONTROL_VMS).map(|_| machine.create(WITHOUT_NIC)).collect();
    machine.settle(20_000);
    let endpoints: std::collections::BTreeSet<usize> =
        vms.iter().map(|&vm| endpoint_of(&mut machine, vm).index()).collect();
    assert_eq!(endpoints.len(), MAX_CONTROL_VMS);
    lines::listen();
    let one_too_many = machine.create(WITHOUT_NIC);
    machine.rouse();
    machine.settle(20_000);
    machine.audit();
    assert_eq!(machine.state(one_too_many), None);
    let said = lines::heard("vm4.1");
    assert_eq!(
        said[0],
        "ERROR core: vm4.1 cannot be started: 4 VMs that control the machine live already; end one of them"
    );
    assert!(said[1].contains("ended: no control ring left for it"), "{said:?}");
    // Each is answered by itself.
    for &vm in &vms {
        let mut caller = Caller::new(&mut machine, vm);
        assert_eq!(caller.ask(&mut machine, ControlRequest::Vm { slot: vm.slot }).len(), 1, "{vm}");
    }
    assert!(machine.kernel.destroy(vms[1]));
    let next = machine.create(WITHOUT_NIC);
    machine.rouse();
    machine.settle(20_000);
    assert!(matches!(machine.state(next), Some(State::Idle { .. })));
}

#[test]
fn the_pages_of_the_control_ring_are_not_given_back() {
    let (mut machine, mut caller) = with_caller();
    let page = CONTROL_PAGE / PAGE_SIZE;
    let give = |first| Step::Hypercall { number: hypercall::GIVE_BACK, a: first, b: 1 };
    machine.go_on(&[give(page), keep(0), give(page + 1), keep(1), give(IMAGE_BASE / PAGE_SIZE + 2), keep(2)]);
    machine.settle(4000);
    assert_eq!(machine.kept(3), [ERROR_ARGUMENT, ERROR_ARGUMENT, 0]);
    assert_eq!(caller.ask(&mut machine, ControlRequest::Machine).len(), 2);
}

#[test]
fn a_vm_and_the_operator_ask_at_the_same_time_and_each_hears_its_own() {
    let (mut machine, mut caller) = with_caller();
    let rank = machine.rank(Service::Control);
    if let FakeRole::Monitor(monitor) = &mut machine.hardware.borrow_mut().components[rank].role {
        monitor.requests.push_back(ControlRequest::Image { image: ImageId::new(0) });
    }
    machine.wires.raise(vector(SERIAL_GSI));
    let answers = caller.ask(&mut machine, ControlRequest::Share { slot: Slot::new(0) });
    assert!(matches!(answers[..], [ControlReply::Share { vm: FIRST, .. }]), "{answers:?}");
    match &machine.hardware.borrow().components[rank].role {
        FakeRole::Monitor(monitor) => assert!(matches!(monitor.replies[..], [ControlReply::Image { .. }])),
        _ => panic!("not the monitor"),
    }
    assert!(machine.wires.now() < 60 * HZ);
    let first = machine.kernel.cpu.endpoints.first(Service::Control);
    let party = machine.kernel.cpu.endpoints.get(first).map(|endpoint| endpoint.party);
    assert_eq!(party, Some(Party::Component(rank)), "the operator's component stays the first");
}

#[test]
fn it_is_known_who_has_asked_for_vms_to_come_or_go() {
    let (mut machine, mut caller) = with_caller();
    let endpoint = endpoint_of(&mut machine, FIRST);
    let create = ControlRequest::Create {
        image: WITH_NIC,
        slot: Some(Slot::new(1)),
        ipv4: 0x0a00_0211,
        args: Piece::EMPTY,
        share: Share::UNSAID,
        claim: Claim::UNSAID,
        tenant: Tenant::UNSAID,
        disk: Piece::EMPTY,
    };
    let questions = [ControlRequest::Machine, ControlRequest::Vm { slot: Slot::new(0) }];
    let asks = [create, ControlRequest::Destroy { vm: VmId::new(1, 1) }];
    for (requests, asker) in [(questions, None), (asks, Some(FIRST))] {
        for request in requests {
            machine.kernel.cpu.asker = None;
            assert_eq!(machine.kernel.control_request(endpoint, &request.into()), Ok(()));
            assert_eq!(machine.kernel.cpu.asker, asker, "{request:?}");
        }
    }
    machine.rouse();
    machine.settle(20_000);
    machine.audit();
    assert!(!caller.take().is_empty());
}
