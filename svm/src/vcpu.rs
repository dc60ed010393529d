//! A guest's processor on SVM.

use crate::code::Code;
use crate::cr;
use crate::entry::Crossing;
use crate::exit::{self, code};
use crate::instruction::{self, Instruction};
use crate::npt::Npt;
use crate::svm::Svm;
use crate::vmcb::{CLEAN, Segment, Vmcb, tlb, virtual_interrupt};
use crate::{entry, linear};
use abi::guest::refused;
use backend::xstate::State;
use backend::{
    BadState, Exit, GeneralRegisters, GuestMemory, Interrupted, Layout, NotCanonical, Tag, Vcpu, VcpuConfig, VcpuState,
    filter_flags, is_canonical,
};
use core::convert::Infallible;
use core::ptr;

#[cfg(feature = "selftest")]
#[path = "corruption.rs"]
mod corruption;

/// Bytes that the core has for an [`SvmVcpu`].
pub const VCPU_BYTES: usize = 3712;

/// What the core keeps of a guest's processor beside the VMCB. It is entered where it lies: see [`Vcpu::init`].
#[repr(C, align(64))]
pub struct SvmVcpu {
    /// What entries and exits go by.
    crossing: Crossing,
    /// Where `init` found this value to lie: exits push to there.
    home: usize,
    /// RIP behind the instruction that exited, where `skip_instruction` may be asked for.
    next: u64,
    /// Bus locks that the guest has taken.
    bus_locks: u32,
    /// Something in the VMCB has changed that the CPU may have kept.
    changed: bool,
    /// By which the CPU knows its translations.
    tag: Tag,
    code: Code,
    state: State,
}

const _: () = assert!(size_of::<SvmVcpu>() <= VCPU_BYTES);

/// Write-back whatever a guest's page tables say (APM vol. 2, 7.8.2): under nested paging the stricter of the guest's type and the nested tables'
/// counts (15.25.8), and nobody else may find a shared or golden frame uncached.
const PAT: u64 = 0x0606_0606_0606_0606;
/// Vectors.
const DEBUG: u8 = 1;
const BREAKPOINT: u8 = 3;
const INVALID_OPCODE: u8 = 6;
const PROTECTION: u8 = 13;
/// Bytes of HLT where the CPU does not say how long it was. A prefix, which nobody writes, makes it one that begins in its
/// own middle.
const HLT_BYTES: u64 = 1;
/// Bytes of VMCALL, which is one only without a prefix.
const VMCALL_BYTES: u64 = 3;

impl SvmVcpu {
    #[inline]
    fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// Nothing that was found by the tables holds any more: neither translations nor the frames of code.
    pub(crate) fn forget(&mut self) {
        self.tag = Tag::NONE;
        self.code.clear();
    }

    /// The VMCB; `None` before `init` and after `release`.
    #[inline(always)]
    fn vmcb(&mut self) -> Option<&mut Vmcb> {
        // SAFETY: null, or the frame that `init` was given, which is a VMCB and this value's alone until `release`. The CPU
        // uses it only inside `entry::enter`.
        unsafe { self.crossing.vmcb.as_mut() }
    }

    /// Make this the guest that can be entered at once, in one step or two: what the CPU has to read or forget at the next
    /// entry has to be taken back behind it, so such an entry leaves `active` unset. `false` when it cannot be entered.
    #[cold]
    #[inline(never)]
    fn activate(&mut self, cpu: &mut Svm) -> bool {
        // Moved since `init`, or never initialised: exits would push the registers to where nothing is.
        let address = self.address();
        if self.home != address {
            return false;
        }
        // SAFETY: `init`'s contract keeps this value in place until `release` disowns the state.
        unsafe { cpu.own(&raw mut self.state) };
        let mut settled = !core::mem::take(&mut self.changed);
        if !cpu.tags.holds(self.tag) {
            self.tag = cpu.tags.assign();
            settled = false;
        }
        let tag = self.tag.number();
        let flush = cpu.tags.take_flush();
        settled &= !flush;
        let clean = if cpu.plan.clean_bits { CLEAN } else { 0 };
        let Some(vmcb) = self.vmcb() else { return false };
        let control = &mut vmcb.control;
        control.tag = tag;
        control.tlb_control = if flush { tlb::FLUSH_ALL } else { tlb::KEEP };
        control.clean = if settled { clean } else { 0 };
        cpu.active = if settled { address } else { 0 };
        if cpu.is_guarded {
            cpu.carry_out();
        }
        true
    }

