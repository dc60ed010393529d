//! Policies are replaced while all goes on: by the operator's wish, and where one is no good.

use super::board::{SERIAL_GSI, vector};
use super::component::{Due, Misdeed};
use super::lines;
use super::machine::{HZ, Machine, POLICIES, WITH_NIC, WITHOUT_NIC};
use super::roles::{PLAN_DEPTH, Role as FakeRole};
use crate::component::{Death, EndpointId, Run};
use crate::kernel::Turn;
use crate::memory::core_memory;
use crate::vm::State;
use abi::component::layout;
use abi::control::{ControlReply, ControlRequest, GATEKEEPER, policy_state, status};
use abi::guest::hypercall;
use abi::limits::{Name, PAGE_SIZE};
use abi::message::Message;
use abi::net::NetCommand;
use abi::pager::PagerCommand;
use abi::sched::{Admission, SchedCommand};
use abi::service::Service;
use abi::vm::VmId;
use backend::fake::Step;

type Fake = Machine<true>;

/// The numbers of the policies.
const FAKE: u16 = 0;
const OTHER: u16 = 1;

impl Fake {
    /// The operator asks; answered later.
    fn order(&mut self, request: ControlRequest) {
        let rank = self.rank(Service::Control);
        match &mut self.hardware.borrow_mut().components[rank].role {
            FakeRole::Monitor(monitor) => monitor.requests.push_back(request),
            _ => panic!("not the monitor"),
        }
        self.wires.raise(vector(SERIAL_GSI));
        self.hardware.borrow_mut().asleep = false;
    }

    /// What the operator was answered since somebody last looked.
    fn answers(&mut self) -> Vec<ControlReply> {
        let rank = self.rank(Service::Control);
        match &mut self.hardware.borrow_mut().components[rank].role {
            FakeRole::Monitor(monitor) => core::mem::take(&mut monitor.replies),
            _ => panic!("not the monitor"),
        }
    }

    /// The operator replaces a policy, and is answered with this status.
    fn swap(&mut self, service: Service, policy: u16) -> u32 {
        let component = u16::try_from(self.rank(service)).expect("few");
        self.answers();
        self.order(ControlRequest::Swap { component, policy });
        for _ in 0..4000 {
            self.step();
            if let Some(ControlReply::Done { status, .. }) = self.answers().pop() {
                return status;
            }
        }
        panic!("the operator gets no answer");
    }

    /// The policy of this component: by the core's word, and by what the component itself reads.
    fn policy(&self, service: Service) -> String {
        let rank = self.rank(service);
        let name = self.kernel.cpu.components.list[rank].policies.name().as_str().to_owned();
        if matches!(self.kernel.cpu.components.list[rank].run, Run::Ready | Run::Waiting { .. }) {
            assert_eq!(self.hardware.borrow().components[rank].policy(), name);
        }
        name
    }

    /// The policy `other` of this component does this after so many messages, whenever it is started.
    fn flaw(&mut self, service: Service, due: Due) {
        let rank = self.rank(service);
        self.hardware.borrow_mut().components[rank].flaw = Some(("other", due));
    }

    fn start_of(&self, service: Service) -> u32 {
        self.kernel.cpu.components.list[self.rank(service)].incarnation
    }

    /// So much time, in which everybody goes on.
    fn pass(&mut self, ticks: u64) {
        let end = self.wires.now() + ticks;
        while self.wires.now() < end {
            if self.is_asleep() {
                self.wires.spend(ticks / 50);
                self.hardware.borrow_mut().asleep = false;
            }
            self.step();
        }
    }
}

fn at_rest() -> Fake {
    Fake::with_guest(WITH_NIC, &[]).0
}

/// A machine whose VMs compute for ever.
fn under_load(count: usize) -> (Fake, Vec<VmId>) {
    let mut machine = Fake::new(4096);
    machine.guests.borrow_mut().calm = Some(Box::new(|_| Some(Step::Compute(5_000))));
    let vms = (0..count).map(|_| machine.create(WITHOUT_NIC)).collect();
    for _ in 0..100 * count {
        machine.step();
    }
    (machine, vms)
}

const ROLES: [Service; 3] = [Service::Net, Service::Pager, Service::Plan];

