//! Which neighbours are asked for, when again, and the packets that wait for the answers.
//!
//! Each neighbour has growing intervals of its own, and keeps them when it has to make room for another one, while there is memory to remember it:
//! however many are silent, nobody is asked for more often than once a second (RFC 1122 2.3.2.1). Without memory few are asked for at once.

use super::bounded::Bounded;
use super::capacity::secures_bytes;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Neighbours that are asked for at once.
const MAX_OPEN: usize = 64;
/// Frames that wait for one neighbour's answer, and for all neighbours' beyond one each.
const HELD: usize = 16;
const HELD_OF_ALL: usize = 64;
/// For which no memory is asked, as there are always some.
const UNASKED: usize = 4;
/// Time to the second question; it doubles with each.
const ASK_US: u64 = 1_000_000;
/// After which a question that nobody has answered makes room for another one, where as many are open as can be: who is on the wire answers within milliseconds.
const PATIENCE_US: u64 = 100_000;
/// Silent neighbours that are remembered at least: as many as can make room within the shortest interval.
const SILENT: usize = MAX_OPEN * (ASK_US / PATIENCE_US) as usize;
/// Questions before a neighbour is given up.
const TRIES: u8 = 3;
/// Questions after which the interval does not grow any more.
const MAX_TRIES: u8 = 5;

/// How often a neighbour has been asked for, and when it may be asked for again.
#[derive(Clone, Copy)]
struct Pace {
    tries: u8,
    next: u64,
}

/// A question that is not answered yet.
struct Question {
    address: u128,
    pace: Pace,
    /// When it was last asked; `None`: not yet.
    asked: Option<u64>,
    /// Frames that wait for the answer, in their order.
    held: Vec<Box<[u8]>>,
    /// Somebody has wanted to send since the last question.
    wanted: bool,
}

impl Question {
    /// True when somebody else may be asked for in its place.
    fn makes_room(&self, now: u64) -> bool {
        match self.asked {
            Some(asked) => asked + PATIENCE_US <= now,
            None => self.pace.next > now,
        }
    }
}

/// A question that is to be asked now.
pub(super) struct Turn {
    pub(super) address: u128,
    /// It has been asked in vain as often as an answer is hoped for.
    pub(super) in_vain: bool,
}

/// All questions.
pub(super) struct Questions {
    open: Vec<Question>,
    /// Who had to make room without an answer.
    silent: Bounded<u128, Pace, SILENT>,
}

impl Questions {
    pub(super) fn new(seed: u64) -> Questions {
        Questions { open: Vec::new(), silent: Bounded::new(seed) }
    }

    /// Asks for a neighbour when its turn comes, with a frame that waits for the answer. When that is, in microseconds; `None`: it was asked for
    /// already, or nobody can be asked for now and the frame is lost.
    pub(super) fn ask(&mut self, address: u128, hold: Option<&[u8]>, now: u64) -> Option<u64> {
        let known = self.open.iter().position(|question| question.address == address);
        let index = known.or_else(|| self.begin(address, now))?;
        self.open[index].wanted = true;
        let all = self.open.iter().map(|question| question.held.len()).sum::<usize>();
        let held = &mut self.open[index].held;
        if let Some(frame) = hold
            && secures_bytes(frame.len() + HELD * size_of::<Box<[u8]>>())
        {
            // The latest ones (RFC 1122 2.3.2.2), and of each neighbour one at least.
            if held.len() >= HELD || !held.is_empty() && all >= HELD_OF_ALL {
                held.remove(0);
            }
            held.push(frame.into());
        }
        known.is_none().then_some(self.open[index].pace.next)
    }

