//! What the clients do, as the policy's name says it.

/// Requests before those that are measured, where nobody is visited first.
const WARM_UP: u32 = 300;
/// How many clients there are at once, where they wait for each other.
pub const AT_ONCE: u32 = 16;
/// VMs that are asked while all are swept.
const POPULAR: u32 = 10;
/// The last of several exponents, and from one to the next.
pub const LAST: u32 = 140;
/// See [`LAST`].
pub const STEP: u32 = 20;
/// Seconds for which those are measured, and for which they are asked before.
const SWEPT: (u32, u32) = (2, 1);

/// What is asked, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Requests in a second, on the average; 0: [`AT_ONCE`] clients, of whom each asks when another one is done.
    pub rate: u32,
    /// Requests that are measured, and those before.
    pub count: u32,
    /// See `count`.
    pub warm_up: u32,
    /// VMs that are asked, as it falls out.
    pub vms: u32,
    /// VMs that are asked once each before all that, by [`AT_ONCE`] clients.
    pub visits: u32,
    /// VMs are asked by their popularity: Zipf's law with this exponent, in hundredths. `None`: all alike.
    pub zipf: Option<u32>,
    /// The exponents with which all that follows the visits is done again, from this one on to [`LAST`], by [`STEP`]s.
    pub and_more: bool,
    /// SYNs in a second that go to all VMs that were visited, in turn, while all that follows the visits is done again; 0: there is no sweep.
    pub sweep: u32,
    /// A request takes until the first byte of the document is there, and not until its end.
    pub to_first_byte: bool,
    /// Ticks in a second, and the time now.
    pub hz: u64,
    /// See `hz`.
    pub start: u64,
}

impl Plan {
    /// What a name says, on a machine with so many slots: `ask-RATE-COUNT-VMS`, requests in a second, how many are measured, how many VMs are asked;
    /// `sweep-RATE-SYNS`, requests to the first ten VMs in a second, and then the same beside so many SYNs to all; `zipf-EXPONENT-RATE-THOUSANDS`, the exponent in hundredths and how many
    /// thousands are measured, of all VMs; `curve-EXPONENT-RATE-THOUSANDS`, the same with one exponent after the other. `None` for anything else.
    pub fn read(name: &str, slots: usize) -> Option<Plan> {
        let mut words = name.split('-');
        let what = words.next()?;
        let mut number = || words.next()?.parse::<u32>().ok();
        let all = u32::try_from(slots).ok()?;
        let plan = match what {
            "ask" => Plan { rate: number()?, count: number()?, vms: number()?, warm_up: WARM_UP, ..Plan::default() },
            "sweep" => {
                let (rate, sweep) = (number()?, number()?);
                let (count, warm_up) = (rate.checked_mul(SWEPT.0)?, rate.checked_mul(SWEPT.1)?);
                Plan { rate, count, warm_up, vms: POPULAR.min(all), visits: all, sweep, ..Plan::default() }
            }
            "zipf" | "curve" => {
                let (zipf, rate, count) = (number()?, number()?, number()?.checked_mul(1000)?);
                let (warm_up, zipf, and_more) = (count / 2, Some(zipf), what == "curve");
                let plan = Plan { rate, count, warm_up, vms: all, visits: all, zipf, and_more, ..Plan::default() };
                Plan { to_first_byte: !and_more, ..plan }
            }
            _ => return None,
        };
        words.next().is_none().then_some(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_asked() {
        let ask = Plan::read("ask-2000-5000-2", 4096).expect("a plan");
        assert_eq!((ask.rate, ask.count, ask.vms, ask.visits, ask.warm_up), (2000, 5000, 2, 0, WARM_UP));
        let sweep = Plan::read("sweep-24000-1000", 5000).expect("a plan");
        assert_eq!((sweep.vms, sweep.visits, sweep.sweep, sweep.count), (10, 5000, 1000, 48_000));
        let zipf = Plan::read("zipf-100-0-3", 2000).expect("a plan");
        assert_eq!((zipf.zipf, zipf.rate, zipf.count, zipf.vms), (Some(100), 0, 3000, 2000));
        let curve = Plan::read("curve-60-0-3", 2000).expect("a plan");
        assert!(curve.and_more && !curve.to_first_byte && zipf.to_first_byte && !zipf.and_more);
        for bad in ["", "ask", "ask-1-2", "ask-1-2-x", "ask-1-2-3-4", "zipf-1-2-4294967295", "other-1-2-3"] {
            assert_eq!(Plan::read(bad, 100), None, "{bad}");
        }
    }
}