#[test]
fn another_policy_runs_when_the_operator_is_answered() {
    for service in ROLES {
        let mut machine = at_rest();
        assert_eq!(machine.policy(service), "fake");
        assert_eq!(machine.swap(service, OTHER), status::OK);
        assert_eq!((machine.policy(service).as_str(), machine.start_of(service)), ("other", 2));
        machine.settle(4000);
        machine.audit();
        assert_eq!(machine.swap(service, FAKE), status::OK);
        assert_eq!((machine.policy(service).as_str(), machine.start_of(service)), ("fake", 3));
        machine.settle(4000);
        machine.audit();
        assert_eq!(machine.vms().len(), 1);
    }
}

#[test]
fn the_successor_finds_its_own_program_and_nothing_of_the_others() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Plan);
    // The old one has used its memory.
    machine.kernel.cpu.components.list[rank].space.block().write(0x800, &[7; 64]).expect("room");
    for (policy, data, free) in
        [(OTHER, 0x40_2000, 0x40_1000), (FAKE, 0x40_1000, 0x40_4000), (OTHER, 0x40_2000, 0x40_1000)]
    {
        assert_eq!(machine.swap(Service::Plan, policy), status::OK);
        let component = &machine.kernel.cpu.components.list[rank];
        let tables = component.space.tables();
        assert!(tables.walk(free).is_none(), "what only the other has is not mapped");
        for page in 0..3 {
            let leaf = tables.walk(data + page * PAGE_SIZE).expect("mapped");
            assert!(leaf.write && !leaf.execute);
            let mut bytes = [0; 4096];
            core_memory(leaf.frame, PAGE_SIZE).read(0, &mut bytes).expect("a page");
            let name = POLICIES[usize::from(policy)].as_bytes();
            assert!(page != 0 || bytes.starts_with(name));
            let content = if page == 0 { name.len() } else { 0 };
            assert!(bytes[content..].iter().all(|&byte| byte == 0), "page {page}");
        }
        let stack = tables.walk(layout::STACK_TOP - PAGE_SIZE).expect("mapped");
        assert!(stack.write);
        assert!(tables.audit().is_clean());
        // It has used its memory, too.
        component.space.block().write(0, &[9; 0x5000]).expect("room");
    }
    machine.settle(4000);
    machine.audit();
}

#[test]
fn a_swap_is_no_death() {
    lines::listen();
    let mut machine = at_rest();
    for number in 0..20 {
        assert_eq!(machine.swap(Service::Pager, 1 - number % 2), status::OK);
        assert_eq!(machine.kernel.cpu.components.list[machine.rank(Service::Pager)].quick_deaths, 0);
    }
    assert_eq!(lines::heard("killed"), [""; 0]);
    assert_eq!(lines::heard("restarted"), [""; 0]);
    let said = lines::heard("goes on with policy");
    assert_eq!(said.len(), 0, "heard with the lines before: {said:?}");
}

#[test]
fn a_swap_is_said() {
    let mut machine = at_rest();
    lines::listen();
    assert_eq!(machine.swap(Service::Net, OTHER), status::OK);
    assert_eq!(lines::heard("component"), ["INFO core: component netmux goes on with policy other (start 2)"]);
}

#[test]
fn what_cannot_run_is_refused_and_nothing_changes() {
    let mut machine = at_rest();
    for (service, policy, expected) in [
        (Service::Plan, 2, status::NO_MODULE),
        (Service::Plan, 3, status::BAD_MODULE),
        (Service::Plan, 4, status::NOT_FOUND),
        (Service::Control, 1, status::NOT_FOUND),
    ] {
        assert_eq!(machine.swap(service, policy), expected, "{service:?} {policy}");
        assert_eq!(machine.start_of(service), 1);
    }
    machine.order(ControlRequest::Swap { component: 9, policy: 0 });
    machine.settle(4000);
    assert_eq!(machine.answers(), [ControlReply::Done { status: status::NOT_FOUND, value: 0 }]);
}

#[test]
fn the_only_policy_can_be_started_anew() {
    let mut machine = at_rest();
    let component = u16::try_from(machine.rank(Service::Control)).expect("few");
    machine.order(ControlRequest::Swap { component, policy: FAKE });
    machine.settle(4000);
    assert_eq!(machine.start_of(Service::Control), 2);
    // It is the operator's own: its successor has asked nothing, and is answered nothing.
    assert_eq!(machine.answers(), []);
}

