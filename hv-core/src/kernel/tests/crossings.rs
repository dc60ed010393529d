//! Which barriers come between whom: what the fake CPU was asked for, held against a table of all crossings.

use super::machine::{Machine, WITH_NIC, WITHOUT_NIC};
use crate::vm::Requested;
use abi::barriers::{BarrierPlan, Barriers, Exposures, mode, setup};
use abi::control::{ControlReply, ControlRequest};
use abi::guest::hypercall;
use abi::request_page::Piece;
use abi::share::Share;
use abi::tenant::Tenant;
use abi::vm::VmId;
use backend::fake::{Asked, Step};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Each set another barrier, so that none can take another's place.
const EXIT: Barriers = Barriers::IBRS;
const TENANT: Barriers = Barriers::IBPB;
const ENTRY: Barriers = Barriers::VERW;
const COMPONENT: Barriers = Barriers::RSB;
const NONE: Barriers = Barriers::NONE;

fn plan(mode: u32) -> BarrierPlan {
    BarrierPlan {
        mode,
        setup: setup::ENHANCED_IBRS,
        exposed: Exposures::L1TF,
        open: Exposures::NONE,
        exit: EXIT,
        tenant: TENANT,
        entry: ENTRY,
        component: COMPONENT,
    }
}

type Log = Rc<RefCell<Vec<Asked>>>;

fn watched<const TIMER: bool>(barriers: BarrierPlan, scheduler: bool) -> (Machine<TIMER>, Log) {
    let mut machine = Machine::<TIMER>::with_barriers(barriers, scheduler);
    let log = Log::default();
    machine.kernel.cpu.backend.asked = Some(log.clone());
    machine.hardware.borrow_mut().crossings = Some(log.clone());
    (machine, log)
}

/// Four VMs, of which the first two are one tenant's, that compute, call, sleep a little and send.
fn busy<const TIMER: bool>(barriers: BarrierPlan) -> Vec<Asked> {
    let (mut machine, log) = watched::<TIMER>(barriers, true);
    let (mut random, mut time) = (1_u64, super::machine::HZ);
    machine.guests.borrow_mut().calm = Some(Box::new(move |_| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let call = |number, a| Step::Hypercall { number, a, b: 0 };
        // About what the clock shows.
        time += 2_500;
        Some(match random >> 60 {
            0 if random & 1 << 59 == 0 => call(hypercall::IDLE, 0),
            0 => call(hypercall::IDLE, time),
            1 => call(hypercall::KICK, 0),
            2..=5 => call(hypercall::NOP, 0),
            _ => Step::Compute(2_000),
        })
    }));
    let blue = Tenant::new("blue").expect("a name");
    for (tenant, image) in
        [(blue, WITH_NIC), (blue, WITHOUT_NIC), (Tenant::UNSAID, WITH_NIC), (Tenant::UNSAID, WITHOUT_NIC)]
    {
        machine.create_for(tenant, image, b"").expect("room");
    }
    for _ in 0..3_000 {
        machine.step();
    }
    drop(machine);
    Rc::try_unwrap(log).expect("nobody else has it").into_inner()
}

/// From whom to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Crossing {
    CoreToFirstGuest,
    GuestToCore,
    ItselfAgain,
    ItselfBehindComponent,
    SameTenant,
    SameTenantBehindComponent,
    OtherTenant,
    OtherTenantBehindComponent,
    GuestToComponent,
    ComponentToComponent,
}

/// What each crossing takes; of two, the second where the core has worked for others meanwhile.
const TABLE: [(Crossing, [Barriers; 2]); 10] = [
    (Crossing::CoreToFirstGuest, [TENANT.with(ENTRY); 2]),
    (Crossing::GuestToCore, [EXIT; 2]),
    (Crossing::ItselfAgain, [NONE, ENTRY]),
    (Crossing::ItselfBehindComponent, [ENTRY; 2]),
    (Crossing::SameTenant, [NONE, ENTRY]),
    (Crossing::SameTenantBehindComponent, [ENTRY; 2]),
    (Crossing::OtherTenant, [TENANT.with(ENTRY); 2]),
    (Crossing::OtherTenantBehindComponent, [TENANT.with(ENTRY); 2]),
    (Crossing::GuestToComponent, [COMPONENT; 2]),
    (Crossing::ComponentToComponent, [NONE; 2]),
];

/// Every crossing of a log, with what came between.
fn crossings(log: &[Asked]) -> Vec<(Crossing, Barriers)> {
    let tenant = |slot: u32| slot.max(1);
    let (mut last, mut component, mut now) = (None, false, NONE);
    let mut found = Vec::new();
    for &asked in log {
        match asked {
            Asked::Now(barriers) => {
                assert_eq!(now, NONE, "twice");
                now = barriers;
            }
            Asked::Component(_) => {
                let guest = last.is_some() && !component;
                let crossing = if guest { Crossing::GuestToComponent } else { Crossing::ComponentToComponent };
                found.push((crossing, std::mem::take(&mut now)));
                component = true;
            }
            Asked::Exit(slot, barriers) => {
                assert_eq!(last, Some(slot));
                found.push((Crossing::GuestToCore, barriers));
            }
            Asked::Entry(slot, barriers) => {
                assert_eq!(now, NONE, "a component should follow");
                let crossing = match last {
                    None => Crossing::CoreToFirstGuest,
                    Some(last) if last == slot && component => Crossing::ItselfBehindComponent,
                    Some(last) if last == slot => Crossing::ItselfAgain,
                    Some(last) if tenant(last) == tenant(slot) && component => Crossing::SameTenantBehindComponent,
                    Some(last) if tenant(last) == tenant(slot) => Crossing::SameTenant,
                    Some(_) if component => Crossing::OtherTenantBehindComponent,
                    Some(_) => Crossing::OtherTenant,
                };
                found.push((crossing, barriers));
                (last, component) = (Some(slot), false);
            }
        }
    }
    found
}

