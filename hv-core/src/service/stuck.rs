//! Who is next of those who wait for room, and since when there has been no more room for it. Pure.

use abi::vm::VmId;

/// Whoever is next, and the most that there was for it.
#[derive(Clone, Copy, Debug)]
pub struct Stuck {
    vm: VmId,
    /// Steady time since which there has been no more.
    since: u64,
    /// Frames that were free, or on their way to be, at most since it is next.
    had: u64,
}

impl Stuck {
    /// Nobody was seen yet.
    pub const NOBODY: Stuck = Stuck { vm: VmId::new(0, 0), since: 0, had: 0 };

    /// `vm` is next and lacks room, and `has` frames are free, or on their way to be, at the steady time `now`. For how many ticks there have been no
    /// more than that. What comes and goes again counts once: so whoever lacks so many frames is waited for as many times at most.
    pub fn look(&mut self, vm: VmId, has: u64, now: u64) -> u64 {
        if self.vm != vm || has > self.had {
            *self = Stuck { vm, since: now, had: has };
        }
        now.saturating_sub(self.since)
    }

    /// Nobody is stuck: whoever is next has room, or lacks something else.
    pub fn forget(&mut self) {
        *self = Stuck::NOBODY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: VmId = VmId::new(1, 1);
    const B: VmId = VmId::new(1, 2);

    #[test]
    fn time_counts_from_the_moment_when_there_was_most() {
        let mut stuck = Stuck::NOBODY;
        assert_eq!([10, 30].map(|now| stuck.look(A, 5, now)), [0, 20]);
        // Somebody goes out for it.
        assert_eq!([40, 50].map(|now| stuck.look(A, 6, now)), [0, 10]);
        // It stays after all, and is asked again.
        assert_eq!([(60, 5), (70, 6), (80, 5)].map(|(now, has)| stuck.look(A, has, now)), [20, 30, 40]);
    }

    #[test]
    fn it_counts_anew_for_another_one_and_when_it_comes_again() {
        let mut stuck = Stuck::NOBODY;
        assert_eq!([10, 30].map(|now| stuck.look(A, 5, now)), [0, 20]);
        assert_eq!([40, 45].map(|now| stuck.look(B, 5, now)), [0, 5]);
        assert_eq!([50, 90].map(|now| stuck.look(A, 5, now)), [0, 40]);
        stuck.forget();
        assert_eq!([100, 101].map(|now| stuck.look(A, 1, now)), [0, 1]);
    }
}
