//! The whole kernel on the host: fake hardware, fake components that answer, stall, lie or die, guests that are scripts.

mod audit;
mod board;
mod component;
mod history;
mod machine;
mod roles;

use machine::{Machine, WITH_NIC};

#[test]
fn a_machine_comes_to_rest() {
    let mut machine = Machine::<true>::new(2048);
    let vm = machine.create(WITH_NIC);
    machine.settle(1000);
    assert_eq!(machine.vms(), [vm]);
}
