//! Single pages of VMs go out and come back: what they held is there again, whoever dies or refuses meanwhile, and nobody gets anything else in their place.

use super::comings::{alarm, bring_in, machine, poke, put_out, step_until, wake, with_swap, word};
use super::machine::{IMAGE_PAGE, Machine};
use super::roles::Pager;
use super::roles::Role;
use crate::component::Death;
use crate::memory::OwnerClass;
use crate::vm::{Pages, State};
use abi::end::EndReason;
use abi::guest::{hypercall, pending};
use abi::message::Message;
use abi::pager::{Access, PagerCommand};
use abi::service::Service;
use abi::vm::VmId;
use backend::fake::Step;

pub type Fake = Machine<true>;

/// Pages of the guest's heap that it writes, among those that one order can name from this page on.
pub const ORDER: u32 = 64;
pub const FIRST: u32 = ORDER + 10;
pub const COUNT: u32 = 16;
/// All of them.
pub const ALL: Pages = Pages { first: ORDER, bits: ((1 << COUNT) - 1) << (FIRST - ORDER) };

/// A VM with a word of its own in each of its pages, which idles.
pub fn written() -> (Fake, VmId) {
    let (mut machine, vms) = machine(1);
    let writes = (FIRST..FIRST + COUNT).map(|page| poke(page, 24, 0x77_0000 + u64::from(page)));
    wake(&mut machine, vms[0], writes.chain(alarm(u64::MAX)));
    machine.audit();
    (machine, vms[0])
}

pub fn pager<T>(machine: &mut Fake, what: impl FnOnce(&mut Pager) -> T) -> T {
    let rank = machine.rank(Service::Pager);
    match &mut machine.hardware.borrow_mut().components[rank].role {
        Role::Pager(pager) => what(pager),
        _ => panic!("not the pager"),
    }
}

pub fn choose(machine: &mut Fake, vm: VmId, pages: Pages) {
    let from = machine.kernel.cpu.endpoints.first(Service::Pager);
    machine.kernel.let_pages_out(from, vm, pages);
    machine.rouse();
}

/// Pages of it that are out.
pub fn away(machine: &mut Fake, vm: VmId) -> u32 {
    machine.kernel.vms.by_id(vm).and_then(|vm| vm.life.memory()).map_or(0, |memory| memory.away().pages())
}

fn held(machine: &mut Fake, vm: VmId) -> u32 {
    machine.kernel.vms.by_id(vm).and_then(|vm| vm.life.memory()).expect("it is in").reservation().held()
}

/// How often swap was started.
pub fn starts(machine: &Fake) -> u32 {
    machine.kernel.cpu.components.list[machine.rank(Service::Swap)].incarnation
}

/// As many as may go out. How many did.
pub fn send(machine: &mut Fake, vm: VmId) -> u32 {
    choose(machine, vm, ALL);
    machine.settle(20_000);
    machine.audit();
    away(machine, vm)
}

/// It does this from now on.
pub fn begin(machine: &mut Fake, vm: VmId, steps: impl IntoIterator<Item = Step>) {
    machine.guests.borrow_mut().steps.extend(steps);
    let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
    let of = vms.by_id(vm).expect("it is in");
    let registers = of.life.body().expect("it is in").registers.memory();
    registers.store64(core::mem::offset_of!(abi::guest::RegisterPage, enabled), u64::MAX);
    cpu.raise(of, pending::SHUTDOWN);
    machine.rouse();
}

/// It reads all its pages, and finds what it has written.
pub fn reads_all(machine: &mut Fake, vm: VmId) {
    let touches = (FIRST..FIRST + COUNT).map(|page| Step::Touch { page, access: Access::Read });
    wake(machine, vm, touches.chain(alarm(u64::MAX)));
    machine.audit();
    assert_eq!(away(machine, vm), 0);
    for page in FIRST..FIRST + COUNT {
        assert_eq!(word(machine, vm, page, 24), Some(0x77_0000 + u64::from(page)), "page {page}");
    }
}

