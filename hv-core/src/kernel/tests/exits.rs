//! Every kind of exit of a guest, and what the core makes of it.

use super::board::{NIC_GSI, vector};
use super::component::{Due, Misdeed};
use super::guest::{CALL, FAULT_RETURN, FAULT_VECTOR, FIRST, START, call, faults_at, field, keep, obituary, poke};
use super::lines;
use super::machine::{GUEST_PAGES, HOLE, IMAGE_PAGE, Machine, WITHOUT_NIC};
use crate::kernel::Crossings;
use crate::kernel::cpu::Counters;
use crate::vm::{PageFault, State};
use abi::barriers::BarrierPlan;
use abi::control::{ControlReply, ControlRequest};
use abi::guest::{
    FAULT_ADDRESS, FAULT_GUARD, FAULT_NULL, FAULT_REFUSED, FAULT_RIGHTS, Interrupted, hypercall, pending, refused,
};
use abi::limits::PAGE_SIZE;
use abi::pager::{Access, PagerCommand};
use abi::service::Service;
use abi::vm::VmId;
use backend::fake::Step;
use backend::{Corrupt, Corruption};

/// The fault handler of the guests of these tests.
const HANDLER: u64 = 0x7000;
/// The first address beyond a guest's memory.
const BEYOND: u64 = GUEST_PAGES as u64 * PAGE_SIZE;

impl<const TIMER: bool> Machine<TIMER> {
    /// Exits, interrupts and faults while the first VM does these steps and begins to idle, from a machine at rest.
    fn counted(&mut self, steps: &[Step]) -> [u64; 3] {
        let what = |c: Counters| [c.exits, c.interrupts, c.faults];
        let before = what(self.kernel.cpu.counters);
        self.go_on(steps);
        self.finish();
        let after = what(self.kernel.cpu.counters);
        [0, 1, 2].map(|index| after[index] - before[index])
    }

    /// The pager does not serve anybody any more.
    fn without_pager(&mut self) {
        let rank = self.rank(Service::Pager);
        self.hardware.borrow_mut().components[rank].due = Some(Due { after: 0, what: Misdeed::Sleep });
    }

    /// The fault record: vector and error code, address.
    fn fault_record(&mut self) -> (u64, u64, u64) {
        let numbers = self.word(FIRST, field!(fault) + FAULT_VECTOR);
        (numbers & 0xffff_ffff, numbers >> 32, self.word(FIRST, field!(fault) + FAULT_VECTOR + 8))
    }
}

fn at_rest<const TIMER: bool>() -> Machine<TIMER> {
    Machine::with_guest(WITHOUT_NIC, &[]).0
}

/// A guest of this backend that has a fault handler does `offence`: it is in its handler then, with this record.
fn handled(offence: Step, record: (u64, u64, u64)) {
    let mut machine = at_rest::<true>();
    let [entry, stack] = faults_at(HANDLER);
    machine.go_on(&[entry, stack, call(hypercall::NOP, 0), offence]);
    machine.finish();
    machine.audit();
    assert_eq!(machine.fault_record(), record);
    // It had idled when it was woken, and done nothing.
    let at = Interrupted { rip: START + 2 * CALL, rsp: 0, rflags: 0x202, rax: abi::ABI_VERSION.into() };
    assert_eq!(machine.interrupted(field!(fault)), at);
    assert_eq!(machine.switches(), (0, 1));
    let handler = Interrupted { rip: HANDLER + CALL, rsp: 0x9_0000, rflags: 0x202, rax: 0 };
    assert_eq!(machine.position(FIRST), handler);
}

#[test]
fn a_page_that_is_not_there_is_waited_for() {
    let mut machine = at_rest::<true>();
    machine.without_pager();
    let page = IMAGE_PAGE + 10;
    machine.go_on(&[Step::Touch { page, access: Access::Write }, keep(0)]);
    for _ in 0..10 {
        machine.step();
    }
    machine.audit();
    let fault = PageFault { page, access: Access::Write, present: false };
    assert_eq!(machine.state(FIRST), Some(State::Fault(fault)));
    assert_eq!(machine.guests.borrow().steps.len(), 1, "it has not gone on");
}

