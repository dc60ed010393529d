//! What there is to commit, and what must come of it. The machine tests read this same file, so it knows nothing of a guest.

use abi::end::EndReason;
use abi::guest::refused;

/// A group of crimes; after each group the tests ask all other guests whether they still answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Instructions that the virtual architecture does not have.
    Instructions,
    /// Exceptions, and processor states that could upset an entry.
    Exceptions,
    /// Addresses, page tables, stacks.
    Memory,
    /// Hypercalls.
    Hypercalls,
    /// Upcalls, fault handlers, the register page.
    Entries,
    /// Indices and records in the rings.
    Rings,
    /// The same in the rings of a virtual disk, which the VM needs for it.
    Disk,
    /// Frames that a guest may not send.
    Frames,
    /// What is left behind for the next VM.
    Leaks,
    /// What programs do wrong without meaning to.
    Mistakes,
    /// Whatever takes all that it can get.
    Floods,
}

impl Family {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Instructions => "instructions",
            Family::Exceptions => "exceptions",
            Family::Memory => "memory",
            Family::Hypercalls => "hypercalls",
            Family::Entries => "entries",
            Family::Rings => "rings",
            Family::Disk => "disk",
            Family::Frames => "frames",
            Family::Leaks => "leaks",
            Family::Mistakes => "mistakes",
            Family::Floods => "floods",
        }
    }
}

/// What must come of a crime.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    /// Nothing: the guest goes on, and what it checked is as it should be.
    Nothing,
    /// The guest's fault handler is entered with `FAULT_REFUSED` and this class.
    Refused(u32),
    /// The guest's fault handler is entered with this vector.
    Exception(u32),
    /// The guest's fault handler is entered with `FAULT_ADDRESS`.
    Address,
    /// The guest's fault handler is entered with `FAULT_NULL`.
    Null,
    /// The guest's fault handler is entered with `FAULT_GUARD`.
    Guard,
    /// The guest's fault handler is entered with `FAULT_RIGHTS`, for a write.
    ReadOnly,
    /// The guest's fault handler is entered with `FAULT_RIGHTS`, for an instruction fetch.
    NoCode,
    /// The guest's library says this, and ends the VM.
    Told(&'static str),
    /// The VM ends, for one of these reasons.
    Ends(&'static [EndReason]),
    /// The guest goes on with it until it is destroyed.
    Runs,
}

/// A crime.
#[derive(Clone, Copy, Debug)]
pub struct Crime {
    /// What it is called in `crime=NAME` and `/crime/NAME`.
    pub name: &'static str,
    /// Its group.
    pub family: Family,
    /// What it does.
    pub what: &'static str,
    /// What must come of it when the guest has a fault handler.
    pub expect: Expect,
}

impl Crime {
    /// The reasons for which a VM that commits it ends when it has no fault handler (boot argument `bare`). Empty when it
    /// makes no difference.
    #[allow(dead_code)] // The guest does not ask.
    pub const fn ends_without_handler(&self) -> &'static [EndReason] {
        match self.expect {
            Expect::Refused(_) => &[EndReason::RefusedInstruction],
            Expect::Exception(_) => &[EndReason::UnhandledFault],
            Expect::Address => &[EndReason::BadAddress],
            Expect::Null => &[EndReason::NullPointer],
            Expect::Guard => &[EndReason::GuardPage],
            Expect::ReadOnly => &[EndReason::WroteReadOnly],
            Expect::NoCode => &[EndReason::ExecutedData],
            Expect::Nothing | Expect::Told(_) | Expect::Ends(_) | Expect::Runs => &[],
        }
    }

    /// What the guest says when what must come has come, behind `hostile: NAME: `. `None` when it does not live to say it.
    pub const fn verdict(&self) -> Option<&'static str> {
        Some(match self.expect {
            Expect::Nothing => "contained (without effect)",
            Expect::Refused(refused::CPUID) => "contained (refused: CPUID)",
            Expect::Refused(refused::MSR) => "contained (refused: MSR)",
            Expect::Refused(refused::PORT) => "contained (refused: port)",
            Expect::Refused(refused::CONTROL) => "contained (refused: control register)",
            Expect::Refused(refused::DESCRIPTOR) => "contained (refused: descriptor table)",
            Expect::Refused(refused::DEBUG) => "contained (refused: debug register)",
            Expect::Refused(refused::VIRTUALIZATION) => "contained (refused: virtualization)",
            Expect::Refused(_) => "contained (refused: other)",
            Expect::Exception(DIVIDE) => "contained (exception 0)",
            Expect::Exception(DEBUG) => "contained (exception 1)",
            Expect::Exception(BREAKPOINT) => "contained (exception 3)",
            Expect::Exception(INVALID_OPCODE) => "contained (exception 6)",
            Expect::Exception(STACK) => "contained (exception 12)",
            Expect::Exception(PROTECTION) => "contained (exception 13)",
            Expect::Exception(PAGE) => "contained (exception 14)",
            Expect::Exception(X87) => "contained (exception 16)",
            Expect::Exception(SIMD) => "contained (exception 19)",
            Expect::Exception(_) => "contained (another exception)",
            Expect::Address => "contained (address beyond its memory)",
            Expect::Null => "contained (null pointer)",
            Expect::Guard => "contained (guard page)",
            Expect::ReadOnly => "contained (write to code or constants)",
            Expect::NoCode => "contained (execution of data)",
            Expect::Runs => "started",
            Expect::Ends(_) | Expect::Told(_) => return None,
        })
    }
}