#[test]
fn pages_go_out_down_to_the_reserve_and_come_back_when_they_are_touched() {
    let (mut machine, vm) = written();
    let (before, free) = (held(&mut machine, vm), machine.kernel.cpu.frames.free_frames());
    let out = send(&mut machine, vm);
    let reserve = abi::claim::RESERVE_LEAST;
    // A directory and a leaf are the VM's, too.
    assert_eq!((out, held(&mut machine, vm)), (before - reserve, reserve + 2));
    assert_eq!(machine.kernel.cpu.frames.free_frames(), free + u64::from(out) - 2);
    let gone = pager(&mut machine, |pager| pager.gone.clone());
    assert!(matches!(gone[..], [(of, ORDER, bits)] if of == vm && bits.count_ones() == out), "{gone:?}");
    assert_eq!(machine.kernel.vms.pooled().0, 0, "no VM is out");
    assert_eq!((machine.kernel.cpu.swapped.pages_out, machine.kernel.cpu.swapped.pages_in), (out.into(), 0));
    reads_all(&mut machine, vm);
    assert_eq!((held(&mut machine, vm), machine.kernel.cpu.frames.free_frames()), (before, free));
    // It hears of it when it hears of something.
    let of = machine.kernel.cpu.endpoints.first(Service::Pager);
    machine.kernel.cpu.ring(of);
    machine.rouse();
    machine.settle(4000);
    assert_eq!(pager(&mut machine, |pager| pager.came.len()), out as usize);
    assert!(with_swap(&mut machine, |swap| swap.pages.is_empty()));
    assert_eq!(machine.kernel.vms.pooled(), (0, 0));
    assert_eq!(machine.kernel.cpu.swapped.pages_in, out.into());
    assert_eq!(starts(&machine), 1, "swap has said nothing wrong");
}

#[test]
fn what_is_out_counts_for_what_a_vm_may_hold() {
    let (mut machine, vm) = written();
    let limit = |machine: &mut Fake| {
        let memory = machine.kernel.vms.by_id(vm).and_then(|vm| vm.life.memory()).expect("it is in");
        memory.claim().limit
    };
    let before = limit(&mut machine);
    send(&mut machine, vm);
    assert_eq!(limit(&mut machine), before, "as it is said");
    // The audit has looked at what it can still have.
    reads_all(&mut machine, vm);
}

#[test]
fn who_controls_the_machine_is_on_its_way_or_another_pagers_gives_none() {
    let (mut machine, vm) = written();
    for pages in [Pages { first: 1, bits: 1 }, Pages { first: 0, bits: 0xff }, Pages { first: 1 << 20, bits: !0 }] {
        choose(&mut machine, vm, pages);
        machine.settle(20_000);
        machine.audit();
    }
    assert_eq!(away(&mut machine, vm), 0, "devices' pages, and pages that there are not");
    let told = [(vm, 1, 0), (vm, 0, 0), (vm, 1 << 20, 0)];
    assert_eq!(pager(&mut machine, |pager| pager.gone.clone()), told);
    let other = crate::component::EndpointId::NONE;
    machine.kernel.let_pages_out(other, vm, ALL);
    machine.rouse();
    machine.settle(20_000);
    assert_eq!((away(&mut machine, vm), pager(&mut machine, |pager| pager.gone.clone())), (0, told.to_vec()));
}

#[test]
fn a_full_pool_leaves_pages_where_they_are() {
    let (mut machine, vm) = written();
    let before = held(&mut machine, vm);
    with_swap(&mut machine, |swap| swap.pool_bytes = 512);
    assert_eq!(send(&mut machine, vm), 2, "two find room");
    let gone = pager(&mut machine, |pager| pager.gone.clone());
    assert!(matches!(gone[..], [(of, ORDER, bits)] if of == vm && bits.count_ones() == 2), "{gone:?}");
    assert_eq!(starts(&machine), 1, "who has no room has done nothing wrong");
    with_swap(&mut machine, |swap| swap.pool_bytes = 1 << 20);
    reads_all(&mut machine, vm);
    assert_eq!(held(&mut machine, vm), before);
}

#[test]
fn a_page_that_is_touched_on_its_way_out_stays() {
    let (mut machine, vm) = written();
    choose(&mut machine, vm, ALL);
    wake(&mut machine, vm, [poke(FIRST, 32, 9)].into_iter().chain(alarm(u64::MAX)));
    machine.settle(20_000);
    machine.audit();
    assert_eq!(word(&mut machine, vm, FIRST, 32), Some(9));
    reads_all(&mut machine, vm);
}

