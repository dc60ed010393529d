//! The work itself: frames from the NIC to the VMs, from the VMs to the NIC, and from VM to VM.

mod absent;
mod pages;
mod segments;
mod transmit;

pub use self::absent::Called;
use self::pages::Looks;
use self::transmit::{Left, Serving};
use crate::audience::{Audience, Survey, Topic};
use crate::directory::Directory as _;
use crate::doors::Doors;
use crate::drivers::Nic;
use crate::egress::Cause;
use crate::frame::{DmaFrame, Frame as _, Ipv4};
use crate::ingress::{self, Receivers};
use crate::leases::Leases;
use crate::policy::{Discipline, Fault, Limited};
use crate::ports::{FRAME_WORK, Port, Ports, Undelivered, Used};
use crate::totals::Totals;
use abi::nic::NicCounters;
use abi::nic::Node;
use abi::share::Share;
use abi::vm::{Seat, VmId};
use component::{Complaints, VmNic};

/// What a frame is as work.
#[inline]
fn work_of(len: usize) -> u64 {
    FRAME_WORK + u64::try_from(len).unwrap_or(0)
}

/// What the demultiplexer asks of the machine.
pub trait Host {
    /// Makes [`abi::guest::pending::NIC`] pending for a VM.
    fn raise(&mut self, vm: VmId);
    /// Has a VM come in that is out.
    fn call(&mut self, vm: VmId) -> Called;
    /// The time in ticks.
    fn now(&mut self) -> u64;
    /// Asks for page `page` of an attached VM's NIC. False when it cannot be had.
    fn ring_page(&mut self, vm: VmId, page: u32) -> bool;
    /// What was done for a VM, or for nobody in particular, of all that was done since the last one was told of: so many units of work.
    fn used(&mut self, used: Used, of: u64);
    /// Gives pages of an attached VM's NIC back (bit `i`: page `i`). False, and nothing is done, while the VM does not idle.
    fn return_pages(&mut self, vm: VmId, pages: u32) -> bool;
}

/// When to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Nothing is left: when something happens.
    Idle,
    /// Work is left. Not before that many ticks have passed, so that under any load the VMs get to run as long as the
    /// demultiplexer did; otherwise a flood of frames would keep those from running that are to take them.
    Rest(u64),
    /// What is left may not be done before this time, in ticks, unless something happens.
    Until(u64),
}

/// A VM that is attached.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer {
    /// Its name.
    pub id: VmId,
    /// Its place in the tables.
    pub seat: Seat,
    /// What its MAC has in common with those of the machine's other VMs.
    pub node: Node,
    /// Its address, or 0 when it asks DHCP.
    pub ipv4: u32,
    /// What it may send.
    pub share: Share,
    /// The account of its tenant, and the bytes that the VMs of that may send in a second, 0 for any number; `None` for nobody's.
    pub of: Option<(u32, u32)>,
}

/// Frames in one turn at most, in each direction.
const BATCH: usize = 64;
/// A turn of this many parts of a second at most: 4 ms, a fifth of what a component may run between two waits.
const PACES_PER_SECOND: u64 = 100;
const TURNS_PER_SECOND: u64 = 250;
const SAID_AT: u64 = 128 << 10;
const SAID_LEAST: u64 = 16 << 10;
/// Ports with news at once; with more, the first ones hear theirs early.
const TOUCHED: usize = BATCH;

/// A frame that goes to every VM, one after the other, over as many turns as that takes.
#[derive(Clone, Copy, Debug)]
struct Flood {
    frame: DmaFrame,
    /// The VM that sent it.
    from: Option<Seat>,
    /// The seat that is next, by number.
    next: u16,
    topic: Topic,
    /// What all listen to is gathered on the way.
    survey: Option<Survey>,
}

