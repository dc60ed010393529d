//! A guest's processor on VT-x.

use crate::cr;
use crate::entry::Crossing;
use crate::ept::{self, Ept};
use crate::error::Error;
use crate::fields::Writable;
use crate::fields::{
    Control16, Control32, Control64, ControlNatural, Guest16, Guest32, Guest64, GuestNatural, ReadOnly32,
};
use crate::plan::{ENCLS, ENCLV, Plan};
use crate::vmcs::LoadedVmcs;
use crate::vtx::Vtx;
use crate::xstate::State;
use crate::{entry, exit};
use backend::{
    BadState, Barriers, Exit, GeneralRegisters, Interrupted, Layout, NotCanonical, Tag, Vcpu, VcpuConfig, VcpuState,
    filter_flags, is_canonical,
};
use core::ptr;

#[cfg(feature = "selftest")]
#[path = "corruption.rs"]
mod corruption;

/// Bytes that the core has for a [`VtxVcpu`].
pub const VCPU_BYTES: usize = 3200;

/// What the core keeps of a guest's processor beside the VMCS. It is entered where it lies: see [`Vcpu::init`].
#[repr(C, align(64))]
pub struct VtxVcpu {
    /// What entries and exits go by.
    crossing: Crossing,
    /// Bus locks that the guest has taken.
    bus_locks: u32,
    /// Physical address of the VMCS, 0 before `init`.
    vmcs: u64,
    /// Where `init` found this value to lie: the VMCS says that exits push to there.
    home: usize,
    /// What its translations are tagged with.
    tag: Tag,
    state: State,
}

const _: () = assert!(size_of::<VtxVcpu>() <= VCPU_BYTES);

/// The default PAT (SDM vol. 3, table 12-12).
const PAT: u64 = 0x0007_0406_0007_0406;
impl VtxVcpu {
    fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// The VMCS of this processor, loaded.
    #[inline]
    fn loaded<'cpu>(&self, cpu: &'cpu mut Vtx) -> Option<LoadedVmcs<'cpu>> {
        if cpu.active == self.address() {
            // SAFETY: that is what `active` means.
            Some(unsafe { LoadedVmcs::assume(cpu) })
        } else {
            cpu.load(self.vmcs).ok()
        }
    }

    /// Make this the guest whose VMCS is loaded and whose state is in the registers. `false` when it cannot be entered.
    #[cold]
    #[inline(never)]
    fn activate(&mut self, cpu: &mut Vtx) -> bool {
        // Moved since `init`, or never initialised: exits would push the registers to where nothing is.
        if self.home != self.address() || !cpu.switch_to(self.vmcs) {
            return false;
        }
        if !cpu.tags.holds(self.tag) && !self.take_tag(cpu) {
            return false;
        }
        // SAFETY: `init`'s contract keeps this value in place until `release` disowns the state.
        unsafe { cpu.own(&raw mut self.state) };
        cpu.active = self.home;
        if !cpu.pending.is_none() {
            cpu.carry_out();
        }
        true
    }

    /// Take a tag that nobody has. `false` when the VMCS does not take it.
    #[cold]
    #[inline(never)]
    fn take_tag(&mut self, cpu: &mut Vtx) -> bool {
        self.tag = cpu.tags.assign();
        if cpu.tags.take_flush() {
            cpu.forget_all();
        }
        // The CPU has given out no number beyond those of its VPIDs, which have 16 bits.
        let vpid = u16::try_from(self.tag.number()).unwrap_or(0);
        cpu.load(self.vmcs).is_ok_and(|mut vmcs| vmcs.write(Control16::Vpid, vpid).is_ok())
    }

    /// Not inlined, so that a hypercall has a short way from the exit to its handler.
    #[inline(never)]
    fn other_exit(&mut self, vmcs: LoadedVmcs<'_>, raw: u64) -> Exit {
        let (raw, locked) = exit::bus_lock(raw);
        if locked {
            self.bus_locks = self.bus_locks.saturating_add(1);
        }
        let (exit, behind) = exit::decode(raw, self.crossing.resume_error, &vmcs, &self.crossing.registers);
        if behind {
            skip(vmcs);
        }
        if exit == Exit::Nmi {
            // SAFETY: the core's handler of vector 2 changes nothing but its counter.
            unsafe { entry::take_nmi() };
        }
        exit
    }

    fn fill(&self, vmcs: &mut LoadedVmcs<'_>, cpu: &CpuValues, config: &VcpuConfig<'_, Ept>) -> Result<(), Error> {
        fill_controls(vmcs, &cpu.plan, config)?;
        fill_guest(vmcs, &cpu.plan, config)?;
        let stack = u64::try_from((&raw const self.crossing.host_rsp).addr()).unwrap_or(0);
        cpu.host.write(vmcs, entry::exit_address(cpu.exit), stack)
    }
}

