//! The clients: each asks once, on a connection of its own, and does not wait for the others, unless the plan says so.

use super::latencies::{GROUPS, Latencies};
use super::plan::{AT_ONCE, Document, LAST, MOST_AT_ONCE, Plan, STEP};
use super::segment::{ACK, FIN, Heard, MOST, PSH, RST, SYN, Segment, WHOLE_FRAMES, write, write_arp};
use super::sweep::{ADDRESS as SWEEPER, Sweeper};
use super::zipf::Zipf;
use super::{MAC, mac_of};
use component::{Table, Tables};
use heapless::Deque;

/// The first VM's address, and the first client's, which is reached by way of a gateway.
const FIRST_VM: u32 = 0x0a00_0210;
const FIRST_CLIENT: u32 = 0x0a01_0001;
/// The first port of clients, and how many each of their addresses uses.
const FIRST_PORT: u32 = 10_000;
const PORTS: u32 = 1 << 14;
/// Clients that wait at once at most; there are as many slots.
const CLIENTS: u32 = 1024;
/// Full segments are acknowledged by two, where they are (RFC 9293, section 3.8.6.3): bytes in them.
const TWO_SEGMENTS: u32 = 2 * 1460;
/// What clients have still to say, besides what they say again.
const WORDS: usize = 1024;
/// Milliseconds before the first request.
const START_MS: u64 = 200;
/// Who is not answered sends its SYN again after a second, as Linux does, and anything else after a fifth, twice as late each time; after three seconds it is lost.
const SYN_AGAIN_MS: u64 = 1_000;
const AGAIN_MS: u64 = 200;
const PATIENCE_MS: u64 = 3_000;
/// How often is looked who has waited for long.
const LOOK_MS: u64 = 10;

/// Popular VMs do not lie side by side: the slot of the VM of rank *n* is this many times *n*, of all, whose number it has no divisor in common with.
const APART: u64 = 7919;

/// What a client waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// There is none in this place.
    #[default]
    Nobody,
    /// The answer to its SYN.
    Connecting,
    /// The document and its end.
    Asking,
    /// That its own end is acknowledged.
    Closing,
}

/// A client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Client {
    /// When its request was due, and when it sends again what it has sent.
    due: u64,
    again: u64,
    /// Its number, from which its address and port follow.
    number: u32,
    vm: u32,
    /// The next byte that it expects, and the one that it has said so of last.
    expects: u32,
    acknowledged: u32,
    state: State,
    tries: u8,
    /// It is among those that have something to say.
    speaks: bool,
    /// The tenth of the VMs that its VM is in by popularity, from 1.
    tenth: u8,
    /// The first byte of the document has come.
    begun: bool,
}

/// All clients.
#[derive(Debug)]
pub struct Clients {
    plan: Plan,
    clients: Table<Client>,
    latencies: Latencies,
    /// Places of those that have something to say, with when that comes to the VM; and who has asked for an address.
    speakers: Deque<(u32, u64), WORDS>,
    asked: Deque<([u8; 6], u32, u32), 256>,
    /// VMs whose clients are done and ask again, where they do.
    done: Deque<u32, { MOST_AT_ONCE as usize }>,
    zipf: Zipf,
    sweeper: Sweeper,
    random: u64,
    /// The number of the next request, and when it is due.
    number: u32,
    due: u64,
    look: u64,
    /// Clients that wait.
    waiting: u32,
    /// The number of the first request that is measured, and when it was due.
    first: u32,
    begun: u64,
    /// Numbers that no request of those that are measured has, since their places were taken.
    skipped: u32,
    /// When the first request began at all.
    started: u64,
    /// Ticks that all this here has taken.
    pub own: u64,
    counts: Counts,
}

/// Requests that were measured.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    served: u32,
    /// Not answered in time; refused by a reset; no place for one more client.
    late: u32,
    reset: u32,
    crowded: u32,
    /// VMs that were visited, and answered.
    visited: u32,
    told: bool,
}

