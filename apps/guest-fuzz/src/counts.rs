//! How many steps of each class there were.

use crate::act::CLASSES;
use core::fmt;

/// Steps by class, in the order of [`CLASSES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub [u64; CLASSES.len()]);

impl Counts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Reads what [`fmt::Display`] has written, wherever it stands in a line. `None` when a class is missing.
    pub fn parse(line: &str) -> Option<Counts> {
        let mut counts = Counts::default();
        for (count, (_, name)) in counts.0.iter_mut().zip(CLASSES) {
            let mut words = line.split(' ').filter_map(|word| word.split_once('='));
            *count = words.find(|(key, _)| *key == name)?.1.parse().ok()?;
        }
        Some(counts)
    }
}

impl core::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (count, (_, name))) in self.0.iter().zip(CLASSES).enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{name}={count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn what_is_written_can_be_read() {
        let counts = Counts([1, 2, 3, 4, 5]);
        let line = format!("[    1.25] guest: vm2.1: guest-fuzz: seed=9 {counts} done");
        assert_eq!(Counts::parse(&line), Some(counts));
        assert_eq!(counts.total(), 15);
        assert_eq!(Counts::parse("instructions=1"), None);
        let mut sum = counts;
        sum += counts;
        assert_eq!(sum.0, [2, 4, 6, 8, 10]);
    }
}
