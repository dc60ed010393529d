//! The deprivileged components: their memory, their run state, and what each was given by the manifest.

mod backlog;
#[allow(clippy::module_inception)]
mod component;
mod components;
mod death;
mod devices;
mod endpoint;
mod liveness;
mod load;
mod load_error;
mod policies;
mod program;
mod progress;
mod replacement;
mod rings;
mod run;
mod shares;
mod space;
mod swap;

pub use backlog::{Backlog, BacklogLink, EMPTY_BACKLOG};
pub use component::Component;
pub use components::Components;
pub use endpoint::{BadPiece, Endpoint, EndpointId, EndpointSet, Endpoints, Full, MAX_ENDPOINTS, Party, Told};
pub use load::{Sources, load_all};
pub use load_error::LoadError;
pub use policies::Unfit;
pub use replacement::{NoSwap, Swap};
pub use run::{Death, Run};

/// Counts of what a manifest names are small.
fn count32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
