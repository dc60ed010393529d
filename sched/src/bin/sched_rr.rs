//! The scheduler with the policy `round-robin`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use component::abi::message::{BadMessage, Message};
use component::abi::sched::SchedEvent;
use component::{Component, Once, RateLimit, now, wait};
use sched::policy::round_robin::RoundRobin;
use sched::{Oddity, Scheduler};

component::main!(main);

static SCHEDULER: Once<Scheduler<RoundRobin>> = Once::new(Scheduler::new(RoundRobin::new()));

fn main(component: Component) -> ! {
    let scheduler = SCHEDULER.take().expect("taken once");
    scheduler.set_capacity(component.info().vm_frames);
    let mut events = component.inbox("core-sched");
    let mut plan = component.outbox("sched-core");
    // Ten lines at once, then one a second.
    let mut limit = RateLimit::new(10, component.info().tsc_hz);
    log::info!("policy=round-robin incarnation={}", component.info().incarnation);
    loop {
        let empty = events.drain(|message| {
            let result = SchedEvent::try_from(message).map(|event| scheduler.handle(event));
            if !matches!(result, Ok(Ok(()))) {
                complain(result, &mut limit);
            }
        });
        // The ring is the plan: what the core has not taken is what is still ahead. After a reset of the ring, nothing is.
        let outstanding = plan.ring.in_flight().unwrap_or(0);
        let capacity = plan.ring.capacity();
        scheduler.plan(now(), outstanding, capacity, &mut |command| {
            // Fits, since it is one of at most `capacity`. When the ring was reset at this very moment, the core says hello.
            let _ = plan.stage(&Message::from(command));
        });
        plan.publish();
        wait(events.doorbell | plan.doorbell, if empty { u64::MAX } else { 0 }, 0);
    }
}

#[cold]
#[inline(never)]
fn complain(result: Result<Result<(), Oddity>, BadMessage>, limit: &mut RateLimit) {
    let Some(suppressed) = limit.pass(now()) else { return };
    match result {
        Err(bad) => log::warn!("dropped a {bad}; {suppressed} such lines suppressed"),
        Ok(Err(oddity)) => log::warn!("{oddity}; {suppressed} such lines suppressed"),
        Ok(Ok(())) => {}
    }
}
