//! VMs that are created, become somebody else and are destroyed by request.

use super::*;

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
        disk: abi::request_page::Piece::EMPTY,
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
        disk: abi::request_page::Piece::EMPTY,
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
fn a_vm_that_idles_and_is_paused_is_not_woken_before_it_goes_on() {
    let mut machine = at_rest();
    let pause = ControlRequest::Pause { vm: FIRST };
    for _ in 0..2 {
        assert_eq!(machine.request(pause), [done(status::OK, 0)], "twice is once");
        assert_eq!(machine.described().0, vm_state::PAUSED);
    }
    machine.audit_lives();
    // What it is called for waits, and so does the VM.
    machine.guests.borrow_mut().steps.push_back(keep(0));
    assert_eq!(machine.request(ControlRequest::Shutdown { vm: FIRST }), [done(status::OK, 0)]);
    machine.settle(20_000);
    assert_eq!((machine.state(FIRST), machine.guests.borrow().steps.len()), (Some(State::Paused), 1));
    assert_eq!(machine.request(ControlRequest::Resume { vm: FIRST }), [done(status::OK, 0)]);
    machine.settle(20_000);
    assert_eq!(machine.kept(1), [abi::guest::pending::SHUTDOWN]);
    assert_eq!(machine.state(FIRST), Some(State::Idle { until: u64::MAX }));
    machine.audit();
}

#[test]
fn who_has_ended_is_told_by_its_number() {
    let mut machine = at_rest();
    let ended = |from| ControlRequest::Ended { from };
    assert_eq!(machine.request(ended(0)), [done(status::NOT_FOUND, 0)]);
    let waits = machine.create(WITHOUT_NIC);
    for vm in [waits, FIRST] {
        assert_eq!(machine.request(ControlRequest::Destroy { vm }), [done(status::OK, 0)]);
    }
    for (number, vm) in [(0, waits), (1, FIRST)] {
        let reason = abi::end::EndReason::Destroyed as u32;
        assert_eq!(machine.request(ended(number)), [ControlReply::Ended { number, vm, reason, detail: 0 }]);
    }
    assert_eq!(machine.request(ended(2)), [done(status::NOT_FOUND, 2)]);
}

#[test]
fn a_vm_that_waits_is_not_paused() {
    let mut machine = at_rest();
    let vm = machine.create(WITHOUT_NIC);
    assert!(machine.waits(vm));
    assert_eq!(machine.kernel.pause(vm), Err(crate::vm::StateError::Waits));
    assert_eq!(machine.kernel.resume(vm), Ok(()));
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
        vec![crate::vm::EMPTY_ACCOUNT; 1].leak(),
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
        disk: abi::request_page::Piece::EMPTY,
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
        disk: abi::request_page::Piece::EMPTY,
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
            disk: abi::request_page::Piece::EMPTY,
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
