//! Instructions that the virtual architecture does not have, and those that only look as if they were dangerous.

use super::{Deed, Escape, a_page, acts};
use crate::catch::{Caught, attempt};
use crate::machine::{hypercall, peek64, scratch, set32, set64, tsc};
use crate::register;
use abi::guest::{FAULT_REFUSED, MAGIC, REGISTER_PAGE, RegisterPage, hypercall, pending, refused};
use core::arch::naked_asm;
use core::mem::offset_of;

acts! {
    "cpuid" => cpuid: "xor eax, eax", "cpuid";
    "cpuid-hypervisor" => cpuid_hypervisor: "mov eax, 0x40000000", "cpuid";
    "rdmsr-efer" => rdmsr_efer: "mov ecx, 0xc0000080", "rdmsr";
    "rdmsr-unknown" => rdmsr_unknown: "mov ecx, 0xdeadbeef", "rdmsr";
    "rdmsr-x2apic" => rdmsr_x2apic: "mov ecx, 0x802", "rdmsr";
    "wrmsr-efer" => wrmsr_efer: "mov ecx, 0xc0000080", "xor eax, eax", "xor edx, edx", "wrmsr";
    "wrmsr-lstar" => wrmsr_lstar: "mov ecx, 0xc0000082", "mov eax, edi", "xor edx, edx", "wrmsr";
    "wrmsr-apic-base" => wrmsr_apic_base: "mov ecx, 0x1b", "mov eax, 0x900", "xor edx, edx", "wrmsr";
    "wrmsr-x2apic-init" => wrmsr_x2apic_init: "mov ecx, 0x830", "mov eax, 0xc4500", "xor edx, edx", "wrmsr";
    "wrmsr-feature-control" => wrmsr_feature_control: "mov ecx, 0x3a", "xor eax, eax", "xor edx, edx", "wrmsr";
    "in-80" => in_80: "in al, 0x80";
    "out-80" => out_80: "out 0x80, al";
    "out-serial" => out_serial: "mov edx, 0x3f8", "mov al, 0x21", "out dx, al";
    "out-e9" => out_e9: "mov al, 0x21", "out 0xe9, al";
    "out-keyboard-reset" => out_keyboard_reset: "mov al, 0xfe", "out 0x64, al";
    "out-cf9-reset" => out_cf9_reset: "mov edx, 0xcf9", "mov al, 6", "out dx, al";
    "out-pci-config" => out_pci_config: "mov edx, 0xcf8", "mov eax, 0x80000004", "out dx, eax";
    "in-pci-config" => in_pci_config: "mov edx, 0xcfc", "in eax, dx";
    "outs-power-off" => outs_power_off:
        "lea rsi, [rip + 2f]", "mov ecx, 8", "mov edx, 0x8900", "cld", "rep outsb", "ret", "2: .ascii \"Shutdown\"";
    "ins-serial" => ins_serial: "mov edx, 0x3f8", "mov rcx, 0x7fffffffffffffff", "cld", "rep insb";
    "mov-cr0-paging-off" => mov_cr0_paging_off: "mov rax, cr0", "btr rax, 31", "mov cr0, rax";
    "mov-cr0-cache-off" => mov_cr0_cache_off: "mov rax, cr0", "bts rax, 30", "mov cr0, rax";
    "mov-cr4" => mov_cr4: "mov rax, cr4", "or rax, 0x140", "mov cr4, rax";
    "mov-cr4-vmxe" => mov_cr4_vmxe: "mov rax, cr4", "bts rax, 13", "mov cr4, rax";
    "mov-cr8" => mov_cr8: "mov eax, 15", "mov cr8, rax";
    "read-cr8" => read_cr8: "mov rax, cr8";
    "clts" => clts: "clts";
    "lmsw" => lmsw: "smsw ax", "or ax, 4", "lmsw ax";
    "xsetbv" => xsetbv: "xor ecx, ecx", "xgetbv", "xsetbv";
    "lgdt" => lgdt: "lgdt [rdi]";
    "lidt" => lidt: "lidt [rdi]";
    "lldt" => lldt: "xor eax, eax", "lldt ax";
    "ltr" => ltr: "mov eax, 0x18", "ltr ax";
    "sgdt" => sgdt: "sgdt [rdi]";
    "sidt" => sidt: "sidt [rdi]";
    "sldt" => sldt: "sldt eax";
    "str" => str_register: "str eax";
    "mov-to-dr" => mov_to_dr: "mov eax, 0x400", "mov dr7, rax";
    "mov-from-dr" => mov_from_dr: "mov rax, dr0";
    "invd" => invd: "invd";
    "wbinvd" => wbinvd: "wbinvd";
    "monitor" => monitor: "mov rax, rdi", "xor ecx, ecx", "xor edx, edx", "monitor";
    "mwait" => mwait: "xor eax, eax", "xor ecx, ecx", "mwait";
    "rdpmc" => rdpmc: "xor ecx, ecx", "rdpmc";
    "vmxon" => vmxon: "vmxon [rdi]";
    "vmxoff" => vmxoff: "vmxoff";
    "vmlaunch" => vmlaunch: "vmlaunch";
    "vmresume" => vmresume: "vmresume";
    "vmread" => vmread: "mov ecx, 0x681e", "vmread rax, rcx";
    "vmwrite" => vmwrite: "mov ecx, 0x681e", "vmwrite rcx, rdi";
    "vmptrld" => vmptrld: "vmptrld [rdi]";
    "vmptrst" => vmptrst: "vmptrst [rdi]";
    "vmclear" => vmclear: "vmclear [rdi]";
    "invept" => invept: "mov eax, 2", "invept rax, [rdi]";
    "invvpid" => invvpid: "mov eax, 2", "invvpid rax, [rdi]";
    "vmfunc" => vmfunc: "xor eax, eax", "xor ecx, ecx", "vmfunc";
    "vmmcall" => vmmcall: ".byte 0x0f, 0x01, 0xd9";
    "getsec" => getsec: "xor eax, eax", ".byte 0x0f, 0x37";
    "rsm" => rsm: ".byte 0x0f, 0xaa";
    "rdtscp" => rdtscp: "rdtscp";
    "rdpid" => rdpid: ".byte 0xf3, 0x0f, 0xc7, 0xf8";
    "invpcid" => invpcid: "mov eax, 2", "invpcid rax, [rdi]";
    "xsaves" => xsaves: "xor eax, eax", "xor edx, edx", "xsaves64 [rdi]";
    "wrpkru" => wrpkru: "xor eax, eax", "xor ecx, ecx", "xor edx, edx", ".byte 0x0f, 0x01, 0xef";
    "syscall" => syscall: "syscall";
    "sysret" => sysret: "mov rcx, rdi", "mov r11d, 2", "sysretq";
    "sysenter" => sysenter: "sysenter";
    "sysexit" => sysexit: "mov rcx, rsp", "mov rdx, rdi", "sysexit";
}

