//! What a component can do wrong, and what must come of it. The machine tests read this same file, so it knows nothing of a
//! component.

/// What must come of a deed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It is killed for an exception: vector, error code.
    Fault(u8, u64),
    /// It is killed for overrunning its budget.
    Overrun,
    /// It ends itself with this code.
    Exit(u64),
}

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    ReadUnmapped,
    WriteText,
    ExecuteStack,
    Panic,
    Loop,
    Halt,
    Rdmsr,
    PortIn,
    PortOut,
    Exit,
    ReadCore,
    WriteInformation,
    JumpNowhere,
    Interrupt,
    Divide,
    Undefined,
    VectorRegister,
    StackOverflow,
    SingleStep,
    LoadCr3,
    BadCalls,
    BadFlags,
    RingsOnes,
    RingsForetell,
    RingsTurnBack,
}

/// Code with which it ends itself after a deed that is no reason to kill it.
pub const SURVIVED: u64 = 0x600d;
/// Code of a deed that did not go as documented; the line before says how.
#[allow(dead_code)] // The tests want never to see it.
pub const ESCAPED: u64 = 0xbad;
/// Code of [`Deed::Exit`].
pub const EXIT_CODE: u64 = 77;
/// Code of a component that panics (`component::EXIT_PANIC`).
const PANIC: u64 = 101;

const fn fault(vector: u8, error: u64) -> Expect {
    Expect::Fault(vector, error)
}

/// The deed of incarnation `i` is entry `i - 1`; behind the last the component behaves. Error codes of page faults: bit 0
/// present, 1 write, 2 user, 4 instruction (SDM vol. 3, 4.7).
pub const DEEDS: &[(Deed, Expect)] = &[
    (Deed::ReadUnmapped, fault(14, 0x4)),
    (Deed::WriteText, fault(14, 0x7)),
    (Deed::ExecuteStack, fault(14, 0x15)),
    (Deed::Panic, Expect::Exit(PANIC)),
    (Deed::Loop, Expect::Overrun),
    (Deed::Halt, fault(13, 0)),
    (Deed::Rdmsr, fault(13, 0)),
    (Deed::PortIn, fault(13, 0)),
    (Deed::PortOut, fault(13, 0)),
    (Deed::Exit, Expect::Exit(EXIT_CODE)),
    (Deed::ReadCore, fault(14, 0x5)),
    (Deed::WriteInformation, fault(14, 0x7)),
    (Deed::JumpNowhere, fault(13, 0)),
    // Vector 0x80 in the IDT: index, bit 1 (SDM vol. 3, 6.13).
    (Deed::Interrupt, fault(13, 0x80 << 3 | 2)),
    (Deed::Divide, fault(0, 0)),
    (Deed::Undefined, fault(6, 0)),
    // The last guest's state is in the vector registers: "device not available".
    (Deed::VectorRegister, fault(7, 0)),
    (Deed::StackOverflow, fault(14, 0x6)),
    (Deed::SingleStep, fault(1, 0)),
    (Deed::LoadCr3, fault(13, 0)),
    (Deed::BadCalls, Expect::Exit(SURVIVED)),
    (Deed::BadFlags, Expect::Exit(SURVIVED)),
    (Deed::RingsOnes, Expect::Exit(SURVIVED)),
    (Deed::RingsForetell, Expect::Exit(SURVIVED)),
    (Deed::RingsTurnBack, Expect::Exit(SURVIVED)),
];
