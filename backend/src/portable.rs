//! What XSAVE knows in the layout of `abi::vcpu`, and back, and the checks that every backend makes before a guest goes on from a state.
//!
//! An XSAVE area has x87 and SSE at fixed places; where it has the other components the processor says (CPUID leaf 0xd; SDM vol. 1, 13.5.
//! AMD's processors lack what Intel's have before AVX-512's opmasks, so these lie elsewhere).

use crate::xstate::{AREA_BYTES, State};
use crate::{filter_flags, is_canonical};
use abi::vcpu::{BadState, Level, MAGIC, MXCSR_INITIAL, VERSION, VcpuState, X87};

/// Mask of x87 in the header, and bits of the others there and in XCR0.
const X87_MASK: u64 = 1;
const SSE_BIT: u32 = 1;
const AVX_BIT: u32 = 2;
const OPMASK_BIT: u32 = 5;
const ZMM_HIGH_BIT: u32 = 6;
const ZMM_BIT: u32 = 7;
/// Offsets in the area.
const X87_REGISTERS: usize = 32;
const XMM: usize = 160;
const MXCSR: usize = 24;
const HEADER: usize = 512;
/// Bits of MXCSR that every 64-bit processor has, and the one that AMD's have where CPUID says so (APM vol. 1, 4.2.2).
const MXCSR_BITS: u32 = 0xffff;
const MXCSR_BITS_MISALIGNED: u32 = 0x2_ffff;

/// Where a processor keeps each component, and what its MXCSR has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    xcr0: u64,
    /// By the component's bit; 0 for one that there is not.
    offsets: [usize; 8],
    mxcsr_bits: u32,
}

impl Layout {
    /// This processor's, with this XCR0.
    pub fn detect(xcr0: u64) -> Layout {
        Layout::gather(xcr0, |leaf, subleaf| {
            let result = core::arch::x86_64::__cpuid_count(leaf, subleaf);
            [result.eax, result.ebx, result.ecx, result.edx]
        })
    }

    /// That of a processor that says so.
    pub fn gather(xcr0: u64, cpuid: impl Fn(u32, u32) -> [u32; 4]) -> Layout {
        let mut offsets = [0; 8];
        for (bit, to) in (0..).zip(&mut offsets).skip(2) {
            if xcr0 >> bit & 1 != 0 {
                let [_, offset, ..] = cpuid(0xd, bit);
                *to = usize::try_from(offset).unwrap_or(0);
            }
        }
        let misaligned = cpuid(0x8000_0000, 0)[0] > 0x8000_0000 && cpuid(0x8000_0001, 0)[2] >> 7 & 1 != 0;
        Layout { xcr0, offsets, mxcsr_bits: if misaligned { MXCSR_BITS_MISALIGNED } else { MXCSR_BITS } }
    }

    /// The highest level that the processor has.
    pub fn level(&self) -> Level {
        if self.xcr0 >> ZMM_BIT & 1 != 0 {
            Level::Avx512
        } else if self.xcr0 >> AVX_BIT & 1 != 0 {
            Level::Avx
        } else {
            Level::Base
        }
    }

    /// Whether a guest's processor that is like this one can go on from a state, which anybody may have written.
    ///
    /// # Errors
    /// What it cannot have.
    pub fn check(&self, state: &VcpuState) -> Result<(), BadState> {
        if state.magic != MAGIC || state.version != VERSION {
            return Err(BadState::Unknown);
        }
        let level = Level::from_raw(state.level).ok_or(BadState::Length)?;
        if state.least_level() > level || state.reserved != 0 || state.x87.reserved != 0 {
            return Err(BadState::NotZero);
        }
        if level > self.level() {
            return Err(BadState::Level(level));
        }
        for address in [state.rip, state.fs_base, state.gs_base, state.kernel_gs_base] {
            if !is_canonical(address) {
                return Err(BadState::NotCanonical(address));
            }
        }
        if filter_flags(state.rflags) != state.rflags {
            return Err(BadState::Flags(state.rflags));
        }
        // XRSTOR faults for these, and for nothing else that a state can say.
        match state.mxcsr & !self.mxcsr_bits {
            0 => Ok(()),
            bits => Err(BadState::Mxcsr(bits)),
        }
    }
}

