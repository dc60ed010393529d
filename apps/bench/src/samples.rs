//! Samples of a measurement.

use core::fmt;

/// At most `N` samples.
pub struct Samples<const N: usize> {
    values: [u64; N],
    len: usize,
}

impl<const N: usize> Samples<N> {
    /// None yet.
    pub const fn new() -> Self {
        Samples { values: [0; N], len: 0 }
    }

    /// Adds one; beyond `N` it is dropped. All of the memory has been written before the first measurement when this was
    /// called for a warm-up and [`Samples::clear`] after it.
    #[inline]
    pub fn push(&mut self, value: u64) {
        if let Some(place) = self.values.get_mut(self.len) {
            *place = value;
            self.len += 1;
        }
    }

    /// Drops all.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without a sample.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The one that so many parts in a thousand of them do not exceed; `None` without a sample.
    pub fn quantile(&mut self, permille: usize) -> Option<u64> {
        let values = self.values.get_mut(..self.len)?;
        values.sort_unstable();
        values.get((values.len() * permille).div_ceil(1000).saturating_sub(1)).copied()
    }

    /// Their figures; `None` without a sample.
    pub fn figures(&mut self) -> Option<Figures> {
        let values = self.values.get_mut(..self.len)?;
        values.sort_unstable();
        let (&min, &max) = (values.first()?, values.last()?);
        let count = u64::try_from(values.len()).ok()?;
        let sum: u64 = values.iter().sum();
        Some(Figures { median: values[values.len() / 2], mean: (sum + count / 2) / count, min, max, count })
    }
}

impl<const N: usize> Default for Samples<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// What can be said about samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// The one in the middle, the upper one of two.
    pub median: u64,
    /// Rounded to the nearest.
    pub mean: u64,
    /// The smallest.
    pub min: u64,
    /// The largest.
    pub max: u64,
    /// How many.
    pub count: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { median, mean, min, max, count } = self;
        write!(f, "median={median} mean={mean} min={min} max={max} samples={count}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let mut samples = Samples::<200>::new();
        assert_eq!(samples.quantile(990), None);
        (1..=200).rev().for_each(|value| samples.push(value));
        assert_eq!(
            [0, 5, 500, 990, 995, 1000].map(|part| samples.quantile(part)),
            [1, 1, 100, 198, 199, 200].map(Some)
        );
    }

    #[test]
    fn figures() {
        let mut samples = Samples::<4>::new();
        assert_eq!(samples.figures(), None);
        for value in [9, 1, 2, 4, 1000] {
            samples.push(value);
        }
        assert_eq!(samples.figures(), Some(Figures { median: 4, mean: 4, min: 1, max: 9, count: 4 }));
        samples.clear();
        assert!(samples.is_empty());
        samples.push(7);
        assert_eq!((samples.len(), samples.figures().map(|f| f.median)), (1, Some(7)));
    }
}
