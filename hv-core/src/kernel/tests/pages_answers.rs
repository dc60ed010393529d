//! What swap answers of pages that go out one by one, who waits for one, and when none goes.

use super::comings::{alarm, poke, step_until, wake, with_swap};
use super::machine::HZ;
use super::pages::{ALL, FIRST, Fake, ORDER, away, begin, choose, pager, reads_all, send, written};
use crate::service::{Open, Order};
use crate::vm::{Pages, State};
use abi::guest::hypercall;
use abi::message::Malformed;
use abi::pager::Access;
use abi::service::Service;
use abi::swap::{Bundle, WINDOWS, tier};
use abi::vm::VmId;
use backend::fake::Step;

/// Nobody.
const OTHER: VmId = VmId::new(40, 1);
/// What a VM that waits for nothing but swap needs at most: before it is looked at again by itself.
const SOON: u64 = HZ / 200;

fn give_back(page: u32, count: u32) -> Step {
    Step::Hypercall { number: hypercall::GIVE_BACK, a: page.into(), b: count.into() }
}

fn read(page: u32) -> impl Iterator<Item = Step> {
    [Step::Touch { page, access: Access::Read }].into_iter().chain(alarm(u64::MAX))
}

/// Pages are on their way out, and swap has stored and not answered: where they lie.
fn on_their_way() -> (Fake, VmId, Vec<Bundle>) {
    let (mut machine, vm) = written();
    with_swap(&mut machine, |swap| swap.silent = true);
    choose(&mut machine, vm, ALL);
    step_until(&mut machine, |machine| with_swap(machine, |swap| !swap.pages.is_empty()));
    let bundles = with_swap(&mut machine, |swap| swap.pages.values().map(|(_, bundle)| *bundle).collect());
    (machine, vm, bundles)
}

/// Swap answers, and all comes to rest.
fn answer(machine: &mut Fake, vm: VmId, bundles: &[Bundle]) {
    for bundle in bundles {
        assert_eq!(machine.kernel.page_stored(vm, bundle.counter, Some(bundle)), Ok(()));
    }
    with_swap(machine, |swap| swap.silent = false);
    machine.rouse();
    machine.settle(20_000);
    machine.audit();
}

/// Where a page lies that is out.
fn lies(machine: &mut Fake, vm: VmId, page: u32) -> Option<Bundle> {
    let memory = machine.kernel.vms.by_id(vm).and_then(|vm| vm.life.memory());
    memory.expect("it is in").away().get(page)
}

/// Somebody else has all windows that are free. Which those are.
fn take_windows(machine: &mut Fake) -> Vec<usize> {
    let windows = &mut machine.kernel.cpu.windows;
    let free = core::iter::from_fn(|| {
        let window = windows.free()?;
        windows.set(window, Open { vm: OTHER, order: Order::Promised, frees: 0, since: None });
        Some(window)
    });
    free.collect()
}

fn waits(machine: &mut Fake, vm: VmId) -> bool {
    matches!(machine.state(vm), Some(State::Fault(_)))
}

#[test]
fn a_page_that_was_given_back_on_its_way_is_not_out_afterwards() {
    let (mut machine, vm, bundles) = on_their_way();
    wake(&mut machine, vm, [give_back(FIRST, 1)].into_iter().chain(alarm(u64::MAX)));
    answer(&mut machine, vm, &bundles);
    assert_eq!((lies(&mut machine, vm, FIRST), lies(&mut machine, vm, FIRST + 1)), (None, Some(bundles[1])));
    let others = bundles.len() - 1;
    assert_eq!((away(&mut machine, vm) as usize, with_swap(&mut machine, |swap| swap.pages.len())), (others, others));
}

#[test]
fn who_touches_a_page_on_its_way_waits_for_the_answer_alone_and_has_it() {
    let (mut machine, vm, bundles) = on_their_way();
    let taken = take_windows(&mut machine);
    assert_eq!(taken.len(), WINDOWS - 1);
    begin(&mut machine, vm, [poke(FIRST, 32, 9)].into_iter().chain(alarm(u64::MAX)));
    step_until(&mut machine, |machine| waits(machine, vm));
    assert!(machine.kernel.cpu.windows.waiting.is_empty(), "it asks for no window");
    taken.into_iter().for_each(|window| machine.kernel.cpu.windows.close(window));
    answer(&mut machine, vm, &bundles);
    assert_eq!((lies(&mut machine, vm, FIRST), lies(&mut machine, vm, FIRST + 1)), (None, Some(bundles[1])));
    let others = bundles.len() as u64 - 1;
    let swapped = &machine.kernel.cpu.swapped;
    assert_eq!((swapped.pages_out, swapped.pages_in), (others, 0), "it has not been out");
    let gone = pager(&mut machine, |pager| pager.gone.clone());
    let expected = (1 << bundles.len()) - 2;
    assert_eq!(gone, [(vm, ORDER, expected << (FIRST - ORDER))]);
    assert!(!waits(&mut machine, vm));
}

