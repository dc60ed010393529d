use super::*;
use crate::block_on;
use crate::sim::Sim;
use std::cell::RefCell;
use std::rc::Rc;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

fn done(status: u32, value: u64) -> ControlReply {
    ControlReply::Done { status, value }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("short")
}

fn described(number: u32) -> ControlReply {
    ControlReply::Vm {
        vm: VmId::new(number, 1),
        image: ImageId::new(1),
        state: 3,
        ran_ticks: 0,
        memory: 12,
        metadata: 2,
        tables: 4,
        shared: 30,
        ipv4: 0x0a00_0210 + number,
        bus_locks: 0,
        claim: Claim::UNSAID,
    }
}

/// Slot, address and boot arguments of each VM that was created.
type Created = Rc<RefCell<Vec<(Option<Slot>, u32, String)>>>;

/// A core with the VMs 0 and 1500, two images, and a slot that others take so often. What was created.
fn machine(mut thieves: u32) -> Created {
    let created = Created::default();
    let list = created.clone();
    let mut next = 7;
    Sim::control(move |request, page| match request {
        ControlRequest::NextVm { slot } => vec![match slot.number() {
            0 => described(0),
            1..1000 => done(status::GO_ON, 1000),
            1000..=1500 => described(1500),
            _ => done(status::NOT_FOUND, 0),
        }],
        ControlRequest::Component { index } => vec![match index {
            0 => ControlReply::Component { index, name: name("netmux"), incarnation: 2, ran_ticks: 1 },
            _ => done(status::NOT_FOUND, 0),
        }],
        ControlRequest::Image { image } => vec![match image.number() {
            0 => ControlReply::Image { image, name: name("httpd"), memory_bytes: 1 },
            1 => ControlReply::Image { image, name: name("ask"), memory_bytes: 1 },
            _ => done(status::NOT_FOUND, 0),
        }],
        ControlRequest::Network => {
            let net = Net::Static { address: 0x0a00_0210, prefix: 24, gateway: None };
            vec![ControlReply::Network { net, next: Some(Slot::new(next)) }]
        }
        ControlRequest::ImageArguments { to, .. } => {
            page.write(to.range().expect("in the page").start, b"workers=2\0").expect("in the page");
            vec![done(status::OK, 9)]
        }
        ControlRequest::Create { slot, ipv4, args, disk, .. } => {
            if thieves > 0 {
                thieves -= 1;
                next += 1;
                return vec![done(status::MOVED, next.into())];
            }
            let mut bytes = [0; abi::attachment::BYTES];
            page.read(disk.range().expect("in the page").start, &mut bytes).expect("in the page");
            assert_eq!(
                (usize::from(disk.len), bytes),
                (bytes.len(), Attachment::parse("web:ro").expect("one").to_bytes())
            );
            let mut text = vec![0; usize::from(args.len)];
            page.read(args.range().expect("in the page").start, &mut text).expect("in the page");
            list.borrow_mut().push((slot, ipv4, String::from_utf8(text).expect("text")));
            vec![done(status::OK, VmId::new(next, 1).raw())]
        }
        ControlRequest::Destroy { vm } => {
            vec![done(if vm.slot.number() == 7 { status::OK } else { status::NOT_FOUND }, 0)]
        }
        ControlRequest::Machine => vec![
            ControlReply::Machine {
                tsc: 1,
                idle_ticks: 2,
                tsc_hz: 3,
                component_ticks: 4,
                guest_ticks: 5,
                admitted_ticks: 6,
                late: 7,
            },
            ControlReply::Exits {
                exits: 1,
                hypercalls: 2,
                interrupts: 3,
                syscalls: 4,
                faults: 5,
                fallbacks: 6,
                gap_ticks: 7,
            },
        ],
        _ => vec![done(status::BAD_REQUEST, 0)],
    });
    created
}

#[test]
fn a_vm_without_a_control_ring_has_none_and_nobody_has_two() {
    let _sim = Sim::new("");
    assert!(Control::open().is_none());
    let _sim = Sim::new("");
    machine(0);
    let control = Control::open();
    assert!(control.is_some() && Control::open().is_none());
}

