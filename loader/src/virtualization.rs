//! Which of the CPU's ways to run guests is used.

use super::failure::Failure;
use abi::note::{KIND_CORE_SVM, KIND_CORE_VMX};
use core::fmt;

/// The one that is used, with everything that was decided about the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Virtualization {
    /// Intel's.
    Vtx(vmx::Plan),
    /// AMD's.
    Svm(svm::Plan),
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is neither.
    Neither,
    /// What is there lacks something.
    Vtx(vmx::Unfit),
    /// What is there lacks something.
    Svm(svm::Error),
}

impl Virtualization {
    /// What this CPU has.
    ///
    /// # Errors
    /// [`Refusal`].
    ///
    /// # Safety
    /// Ring 0.
    pub unsafe fn detect() -> Result<Virtualization, Refusal> {
        // SAFETY: upheld by the caller.
        unsafe { Self::choose(vmx::Capabilities::read().plan(), svm::Capabilities::read().plan()) }
    }

    /// Choose between what is there. VT-x where both are, which no CPU has offered yet. Where neither will do, the answer
    /// is about the one that the CPU has.
    fn choose(
        vtx: Result<vmx::Plan, vmx::Unfit>,
        svm: Result<svm::Plan, svm::Error>,
    ) -> Result<Virtualization, Refusal> {
        match (vtx, svm) {
            (Ok(plan), _) => Ok(Virtualization::Vtx(plan)),
            (_, Ok(plan)) => Ok(Virtualization::Svm(plan)),
            (Err(vmx::Unfit::NoVmx), Err(svm::Error::NoSvm)) => Err(Refusal::Neither),
            (Err(vmx::Unfit::NoVmx), Err(error)) => Err(Refusal::Svm(error)),
            (Err(error), _) => Err(Refusal::Vtx(error)),
        }
    }

    /// The module with the core that was built for it, and what the core's note says.
    pub fn core(&self) -> (&'static str, u32) {
        match self {
            Virtualization::Vtx(_) => ("core-vmx", KIND_CORE_VMX),
            Virtualization::Svm(_) => ("core-svm", KIND_CORE_SVM),
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Virtualization::Vtx(_) => "VT-x",
            Virtualization::Svm(_) => "SVM",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Neither => write!(f, "CPUID.1:ECX bit 5 and CPUID.80000001h:ECX bit 2 are clear"),
            Refusal::Vtx(error) => error.fmt(f),
            Refusal::Svm(error) => error.fmt(f),
        }
    }
}

impl From<&Refusal> for Failure {
    fn from(refusal: &Refusal) -> Failure {
        match refusal {
            Refusal::Neither => Failure::NoVirtualization,
            Refusal::Vtx(error) => Failure::from(error),
            Refusal::Svm(svm::Error::NoSvm) => Failure::NoVirtualization,
            Refusal::Svm(svm::Error::DisabledByFirmware(_)) => Failure::SvmDisabled,
            Refusal::Svm(svm::Error::NoNestedPaging) => Failure::NoNestedPaging,
            Refusal::Svm(_) => Failure::SvmFeature,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn svm_plan() -> svm::Plan {
        let capabilities = svm::Capabilities {
            features: 1 << 26,
            amd_features: 1 << 2,
            amd_features_more: 1 << 20,
            tags: 16,
            svm_features: 1,
            xcr0: 3,
            ..svm::Capabilities::default()
        };
        capabilities.plan().expect("good enough")
    }

    #[test]
    fn svm_is_used_where_it_is() {
        let chosen = Virtualization::choose(Err(vmx::Unfit::NoVmx), Ok(svm_plan()));
        assert_eq!(chosen, Ok(Virtualization::Svm(svm_plan())));
        let chosen = Virtualization::choose(Err(vmx::Unfit::LockedByFirmware(1)), Ok(svm_plan()));
        assert_eq!(chosen, Ok(Virtualization::Svm(svm_plan())), "the one that works");
    }

    #[test]
    fn the_refusal_is_about_what_the_cpu_has() {
        let code = |vtx, svm| {
            let refusal = Virtualization::choose(Err(vtx), Err(svm)).expect_err("neither works");
            Failure::from(&refusal).code()
        };
        use svm::Error::{DisabledByFirmware, FewTags, NoFeature, NoNestedPaging, NoSvm};
        use vmx::Unfit::{LockedByFirmware, NoVmx};
        assert_eq!(code(NoVmx, NoSvm), 10);
        assert_eq!(code(LockedByFirmware(1), NoSvm), 11);
        assert_eq!(code(LockedByFirmware(1), DisabledByFirmware(0x10)), 11);
        assert_eq!(code(vmx::Unfit::NoFeature("x"), NoSvm), 14);
        assert_eq!(code(NoVmx, DisabledByFirmware(0x10)), 25);
        assert_eq!(code(NoVmx, NoNestedPaging), 26);
        assert_eq!(code(NoVmx, FewTags(1)), 27);
        assert_eq!(code(NoVmx, NoFeature("x")), 27);
    }
}
