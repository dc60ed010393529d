//! What the CPU gets back on every exit: the core's own registers.

use crate::cr;
use crate::error::Error;
use crate::fields::{Host16, Host32, Host64, HostNatural};
use crate::vmcs::LoadedVmcs;
use core::arch::asm;
use x86::dtables::{DescriptorTablePointer, sgdt, sidt};
use x86::{msr, segmentation, task};

/// The host state of all VMCSs of one CPU, RSP and RIP apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostState {
    cr0: u64,
    cr3: u64,
    cr4: u64,
    /// ES, CS, SS, DS, FS, GS, TR.
    selectors: [u16; 7],
    fs_base: u64,
    gs_base: u64,
    tr_base: u64,
    gdtr_base: u64,
    idtr_base: u64,
    efer: u64,
    pat: u64,
}

impl HostState {
    /// As the CPU is now, with these control registers.
    ///
    /// # Safety
    /// Ring 0; GDT and TR are loaded and valid.
    pub(crate) unsafe fn read(cr0: u64, cr3: u64, cr4: u64) -> HostState {
        let mut gdtr = DescriptorTablePointer::<u64>::default();
        let mut idtr = DescriptorTablePointer::<u64>::default();
        // SAFETY: these instructions only store.
        let tr = unsafe {
            sgdt(&mut gdtr);
            sidt(&mut idtr);
            task::tr().bits()
        };
        // SAFETY: TR holds the selector of a 16-byte system descriptor in the GDT (SDM vol. 3, 7.2.3).
        let tr_base = unsafe {
            let descriptor = gdtr.base.add(usize::from(tr >> 3));
            system_base(descriptor.read_unaligned(), descriptor.add(1).read_unaligned())
        };
        // RPL and TI have to be 0 (SDM vol. 3, 27.2.3).
        let selector = |selector: segmentation::SegmentSelector| selector.bits() & !7;
        use segmentation::{cs, ds, es, fs, gs, ss};
        // SAFETY: these MSRs exist on every 64-bit CPU; reading changes nothing.
        let rdmsr = |number| unsafe { msr::rdmsr(number) };
        HostState {
            // With TS set from every exit on, a component that touches the vector registers, in which the last guest's
            // state still is, gets a #NM; `Vtx::own` clears TS for itself.
            cr0: cr0 | cr::CR0_TS,
            cr3,
            cr4,
            selectors: [
                selector(es()),
                selector(cs()),
                selector(ss()),
                selector(ds()),
                selector(fs()),
                selector(gs()),
                tr & !7,
            ],
            fs_base: rdmsr(msr::IA32_FS_BASE),
            gs_base: rdmsr(msr::IA32_GS_BASE),
            tr_base,
            gdtr_base: address(gdtr.base),
            idtr_base: address(idtr.base),
            efer: rdmsr(msr::IA32_EFER),
            pat: rdmsr(msr::IA32_PAT),
        }
    }

    /// Write it to a VMCS, with what is the guest's own: where the exit goes and which stack it has there.
    pub(crate) fn write(&self, vmcs: &mut LoadedVmcs<'_>, rip: u64, rsp: u64) -> Result<(), Error> {
        for (&field, selector) in Host16::ALL.iter().zip(self.selectors) {
            vmcs.write(field, selector)?;
        }
        vmcs.write(Host32::SysenterCs, 0)?;
        vmcs.write(Host64::Pat, self.pat)?;
        vmcs.write(Host64::Efer, self.efer)?;
        for (field, value) in [
            (HostNatural::Cr0, self.cr0),
            (HostNatural::Cr3, self.cr3),
            (HostNatural::Cr4, self.cr4),
            (HostNatural::FsBase, self.fs_base),
            (HostNatural::GsBase, self.gs_base),
            (HostNatural::TrBase, self.tr_base),
            (HostNatural::GdtrBase, self.gdtr_base),
            (HostNatural::IdtrBase, self.idtr_base),
            (HostNatural::SysenterEsp, 0),
            (HostNatural::SysenterEip, 0),
            (HostNatural::Rsp, rsp),
            (HostNatural::Rip, rip),
        ] {
            vmcs.write(field, value)?;
        }
        Ok(())
    }
}

fn address<T>(pointer: *const T) -> u64 {
    // Pointers have 64 bits here.
    #[allow(clippy::cast_lossless)]
    {
        pointer.expose_provenance() as u64
    }
}

/// Base address in a 16-byte system descriptor (SDM vol. 3, figure 7-4).
fn system_base(low: u64, high: u64) -> u64 {
    low >> 16 & 0xff_ffff | (low >> 56 & 0xff) << 24 | high << 32
}

pub(crate) fn cr0() -> u64 {
    let value: u64;
    // SAFETY: reading CR0 in ring 0, where all of this crate that touches registers runs.
    unsafe { asm!("mov {}, cr0", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

pub(crate) fn cr4() -> u64 {
    let value: u64;
    // SAFETY: as `cr0`.
    unsafe { asm!("mov {}, cr4", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_base_of_a_task_segment_is_put_together() {
        // Limit 0x67, type 0xb, present; base 0xffff_ffff_8123_4568.
        let low = 0x8100_8b23_4568_0067;
        assert_eq!(super::system_base(low, 0xffff_ffff), 0xffff_ffff_8123_4568);
    }
}
