//! VMs with virtual disks go out and come in: they keep their disks, and find their rings as they were, whoever dies meanwhile.

use super::comings::{bring_in, choose, put_out, send_on_its_way, stays};
use super::machine::{Machine, Places, WITH_NIC};
use super::roles::Disk;
use crate::component::Death;
use crate::kernel::Kernel;
use crate::memory::core_memory;
use crate::vm::{Devices, DiskTold, State};
use abi::attachment::Attachment;
use abi::charges::DiskUse;
use abi::control::{ControlReply, ControlRequest};
use abi::disk_service::{DiskCommand, DiskEvent};
use abi::guest::pending;
use abi::guest_disk::{COMPLETIONS, DISK_BASE, PAGES, REQUESTS};
use abi::limits::PAGE_SIZE;
use abi::message::Message;
use abi::net::NetCommand;
use abi::pager::Stays;
use abi::ring::EPOCH;
use abi::service::Service;
use abi::vm::VmId;
use proptest::prelude::*;

const PLACES: Places = Places { slots: 64, seats: 32 };
/// Where in its first block slot a VM has written something.
const AT: usize = 24;

fn log() -> Attachment {
    Attachment::parse("log").expect("a name")
}

/// A machine with so many VMs that each have a virtual disk and something in their disk pages, and idle.
fn machine(count: u32) -> (Machine<true>, Vec<VmId>) {
    let mut machine = Machine::with_swap_and_disks(4096, PLACES);
    machine.settle(4000);
    let mut vms = Vec::new();
    for _ in 0..count {
        machine.next_disk = log();
        let vm = machine.create(WITH_NIC);
        machine.rouse();
        machine.settle(20_000);
        disk_page(&mut machine, vm, 1).expect("it is there").store64(AT, vm.raw());
        vms.push(vm);
    }
    machine.wires.spend(super::machine::HZ / 1000);
    machine.audit();
    (machine, vms)
}

/// Page `index` of the disk of a VM that is in.
fn disk_page(machine: &mut Machine<true>, vm: VmId, index: u64) -> Option<ring::SharedMemory> {
    let Kernel { vms, cpu, .. } = &mut machine.kernel;
    let memory = vms.by_id(vm)?.life.memory()?;
    let page = u32::try_from(DISK_BASE / PAGE_SIZE + index).expect("a page");
    Some(core_memory(memory.frame(&mut cpu.frames, page)?, PAGE_SIZE))
}

fn has_its_pages(machine: &mut Machine<true>, vm: VmId) -> bool {
    let all = (0..PAGES).all(|index| disk_page(machine, vm, index).is_some());
    all && disk_page(machine, vm, 1).and_then(|page| page.load64(AT)) == Some(vm.raw())
}

fn epochs(machine: &mut Machine<true>, vm: VmId) -> [u32; 2] {
    let page = disk_page(machine, vm, 0).expect("it is in");
    [REQUESTS, COMPLETIONS].map(|ring| page.read32(ring + EPOCH).expect("in the page"))
}

fn with_disk<T>(machine: &Machine<true>, what: impl FnOnce(&mut Disk) -> T) -> T {
    match &mut machine.hardware.borrow_mut().components[machine.rank(Service::Disk)].role {
        super::roles::Role::Disk(disk) => what(disk),
        _ => panic!("not the striper"),
    }
}

/// Who is attached, and who is out and has a disk, as the striper knows it.
fn known(machine: &Machine<true>) -> (Vec<VmId>, Vec<VmId>) {
    with_disk(machine, |disk| (disk.attached.keys().copied().collect(), disk.out.keys().copied().collect()))
}

fn kill(machine: &mut Machine<true>, service: Service) {
    let rank = machine.rank(service);
    machine.kernel.cpu.condemn(rank, Death::Killed);
    machine.rouse();
}

fn is_at_home(machine: &mut Machine<true>, vm: VmId) -> bool {
    machine.kernel.vms.by_id(vm).is_some_and(|vm| vm.life.is_idle() && vm.life.shared().contains(Devices::DISK))
}