#[test]
fn one_swap_at_a_time() {
    let mut machine = at_rest();
    let rank = |service| u16::try_from(machine.rank(service)).expect("few");
    let (net, sched) = (rank(Service::Net), rank(Service::Plan));
    machine.order(ControlRequest::Swap { component: sched, policy: OTHER });
    machine.order(ControlRequest::Swap { component: net, policy: OTHER });
    machine.settle(4000);
    let done = |status| ControlReply::Done { status, value: 0 };
    assert_eq!(machine.answers(), [done(status::BUSY), done(status::OK)]);
    assert_eq!((machine.policy(Service::Net).as_str(), machine.policy(Service::Plan).as_str()), ("fake", "other"));
}

#[test]
fn policies_are_told_with_their_states() {
    let mut machine = at_rest();
    let sched = u16::try_from(machine.rank(Service::Plan)).expect("few");
    machine.swap(Service::Plan, OTHER);
    machine.settle(4000);
    let name = |text| Name::new(text).expect("short");
    let states = [policy_state::READY, policy_state::RUNS, policy_state::MISSING, policy_state::REFUSED];
    for (policy, (text, state)) in (0..).zip(POLICIES.into_iter().zip(states)) {
        machine.order(ControlRequest::Policy { component: sched, policy });
        machine.settle(4000);
        let told = ControlReply::Policy { component: name("sched"), name: name(text), policies: 4, state };
        assert_eq!(machine.answers(), [told]);
    }
    for (component, policy) in [(sched, 4), (sched + 1, 1), (9, 0)] {
        machine.order(ControlRequest::Policy { component, policy });
        machine.settle(4000);
        assert_eq!(machine.answers(), [ControlReply::Done { status: status::NOT_FOUND, value: 0 }]);
    }
}

#[test]
fn the_gatekeeper_goes_on_otherwise_and_its_successors_do() {
    let mut machine = at_rest();
    let starts = machine.start_of(Service::Plan);
    let told = |machine: &Fake| match &machine.hardware.borrow().components[machine.rank(Service::Plan)].role {
        FakeRole::Sched(sched) => sched.admission,
        _ => panic!("not the scheduler"),
    };
    let name = |text| Name::new(text).expect("short");
    for policy in [2_u16, 1, 0] {
        let way = Admission::ALL[usize::from(policy)];
        machine.order(ControlRequest::Swap { component: GATEKEEPER, policy });
        machine.order(ControlRequest::Policy { component: GATEKEEPER, policy });
        machine.order(ControlRequest::Policy { component: GATEKEEPER, policy: (policy + 1) % 3 });
        machine.settle(4000);
        let other = Admission::ALL[usize::from(policy + 1) % 3].name();
        let [gatekeeper, its, other] = ["gatekeeper", way.name(), other].map(name);
        let policy = |name, state| ControlReply::Policy { component: gatekeeper, name, policies: 3, state };
        let done = ControlReply::Done { status: status::OK, value: 0 };
        assert_eq!(machine.answers(), [done, policy(its, policy_state::RUNS), policy(other, policy_state::READY)]);
        assert_eq!((told(&machine), machine.start_of(Service::Plan)), (way, starts));
    }
    machine.order(ControlRequest::Swap { component: GATEKEEPER, policy: 2 });
    machine.order(ControlRequest::Swap { component: GATEKEEPER, policy: 3 });
    machine.settle(4000);
    let [done, none] = [status::OK, status::NOT_FOUND].map(|status| ControlReply::Done { status, value: 0 });
    assert_eq!(machine.answers(), [done, none]);
    let rank = machine.rank(Service::Plan);
    machine.kernel.cpu.condemn(rank, Death::Killed);
    machine.hardware.borrow_mut().asleep = false;
    machine.settle(4000);
    assert_eq!((told(&machine), machine.start_of(Service::Plan)), (Admission::Deadline, starts + 1));
}

#[test]
fn one_that_dies_while_its_successor_is_made_ready_is_replaced_all_the_same() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Plan);
    machine.kernel.cpu.begin_swap(rank, OTHER.into(), 0, EndpointId::NONE).expect("it can");
    machine.kernel.cpu.condemn(rank, Death::Killed);
    machine.hardware.borrow_mut().asleep = false;
    machine.settle(4000);
    assert_eq!((machine.policy(Service::Plan).as_str(), machine.start_of(Service::Plan)), ("other", 3));
    // And one that is found guilty before it is stopped.
    machine.kernel.cpu.begin_swap(rank, FAKE.into(), 0, EndpointId::NONE).expect("it can");
    let now = machine.wires.now();
    machine.kernel.cpu.condemn(rank, Death::RingFull);
    machine.kernel.cpu.go_on_swapping(now);
    machine.hardware.borrow_mut().asleep = false;
    machine.settle(4000);
    assert_eq!((machine.policy(Service::Plan).as_str(), machine.start_of(Service::Plan)), ("fake", 4));
    machine.audit();
}

