//! The rules by which a page stays or goes when it is its turn: FIFO, CLOCK, and WSClock by each VM's own time.

/// What becomes of a page whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes out.
    Goes,
    /// It stays, and its turn comes when all others have had theirs. What is kept of it until then.
    Stays(u32),
}

/// A rule. What is kept of a page is the time of its VM, in milliseconds that this one has run, at which it came, or was seen to be used last.
pub trait Replace {
    /// What the boot option calls it.
    const NAME: &'static str;
    /// Whether VMs that have nothing to do give all their pages before anybody loses one that is in use: load control.
    const LOAD_CONTROL: bool;

    /// About a page that was `used` since its last turn or not, of a VM whose time is `now` and was `then` when the page was.
    fn judge(used: bool, now: u32, then: u32) -> Verdict;
}

/// The page that came first goes first.
#[derive(Debug)]
pub struct Fifo;

impl Replace for Fifo {
    const NAME: &'static str = "fifo";
    const LOAD_CONTROL: bool = false;

    fn judge(_: bool, _: u32, _: u32) -> Verdict {
        Verdict::Goes
    }
}

/// CLOCK (Corbató 1968): a page that was used since its last turn stays.
#[derive(Debug)]
pub struct Clock;

impl Replace for Clock {
    const NAME: &'static str = "clock";
    const LOAD_CONTROL: bool = false;

    fn judge(used: bool, now: u32, _: u32) -> Verdict {
        if used { Verdict::Stays(now) } else { Verdict::Goes }
    }
}

/// How long, in milliseconds of its VM's own time, a page belongs to the working set after it was used.
pub const TAU_MS: u32 = 4;

/// `WSClock` (Carr and Hennessy 1981) as Denali had it: a page that its VM has not used for 4 ms of the VM's own time goes. A VM that does nothing does not age, so its
/// pages go only as a whole.
#[derive(Debug)]
pub struct Wsclock;

impl Replace for Wsclock {
    const NAME: &'static str = "wsclock";
    const LOAD_CONTROL: bool = true;

    fn judge(used: bool, now: u32, then: u32) -> Verdict {
        match now.checked_sub(then) {
            _ if used => Verdict::Stays(now),
            Some(age) if age > TAU_MS => Verdict::Goes,
            Some(_) => Verdict::Stays(then),
            // Its time began anew, with another start of the policy.
            None => Verdict::Stays(now),
        }
    }
}