impl Clients {
    /// Nobody asks yet.
    pub fn new(tables: &mut Tables, plan: Plan) -> Self {
        let due = plan.start + plan.hz / 1000 * START_MS;
        let (clients, latencies) = (tables.per_slot(), Latencies::new(tables));
        let (speakers, asked) = (Deque::new(), Deque::new());
        let (zipf, sweeper) = (Zipf::new(tables, plan.zipf.unwrap_or(0)), Sweeper::new(plan.visits));
        Clients {
            plan,
            clients,
            latencies,
            speakers,
            asked,
            done: Deque::new(),
            zipf,
            sweeper,
            random: 1,
            number: 0,
            due,
            look: due,
            waiting: 0,
            first: plan.visits + plan.warm_up,
            begun: 0,
            skipped: 0,
            started: 0,
            own: 0,
            counts: Counts::default(),
        }
    }

    /// When there is something to send, if no VM sends anything before.
    pub fn due(&self) -> u64 {
        if !self.asked.is_empty() {
            return 0;
        }
        let speaks = self.speakers.front().map_or(u64::MAX, |&(_, time)| time);
        // Who waits for others is heard of.
        let due = if self.may_begin() { self.due } else { u64::MAX };
        // When all is done, nothing more is to happen that costs instructions.
        let is_over = self.plan.same > 0 && self.counts.told && self.waiting == 0;
        let look = if is_over || self.plan.players > 0 { u64::MAX } else { self.look };
        due.min(speaks).min(look).min(self.sweeper.due())
    }

    /// The next request waits for nobody but its time.
    fn may_begin(&self) -> bool {
        let Plan { same, together, count, visits, .. } = self.plan;
        let asked = self.number.saturating_sub(visits);
        match same {
            // Players are in their place.
            _ if self.plan.players > 0 => false,
            0 => !self.waits_for_others() || self.waiting < AT_ONCE,
            // All are visited first, so that not all ask at once where to send their answers.
            _ if self.number < visits => self.waiting < AT_ONCE,
            _ if asked == 0 && self.waiting > 0 => false,
            _ if self.number >= self.first + count + self.skipped => false,
            _ if together => self.waiting == 0 || asked % same != 0,
            _ => asked < same || !self.done.is_empty(),
        }
    }

    fn waits_for_others(&self) -> bool {
        self.number < self.plan.visits || self.plan.rate == 0
    }

    /// Writes the next frame for a VM, when there is one. Its length.
    pub fn next(&mut self, now: u64, frame: &mut [u8; MOST]) -> Option<usize> {
        if let Some((mac, ip, asked)) = self.asked.pop_front() {
            return Some(write_arp(frame, MAC.bytes(), asked, mac, ip));
        }
        if now >= self.look {
            self.look_at_all(now);
            self.look = now + self.ticks(LOOK_MS);
        }
        while now >= self.due && self.may_begin() {
            self.begin(now);
        }
        if let Some((vm, said)) = self.sweeper.next(now) {
            let said = Segment { mac: mac_of(vm), vm: (FIRST_VM + vm, 80), ..said };
            return Some(write(frame, MAC.bytes(), &said, b"", b""));
        }
        while self.speakers.front().is_some_and(|&(_, time)| now >= time)
            && let Some((place, _)) = self.speakers.pop_front()
        {
            let Plan { document, each_second, .. } = self.plan;
            let client = self.client(place)?;
            client.speaks = false;
            if client.state == State::Nobody {
                continue;
            }
            let by = if each_second && client.state == State::Asking && client.begun { TWO_SEGMENTS } else { u32::MAX };
            let more = client.expects.wrapping_sub(client.acknowledged);
            client.acknowledged = client.acknowledged.wrapping_add(more.min(by));
            let len = say(client, document, frame);
            if more > by {
                self.speak(now, place);
            }
            return Some(len);
        }
        None
    }

    /// Takes in what a VM has sent.
    pub fn hear(&mut self, now: u64, heard: Heard) {
        match heard {
            // Who is not answered asks again.
            Heard::Who { mac, ip, asked } if ip != asked => _ = self.asked.push_back((mac, ip, asked)),
            Heard::Segment(segment) => self.listen(now, &segment),
            _ => {}
        }
    }

