//! Who is asked how often: the VM of rank *n* as often as 1/*n* to some power.

use component::{Table, Tables};

/// What it takes of the tables for each slot.
pub const BYTES: usize = size_of::<u64>();

/// Weights are in units of two to the power of minus this.
const UNIT: u32 = 40;
/// Bits behind the point of logarithms.
const POINT: u32 = 24;
/// Bits behind the point of what is multiplied.
const FINE: u32 = 31;

/// Ranks, each with its own weight and those of all before it.
#[derive(Debug)]
pub struct Zipf {
    sums: Table<u64>,
    total: u64,
    ranks: u32,
    /// The exponent in hundredths.
    hundredths: u32,
    /// Two to the powers of -1/2, -1/4, -1/8, and so on.
    roots: [u64; POINT as usize],
}

impl Zipf {
    /// Nobody has a rank yet.
    pub fn new(tables: &mut Tables, hundredths: u32) -> Self {
        let mut root = 1_u64 << FINE;
        let halves = core::array::from_fn(|index| {
            // The first is the root of one half.
            let of = if index == 0 { root / 2 } else { root };
            root = (of << FINE).isqrt();
            root
        });
        Zipf { sums: tables.per_slot(), total: 0, ranks: 0, hundredths, roots: halves }
    }

    /// Gives the next rank, which is less popular than all before. Takes some hundred instructions.
    pub fn grow(&mut self) {
        let weight = self.weight(self.ranks + 1);
        if let Some(sum) = usize::try_from(self.ranks).ok().and_then(|rank| self.sums.reach(rank)) {
            self.total += weight;
            *sum = self.total;
            self.ranks += 1;
        }
    }

    /// As many ranks with another exponent.
    pub fn change(&mut self, hundredths: u32) {
        let ranks = core::mem::take(&mut self.ranks);
        (self.hundredths, self.total) = (hundredths, 0);
        (0..ranks).for_each(|_| self.grow());
    }

    /// The rank, counted from 0, for a number that is drawn evenly.
    pub fn rank(&self, drawn: u64) -> u32 {
        let at = (u128::from(drawn) * u128::from(self.total)) >> 64;
        let rank = self.sums.partition_point(|&sum| u128::from(sum) <= at);
        // As many as there are ranks.
        u32::try_from(rank).unwrap_or(0).min(self.ranks.saturating_sub(1))
    }

    /// The weight of the rank `n`, counted from 1: `n` to the power of minus the exponent.
    fn weight(&self, n: u32) -> u64 {
        let exponent = (log2(n) * u64::from(self.hundredths)).div_ceil(100);
        let (whole, part) = (exponent >> POINT, exponent & ((1 << POINT) - 1));
        let mut weight = 1_u64 << FINE;
        for (index, root) in (0..POINT).zip(&self.roots) {
            if part >> (POINT - 1 - index) & 1 == 1 {
                weight = (weight * root) >> FINE;
            }
        }
        (weight << (UNIT - FINE)).checked_shr(u32::try_from(whole).unwrap_or(u32::MAX)).unwrap_or(0).max(1)
    }
}

/// The logarithm to the base of two, with [`POINT`] bits behind the point.
fn log2(n: u32) -> u64 {
    let whole = n.checked_ilog2().unwrap_or(0);
    // Between one and two.
    let mut left = (u64::from(n) << FINE) >> whole;
    let mut log = u64::from(whole);
    for _ in 0..POINT {
        left = (left * left) >> FINE;
        let over = left >> (FINE + 1);
        left >>= over;
        log = log << 1 | over;
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::note::TableBytes;

    fn zipf(hundredths: u32, ranks: u32) -> Zipf {
        let bytes = TableBytes { per_slot: 8, ..TableBytes::NONE };
        let mut zipf = Zipf::new(&mut Tables::on_heap(bytes, 20_000, 0), hundredths);
        (0..ranks).for_each(|_| zipf.grow());
        zipf
    }

    #[test]
    fn weights_are_powers() {
        for hundredths in [60, 100, 140] {
            let zipf = zipf(hundredths, 0);
            for n in [1_u32, 2, 3, 7, 10, 1000, 19_999] {
                let is = zipf.weight(n) as f64 / (1_u64 << UNIT) as f64;
                let should = f64::from(n).powf(-f64::from(hundredths) / 100.0);
                assert!(
                    (is / should - 1.0).abs() < 1e-4,
                    "{n} to the power of -{hundredths}/100: {is} and not {should}"
                );
            }
        }
    }

    #[test]
    fn ranks_are_drawn_by_weight() {
        let zipf = zipf(100, 100);
        let mut counts = [0_u32; 100];
        for step in 0..100_000_u64 {
            counts[zipf.rank((u64::MAX / 100_000) * step) as usize] += 1;
        }
        // The sum of 1/1 to 1/100 is 5.187.
        assert!(counts[0].abs_diff(19_278) < 20 && counts[1].abs_diff(9_639) < 20 && counts[99].abs_diff(193) < 5);
        assert_eq!((zipf.rank(0), zipf.rank(u64::MAX)), (0, 99));
    }

    #[test]
    fn there_are_no_more_ranks_than_slots() {
        let mut zipf = zipf(100, 20_000);
        let total = zipf.total;
        zipf.grow();
        assert_eq!((zipf.ranks, zipf.total), (20_000, total));
        zipf.change(140);
        assert!(zipf.ranks == 20_000 && zipf.total < total);
        zipf.change(100);
        assert_eq!((zipf.ranks, zipf.total), (20_000, total));
    }
}
