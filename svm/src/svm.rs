//! SVM on one CPU: switched on, and whose state is in the registers.

use crate::cr;
use crate::plan::Plan;
use backend::xstate::State;
use backend::{Barriers, Tags, barriers};
use core::arch::asm;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};
use x86::msr;

/// Contiguous frames that a CPU needs for itself.
pub const HOST_FRAMES: u64 = 7;

const PAGE: u64 = abi::limits::PAGE_SIZE;
/// VM_HSAVE_PA (APM vol. 2, 15.30.4).
const VM_HSAVE_PA: u32 = 0xc001_0117;

/// Pages among the [`HOST_FRAMES`]: where VMRUN keeps the host's state.
const HOST_SAVE: u64 = 0;
/// A VMCB for what VMLOAD loads.
const HOST_VMCB: u64 = 1;
/// The MSR permission map, two pages, and the I/O permission map, three (APM vol. 2, 15.10 and 15.11). All bits are set:
/// every MSR and port access exits. What the maps do not cover exits as well.
const MSR_MAP: u64 = 2;
const IO_MAP: u64 = 4;
const _: () = assert!(IO_MAP + 3 == HOST_FRAMES);

/// This CPU with SVM on. Not `Send`.
pub struct Svm {
    /// Address of the `SvmVcpu` that can be entered at once: its state is in the registers, it has a tag, and nothing has
    /// to be flushed. 0 for none.
    pub(crate) active: usize,
    /// Whose x87 to AVX-512 state is in the registers.
    owner: *mut State,
    pub(crate) tags: Tags,
    /// What comes with every exit. While there is any, `active` stays 0.
    pub(crate) exit: Barriers,
    /// What comes with the next entry. While there is any, `active` is 0.
    pub(crate) pending: Barriers,
    /// What comes with every entry. While there is any, `active` stays 0.
    pub(crate) entry: Barriers,
    /// There is any of these three.
    pub(crate) is_guarded: bool,
    pub(crate) plan: Plan,
    /// The core's CR0, with TS set.
    cr0: u64,
    /// Physical address of the first of the host's frames.
    frames: u64,
    not_send: PhantomData<*const ()>,
}

impl Svm {
    /// Switch SVM on, on this CPU. [`HOST_FRAMES`] frames from `frame` on (physical address, and where they are mapped)
    /// become the CPU's.
    ///
    /// Changes EFER (SVME set), CR0 (NE, MP and TS set, EM cleared), CR4 (OSXSAVE set) and XCR0. FS, GS, TR, LDTR and the
    /// MSRs of SYSCALL, SYSENTER and SWAPGS are taken from the CPU as they are now, and come back at every exit.
    ///
    /// # Safety
    /// Ring 0, interrupts off, `plan` is this CPU's. The frames belong to the CPU for good. The registers named
    /// above have their final values.
    pub unsafe fn enable(plan: &Plan, frame: u64, frames_pointer: NonNull<u8>) -> Svm {
        // SAFETY: ring 0; the values are those of the registers with bits that only enable what the core does not use
        // otherwise. XCR0 is one that the CPU offers, and so is TSC_AUX where it is written. The frames are ours, contiguous, page-aligned and mapped.
        let cr0 = unsafe {
            let cr0: u64;
            let cr4: u64;
            asm!("mov {}, cr0", out(reg) cr0, options(nomem, nostack, preserves_flags));
            asm!("mov {}, cr4", out(reg) cr4, options(nomem, nostack, preserves_flags));
            let cr0 = (cr0 | cr::CR0_NE | cr::CR0_MP | cr::CR0_TS) & !cr::CR0_EM;
            asm!("mov cr0, {}", in(reg) cr0, options(nostack));
            asm!("mov cr4, {}", in(reg) cr4 | cr::CR4_OSXSAVE, options(nostack));
            set_xcr0(plan.xcr0);
            msr::wrmsr(msr::IA32_EFER, msr::rdmsr(msr::IA32_EFER) | cr::EFER_SVME);
            if plan.tsc_aux {
                // No intercept stops RDPID; what the firmware left is none of the guests' business.
                msr::wrmsr(msr::IA32_TSC_AUX, 0);
            }
            let page = |number: u64| frames_pointer.add(usize::try_from(number * PAGE).unwrap_or(0));
            let pages = |count: u64| usize::try_from(count * PAGE).unwrap_or(0);
            page(HOST_SAVE).write_bytes(0, pages(MSR_MAP - HOST_SAVE));
            page(MSR_MAP).write_bytes(0xff, pages(HOST_FRAMES - MSR_MAP));
            msr::wrmsr(VM_HSAVE_PA, frame + HOST_SAVE * PAGE);
            asm!("vmsave rax", in("rax") frame + HOST_VMCB * PAGE, options(nostack));
            cr0
        };
        Svm {
            active: 0,
            owner: ptr::null_mut(),
            tags: Tags::new(plan.last_tag),
            exit: Barriers::NONE,
            pending: Barriers::NONE,
            entry: Barriers::NONE,
            is_guarded: false,
            plan: *plan,
            cr0,
            frames: frame,
            not_send: PhantomData,
        }
    }

