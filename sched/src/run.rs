//! What the programs of all policies have in common: rings, log and system calls around a [`Scheduler`].

use crate::Scheduler;
use crate::policy::Policy;
use abi::message::Message;
use abi::sched::SchedEvent;
use abi::service::Service;
use component::{Complaints, Component, Inbox, Outbox, now, wait};
use core::fmt::Display;

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
/// When the manifest gives the component no rings for the service `plan`.
pub fn run<P: Policy>(component: &Component) -> ! {
    let info = component.info();
    let mut scheduler = Scheduler::<P>::new(&mut component.tables());
    scheduler.set_capacity(info.vm_frames);
    scheduler.seed(seed(now(), info.incarnation));
    let (events, plan) = component.service(Service::Plan);
    let mut rings = Rings::new(events, plan, info.tsc_hz);
    log::info!("policy={} incarnation={}", P::NAME, info.incarnation);
    loop {
        let until = rings.serve(&mut scheduler);
        wait(rings.doorbells(), until, 0);
    }
}

/// A number that differs from start to start: the time, and in bits that it does not reach how often there was a start.
fn seed(now: u64, incarnation: u32) -> u64 {
    now ^ u64::from(incarnation).rotate_right(16)
}

/// What connects the scheduler with the core.
struct Rings {
    events: Inbox,
    /// The ring is the plan: what the core has not taken is what is still ahead.
    plan: Outbox,
    complaints: Complaints,
}

impl Rings {
    fn new(events: Inbox, plan: Outbox, tsc_hz: u64) -> Self {
        Rings { events, plan, complaints: Complaints::new(tsc_hz) }
    }

    /// What rings when there is something to do.
    #[inline]
    fn doorbells(&self) -> u64 {
        self.events.doorbell | self.plan.doorbell
    }

    /// Takes in what has happened and fills the plan up. Returns until when to wait for a doorbell, as a TSC.
    #[inline]
    fn serve<P: Policy>(&mut self, scheduler: &mut Scheduler<P>) -> u64 {
        let complaints = &mut self.complaints;
        let empty =
            self.events.drain(|message| match SchedEvent::try_from(message).map(|event| scheduler.handle(event)) {
                Ok(Ok(())) => {}
                Ok(Err(oddity)) => complain(&oddity, complaints),
                Err(bad) => complain(&format_args!("dropped a {bad}"), complaints),
            });
        // After a reset of the ring, nothing is ahead.
        let outstanding = self.plan.ring.in_flight().unwrap_or(0);
        let capacity = self.plan.ring.capacity();
        let plan = &mut self.plan;
        scheduler.plan(now(), outstanding, capacity, &mut |command| {
            // Fits, since it is one of at most `capacity`. When the ring was reset at this very moment, the core says hello.
            let _ = plan.stage(&Message::from(command));
        });
        plan.publish();
        if empty { u64::MAX } else { 0 }
    }
}

#[cold]
#[inline(never)]
fn complain(what: &dyn Display, limit: &mut Complaints) {
    let Some(suppressed) = limit.pass(now()) else { return };
    log::warn!("{what}; {suppressed} such lines suppressed");
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
