//! CRC-32C by the processor's instruction, over memory that is shared.

use core::arch::asm;
use core::arch::x86_64::__cpuid;
use ring::SharedMemory;

/// CPUID leaf 1, ECX: SSE4.2, to which the instruction CRC32 belongs (SDM vol. 2, "CRC32").
const SSE42: u32 = 1 << 20;
/// Bytes that one round takes.
const ROUND: usize = 256;

/// The processor has the instruction.
#[derive(Clone, Copy, Debug)]
pub struct Crc32c(());

impl Crc32c {
    /// `None` on a processor without it.
    pub fn of_this_processor() -> Option<Crc32c> {
        // Each processor that runs Foraker has leaf 1.
        (__cpuid(1).ecx & SSE42 != 0).then_some(Crc32c(()))
    }

    /// CRC-32C (RFC 3720, appendix B.4) over these four bytes, these eight bytes (both little-endian), and the `len` bytes of `memory` from `offset` on, each once; `None` where
    /// they are not all there, or `len` is not a multiple of 256.
    #[inline]
    pub fn over(self, (word, long): (u32, u64), memory: &SharedMemory, offset: usize, len: usize) -> Option<u32> {
        let at = memory.sub(offset, len).filter(|_| len.is_multiple_of(ROUND))?.base();
        let mut sum = u64::from(u32::MAX);
        // SAFETY: the processor has the instruction, by `of_this_processor`. It reads the `len` bytes, which `SharedMemory` promises to be mapped, and nothing else; to the
        // compiler this is opaque, so a concurrent change makes the sum arbitrary and nothing worse.
        unsafe {
            asm!(
                "crc32 {sum:e}, {word:e}",
                "crc32 {sum}, {long}",
                "cmp {at}, {end}",
                "je 3f",
                "2:",
                // One instruction for each eight bytes, and three more a round.
                ".irp byte, 0, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128, 136, 144, 152, 160, 168, 176, 184, 192, 200, 208, 216, 224, 232, 240, 248",
                "crc32 {sum}, qword ptr [{at} + \\byte]",
                ".endr",
                "add {at}, {round}",
                "cmp {at}, {end}",
                "jne 2b",
                "3:",
                sum = inout(reg) sum,
                word = in(reg) word,
                long = in(reg) long,
                at = inout(reg) at => _,
                round = const ROUND,
                end = in(reg) at.wrapping_add(len),
                options(nostack, readonly),
            );
        }
        // The upper half is zero.
        #[allow(clippy::cast_possible_truncation)]
        Some(!(sum as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_sum_of_the_rfc() {
        let Some(crc) = Crc32c::of_this_processor() else { return };
        let mut words = vec![0_u64; 64];
        for (number, word) in (0_u64..).zip(&mut words) {
            *word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        let memory = SharedMemory::from_static(Box::leak(words.clone().into_boxed_slice()));
        for (offset, len) in [(0, 0), (0, 256), (256, 256), (8, 256), (0, 512)] {
            let mut bytes = [7_u32.to_le_bytes().as_slice(), &99_u64.to_le_bytes()].concat();
            bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()).skip(offset).take(len));
            assert_eq!(crc.over((7, 99), &memory, offset, len), Some(bit_by_bit(&bytes)), "{len} bytes from {offset}");
        }
        assert_eq!(bit_by_bit(&[0; 32]), 0x8a91_36aa, "RFC 3720, appendix B.4");
        for (offset, len) in [(0, 768), (257, 256), (0, 8), (0, 64), (usize::MAX, 256)] {
            assert_eq!(crc.over((7, 99), &memory, offset, len), None, "{len} bytes from {offset}");
        }
    }

    fn bit_by_bit(bytes: &[u8]) -> u32 {
        let mut sum = u32::MAX;
        for &byte in bytes {
            sum ^= u32::from(byte);
            for _ in 0..8 {
                sum = sum >> 1 ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 };
            }
        }
        !sum
    }
}
