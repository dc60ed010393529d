//! The pager's choice against a core in which VMs work, idle, are refused for a while or for ever.

use super::*;
use crate::order::{Fifo, Lru, Nobody, Sieve};
use abi::note::TableBytes;
use abi::vm::ImageId;
use proptest::prelude::*;

const SEATS: u16 = 200;
const HZ: u64 = 1_000_000;
const RESERVE: u32 = 14;

struct Words(Vec<u64>);

impl Idles for Words {
    fn since(&self, seat: Seat) -> u64 {
        self.0.get(seat.index()).copied().unwrap_or(0)
    }
}

fn victims<O: Order>() -> Victims<O> {
    let bytes = TableBytes { per_seat: Victims::<O>::SEAT_BYTES, ..TableBytes::NONE };
    Victims::new(&mut Tables::on_heap(bytes, 0, SEATS.into()), HZ)
}

fn vm(seat: u16) -> VmId {
    VmId::new(u32::from(seat) + 1000, 1)
}

fn started(seat: u16) -> PagerEvent {
    PagerEvent::VmStarted { vm: vm(seat), seat: Seat::new(seat), image: ImageId::new(0), pages: 100, reserve: RESERVE }
}

fn ended(seat: u16) -> PagerEvent {
    PagerEvent::VmEnded { vm: vm(seat), seat: Seat::new(seat) }
}

fn stays(seat: u16, why: Stays) -> PagerEvent {
    PagerEvent::Stays { vm: vm(seat), seat: Seat::new(seat), why }
}

const HELLO: PagerEvent = PagerEvent::Hello { frames: 1000, free: 10 };

fn room(frames: u64, seats: u32) -> PagerEvent {
    PagerEvent::Room { frames, seats }
}

/// Three VMs that have idled since 10, 20 and 30.
fn three<O: Order>() -> (Victims<O>, Words) {
    let (mut victims, words) = (victims::<O>(), Words(vec![10, 20, 30, 0]));
    victims.hear(&HELLO, 1, &words);
    (0..3).for_each(|seat| victims.hear(&started(seat), 2, &words));
    (victims, words)
}

/// Whom it asks at this time, until it has nothing more to do.
fn asked<O: Order>(victims: &mut Victims<O>, now: u64, words: &Words) -> (Vec<VmId>, Next) {
    let mut asked = Vec::new();
    loop {
        match victims.next(now, words) {
            Next::Out(vm) => asked.push(vm),
            Next::Again => {}
            end => return (asked, end),
        }
    }
}

#[test]
fn as_many_are_asked_as_are_wanted_and_no_more() {
    let (mut victims, words) = three::<Fifo>();
    assert_eq!(asked(&mut victims, 100, &words), (vec![], Next::Nothing));
    victims.hear(&room(15, 0), 100, &words);
    assert_eq!(asked(&mut victims, 100, &words), (vec![vm(0), vm(1)], Next::Nothing), "one makes 14 free");
    victims.hear(&ended(0), 110, &words);
    victims.hear(&room(0, 1), 110, &words);
    assert_eq!(asked(&mut victims, 110, &words), (vec![vm(2)], Next::Nothing));
    // One stays: what it was to make free is wanted still, but nobody is left.
    victims.hear(&stays(2, Stays::Busy), 120, &words);
    let (nobody, next) = asked(&mut victims, 120, &words);
    assert_eq!((nobody, next), (vec![], Next::Later(120 + HZ / RETRY_HZ)));
    victims.hear(&room(0, 0), 130, &words);
    assert_eq!(asked(&mut victims, 130, &words), (vec![], Next::Nothing));
}

#[test]
fn who_was_refused_is_asked_when_something_has_changed() {
    fn holds<O: Order>() {
        for (why, times) in
            [(Stays::Busy, 1), (Stays::Recent, 1), (Stays::Alarm, 1), (Stays::Full, 1), (Stays::Never, 0)]
        {
            let (mut victims, mut words) = (victims::<O>(), Words(vec![10]));
            victims.hear(&started(0), 2, &words);
            victims.hear(&room(1, 0), HZ, &words);
            let at = [0, 1, 2].map(|moment| 2 * HZ + moment * HZ / REFUSED_HZ);
            assert_eq!(asked(&mut victims, at[0], &words).0, [vm(0)]);
            victims.hear(&stays(0, why), at[0], &words);
            assert_eq!(asked(&mut victims, at[1] - 1, &words).0, [], "{why:?}");
            // Where it was in vain it is not looked again at once, unless somebody else waits.
            victims.hear(&room(1, 0), at[1], &words);
            assert_eq!(asked(&mut victims, at[1], &words).0.len(), times, "{why:?}: some time has passed");
            victims.hear(&stays(0, why), at[2], &words);
            words.0[0] = at[2] + 5;
            victims.hear(&room(1, 0), at[2] + 10, &words);
            let (mut all, now) = (0, at[2] + 10);
            for _ in 0..3 {
                all += asked(&mut victims, now, &words).0.len();
                victims.hear(&room(1, 0), now, &words);
            }
            assert_eq!(all, times, "{why:?}: it has done something");
        }
    }
    holds::<Fifo>();
    holds::<Lru>();
    holds::<Sieve>();
}

