//! The fake CPU.

use super::{Asked, FakeFormat, FakeVcpu, Ram, Step, Wires};
use crate::{Access, Backend, Barriers, EntryFormat, FourLevel, Frames, Translation};
use abi::log::ProcessorError;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

/// Address bits of an entry.
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// Why the fake CPU refuses a processor: the test wanted it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FakeError;

impl From<FakeError> for ProcessorError {
    fn from(_: FakeError) -> Self {
        ProcessorError::Unknown
    }
}

/// What a translation that the CPU remembers allows.
type Remembered = BTreeMap<u64, Translation>;

/// A CPU that takes what guests do from a script. With `TIMER` it ends quanta by itself and acknowledges interrupts, as
/// VT-x does; without, it leaves both to the core, as SVM does.
pub struct FakeBackend<const TIMER: bool> {
    pub(super) wires: Rc<Wires>,
    pub(super) ram: Ram,
    /// What the guest in a slot does next; `None`: nothing any more, so it idles for good.
    pub(super) script: Box<dyn FnMut(u32) -> Option<Step>>,
    /// By the root of the tables and the page.
    remembered: BTreeMap<u64, Remembered>,
    /// Processors that will be refused.
    pub refuse: u32,
    /// Entries into guests.
    pub entries: u64,
    /// The CPU's own timer does not end quanta as it says.
    pub slow_timer: bool,
    /// An interrupt does not end a guest that runs: it waits.
    pub deaf: bool,
    /// Every crossing, if somebody looks.
    pub asked: Option<Rc<RefCell<Vec<Asked>>>>,
    /// What comes with the next entry.
    pub(super) pending: Barriers,
    /// What comes with each entry.
    pub(super) entry: Barriers,
    /// What comes with each exit.
    pub(super) exit: Barriers,
}

impl<const TIMER: bool> FakeBackend<TIMER> {
    /// A CPU over this memory.
    pub fn new(wires: Rc<Wires>, ram: Ram, script: Box<dyn FnMut(u32) -> Option<Step>>) -> Self {
        FakeBackend {
            wires,
            ram,
            script,
            remembered: BTreeMap::new(),
            refuse: 0,
            entries: 0,
            slow_timer: false,
            deaf: false,
            asked: None,
            pending: Barriers::NONE,
            entry: Barriers::NONE,
            exit: Barriers::NONE,
        }
    }

    /// Write down a crossing.
    pub(super) fn note(&mut self, what: Asked) {
        if let Some(asked) = &self.asked {
            asked.borrow_mut().push(what);
        }
    }

    /// What the tables at `root` say of a guest-physical address. Where the CPU itself looks, it notes there that the page was used.
    fn walk(&self, root: u64, address: u64, notes: bool) -> Option<Translation> {
        let (mut entry, mut at) = (root, 0);
        for level in (0..4).rev() {
            let index = address >> (12 + 9 * level) & 511;
            at = (entry & FRAME) + index * 8;
            entry = self.ram.read(at);
            if entry & FakeFormat::PRESENT == 0 {
                return None;
            }
        }
        if notes {
            self.ram.write(at, entry | FakeFormat::ACCESSED);
        }
        let rights = FakeFormat::rights(entry);
        Some(Translation { frame: entry & FRAME, rights, accessed: true, dirty: true })
    }

    /// The physical address behind a guest-physical one, as far as the guest may touch it in this way. The error says
    /// whether a page is there.
    ///
    /// # Panics
    /// The CPU remembers what the tables do not say any more: the core has forgotten to flush.
    pub(super) fn translate(&mut self, root: u64, address: u64, access: Access) -> Result<u64, bool> {
        let page = address >> 12;
        let may = |found: &Translation| match access {
            Access::Read => true,
            Access::Write => found.rights.write,
            Access::Execute => found.rights.execute,
        };
        let known = self.remembered.get(&root).and_then(|remembered| remembered.get(&page));
        // What it remembers it does not look up, unless a violation makes it look again.
        let now = self.walk(root, address, !known.is_some_and(may));
        if let Some(known) = known {
            let holds = now.is_some_and(|now| {
                now.frame == known.frame
                    && (now.rights.write || !known.rights.write)
                    && (now.rights.execute || !known.rights.execute)
            });
            assert!(holds, "stale translation of page {page:#x}: {known:?} is remembered, the tables say {now:?}");
        }
        let Some(now) = now else { return Err(false) };
        self.remembered.entry(root).or_default().insert(page, now);
        if may(&now) { Ok(now.frame | address & 0xfff) } else { Err(true) }
    }
}

impl<const TIMER: bool> Backend for FakeBackend<TIMER> {
    type Vcpu = FakeVcpu<TIMER>;
    type Tables = FourLevel<FakeFormat>;
    type Error = FakeError;
    const ENDS_QUANTUM: bool = TIMER;

    fn new_tables<F: Frames>(&self, frames: &mut F) -> Option<Self::Tables> {
        FourLevel::new(frames, true)
    }

    fn ends_quantum(&self) -> bool {
        TIMER && !self.slow_timer
    }

    fn at_exits(&mut self, barriers: Barriers) {
        self.exit = barriers;
    }

    fn at_entries(&mut self, barriers: Barriers) {
        self.entry = barriers;
    }

    fn before_entry(&mut self, barriers: Barriers) {
        self.pending = self.pending.with(barriers);
    }

    fn now(&mut self, barriers: Barriers) {
        self.note(Asked::Now(barriers));
    }

    fn flush(&mut self, _: &mut Self::Vcpu, tables: &Self::Tables) {
        self.remembered.remove(&tables.root());
    }
}
