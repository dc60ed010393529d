//! Where the processor's time goes. Each tick is counted once: idle, of a guest, or of a component or the core; and of the latter, as far as it is known on
//! whose behalf they ran, charged to that VM. What is left is the node's own.
//!
//! A component that serves one VM after the other names each when it is done with it (a page is given, a plan begins with its turn, it may run ahead, a disk's interrupt is raised),
//! and what it ran since it named the last one is charged to this one. A demultiplexer, which does many frames between two names, says instead how
//! much of its work was whose. The core's own way from one to the other belongs to whoever runs next.
//!
//! What others ran for what a VM has done (it has sent, kicked, touched a page) counts as if it had run that itself: the scheduler is told of both when it blocks,
//! what it may run ahead of the plan gets less by both, and a VM that does not block pays with its planned turns, which are as much shorter. So it is the
//! sender's share, and not everybody's, that a flood takes. For what has come for it from the wire a VM is charged, but does not pay so: it did not choose it.

use super::Cpu;
use crate::board::Board;
use crate::component::{EndpointId, Party};
use crate::vm::{Table, Vm};
use abi::charges::Charges;
use abi::control::ControlReply;
use abi::service::Service;
use abi::vm::VmId;
use backend::Backend;

/// Turns that a VM pays at most for what was run for it at once.
const MOST_TURNS_OWED: u64 = 64;

impl<B: Backend, H: Board> Cpu<B, H> {
    /// The party at this endpoint has done something for a VM: what it ran since it did something for anybody is charged to that.
    #[inline]
    pub fn bill(&mut self, from: EndpointId, vm: &mut Vm<B>) {
        let Some(rank) = self.endpoints.rank(from) else { return };
        let ticks = self.components.list[rank].take_unbilled();
        self.charge_for(vm, ticks);
        vm.owe(ticks);
    }

    /// The party at this endpoint asks for a VM to come or go. If it is a VM, it pays for what that takes of others.
    pub fn note_asker(&mut self, from: EndpointId) {
        if let Some(Party::Vm(vm)) = self.endpoints.get(from).map(|endpoint| endpoint.party) {
            self.asker = Some(vm);
        }
    }

    /// The scheduler has heard of VMs that this one has asked to come or go: it pays for that, and not whoever is named next. The time now.
    #[cold]
    #[inline(never)]
    pub fn bill_asker(&mut self, vms: &mut Table<B>, asker: VmId) -> u64 {
        if let Some(vm) = vms.by_id(asker) {
            self.bill(self.endpoints.first(Service::Plan), vm);
        }
        self.board.now()
    }

    /// Some of these have been built since then, each of which was charged with that: who has asked for them pays.
    #[cold]
    #[inline(never)]
    pub fn asker_owes(&mut self, vms: &mut Table<B>, asker: VmId, since: u64) {
        if let Some(vm) = vms.by_id(asker) {
            vm.owe(self.board.now().saturating_sub(since));
        }
        // The scheduler hears of them.
        self.asker = Some(asker);
    }

    /// So much was run on behalf of a VM.
    #[inline]
    fn charge_for(&mut self, vm: &mut Vm<B>, ticks: u64) {
        vm.charges.service_ticks += ticks;
        self.counters.service_ticks += ticks;
    }

    /// A VM that owes something begins, or goes on with, a turn that was planned: it pays with what is left of that. What is left of it then: nothing, perhaps, and the
    /// VM does not run. (Of what it runs ahead of the plan it has paid already.)
    #[cold]
    #[inline(never)]
    pub fn pay(&mut self, vm: &mut Vm<B>, left_ticks: u64) -> u64 {
        // Whatever was said of it, it runs again some time.
        let debt = vm.debt_ticks.min(self.plan.quantum_ticks().saturating_mul(MOST_TURNS_OWED));
        let paid = debt.min(left_ticks);
        vm.debt_ticks = debt - paid;
        left_ticks - paid
    }

    /// Of `of` units of work that the party at this endpoint did since it spoke of the last, `work` were for this VM, or for nobody in particular, and of these the
    /// VM itself `caused` so many: for them alone it pays with its turns. More than all is all.
    pub fn bill_work(&mut self, from: EndpointId, vm: Option<&mut Vm<B>>, work: u32, caused: u32, of: u32) {
        let Some(rank) = self.endpoints.rank(from) else { return };
        let component = &mut self.components.list[rank];
        let unbilled = component.ran_ticks - component.billed_ticks;
        let (of, work, caused) = (u64::from(of.max(1)), u64::from(work.min(of)), u64::from(caused.min(work).min(of)));
        // Without a product that does not fit.
        let part = |work: u64| unbilled / of * work + unbilled % of * work / of;
        let (ticks, caused_ticks) = (part(work), part(caused));
        component.billed_ticks += ticks;
        match vm {
            Some(vm) => {
                self.charge_for(vm, ticks);
                vm.owe(caused_ticks);
            }
            None => self.counters.own_ticks += ticks,
        }
    }

    /// Of what the component of this rank ran, up to so many ticks are charged to a VM.
    pub fn bill_ticks(&mut self, rank: usize, vm: &mut Vm<B>, most: u64) {
        let component = &mut self.components.list[rank];
        let ticks = most.min(component.ran_ticks - component.billed_ticks);
        component.billed_ticks += ticks;
        self.charge_for(vm, ticks);
        vm.owe(ticks);
    }

    /// What the core did until `now` is nobody's time.
    pub fn lap(&mut self, now: u64) {
        self.counters.own_ticks += now.saturating_sub(self.mark);
        self.mark = now;
    }

    /// What the core did until `now` it did for this VM.
    pub fn lap_for(&mut self, charges: &mut Charges, now: u64) {
        let ticks = now.saturating_sub(self.mark);
        charges.service_ticks += ticks;
        self.counters.service_ticks += ticks;
        self.mark = now;
    }

    /// A VM that ran so long, and to which that was charged, is gone.
    pub fn note_gone(&mut self, ran_ticks: u64, charges: &Charges) {
        self.ended.ran_ticks += ran_ticks;
        self.ended.service_ticks += charges.service_ticks;
    }

    /// Where the processor's time has gone. That before the core was there is the node's own.
    pub fn account(&self) -> ControlReply {
        let unbilled = self.components.list.iter().map(|component| component.ran_ticks - component.billed_ticks);
        ControlReply::Account {
            tsc: self.board.now(),
            idle_ticks: self.counters.idle_ticks,
            guest_ticks: self.counters.guest_ticks,
            service_ticks: self.counters.service_ticks,
            own_ticks: self.counters.own_ticks + unbilled.sum::<u64>(),
            ended_ran_ticks: self.ended.ran_ticks,
            ended_service_ticks: self.ended.service_ticks,
        }
    }
}