    fn listen(&mut self, now: u64, segment: &Segment) {
        if segment.client.0 == SWEEPER {
            self.sweeper.listen(segment.vm.0.wrapping_sub(FIRST_VM), segment);
            return;
        }
        let address = segment.client.0.wrapping_sub(FIRST_CLIENT);
        let port = u32::from(segment.client.1).wrapping_sub(FIRST_PORT);
        let number = address.wrapping_mul(PORTS).wrapping_add(port);
        let place = number % CLIENTS;
        let (again, document) = (now + self.ticks(AGAIN_MS), self.plan.document);
        let Some(client) = self.client(place) else { return };
        if client.number != number || client.state == State::Nobody || port >= PORTS {
            return;
        }
        if segment.flags & RST != 0 {
            self.end(now, place, |counts| counts.reset += 1);
            return;
        }
        match client.state {
            State::Connecting if segment.flags & (SYN | ACK) == SYN | ACK => {
                client.expects = segment.seq.wrapping_add(1);
                (client.state, client.again, client.tries) = (State::Asking, again, 0);
                self.speak(now, place);
            }
            State::Asking if segment.len > 0 || segment.flags & FIN != 0 => {
                if segment.seq == client.expects {
                    let fin = u32::from(segment.flags & FIN != 0);
                    client.expects = segment.seq.wrapping_add(segment.len + fin);
                    let is_first = !core::mem::replace(&mut client.begun, true);
                    if fin == 1 {
                        (client.state, client.again, client.tries) = (State::Closing, again, 0);
                    }
                    if fin == 1 && !self.plan.to_first_byte || is_first && self.plan.to_first_byte {
                        self.answered(now, place);
                    }
                    if fin == 1 {
                        self.is_done(number, segment.vm.0.wrapping_sub(FIRST_VM));
                    }
                }
                self.speak(now, place);
            }
            State::Closing if segment.ack == sent(client, document) => client.state = State::Nobody,
            State::Closing if segment.len > 0 || segment.flags & FIN != 0 => self.speak(now, place),
            _ => {}
        }
    }

    /// A client has what it asked for, or the first of it.
    fn answered(&mut self, now: u64, place: u32) {
        let hz = self.plan.hz.max(1);
        let Some(&mut Client { due, number, tenth, .. }) = self.client(place) else { return };
        self.counts.visited += u32::from(number < self.plan.visits);
        if self.is_measured(number) {
            let us = u128::from(now.saturating_sub(due)) * 1_000_000 / u128::from(hz);
            let us = u32::try_from(us).unwrap_or(u32::MAX);
            self.latencies.add(0, us);
            if tenth > 0 {
                self.latencies.add(tenth.into(), us);
            }
            self.counts.served += 1;
            self.tell(now);
        }
    }

    /// A client is gone, and was not answered unless it only closes, or its document has begun where that counts.
    fn end(&mut self, now: u64, place: u32, count: impl FnOnce(&mut Counts)) {
        let to_first_byte = self.plan.to_first_byte;
        let Some(client) = self.client(place) else { return };
        let (state, number, vm) = (core::mem::take(&mut client.state), client.number, client.vm);
        let is_counted = to_first_byte && client.begun;
        if state == State::Closing {
            return;
        }
        self.is_done(number, vm);
        if !is_counted && self.is_measured(number) {
            count(&mut self.counts);
            self.tell(now);
        }
    }

    /// Nobody waits any more for what the client of this number has asked of this VM.
    fn is_done(&mut self, number: u32, vm: u32) {
        self.waiting = self.waiting.saturating_sub(1);
        if number >= self.plan.visits && self.plan.same > 0 && !self.plan.together {
            // There are as many places as clients.
            let _ = self.done.push_back(vm);
        }
    }

    /// Where nobody is to be turned away: goes on to the next number whose place is not taken by one that is slow.
    fn skip(&mut self) {
        for _ in 0..CLIENTS {
            let place = self.number % CLIENTS;
            if !self.client(place).is_some_and(|client| matches!(client.state, State::Connecting | State::Asking)) {
                return;
            }
            if self.number < self.first {
                self.first += 1;
            } else {
                self.skipped += 1;
            }
            self.number += 1;
        }
    }

