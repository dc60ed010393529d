//! Why this CPU, or one guest on it, cannot be used.

use crate::controls::Misfit;
use core::fmt;

/// See the variants; [`fmt::Display`] says what is wrong, [`Error::remedy`] what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
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
    FixedBits {
        /// Which register, and whose.
        register: &'static str,
        /// The bits that are wrong.
        bits: u64,
    },
    /// The CPU refused a field of the VMCS.
    Field {
        /// Encoding (SDM vol. 3, appendix B).
        encoding: u32,
        /// VM-instruction error (SDM vol. 3, 31.4), 0 when no VMCS was loaded.
        error: u32,
    },
    /// A VMX instruction failed.
    Instruction {
        /// Its name.
        name: &'static str,
        /// VM-instruction error, 0 when there is none.
        error: u32,
    },
}

impl From<Misfit> for Error {
    /// The variant for the feature that users know by name, where one is among the bits.
    fn from(misfit: Misfit) -> Error {
        use crate::controls::{PIN_BASED, SECONDARY, Word, pin, secondary};
        let lacks = |word: &Word, bit| !misfit.forced && misfit.word == word && misfit.bits & bit != 0;
        if lacks(&SECONDARY, secondary::EPT) {
            Error::NoEpt(misfit)
        } else if lacks(&SECONDARY, secondary::UNRESTRICTED_GUEST) {
            Error::NoUnrestrictedGuest(misfit)
        } else if lacks(&SECONDARY, secondary::VPID) {
            Error::NoVpid(misfit)
        } else if lacks(&PIN_BASED, pin::PREEMPTION_TIMER) {
            Error::NoPreemptionTimer(misfit)
        } else {
            Error::Controls(misfit)
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoVmx => write!(f, "the CPU has no VT-x (CPUID.1:ECX bit 5 is clear)"),
            Error::LockedByFirmware(value) => {
                write!(f, "VT-x is locked off by the firmware (IA32_FEATURE_CONTROL = {value:#x})")
            }
            Error::NoEpt(misfit)
            | Error::NoUnrestrictedGuest(misfit)
            | Error::NoVpid(misfit)
            | Error::NoPreemptionTimer(misfit)
            | Error::Controls(misfit) => misfit.fmt(f),
            Error::EptLacks { what, msr } => {
                write!(f, "VT-x EPT: the CPU lacks {what} (IA32_VMX_EPT_VPID_CAP = {msr:#x})")
            }
            Error::NoFeature(name) => write!(f, "the CPU lacks {name}"),
            Error::FixedBits { register, bits } => {
                write!(f, "VT-x does not allow the {register} that is needed: bits {bits:#x} are wrong")
            }
            Error::Field { encoding, error } => {
                write!(f, "the CPU refused VMCS field {encoding:#06x}: VM-instruction error {error}")
            }
            Error::Instruction { name, error } => write!(f, "{name} failed: VM-instruction error {error}"),
        }
    }
}

impl core::error::Error for Error {}

impl Error {
    /// What the owner of the machine can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Error::NoVmx => {
                "use an Intel CPU with VT-x; inside another hypervisor, switch nested virtualization on (KVM: kvm_intel nested=1, -cpu host)"
            }
            Error::LockedByFirmware(_) => {
                "enable \"Intel Virtualization Technology\" (VT-x) in the firmware setup, then power the machine off and on"
            }
            Error::NoEpt(_)
            | Error::NoUnrestrictedGuest(_)
            | Error::NoVpid(_)
            | Error::NoPreemptionTimer(_)
            | Error::Controls(_)
            | Error::EptLacks { .. }
            | Error::NoFeature(_) => {
                "use an Intel CPU of 2012 or later; inside another hypervisor, let it pass this feature on"
            }
            Error::FixedBits { .. } | Error::Field { .. } | Error::Instruction { .. } => {
                "please report this with the model of the CPU"
            }
        }
    }
}
