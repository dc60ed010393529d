//! The state of a VM's processor outside its memory: the same whoever made the processor, and the same in ten years.
//!
//! Raw XSAVE areas are neither: makers lay out what is beyond AVX differently. So each state component has a field of its own here, at an
//! offset of its own, and what a level does not have lies behind what it has: a state of [`Level::Base`] is the first 576 bytes.
//!
//! What is not here a guest cannot change: its segments, CR0, CR4, EFER, XCR0, debug registers and MSRs are those of its start (a null
//! selector that it has loaded into a data segment comes back as the flat one, which 64-bit mode does not tell apart but by reading it). Nor is
//! what lasts for one instruction: the shadow of STI and MOV SS, and a single-step trap that has not been delivered.

use core::mem::offset_of;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`VcpuState::magic`].
pub const MAGIC: u64 = u64::from_le_bytes(*b"FKRVCPU\0");
/// [`VcpuState::version`].
pub const VERSION: u32 = 1;

/// Which state components there are. Each level has those of the levels before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// General registers, x87 and SSE.
    Base,
    /// The upper halves of YMM0 to YMM15.
    Avx,
    /// Opmasks, the upper halves of ZMM0 to ZMM15, ZMM16 to ZMM31.
    Avx512,
}

impl Level {
    /// All levels.
    pub const ALL: [Level; 3] = [Level::Base, Level::Avx, Level::Avx512];

    /// As [`VcpuState::level`] has it.
    pub const fn raw(self) -> u32 {
        match self {
            Level::Base => 0,
            Level::Avx => 1,
            Level::Avx512 => 2,
        }
    }

    /// The inverse of [`Level::raw`].
    pub fn from_raw(raw: u32) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.raw() == raw)
    }

    /// Bytes of a state of this level.
    pub const fn bytes(self) -> usize {
        match self {
            Level::Base => offset_of!(VcpuState, ymm_high),
            Level::Avx => offset_of!(VcpuState, opmask),
            Level::Avx512 => size_of::<VcpuState>(),
        }
    }
}

/// The general registers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[allow(missing_docs)] // The registers' names say it.
pub struct General {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub rsp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
}

/// The x87's state (SDM vol. 1, 8.1).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct X87 {
    /// Control word.
    pub control: u16,
    /// Status word, with the top of the stack in bits 13..11.
    pub status: u16,
    /// Opcode of the last instruction, 11 bits.
    pub opcode: u16,
    /// Bit `i`: physical register `i` is not empty.
    pub tags: u8,
    /// Must be zero.
    pub reserved: u8,
    /// Where the last instruction and its operand were. AMD's processors know it only while an exception is pending.
    pub instruction: u64,
    /// See `instruction`.
    pub operand: u64,
    /// ST(0) to ST(7), 80 bits each; an MMX register is the first 64 of them.
    pub registers: [[u8; 10]; 8],
}

impl X87 {
    /// After FNINIT (SDM vol. 1, 13.6).
    pub const INITIAL: X87 = X87 {
        control: 0x37f,
        status: 0,
        opcode: 0,
        tags: 0,
        reserved: 0,
        instruction: 0,
        operand: 0,
        registers: [[0; 10]; 8],
    };
}

/// MXCSR after reset: all exceptions masked.
pub const MXCSR_INITIAL: u32 = 0x1f80;

/// The state. What a level does not have is zero in one of that level.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct VcpuState {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`VERSION`].
    pub version: u32,
    /// The least [`Level`] that has all that is not in its initial state. (What the VM was promised is a matter of its image.)
    pub level: u32,
    /// RAX to R15, RSP among them.
    pub general: General,
    /// The next instruction.
    pub rip: u64,
    /// Flags, as far as they mean anything to a guest: CF, PF, AF, ZF, SF, TF, DF, OF, RF, AC, ID. The bits 1 and 9 are set.
    pub rflags: u64,
    /// Linear address of the last page fault.
    pub cr2: u64,
    /// Guest-physical address of the topmost page table.
    pub cr3: u64,
    /// FS base.
    pub fs_base: u64,
    /// GS base.
    pub gs_base: u64,
    /// What SWAPGS exchanges with GS base.
    pub kernel_gs_base: u64,
    /// The guest's TSC at the moment when all this was so.
    pub tsc: u64,
    /// The x87, and MMX.
    pub x87: X87,
    /// Control and status of SSE.
    pub mxcsr: u32,
    /// Must be zero.
    pub reserved: u32,
    /// XMM0 to XMM15.
    pub xmm: [[u64; 2]; 16],
    /// Bits 255..128 of YMM0 to YMM15.
    pub ymm_high: [[u64; 2]; 16],
    /// K0 to K7.
    pub opmask: [u64; 8],
    /// Bits 511..256 of ZMM0 to ZMM15.
    pub zmm_high: [[u64; 4]; 16],
    /// ZMM16 to ZMM31.
    pub zmm: [[u64; 8]; 16],
}

