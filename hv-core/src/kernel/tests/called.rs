//! VMs that are out and are called while their tenant has had as many come in as it may in a second.

use super::comings::{put_out, step_until};
use super::machine::{HZ, Machine, Places, WITH_NIC};
use super::waits::{is_idle, is_in};
use crate::component::Death;
use abi::control::{ControlReply, ControlRequest, status};
use abi::flow::Flow;
use abi::guest::pending;
use abi::manifest::image_flags;
use abi::quota::Quota;
use abi::service::Service;
use abi::tenant::Tenant;
use abi::vm::VmId;
use proptest::prelude::*;

fn tenant(name: &str) -> Tenant {
    Tenant::new(name).expect("a name")
}

/// So many VMs of each of these tenants, which start with their first packets.
fn machine(tenants: &[(&str, usize)]) -> (Machine<true>, Vec<Vec<VmId>>) {
    let mut machine = Machine::with_places(4096, Places { slots: 64, seats: 32 });
    machine.kernel.cpu.images.get_mut(WITH_NIC).expect("it is there").entry.flags = image_flags::LAZY;
    machine.settle(4000);
    let create = |machine: &mut Machine<true>, name| {
        let tenant = Tenant::new(name).unwrap_or_default();
        let vm = machine.create_for(tenant, WITH_NIC, b"").expect("room");
        machine.rouse();
        machine.settle(4000);
        vm
    };
    let vms = tenants.iter().map(|&(name, count)| (0..count).map(|_| create(&mut machine, name)).collect()).collect();
    machine.audit();
    (machine, vms)
}

/// Not by a request, which would take time.
fn limit(machine: &mut Machine<true>, name: &str, wakes: u32) {
    let done = machine.kernel.set_quota(tenant(name), Quota::NONE, Flow { wakes, ..Flow::UNCHANGED });
    assert_eq!(done, ControlReply::Done { status: status::OK, value: 0 });
    machine.audit();
}

/// VMs of a tenant that wait, and how many ever had to.
fn standing(machine: &Machine<true>, name: &str) -> (u32, u64) {
    let (_, standing) = machine.kernel.vms.tenants().get(tenant(name)).expect("it has VMs");
    (standing.waiting, standing.delayed)
}

fn call(machine: &mut Machine<true>, vms: &[VmId]) {
    for &vm in vms {
        while !machine.kernel.can_come_in(vm) {
            machine.rouse();
            machine.step();
        }
        assert!(machine.kernel.raise(vm, pending::NIC));
    }
}

/// Lets time pass until then.
fn go_on_until(machine: &mut Machine<true>, then: u64) {
    machine.rouse();
    while machine.wires.now() < then {
        machine.step();
        if machine.is_asleep() {
            machine.wires.spend(HZ / 1000);
            machine.rouse();
        }
    }
    machine.audit();
}

fn go_on(machine: &mut Machine<true>, ticks: u64) {
    let then = machine.wires.now() + ticks;
    go_on_until(machine, then);
}

fn count_in(machine: &mut Machine<true>, vms: &[VmId]) -> usize {
    vms.iter().filter(|&&vm| is_in(machine, vm)).count()
}

#[test]
fn as_many_come_in_at_once_as_may_in_a_second_and_then_one_after_the_other_and_nobody_else_waits() {
    let (mut machine, vms) = machine(&[("blue", 8), ("red", 4), ("", 4)]);
    limit(&mut machine, "blue", 4);
    let start = machine.wires.now();
    call(&mut machine, &vms[0]);
    call(&mut machine, &vms[1]);
    call(&mut machine, &vms[2]);
    assert_eq!(standing(&machine, "blue"), (4, 4));
    // Again is no harm, and does not count again.
    call(&mut machine, &vms[0]);
    go_on_until(&mut machine, start + HZ / 8);
    let blues: Vec<bool> = vms[0].iter().map(|&vm| is_in(&mut machine, vm)).collect();
    assert_eq!(blues, [true, true, true, true, false, false, false, false]);
    assert_eq!((count_in(&mut machine, &vms[1]), count_in(&mut machine, &vms[2])), (4, 4), "those of others");
    for more in 1..=4_usize {
        go_on_until(&mut machine, start + HZ / 4 * more as u64 + HZ / 8);
        assert_eq!(count_in(&mut machine, &vms[0]), 4 + more);
        assert!(is_in(&mut machine, vms[0][3 + more]), "the next one of those that wait");
    }
    let tenant = tenant("blue");
    let flow = ControlReply::Flow { tenant, flow: Flow { wakes: 4, rate: 0 }, waiting: 0, delayed: 4 };
    assert_eq!(machine.request(ControlRequest::Tenant { tenant }).first(), Some(&flow));
}