/// What the guest may do and what makes it exit.
fn fill_controls(vmcs: &mut LoadedVmcs<'_>, plan: &Plan, config: &VcpuConfig<'_, Ept>) -> Result<(), Error> {
    write_all(
        vmcs,
        &[
            (Control32::PinBased, plan.controls.pin_based),
            (Control32::Primary, plan.controls.primary),
            (Control32::Secondary, plan.controls.secondary),
            (Control32::Exit, plan.controls.exit),
            (Control32::Entry, plan.controls.entry),
            // Every exception exits; mask and match of 0 make that all page faults.
            (Control32::ExceptionBitmap, u32::MAX),
            (Control32::PageFaultMask, 0),
            (Control32::PageFaultMatch, 0),
            (Control32::Cr3TargetCount, 0),
            (Control32::ExitMsrStoreCount, 0),
            (Control32::ExitMsrLoadCount, 0),
            (Control32::EntryMsrLoadCount, 0),
            (Control32::EntryInterruption, 0),
        ],
    )?;
    vmcs.write(Control64::TscOffset, config.tsc_offset)?;
    vmcs.write(Control64::EptPointer, ept::pointer(config.tables))?;
    for (bit, field) in [(ENCLS, Control64::EnclsBitmap), (ENCLV, Control64::EnclvBitmap)] {
        if plan.controls.secondary & bit != 0 {
            vmcs.write(field, u64::MAX)?;
        }
    }
    write_all(
        vmcs,
        &[
            // The guest owns no bit of CR0 and CR4: whatever would change one exits. It reads VMXE as clear.
            (ControlNatural::Cr0Mask, u64::MAX),
            (ControlNatural::Cr0Shadow, plan.guest_cr0),
            (ControlNatural::Cr4Mask, u64::MAX),
            (ControlNatural::Cr4Shadow, plan.guest_cr4 & !cr::CR4_VMXE),
        ],
    )
}

/// The guest's processor as it begins.
fn fill_guest(vmcs: &mut LoadedVmcs<'_>, plan: &Plan, config: &VcpuConfig<'_, Ept>) -> Result<(), Error> {
    // Flat segments live in the hidden registers alone: there is no GDT to reload one from.
    const DATA: u32 = 0xc093;
    const CODE: u32 = 0xa09b;
    const BUSY_TASK: u32 = 0x008b;
    const UNUSABLE: u32 = 1 << 16;
    for (selector, limit, rights, value, bytes, kind) in [
        (Guest16::EsSelector, Guest32::EsLimit, Guest32::EsRights, 0x10, u32::MAX, DATA),
        (Guest16::CsSelector, Guest32::CsLimit, Guest32::CsRights, 0x08, u32::MAX, CODE),
        (Guest16::SsSelector, Guest32::SsLimit, Guest32::SsRights, 0x10, u32::MAX, DATA),
        (Guest16::DsSelector, Guest32::DsLimit, Guest32::DsRights, 0x10, u32::MAX, DATA),
        (Guest16::FsSelector, Guest32::FsLimit, Guest32::FsRights, 0x10, u32::MAX, DATA),
        (Guest16::GsSelector, Guest32::GsLimit, Guest32::GsRights, 0x10, u32::MAX, DATA),
        (Guest16::LdtrSelector, Guest32::LdtrLimit, Guest32::LdtrRights, 0, 0, UNUSABLE),
        (Guest16::TrSelector, Guest32::TrLimit, Guest32::TrRights, 0x18, 0x67, BUSY_TASK),
    ] {
        vmcs.write(selector, value)?;
        vmcs.write(limit, bytes)?;
        vmcs.write(rights, kind)?;
    }
    write_all(
        vmcs,
        &[
            (Guest32::GdtrLimit, 0),
            (Guest32::IdtrLimit, 0),
            (Guest32::Interruptibility, 0),
            (Guest32::Activity, 0),
            (Guest32::SysenterCs, 0),
            (Guest32::PreemptionTimer, 0),
        ],
    )?;
    write_all(
        vmcs,
        &[
            (Guest64::LinkPointer, u64::MAX),
            (Guest64::DebugCtl, 0),
            (Guest64::Pat, PAT),
            (Guest64::Efer, plan.guest_efer),
        ],
    )?;
    // All bases, DR7's neighbours and the rest are 0 but for these.
    for &field in GuestNatural::ALL {
        vmcs.write(
            field,
            match field {
                GuestNatural::Cr0 => plan.guest_cr0,
                GuestNatural::Cr3 => config.page_tables,
                GuestNatural::Cr4 => plan.guest_cr4,
                GuestNatural::Dr7 => 0x400,
                GuestNatural::Rip => config.entry,
                GuestNatural::Rflags => filter_flags(0),
                _ => 0,
            },
        )?;
    }
    Ok(())
}

