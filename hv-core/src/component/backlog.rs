//! What parties to services have still to be told, because their rings were full: no message, only the seats of the VMs that it is about.
//! When there is space again, a party is told what holds then. So nothing is lost, and what is kept is bounded: a seat is in each
//! service's queue once at most.

use super::endpoint::{EndpointId, MAX_ENDPOINTS};
use abi::service::Service;
use abi::vm::Seat;

/// No seat: there are fewer.
const NONE: u16 = u16::MAX;
/// Services that keep something for later: network, pager, plan, disk.
const SERVICES: usize = 4;

const fn place(service: Service) -> Option<usize> {
    match service {
        Service::Net => Some(0),
        Service::Pager => Some(1),
        Service::Plan => Some(2),
        Service::Disk => Some(3),
        Service::Control => None,
    }
}

/// Links of one seat.
#[derive(Clone, Copy, Debug)]
pub struct BacklogLink {
    /// By service, the next seat in the queue, the last one's own, or [`NONE`] for a seat that is in none.
    next: [u16; SERVICES],
    /// The scheduler takes the VM for able to run, while the seat is in its queue.
    thought_ready: bool,
}

/// What unused memory holds.
pub const EMPTY_BACKLOG: BacklogLink = BacklogLink { next: [NONE; SERVICES], thought_ready: false };

/// The queues of all endpoints, first in, first out.
#[derive(Debug)]
pub struct Backlog<'m> {
    links: &'m mut [BacklogLink],
    /// First and last seat by endpoint.
    ends: [(u16, u16); MAX_ENDPOINTS],
}

impl<'m> Backlog<'m> {
    /// Empty queues for the seats `0..links.len()`.
    pub fn new(links: &'m mut [BacklogLink]) -> Self {
        links.fill(EMPTY_BACKLOG);
        Backlog { links, ends: [(NONE, NONE); MAX_ENDPOINTS] }
    }

    /// The party at this endpoint has still to be told of a seat. True when that is new.
    #[must_use]
    pub fn push(&mut self, of: EndpointId, service: Service, seat: Seat) -> bool {
        let (Some(service), Some(ends)) = (place(service), self.ends.get_mut(of.index())) else { return false };
        let number = seat.number();
        match self.links.get_mut(seat.index()) {
            Some(link) if link.next[service] == NONE => link.next[service] = number,
            _ => return false,
        }
        let last = core::mem::replace(&mut ends.1, number);
        match self.links.get_mut(usize::from(last)) {
            Some(before) => before.next[service] = number,
            None => ends.0 = number,
        }
        true
    }

    /// The seat that the party at this endpoint has waited longest to be told of.
    pub fn pop(&mut self, of: EndpointId, service: Service) -> Option<Seat> {
        let (service, ends) = (place(service)?, self.ends.get_mut(of.index())?);
        let first = ends.0;
        let link = self.links.get_mut(usize::from(first))?;
        let next = core::mem::replace(&mut link.next[service], NONE);
        if next == first {
            *ends = (NONE, NONE);
        } else {
            ends.0 = next;
        }
        Some(Seat::new(first))
    }

    /// Nothing has to be told at this endpoint any more: its party begins anew.
    pub fn clear(&mut self, of: EndpointId, service: Service) {
        while self.pop(of, service).is_some() {}
    }

    /// Whether the scheduler takes the VM in a seat for able to run, of which it has still to be told.
    pub fn thought_ready(&mut self, seat: Seat) -> Option<&mut bool> {
        Some(&mut self.links.get_mut(seat.index())?.thought_ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const SEATS: u16 = 8;
    const ALL: [(usize, Service); 5] =
        [(0, Service::Net), (1, Service::Pager), (2, Service::Plan), (5, Service::Net), (6, Service::Control)];

    proptest! {
        #[test]
        fn behaves_like_deques(steps in prop::collection::vec((0..SEATS + 2, 0_usize..ALL.len(), 0_u8..4), 0..200)) {
            let mut links = [EMPTY_BACKLOG; SEATS as usize];
            let mut backlog = Backlog::new(&mut links);
            let mut model = [(); ALL.len()].map(|()| VecDeque::new());
            for (seat, which, what) in steps {
                let (endpoint, service) = (EndpointId::new(ALL[which].0), ALL[which].1);
                // A VM has one party to a service.
                let taken = (0..ALL.len()).any(|other| ALL[other].1 == service && model[other].contains(&seat));
                match what {
                    0..2 => {
                        let new = !taken && seat < SEATS && service != Service::Control;
                        prop_assert_eq!(backlog.push(endpoint, service, Seat::new(seat)), new);
                        if new { model[which].push_back(seat); }
                    }
                    2 => prop_assert_eq!(backlog.pop(endpoint, service).map(Seat::number), model[which].pop_front()),
                    _ if seat == 0 => {
                        backlog.clear(endpoint, service);
                        model[which].clear();
                    }
                    _ => {}
                }
            }
            for (which, mut model) in model.into_iter().enumerate() {
                let (endpoint, service) = (EndpointId::new(ALL[which].0), ALL[which].1);
                let rest: Vec<_> = core::iter::from_fn(|| backlog.pop(endpoint, service)).map(Seat::number).collect();
                prop_assert_eq!(rest, model.drain(..).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn the_last_seat_of_all_has_a_place() {
        let mut links = vec![EMPTY_BACKLOG; abi::limits::MAX_SEATS];
        let mut backlog = Backlog::new(&mut links);
        let last = Seat::new(u16::try_from(abi::limits::MAX_SEATS - 1).expect("a seat"));
        let of = EndpointId::new(0);
        assert!(backlog.push(of, Service::Net, last) && !backlog.push(of, Service::Net, last));
        assert_eq!((backlog.pop(of, Service::Net), backlog.pop(of, Service::Net)), (Some(last), None));
    }
}
