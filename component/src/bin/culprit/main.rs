//! A component that misbehaves, in another way after each restart: the core must kill it, say why, and start it again; the
//! peer at the other end of its rings (`bench-pong`) and the machine must go on. When it has done everything it behaves.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod calls;
mod crimes;
mod rings;
mod table;

use component::abi::message::Message;
use component::log::Level;
use component::{Component, Error, exit, now, wait};
use core::fmt::Arguments;
use table::{DEEDS, Deed, ESCAPED, EXIT_CODE, SURVIVED};

component::main!(main);

/// Between two tries where something has no room, in ticks.
const PAUSE_TICKS: u64 = 1_000_000;
/// Messages that go to the peer and back to show that the rings are good.
const EXCHANGES: u64 = 200;
/// How often an answer is waited for until the peer counts as silent.
const PATIENCE: u32 = 50;

fn main(component: Component) -> ! {
    let start = usize::try_from(component.info().incarnation).unwrap_or(usize::MAX);
    let Some(&(deed, _)) = start.checked_sub(1).and_then(|index| DEEDS.get(index)) else { behave(&component) };
    say(format_args!("culprit: {start}: {deed:?}"));
    let outcome = match deed {
        Deed::ReadUnmapped => crimes::read(crimes::UNMAPPED),
        Deed::WriteText => crimes::write_text(),
        Deed::ExecuteStack => crimes::execute_stack(),
        Deed::Panic => panic!("this is what it does now"),
        Deed::Loop => crimes::spin(),
        Deed::Halt => crimes::halt(),
        Deed::Rdmsr => crimes::rdmsr(),
        Deed::PortIn => crimes::port_in(),
        Deed::PortOut => crimes::port_out(),
        Deed::Exit => exit(EXIT_CODE),
        Deed::ReadCore => crimes::read(crimes::CORE),
        Deed::WriteInformation => crimes::write_information(),
        Deed::JumpNowhere => crimes::jump_nowhere(),
        Deed::Interrupt => crimes::interrupt(),
        Deed::Divide => crimes::divide(),
        Deed::Undefined => crimes::undefined(),
        Deed::VectorRegister => crimes::vector_register(),
        Deed::StackOverflow => crimes::overflow_stack(),
        Deed::SingleStep => crimes::single_step(),
        Deed::LoadCr3 => crimes::load_cr3(),
        Deed::BadCalls => calls::bad_calls(),
        Deed::BadFlags => calls::bad_flags(),
        Deed::RingsOnes => rings::ones(&component),
        Deed::RingsForetell => rings::foretell(&component),
        Deed::RingsTurnBack => rings::turn_back(&component),
    };
    match outcome {
        Ok(()) => exit(SURVIVED),
        Err(Escape { what, expected, found }) => {
            say(format_args!("culprit: ESCAPED: {what}: {found:#x} instead of {expected:#x}"));
            exit(ESCAPED)
        }
    }
}

/// Something that went otherwise than documented.
struct Escape {
    what: &'static str,
    expected: u64,
    found: u64,
}

type Outcome = Result<(), Escape>;

/// An error unless `found` is what was expected.
fn expect(what: &'static str, expected: u64, found: u64) -> Outcome {
    if found == expected { Ok(()) } else { Err(Escape { what, expected, found }) }
}

/// Writes a line, however long it takes until there is room.
fn say(line: Arguments<'_>) {
    while component::print(Level::Info, line) == Err(Error::Busy) {
        pause();
    }
}

fn pause() {
    wait(0, now().saturating_add(PAUSE_TICKS), 0);
}

/// Shows that after all this the rings work in both directions, then waits.
fn behave(component: &Component) -> ! {
    let mut ping = component.outbox("ping-pong");
    let mut pong = component.inbox("pong-ping");
    for number in 0..EXCHANGES {
        if !ping.send(&Message::new(1, [now()])) {
            say(format_args!("culprit: ESCAPED: message {number} finds no room"));
            exit(ESCAPED);
        }
        let mut tries = 0;
        loop {
            // Every time: the peer's first look after a reset only finds that out.
            wait(pong.doorbell, now().saturating_add(PAUSE_TICKS), ping.doorbell);
            tries += 1;
            match pong.ring.pop() {
                Ok(Some(Message { kind: 2, .. })) => break,
                Ok(None) if tries < PATIENCE => {}
                other => {
                    say(format_args!("culprit: ESCAPED: answer {number} of the peer is {other:?}"));
                    exit(ESCAPED);
                }
            }
        }
    }
    say(format_args!("culprit: all done"));
    loop {
        wait(0, u64::MAX, 0);
    }
}