/// `N` bytes from `at` on; zeros beyond the end.
fn bytes<const N: usize>(area: &[u8], at: usize) -> [u8; N] {
    area.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

fn words<const N: usize>(area: &[u8], at: usize) -> [u64; N] {
    core::array::from_fn(|index| u64::from_le_bytes(bytes(area, at + 8 * index)))
}

/// Rows of words, one behind the other.
fn rows<const N: usize, const ROWS: usize>(area: &[u8], at: usize) -> [[u64; N]; ROWS] {
    core::array::from_fn(|row| words(area, at + 8 * N * row))
}

fn put(area: &mut [u8], at: usize, value: &[u8]) {
    // All lies in the area: `choose` has seen that it fits.
    if let Some(to) = area.get_mut(at..at + value.len()) {
        to.copy_from_slice(value);
    }
}

fn put_rows<const N: usize>(area: &mut [u8], at: usize, rows: &[[u64; N]]) {
    for (word, at) in rows.as_flattened().iter().zip((at..).step_by(8)) {
        put(area, at, &word.to_le_bytes());
    }
}

fn is_zero<const N: usize>(rows: &[[u64; N]]) -> bool {
    rows.as_flattened().iter().all(|&word| word == 0)
}

impl State {
    /// Put what is saved here into a state's x87, MXCSR and vectors, and say its level.
    pub fn export(&self, layout: &Layout, to: &mut VcpuState) {
        let area = &self.0[..];
        let [saved] = words(area, HEADER);
        // What the header does not name is in its initial state, whatever lies there (SDM vol. 1, 13.7).
        let at = |bit: u32, fixed: usize| {
            let offset = if bit <= SSE_BIT { fixed } else { layout.offsets[bit as usize] };
            // Beyond the end are zeros.
            if (saved & layout.xcr0) >> bit & 1 != 0 { offset } else { AREA_BYTES as usize }
        };
        to.x87 = X87::INITIAL;
        if saved & X87_MASK != 0 {
            to.x87 = X87 {
                control: u16::from_le_bytes(bytes(area, 0)),
                status: u16::from_le_bytes(bytes(area, 2)),
                tags: area[4],
                reserved: 0,
                opcode: u16::from_le_bytes(bytes(area, 6)),
                instruction: u64::from_le_bytes(bytes(area, 8)),
                operand: u64::from_le_bytes(bytes(area, 16)),
                registers: core::array::from_fn(|register| bytes(area, X87_REGISTERS + 16 * register)),
            };
        }
        to.mxcsr = u32::from_le_bytes(bytes(area, MXCSR));
        to.xmm = rows(area, at(SSE_BIT, XMM));
        to.ymm_high = rows(area, at(AVX_BIT, 0));
        to.opmask = words(area, at(OPMASK_BIT, 0));
        to.zmm_high = rows(area, at(ZMM_HIGH_BIT, 0));
        to.zmm = rows(area, at(ZMM_BIT, 0));
        to.level = to.least_level().raw();
    }

    /// Have [`State::load`] load a state that passed [`Layout::check`].
    pub fn import(&mut self, layout: &Layout, from: &VcpuState) {
        self.0.fill(0);
        let area = &mut self.0[..];
        let X87 { control, status, opcode, tags, reserved: _, instruction, operand, registers } = from.x87;
        let mut saved = 0_u64;
        if from.x87 != X87::INITIAL {
            saved |= X87_MASK;
            put(area, 0, &control.to_le_bytes());
            put(area, 2, &status.to_le_bytes());
            put(area, 4, &[tags]);
            put(area, 6, &opcode.to_le_bytes());
            put(area, 8, &instruction.to_le_bytes());
            put(area, 16, &operand.to_le_bytes());
            for (register, value) in registers.iter().enumerate() {
                put(area, X87_REGISTERS + 16 * register, value);
            }
        }
        put(area, MXCSR, &from.mxcsr.to_le_bytes());
        // MXCSR belongs to SSE where XRSTOR looks at the header alone.
        if from.mxcsr != MXCSR_INITIAL || !is_zero(&from.xmm) {
            saved |= 1 << SSE_BIT;
            put_rows(area, XMM, &from.xmm);
        }
        if !is_zero(&from.ymm_high) {
            saved |= 1 << AVX_BIT;
            put_rows(area, layout.offsets[AVX_BIT as usize], &from.ymm_high);
        }
        if !is_zero(&[from.opmask]) {
            saved |= 1 << OPMASK_BIT;
            put_rows(area, layout.offsets[OPMASK_BIT as usize], &[from.opmask]);
        }
        if !is_zero(&from.zmm_high) {
            saved |= 1 << ZMM_HIGH_BIT;
            put_rows(area, layout.offsets[ZMM_HIGH_BIT as usize], &from.zmm_high);
        }
        if !is_zero(&from.zmm) {
            saved |= 1 << ZMM_BIT;
            put_rows(area, layout.offsets[ZMM_BIT as usize], &from.zmm);
        }
        put(area, HEADER, &saved.to_le_bytes());
    }
}

#[cfg(test)]
#[path = "portable_tests.rs"]
mod tests;