#[test]
fn a_page_that_may_not_be_written_is_waited_for_as_one_that_is_there() {
    let page = IMAGE_PAGE + 1;
    let touch = |access| Step::Touch { page, access };
    let (mut machine, vm) = Machine::<true>::with_guest(WITHOUT_NIC, &[touch(Access::Read)]);
    machine.without_pager();
    machine.go_on(&[touch(Access::Write)]);
    for _ in 0..10 {
        machine.step();
    }
    let fault = PageFault { page, access: Access::Write, present: true };
    assert_eq!(machine.state(vm), Some(State::Fault(fault)));
}

/// What a guest is told of each access that its image does not allow, whether the page is there or not: page, access, fault,
/// and what the log says without a handler.
const MISTAKES: [(u32, Access, u32, &str); 9] = [
    (0, Access::Read, FAULT_NULL, "null pointer"),
    (0, Access::Write, FAULT_NULL, "null pointer"),
    (0, Access::Execute, FAULT_NULL, "null pointer"),
    (HOLE, Access::Read, FAULT_GUARD, "guard page touched (stack overflow?)"),
    (HOLE + 1, Access::Write, FAULT_GUARD, "guard page touched (stack overflow?)"),
    (IMAGE_PAGE, Access::Write, FAULT_RIGHTS, "write to code or constants"),
    (IMAGE_PAGE + 1, Access::Execute, FAULT_RIGHTS, "execution of data"),
    (IMAGE_PAGE + 10, Access::Execute, FAULT_RIGHTS, "execution of data"),
    (1, Access::Execute, FAULT_RIGHTS, "execution of data"),
];

#[test]
fn a_mistake_goes_to_the_fault_handler_as_what_it_is() {
    for (page, access, vector, _) in MISTAKES {
        let error_code = match access {
            Access::Read => 0,
            Access::Write => 1,
            Access::Execute => 2,
        };
        handled(Step::Touch { page, access }, (vector.into(), error_code, u64::from(page) * PAGE_SIZE));
    }
}

#[test]
fn a_mistake_without_a_handler_ends_the_vm_as_what_it_is() {
    for (page, access, _, text) in MISTAKES {
        let end = format!("{text} (detail {:#x}, rip 0x20010", u64::from(page) * PAGE_SIZE);
        assert_eq!(obituary(&[Step::Touch { page, access }]), [end]);
    }
}

#[test]
fn a_mistake_with_a_page_that_is_there_is_no_other() {
    // It was read, written or executed before, as it may be.
    for (page, may, access) in [
        (IMAGE_PAGE, Access::Execute, Access::Write),
        (IMAGE_PAGE + 1, Access::Read, Access::Execute),
        (IMAGE_PAGE + 1, Access::Write, Access::Execute),
        (IMAGE_PAGE + 10, Access::Write, Access::Execute),
    ] {
        let text = if access == Access::Write { "write to code or constants" } else { "execution of data" };
        let end = format!("{text} (detail {:#x}, rip 0x20010", u64::from(page) * PAGE_SIZE);
        assert_eq!(obituary(&[Step::Touch { page, access: may }, Step::Touch { page, access }]), [end]);
    }
}

#[test]
fn a_pager_gets_nothing_into_a_hole() {
    let mut machine = at_rest::<true>();
    for page in [0, HOLE] {
        let vm = FIRST;
        for command in [PagerCommand::MapZero { vm, page, count: 1 }, PagerCommand::MapImage { vm, page, count: 1 }] {
            assert!(machine.pager_says(&command.into()).is_err(), "page {page}");
        }
    }
    machine.audit();
}

#[test]
fn a_page_fault_costs_one_exit_and_goes_on_where_it_was() {
    let page = IMAGE_PAGE + 10;
    let mut machine = at_rest::<true>();
    let poke = poke(u64::from(page) * PAGE_SIZE, 42);
    assert_eq!(machine.counted(&[poke]), [2, 0, 1], "the fault and the idle");
    assert_eq!(machine.word(FIRST, u64::from(page) * PAGE_SIZE), 42);
    assert_eq!(machine.position(FIRST).rip, START + 2 * CALL);
}