#[test]
fn one_that_waits_for_its_start_is_replaced_at_once() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Pager);
    while !matches!(machine.kernel.cpu.components.list[rank].run, Run::Stopped { .. }) {
        machine.kernel.cpu.condemn(rank, Death::Exit(1));
        machine.kernel.carry_out();
    }
    let before = machine.wires.now();
    assert_eq!(machine.swap(Service::Pager, OTHER), status::OK);
    assert!(machine.wires.now() - before < HZ / 10);
    assert_eq!(machine.policy(Service::Pager), "other");
}

#[test]
fn what_is_kept_outlives_deaths_and_swaps() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Net);
    let kept = |machine: &Fake, page: u64| {
        let tables = machine.kernel.cpu.components.list[rank].space.tables();
        tables.walk(layout::KEEP + page * PAGE_SIZE)
    };
    assert_eq!(machine.kernel.cpu.components.list[rank].info.keep_pages, 2);
    assert!(kept(&machine, 2).is_none());
    let mut bytes = [1; 4096];
    for page in 0..2 {
        let leaf = kept(&machine, page).expect("mapped");
        assert!(leaf.write && !leaf.execute);
        let memory = core_memory(leaf.frame, PAGE_SIZE);
        memory.read(0, &mut bytes).expect("a page");
        assert_eq!(bytes, [0; 4096], "it is zero at boot");
        memory.write(0, &[7; 4096]).expect("a page");
    }
    machine.kernel.cpu.condemn(rank, Death::Killed);
    machine.hardware.borrow_mut().asleep = false;
    machine.settle(4000);
    machine.swap(Service::Net, OTHER);
    for page in 0..2 {
        let leaf = kept(&machine, page).expect("mapped");
        core_memory(leaf.frame, PAGE_SIZE).read(0, &mut bytes).expect("a page");
        assert_eq!(bytes, [7; 4096]);
    }
    // Nobody else has any.
    let tables = machine.kernel.cpu.components.list[machine.rank(Service::Plan)].space.tables();
    assert!(tables.walk(layout::KEEP).is_none());
}

#[test]
fn who_has_run_for_a_second_is_good() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Pager);
    machine.swap(Service::Pager, OTHER);
    let started = machine.kernel.cpu.components.list[rank].started_at;
    let on_trial = |machine: &Fake| machine.kernel.cpu.on_trial(rank);
    let left = machine.kernel.cpu.components.list[rank].trial_ends - machine.kernel.cpu.steady.at(started);
    assert_eq!(left, HZ);
    // The machine sleeps until the trial is over.
    while on_trial(&machine) {
        assert!(!machine.is_asleep());
        machine.step();
    }
    assert!((started + HZ..started + HZ + HZ / 5).contains(&machine.wires.now()));
    assert_eq!(machine.policy(Service::Pager), "other");
    // One death does not cost it its place now.
    machine.kernel.cpu.condemn(rank, Death::RingFull);
    machine.hardware.borrow_mut().asleep = false;
    machine.settle(4000);
    assert_eq!((machine.policy(Service::Pager).as_str(), machine.start_of(Service::Pager)), ("other", 3));
}

/// A component on trial that leaves a bit at the looks before the end of its trial, `looks` of them, and runs in between; and the steady
/// time at which that ends.
fn late(looks: u64) -> (Fake, usize, u64) {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Pager);
    machine.swap(Service::Pager, OTHER);
    let component = &mut machine.kernel.cpu.components.list[rank];
    let ends = component.trial_ends;
    for look in 0..looks {
        let _ = component.live.look(ends - (looks - 1 - look) * HZ / 10, 1, false, look + 1, true);
    }
    machine.kernel.cpu.judge(rank, ends);
    (machine, rank, ends)
}

