//! Links the bare-metal programs of this package as components.

include!("../component/link.rs");
