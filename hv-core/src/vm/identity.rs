//! A VM becomes somebody else: with another generation id, another address if its creator says so, a clock that was looked at
//! anew. It is told by an interrupt that it cannot mask.

use super::registers::Identity;
use crate::board::Board;
use crate::kernel::Kernel;
use crate::memory::core_memory;
use abi::guest::{BOOT_ARGS_MAX, NIC_BASE, pending};
use abi::limits::{PAGE_SHIFT, PAGE_SIZE};
use abi::nic;
use abi::vm::VmId;
use backend::Backend;

/// Why a VM stays who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityError {
    /// There is no such VM.
    NoVm,
    /// It waits for admission: it has not been anybody yet.
    Waits,
    /// Its boot arguments do not fit.
    TooLong,
}

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Make a VM somebody else, at the address `ipv4` (0: at one that DHCP gives), with these boot arguments in place of those
    /// that it had.
    ///
    /// # Errors
    /// [`IdentityError`]; nothing has changed.
    pub fn change_identity(&mut self, id: VmId, ipv4: u32, args: &[u8]) -> Result<(), IdentityError> {
        let Self { vms, cpu, .. } = self;
        let mac = nic::mac_of(cpu.node(), id.slot);
        if vms.waiting(id).is_some() || vms.out(id).is_some() {
            return Err(IdentityError::Waits);
        }
        let vm = vms.by_id(id).ok_or(IdentityError::NoVm)?;
        if vm.life.is_coming() || vm.life.is_leaving() {
            return Err(IdentityError::Waits);
        }
        let (Some(body), Some(image)) = (vm.life.body(), cpu.images.get(vm.image)) else {
            return Err(IdentityError::NoVm);
        };
        if args.len() > BOOT_ARGS_MAX {
            return Err(IdentityError::TooLong);
        }
        let identity = Identity {
            vm_id: id,
            generation_id: cpu.board.random(),
            tsc_hz: cpu.time.tsc_hz(),
            clock: cpu.clock.reading(cpu.board.now()),
        };
        let page = u32::try_from(NIC_BASE >> PAGE_SHIFT).unwrap_or(u32::MAX);
        let nic = body.memory.frame(&mut cpu.frames, page);
        body.registers.change(&identity, args, || {
            if let Some(nic) = nic.filter(|_| image.entry.rx_slots != 0 && image.entry.tx_slots != 0) {
                // The first bytes of a page.
                let _ = core_memory(nic, PAGE_SIZE).write(0, &mac);
            }
        });
        vm.ipv4 = ipv4;
        cpu.tell_address(vm);
        cpu.raise(vm, pending::IDENTITY);
        Ok(())
    }
}
