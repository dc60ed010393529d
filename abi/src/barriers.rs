//! Barriers against speculative side channels: what a processor is exposed to, what is done about it, and where.
//!
//! The loader decides ([`BarrierPlan`], by its table over CPUID and MSRs); the core asks its backend for what the plan says where one who
//! may not trust the other follows him on the CPU; the backend executes the instructions.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What sets of bits have in common.
macro_rules! set {
    ($name:ident) => {
        impl $name {
            /// The bits.
            #[must_use]
            pub const fn raw(self) -> u32 {
                self.0
            }

            /// What `raw` gave, or what somebody says it did.
            #[must_use]
            pub const fn from_raw(raw: u32) -> $name {
                $name(raw)
            }

            /// Whether there is none.
            #[must_use]
            pub const fn is_none(self) -> bool {
                self.0 == 0
            }

            /// Both.
            #[must_use]
            pub const fn with(self, other: $name) -> $name {
                $name(self.0 | other.0)
            }

            /// These where `condition` holds, else none.
            #[must_use]
            pub const fn when(self, condition: bool) -> $name {
                if condition { self } else { $name::NONE }
            }

            /// Those that are not in `other`.
            #[must_use]
            pub const fn without(self, other: $name) -> $name {
                $name(self.0 & !other.0)
            }

            /// Whether all of `other` are in it.
            #[must_use]
            pub const fn contains(self, other: $name) -> bool {
                self.0 & other.0 == other.0
            }
        }
    };
}

set!(Barriers);
set!(Exposures);

/// A set of barriers.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Barriers(u32);

impl Barriers {
    /// None.
    pub const NONE: Barriers = Barriers(0);
    /// Indirect branches are no longer predicted by what ran before: `IA32_PRED_CMD` bit 0.
    pub const IBPB: Barriers = Barriers(1 << 0);
    /// Returns are no longer predicted by what ran before: the return stack buffer is filled with calls of the core's.
    pub const RSB: Barriers = Barriers(1 << 1);
    /// Indirect branches of the core are not predicted by what is less privileged: `IA32_SPEC_CTRL.IBRS` is written, as processors
    /// without the enhanced kind need it after each exit.
    pub const IBRS: Barriers = Barriers(1 << 2);
    /// The branch history is the core's own: more taken branches than it holds.
    pub const BHB: Barriers = Barriers(1 << 3);
    /// One call is made before the first return, which must not be predicted by the entry that a guest has left (post-barrier RSB).
    pub const CALL: Barriers = Barriers(1 << 4);
    /// Fill buffers, store buffers, load ports and register files hold nothing of what ran before: VERW.
    pub const VERW: Barriers = Barriers(1 << 5);
    /// The first-level data cache holds nothing of what ran before: `IA32_FLUSH_CMD` bit 0.
    pub const L1D: Barriers = Barriers(1 << 6);
    /// All of them.
    pub const ALL: Barriers = Barriers((1 << 7) - 1);
    /// Those that a guest's exit can have.
    pub const AT_EXIT: Barriers = Barriers(0b001_1111);
    /// Those that an entry can have.
    pub const AT_ENTRY: Barriers = Barriers(0b110_0011);
    /// Those that a component can have before it goes on.
    pub const AT_COMPONENT: Barriers = Barriers(0b000_0011);
}

/// A set of known ways in which a processor lets one side see what another one did.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[allow(missing_docs)] // They are the field's names, each with a page in Linux' Documentation/admin-guide/hw-vuln.
pub struct Exposures(u32);

#[allow(missing_docs)]
impl Exposures {
    pub const NONE: Exposures = Exposures(0);
    pub const ALL: Exposures = Exposures((1 << 17) - 1);
}

/// [`BarrierPlan::mode`].
pub mod mode {
    /// What the processor is exposed to.
    pub const AUTO: u32 = 0;
    /// Nothing at all.
    pub const OFF: u32 = 1;
    /// Everything that the processor has, at every crossing, whatever it is exposed to and whosever the VMs are.
    pub const STRICT: u32 = 2;
}

/// [`BarrierPlan::setup`]: what is switched on once, for good.
pub mod setup {
    /// `IA32_SPEC_CTRL.IBRS`, of the enhanced kind.
    pub const ENHANCED_IBRS: u32 = 1 << 0;
    /// `IA32_SPEC_CTRL.BHI_DIS_S`.
    pub const BHI_DIS_S: u32 = 1 << 1;
    /// `EFER.AIBRSE`.
    pub const AUTOMATIC_IBRS: u32 = 1 << 2;
    /// `BP_CFG.BpSpecReduce`: AMD's family 1Ah does not predict a host's returns by what a guest did.
    pub const BP_SPEC_REDUCE: u32 = 1 << 3;
    /// All of them.
    pub const ALL: u32 = (1 << 4) - 1;
}

/// What is done on this processor, and where.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BarrierPlan {
    /// [`mode`].
    pub mode: u32,
    /// [`setup`].
    pub setup: u32,
    /// What the processor is exposed to.
    pub exposed: Exposures,
    /// What of that nothing is done about, or not enough.
    pub open: Exposures,
    /// When a guest exits, before the core's first return or indirect branch.
    pub exit: Barriers,
    /// Before a guest is entered when the last one was another tenant's.
    pub tenant: Barriers,
    /// Before a guest is entered when anything but it and its tenant's VMs has run since one of them last did, the core for others included.
    pub entry: Barriers,
    /// Before a component goes on when a guest has run since one last did.
    pub component: Barriers,
}

