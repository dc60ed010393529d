//! What VMs are charged with: each for what was done for it, whoever did it.

use super::machine::{IMAGE_PAGE, Machine, WITH_NIC};
use crate::kernel::Kernel;
use crate::vm::PageFault;
use abi::charges::{Charges, Traffic};
use abi::control::{ControlReply, ControlRequest, status};
use abi::net::NetCommand;
use abi::pager::{Access, PagerCommand};
use abi::service::Service;
use abi::vm::{Slot, VmId};

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
    assert_eq!(machine.net_says(&NetCommand::Used { vm, traffic: TRAFFIC, of: 40, work: 10 }.into()), Ok(()));
    let now = charges(&mut machine, vm);
    assert_eq!((now.service_ticks - before.service_ticks, now.traffic), (250, TRAFFIC));
    // Of the other three quarters two were for nobody, or for a VM that is gone.
    let nobody = VmId { generation: vm.generation + 1, ..vm };
    let said = NetCommand::Used { vm: nobody, traffic: TRAFFIC, of: 30, work: 20 };
    assert_eq!(machine.net_says(&said.into()), Ok(()));
    assert_eq!(charges(&mut machine, vm), now);
    assert_eq!(machine.kernel.cpu.counters.own_ticks - own, 500);
    // It counts from the attachment on; and more than all is all.
    let more = Traffic { rx_frames: 9, ..TRAFFIC };
    assert_eq!(machine.net_says(&NetCommand::Used { vm, traffic: more, of: 0, work: u32::MAX }.into()), Ok(()));
    assert_eq!(charges(&mut machine, vm).traffic, more);
    let all = u32::MAX;
    assert_eq!(machine.net_says(&NetCommand::Used { vm, traffic: more, of: 1, work: all }.into()), Ok(()));
    assert_eq!(charges(&mut machine, vm).service_ticks - before.service_ticks, 500);
    machine.audit_account();
}

#[test]
fn a_long_time_is_divided_without_a_product_that_does_not_fit() {
    let (mut machine, vm) = after(u64::MAX >> 8);
    let before = charges(&mut machine, vm).service_ticks;
    let said = NetCommand::Used { vm, traffic: TRAFFIC, of: u32::MAX, work: u32::MAX - 1 };
    assert_eq!(machine.net_says(&said.into()), Ok(()));
    let (whole, paid) = (u64::MAX >> 8, charges(&mut machine, vm).service_ticks - before);
    assert!(paid < whole && whole - paid <= (whole >> 32) + 2, "{paid} of {whole}");
}

#[test]
fn a_demultiplexer_that_starts_anew_counts_on_from_where_its_predecessor_was() {
    let (mut machine, vm) = after(1_000);
    assert_eq!(machine.net_says(&NetCommand::Used { vm, traffic: TRAFFIC, of: 40, work: 10 }.into()), Ok(()));
    let rank = machine.rank(Service::Net);
    machine.kernel.cpu.condemn(rank, crate::component::Death::Killed);
    machine.settle(40_000);
    assert_eq!(charges(&mut machine, vm).traffic, TRAFFIC);
    assert_eq!(machine.net_says(&NetCommand::Used { vm, traffic: TRAFFIC, of: 40, work: 10 }.into()), Ok(()));
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