#[test]
fn who_is_late_when_its_trial_ends_has_still_to_show() {
    let (mut machine, rank, ends) = late(2);
    let run = |machine: &Fake| machine.kernel.cpu.components.list[rank].run;
    assert!(machine.kernel.cpu.on_trial(rank) && !matches!(run(&machine), Run::Condemned(_)));
    // It has taken the bit.
    let _ = machine.kernel.cpu.components.list[rank].live.look(ends + HZ / 10, 0, false, 3, true);
    machine.kernel.cpu.judge(rank, ends + HZ / 10);
    assert!(!machine.kernel.cpu.on_trial(rank) && !matches!(run(&machine), Run::Condemned(_)));
    // One that was late for half of its trial stalls.
    let (machine, rank, _) = late(6);
    assert!(machine.kernel.cpu.on_trial(rank));
    let (machine, rank) = (late(7).0, rank);
    assert_eq!(machine.kernel.cpu.components.list[rank].run, Run::Condemned(Death::Stalled));
}

#[test]
fn a_good_one_that_dies_again_and_again_gives_way() {
    let mut machine = at_rest();
    machine.swap(Service::Pager, OTHER);
    machine.pass(2 * HZ);
    let rank = machine.rank(Service::Pager);
    assert!(!machine.kernel.cpu.on_trial(rank));
    lines::listen();
    for _ in 0..4 {
        assert_eq!(machine.policy(Service::Pager), "other");
        machine.kernel.cpu.condemn(rank, Death::Exit(1));
        machine.kernel.carry_out();
    }
    // The first of the four came after a long life.
    assert_eq!(machine.policy(Service::Pager), "fake");
    let said = lines::heard("given up");
    assert_eq!(
        said,
        ["WARN core: component pager: policy other is given up, and fake takes its place, the last good one"]
    );
    machine.hardware.borrow_mut().asleep = false;
    machine.settle(4000);
    machine.audit();
}

#[test]
fn the_operators_kill_is_not_its_fault() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Plan);
    machine.swap(Service::Plan, OTHER);
    for _ in 0..4 {
        machine.kernel.cpu.condemn(rank, Death::Killed);
        machine.kernel.carry_out();
        assert_eq!(machine.policy(Service::Plan), "other");
    }
}

/// What a policy on trial can do, and whether it is found out.
fn nonsense(vm: VmId) -> Vec<(Service, Misdeed, Option<&'static str>)> {
    let gone = VmId { generation: vm.generation + 1, ..vm };
    let nobody = VmId::new(u32::MAX, 1);
    let lie = |message: Message| Misdeed::Lie(message.kind, [message.words[0], message.words[1], message.words[2]]);
    let mut rows = Vec::new();
    for service in ROLES {
        for (misdeed, said) in [
            (Misdeed::Fault, "killed: fault 14"),
            (Misdeed::Exit, "ended itself with code 3"),
            // The core has to choose who runs, when a scheduler is over its budget.
            (Misdeed::Spin, if service == Service::Plan { "killed: on trial it did not" } else { "killed: it ran " }),
            (Misdeed::Sleep, "killed: on trial it did not do its work"),
            // Of no kind, and of the other direction.
            (Misdeed::Lie(0, [u64::MAX; 3]), "killed: on trial it sent a message of kind 0x0: unknown kind"),
            (Misdeed::Lie(u32::MAX, [0; 3]), "killed: on trial it sent a message of kind 0xffffffff: unknown kind"),
            (Misdeed::Lie(0x201, [1, 2, 3]), "killed: on trial it sent a message of kind 0x201: unknown kind"),
            (Misdeed::Lie(0x401, [0; 3]), "killed: on trial it sent a message of kind 0x401: unknown kind"),
        ] {
            rows.push((service, misdeed, Some(said)));
        }
        // What it may not ask for is refused, and not more.
        for call in [[99, 0, 0, 0], [5, u64::MAX, u64::MAX, 0], [6, 0x60, 1, 0], [7, 0x64, 1, 0xfe], [4, 77, 0, 0]] {
            rows.push((service, Misdeed::Ask(call), None));
        }
    }
    for (message, said) in [
        // Words that are none, and pages that there are not.
        (Message::new(0x111, [vm.raw(), u64::MAX, 1]), Some("killed: on trial it sent a message of kind 0x111")),
        (
            PagerCommand::MapZero { vm, page: 1 << 20, count: 1 }.into(),
            Some("a page that the VM or its image does not have"),
        ),
        (PagerCommand::MapZero { vm, page: 0, count: 65 }.into(), Some("more pages than a command may name")),
        (PagerCommand::CopyImage { vm, page: 0 }.into(), Some("a page that the VM or its image does not have")),
        // Of VMs that there are not (any more) it may not know yet.
        (PagerCommand::MapZero { vm: gone, page: 1, count: 1 }.into(), None),
        (PagerCommand::Resume { vm: nobody }.into(), None),
        (PagerCommand::Refuse { vm: gone, page: 1 }.into(), None),
    ] {
        rows.push((Service::Pager, lie(message), said));
    }
    for command in [
        SchedCommand::Run { vm: nobody, quantum_ticks: 1 },
        SchedCommand::Run { vm: gone, quantum_ticks: 0 },
        SchedCommand::Run { vm, quantum_ticks: 0 },
        SchedCommand::Run { vm, quantum_ticks: u64::MAX },
        SchedCommand::Admit { vm },
        SchedCommand::Admit { vm: nobody },
        SchedCommand::Hold { vm: nobody },
        SchedCommand::Hold { vm },
        SchedCommand::First { vm },
        SchedCommand::First { vm: gone },
    ] {
        rows.push((Service::Plan, lie(command.into()), None));
    }
    for vm in [vm, gone, nobody] {
        rows.push((Service::Net, lie(NetCommand::Detached { vm }.into()), None));
    }
    rows
}

