//! The state of a VM's processor that goes out and comes in.

use super::component::{Due, Misdeed};
use super::guest::{FIRST, START, keep};
use super::machine::{IMAGE_PAGE, Machine, WITHOUT_NIC};
use crate::vm::{Seed, State, StateError};
use abi::pager::Access;
use abi::service::Service;
use abi::share::Share;
use abi::vcpu::{BadState, General, Level, VcpuState};
use abi::vm::VmId;
use backend::fake::Step;
use proptest::prelude::*;

/// A VM that idles in the image, and the hypercall that it did.
fn at_rest<const TIMER: bool>() -> Machine<TIMER> {
    Machine::with_guest(WITHOUT_NIC, &[]).0
}

/// What the fake's processor has of a state.
fn known(general: [u64; 16], rip: u64) -> VcpuState {
    let [rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15] = general;
    let general = General { rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15 };
    VcpuState { general, rip, ..VcpuState::INITIAL }
}

#[test]
fn a_vm_that_idles_goes_out_as_if_nothing_were_pending() {
    let mut machine = at_rest::<true>();
    let state = machine.kernel.read_state(FIRST).expect("it was admitted");
    assert_eq!((state.general.rax, state.rip), (0, START + 3), "behind its idle");
    assert_eq!(state.general.rdi, u64::MAX, "its argument");
}

#[test]
fn a_vm_that_waits_for_a_page_takes_no_state() {
    let mut machine = at_rest::<true>();
    let pager = machine.rank(Service::Pager);
    machine.hardware.borrow_mut().components[pager].due = Some(Due { after: 0, what: Misdeed::Sleep });
    machine.go_on(&[Step::Touch { page: IMAGE_PAGE + 2, access: Access::Write }]);
    for _ in 0..10 {
        machine.step();
    }
    assert!(matches!(machine.state(FIRST), Some(State::Fault(_))));
    let state = machine.kernel.read_state(FIRST).expect("it was admitted");
    assert_eq!(machine.kernel.write_state(FIRST, &state), Err(StateError::Busy));
}

#[test]
fn who_has_no_processor_has_no_state() {
    let mut machine = at_rest::<true>();
    let vms = &mut machine.kernel.vms;
    let id = vms.next_id().expect("room");
    let seed = Seed {
        id,
        image: WITHOUT_NIC,
        ipv4: 0,
        share: Share::DEFAULT,
        claim: abi::claim::Claim { reserve: 0, limit: 300 },
        tenant: abi::tenant::Tenant::UNSAID,
        disk: abi::attachment::Attachment::NONE,
        created_tsc: 0,
        stolen_ms: 0,
    };
    assert_eq!(vms.create(seed, b""), Ok(()));
    for (vm, why) in [(id, StateError::Waits), (VmId::new(0, 2), StateError::NoVm), (VmId::new(7, 1), StateError::NoVm)]
    {
        assert_eq!(machine.kernel.read_state(vm), Err(why));
        assert_eq!(machine.kernel.write_state(vm, &VcpuState::INITIAL), Err(why));
    }
    assert!(machine.kernel.destroy(FIRST));
    assert_eq!(machine.kernel.read_state(FIRST), Err(StateError::NoVm), "it has ended");
    assert_eq!(machine.kernel.write_state(FIRST, &VcpuState::INITIAL), Err(StateError::NoVm));
}

#[test]
fn a_bad_state_changes_nothing() {
    let mut machine = at_rest::<true>();
    let before = machine.kernel.read_state(FIRST).expect("it was admitted");
    let avx = VcpuState { level: Level::Avx.raw(), ..VcpuState::INITIAL };
    let nowhere = VcpuState { rip: 1 << 47, ..VcpuState::INITIAL };
    for (state, why) in [(avx, BadState::Level(Level::Avx)), (nowhere, BadState::NotCanonical(1 << 47))] {
        assert_eq!(machine.kernel.write_state(FIRST, &state), Err(StateError::Bad(why)));
    }
    let after = machine.kernel.read_state(FIRST).expect("it was admitted");
    assert_eq!(VcpuState { tsc: before.tsc, ..after }, before);
}

#[test]
fn the_guest_goes_on_with_what_came_in() {
    let mut machine = at_rest::<true>();
    let mut state = machine.kernel.read_state(FIRST).expect("it was admitted");
    state.general.rax = 0xfeed;
    assert_eq!(machine.kernel.write_state(FIRST, &state), Ok(()));
    // The result of the idle in which it was would be in RAX otherwise.
    machine.guests.borrow_mut().steps.extend([keep(0)]);
    machine.rouse();
    machine.settle(20_000);
    machine.audit();
    assert_eq!(machine.kept(1), [0xfeed]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// From a processor of one maker to one of another.
    #[test]
    fn what_went_out_of_one_machine_is_what_the_next_has(
        general in any::<[u64; 16]>(), rip in 0_u64..1 << 47,
    ) {
        let state = known(general, rip);
        let (mut one, mut other) = (at_rest::<true>(), at_rest::<false>());
        prop_assert_eq!(one.kernel.write_state(FIRST, &state), Ok(()));
        let out = one.kernel.read_state(FIRST).expect("it was admitted");
        prop_assert_eq!(VcpuState { tsc: 0, ..out }, state);
        let bytes = VcpuState::from_bytes(out.to_bytes()).expect("a state");
        prop_assert_eq!(other.kernel.write_state(FIRST, &bytes), Ok(()));
        let again = other.kernel.read_state(FIRST).expect("it was admitted");
        prop_assert_eq!(VcpuState { tsc: out.tsc, ..again }, out);
    }
}