#[test]
fn nothing_is_lost_when_swap_dies_at_any_moment() {
    for steps in 0..40 {
        let (mut machine, vm) = written();
        choose(&mut machine, vm, ALL);
        for _ in 0..steps {
            machine.step();
        }
        let rank = machine.rank(Service::Swap);
        machine.kernel.cpu.condemn(rank, Death::Killed);
        machine.rouse();
        machine.settle(40_000);
        machine.audit();
        let touches = (FIRST..FIRST + COUNT).map(|page| Step::Touch { page, access: Access::Read });
        begin(&mut machine, vm, touches.chain(alarm(u64::MAX)));
        for _ in 0..steps {
            machine.step();
        }
        machine.kernel.cpu.condemn(rank, Death::Killed);
        machine.rouse();
        machine.settle(40_000);
        machine.audit();
        reads_all(&mut machine, vm);
    }
}

#[test]
fn a_vm_that_ends_leaves_nothing_in_the_pool() {
    for steps in [0, 3, 10, 20, 40, 20_000] {
        let (mut machine, vm) = written();
        choose(&mut machine, vm, ALL);
        for _ in 0..steps {
            machine.step();
        }
        assert!(machine.kernel.destroy(vm));
        machine.rouse();
        machine.settle(40_000);
        machine.audit();
        assert!(machine.kernel.vms.named(vm.slot).is_none());
        assert!(with_swap(&mut machine, |swap| swap.pages.is_empty()), "after {steps} steps");
        assert_eq!(machine.kernel.vms.pooled(), (0, 0));
        assert_eq!(machine.kernel.cpu.frames.count_of(OwnerClass::VmTables), 0);
    }
}

#[test]
fn a_vm_goes_out_as_a_whole_and_its_pages_stay_where_they_are() {
    let (mut machine, vm) = written();
    let out = send(&mut machine, vm);
    put_out(&mut machine, vm);
    assert_eq!(machine.kernel.cpu.frames.count_of(OwnerClass::VmTables), 2);
    // Whoever lives then has to be told of all.
    let rank = machine.rank(Service::Swap);
    machine.kernel.cpu.condemn(rank, Death::Killed);
    machine.rouse();
    machine.settle(40_000);
    machine.audit();
    bring_in(&mut machine, vm, pending::NIC);
    assert_eq!(away(&mut machine, vm), out);
    reads_all(&mut machine, vm);
    // And it ends while it is out.
    send(&mut machine, vm);
    put_out(&mut machine, vm);
    assert!(machine.kernel.destroy(vm));
    machine.rouse();
    machine.settle(40_000);
    machine.audit();
    assert!(with_swap(&mut machine, |swap| swap.pages.is_empty() && swap.known.is_empty()));
    assert_eq!(machine.kernel.cpu.frames.count_of(OwnerClass::VmTables), 0);
}

#[test]
fn nobody_puts_anything_in_the_place_of_a_page_that_is_out() {
    let (mut machine, vm) = written();
    let out = send(&mut machine, vm);
    let from = machine.kernel.cpu.endpoints.first(Service::Pager);
    for command in [
        PagerCommand::MapZero { vm, page: FIRST, count: COUNT },
        PagerCommand::CopyImage { vm, page: IMAGE_PAGE + 1 },
        PagerCommand::Resume { vm },
    ] {
        let _ = machine.kernel.pager_command(from, &Message::from(command));
        machine.audit();
    }
    assert_eq!(away(&mut machine, vm), out);
    let take = Step::Hypercall { number: hypercall::TAKE, a: FIRST.into(), b: COUNT.into() };
    wake(&mut machine, vm, [take].into_iter().chain(alarm(u64::MAX)));
    assert_eq!(away(&mut machine, vm), out);
    reads_all(&mut machine, vm);
}