#[test]
fn nonsense_loses_nobody_and_the_last_good_policy_takes_over() {
    let vm = VmId::new(0, 1);
    for after in [0, 1] {
        for (service, what, said) in nonsense(vm) {
            let context = format!("{service:?} after {after}: {what:?}");
            let (mut machine, vms) = under_load(3);
            assert_eq!(vms[0], vm);
            machine.flaw(service, Due { after, what });
            lines::listen();
            assert_eq!(machine.swap(service, OTHER), status::OK, "{context}");
            machine.pass(3 * HZ / 2);
            let killed = lines::heard("component");
            let given_up = lines::count(&killed, "other is given up, and fake takes its place, the last good one");
            match said {
                Some(said) => {
                    assert_eq!(machine.policy(service), "fake", "{context}: {killed:?}");
                    assert!(lines::count(&killed, said) == 1 && given_up == 1, "{context}: {killed:?}");
                }
                None => assert_eq!((machine.policy(service).as_str(), given_up), ("other", 0), "{context}: {killed:?}"),
            }
            machine.audit();
            assert_eq!(machine.vms(), vms, "{context}");
            // And everybody runs.
            machine.guests.borrow_mut().asked.clear();
            for _ in 0..600 {
                machine.step();
            }
            assert_eq!(machine.guests.borrow().asked.len(), 3, "{context}");
        }
    }
}

#[test]
fn one_that_holds_everybody_back_is_found_out() {
    let (mut machine, vms) = under_load(3);
    let rank = machine.rank(Service::Plan);
    machine.swap(Service::Plan, OTHER);
    // A scheduler that has planned nothing yet, and whose only words are these.
    if let FakeRole::Sched(sched) = &mut machine.hardware.borrow_mut().components[rank].role {
        sched.lazy = true;
    }
    machine.kernel.cpu.plan.came = false;
    machine.kernel.cpu.plan.held = false;
    machine.kernel.cpu.plan.next = None;
    let crate::kernel::Kernel { vms: table, cpu, .. } = &mut machine.kernel;
    for &vm in &vms {
        cpu.hold(table, vm);
    }
    machine.pass(3 * HZ / 2);
    assert_eq!(machine.policy(Service::Plan), "fake");
}

#[test]
fn one_that_holds_back_whom_it_cannot_admit_and_has_nobody_to_plan_for_is_good() {
    let mut machine = at_rest();
    let vm = machine.create(WITHOUT_NIC);
    let rank = machine.rank(Service::Plan);
    assert_eq!(machine.swap(Service::Plan, OTHER), status::OK);
    let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
    if vms.waiting(vm).is_some() {
        cpu.hold(vms, vm);
    }
    machine.pass(2 * HZ);
    assert!(!machine.kernel.cpu.on_trial(rank));
    assert_eq!(machine.policy(Service::Plan), "other");
}

#[test]
fn one_that_stalls_is_replaced_within_two_plans() {
    let (mut machine, vms) = under_load(5);
    let rank = machine.rank(Service::Plan);
    machine.flaw(Service::Plan, Due { after: 2, what: Misdeed::Sleep });
    machine.swap(Service::Plan, OTHER);
    let fallbacks = machine.kernel.cpu.counters.fallbacks;
    while machine.kernel.cpu.components.list[rank].incarnation < 3 {
        machine.step();
    }
    assert_eq!(machine.policy(Service::Plan), "fake");
    let left = machine.kernel.cpu.counters.fallbacks - fallbacks;
    assert!(left <= 2 * PLAN_DEPTH as u64, "{left}");
    assert_eq!(machine.vms(), vms);
}