/// The demultiplexer.
pub struct Demux<C: Nic, H: Host, D: Discipline> {
    nic: C,
    host: H,
    ports: Ports,
    discipline: Limited<D>,
    leases: Leases,
    /// Seats with news that the guest has not been shown.
    touched: heapless::Vec<Seat, TOUCHED>,
    /// The frame from the wire, still in its receive buffer, that is on its way to all.
    rx_flood: Option<Flood>,
    /// The frame of a VM, still in the next transmit buffer, that is on its way to all and then to the wire.
    tx_flood: Option<Flood>,
    /// Whose turn to send it is.
    serving: Option<Serving>,
    rx_left: bool,
    audience: Audience,
    /// When ports are looked at that have ring pages.
    looks: Looks,
    doors: Doors,
    totals: Totals,
    /// Units of work that were done and of which it was not said for whom; and of these what was for nobody in particular.
    work: u64,
    /// See `work`.
    own_work: u64,
    /// How long a [`crate::holdings::Pace`] is.
    pace_ticks: u64,
    turn_ticks: u64,
    limit: Complaints,
}

impl<C: Nic, H: Host, D: Discipline> Demux<C, H, D> {
    /// A demultiplexer without VMs: `ports` and `discipline` are empty. `ticks_per_second` is the speed of [`Host::now`]. The
    /// discipline is started.
    pub fn new(
        nic: C,
        mut host: H,
        mut ports: Ports,
        mut discipline: Limited<D>,
        leases: Leases,
        doors: Doors,
        ticks_per_second: u64,
    ) -> Self {
        discipline.start(ticks_per_second);
        // Nobody outside knows the tick of this start.
        #[allow(clippy::cast_possible_truncation)]
        ports.salt(host.now() as u32);
        Demux {
            nic,
            host,
            ports,
            discipline,
            leases,
            touched: heapless::Vec::new(),
            rx_flood: None,
            tx_flood: None,
            serving: None,
            rx_left: false,
            audience: Audience::new(ticks_per_second),
            looks: Looks::new(ticks_per_second),
            doors,
            totals: Totals::default(),
            work: 0,
            own_work: 0,
            pace_ticks: (ticks_per_second / PACES_PER_SECOND).max(1),
            turn_ticks: (ticks_per_second / TURNS_PER_SECOND).max(1),
            // What guests can provoke.
            limit: Complaints::new(ticks_per_second),
        }
    }

    /// What was counted.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// What the discipline has done that it must not.
    #[inline]
    pub fn fault(&self) -> Option<Fault> {
        self.discipline.fault()
    }

    /// The machine.
    pub fn host_mut(&mut self) -> &mut H {
        &mut self.host
    }

    /// The NIC.
    pub fn nic(&self) -> &C {
        &self.nic
    }

    /// True when the last turn left received frames with the NIC: its interrupt need not come.
    pub fn rx_left(&self) -> bool {
        self.rx_left
    }

    /// Everything known about VMs is void.
    pub fn forget_all(&mut self) {
        for seat in (0..self.ports.end()).map(Seat::new) {
            self.discipline.remove(seat);
        }
        self.discipline.forget_tenants();
        self.serving = None;
        self.rx_flood = None;
        self.tx_flood = None;
        self.audience.forget();
        self.ports.clear();
        self.totals.absent_dropped += self.doors.clear();
    }

    /// A VM is there. False when the machine has no such seat or slot.
    pub fn attach(&mut self, new: Newcomer, nic: VmNic) -> bool {
        let Newcomer { id, seat, node, ipv4, share, of } = new;
        self.leave_queue(seat);
        if !self.ports.attach(id, seat, node, ipv4, nic, self.nic.link_up()) {
            return false;
        }
        if let Some(port) = self.ports.get_mut(seat) {
            port.store_cuts(self.nic.cuts());
        }
        self.audience.forget();
        let address = if ipv4 == 0 { self.leases.get(id, seat) } else { ipv4 };
        self.set_address(id, seat, address);
        self.touch(seat);
        let now = self.host.now();
        self.discipline.attach(seat, share, of, now);
        // It may have put frames into its ring before it was attached.
        self.discipline.enqueue(seat);
        if !self.doors.is_empty() {
            self.give_held(id, seat);
        }
        true
    }

    /// The VMs of the tenant with this account may send so many bytes in a second from now on, 0 for any number.
    pub fn set_rate(&mut self, account: u32, rate: u32) {
        let now = self.host.now();
        self.discipline.set_rate(account, rate, now);
    }

    /// An attached VM has this address from now on, and no other; 0: it asks DHCP for one.
    pub fn address(&mut self, id: VmId, seat: Seat, ipv4: u32) {
        if self.ports.get_mut(seat).is_some_and(|port| port.id == id) {
            self.leases.set(id, seat, 0);
            self.ports.set_address(seat, 0);
            self.set_address(id, seat, ipv4);
        }
    }

