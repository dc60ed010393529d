//! Why this CPU cannot be used.

use crate::controls::Misfit;
use crate::error::Error;
use core::fmt;

/// See the variants; [`fmt::Display`] says what is wrong, [`Unfit::remedy`] what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// CPUID.1:ECX bit 5 is clear.
    NoVmx,
    /// The firmware has locked VT-x off; the value of IA32_FEATURE_CONTROL.
    LockedByFirmware(u64),
    /// There is no EPT (among the bits of the secondary controls that are lacking).
    NoEpt(Misfit),
    /// There is no unrestricted guest (among the bits of the secondary controls that are lacking).
    NoUnrestrictedGuest(Misfit),
    /// There is no VPID (among the bits of the secondary controls that are lacking).
    NoVpid(Misfit),
    /// There is no VMX-preemption timer (among the bits of the pin-based controls that are lacking).
    NoPreemptionTimer(Misfit),
    /// Other bits of a control word do not fit.
    Controls(Misfit),
    /// EPT lacks something: IA32_VMX_EPT_VPID_CAP, and what it lacks.
    EptLacks {
        /// For instance "4-level tables".
        what: &'static str,
        /// The MSR.
        msr: u64,
    },
    /// A processor feature beside VT-x is missing.
    NoFeature(&'static str),
    /// A control register cannot have the value that is needed.
    Fixed(Error),
}

impl From<Misfit> for Unfit {
    /// The variant for the feature that users know by name, where one is among the bits.
    fn from(misfit: Misfit) -> Unfit {
        use crate::controls::{PIN_BASED, SECONDARY, Word, pin, secondary};
        let lacks = |word: &Word, bit| !misfit.forced && misfit.word == word && misfit.bits & bit != 0;
        if lacks(&SECONDARY, secondary::EPT) {
            Unfit::NoEpt(misfit)
        } else if lacks(&SECONDARY, secondary::UNRESTRICTED_GUEST) {
            Unfit::NoUnrestrictedGuest(misfit)
        } else if lacks(&SECONDARY, secondary::VPID) {
            Unfit::NoVpid(misfit)
        } else if lacks(&PIN_BASED, pin::PREEMPTION_TIMER) {
            Unfit::NoPreemptionTimer(misfit)
        } else {
            Unfit::Controls(misfit)
        }
    }
}

impl From<Error> for Unfit {
    fn from(error: Error) -> Unfit {
        Unfit::Fixed(error)
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::NoVmx => write!(f, "the CPU has no VT-x (CPUID.1:ECX bit 5 is clear)"),
            Unfit::LockedByFirmware(value) => {
                write!(f, "VT-x is locked off by the firmware (IA32_FEATURE_CONTROL = {value:#x})")
            }
            Unfit::NoEpt(misfit)
            | Unfit::NoUnrestrictedGuest(misfit)
            | Unfit::NoVpid(misfit)
            | Unfit::NoPreemptionTimer(misfit)
            | Unfit::Controls(misfit) => misfit.fmt(f),
            Unfit::EptLacks { what, msr } => {
                write!(f, "VT-x EPT: the CPU lacks {what} (IA32_VMX_EPT_VPID_CAP = {msr:#x})")
            }
            Unfit::NoFeature(name) => write!(f, "the CPU lacks {name}"),
            Unfit::Fixed(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for Unfit {}

impl Unfit {
    /// What the owner of the machine can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Unfit::NoVmx => {
                "use an Intel CPU with VT-x; inside another hypervisor, switch nested virtualization on (KVM: kvm_intel nested=1, -cpu host)"
            }
            Unfit::LockedByFirmware(_) => {
                "enable \"Intel Virtualization Technology\" (VT-x) in the firmware setup, then power the machine off and on"
            }
            Unfit::NoEpt(_)
            | Unfit::NoUnrestrictedGuest(_)
            | Unfit::NoVpid(_)
            | Unfit::NoPreemptionTimer(_)
            | Unfit::Controls(_)
            | Unfit::EptLacks { .. }
            | Unfit::NoFeature(_) => {
                "use an Intel CPU of 2012 or later; inside another hypervisor, let it pass this feature on"
            }
            Unfit::Fixed(_) => "please report this with the model of the CPU",
        }
    }
}
