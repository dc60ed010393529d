//! VT-x on one CPU: switched on, and what is loaded.

use crate::cr::{self, fixed};
use crate::error::Error;
use crate::host::HostState;
use crate::plan::Plan;
use crate::vmcs::LoadedVmcs;
use crate::xstate::State;
use backend::{Barriers, Tags, barriers};
use core::arch::asm;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};
use x86::msr;

/// No VMCS is loaded.
const NONE: u64 = u64::MAX;

/// This CPU in VMX root operation. Not `Send`.
pub struct Vtx {
    /// Address of the `VtxVcpu` whose VMCS is loaded and whose state is in the registers; 0 for none. It follows from
    /// the next two, and makes the check on the way into a guest one comparison.
    pub(crate) active: usize,
    /// Physical address of the VMCS that is current, or `NONE`.
    loaded: u64,
    /// Whose x87 to AVX-512 state is in the registers.
    owner: *mut State,
    /// Tags of guests' translations: VPIDs.
    pub(crate) tags: Tags,
    pub(crate) timer_shift: u32,
    /// What comes with every exit.
    pub(crate) exit: Barriers,
    /// What comes with the next entry. While there is any, `active` is 0.
    pub(crate) pending: Barriers,
    /// What comes with every entry. While there is any, `active` stays 0.
    pub(crate) entry: Barriers,
    pub(crate) plan: Plan,
    pub(crate) host: HostState,
    not_send: PhantomData<*const ()>,
}

impl Vtx {
    /// Switch VT-x on, on this CPU. `frame` (physical address, and where it is mapped) becomes the CPU's VMXON region;
    /// `host_cr3` is what CR3 holds after every exit.
    ///
    /// Changes CR0 (NE and MP set, TS and EM cleared), CR4 (VMXE and OSXSAVE set), XCR0, and IA32_FEATURE_CONTROL where
    /// the firmware left it open. The rest of what exits restore is taken from the CPU as it is now: GDT, IDT, TR,
    /// selectors, FS and GS base, PAT, EFER, CR0, CR4.
    ///
    /// # Errors
    /// [`Error::FixedBits`] or [`Error::Instruction`].
    ///
    /// # Safety
    /// Ring 0, interrupts off, `plan` is this CPU's. The frame belongs to the CPU for good. The registers
    /// named above have their final values, and `host_cr3` maps what the core needs.
    pub unsafe fn enable(plan: &Plan, frame: u64, frame_pointer: NonNull<u8>, host_cr3: u64) -> Result<Vtx, Error> {
        let [must, _] = plan.host_cr0;
        let cr0 = (crate::host::cr0() | must | cr::CR0_NE | cr::CR0_MP) & !(cr::CR0_TS | cr::CR0_EM);
        fixed("CR0", cr0, plan.host_cr0)?;
        let [must, _] = plan.host_cr4;
        let cr4 = crate::host::cr4() | must | cr::CR4_VMXE | cr::CR4_OSXSAVE;
        fixed("CR4", cr4, plan.host_cr4)?;
        // SAFETY: ring 0; the values are those of the registers with bits that only enable what the core does not use
        // otherwise. XCR0 is one that the CPU offers. The frame is ours, page-aligned and mapped.
        unsafe {
            if let Some(value) = plan.feature_control {
                msr::wrmsr(msr::IA32_FEATURE_CONTROL, value);
            }
            asm!("mov cr0, {}", in(reg) cr0, options(nostack));
            asm!("mov cr4, {}", in(reg) cr4, options(nostack));
            asm!("xsetbv", in("ecx") 0, in("eax") low(plan.xcr0), in("edx") low(plan.xcr0 >> 32), options(nostack));
            format_region(frame_pointer, plan.revision);
            let failed: u8;
            asm!("vmxon [{}]", "setna {}", in(reg) &frame, out(reg_byte) failed, options(nostack));
            if failed != 0 {
                return Err(Error::Instruction { name: "VMXON", error: 0 });
            }
        }
        Ok(Vtx {
            active: 0,
            loaded: NONE,
            owner: ptr::null_mut(),
            tags: Tags::new(u16::MAX.into()),
            timer_shift: plan.timer_shift,
            exit: Barriers::NONE,
            pending: Barriers::NONE,
            entry: Barriers::NONE,
            plan: *plan,
            // SAFETY: ring 0, and the GDT that is loaded is valid.
            host: unsafe { HostState::read(cr0, host_cr3, cr4) },
            not_send: PhantomData,
        })
    }

