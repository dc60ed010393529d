//! Which VMs have ended last, for those who write it down. Ends are numbered from 0; of those that nobody has asked for in time the number is left.

use super::End;
use abi::vm::VmId;

/// Ends that are remembered.
const KEPT: usize = 64;

/// The VMs that have ended last.
pub struct Deaths {
    count: u64,
    last: [(VmId, End); KEPT],
}

impl Deaths {
    /// Nobody has ended.
    pub const fn new() -> Self {
        let nobody = (VmId::from_raw(0), End::new(abi::end::EndReason::Exited, 0));
        Deaths { count: 0, last: [nobody; KEPT] }
    }

    /// This one ends.
    pub fn add(&mut self, vm: VmId, end: End) {
        self.last[place(self.count)] = (vm, end);
        self.count += 1;
    }

    /// The end of this number, or the earliest one behind it that is remembered.
    pub fn from(&self, number: u64) -> Option<(u64, VmId, End)> {
        let number = number.max(self.count.saturating_sub(KEPT as u64));
        let (vm, end) = self.last[place(number)];
        (number < self.count).then_some((number, vm, end))
    }

    /// How many have ended.
    pub const fn count(&self) -> u64 {
        self.count
    }
}

/// Where the end of this number is kept.
// Less than `KEPT`.
#[allow(clippy::cast_possible_truncation)]
const fn place(number: u64) -> usize {
    (number % KEPT as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::end::EndReason;

    #[test]
    fn the_last_ends_are_told_one_after_the_other() {
        let mut deaths = Deaths::new();
        assert_eq!((deaths.from(0), deaths.count()), (None, 0));
        let end = |number| (VmId::from_raw(number + 7), End::new(EndReason::Destroyed, number));
        let told = |number| Some((number, end(number).0, end(number).1));
        for number in 0..=100 {
            deaths.add(end(number).0, end(number).1);
            assert_eq!(deaths.from(number), told(number));
            assert_eq!(deaths.from(number + 1), None);
        }
        // 37 of the 101 are forgotten.
        assert_eq!((deaths.from(0), deaths.from(37), deaths.from(38)), (told(37), told(37), told(38)));
        assert_eq!((deaths.from(u64::MAX), deaths.count()), (None, 101));
    }
}