/// How the crime of this name is committed.
pub fn deed(name: &str) -> Option<Deed> {
    Some(match name {
        "out-every-port" => Deed::Check(every_port),
        "swapgs" => Deed::Check(swap_gs),
        "permitted" => Deed::Check(permitted),
        "hlt" => Deed::Check(halt),
        _ => return act(name).map(|act| Deed::Act(act, a_page)),
    })
}

#[unsafe(naked)]
unsafe extern "sysv64" fn in_byte(_: u64) {
    naked_asm!("mov edx, edi", "in al, dx", "ret")
}

#[unsafe(naked)]
unsafe extern "sysv64" fn out_byte(_: u64) {
    naked_asm!("mov edx, edi", "xor eax, eax", "out dx, al", "ret")
}

fn every_port() -> Result<(), Escape> {
    for port in 0..=u64::from(u16::MAX) {
        for act in [in_byte, out_byte] {
            match attempt(act, port) {
                Some(Caught { vector: FAULT_REFUSED, code: refused::PORT, .. }) => {}
                _ => return Escape::because("a port was not refused", port),
            }
        }
    }
    Ok(())
}

/// What lies as far behind the GS base that SWAPGS brings as the register page's magic lies behind 0, the base that a guest starts with.
#[unsafe(naked)]
unsafe extern "sysv64" fn swap_and_read(_: u64) {
    naked_asm!(
        "swapgs",
        "mov rax, gs:[{magic}]",
        "mov [rdi], rax",
        "swapgs",
        "ret",
        magic = const REGISTER_PAGE + offset_of!(RegisterPage, magic) as u64,
    )
}

