//! Where one follows on the CPU who may not learn what another has done: which barriers come between.
//!
//! What each crossing takes is the loader's decision ([`BarrierPlan`]); here is only who was there last. Pure; the backend carries it out.

use abi::barriers::{BarrierPlan, Barriers, mode};
use abi::tenant::Tenant;
use abi::vm::VmId;

/// Between whose VMs there are no barriers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// All VMs of a tenant with a name.
    Tenant(Tenant),
    /// One VM, of which nobody says whose it is.
    Vm(VmId),
}

impl Domain {
    /// That of a VM.
    pub fn of(tenant: Tenant, vm: VmId) -> Self {
        if tenant.is_unsaid() { Domain::Vm(vm) } else { Domain::Tenant(tenant) }
    }
}

/// Who was on this CPU last.
#[derive(Clone, Copy, Debug)]
pub struct Crossings {
    plan: BarrierPlan,
    /// Any crossing takes something.
    on: bool,
    /// A turn begins with a look here: there are crossings, or the CPU does not end turns by itself as it should.
    looked_at: bool,
    /// Whose guest was entered last.
    last: Option<Domain>,
    /// Something else than guests of `last` has run since.
    others: bool,
    /// A guest was entered since a component last went on.
    guest_since: bool,
}

impl Crossings {
    /// Nobody was there. `late` where the CPU does not end turns by itself as it should.
    pub fn new(plan: BarrierPlan, late: bool) -> Self {
        let on = !plan.is_none();
        Crossings { plan, on, looked_at: on || late, last: None, others: true, guest_since: false }
    }

    /// Whether a turn begins with a look here.
    #[inline]
    pub fn are_looked_at(&self) -> bool {
        self.looked_at
    }

    /// What comes before every entry, also that behind an exit which concerned the guest alone.
    pub fn at_entries(&self) -> Barriers {
        let plan = &self.plan;
        plan.tenant.with(plan.entry).when(plan.mode == mode::STRICT)
    }

    /// Whether anything is to be done anywhere.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// What was decided about this processor.
    pub fn plan(&self) -> &BarrierPlan {
        &self.plan
    }

    /// The core has done something that is not for the guest that ran last.
    #[inline]
    pub fn others_ran(&mut self) {
        self.others = true;
    }

    /// A guest is about to be entered: what has to come before.
    #[must_use]
    pub fn before_guest(&mut self, domain: Domain) -> Barriers {
        let same = self.last == Some(domain);
        let plan = &self.plan;
        let barriers = if !same { plan.tenant.with(plan.entry) } else { plan.entry.when(self.others) };
        (self.last, self.others, self.guest_since) = (Some(domain), false, true);
        barriers
    }

    /// A component is about to go on that is not the one which went on last, or a guest has run since: what has to come before.
    #[must_use]
    pub fn before_component(&mut self) -> Barriers {
        self.others = true;
        let strict = self.plan.mode == mode::STRICT;
        let crossing = core::mem::replace(&mut self.guest_since, false) || strict;
        self.plan.component.when(crossing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: Barriers = Barriers::IBPB;
    const ENTRY: Barriers = Barriers::VERW;
    const COMPONENT: Barriers = Barriers::RSB;

    fn crossings(mode: u32) -> Crossings {
        let plan = BarrierPlan { mode, tenant: TENANT, entry: ENTRY, component: COMPONENT, ..BarrierPlan::default() };
        Crossings::new(plan, false)
    }

    fn vm(slot: u32) -> Domain {
        Domain::of(Tenant::UNSAID, VmId::new(slot, 1))
    }

    #[test]
    fn a_domain_is_a_tenant_or_a_vm() {
        let blue = Tenant::new("blue").expect("a name");
        assert_eq!(Domain::of(blue, VmId::new(1, 1)), Domain::of(blue, VmId::new(2, 1)));
        assert_ne!(vm(1), vm(2));
        assert_ne!(vm(1), Domain::of(Tenant::UNSAID, VmId::new(1, 2)), "its slot's next VM is another one");
        assert_ne!(vm(1), Domain::of(blue, VmId::new(1, 1)));
    }

    #[test]
    fn nothing_between_the_same_and_everything_between_others() {
        let mut crossings = crossings(mode::AUTO);
        assert!(crossings.is_on() && crossings.are_looked_at() && crossings.at_entries().is_none());
        assert_eq!(crossings.before_guest(vm(1)), TENANT.with(ENTRY), "who knows what was there before");
        assert_eq!(crossings.before_guest(vm(1)), Barriers::NONE);
        assert_eq!(crossings.before_guest(vm(2)), TENANT.with(ENTRY));
        crossings.others_ran();
        assert_eq!(crossings.before_guest(vm(2)), ENTRY);
        assert_eq!(crossings.before_component(), COMPONENT);
        assert_eq!(crossings.before_component(), Barriers::NONE, "no guest between");
        assert_eq!(crossings.before_guest(vm(2)), ENTRY);
        assert_eq!(crossings.before_guest(vm(2)), Barriers::NONE);
        assert_eq!(crossings.before_component(), COMPONENT);
        assert_eq!(crossings.before_guest(vm(1)), TENANT.with(ENTRY));
    }

    #[test]
    fn every_crossing_counts_where_it_is_strict() {
        let mut crossings = crossings(mode::STRICT);
        assert_eq!(crossings.at_entries(), TENANT.with(ENTRY));
        for _ in 0..3 {
            assert_eq!(crossings.before_component(), COMPONENT);
        }
    }

    #[test]
    fn it_is_off_where_no_crossing_takes_anything() {
        let off = Crossings::new(BarrierPlan::default(), false);
        assert!(!off.is_on() && !off.are_looked_at());
        let late = Crossings::new(BarrierPlan::default(), true);
        assert!(!late.is_on() && late.are_looked_at(), "the timer is");
        let exit = BarrierPlan { exit: Barriers::RSB, ..BarrierPlan::default() };
        assert_eq!(Crossings::new(exit, false).plan(), &exit);
    }
}
