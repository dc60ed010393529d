//! One step: in, and back again whatever becomes of it.

use crate::machine::{Pages, hypercall, load, store, tsc};
use crate::world;
use abi::guest::{PAGE_TABLES, REGISTER_PAGE, RegisterPage, hypercall as number, pending};
use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};
use guest_fuzz::act::{Act, Call, Places, REGISTERS, Store, Touch, Trigger};

/// Address of a field of the register page.
macro_rules! register {
    ($name:ident) => {
        REGISTER_PAGE + offset_of!(RegisterPage, $name) as u64
    };
}

/// Parts of a second that a step may take.
const STEPS_PER_SECOND: u64 = 500;
/// Lines that a VM may log in a second, less some.
const LINES_PER_SECOND: u64 = 40;
/// Steps after which page tables are made anew.
const MENDED_EVERY: u64 = 256;

static FAULT_STACK: Pages<1> = Pages::new();
static UPCALL_STACK: Pages<1> = Pages::new();

/// What the step starts with: general registers in the order of [`Act::Execute`], RFLAGS, RIP, CR3.
#[repr(C)]
struct Context(UnsafeCell<[u64; REGISTERS + 3]>);

// SAFETY: one thread, which writes it only while no step runs.
unsafe impl Sync for Context {}

static CONTEXT: Context = Context(UnsafeCell::new([0; REGISTERS + 3]));
/// RSP inside of `enter`, for the way back.
static KEPT_RSP: AtomicU64 = AtomicU64::new(0);
/// 1 while a step runs.
static RUNS: AtomicU64 = AtomicU64::new(0);
/// How steps ended that did not go through: faults, alarms.
static FAULTS: AtomicU64 = AtomicU64::new(0);
static ALARMS: AtomicU64 = AtomicU64::new(0);

/// Takes steps.
pub struct Steps {
    places: Places,
    /// Ticks that a step may take.
    patience: u64,
    taken: u64,
    /// Steps that ended in a fault.
    pub faults: u64,
    /// Steps that the alarm ended.
    pub alarms: u64,
}

impl Steps {
    /// `None` when there are no instructions in the image.
    pub fn new() -> Option<Steps> {
        let patience = load(register!(tsc_hz)) / STEPS_PER_SECOND;
        Some(Steps { places: world::make()?, patience, taken: 0, faults: 0, alarms: 0 })
    }

    /// Where things are.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Waits as long as the log needs for a line of each step.
    pub fn pause(&self) {
        let start = tsc();
        while tsc() - start < self.patience * (STEPS_PER_SECOND / LINES_PER_SECOND) {}
    }

    /// Takes a step.
    pub fn take(&mut self, act: &Act) {
        self.taken += 1;
        if self.taken.is_multiple_of(MENDED_EVERY) {
            world::mend(&self.places);
        }
        self.prepare();
        match *act {
            Act::Execute { offset, registers, flags } => {
                self.enter(&registers, flags, self.places.corpus + u64::from(offset))
            }
            Act::Call(call) => self.call(call),
            Act::Registers(stores, trigger) => {
                self.write(&stores);
                match trigger {
                    Trigger::Call(call) => self.call(call),
                    Trigger::Fault => self.enter(&[0; REGISTERS], 2, code(undefined)),
                }
            }
            Act::Rings(stores, call) => {
                self.write(&stores);
                self.call(call);
            }
            Act::Tables(stores, address, touch) => {
                self.write(&stores);
                let mut registers = [0; REGISTERS];
                registers[5] = address;
                registers[REGISTERS - 1] = self.places.scratch + 2048;
                let entry = match touch {
                    Touch::Read => code(read),
                    Touch::Write => code(write),
                    Touch::Execute => code(execute),
                    Touch::Invalidate => code(invalidate),
                    Touch::Load => code(load_cr3),
                };
                self.enter(&registers, 2, entry);
            }
        }
        self.faults = FAULTS.load(Ordering::Relaxed);
        self.alarms = ALARMS.load(Ordering::Relaxed);
    }

    /// Has faults and the alarm come back to us.
    fn prepare(&self) {
        // SAFETY: all in the register page.
        unsafe {
            store(register!(fault_stack), FAULT_STACK.address() + 4096, 8);
            store(register!(fault_entry), code(on_fault), 8);
            store(register!(upcall_stack), UPCALL_STACK.address() + 4096, 8);
            store(register!(upcall_entry), code(on_upcall), 8);
            store(register!(enabled), pending::ALARM, 8);
            store(register!(upcalls_on), 1, 4);
        }
        let now = tsc();
        // Never, past, or too late: what the page says may be a step's, so it is only believed when it is near.
        if load(register!(alarm)).wrapping_sub(now) > self.patience || self.taken.is_multiple_of(64) {
            hypercall(number::ALARM, now + self.patience);
        }
    }

    fn write(&self, stores: &[Store]) {
        for at in stores.iter().filter(|at| at.bytes != 0) {
            // SAFETY: the library draws places in the register page, the NIC's pages and the random page tables.
            unsafe { store(at.address, at.value, at.bytes) };
        }
    }

    fn call(&self, call: Call) {
        let mut registers = [0; REGISTERS];
        registers[0] = call.number;
        registers[5] = call.second;
        registers[6] = if call.soon { tsc().wrapping_add(call.first) } else { call.first };
        registers[REGISTERS - 1] = self.places.scratch + 2048;
        self.enter(&registers, 2, code(vmcall));
    }

