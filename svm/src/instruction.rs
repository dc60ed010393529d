//! What the bytes of an instruction mean, where the CPU's exit does not say it: the few that CPUs of different makers do
//! different things with, and those whose length or operand is needed. Bytes come from a guest and may be anything.

use backend::GeneralRegisters;

/// The longest instruction.
pub const MAX_BYTES: usize = 15;

/// VMCALL.
pub const VMCALL: [u8; 3] = [0x0f, 0x01, 0xc1];

/// An instruction that this backend has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// VMCALL without a prefix: the hypercall of the virtual architecture.
    Vmcall,
    /// An instruction of VT-x.
    Vtx,
    /// SYSENTER or SYSEXIT.
    Sysenter,
    /// INT3.
    Breakpoint,
    /// INT1, also known as ICEBP.
    Int1,
    /// MOV to a control register.
    MovToControl {
        /// Its number.
        control: u8,
        /// Number of the general register: 0 is RAX, 4 is RSP.
        general: u8,
    },
    /// CLTS.
    ClearTaskSwitched,
    /// LMSW from a general register.
    LoadMachineStatus {
        /// Its number.
        general: u8,
    },
    /// Something else.
    Other,
}

/// Whether `byte` is a prefix that may stand before any instruction.
fn is_legacy_prefix(byte: u8) -> bool {
    matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3)
}

/// The instruction at the start of `bytes`, in 64-bit mode, and how many bytes it takes where it is one that is known.
pub fn decode(bytes: &[u8]) -> (Instruction, usize) {
    let prefixes = bytes.iter().take(MAX_BYTES).take_while(|byte| is_legacy_prefix(**byte)).count();
    let has = |prefix: u8| bytes[..prefixes].contains(&prefix);
    let mut rest = &bytes[prefixes..];
    let mut rex = 0;
    let mut length = prefixes;
    if let [byte @ 0x40..=0x4f, tail @ ..] = rest {
        (rex, rest) = (*byte, tail);
        length += 1;
    }
    let memory = |modrm: u8| modrm >> 6 != 3;
    let found = match *rest {
        [0x0f, 0x01, 0xc1, ..] if length == 0 => (Instruction::Vmcall, 3),
        // VMCALL behind a prefix, VMLAUNCH, VMRESUME, VMXOFF.
        [0x0f, 0x01, 0xc1..=0xc4, ..] => (Instruction::Vtx, 3),
        // VMREAD, VMWRITE; with a prefix they are others.
        [0x0f, 0x78 | 0x79, _, ..] if !has(0x66) && !has(0xf2) && !has(0xf3) => (Instruction::Vtx, 3),
        // VMPTRLD, VMCLEAR, VMXON; VMPTRST. Of registers they are others.
        [0x0f, 0xc7, modrm, ..] if memory(modrm) && modrm >> 3 & 7 == 6 => (Instruction::Vtx, 3),
        [0x0f, 0xc7, modrm, ..] if memory(modrm) && modrm >> 3 & 7 == 7 && !has(0x66) && !has(0xf3) => {
            (Instruction::Vtx, 3)
        }
        // INVEPT, INVVPID.
        [0x0f, 0x38, 0x80 | 0x81, modrm, ..] if has(0x66) && memory(modrm) => (Instruction::Vtx, 4),
        [0x0f, 0x06, ..] => (Instruction::ClearTaskSwitched, 2),
        [0x0f, 0x01, modrm, ..] if !memory(modrm) && modrm >> 3 & 7 == 6 => {
            (Instruction::LoadMachineStatus { general: modrm & 7 | (rex & 1) << 3 }, 3)
        }
        [0x0f, 0x34 | 0x35, ..] => (Instruction::Sysenter, 2),
        // The upper two bits of ModRM are ignored.
        [0x0f, 0x22, modrm, ..] => {
            let control = modrm >> 3 & 7 | (rex & 4) << 1;
            let general = modrm & 7 | (rex & 1) << 3;
            (Instruction::MovToControl { control, general }, 3)
        }
        [0xcc, ..] => (Instruction::Breakpoint, 1),
        // INTO does not exist in 64-bit mode.
        [0xf1, ..] => (Instruction::Int1, 1),
        _ => return (Instruction::Other, 0),
    };
    (found.0, length + found.1)
}

