//! The search for pages that go out, by any of the rules: a hand goes over all pages that the pager has given, those of one VM side by side at once.

use super::Choice;
use super::queue::{Entry, MOST_MARK, Queue};
use super::replace::{Replace, Verdict};
use abi::pager::{PagerCommand, PagerEvent};
use abi::swap::PAGES_AT_ONCE;
use abi::vm::{Seat, VmId};
use component::{Table, Tables};
use core::marker::PhantomData;

/// Frames that are made free at least when one is wanted: so few searches are waited for.
const BATCH: u64 = 32;
/// VMs that wait for a frame that are remembered; others look again by themselves.
const WAITING: usize = 64;
/// A VM that is to go out as a whole has this part of a second for it, until single pages go.
const RETRY_HZ: u64 = 100;
/// After which part of a second it is looked again, while somebody waits, when nothing could go.
const EXHAUSTED_HZ: u64 = 10;
/// And after which part of a second an answer counts as lost.
const PATIENCE_HZ: u64 = 4;

/// Who is in a seat.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    vm: VmId,
    /// Pages of memory; 0 for nobody.
    pages: u32,
    /// Milliseconds that it had run when that was heard last.
    ran_ms: u32,
}

/// What the core was asked last, about pages of one VM side by side.
#[derive(Clone, Copy, Debug)]
struct Asked {
    vm: VmId,
    seat: Seat,
    first: u32,
    bits: u64,
    marks: [u32; PAGES_AT_ONCE as usize],
    /// Whether they are to go; else which were used.
    away: bool,
}

/// The search by a rule.
#[derive(Debug)]
pub struct Single<R> {
    queue: Queue,
    known: Table<Known>,
    hz: u64,
    /// Frames that are wanted still.
    wanted: u64,
    waiting: heapless::Deque<VmId, WAITING>,
    asked: Option<Asked>,
    /// A command that is to be said.
    ready: Option<PagerCommand>,
    /// Pages whose turn it was since the last one went.
    passed: usize,
    /// Nothing was old enough: the next that was not used goes.
    forced: bool,
    /// What load control is asked for.
    control: Option<u64>,
    /// Nothing is looked for before this TSC.
    pause: u64,
    /// Until then pages are no help to those who wait to come in.
    exhausted_until: u64,
    /// Pages may be there of which nobody has said so: it has been restarted, or had no room.
    unknown: bool,
    /// It is looked what is there, from which page of which seat on.
    scanning: bool,
    scan: (u16, u32),
    /// That was done since a page went last: more of them than there is room for are no reason to begin again.
    rescanned: bool,
    /// Frames that have just become free.
    freed: usize,
    /// Until when an answer is waited for.
    patience: u64,
    rule: PhantomData<R>,
}

impl<R: Replace> Single<R> {
    fn vm(&self, seat: Seat) -> Option<&Known> {
        self.known.get(seat.index()).filter(|known| known.pages != 0)
    }

    fn find(&self, vm: VmId, seat: Seat) -> Option<&Known> {
        self.vm(seat).filter(|known| known.vm == vm)
    }

    fn push(&mut self, seat: Seat, page: u32, mark: u32) {
        self.unknown |= self.queue.push(Entry { seat, page, mark });
    }

    /// The next pages whose turn it is, of one VM side by side.
    fn take_turn(&mut self) -> Option<Asked> {
        let mut found: Option<Asked> = None;
        for _ in 0..PAGES_AT_ONCE {
            let Some(entry) = self.queue.front() else { break };
            let (first, bit) = (entry.page & !(PAGES_AT_ONCE - 1), entry.page % PAGES_AT_ONCE);
            let Some(known) = self.vm(entry.seat) else {
                // Its VM is gone.
                self.queue.pop();
                continue;
            };
            let vm = known.vm;
            let fresh = Asked { vm, seat: entry.seat, first, bits: 0, marks: [0; PAGES_AT_ONCE as usize], away: false };
            let asked = found.get_or_insert(fresh);
            if (asked.seat, asked.first) != (entry.seat, first) {
                break;
            }
            self.queue.pop();
            asked.bits |= 1 << bit;
            asked.marks[bit as usize] = entry.mark;
        }
        found
    }

    /// The next pages to look at where nobody has said what is there: after a restart.
    fn take_scan(&mut self) -> Option<Asked> {
        for _ in 0..PAGES_AT_ONCE {
            let (number, first) = self.scan;
            let seat = Seat::new(number);
            if seat.index() >= self.known.len() {
                self.scan = (0, 0);
                return None;
            }
            match self.vm(seat).copied() {
                Some(known) if first < known.pages => {
                    self.scan.1 = first + PAGES_AT_ONCE;
                    let marks = [known.ran_ms; PAGES_AT_ONCE as usize];
                    return Some(Asked { vm: known.vm, seat, first, bits: u64::MAX, marks, away: false });
                }
                _ => self.scan = (number + 1, 0),
            }
        }
        None
    }

