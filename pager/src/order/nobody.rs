//! Nobody goes out.

use super::{Look, Order, Search};
use abi::vm::Seat;
use component::Tables;

/// The order of the policy `demand`: whoever is in stays in.
#[derive(Debug)]
pub struct Nobody;

impl Order for Nobody {
    const NAME: &'static str = "demand";
    const SEAT_BYTES: u32 = 0;

    fn new(_: &mut Tables) -> Self {
        Nobody
    }

    fn clear(&mut self) {}

    fn insert(&mut self, _: Seat, _: &impl Look) {}

    fn remove(&mut self, _: Seat) {}

    fn next(&mut self, _: &impl Look) -> Search {
        Search::Nobody
    }
}
