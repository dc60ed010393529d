//! The state of a VM's processor, as it goes out of the machine and comes in.

use super::Hazard;
use super::life::State;
use crate::board::Board;
use crate::kernel::Kernel;
use abi::vcpu::{BadState, VcpuState};
use abi::vm::VmId;
use backend::{Backend, Vcpu};

/// Why there is no state to read, or one is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateError {
    /// There is no such VM, or it has ended.
    NoVm,
    /// It waits for admission: it has no processor yet.
    Waits,
    /// It waits for a page, which would come for what it does not do any more; or it is on its way out.
    Busy,
    /// No processor, or not this one, can have that state.
    Bad(BadState),
}

impl<B: Backend, H: Board> Kernel<B, H> {
    /// What the processor of an admitted VM holds. Where it idles, its idle returns that nothing is pending.
    ///
    /// # Errors
    /// [`StateError::NoVm`] or [`StateError::Waits`].
    pub fn read_state(&mut self, id: VmId) -> Result<VcpuState, StateError> {
        let Self { vms, cpu, .. } = self;
        if vms.waiting(id).is_some() || vms.out(id).is_some() {
            return Err(StateError::Waits);
        }
        // One that has ended has no processor any more.
        let vm = vms.by_id(id).ok_or(StateError::NoVm)?;
        if vm.life.is_coming() {
            return Err(StateError::Waits);
        }
        if vm.life.body().is_none() {
            return Err(StateError::NoVm);
        }
        let mut state = VcpuState::INITIAL;
        vm.vcpu.export(&mut cpu.backend, cpu.board.now(), &mut state);
        if vm.hazard.contains(Hazard::IDLE_RESULT) {
            state.general.rax = 0;
        }
        Ok(state)
    }

    /// Let a VM go on from this state, in its own memory. One that idles is woken.
    ///
    /// # Errors
    /// [`StateError`]; nothing has changed.
    pub fn write_state(&mut self, id: VmId, state: &VcpuState) -> Result<(), StateError> {
        let Self { vms, cpu, .. } = self;
        if vms.waiting(id).is_some() || vms.out(id).is_some() {
            return Err(StateError::Waits);
        }
        let vm = vms.by_id(id).ok_or(StateError::NoVm)?;
        match vm.life.state() {
            State::Ready | State::Idle { .. } | State::Paused => {}
            State::Fault(_) | State::Leaving { .. } => return Err(StateError::Busy),
            State::Coming => return Err(StateError::Waits),
            State::New | State::Ending => return Err(StateError::NoVm),
        }
        vm.vcpu.import(&mut cpu.backend, state).map_err(StateError::Bad)?;
        // What it was doing is not what it does now.
        vm.hazard.clear(Hazard::IDLE_RESULT);
        if vm.life.is_idle() {
            cpu.wake(vm);
        }
        Ok(())
    }
}