#[test]
fn nobody_waits_longer_than_two_plans_while_policies_are_replaced() {
    const VMS: usize = 10;
    /// A quantum of the plan, and what a component's turn takes of it.
    const TURN: u64 = 25_000;
    let (mut machine, vms) = under_load(VMS);
    let mut last: Vec<u64> = vec![machine.wires.now(); VMS];
    let mut longest = 0;
    for number in 0..100 {
        let rank = machine.rank(ROLES[number % 3]);
        let policy = usize::from(machine.kernel.cpu.components.list[rank].policies.running() == 0);
        machine.kernel.cpu.begin_swap(rank, policy, 0, EndpointId::NONE).expect("it can");
        for _ in 0..300 {
            machine.guests.borrow_mut().asked.clear();
            machine.step();
            let now = machine.wires.now();
            for &slot in machine.guests.borrow().asked.keys() {
                let slot = slot as usize;
                longest = longest.max(now - last[slot]);
                last[slot] = now;
            }
        }
        assert!(machine.kernel.cpu.swap.is_none(), "swap {number} is not done");
        assert_eq!(machine.kernel.cpu.components.list[rank].policies.running(), policy);
    }
    assert!(longest <= 2 * PLAN_DEPTH as u64 * TURN, "{longest}");
    assert_eq!(machine.vms(), vms);
    // The core had to choose now and then, and not more.
    assert!(machine.kernel.cpu.counters.fallbacks <= 100, "{}", machine.kernel.cpu.counters.fallbacks);
    machine.audit();
}

#[test]
fn the_time_without_a_planned_turn_is_measured() {
    let (mut machine, _) = under_load(2);
    assert_eq!(machine.kernel.cpu.counters.gap_ticks, 0);
    let rank = machine.rank(Service::Plan);
    machine.kernel.cpu.plan.turn = None;
    machine.kernel.cpu.condemn(rank, Death::Swapped);
    let before = machine.wires.now();
    machine.kernel.carry_out();
    while machine.kernel.cpu.counters.gap_ticks == 0 {
        machine.step();
    }
    let took = machine.wires.now() - before;
    assert!((1..=took).contains(&machine.kernel.cpu.counters.gap_ticks));
    // The next plan is no gap.
    let gap = machine.kernel.cpu.counters.gap_ticks;
    for _ in 0..500 {
        machine.step();
    }
    assert_eq!(machine.kernel.cpu.counters.gap_ticks, gap);
}

#[test]
fn a_planned_turn_that_goes_on_ends_the_time_without_one() {
    let (mut machine, vms) = under_load(2);
    let kernel = &mut machine.kernel;
    assert!(kernel.vms.by_id(vms[0]).is_some_and(|vm| vm.life.is_ready()));
    let busy = kernel.cpu.mark - kernel.cpu.counters.idle_ticks;
    kernel.cpu.plan.forget(busy - 100);
    let turn = Turn { vm: vms[0], left_ticks: u64::MAX, ahead: false };
    for _ in 0..2 {
        kernel.cpu.plan.turn = Some(turn);
        assert_eq!(kernel.next_turn().map(|turn| turn.vm), Some(vms[0]));
        assert_eq!(kernel.cpu.counters.gap_ticks, 100);
        // It counts once.
        kernel.cpu.mark += 50;
    }
}

#[test]
fn guests_go_on_while_the_successor_is_made_ready() {
    let (mut machine, _) = under_load(2);
    let rank = machine.rank(Service::Plan);
    machine.kernel.cpu.begin_swap(rank, OTHER.into(), 0, EndpointId::NONE).expect("it can");
    let idle = |_| Some(Step::Hypercall { number: hypercall::IDLE, a: u64::MAX, b: 0 });
    machine.guests.borrow_mut().calm = Some(Box::new(idle));
    machine.settle(4000);
    assert_eq!(machine.policy(Service::Plan), "other");
    for vm in machine.vms() {
        let state = machine.kernel.vms.by_id(vm).map(|vm| vm.life.state());
        assert_eq!(state, Some(State::Idle { until: u64::MAX }));
    }
}
