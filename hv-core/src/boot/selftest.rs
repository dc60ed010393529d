//! Checks of the core by itself: it makes a mistake on purpose and shows that it finds it. In the test image only: no other core can make a
//! page that is writable and executable, or spoil a VM.

use super::fatal;
use super::options::{Options, SelfTest};
use crate::board::Board;
use crate::kernel::Kernel;
use crate::memory::{AddressSpace, Frames, KernelSpace, Owner};
use abi::boot::failure;
use abi::log::WxReport;
use abi::vm::Slot;
use backend::{Backend, Corruption};

pub use backend::Corrupt as Spoil;

/// On request, shows that the walk over page tables finds what it looks for.
pub fn wx(frames: &mut Frames, kernel: &KernelSpace, options: &Options) {
    if options.selftest() == Some(SelfTest::Wx) {
        match find_bad_page(frames, kernel) {
            Some(found) => log::info!("selftest wx: passed; with a bad page the audit says: {found}"),
            None => fatal(failure::SELF_TEST, format_args!("the W^X audit did not find a bad page")),
        }
    }
}

fn find_bad_page(frames: &mut Frames, kernel: &KernelSpace) -> Option<WxReport> {
    const AT: u64 = 0x40_0000;
    let mut scratch = AddressSpace::new(frames, kernel, Owner::Core)?;
    let frame = frames.alloc_zeroed(Owner::Core, 0)?;
    let mapped = scratch.map_bad_for_selftest(frames, AT, frame);
    let report = scratch.audit();
    scratch.destroy(frames);
    // Allocated above by this name, so it cannot be refused.
    frames.free(frame, Owner::Core);
    let found = mapped.is_ok() && report.writable_executable == 1 && report.first_bad == Some(AT);
    found.then_some(report)
}

/// On request, creates VMs and spoils the first of them, one in each way, so that the next entry of each fails: the entry path's own test.
pub fn entry_failures<B: Backend<Vcpu: Spoil>, H: Board>(kernel: &mut Kernel<B, H>, options: &Options) {
    if options.selftest() != Some(SelfTest::EntryFailure) {
        return;
    }
    kernel.create_requested();
    let ways = [Corruption::GuestState, Corruption::Controls, Corruption::HostState];
    let Kernel { vms, cpu, .. } = kernel;
    for (slot, way) in (0_u32..).zip(ways) {
        let Some(seed) = vms.waiting_in(Slot::new(slot)) else { break };
        cpu.admit(vms, seed.id);
        if let Some(vm) = vms.by_id(seed.id).filter(|vm| vm.life.is_ready()) {
            vm.vcpu.corrupt(&mut cpu.backend, way);
            log::info!(target: "core", "selftest: {} is spoilt: {way:?}", vm.id);
        }
    }
}
