//! What VMs are charged with: each for what was done for it, whoever did it.

use super::machine::{IMAGE_PAGE, Machine, WITH_NIC};
use crate::kernel::{Attention, Kernel, Turn};
use crate::vm::PageFault;
use abi::charges::{Charges, Traffic};
use abi::control::{ControlReply, ControlRequest, status};
use abi::net::NetCommand;
use abi::pager::{Access, PagerCommand};
use abi::service::Service;
use abi::vm::{Slot, VmId};
use backend::fake::Step;

type Fake = Machine<true>;

const TRAFFIC: Traffic = Traffic { rx_bytes: 6_000, tx_bytes: 70, rx_frames: 4, tx_frames: 1 };

fn charges(machine: &mut Fake, vm: VmId) -> Charges {
    machine.kernel.vms.by_id(vm).expect("it lives").charges
}

/// A machine with one VM, whose demultiplexer and pager have run for so many ticks since they spoke of anybody.
fn after(ticks: u64) -> (Fake, VmId) {
    let (mut machine, vm) = Fake::with_guest(WITH_NIC, &[]);
    for service in [Service::Net, Service::Pager] {
        let rank = machine.rank(service);
        let component = &mut machine.kernel.cpu.components.list[rank];
        // What it did until here is somebody's.
        let before = component.take_unbilled();
        component.ran_ticks += ticks;
        machine.kernel.cpu.counters.own_ticks += before;
        machine.kernel.cpu.mark += ticks;
    }
    (machine, vm)
}

#[test]
fn of_a_demultiplexers_time_each_pays_for_its_part_of_the_work() {
    let (mut machine, vm) = after(1_000);
    let before = charges(&mut machine, vm);
    let own = machine.kernel.cpu.counters.own_ticks;
    assert_eq!(
        machine.net_says(&NetCommand::Used { vm, traffic: TRAFFIC, of: 40, caused: 4, work: 10 }.into()),
        Ok(())
    );
    let now = charges(&mut machine, vm);
    assert_eq!((now.service_ticks - before.service_ticks, now.traffic), (250, TRAFFIC));
    // Of the other three quarters two were for nobody, or for a VM that is gone.
    let nobody = VmId { generation: vm.generation + 1, ..vm };
    let said = NetCommand::Used { vm: nobody, traffic: TRAFFIC, of: 30, caused: 0, work: 20 };
    assert_eq!(machine.net_says(&said.into()), Ok(()));
    assert_eq!(charges(&mut machine, vm), now);
    assert_eq!(machine.kernel.cpu.counters.own_ticks - own, 500);
    // It counts from the attachment on; and more than all is all.
    let more = Traffic { rx_frames: 9, ..TRAFFIC };
    assert_eq!(
        machine.net_says(&NetCommand::Used { vm, traffic: more, of: 0, caused: 0, work: u32::MAX }.into()),
        Ok(())
    );
    assert_eq!(charges(&mut machine, vm).traffic, more);
    let all = u32::MAX;
    assert_eq!(machine.net_says(&NetCommand::Used { vm, traffic: more, of: 1, caused: all, work: all }.into()), Ok(()));
    assert_eq!(charges(&mut machine, vm).service_ticks - before.service_ticks, 500);
    machine.audit_account();
}

#[test]
fn a_long_time_is_divided_without_a_product_that_does_not_fit() {
    let (mut machine, vm) = after(u64::MAX >> 8);
    let before = charges(&mut machine, vm).service_ticks;
    let said = NetCommand::Used { vm, traffic: TRAFFIC, of: u32::MAX, caused: 0, work: u32::MAX - 1 };
    assert_eq!(machine.net_says(&said.into()), Ok(()));
    let (whole, paid) = (u64::MAX >> 8, charges(&mut machine, vm).service_ticks - before);
    assert!(paid < whole && whole - paid <= (whole >> 32) + 2, "{paid} of {whole}");
}

#[test]
fn a_demultiplexer_that_starts_anew_counts_on_from_where_its_predecessor_was() {
    let (mut machine, vm) = after(1_000);
    assert_eq!(
        machine.net_says(&NetCommand::Used { vm, traffic: TRAFFIC, of: 40, caused: 4, work: 10 }.into()),
        Ok(())
    );
    let rank = machine.rank(Service::Net);
    machine.kernel.cpu.condemn(rank, crate::component::Death::Killed);
    machine.settle(40_000);
    assert_eq!(charges(&mut machine, vm).traffic, TRAFFIC);
    assert_eq!(
        machine.net_says(&NetCommand::Used { vm, traffic: TRAFFIC, of: 40, caused: 4, work: 10 }.into()),
        Ok(())
    );
    assert_eq!(charges(&mut machine, vm).traffic, TRAFFIC.and(TRAFFIC));
}