    /// The next request is due, or has its turn.
    fn begin(&mut self, now: u64) {
        if self.plan.same > 0 {
            self.skip();
        }
        let number = self.number;
        let due = if self.waits_for_others() { now } else { self.due };
        self.number += 1;
        if number == self.plan.visits {
            (self.started, self.own) = (due, 0);
        }
        if self.is_measured(number) && self.begun == 0 {
            self.begun = due;
        }
        if self.number == self.plan.visits {
            // What follows has its times from now on.
            self.due = now;
        }
        if self.plan.rate > 0 && number >= self.plan.visits {
            let gap = self.exponential();
            // Of seconds at most.
            let gap = (u128::from(gap) * u128::from(self.plan.hz / u64::from(self.plan.rate))) >> 32;
            self.due += u64::try_from(gap).unwrap_or(u64::MAX / 4).max(1);
        }
        let (vm, tenth) = self.whom(number);
        let (place, again) = (number % CLIENTS, due + self.ticks(SYN_AGAIN_MS));
        let Some(client) = self.client(place) else { return };
        if matches!(client.state, State::Connecting | State::Asking) {
            if self.is_measured(number) {
                self.counts.crowded += 1;
                self.tell(now);
            }
            return;
        }
        let speaks = client.speaks;
        *client = Client { due, again, number, vm, state: State::Connecting, speaks, tenth, ..Client::default() };
        self.waiting += 1;
        self.speak(now, place);
    }

    /// Whom the request of this number is for, and in which tenth that one is by popularity, from 1; 0 where all are alike.
    fn whom(&mut self, number: u32) -> (u32, u8) {
        let vms = self.plan.vms.max(1);
        if number < self.plan.visits {
            if self.plan.zipf.is_some() {
                self.zipf.grow();
            }
            return (number, 0);
        }
        if self.plan.same > 0 {
            // Not before all have begun once.
            let asked = number.saturating_sub(self.plan.visits);
            let again = if asked >= self.plan.same { self.done.pop_front() } else { None };
            return (again.unwrap_or(asked % vms), 0);
        }
        if self.plan.zipf.is_none() {
            return (self.draw() % vms, 0);
        }
        let drawn = u64::from(self.draw()) << 32 | u64::from(self.draw());
        let rank = self.zipf.rank(drawn);
        // Below `GROUPS`.
        let tenth = u8::try_from(u64::from(rank) * (GROUPS as u64 - 1) / u64::from(vms) + 1).unwrap_or(0);
        (u32::try_from(u64::from(rank) * APART % u64::from(vms)).unwrap_or(0), tenth)
    }

    /// Who has waited for long says again what it has said, and who has for too long goes.
    fn look_at_all(&mut self, now: u64) {
        let (patience, syn, other) = (self.ticks(PATIENCE_MS), self.ticks(SYN_AGAIN_MS), self.ticks(AGAIN_MS));
        for place in 0..CLIENTS {
            let Some(client) = self.client(place) else { return };
            if client.state == State::Nobody {
                continue;
            }
            if now >= client.due + patience {
                self.end(now, place, |counts| counts.late += 1);
            } else if now >= client.again {
                client.tries += 1;
                let pause = if client.state == State::Connecting { syn } else { other };
                client.again = now + (pause << client.tries.min(4));
                self.speak(now, place);
            }
        }
    }

    /// A client says something now, which comes to the VM after as long as the way takes.
    fn speak(&mut self, now: u64, place: u32) {
        let time = if self.plan.way == 0 { 0 } else { now + self.plan.way };
        if let Some(client) = self.client(place)
            && !core::mem::replace(&mut client.speaks, true)
            && self.speakers.push_back((place, time)).is_err()
            && let Some(client) = self.client(place)
        {
            // It says it again.
            client.speaks = false;
        }
    }

    fn is_measured(&self, number: u32) -> bool {
        (self.first..self.first + self.plan.count + self.skipped).contains(&number)
    }

    /// Says what came out when all that are measured have ended.
    fn tell(&mut self, now: u64) {
        let Counts { served, late, reset, crowded, visited, told } = self.counts;
        if told || served + late + reset + crowded < self.plan.count {
            return;
        }
        self.counts.told = true;
        for group in (1..self.latencies.groups()).filter(|_| self.plan.zipf.is_some()) {
            let requests = self.latencies.total(group);
            let [p50, p99, p999, most] = self.quantiles(group);
            log::info!("load: tenth={group} served={requests} p50_us={p50} p99_us={p99} p999_us={p999} most_us={most}");
        }
        let [p50, p99, p999, most] = self.quantiles(0);
        let ms = u128::from(now.saturating_sub(self.begun)) * 1000 / u128::from(self.plan.hz.max(1));
        if self.plan.same > 0 {
            log::info!("load: ticks={} own={}", now.saturating_sub(self.started), self.own);
        }
        let (swept, heard) = (self.sweeper.sent, self.sweeper.heard);
        log::info!(
            "load: requests={} served={served} late={late} reset={reset} crowded={crowded} p50_us={p50} p99_us={p99} \
             p999_us={p999} most_us={most} ms={ms} visited={visited} swept={swept} heard={heard} zipf={}",
            self.plan.count,
            self.plan.zipf.unwrap_or(0)
        );
        self.more(now);
    }

