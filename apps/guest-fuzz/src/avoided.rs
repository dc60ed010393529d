//! Instructions that make an emulator itself end, so that they say nothing of Foraker.

/// Who executes the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emulator {
    /// Bochs 2.7, or a processor.
    Bochs,
    /// QEMU 7.2 with TCG.
    Qemu,
}

/// Why the emulator would end when it decodes `bytes`, whatever prefixes come before; `None` when that is not known.
///
/// All are QEMU's (`target/i386/tcg` of 7.2), found by runs of this program.
pub fn avoided(emulator: Emulator, bytes: &[u8]) -> Option<&'static str> {
    if emulator == Emulator::Bochs {
        return None;
    }
    const PERMUTE: &str = "VPERMILPS without the prefix 66 calls a null pointer (decode-new.c.inc does not ask for it)";
    const INSERT: &str = "VPINSRW with VEX and without the prefix 66, or of 256 bits, fails an assertion (gen_pinsr)";
    const ROUND: &str = "VROUNDSS and VROUNDSD of 256 bits fail an assertion (gen_VROUNDSS, gen_VROUNDSD)";
    const BIT: &str =
        "BTS, BTR and BTC of a register with LOCK use an address that was never computed (tcg fatal error)";
    match *bytes {
        [0x0f, 0x38, 0x0c, ..] => Some(PERMUTE),
        [0xc5, vex, 0xc4, ..] if is_not_of_128_with_66(vex) => Some(INSERT),
        [0xc4, map, vex, opcode, ..] => match (map & 0x1f, opcode) {
            (1, 0xc4) if is_not_of_128_with_66(vex) => Some(INSERT),
            (2, 0x0c) if vex & 3 != 1 => Some(PERMUTE),
            (3, 0x0a | 0x0b) if vex & 4 != 0 => Some(ROUND),
            _ => None,
        },
        [0xf0, ref rest @ ..] => {
            let prefixes = rest.iter().take_while(|byte| is_prefix(**byte)).count();
            match rest[prefixes..] {
                [0x0f, 0xab | 0xb3 | 0xbb, 0xc0..=0xff, ..] | [0x0f, 0xba, 0xe8..=0xff, ..] => Some(BIT),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Of the last byte of a VEX prefix: L is bit 2, the implied prefix bits 1 and 0, 1 for 66 (SDM vol. 2, 2.3.5).
fn is_not_of_128_with_66(vex: u8) -> bool {
    vex & 7 != 1
}

/// Whether the byte may stand before an opcode: a legacy prefix or REX.
fn is_prefix(byte: u8) -> bool {
    matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_made_qemu_end_is_avoided_there_and_nowhere_else() {
        let found: [&[u8]; 9] = [
            &[0x0f, 0x38, 0x0c, 0xcc],
            &[0xc4, 0xa2, 0xf8, 0x0c, 0xcc],
            &[0xc5, 0xf8, 0xc4, 0xc0, 1],
            &[0xc5, 0xfd, 0xc4, 0xc0, 1],
            &[0xc4, 0xe1, 0x78, 0xc4, 0xc0, 1],
            &[0xc4, 0xe3, 0x7d, 0x0b, 0xc0, 1],
            &[0xf0, 0x65, 0x0f, 0xb3, 0xdd],
            &[0xf0, 0x0f, 0xab, 0xff],
            &[0xf0, 0x48, 0x0f, 0xba, 0xe8, 1],
        ];
        for bytes in found {
            assert!(avoided(Emulator::Qemu, bytes).is_some(), "{bytes:02x?}");
            assert_eq!(avoided(Emulator::Bochs, bytes), None, "{bytes:02x?}");
        }
        // The same as they should be: with 66, of 128 bits, in memory, without LOCK, another map.
        let good: [&[u8]; 9] = [
            &[0xc4, 0xe2, 0x79, 0x0c, 0xc0],
            &[0xc4, 0xe1, 0x78, 0x0c, 0xc0],
            &[0xc5, 0xf9, 0xc4, 0xc0, 1],
            &[0xc4, 0xe3, 0x79, 0x0b, 0xc0, 1],
            &[0xf0, 0x0f, 0xb3, 0x1d, 0, 0, 0, 0],
            &[0xf0, 0x0f, 0xba, 0xe0, 1],
            &[0x0f, 0xb3, 0xdd],
            &[0x0f, 0x0c],
            &[],
        ];
        for bytes in good {
            assert_eq!(avoided(Emulator::Qemu, bytes), None, "{bytes:02x?}");
        }
    }
}
