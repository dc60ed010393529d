//! VMs that are out and were called while their tenant has had as many come in as it may in a second: they wait, each tenant's in a queue of its own,
//! until its time comes. They hold neither seat nor frame, and the gatekeeper has not heard of them, so nobody waits for them but their own.

use crate::board::Board;
use crate::kernel::{Cpu, Kernel};
use crate::vm::{AccountNumber, NEVER, Queue, Seed, Table};
use abi::guest::pending;
use abi::tenant::Tenant;
use backend::Backend;

/// Those that are let in before others come to their turn.
const BATCH: usize = 16;
/// What does not wait is what the operator wants.
const WAITS: u64 = pending::NIC | pending::ALARM;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Whether a VM that is out, and is called with these bits, waits for its tenant's turn; it does from now on then. Otherwise it counts as coming in.
    pub(super) fn must_wait(&mut self, seed: &Seed, bits: u64) -> bool {
        if bits & !WAITS != 0 {
            return false;
        }
        let Self { vms, cpu, .. } = self;
        let Some(number) = vms.tenants().limited(seed.tenant) else { return false };
        let (queue, slot) = (Queue::Called(number), seed.id.slot);
        if !cpu.queues.contains(queue, slot) {
            let (now, second) = (cpu.board.now(), cpu.time.tsc_hz());
            let due = vms.tenants().may_come_at(number, second);
            let is_first = cpu.queues.is_empty(queue);
            if is_first && due <= now {
                vms.tenants_mut().comes(number, now, second);
                return false;
            }
            cpu.queues.push(queue, slot);
            vms.tenants_mut().waits(number);
            if is_first {
                cpu.called_timers.set(AccountNumber(number), due);
                cpu.arm(due);
            }
        }
        vms.raise_out(seed.id, bits);
        true
    }

    /// Let those in whose tenants' time has come, one of each tenant after the other.
    #[cold]
    pub fn let_called_in(&mut self, now: u64) {
        for _ in 0..BATCH {
            let Self { vms, cpu, .. } = self;
            let Some(account) = cpu.called_timers.pop_due(now) else { return };
            let Some(slot) = cpu.queues.first(Queue::Called(account.0)) else { continue };
            let Some(seed) = vms.out_in(slot) else {
                // Whoever comes in or ends has left the queue.
                cpu.queues.remove(Queue::Called(account.0), slot);
                cpu.called_timers.set(account, now);
                continue;
            };
            if !self.can_come_in(seed.id) {
                // When the scheduler has had its turn.
                self.cpu.called_timers.set(account, now.saturating_add(self.cpu.time.milliseconds(1)));
                return;
            }
            let second = self.cpu.time.tsc_hz();
            self.vms.tenants_mut().comes(account.0, now, second);
            self.let_in(seed.id, 0);
        }
    }

    /// What a tenant may do in a second has changed: those of it that wait are looked at anew.
    pub(super) fn look_at_called(&mut self, tenant: Tenant) {
        let Self { vms, cpu, .. } = self;
        if let Some((number, _)) = vms.tenants().get(tenant) {
            cpu.time_called(vms, number);
        }
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// A VM that is out comes in, or ends: it waits for its tenant's turn no longer, if it did.
    pub(super) fn calls_no_more(&mut self, vms: &mut Table<B>, seed: &Seed) {
        let Some((number, _)) = vms.tenants().get(seed.tenant) else { return };
        let queue = Queue::Called(number);
        if self.queues.contains(queue, seed.id.slot) {
            self.queues.remove(queue, seed.id.slot);
            vms.tenants_mut().waits_no_longer(number);
            self.time_called(vms, number);
        }
    }

    /// Sets the time of the first VM that waits of the tenant with this account.
    fn time_called(&mut self, vms: &Table<B>, number: u32) {
        let waits = !self.queues.is_empty(Queue::Called(number));
        // Who does not wait any more comes behind others who were to come before.
        let due =
            if waits { vms.tenants().may_come_at(number, self.time.tsc_hz()).max(self.board.now()) } else { NEVER };
        self.called_timers.set(AccountNumber(number), due);
        self.arm(due);
    }
}