/// The general register with this number; RSP, number 4, is not among them.
pub fn general(registers: &GeneralRegisters, number: u8, rsp: u64) -> u64 {
    let r = registers;
    let all =
        [r.rax, r.rcx, r.rdx, r.rbx, rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15];
    all[usize::from(number & 15)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vmcall_is_three_bytes_and_nothing_before() {
        assert_eq!(decode(&[0x0f, 0x01, 0xc1]), (Instruction::Vmcall, 3));
        assert_eq!(decode(&[0x66, 0x0f, 0x01, 0xc1]), (Instruction::Vtx, 4));
        assert_eq!(decode(&[0x0f, 0x01]), (Instruction::Other, 0), "cut off");
        assert_eq!(decode(&[]), (Instruction::Other, 0));
        assert_eq!(decode(&[0xf3; 15]), (Instruction::Other, 0), "prefixes only");
        assert_eq!(decode(&[0xf3; 40]), (Instruction::Other, 0));
    }

    #[test]
    fn instructions_of_vtx() {
        for bytes in [
            &[0x0f, 0x01, 0xc2][..],         // vmlaunch
            &[0x0f, 0x01, 0xc3],             // vmresume
            &[0x0f, 0x01, 0xc4],             // vmxoff
            &[0x0f, 0x78, 0xc8],             // vmread rax, rcx
            &[0x0f, 0x79, 0xcf],             // vmwrite rcx, rdi
            &[0xf3, 0x0f, 0xc7, 0x37],       // vmxon [rdi]
            &[0x66, 0x0f, 0xc7, 0x37],       // vmclear [rdi]
            &[0x0f, 0xc7, 0x37],             // vmptrld [rdi]
            &[0x0f, 0xc7, 0x3f],             // vmptrst [rdi]
            &[0x66, 0x0f, 0x38, 0x80, 0x07], // invept rax, [rdi]
            &[0x66, 0x0f, 0x38, 0x81, 0x07], // invvpid rax, [rdi]
            &[0x66, 0x41, 0x0f, 0x38, 0x81, 0x07],
        ] {
            assert_eq!(decode(bytes).0, Instruction::Vtx, "{bytes:x?}");
        }
    }

    #[test]
    fn clts() {
        assert_eq!(decode(&[0x0f, 0x06]), (Instruction::ClearTaskSwitched, 2));
        assert_eq!(decode(&[0x48, 0x0f, 0x06, 0xc3]), (Instruction::ClearTaskSwitched, 3));
    }

    #[test]
    fn lmsw() {
        let from = |general| Instruction::LoadMachineStatus { general };
        assert_eq!(decode(&[0x0f, 0x01, 0xf0]), (from(0), 3)); // lmsw ax
        assert_eq!(decode(&[0x41, 0x0f, 0x01, 0xf7]), (from(15), 4)); // lmsw r15w
        assert_eq!(decode(&[0x0f, 0x01, 0x30]), (Instruction::Other, 0), "from memory");
        assert_eq!(decode(&[0x0f, 0x01, 0xe0]), (Instruction::Other, 0), "smsw eax");
        assert_eq!(decode(&[0x0f, 0x01, 0xf8]), (Instruction::Other, 0), "swapgs");
    }

    #[test]
    fn neighbours_are_not() {
        for bytes in [
            &[0x0f, 0x0b][..],               // ud2
            &[0x0f, 0x01, 0xd4],             // vmfunc
            &[0x0f, 0x01, 0xd9],             // vmmcall
            &[0x0f, 0xc7, 0xf0],             // rdrand
            &[0x0f, 0xc7, 0xf8],             // rdseed
            &[0x0f, 0xc7, 0x0f],             // cmpxchg8b
            &[0x66, 0x0f, 0x79, 0xc1],       // extrq
            &[0xf2, 0x0f, 0x79, 0xc1],       // insertq
            &[0x66, 0x0f, 0x38, 0x82, 0x07], // invpcid
            &[0xf3, 0x0f, 0xc7, 0xf8],       // rdpid
            &[0x0f, 0x37],                   // getsec
            &[0x90],
        ] {
            assert_eq!(decode(bytes).0, Instruction::Other, "{bytes:x?}");
        }
    }

    #[test]
    fn moves_to_control_registers() {
        let to = |control, general| Instruction::MovToControl { control, general };
        assert_eq!(decode(&[0x0f, 0x22, 0xc0]), (to(0, 0), 3)); // mov cr0, rax
        assert_eq!(decode(&[0x0f, 0x22, 0xe7]), (to(4, 7), 3)); // mov cr4, rdi
        assert_eq!(decode(&[0x44, 0x0f, 0x22, 0xc0]), (to(8, 0), 4)); // mov cr8, rax
        assert_eq!(decode(&[0x41, 0x0f, 0x22, 0xe7]), (to(4, 15), 4)); // mov cr4, r15
        assert_eq!(decode(&[0x0f, 0x22, 0x04]), (to(0, 4), 3), "the upper bits of ModRM do not count");
    }

    #[test]
    fn traps_and_their_lengths() {
        assert_eq!(decode(&[0xcc]), (Instruction::Breakpoint, 1));
        assert_eq!(decode(&[0xf2, 0x48, 0xcc]), (Instruction::Breakpoint, 3));
        assert_eq!(decode(&[0xcd, 0x03]), (Instruction::Other, 0), "INT 3 is another");
        assert_eq!(decode(&[0xf1]), (Instruction::Int1, 1));
        assert_eq!(decode(&[0x0f, 0x34]), (Instruction::Sysenter, 2));
        assert_eq!(decode(&[0x48, 0x0f, 0x35]), (Instruction::Sysenter, 3));
    }

    #[test]
    fn registers_are_found_by_number() {
        let registers = GeneralRegisters {
            rax: 0,
            rcx: 1,
            rdx: 2,
            rbx: 3,
            rbp: 5,
            rsi: 6,
            rdi: 7,
            r8: 8,
            r9: 9,
            r10: 10,
            r11: 11,
            r12: 12,
            r13: 13,
            r14: 14,
            r15: 15,
        };
        for number in 0..16 {
            assert_eq!(general(&registers, number, 4), u64::from(number));
        }
    }
}