    /// The core has said which of the pages that were asked about are there and were used.
    fn looked(&mut self, asked: &Asked, used: u64, there: u64, ran_ms: u32) {
        if let Some(known) = self.known.get_mut(asked.seat.index()) {
            known.ran_ms = ran_ms;
        }
        let (mut goes, mut left) = (0, self.wanted);
        for bit in (0..PAGES_AT_ONCE).filter(|bit| asked.bits & there & 1 << bit != 0) {
            let (is_used, then) = (used >> bit & 1 != 0, asked.marks[bit as usize]);
            self.passed += 1;
            match R::judge(is_used, ran_ms, then) {
                Verdict::Stays(_) if self.forced && !is_used && left > 0 => (goes, left) = (goes | 1 << bit, left - 1),
                Verdict::Goes if left > 0 => (goes, left) = (goes | 1 << bit, left - 1),
                Verdict::Goes => self.push(asked.seat, asked.first + bit, then),
                Verdict::Stays(mark) => self.push(asked.seat, asked.first + bit, mark),
            }
        }
        if goes != 0 {
            self.send(&Asked { bits: goes, ..*asked });
        }
    }

    fn send(&mut self, asked: &Asked) {
        self.asked = Some(Asked { away: true, ..*asked });
        self.ready = Some(PagerCommand::Away { vm: asked.vm, page: asked.first, pages: asked.bits });
    }

    /// The core has said which of the pages that were to go are gone.
    fn gone(&mut self, asked: &Asked, gone: u64) {
        for bit in (0..PAGES_AT_ONCE).filter(|bit| asked.bits & !gone & 1 << bit != 0) {
            self.push(asked.seat, asked.first + bit, asked.marks[bit as usize]);
        }
        self.wanted = self.wanted.saturating_sub(gone.count_ones().into());
        // Where none is, the VM has no more than its reserve, or nobody can take them.
        if gone != 0 {
            (self.passed, self.forced, self.rescanned) = (0, false, false);
            self.freed = gone.count_ones() as usize;
            self.wanted = self.wanted.max(self.waiting.len().saturating_sub(self.freed) as u64);
        }
    }

    /// All pages have had their turn, and none went.
    fn exhausted(&mut self, now: u64) {
        self.passed = 0;
        if core::mem::take(&mut self.unknown) && !core::mem::replace(&mut self.rescanned, true) {
            self.queue.clear();
            (self.scanning, self.scan) = (true, (0, 0));
            return;
        }
        let retry = now.saturating_add(self.hz / RETRY_HZ);
        if R::LOAD_CONTROL && !self.forced {
            self.control = Some(self.wanted);
        }
        if !self.forced {
            self.forced = true;
            // Whoever goes out as a whole has a moment for that.
            self.pause = if R::LOAD_CONTROL { retry } else { now };
            return;
        }
        self.forced = false;
        // To look at all of them is work.
        self.pause = now.saturating_add(self.hz / EXHAUSTED_HZ);
        self.exhausted_until = self.pause;
        if self.waiting.is_empty() {
            self.wanted = 0;
        }
    }
}

impl<R: Replace> Choice for Single<R> {
    const NAME: Option<&'static str> = Some(R::NAME);
    // Some dozens.
    #[allow(clippy::cast_possible_truncation)]
    const SEAT_BYTES: u32 = Queue::SEAT_BYTES + size_of::<Known>() as u32;

    fn new(tables: &mut Tables, hz: u64) -> Self {
        let (queue, known) = (Queue::new(tables), tables.pooled_per_seat());
        Single {
            queue,
            known,
            hz,
            wanted: 0,
            waiting: heapless::Deque::new(),
            asked: None,
            ready: None,
            passed: 0,
            forced: false,
            control: None,
            pause: 0,
            exhausted_until: 0,
            unknown: false,
            scanning: false,
            scan: (0, 0),
            rescanned: false,
            freed: 0,
            patience: 0,
            rule: PhantomData,
        }
    }

