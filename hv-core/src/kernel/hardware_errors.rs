//! What the core does about hardware that fails: errors that were corrected are counted and said; a frame whose data is lost is
//! never given to anybody again, and ends the one VM whose it is. Where more than one VM depends on what is lost (the core,
//! components, golden frames, page tables), or nobody can say what is lost, the machine stops with a message: going on could
//! mean wrong data.

use super::{Cpu, Kernel};
use crate::board::Board;
use crate::log::say;
use crate::memory::{Owner, PhysAddr};
use crate::trap::{ADVICE, HardwareError, Severity};
use crate::vm::{End, NEVER};
use abi::end::EndReason;
use abi::log::Record;
use abi::vm::{Slot, VmId};
use backend::Backend;

/// How often the banks are looked at for errors that raise no machine check, in milliseconds.
const INTERVAL_MS: u64 = 5000;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Look at the banks when it is time, or there was a machine check.
    pub(super) fn look_for_errors(&mut self, now: u64) {
        let survived = self.cpu.board.machine_checks();
        let errors = &mut self.cpu.errors;
        if errors.look_at > now && errors.interrupted.is_none() && errors.survived == survived {
            return;
        }
        errors.survived = survived;
        let interrupted = errors.interrupted.take();
        if errors.look_at != NEVER {
            errors.look_at = now.saturating_add(self.cpu.time.milliseconds(INTERVAL_MS));
        }
        let (found, goes_on) = self.cpu.board.take_errors();
        for error in &found {
            match error.severity(self.cpu.board.make()) {
                Severity::Corrected => self.cpu.corrected(error, now),
                Severity::Unused | Severity::Used => self.lose(error),
                Severity::Fatal => panic!("machine check: {}; {ADVICE}", error.said()),
            }
        }
        if let Some(id) = interrupted.filter(|_| !goes_on) {
            self.end_broken(id, 0);
        }
    }

    /// The data in the error's frame is lost.
    fn lose(&mut self, error: &HardwareError) {
        // Errors without a frame are fatal.
        let frame = PhysAddr::from_frame(error.frame(self.cpu.board.make()).unwrap_or(u64::MAX));
        let (owner, _) = self.cpu.frames.owner_of(frame);
        let said = error.said();
        match owner {
            Owner::Free | Owner::Damaged => say(Record::ErrorInFreeMemory { error: said }),
            Owner::VmMemory(slot) => {
                let slot = Slot::new(slot);
                let id = self.vms.get(slot).map(|vm| vm.id);
                say(Record::ErrorInVm { slot, error: said });
                if let Some(id) = id {
                    self.end_broken(id, error.address);
                }
            }
            _ => panic!("machine check: {said}, in memory of {}; {ADVICE}", owner.class().name()),
        }
        if !self.cpu.frames.retire(frame) {
            panic!("machine check: {said}, and too many frames are damaged; {ADVICE}");
        }
    }

    fn end_broken(&mut self, id: VmId, address: u64) {
        let Self { vms, cpu, .. } = self;
        if let Some(vm) = vms.by_id(id) {
            cpu.end(vm, End::new(EndReason::HardwareError, address));
        }
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    fn corrected(&mut self, error: &HardwareError, now: u64) {
        self.errors.corrected += 1;
        if self.hardware_log.allow(now, self.time.tsc_hz()).is_some() {
            say(Record::CorrectedError { error: error.said(), count: self.errors.corrected });
        }
    }

    /// There was a non-maskable interrupt or a machine check that nobody has looked at.
    pub(super) fn has_news_of_hardware(&self) -> bool {
        self.board.nmi_count() != self.nmis || self.board.machine_checks() != self.errors.survived
    }

    /// Say how many non-maskable interrupts there were; not more often than the log can bear, but in the end all.
    pub(super) fn say_nmis(&mut self, now: u64) {
        let nmis = self.board.nmi_count();
        if self.nmis != nmis && self.hardware_log.allow(now, self.time.tsc_hz()).is_some() {
            self.nmis = nmis;
            say(Record::Nmis { count: nmis });
        }
    }
}