/// What `fill` needs of a `Vtx` that the loaded VMCS borrows.
struct CpuValues {
    plan: Plan,
    host: crate::host::HostState,
    exit: Barriers,
}

fn write_all<F: Writable + crate::fields::Field>(
    vmcs: &mut LoadedVmcs<'_>,
    values: &[(F, F::Value)],
) -> Result<(), Error> {
    values.iter().try_for_each(|&(field, value)| vmcs.write(field, value))
}

/// Move RIP behind the instruction that exited, and end what a `sti` or `mov ss` before it blocks: it was one instruction,
/// and that has been executed. (If the block were kept, a loop of `mov ss` and `vmcall` would hold off interrupts.)
#[inline(always)]
fn skip(mut vmcs: LoadedVmcs<'_>) {
    let length = vmcs.get_raw(ReadOnly32::InstructionLength);
    let rip = vmcs.get(GuestNatural::Rip);
    vmcs.set(GuestNatural::Rip, rip.wrapping_add(length));
    vmcs.set(Guest32::Interruptibility, 0);
}

impl Vcpu for VtxVcpu {
    type Cpu = Vtx;

    unsafe fn init(&mut self, cpu: &mut Vtx, config: &VcpuConfig<'_, Ept>) -> Result<(), Error> {
        self.vmcs = 0;
        self.home = 0;
        self.crossing.registers = GeneralRegisters { rdi: config.argument, ..GeneralRegisters::default() };
        self.crossing.cr2 = 0;
        self.crossing.resume_error = 0;
        self.crossing.at_exit = cpu.exit.raw();
        self.bus_locks = 0;
        self.tag = Tag::NONE;
        self.state.reset();
        cpu.forget(ept::pointer(config.tables));
        let values = CpuValues { plan: cpu.plan, host: cpu.host, exit: cpu.exit };
        // SAFETY: the frame is ours by this function's contract.
        let filled = unsafe { cpu.prepare(config.frame, config.frame_pointer) }
            .and_then(|mut vmcs| self.fill(&mut vmcs, &values, config));
        if let Err(error) = filled {
            // The frame goes back to the caller; a VMCLEAR that fails as well leaves nothing loaded either.
            let _ = cpu.clear(config.frame);
            return Err(error);
        }
        self.vmcs = config.frame;
        self.home = self.address();
        Ok(())
    }

    #[inline]
    fn registers(&mut self) -> &mut GeneralRegisters {
        &mut self.crossing.registers
    }

    #[inline]
    fn run(&mut self, cpu: &mut Vtx, ticks: u64) -> Exit {
        if cpu.active != self.address() && !self.activate(cpu) {
            return Exit::EntryFailure { error: 0, detail: 0 };
        }
        // The timer counts units of 2^shift ticks, in 32 bits; a quantum that is longer just ends early.
        let units = u32::try_from(ticks >> cpu.timer_shift).unwrap_or(u32::MAX);
        // SAFETY: `active` is this, so its VMCS is loaded.
        let mut vmcs = unsafe { LoadedVmcs::assume(cpu) };
        vmcs.set(Guest32::PreemptionTimer, units);
        // SAFETY: the VMCS was made for this value, which lies where it lay then (`activate`).
        let raw = unsafe { entry::enter(&raw mut self.crossing) };
        if raw == exit::HYPERCALL { Exit::Hypercall } else { self.other_exit(vmcs, raw) }
    }

