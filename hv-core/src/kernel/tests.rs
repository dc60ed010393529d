//! The whole kernel on the host: fake hardware, fake components that answer, stall, lie or die, guests that are scripts.

mod account;
mod audit;
mod board;
mod called;
mod callers;
mod clock;
mod comings;
mod component;
mod control;
mod creation;
mod crossings;
mod death;
mod deliver;
mod disks;
mod disks_out;
mod ending;
mod exits;
mod guest;
mod hardware_errors;
mod history;
mod hold;
mod hypercalls;
mod interrupts;
mod lines;
mod liveness;
mod machine;
mod out;
mod pages;
mod pages_answers;
pub mod placed;
mod plan;
mod readiness;
mod ring_pages;
mod roles;
mod services;
mod shortage;
mod state;
mod swap;
mod swap_role;
mod syscalls;
mod tenants_out;
mod twins;
mod vm_memory;
mod vm_memory_away;
mod waits;

use crate::vm::State;
use abi::pager::Access;
use backend::fake::Step;
use machine::{IMAGE_PAGE, Machine, WITH_NIC};

#[test]
fn the_serial_line_is_looked_at_700_times_a_second() {
    assert_eq!(super::serial_interval(1_400_000), 2_000);
}

#[test]
fn a_guest_gets_its_pages_and_idles() {
    let touch = |page, access| Step::Touch { page, access };
    let steps = [touch(IMAGE_PAGE, Access::Execute), touch(IMAGE_PAGE + 1, Access::Write)];
    let (mut machine, vm) = Machine::<true>::with_guest(WITH_NIC, &steps);
    machine.audit();
    assert_eq!(machine.vms(), [vm]);
    assert_eq!(machine.kernel.cpu.counters.faults, 2);
    let vm = machine.kernel.vms.by_id(vm).expect("it lives");
    assert_eq!(vm.life.state(), State::Idle { until: u64::MAX });
    assert!(vm.life.body().is_some_and(|body| body.memory.counts().2 == 1));
}
