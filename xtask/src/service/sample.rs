//! Which of very many VMs have to answer before a machine counts as ready: a random sample.

/// Up to so many VMs all have to answer.
const ALL_UP_TO: usize = 1000;
/// How many do when there are more.
const SIZE: usize = 200;

/// The VMs that have to answer.
#[derive(Clone, Debug)]
pub struct Sample {
    /// By slot; none when all have to.
    drawn: Option<Vec<bool>>,
}

impl Sample {
    /// A sample of `vms` VMs. The same seed draws the same.
    pub fn draw(vms: usize, seed: u64) -> Sample {
        let drawn = (vms > ALL_UP_TO).then(|| {
            let mut drawn = vec![false; vms];
            let (mut state, mut left) = (seed, SIZE);
            while left > 0 {
                // Below `vms`; and of far fewer than 2^64 each is as likely.
                let slot = usize::try_from(next(&mut state) % vms as u64).unwrap_or(0);
                left -= usize::from(!std::mem::replace(&mut drawn[slot], true));
            }
            drawn
        });
        Sample { drawn }
    }

    /// All have to answer.
    pub fn all() -> Sample {
        Sample { drawn: None }
    }

    /// Whether the VM in this slot has to.
    pub fn has(&self, slot: usize) -> bool {
        self.drawn.as_ref().is_none_or(|drawn| drawn.get(slot).is_none_or(|drawn| *drawn))
    }

    /// How many have to, when not all do.
    pub fn size(&self) -> Option<usize> {
        self.drawn.as_ref().map(|_| SIZE)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(vms: usize, seed: u64) -> Vec<usize> {
        let sample = Sample::draw(vms, seed);
        (0..vms).filter(|&slot| sample.has(slot)).collect()
    }

    #[test]
    fn of_few_all_have_to_answer() {
        assert_eq!(drawn(1000, 7).len(), 1000);
        assert_eq!((Sample::draw(1000, 7).size(), Sample::all().size()), (None, None));
        assert!(Sample::all().has(usize::MAX));
    }

    #[test]
    fn of_many_a_sample_that_the_seed_tells() {
        let first = drawn(1001, 7);
        assert_eq!((first.len(), Sample::draw(1001, 7).size()), (200, Some(200)));
        assert_eq!(first, drawn(1001, 7));
        assert_ne!(first, drawn(1001, 8));
        // From all over.
        let mut tenths = [0; 10];
        for slot in drawn(100_000, 1) {
            tenths[slot / 10_000] += 1;
        }
        assert!(tenths.iter().all(|count| (5..45).contains(count)), "{tenths:?}");
    }
}
