//! A link for tests: VMs with frames to send, under a discipline, over a wire of a certain speed. What left when is the outcome.

use super::{Discipline, More, Next};
use abi::note::TableBytes;
use abi::share::Share;
use abi::vm::Seat;
use component::Tables;
use std::vec;
use std::vec::Vec;

/// A discipline of a machine with so many seats, where nobody has anything to send.
pub fn new<D: Discipline>(seats: usize) -> D {
    D::new(&mut Tables::on_heap(TableBytes { per_slot: 0, per_seat: D::SEAT_BYTES, ..TableBytes::NONE }, 0, seats))
}

/// Ticks in a second.
pub const HZ: u64 = 1_000_000_000;

/// A VM: what it may send, and the lengths of its frames, which come again and again.
#[derive(Clone, Debug)]
pub struct Sender {
    pub share: Share,
    pub lengths: Vec<usize>,
    /// Frames that it has at once; then its ring is empty until its next turn.
    pub at_once: usize,
}

/// A frame that left: when it had left, its VM, its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Departure {
    pub time: u64,
    pub seat: Seat,
    pub len: usize,
}

/// Lets all of them send for `ticks`, as [`crate::Demux`] does, over a wire that takes `ticks_per_byte`.
pub fn send<D: Discipline>(discipline: &mut D, senders: &[Sender], ticks: u64, ticks_per_byte: u64) -> Vec<Departure> {
    discipline.start(HZ);
    for (seat, sender) in (0..).map(Seat::new).zip(senders) {
        discipline.attach(seat, sender.share, 0);
        discipline.enqueue(seat);
    }
    let mut sent = vec![0_usize; senders.len()];
    let mut departures = Vec::new();
    let mut now = 0;
    while now < ticks {
        let turn = match discipline.next(now) {
            Next::Turn(turn) => turn,
            Next::At(time) => {
                assert!(time > now, "who may send later may not send now");
                now = time;
                continue;
            }
            Next::Nobody => break,
        };
        let index = turn.seat.index();
        let (sender, mut left, mut buffers) = (&senders[index], turn.allowance, turn.buffers);
        let mut ready = sender.at_once;
        let more = loop {
            let len = sender.lengths[sent[index] % sender.lengths.len()];
            let cost = discipline.cost(len);
            if ready == 0 {
                break More::Nothing;
            }
            if !discipline.affords(left, cost) {
                break More::Frame(cost);
            }
            let bytes = u64::try_from(len).expect("small");
            now += bytes * ticks_per_byte;
            departures.push(Departure { time: now, seat: turn.seat, len });
            sent[index] += 1;
            ready -= 1;
            left -= cost;
            buffers -= 1;
            if left <= 0 || buffers == 0 {
                break More::Perhaps;
            }
        };
        discipline.finish(turn.seat, left, more, now);
        if more == More::Nothing {
            discipline.enqueue(turn.seat);
        }
        // What the work itself takes.
        now += 1;
    }
    departures
}

/// The bytes that each of `count` VMs sent.
pub fn bytes_by_vm(departures: &[Departure], count: usize) -> Vec<u64> {
    let mut bytes = vec![0; count];
    for departure in departures {
        bytes[departure.seat.index()] += u64::try_from(departure.len).expect("small");
    }
    bytes
}
