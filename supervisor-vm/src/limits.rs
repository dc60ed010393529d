//! What the VMs of a tenant may take together, and do in each second.

use abi::flow::Flow;
use abi::quota::Quota;

/// Both.
pub type Limits = (Quota, Flow);

/// No quota.
pub const UNLIMITED: Limits = (Quota::NONE, Flow::NONE);
