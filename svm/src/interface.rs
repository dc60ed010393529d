//! SVM as the core sees it.

use crate::npt::Npt;
use crate::svm::Svm;
use crate::vcpu::SvmVcpu;
use backend::{Backend, Barriers, Frames};
use core::convert::Infallible;

impl Backend for Svm {
    type Vcpu = SvmVcpu;
    type Tables = Npt;
    /// VMRUN judges what `init` writes, so nothing is refused before.
    type Error = Infallible;
    const ENDS_QUANTUM: bool = false;

    #[inline]
    fn ends_quantum(&self) -> bool {
        false
    }

    fn new_tables<F: Frames>(&self, frames: &mut F) -> Option<Npt> {
        // The CPU always keeps accessed and dirty bits.
        Npt::new(frames, true)
    }

    fn at_exits(&mut self, barriers: Barriers) {
        self.exit = barriers;
        self.is_guarded |= !barriers.is_none();
        self.active = 0;
    }

    fn at_entries(&mut self, barriers: Barriers) {
        self.entry = barriers;
        self.before_entry(barriers);
    }

    fn before_entry(&mut self, barriers: Barriers) {
        self.pending = self.pending.with(barriers);
        self.is_guarded |= !barriers.is_none();
        self.active = 0;
    }

    fn now(&mut self, barriers: Barriers) {
        self.execute(barriers);
    }

    #[inline]
    fn flush(&mut self, vcpu: &mut SvmVcpu, _: &Npt) {
        vcpu.forget();
        self.active = 0;
    }
}