const _: () = {
    assert!(size_of::<General>() == 128 && offset_of!(General, rsp) == 56 && offset_of!(General, r15) == 120);
    assert!(size_of::<X87>() == 104);
    assert!(offset_of!(X87, status) == 2 && offset_of!(X87, opcode) == 4 && offset_of!(X87, tags) == 6);
    assert!(offset_of!(X87, instruction) == 8 && offset_of!(X87, operand) == 16 && offset_of!(X87, registers) == 24);
    assert!(offset_of!(VcpuState, version) == 8 && offset_of!(VcpuState, level) == 12);
    assert!(offset_of!(VcpuState, general) == 16 && offset_of!(VcpuState, rip) == 144);
    assert!(offset_of!(VcpuState, rflags) == 152 && offset_of!(VcpuState, cr2) == 160);
    assert!(offset_of!(VcpuState, cr3) == 168 && offset_of!(VcpuState, fs_base) == 176);
    assert!(offset_of!(VcpuState, gs_base) == 184 && offset_of!(VcpuState, kernel_gs_base) == 192);
    assert!(offset_of!(VcpuState, tsc) == 200 && offset_of!(VcpuState, x87) == 208);
    assert!(offset_of!(VcpuState, mxcsr) == 312 && offset_of!(VcpuState, xmm) == 320);
    assert!(offset_of!(VcpuState, ymm_high) == 576 && offset_of!(VcpuState, opmask) == 832);
    assert!(offset_of!(VcpuState, zmm_high) == 896 && offset_of!(VcpuState, zmm) == 1408);
    assert!(size_of::<VcpuState>() == 2432);
};

/// Why bytes are no state that a VM can go on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadState {
    /// They do not begin as a state does, or are of another version.
    Unknown,
    /// There is no such level, or a state of it has another length.
    Length,
    /// Something that has to be zero is not: what is reserved, or what the level does not have.
    NotZero,
    /// An address where none can be: RIP, or a base.
    NotCanonical(u64),
    /// Flags that no guest has.
    Flags(u64),
    /// The processor does not have this level.
    Level(Level),
    /// Bits of MXCSR that the processor does not have.
    Mxcsr(u32),
}

impl VcpuState {
    /// The state of a processor that nothing was done with: all registers 0.
    pub const INITIAL: VcpuState = VcpuState {
        magic: MAGIC,
        version: VERSION,
        level: Level::Base.raw(),
        general: General {
            rax: 0,
            rbx: 0,
            rcx: 0,
            rdx: 0,
            rsi: 0,
            rdi: 0,
            rbp: 0,
            rsp: 0,
            r8: 0,
            r9: 0,
            r10: 0,
            r11: 0,
            r12: 0,
            r13: 0,
            r14: 0,
            r15: 0,
        },
        rip: 0,
        rflags: 0x202,
        cr2: 0,
        cr3: 0,
        fs_base: 0,
        gs_base: 0,
        kernel_gs_base: 0,
        tsc: 0,
        x87: X87::INITIAL,
        mxcsr: MXCSR_INITIAL,
        reserved: 0,
        xmm: [[0; 2]; 16],
        ymm_high: [[0; 2]; 16],
        opmask: [0; 8],
        zmm_high: [[0; 4]; 16],
        zmm: [[0; 8]; 16],
    };

