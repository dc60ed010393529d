use super::*;
use crate::vmcb::Vmcb;

/// What comes of an exit.
fn came(code: u64, info_1: u64, info_2: u64, event: u64) -> (Exit, bool) {
    // SAFETY: all zeros is a valid value.
    let mut vmcb: Vmcb = unsafe { core::mem::zeroed() };
    vmcb.control.exit_code = code;
    vmcb.control.exit_info_1 = info_1;
    vmcb.control.exit_info_2 = info_2;
    vmcb.control.exit_interruption = event;
    decode(
        &vmcb.control,
        &GeneralRegisters { rax: u64::MAX << 32 | 7, rcx: u64::MAX << 32 | 0x1b, ..GeneralRegisters::default() },
    )
}

fn exception(vector: u8, error_code: u32, address: u64) -> Exit {
    Exit::Exception { vector, error_code, address }
}

#[test]
fn instructions_have_their_classes() {
    for (codes, class) in [
        (&[0x08, 0x18, 0x10, 0x14, 0x8d][..], refused::CONTROL),
        (&[0x20, 0x27, 0x30, 0x37], refused::DEBUG),
        (&[0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x7d], refused::DESCRIPTOR),
        (&[0x6f, 0x76, 0x89, 0x8a, 0x8b], refused::OTHER),
        (&[0x80, 0x82, 0x83, 0x84, 0x85, 0x86, 0x7a], refused::VIRTUALIZATION),
    ] {
        for &code in codes {
            assert_eq!(came(code, 0x55, 0, 0), (Exit::Refused { class, detail: 0x55 }, false), "{code:#x}");
        }
    }
    assert_eq!(came(0x72, 0, 0, 0).0, Exit::Refused { class: refused::CPUID, detail: 7 });
    assert_eq!(came(0x7c, 1, 0, 0).0, Exit::Refused { class: refused::MSR, detail: 0x1b });
    assert_eq!(came(0x7b, 0x03f8_0011, 0, 0).0, Exit::Refused { class: refused::PORT, detail: 0x3f8 });
}

#[test]
fn instructions_that_there_are_not_raise_invalid_opcode() {
    for code in [0x81, 0x87, 0x8e, 0xa2, 0xa3] {
        assert_eq!(came(code, 0, 0, 0), (exception(6, 0, 0), false), "{code:#x}");
    }
}

#[test]
fn a_bus_lock_is_the_backends_affair() {
    assert_eq!(came(0xa5, 0, 0, 0), (Exit::Served, false));
}

#[test]
fn exceptions_have_error_codes_where_they_have_them() {
    assert_eq!(came(0x40, 9, 9, 0), (exception(0, 0, 0), false));
    assert_eq!(came(0x46, 9, 9, 0), (exception(6, 0, 0), false));
    assert_eq!(came(0x4d, 0x1a, 9, 0), (exception(13, 0x1a, 0), false));
    assert_eq!(came(0x4e, 2, 0x1234, 0), (exception(14, 2, 0x1234), false));
    assert_eq!(came(0x51, 0, 0, 0), (exception(17, 0, 0), false));
    assert_eq!(came(0x52, 0, 0, 0).0, Exit::MachineCheck);
}

#[test]
fn traps_want_rip_behind_them() {
    assert_eq!(came(0x43, 0, 0, 0), (exception(3, 0, 0), true));
    assert_eq!(came(0x44, 0, 0, 0), (exception(4, 0, 0), true));
    assert_eq!(came(0x88, 0, 0, 0), (exception(1, 0, 0), true));
    assert_eq!(came(0x41, 0, 0, 0), (exception(1, 0, 0), false), "single steps are there already");
}

#[test]
fn the_first_of_two_exceptions_counts() {
    let page_fault = 14 | 3 << 8 | 1 << 11 | 1 << 31 | 6 << 32;
    assert_eq!(came(0x4d, 0x99, 0x77, page_fault).0, exception(14, 6, 0x77));
    let divide = 3 << 8 | 1 << 31;
    assert_eq!(came(0x4d, 0x99, 0, divide).0, exception(0, 0, 0));
    let software = 0x80 | 4 << 8 | 1 << 31;
    assert_eq!(came(0x4d, 0x402, 0, software).0, exception(13, 0x402, 0), "INT 80h is no exception");
}

#[test]
fn nested_page_faults() {
    let fault = |error| match came(0x400, error, 0xfee0_0020, 0).0 {
        Exit::MemoryFault { address: 0xfee0_0020, access, present } => (access, present),
        other => panic!("{other:?}"),
    };
    assert_eq!(fault(1 << 32 | 0b0_0100), (Access::Read, false));
    assert_eq!(fault(1 << 32 | 0b0_0111), (Access::Write, true));
    assert_eq!(fault(1 << 32 | 0b1_0100), (Access::Execute, false));
    assert_eq!(fault(1 << 33 | 0b0_0110), (Access::Write, false));
}

#[test]
fn the_rest() {
    assert_eq!(came(0x60, 0, 0, 0).0, Exit::InterruptPending);
    assert_eq!(came(0x61, 0, 0, 0).0, Exit::Nmi);
    assert_eq!(came(0x78, 0, 0, 0), (Exit::Halt, false));
    assert_eq!(came(0x7f, 0, 0, 0).0, Exit::TripleFault);
    for code in [u64::MAX, 0xffff_ffff] {
        assert_eq!(came(code, 3, 0, 0).0, Exit::EntryFailure { error: ERROR_INVALID, detail: 3 });
    }
    for code in [0x62, 0x64, 0x6e, 0x77, 0x7e, 0xa0, 0x401, 0xffff_ffff_ffff_fffe] {
        assert!(matches!(came(code, 1, 2, 0).0, Exit::Unknown { detail: 1, .. }), "{code:#x}");
    }
}
