//! What controllers ask about tenants: what each has and may have, and what it may have from now on.

use crate::board::Board;
use crate::component::EndpointId;
use crate::kernel::Kernel;
use crate::vm::{OverQuota, Standing};
use abi::control::{ControlReply, status};
use abi::flow::Flow;
use abi::quota::Quota;
use abi::tenant::Tenant;
use backend::Backend;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// What a tenant has and may have. The last answer to this controller's request; the one before it is given.
    pub(super) fn describe_tenant(&mut self, from: EndpointId, id: u32, tenant: Tenant) -> ControlReply {
        let found = self.vms.tenants().get(tenant);
        found.map_or(NONE, |(number, standing)| self.show(from, id, (number, tenant, standing)))
    }

    /// The same of the one with this number or the next one.
    pub(super) fn describe_next_tenant(&mut self, from: EndpointId, id: u32, number: u32) -> ControlReply {
        let found = self.vms.tenants().next(number);
        found.map_or(NONE, |found| self.show(from, id, found))
    }

    fn show(&mut self, from: EndpointId, id: u32, found: (u32, Tenant, Standing)) -> ControlReply {
        let (number, tenant, standing) = found;
        let Standing { vms, frames, quota, refused, pooled, flow, waiting, delayed } = standing;
        self.cpu.reply(from, id, ControlReply::Flow { tenant, flow, waiting, delayed });
        ControlReply::Tenant { number, tenant, vms, refused, frames, quota, pooled }
    }

    /// What the VMs of a tenant may take together from now on, and do in each second.
    pub fn set_quota(&mut self, tenant: Tenant, quota: Quota, flow: Flow) -> ControlReply {
        let had = self.vms.tenants().get(tenant);
        let rate = had.map_or(0, |(_, standing)| standing.flow.rate);
        let has_other_rate = flow.rate != Flow::STAYS && flow.rate != rate;
        if has_other_rate && !self.cpu.all_have_room() {
            return ControlReply::Done { status: status::BUSY, value: 0 };
        }
        let status = match self.vms.tenants_mut().set(tenant, quota, flow) {
            true => status::OK,
            false if tenant.is_unsaid() => status::BAD_REQUEST,
            false => status::TENANTS_TAKEN,
        };
        self.look_at_called(tenant);
        // Its account is closed where it had nothing but that rate.
        let account = self.vms.tenants().get(tenant).or(had).map(|(number, _)| number);
        if let Some(account) = account.filter(|_| has_other_rate && status == status::OK) {
            self.cpu.tell_rate(account, flow.rate);
        }
        ControlReply::Done { status, value: 0 }
    }
}

const NONE: ControlReply = ControlReply::Done { status: status::NOT_FOUND, value: 0 };

/// Why a VM is refused to its tenant.
pub(super) const fn status_of(why: OverQuota) -> u32 {
    match why {
        OverQuota::Vms => status::OVER_VMS,
        OverQuota::Memory => status::OVER_MEMORY,
        OverQuota::Accounts => status::TENANTS_TAKEN,
    }
}
