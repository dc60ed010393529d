//! Links the bare-metal program of this package as a core.

include!("../hv-core/link.rs");
