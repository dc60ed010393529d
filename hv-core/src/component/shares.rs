//! Components that are over their budgets: they share the CPU in turn with VMs, one quantum each, until they wait. So neither
//! starves the other, and a component that is late can still empty its rings.

/// Who has the CPU when components and VMs take turns.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    /// Ranks of components that are demoted; all of them could run.
    demoted: u32,
    /// The component whose turn it is; none: the VMs'.
    turn: Option<usize>,
    /// TSC at which the turn ends.
    until: u64,
    /// Ticks that whoever has the turn had run when it began; none: the turn is over.
    had: Option<u64>,
    /// The component that had the last turn.
    last: usize,
}

impl Shares {
    /// Nobody is demoted.
    pub const fn new() -> Self {
        Shares { demoted: 0, turn: None, until: 0, had: None, last: 0 }
    }

    /// Whether no component is demoted.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.demoted == 0
    }

    /// Whether the component of this rank is demoted.
    pub const fn contains(&self, rank: usize) -> bool {
        self.demoted >> rank & 1 != 0
    }

    /// A component has used its budget up: the VMs come first.
    pub const fn demote(&mut self, rank: usize) {
        if self.is_empty() {
            (self.turn, self.had, self.last) = (Some(rank), None, rank);
        }
        self.demoted |= 1 << rank;
    }

    /// It waits, or is gone.
    pub const fn promote(&mut self, rank: usize) {
        self.demoted &= !(1 << rank);
    }

    /// No VM can run: the turn of the VMs is over.
    pub const fn pass(&mut self) {
        self.had = None;
    }

    /// Whose turn it is at the TSC `now`, and until when; no rank: the VMs', of which some can run or not. `ran` says how long each
    /// has run: a turn in which others had all the time is none. There is somebody demoted.
    pub fn next(
        &mut self,
        now: u64,
        vms: bool,
        quantum_ticks: u64,
        ran: impl Fn(Option<usize>) -> u64,
    ) -> (Option<usize>, u64) {
        let goes_on = match self.turn {
            Some(rank) => self.contains(rank),
            None => vms,
        };
        let over = self.had.is_none_or(|had| now >= self.until && ran(self.turn) != had);
        if !goes_on || over {
            // A turn that was cut short by a wait counts as one.
            self.turn = match self.turn {
                Some(_) if vms => None,
                _ => Some(self.after(self.last)),
            };
            self.last = self.turn.unwrap_or(self.last);
            self.had = Some(ran(self.turn));
            self.until = now.saturating_add(quantum_ticks);
        } else if now >= self.until {
            self.until = now.saturating_add(quantum_ticks);
        }
        (self.turn, self.until)
    }

    /// The next of those that are demoted.
    const fn after(&self, last: usize) -> usize {
        let above = self.demoted >> last >> 1 << last << 1;
        (if above == 0 { self.demoted } else { above }).trailing_zeros() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::Shares;

    const QUANTUM: u64 = 10;

    /// Everybody runs all the time.
    fn next(shares: &mut Shares, now: u64, vms: bool) -> (Option<usize>, u64) {
        shares.next(now, vms, QUANTUM, |_| now)
    }

    #[test]
    fn vms_come_first_and_then_each_in_turn() {
        let mut shares = Shares::new();
        assert!(shares.is_empty());
        shares.demote(3);
        shares.demote(1);
        assert!(shares.contains(3) && shares.contains(1) && !shares.contains(0));
        let turns: Vec<_> = (100..160).step_by(5).map(|now| next(&mut shares, now, true).0).collect();
        let one = |rank| [rank; 2];
        assert_eq!(turns, [one(None), one(Some(1)), one(None), one(Some(3)), one(None), one(Some(1))].concat());
    }

    #[test]
    fn without_vms_the_components_go_on() {
        let mut shares = Shares::new();
        shares.demote(2);
        assert_eq!(next(&mut shares, 1, false), (Some(2), 11));
        assert_eq!(next(&mut shares, 20, false), (Some(2), 30));
        // As soon as one can run it has a turn, when the component has had its own.
        assert_eq!(next(&mut shares, 29, true), (Some(2), 30));
        assert_eq!(next(&mut shares, 30, true), (None, 40));
        shares.pass();
        assert_eq!(next(&mut shares, 31, true), (Some(2), 41));
    }

    #[test]
    fn vms_that_cannot_run_any_more_give_their_turn_up() {
        let mut shares = Shares::new();
        shares.demote(2);
        assert_eq!(next(&mut shares, 0, true), (None, 10));
        assert_eq!(next(&mut shares, 3, false), (Some(2), 13));
    }

    #[test]
    fn who_waits_gives_its_turn_up() {
        let mut shares = Shares::new();
        shares.demote(2);
        shares.demote(5);
        assert_eq!(next(&mut shares, 0, true), (None, 10));
        assert_eq!(next(&mut shares, 10, true), (Some(5), 20));
        shares.promote(5);
        assert_eq!(next(&mut shares, 11, true), (None, 21));
        assert_eq!(next(&mut shares, 21, true), (Some(2), 31));
        shares.promote(2);
        assert!(shares.is_empty());
        // Demoted again, it does not go on with the turn that it had.
        shares.demote(2);
        assert_eq!(next(&mut shares, 26, true), (None, 36));
    }

    #[test]
    fn time_that_others_had_is_no_turn() {
        let mut shares = Shares::new();
        shares.demote(2);
        assert_eq!(shares.next(0, true, QUANTUM, |_| 7), (None, 10));
        assert_eq!(shares.next(50, true, QUANTUM, |_| 7), (None, 60), "stolen, or somebody else's");
        assert_eq!(shares.next(59, true, QUANTUM, |_| 8), (None, 60));
        assert_eq!(shares.next(60, true, QUANTUM, |_| 8), (Some(2), 70));
        assert_eq!(shares.next(90, true, QUANTUM, |_| 8), (Some(2), 100));
        assert_eq!(shares.next(100, true, QUANTUM, |_| 9), (None, 110));
    }
}
