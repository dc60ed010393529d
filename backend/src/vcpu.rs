//! A guest's processor as the core sees it.

use crate::{Backend, Exit, Interrupted, NotCanonical};
use abi::vcpu::{BadState, General, VcpuState};
use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;

/// The guest's general registers as the entry and exit assembly stores them; RIP, RSP and RFLAGS are in [`Interrupted`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // The registers' names say it.
pub struct GeneralRegisters {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
}

/// Assembly that takes a guest's registers from RBX on out of [`GeneralRegisters`], in which RSP points to RBX.
#[macro_export]
macro_rules! pop_registers {
    () => {
        concat!(
            "pop rbx\n",
            "pop rcx\n",
            "pop rdx\n",
            "pop rsi\n",
            "pop rdi\n",
            "pop rbp\n",
            "pop r8\n",
            "pop r9\n",
            "pop r10\n",
            "pop r11\n",
            "pop r12\n",
            "pop r13\n",
            "pop r14\n",
            "pop r15\n",
        )
    };
}

/// Assembly that puts a guest's registers from R15 down to RBX into [`GeneralRegisters`], to the end of which RSP points.
#[macro_export]
macro_rules! push_registers {
    () => {
        concat!(
            "push r15\n",
            "push r14\n",
            "push r13\n",
            "push r12\n",
            "push r11\n",
            "push r10\n",
            "push r9\n",
            "push r8\n",
            "push rbp\n",
            "push rdi\n",
            "push rsi\n",
            "push rdx\n",
            "push rcx\n",
            "push rbx\n",
        )
    };
}

impl GeneralRegisters {
    /// As a [`VcpuState`] has them.
    pub fn export(&self, rsp: u64) -> General {
        let &GeneralRegisters { rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15 } = self;
        General { rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15 }
    }
}

impl From<&General> for GeneralRegisters {
    fn from(general: &General) -> GeneralRegisters {
        let &General { rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp: _, r8, r9, r10, r11, r12, r13, r14, r15 } = general;
        GeneralRegisters { rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15 }
    }
}

/// What a guest's processor starts with.
#[derive(Debug)]
pub struct VcpuConfig<'a, T> {
    /// Physical address of the frame for the machine's control structure.
    pub frame: u64,
    /// The same frame, mapped.
    pub frame_pointer: NonNull<u8>,
    /// The VM's slot; no two VMs that live have the same.
    pub slot: u32,
    /// Its nested page tables.
    pub tables: &'a T,
    /// First instruction (linear = guest-physical).
    pub entry: u64,
    /// Guest-physical address of its top page table.
    pub page_tables: u64,
    /// RDI at the start.
    pub argument: u64,
    /// Guest's TSC = TSC + this (modulo 2^64).
    pub tsc_offset: u64,
}

/// A guest's memory, for a backend that has to look at an instruction because the CPU does not say enough.
///
/// # Safety
/// The page that `page` returns can be read until the guest's [`crate::Tables`] are flushed ([`Backend::flush`]) or its
/// [`Vcpu`] is released, whichever comes first.
pub unsafe trait GuestMemory {
    /// What is mapped at the page of the guest-physical `address` now, or `None`.
    fn page(&self, address: u64) -> Option<NonNull<[AtomicU64; 512]>>;
}

/// One guest's processor. Its memory, all zeros, is a valid value that is not initialised yet.
pub trait Vcpu {
    /// The CPU that runs it.
    type Cpu: Backend<Vcpu = Self>;

    /// Set everything for a guest that starts at `entry` in 64-bit mode, CPL 0, all registers 0 but RDI, and
    /// RFLAGS.IF, which means nothing to it, set.
    ///
    /// # Errors
    /// [`Backend::Error`] when the CPU refuses; the processor is then as before `init`.
    ///
    /// # Safety
    /// Until [`Vcpu::release`]: `self` stays where it is, the frame is used by nobody else, and the tables live.
    unsafe fn init(
        &mut self,
        cpu: &mut Self::Cpu,
        config: &VcpuConfig<'_, <Self::Cpu as Backend>::Tables>,
    ) -> Result<(), <Self::Cpu as Backend>::Error>;
    /// The guest's general registers.
    fn registers(&mut self) -> &mut GeneralRegisters;
    /// Enter, for at most `ticks` of the TSC where [`Backend::ENDS_QUANTUM`]; return why it came back. Interrupts are off.
    fn run(&mut self, cpu: &mut Self::Cpu, ticks: u64) -> Exit;
    /// What an [`Exit::Exception`] or [`Exit::Refused`] of [`Vcpu::run`] turns out to be when one looks at the instruction.
    /// CPUs of different makers do different things with the same instruction; behind this call they do the same. To be
    /// called before anything else is done about such an exit.
    #[inline]
    fn interpret(&mut self, cpu: &mut Self::Cpu, exit: Exit, memory: &impl GuestMemory) -> Exit {
        let _ = (cpu, memory);
        exit
    }
    /// Where the guest is.
    fn position(&self, cpu: &mut Self::Cpu) -> Interrupted;
    /// Let the guest go on elsewhere. Of the flags only what [`Interrupted::rflags`] names is taken.
    ///
    /// # Errors
    /// [`NotCanonical`] when `rip` is no address; nothing has changed. (An IRET there would raise #GP.)
    fn set_position(&mut self, cpu: &mut Self::Cpu, position: &Interrupted) -> Result<(), NotCanonical>;
    /// Let the guest go on behind the instruction that made it exit.
    fn skip_instruction(&mut self, cpu: &mut Self::Cpu);
    /// Put all that the guest's processor holds into `to`. `tsc` is the TSC now, the core's.
    fn export(&mut self, cpu: &mut Self::Cpu, tsc: u64, to: &mut VcpuState);
    /// Let the guest go on from a state, which anybody may have written; its TSC goes on as it did.
    ///
    /// # Errors
    /// [`BadState`]; nothing has changed. What a processor finds out only when it enters the guest, as a CR3 beyond its physical addresses,
    /// is a failure of that entry.
    fn import(&mut self, cpu: &mut Self::Cpu, from: &VcpuState) -> Result<(), BadState>;
    /// Bus locks that the guest has taken since its start, where the CPU says so: accesses that keep all other CPUs and devices from memory for a while.
    fn bus_locks(&self) -> u32;
    /// The guest does not run again: the CPU forgets it, and no longer uses its frames.
    fn release(&mut self, cpu: &mut Self::Cpu);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_register_keeps_its_name() {
        let registers = GeneralRegisters {
            rax: 1,
            rbx: 2,
            rcx: 3,
            rdx: 4,
            rsi: 5,
            rdi: 6,
            rbp: 7,
            r8: 8,
            r9: 9,
            r10: 10,
            r11: 11,
            r12: 12,
            r13: 13,
            r14: 14,
            r15: 15,
        };
        let general = registers.export(16);
        let low = [general.rax, general.rbx, general.rcx, general.rdx, general.rsi, general.rdi, general.rbp];
        let high =
            [general.r8, general.r9, general.r10, general.r11, general.r12, general.r13, general.r14, general.r15];
        assert_eq!((low, high, general.rsp), ([1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12, 13, 14, 15], 16));
        assert_eq!(GeneralRegisters::from(&general), registers);
    }
}