#[test]
fn the_last_page_is_memory_and_the_next_is_not() {
    let touch = |page| Step::Touch { page, access: Access::Write };
    let mut machine = at_rest::<true>();
    assert_eq!(machine.counted(&[touch(GUEST_PAGES - 1)]), [2, 0, 1]);
    assert_eq!(
        obituary(&[touch(GUEST_PAGES - 1), touch(GUEST_PAGES)]),
        ["address beyond its memory (detail 0x100000, rip 0x20010"]
    );
}

#[test]
fn an_address_whose_page_has_no_number_lies_beyond_the_memory() {
    // The low half of its page number is a page that the guest has.
    assert_eq!(obituary(&[poke(1 << 44, 0)]), ["address beyond its memory (detail 0x100000000000, rip 0x20010"]);
}

#[test]
fn an_address_beyond_the_memory_goes_to_the_fault_handler() {
    handled(poke(BEYOND + 0x238, 0), (FAULT_ADDRESS.into(), 1, BEYOND + 0x238));
}

#[test]
fn an_exception_goes_to_the_fault_handler() {
    handled(Step::Exception { vector: 13 }, (13, 0, 0));
}

#[test]
fn a_refused_instruction_goes_to_the_fault_handler() {
    handled(Step::Refused { class: refused::MSR }, (FAULT_REFUSED.into(), refused::MSR.into(), 0));
}

#[test]
fn an_exception_without_a_handler_ends_the_vm() {
    assert_eq!(obituary(&[Step::Exception { vector: 6 }]), ["unhandled fault (detail 0x6, rip 0x20010"]);
}

#[test]
fn a_refused_instruction_without_a_handler_ends_the_vm() {
    let steps = [Step::Refused { class: refused::PORT }];
    assert_eq!(obituary(&steps), ["refused instruction (detail 0x300000000, rip 0x20010"]);
}

#[test]
fn a_fault_in_the_handler_ends_the_vm_whatever_its_register_page_says() {
    let [entry, stack] = faults_at(HANDLER);
    // The word in which `in_fault` is the upper half.
    let steps =
        [entry, stack, Step::Exception { vector: 0 }, poke(field!(upcalls_on), 0), Step::Exception { vector: 14 }];
    assert_eq!(obituary(&steps), ["fault in its fault handler (detail 0xe, rip 0x7000"]);
}

#[test]
fn a_refused_instruction_in_the_handler_ends_the_vm() {
    let [entry, stack] = faults_at(HANDLER);
    let steps = [entry, stack, Step::Refused { class: 1 }, Step::Refused { class: 1 }];
    assert_eq!(obituary(&steps), ["fault in its fault handler (detail 0x100, rip 0x7000"]);
}

#[test]
fn a_page_fault_in_the_handler_is_none() {
    let [entry, stack] = faults_at(HANDLER);
    let touch = Step::Touch { page: IMAGE_PAGE + 10, access: Access::Write };
    let mut machine = at_rest::<true>();
    assert_eq!(machine.counted(&[entry, stack, Step::Exception { vector: 0 }, touch]), [3, 0, 1]);
    assert_eq!(machine.switches(), (0, 1));
}

#[test]
fn after_the_handler_has_returned_a_fault_is_the_first_again() {
    let [entry, stack] = faults_at(HANDLER);
    let fault = |vector| Step::Exception { vector };
    let mut machine = at_rest::<true>();
    machine.go_on(&[entry, stack, fault(3), FAULT_RETURN, fault(4)]);
    machine.finish();
    assert_eq!(machine.fault_record(), (4, 0, 0));
    assert_eq!(machine.switches(), (0, 1));
}

#[test]
fn a_triple_fault_ends_the_vm() {
    assert_eq!(obituary(&[Step::TripleFault]), ["triple fault (detail 0x0, rip 0x20010"]);
}

#[test]
fn a_processor_that_refuses_to_enter_ends_the_vm() {
    assert_eq!(obituary(&[Step::EntryFailure]), ["entry failure (detail 0x7, rip 0x20010"]);
}

