use super::*;
use crate::vm::bench_test::{Bench, Fake};

const PAGE: PageFault = PageFault { page: 5, access: Access::Write, present: true };

/// Every kind of place in a life.
#[derive(Clone, Copy, Debug)]
enum At {
    New,
    Ready,
    Idle,
    Fault,
    Paused,
    Leaving,
    Coming,
    Ending,
    /// It ended before it was admitted.
    EndingEmpty,
}

/// A life that has come to this place.
fn life(bench: &mut Bench, at: At) -> Life<Fake> {
    let mut life = Life::begin();
    if !matches!(at, At::New | At::EndingEmpty | At::Coming) {
        bench.admit(&mut life);
    }
    match at {
        At::New | At::Ready => {}
        At::Leaving => {
            life.idle(99);
            life.leave();
        }
        At::Coming => life.come(bench.memory().0),
        At::Idle => life.idle(99),
        At::Fault => life.fault(PAGE),
        At::Paused => life.pause(),
        At::Ending | At::EndingEmpty => life.end(),
    }
    life
}

/// A life at this place goes this way, which does not exist from there.
fn forbidden(at: At, way: impl FnOnce(&mut Life<Fake>, &mut Bench)) {
    let mut bench = Bench::new(64);
    let mut life = life(&mut bench, at);
    way(&mut life, &mut bench);
}

macro_rules! forbidden {
    ($($name:ident: $at:expr, $way:expr, $text:literal;)*) => {
        $(
            #[test]
            #[should_panic(expected = $text)]
            fn $name() {
                forbidden($at, $way);
            }
        )*
    };
}