#[test]
fn what_swap_says_wrongly_is_refused_and_the_page_stays() {
    let (mut machine, vm, bundles) = on_their_way();
    let first = bundles[0];
    let said = |machine: &mut Fake, number, bundle: Option<&Bundle>| machine.kernel.page_stored(vm, number, bundle);
    assert_eq!(said(&mut machine, first.counter, Some(&Bundle { tier: tier::POOL, ..first })), Err(Malformed::Bundle));
    // Answered is answered, whatever is said of it or of others.
    assert_eq!(said(&mut machine, first.counter, Some(&first)), Ok(()));
    assert_eq!(said(&mut machine, first.counter + 1000, Some(&first)), Ok(()));
    assert_eq!(said(&mut machine, bundles[1].counter, None), Ok(()), "no room");
    assert_eq!([0, 1].map(|at| lies(&mut machine, vm, FIRST + at)), [None, None]);
    for bundle in &bundles[2..] {
        assert_eq!(said(&mut machine, bundle.counter, Some(bundle)), Ok(()));
    }
    assert_eq!(away(&mut machine, vm) as usize, bundles.len() - 2);
    assert_eq!(machine.kernel.cpu.swapped.pages_out, bundles.len() as u64 - 2);
}

#[test]
fn who_waits_for_a_window_has_one_as_soon_as_there_is_one_and_no_more() {
    let (mut machine, vm) = written();
    send(&mut machine, vm);
    let taken = take_windows(&mut machine);
    begin(&mut machine, vm, read(FIRST));
    step_until(&mut machine, |machine| waits(machine, vm));
    assert_eq!(machine.kernel.cpu.windows.waiting.len(), 1);
    // It looks again by itself.
    machine.wires.spend(HZ / 90);
    machine.rouse();
    step_until(&mut machine, |machine| machine.kernel.cpu.windows.waiting.len() == 2);
    taken.into_iter().for_each(|window| machine.kernel.cpu.windows.close(window));
    machine.kernel.cpu.attention.set_swap();
    machine.rouse();
    let end = machine.wires.now() + SOON;
    while waits(&mut machine, vm) {
        machine.step();
        assert!(machine.kernel.cpu.windows.open().count() <= 1, "it has one already");
        assert!(machine.wires.now() < end, "it is not told of it");
    }
    machine.settle(20_000);
    assert!(machine.kernel.cpu.windows.waiting.is_empty());
    reads_all(&mut machine, vm);
}

#[test]
fn who_has_its_page_again_goes_on_at_once() {
    let (mut machine, vm) = written();
    send(&mut machine, vm);
    let end = machine.wires.now() + SOON;
    wake(&mut machine, vm, read(FIRST));
    assert!(machine.wires.now() < end);
    assert_eq!(machine.kernel.cpu.swapped.pages_in, 1);
}

#[test]
fn nothing_is_forgotten_of_pages_that_are_out_when_giving_back_is_refused() {
    let (mut machine, vm) = written();
    let out = send(&mut machine, vm);
    // There are no such pages behind the first ones, or they are more than can be given back at a time.
    for count in [512, 513] {
        wake(&mut machine, vm, [give_back(FIRST, count)].into_iter().chain(alarm(u64::MAX)));
        assert_eq!(away(&mut machine, vm), out, "{count}");
    }
    reads_all(&mut machine, vm);
}

/// Whether pages begin to go. They are told to swap in the next turn.
fn begin_to_go(machine: &mut Fake, vm: VmId) -> bool {
    let (from, before) = (machine.kernel.cpu.endpoints.first(Service::Pager), machine.kernel.cpu.windows.sends());
    machine.kernel.let_pages_out(from, vm, ALL);
    machine.kernel.cpu.windows.sends() > before
}

/// None goes after this; without it, some do.
fn none_goes(spoil: impl FnOnce(&mut Fake)) {
    let (mut machine, vm) = written();
    spoil(&mut machine);
    assert!(!begin_to_go(&mut machine, vm));
    let (mut machine, vm) = written();
    assert!(begin_to_go(&mut machine, vm));
}

fn occupy(machine: &mut Fake, window: usize, order: Order) {
    machine.kernel.cpu.windows.set(window, Open { vm: OTHER, order, frees: 0, since: None });
}

#[test]
fn none_goes_while_swap_is_not_there() {
    none_goes(|machine| {
        let swap = machine.kernel.cpu.endpoints.first(Service::Swap);
        machine.kernel.cpu.endpoints.get_mut(swap).expect("it is one").resync = Some(0);
    });
}

#[test]
fn none_goes_while_swap_may_die_of_what_it_loads() {
    let order = Order::Load { counter: 9, pages: 1, page: None, told: false, failed: 1 };
    none_goes(|machine| occupy(machine, 7, order));
}

#[test]
fn none_goes_for_a_while_after_the_pool_was_full() {
    // The core sees the next tick.
    none_goes(|machine| machine.kernel.cpu.windows.full_until = machine.wires.now() + 2);
    none_goes(|machine| machine.kernel.cpu.windows.crowded_until = machine.wires.now() + 2);
    let (mut machine, vm) = written();
    machine.kernel.cpu.windows.full_until = machine.wires.now() + 1;
    assert!(begin_to_go(&mut machine, vm), "it is over");
}

#[test]
fn no_more_than_two_orders_are_under_way() {
    let order =
        |first| Order::Pages { counter: 900 + u64::from(first), pages: Pages { first, bits: 1 }, left: 1, gone: 0 };
    none_goes(|machine| {
        [5, 6].into_iter().zip([0, 64]).for_each(|(window, first)| occupy(machine, window, order(first)))
    });
    let (mut machine, vm) = written();
    occupy(&mut machine, 5, order(0));
    assert!(begin_to_go(&mut machine, vm), "the second one");
}
