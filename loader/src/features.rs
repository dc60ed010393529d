//! What the processor can do (CPUID).

use core::arch::x86_64::{__cpuid_count, CpuidResult};

/// Processor features that the core uses or asks for. Intel SDM vol. 2A, CPUID.
// One bit of the processor each: a state machine would say less.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuFeatures {
    /// x2APIC mode (leaf 1 ECX 21).
    pub x2apic: bool,
    /// Local APIC (leaf 1 EDX 9).
    pub apic: bool,
    /// The APIC timer can take a TSC deadline (leaf 1 ECX 24).
    pub tsc_deadline: bool,
    /// The TSC runs at a constant rate in all states (leaf 0x80000007 EDX 8).
    pub invariant_tsc: bool,
    /// XSAVE (leaf 1 ECX 26).
    pub xsave: bool,
    /// PCID (leaf 1 ECX 17).
    pub pcid: bool,
    /// RDFSBASE and the like (leaf 7 EBX 0).
    pub fsgsbase: bool,
    /// SMEP (leaf 7 EBX 7).
    pub smep: bool,
    /// UMIP (leaf 7 ECX 2).
    pub umip: bool,
    /// RDRAND (leaf 1 ECX 30).
    pub rdrand: bool,
    /// Machine checks and their architecture (leaf 1 EDX 7 and 14).
    pub machine_checks: bool,
    /// 1 GiB pages (leaf 0x80000001 EDX 26).
    pub huge_pages: bool,
    /// SYSCALL in 64-bit mode (leaf 0x80000001 EDX 11).
    pub syscall: bool,
    /// Bits of a physical address (leaf 0x80000008).
    pub physical_bits: u8,
    /// Vendor (leaf 0).
    pub vendor: [u8; 12],
}

fn leaf(number: u32, sub: u32) -> CpuidResult {
    let top = __cpuid_count(number & 0x8000_0000, 0).eax;
    if number > top { CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 } } else { __cpuid_count(number, sub) }
}

impl CpuFeatures {
    /// Asks the processor.
    pub fn detect() -> CpuFeatures {
        let bit = |word: u32, number: u32| word >> number & 1 != 0;
        let (zero, one, seven) = (leaf(0, 0), leaf(1, 0), leaf(7, 0));
        let (more, power, sizes) = (leaf(0x8000_0001, 0), leaf(0x8000_0007, 0), leaf(0x8000_0008, 0));
        let mut vendor = [0; 12];
        for (to, word) in vendor.chunks_mut(4).zip([zero.ebx, zero.edx, zero.ecx]) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        CpuFeatures {
            x2apic: bit(one.ecx, 21),
            apic: bit(one.edx, 9),
            tsc_deadline: bit(one.ecx, 24),
            invariant_tsc: bit(power.edx, 8),
            xsave: bit(one.ecx, 26),
            pcid: bit(one.ecx, 17),
            fsgsbase: bit(seven.ebx, 0),
            smep: bit(seven.ebx, 7),
            umip: bit(seven.ecx, 2),
            rdrand: bit(one.ecx, 30),
            machine_checks: bit(one.edx, 7) && bit(one.edx, 14),
            huge_pages: bit(more.edx, 26),
            syscall: bit(more.edx, 11),
            physical_bits: sizes.eax.to_le_bytes()[0],
            vendor,
        }
    }

    /// Name of the first feature that the core cannot do without and that is missing. VT-x is `vmx`'s affair.
    pub fn missing(&self) -> Option<&'static str> {
        // 1 GiB pages: the first page tables of every VM use them.
        let needed = [
            (self.xsave, "XSAVE"),
            (self.syscall, "SYSCALL"),
            (self.huge_pages, "1 GiB pages"),
            (self.apic, "local APIC"),
        ];
        needed.into_iter().find(|(present, _)| !present).map(|(_, name)| name)
    }

    /// What the core has to know, in binary.
    pub fn bits(&self) -> u32 {
        use abi::boot::features::{
            AMD_BANKS, FSGSBASE, MACHINE_CHECKS, PCID, RDRAND, SMEP, TSC_DEADLINE, UMIP, X2APIC, XSAVE,
        };
        let is_amd = matches!(self.vendor(), "AuthenticAMD" | "HygonGenuine");
        let all = [
            (self.x2apic, X2APIC),
            (self.tsc_deadline, TSC_DEADLINE),
            (self.xsave, XSAVE),
            (self.pcid, PCID),
            (self.fsgsbase, FSGSBASE),
            (self.smep, SMEP),
            (self.umip, UMIP),
            (self.rdrand, RDRAND),
            (self.machine_checks, MACHINE_CHECKS),
            (is_amd, AMD_BANKS),
        ];
        all.into_iter().filter(|(there, _)| *there).fold(0, |bits, (_, bit)| bits | bit)
    }

    /// The vendor as text.
    pub fn vendor(&self) -> &str {
        core::str::from_utf8(&self.vendor).unwrap_or("?")
    }
}