forbidden! {
    a_ready_vm_is_not_admitted_again: At::Ready, |life, bench| bench.admit(life), "admitted while Ready";
    an_idle_vm_is_not_admitted_again: At::Idle, |life, bench| bench.admit(life), "admitted while Idle";
    a_faulting_vm_is_not_admitted_again: At::Fault, |life, bench| bench.admit(life), "admitted while Fault";
    an_ended_vm_is_not_admitted: At::Ending, |life, bench| bench.admit(life), "admitted while Ending";
    a_vm_that_ended_new_is_not_admitted: At::EndingEmpty, |life, bench| bench.admit(life), "admitted while Ending";
    a_new_vm_does_not_idle: At::New, |life, _| life.idle(1), "idles while New";
    an_idle_vm_does_not_idle_again: At::Idle, |life, _| life.idle(1), "idles while Idle";
    a_faulting_vm_does_not_idle: At::Fault, |life, _| life.idle(1), "idles while Fault";
    an_ended_vm_does_not_idle: At::Ending, |life, _| life.idle(1), "idles while Ending";
    a_new_vm_does_not_fault: At::New, |life, _| life.fault(PAGE), "faults while New";
    an_idle_vm_does_not_fault: At::Idle, |life, _| life.fault(PAGE), "faults while Idle";
    a_faulting_vm_does_not_fault_again: At::Fault, |life, _| life.fault(PAGE), "faults while Fault";
    an_ended_vm_does_not_fault: At::Ending, |life, _| life.fault(PAGE), "faults while Ending";
    a_new_vm_is_not_woken: At::New, |life, _| life.wake(), "woken while New";
    a_leaving_vm_is_not_admitted_again: At::Leaving, |life, bench| bench.admit(life), "admitted while Leaving";
    a_coming_vm_is_not_admitted_again: At::Coming, |life, bench| bench.admit(life), "admitted while Coming";
    a_leaving_vm_does_not_idle: At::Leaving, |life, _| life.idle(1), "idles while Leaving";
    a_leaving_vm_does_not_fault: At::Leaving, |life, _| life.fault(PAGE), "faults while Leaving";
    a_leaving_vm_is_not_woken: At::Leaving, |life, _| life.wake(), "woken while Leaving";
    a_leaving_vm_does_not_leave_again: At::Leaving, |life, _| life.leave(), "leaves while Leaving";
    a_ready_vm_does_not_leave: At::Ready, |life, _| life.leave(), "leaves while Ready";
    a_faulting_vm_does_not_leave: At::Fault, |life, _| life.leave(), "leaves while Fault";
    an_ended_vm_does_not_leave: At::Ending, |life, _| life.leave(), "leaves while Ending";
    a_new_vm_is_not_paused: At::New, |life, _| life.pause(), "paused while New";
    a_faulting_vm_is_not_paused: At::Fault, |life, _| life.pause(), "paused while Fault";
    a_leaving_vm_is_not_paused: At::Leaving, |life, _| life.pause(), "paused while Leaving";
    an_ended_vm_is_not_paused: At::Ending, |life, _| life.pause(), "paused while Ending";
    a_ready_vm_is_not_resumed: At::Ready, |life, _| life.resume(), "resumed while Ready";
    an_idle_vm_is_not_resumed: At::Idle, |life, _| life.resume(), "resumed while Idle";
    a_paused_vm_is_not_woken: At::Paused, |life, _| life.wake(), "woken while Paused";
    a_paused_vm_does_not_leave: At::Paused, |life, _| life.leave(), "leaves while Paused";
    a_paused_vm_does_not_idle: At::Paused, |life, _| life.idle(1), "idles while Paused";
    a_paused_vm_does_not_fault: At::Paused, |life, _| life.fault(PAGE), "faults while Paused";
    an_idle_vm_does_not_stay: At::Idle, |life, _| life.stay(), "stays while Idle";
    an_idle_vm_is_not_gone: At::Idle, |life, _| assert!(life.take_leave().is_none()), "goes out while Idle";
    a_coming_vm_is_not_woken: At::Coming, |life, _| life.wake(), "woken while Coming";
    a_coming_vm_does_not_idle: At::Coming, |life, _| life.idle(1), "idles while Coming";
    a_ready_vm_does_not_come: At::Ready, |life, bench| life.come(bench.memory().0), "comes in while Ready";
    an_idle_vm_does_not_arrive: At::Idle, |life, bench| life.arrive(bench.memory().1, Handling::Nothing), "arrives while Idle";
    a_coming_vm_is_not_buried: At::Coming, |life, _| assert!(life.take_remains().is_none()), "buried while Coming";
    a_ready_vm_is_not_woken: At::Ready, |life, _| life.wake(), "woken while Ready";
    an_ended_vm_is_not_woken: At::Ending, |life, _| life.wake(), "woken while Ending";
    an_ended_vm_does_not_end_again: At::Ending, |life, _| life.end(), "ends twice";
    a_vm_that_ended_new_does_not_end_again: At::EndingEmpty, |life, _| life.end(), "ends twice";
    a_new_vm_shares_nothing: At::New, |life, _| life.share(Devices::NIC), "shares while New";
    an_ended_vm_begins_to_share_nothing: At::Ending, |life, _| life.share(Devices::NIC), "shares while Ending";
    a_new_vm_is_not_buried: At::New, |life, _| assert!(life.take_remains().is_none()), "buried while New";
    a_ready_vm_is_not_buried: At::Ready, |life, _| assert!(life.take_remains().is_none()), "buried while Ready";
    an_idle_vm_is_not_buried: At::Idle, |life, _| assert!(life.take_remains().is_none()), "buried while Idle";
    a_faulting_vm_is_not_buried: At::Fault, |life, _| assert!(life.take_remains().is_none()), "buried while Fault";
}

#[test]
#[should_panic(expected = "buried while Ending")]
fn an_ended_vm_is_not_buried_while_its_nic_is_shared() {
    forbidden(At::Ready, |life, _| {
        life.share(Devices::NIC);
        life.end();
        assert!(life.take_remains().is_none());
    });
}

#[test]
#[should_panic(expected = "goes out while Leaving")]
fn a_leaving_vm_is_not_gone_while_somebody_sees_its_pages() {
    forbidden(At::Leaving, |life, _| {
        life.share(Devices::SWAP);
        assert!(life.take_leave().is_none());
    });
}

