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
    Ending,
    /// It ended before it was admitted.
    EndingEmpty,
}

/// A life that has come to this place.
fn life(bench: &mut Bench, at: At) -> Life<Fake> {
    let mut life = Life::begin();
    if !matches!(at, At::New | At::EndingEmpty) {
        bench.admit(&mut life);
    }
    match at {
        At::New | At::Ready => {}
        At::Idle => life.idle(99),
        At::Fault => life.fault(PAGE),
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

/// State, whether it is new, is ready, idles, ends; its fault; whether it has a body, and memory.
fn seen(life: &mut Life<Fake>) -> (State, [bool; 4], Option<PageFault>, [bool; 3]) {
    let is = [life.is_new(), life.is_ready(), life.is_idle(), life.is_ending()];
    let has = [life.body().is_some(), life.body_mut().is_some(), life.memory().is_some()];
    (life.state(), is, life.page_fault(), has)
}

#[test]
fn every_state_says_what_it_is_and_what_the_vm_has() {
    let mut bench = Bench::new(128);
    let mut at = |at| seen(&mut life(&mut bench, at));
    let (no, yes) = (false, true);
    assert_eq!(at(At::New), (State::New, [yes, no, no, no], None, [no; 3]));
    assert_eq!(at(At::Ready), (State::Ready, [no, yes, no, no], None, [yes; 3]));
    assert_eq!(at(At::Idle), (State::Idle { until: 99 }, [no, no, yes, no], None, [yes; 3]));
    assert_eq!(at(At::Fault), (State::Fault(PAGE), [no; 4], Some(PAGE), [yes; 3]));
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
    let mut bench = Bench::new(128);
    for (at, has) in [(At::New, 0), (At::Ready, 1), (At::Idle, 1), (At::Fault, 1)] {
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
    let body = life.take_remains().expect("it had memory");
    assert_eq!(body.memory.counts(), (1, 4, 0));
    body.memory.release(&mut bench.frames);
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
    for at in [At::Ready, At::Idle, At::Fault] {
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
