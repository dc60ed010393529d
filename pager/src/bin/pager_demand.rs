//! The pager with the policy `demand`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use component::abi::message::{BadMessage, Message};
use component::abi::pager::{PagerCommand, PagerEvent, THEN_RESUME};
use component::{Component, Inbox, Once, Outbox, RateLimit, now, wait};
use pager::policy::demand::{DEFAULT_CLUSTER, Demand};
use pager::policy::{Oddity, Policy as _, served};

component::main!(main);

type Policy = Demand<DEFAULT_CLUSTER>;

static POLICY: Once<Policy> = Once::new(Policy::new());

fn main(component: Component) -> ! {
    let policy = POLICY.take().expect("taken once");
    let mut events = component.inbox("core-pager");
    let mut commands = component.outbox("pager-core");
    // Ten lines at once, then one a second.
    let mut limit = RateLimit::new(10, component.info().tsc_hz);
    log::info!("policy=demand cluster={DEFAULT_CLUSTER} incarnation={}", component.info().incarnation);
    loop {
        let empty = serve(policy, &mut events, &mut commands, &mut limit);
        wait(events.doorbell, if empty { u64::MAX } else { 0 }, 0);
    }
}

/// Answers what has come in. The core carries the answers out at the next wait.
#[inline]
fn serve(policy: &mut Policy, events: &mut Inbox, commands: &mut Outbox, limit: &mut RateLimit) -> bool {
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
fn complain(result: Result<Result<Option<PagerCommand>, Oddity>, BadMessage>, limit: &mut RateLimit) {
    let Some(suppressed) = limit.pass(now()) else { return };
    match result {
        Err(bad) => log::warn!("dropped a {bad}; {suppressed} such lines suppressed"),
        Ok(Err(oddity)) => log::warn!("dropped an event: {oddity}; {suppressed} such lines suppressed"),
        Ok(Ok(_)) => log::error!("pager-core takes no commands; {suppressed} such lines suppressed"),
    }
}
