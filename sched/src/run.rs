//! What the programs of all policies have in common: rings, log and system calls around a [`Scheduler`].

use crate::policy::Policy;
use crate::{Oddity, Scheduler};
use abi::message::{BadMessage, Message};
use abi::sched::SchedEvent;
use component::{Component, RateLimit, now, wait};

/// Makes a program of a policy: `sched::main!(sched::policy::Stride);` is all that stands in its file.
#[macro_export]
macro_rules! main {
    ($policy:ty) => {
        $crate::component::main!(main, $crate::Scheduler::<$policy>::TABLES);

        fn main(component: $crate::component::Component) -> ! {
            $crate::run::<$policy>(&component)
        }
    };
}

/// Serves the core with a scheduler of the policy `P`, for ever.
///
/// # Panics
///
/// When the manifest gives the component no rings `core-sched` and `sched-core`.
pub fn run<P: Policy>(component: &Component) -> ! {
    let info = component.info();
    let mut scheduler = Scheduler::<P>::new(&mut component.tables());
    scheduler.set_capacity(info.vm_frames);
    scheduler.seed(now() ^ u64::from(info.incarnation).rotate_right(16));
    let mut events = component.inbox("core-sched");
    let mut plan = component.outbox("sched-core");
    // Ten lines at once, then one a second.
    let mut limit = RateLimit::new(10, info.tsc_hz);
    log::info!("policy={} incarnation={}", P::NAME, info.incarnation);
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
