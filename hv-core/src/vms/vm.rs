//! One virtual machine.

use super::console::Console;
use super::memory::Memory;
use super::registers::Registers;
use crate::memory::PhysAddr;
use abi::control::CREATE_ARGS_BYTES;
use abi::pager::Access;
use abi::vm::VmId;
use backend::Backend;

/// A page that a VM waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Guest page number.
    pub page: u32,
    /// How it was touched.
    pub access: Access,
    /// Whether a page is there that may not be touched in this way.
    pub present: bool,
}

/// What a VM does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits for the gatekeeper; it has no memory yet.
    Waiting,
    /// It can run.
    Ready,
    /// It idles until an enabled interrupt is pending or `until` (TSC).
    Idle {
        /// TSC at which the idle ends, `u64::MAX` for never.
        until: u64,
    },
    /// It waits for a page. `known` once the scheduler has been told.
    Fault {
        /// The page.
        page: Pending,
        /// Whether the scheduler knows.
        known: bool,
    },
    /// It has ended, and its memory is freed when the network demultiplexer has let go of its NIC.
    Ending,
}

/// A virtual machine; `B` is the backend that runs it. Lies in a frame of its own.
#[repr(C)]
pub struct Vm<B: Backend> {
    /// Processor state.
    pub vcpu: B::Vcpu,
    /// Its name.
    pub id: VmId,
    /// The image that it was started from.
    pub image: u16,
    /// See [`State`].
    pub state: State,
    /// True when something is pending that may have to be delivered before the next entry.
    pub hazard: bool,
    /// True from the entry into the fault handler until its return.
    pub in_fault: bool,
    /// True while the result of an idle has still to be put into RAX.
    pub idle_result: bool,
    /// True while the network demultiplexer shares its NIC pages.
    pub attached: bool,
    /// True from the set-up of its processor until its end.
    pub running: bool,
    /// The frame of the backend's control structure.
    pub control_frame: PhysAddr,
    /// TSC at which the alarm is due, `u64::MAX` for never.
    pub alarm: u64,
    /// TSC at which its creation began.
    pub created_tsc: u64,
    /// Ticks that it ran since its start, and since it last became ready.
    pub ran_ticks: u64,
    /// See `ran_ticks`.
    pub burst_ticks: u64,
    /// IPv4 address that it may use, 0 when it asks DHCP.
    pub ipv4: u32,
    /// Its memory, once it is admitted.
    pub memory: Option<Memory<B>>,
    /// Its register page, once it is admitted.
    pub registers: Option<Registers>,
    /// Its console, once it is admitted.
    pub console: Option<Console>,
    /// Extra boot arguments, zero-padded.
    pub args: [u8; CREATE_ARGS_BYTES],
}

/// What a VM is made from.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    /// Its name.
    pub id: VmId,
    /// Its image.
    pub image: u16,
    /// IPv4 address that it may use, 0 when it asks DHCP.
    pub ipv4: u32,
    /// Extra boot arguments, zero-padded.
    pub args: [u8; CREATE_ARGS_BYTES],
    /// The frame for the backend's control structure.
    pub control_frame: PhysAddr,
    /// TSC at which its creation began.
    pub created_tsc: u64,
}

impl<B: Backend> Vm<B> {
    /// Make a VM that waits for admission at `place`, field by field: built elsewhere and moved, it would be copied twice,
    /// processor and all.
    ///
    /// # Safety
    /// `place` is valid for a write, and holds zeros, which are a valid processor ([`backend::Vcpu`]).
    pub unsafe fn emplace(place: *mut Self, seed: Seed) {
        macro_rules! set {
            ($($field:ident: $value:expr),* $(,)?) => {
                // SAFETY: the caller's promise.
                unsafe { $((&raw mut (*place).$field).write($value);)* }
            };
        }
        set! {
            id: seed.id,
            image: seed.image,
            state: State::Waiting,
            hazard: false,
            in_fault: false,
            idle_result: false,
            attached: false,
            running: false,
            control_frame: seed.control_frame,
            alarm: u64::MAX,
            created_tsc: seed.created_tsc,
            ran_ticks: 0,
            burst_ticks: 0,
            ipv4: seed.ipv4,
            memory: None,
            registers: None,
            console: None,
            args: seed.args,
        }
    }

    /// When the core must look at it next: its alarm or the end of its idle.
    pub fn deadline(&self) -> u64 {
        match self.state {
            State::Idle { until } => until.min(self.alarm),
            _ => self.alarm,
        }
    }
}