    /// Goes on to the next exponent, or to what is asked beside a sweep, where there is more.
    fn more(&mut self, now: u64) {
        let next = self.plan.zipf.map(|zipf| zipf + STEP).filter(|next| self.plan.and_more && *next <= LAST);
        let sweep = core::mem::take(&mut self.plan.sweep);
        if let Some(next) = next {
            self.plan.zipf = Some(next);
            self.zipf.change(next);
        } else if let Some(gap) = self.plan.hz.checked_div(sweep.into()) {
            self.sweeper.begin(now, gap);
        } else {
            return;
        }
        self.latencies.clear();
        self.counts = Counts { visited: self.counts.visited, ..Counts::default() };
        (self.first, self.begun) = (self.number + self.plan.warm_up, 0);
    }

    fn quantiles(&self, group: usize) -> [u32; 4] {
        [500, 990, 999, 1000].map(|thousandths| self.latencies.quantile(group, thousandths))
    }

    fn client(&mut self, place: u32) -> Option<&mut Client> {
        self.clients.reach(usize::try_from(place).ok()?)
    }

    fn ticks(&self, ms: u64) -> u64 {
        self.plan.hz / 1000 * ms
    }

    /// Thirty-two bits of SplitMix64.
    fn draw(&mut self) -> u32 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // The upper half.
        u32::try_from(bits >> 32).unwrap_or(0)
    }

    /// A number that is distributed exponentially with the mean 2^32, without logarithms (von Neumann 1951): how long the numbers that are drawn fall in a row is odd
    /// with the probability of e to the power of minus the first.
    fn exponential(&mut self) -> u64 {
        let mut whole = 0_u64;
        loop {
            let first = self.draw();
            let (mut last, mut odd) = (first, true);
            loop {
                let next = self.draw();
                if next >= last {
                    break;
                }
                (last, odd) = (next, !odd);
            }
            if odd {
                return (whole << 32) + u64::from(first);
            }
            whole += 1;
        }
    }
}

/// The first number of a client's sequence.
fn first(client: &Client) -> u32 {
    client.number.wrapping_mul(2_654_435_761)
}

/// The length of the request, as a part of the sequence.
fn length(document: Document) -> u32 {
    // Fifty.
    u32::try_from(document.request().len()).unwrap_or(0)
}

/// The number behind all that a client has sent.
fn sent(client: &Client, document: Document) -> u32 {
    let len = match client.state {
        State::Nobody | State::Connecting => 1,
        State::Asking => 1 + length(document),
        State::Closing => 2 + length(document),
    };
    first(client).wrapping_add(len)
}

/// Writes what a client has to say: the last thing that it has said and what it has heard.
fn say(client: &Client, document: Document, frame: &mut [u8; MOST]) -> usize {
    let whole = if document == Document::Bytes100 { b"" } else { WHOLE_FRAMES };
    let (flags, back, options, data) = match client.state {
        State::Nobody | State::Connecting => (SYN, 1, whole, &b""[..]),
        // It was heard.
        State::Asking if client.begun => (ACK, 0, &b""[..], &b""[..]),
        State::Asking => (ACK | PSH, length(document), &b""[..], document.request()),
        State::Closing => (ACK | FIN, 1, &b""[..], &b""[..]),
    };
    let address = FIRST_CLIENT.wrapping_add(client.number / PORTS);
    // Within 16 bits.
    let port = u16::try_from(FIRST_PORT + client.number % PORTS).unwrap_or(0);
    let segment = Segment {
        mac: mac_of(client.vm),
        client: (address, port),
        vm: (FIRST_VM + client.vm, 80),
        seq: sent(client, document).wrapping_sub(back),
        ack: client.acknowledged,
        flags,
        len: 0,
    };
    write(frame, MAC.bytes(), &segment, options, data)
}

#[cfg(test)]
#[path = "clients_tests.rs"]
mod tests;