#[test]
fn it_keeps_its_disk_and_finds_its_rings_as_they_were() {
    let (mut machine, vms) = machine(2);
    let before = epochs(&mut machine, vms[0]);
    let (striper, used) = (machine.kernel.cpu.endpoints.first(Service::Disk), DiskUse { requests: 7, blocks: 5 });
    for done in [DiskUse { requests: 3, blocks: 3 }, DiskUse { requests: 4, blocks: 2 }] {
        assert_eq!(machine.kernel.disk_command(striper, &DiskCommand::Used { vm: vms[0], done }.into()), Ok(()));
    }
    put_out(&mut machine, vms[0]);
    assert_eq!(known(&machine), (vec![vms[1]], vec![vms[0]]));
    let told =
        |attached| ControlReply::DiskOf { vm: vms[0], disk: log().disk, mode: log().mode, rate: 0, attached, used };
    let asked = |machine: &mut Machine<true>| machine.request(ControlRequest::DiskOf { slot: vms[0].slot });
    assert_eq!(asked(&mut machine), [told(false)]);
    bring_in(&mut machine, vms[0], pending::NIC);
    assert_eq!(known(&machine), (vms.clone(), vec![]));
    assert!(with_disk(&machine, |disk| disk.attached[&vms[0]].2), "it has had its disk before");
    assert_eq!((asked(&mut machine), epochs(&mut machine, vms[0])), (vec![told(true)], before));
    assert!(has_its_pages(&mut machine, vms[0]) && is_at_home(&mut machine, vms[0]));
}

#[test]
fn pages_that_held_nothing_are_there_again() {
    let (mut machine, vms) = machine(1);
    put_out(&mut machine, vms[0]);
    // Swap stores no zeros.
    bring_in(&mut machine, vms[0], pending::NIC);
    assert!(has_its_pages(&mut machine, vms[0]) && is_at_home(&mut machine, vms[0]));
}

#[test]
fn a_successor_of_the_striper_is_told_of_those_who_are_out() {
    let (mut machine, vms) = machine(3);
    put_out(&mut machine, vms[0]);
    put_out(&mut machine, vms[1]);
    let before = epochs(&mut machine, vms[2]);
    for _ in 0..2 {
        kill(&mut machine, Service::Disk);
        machine.settle(20_000);
        assert!(with_disk(&machine, |disk| disk.told));
        assert_eq!(known(&machine), (vec![vms[2]], vms[..2].to_vec()));
        machine.audit();
    }
    assert_ne!(epochs(&mut machine, vms[2]), before, "whoever was in gives again what was not answered");
    bring_in(&mut machine, vms[0], pending::NIC);
    assert!(has_its_pages(&mut machine, vms[0]) && is_at_home(&mut machine, vms[0]));
    // One that has ended meanwhile has its disk no more.
    assert!(machine.kernel.destroy(vms[1]));
    machine.rouse();
    machine.settle(20_000);
    assert_eq!(known(&machine), (vec![vms[0], vms[2]], vec![]));
    machine.audit();
}

#[test]
fn whoever_dies_on_its_way_out_or_in_it_is_lost_nowhere() {
    for service in [Service::Disk, Service::Net, Service::Swap, Service::Pager, Service::Plan] {
        for turns in 0..24 {
            let (mut machine, vms) = machine(1);
            let vm = vms[0];
            let comes = turns % 2 == 0;
            send_on_its_way(&mut machine, vm, comes);
            for _ in 0..turns / 2 {
                machine.step();
            }
            kill(&mut machine, service);
            machine.settle(60_000);
            machine.audit();
            if machine.kernel.vms.out(vm).is_some() {
                assert_eq!(known(&machine), (vec![], vec![vm]), "{service:?} {turns}");
                bring_in(&mut machine, vm, pending::NIC);
            }
            assert!(is_at_home(&mut machine, vm) && has_its_pages(&mut machine, vm), "{service:?} {turns}");
            assert_eq!(known(&machine), (vec![vm], vec![]), "{service:?} {turns}");
        }
    }
}

#[test]
fn one_that_is_destroyed_on_its_way_leaves_its_disk_to_others() {
    for turns in 0..40 {
        let (mut machine, vms) = machine(1);
        send_on_its_way(&mut machine, vms[0], turns % 2 == 0);
        for _ in 0..turns / 2 {
            machine.step();
        }
        assert!(machine.kernel.destroy(vms[0]));
        machine.rouse();
        machine.settle(40_000);
        machine.audit();
        assert!(machine.vms().is_empty(), "{turns}");
        assert_eq!(known(&machine), (vec![], vec![]), "{turns}");
    }
}

#[test]
fn one_of_which_a_request_is_under_way_stays() {
    let (mut machine, vms) = machine(1);
    // Every fourth time there is one.
    for _ in 0..3 {
        put_out(&mut machine, vms[0]);
        bring_in(&mut machine, vms[0], pending::NIC);
        machine.wires.spend(super::machine::HZ / 1000);
    }
    let before = epochs(&mut machine, vms[0]);
    choose(&mut machine, vms[0]);
    machine.settle(20_000);
    machine.audit();
    assert_eq!((stays(&machine, vms[0]), is_at_home(&mut machine, vms[0])), (Some(Stays::Busy), true));
    assert_eq!((epochs(&mut machine, vms[0]), known(&machine)), (before, (vms, vec![])));
}

