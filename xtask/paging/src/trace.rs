//! Who is woken, one after the other, and which of its pages that touches.

use crate::random::Random;

/// Pages that every wake touches.
pub const HOT: u32 = 24;
/// Pages of documents, of which a wake reads some.
pub const DOCUMENTS: u32 = 104;
/// Documents' pages that a wake reads.
pub const READ: u32 = 3;
/// Pages of a VM.
pub const PAGES: u32 = HOT + DOCUMENTS;

/// The pages that a wake touches: bit N is page N, hot ones first.
pub type Touched = u128;

const _: () = assert!(PAGES == Touched::BITS);

/// All hot pages.
pub const HOT_PAGES: Touched = (1 << HOT) - 1;

/// A wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// Who is woken: a number below the trace's [`Shape::vms`].
    pub vm: u32,
    /// Which pages are touched.
    pub touched: Touched,
}

/// In which order VMs are woken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pattern {
    /// By Zipf's law: the VM of rank `r` is as popular as `r` to the power of minus `alpha`.
    Zipf {
        /// The exponent.
        alpha: f64,
    },
    /// Every fourth wake is a robot's, which visits all VMs in turn; the others are by Zipf's law with exponent 1.
    Robot,
    /// This many VMs in turn, nobody else.
    Thrash {
        /// How many.
        vms: u32,
    },
    /// So many visitors at once, each of whom stays with one VM for ten wakes in the mean; whom one visits is by Zipf's law with exponent 1.
    Bursts {
        /// How many.
        visitors: u32,
    },
}

/// What a trace is made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// VMs.
    pub vms: u32,
    /// Wakes.
    pub wakes: u32,
    /// Who is woken.
    pub pattern: Pattern,
    /// Of a thousand wakes so many read all documents.
    pub scans: u32,
    /// Where it starts.
    pub seed: u64,
}

/// Wakes one after the other.
#[derive(Clone, Debug)]
pub struct Trace {
    /// How many VMs there are.
    pub vms: u32,
    /// The wakes.
    pub wakes: Vec<Wake>,
}

/// Draws VMs by Zipf's law.
struct Zipf {
    /// Sums of the weights up to each rank.
    sums: Vec<f64>,
    /// Which VM has which rank: no neighbours are popular together.
    ranks: Vec<u32>,
}

impl Zipf {
    fn new(vms: u32, alpha: f64, random: &mut Random) -> Self {
        let mut sum = 0.0;
        let sums = (1..=vms).map(|rank| {
            sum += f64::from(rank).powf(-alpha);
            sum
        });
        let sums = sums.collect();
        let mut ranks: Vec<u32> = (0..vms).collect();
        for (last, end) in (1..vms).enumerate().rev().map(|(at, end)| (at + 1, end + 1)) {
            ranks.swap(last, usize::try_from(random.below(end)).unwrap_or(0));
        }
        Zipf { sums, ranks }
    }

    fn draw(&self, random: &mut Random) -> u32 {
        let sum = self.sums.last().copied().unwrap_or(0.0);
        let chance = random.fraction() * sum;
        let rank = self.sums.partition_point(|&sum| sum <= chance);
        self.ranks.get(rank).or(self.ranks.last()).copied().unwrap_or(0)
    }
}