#[test]
fn alarms_of_those_that_are_out_count_as_well() {
    let mut machine = Machine::<true>::with_swap(4096, Places { slots: 64, seats: 32 });
    machine.settle(4000);
    let mut vms = Vec::new();
    for _ in 0..3 {
        let vm = machine.create_for(tenant("blue"), WITH_NIC, b"").expect("room");
        machine.rouse();
        step_until(&mut machine, |machine| is_idle(machine, vm));
        machine.wires.spend(HZ / 1000);
        put_out(&mut machine, vm);
        vms.push(vm);
    }
    limit(&mut machine, "blue", 1);
    let at = machine.wires.now() + HZ / 100;
    for &vm in &vms {
        machine.kernel.cpu.absent_timers.set(vm.slot, at);
    }
    machine.kernel.cpu.arm(at);
    go_on_until(&mut machine, at + HZ / 2);
    assert_eq!((count_in(&mut machine, &vms), standing(&machine, "blue")), (1, (2, 2)));
    go_on(&mut machine, 2 * HZ);
    assert_eq!((count_in(&mut machine, &vms), standing(&machine, "blue").0), (3, 0));
}

#[test]
fn what_the_operator_wants_does_not_wait_and_who_ends_does_no_longer() {
    let (mut machine, vms) = machine(&[("blue", 5)]);
    limit(&mut machine, "blue", 1);
    call(&mut machine, &vms[0]);
    assert_eq!(standing(&machine, "blue").0, 4);
    assert!(machine.kernel.raise(vms[0][3], pending::SHUTDOWN));
    assert!(machine.kernel.destroy(vms[0][1]));
    go_on(&mut machine, HZ / 4);
    assert!(is_in(&mut machine, vms[0][3]) && !is_in(&mut machine, vms[0][2]));
    assert_eq!(standing(&machine, "blue").0, 2);
    let vm = machine.kernel.vms.by_id(vms[0][3]).expect("it is in");
    let bits = vm.life.body().expect("it is in").registers.pending();
    assert_eq!(
        bits & (pending::NIC | pending::SHUTDOWN),
        pending::NIC | pending::SHUTDOWN,
        "what had called it before"
    );
    assert!(machine.kernel.destroy(vms[0][2]) && machine.kernel.destroy(vms[0][4]));
    machine.audit();
    assert_eq!(standing(&machine, "blue").0, 0);
}

#[test]
fn those_that_wait_come_in_when_their_tenant_may_do_more() {
    let (mut machine, vms) = machine(&[("blue", 12)]);
    limit(&mut machine, "blue", 1);
    call(&mut machine, &vms[0]);
    go_on(&mut machine, HZ / 4);
    limit(&mut machine, "blue", 4);
    go_on(&mut machine, HZ / 4);
    assert!((3..=6).contains(&count_in(&mut machine, &vms[0])), "{}", count_in(&mut machine, &vms[0]));
    limit(&mut machine, "blue", 0);
    go_on(&mut machine, HZ / 4);
    assert_eq!((count_in(&mut machine, &vms[0]), standing(&machine, "blue").0), (12, 0));
}

#[test]
fn they_come_in_whichever_component_has_died() {
    for service in [Service::Net, Service::Plan, Service::Pager] {
        let (mut machine, vms) = machine(&[("blue", 4)]);
        limit(&mut machine, "blue", 1);
        call(&mut machine, &vms[0]);
        let rank = machine.rank(service);
        machine.kernel.cpu.condemn(rank, Death::Killed);
        go_on(&mut machine, 4 * HZ);
        assert_eq!(count_in(&mut machine, &vms[0]), 4, "{service:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// In any time no more come in than fit, and each one does in the end, whoever ends and whatever changes.
    #[test]
    fn never_more_than_a_rate_and_nobody_for_ever(
        wakes in 1_u32..6,
        steps in prop::collection::vec((0_usize..12, 0_u8..8, 1_u64..300), 1..40),
    ) {
        let (mut machine, mut vms) = machine(&[("blue", 12)]);
        limit(&mut machine, "blue", wakes);
        let (mut came, start) = (0_i64, machine.wires.now());
        let blues = &mut vms[0];
        for (which, what, ms) in steps {
            let vm = blues[which];
            let before = i64::try_from(machine.kernel.vms.out_count()).expect("few");
            match what {
                0..5 => _ = machine.kernel.can_come_in(vm) && machine.kernel.raise(vm, pending::NIC),
                5 if machine.kernel.cpu.all_have_room() => {
                    let was_out = machine.kernel.vms.out(vm).is_some();
                    prop_assert!(machine.kernel.destroy(vm) || !was_out);
                    came -= i64::from(was_out);
                    if let Ok(next) = machine.create_for(tenant("blue"), WITH_NIC, b"") {
                        blues[which] = next;
                        came += 1;
                    }
                }
                _ => go_on(&mut machine, HZ / 1000 * ms),
            }
            // Whoever is out no longer has come in, but for those that have ended or begun.
            came += before - i64::try_from(machine.kernel.vms.out_count()).expect("few");
            let seconds = (machine.wires.now() - start) as f64 / HZ as f64;
            let most = f64::from(wakes) * (1.0 + seconds);
            prop_assert!(came as f64 <= most, "{came} of {most}");
        }
        for &vm in blues.iter() {
            if machine.kernel.vms.out(vm).is_some() {
                call(&mut machine, &[vm]);
            }
        }
        go_on(&mut machine, 14 * HZ);
        for &vm in blues.iter() {
            prop_assert!(machine.kernel.vms.out(vm).is_none(), "{} waits for ever", vm);
        }
    }
}
