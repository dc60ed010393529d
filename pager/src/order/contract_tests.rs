//! What holds for each order: who is forgotten is not named, and a search comes to its end after so many looks.

use super::*;
use abi::note::TableBytes;
use std::cell::Cell;

const SEATS: u16 = 100;

/// What an order sees: the time, since when each seat's VM idles, 0 where it works; who is refused; and how often it has looked.
struct Eyes {
    now: u64,
    idle: Vec<u64>,
    refused: Vec<u16>,
    looks: Cell<usize>,
}

impl Eyes {
    fn new(idle: &[u64]) -> Eyes {
        Eyes { now: 1000, idle: idle.to_vec(), refused: Vec::new(), looks: Cell::new(0) }
    }
}

impl Look for Eyes {
    fn now(&self) -> u64 {
        self.now
    }

    fn idle_since(&self, seat: Seat) -> u64 {
        self.looks.set(self.looks.get() + 1);
        self.idle[seat.index()]
    }

    fn is_refused(&self, seat: Seat) -> bool {
        self.refused.iter().any(|&refused| Seat::new(refused) == seat)
    }

    fn grace(&self) -> u64 {
        0
    }
}

fn tables(per_seat: u32, seats: u16) -> Tables {
    Tables::on_heap(TableBytes { per_seat, ..TableBytes::NONE }, 0, seats.into())
}

fn order<O: Order>(seats: u16, eyes: &Eyes) -> O {
    let mut order = O::new(&mut tables(O::SEAT_BYTES, SEATS));
    (0..seats).for_each(|seat| order.insert(Seat::new(seat), eyes));
    order
}

/// The end of a search, with as many calls as it takes; `None` when it does not come.
fn search<O: Order>(order: &mut O, eyes: &Eyes) -> Option<Search> {
    (0..=SEATS).map(|_| order.next(eyes)).find(|search| *search != Search::More)
}

fn found(seat: u16) -> Option<Search> {
    Some(Search::Found(Seat::new(seat)))
}

fn who_is_gone_is_not_named<O: Order>() {
    let eyes = Eyes::new(&[10, 20, 30]);
    let mut order: O = order(3, &eyes);
    order.remove(Seat::new(0));
    for expected in [1, 2, 1, 2] {
        assert_eq!(search(&mut order, &eyes), found(expected));
    }
    order.remove(Seat::new(0));
    order.remove(Seat::new(2));
    assert_eq!([(); 2].map(|()| search(&mut order, &eyes)), [found(1); 2]);
    order.remove(Seat::new(1));
    assert_eq!(search(&mut order, &eyes), Some(Search::Nobody));
}

fn nobody_is_known_after_a_clear<O: Order>() {
    let eyes = Eyes::new(&[10, 20, 30]);
    let mut order: O = order(3, &eyes);
    order.clear();
    assert_eq!(search(&mut order, &eyes), Some(Search::Nobody));
    order.insert(Seat::new(2), &eyes);
    assert_eq!([(); 2].map(|()| search(&mut order, &eyes)), [found(2); 2]);
}

/// One of many can go, and comes last.
fn the_only_one_is_found<O: Order>() {
    for seats in [1, 3, SEATS] {
        let mut eyes = Eyes::new(&vec![10; seats.into()]);
        eyes.refused = (0..seats - 1).collect();
        let mut order: O = order(seats, &eyes);
        // It was used since it has come in.
        eyes.idle[usize::from(seats) - 1] = 1500;
        eyes.now = 2000;
        assert_eq!(search(&mut order, &eyes), found(seats - 1), "of {seats}");
    }
}

/// Nobody can go: each was looked at once, or twice where marks are taken away, whatever came of searches before.
fn a_search_ends<O: Order>(rounds: usize, more: usize) {
    let mut eyes = Eyes::new(&vec![0; SEATS.into()]);
    let mut order: O = order(SEATS, &eyes);
    for seats in [SEATS, SEATS / 2, 1] {
        for seat in seats..SEATS {
            order.remove(Seat::new(seat));
        }
        for _ in 0..2 {
            eyes.looks = Cell::new(0);
            assert_eq!(search(&mut order, &eyes), Some(Search::Nobody));
            assert_eq!(eyes.looks.get(), rounds * usize::from(seats) + more, "{seats}");
        }
    }
}

/// Most go while a search is in its middle.
fn a_search_ends_that_has_begun_with_more<O: Order>() {
    let eyes = Eyes::new(&vec![0; SEATS.into()]);
    let mut order: O = order(SEATS, &eyes);
    assert_eq!(order.next(&eyes), Search::More);
    for seat in 1..SEATS {
        order.remove(Seat::new(seat));
    }
    assert_eq!(search(&mut order, &eyes), Some(Search::Nobody));
}

/// With a byte less for each of many seats it cannot be made.
fn it_asks_for_no_more_than_it_takes<O: Order>() {
    O::new(&mut tables(O::SEAT_BYTES, 4000));
    assert!(std::panic::catch_unwind(|| _ = O::new(&mut tables(O::SEAT_BYTES - 1, 4000))).is_err());
}

macro_rules! orders {
    ($($name:ident: $order:ident, $rounds:literal, $more:literal;)*) => {
        $(
            mod $name {
                use crate::order::$order as Tried;

                #[test]
                fn who_is_gone_is_not_named() {
                    super::who_is_gone_is_not_named::<Tried>();
                }

                #[test]
                fn nobody_is_known_after_a_clear() {
                    super::nobody_is_known_after_a_clear::<Tried>();
                }

                #[test]
                fn the_only_one_is_found() {
                    super::the_only_one_is_found::<Tried>();
                }

                #[test]
                fn a_search_ends() {
                    super::a_search_ends::<Tried>($rounds, $more);
                    super::a_search_ends_that_has_begun_with_more::<Tried>();
                }

                #[test]
                fn it_asks_for_no_more_than_it_takes() {
                    super::it_asks_for_no_more_than_it_takes::<Tried>();
                }
            }
        )*
    };
}

orders! {
    fifo: Fifo, 1, 0;
    lru: Lru, 1, 1;
    sieve: Sieve, 2, 0;
}