impl Trace {
    /// The trace of this shape: the same for the same seed.
    pub fn new(shape: &Shape) -> Self {
        let mut random = Random::new(shape.seed);
        let alpha = if let Pattern::Zipf { alpha } = shape.pattern { alpha } else { 1.0 };
        let zipf = Zipf::new(shape.vms, alpha, &mut random);
        let mut visited: Vec<u32> = match shape.pattern {
            Pattern::Bursts { visitors } => (0..visitors.max(1)).map(|_| zipf.draw(&mut random)).collect(),
            _ => Vec::new(),
        };
        let mut wakes = Vec::new();
        for number in 0..shape.wakes {
            let vm = match shape.pattern {
                Pattern::Zipf { .. } => zipf.draw(&mut random),
                Pattern::Robot if number % 4 == 3 => number / 4 % shape.vms,
                Pattern::Robot => zipf.draw(&mut random),
                Pattern::Thrash { vms } => number % vms.clamp(1, shape.vms),
                Pattern::Bursts { visitors } => {
                    let visitor = usize::try_from(random.below(visitors.max(1))).unwrap_or(0);
                    if random.below(10) == 0 {
                        visited[visitor] = zipf.draw(&mut random);
                    }
                    visited[visitor]
                }
            };
            let touched = if random.below(1000) < shape.scans { Touched::MAX } else { read(&mut random) };
            wakes.push(Wake { vm, touched });
        }
        Trace { vms: shape.vms, wakes }
    }
}

/// The hot pages and some documents.
fn read(random: &mut Random) -> Touched {
    let mut touched = HOT_PAGES;
    while touched.count_ones() < HOT + READ {
        touched |= 1 << (HOT + random.below(DOCUMENTS));
    }
    touched
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { vms: 1000, wakes: 50_000, pattern: Pattern::Zipf { alpha: 1.0 }, scans: 20, seed: 9 };

    fn counts(trace: &Trace) -> Vec<usize> {
        let mut counts = vec![0; trace.vms as usize];
        trace.wakes.iter().for_each(|wake| counts[wake.vm as usize] += 1);
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts
    }

    #[test]
    fn the_same_seed_makes_the_same_trace() {
        let trace = Trace::new(&SHAPE);
        assert!(trace.wakes == Trace::new(&SHAPE).wakes);
        assert!(trace.wakes != Trace::new(&Shape { seed: 10, ..SHAPE }).wakes);
    }

    #[test]
    fn popularity_falls_as_zipf_says() {
        let counts = counts(&Trace::new(&SHAPE));
        // The sum of 1/r up to 1,000 is 7.485: the first gets 13.4 %, the tenth a tenth of that.
        assert!((6_300..7_100).contains(&counts[0]) && (560..800).contains(&counts[9]), "{:?}", &counts[..10]);
        let flat = Trace::new(&Shape { pattern: Pattern::Zipf { alpha: 0.6 }, ..SHAPE });
        assert!(self::counts(&flat)[0] < 1_500);
    }

    #[test]
    fn a_wake_touches_hot_pages_and_three_documents_or_all() {
        let trace = Trace::new(&SHAPE);
        let scans = trace.wakes.iter().filter(|wake| wake.touched == Touched::MAX).count();
        assert!((800..1200).contains(&scans), "{scans} of 50,000 at 20 in a thousand");
        assert!(trace.wakes.iter().all(|wake| wake.touched & HOT_PAGES == HOT_PAGES));
        assert!(trace.wakes.iter().all(|wake| [27, 128].contains(&wake.touched.count_ones())));
    }

    #[test]
    fn robots_visit_all_and_visitors_stay() {
        let robot = Trace::new(&Shape { pattern: Pattern::Robot, ..SHAPE });
        let visits: Vec<u32> = robot.wakes.iter().skip(3).step_by(4).map(|wake| wake.vm).collect();
        assert!(visits.iter().zip(0..).all(|(&vm, number)| vm == number % 1000));
        let thrash = Trace::new(&Shape { pattern: Pattern::Thrash { vms: 7 }, ..SHAPE });
        assert!(thrash.wakes.iter().zip(0..).all(|(wake, number)| wake.vm == number % 7));
        let burst = Trace::new(&Shape { pattern: Pattern::Bursts { visitors: 1 }, ..SHAPE });
        let changes = burst.wakes.windows(2).filter(|pair| pair[0].vm != pair[1].vm).count();
        assert!((4_000..5_500).contains(&changes), "{changes}: a tenth, less who comes again");
    }
}
