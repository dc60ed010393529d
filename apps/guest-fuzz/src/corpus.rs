//! Instructions without a purpose, in slots of 16 bytes.
//!
//! Each slot begins with one of the [`Form`]s; what is left of it are breakpoints, which end the step. A guest may begin anywhere in a slot,
//! and branches lead anywhere, so bytes are decoded in other ways, too. Bytes of opcodes: Intel SDM vol. 2, appendix A; AMD APM vol. 3, appendix A.

use crate::Noise;
use crate::avoided::{Emulator, avoided};

/// Bytes of a slot.
pub const SLOT_BYTES: usize = 16;
/// `int3`.
pub const BREAKPOINT: u8 = 0xcc;

/// How an instruction is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Bytes.
    Noise,
    /// Prefixes and an opcode of one byte.
    OneByte,
    /// The same in the map behind 0F.
    TwoByte,
    /// The same behind 0F 38 or 0F 3A.
    ThreeByte,
    /// With a VEX prefix (C4, C5) or XOP (8F).
    Vex,
    /// With an EVEX prefix (62).
    Evex,
    /// One that the virtual architecture refuses, restricts or defines.
    System,
}

/// All of them, with their names.
pub const FORMS: [(Form, &str); 7] = [
    (Form::Noise, "noise"),
    (Form::OneByte, "one-byte"),
    (Form::TwoByte, "two-byte"),
    (Form::ThreeByte, "three-byte"),
    (Form::Vex, "vex"),
    (Form::Evex, "evex"),
    (Form::System, "system"),
];

/// Opcodes of privileged and special instructions; a random ModRM byte and more follow.
const SYSTEM: &[&[u8]] = &[
    &[0x0f, 0xa2],             // CPUID
    &[0x0f, 0x30],             // WRMSR
    &[0x0f, 0x32],             // RDMSR
    &[0x0f, 0x33],             // RDPMC
    &[0x0f, 0x31],             // RDTSC
    &[0x0f, 0x01],             // group 7: LGDT … SWAPGS, VMX, SVM, XGETBV, XSETBV, MONITOR, CLAC, ENCLS
    &[0x0f, 0x01, 0xc1],       // VMCALL
    &[0x0f, 0x01, 0xd9],       // VMMCALL
    &[0x0f, 0x01, 0xd8],       // VMRUN
    &[0x0f, 0x01, 0xda],       // VMLOAD
    &[0x0f, 0x01, 0xdb],       // VMSAVE
    &[0x0f, 0x01, 0xdd],       // CLGI
    &[0x0f, 0x01, 0xdf],       // INVLPGA
    &[0x0f, 0x01, 0xf8],       // SWAPGS
    &[0x0f, 0x00],             // group 6: SLDT … VERW
    &[0x0f, 0x20],             // MOV from CR
    &[0x0f, 0x22],             // MOV to CR
    &[0x0f, 0x21],             // MOV from DR
    &[0x0f, 0x23],             // MOV to DR
    &[0x0f, 0x06],             // CLTS
    &[0x0f, 0x08],             // INVD
    &[0x0f, 0x09],             // WBINVD
    &[0xf3, 0x0f, 0x09],       // WBNOINVD
    &[0x0f, 0x05],             // SYSCALL
    &[0x0f, 0x07],             // SYSRET
    &[0x0f, 0x34],             // SYSENTER
    &[0x0f, 0x35],             // SYSEXIT
    &[0x0f, 0x37],             // GETSEC
    &[0x0f, 0xaa],             // RSM
    &[0x0f, 0xae],             // group 15: FXSAVE, XSAVE, fences, FSGSBASE, UMONITOR
    &[0xf3, 0x0f, 0xae],       //
    &[0x66, 0x0f, 0xae],       //
    &[0xf2, 0x0f, 0xae],       //
    &[0x0f, 0xc7],             // group 9: CMPXCHG16B, XSAVES, VMPTRLD, RDRAND
    &[0xf3, 0x0f, 0xc7],       //
    &[0x66, 0x0f, 0xc7],       //
    &[0x0f, 0x78],             // VMREAD
    &[0x0f, 0x79],             // VMWRITE
    &[0x66, 0x0f, 0x38, 0x80], // INVEPT
    &[0x66, 0x0f, 0x38, 0x81], // INVVPID
    &[0x66, 0x0f, 0x38, 0x82], // INVPCID
    &[0xe4],                   // IN
    &[0xe6],                   // OUT
    &[0xec],
    &[0xee],
    &[0xf3, 0x6c],       // REP INS
    &[0xf3, 0x6e],       // REP OUTS
    &[0xcd],             // INT n
    &[0xcf],             // IRET
    &[0x48, 0xcf],       // IRETQ
    &[0xcb],             // RETF
    &[0xf1],             // INT1
    &[0xf4],             // HLT
    &[0xfa],             // CLI
    &[0xfb],             // STI
    &[0x9d],             // POPF
    &[0x9c],             // PUSHF
    &[0x8e],             // MOV to a segment register
    &[0x0f, 0xb2],       // LSS
    &[0x0f, 0xb4],       // LFS
    &[0x0f, 0xa1],       // POP FS
    &[0x0f, 0x18],       // prefetches
    &[0x0f, 0x0d],       //
    &[0xf3, 0xaa],       // REP STOS
    &[0xf3, 0xa4],       // REP MOVS
    &[0xf3, 0xa6],       // REP CMPS
    &[0xf0],             // LOCK
    &[0xc7, 0xf8],       // XBEGIN
    &[0x0f, 0x01, 0xd5], // XEND
];

const PREFIXES: [u8; 11] = [0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65];

