//! VT-x as the core sees it.

use crate::ept::{self, Ept};
use crate::error::Error;
use crate::vcpu::VtxVcpu;
use crate::vtx::Vtx;
use backend::{Backend, Barriers, Frames};

impl Backend for Vtx {
    type Vcpu = VtxVcpu;
    type Tables = Ept;
    type Error = Error;
    const ENDS_QUANTUM: bool = true;

    fn new_tables<F: Frames>(&self, frames: &mut F) -> Option<Ept> {
        Ept::new(frames, self.plan.ept_accessed_dirty)
    }

    fn at_exits(&mut self, barriers: Barriers) {
        self.exit = barriers;
    }

    fn at_entries(&mut self, barriers: Barriers) {
        self.entry = barriers;
        self.before_entry(barriers);
    }

    fn before_entry(&mut self, barriers: Barriers) {
        self.pending = self.pending.with(barriers);
        self.active = 0;
    }

    fn now(&mut self, barriers: Barriers) {
        self.execute(barriers);
    }

    #[inline]
    fn ends_quantum(&self) -> bool {
        !self.plan.timer_wrong
    }

    #[inline]
    fn flush(&mut self, _: &mut VtxVcpu, tables: &Ept) {
        self.forget(ept::pointer(tables));
    }
}
