//! One virtual machine.

use super::disk_told::DiskTold;
use super::life::{Life, State};
use super::seed::Seed;
use crate::component::EndpointId;
use crate::memory::PhysAddr;
use abi::attachment::Attachment;
use abi::charges::{Charges, Traffic};
use abi::share::Share;
use abi::tenant::Tenant;
use abi::vm::{ImageId, Seat, Slot, VmId};
use backend::Backend;

/// What has to be done for a VM before it is entered again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hazard(u32);

impl Hazard {
    /// Something is pending that may have to be delivered.
    pub const PENDING: Hazard = Hazard(1);
    /// The result of an idle has to be put into RAX.
    pub const IDLE_RESULT: Hazard = Hazard(2);

    #[inline]
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether `hazard` is set.
    pub fn contains(self, hazard: Hazard) -> bool {
        self.0 & hazard.0 != 0
    }

    #[inline]
    pub fn set(&mut self, hazard: Hazard) {
        self.0 |= hazard.0;
    }

    #[inline]
    pub fn clear(&mut self, hazard: Hazard) {
        self.0 &= !hazard.0;
    }

    /// Whether `hazard` was set. It is not any more.
    #[inline]
    #[must_use]
    pub fn take(&mut self, hazard: Hazard) -> bool {
        let was = self.0 & hazard.0 != 0;
        self.clear(hazard);
        was
    }
}

/// A virtual machine; `B` is the backend that runs it. Lies in a frame of its own.
#[repr(C)]
pub struct Vm<B: Backend> {
    /// Processor state.
    pub vcpu: B::Vcpu,
    /// Its name.
    pub id: VmId,
    /// Its place in the tables of components.
    pub seat: Seat,
    /// The image that it was started from.
    pub image: ImageId,
    /// Looked at before each entry.
    pub hazard: Hazard,
    pub life: Life<B>,
    /// The frame of the backend's control structure.
    pub control_frame: PhysAddr,
    /// TSC at which the alarm is due, `u64::MAX` for never.
    pub alarm: u64,
    /// TSC at which its creation began.
    pub created_tsc: u64,
    /// TSC at which it came in last.
    pub since_tsc: u64,
    /// What was made pending for it while it was on its way in, and had no register page.
    pub early: u64,
    /// Ticks that it ran since its start.
    pub ran_ticks: u64,
    /// What is charged to it beside.
    pub charges: Charges,
    /// Its traffic before it was attached to its network demultiplexer, which counts from there.
    pub traffic_before: Traffic,
    /// Ticks that it ran, and that were run for it, since it last became ready.
    pub burst_ticks: u64,
    /// Of those that were run for it, the ones that it has still to pay with turns.
    pub debt_ticks: u64,
    /// Ticks that it may run ahead of the plan when it wakes.
    pub ahead_ticks: u64,
    /// IPv4 address that it may use, 0 when it asks DHCP.
    pub ipv4: u32,
    /// What policies are told that it gets.
    pub share: Share,
    /// Whose it is.
    pub tenant: Tenant,
    /// The start of the scheduler that keeps it back, 0 for none.
    pub held_by: u32,
    /// The start of its network demultiplexer that has been told of its NIC, 0 for none.
    pub attached_to: u32,
    /// Who serves its NIC, and who its page faults.
    pub net: EndpointId,
    /// See `net`.
    pub pager: EndpointId,
    /// The virtual disk that it has, who serves it, and what that one has been told.
    pub attachment: Attachment,
    /// See `attachment`.
    pub disk: EndpointId,
    /// See `attachment`.
    pub disk_told: DiskTold,
    /// Its own endpoint, if it controls the machine.
    pub control: EndpointId,
}

impl<B: Backend> Vm<B> {
    /// So much was run by others for what it has done: as if it had run that itself.
    #[inline]
    pub fn owe(&mut self, ticks: u64) {
        self.burst_ticks = self.burst_ticks.saturating_add(ticks);
        self.ahead_ticks = self.ahead_ticks.saturating_sub(ticks);
        self.debt_ticks = self.debt_ticks.saturating_add(ticks);
    }

    /// Make a VM that is about to be built at `place`, field by field: built elsewhere and moved, it would be copied twice,
    /// processor and all.
    ///
    /// # Safety
    /// `place` is valid for a write, and holds zeros, which are a valid processor ([`backend::Vcpu`]).
    pub unsafe fn emplace(place: *mut Self, control_frame: PhysAddr, seed: Seed, seat: Seat) {
        macro_rules! set {
            ($($field:ident: $value:expr),* $(,)?) => {
                // SAFETY: upheld by the caller.
                unsafe { $((&raw mut (*place).$field).write($value);)* }
            };
        }
        set! {
            id: seed.id,
            seat: seat,
            image: seed.image,
            hazard: Hazard::default(),
            life: Life::begin(),
            control_frame: control_frame,
            alarm: u64::MAX,
            held_by: 0,
            attached_to: 0,
            net: EndpointId::NONE,
            pager: EndpointId::NONE,
            control: EndpointId::NONE,
            attachment: seed.disk,
            disk: EndpointId::NONE,
            disk_told: DiskTold::Nothing,
            created_tsc: seed.created_tsc,
            since_tsc: 0,
            early: 0,
            ran_ticks: 0,
            charges: Charges::NONE,
            traffic_before: Traffic::NONE,
            burst_ticks: 0,
            debt_ticks: 0,
            ahead_ticks: 0,
            ipv4: seed.ipv4,
            share: seed.share,
            tenant: seed.tenant,
        }
    }

    /// Its slot.
    #[inline]
    pub fn slot(&self) -> Slot {
        self.id.slot
    }

    /// When the core must look at it next: its alarm, the end of its idle, or when it is short of memory.
    pub fn deadline(&self) -> u64 {
        match self.life.state() {
            State::Idle { until } => until.min(self.alarm),
            State::Fault(_) => self.life.shortage().map_or(self.alarm, |shortage| shortage.retry.min(self.alarm)),
            _ => self.alarm,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Hazard;

    #[test]
    fn hazards_are_set_cleared_and_taken_one_by_one() {
        let mut hazard = Hazard::default();
        assert!(hazard.is_none() && !hazard.take(Hazard::PENDING));
        hazard.set(Hazard::PENDING);
        hazard.set(Hazard::IDLE_RESULT);
        assert!(hazard.take(Hazard::PENDING) && !hazard.take(Hazard::PENDING));
        assert_eq!(hazard, Hazard::IDLE_RESULT);
        assert!(hazard.contains(Hazard::IDLE_RESULT) && !hazard.contains(Hazard::PENDING));
        hazard.set(Hazard::IDLE_RESULT);
        hazard.clear(Hazard::PENDING);
        assert!(!hazard.is_none());
        hazard.clear(Hazard::IDLE_RESULT);
        assert!(hazard.is_none());
    }
}
