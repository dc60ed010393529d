//! What keeps the loop from going on with the VM that runs: one word, and one branch before each entry.

/// Ranks of components take the lowest bits.
const RANKS: u32 = (1 << abi::limits::MAX_COMPONENTS) - 1;
/// The timer has fired: deadlines have to be looked at.
const TIMER: u32 = 1 << 31;
/// A component was condemned, or the time to start one again has come.
const COMPONENTS: u32 = 1 << 30;
/// VMs have ended and nobody shares their pages any more.
const ENDED: u32 = 1 << 29;

/// VMs are kept back whose scheduler is gone.
const UNHELD: u32 = 1 << 28;

/// VMs that control the machine have asked something, or were answered.
const CALLERS: u32 = 1 << 27;

/// Swap has said something, or somebody waits for a window.
const SWAP: u32 = 1 << 26;

/// VMs have still to be told how they tell the time.
const CLOCK: u32 = 1 << 25;

const _: () = assert!(RANKS & (TIMER | COMPONENTS | ENDED | UNHELD | CALLERS | SWAP | CLOCK) == 0);

/// Everything that has to be done before a VM is entered again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attention(u32);

impl Attention {
    /// True when nothing has to be done.
    #[inline]
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// True when the core itself has something to do.
    #[inline]
    pub fn needs_core(self) -> bool {
        self.0 & !RANKS != 0
    }

    /// Rank of the most important component that can run.
    #[inline]
    pub fn most_important(self) -> Option<usize> {
        let ranks = self.0 & RANKS;
        (ranks != 0).then_some(ranks.trailing_zeros() as usize)
    }

    /// Whether the component of this rank can run.
    pub fn is_runnable(self, rank: usize) -> bool {
        let bit = u32::try_from(rank).ok().and_then(|rank| 1_u32.checked_shl(rank));
        bit.is_some_and(|bit| self.0 & RANKS & bit != 0)
    }

    /// The component of this rank can run.
    #[inline]
    pub fn set_runnable(&mut self, rank: usize) {
        debug_assert!(rank < abi::limits::MAX_COMPONENTS);
        self.0 |= 1 << rank;
    }

    /// The component of this rank cannot run.
    #[inline]
    pub fn clear_runnable(&mut self, rank: usize) {
        self.0 &= !(1 << rank);
    }

    /// Deadlines have to be looked at.
    #[inline]
    pub fn set_timer(&mut self) {
        self.0 |= TIMER;
    }

    /// Whether deadlines had to be looked at. They have not any more.
    #[must_use]
    pub fn take_timer(&mut self) -> bool {
        self.take(TIMER)
    }

    /// A component has to be stopped or started.
    pub fn set_components(&mut self) {
        self.0 |= COMPONENTS;
    }

    /// Whether a component had to be stopped or started. None has any more.
    #[must_use]
    pub fn take_components(&mut self) -> bool {
        self.take(COMPONENTS)
    }

    /// Frames of VMs that have ended wait to be freed.
    pub fn set_ended(&mut self) {
        self.0 |= ENDED;
    }

    /// Whether frames of VMs that have ended waited to be freed. They do not any more.
    #[must_use]
    pub fn take_ended(&mut self) -> bool {
        self.take(ENDED)
    }

    /// Nobody stands for holds that were given before any more.
    pub fn set_unheld(&mut self) {
        self.0 |= UNHELD;
    }

    /// Whether nobody stood for holds that were given before. They are to be let go now.
    #[must_use]
    pub fn take_unheld(&mut self) -> bool {
        self.take(UNHELD)
    }

    /// VMs that control the machine have asked something, or were answered.
    pub fn set_callers(&mut self) {
        self.0 |= CALLERS;
    }

    /// Whether VMs that control the machine had asked something, or were answered. They are looked after now.
    #[must_use]
    pub fn take_callers(&mut self) -> bool {
        self.take(CALLERS)
    }

    /// Swap has said something, or somebody waits for a window.
    pub fn set_swap(&mut self) {
        self.0 |= SWAP;
    }

    /// Whether that was so. It is looked after now.
    #[must_use]
    pub fn take_swap(&mut self) -> bool {
        self.take(SWAP)
    }

    /// VMs have still to be told how they tell the time.
    pub fn set_clock(&mut self) {
        self.0 |= CLOCK;
    }

    /// Whether that was so. Some are told now.
    #[must_use]
    pub fn take_clock(&mut self) -> bool {
        self.take(CLOCK)
    }

    fn take(&mut self, bit: u32) -> bool {
        let was = self.0 & bit != 0;
        self.0 &= !bit;
        was
    }
}

#[cfg(test)]
mod tests {
    use super::Attention;

    #[test]
    fn ranks_and_the_core() {
        let mut attention = Attention::default();
        assert!(attention.is_none() && !attention.needs_core());
        assert_eq!(attention.most_important(), None);
        attention.set_runnable(7);
        attention.set_runnable(2);
        assert!(!attention.is_none() && !attention.needs_core());
        assert_eq!(attention.most_important(), Some(2));
        attention.clear_runnable(2);
        assert_eq!(attention.most_important(), Some(7));
        assert_eq!((0..80).filter(|&rank| attention.is_runnable(rank)).collect::<Vec<_>>(), [7]);
        attention.clear_runnable(7);
        assert!(attention.is_none());
    }

    #[test]
    fn each_is_taken_once() {
        let mut attention = Attention::default();
        attention.set_timer();
        attention.set_unheld();
        assert!(attention.needs_core() && attention.most_important().is_none());
        assert!(!(0..80).any(|rank| attention.is_runnable(rank)));
        assert!(attention.take_unheld() && !attention.take_unheld());
        assert!(!attention.take_components() && !attention.take_ended());
        assert!(attention.take_timer() && !attention.take_timer());
        attention.set_components();
        assert!(attention.needs_core() && attention.take_components() && !attention.take_components());
        attention.set_ended();
        assert!(attention.needs_core() && attention.take_ended() && !attention.take_ended());
        attention.set_callers();
        assert!(attention.needs_core() && attention.take_callers() && !attention.take_callers());
        attention.set_swap();
        assert!(attention.needs_core() && attention.take_swap() && !attention.take_swap());
        assert!(attention.is_none());
    }
}