    fn set_address(&mut self, id: VmId, seat: Seat, ipv4: u32) {
        if !self.ports.set_address(seat, ipv4) {
            log::error!("{id}: another VM has the address {} already; IPv4 is closed to it", Ipv4(ipv4));
        }
    }

    /// A VM is gone: from here on its pages are not touched. Returns its counters if it was attached.
    pub fn detach(&mut self, id: VmId, seat: Seat) -> Option<NicCounters> {
        let mut port = self.ports.detach(id, seat)?;
        self.leases.set(id, seat, 0);
        self.leave_queue(seat);
        if let Some(used) = port.news() {
            self.say_used(used);
        }
        Some(port.counters)
    }

    fn leave_queue(&mut self, seat: Seat) {
        self.discipline.remove(seat);
        self.serving = self.serving.filter(|serving| serving.seat != seat);
    }

    /// The VM in `seat` may have something to send.
    #[inline]
    pub fn kick(&mut self, seat: Seat) {
        if let Some(port) = self.ports.get_mut(seat) {
            port.nic.tx.cancel_wait();
            self.discipline.enqueue(seat);
        }
    }

    /// The NIC has interrupted.
    pub fn interrupt(&mut self) {
        let was_up = self.nic.link_up();
        self.nic.interrupt();
        let up = self.nic.link_up();
        if up != was_up {
            log::info!("link {}", if up { "up" } else { "down" });
            for seat in (0..self.ports.end()).map(Seat::new) {
                if let Some(port) = self.ports.get_mut(seat) {
                    port.store_link(up);
                }
            }
        }
    }

    /// Does a bounded amount of what there is to do, and says when to go on.
    pub fn turn(&mut self) -> Pace {
        let start = self.host.now();
        if start >= self.looks.due() {
            self.return_pages(start);
        }
        if start >= self.doors.due() {
            self.expire_held(start);
        }
        // Receiving may not take the time of sending.
        self.rx_left = self.receive(start.saturating_add(self.turn_ticks / 2));
        let tx_left = self.transmit(start.saturating_add(self.turn_ticks));
        self.nic.flush();
        self.settle();
        self.leases.save();
        match tx_left {
            Left::Nothing if !self.rx_left => Pace::Idle,
            Left::Until(time) if !self.rx_left => Pace::Until(time),
            _ => {
                let took = self.host.now().saturating_sub(start);
                Pace::Rest(took.clamp(1, self.turn_ticks))
            }
        }
    }

    /// From the wire to the VMs. True when something is left.
    fn receive(&mut self, until: u64) -> bool {
        for _ in 0..BATCH {
            let Some(received) = self.nic.received() else { return false };
            let frame = DmaFrame { memory: self.nic.memory(), offset: received.offset, len: received.len };
            if self.rx_flood.is_none() {
                self.totals.received += 1;
                self.work += work_of(frame.len);
                // No NIC hands on less than a header.
                if let Some((seat, port)) = self.ports.addressed(&frame.target()) {
                    let result = port.deliver(&frame);
                    if port.list() {
                        self.note(seat);
                    }
                    if let Err(why) = result {
                        self.deliver_again(seat, &frame, why);
                    }
                } else {
                    self.distribute(frame);
                }
            }
            if let Some(flood) = self.rx_flood {
                self.rx_flood = self.flood(flood, until);
                if self.rx_flood.is_some() {
                    return true;
                }
            }
            self.nic.release();
            if self.host.now() >= until {
                break;
            }
        }
        self.nic.received().is_some()
    }

    /// Gives a frame from the wire to whoever gets it.
    // Out of the way of the frames that plainly go to one.
    #[inline(never)]
    fn distribute(&mut self, frame: DmaFrame) {
        match ingress::route(&frame, &self.ports) {
            Receivers::One(seat) => _ = self.deliver(seat, &frame),
            Receivers::Nobody if !self.doors.is_empty() && self.for_absent(&frame, None) => {}
            Receivers::Nobody => {
                self.totals.to_nobody += 1;
                self.own_work += work_of(frame.len);
            }
            Receivers::Learnt(seat, ipv4) => {
                self.learn(seat, ipv4);
                _ = self.deliver(seat, &frame);
            }
            Receivers::All => match self.begin_flood(frame, None) {
                Some(flood) => {
                    self.totals.to_all += 1;
                    // Each copy is work for its VM.
                    self.own_work += work_of(frame.len);
                    self.rx_flood = Some(flood);
                }
                None => {
                    self.totals.to_nobody += 1;
                    self.own_work += work_of(frame.len);
                }
            },
        }
    }

