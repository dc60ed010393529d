//! A policy that is being replaced, and why one is not.

use super::endpoint::EndpointId;
use super::policies::Unfit;

/// Why a policy is not replaced.
#[derive(Clone, Copy, Debug)]
pub enum NoSwap {
    /// There is no such component, or it has no such policy.
    NoPolicy,
    /// The policy cannot run.
    Unfit(Unfit),
    /// Another one is just being replaced.
    Busy,
}

/// A policy that is being replaced.
#[derive(Clone, Copy, Debug)]
pub struct Swap {
    /// The component's rank, and the number of the policy that will run.
    pub(super) rank: usize,
    pub(super) policy: usize,
    /// Bytes of the image that are ready.
    pub(super) ready: usize,
    /// TSC at which the next part is made ready; [`NEVER`](crate::vm::NEVER) when the image is ready and the successor is about to start.
    pub next_at: u64,
    /// The request that is answered when it is done, the controller that it came from, and which start of that.
    pub(super) id: u32,
    pub(super) asker: EndpointId,
    pub(super) asker_start: u32,
}
