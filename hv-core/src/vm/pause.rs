//! VMs that stand still because somebody who controls the machine wants it.

use super::Queue;
use super::life::State;
use super::state::StateError;
use crate::board::Board;
use crate::kernel::Kernel;
use abi::vm::VmId;
use backend::Backend;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Let an admitted VM stand still. What it is called for meanwhile is pending when it goes on. One that stands still already does.
    ///
    /// # Errors
    /// [`StateError`]; nothing has changed. One that waits for a page is busy until the page is there.
    pub fn pause(&mut self, id: VmId) -> Result<(), StateError> {
        let Self { vms, cpu, .. } = self;
        if vms.waiting(id).is_some() || vms.out(id).is_some() {
            return Err(StateError::Waits);
        }
        let vm = vms.by_id(id).ok_or(StateError::NoVm)?;
        match vm.life.state() {
            State::Paused => {}
            State::Ready => {
                vm.life.pause();
                cpu.plan.give_up(id);
                cpu.queues.remove(Queue::Held, id.slot);
                cpu.blocked(vm, false);
            }
            State::Idle { .. } => {
                vm.life.pause();
                cpu.components.note_idle(vm.seat, 0);
                cpu.timers.set(vm.seat, vm.deadline());
            }
            State::Fault(_) | State::Leaving { .. } => return Err(StateError::Busy),
            State::Coming => return Err(StateError::Waits),
            State::New | State::Ending => return Err(StateError::NoVm),
        }
        Ok(())
    }

    /// Let a VM that stands still go on; one that idled before looks for what is pending. Of one that does not stand still nothing changes.
    ///
    /// # Errors
    /// [`StateError::NoVm`].
    pub fn resume(&mut self, id: VmId) -> Result<(), StateError> {
        let Self { vms, cpu, .. } = self;
        if vms.waiting(id).is_some() || vms.out(id).is_some() {
            return Ok(());
        }
        let vm = vms.by_id(id).filter(|vm| !vm.life.is_ending()).ok_or(StateError::NoVm)?;
        if vm.life.state() == State::Paused {
            vm.life.resume();
            cpu.now_ready(vm);
        }
        Ok(())
    }
}