    fn enter(&self, registers: &[u64; REGISTERS], flags: u64, rip: u64) {
        // SAFETY: no step runs, and nobody else has a pointer to it.
        let context = unsafe { &mut *CONTEXT.0.get() };
        context[..REGISTERS].copy_from_slice(registers);
        context[REGISTERS] = flags;
        context[REGISTERS + 1] = rip;
        context[REGISTERS + 2] = self.places.root;
        // SAFETY: it keeps what the calling convention keeps; under the step's page tables nothing of Rust's can be written.
        unsafe { enter() };
    }
}

fn code(function: unsafe extern "sysv64" fn()) -> u64 {
    u64::try_from((function as *const ()).expose_provenance()).unwrap_or(0)
}

macro_rules! stubs {
    ($($name:ident: $($line:literal),+;)*) => {
        $(#[unsafe(naked)]
        unsafe extern "sysv64" fn $name() {
            naked_asm!($($line),+, "int3")
        })*
    };
}

stubs! {
    vmcall: "vmcall";
    undefined: "ud2";
    read: "mov rax, [rsi]";
    write: "mov [rsi], rax";
    execute: "call rsi";
    invalidate: "invlpg [rsi]", "mov rax, [rsi]";
    load_cr3: "mov cr3, rsi", "mov rax, [rsi]";
}

/// Runs a step from [`CONTEXT`]. Returns when it has faulted or the alarm has found it.
#[unsafe(naked)]
unsafe extern "sysv64" fn enter() {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rip + {kept}], rsp",
        "push qword ptr [rip + {context} + 16 * 8]",
        "mov qword ptr [rip + {runs}], 1",
        "mov rax, [rip + {context} + 18 * 8]",
        "popfq",
        "mov cr3, rax",
        "mov rax, [rip + {context}]",
        "mov rcx, [rip + {context} + 8]",
        "mov rdx, [rip + {context} + 2 * 8]",
        "mov rbx, [rip + {context} + 3 * 8]",
        "mov rbp, [rip + {context} + 4 * 8]",
        "mov rsi, [rip + {context} + 5 * 8]",
        "mov rdi, [rip + {context} + 6 * 8]",
        "mov r8, [rip + {context} + 7 * 8]",
        "mov r9, [rip + {context} + 8 * 8]",
        "mov r10, [rip + {context} + 9 * 8]",
        "mov r11, [rip + {context} + 10 * 8]",
        "mov r12, [rip + {context} + 11 * 8]",
        "mov r13, [rip + {context} + 12 * 8]",
        "mov r14, [rip + {context} + 13 * 8]",
        "mov r15, [rip + {context} + 14 * 8]",
        "mov rsp, [rip + {context} + 15 * 8]",
        "jmp qword ptr [rip + {context} + 17 * 8]",
        kept = sym KEPT_RSP,
        runs = sym RUNS,
        context = sym CONTEXT,
    )
}

/// Where the core enters on a fault. Registers are the step's.
#[unsafe(naked)]
unsafe extern "sysv64" fn on_fault() {
    naked_asm!(
        // A fault of the guest itself: there is nothing to go on with.
        "cmp qword ptr [rip + {runs}], 1",
        "jne 9f",
        "mov eax, {tables}",
        "mov cr3, rax",
        "inc qword ptr [rip + {faults}]",
        "jmp {back}",
        "9:",
        "mov eax, {exit}",
        "mov edi, 3",
        "vmcall",
        "ud2",
        runs = sym RUNS,
        faults = sym FAULTS,
        tables = const PAGE_TABLES,
        exit = const number::EXIT,
        back = sym back,
    )
}

/// Where the core enters when the alarm was due.
#[unsafe(naked)]
unsafe extern "sysv64" fn on_upcall() {
    naked_asm!(
        "lock and qword ptr [{pending}], 0",
        "cmp qword ptr [rip + {runs}], 1",
        "jne 9f",
        "mov eax, {tables}",
        "mov cr3, rax",
        "inc qword ptr [rip + {alarms}]",
        "jmp {back}",
        // Between two steps.
        "9:",
        "mov eax, {upcall_return}",
        "vmcall",
        "ud2",
        runs = sym RUNS,
        alarms = sym ALARMS,
        pending = const register!(pending),
        tables = const PAGE_TABLES,
        upcall_return = const number::UPCALL_RETURN,
        back = sym back,
    )
}

/// Ends the step, under the guest's own page tables: has the core forget that a fault handler runs, if it does, and returns from [`enter`].
#[unsafe(naked)]
unsafe extern "sysv64" fn back() {
    naked_asm!(
        "mov rsp, [rip + {kept}]",
        "mov qword ptr [rip + {runs}], 0",
        "lea rax, [rip + 5f]",
        "mov [{rip}], rax",
        "mov [{rsp}], rsp",
        "mov qword ptr [{rflags}], 2",
        "mov eax, {fault_return}",
        "vmcall",
        "5:",
        "cld",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        kept = sym KEPT_RSP,
        runs = sym RUNS,
        rip = const REGISTER_PAGE + offset_of!(RegisterPage, fault) as u64,
        rsp = const REGISTER_PAGE + offset_of!(RegisterPage, fault) as u64 + 8,
        rflags = const REGISTER_PAGE + offset_of!(RegisterPage, fault) as u64 + 16,
        fault_return = const number::FAULT_RETURN,
    )
}
