//! VMs that the scheduler keeps back, or that somebody pauses, and what ends that.

use super::machine::{HZ, Machine, WITHOUT_NIC};
use super::roles::Role as FakeRole;
use crate::component::Death;
use crate::vm::{Queue, State, StateError};
use abi::sched::SchedCommand;
use abi::service::Service;
use abi::vm::VmId;
use backend::fake::Step;

type Fake = Machine<true>;

/// A machine with `count` VMs that compute for ever, whose scheduler plans nothing.
fn computing(count: usize) -> (Fake, Vec<VmId>) {
    let mut machine = Fake::new(4096);
    machine.guests.borrow_mut().calm = Some(Box::new(|_| Some(Step::Compute(5_000))));
    let vms: Vec<_> = (0..count).map(|_| machine.create(WITHOUT_NIC)).collect();
    steps(&mut machine, 100 * count);
    lazy(&mut machine);
    steps(&mut machine, 100);
    (machine, vms)
}

fn steps(machine: &mut Fake, count: usize) {
    for _ in 0..count {
        machine.step();
    }
}

fn lazy(machine: &mut Fake) {
    let rank = machine.rank(Service::Plan);
    if let FakeRole::Sched(sched) = &mut machine.hardware.borrow_mut().components[rank].role {
        sched.lazy = true;
    }
}

/// Puts a command into the plan, as the scheduler does, and goes on for some turns. How often each of `vms` ran in them.
fn after(machine: &mut Fake, command: SchedCommand, vms: &[VmId]) -> Vec<u64> {
    let rank = machine.rank(Service::Plan);
    let (memory, slots, _) = machine.hardware.borrow().components[rank].outbox;
    let mut outbox = ring::Producer::attach_contiguous(&memory, slots).expect("a ring");
    outbox.push(&command.into()).expect("room");
    // The one that has the turn keeps it to its end.
    steps(machine, 200);
    watch(machine, vms)
}

fn watch(machine: &mut Fake, vms: &[VmId]) -> Vec<u64> {
    machine.guests.borrow_mut().asked.clear();
    steps(machine, 2000);
    let asked = machine.guests.borrow().asked.clone();
    vms.iter().map(|vm| asked.get(&vm.slot.number()).copied().unwrap_or(0)).collect()
}

#[test]
fn one_that_is_held_does_not_run_by_the_cores_own_order() {
    let (mut machine, vms) = computing(3);
    assert!(watch(&mut machine, &vms).iter().all(|&ran| ran > 0));
    let ran = after(&mut machine, SchedCommand::Hold { vm: vms[1] }, &vms);
    assert!(ran[1] == 0 && ran[0] > 0 && ran[2] > 0, "{ran:?}");
    assert_eq!(machine.state(vms[1]), Some(State::Ready));
    machine.audit_lives();
    // Twice is once.
    let ran = after(&mut machine, SchedCommand::Hold { vm: vms[1] }, &vms);
    assert_eq!(ran[1], 0);
    // The plan names it: from then on it is one of them.
    let ran = after(&mut machine, SchedCommand::Run { vm: vms[1], quantum_ticks: HZ / 1000 }, &vms);
    assert!(ran.iter().all(|&ran| ran > 0), "{ran:?}");
    machine.audit_lives();
}

#[test]
fn whoever_held_it_is_gone_and_it_runs() {
    let (mut machine, vms) = computing(2);
    assert_eq!(after(&mut machine, SchedCommand::Hold { vm: vms[0] }, &vms)[0], 0);
    let rank = machine.rank(Service::Plan);
    machine.kernel.cpu.condemn(rank, Death::Killed);
    // Though its successor plans nothing either.
    steps(&mut machine, 100);
    lazy(&mut machine);
    steps(&mut machine, 100);
    let ran = watch(&mut machine, &vms);
    assert!(ran.iter().all(|&ran| ran > 0), "{ran:?}");
    machine.audit_lives();
}

#[test]
fn one_that_is_held_ends_as_any_other() {
    let (mut machine, vms) = computing(2);
    assert_eq!(after(&mut machine, SchedCommand::Hold { vm: vms[0] }, &vms)[0], 0);
    let crate::kernel::Kernel { vms: table, cpu, .. } = &mut machine.kernel;
    let end = crate::vm::End::new(abi::end::EndReason::Destroyed, 0);
    cpu.end(table.by_id(vms[0]).expect("it lives"), end);
    steps(&mut machine, 200);
    assert_eq!(machine.state(vms[0]), None);
    machine.audit_lives();
}

#[test]
fn one_that_waits_is_not_admitted_by_the_core_while_it_is_held() {
    let (mut machine, vms) = computing(1);
    let held = machine.create(WITHOUT_NIC);
    assert!(after(&mut machine, SchedCommand::Hold { vm: held }, &vms)[0] > 0);
    let seconds = |machine: &mut Fake| {
        let end = machine.kernel.cpu.board.now() + 3 * HZ;
        while machine.kernel.cpu.board.now() < end {
            machine.step();
        }
    };
    use crate::board::Board as _;
    seconds(&mut machine);
    assert!(machine.waits(held));
    assert!(machine.kernel.cpu.queues.contains(Queue::Held, held.slot));
    machine.audit_lives();
    // Nor by anybody but the scheduler, whose word admits it.
    after(&mut machine, SchedCommand::Admit { vm: held }, &vms);
    assert_eq!(machine.state(held), Some(State::Ready));
    // Without a hold the core admits after a second.
    let free = machine.create(WITHOUT_NIC);
    seconds(&mut machine);
    assert_eq!(machine.state(free), Some(State::Ready));
    machine.audit_lives();
}

#[test]
fn one_that_is_paused_does_not_run_before_it_goes_on() {
    let (mut machine, vms) = computing(3);
    // One that the scheduler keeps back besides goes on being kept back.
    assert_eq!(after(&mut machine, SchedCommand::Hold { vm: vms[2] }, &vms)[2], 0);
    for vm in [vms[1], vms[2], vms[1]] {
        assert_eq!(machine.kernel.pause(vm), Ok(()), "twice is once");
        assert_eq!(machine.state(vm), Some(State::Paused));
        machine.audit_lives();
    }
    let ran = watch(&mut machine, &vms);
    assert!(ran[0] > 0 && ran[1..] == [0, 0], "{ran:?}");
    for vm in [vms[1], vms[2], vms[0]] {
        assert_eq!(machine.kernel.resume(vm), Ok(()));
        machine.audit_lives();
    }
    let ran = watch(&mut machine, &vms);
    assert!(ran[0] > 0 && ran[1] > 0 && ran[2] == 0, "{ran:?}");
    // One that stands still ends as any other.
    assert_eq!(machine.kernel.pause(vms[1]), Ok(()));
    assert!(machine.kernel.destroy(vms[1]));
    steps(&mut machine, 200);
    assert_eq!(machine.state(vms[1]), None);
    let none = Err(StateError::NoVm);
    assert_eq!((machine.kernel.pause(vms[1]), machine.kernel.resume(vms[1])), (none, none));
    machine.audit_lives();
}
