//! Why this CPU, or one guest on it, cannot be used.

use core::fmt;

/// See the variants; [`fmt::Display`] says what is wrong, [`Error::remedy`] what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// CPUID.80000001h:ECX bit 2 is clear.
    NoSvm,
    /// The firmware has switched SVM off; the value of VM_CR.
    DisabledByFirmware(u64),
    /// CPUID.8000000Ah:EDX bit 0 is clear.
    NoNestedPaging,
    /// There are too few address space tags; how many there are, the host's included.
    FewTags(u32),
    /// A processor feature beside SVM is missing.
    NoFeature(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoSvm => write!(f, "the CPU has no SVM (CPUID.80000001h:ECX bit 2 is clear)"),
            Error::DisabledByFirmware(value) => write!(f, "SVM is disabled by the firmware (VM_CR = {value:#x})"),
            Error::NoNestedPaging => write!(f, "SVM: the CPU lacks nested paging (CPUID.8000000Ah:EDX bit 0 is clear)"),
            Error::FewTags(count) => write!(f, "SVM: the CPU has {count} address space tags, 2 are needed"),
            Error::NoFeature(name) => write!(f, "the CPU lacks {name}"),
        }
    }
}

impl core::error::Error for Error {}

impl Error {
    /// What the owner of the machine can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Error::NoSvm => {
                "use an AMD CPU with SVM; inside another hypervisor, switch nested virtualization on (KVM: kvm_amd nested=1, -cpu host; QEMU without KVM: -cpu EPYC)"
            }
            Error::DisabledByFirmware(_) => {
                "enable \"SVM Mode\" in the firmware setup, then power the machine off and on"
            }
            Error::NoNestedPaging | Error::FewTags(_) | Error::NoFeature(_) => {
                "use an AMD CPU of 2012 or later; inside another hypervisor, let it pass this feature on (QEMU: -cpu EPYC)"
            }
        }
    }
}