#[test]
#[should_panic(expected = "arrives while Coming")]
fn a_coming_vm_has_not_arrived_while_somebody_sees_its_pages() {
    forbidden(At::Coming, |life, bench| {
        life.share(Devices::SWAP);
        life.arrive(bench.memory().1, Handling::Nothing);
    });
}

#[test]
fn a_vm_that_leaves_stays_as_it_was_or_gives_all_that_it_had() {
    let mut bench = Bench::new(64);
    let mut life = life(&mut bench, At::Leaving);
    life.stay();
    assert_eq!(life.state(), State::Idle { until: 99 });
    life.leave();
    life.share(Devices::NIC);
    life.share(Devices::SWAP);
    life.unshare(Devices::NIC);
    life.unshare(Devices::SWAP);
    let body = life.take_leave().expect("nobody shares it");
    assert_eq!(body.memory.counts(), (1, 4, 0));
    assert!(life.is_new() && life.memory().is_none());
}

#[test]
fn a_vm_that_comes_in_has_memory_first_and_then_the_rest() {
    let mut bench = Bench::new(64);
    let (memory, registers) = bench.memory();
    let mut life: Life<Fake> = Life::begin();
    life.come(memory);
    life.share(Devices::SWAP);
    assert!(life.memory_mut().is_some() && life.body().is_none() && life.shared() == Devices::SWAP);
    life.unshare(Devices::SWAP);
    life.arrive(registers, Handling::Fault);
    assert_eq!((life.state(), life.shared()), (State::Ready, Devices::default()));
    assert_eq!(life.body().map(|body| body.handling), Some(Handling::Fault));
}

/// State, whether it is new, is ready, idles, ends; its fault; whether it has a body, and memory.
fn seen(life: &mut Life<Fake>) -> (State, [bool; 4], Option<PageFault>, [bool; 3]) {
    let is = [life.is_new(), life.is_ready(), life.is_idle(), life.is_ending()];
    let has = [life.body().is_some(), life.body_mut().is_some(), life.memory().is_some()];
    (life.state(), is, life.page_fault(), has)
}

#[test]
fn every_state_says_what_it_is_and_what_the_vm_has() {
    let mut bench = Bench::new(256);
    let mut at = |at| seen(&mut life(&mut bench, at));
    let (no, yes) = (false, true);
    assert_eq!(at(At::New), (State::New, [yes, no, no, no], None, [no; 3]));
    assert_eq!(at(At::Ready), (State::Ready, [no, yes, no, no], None, [yes; 3]));
    assert_eq!(at(At::Idle), (State::Idle { until: 99 }, [no, no, yes, no], None, [yes; 3]));
    assert_eq!(at(At::Fault), (State::Fault(PAGE), [no; 4], Some(PAGE), [yes; 3]));
    assert_eq!(at(At::Leaving), (State::Leaving { until: 99 }, [no; 4], None, [yes; 3]));
    assert_eq!(at(At::Coming), (State::Coming, [no; 4], None, [no, no, yes]));
    // Its memory is still there to be freed, but nobody gets at its registers.
    assert_eq!(at(At::Ending), (State::Ending, [no, no, no, yes], None, [no, no, yes]));
    assert_eq!(at(At::EndingEmpty), (State::Ending, [no, no, no, yes], None, [no; 3]));
}

#[test]
fn an_idle_vm_that_is_woken_can_run() {
    let mut bench = Bench::new(64);
    let mut life = life(&mut bench, At::Idle);
    life.wake();
    assert_eq!(life.state(), State::Ready);
}

#[test]
fn a_vm_whose_page_has_come_can_run() {
    let mut bench = Bench::new(64);
    let mut life = life(&mut bench, At::Fault);
    life.wake();
    assert_eq!((life.state(), life.page_fault()), (State::Ready, None));
}