#[test]
fn vms_components_and_images_are_found() {
    let _sim = Sim::new("");
    machine(0);
    block_on(async {
        let mut control = Control::open().expect("there is one");
        let vms = control.vms().await.expect("answers");
        assert_eq!(vms.iter().map(|vm| vm.vm.slot.number()).collect::<Vec<_>>(), [0, 1500]);
        assert_eq!((vms[1].ipv4, vms[1].memory, vms[1].state), (0x0a00_07ec, 12, 3));
        let components = control.components().await.expect("answers");
        let netmux = ComponentState { index: 0, name: name("netmux"), incarnation: 2 };
        assert_eq!(components, [netmux]);
        assert_eq!(control.image("ask").await, Ok(ImageId::new(1)));
        let none = control.image("nginx").await.expect_err("there is none");
        assert_eq!(none, Error::Refused(status::NOT_FOUND));
        assert_eq!(none.to_string(), "there is no such VM, component or image");
        // One question may have several answers.
        let mut first = Vec::new();
        let last = control.ask(ControlRequest::Machine, |reply| first.push(reply)).await;
        assert!(matches!((&first[..], last), ([ControlReply::Machine { .. }], Ok(ControlReply::Exits { .. }))));
    });
}

#[test]
fn several_questions_take_one_ring() {
    let _sim = Sim::new("");
    machine(0);
    block_on(async {
        let mut control = Control::open().expect("there is one");
        let component = |index| ControlRequest::Component { index };
        let questions =
            [component(0), component(1), ControlRequest::Machine, ControlRequest::Vm { slot: Slot::new(0) }];
        let replies = control.ask_each(&questions).await.expect("answers");
        assert!(matches!(
            replies[..],
            [
                ControlReply::Component { .. },
                ControlReply::Done { .. },
                ControlReply::Exits { .. },
                ControlReply::Done { .. }
            ]
        ));
        assert_eq!(Sim::control_rings(), 1);
        // More than there is room for, in turns.
        let many: Vec<_> = (0..50).map(component).collect();
        assert_eq!(control.ask_each(&many).await.map(|replies| replies.len()), Ok(50));
        assert_eq!(Sim::control_rings(), 1 + 50_u64.div_ceil(AT_ONCE as u64));
    });
}

#[test]
fn several_questions_that_are_given_up_are_nobodys_answers() {
    let _sim = Sim::new("");
    Sim::control(|request, _| match request {
        ControlRequest::Component { index: 1 } => Vec::new(),
        ControlRequest::Component { index } => vec![done(status::NOT_FOUND, index.into())],
        _ => vec![done(status::BAD_REQUEST, 9)],
    });
    block_on(async {
        let mut control = Control::open().expect("there is one");
        let questions = [0, 1].map(|index| ControlRequest::Component { index });
        let asked = control.ask_each(&questions);
        let given_up = crate::time::timeout(crate::time::Duration::from_millis(1), asked).await;
        assert!(given_up.is_err(), "nobody has answered the second one");
        Sim::answer_late(done(status::NOT_FOUND, 1));
        let next = control.ask_each(&[ControlRequest::Account]).await;
        assert_eq!(next, Ok(vec![done(status::BAD_REQUEST, 9)]), "an answer is to what was asked");
    });
}

const NO_ENTRY: DiskRequest = DiskRequest::Entry { index: 0 };

#[test]
fn others_are_answered_while_the_disk_component_takes_its_time() {
    let _sim = Sim::new("");
    machine(0);
    block_on(async {
        let mut control = Control::open().expect("there is one");
        let [first, given_up, third] = [(); 3].map(|()| control.ask_disks(NO_ENTRY).expect("room"));
        drop(given_up);
        assert_eq!(control.answer_of_disks(&first), Ok(None));
        assert_eq!(control.image("ask").await, Ok(ImageId::new(1)));
        let seen = answers();
        Sim::answer_late(DiskReply::None);
        answers_since(seen).await;
        // Somebody else finds the answer in the ring, and another one that nobody waits for.
        Sim::answer_late(done(status::OK, 0));
        assert_eq!(control.vms().await.map(|vms| vms.len()), Ok(2));
        assert_eq!(control.answer_of_disks(&third), Ok(None));
        assert_eq!(control.answer_of_disks(&first), Ok(Some(DiskReply::None)));
        assert_eq!(control.answer_of_disks(&first), Ok(None), "once");
        Sim::answer_late(done(status::DISKS_LOST, 0));
        assert_eq!(control.answer_of_disks(&third), Err(Error::Refused(status::DISKS_LOST)));
    });
}