fn every_crossing_by_the_table<const TIMER: bool>() {
    let mut seen: BTreeMap<Crossing, u32> = BTreeMap::new();
    for (crossing, barriers) in crossings(&busy::<TIMER>(plan(mode::AUTO))) {
        let expected = TABLE.iter().find(|row| row.0 == crossing).expect("all are there").1;
        assert!(expected.contains(&barriers), "{crossing:?}: {barriers}");
        *seen.entry(crossing).or_default() += 1;
    }
    assert_eq!(seen.len(), TABLE.len(), "some never came: {seen:?}");
}

#[test]
fn every_crossing_takes_what_the_table_says_with_a_timer() {
    every_crossing_by_the_table::<true>();
}

#[test]
fn every_crossing_takes_what_the_table_says_without_a_timer() {
    every_crossing_by_the_table::<false>();
}

#[test]
fn off_asks_for_nothing() {
    for (crossing, barriers) in crossings(&busy::<true>(BarrierPlan::default())) {
        assert_eq!(barriers, NONE, "{crossing:?}");
    }
}

#[test]
fn strict_asks_at_every_crossing() {
    let mut guests = 0;
    let log = busy::<true>(plan(mode::STRICT));
    for (crossing, barriers) in crossings(&log) {
        match crossing {
            Crossing::GuestToCore => assert_eq!(barriers, EXIT),
            Crossing::GuestToComponent => assert_eq!(barriers, COMPONENT),
            // Not where the same one goes on.
            Crossing::ComponentToComponent => {}
            _ => {
                guests += 1;
                assert_eq!(barriers, TENANT.with(ENTRY), "{crossing:?}");
            }
        }
    }
    assert!(guests > 1_000, "{guests}");
    let changes = log.windows(2).filter(|pair| matches!(pair, [Asked::Component(a), Asked::Component(b)] if a != b));
    assert_eq!(changes.count(), 0, "another component goes on without a barrier");
}

/// A VM alone on a machine where nobody plans, which computes for ever; the entries of its next turns.
fn alone(what: impl FnOnce(&mut Machine<true>, VmId)) -> Vec<Asked> {
    let (mut machine, log) = watched::<true>(plan(mode::AUTO), false);
    machine.guests.borrow_mut().calm = Some(Box::new(|_| Some(Step::Compute(5_000))));
    let vm = machine.create(WITHOUT_NIC);
    for _ in 0..100 {
        machine.step();
    }
    log.borrow_mut().clear();
    what(&mut machine, vm);
    machine.step();
    let log = log.borrow();
    log.iter().copied().filter(|asked| matches!(asked, Asked::Entry(..) | Asked::Component(_))).collect()
}

#[test]
fn nothing_comes_between_two_turns_of_one_vm() {
    assert_eq!(alone(|_, _| ()), [Asked::Entry(0, NONE)]);
}

#[test]
fn what_the_core_does_for_others_is_a_crossing() {
    let entries = alone(|machine, _| machine.kernel.cpu.attention.set_timer());
    assert_eq!(entries, [Asked::Entry(0, ENTRY)]);
}

#[test]
fn what_the_core_makes_of_the_boot_options_is_a_crossing() {
    let entries = alone(|machine, _| machine.kernel.requested = Requested::new(1));
    assert_eq!(entries, [Asked::Entry(0, ENTRY)]);
}

#[test]
fn an_image_says_whose_its_vms_are_unless_the_creator_does() {
    let (mut machine, _) = watched::<true>(plan(mode::AUTO), true);
    let [blue, red] = ["blue", "red"].map(|name| Tenant::new(name).expect("a name"));
    machine.kernel.cpu.images.get_mut(WITHOUT_NIC).expect("it is there").entry.tenant = blue.raw();
    let (share, args) = (Share::UNSAID, Piece::EMPTY);
    let order = |image, tenant| ControlRequest::Create {
        image,
        slot: None,
        ipv4: 0,
        args,
        share,
        claim: abi::claim::Claim::UNSAID,
        tenant,
        disk: abi::request_page::Piece::EMPTY,
    };
    for (image, said, is) in [
        (WITHOUT_NIC, Tenant::UNSAID, blue),
        (WITHOUT_NIC, red, red),
        (WITH_NIC, red, red),
        (WITH_NIC, Tenant::UNSAID, Tenant::UNSAID),
    ] {
        let [ControlReply::Done { value, .. }] = machine.request(order(image, said))[..] else { panic!("no answer") };
        let vm = VmId::from_raw(value);
        let tenant_of = |machine: &mut Machine<true>| match machine.request(ControlRequest::Share { slot: vm.slot })[..]
        {
            [ControlReply::Share { tenant, .. }] => tenant,
            _ => panic!("no answer"),
        };
        assert_eq!(tenant_of(&mut machine), is);
        machine.finish();
        assert_eq!(tenant_of(&mut machine), is, "admitted");
        assert_eq!(machine.kernel.vms.by_id(vm).map(|vm| vm.tenant), Some(is));
    }
}

#[test]
fn whoever_asks_is_told_what_was_decided() {
    let (mut machine, _) = watched::<true>(plan(mode::AUTO), true);
    assert_eq!(machine.request(ControlRequest::Barriers), [ControlReply::Barriers { plan: plan(mode::AUTO) }]);
}
