//! Everything that can end a boot: code, cause, remedy. `docs/boot.md` has the same list for readers.
//!
//! `F001` is said by `entry.s`, which runs before any of this can; what the core itself can end with it says with the words from here,
//! which the boot record carries.

use core::fmt;
use core::panic::PanicInfo;

macro_rules! failures {
    ($($(#[$doc:meta])* $name:ident = $code:literal: $cause:literal, $remedy:literal;)*) => {
        /// Why a boot, or the core, cannot go on. The number of a failure never changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Failure { $($(#[$doc])* $name = $code),* }

        impl Failure {
            /// All failures.
            pub const ALL: &'static [Failure] = &[$(Failure::$name),*];

            /// What is wrong, and what to do about it.
            const fn texts(self) -> (&'static str, &'static str) {
                match self { $(Failure::$name => ($cause, $remedy)),* }
            }
        }
    };
}

failures! {
    /// Not loaded by a multiboot2 boot loader.
    NotMultiboot2 = 2: "the core was not loaded by a multiboot2 boot loader",
        "boot it with GRUB's 'multiboot2' command, or from an image made by 'cargo xtask build-iso'";
    /// The boot information cannot be read, or has no memory map.
    BootInformation = 3: "the boot loader's information is damaged or incomplete",
        "use GRUB 2.06 or later";
    /// Not enough memory.
    NotEnoughMemory = 4: "there is too little memory",
        "give the machine 48 MiB or more, or ask for fewer VMs";
    /// No ACPI tables.
    NoAcpi = 5: "there are no usable ACPI tables",
        "switch ACPI on in the firmware, or in the emulator";
    /// Neither x2APIC nor xAPIC.
    NoLocalApic = 6: "the processor has no usable local APIC",
        "switch the APIC on in the firmware, or choose a processor model that has one";
    /// No I/O APIC.
    NoIoApic = 7: "there is no usable I/O APIC",
        "switch the I/O APIC on in the firmware, or in the emulator";
    /// Nothing to calibrate the TSC against.
    NoTimer = 8: "there is no timer to calibrate the processor's clock against",
        "switch the HPET or the ACPI timer on in the firmware";
    /// A processor feature that the core needs is missing.
    NoCpuFeature = 9: "the processor lacks a feature that the core needs",
        "use an Intel processor of the Haswell generation (2013) or later, or its model in the emulator (Bochs: corei7_skylake_x)";
    /// Neither VT-x nor SVM.
    NoVirtualization = 10: "the processor has neither VT-x nor AMD SVM",
        "use an Intel processor with VT-x or an AMD processor with SVM, or its model in the emulator (Bochs: corei7_skylake_x; QEMU: -cpu EPYC; KVM: nested=1 and -cpu host)";
    /// VT-x is locked off by the firmware.
    VmxLocked = 11: "VT-x is switched off and locked by the firmware",
        "switch 'Intel Virtualization Technology' on in the firmware, then power the machine off and on";
    /// No EPT.
    NoEpt = 12: "the processor's VT-x has no extended page tables (EPT)",
        "use an Intel processor of the Haswell generation (2013) or later, or its model in the emulator (Bochs: corei7_skylake_x)";
    /// No unrestricted guest.
    NoUnrestrictedGuest = 13: "the processor's VT-x has no unrestricted guest mode",
        "use an Intel processor of the Haswell generation (2013) or later, or its model in the emulator (Bochs: corei7_skylake_x)";
    /// Another part of VT-x is missing.
    VmxFeature = 14: "the processor's VT-x lacks a feature that the core needs",
        "use an Intel processor of the Haswell generation (2013) or later, or its model in the emulator (Bochs: corei7_skylake_x)";
    /// No boot module `manifest`.
    NoManifest = 15: "the boot module 'manifest' is missing",
        "add 'module2 /boot/manifest manifest' to GRUB's entry, or make the image with 'cargo xtask build-iso'";
    /// The manifest is refused.
    BadManifest = 16: "the boot module 'manifest' is refused",
        "make core and manifest from the same sources: 'cargo xtask build-iso'";
    /// A module that the manifest names was not loaded.
    NoModule = 17: "a boot module that the manifest names is missing",
        "add the module to GRUB's entry with its name as the first word: 'module2 /boot/NAME NAME'";
    /// A module is not a program of ours.
    BadModule = 18: "a boot module is not a program that this core can run",
        "rebuild it from the same sources as the core: 'cargo xtask build-iso'";
    /// The command line, or the manifest's default options, are refused.
    BadOptions = 19: "the boot options are wrong",
        "correct the options of GRUB's menu entry (press 'e' there), or the module that is named";
    /// Too many modules, or two of the same name, or modules that overlap.
    Modules = 20: "the boot modules make no sense",
        "give each module a name of its own, as the first word of its 'module2' line";
    /// The core's page tables could not be built.
    PageTables = 21: "the core's page tables cannot be built",
        "give the machine more memory";
    /// The devices that a component drives are missing.
    NoDevice = 22: "a device that a component drives is missing",
        "add the device to the machine (Bochs: slot1=e1000), or take the component out of system.toml";
    /// A check of the core by itself failed.
    SelfTest = 23: "a self-test of the core failed",
        "report it with this message and the lines above";
    /// The core panicked: a bug.
    Panic = 24: "the core has a bug and stopped",
        "report it with this message and the lines above";
    /// SVM is switched off by the firmware.
    SvmDisabled = 25: "AMD SVM is switched off by the firmware",
        "switch 'SVM Mode' on in the firmware, then power the machine off and on";
    /// No nested paging.
    NoNestedPaging = 26: "the processor's SVM has no nested paging",
        "use an AMD processor of 2012 or later, or its model in the emulator (QEMU: -cpu EPYC)";
    /// Another part of SVM, or what it needs, is missing.
    SvmFeature = 27: "the processor's SVM lacks a feature that the core needs",
        "use an AMD processor of 2012 or later, or its model in the emulator (QEMU: -cpu EPYC)";
    /// The boot record cannot be written, or the core refuses it.
    BootRecord = 28: "the core cannot be told what boot has found",
        "make loader and core from the same sources: 'cargo xtask build-iso'; if they are, report it with this message and the lines above";
    /// A module is not what the manifest says.
    DamagedModule = 29: "a boot module was changed since the manifest was made",
        "make the image anew with 'cargo xtask build-iso'; if that does not help, look at disk, network and memory of the machine";
}

/// Says what is wrong, why (`detail`, may be empty) and what to do, and ends the machine's work.
pub fn fatal(failure: Failure, detail: fmt::Arguments<'_>) -> ! {
    base::fatal::fatal(failure.code().into(), failure.cause(), detail, failure.remedy())
}

/// The panic handler.
pub fn panicked(info: &PanicInfo<'_>) -> ! {
    let at = info.location();
    let (file, line) = at.map_or(("?", 0), |at| (at.file(), at.line()));
    fatal(Failure::Panic, format_args!("{} ({file}:{line})", info.message()))
}

impl Failure {
    /// The number in `F0NN`.
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// What is wrong.
    pub const fn cause(self) -> &'static str {
        self.texts().0
    }

    /// What to do about it.
    pub const fn remedy(self) -> &'static str {
        self.texts().1
    }
}

impl From<&vmx::Unfit> for Failure {
    fn from(error: &vmx::Unfit) -> Failure {
        match error {
            vmx::Unfit::NoVmx => Failure::NoVirtualization,
            vmx::Unfit::LockedByFirmware(_) => Failure::VmxLocked,
            vmx::Unfit::NoEpt(_) => Failure::NoEpt,
            vmx::Unfit::NoUnrestrictedGuest(_) => Failure::NoUnrestrictedGuest,
            _ => Failure::VmxFeature,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Failure;

    #[test]
    fn codes_are_unique_and_in_order() {
        for (i, failure) in Failure::ALL.iter().enumerate() {
            assert_eq!(usize::from(failure.code()), i + 2);
            assert!(!failure.cause().is_empty() && !failure.remedy().is_empty());
            assert!(failure.cause().is_ascii() && failure.remedy().is_ascii());
            // The core ends with "selftest" and the like in the loader's words.
            let words = abi::boot::FailureWords::NONE;
            assert!(failure.cause().len() <= words.cause.len() && failure.remedy().len() <= words.remedy.len());
        }
    }
}