    /// What the exit is.
    #[inline(always)]
    fn serve(&mut self, cpu: &mut Svm, raw: u64) -> Exit {
        if raw == code::INVALID_OPCODE {
            // SAFETY: not null, for it has just been used. `init` has cleared `code`, and an instruction was at RIP.
            let (rip, is_vmcall) = unsafe {
                let save = &(*self.crossing.vmcb).save;
                (save.rip, self.code.is_vmcall(save.rip, save.cr3))
            };
            if is_vmcall {
                self.next = rip.wrapping_add(VMCALL_BYTES);
                return Exit::Hypercall;
            }
        }
        self.other_exit(cpu, raw)
    }

    /// Enter where every exit comes with barriers. Only behind [`SvmVcpu::activate`].
    #[cold]
    #[inline(never)]
    fn run_with_barriers(&mut self, cpu: &mut Svm) -> Exit {
        // SAFETY: as in `run`.
        let raw = unsafe { entry::enter_with_barriers(&raw mut self.crossing) };
        self.serve(cpu, raw)
    }

    #[inline(never)]
    fn other_exit(&mut self, cpu: &mut Svm, raw: u64) -> Exit {
        if raw == code::BUS_LOCK {
            self.bus_locks = self.bus_locks.saturating_add(1);
            // The next one, which is this one again, may pass.
            (self.changed, cpu.active) = (true, 0);
            if let Some(vmcb) = self.vmcb() {
                vmcb.control.bus_locks = 1;
            }
        }
        let registers = self.crossing.registers;
        let Some(vmcb) = self.vmcb() else { return NO_VMCB };
        if (raw == code::INVALID || raw == code::INVALID_32) && vmcb.control.tlb_control != tlb::KEEP {
            cpu.tags.flush_failed();
        }
        let (exit, behind) = exit::decode(&vmcb.control, &registers);
        let rip = vmcb.save.rip;
        if exit == Exit::Halt {
            let saved = vmcb.control.next_rip;
            self.next = if saved != 0 { saved } else { rip.wrapping_add(HLT_BYTES) };
            return exit;
        }
        if behind && vmcb.control.next_rip != 0 {
            vmcb.save.rip = vmcb.control.next_rip;
        }
        exit
    }

    /// #UD: a hypercall, or what an instruction of the other maker's does there, or what it looks like.
    fn invalid_opcode<M: GuestMemory>(&mut self, exit: Exit, memory: &M) -> Exit {
        let Some((rip, cr3)) = self.vmcb().map(|vmcb| (vmcb.save.rip, vmcb.save.cr3)) else { return exit };
        match fetch(memory, rip, cr3).0 {
            Instruction::Vmcall => {
                if let Some((bytes, path)) = linear::locate(memory, cr3, rip) {
                    // SAFETY: `GuestMemory` keeps the pages readable until the tables are flushed, by `forget`, which clears the
                    // places; or until `release`, which clears them, too.
                    unsafe { self.code.remember(rip, cr3, bytes, path) };
                }
                self.next = rip.wrapping_add(VMCALL_BYTES);
                Exit::Hypercall
            }
            Instruction::Vtx => Exit::Refused { class: refused::VIRTUALIZATION, detail: 0 },
            Instruction::Sysenter => Exit::Exception { vector: PROTECTION, error_code: 0, address: 0 },
            // Emulated CPUs may not have it.
            Instruction::Int1 => {
                self.trap(memory);
                Exit::Exception { vector: DEBUG, error_code: 0, address: 0 }
            }
            _ => exit,
        }
    }

