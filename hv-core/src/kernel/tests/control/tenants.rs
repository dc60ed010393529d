//! Quotas of tenants: set, kept and shown by request.

use super::*;
use abi::flow::Flow;
use abi::quota::{Beyond, Quota};

fn tenant(name: &str) -> Tenant {
    Tenant::new(name).expect("a name")
}

fn order(image: ImageId, tenant: Tenant, limit: u32) -> ControlRequest {
    let claim = Claim { reserve: 0, limit };
    let (args, share, disk) = (Piece::EMPTY, Share::UNSAID, Piece::EMPTY);
    ControlRequest::Create { image, slot: None, ipv4: 0, args, share, claim, tenant, disk }
}

fn set(machine: &mut Machine<true>, tenant: Tenant, quota: Quota) {
    assert_eq!(
        machine.request(ControlRequest::SetQuota { tenant, quota, flow: Flow::UNCHANGED }),
        [done(status::OK, 0)]
    );
}

/// VMs, frames, and how many were refused.
fn standing(machine: &mut Machine<true>, tenant: Tenant) -> (u32, u64, u32) {
    match machine.request(ControlRequest::Tenant { tenant })[..] {
        [ControlReply::Flow { tenant: first, .. }, ControlReply::Tenant { tenant: of, vms, frames, refused, .. }]
            if of == tenant && first == of =>
        {
            (vms, frames, refused)
        }
        ref other => panic!("{other:?}"),
    }
}

fn created(machine: &mut Machine<true>, order: ControlRequest) -> VmId {
    let [ControlReply::Done { status: status::OK, value }] = machine.request(order)[..] else { panic!("refused") };
    VmId::from_raw(value)
}

#[test]
fn a_tenant_gets_as_many_vms_as_its_quota_says_and_others_are_not_touched() {
    let mut machine = at_rest();
    let [blue, red] = ["blue", "red"].map(tenant);
    assert_eq!(machine.request(ControlRequest::Tenant { tenant: blue }), [done(status::NOT_FOUND, 0)]);
    set(&mut machine, blue, Quota { vms: 2, ..Quota::NONE });
    let vms = [0, 1].map(|_| created(&mut machine, order(WITHOUT_NIC, blue, 200)));
    let over = [done(status::OVER_VMS, Beyond { tenant: blue, frames: 200 }.raw())];
    assert_eq!(machine.request(order(WITHOUT_NIC, blue, 200)), over);
    created(&mut machine, order(WITHOUT_NIC, red, 200));
    created(&mut machine, order(WITHOUT_NIC, Tenant::UNSAID, 200));
    assert_eq!(standing(&mut machine, blue), (2, 400, 1));
    // Whoever dies by himself makes room as well as whoever is destroyed.
    assert_eq!(machine.request(ControlRequest::Destroy { vm: vms[0] }), [done(status::OK, 0)]);
    machine.settle(1000);
    assert_eq!(standing(&mut machine, blue), (1, 200, 1));
    created(&mut machine, order(WITHOUT_NIC, blue, 200));
    assert_eq!(machine.request(order(WITHOUT_NIC, blue, 200)), over);
    machine.audit();
}

#[test]
fn a_tenant_gets_as_much_memory_as_its_quota_says_and_a_vm_counts_for_its_limit() {
    let mut machine = at_rest();
    let blue = tenant("blue");
    set(&mut machine, blue, Quota { frames: 500, ..Quota::NONE });
    // What its creator does not say is the image's: 300.
    let vm = created(&mut machine, order(WITHOUT_NIC, blue, 0));
    let over = |frames| [done(status::OVER_MEMORY, Beyond { tenant: blue, frames }.raw())];
    assert_eq!(machine.request(order(WITHOUT_NIC, blue, 0)), over(300));
    assert_eq!(machine.request(order(WITHOUT_NIC, blue, 201)), over(201));
    created(&mut machine, order(WITHOUT_NIC, blue, 200));
    assert_eq!(standing(&mut machine, blue), (2, 500, 2));
    // Those that live go on where less is allowed.
    set(&mut machine, blue, Quota { vms: 0, frames: 0, pool: 0 });
    assert!(machine.kernel.vms.by_id(vm).is_some());
    set(&mut machine, blue, Quota::NONE);
    created(&mut machine, order(WITHOUT_NIC, blue, 0));
    machine.audit();
}

