//! Nobody who is called waits for ever: not for those who have an alarm soon, not behind one for whom no room can be made, not because others take
//! what was freed for it, or all that there is.

use super::comings::{bring_in, step_until, with_swap};
use super::machine::{GUEST_PAGES, HZ, IMAGE_PAGE, Machine, Places, WITH_NIC};
use crate::memory::{Owner, PhysAddr};
use crate::vm::{Devices, State};
use abi::guest::{hypercall, pending};
use abi::service::Service;
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

pub fn is_idle(machine: &mut Machine<true>, vm: VmId) -> bool {
    matches!(machine.state(vm), Some(State::Idle { .. }))
}

pub fn is_in(machine: &mut Machine<true>, vm: VmId) -> bool {
    machine.kernel.vms.by_id(vm).is_some_and(|vm| vm.life.body().is_some())
}

/// Lets so many ticks pass; whether the VM is in then.
pub fn comes_within(machine: &mut Machine<true>, vm: VmId, ticks: u64) -> bool {
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

/// A VM touches pages behind its image, until it gets no more or has got so many. How many it has got.
fn grow(machine: &mut Machine<true>, vm: VmId, most: usize) -> usize {
    let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
    let vm = vms.by_id(vm).expect("it is in");
    let image = cpu.images.get(vm.image).expect("it was made from it");
    let memory = &mut vm.life.body_mut().expect("it is in").memory;
    let free: Vec<_> =
        (IMAGE_PAGE + 40..GUEST_PAGES).filter(|&page| memory.frame(&mut cpu.frames, page).is_none()).collect();
    free.into_iter().take(most).take_while(|&page| memory.map_zero(&mut cpu.frames, page, image).is_ok()).count()
}

/// All VMs are out from here on.
fn put_out(machine: &mut Machine<true>, vms: &[VmId]) {
    let pager = machine.kernel.cpu.endpoints.first(Service::Pager);
    for &vm in vms {
        for _ in 0..8 {
            if machine.kernel.vms.out(vm).is_none() {
                machine.wires.spend(HZ / 1000);
                machine.kernel.let_out(pager, vm);
                machine.rouse();
                machine.settle(20_000);
            }
        }
        assert!(machine.kernel.vms.out(vm).is_some(), "{vm} stays");
    }
    machine.audit();
}

/// Calls VMs that are out, all at once. Those of them that are not in after so many ticks.
fn call_all(machine: &mut Machine<true>, called: &[VmId], ticks: u64) -> Vec<VmId> {
    let plan = machine.kernel.cpu.endpoints.first(Service::Plan);
    let end = machine.wires.now() + ticks;
    let (mut next, mut left) = (0, called.to_vec());
    while machine.wires.now() < end && !left.is_empty() {
        if let Some(&vm) = called.get(next).filter(|_| machine.kernel.cpu.has_room(plan)) {
            let _ = machine.kernel.vms.out(vm).is_some() && machine.kernel.raise(vm, pending::NIC);
            next += 1;
        } else if machine.is_asleep() {
            machine.wires.spend(HZ / 1000);
        }
        machine.rouse();
        machine.step();
        // Whoever has been in, if only for a moment, has had what it came for.
        left.retain(|&vm| !is_in(machine, vm));
    }
    machine.audit();
    left
}

/// A machine where all that is free but so many frames is the core's, that is, of those who never go out; with VMs that are out.
fn hoarded(out: usize, left: usize) -> (Machine<true>, Vec<VmId>, Vec<PhysAddr>) {
    let (mut machine, vms) = machine(24, out - 24);
    put_out(&mut machine, &vms);
    let mut hoard = grab(&mut machine);
    let given = hoard.split_off(hoard.len() - left);
    give(&mut machine, given);
    (machine, vms, hoard)
}

#[test]
fn who_grows_leaves_room_for_those_who_come_in() {
    let (mut machine, mut vms, hoard) = hoarded(32, 220);
    let hoarder = vms.remove(0);
    assert_eq!(call_all(&mut machine, &[hoarder], HZ), []);
    // It never goes out.
    machine.kernel.vms.by_id(hoarder).expect("it is in").ipv4 = 0;
    let floor = machine.kernel.cpu.frames.floor();
    assert!(grow(&mut machine, hoarder, usize::MAX) > 100);
    assert_eq!((machine.kernel.cpu.frames.unreserved(), machine.kernel.cpu.frames.spare()), (floor, 0));
    for round in 0..6 {
        assert_eq!(call_all(&mut machine, &vms, 4 * HZ), [], "they wait for ever in round {round}");
        let _ = grow(&mut machine, hoarder, usize::MAX);
    }
    // When all are out, there is as much room as before.
    vms.retain(|&vm| is_in(&mut machine, vm));
    put_out(&mut machine, &vms);
    let _ = grow(&mut machine, hoarder, usize::MAX);
    assert_eq!(machine.kernel.cpu.frames.unreserved(), floor);
    give(&mut machine, hoard);
    machine.audit();
}

#[test]
fn who_is_too_large_lets_others_pass_and_comes_in_when_there_is_room() {
    let (mut machine, mut vms, mut hoard) = hoarded(32, 250);
    let large = vms.remove(0);
    assert_eq!(call_all(&mut machine, &[large], HZ), []);
    assert_eq!(grow(&mut machine, large, 150), 150);
    put_out(&mut machine, &[large]);
    let more = grab(&mut machine);
    hoard.extend(more);
    let floor = usize::try_from(machine.kernel.cpu.frames.floor()).expect("small");
    let left = hoard.split_off(hoard.len() - floor);
    give(&mut machine, left);
    // It is called before all others, and there is no room for it.
    assert_eq!(call_all(&mut machine, &[large], HZ / 10), [large]);
    for round in 0..4 {
        assert_eq!(call_all(&mut machine, &vms, 8 * HZ), [], "they wait behind it in round {round}");
        assert!(machine.waits(large));
    }
    // There is room for it if everybody else goes out; and these come again and again.
    let given = hoard.split_off(hoard.len() - 120);
    give(&mut machine, given);
    let mut rounds = 0;
    while machine.waits(large) {
        let _ = call_all(&mut machine, &vms, HZ / 2);
        rounds += 1;
        assert!(rounds < 20, "it waits for ever");
    }
    give(&mut machine, hoard);
    assert_eq!(call_all(&mut machine, &vms, 4 * HZ), []);
}

#[test]
fn who_came_in_without_a_window_is_called_all_the_same_when_it_is_out() {
    let mut machine = Machine::<true>::with_swap(4096, Places { slots: 64, seats: 8 });
    machine.settle(4000);
    let vm = machine.create(WITH_NIC);
    let wants = machine.kernel.vms.waiting(vm).map(|seed| machine.kernel.vms.wants(&seed)).expect("it waits");
    // There is just as much as its reserve.
    let hoard = machine.hoard(wants.into());
    machine.admit(vm);
    machine.unhoard(hoard);
    machine.rouse();
    machine.settle(20_000);
    let has_nic = |machine: &mut Machine<true>| {
        machine.kernel.vms.by_id(vm).is_some_and(|vm| vm.life.shared().contains(Devices::NIC))
    };
    assert!(is_in(&mut machine, vm) && !has_nic(&mut machine), "there was no frame for its window");
    put_out(&mut machine, &[vm]);
    let rank = machine.rank(Service::Net);
    assert!(machine.hardware.borrow().components[rank].net().out.contains(&vm), "nobody calls it");
    bring_in(&mut machine, vm, pending::NIC);
    assert!(has_nic(&mut machine));
}
