//! Two parties to a service: each has its own VMs, and hears the answers to what it has asked itself.

use super::component::{Due, Misdeed};
use super::machine::{ELSEWHERE, Machine, Places, WITH_NIC};
use super::roles::Role as FakeRole;
use crate::component::{Death, EndpointId, Run};
use crate::vm::{Devices, Queue, State};
use abi::component::{ERROR_ARGUMENT, syscall};
use abi::control::{ControlReply, ControlRequest, status};
use abi::net::NetCommand;
use abi::nic::Node;
use abi::pager::PagerCommand;
use abi::service::Service;
use abi::vm::VmId;

type Fake = Machine<true>;

/// A machine at rest with a VM of the first demultiplexer and pager, and one of the second.
fn at_rest() -> (Fake, [VmId; 2]) {
    let mut machine = Fake::with_twins(4096, Places { slots: 64, seats: 64 });
    let vms = [WITH_NIC, ELSEWHERE].map(|image| machine.create(image));
    machine.settle(8000);
    machine.audit();
    (machine, vms)
}

impl Fake {
    /// Endpoints of the two parties to a service, and their ranks.
    fn twins(&self, service: Service) -> [(EndpointId, usize); 2] {
        let rank = |id| self.kernel.cpu.endpoints.rank(id).expect("a component");
        match self.parties(service)[..] {
            [first, second] => [(first, rank(first)), (second, rank(second))],
            ref other => panic!("{other:?}"),
        }
    }

    fn starts_of(&self, rank: usize) -> u32 {
        self.kernel.cpu.components.list[rank].incarnation
    }

    /// The component of this rank makes a system call: its result.
    fn call(&mut self, rank: usize, call: [u64; 4]) -> u64 {
        self.hardware.borrow_mut().components[rank].due = Some(Due { after: 0, what: Misdeed::Ask(call) });
        self.kernel.cpu.attention.set_runnable(rank);
        self.hardware.borrow_mut().asleep = false;
        self.kernel.run_component(rank);
        self.kernel.cpu.components.list[rank].context.rax
    }

    /// The controller at this endpoint asks this; what both controllers are answered.
    fn controller_asks(&mut self, asker: usize, request: ControlRequest) -> [Vec<ControlReply>; 2] {
        let twins = self.twins(Service::Control);
        let (endpoint, rank) = twins[asker];
        match &mut self.hardware.borrow_mut().components[rank].role {
            FakeRole::Monitor(monitor) => monitor.requests.push_back(request),
            _ => panic!("no controller"),
        }
        self.kernel.cpu.ring(endpoint);
        self.hardware.borrow_mut().asleep = false;
        self.settle(20_000);
        self.audit();
        twins.map(|(_, rank)| match &mut self.hardware.borrow_mut().components[rank].role {
            FakeRole::Monitor(monitor) => core::mem::take(&mut monitor.replies),
            _ => panic!("no controller"),
        })
    }
}

#[test]
fn each_vm_is_served_by_those_that_its_image_names() {
    let (mut machine, vms) = at_rest();
    // A pager that has nothing to serve is not woken for a VM.
    for (pager, _) in machine.twins(Service::Pager) {
        machine.kernel.cpu.ring(pager);
    }
    machine.hardware.borrow_mut().asleep = false;
    machine.settle(4000);
    let hardware = machine.hardware.borrow();
    for ((_, net), vm) in machine.twins(Service::Net).into_iter().zip(vms) {
        let attached: Vec<_> = hardware.components[net].net().attached.keys().copied().collect();
        assert_eq!(attached, [vm]);
    }
    for ((_, pager), vm) in machine.twins(Service::Pager).into_iter().zip(vms) {
        assert_eq!(hardware.components[pager].pager().vms.keys().copied().collect::<Vec<_>>(), [vm]);
    }
}

#[test]
fn the_death_of_one_is_not_noticed_by_the_others_vms() {
    for service in [Service::Net, Service::Pager] {
        for dead in [0, 1] {
            let (mut machine, _) = at_rest();
            let twins = machine.twins(service);
            machine.kernel.cpu.condemn(twins[dead].1, Death::Killed);
            machine.hardware.borrow_mut().asleep = false;
            machine.settle(4000);
            machine.audit();
            assert_eq!(machine.starts_of(twins[dead].1), 2);
            assert_eq!(machine.starts_of(twins[1 - dead].1), 1);
            assert_eq!(machine.vms().len(), 2);
        }
    }
}

#[test]
fn a_demultiplexer_has_no_page_of_anothers_vms() {
    let (mut machine, vms) = at_rest();
    for (of, (_, rank)) in machine.twins(Service::Net).into_iter().enumerate() {
        for (whose, vm) in vms.into_iter().enumerate() {
            let expected = if of == whose { 0 } else { ERROR_ARGUMENT };
            assert_eq!(machine.call(rank, [syscall::RING_PAGE, vm.raw(), 1, 0]), expected);
            assert_eq!(machine.call(rank, [syscall::RING_RETURN, vm.raw(), 2, 0]), expected);
        }
    }
    machine.audit_windows();
}

