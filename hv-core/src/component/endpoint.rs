//! Endpoints: the core's ends of the rings with the parties to its services.

use abi::guest_control::MAX_CONTROL_VMS;
use abi::limits::MAX_RINGS;
use abi::message::Message;
use abi::request_page::Piece;
use abi::sched::SchedCommand;
use abi::service::Service;
use abi::vm::VmId;
use ring::{Consumer, Producer, PushError, RingError, SharedMemory};

/// Endpoints of components that there can be: each takes two rings.
const MAX_FIXED: usize = MAX_RINGS / 2;
/// Endpoints that there can be, with those of VMs.
pub const MAX_ENDPOINTS: usize = MAX_FIXED + MAX_CONTROL_VMS;

/// Messages that a party is told of one event, and some more.
const ROOM: u32 = 4;

/// Who hears a doorbell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer {
    /// Rank of the component at the other end.
    pub rank: usize,
    /// Its notification bit; 0 when the core is the other end, or there is no such ring.
    pub bit: u64,
}

/// What became of a message to a party.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is in the ring.
    Yes,
    /// The party does not empty its ring, or wrote nonsense into it.
    Full,
}

/// Why nothing is copied from or to a request page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPiece {
    /// It does not lie in the page, or there is no page.
    Outside,
    /// It is longer than it may be.
    TooLong,
}

/// What became of a party since its ring filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// It is not full.
    No,
    /// It has not waited for messages since, and could run so many ticks before.
    Since(u64),
    /// It has waited for messages, and was told at once that there are some.
    Woken(u64),
}

/// An endpoint's place among all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointId(u8);

impl EndpointId {
    /// None: nobody is told what is told there.
    pub const NONE: EndpointId = EndpointId(u8::MAX);

    /// The endpoint at this place.
    pub const fn new(index: usize) -> Self {
        // There are a dozen at most.
        #[allow(clippy::cast_possible_truncation)]
        if index < MAX_ENDPOINTS { EndpointId(index as u8) } else { EndpointId::NONE }
    }

    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Some of all endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointSet(u16);

const _: () = assert!(MAX_ENDPOINTS <= u16::BITS as usize);

impl EndpointSet {
    pub const EMPTY: EndpointSet = EndpointSet(0);

    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn add(&mut self, id: EndpointId) {
        if id.index() < MAX_ENDPOINTS {
            self.0 |= 1 << id.index();
        }
    }
}

impl EndpointSet {
    /// It is not among them any more.
    pub fn remove(&mut self, id: EndpointId) {
        if id.index() < MAX_ENDPOINTS {
            self.0 &= !(1 << id.index());
        }
    }
}

impl Iterator for EndpointSet {
    type Item = EndpointId;

    #[inline]
    fn next(&mut self) -> Option<EndpointId> {
        if self.0 == 0 {
            return None;
        }
        // A bit of 16.
        #[allow(clippy::cast_possible_truncation)]
        let first = EndpointId(self.0.trailing_zeros() as u8);
        self.0 &= self.0 - 1;
        Some(first)
    }
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// The component of this rank.
    Component(usize),
    /// A VM that controls the machine.
    Vm(VmId),
}

/// The core's ends of a pair of rings that is about one service, with one party to it.
pub struct Endpoint {
    pub service: Service,
    pub party: Party,
    /// The party's notification bit for messages from the core.
    pub bit: u64,
    /// Core to party.
    to: Producer<SharedMemory>,
    /// Party to core.
    from: Consumer<SharedMemory>,
    /// The party's request page, where the service has one.
    pub page: Option<SharedMemory>,
    /// Next seat that the party must be told of after a restart, for the plan the next slot; `None` when it knows all.
    pub resync: Option<u32>,
    /// Something is kept for the party until its ring has space: what it has to be told of seats, or others that wait for it.
    pub owes: bool,
    /// See [`Full`].
    pub full: Full,
    /// Where the party was in its ring at the last look: messages that it had given back, and whether some were left.
    seen: (u32, bool),
    /// The VM that has ended and that the party has had to let go of longest, and steady time since which that is so.
    pub leaving: Option<(VmId, u64)>,
}

impl Endpoint {
    /// An endpoint over these rings. `None` for what are no rings.
    pub fn new(
        service: Service,
        party: Party,
        bit: u64,
        (to, to_slots): (&SharedMemory, u32),
        (from, from_slots): (&SharedMemory, u32),
    ) -> Option<Self> {
        let to = Producer::attach_contiguous(to, to_slots).ok()?;
        let from = Consumer::attach_contiguous(from, from_slots).ok()?;
        Some(Endpoint {
            service,
            party,
            bit,
            to,
            from,
            page: None,
            resync: None,
            owes: false,
            full: Full::No,
            seen: (0, false),
            leaving: None,
        })
    }

