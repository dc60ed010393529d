//! What directed tests let a guest do, and how they look at it.

use super::lines;
use super::machine::{Machine, WITHOUT_NIC};
use crate::memory::core_memory;
use crate::vm::State;
use abi::guest::{BOOT_ARGS, IMAGE_BASE, Interrupted, REGISTER_PAGE, hypercall};
use abi::limits::PAGE_SIZE;
use abi::vm::VmId;
use backend::Vcpu;
use backend::fake::Step;

/// Where the guests' image begins to run.
pub const START: u64 = IMAGE_BASE + 0x10;
/// Bytes of `vmcall`.
pub const CALL: u64 = 3;
/// An address that no guest can run at.
pub const NOWHERE: u64 = 0x1234_5678_9abc_def0;
/// The VM of [`Machine::with_guest`].
pub const FIRST: VmId = VmId::new(0, 1);

/// Address of a word of the register page.
macro_rules! field {
    ($name:ident) => {
        abi::guest::REGISTER_PAGE
            + u64::try_from(core::mem::offset_of!(abi::guest::RegisterPage, $name)).expect("in a page")
    };
}
pub(super) use field;

/// A hypercall with one argument.
pub fn call(number: u64, a: u64) -> Step {
    Step::Hypercall { number, a, b: 0 }
}

/// A write into the register page.
pub fn poke(address: u64, value: u64) -> Step {
    Step::Poke { address, value }
}

/// Where the guest keeps the result of its call `index`: over its boot arguments, which it has from the start.
fn result_at(index: usize) -> u64 {
    REGISTER_PAGE + BOOT_ARGS + 8 * u64::try_from(index).expect("few")
}

/// The guest keeps its RAX.
pub fn keep(index: usize) -> Step {
    Step::Store { address: result_at(index) }
}

/// The guest asks for upcalls at this address, for these bits.
pub fn upcalls_at(entry: u64, enabled: u64) -> [Step; 4] {
    [
        poke(field!(upcall_entry), entry),
        poke(field!(upcall_stack), 0x8_0000),
        poke(field!(enabled), enabled),
        poke(field!(upcalls_on), 1),
    ]
}

/// The guest asks for faults at this address.
pub fn faults_at(entry: u64) -> [Step; 2] {
    [poke(field!(fault_entry), entry), poke(field!(fault_stack), 0x9_0000)]
}

impl<const TIMER: bool> Machine<TIMER> {
    /// A word of the VM's memory, at a page that it has.
    pub fn word(&mut self, vm: VmId, address: u64) -> u64 {
        let crate::kernel::Kernel { vms, cpu, .. } = &mut self.kernel;
        let memory = vms.by_id(vm).and_then(|vm| vm.life.memory()).expect("it has memory");
        let page = u32::try_from(address / PAGE_SIZE).expect("a page");
        let frame = memory.frame(&mut cpu.frames, page).expect("a page that is there");
        let offset = usize::try_from(address % PAGE_SIZE).expect("in a page");
        core_memory(frame, PAGE_SIZE).load64(offset).expect("in a page")
    }

    /// What the guest has kept of its first `count` calls.
    pub fn kept(&mut self, count: usize) -> Vec<u64> {
        (0..count).map(|index| self.word(FIRST, result_at(index))).collect()
    }

    /// Where the guest is, but for its RAX, which its last idle has overwritten.
    pub fn position(&mut self, vm: VmId) -> Interrupted {
        let crate::kernel::Kernel { vms, cpu, .. } = &mut self.kernel;
        let at = vms.by_id(vm).expect("it lives").vcpu.position(&mut cpu.backend);
        Interrupted { rax: 0, ..at }
    }

    /// RIP, RSP, RFLAGS and RAX at this place of the register page.
    pub fn interrupted(&mut self, at: u64) -> Interrupted {
        let [rip, rsp, rflags, rax] = [0, 8, 16, 24].map(|offset| self.word(FIRST, at + offset));
        Interrupted { rip, rsp, rflags, rax }
    }

    /// Whether upcalls are on, and whether the guest is in its fault handler, as its register page says.
    pub fn switches(&mut self) -> (u64, u64) {
        let word = self.word(FIRST, field!(upcalls_on));
        (word & 0xffff_ffff, word >> 32)
    }

    pub fn state(&mut self, vm: VmId) -> Option<State> {
        self.kernel.vms.by_id(vm).map(|vm| vm.life.state())
    }

    /// The machine that is at rest goes on: something has come from outside.
    pub fn rouse(&mut self) {
        self.hardware.borrow_mut().asleep = false;
    }

    /// Guests that run from now on do these steps; the first VM is woken for it.
    pub fn go_on(&mut self, steps: &[Step]) {
        self.guests.borrow_mut().steps.extend(steps);
        let crate::kernel::Kernel { vms, cpu, .. } = &mut self.kernel;
        cpu.wake(vms.by_id(FIRST).expect("it lives"));
        self.rouse();
    }

    /// Turns of the loop until the guest has nothing left to do but to idle, and has not begun to sleep yet.
    pub fn finish(&mut self) {
        for _ in 0..1000 {
            if self.guests.borrow().steps.is_empty() && matches!(self.state(FIRST), Some(State::Idle { .. })) {
                return;
            }
            self.step();
        }
        panic!("the guest does not come to an end");
    }
}

/// What each of these calls returns to a guest without a NIC.
pub fn results(calls: &[Step]) -> Vec<u64> {
    let steps: Vec<Step> = calls.iter().enumerate().flat_map(|(index, &step)| [step, keep(index)]).collect();
    let (mut machine, _) = Machine::<true>::with_guest(WITHOUT_NIC, &steps);
    machine.audit();
    machine.kept(calls.len())
}

/// What is said of the end of a guest without a NIC that does these steps. Its frames are free again then.
pub fn obituary(steps: &[Step]) -> Vec<String> {
    lines::listen();
    let (mut machine, vm) = Machine::<true>::with_guest(WITHOUT_NIC, steps);
    machine.audit();
    assert_eq!(machine.state(vm), None, "it lives");
    let prefix = format!("INFO core: {vm} ended: ");
    let lines = lines::heard(" ended: ");
    let lines = lines.iter().map(|line| line.strip_prefix(&prefix).expect("the line of its end"));
    lines.map(|line| line.strip_suffix("; 0 such lines left out)").expect("the first").to_owned()).collect()
}

/// Hypercalls by name, with no argument that matters.
pub const UPCALL_RETURN: Step = Step::Hypercall { number: hypercall::UPCALL_RETURN, a: 0, b: 0 };
pub const FAULT_RETURN: Step = Step::Hypercall { number: hypercall::FAULT_RETURN, a: 0, b: 0 };
/// Offset of the vector in a fault record, behind what the fault interrupted.
pub const FAULT_VECTOR: u64 = 32;
