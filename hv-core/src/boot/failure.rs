//! Everything that can end a boot: code, cause, remedy. `docs/boot.md` has the same list for readers.
//!
//! `F001` is said by `entry.s`, which runs before any of this can.

/// Why the core cannot go on. The number of a failure never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Failure {
    /// Not loaded by a multiboot2 boot loader.
    NotMultiboot2 = 2,
    /// The boot information cannot be read, or has no memory map.
    BootInformation = 3,
    /// Not enough memory.
    LittleMemory = 4,
    /// No ACPI tables.
    NoAcpi = 5,
    /// Neither x2APIC nor xAPIC.
    NoLocalApic = 6,
    /// No I/O APIC.
    NoIoApic = 7,
    /// Nothing to calibrate the TSC against.
    NoTimer = 8,
    /// A processor feature that the core needs is missing.
    NoCpuFeature = 9,
    /// No VT-x.
    NoVmx = 10,
    /// VT-x is locked off by the firmware.
    VmxLocked = 11,
    /// No EPT.
    NoEpt = 12,
    /// No unrestricted guest.
    NoUnrestrictedGuest = 13,
    /// Another part of VT-x is missing.
    VmxFeature = 14,
    /// No boot module `manifest`.
    NoManifest = 15,
    /// The manifest is refused.
    BadManifest = 16,
    /// A module that the manifest names was not loaded.
    NoModule = 17,
    /// A module is not a program of ours.
    BadModule = 18,
    /// The command line, or the manifest's default options, are refused.
    BadOptions = 19,
    /// Too many modules, or two of the same name, or modules that overlap.
    Modules = 20,
    /// The core's page tables could not be built.
    PageTables = 21,
    /// The devices that a component drives are missing.
    NoDevice = 22,
    /// A check of the core by itself failed.
    SelfTest = 23,
    /// The core panicked: a bug.
    Panic = 24,
}

impl Failure {
    /// All failures, for tests and documents.
    pub const ALL: [Failure; 23] = [
        Failure::NotMultiboot2,
        Failure::BootInformation,
        Failure::LittleMemory,
        Failure::NoAcpi,
        Failure::NoLocalApic,
        Failure::NoIoApic,
        Failure::NoTimer,
        Failure::NoCpuFeature,
        Failure::NoVmx,
        Failure::VmxLocked,
        Failure::NoEpt,
        Failure::NoUnrestrictedGuest,
        Failure::VmxFeature,
        Failure::NoManifest,
        Failure::BadManifest,
        Failure::NoModule,
        Failure::BadModule,
        Failure::BadOptions,
        Failure::Modules,
        Failure::PageTables,
        Failure::NoDevice,
        Failure::SelfTest,
        Failure::Panic,
    ];

    /// The number in `F0NN`.
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// What is wrong.
    pub const fn cause(self) -> &'static str {
        match self {
            Failure::NotMultiboot2 => "the core was not loaded by a multiboot2 boot loader",
            Failure::BootInformation => "the boot loader's information is damaged or incomplete",
            Failure::LittleMemory => "there is too little memory",
            Failure::NoAcpi => "there are no usable ACPI tables",
            Failure::NoLocalApic => "the processor has no usable local APIC",
            Failure::NoIoApic => "there is no usable I/O APIC",
            Failure::NoTimer => "there is no timer to calibrate the processor's clock against",
            Failure::NoCpuFeature => "the processor lacks a feature that the core needs",
            Failure::NoVmx => "the processor has no VT-x",
            Failure::VmxLocked => "VT-x is switched off and locked by the firmware",
            Failure::NoEpt => "the processor's VT-x has no extended page tables (EPT)",
            Failure::NoUnrestrictedGuest => "the processor's VT-x has no unrestricted guest mode",
            Failure::VmxFeature => "the processor's VT-x lacks a feature that the core needs",
            Failure::NoManifest => "the boot module 'manifest' is missing",
            Failure::BadManifest => "the boot module 'manifest' is refused",
            Failure::NoModule => "a boot module that the manifest names is missing",
            Failure::BadModule => "a boot module is not a program that this core can run",
            Failure::BadOptions => "the boot options are wrong",
            Failure::Modules => "the boot modules make no sense",
            Failure::PageTables => "the core's page tables cannot be built",
            Failure::NoDevice => "a device that a component drives is missing",
            Failure::SelfTest => "a self-test of the core failed",
            Failure::Panic => "the core has a bug and stopped",
        }
    }

    /// What to do about it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Failure::NotMultiboot2 => {
                "boot it with GRUB's 'multiboot2' command, or from an image made by 'cargo xtask build-iso'"
            }
            Failure::BootInformation => "use GRUB 2.06 or later",
            Failure::LittleMemory => "give the machine 64 MiB or more, or ask for fewer VMs",
            Failure::NoAcpi => "switch ACPI on in the firmware, or in the emulator",
            Failure::NoLocalApic => "switch the APIC on in the firmware, or choose a processor model that has one",
            Failure::NoIoApic => "switch the I/O APIC on in the firmware, or in the emulator",
            Failure::NoTimer => "switch the HPET or the ACPI timer on in the firmware",
            Failure::NoCpuFeature => {
                "use an Intel processor of the Haswell generation (2013) or later, or its model in the emulator (Bochs: corei7_skylake_x)"
            }
            Failure::NoVmx => {
                "use an Intel processor with VT-x, or its model in the emulator (Bochs: corei7_skylake_x; KVM: nested=1 and -cpu host)"
            }
            Failure::VmxLocked => {
                "switch 'Intel Virtualization Technology' on in the firmware, then power the machine off and on"
            }
            Failure::NoEpt | Failure::NoUnrestrictedGuest | Failure::VmxFeature => {
                "use an Intel processor of the Haswell generation (2013) or later, or its model in the emulator (Bochs: corei7_skylake_x)"
            }
            Failure::NoManifest => {
                "add 'module2 /boot/manifest manifest' to GRUB's entry, or make the image with 'cargo xtask build-iso'"
            }
            Failure::BadManifest => "make core and manifest from the same sources: 'cargo xtask build-iso'",
            Failure::NoModule => {
                "add the module to GRUB's entry with its name as the first word: 'module2 /boot/NAME NAME'"
            }
            Failure::BadModule => "rebuild it from the same sources as the core: 'cargo xtask build-iso'",
            Failure::BadOptions => "correct the options of GRUB's menu entry (press 'e' there)",
            Failure::Modules => "give each module a name of its own, as the first word of its 'module2' line",
            Failure::PageTables => "give the machine more memory",
            Failure::NoDevice => {
                "add the device to the machine (Bochs: slot1=e1000), or take the component out of system.toml"
            }
            Failure::SelfTest | Failure::Panic => "report it with this message and the lines above",
        }
    }
}

impl From<&vmx::Error> for Failure {
    fn from(error: &vmx::Error) -> Failure {
        match error {
            vmx::Error::NoVmx => Failure::NoVmx,
            vmx::Error::LockedByFirmware(_) => Failure::VmxLocked,
            vmx::Error::NoEpt(_) => Failure::NoEpt,
            vmx::Error::NoUnrestrictedGuest(_) => Failure::NoUnrestrictedGuest,
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
        }
    }
}