#[test]
fn a_pagers_time_is_charged_to_the_vm_that_it_names() {
    let (mut machine, vm) = after(700);
    let before = charges(&mut machine, vm).service_ticks;
    let stranger = VmId { generation: vm.generation + 1, ..vm };
    assert_eq!(machine.pager_says(&PagerCommand::Resume { vm: stranger }.into()), Ok(()));
    assert_eq!(charges(&mut machine, vm).service_ticks, before);
    assert_eq!(machine.pager_says(&PagerCommand::Resume { vm }.into()), Ok(()));
    assert_eq!(charges(&mut machine, vm).service_ticks, before + 700);
    assert_eq!(machine.pager_says(&PagerCommand::Resume { vm }.into()), Ok(()));
    assert_eq!(charges(&mut machine, vm).service_ticks, before + 700, "once");
    machine.audit_account();
}

#[test]
fn faults_and_wakes_are_counted() {
    let (mut machine, vm) = Fake::with_guest(WITH_NIC, &[]);
    let before = charges(&mut machine, vm);
    let Kernel { vms, cpu, .. } = &mut machine.kernel;
    let named = vms.by_id(vm).expect("it lives");
    cpu.wake(named);
    cpu.page_fault(named, PageFault { page: IMAGE_PAGE + 50, access: Access::Write, present: false });
    let now = charges(&mut machine, vm);
    assert_eq!((now.wakes, now.faults), (before.wakes + 1, before.faults + 1));
}

#[test]
fn a_controller_is_told_of_charges_and_of_the_sums() {
    let mut machine = Machine::<true>::new(2048);
    let vms: Vec<VmId> = (0..2).map(|_| machine.create(WITH_NIC)).collect();
    machine.settle(40_000);
    let told = machine.request(ControlRequest::NextCharges { slot: Slot::new(1) });
    let [ControlReply::Charges { vm, ran_ticks, charges }] = told[..] else { panic!("{told:?}") };
    assert!(vm == vms[1] && ran_ticks > 0 && charges.service_ticks > 0, "{told:?}");
    let none = machine.request(ControlRequest::NextCharges { slot: Slot::new(2) });
    assert!(matches!(none[..], [ControlReply::Done { status: status::NOT_FOUND, .. }]), "{none:?}");
    machine.request(ControlRequest::Destroy { vm: vms[1] });
    machine.settle(40_000);
    let told = machine.request(ControlRequest::Account);
    let [ControlReply::Account { ended_ran_ticks, ended_service_ticks, .. }] = told[..] else { panic!("{told:?}") };
    assert!(ended_ran_ticks >= ran_ticks && ended_service_ticks >= charges.service_ticks, "{told:?}");
    machine.audit();
}

/// A machine with two VMs that compute for ever; the second is not asked for anything.
fn computing() -> (Fake, [VmId; 2]) {
    let mut machine = Fake::new(4096);
    machine.guests.borrow_mut().calm = Some(Box::new(|_| Some(Step::Compute(5_000))));
    let vms = [0, 1].map(|_| machine.create(WITH_NIC));
    for _ in 0..400 {
        machine.step();
    }
    for vm in vms {
        machine.kernel.vms.by_id(vm).expect("it lives").debt_ticks = 0;
    }
    (machine, vms)
}

/// The network demultiplexer has run so many ticks, for what this VM has done, or for what has come for it.
fn served(machine: &mut Fake, vm: VmId, ticks: u64, caused: bool) {
    let rank = machine.rank(Service::Net);
    let component = &mut machine.kernel.cpu.components.list[rank];
    component.take_unbilled();
    component.ran_ticks += ticks;
    let caused = if caused { 40 } else { 0 };
    let said = NetCommand::Used { vm, traffic: TRAFFIC, of: 40, caused, work: 40 };
    assert_eq!(machine.net_says(&said.into()), Ok(()));
}

