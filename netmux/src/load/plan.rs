//! What the clients do, as the policy's name says it.

/// Requests before those that are measured, where nobody is visited first.
const WARM_UP: u32 = 300;
/// How many clients there are at once, where they wait for each other.
pub const AT_ONCE: u32 = 16;
/// How long the way takes from clients that are far, in microseconds.
pub const WAY_US: u64 = 1_000;
/// Clients at once at most, so that those that still hang up have places.
pub const MOST_AT_ONCE: u32 = 800;
/// VMs that are asked while all are swept.
const POPULAR: u32 = 10;
/// The last of several exponents, and from one to the next.
pub const LAST: u32 = 140;
/// See [`LAST`].
pub const STEP: u32 = 20;
/// Seconds for which those are measured, and for which they are asked before.
const SWEPT: (u32, u32) = (2, 1);

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Document {
    /// A document of 100 bytes; and larger ones.
    #[default]
    Bytes100,
    /// See above.
    Bytes2258,
    /// See above.
    Bytes10240,
    /// See above.
    Bytes51200,
    /// See above.
    Bytes102400,
    /// See above.
    Bytes1024000,
}

impl Document {
    /// The one of this name.
    fn named(name: &str) -> Option<Document> {
        Some(match name {
            "100b" => Document::Bytes100,
            "2258b" => Document::Bytes2258,
            "10k" => Document::Bytes10240,
            "50k" => Document::Bytes51200,
            "100k" => Document::Bytes102400,
            "1000k" => Document::Bytes1024000,
            _ => return None,
        })
    }

    /// The request for it.
    pub fn request(self) -> &'static [u8] {
        match self {
            Document::Bytes100 => b"GET /100b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            Document::Bytes2258 => b"GET /2258b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            Document::Bytes10240 => b"GET /10k HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            Document::Bytes51200 => b"GET /50k HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            Document::Bytes102400 => b"GET /100k HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            Document::Bytes1024000 => b"GET /1000k HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        }
    }
}

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
    /// What is asked for.
    pub document: Document,
    /// So many clients at once, each of whom asks the same VM again when it is done, `count` and `warm_up` requests in all, and then nobody asks any
    /// more. 0: none of this.
    pub same: u32,
    /// Of those, all begin at once, when all are done.
    pub together: bool,
    /// How long it takes until a VM has what a client says, in ticks.
    pub way: u64,
    /// That this is [`WAY_US`].
    pub far: bool,
    /// Each second segment is acknowledged by itself, as hosts do without a NIC that puts segments together; else all that came in one turn at once.
    pub each_second: bool,
    /// The wire says one frame at a time, and the next one a while after a VM has been told of it.
    pub one_by_one: bool,
    /// Players of each VM in the place of clients, and for how many seconds they are watched; 0: none.
    pub players: u32,
    /// See `players`.
    pub seconds: u32,
    /// Ticks in a second, and the time now.
    pub hz: u64,
    /// See `hz`.
    pub start: u64,
}

impl Plan {
    /// What a name says, on a machine with so many slots; `None` for anything else.
    ///
    /// `ask-RATE-COUNT-VMS`: requests in a second, how many are measured, how many VMs are asked. `sweep-RATE-SYNS`: requests to the first ten VMs in a
    /// second, and then the same beside so many SYNs to all. `zipf-EXPONENT-RATE-THOUSANDS`: the exponent in hundredths and how many thousands are
    /// measured, of all VMs; `curve-...`, the same with one exponent after the other. `get-DOCUMENT-CLIENTS-TIMES-VMS`: so many clients of each VM, each of
    /// whom asks so many times, after a visit to each VM; `all-...`, the same with all of them at once; `ack-...`, as `get`, and each second segment is
    /// acknowledged by itself; `one-...`, as `ack`, and each frame of theirs is told by itself; `far-...`, as `get`, from afar. `play-PLAYERS-SECONDS-VMS`: players of a game.
    pub fn read(name: &str, slots: usize) -> Option<Plan> {
        let mut words = name.split('-');
        let what = words.next()?;
        let document = match what {
            "get" | "all" | "ack" | "one" | "far" => Document::named(words.next()?)?,
            _ => Document::default(),
        };
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
            "get" | "all" | "ack" | "one" | "far" => {
                let (each, times, vms) = (number()?, number()?, number()?);
                let same = each.checked_mul(vms).filter(|same| (1..=MOST_AT_ONCE).contains(same))?;
                let (together, one_by_one, far) = (what == "all", what == "one", what == "far");
                let each_second = one_by_one || what == "ack";
                let count = same.checked_mul(times)?;
                Plan {
                    count,
                    warm_up: same,
                    vms,
                    document,
                    visits: vms,
                    same,
                    together,
                    each_second,
                    one_by_one,
                    far,
                    ..Plan::default()
                }
            }
            "play" => Plan { players: number()?, seconds: number()?, vms: number()?, ..Plan::default() },
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
        let get = Plan::read("get-100k-4-20-64", 4096).expect("a plan");
        assert_eq!(
            (get.same, get.count, get.warm_up, get.vms, get.document),
            (256, 5120, 256, 64, Document::Bytes102400)
        );
        assert!(!get.together && !get.one_by_one && !get.each_second);
        let acks = Plan::read("ack-100k-1-2-3", 4096).expect("a plan");
        assert!(acks.each_second && !acks.one_by_one);
        assert!(Plan::read("all-100b-16-20-1", 4096).expect("a plan").together);
        let one = Plan::read("one-2258b-1-2-3", 4096).expect("a plan");
        assert!(one.one_by_one && one.each_second);
        assert!(Plan::read("far-100k-4-2-64", 4096).expect("a plan").far);
        let play = Plan::read("play-4-10-32", 4096).expect("a plan");
        assert_eq!((play.players, play.seconds, play.vms), (4, 10, 32));
        for bad in ["get-100k-801-1-1", "get-100k-0-1-1", "get-7-1-1-1", "all-100k-1-1", "play-4-10"] {
            assert_eq!(Plan::read(bad, 4096), None, "{bad}");
        }
        for bad in ["", "ask", "ask-1-2", "ask-1-2-x", "ask-1-2-3-4", "zipf-1-2-4294967295", "other-1-2-3"] {
            assert_eq!(Plan::read(bad, 100), None, "{bad}");
        }
    }
}