#[test]
fn what_it_came_in_for_is_no_use() {
    // A tenth of a second after it has come in, and a tick more.
    let (mut victims, words) = (victims::<Sieve>(), Words(vec![7 + HZ / 10 + 1, 7 + HZ / 10]));
    (0..2).for_each(|seat| victims.hear(&started(seat), 7, &words));
    victims.hear(&room(1, 0), HZ, &words);
    assert_eq!(asked(&mut victims, HZ, &words).0, [vm(1)]);
}

#[test]
fn where_nobody_can_take_them_it_waits() {
    let (mut victims, words) = three::<Fifo>();
    victims.hear(&room(100, 0), 100, &words);
    assert_eq!(asked(&mut victims, 100, &words).0.len(), 3);
    victims.hear(&stays(1, Stays::NoSwap), 200, &words);
    let again = 200 + HZ / RETRY_HZ;
    assert_eq!(asked(&mut victims, 201, &words), (vec![], Next::Later(again)));
    assert_eq!(asked(&mut victims, again, &words).0, [vm(1)], "it is not its fault");
}

#[test]
fn no_more_go_at_once_than_there_are_windows() {
    let (mut victims, words) = (victims::<Lru>(), Words(vec![5; SEATS.into()]));
    (0..SEATS).for_each(|seat| victims.hear(&started(seat), 2, &words));
    victims.hear(&room(u64::MAX, 0), 100, &words);
    let (first, next) = asked(&mut victims, 100, &words);
    assert_eq!((first.len(), next), (WINDOWS, Next::Later(100 + HZ / RETRY_HZ)));
    victims.hear(&ended(u16::try_from(first[3].slot.number() - 1000).expect("a seat")), 110, &words);
    assert_eq!(asked(&mut victims, 110, &words).0.len(), 1);
}

#[test]
fn who_works_is_not_asked_and_demand_asks_nobody() {
    let (mut victims, mut words) = three::<Sieve>();
    words.0.fill(0);
    victims.hear(&room(1, 1), 100, &words);
    assert_eq!(asked(&mut victims, 100, &words).0, []);
    let (mut victims, words) = three::<Nobody>();
    victims.hear(&room(1, 1), 100, &words);
    assert_eq!(asked(&mut victims, 100, &words), (vec![], Next::Later(100 + HZ / RETRY_HZ)));
}

#[test]
fn a_late_message_does_not_reach_the_successor() {
    let (mut victims, words) = three::<Fifo>();
    let late = VmId { generation: 7, ..vm(0) };
    victims.hear(&PagerEvent::VmEnded { vm: late, seat: Seat::new(0) }, 3, &words);
    victims.hear(&PagerEvent::Stays { vm: vm(0), seat: Seat::new(0), why: Stays::Never }, 3, &words);
    victims.hear(&room(1, 0), 100, &words);
    assert_eq!(asked(&mut victims, 100, &words).0, [vm(0)], "it was not asked, so it was not refused either");
    // Nobody is in a seat that the machine does not have.
    victims.hear(&started(SEATS), 3, &words);
    victims.hear(&HELLO, 4, &words);
    victims.hear(&room(1, 0), 100, &words);
    assert_eq!(asked(&mut victims, 200, &words).0, []);
}

/// What happens in the core.
#[derive(Clone, Debug)]
enum Step {
    /// VMs come in, as far as there are seats.
    Come(u16),
    /// A VM does something and idles again.
    Use(u16),
    /// A VM works from now on, or idles.
    Work(u16, bool),
    /// Somebody waits for this much.
    Want(u64, u32),
    /// The core answers whom was asked: they go, or stay for this reason.
    Answer(Option<Stays>),
    /// The pager is started anew.
    Restart,
    /// Time passes.
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let seat = || 0..SEATS;
    let why =
        prop::sample::select(vec![Stays::Busy, Stays::Recent, Stays::Alarm, Stays::Never, Stays::NoSwap, Stays::Full]);
    prop_oneof![
        3 => (1..40_u16).prop_map(Step::Come),
        5 => seat().prop_map(Step::Use),
        3 => (seat(), any::<bool>()).prop_map(|(seat, works)| Step::Work(seat, works)),
        3 => (0..200_u64, 0..5_u32).prop_map(|(frames, seats)| Step::Want(frames, seats)),
        5 => prop::option::weighted(0.5, why).prop_map(Step::Answer),
        1 => Just(Step::Restart),
        3 => (1..HZ / 5).prop_map(Step::Pass),
    ]
}