    /// INT n, for which there is no gate. Emulated CPUs take INT3 for one, and have an error code of their own for them.
    fn software_interrupt<M: GuestMemory>(&mut self, vector: u8, memory: &M) -> Exit {
        if vector == BREAKPOINT
            && let Some((rip, cr3)) = self.vmcb().map(|vmcb| (vmcb.save.rip, vmcb.save.cr3))
            && fetch(memory, rip, cr3).0 == Instruction::Breakpoint
        {
            self.trap(memory);
            return Exit::Exception { vector: BREAKPOINT, error_code: 0, address: 0 };
        }
        // Bit 1: the rest is the number of a gate (APM vol. 2, 8.4.1).
        Exit::Exception { vector: PROTECTION, error_code: u32::from(vector) << 3 | 2, address: 0 }
    }

    /// #GP: CPUs that look at the value before they look whether the write exits raise it for bits that cannot be.
    fn protection<M: GuestMemory>(&mut self, exit: Exit, memory: &M) -> Exit {
        let Some((rip, cr3)) = self.vmcb().map(|vmcb| (vmcb.save.rip, vmcb.save.cr3)) else { return exit };
        match fetch(memory, rip, cr3).0 {
            Instruction::MovToControl { control: 0 | 4, .. } => Exit::Refused { class: refused::CONTROL, detail: 0 },
            _ => exit,
        }
    }

    /// A write of a control register: one that changes nothing is the guest's own business.
    fn control_write<M: GuestMemory>(&mut self, exit: Exit, memory: &M) -> Exit {
        let registers = self.crossing.registers;
        let Some(vmcb) = self.vmcb() else { return exit };
        let save = &vmcb.save;
        let (found, length) = fetch(memory, save.rip, save.cr3);
        let changes_nothing = match found {
            Instruction::MovToControl { control, general } => {
                let value = instruction::general(&registers, general, save.rsp);
                (control == 0 && value == save.cr0) || (control == 4 && value == save.cr4)
            }
            Instruction::ClearTaskSwitched => save.cr0 & cr::CR0_TS == 0,
            // It has PE, MP, EM and TS, and PE is set and stays so.
            Instruction::LoadMachineStatus { general } => {
                (instruction::general(&registers, general, save.rsp) ^ save.cr0) & 0b1110 == 0
            }
            _ => false,
        };
        if changes_nothing {
            let next = vmcb.save.rip.wrapping_add(length);
            skip_to(vmcb, next);
            return Exit::Served;
        }
        exit
    }

    /// An exception whose RIP has to be moved behind the instruction, where the CPU did not say where that is.
    fn trap<M: GuestMemory>(&mut self, memory: &M) {
        let Some(vmcb) = self.vmcb() else { return };
        if vmcb.control.next_rip == 0 {
            let (_, length) = fetch(memory, vmcb.save.rip, vmcb.save.cr3);
            vmcb.save.rip = vmcb.save.rip.wrapping_add(length);
        }
    }
}

/// The exit of a processor that was never initialised, or was moved.
const NO_VMCB: Exit = Exit::EntryFailure { error: exit::ERROR_NO_VMCB, detail: 0 };

/// The instruction at `rip`, and its length, 0 where it is not known.
fn fetch<M: GuestMemory>(memory: &M, rip: u64, cr3: u64) -> (Instruction, u64) {
    let mut bytes = [0; instruction::MAX_BYTES];
    let count = linear::fetch(memory, cr3, rip, &mut bytes);
    let (found, length) = instruction::decode(&bytes[..count]);
    (found, u64::try_from(length).unwrap_or(0))
}

/// Move RIP behind the instruction that exited, and end what a `sti` or `mov ss` before it blocks: it was one instruction,
/// and that has been executed.
#[inline(always)]
fn skip_to(vmcb: &mut Vmcb, next: u64) {
    vmcb.save.rip = next;
    vmcb.control.interrupt_shadow = 0;
}

/// A flat segment: there is no GDT to reload one from.
fn flat(selector: u16, attributes: u16) -> Segment {
    Segment { selector, attributes, limit: u32::MAX, base: 0 }
}