    /// The least level that has all that is not zero.
    pub fn least_level(&self) -> Level {
        let bytes = self.as_bytes();
        let is_zero = |range: core::ops::Range<usize>| bytes[range].iter().all(|&byte| byte == 0);
        if !is_zero(Level::Avx.bytes()..bytes.len()) {
            Level::Avx512
        } else if !is_zero(Level::Base.bytes()..Level::Avx.bytes()) {
            Level::Avx
        } else {
            Level::Base
        }
    }

    /// The state in as few bytes as its level takes.
    pub fn to_bytes(&self) -> &[u8] {
        let level = Level::from_raw(self.level).unwrap_or(Level::Avx512);
        &self.as_bytes()[..level.bytes()]
    }

    /// The inverse of [`VcpuState::to_bytes`]. Whether a processor can go on from it is another question: a register may hold what none can.
    ///
    /// # Errors
    /// [`BadState::Unknown`], [`BadState::Length`] or [`BadState::NotZero`].
    pub fn from_bytes(bytes: &[u8]) -> Result<VcpuState, BadState> {
        let mut state = VcpuState::INITIAL;
        let to = state.as_mut_bytes();
        to.fill(0);
        to.get_mut(..bytes.len()).ok_or(BadState::Length)?.copy_from_slice(bytes);
        if state.magic != MAGIC || state.version != VERSION {
            return Err(BadState::Unknown);
        }
        let level = Level::from_raw(state.level).ok_or(BadState::Length)?;
        if bytes.len() != level.bytes() {
            return Err(BadState::Length);
        }
        if state.reserved != 0 || state.x87.reserved != 0 {
            return Err(BadState::NotZero);
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_has_what_the_ones_before_it_have() {
        assert_eq!(Level::ALL.map(Level::bytes), [576, 832, 2432]);
        for level in Level::ALL {
            assert_eq!(Level::from_raw(level.raw()), Some(level));
        }
        assert_eq!(Level::from_raw(3), None);
        let mut state = VcpuState::INITIAL;
        state.xmm[15] = [1, 2];
        assert_eq!(state.least_level(), Level::Base);
        state.ymm_high[0] = [0, 1];
        assert_eq!(state.least_level(), Level::Avx);
        state.zmm[15][7] = 1;
        assert_eq!(state.least_level(), Level::Avx512);
        (state.zmm[15][7], state.ymm_high[0]) = (0, [0; 2]);
        state.opmask[0] = 1;
        assert_eq!(state.least_level(), Level::Avx512);
    }

    #[test]
    fn a_state_survives_as_bytes_of_its_level() {
        for level in Level::ALL {
            let mut state = VcpuState::INITIAL;
            for (byte, at) in state.as_mut_bytes()[16..level.bytes()].iter_mut().zip(1_u8..=255) {
                *byte = at;
            }
            (state.level, state.reserved, state.x87.reserved) = (level.raw(), 0, 0);
            assert_eq!(state.to_bytes().len(), level.bytes());
            assert_eq!(VcpuState::from_bytes(state.to_bytes()), Ok(state), "{level:?}");
        }
    }

    #[test]
    fn what_is_no_state_is_none() {
        let good = VcpuState::INITIAL;
        let with = |change: fn(&mut VcpuState)| {
            let mut state = good;
            change(&mut state);
            VcpuState::from_bytes(&state.as_bytes()[..576])
        };
        assert_eq!(VcpuState::from_bytes(&[]), Err(BadState::Unknown));
        assert_eq!(VcpuState::from_bytes(&[0; 4096]), Err(BadState::Length));
        for len in (0..2432).filter(|&len| len != 576) {
            assert!(VcpuState::from_bytes(&good.as_bytes()[..len]).is_err(), "{len}");
        }
        assert_eq!(with(|_| {}), Ok(good));
        assert_eq!(with(|state| state.magic ^= 1), Err(BadState::Unknown));
        assert_eq!(with(|state| state.version = 2), Err(BadState::Unknown));
        assert_eq!(with(|state| state.level = 3), Err(BadState::Length));
        assert_eq!(with(|state| state.level = 1), Err(BadState::Length));
        assert_eq!(with(|state| state.reserved = 1), Err(BadState::NotZero));
        assert_eq!(with(|state| state.x87.reserved = 1), Err(BadState::NotZero));
    }
}
