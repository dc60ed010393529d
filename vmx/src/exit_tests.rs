use super::*;

/// A VMCS as it may be after an exit.
#[derive(Default)]
struct Said {
    qualification: u64,
    guest_physical: u64,
    interruption: u32,
    interruption_error: u32,
    vectoring: u32,
    vectoring_error: u32,
    instruction_error: u32,
}

impl Details for Said {
    fn qualification(&self) -> u64 {
        self.qualification
    }
    fn guest_physical(&self) -> u64 {
        self.guest_physical
    }
    fn interruption(&self) -> u32 {
        self.interruption
    }
    fn interruption_error(&self) -> u32 {
        self.interruption_error
    }
    fn vectoring(&self) -> u32 {
        self.vectoring
    }
    fn vectoring_error(&self) -> u32 {
        self.vectoring_error
    }
    fn instruction_error(&self) -> u32 {
        self.instruction_error
    }
}

fn full(raw: u64, resume_error: u64, said: &Said) -> (Exit, bool) {
    let registers = GeneralRegisters { rax: 0xffff_ffff_8000_0001, rcx: 0x1_0000_0010, ..GeneralRegisters::default() };
    decode(raw, resume_error, said, &registers)
}

fn exit(reason: u32, said: Said) -> Exit {
    full(reason.into(), 0, &said).0
}

#[test]
fn hot_exits() {
    assert_eq!(exit(reason::VMCALL, Said::default()), Exit::Hypercall);
    assert_eq!(exit(reason::HLT, Said::default()), Exit::Halt);
    assert_eq!(exit(reason::PREEMPTION_TIMER, Said::default()), Exit::QuantumEnd);
    let interrupt = Said { interruption: 0x8000_0031, ..Said::default() };
    assert_eq!(exit(reason::EXTERNAL_INTERRUPT, interrupt), Exit::Interrupt { vector: 0x31 });
}

#[test]
fn a_bus_lock_comes_alone_or_beside_another_reason() {
    assert_eq!(bus_lock(u64::from(reason::BUS_LOCK)), (74, true));
    assert_eq!(bus_lock(1 << 26 | 74), (74, true));
    assert_eq!(exit(74, Said::default()), Exit::Served);
    for other in [reason::VMCALL, reason::HLT, reason::EXTERNAL_INTERRUPT, reason::EPT_VIOLATION] {
        let other = u64::from(other);
        assert_eq!((bus_lock(other), bus_lock(1 << 26 | other)), ((other, false), (other, true)));
    }
    let failed = u64::from(ENTRY_FAILED | reason::INVALID_GUEST_STATE);
    assert_eq!((bus_lock(failed), bus_lock(FAILED)), ((failed, false), (FAILED, false)));
}

#[test]
fn memory_faults() {
    for (qualification, access, present) in [
        (0x181, Access::Read, false),
        (0x182, Access::Write, false),
        (0x184, Access::Execute, false),
        (0x18a, Access::Write, true),   // read-only
        (0x1aa, Access::Write, true),   // read and execute
        (0x19c, Access::Execute, true), // read and write
        (0x083, Access::Write, false),  // a walk of guest tables with accessed and dirty bits
        (0x1002, Access::Write, false), // bit 12: NMI unblocking
    ] {
        let said = Said { qualification, guest_physical: 0x1234_5678, ..Said::default() };
        let expected = Exit::MemoryFault { address: 0x1234_5678, access, present };
        assert_eq!(exit(reason::EPT_VIOLATION, said), expected, "{qualification:#x}");
    }
}

#[test]
fn exceptions() {
    let said = Said { interruption: 0x8000_0b0e, interruption_error: 6, qualification: 0xdead_b000, ..Said::default() };
    let exit = full(0, 0, &said);
    assert_eq!(exit, (Exit::Exception { vector: 14, error_code: 6, address: 0xdead_b000 }, false));

    // #UD has neither an error code nor an address, whatever is in the fields.
    let said = Said { interruption: 0x8000_0306, interruption_error: 6, qualification: 1, ..Said::default() };
    assert_eq!(full(0, 0, &said), (Exit::Exception { vector: 6, error_code: 0, address: 0 }, false));
    // A single step: the qualification is about DR6, and RIP is behind the instruction already.
    let said = Said { interruption: 0x8000_0301, qualification: 0x4000, ..Said::default() };
    assert_eq!(full(0, 0, &said), (Exit::Exception { vector: 1, error_code: 0, address: 0 }, false));
    // int3 and icebp: RIP has to be moved.
    let said = Said { interruption: 0x8000_0603, ..Said::default() };
    assert_eq!(full(0, 0, &said), (Exit::Exception { vector: 3, error_code: 0, address: 0 }, true));
    let said = Said { interruption: 0x8000_0501, ..Said::default() };
    assert_eq!(full(0, 0, &said), (Exit::Exception { vector: 1, error_code: 0, address: 0 }, true));

    assert_eq!(full(0, 0, &Said { interruption: 0x8000_0202, ..Said::default() }), (Exit::Nmi, false));
    assert_eq!(full(0, 0, &Said { interruption: 0x8000_0312, ..Said::default() }), (Exit::MachineCheck, false));
    let in_entry = 1 << 31 | u64::from(reason::MACHINE_CHECK_IN_ENTRY);
    assert_eq!(full(in_entry, 0, &Said::default()), (Exit::MachineCheck, false));
}