const fn crime(family: Family, name: &'static str, expect: Expect, what: &'static str) -> Crime {
    Crime { name, family, what, expect }
}

use Expect::{Address, Ends, Exception, Guard, NoCode, Nothing, Null, ReadOnly, Refused, Runs, Told};
use Family::{Disk, Entries, Exceptions, Floods, Frames, Hypercalls, Instructions, Leaks, Memory, Mistakes, Rings};

/// #DB, #BP and so on (SDM vol. 3, table 6-1).
mod vector {
    pub const DIVIDE: u32 = 0;
    pub const DEBUG: u32 = 1;
    pub const BREAKPOINT: u32 = 3;
    pub const INVALID_OPCODE: u32 = 6;
    pub const STACK: u32 = 12;
    pub const PROTECTION: u32 = 13;
    pub const PAGE: u32 = 14;
    pub const X87: u32 = 16;
    pub const SIMD: u32 = 19;
}
use vector::{BREAKPOINT, DEBUG, DIVIDE, INVALID_OPCODE, PAGE, PROTECTION, SIMD, STACK, X87};

const NESTED: Expect = Ends(&[EndReason::NestedFault]);
const OVERFLOW: &str = "stack overflow: more than 32768 bytes;";
const BAD_UPCALL: Expect = Ends(&[EndReason::BadUpcall]);
const EXITED: Expect = Ends(&[EndReason::Exited]);