/// Why, in which idle, until when.
type Refusal = (Stays, u64, u64);

/// The core's side: who is in, whether it was asked, whether it can never go.
struct Core<O> {
    victims: Victims<O>,
    words: Words,
    now: u64,
    /// By seat: whether it was asked, and how it was refused last.
    seats: Vec<Option<(bool, Option<Refusal>)>>,
}

impl<O: Order> Core<O> {
    fn hear(&mut self, event: PagerEvent) {
        self.victims.hear(&event, self.now, &self.words);
    }

    /// Takes what the pager asks for now, and looks whether it may.
    fn ask(&mut self) {
        for vm in asked(&mut self.victims, self.now, &self.words).0 {
            let seat = u16::try_from(vm.slot.number() - 1000).expect("a seat");
            let index = usize::from(seat);
            let (going, refused) = self.seats[index].as_mut().expect("it is in");
            assert!(!core::mem::replace(going, true), "it was asked already");
            assert_ne!(self.words.0[index], 0, "it works");
            if let Some((why, word, until)) = *refused {
                assert_ne!(why, Stays::Never);
                assert!(word != self.words.0[index] || self.now >= until, "it was refused, and nothing has changed");
            }
        }
        let going = self.seats.iter().flatten().filter(|(going, _)| *going).count();
        assert!(going <= WINDOWS);
    }

    fn answer(&mut self, why: Option<Stays>) {
        for seat in 0..SEATS {
            let index = usize::from(seat);
            let Some((true, _)) = self.seats[index] else { continue };
            match why {
                None => {
                    self.seats[index] = None;
                    self.words.0[index] = 0;
                    self.hear(ended(seat));
                }
                Some(why) => {
                    let refused = (why, self.words.0[index], self.now + HZ / REFUSED_HZ);
                    self.seats[index] = Some((false, (why != Stays::NoSwap).then_some(refused)));
                    self.hear(stays(seat, why));
                }
            }
        }
    }

    fn come(&mut self, seat: u16) {
        if self.seats[usize::from(seat)].is_none() {
            self.seats[usize::from(seat)] = Some((false, None));
            self.words.0[usize::from(seat)] = self.now;
            self.hear(started(seat));
        }
    }

    fn run(&mut self, step: Step) {
        self.now += 1;
        match step {
            Step::Come(count) => (0..SEATS).step_by(7).take(count.into()).for_each(|seat| self.come(seat)),
            Step::Use(seat) | Step::Work(seat, false) if self.seats[usize::from(seat)].is_some() => {
                self.words.0[usize::from(seat)] = self.now;
            }
            Step::Work(seat, true) => self.words.0[usize::from(seat)] = 0,
            Step::Want(frames, seats) => self.hear(room(frames, seats)),
            Step::Answer(why) => self.answer(why),
            Step::Restart => {
                self.hear(HELLO);
                for seat in 0..SEATS {
                    // Who was to go stays: nobody remembers that it was asked.
                    if let Some((going, refused)) = &mut self.seats[usize::from(seat)] {
                        (*going, *refused) = (false, None);
                        self.hear(started(seat));
                    }
                }
            }
            Step::Pass(ticks) => self.now += ticks,
            _ => {}
        }
        self.ask();
    }
}

/// After any history: who waits for room gets it as soon as anybody idles who can go.
fn nobody_waits_for_ever<O: Order>(steps: Vec<Step>) {
    let words = Words(vec![0; SEATS.into()]);
    let mut core = Core { victims: victims::<O>(), words, now: 1, seats: vec![None; SEATS.into()] };
    steps.into_iter().for_each(|step| core.run(step));
    // One that can go: it has come in just now, and idles.
    core.answer(None);
    let free = (0..SEATS).find(|&seat| core.seats[usize::from(seat)].is_none());
    if let Some(seat) = free {
        core.come(seat);
    }
    let can = |core: &Core<O>| {
        let never = |refused: &Option<Refusal>| matches!(refused, Some((Stays::Never, ..)));
        core.seats
            .iter()
            .zip(&core.words.0)
            .filter(|(seat, word)| **word != 0 && seat.is_some_and(|(_, refused)| !never(&refused)))
            .count()
    };
    let mut left = can(&core);
    assert!(left > 0 || free.is_none());
    core.hear(room(u64::MAX, 0));
    // All of those go, one window full after the other, within so many looks.
    for _ in 0..SEATS {
        core.now += HZ / REFUSED_HZ;
        core.ask();
        core.answer(None);
        assert!(can(&core) <= left);
        left = can(&core);
    }
    assert_eq!(left, 0, "who could go was asked");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_history_blocks_for_ever(steps in prop::collection::vec(step(), 0..150)) {
        nobody_waits_for_ever::<Fifo>(steps.clone());
        nobody_waits_for_ever::<Lru>(steps.clone());
        nobody_waits_for_ever::<Sieve>(steps);
    }
}
