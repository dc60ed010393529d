//! A scheduler that is no good, in the way that the name of its policy says. Nothing here admits or plans anybody.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use component::abi::message::Message;
use component::abi::sched::{SchedCommand, SchedEvent};
use component::abi::service::Service;
use component::abi::vm::VmId;
use component::{Component, Inbox, Outbox, now, wait};

component::main!(main);

fn main(component: Component) -> ! {
    let info = component.info();
    let (mut events, mut plan) = component.service(Service::Plan);
    component::log::info!("policy={} incarnation={}", info.policy, info.incarnation);
    match info.policy.as_str() {
        "dies" => panic!("this is what it does"),
        "spins" => loop {
            core::hint::spin_loop();
        },
        "raves" => raves(&mut events, &mut plan),
        "dreams" => dreams(&mut events, &mut plan),
        "sleeps" => loop {
            wait(0, u64::MAX, 0);
        },
        "past-waits" => loop {
            // Whatever rings, time has always come already.
            wait(events.doorbell, now(), 0);
        },
        "floods" => floods(&mut events),
        // It hears that there are messages, and leaves them.
        "ignores" => loop {
            wait(events.doorbell, u64::MAX, 0);
        },
        // Gives a few good turns first, which take its life.
        "tires" => tires(&mut events, &mut plan),
        _ => stalls(&mut events),
    }
}

/// Hears everything and says nothing.
fn stalls(events: &mut Inbox) -> ! {
    loop {
        let empty = events.drain(|_| {});
        wait(events.doorbell, if empty { u64::MAX } else { 0 }, 0);
    }
}

/// Talks.
fn floods(events: &mut Inbox) -> ! {
    let mut line = 0_u64;
    loop {
        events.drain(|_| {});
        for _ in 0..100 {
            line += 1;
            component::log::warn!(
                "line {line} of very many, none of which says anything that anybody would want to know"
            );
        }
        wait(events.doorbell, now().saturating_add(100_000), 0);
    }
}

/// Says what is no command.
fn raves(events: &mut Inbox, plan: &mut Outbox) -> ! {
    loop {
        let empty = events.drain(|_| {});
        let _ = plan.send(&Message::new(u32::MAX, [u64::MAX; 7]));
        wait(events.doorbell, if empty { u64::MAX } else { 0 }, 0);
    }
}

/// Plans turns of VMs that do not exist.
fn dreams(events: &mut Inbox, plan: &mut Outbox) -> ! {
    loop {
        let empty = events.drain(|_| {});
        for slot in 0..16 {
            let vm = VmId::new(slot, u32::MAX);
            let _ = plan.stage(&SchedCommand::Run { vm, quantum_ticks: u64::MAX }.into());
        }
        plan.publish();
        wait(events.doorbell | plan.doorbell, if empty { u64::MAX } else { 0 }, 0);
    }
}

/// Plans a turn for each VM that it hears of, ten times, and gives up.
fn tires(events: &mut Inbox, plan: &mut Outbox) -> ! {
    let mut turns = 0;
    loop {
        let empty = events.drain(|message| {
            if let Ok(SchedEvent::Ready { vm, .. }) = SchedEvent::try_from(message) {
                let _ = plan.stage(&SchedCommand::Run { vm, quantum_ticks: 0 }.into());
                turns += 1;
            }
        });
        plan.publish();
        assert!(turns < 10, "enough turns planned by {}", now());
        wait(events.doorbell, if empty { u64::MAX } else { 0 }, 0);
    }
}