/// Swaps a base of its own in, lets the core and others work, and swaps it out.
#[unsafe(naked)]
unsafe extern "sysv64" fn swap_and_call(_: u64) {
    naked_asm!(
        "mov r15, rdi",
        "mov rax, 0x00005a5a5a5a5000",
        "wrgsbase rax",
        "swapgs",
        "xor eax, eax",
        "vmcall",
        "mov eax, {idle}",
        "xor edi, edi",
        "vmcall",
        "swapgs",
        "rdgsbase rax",
        "mov [r15], rax",
        "xor eax, eax",
        "wrgsbase rax",
        "ret",
        idle = const hypercall::IDLE,
    )
}

fn swap_gs() -> Result<(), Escape> {
    let place = scratch(0);
    match attempt(swap_and_read, place) {
        None => Escape::unless(peek64(place) == MAGIC, "the swapped GS base is not 0: its place holds", peek64(place))?,
        Some(caught) => return Escape::because("the swapped GS base is not 0: it leads to", caught.address),
    }
    match attempt(swap_and_call, place) {
        None => Escape::unless(peek64(place) == 0x5a5a_5a5a_5000, "the GS base was lost", peek64(place)),
        // A processor without these instructions.
        Some(Caught { vector: 6, .. }) => Ok(()),
        Some(caught) => Escape::because("a fault while the GS bases were swapped", caught.vector.into()),
    }
}

#[unsafe(naked)]
unsafe extern "sysv64" fn own_business(_: u64) {
    naked_asm!(
        "smsw eax",
        "lmsw ax",
        "mov rax, cr0",
        "mov cr0, rax",
        "mov rax, cr4",
        "mov cr4, rax",
        "mov rax, cr3",
        "mov cr3, rax",
        "mov rax, cr2",
        "mov cr2, rax",
        "xor ecx, ecx",
        "xgetbv",
        "invlpg [rdi]",
        "cli",
        "sti",
        "pause",
        "cli",
        "mov eax, 0x28",
        "lar ecx, eax",
        "lsl ecx, eax",
        "verr ax",
        "verw ax",
        "clflush [rdi]",
        "mfence",
        "rdtsc",
        "std",
        "cld",
        "ret",
    )
}

fn permitted() -> Result<(), Escape> {
    for _ in 0..100 {
        Escape::unless_quiet(attempt(own_business, scratch(0)), "a fault")?;
    }
    Ok(())
}

#[unsafe(naked)]
unsafe extern "sysv64" fn hlt(_: u64) {
    naked_asm!("hlt", "ret")
}

fn halt() -> Result<(), Escape> {
    const TICKS: u64 = 50_000;
    set32(register!(upcalls_on), 0);
    set64(register!(enabled), pending::ALARM);
    set64(register!(pending), 0);
    let start = tsc();
    hypercall(hypercall::ALARM, start + TICKS, 0);
    Escape::unless_quiet(attempt(hlt, 0), "a fault")?;
    let slept = tsc() - start;
    Escape::unless(slept >= TICKS, "it woke before the alarm, after", slept)?;
    Escape::unless(peek64(register!(pending)) & pending::ALARM != 0, "no alarm is pending", peek64(register!(pending)))
}