#[test]
fn the_quota_of_an_images_tenant_counts_for_vms_of_which_nobody_says_whose_they_are() {
    let mut machine = at_rest();
    let blue = tenant("blue");
    machine.kernel.cpu.images.get_mut(WITHOUT_NIC).expect("it is there").entry.tenant = blue.raw();
    set(&mut machine, blue, Quota { vms: 1, ..Quota::NONE });
    created(&mut machine, order(WITHOUT_NIC, Tenant::UNSAID, 200));
    let over = [done(status::OVER_VMS, Beyond { tenant: blue, frames: 200 }.raw())];
    assert_eq!(machine.request(order(WITHOUT_NIC, Tenant::UNSAID, 200)), over);
    created(&mut machine, order(WITHOUT_NIC, tenant("red"), 200));
}

#[test]
fn tenants_are_listed_by_their_numbers_and_nobody_without_a_name_has_a_quota() {
    let mut machine = at_rest();
    let (tenant_of_nobody, quota) = (Tenant::UNSAID, Quota { vms: 1, ..Quota::NONE });
    let flow = Flow { wakes: 1, rate: 1 };
    let refused = machine.request(ControlRequest::SetQuota { tenant: tenant_of_nobody, quota, flow });
    assert_eq!(refused, [done(status::BAD_REQUEST, 0)]);
    assert_eq!(machine.request(ControlRequest::NextTenant { number: 0 }), [done(status::NOT_FOUND, 0)]);
    let quota = Quota { vms: 7, frames: 9, pool: 11 };
    for name in ["a", "b"] {
        set(&mut machine, tenant(name), quota);
    }
    let shown = |number, name| {
        let tenant = tenant(name);
        [
            ControlReply::Flow { tenant, flow: Flow::NONE, waiting: 0, delayed: 0 },
            ControlReply::Tenant { number, tenant, vms: 0, refused: 0, frames: 0, quota, pooled: 0 },
        ]
    };
    assert_eq!(machine.request(ControlRequest::NextTenant { number: 0 }), shown(0, "a"));
    set(&mut machine, tenant("a"), Quota::NONE);
    assert_eq!(machine.request(ControlRequest::NextTenant { number: 0 }), shown(1, "b"));
    assert_eq!(machine.request(ControlRequest::NextTenant { number: u32::MAX }), [done(status::NOT_FOUND, 0)]);
}

#[test]
fn who_is_one_tenant_too_many_is_told() {
    let mut machine = at_rest();
    let name = |number: usize| tenant(&format!("t{number}"));
    for number in 0..abi::limits::LIVE_TENANTS {
        assert!(machine.kernel.vms.tenants_mut().set(
            name(number),
            Quota { vms: 1, frames: 300, ..Quota::NONE },
            Flow::NONE
        ));
    }
    let (one, quota) = (tenant("blue"), Quota { vms: 1, ..Quota::NONE });
    let taken = |frames| [done(status::TENANTS_TAKEN, Beyond { tenant: one, frames }.raw())];
    assert_eq!(machine.request(order(WITHOUT_NIC, one, 200)), taken(200));
    assert_eq!(
        machine.request(ControlRequest::SetQuota { tenant: one, quota, flow: Flow::NONE }),
        [done(status::TENANTS_TAKEN, 0)]
    );
    created(&mut machine, order(WITHOUT_NIC, name(7), 200));
    set(&mut machine, name(8), Quota::NONE);
    created(&mut machine, order(WITHOUT_NIC, one, 200));
}
