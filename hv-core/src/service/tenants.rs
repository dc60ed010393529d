//! What controllers ask about tenants: what each has and may have, and what it may have from now on.

use crate::board::Board;
use crate::kernel::Kernel;
use crate::vm::{OverQuota, Standing};
use abi::control::{ControlReply, status};
use abi::quota::Quota;
use abi::tenant::Tenant;
use backend::Backend;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// What a tenant has and may have.
    pub(super) fn describe_tenant(&self, tenant: Tenant) -> ControlReply {
        let found = self.vms.tenants().get(tenant);
        found.map_or(NONE, |(number, standing)| shown(number, tenant, standing))
    }

    /// The same of the one with this number or the next one.
    pub(super) fn describe_next_tenant(&self, number: u32) -> ControlReply {
        let found = self.vms.tenants().next(number);
        found.map_or(NONE, |(number, tenant, standing)| shown(number, tenant, standing))
    }

    /// What the VMs of a tenant may take together from now on.
    pub(super) fn set_quota(&mut self, tenant: Tenant, quota: Quota) -> ControlReply {
        let status = match self.vms.tenants_mut().set(tenant, quota) {
            true => status::OK,
            false if tenant.is_unsaid() => status::BAD_REQUEST,
            false => status::TENANTS_TAKEN,
        };
        ControlReply::Done { status, value: 0 }
    }
}

const NONE: ControlReply = ControlReply::Done { status: status::NOT_FOUND, value: 0 };

const fn shown(number: u32, tenant: Tenant, standing: Standing) -> ControlReply {
    let Standing { vms, frames, quota, refused, pooled } = standing;
    ControlReply::Tenant { number, tenant, vms, refused, frames, quota, pooled }
}

/// Why a VM is refused to its tenant.
pub(super) const fn status_of(why: OverQuota) -> u32 {
    match why {
        OverQuota::Vms => status::OVER_VMS,
        OverQuota::Memory => status::OVER_MEMORY,
        OverQuota::Accounts => status::TENANTS_TAKEN,
    }
}