    /// Put a message into the ring to the party. After a restart of the party the first try only takes note of the new
    /// epoch. (Not inlined: whoever runs a VM needs the registers, and its exits are more frequent than messages.)
    #[inline(never)]
    pub fn tell(&mut self, message: &Message) -> Told {
        match self.to.push(message) {
            Ok(()) => Told::Yes,
            Err(PushError::EpochChanged) => match self.to.push(message) {
                Ok(()) => Told::Yes,
                Err(_) => Told::Full,
            },
            Err(PushError::Full | PushError::Corrupt) => Told::Full,
        }
    }

    /// The next message. Its slot goes back with [`Endpoint::release`]. What the party wrote is an allegation; nonsense in
    /// the index words counts as empty.
    #[inline(always)]
    pub fn take(&mut self) -> Option<Message> {
        match self.from.take() {
            Ok(message) => message,
            Err(RingError::EpochChanged) => self.from.take().ok().flatten(),
            Err(RingError::Corrupt) => None,
        }
    }

    /// The next message, if one was there at the last look and it is a turn of the plan of a VM that is `wanted`: whose, and how many ticks. All others stay
    /// for [`Endpoint::take`]. What was taken is given back.
    #[inline(always)]
    pub fn take_turn(&mut self, wanted: impl FnOnce(VmId) -> bool) -> Option<(VmId, u64)> {
        // A turn has three words.
        self.from.take_if::<3, _>(|message| match SchedCommand::try_from(message) {
            Ok(SchedCommand::Run { vm, quantum_ticks }) if wanted(vm) => Some((vm, quantum_ticks)),
            _ => None,
        })
    }

    /// The next request of a party that nobody can be restarted for, when all its answers would find room.
    ///
    /// # Errors
    /// Both ends of its rings, as it wrote them, cannot be.
    pub fn take_if_room(&mut self, room: u32) -> Result<Option<Message>, RingError> {
        // A reset that the party has made up: it has cost it what was in the ring.
        let in_flight = match self.to.in_flight() {
            Err(RingError::EpochChanged) => self.to.in_flight(),
            other => other,
        };
        if self.to.capacity().saturating_sub(in_flight?) < room {
            return Ok(None);
        }
        match self.from.take() {
            Err(RingError::EpochChanged) => self.from.take(),
            other => other,
        }
    }

    /// Give the slots of what was taken back.
    #[inline]
    pub fn release(&mut self) {
        self.from.release();
    }

    /// Copy what the party says lies in its request page, in place of what is in `into`. It may write there at any time, so the copy
    /// is what counts.
    ///
    /// # Errors
    /// [`BadPiece`].
    pub fn copy_in<const N: usize>(&self, piece: Piece, into: &mut heapless::Vec<u8, N>) -> Result<(), BadPiece> {
        into.clear();
        let range = piece.range().ok_or(BadPiece::Outside)?;
        let page = self.page.as_ref().ok_or(BadPiece::Outside)?;
        into.resize(range.len(), 0).map_err(|_| BadPiece::TooLong)?;
        page.read(range.start, into).ok_or(BadPiece::Outside)
    }

    /// Write bytes where the party wants them in its request page, as many as there is room for there.
    ///
    /// # Errors
    /// [`BadPiece::Outside`].
    pub fn copy_out(&self, bytes: &[u8], piece: Piece) -> Result<(), BadPiece> {
        let range = piece.range().ok_or(BadPiece::Outside)?;
        let page = self.page.as_ref().ok_or(BadPiece::Outside)?;
        page.write(range.start, &bytes[..bytes.len().min(range.len())]).ok_or(BadPiece::Outside)
    }

    /// Messages that the party has not taken yet.
    #[cfg(test)]
    pub fn in_flight(&mut self) -> u32 {
        self.to.in_flight().expect("a ring")
    }

    /// Whether the party has said something that was not taken.
    #[cfg(test)]
    pub fn has_untaken(&mut self) -> bool {
        self.from.available().is_ok_and(|messages| messages != 0)
    }

    /// A look at whether the party takes its messages. True when it has taken none since the last look, and there were some then.
    pub fn is_stuck(&mut self) -> bool {
        // One that writes nonsense takes nothing. In a new epoch both ends begin anew.
        let seen = match self.to.progress() {
            Ok((head, used)) => (head, used != 0),
            Err(RingError::Corrupt) => (self.seen.0, true),
            Err(RingError::EpochChanged) => (0, false),
        };
        core::mem::replace(&mut self.seen, seen) == seen && seen.1
    }

    /// Whether there were some at the last look.
    pub const fn has_messages(&self) -> bool {
        self.seen.1
    }

    /// True when there is no space in the ring to the party for more than what may come at once, or it wrote nonsense into it.
    pub fn is_full(&mut self) -> bool {
        match self.to.in_flight() {
            Ok(used) => used + ROOM > self.to.capacity(),
            Err(error) => error == RingError::Corrupt,
        }
    }