    /// Copies a frame into one VM's ring. False when it did not fit.
    #[inline(never)]
    fn deliver(&mut self, seat: Seat, frame: &DmaFrame) -> bool {
        let Some(port) = self.ports.get_mut(seat) else { return false };
        let result = port.deliver(frame);
        if port.list() {
            self.note(seat);
        }
        match result {
            Ok(()) => true,
            Err(why) => self.deliver_again(seat, frame, why),
        }
    }

    /// Copies a frame of one VM into another's ring. False when it did not fit, or its sender has too much there.
    #[inline(never)]
    fn pass_on(&mut self, from: Seat, to: Seat, frame: &DmaFrame) -> bool {
        if !self.lets_in(from, to, frame.len) {
            self.totals.crowded += 1;
            return false;
        }
        let work = work_of(frame.len);
        self.work += work;
        // Whoever sends has it done: who gets it was not asked.
        if let Some(port) = self.ports.get_mut(from) {
            port.add_caused(work);
        }
        if let Some(port) = self.ports.get_mut(to) {
            port.add_from_others(work);
        }
        self.deliver(to, frame)
    }

    /// Whether a VM has less in another's ring, and has brought it less lately, than the discipline lets it: if so, one more frame.
    #[inline]
    fn lets_in(&mut self, from: Seat, to: Seat, len: usize) -> bool {
        // Wraps: one of 65,536 paces ago is taken for the last one, whose count is that of then.
        #[allow(clippy::cast_possible_truncation)]
        let number = (self.host.now() / self.pace_ticks) as u16;
        let Some(port) = self.ports.get_mut(to) else { return true };
        let (ring, pace) = (port.fill(), port.pace(number));
        let Some(ring) = ring else { return true };
        let most = self.discipline.may_hold(ring.free());
        let bring = |others| self.discipline.may_bring(others);
        self.ports.lets_in((from, to), len, ring, most, pace, bring)
    }

    /// Says what was done for a VM, and keeps in mind what is still to be said.
    fn say_used(&mut self, used: Used) {
        self.host.used(used, self.work);
        self.work = self.work.saturating_sub(used.work);
    }

    /// Has got a frame into no ring yet. False when that is how it stays.
    #[cold]
    #[inline(never)]
    fn deliver_again(&mut self, seat: Seat, frame: &DmaFrame, why: Undelivered) -> bool {
        let result = match why {
            Undelivered::NoPage(page) => self.deliver_to_new_pages(seat, frame, page),
            _ => Err(why),
        };
        if result == Err(Undelivered::Corrupt) {
            self.blame(seat, "receive");
        }
        result.is_ok()
    }

    /// A frame is to go to all VMs but its sender; `None` when none of them wants to hear of such.
    fn begin_flood(&mut self, frame: DmaFrame, from: Option<Seat>) -> Option<Flood> {
        let topic = Topic::of(&frame);
        let now = self.host.now();
        if self.audience.is_deaf(topic, self.ports.watched() != 0, now) {
            return None;
        }
        Some(Flood { frame, from, next: 0, topic, survey: self.audience.begin(now) })
    }

    /// Copies a frame to all VMs that want to hear of such, but its sender. Returns what is left when the time is up.
    #[inline(never)]
    fn flood(&mut self, mut flood: Flood, until: u64) -> Option<Flood> {
        while flood.next < self.ports.end() {
            let seat = Seat::new(flood.next);
            flood.next += 1;
            if let Some(port) = self.ports.get_mut(seat) {
                let listens = port.listens();
                let wanted = flood.topic.interests(&listens, port.has_pages());
                if let Some(survey) = flood.survey {
                    self.audience.add(survey, &listens);
                }
                match flood.from {
                    _ if !wanted => {}
                    None => {
                        self.work += work_of(flood.frame.len);
                        self.deliver(seat, &flood.frame);
                    }
                    Some(from) if from == seat => {}
                    Some(from) => _ = self.pass_on(from, seat, &flood.frame),
                }
            }
            if self.host.now() >= until {
                return Some(flood);
            }
        }
        if let Some(survey) = flood.survey {
            self.audience.finish(survey, self.host.now());
        }
        None
    }

