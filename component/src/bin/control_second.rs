//! A second controller: it asks for the machine's counters without pause, and must be told nothing but the answers to that.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use component::abi::control::{ControlReply, ControlRequest};
use component::abi::message::Message;
use component::abi::service::Service;
use component::{Component, now, wait};

component::main!(main);

/// The ids of its requests begin here; the monitor's begin at 1.
const FIRST: u32 = 1 << 30;
/// Requests from one line of the log to the next.
const LINE: u32 = 20;

fn main(component: Component) -> ! {
    let (mut replies, mut requests) = component.service(Service::Control);
    component::log::info!("second controller, start {}", component.info().incarnation);
    let pause = component.info().tsc_hz / 10;
    for number in FIRST.. {
        assert!(requests.send(&Message { id: number, ..ControlRequest::Machine.into() }), "the core takes no request");
        let (mut answers, give_up) = (0, now().saturating_add(component.info().tsc_hz * 5));
        while answers < 2 {
            wait(replies.doorbell, give_up, 0);
            replies.drain(|message| {
                assert!(message.id == number, "an answer to what it has not asked: {message:?}");
                let expected = if answers == 0 { "machine" } else { "exits" };
                let said = match ControlReply::try_from(message) {
                    Ok(ControlReply::Machine { .. }) => "machine",
                    Ok(ControlReply::Exits { .. }) => "exits",
                    _ => "something else",
                };
                assert!(said == expected, "{expected} should come, and {said} does");
                answers += 1;
            });
            assert!(answers == 2 || now() < give_up, "no answer");
        }
        if (number - FIRST).is_multiple_of(LINE) {
            component::log::info!("second controller: {} answers", number - FIRST + 1);
        }
        wait(0, now().saturating_add(pause), 0);
    }
    panic!("there are no more numbers");
}