#[test]
fn a_spoilt_vm_ends_at_its_next_entry() {
    lines::listen();
    let mut machine = at_rest::<true>();
    let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
    vms.by_id(FIRST).expect("it lives").vcpu.corrupt(&mut cpu.backend, Corruption::GuestState);
    machine.go_on(&[]);
    machine.settle(1000);
    machine.audit();
    assert_eq!(machine.state(FIRST), None);
    let line = "INFO core: vm0.1 ended: entry failure (detail 0x8, rip 0x20013; 0 such lines left out)";
    assert_eq!(lines::heard(" ended: "), [line]);
}

#[test]
fn an_exit_that_nobody_asked_for_ends_the_vm() {
    assert_eq!(obituary(&[Step::Unknown]), ["unknown exit (detail 0x63, rip 0x20010"]);
}

#[test]
fn the_guest_goes_on_after_an_nmi_and_after_what_the_backend_served() {
    let mut machine = at_rest::<true>();
    assert_eq!(machine.counted(&[Step::Nmi, Step::Served, Step::Nmi]), [4, 0, 0]);
    assert_eq!(machine.position(FIRST).rip, START + 2 * CALL);
}

#[test]
fn a_halt_sleeps_until_something_is_wanted_and_leaves_rax_as_it_is() {
    let mut machine = at_rest::<true>();
    machine.go_on(&[poke(field!(enabled), pending::SHUTDOWN), call(hypercall::NOP, 0), Step::Halt, keep(0)]);
    machine.settle(1000);
    assert_eq!(machine.state(FIRST), Some(State::Idle { until: u64::MAX }));
    assert_eq!(machine.position(FIRST).rip, START + 3 * CALL);
    let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
    cpu.raise(vms.by_id(FIRST).expect("it lives"), pending::SHUTDOWN);
    machine.guests.borrow_mut().steps.push_back(poke(field!(pending), 0));
    machine.rouse();
    machine.settle(1000);
    assert_eq!(machine.kept(1), [u64::from(abi::ABI_VERSION)]);
}

#[test]
fn a_halt_is_nothing_when_something_is_wanted_already() {
    let mut machine = at_rest::<true>();
    let steps = [poke(field!(enabled), 1 << 40), poke(field!(pending), 1 << 40), Step::Halt, poke(field!(pending), 0)];
    assert_eq!(machine.counted(&steps), [2, 0, 0]);
    assert_eq!(machine.position(FIRST).rip, START + 3 * CALL);
}

/// A guest computes while the NIC interrupts: the interrupt is served, and the guest goes on when netmux has run.
fn interrupted<const TIMER: bool>() {
    let mut machine = at_rest::<TIMER>();
    let net = machine.rank(Service::Net);
    let wires = machine.wires.clone();
    let mut left = 3;
    machine.guests.borrow_mut().hostile = 0;
    machine.guests.borrow_mut().calm = Some(Box::new(move |_| {
        left -= 1;
        match left {
            2 => wires.raise(vector(NIC_GSI)),
            1 => {}
            _ => return None,
        }
        Some(Step::Compute(10))
    }));
    let [before, acknowledged] = [machine.kernel.cpu.counters.interrupts, machine.kernel.cpu.counters.syscalls];
    machine.go_on(&[]);
    while machine.kernel.cpu.counters.interrupts == before {
        machine.step();
    }
    // Masked, acknowledged to the controller, and told.
    assert!(machine.hardware.borrow().masked.contains(&NIC_GSI));
    assert_eq!(machine.hardware.borrow().in_service, 0);
    assert_eq!(machine.kernel.cpu.components.list[net].notified, 1 << abi::component::bits::IRQ_SHIFT);
    assert_eq!(machine.state(FIRST), Some(State::Ready));
    assert_eq!(machine.kernel.cpu.attention.most_important(), Some(net));
    machine.finish();
    machine.audit();
    assert!(machine.kernel.cpu.counters.syscalls > acknowledged);
    assert_eq!(machine.kernel.cpu.counters.interrupts, before + 1);
    assert!(!machine.hardware.borrow().masked.contains(&NIC_GSI));
    assert_eq!(machine.guests.borrow().asked[&0], 4);
}

