//! VMs that are out: a record until somebody asks for them.

use super::board::{NIC_GSI, vector};
use super::machine::{HZ, Machine, Places, WITH_NIC};
use crate::component::Death;
use crate::vm::{CreateError, Order, State, StateError};
use abi::claim::Claim;
use abi::control::{ControlReply, vm_state};
use abi::guest::pending;
use abi::manifest::image_flags;
use abi::service::Service;
use abi::share::Share;
use abi::tenant::Tenant;
use abi::vm::{Slot, VmId};
use proptest::prelude::*;

/// A machine at rest with so many VMs that start with the first packet.
fn machine(ram_frames: usize, places: Places, count: u32) -> (Machine<true>, Vec<VmId>) {
    let mut machine = Machine::with_places(ram_frames, places);
    machine.kernel.cpu.images.get_mut(WITH_NIC).expect("it is there").entry.flags = image_flags::LAZY;
    machine.settle(4000);
    let vms = (0..count).map(|_| machine.create(WITH_NIC)).collect();
    machine.settle(20_000);
    machine.audit();
    (machine, vms)
}

const PLACES: Places = Places { slots: 64, seats: 32 };

fn known_out(machine: &Machine<true>) -> Vec<VmId> {
    let hardware = machine.hardware.borrow();
    hardware.components[machine.rank(Service::Net)].net().out.iter().copied().collect()
}

#[test]
fn a_vm_that_nobody_asks_for_takes_no_frame_and_no_seat_and_the_scheduler_never_hears_of_it() {
    let (mut machine, _) = machine(2048, PLACES, 0);
    let (frames, seats) = (machine.frames_by_owner(), machine.kernel.vms.seats().free());
    let vms: Vec<_> = (0..20).map(|_| machine.create(WITH_NIC)).collect();
    machine.settle(20_000);
    machine.audit();
    assert_eq!((machine.frames_by_owner(), machine.kernel.vms.seats().free()), (frames, seats));
    assert_eq!((machine.vms(), known_out(&machine)), (vms.clone(), vms.clone()));
    let rank = machine.rank(Service::Plan);
    assert!(machine.hardware.borrow().components[rank].sched().waiting.is_empty());
    let described = machine.kernel.describe_next_vm(Slot::new(3));
    assert!(
        matches!(described, ControlReply::Vm { vm, state: vm_state::OUT, memory: 0, metadata: 0, .. } if vm == vms[3])
    );
    // Nor does time bring it in.
    machine.wires.spend(10 * HZ);
    machine.rouse();
    machine.settle(20_000);
    machine.audit();
    assert_eq!(known_out(&machine), vms);
}

#[test]
fn what_is_raised_for_it_brings_it_in_and_is_pending_then() {
    let (mut machine, vms) = machine(2048, PLACES, 3);
    assert!(machine.kernel.raise(vms[1], pending::NIC));
    assert!(machine.waits(vms[1]));
    // Again, before it is admitted, is no harm.
    assert!(machine.kernel.raise(vms[1], pending::SHUTDOWN));
    machine.rouse();
    machine.settle(20_000);
    machine.audit();
    assert_eq!(known_out(&machine), [vms[0], vms[2]]);
    assert!(matches!(machine.state(vms[1]), Some(State::Idle { .. } | State::Ready)), "it runs");
    let vm = machine.kernel.vms.by_id(vms[1]).expect("it is in");
    let bits = vm.life.body().expect("it is in").registers.pending();
    assert_eq!(bits & (pending::NIC | pending::SHUTDOWN), pending::NIC | pending::SHUTDOWN);
    assert_eq!(machine.kernel.read_state(vms[0]), Err(StateError::Waits));
    assert!(!machine.kernel.raise(VmId { generation: 9, ..vms[0] }, pending::NIC), "another one");
}