/// Puts one instruction into a slot. Returns how it was made.
pub fn instruction(noise: &mut Noise, slot: &mut [u8; SLOT_BYTES]) -> Form {
    *slot = [BREAKPOINT; SLOT_BYTES];
    let form = match noise.below(20) {
        0..5 => Form::Noise,
        5..8 => Form::OneByte,
        8..11 => Form::TwoByte,
        11..13 => Form::ThreeByte,
        13..15 => Form::Vex,
        15 => Form::Evex,
        _ => Form::System,
    };
    let mut code = Code { slot, at: 0 };
    match form {
        Form::Noise => (0..SLOT_BYTES - 1).for_each(|_| code.put(noise.byte())),
        Form::OneByte => {
            code.prefixes(noise);
            code.put(noise.byte());
        }
        Form::TwoByte => {
            code.prefixes(noise);
            code.put(0x0f);
            code.put(noise.byte());
        }
        Form::ThreeByte => {
            code.prefixes(noise);
            code.put(0x0f);
            code.put(noise.pick(&[0x38, 0x3a]));
            code.put(noise.byte());
        }
        Form::Vex => match noise.below(8) {
            0..3 => {
                code.put(0xc5);
                code.put(noise.byte());
                code.put(noise.byte());
            }
            7 => {
                code.put(0x8f);
                // A map below 8 would be POP.
                let map = noise.pick(&[8, 9, 10]);
                code.put((noise.byte() & 0xe0) | map);
                code.put(noise.byte());
                code.put(noise.byte());
            }
            _ => {
                code.put(0xc4);
                let map = if noise.one_in(8) { noise.byte() & 0x1f } else { noise.pick(&[1, 2, 3]) };
                code.put((noise.byte() & 0xe0) | map);
                code.put(noise.byte());
                code.put(noise.byte());
            }
        },
        Form::Evex => {
            code.put(0x62);
            let reserved = if noise.one_in(4) { 0x0f } else { 0x07 };
            code.put(noise.byte() & (0xf0 | reserved));
            code.put(noise.byte() | 0x04);
            code.put(noise.byte());
            code.put(noise.byte());
        }
        Form::System => {
            if noise.one_in(4) {
                code.prefixes(noise);
            }
            noise.pick(SYSTEM).iter().for_each(|&byte| code.put(byte));
        }
    }
    // Operands: ModRM, perhaps SIB, displacement and immediate.
    if form != Form::Noise {
        (0..noise.below(7)).for_each(|_| code.put(noise.byte()));
    }
    form
}

struct Code<'a> {
    slot: &'a mut [u8; SLOT_BYTES],
    at: usize,
}

impl Code<'_> {
    /// The next byte; the last one of a slot stays a breakpoint.
    fn put(&mut self, byte: u8) {
        if self.at < SLOT_BYTES - 1 {
            self.slot[self.at] = byte;
            self.at += 1;
        }
    }

    /// None, or some, and perhaps REX.
    fn prefixes(&mut self, noise: &mut Noise) {
        if noise.one_in(2) {
            (0..=noise.below(3)).for_each(|_| self.put(noise.pick(&PREFIXES)));
        }
        if noise.one_in(2) {
            self.put(0x40 | (noise.byte() & 0x0f));
        }
    }
}

/// Fills `corpus` with instructions from a seed, without those that `emulator` does not stand. Returns how many were made in each form
/// of [`FORMS`], and last how many bytes were replaced by breakpoints.
pub fn fill(corpus: &mut [u8], seed: u64, emulator: Emulator) -> [u32; FORMS.len() + 1] {
    let mut noise = Noise::new(seed);
    let mut counts = [0; FORMS.len() + 1];
    let mut slot = [0; SLOT_BYTES];
    for place in corpus.chunks_mut(SLOT_BYTES) {
        let form = instruction(&mut noise, &mut slot);
        place.copy_from_slice(&slot[..place.len()]);
        if let Some(index) = FORMS.iter().position(|(of, _)| *of == form) {
            counts[index] += 1;
        }
    }
    // From every byte on, since a step may begin there. What is replaced can make no bytes before it worse: they end in a breakpoint earlier.
    for at in 0..corpus.len() {
        if avoided(emulator, &corpus[at..]).is_some() {
            corpus[at] = BREAKPOINT;
            counts[FORMS.len()] += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CORPUS_BYTES;
    use std::vec;

    #[test]
    fn the_same_seed_gives_the_same_instructions_of_all_forms() {
        let mut corpora = [vec![0; CORPUS_BYTES], vec![0; CORPUS_BYTES], vec![0; CORPUS_BYTES]];
        let counts = fill(&mut corpora[0], 5, Emulator::Bochs);
        assert_eq!(fill(&mut corpora[1], 5, Emulator::Bochs), counts);
        fill(&mut corpora[2], 6, Emulator::Bochs);
        assert!(corpora[0] == corpora[1] && corpora[0] != corpora[2]);
        for ((_, name), count) in FORMS.iter().zip(counts) {
            std::println!("{name}: {count}");
            assert!(count > 100, "{name}: {count}");
        }
    }

    #[test]
    fn every_system_instruction_comes() {
        let mut corpus = vec![0; CORPUS_BYTES];
        fill(&mut corpus, 1, Emulator::Bochs);
        for opcode in SYSTEM {
            assert!(corpus.windows(opcode.len()).any(|bytes| bytes == *opcode), "{opcode:02x?}");
        }
    }

    #[test]
    fn every_slot_ends_in_a_breakpoint() {
        let mut corpus = vec![0; CORPUS_BYTES];
        fill(&mut corpus, 2, Emulator::Qemu);
        assert!(corpus.chunks(SLOT_BYTES).all(|slot| slot[SLOT_BYTES - 1] == BREAKPOINT));
    }
}
