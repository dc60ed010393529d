//! What the programs of all policies have in common: rings, log and system calls around a [`Policy`] and an [`Order`].

use crate::order::Order;
use crate::policy::{Oddity, Policy, served};
use crate::victims::{Idles, Next, Victims};
use abi::message::{BadMessage, Message};
use abi::note::TableBytes;
use abi::pager::{PagerCommand, PagerEvent, THEN_RESUME};
use abi::service::Service;
use abi::vm::Seat;
use component::{Complaints, Component, IdleTimes, Inbox, Outbox, now, wait};

/// Makes a program of a policy about pages and an order of VMs: `pager::main!(pager::policy::demand::Demand, pager::order::Sieve);` is all that stands in its file.
#[macro_export]
macro_rules! main {
    ($policy:ty, $order:ty) => {
        $crate::component::main!(main, $crate::tables::<$policy, $order>());

        fn main(component: $crate::component::Component) -> ! {
            $crate::run::<$policy, $order>(&component)
        }
    };
}

/// What the tables of a policy and an order take.
pub const fn tables<P: Policy, O: Order>() -> TableBytes {
    TableBytes { per_seat: P::SEAT_BYTES + Victims::<O>::SEAT_BYTES, ..TableBytes::NONE }
}

impl Idles for IdleTimes {
    fn since(&self, seat: Seat) -> u64 {
        IdleTimes::since(self, seat)
    }
}

/// Both, and whom they complain to.
struct Pager<P, O> {
    policy: P,
    victims: Victims<O>,
    idles: IdleTimes,
    limit: Complaints,
}

/// Serves the core with the policy `P` and the order `O`, for ever.
///
/// # Panics
///
/// When the manifest gives the component no rings for the service `pager`.
pub fn run<P: Policy, O: Order>(component: &Component) -> ! {
    let mut tables = component.tables();
    let hz = component.info().tsc_hz;
    let mut pager = Pager {
        policy: P::new(&mut tables),
        victims: Victims::<O>::new(&mut tables, hz),
        idles: component.idle_times(),
        limit: Complaints::new(hz),
    };
    let (mut events, mut commands) = component.service(Service::Pager);
    log::info!("policy={} incarnation={}", O::NAME, component.info().incarnation);
    loop {
        let empty = pager.serve(&mut events, &mut commands);
        let until = pager.choose(&mut commands);
        wait(events.doorbell, if empty { until } else { 0 }, 0);
    }
}

impl<P: Policy, O: Order> Pager<P, O> {
    /// Answers what has come in. The core carries the answers out at the next wait.
    #[inline]
    fn serve(&mut self, events: &mut Inbox, commands: &mut Outbox) -> bool {
        let empty = events.drain(|message| {
            let event = PagerEvent::try_from(message);
            if let Ok(event) = event
                && !matches!(event, PagerEvent::Fault { .. })
            {
                self.victims.hear(&event, now(), &self.idles);
            }
            let command = match event.map(|event| self.policy.handle(event)) {
                Ok(Ok(Some(command))) => command,
                Ok(Ok(None)) => return,
                odd => return complain(odd, &mut self.limit),
            };
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
        until
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