#[test]
fn those_that_are_in_out_and_waiting_are_counted() {
    let (mut machine, vms) = machine(2048, Places { slots: 64, seats: 2 }, 6);
    let wakes = |machine: &Machine<true>| match machine.kernel.describe_wakes() {
        ControlReply::Wakes { living, admitted, out, waiting, woken, p50_ticks, p99_ticks } => {
            ([living, admitted, out, waiting], woken, p50_ticks, p99_ticks)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(wakes(&machine), ([6, 0, 6, 0], 0, 0, 0));
    for &vm in &vms[..3] {
        assert!(machine.kernel.raise(vm, pending::NIC));
    }
    machine.rouse();
    for _ in 0..2000 {
        machine.step();
    }
    let (counts, woken, half, most) = wakes(&machine);
    assert_eq!((counts, woken), ([6, 2, 3, 1], 2), "two seats");
    assert!(half > 0 && half <= most, "{half} and {most}");
    assert!(machine.kernel.destroy(vms[2]) && machine.kernel.destroy(vms[5]));
    assert_eq!(wakes(&machine).0, [4, 2, 2, 0]);
}

#[test]
fn one_that_is_called_and_cannot_be_built_is_gone_for_its_demultiplexer() {
    let (mut machine, vms) = machine(2048, PLACES, 2);
    machine.kernel.cpu.backend.refuse = 1;
    assert!(machine.kernel.raise(vms[0], pending::NIC));
    machine.rouse();
    machine.settle(20_000);
    machine.audit();
    assert_eq!((machine.vms(), known_out(&machine)), (vec![vms[1]], vec![vms[1]]));
}

#[test]
fn one_without_an_address_is_refused() {
    let (mut machine, _) = machine(2048, PLACES, 0);
    let order = Order {
        image: WITH_NIC,
        slot: None,
        ipv4: 0,
        share: Share::UNSAID,
        claim: Claim::UNSAID,
        tenant: Tenant::UNSAID,
        disk: abi::attachment::Attachment::NONE,
    };
    assert_eq!(machine.kernel.create(&order, b""), Err(CreateError::NoAddress));
    assert!(machine.vms().is_empty());
}

#[test]
fn one_that_is_destroyed_while_it_is_out_or_on_its_way_is_gone_for_everybody() {
    let (mut machine, vms) = machine(2048, PLACES, 3);
    assert!(machine.kernel.destroy(vms[0]));
    assert!(machine.kernel.raise(vms[1], pending::NIC) && machine.kernel.destroy(vms[1]));
    machine.rouse();
    machine.settle(20_000);
    machine.audit();
    assert_eq!((machine.vms(), known_out(&machine)), (vec![vms[2]], vec![vms[2]]));
    assert!(!machine.kernel.raise(vms[0], pending::NIC) && !machine.kernel.destroy(vms[0]));
    // Their slots are used again.
    let next = [machine.create(WITH_NIC), machine.create(WITH_NIC)];
    machine.settle(20_000);
    machine.audit();
    assert!(next.iter().all(|vm| vm.generation == 2) && known_out(&machine).len() == 3);
}

#[test]
fn a_demultiplexer_that_is_restarted_is_told_of_them_again() {
    let (mut machine, vms) = machine(4096, Places { slots: 600, seats: 8 }, 500);
    assert!(machine.kernel.raise(vms[7], pending::NIC));
    machine.rouse();
    machine.settle(20_000);
    for _ in 0..3 {
        let rank = machine.rank(Service::Net);
        machine.kernel.cpu.condemn(rank, Death::Killed);
        machine.rouse();
        machine.settle(60_000);
        machine.audit();
        assert_eq!(known_out(&machine).len(), 499);
    }
}

#[test]
fn those_of_the_boot_options_are_out_as_well() {
    let mut machine = Machine::<true>::with_vms(4096, &[(WITH_NIC, 200)]);
    machine.kernel.cpu.images.get_mut(WITH_NIC).expect("it is there").entry.flags = image_flags::LAZY;
    machine.settle(60_000);
    machine.audit();
    assert_eq!((known_out(&machine).len(), machine.kernel.vms.living()), (200, 200));
}

#[test]
fn those_for_whom_there_is_no_room_wait_in_their_order() {
    let (mut machine, vms) = machine(2048, Places { slots: 64, seats: 4 }, 8);
    // As long as somebody waits, the core looks again and again.
    let go_on = |machine: &mut Machine<true>| {
        machine.rouse();
        for _ in 0..2000 {
            machine.step();
        }
    };
    for &vm in &vms {
        assert!(machine.kernel.raise(vm, pending::NIC));
        go_on(&mut machine);
    }
    machine.audit();
    let waits: Vec<_> = vms.iter().map(|&vm| machine.waits(vm)).collect();
    assert_eq!(waits, [false, false, false, false, true, true, true, true]);
    assert!(machine.kernel.destroy(vms[2]));
    go_on(&mut machine);
    machine.audit();
    assert!(!machine.waits(vms[4]) && machine.waits(vms[5]), "the first of those that wait");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whoever knocks, ends and dies: every VM is out, waits, or is in, and the demultiplexer knows those that are not in.
    #[test]
    fn no_vm_is_lost(steps in proptest::collection::vec((0_usize..12, 0_u8..8), 1..40)) {
        let (mut machine, mut vms) = machine(2048, PLACES, 12);
        for (which, what) in steps {
            let vm = vms[which];
            match what {
                0..4 => _ = machine.kernel.can_come_in(vm) && machine.kernel.raise(vm, pending::NIC),
                4 if machine.kernel.cpu.all_have_room() => {
                    let _ = machine.kernel.destroy(vm);
                    if let Ok(next) = machine.create_with(WITH_NIC, b"") {
                        vms[which] = next;
                    }
                }
                5 => {
                    let services = [Service::Net, Service::Plan, Service::Pager];
                    let rank = machine.rank(services[which % 3]);
                    machine.kernel.cpu.condemn(rank, Death::Killed);
                }
                6 => machine.wires.raise(vector(NIC_GSI)),
                _ => {
                    for _ in 0..which * 3 {
                        machine.step();
                    }
                }
            }
            machine.rouse();
            machine.audit();
        }
        machine.settle(100_000);
        machine.audit();
        for vm in vms {
            prop_assert!(machine.vms().contains(&vm), "{vm} is lost");
        }
    }
}
