//! Processors whose VMX-preemption timer counts at another rate than IA32_VMX_MISC says.

/// CPUID.1:EAX of processors with the erratum "VMX-preemption timer does not count down at the rate specified", from Intel's specification updates:
/// BA86 (323344, Xeon 7500), AAX65, AAT59 and AAU65 (323056, 322814, 322911: Westmere of clients), AAO95, AAN92 and AAP86 (322373, 322166, 320767:
/// Lynnfield), AAM126, AAK139 and AAJ124 (321333, 321324, 320836: Bloomfield, Nehalem-EP); and the Xeon E3-1220 v2, on which KVM's makers found the same.
const WRONG: [u32; 9] = [
    0x0002_06e6,
    0x0002_0652,
    0x0002_0655,
    0x0001_06e5,
    0x0001_06a0,
    0x0001_06a1,
    0x0001_06a4,
    0x0001_06a5,
    0x0003_06a8,
];
/// Reserved bits, and the processor type.
const NO_MATTER: u32 = 0xf << 28 | 3 << 14 | 3 << 12;

/// Whether the timer of the processor with this CPUID.1:EAX counts wrongly.
pub fn counts_wrongly(signature: u32) -> bool {
    WRONG.contains(&(signature & !NO_MATTER))
}

#[cfg(test)]
mod tests {
    use super::counts_wrongly;

    #[test]
    fn those_with_the_erratum() {
        assert!(counts_wrongly(0x0002_06e6) && counts_wrongly(0x0003_06a8));
        assert!(counts_wrongly(0x0001_16a5 & !0x1_0000 | 0x1_0000), "the type does not matter");
        for right in [0x0002_06e5, 0x0003_06a9, 0x0005_0654, 0] {
            assert!(!counts_wrongly(right), "{right:#x}");
        }
    }
}