#[test]
fn an_exception_during_an_exception_is_the_first() {
    let during = |vectoring| Said {
        interruption: 0x8000_0b0d,
        interruption_error: 0x10,
        vectoring,
        vectoring_error: 2,
        qualification: 0x5000,
        ..Said::default()
    };
    let page_fault = Exit::Exception { vector: 14, error_code: 2, address: 0x5000 };
    assert_eq!(full(0, 0, &during(0x8000_0b0e)), (page_fault, false));
    let breakpoint = Exit::Exception { vector: 3, error_code: 0, address: 0 };
    assert_eq!(full(0, 0, &during(0x8000_0603)), (breakpoint, true));
    // INT 0x80 (kind 4), which the guest has no gate for, and leftovers that are not valid.
    let protection = Exit::Exception { vector: 13, error_code: 0x10, address: 0 };
    assert_eq!(full(0, 0, &during(0x8000_0480)), (protection, false));
    assert_eq!(full(0, 0, &during(0x0000_0b0e)), (protection, false));
}

#[test]
fn refused_instructions_have_a_class_and_a_detail() {
    let q = |qualification| Said { qualification, ..Said::default() };
    assert_eq!(exit(10, q(0)), Exit::Refused { class: refused::CPUID, detail: 0x8000_0001 });
    assert_eq!(exit(31, q(0)), Exit::Refused { class: refused::MSR, detail: 0x10 });
    assert_eq!(exit(32, q(0)), Exit::Refused { class: refused::MSR, detail: 0x10 });
    for (reasons, class) in [
        (&[30][..], refused::PORT),
        (&[28, 55], refused::CONTROL),
        (&[46, 47], refused::DESCRIPTOR),
        (&[29], refused::DEBUG),
        (&[13, 15, 17, 36, 39, 40, 54], refused::OTHER),
        (&[11, 19, 20, 21, 22, 23, 24, 25, 26, 27, 50, 53, 59, 60, 70, 76, 77], refused::VIRTUALIZATION),
    ] {
        for &reason in reasons {
            assert_eq!(exit(reason, q(0x77)), Exit::Refused { class, detail: 0x77 }, "reason {reason}");
        }
    }
    assert_eq!(exit(2, q(0)), Exit::TripleFault);
}

#[test]
fn every_reason_has_an_answer() {
    for reason in 0..=0xffff {
        let answer = exit(reason, Said { interruption: 0x8000_0306, qualification: 5, ..Said::default() });
        assert!(!matches!(answer, Exit::EntryFailure { .. }));
        if matches!(reason, 3..=9 | 14 | 16 | 33..=35 | 37 | 38 | 41..=45 | 49 | 51 | 56..=58 | 61..=69 | 71..=73 | 75 | 78..)
        {
            assert_eq!(answer, Exit::Unknown { reason, detail: 5 });
        } else {
            assert!(!matches!(answer, Exit::Unknown { .. }), "{reason}");
        }
    }
}

#[test]
fn entries_that_fail() {
    let said = Said { qualification: 3, instruction_error: 7, ..Said::default() };
    let error = 1 << 31 | 33;
    assert_eq!(full(error.into(), 0, &said).0, Exit::EntryFailure { error, detail: 3 });

    let failed = |resume_error, launch_error| {
        full(FAILED, resume_error, &Said { instruction_error: launch_error, ..Said::default() }).0
    };
    // Not launched yet (VMRESUME says 5): VMLAUNCH knows why.
    assert_eq!(failed(5, 7), Exit::EntryFailure { error: 7, detail: 0 });
    // Launched (VMLAUNCH says 4): VMRESUME knows why.
    assert_eq!(failed(8, 4), Exit::EntryFailure { error: 8, detail: 0 });
    assert_eq!(full(FAILED | 1, 0, &said).0, Exit::EntryFailure { error: 0, detail: 0 });
}