impl BarrierPlan {
    /// Whether the core has to ask for anything.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.exit.is_none() && self.tenant.is_none() && self.entry.is_none() && self.component.is_none()
    }

    /// Whether it is one that a loader can have made: only bits that there are, barriers where they can be, nothing where nothing is
    /// wanted, and nothing open that the processor is not exposed to.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        let known = self.mode <= mode::STRICT && self.setup & !setup::ALL == 0 && Exposures::ALL.contains(self.exposed);
        let places = Barriers::AT_EXIT.contains(self.exit)
            && Barriers::AT_ENTRY.contains(self.tenant)
            && Barriers::AT_ENTRY.contains(self.entry)
            && Barriers::AT_COMPONENT.contains(self.component);
        let off = self.mode != mode::OFF || (self.setup == 0 && self.is_none());
        known && places && off && self.exposed.contains(self.open)
    }
}

const _: () = assert!(size_of::<BarrierPlan>() == 32);

#[cfg(any(test, feature = "beyond-core"))]
#[path = "barrier_names.rs"]
pub mod names;

#[cfg(test)]
mod tests {
    use super::names::Setup;
    use super::*;
    extern crate std;
    use std::string::ToString;

    #[test]
    fn sets_are_sets() {
        let both = Barriers::IBPB.with(Barriers::VERW);
        assert!(both.contains(Barriers::IBPB) && !Barriers::IBPB.contains(both) && both.contains(Barriers::NONE));
        assert_eq!(both.without(Barriers::IBPB), Barriers::VERW);
        assert_eq!((both.when(true), both.when(false)), (both, Barriers::NONE));
        assert!(Barriers::NONE.is_none() && !both.is_none());
        assert_eq!((both.to_string(), Barriers::NONE.to_string()), ("ibpb,verw".into(), "none".into()));
        let exposed = Exposures::L1TF.with(Exposures::VMSCAPE);
        assert_eq!(exposed.to_string(), "l1tf,vmscape");
        assert!(exposed.contains(Exposures::L1TF) && exposed.without(exposed).is_none() && !exposed.is_none());
        assert_eq!((exposed.when(true), exposed.when(false)), (exposed, Exposures::NONE));
        assert_eq!(Setup(setup::ALL).to_string(), "eibrs,bhi-dis-s,autoibrs,bp-spec-reduce");
    }

    #[test]
    fn each_bit_has_a_name_of_its_own() {
        assert_eq!(Barriers::ALL.to_string(), "ibpb,rsb,ibrs,bhb,call,verw,l1d");
        assert_eq!(Barriers::AT_EXIT.to_string(), "ibpb,rsb,ibrs,bhb,call");
        assert_eq!(Barriers::AT_ENTRY.to_string(), "ibpb,rsb,verw,l1d");
        assert_eq!(Barriers::AT_COMPONENT.to_string(), "ibpb,rsb");
        for (bit, name) in [(Exposures::SPECTRE_V1, "spectre-v1"), (Exposures::TSA, "tsa"), (Exposures::GDS, "gds")] {
            assert_eq!(bit.to_string(), name);
        }
        assert_eq!(Exposures::ALL.to_string().split(',').count(), 17);
    }

    #[test]
    fn what_no_loader_makes_is_not_valid() {
        let good = BarrierPlan {
            mode: mode::AUTO,
            setup: setup::ALL,
            exposed: Exposures::ALL,
            open: Exposures::MELTDOWN,
            exit: Barriers::AT_EXIT,
            tenant: Barriers::AT_ENTRY,
            entry: Barriers::AT_ENTRY,
            component: Barriers::AT_COMPONENT,
        };
        assert!(good.is_valid() && !good.is_none());
        assert_eq!(good.mode_name(), "auto");
        let off =
            BarrierPlan { mode: mode::OFF, exposed: Exposures::ALL, open: Exposures::ALL, ..BarrierPlan::default() };
        assert!(off.is_valid() && off.is_none());
        let next = Exposures::from_raw(1 << 17);
        for bad in [
            BarrierPlan { mode: 3, ..good },
            BarrierPlan { setup: 16, ..good },
            BarrierPlan { exposed: next, open: Exposures::NONE, ..good },
            BarrierPlan { exposed: Exposures::L1TF, ..good },
            BarrierPlan { exit: Barriers::VERW, ..good },
            BarrierPlan { tenant: Barriers::IBRS, ..good },
            BarrierPlan { entry: Barriers::BHB, ..good },
            BarrierPlan { component: Barriers::L1D, ..good },
            BarrierPlan { setup: 1, ..off },
            BarrierPlan { exit: Barriers::RSB, ..off },
            BarrierPlan { tenant: Barriers::RSB, ..off },
            BarrierPlan { entry: Barriers::RSB, ..off },
            BarrierPlan { component: Barriers::RSB, ..off },
        ] {
            assert!(!bad.is_valid(), "{bad:?}");
        }
        for one in [
            BarrierPlan { exit: Barriers::RSB, ..BarrierPlan::default() },
            BarrierPlan { tenant: Barriers::RSB, ..BarrierPlan::default() },
            BarrierPlan { entry: Barriers::VERW, ..BarrierPlan::default() },
            BarrierPlan { component: Barriers::RSB, ..BarrierPlan::default() },
        ] {
            assert!(!one.is_none());
        }
    }
}
