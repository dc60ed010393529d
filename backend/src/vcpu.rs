//! A guest's processor as the core sees it.

use abi::vcpu::General;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;

/// The guest's general registers as the entry and exit assembly stores them; RIP, RSP and RFLAGS are in [`crate::Interrupted`].
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
    /// As a [`crate::VcpuState`] has them.
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
/// The page that `page` returns can be read until the guest's [`crate::Tables`] are flushed ([`crate::Backend::flush`]) or its
/// [`crate::Vcpu`] is released, whichever comes first.
pub unsafe trait GuestMemory {
    /// What is mapped at the page of the guest-physical `address` now, or `None`.
    fn page(&self, address: u64) -> Option<NonNull<[AtomicU64; 512]>>;
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