    fn position(&self, cpu: &mut Vtx) -> Interrupted {
        match self.loaded(cpu) {
            Some(vmcs) => Interrupted {
                rip: vmcs.get(GuestNatural::Rip),
                rsp: vmcs.get(GuestNatural::Rsp),
                rflags: vmcs.get(GuestNatural::Rflags),
                rax: self.crossing.registers.rax,
            },
            None => Interrupted::default(),
        }
    }

    fn set_position(&mut self, cpu: &mut Vtx, position: &Interrupted) -> Result<(), NotCanonical> {
        if !is_canonical(position.rip) {
            return Err(NotCanonical(position.rip));
        }
        if let Some(mut vmcs) = self.loaded(cpu) {
            vmcs.set(GuestNatural::Rip, position.rip);
            vmcs.set(GuestNatural::Rsp, position.rsp);
            vmcs.set(GuestNatural::Rflags, filter_flags(position.rflags));
            // What was going on at the old place would contradict the new flags (SDM vol. 3, 27.3.1.5): a guest could
            // make its own entry fail.
            vmcs.set(Guest32::Interruptibility, 0);
            vmcs.set(GuestNatural::PendingDebug, 0);
        }
        Ok(())
    }

    #[inline]
    fn skip_instruction(&mut self, cpu: &mut Vtx) {
        if let Some(vmcs) = self.loaded(cpu) {
            skip(vmcs);
        }
    }

    fn export(&mut self, cpu: &mut Vtx, tsc: u64, to: &mut VcpuState) {
        cpu.save(&raw mut self.state);
        *to = VcpuState::INITIAL;
        let layout = Layout::detect(cpu.plan.xcr0);
        self.state.export(&layout, to);
        to.cr2 = self.crossing.cr2;
        let Some(vmcs) = self.loaded(cpu) else { return };
        to.general = self.crossing.registers.export(vmcs.get(GuestNatural::Rsp));
        to.rip = vmcs.get(GuestNatural::Rip);
        to.rflags = filter_flags(vmcs.get(GuestNatural::Rflags));
        to.cr3 = vmcs.get(GuestNatural::Cr3);
        to.fs_base = vmcs.get(GuestNatural::FsBase);
        to.gs_base = vmcs.get(GuestNatural::GsBase);
        to.tsc = tsc.wrapping_add(vmcs.get(Control64::TscOffset));
    }

    fn import(&mut self, cpu: &mut Vtx, from: &VcpuState) -> Result<(), BadState> {
        let layout = Layout::detect(cpu.plan.xcr0);
        layout.check(from)?;
        // It is loaded at the next entry, and the translations of another CR3 are forgotten.
        cpu.disown(&raw mut self.state);
        cpu.active = 0;
        self.tag = Tag::NONE;
        self.state.import(&layout, from);
        self.crossing.registers = GeneralRegisters::from(&from.general);
        self.crossing.cr2 = from.cr2;
        if let Some(mut vmcs) = self.loaded(cpu) {
            vmcs.set(GuestNatural::Rsp, from.general.rsp);
            vmcs.set(GuestNatural::Rip, from.rip);
            vmcs.set(GuestNatural::Rflags, from.rflags);
            vmcs.set(GuestNatural::Cr3, from.cr3);
            vmcs.set(GuestNatural::FsBase, from.fs_base);
            vmcs.set(GuestNatural::GsBase, from.gs_base);
            // As in `set_position`.
            vmcs.set(Guest32::Interruptibility, 0);
            vmcs.set(GuestNatural::PendingDebug, 0);
        }
        Ok(())
    }

    fn bus_locks(&self) -> u32 {
        self.bus_locks
    }

    fn release(&mut self, cpu: &mut Vtx) {
        cpu.disown(&raw mut self.state);
        if self.vmcs != 0 {
            // It can only fail for an address that is no frame's, and then nothing was cached of it.
            let _ = cpu.clear(self.vmcs);
        }
        self.vmcs = 0;
        self.home = 0;
    }
}