/// All crimes.
pub const CRIMES: &[Crime] = &[
    crime(Instructions, "cpuid", Refused(refused::CPUID), "CPUID leaf 0"),
    crime(
        Instructions,
        "cpuid-hypervisor",
        Refused(refused::CPUID),
        "CPUID leaf 40000000h, where hypervisors name themselves",
    ),
    crime(Instructions, "rdmsr-efer", Refused(refused::MSR), "RDMSR of IA32_EFER"),
    crime(Instructions, "rdmsr-unknown", Refused(refused::MSR), "RDMSR of an MSR that no processor has"),
    crime(Instructions, "rdmsr-x2apic", Refused(refused::MSR), "RDMSR of the local APIC's id"),
    crime(Instructions, "wrmsr-efer", Refused(refused::MSR), "WRMSR that ends long mode"),
    crime(Instructions, "wrmsr-lstar", Refused(refused::MSR), "WRMSR of the core's system-call entry"),
    crime(Instructions, "wrmsr-apic-base", Refused(refused::MSR), "WRMSR that moves the local APIC"),
    crime(Instructions, "wrmsr-x2apic-init", Refused(refused::MSR), "WRMSR that sends INIT to every processor"),
    crime(Instructions, "wrmsr-feature-control", Refused(refused::MSR), "WRMSR of IA32_FEATURE_CONTROL"),
    crime(Instructions, "in-80", Refused(refused::PORT), "IN from port 80h"),
    crime(Instructions, "out-80", Refused(refused::PORT), "OUT to port 80h"),
    crime(Instructions, "out-serial", Refused(refused::PORT), "OUT to the serial line, to forge the log"),
    crime(Instructions, "out-e9", Refused(refused::PORT), "OUT to port E9h, to forge the log"),
    crime(
        Instructions,
        "out-keyboard-reset",
        Refused(refused::PORT),
        "OUT of FEh to port 64h, which resets the machine",
    ),
    crime(Instructions, "out-cf9-reset", Refused(refused::PORT), "OUT of 6 to port CF9h, which resets the machine"),
    crime(Instructions, "out-pci-config", Refused(refused::PORT), "32-bit OUT to the PCI configuration address"),
    crime(Instructions, "in-pci-config", Refused(refused::PORT), "32-bit IN from the PCI configuration data"),
    crime(Instructions, "outs-power-off", Refused(refused::PORT), "REP OUTSB of \"Shutdown\" to port 8900h"),
    crime(Instructions, "ins-serial", Refused(refused::PORT), "REP INSB of 2^63 bytes from the serial line"),
    crime(Instructions, "out-every-port", Nothing, "IN and OUT at each of the 65,536 ports; every one is refused"),
    crime(Instructions, "mov-cr0-paging-off", Refused(refused::CONTROL), "MOV to CR0 without PG"),
    crime(Instructions, "mov-cr0-cache-off", Refused(refused::CONTROL), "MOV to CR0 with CD"),
    crime(Instructions, "mov-cr4", Refused(refused::CONTROL), "MOV to CR4 with MCE and PCE"),
    crime(Instructions, "mov-cr4-vmxe", Refused(refused::CONTROL), "MOV to CR4 with VMXE"),
    crime(Instructions, "mov-cr8", Refused(refused::CONTROL), "MOV to CR8, which masks interrupts"),
    crime(Instructions, "read-cr8", Refused(refused::CONTROL), "MOV from CR8"),
    crime(Instructions, "clts", Nothing, "CLTS, which changes nothing"),
    crime(Instructions, "lmsw", Refused(refused::CONTROL), "LMSW that sets EM"),
    crime(Instructions, "xsetbv", Refused(refused::CONTROL), "XSETBV of XCR0"),
    crime(Instructions, "lgdt", Refused(refused::DESCRIPTOR), "LGDT"),
    crime(Instructions, "lidt", Refused(refused::DESCRIPTOR), "LIDT"),
    crime(Instructions, "lldt", Refused(refused::DESCRIPTOR), "LLDT"),
    crime(Instructions, "ltr", Refused(refused::DESCRIPTOR), "LTR"),
    crime(Instructions, "sgdt", Refused(refused::DESCRIPTOR), "SGDT"),
    crime(Instructions, "sidt", Refused(refused::DESCRIPTOR), "SIDT"),
    crime(Instructions, "sldt", Refused(refused::DESCRIPTOR), "SLDT"),
    crime(Instructions, "str", Refused(refused::DESCRIPTOR), "STR"),
    crime(Instructions, "mov-to-dr", Refused(refused::DEBUG), "MOV to DR7"),
    crime(Instructions, "mov-from-dr", Refused(refused::DEBUG), "MOV from DR0"),
    crime(Instructions, "invd", Refused(refused::OTHER), "INVD, which would lose what others have written"),
    crime(Instructions, "wbinvd", Refused(refused::OTHER), "WBINVD"),
    crime(Instructions, "monitor", Refused(refused::OTHER), "MONITOR"),
    crime(Instructions, "mwait", Refused(refused::OTHER), "MWAIT"),
    crime(Instructions, "rdpmc", Refused(refused::OTHER), "RDPMC"),
    crime(Instructions, "vmxon", Refused(refused::VIRTUALIZATION), "VMXON"),
    crime(Instructions, "vmxoff", Refused(refused::VIRTUALIZATION), "VMXOFF"),
    crime(Instructions, "vmlaunch", Refused(refused::VIRTUALIZATION), "VMLAUNCH"),
    crime(Instructions, "vmresume", Refused(refused::VIRTUALIZATION), "VMRESUME"),
    crime(Instructions, "vmread", Refused(refused::VIRTUALIZATION), "VMREAD"),
    crime(Instructions, "vmwrite", Refused(refused::VIRTUALIZATION), "VMWRITE"),
    crime(Instructions, "vmptrld", Refused(refused::VIRTUALIZATION), "VMPTRLD"),
    crime(Instructions, "vmptrst", Refused(refused::VIRTUALIZATION), "VMPTRST"),
    crime(Instructions, "vmclear", Refused(refused::VIRTUALIZATION), "VMCLEAR"),
    crime(Instructions, "invept", Refused(refused::VIRTUALIZATION), "INVEPT"),
    crime(Instructions, "invvpid", Refused(refused::VIRTUALIZATION), "INVVPID"),
    crime(Instructions, "vmfunc", Exception(INVALID_OPCODE), "VMFUNC"),
    crime(Instructions, "vmmcall", Exception(INVALID_OPCODE), "VMMCALL, another maker's VMCALL"),
    crime(Instructions, "getsec", Exception(INVALID_OPCODE), "GETSEC"),
    crime(Instructions, "rsm", Exception(INVALID_OPCODE), "RSM"),
    crime(Instructions, "rdtscp", Exception(INVALID_OPCODE), "RDTSCP, which would tell the processor's number"),
    crime(Instructions, "rdpid", Exception(INVALID_OPCODE), "RDPID, likewise"),
    crime(Instructions, "invpcid", Exception(INVALID_OPCODE), "INVPCID"),
    crime(Instructions, "xsaves", Exception(INVALID_OPCODE), "XSAVES"),
    crime(Instructions, "wrpkru", Exception(INVALID_OPCODE), "WRPKRU"),
    crime(Instructions, "syscall", Exception(INVALID_OPCODE), "SYSCALL"),
    crime(Instructions, "sysret", Exception(INVALID_OPCODE), "SYSRET"),
    crime(Instructions, "sysenter", Exception(PROTECTION), "SYSENTER"),
    crime(Instructions, "sysexit", Exception(PROTECTION), "SYSEXIT"),
    crime(
        Instructions,
        "swapgs",
        Nothing,
        "SWAPGS: what comes is no address of the core, and the core survives what goes",
    ),
    crime(
        Instructions,
        "permitted",
        Nothing,
        "SMSW, LMSW of what is there, XGETBV, INVLPG, MOV to CR2, CLI, STI, PAUSE, LAR and others that are a guest's own business",
    ),
    crime(Instructions, "hlt", Nothing, "HLT: idle until the alarm"),
    crime(Exceptions, "ud2", Exception(INVALID_OPCODE), "UD2"),
    crime(Exceptions, "divide", Exception(DIVIDE), "a division by zero"),
    crime(Exceptions, "int3", Exception(BREAKPOINT), "INT3"),
    crime(Exceptions, "int-80", Exception(PROTECTION), "INT 80h without an IDT"),
    crime(Exceptions, "int-2", Exception(PROTECTION), "INT 2, to look like an NMI"),
    crime(Exceptions, "int-18", Exception(PROTECTION), "INT 18, to look like a machine check"),
    crime(Exceptions, "icebp", Exception(DEBUG), "INT1"),
    crime(Exceptions, "single-step", Exception(DEBUG), "the trap flag"),
    crime(Exceptions, "single-step-vmcall", Exception(DEBUG), "the trap flag over a hypercall"),
    crime(Exceptions, "x87-error", Exception(X87), "an unmasked x87 error"),
    crime(Exceptions, "simd-error", Exception(SIMD), "an unmasked SIMD error"),
    crime(Exceptions, "iretq-junk", Exception(PROTECTION), "IRETQ from a stack of junk"),
    crime(Exceptions, "far-jump", Exception(PROTECTION), "a far jump through a selector that there is not"),
    crime(Exceptions, "far-return", Exception(PROTECTION), "a far return to ring 3"),
    crime(Exceptions, "load-ss", Exception(PROTECTION), "MOV to SS of a selector that there is not"),
    crime(Exceptions, "load-ds", Exception(PROTECTION), "MOV to DS of a selector that there is not"),
    crime(Exceptions, "lock-prefix", Exception(INVALID_OPCODE), "LOCK before an instruction that cannot have it"),
    crime(Exceptions, "long-instruction", Exception(PROTECTION), "an instruction of sixteen bytes"),
    crime(Exceptions, "null-segments", Nothing, "null selectors in all data segments and SS, then hypercalls"),
    crime(Exceptions, "flags", Nothing, "every flag that POPF sets but the trap flag, then hypercalls"),
    crime(Exceptions, "sti-vmcall", Nothing, "hypercalls in the shadow of STI"),
    crime(Exceptions, "mov-ss-vmcall", Nothing, "hypercalls in the shadow of MOV SS"),
    crime(Exceptions, "mov-ss-int3", Exception(BREAKPOINT), "INT3 in the shadow of MOV SS"),
    crime(Exceptions, "mov-ss-step-ud2", Exception(INVALID_OPCODE), "UD2 in the shadow of MOV SS, with the trap flag"),
    crime(Memory, "read-beyond", Address, "a read beyond the memory"),
    crime(Memory, "write-beyond", Address, "a write beyond the memory"),
    crime(Memory, "execute-beyond", Address, "a jump beyond the memory"),
    crime(Memory, "read-across-end", Address, "a read of eight bytes of which four are beyond the memory"),
    crime(Memory, "read-apic", Exception(PAGE), "a read of the local APIC's registers"),
    crime(Memory, "map-apic", Address, "the same through page tables that map it"),
    crime(
        Memory,
        "map-everything",
        Nothing,
        "page tables that map 256 GiB; every gibibyte beyond the memory is refused",
    ),
    crime(Memory, "read-unmapped", Exception(PAGE), "a read where the page tables have nothing"),
    crime(Memory, "jump-unmapped", Exception(PAGE), "a jump to where the page tables have nothing"),
    crime(Memory, "read-non-canonical", Exception(PROTECTION), "a read of an address that is none"),
    crime(Memory, "write-non-canonical", Exception(PROTECTION), "a write to an address that is none"),
    crime(Memory, "jump-non-canonical", Exception(PROTECTION), "a jump to an address that is none"),
    crime(Memory, "push-non-canonical", Exception(STACK), "a push onto a stack that is none"),
    crime(Memory, "read-core", Exception(PAGE), "a read where the core lies in its own address space"),
    crime(Memory, "jump-data", NoCode, "a jump into data"),
    crime(Memory, "jump-nic", NoCode, "a jump into a ring that somebody else can write to"),
    crime(Memory, "read-null", Null, "a read of the page at address 0"),
    crime(Memory, "write-null", Null, "a write to the page at address 0"),
    crime(Memory, "jump-null", Null, "a jump into the page at address 0"),
    crime(Memory, "read-guard", Guard, "a read of the hole below its stack"),
    crime(Memory, "self-modify", ReadOnly, "it changes its own code"),
    crime(Memory, "probe-text", Nothing, "it looks whether the code that another VM wanted to change is as it was"),
    crime(Memory, "reserved-bits", Exception(PAGE), "a page-table entry with reserved bits"),
    crime(Memory, "cr3-reserved", Exception(PROTECTION), "MOV to CR3 with reserved bits"),
    crime(Memory, "cr3-beyond", NESTED, "page tables beyond the memory: its fault handler cannot be reached either"),
    crime(Memory, "no-page-tables", NESTED, "page tables of zeros: its fault handler cannot be reached either"),
    crime(Memory, "tables-in-a-loop", Nothing, "a page table that is its own next level"),
    crime(
        Memory,
        "vmcall-remapped",
        Nothing,
        "a hypercall where the guest's page tables put another instruction, and back",
    ),
    crime(Memory, "stack-overflow", Guard, "it pushes until its stack is full"),
    crime(Memory, "memory-hog", Nothing, "it writes to every page that it has"),
    crime(Memory, "memory-hoard", Nothing, "it takes every page that it can get, and keeps it"),
    crime(
        Memory,
        "memory-noise",
        Nothing,
        "it fills pages with what cannot be compressed, and finds it there the next time",
    ),
    crime(
        Memory,
        "memory-patterns",
        Nothing,
        "it writes something of its own to every page that it has, and finds it there the next time",
    ),
    crime(Memory, "fresh-memory", Nothing, "it looks whether its memory is zero after a VM that filled its own"),
    crime(Mistakes, "overflow-32k", Told(OVERFLOW), "32 KiB on a stack of as much"),
    crime(Mistakes, "overflow-64k", Told(OVERFLOW), "64 KiB on a stack of half as much"),
    crime(Mistakes, "overflow-256k", Told(OVERFLOW), "256 KiB on the stack, more than the guard below has"),
    crime(Mistakes, "overflow-4m", Told(OVERFLOW), "4 MiB on the stack, more than there is between address 0 and it"),
    crime(Mistakes, "endless-recursion", Told(OVERFLOW), "a function that calls itself for ever"),
    crime(Mistakes, "null-read", Told("null pointer: read of address 0x10;"), "a read through a null pointer"),
    crime(Mistakes, "null-write", Told("null pointer: write to address 0x10;"), "a write through a null pointer"),
    crime(Mistakes, "null-call", Told("null pointer: call or jump to address 0x0;"), "a call of a null pointer"),
    crime(Mistakes, "call-data", Told("call or jump into data at address 0x"), "a call of what is data"),
    crime(Mistakes, "write-code", Told("write to code or constants at address 0x"), "a write to its own code"),
    crime(Mistakes, "exhausted-heap", Told("out of memory: memory allocation of "), "more memory than the heap has"),
    crime(Mistakes, "double-free", Told("double free: 64 bytes at 0x"), "memory that is freed twice"),
    crime(Hypercalls, "unknown", Nothing, "numbers that are no hypercall; each is an error"),
    crime(Hypercalls, "bad-devices", Nothing, "KICK of devices that there are not"),
    crime(
        Hypercalls,
        "give-back-refused",
        Nothing,
        "GIVE_BACK of register page, page tables, NIC, and of pages beyond the memory",
    ),
    crime(
        Hypercalls,
        "take-refused",
        Nothing,
        "TAKE of the hole at 0, of its own code, beyond the memory, of 2^64 pages",
    ),
    crime(Hypercalls, "give-back-code", Nothing, "GIVE_BACK of its own code, constants and heap"),
    crime(Hypercalls, "give-back-stack", Nothing, "GIVE_BACK of the page that its stack pointer is in"),
    crime(Hypercalls, "give-back-all", EXITED, "GIVE_BACK of everything that can be given back, its code included"),
    crime(Hypercalls, "give-back-huge", Nothing, "GIVE_BACK of 2^64 pages, and of ranges that wrap around"),
    crime(Hypercalls, "registers", Nothing, "a pattern in all registers survives hypercalls, but for RAX"),
    crime(Hypercalls, "alarm-past", Nothing, "10,000 alarms that are due already"),
    crime(Hypercalls, "alarm-sweep", Nothing, "alarms at 0, 2^64-1 and near every power of two"),
    crime(Hypercalls, "idle-past", Nothing, "10,000 idles until a time that has gone by"),
    crime(Hypercalls, "kick-storm", Nothing, "10,000 kicks of each device"),
    crime(Hypercalls, "exit-code", EXITED, "EXIT with a code of 64 bits"),
    crime(Hypercalls, "fault-return-outside", Nothing, "FAULT_RETURN where there is no fault: an error"),
    crime(
        Hypercalls,
        "upcall-return-outside",
        Nothing,
        "UPCALL_RETURN without an upcall, to a place of its own choice",
    ),
    crime(Entries, "fault-entry-non-canonical", BAD_UPCALL, "a fault handler at an address that is none"),
    crime(Entries, "fault-entry-beyond", NESTED, "a fault handler beyond the memory"),
    crime(Entries, "fault-stack-beyond", NESTED, "a fault handler whose stack is beyond the memory"),
    crime(Entries, "fault-in-handler", NESTED, "a fault handler that faults"),
    crime(Entries, "in-fault-forged", NESTED, "a fault handler that clears `in_fault` and faults"),
    crime(Entries, "in-fault-set", Exception(INVALID_OPCODE), "it sets `in_fault` and faults"),
    crime(Entries, "fault-return-non-canonical", BAD_UPCALL, "FAULT_RETURN to an address that is none"),
    crime(Entries, "fault-return-flags", Nothing, "FAULT_RETURN with every flag set but the trap flag"),
    crime(Entries, "upcall-entry-non-canonical", BAD_UPCALL, "an upcall entry at an address that is none"),
    crime(Entries, "upcall-entry-beyond", Address, "an upcall entry beyond the memory"),
    crime(Entries, "upcall-stack-beyond", Address, "an upcall whose stack is beyond the memory"),
    crime(Entries, "upcall-return-non-canonical", BAD_UPCALL, "UPCALL_RETURN to an address that is none"),
    crime(Entries, "register-page-noise", Nothing, "noise all over the register page, between hypercalls"),
    crime(Rings, "tx-tail-ahead", Nothing, "a transmit ring whose tail is 2^31 ahead"),
    crime(Rings, "tx-tail-behind", Nothing, "a transmit ring whose tail lies behind its head"),
    crime(Rings, "tx-epoch", Nothing, "epochs that were never there"),
    crime(Rings, "tx-records", Nothing, "records whose header makes no sense"),
    crime(Rings, "tx-noise", Nothing, "noise in all transmit slots and indices"),
    crime(Rings, "tx-wrap", Nothing, "a transmit ring that goes on at slot 0, honestly, and as it cannot"),
    crime(
        Rings,
        "tx-pages",
        Nothing,
        "pages of the transmit ring that were never stored to, are given back, or are stored to while they go",
    ),
    crime(Rings, "rx-wrap", Nothing, "a receive ring whose wrap word is overwritten"),
    crime(Rings, "rx-head-ahead", Nothing, "a receive ring whose head is ahead of its tail"),
    crime(Rings, "rx-head-behind", Nothing, "a receive ring whose head is 2^31 behind"),
    crime(Rings, "rx-producer-words", Nothing, "it overwrites the words of the receive ring that are the other end's"),
    crime(Rings, "nic-page-noise", Nothing, "noise all over the NIC page"),
    crime(Rings, "console-tail-ahead", Nothing, "a console ring whose tail is 2^31 ahead"),
    crime(Rings, "console-noise", Nothing, "noise in the console ring"),
    crime(Rings, "console-endless-line", Nothing, "a line on the console that never ends"),
    crime(
        Rings,
        "control-ring",
        Nothing,
        "requests to switch the machine off and to end others, where only VMs that control the machine have a ring for them",
    ),
    crime(
        Frames,
        "own-frame",
        Nothing,
        "a frame that is in order; it is sent, so the others are refused for what is wrong with them",
    ),
    crime(Frames, "spoofed-mac", Nothing, "a frame from another MAC address"),
    crime(Frames, "spoofed-ipv4", Nothing, "a packet from another IPv4 address"),
    crime(Frames, "spoofed-arp", Nothing, "an ARP answer for another's address"),
    crime(Frames, "spoofed-arp-mac", Nothing, "an ARP answer with another's MAC address in it"),
    crime(Frames, "spoofed-ipv6", Nothing, "a packet from another IPv6 address"),
    crime(Frames, "vlan", Nothing, "a frame with a VLAN tag"),
    crime(Frames, "runt", Nothing, "frames of 0 to 13 bytes"),
    crime(Frames, "oversized", Nothing, "a frame of 1,515 bytes, and one of 8,000"),
    crime(Frames, "dhcp-server", Nothing, "it plays the DHCP server"),
    crime(Frames, "router-advertisement", Nothing, "it plays the IPv6 router"),
    crime(Frames, "neighbour-advertisement", Nothing, "it answers for another's IPv6 address"),
    crime(Frames, "bad-ip-headers", Nothing, "IPv4 headers of version 9, of length 4, and cut off"),
    crime(
        Leaks,
        "leave-state",
        Runs,
        "it fills x87, SSE, AVX, GS bases, CR2 and its memory, and watches that they stay its own",
    ),
    crime(Leaks, "find-state", Nothing, "it looks for what other VMs have left in registers"),
    crime(Disk, "disk-tail", Nothing, "a ring of requests whose tail is ahead, and behind its head"),
    crime(
        Disk,
        "disk-head",
        Nothing,
        "a ring of completions whose head is ahead of its tail, and behind, while requests end",
    ),
    crime(Disk, "disk-epoch", Nothing, "epochs and indices of both rings that were never there"),
    crime(Disk, "disk-orders", Nothing, "requests that are none, and slots that there are not"),
    crime(
        Disk,
        "disk-blocks",
        Nothing,
        "blocks behind its own disk, where those of others lie, whatever its page says",
    ),
    crime(Disk, "disk-noise", Nothing, "noise all over the disk page, its rings and its slots"),
    crime(Floods, "loop", Runs, "an endless loop with interrupts off"),
    crime(Floods, "hypercall-flood", Runs, "hypercalls without end"),
    crime(Floods, "idle-flood", Runs, "idles until the past without end"),
    crime(Floods, "kick-flood", Runs, "kicks without end"),
    crime(Floods, "alarm-flood", Runs, "alarms in the past without end, with upcalls"),
    crime(Floods, "fault-flood", Runs, "faults without end"),
    crime(Floods, "page-flood", Runs, "pages touched and given back without end"),
    crime(Floods, "console-flood", Runs, "lines on the console without end"),
    crime(Floods, "broadcast-flood", Runs, "broadcasts without end"),
    crime(Floods, "datagram-flood", Runs, "datagrams without end to another VM"),
    crime(Floods, "wire-flood", Runs, "datagrams without end to somebody outside"),
];

/// The crime of this name.
pub fn find(name: &str) -> Option<&'static Crime> {
    CRIMES.iter().find(|crime| crime.name == name)
}
