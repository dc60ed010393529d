//! What a VM is made from.

use abi::attachment::Attachment;
use abi::claim::Claim;
use abi::share::Share;
use abi::tenant::Tenant;
use abi::vm::{ImageId, VmId};

/// What a VM is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    pub id: VmId,
    pub image: ImageId,
    /// IPv4 address that it may use, 0 when it asks DHCP.
    pub ipv4: u32,
    /// What policies are told that it gets.
    pub share: Share,
    /// What it may claim of the machine's memory.
    pub claim: Claim,
    /// Whose it is.
    pub tenant: Tenant,
    /// The virtual disk that it has.
    pub disk: Attachment,
    /// TSC at which its creation began.
    pub created_tsc: u64,
    /// Milliseconds that had been stolen by then ([`crate::kernel::Steady::stolen`]), modulo 2^32.
    pub stolen_ms: u32,
}
