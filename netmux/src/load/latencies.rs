//! How long requests took: counted by size, 32 sizes for each doubling, so that a quantile is at most a thirty-second too large.

use component::{Table, Tables};

/// Sizes for each doubling.
const FINE: u32 = 5;
/// As many sizes as microseconds of 32 bits have.
const SIZES: usize = (32 - FINE as usize + 1) << FINE;
/// What they take of the tables for each slot: there are at least as many slots as sizes.
pub const BYTES: usize = size_of::<u32>();

/// Groups: of all requests, and of those to each tenth of the VMs by popularity, where the machine has slots for the counts of all.
pub const GROUPS: usize = 11;

/// The counts.
#[derive(Debug)]
pub struct Latencies {
    counts: Table<u32>,
    totals: [u64; GROUPS],
}

impl Latencies {
    /// Nothing has been counted. Those that are longer than the table has sizes for count as the longest.
    pub fn new(tables: &mut Tables) -> Self {
        Latencies { counts: tables.per_slot(), totals: [0; GROUPS] }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.counts.clear();
        self.totals = [0; GROUPS];
    }

    /// How many groups there are.
    pub fn groups(&self) -> usize {
        (self.counts.capacity() / SIZES).clamp(1, GROUPS)
    }

    /// Counts one, in a group; a group that is not there is no matter.
    pub fn add(&mut self, group: usize, us: u32) {
        if group >= self.groups() {
            return;
        }
        let last = SIZES.min(self.counts.capacity()).saturating_sub(1);
        if let Some(count) = self.counts.reach(group * SIZES + size(us).min(last))
            && let Some(total) = self.totals.get_mut(group)
        {
            *count += 1;
            *total += 1;
        }
    }

    /// How many were counted in a group.
    pub fn total(&self, group: usize) -> u64 {
        self.totals.get(group).copied().unwrap_or(0)
    }

    /// So many thousandths of a group took no longer than this, in microseconds; 0 where nothing was counted.
    pub fn quantile(&self, group: usize, thousandths: u64) -> u32 {
        let mut left = (self.total(group) * thousandths).div_ceil(1000);
        for (size, &count) in self.counts.iter().skip(group * SIZES).take(SIZES).enumerate() {
            let Some(rest) = left.checked_sub(count.into()).filter(|&rest| rest != 0) else { return largest(size) };
            left = rest;
        }
        0
    }
}

/// The size of so many microseconds.
fn size(us: u32) -> usize {
    let doublings = us.checked_ilog2().unwrap_or(0).saturating_sub(FINE);
    // Below `SIZES`.
    (doublings as usize * (1 << FINE)) + (us >> doublings) as usize
}

/// The most that has this size.
fn largest(size: usize) -> u32 {
    let doublings = (size >> FINE).saturating_sub(1);
    let mantissa = size - (doublings << FINE);
    u32::try_from(((mantissa as u64 + 1) << doublings) - 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::note::TableBytes;

    #[test]
    fn sizes_follow_each_other() {
        let mut next = 0_u64;
        for index in 0..SIZES {
            let (least, most) = (u32::try_from(next).expect("32 bits"), largest(index));
            assert_eq!((size(least), size(most)), (index, index));
            assert!(u64::from(most) - next <= next / 32);
            next = u64::from(most) + 1;
        }
        assert_eq!(next, 1 << 32);
    }

    #[test]
    fn quantiles() {
        let bytes = TableBytes { per_slot: 4, ..TableBytes::NONE };
        let mut latencies = Latencies::new(&mut Tables::on_heap(bytes, 4096, 0));
        assert_eq!((latencies.quantile(0, 500), latencies.groups()), (0, 4));
        for us in 1..=1000 {
            latencies.add(0, us);
        }
        assert_eq!([1, 20, 500, 990, 1000].map(|q| latencies.quantile(0, q)), [1, 20, 503, 991, 1007]);
    }

    #[test]
    fn groups_are_counted_apart() {
        let bytes = TableBytes { per_slot: 4, ..TableBytes::NONE };
        let mut latencies = Latencies::new(&mut Tables::on_heap(bytes, 20_000, 0));
        (0..GROUPS + 1).for_each(|group| latencies.add(group, 1 + u32::try_from(group).expect("few")));
        assert!(
            (0..GROUPS)
                .all(|group| latencies.quantile(group, 1000) as usize == 1 + group && latencies.total(group) == 1)
        );
        assert_eq!(latencies.total(GROUPS), 0);
    }
}