    /// Remembers that the guest has to be told something.
    #[inline]
    fn touch(&mut self, seat: Seat) {
        if self.ports.get_mut(seat).is_some_and(Port::list) {
            self.note(seat);
        }
    }

    /// Puts a seat, which is not there, on the list of those with news.
    #[inline]
    fn note(&mut self, seat: Seat) {
        if self.touched.push(seat).is_err() {
            self.settle();
            // The list is empty now.
            let _ = self.touched.push(seat);
        }
    }

    /// Tells the guests what has happened, and wakes those that wait for it: once for the whole batch.
    fn settle(&mut self) {
        if self.work >= SAID_AT {
            self.say_all();
        }
        for &seat in &self.touched {
            if let Some(port) = self.ports.get_mut(seat)
                && port.settle()
            {
                self.host.raise(port.id);
            }
        }
        self.touched.clear();
    }

    /// Says for whom much was done, of those with news.
    #[cold]
    #[inline(never)]
    fn say_all(&mut self) {
        for index in 0..self.touched.len() {
            if let Some(port) = self.touched.get(index).and_then(|&seat| self.ports.get_mut(seat))
                && port.unsaid() >= SAID_LEAST
                && let Some(used) = port.news()
            {
                self.say_used(used);
            }
        }
    }

    /// A DHCP server has acknowledged `ipv4` to the VM in `seat`, which gets its address that way. The last server to
    /// speak is right, but an address that the operator gave is not for the taking.
    #[cold]
    fn learn(&mut self, seat: Seat, ipv4: u32) {
        let Some(port) = self.ports.get_mut(seat).filter(|port| port.ipv4 != ipv4) else { return };
        let vm = port.id;
        if let Some(other) = self.ports.owner(ipv4) {
            let fixed = self.ports.get_mut(other).filter(|port| !port.learns).map(|port| port.id);
            if let Some(owner) = fixed {
                if self.may_log() {
                    let address = Ipv4(ipv4);
                    log::warn!("DHCP gave {vm} the address {address} of {owner}, which is fixed; IPv4 stays closed");
                }
                return;
            }
            self.set_lease(other, 0);
        }
        self.set_lease(seat, ipv4);
        if self.may_log() {
            log::info!("{vm} has {} from DHCP", Ipv4(ipv4));
        }
    }

    fn set_lease(&mut self, seat: Seat, ipv4: u32) {
        if let Some(port) = self.ports.get_mut(seat) {
            self.leases.set(port.id, seat, ipv4);
            self.ports.set_address(seat, ipv4);
        }
    }

    /// Counts a frame that may not leave its VM. The log shows the first of each cause.
    #[cold]
    #[inline(never)]
    fn refuse(&mut self, seat: Seat, cause: Cause) {
        self.totals.refused += 1;
        if let Some(port) = self.ports.get_mut(seat) {
            let id = port.id;
            if port.count_refused(cause) && self.may_log() {
                log::warn!("{id}: dropped a frame, since {cause}; more of these are only counted");
            }
        }
    }

    /// A guest has written into a ring what cannot be. That harms only itself.
    #[cold]
    #[inline(never)]
    fn blame(&mut self, seat: Seat, which: &str) {
        self.totals.corrupt += 1;
        let vm = self.ports.get_mut(seat).map(|port| port.id);
        if let Some(vm) = vm
            && self.may_log()
        {
            log::warn!("{vm}: its {which} ring makes no sense; what was in it is dropped");
        }
    }

    fn may_log(&mut self) -> bool {
        match self.limit.pass(self.host.now()) {
            Some(0) => true,
            Some(suppressed) => {
                log::warn!("{suppressed} lines about guests were suppressed");
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
#[path = "demux_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "demux_pages_tests.rs"]
mod pages_tests;

#[cfg(test)]
#[path = "demux_audience_tests.rs"]
mod audience_tests;

#[cfg(test)]
#[path = "demux_absent_tests.rs"]
mod absent_tests;
