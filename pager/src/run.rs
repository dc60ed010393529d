//! What the programs of all policies have in common: rings, log and system calls around a [`Policy`].

use crate::policy::{Oddity, Policy, served};
use abi::message::{BadMessage, Message};
use abi::note::TableBytes;
use abi::pager::{PagerCommand, PagerEvent, THEN_RESUME};
use abi::service::Service;
use component::{Complaints, Component, Inbox, Outbox, now, wait};

/// Makes a program of a policy: `pager::main!(pager::policy::demand::Demand);` is all that stands in its file.
#[macro_export]
macro_rules! main {
    ($policy:ty) => {
        $crate::component::main!(main, $crate::tables::<$policy>());

        fn main(component: $crate::component::Component) -> ! {
            $crate::run::<$policy>(&component)
        }
    };
}

/// What the tables of a policy take.
pub const fn tables<P: Policy>() -> TableBytes {
    TableBytes { per_seat: P::SEAT_BYTES, ..TableBytes::NONE }
}

/// Serves the core with the policy `P`, for ever.
///
/// # Panics
///
/// When the manifest gives the component no rings for the service `pager`.
pub fn run<P: Policy>(component: &Component) -> ! {
    let mut policy = P::new(&mut component.tables());
    let (mut events, mut commands) = component.service(Service::Pager);
    let mut limit = Complaints::new(component.info().tsc_hz);
    log::info!("policy={} incarnation={}", P::NAME, component.info().incarnation);
    loop {
        let empty = serve(&mut policy, &mut events, &mut commands, &mut limit);
        wait(events.doorbell, if empty { u64::MAX } else { 0 }, 0);
    }
}

/// Answers what has come in. The core carries the answers out at the next wait.
#[inline]
fn serve<P: Policy>(policy: &mut P, events: &mut Inbox, commands: &mut Outbox, limit: &mut Complaints) -> bool {
    let empty = events.drain(|message| {
        let command = match PagerEvent::try_from(message).map(|event| policy.handle(event)) {
            Ok(Ok(Some(command))) => command,
            Ok(Ok(None)) => return,
            odd => return complain(odd, limit),
        };
        let mut message = Message::from(command);
        if served(&command).is_some() {
            message.id = THEN_RESUME;
        }
        if !commands.stage(&message) {
            complain(Ok(Ok(Some(command))), limit);
        }
    });
    commands.publish();
    empty
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
