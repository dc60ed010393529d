//! Which state guests may have: XCR0.

/// x87 and SSE.
const LEGACY: u64 = 0x3;
/// AVX.
const AVX: u64 = 0x4;
/// Opmask, upper halves of ZMM0 to 15, ZMM16 to 31: all or none.
const AVX512: u64 = 0xe0;

/// The largest XCR0 whose state fits into `bytes`, of what the CPU `offers`. `ends` is where each bit's state ends.
/// `None` when there is not even x87 and SSE.
pub fn choose(offers: u64, ends: &[u32; 8], bytes: u32) -> Option<u64> {
    let fits =
        |xcr0: u64| offers & xcr0 == xcr0 && (0..).zip(ends).all(|(bit, end)| xcr0 >> bit & 1 == 0 || *end <= bytes);
    [LEGACY | AVX | AVX512, LEGACY | AVX, LEGACY].into_iter().find(|&xcr0| fits(xcr0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xstate::AREA_BYTES;

    const ENDS: [u32; 8] = [0, 0, 832, 1024, 1088, 1152, 1664, 2688];

    #[test]
    fn xcr0_is_the_largest_that_fits() {
        assert_eq!(choose(0x2ff, &ENDS, AREA_BYTES), Some(0xe7));
        assert_eq!(choose(0x2ff, &ENDS, 2687), Some(0x7));
        assert_eq!(choose(0x2ff, &ENDS, 600), Some(0x3));
        assert_eq!(choose(0x67, &ENDS, AREA_BYTES), Some(0x7), "AVX-512 only whole");
        assert_eq!(choose(0x3, &ENDS, AREA_BYTES), Some(0x3));
        assert_eq!(choose(0x1, &ENDS, AREA_BYTES), None);
    }
}