#[test]
fn one_whose_disk_is_not_there_yet_stays() {
    let (mut machine, vms) = machine(1);
    machine.kernel.vms.by_id(vms[0]).expect("it is in").disk_told = DiskTold::Nothing;
    choose(&mut machine, vms[0]);
    assert_eq!(machine.state(vms[0]), Some(State::Idle { until: u64::MAX }));
    machine.settle(20_000);
    assert_eq!(stays(&machine, vms[0]), Some(Stays::Busy));
}

#[test]
fn a_striper_that_does_not_answer_is_found_out_and_the_vm_stays() {
    let (mut machine, vms) = machine(1);
    with_disk(&machine, |disk| disk.withholds = true);
    let before = epochs(&mut machine, vms[0]);
    choose(&mut machine, vms[0]);
    machine.settle(40_000);
    with_disk(&machine, |disk| disk.withholds = false);
    machine.audit();
    let rank = |service| machine.kernel.cpu.components.list[machine.rank(service)].incarnation;
    assert_eq!([Service::Disk, Service::Net, Service::Swap].map(rank), [2, 1, 1]);
    assert!(is_at_home(&mut machine, vms[0]) && has_its_pages(&mut machine, vms[0]));
    assert_ne!(epochs(&mut machine, vms[0]), before);
}

#[test]
fn who_lets_go_unasked_is_not_heard() {
    let (mut machine, vms) = machine(1);
    let [disk, net] = [Service::Disk, Service::Net].map(|service| machine.kernel.cpu.endpoints.first(service));
    let says = |machine: &mut Machine<true>, message: Message| machine.kernel.disk_command(disk, &message);
    for message in [DiskCommand::Left { vm: vms[0] }, DiskCommand::Stays { vm: vms[0] }] {
        assert_eq!(says(&mut machine, message.into()), Ok(()));
    }
    assert!(is_at_home(&mut machine, vms[0]));
    // The striper comes first: what the demultiplexer says meanwhile is about nothing.
    choose(&mut machine, vms[0]);
    assert!(matches!(machine.state(vms[0]), Some(State::Leaving { .. })));
    for message in [NetCommand::Detached { vm: vms[0] }, NetCommand::Stays { vm: vms[0] }] {
        assert_eq!(machine.kernel.net_command(net, &message.into()), Ok(()));
    }
    let vm = machine.kernel.vms.by_id(vms[0]).expect("it lives");
    assert!(vm.life.leaves_disk() && vm.life.shared().contains(Devices::NIC));
    assert!(says(&mut machine, DiskEvent::Told.into()).is_err());
    machine.settle(20_000);
    machine.audit();
    assert!(machine.kernel.vms.out(vms[0]).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 100, ..ProptestConfig::with_cases(24) })]

    /// Whoever goes out, is called, kicks, dies and is destroyed: no VM is lost, each has its disk, and no disk is anybody's who is gone.
    #[test]
    fn no_vm_is_lost_and_no_disk(steps in prop::collection::vec((0_usize..8, 0_u8..12), 1..60)) {
        let (mut machine, mut vms) = machine(8);
        for (which, what) in steps {
            let vm = vms[which];
            match what {
                0..4 => choose(&mut machine, vm),
                4..6 => _ = machine.kernel.can_come_in(vm) && machine.kernel.raise(vm, pending::NIC),
                6 => {
                    let services = [Service::Disk, Service::Net, Service::Swap, Service::Pager];
                    kill(&mut machine, services[which % 4]);
                }
                7 if which == 0 && machine.kernel.cpu.all_have_room() => {
                    let _ = machine.kernel.destroy(vm);
                    machine.next_disk = log();
                    vms[which] = machine.create(WITH_NIC);
                }
                _ => {
                    for _ in 0..which * 4 {
                        machine.step();
                    }
                    machine.wires.spend(super::machine::HZ / 10_000);
                }
            }
            machine.rouse();
            machine.audit();
        }
        machine.settle(100_000);
        machine.audit();
        for &vm in &vms[1..] {
            prop_assert!(machine.vms().contains(&vm), "{vm} is lost");
            if machine.kernel.vms.out(vm).is_some() {
                bring_in(&mut machine, vm, pending::NIC);
            }
            prop_assert!(is_at_home(&mut machine, vm) && has_its_pages(&mut machine, vm), "{vm} has lost its disk");
        }
        let (mut attached, mut out) = known(&machine);
        attached.append(&mut out);
        attached.sort_unstable();
        vms.sort_unstable();
        prop_assert_eq!(attached, vms);
    }
}