#[test]
fn what_is_given_back_while_it_is_out_reads_as_zeros() {
    let (mut machine, vm) = written();
    let give_back = Step::Hypercall { number: hypercall::GIVE_BACK, a: FIRST.into(), b: COUNT.into() };
    send(&mut machine, vm);
    wake(&mut machine, vm, [give_back, poke(FIRST, 0, 1)].into_iter().chain(alarm(u64::MAX)));
    machine.settle(20_000);
    machine.audit();
    assert_eq!((word(&mut machine, vm, FIRST, 0), word(&mut machine, vm, FIRST, 24)), (Some(1), Some(0)));
    assert!(away(&mut machine, vm) == 0 && with_swap(&mut machine, |swap| swap.pages.is_empty()));
    assert_eq!(machine.kernel.vms.pooled(), (0, 0));
    // And on its way out.
    let (mut machine, vm) = written();
    choose(&mut machine, vm, ALL);
    wake(&mut machine, vm, [give_back].into_iter().chain(alarm(u64::MAX)));
    machine.settle(20_000);
    machine.audit();
    assert!(away(&mut machine, vm) == 0 && with_swap(&mut machine, |swap| swap.pages.is_empty()));
}

#[test]
fn who_is_given_what_was_not_stored_ends() {
    let (mut machine, vm) = written();
    send(&mut machine, vm);
    with_swap(&mut machine, |swap| swap.spoil = true);
    let touches = (FIRST..FIRST + COUNT).map(|page| Step::Touch { page, access: Access::Read });
    begin(&mut machine, vm, touches);
    step_until(&mut machine, |machine| machine.kernel.vms.named(vm.slot).is_none());
    let (_, of, end) = machine.kernel.cpu.deaths.from(0).expect("it has ended");
    assert_eq!((of, end.reason), (vm, EndReason::Damaged));
    machine.settle(40_000);
    machine.audit();
}

#[test]
fn where_no_frame_is_free_the_pager_hears_of_it_and_others_make_room() {
    let (mut machine, vm) = written();
    let out = send(&mut machine, vm);
    // Somebody has everything beyond reserves.
    let mut taken = Vec::new();
    while machine.kernel.cpu.frames.spare() > 0 {
        taken.push(machine.kernel.cpu.frames.alloc(crate::memory::Owner::Core, 0).expect("there is one"));
    }
    let touches = (FIRST..FIRST + COUNT).map(|page| Step::Touch { page, access: Access::Read });
    begin(&mut machine, vm, touches.chain(alarm(u64::MAX)));
    step_until(&mut machine, |machine| matches!(machine.state(vm), Some(State::Fault(_))));
    for _ in 0..200 {
        machine.step();
    }
    machine.audit();
    assert!(matches!(machine.state(vm), Some(State::Fault(_))) && away(&mut machine, vm) == out);
    for frame in taken {
        machine.kernel.cpu.frames.free(frame, crate::memory::Owner::Core);
    }
    machine.settle(40_000);
    reads_all(&mut machine, vm);
}

#[test]
fn the_pager_is_told_what_is_there_and_was_used() {
    let (mut machine, vm) = written();
    let from = machine.kernel.cpu.endpoints.first(Service::Pager);
    machine.kernel.look_at_pages(from, vm, Pages { first: 0, bits: !0 });
    machine.kernel.look_at_pages(from, vm, Pages { first: ORDER, bits: !0 });
    machine.rouse();
    machine.settle(20_000);
    machine.audit();
    let looked = pager(&mut machine, |pager| core::mem::take(&mut pager.looked));
    let [(of, 0, _, below), (other, ORDER, used, there)] = looked[..] else { panic!("{looked:?}") };
    assert_eq!((of, other, used, there), (vm, vm, ALL.bits, ALL.bits));
    assert_eq!(below & ((1 << IMAGE_PAGE) - 1), 0, "nobody else's pages");
    // What is used again is seen again.
    wake(&mut machine, vm, [Step::Touch { page: FIRST + 3, access: Access::Read }].into_iter().chain(alarm(u64::MAX)));
    machine.kernel.look_at_pages(from, vm, ALL);
    machine.rouse();
    machine.settle(20_000);
    let looked = pager(&mut machine, |pager| core::mem::take(&mut pager.looked));
    assert_eq!(looked, [(vm, ORDER, 1 << (FIRST - ORDER + 3), ALL.bits)]);
}