    /// The party begins anew, and its ring is empty.
    pub fn restart(&mut self) {
        (self.owes, self.full, self.seen, self.leaving) = (false, Full::No, (0, false), None);
    }

    /// True when there is space for some messages more.
    pub fn has_room(&mut self) -> bool {
        self.used().is_some_and(|used| used + ROOM <= self.to.capacity())
    }

    /// True when the ring to the party is less than half full, so that it can be told more of what is not urgent.
    pub fn has_space(&mut self) -> bool {
        self.used().is_some_and(|used| used * 2 < self.to.capacity())
    }

    /// Messages to the party that it has not taken; `None` where it wrote nonsense into the ring.
    fn used(&mut self) -> Option<u32> {
        match self.to.in_flight() {
            // A restart of the party has emptied it, which is noted now.
            Err(RingError::EpochChanged) => self.to.in_flight().ok(),
            used => used.ok(),
        }
    }
}

/// All endpoints.
pub struct Endpoints {
    list: heapless::Vec<Endpoint, MAX_FIXED>,
    /// Those of VMs.
    guests: [Option<Endpoint>; MAX_CONTROL_VMS],
    /// The one of each service whose party is the most important, by [`Service::raw`].
    first: [EndpointId; Service::ALL.len() + 1],
}

impl Endpoints {
    /// None yet.
    pub const fn new() -> Self {
        Endpoints {
            list: heapless::Vec::new(),
            guests: [const { None }; MAX_CONTROL_VMS],
            first: [EndpointId::NONE; Service::ALL.len() + 1],
        }
    }

    /// Add the endpoint of a party that is less important than all others. There is room for as many as there can be rings.
    pub fn add(&mut self, endpoint: Endpoint) -> EndpointId {
        let id = EndpointId::new(self.list.len());
        let first = &mut self.first[endpoint.service as usize];
        if *first == EndpointId::NONE {
            *first = id;
        }
        let _ = self.list.push(endpoint);
        id
    }

    /// The endpoint of the most important party to a service, [`EndpointId::NONE`] where there is none.
    #[inline]
    pub fn first(&self, service: Service) -> EndpointId {
        self.first[service as usize]
    }

    /// The endpoints of all components that are parties to a service.
    pub fn all(&self, service: Service) -> EndpointSet {
        let mut all = EndpointSet::EMPTY;
        for (index, endpoint) in self.list.iter().enumerate() {
            if endpoint.service == service {
                all.add(EndpointId::new(index));
            }
        }
        all
    }

    /// Add the endpoint of a VM. `None` when as many VMs have one as can.
    pub fn add_guest(&mut self, endpoint: Endpoint) -> Option<EndpointId> {
        let free = self.guests.iter().position(Option::is_none)?;
        self.guests[free] = Some(endpoint);
        Some(EndpointId::new(MAX_FIXED + free))
    }

    /// How many VMs have one.
    pub fn guests(&self) -> u32 {
        // A handful at most.
        u32::try_from(self.guests.iter().flatten().count()).unwrap_or(u32::MAX)
    }

    /// Whether another VM could have an endpoint.
    pub fn has_guest_room(&self) -> bool {
        self.guests.iter().any(Option::is_none)
    }

    /// The endpoint of a VM is gone, with its rings.
    pub fn remove_guest(&mut self, id: EndpointId) {
        if let Some(guest) = id.index().checked_sub(MAX_FIXED).and_then(|index| self.guests.get_mut(index)) {
            *guest = None;
        }
    }

    #[inline]
    pub fn get(&self, id: EndpointId) -> Option<&Endpoint> {
        match self.list.get(id.index()) {
            Some(endpoint) => Some(endpoint),
            None => self.guest(id),
        }
    }

    #[inline]
    pub fn get_mut(&mut self, id: EndpointId) -> Option<&mut Endpoint> {
        if id.index() < self.list.len() { self.list.get_mut(id.index()) } else { self.guest_mut(id) }
    }

    #[cold]
    fn guest(&self, id: EndpointId) -> Option<&Endpoint> {
        self.guests.get(id.index().checked_sub(MAX_FIXED)?)?.as_ref()
    }

    #[cold]
    fn guest_mut(&mut self, id: EndpointId) -> Option<&mut Endpoint> {
        self.guests.get_mut(id.index().checked_sub(MAX_FIXED)?)?.as_mut()
    }

    /// The endpoint of the component of this rank as a party to a service, [`EndpointId::NONE`] where it is none.
    pub fn of(&self, rank: usize, service: Service) -> EndpointId {
        let is_it = |endpoint: &Endpoint| endpoint.service == service && endpoint.party == Party::Component(rank);
        self.list.iter().position(is_it).map_or(EndpointId::NONE, EndpointId::new)
    }

    /// The rank of the component at the other end.
    #[inline]
    pub fn rank(&self, id: EndpointId) -> Option<usize> {
        match self.get(id)?.party {
            Party::Component(rank) => Some(rank),
            Party::Vm(_) => None,
        }
    }
}