#[test]
fn an_interrupt_that_the_processor_took_from_a_guest_is_served() {
    interrupted::<true>();
}

#[test]
fn an_interrupt_that_waits_while_a_guest_runs_is_taken_and_served() {
    interrupted::<false>();
}

#[test]
fn a_quantum_ends_by_an_exit_of_its_own_where_the_processor_counts_it() {
    let mut machine = at_rest::<true>();
    assert_eq!(machine.counted(&[Step::Compute(25_000), Step::Compute(1)]), [2, 0, 0]);
}

#[test]
fn a_quantum_ends_by_the_timer_where_the_processor_does_not_count_it() {
    let mut machine = at_rest::<false>();
    assert_eq!(machine.counted(&[Step::Compute(25_000), Step::Compute(1)]), [2, 1, 0]);
}

/// As on Bochs, where a guest that was entered with interrupts off hears of none: whoever else could have taken them waits for them.
#[test]
fn interrupts_are_taken_at_the_end_of_a_quantum_though_they_do_not_end_a_guest() {
    let mut machine = Machine::<true>::without_scheduler(4096);
    machine.guests.borrow_mut().calm = Some(Box::new(|_| Some(Step::Compute(1_000))));
    machine.create(WITHOUT_NIC);
    for _ in 0..40 {
        machine.step();
    }
    machine.kernel.cpu.backend.deaf = true;
    let before = machine.kernel.cpu.counters.interrupts;
    machine.wires.raise(vector(NIC_GSI));
    for _ in 0..4 {
        machine.step();
    }
    assert!(machine.kernel.cpu.counters.interrupts > before);
    assert!(!machine.wires.is_waiting());
}

/// Two guests that compute for ever share the CPU in quanta.
fn shared<const TIMER: bool>() {
    let mut machine = Machine::<TIMER>::new(2048);
    machine.guests.borrow_mut().calm = Some(Box::new(|_| Some(Step::Compute(1000))));
    let vms = [WITHOUT_NIC; 2].map(|image| machine.create(image));
    for _ in 0..2000 {
        machine.step();
        machine.audit_lives();
    }
    let ran = vms.map(|vm| machine.kernel.vms.by_id(vm).expect("it lives").ran_ticks);
    assert!(ran[0].abs_diff(ran[1]) < 100_000 && ran[0] > 1_000_000, "{ran:?}");
}

#[test]
fn guests_that_compute_share_the_cpu_where_the_processor_counts() {
    shared::<true>();
}

#[test]
fn guests_that_compute_share_the_cpu_where_the_timer_counts() {
    shared::<false>();
}

#[test]
fn a_bus_lock_is_counted_to_its_vm() {
    let mut machine = at_rest::<true>();
    let other = machine.create(WITHOUT_NIC);
    machine.finish();
    machine.go_on(&[Step::BusLock, call(hypercall::NOP, 0), Step::BusLock]);
    machine.finish();
    let mut locks_of = |vm: VmId| match machine.request(ControlRequest::Vm { slot: vm.slot })[..] {
        [ControlReply::Vm { bus_locks, .. }] => bus_locks,
        _ => panic!("no answer"),
    };
    assert_eq!((locks_of(FIRST), locks_of(other)), (2, 0));
}

#[test]
fn a_quantum_ends_though_the_processors_own_timer_is_wrong() {
    let mut machine = Machine::<true>::without_scheduler(4096);
    machine.kernel.cpu.backend.slow_timer = true;
    machine.kernel.cpu.crossings = Crossings::new(BarrierPlan::default(), true);
    machine.guests.borrow_mut().calm = Some(Box::new(|_| Some(Step::Compute(1_000))));
    let vms = [machine.create(WITHOUT_NIC), machine.create(WITHOUT_NIC)];
    for _ in 0..200 {
        machine.step();
    }
    let ran = vms.map(|vm| machine.guests.borrow().asked.get(&vm.slot.number()).copied().unwrap_or(0));
    // A quantum is twenty steps.
    assert!(ran.iter().all(|&ran| ran > 100), "{ran:?}");
}