#[test]
fn what_is_said_of_anothers_vms_is_not_heard() {
    let (mut machine, [first, second]) = at_rest();
    let [(net, _), (lan, _)] = machine.twins(Service::Net);
    let [(pager, _), (attic, _)] = machine.twins(Service::Pager);
    for (from, vm) in [(net, second), (lan, first)] {
        assert_eq!(machine.kernel.net_command(from, &NetCommand::Refused { vm }.into()), Ok(()));
        assert!(matches!(machine.kernel.vms.by_id(vm).map(|vm| vm.life.state()), Some(State::Idle { .. })));
    }
    for (from, vm) in [(pager, second), (attic, first)] {
        let before = machine.kernel.vms.by_id(vm).and_then(|vm| vm.life.memory().map(|memory| memory.counts()));
        let command = PagerCommand::MapZero { vm, page: 0x80, count: 1 };
        assert_eq!(machine.kernel.pager_command(from, &command.into()), Ok(()));
        let after = machine.kernel.vms.by_id(vm).and_then(|vm| vm.life.memory().map(|memory| memory.counts()));
        assert_eq!(before, after);
    }
    machine.kernel.cpu.node = None;
    let node = Node::new(99);
    assert_eq!(machine.kernel.net_command(lan, &NetCommand::Node { node }.into()), Ok(()));
    assert_eq!(machine.kernel.cpu.node, None);
    assert_eq!(machine.kernel.net_command(net, &NetCommand::Node { node }.into()), Ok(()));
    assert_eq!(machine.kernel.cpu.node, Some(node));
}

#[test]
fn a_vm_that_ends_waits_for_its_own_demultiplexer() {
    let (mut machine, vms) = at_rest();
    let [(net, net_rank), (lan, _)] = machine.twins(Service::Net);
    for vm in vms {
        let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
        cpu.end(vms.by_id(vm).expect("it lives"), crate::vm::End::new(abi::end::EndReason::Destroyed, 0));
    }
    // Neither has come to let go of its VM; one of them dies.
    machine.kernel.cpu.condemn(net_rank, Death::Killed);
    machine.kernel.carry_out();
    let leaving = [net, lan].map(|endpoint| machine.kernel.cpu.queues.first(Queue::Leaving(endpoint)));
    assert_eq!(leaving, [None, Some(vms[1].slot)]);
    let shares =
        |machine: &mut Fake, vm| machine.kernel.vms.by_id(vm).map(|vm| vm.life.shared().contains(Devices::NIC));
    assert_eq!([shares(&mut machine, vms[0]), shares(&mut machine, vms[1])], [Some(false), Some(true)]);
    machine.hardware.borrow_mut().asleep = false;
    machine.settle(4000);
    machine.audit();
    assert!(machine.vms().is_empty());
}

#[test]
fn one_that_withholds_is_the_one_that_dies() {
    let (mut machine, vms) = at_rest();
    let twins = machine.twins(Service::Net);
    machine.hardware.borrow_mut().components[twins[1].1].due = Some(Due { after: 0, what: Misdeed::Sleep });
    machine.kernel.cpu.ring(twins[1].0);
    let crate::kernel::Kernel { vms: table, cpu, .. } = &mut machine.kernel;
    cpu.end(table.by_id(vms[1]).expect("it lives"), crate::vm::End::new(abi::end::EndReason::Destroyed, 0));
    machine.hardware.borrow_mut().asleep = false;
    for _ in 0..4000 {
        machine.step();
        if machine.kernel.cpu.components.list[twins[1].1].run == Run::Condemned(Death::DetachTimeout(vms[1])) {
            break;
        }
    }
    machine.settle(4000);
    assert_eq!([machine.starts_of(twins[0].1), machine.starts_of(twins[1].1)], [1, 2]);
    assert_eq!(machine.vms(), [vms[0]]);
}

#[test]
fn an_answer_goes_to_who_asked() {
    let (mut machine, _) = at_rest();
    let sched = u16::try_from(machine.rank(Service::Plan)).expect("few");
    for asker in [0, 1] {
        let answers = machine.controller_asks(asker, ControlRequest::Machine);
        assert_eq!([answers[asker].len(), answers[1 - asker].len()], [2, 0]);
        // This one is answered later, by a start.
        let policy = 1 - u16::try_from(asker).expect("small");
        let answers = machine.controller_asks(asker, ControlRequest::Swap { component: sched, policy });
        assert_eq!(answers[asker], [ControlReply::Done { status: status::OK, value: 0 }]);
        assert!(answers[1 - asker].is_empty());
    }
}