    /// Physical address of the VMCB that holds the core's own state for VMLOAD.
    pub(crate) fn host_vmcb(&self) -> u64 {
        self.frames + HOST_VMCB * PAGE
    }

    /// Physical addresses of the MSR and I/O permission maps.
    pub(crate) fn maps(&self) -> (u64, u64) {
        (self.frames + MSR_MAP * PAGE, self.frames + IO_MAP * PAGE)
    }

    /// Put `state` into the registers, and what is in them where it belongs.
    ///
    /// # Safety
    /// `state` stays where it is, used by nobody else, until `disown`.
    pub(crate) unsafe fn own(&mut self, state: *mut State) {
        if self.owner == state {
            return;
        }
        // SAFETY: `enable` has set CR4 and XCR0, and CR0 but for TS. Both states are valid by this function's contract; the
        // old one was not disowned.
        unsafe {
            asm!("clts", options(nomem, nostack));
            set_xcr0(self.plan.xcr0);
            if !self.owner.is_null() {
                State::save(self.owner, self.plan.xsaveopt);
            }
            if self.plan.keeps_pointers {
                State::forget_pointers();
            }
            (*state).load();
            // Set again at once, because an exit restores CR0 as it was at the entry: a component that touches the vector
            // registers, in which a guest's state is, gets a #NM.
            asm!("mov cr0, {}", in(reg) self.cr0, options(nostack));
        }
        self.owner = state;
    }

    /// Have `state` in memory as well, if it is in the registers.
    pub(crate) fn save(&mut self, state: *mut State) {
        if self.owner != state {
            return;
        }
        // SAFETY: as in `own`.
        unsafe {
            asm!("clts", options(nomem, nostack));
            set_xcr0(self.plan.xcr0);
            State::save(state, self.plan.xsaveopt);
            asm!("mov cr0, {}", in(reg) self.cr0, options(nostack));
        }
    }

    /// Carry out what comes with this entry of the guest that may be `active` now. Behind [`Svm::own`], which handles another guest's registers.
    #[cold]
    #[inline(never)]
    pub(crate) fn carry_out(&mut self) {
        // SAFETY: this value is the proof of ring 0; whoever asked for them knows that the processor has them (`Backend::before_entry`).
        unsafe { barriers::execute(self.pending) };
        self.pending = self.entry;
        self.is_guarded = !self.entry.is_none() || !self.exit.is_none();
        if self.is_guarded {
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
        }
        self.active = 0;
    }
}

/// Put XCR0 back if a guest has changed it: CPUs exit before it can, emulated ones (QEMU 7.2) do not.
///
/// # Safety
/// Ring 0, CR4.OSXSAVE is set, and the CPU offers `value`.
unsafe fn set_xcr0(value: u64) {
    let (now_low, now_high): (u32, u32);
    // SAFETY: upheld by the caller.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") now_low, out("edx") now_high, options(nomem, nostack, preserves_flags));
        if (now_low, now_high) != (low(value), low(value >> 32)) {
            asm!("xsetbv", in("ecx") 0, in("eax") low(value), in("edx") low(value >> 32), options(nostack));
        }
    }
}

/// Bits 31..0.
#[allow(clippy::cast_possible_truncation)] // They are meant to be cut out.
fn low(value: u64) -> u32 {
    value as u32
}