#[test]
fn who_asks_next_waits_for_the_answer_to_what_was_given_up() {
    const PIECE: Piece = Piece { offset: 0, len: 8 };
    let _sim = Sim::new("");
    Sim::control(|request, _| match request {
        ControlRequest::LogRead { .. } => Vec::new(),
        _ => vec![done(status::NOT_FOUND, 7)],
    });
    block_on(async {
        let mut control = Control::open().expect("there is one");
        let asked = control.ask(ControlRequest::LogRead { from: 0, to: PIECE }, drop);
        let given_up = crate::time::timeout(crate::time::Duration::from_millis(1), asked).await;
        assert!(given_up.is_err(), "nobody has answered");
        let said = Rc::new(std::cell::Cell::new(false));
        let says = said.clone();
        crate::task::spawn(async move {
            crate::time::sleep(crate::time::Duration::from_millis(5)).await;
            says.set(true);
            Sim::answer_late(ControlReply::Log { next: 0, missed: 0, bytes: 0 });
        })
        .expect("memory for a task");
        control.settle().await;
        assert!(said.get(), "the core may still write into the request page");
        let next = control.ask(ControlRequest::Component { index: 0 }, drop).await;
        assert_eq!(next, Ok(done(status::NOT_FOUND, 7)), "an answer is to what was asked");
    });
}

#[test]
fn whoever_waits_for_the_disk_component_is_woken() {
    let _sim = Sim::new("");
    machine(0);
    block_on(async {
        let mut control = Control::open().expect("there is one");
        let question = control.ask_disks(NO_ENTRY).expect("room");
        crate::task::spawn(async {
            crate::time::sleep(crate::time::Duration::from_millis(5)).await;
            Sim::answer_late(DiskReply::None);
        })
        .expect("memory for a task");
        let reply = loop {
            let seen = answers();
            if let Some(reply) = control.answer_of_disks(&question).expect("an answer") {
                break reply;
            }
            answers_since(seen).await;
        };
        assert_eq!(reply, DiskReply::None);
    });
}

#[test]
fn a_vm_is_put_together_as_the_operator_would_and_destroyed() {
    for (thieves, slot) in [(0, 7), (3, 10)] {
        let _sim = Sim::new("");
        let created = machine(thieves);
        let disk = Attachment::parse("web:ro").expect("a disk");
        let terms = Terms { disk, ..Terms::UNSAID };
        block_on(async {
            let mut control = Control::open().expect("there is one");
            let vm = control.create(ImageId::new(0), b"a=b", terms).await;
            assert_eq!(vm, Ok(VmId::new(slot, 1)));
            let text = std::format!("workers=2 ip=10.0.2.{}/24 a=b", 16 + slot);
            assert_eq!(*created.borrow(), [(Some(Slot::new(slot)), 0x0a00_0210 + slot, text)]);
            assert_eq!(control.destroy(VmId::new(7, 1)).await, Ok(()));
            assert_eq!(control.destroy(VmId::new(8, 1)).await, Err(Error::Refused(status::NOT_FOUND)));
            let long = control.create(ImageId::new(0), &[b'x'; 1000], terms).await;
            assert_eq!(long, Err(Error::TooLong(TooLong { bytes: 1026 })));
        });
    }
    let _sim = Sim::new("");
    machine(u32::MAX);
    let terms = Terms::UNSAID;
    block_on(async {
        let mut control = Control::open().expect("there is one");
        let moved = control.create(ImageId::new(0), b"", terms).await;
        assert_eq!(moved, Err(Error::Refused(status::MOVED)));
    });
}