    fn hear(&mut self, event: &PagerEvent, now: u64) -> bool {
        match *event {
            PagerEvent::Hello { .. } => {
                self.queue.clear();
                self.known.clear();
                self.waiting.clear();
                (self.wanted, self.asked, self.ready, self.control) = (0, None, None, None);
                (self.passed, self.forced, self.pause, self.exhausted_until, self.freed) = (0, false, 0, 0, 0);
                (self.unknown, self.scanning, self.rescanned) = (true, false, false);
            }
            PagerEvent::VmStarted { vm, seat, pages, .. } => {
                if let Some(known) = self.known.reach(seat.index()) {
                    *known = Known { vm, pages, ran_ms: 0 };
                }
            }
            PagerEvent::VmEnded { vm, seat } => {
                if self.find(vm, seat).is_some()
                    && let Some(known) = self.known.get_mut(seat.index())
                {
                    *known = Known::default();
                }
                if self.asked.is_some_and(|asked| asked.vm == vm) {
                    (self.asked, self.ready) = (None, None);
                }
            }
            PagerEvent::OutOfFrames { vm, .. } => {
                if !self.waiting.iter().any(|waiting| *waiting == vm) {
                    // One more than there is room for looks again by itself.
                    let _ = self.waiting.push_back(vm);
                }
                self.wanted = self.wanted.max(BATCH);
            }
            PagerEvent::Room { frames, seats } => {
                self.wanted = self.wanted.max(frames);
                return seats > 0 || now < self.exhausted_until;
            }
            PagerEvent::Looked { vm, seat, page, used, there, ran_ticks } => {
                // It goes round, as what is kept of it does: a VM can run for longer than twelve days.
                #[allow(clippy::cast_possible_truncation)]
                let ran_ms = (ran_ticks / (self.hz / 1000).max(1)) as u32 & MOST_MARK;
                let its = |asked: &Asked| (asked.vm, asked.seat, asked.first, asked.away) == (vm, seat, page, false);
                if let Some(asked) = self.asked.take_if(|asked| its(asked)) {
                    self.looked(&asked, used, there, ran_ms);
                }
            }
            PagerEvent::Gone { vm, seat, page, gone, .. } => {
                let its = |asked: &Asked| (asked.vm, asked.seat, asked.first, asked.away) == (vm, seat, page, true);
                if let Some(asked) = self.asked.take_if(|asked| its(asked)) {
                    self.gone(&asked, gone);
                }
            }
            PagerEvent::Came { vm, seat, page } => {
                if let Some(ran_ms) = self.find(vm, seat).map(|known| known.ran_ms) {
                    self.push(seat, page, ran_ms);
                }
            }
            PagerEvent::Segment { .. }
            | PagerEvent::ImageGone { .. }
            | PagerEvent::Fault { .. }
            | PagerEvent::Stays { .. } => {}
        }
        true
    }

    fn gave(&mut self, seat: Seat, command: &PagerCommand) {
        let (vm, page) = match *command {
            PagerCommand::MapZero { vm, page, .. } | PagerCommand::CopyImage { vm, page } => (vm, page),
            _ => return,
        };
        if let Some(ran_ms) = self.find(vm, seat).map(|known| known.ran_ms) {
            self.push(seat, page, ran_ms);
        }
    }

    fn next(&mut self, now: u64) -> Option<PagerCommand> {
        if let Some(command) = self.ready.take() {
            return Some(command);
        }
        // Frames have become free: those who wait for them try again.
        if let Some(left) = self.freed.checked_sub(1)
            && let Some(vm) = self.waiting.pop_front()
        {
            self.freed = left;
            return Some(PagerCommand::Resume { vm });
        }
        self.freed = 0;
        if now >= self.patience
            && let Some(asked) = self.asked.take()
        {
            // The answer was lost. Lost answers for all are an end of the search, too.
            self.passed += if asked.away { 0 } else { asked.bits.count_ones() as usize };
            self.gone(&asked, 0);
        }
        if self.asked.is_some() || self.wanted == 0 || now < self.pause {
            return None;
        }
        if !self.scanning && self.passed > self.queue.len() {
            self.exhausted(now);
            return None;
        }
        let scanned = if self.scanning { self.take_scan() } else { None };
        self.scanning &= scanned.is_some();
        let Some(asked) = scanned.or_else(|| self.take_turn()) else {
            self.passed = self.queue.len() + 1;
            return None;
        };
        self.patience = now.saturating_add(self.hz / PATIENCE_HZ);
        // What is not there any more, as the guest has given it back, is found by that, too.
        self.asked = Some(asked);
        Some(PagerCommand::Look { vm: asked.vm, page: asked.first, pages: asked.bits })
    }

    fn load_control(&mut self) -> Option<u64> {
        self.control.take()
    }

    fn due(&self) -> u64 {
        match (self.asked, self.wanted) {
            (Some(_), _) => self.patience,
            (None, 0) => u64::MAX,
            (None, _) => self.pause,
        }
    }
}