/// What a guest starts with.
fn fill(vmcb: &mut Vmcb, cpu: &Svm, config: &VcpuConfig<'_, Npt>) {
    const DATA: u16 = 0xc93;
    const CODE: u16 = 0xa9b;
    const BUSY_TASK: u16 = 0x08b;
    let plan = &cpu.plan;
    let (msr_map, io_map) = cpu.maps();
    let control = &mut vmcb.control;
    control.intercepts = plan.intercepts;
    control.msr_map = msr_map;
    control.io_map = io_map;
    control.tsc_offset = config.tsc_offset;
    control.virtual_interrupt = virtual_interrupt::MASKING;
    control.nested_paging = 1;
    control.nested_cr3 = config.tables.root();
    let save = &mut vmcb.save;
    save.cs = flat(0x08, CODE);
    for segment in [&mut save.es, &mut save.ss, &mut save.ds, &mut save.fs, &mut save.gs] {
        *segment = flat(0x10, DATA);
    }
    save.tr = Segment { selector: 0x18, attributes: BUSY_TASK, limit: 0x67, base: 0 };
    save.efer = plan.guest_efer;
    save.cr0 = plan.guest_cr0;
    save.cr3 = config.page_tables;
    save.cr4 = plan.guest_cr4;
    save.dr6 = 0xffff_0ff0;
    save.dr7 = 0x400;
    save.rflags = filter_flags(0);
    save.rip = config.entry;
    save.pat = PAT;
}

impl Vcpu for SvmVcpu {
    type Cpu = Svm;

    unsafe fn init(&mut self, cpu: &mut Svm, config: &VcpuConfig<'_, Npt>) -> Result<(), Infallible> {
        self.crossing.registers = GeneralRegisters { rdi: config.argument, ..GeneralRegisters::default() };
        self.state.reset();
        self.code.clear();
        self.tag = Tag::NONE;
        cpu.active = 0;
        self.crossing.vmcb = config.frame_pointer.as_ptr().cast();
        self.crossing.vmcb_physical = config.frame;
        self.crossing.host_vmcb = cpu.host_vmcb();
        self.crossing.at_exit = cpu.exit.raw();
        self.next = config.entry;
        self.bus_locks = 0;
        self.changed = true;
        // SAFETY: the frame is ours by this function's contract, and as large and aligned as a VMCB; zeros are valid.
        unsafe { self.crossing.vmcb.write_bytes(0, 1) };
        if let Some(vmcb) = self.vmcb() {
            fill(vmcb, cpu, config);
        }
        self.home = self.address();
        Ok(())
    }

    #[inline]
    fn registers(&mut self) -> &mut GeneralRegisters {
        &mut self.crossing.registers
    }

    #[inline]
    fn run(&mut self, cpu: &mut Svm, _ticks: u64) -> Exit {
        if cpu.active != self.address() {
            if !self.activate(cpu) {
                return NO_VMCB;
            }
            // So an exit without any costs nothing, not even a look.
            if self.crossing.at_exit != 0 {
                return self.run_with_barriers(cpu);
            }
        }
        // SAFETY: this value lies where it lay at `init`, which made the VMCB for it, and its state is in the registers:
        // `active` and `activate` say so.
        let raw = unsafe { entry::enter(&raw mut self.crossing) };
        self.serve(cpu, raw)
    }

    fn interpret(&mut self, _cpu: &mut Svm, exit: Exit, memory: &impl GuestMemory) -> Exit {
        let Some(control) = self.vmcb().map(|vmcb| &vmcb.control) else { return exit };
        let raw = control.exit_code;
        match exit {
            // Only what really raised #UD: others are refused by that name.
            Exit::Exception { vector: INVALID_OPCODE, .. } if raw == code::INVALID_OPCODE => {
                self.invalid_opcode(exit, memory)
            }
            Exit::Refused { class: refused::CONTROL, .. } if raw == code::WRITE_CR0 || raw == code::WRITE_CR4 => {
                self.control_write(exit, memory)
            }
            Exit::Exception { vector: PROTECTION, .. } => match exit::interrupted_software_interrupt(control) {
                Some(vector) => self.software_interrupt(vector, memory),
                None => self.protection(exit, memory),
            },
            Exit::Exception { .. } if raw == code::ICEBP || raw == code::EXCEPTION + u64::from(BREAKPOINT) => {
                self.trap(memory);
                exit
            }
            _ => exit,
        }
    }