#[test]
fn a_wait_for_memory_that_goes_on_ends_when_it_would_have_ended() {
    let mut bench = Bench::new(64);
    let mut life = life(&mut bench, At::Fault);
    assert_eq!(life.shortage(), None);
    life.run_short(Shortage { retry: 1, until: 100 });
    life.run_short(Shortage { retry: 5, until: 900 });
    assert_eq!(life.shortage(), Some(Shortage { retry: 5, until: 100 }));
    // The wait for another page is another one.
    life.wake();
    assert_eq!(life.shortage(), None);
    life.fault(PAGE);
    assert_eq!(life.shortage(), None);
    life.run_short(Shortage { retry: 6, until: 900 });
    assert_eq!(life.shortage(), Some(Shortage { retry: 6, until: 900 }));
}

#[test]
fn a_vm_ends_from_every_state_and_keeps_its_memory_until_it_is_buried() {
    let mut bench = Bench::new(256);
    for (at, has) in [(At::New, 0), (At::Ready, 1), (At::Idle, 1), (At::Fault, 1), (At::Leaving, 1), (At::Coming, 1)] {
        let mut life = life(&mut bench, at);
        life.end();
        assert_eq!(life.state(), State::Ending, "{at:?}");
        let own = life.memory().map_or(0, |memory| memory.counts().0);
        assert_eq!(own, has, "{at:?}");
    }
}

#[test]
fn remains_are_taken_once() {
    let mut bench = Bench::new(64);
    let before = bench.frames.free_frames();
    let mut life = life(&mut bench, At::Ending);
    let memory = life.take_remains().expect("it had memory");
    assert_eq!(memory.counts(), (1, 4, 0));
    let _ = memory.release(&mut bench.frames);
    assert_eq!(bench.frames.free_frames(), before);
    assert!(life.take_remains().is_none() && life.memory().is_none());
    assert_eq!(life.state(), State::Ending);
}

#[test]
fn a_vm_that_ended_new_has_no_remains() {
    let mut bench = Bench::new(64);
    assert!(life(&mut bench, At::EndingEmpty).take_remains().is_none());
}

#[test]
fn what_is_shared_stays_shared_through_the_end_until_the_component_lets_go() {
    let mut bench = Bench::new(128);
    for at in [At::Ready, At::Idle, At::Fault, At::Leaving, At::Coming] {
        let mut life = life(&mut bench, at);
        assert!(life.shared().is_empty());
        life.share(Devices::NIC);
        assert_eq!(life.shared(), Devices::NIC);
        life.end();
        assert_eq!(life.shared(), Devices::NIC, "{at:?}");
        life.unshare(Devices::NIC);
        assert!(life.shared().is_empty(), "{at:?}");
        assert!(life.take_remains().is_some(), "{at:?}");
        assert!(life.shared().is_empty(), "{at:?}");
    }
}

#[test]
fn a_running_vm_can_lose_its_demultiplexer_and_get_another() {
    let mut bench = Bench::new(64);
    let mut life = life(&mut bench, At::Ready);
    life.share(Devices::NIC);
    life.unshare(Devices::NIC);
    assert_eq!((life.shared(), life.state()), (Devices::default(), State::Ready));
    life.share(Devices::NIC);
    // Twice is once.
    life.share(Devices::NIC);
    assert_eq!(life.shared(), Devices::NIC);
}

#[test]
fn whoever_has_no_body_shares_nothing_and_can_let_go_of_it() {
    let mut bench = Bench::new(64);
    for at in [At::New, At::EndingEmpty] {
        let mut life = life(&mut bench, at);
        life.unshare(Devices::NIC);
        assert!(life.shared().is_empty(), "{at:?}");
    }
}

#[test]
fn devices_are_a_set() {
    let (none, nic, other) = (Devices::default(), Devices::NIC, Devices(2));
    assert!(none.is_empty() && !nic.is_empty());
    assert!(nic.contains(nic) && nic.contains(none) && !none.contains(nic) && !nic.contains(other));
    assert_eq!((nic.with(other), nic.with(nic)), (Devices(3), nic));
    assert_eq!((Devices(3).without(nic), nic.without(nic), nic.without(other)), (other, none, nic));
    assert!(Devices(3).contains(nic) && !nic.contains(Devices(3)));
}