    /// Make the VMCS at `physical` current, unless it is. 0 stands for none.
    #[inline]
    pub(crate) fn load(&mut self, physical: u64) -> Result<LoadedVmcs<'_>, Error> {
        if self.loaded != physical {
            self.load_other(physical)?;
        }
        // SAFETY: it is current: only `make_current`, `clear` and `prepare` change that, and they keep `loaded` true.
        Ok(unsafe { LoadedVmcs::assume(self) })
    }

    #[cold]
    #[inline(never)]
    fn load_other(&mut self, physical: u64) -> Result<(), Error> {
        if physical != 0 && self.make_current(physical) {
            Ok(())
        } else {
            Err(Error::Instruction { name: "VMPTRLD", error: 0 })
        }
    }

    /// As [`Vtx::load`], for the change from one guest to the next, each of which has one. False when there is no such VMCS.
    #[inline]
    pub(crate) fn switch_to(&mut self, physical: u64) -> bool {
        self.loaded == physical || self.make_current(physical)
    }

    /// Make the VMCS at `physical` current. False, and none is, when it is none.
    #[inline(always)]
    fn make_current(&mut self, physical: u64) -> bool {
        self.active = 0;
        let failed: u8;
        // SAFETY: VMX root operation; `Vcpu::init`'s contract keeps the frame a VMCS, and a frame that is none is
        // refused by its revision identifier.
        unsafe { asm!("vmptrld [{}]", "setna {}", in(reg) &physical, out(reg_byte) failed, options(nostack)) };
        if failed != 0 {
            return self.has_none();
        }
        self.loaded = physical;
        true
    }

    /// No VMCS is current, as far as is known. False.
    #[cold]
    fn has_none(&mut self) -> bool {
        self.loaded = NONE;
        false
    }

    /// Make a new VMCS in a frame and load it.
    ///
    /// # Safety
    /// The frame at `physical`, mapped at `pointer`, is nobody else's until `clear`.
    pub(crate) unsafe fn prepare(&mut self, physical: u64, pointer: NonNull<u8>) -> Result<LoadedVmcs<'_>, Error> {
        // SAFETY: upheld by the caller.
        unsafe { format_region(pointer, self.plan.revision) };
        self.clear(physical)?;
        self.load(physical)
    }

    /// Let the CPU write back and forget what it holds of the VMCS at `physical`.
    pub(crate) fn clear(&mut self, physical: u64) -> Result<(), Error> {
        if self.loaded == physical {
            self.loaded = NONE;
            self.active = 0;
        }
        let failed: u8;
        // SAFETY: VMX root operation; the frame is a VMCS's by the contract of `Vcpu::init`.
        unsafe { asm!("vmclear [{}]", "setna {}", in(reg) &physical, out(reg_byte) failed, options(nostack)) };
        if failed == 0 { Ok(()) } else { Err(Error::Instruction { name: "VMCLEAR", error: 0 }) }
    }

    /// Put `state` into the registers, and what is in them where it belongs.
    ///
    /// # Safety
    /// `state` stays where it is, used by nobody else, until `disown`.
    pub(crate) unsafe fn own(&mut self, state: *mut State) {
        if self.owner == state {
            return;
        }
        // SAFETY: `enable` has set CR0, CR4 and XCR0. Both states are valid by this function's contract; the old one was
        // not disowned.
        unsafe {
            // Set by the last exit; the next one sets it again.
            asm!("clts", options(nomem, nostack));
            let base = if self.owner.is_null() { None } else { Some(State::save(self.owner, self.plan.xsaveopt)) };
            (*state).load(base);
        }
        self.owner = state;
    }

    /// Have `state` in memory as well, if it is in the registers.
    pub(crate) fn save(&mut self, state: *mut State) {
        if self.owner != state {
            return;
        }
        let cr0 = crate::host::cr0();
        // SAFETY: `enable` has set CR0, CR4 and XCR0; the owner is valid until it is disowned. CR0 is as before at the end: a component
        // that touches the registers, in which a guest's state is, gets a #NM.
        unsafe {
            asm!("clts", options(nomem, nostack));
            State::save(state, self.plan.xsaveopt);
            asm!("mov cr0, {}", in(reg) cr0, options(nostack));
        }
    }

    /// Carry out what comes with this entry of the guest that is `active` now. Behind [`Vtx::own`], which handles another guest's registers.
    #[cold]
    #[inline(never)]
    pub(crate) fn carry_out(&mut self) {
        // SAFETY: VMX root operation is ring 0; whoever asked for them knows that the processor has them (`Backend::before_entry`).
        unsafe { barriers::execute(self.pending) };
        self.pending = self.entry;
        if !self.entry.is_none() {
            self.active = 0;
        }
    }

    /// Carry out barriers now.
    pub(crate) fn execute(&mut self, barriers: Barriers) {
        // SAFETY: as in `carry_out`.
        unsafe { barriers::execute(barriers) };
    }

    /// The state in the registers is not to be saved to `state` any more.
    pub(crate) fn disown(&mut self, state: *mut State) {
        if self.owner == state {
            self.owner = ptr::null_mut();
            self.active = 0;
        }
    }

    /// Forget translations that a VM with the same tables may have left behind.
    #[inline]
    pub(crate) fn forget(&mut self, ept_pointer: u64) {
        invept(self.plan.invept, ept_pointer);
    }

    /// Forget what is tagged with any VPID.
    pub(crate) fn forget_all(&mut self) {
        const ALL_CONTEXTS: u64 = 2;
        let descriptor = [0_u64; 2];
        // SAFETY: VMX root operation; the CPU has this type, as `Plan` requires. It only forgets.
        unsafe { asm!("invvpid {}, [{}]", in(reg) ALL_CONTEXTS, in(reg) &descriptor, options(nostack)) };
    }
}

/// Forget all translations that were made with the tables of `ept_pointer`.
#[inline]
fn invept(kind: u64, ept_pointer: u64) {
    let descriptor = [ept_pointer, 0];
    // SAFETY: only `Vtx` calls this, hence VMX root operation; the type is one that the CPU has. It only forgets.
    unsafe { asm!("invept {}, [{}]", in(reg) kind, in(reg) &descriptor, options(nostack)) };
}

/// Write the revision identifier into a region, which is all that software has to (SDM vol. 3, 25.2 and 25.11.5).
///
/// # Safety
/// `pointer` is a page of zeros that nobody else uses.
unsafe fn format_region(pointer: NonNull<u8>, revision: u32) {
    // SAFETY: upheld by the caller; a page is aligned to 4 bytes.
    unsafe { pointer.cast::<u32>().write(revision) };
}

/// Bits 31..0.
#[allow(clippy::cast_possible_truncation)] // They are meant to be cut out.
fn low(value: u64) -> u32 {
    value as u32
}
