//! Quotas of tenants for VMs that are out: what these take of the pool.

use super::comings::{bring_in, choose, put_out, stays, step_until};
use super::machine::{HZ, Machine, Places, WITH_NIC};
use super::waits::{comes_within, is_idle};
use abi::control::{ControlReply, ControlRequest, status};
use abi::flow::Flow;
use abi::guest::pending;
use abi::pager::Stays;
use abi::quota::Quota;
use abi::tenant::Tenant;
use abi::vm::VmId;

fn tenant(name: &str) -> Tenant {
    Tenant::new(name).expect("a name")
}

/// A machine with swap and so many seats.
fn machine(seats: usize) -> Machine<true> {
    let mut machine = Machine::<true>::with_swap(4096, Places { slots: 64, seats });
    machine.settle(4000);
    machine
}

/// So many VMs of a tenant that have run and idle, or are out already.
fn vms(machine: &mut Machine<true>, tenant: Tenant, count: usize) -> Vec<VmId> {
    let one = |machine: &mut Machine<true>| {
        let vm = machine.create_for(tenant, WITH_NIC, b"").expect("room");
        machine.rouse();
        step_until(machine, |machine| is_idle(machine, vm));
        machine.wires.spend(HZ / 1000);
        vm
    };
    (0..count).map(|_| one(machine)).collect()
}

fn set(machine: &mut Machine<true>, tenant: Tenant, quota: Quota) {
    let done = ControlReply::Done { status: status::OK, value: 0 };
    assert_eq!(machine.request(ControlRequest::SetQuota { tenant, quota, flow: Flow::UNCHANGED }), [done]);
}

/// Bytes of the pool that a tenant's VMs take.
fn pooled(machine: &mut Machine<true>, tenant: Tenant) -> u64 {
    match machine.request(ControlRequest::Tenant { tenant })[..] {
        [_, ControlReply::Tenant { pooled, .. }] => pooled,
        ref other => panic!("{other:?}"),
    }
}

/// Whether a VM does not go out because the pool is full for it: its network demultiplexer may keep it at first.
fn is_full(machine: &mut Machine<true>, vm: VmId) -> bool {
    let mut is_full = false;
    for _ in 0..3 {
        choose(machine, vm);
        machine.settle(20_000);
        machine.audit();
        is_full |= stays(machine, vm) == Some(Stays::Full);
    }
    machine.kernel.vms.out(vm).is_none() && is_full
}

#[test]
fn a_tenants_vms_take_no_more_of_the_pool_than_its_quota_and_others_are_not_touched() {
    let mut machine = machine(32);
    let [blue, red] = ["blue", "red"].map(tenant);
    let [blues, reds] = [(blue, 3), (red, 2)].map(|(of, count)| vms(&mut machine, of, count));
    put_out(&mut machine, blues[0]);
    let bytes = u64::from(machine.kernel.vms.bundle(blues[0].slot).expect("it is out").bytes);
    assert_eq!((pooled(&mut machine, blue), pooled(&mut machine, red)), (bytes, 0));
    // Nothing is left, or less than one takes, which is seen only when it has been stored.
    for pool in [bytes, bytes + 1, 0] {
        set(&mut machine, blue, Quota { pool, ..Quota::NONE });
        assert!(is_full(&mut machine, blues[1]), "{pool}");
        assert_eq!(pooled(&mut machine, blue), bytes);
    }
    put_out(&mut machine, reds[0]);
    set(&mut machine, blue, Quota { pool: bytes + bytes / 2, ..Quota::NONE });
    // Who comes in makes room, and so does who ends.
    bring_in(&mut machine, blues[0], pending::NIC);
    assert_eq!(pooled(&mut machine, blue), 0);
    put_out(&mut machine, blues[1]);
    assert!(is_full(&mut machine, blues[2]));
    let _ = machine.kernel.destroy(blues[1]);
    machine.settle(4000);
    assert_eq!(pooled(&mut machine, blue), 0);
    put_out(&mut machine, blues[2]);
    // What moves on to the disks is counted no longer.
    assert!(pooled(&mut machine, blue) > 0);
    assert!(machine.kernel.vms.move_to_disk(blues[2].slot).is_some());
    assert_eq!(machine.kernel.vms.tenants().get(blue).map(|(_, standing)| standing.pooled), Some(0));
}

#[test]
fn a_tenant_whose_share_of_the_pool_is_taken_exchanges_its_vms() {
    let mut machine = machine(2);
    let blue = tenant("blue");
    let all = vms(&mut machine, blue, 3);
    let out = *all.iter().find(|vm| machine.kernel.vms.out(**vm).is_some()).expect("one has made room");
    let bytes = pooled(&mut machine, blue);
    set(&mut machine, blue, Quota { pool: bytes, ..Quota::NONE });
    // One of another tenant can only wait, as nobody who is in may go.
    let red = machine.create_for(tenant("red"), WITH_NIC, b"").expect("room");
    assert!(!comes_within(&mut machine, red, HZ / 2));
    let _ = machine.kernel.destroy(red);
    machine.settle(4000);
    for _ in 0..4 {
        assert!(machine.kernel.vms.out(out).is_none() || machine.kernel.raise(out, pending::NIC));
        assert!(comes_within(&mut machine, out, HZ), "it waits for those who may not go");
        let other = *all.iter().find(|vm| machine.kernel.vms.out(**vm).is_some()).expect("one has made room");
        assert!(machine.kernel.raise(other, pending::NIC) && comes_within(&mut machine, other, HZ));
        assert!(pooled(&mut machine, blue) <= bytes + bytes / 2);
    }
}
