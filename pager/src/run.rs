//! What the programs of all policies have in common: rings, log and system calls around a [`Policy`] and an [`Order`].

use crate::order::Order;
use crate::pages::Choice;
use crate::policy::{Oddity, Policy, served};
use crate::victims::{Idles, Next, Victims};
use abi::message::{BadMessage, Message};
use abi::note::TableBytes;
use abi::pager::{PagerCommand, PagerEvent, THEN_RESUME};
use abi::service::Service;
use abi::vm::Seat;
use component::{Complaints, Component, IdleTimes, Inbox, Outbox, now, wait};

/// Makes a program of a policy about pages and an order of VMs, and where single pages go out, of how these are chosen: `pager::main!(pager::policy::demand::Demand, pager::order::Sieve);` is all that stands in its file.
#[macro_export]
macro_rules! main {
    ($policy:ty, $order:ty) => {
        $crate::main!($policy, $order, $crate::pages::Whole);
    };
    ($policy:ty, $order:ty, $pages:ty) => {
        $crate::component::main!(main, $crate::tables::<$policy, $order, $pages>());

        fn main(component: $crate::component::Component) -> ! {
            $crate::run::<$policy, $order, $pages>(&component)
        }
    };
}

/// What the tables of a policy, an order and a choice of pages take.
pub const fn tables<P: Policy, O: Order, C: Choice>() -> TableBytes {
    TableBytes {
        per_seat: P::SEAT_BYTES + Victims::<O>::SEAT_BYTES,
        pooled_per_seat: C::SEAT_BYTES,
        ..TableBytes::NONE
    }
}

impl Idles for IdleTimes {
    fn since(&self, seat: Seat) -> u64 {
        IdleTimes::since(self, seat)
    }
}

/// All of them, and whom they complain to.
struct Pager<P, O, C> {
    policy: P,
    pages: C,
    victims: Victims<O>,
    idles: IdleTimes,
    limit: Complaints,
}

/// Serves the core with the policy `P`, the order `O` and the choice `C`, for ever.
///
/// # Panics
///
/// When the manifest gives the component no rings for the service `pager`.
pub fn run<P: Policy, O: Order, C: Choice>(component: &Component) -> ! {
    let mut tables = component.tables();
    let hz = component.info().tsc_hz;
    let mut pager = Pager {
        policy: P::new(&mut tables),
        victims: Victims::<O>::new(&mut tables, hz),
        pages: C::new(&mut tables, hz),
        idles: component.idle_times(),
        limit: Complaints::new(hz),
    };
    let (mut events, mut commands) = component.service(Service::Pager);
    log::info!("policy={} incarnation={}", C::NAME.unwrap_or(O::NAME), component.info().incarnation);
    loop {
        let empty = pager.serve(&mut events, &mut commands);
        let until = pager.choose(&mut commands);
        wait(events.doorbell, if empty { until } else { 0 }, 0);
    }
}

impl<P: Policy, O: Order, C: Choice> Pager<P, O, C> {
    /// Answers what has come in. The core carries the answers out at the next wait.
    #[inline]
    fn serve(&mut self, events: &mut Inbox, commands: &mut Outbox) -> bool {
        let empty = events.drain(|message| {
            let event = PagerEvent::try_from(message);
            if let Ok(event) = event
                && !matches!(event, PagerEvent::Fault { .. })
            {
                let now = now();
                if self.pages.hear(&event, now) {
                    self.victims.hear(&event, now, &self.idles);
                }
            }
            let command = match event.map(|event| self.policy.handle(event)) {
                Ok(Ok(Some(command))) => command,
                Ok(Ok(None)) => return,
                odd => return complain(odd, &mut self.limit),
            };
            if let Ok(PagerEvent::Fault { seat, .. }) = event {
                self.pages.gave(seat, &command);
            }
            let mut message = Message::from(command);
            if served(&command).is_some() {
                message.id = THEN_RESUME;
            }
            if !commands.stage(&message) {
                complain(Ok(Ok(Some(command))), &mut self.limit);
            }
        });
        commands.publish();
        empty
    }

    /// Asks VMs to go out where that is wanted. When it is to be looked at again at the latest.
    #[inline]
    fn choose(&mut self, commands: &mut Outbox) -> u64 {
        while let Some(command) = self.pages.next(now()) {
            // One that is lost counts as answered when that takes too long.
            if !commands.stage(&command.into()) {
                complain(Ok(Ok(Some(command))), &mut self.limit);
            }
        }
        if let Some(frames) = self.pages.load_control() {
            self.victims.hear(&PagerEvent::Room { frames, seats: 0 }, now(), &self.idles);
        }
        let until = loop {
            match self.victims.next(now(), &self.idles) {
                Next::Out(vm) => {
                    // It is told again what is wanted, should this be lost.
                    let command = PagerCommand::Out { vm };
                    if !commands.stage(&command.into()) {
                        complain(Ok(Ok(Some(command))), &mut self.limit);
                    }
                }
                Next::Again => break 0,
                Next::Later(until) => break until,
                Next::Nothing => break u64::MAX,
            }
        };
        commands.publish();
        until.min(self.pages.due())
    }
}

#[cold]
#[inline(never)]
fn complain(result: Result<Result<Option<PagerCommand>, Oddity>, BadMessage>, limit: &mut Complaints) {
    let Some(suppressed) = limit.pass(now()) else { return };
    match result {
        Err(bad) => log::warn!("dropped a {bad}; {suppressed} such lines suppressed"),
        Ok(Err(oddity)) => log::warn!("dropped an event: {oddity}; {suppressed} such lines suppressed"),
        Ok(Ok(_)) => log::error!("pager-core takes no commands; {suppressed} such lines suppressed"),
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
