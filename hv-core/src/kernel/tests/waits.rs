//! Nobody who is called waits for ever: not for those who have an alarm soon, not behind one for whom no room can be made, not because others take
//! what was freed for it.

use super::comings::{bring_in, step_until, with_swap};
use super::machine::{HZ, Machine, Places, WITH_NIC};
use crate::memory::{Owner, PhysAddr};
use crate::vm::State;
use abi::guest::{hypercall, pending};
use abi::vm::VmId;
use backend::fake::Step;

/// A machine with swap and so many seats, all of which have VMs that have run and idle until an alarm that never comes; and as many more VMs as are to be out.
fn machine(seats: usize, out: usize) -> (Machine<true>, Vec<VmId>) {
    let mut machine = Machine::<true>::with_swap(4096, Places { slots: 64, seats });
    machine.settle(4000);
    let vms: Vec<_> = (0..seats + out)
        .map(|_| {
            let vm = machine.create(WITH_NIC);
            machine.rouse();
            step_until(&mut machine, |machine| is_idle(machine, vm));
            machine.wires.spend(HZ / 1000);
            vm
        })
        .collect();
    machine.audit();
    (machine, vms)
}

fn is_idle(machine: &mut Machine<true>, vm: VmId) -> bool {
    matches!(machine.state(vm), Some(State::Idle { .. }))
}

fn is_in(machine: &mut Machine<true>, vm: VmId) -> bool {
    machine.kernel.vms.by_id(vm).is_some_and(|vm| vm.life.body().is_some())
}

/// Lets so many ticks pass; whether the VM is in then.
fn comes_within(machine: &mut Machine<true>, vm: VmId, ticks: u64) -> bool {
    let end = machine.wires.now() + ticks;
    machine.rouse();
    while machine.wires.now() < end && !is_in(machine, vm) {
        machine.step();
        if machine.is_asleep() {
            machine.wires.spend(HZ / 1000);
            machine.rouse();
        }
    }
    machine.audit();
    is_in(machine, vm)
}

#[test]
fn alarms_that_come_again_and_again_keep_nobody_out() {
    let (mut machine, _) = machine(2, 0);
    for vm in machine.vms() {
        let _ = machine.kernel.destroy(vm);
    }
    // Whoever idles has an alarm in half a second, always.
    let wires = machine.wires.clone();
    let idle = move |_| Some(Step::Hypercall { number: hypercall::IDLE, a: wires.now() + HZ / 2, b: 0 });
    machine.guests.borrow_mut().calm = Some(Box::new(idle));
    let vms: Vec<_> = (0..6).map(|_| machine.create(WITH_NIC)).collect();
    // They take turns: whoever is called waits for all others at most, a quarter of a second each.
    for round in 0..10 {
        for &vm in &vms {
            let _ = machine.kernel.vms.out(vm).is_some() && machine.kernel.raise(vm, pending::NIC);
            assert!(comes_within(&mut machine, vm, 3 * HZ), "{vm} waits in round {round}");
        }
    }
}

#[test]
fn who_can_make_room_in_a_full_pool_passes_who_cannot() {
    let (mut machine, vms) = machine(2, 1);
    let out = *vms.iter().find(|vm| machine.kernel.vms.out(**vm).is_some()).expect("one has made room");
    let bytes = u64::from(machine.kernel.vms.bundle(out.slot).expect("it is out").bytes);
    // All that is free is kept for exchanges.
    with_swap(&mut machine, |swap| (swap.pool_bytes, swap.kept_free) = (4 * bytes, 4 * bytes));
    let fresh: Vec<_> = (0..20).map(|_| machine.create(WITH_NIC)).collect();
    assert!(!comes_within(&mut machine, fresh[0], HZ / 2), "there is no room for it");
    assert!(machine.kernel.raise(out, pending::NIC));
    assert!(comes_within(&mut machine, out, HZ), "it waits behind those for whom no room can be made");
    assert!(!comes_within(&mut machine, fresh[0], HZ / 2));
    // Somebody else goes out and comes in, again and again.
    let other = *vms.iter().find(|vm| machine.kernel.vms.out(**vm).is_some()).expect("one has made room");
    assert!(machine.kernel.raise(other, pending::NIC) && comes_within(&mut machine, other, HZ));
    // There is room in the pool again.
    with_swap(&mut machine, |swap| (swap.pool_bytes, swap.kept_free) = (64 * bytes, 0));
    for vm in fresh {
        assert!(comes_within(&mut machine, vm, HZ), "{vm} waits although there is room");
    }
}

/// Takes every frame that can be had.
fn grab(machine: &mut Machine<true>) -> Vec<PhysAddr> {
    let frames = &mut machine.kernel.cpu.frames;
    std::iter::from_fn(|| frames.alloc(Owner::Core, 0)).collect()
}

fn give(machine: &mut Machine<true>, frames: Vec<PhysAddr>) {
    for frame in frames {
        machine.kernel.cpu.frames.free(frame, Owner::Core);
    }
}

#[test]
fn what_was_freed_for_one_that_waits_nobody_else_takes() {
    let (mut machine, vms) = machine(8, 0);
    let mut kept = grab(&mut machine);
    let vm = machine.create(WITH_NIC);
    machine.rouse();
    // They are taken the very moment that they are free. (The gatekeeper of the test leaves a few.)
    while !is_in(&mut machine, vm) {
        machine.step();
        let mut taken = grab(&mut machine);
        let wants = machine.kernel.vms.waiting(vm).map_or(0, |seed| machine.kernel.vms.wants(&seed));
        if machine.kernel.cpu.frames.unreserved() >= u64::from(wants) {
            taken.extend(kept.split_off(kept.len() - 8));
            let few = taken.split_off(taken.len() - 8);
            give(&mut machine, few);
        }
        kept.extend(taken);
        assert!(machine.wires.now() < 5 * HZ, "{vm} does not come in");
    }
    assert!(vms.iter().any(|vm| machine.kernel.vms.out(*vm).is_some()), "somebody has gone for it");
    give(&mut machine, kept);
    // Where nobody waits any more, nothing is set aside.
    machine.rouse();
    for _ in 0..2000 {
        machine.step();
    }
    let free = machine.kernel.cpu.frames.unreserved();
    let all = grab(&mut machine);
    assert_eq!((all.len() as u64, machine.kernel.cpu.frames.unreserved()), (free, 0));
    give(&mut machine, all);
    machine.audit();
    let out = vms.into_iter().find(|vm| machine.kernel.vms.out(*vm).is_some()).expect("as above");
    bring_in(&mut machine, out, pending::NIC);
}