    /// Begins to ask for a neighbour; where as many are asked for as can be, in the place of who has been asked for most often. Which of the questions
    /// it is.
    fn begin(&mut self, address: u128, now: u64) -> Option<usize> {
        let pace = self.silent.get_mut(&address).map_or(Pace { tries: 0, next: now }, |pace| *pace);
        let question = Question { address, pace, asked: None, held: Vec::new(), wanted: true };
        let index = self.open.len();
        if index < MAX_OPEN && self.has_room() {
            self.open.push(question);
            return Some(index);
        }
        if pace.next > now {
            return None;
        }
        let others = self.open.iter().enumerate().filter(|(_, question)| question.makes_room(now));
        let (index, _) = others.max_by_key(|(_, question)| question.pace.tries)?;
        let before = core::mem::replace(&mut self.open[index], question);
        self.silent.insert(before.address, before.pace);
        Some(index)
    }

    /// True when there is memory for one more.
    fn has_room(&self) -> bool {
        let open = self.open.len();
        open < self.open.capacity().max(UNASKED) || secures_bytes(2 * open * size_of::<Question>())
    }

    /// The next question from the one at `index` on, which goes on behind it, that is to be asked now.
    pub(super) fn turn(&mut self, index: &mut usize, now: u64) -> Option<Turn> {
        while let Some(question) = self.open.get_mut(*index) {
            if question.pace.next > now {
                *index += 1;
                continue;
            }
            let in_vain = question.asked.is_some() && question.pace.tries >= TRIES;
            if in_vain {
                // Nobody is there. Who waits has waited long enough.
                question.held = Vec::new();
                if !question.wanted {
                    let address = self.open.swap_remove(*index).address;
                    self.silent.remove(&address);
                    continue;
                }
            }
            let tries = (question.pace.tries + 1).min(MAX_TRIES);
            question.pace = Pace { tries, next: now + (ASK_US << (tries - 1)) };
            (question.asked, question.wanted) = (Some(now), false);
            *index += 1;
            return Some(Turn { address: question.address, in_vain });
        }
        None
    }

    /// When the next one is due, in microseconds.
    pub(super) fn due(&self) -> u64 {
        self.open.iter().map(|question| question.pace.next).min().unwrap_or(u64::MAX)
    }

    /// True when an answer about this neighbour is wanted, also of one that takes its time.
    pub(super) fn has(&mut self, address: u128) -> bool {
        self.open.iter().any(|question| question.address == address) || self.silent.get_mut(&address).is_some()
    }

    /// A neighbour has answered. The frames that have waited for that.
    pub(super) fn answered(&mut self, address: u128) -> Vec<Box<[u8]>> {
        self.silent.remove(&address);
        let index = self.open.iter().position(|question| question.address == address);
        index.map_or(Vec::new(), |index| self.open.swap_remove(index).held)
    }

    /// Nobody is asked for any more, and whoever was may be asked for at once.
    pub(super) fn forget(&mut self) {
        self.open = Vec::new();
        self.silent.retain(|_, _| false);
    }

    /// Gives memory back to the heap. False when there is some that will not be in use much longer.
    pub(super) fn shrink(&mut self, now: u64) -> bool {
        self.open.shrink_to_fit();
        self.silent.retain(|_, pace| pace.next > now);
        self.silent.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for all of these, whose turns are now.
    fn begin(questions: &mut Questions, addresses: core::ops::Range<u128>, now: u64) {
        for address in addresses {
            assert_eq!(questions.ask(address, None, now), Some(now), "{address}");
        }
        let mut index = 0;
        while questions.turn(&mut index, now).is_some() {}
    }

    #[test]
    fn who_waits_for_another_turn_takes_no_place_from_who_is_new() {
        let mut questions = Questions::new(1);
        begin(&mut questions, 0..64, 0);
        begin(&mut questions, 100..164, PATIENCE_US);
        (100..164).for_each(|address| drop(questions.answered(address)));
        // Those of the beginning, who had to make room.
        for address in 0..64 {
            assert_eq!(questions.ask(address, None, 2 * PATIENCE_US), Some(ASK_US), "not before its turn");
        }
        begin(&mut questions, 200..264, 2 * PATIENCE_US);
        assert_eq!(questions.ask(300, None, 2 * PATIENCE_US), None, "these have their turn now");
        assert!(questions.has(0) && questions.has(263) && !questions.has(300));
        questions.forget();
        assert!(!questions.has(0) && questions.due() == u64::MAX);
    }
}