#[test]
fn what_others_ran_for_what_a_vm_did_counts_as_if_it_had_run_it() {
    let (mut machine, [vm, _]) = computing();
    let of = |machine: &mut Fake| {
        let vm = machine.kernel.vms.by_id(vm).expect("it lives");
        [vm.burst_ticks, vm.ahead_ticks, vm.debt_ticks, vm.charges.service_ticks]
    };
    machine.kernel.vms.by_id(vm).expect("it lives").ahead_ticks = 5_000;
    let before = of(&mut machine);
    served(&mut machine, vm, 3_000, true);
    assert_eq!(of(&mut machine), [before[0] + 3_000, 2_000, 3_000, before[3] + 3_000]);
    // What has come for it is charged, but was not its choice.
    served(&mut machine, vm, 700, false);
    assert_eq!(of(&mut machine), [before[0] + 3_000, 2_000, 3_000, before[3] + 3_700]);
    // The scheduler hears of it when the VM blocks, so it does not pay again.
    let Kernel { vms, cpu, .. } = &mut machine.kernel;
    cpu.blocked(vms.by_id(vm).expect("it lives"), true);
    assert_eq!(of(&mut machine), [0, 2_000, 0, before[3] + 3_700]);
}

#[test]
fn a_vm_that_does_not_block_pays_with_its_planned_turns() {
    let (mut machine, [vm, _]) = computing();
    let turn = |ahead| Turn { vm, left_ticks: 20_000, ahead };
    let ran = |machine: &mut Fake, turn| {
        let before = machine.kernel.vms.by_id(vm).expect("it lives").ran_ticks;
        machine.kernel.cpu.attention = Attention::default();
        machine.kernel.run_vm(turn);
        machine.kernel.vms.by_id(vm).expect("it lives").ran_ticks - before
    };
    served(&mut machine, vm, 30_000, true);
    // What it runs ahead has become less already.
    assert!(ran(&mut machine, turn(true)) > 0);
    assert_eq!(ran(&mut machine, turn(false)), 0);
    assert_eq!(machine.kernel.cpu.plan.turn.map(|turn| turn.left_ticks), Some(0), "that turn is over");
    assert!(ran(&mut machine, turn(false)) > 0);
    assert!(machine.kernel.cpu.plan.turn.is_some_and(|turn| turn.left_ticks <= 10_000), "half of this one");
    assert_eq!(machine.kernel.vms.by_id(vm).expect("it lives").debt_ticks, 0);
}

#[test]
fn who_has_asked_for_vms_pays_for_what_the_scheduler_runs_and_not_whoever_it_names_next() {
    let (mut machine, [vm, other]) = computing();
    let plan = machine.rank(Service::Plan);
    let component = &mut machine.kernel.cpu.components.list[plan];
    component.take_unbilled();
    component.ran_ticks += 4_000;
    machine.kernel.cpu.plan.next = None;
    machine.kernel.cpu.asker = Some(vm);
    let before = [vm, other].map(|vm| charges(&mut machine, vm).service_ticks);
    let owed = machine.kernel.vms.by_id(vm).expect("it lives").debt_ticks;
    machine.kernel.advance_plan();
    let after = [vm, other].map(|vm| charges(&mut machine, vm).service_ticks);
    assert_eq!((after[0] - before[0], after[1] - before[1]), (4_000, 0));
    assert_eq!(machine.kernel.vms.by_id(vm).expect("it lives").debt_ticks - owed, 4_000);
    assert_eq!(machine.kernel.cpu.asker, None, "once");
    // One that is gone pays nothing.
    machine.kernel.cpu.plan.next = None;
    machine.kernel.cpu.asker = Some(VmId { generation: 99, ..vm });
    machine.kernel.advance_plan();
    assert_eq!([vm, other].map(|vm| charges(&mut machine, vm).service_ticks), after);
}

#[test]
fn who_has_components_work_gets_less_and_runs_again_whatever_was_said() {
    let (mut machine, [busy, other]) = computing();
    let ran = |machine: &mut Fake, vm| machine.kernel.vms.by_id(vm).expect("it lives").ran_ticks;
    let before = [busy, other].map(|vm| ran(&mut machine, vm));
    for _ in 0..400 {
        // The guests of this machine run 5,000 ticks at a time.
        served(&mut machine, busy, 6_000, true);
        for _ in 0..4 {
            machine.step();
        }
    }
    let [mine, theirs] = [ran(&mut machine, busy) - before[0], ran(&mut machine, other) - before[1]];
    assert!(mine + 800_000 < theirs, "{mine} beside {theirs}");
    served(&mut machine, busy, u64::MAX >> 8, true);
    let before = ran(&mut machine, busy);
    for _ in 0..4_000 {
        machine.step();
    }
    assert!(ran(&mut machine, busy) > before, "it never runs again");
}