    fn position(&self, _cpu: &mut Svm) -> Interrupted {
        // SAFETY: as `SvmVcpu::vmcb`.
        match unsafe { self.crossing.vmcb.as_ref() } {
            Some(Vmcb { save, .. }) => {
                Interrupted { rip: save.rip, rsp: save.rsp, rflags: save.rflags, rax: self.crossing.registers.rax }
            }
            None => Interrupted::default(),
        }
    }

    fn set_position(&mut self, _cpu: &mut Svm, position: &Interrupted) -> Result<(), NotCanonical> {
        if !is_canonical(position.rip) {
            return Err(NotCanonical(position.rip));
        }
        if let Some(vmcb) = self.vmcb() {
            vmcb.save.rip = position.rip;
            vmcb.save.rsp = position.rsp;
            vmcb.save.rflags = filter_flags(position.rflags);
            vmcb.control.interrupt_shadow = 0;
        }
        Ok(())
    }

    #[inline]
    fn skip_instruction(&mut self, _cpu: &mut Svm) {
        let next = self.next;
        if let Some(vmcb) = self.vmcb() {
            skip_to(vmcb, next);
        }
    }

    fn export(&mut self, cpu: &mut Svm, tsc: u64, to: &mut VcpuState) {
        cpu.save(&raw mut self.state);
        *to = VcpuState::INITIAL;
        let layout = Layout::detect(cpu.plan.xcr0);
        self.state.export(&layout, to);
        let registers = self.crossing.registers;
        let Some(Vmcb { control, save }) = self.vmcb() else { return };
        to.general = registers.export(save.rsp);
        to.rip = save.rip;
        to.rflags = filter_flags(save.rflags);
        (to.cr2, to.cr3) = (save.cr2, save.cr3);
        (to.fs_base, to.gs_base, to.kernel_gs_base) = (save.fs.base, save.gs.base, save.kernel_gs_base);
        to.tsc = tsc.wrapping_add(control.tsc_offset);
    }

    fn import(&mut self, cpu: &mut Svm, from: &VcpuState) -> Result<(), BadState> {
        let layout = Layout::detect(cpu.plan.xcr0);
        layout.check(from)?;
        // It is loaded at the next entry, and the translations of another CR3 are forgotten.
        cpu.disown(&raw mut self.state);
        self.forget();
        self.state.import(&layout, from);
        self.crossing.registers = GeneralRegisters::from(&from.general);
        self.next = from.rip;
        self.changed = true;
        if let Some(Vmcb { control, save }) = self.vmcb() {
            save.rsp = from.general.rsp;
            save.rip = from.rip;
            save.rflags = from.rflags;
            (save.cr2, save.cr3) = (from.cr2, from.cr3);
            (save.fs.base, save.gs.base, save.kernel_gs_base) = (from.fs_base, from.gs_base, from.kernel_gs_base);
            control.interrupt_shadow = 0;
        }
        Ok(())
    }

    fn bus_locks(&self) -> u32 {
        self.bus_locks
    }

    fn release(&mut self, cpu: &mut Svm) {
        cpu.disown(&raw mut self.state);
        self.code.clear();
        self.crossing.vmcb = ptr::null_mut();
        self.crossing.vmcb_physical = 0;
        self.home = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::PAT;

    #[test]
    fn a_guests_page_tables_can_ask_for_nothing_but_write_back() {
        // PAT, PCD and PWT of an entry choose a byte (APM vol. 2, 7.8.1); 6 is write-back.
        for choice in 0..8 {
            assert_eq!(PAT >> (8 * choice) & 0xff, 6, "{choice}");
        }
    }
}
